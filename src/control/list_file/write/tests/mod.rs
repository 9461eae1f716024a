//! Tests of what is written in each format, and of what is read from it again.

mod forms;
mod random;

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::meaning::ListSettings;
use super::writer::Writer;
use super::{Unwritten, WrittenFormat};
use crate::policy::effect::{Effect, EffectAction, Tier};
use crate::policy::record::LocalRecord;
use crate::policy::rule::{Action, Scope};
use crate::wire::name::Name;

/// The rules of a list: those on each name, and those with patterns.
#[derive(Clone, Debug, Default)]
struct Rules {
    names: BTreeMap<Name, Vec<(Scope, Effect)>>,
    patterns: Vec<(String, Effect)>,
}

fn blocking() -> ListSettings {
    ListSettings {
        allows: false,
        action: Action::Sinkhole,
        ttl_secs: 60,
    }
}

fn name(text: &str) -> Name {
    Name::from_text(text).expect("a name")
}

/// Writes rules. Returns the text, the number of rules in it, and the reasons why the others are not.
fn write(format: WrittenFormat, list: &ListSettings, rules: &Rules) -> (String, u64, Unwritten) {
    let mut out = Vec::new();
    let mut writer = Writer::new(format, *list, &mut out);
    for (name, rules) in &rules.names {
        let rules = rules.iter().map(|(scope, effect)| (*scope, effect));
        writer.name(name, rules).expect("memory");
    }
    let patterns: Vec<_> = rules
        .patterns
        .iter()
        .map(|(pattern, effect)| (pattern.as_str(), effect))
        .collect();
    writer.patterns(&patterns).expect("memory");
    let written = writer.written;
    let text = String::from_utf8(out).expect("text");
    (text, written.rules, written.unwritten)
}

fn records(texts: &[&str]) -> EffectAction {
    let record = |text: &&str| LocalRecord::address(text.parse::<IpAddr>().expect("an address"));
    EffectAction::Records(texts.iter().map(record).collect())
}

fn of_tier(action: EffectAction, tier: Tier) -> Effect {
    Effect {
        action,
        tier,
        ..Effect::default()
    }
}
