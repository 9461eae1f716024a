//! Writes the rules of a policy zone that are in force. The wildcards of a zone match by closest encloser, those of lists do not.
//! So the rules are those of the published zone, in which each name below a wildcard has the rules that apply to it.

use std::io::{self, Write};

use jiff::Timestamp;

use crate::control::list_file::write::format::WrittenFormat;
use crate::control::list_file::write::frame::{footer, header};
use crate::control::list_file::write::list::WriteError;
use crate::control::list_file::write::meaning::{Does, ListSettings, Meaning};
use crate::control::list_file::write::reason::Reason;
use crate::control::list_file::write::unwritten::{Unwritten, WrittenList};
use crate::control::list_file::write::writer::Writer;
use crate::policy::effect::Effect;
use crate::policy::published::{Inexpressible, PublishedZone};
use crate::policy::rpz::{ZoneReader, ZoneRecord, ZoneRule, ZoneTrigger};
use crate::policy::rule::{Action, Scope, Source};
use crate::wire::class;
use crate::wire::name::Name;

/// The number of rules that show the action of most rules.
const SAMPLE: usize = 1000;

/// The actions, those that lists have most often first.
const ACTIONS: [Action; 5] = [
    Action::Nxdomain,
    Action::Sinkhole,
    Action::Nodata,
    Action::Refused,
    Action::Drop,
];

/// Writes the rules of a zone, whose apex is the root, like [`write_list`](super::write_list). The action is that of most of
/// the first rules, as formats that have names alone have one action for all.
///
/// # Errors
/// [`WriteError`].
pub fn write_zone(
    zone: &PublishedZone,
    (source, rules): (&Source, u64),
    format: WrittenFormat,
    now: Timestamp,
    out: &mut impl Write,
) -> Result<WrittenList, WriteError> {
    let settings = ListSettings::from(source);
    let settings = ListSettings {
        action: usual_action(zone, settings)?,
        ..settings
    };
    header(out, format, (source, settings.action), rules, now)?;
    let mut writer = Writer::new(format, settings, out);
    let unwritten = each_name(zone, |name, rules| {
        writer.name(name, rules.iter().map(|(scope, effect)| (*scope, effect)))?;
        Ok(true)
    })?;
    let mut written = writer.written;
    written.unwritten.extend(&unwritten);
    footer(out, format, &written)?;
    Ok(written)
}

/// The action of most of the first rules that block names.
fn usual_action(zone: &PublishedZone, settings: ListSettings) -> Result<Action, WriteError> {
    let mut counts = ACTIONS.map(|action| (action, 0_u64));
    let mut seen = 0;
    each_name(zone, |_, rules| {
        seen += rules.len();
        for (_, effect) in rules {
            let does = Meaning::of(effect, &settings).map(|meaning| meaning.does);
            let counted = counts.iter_mut();
            let counted = counted.filter(|(action, _)| does == Ok(Does::Block(*action)));
            counted.for_each(|(_, count)| *count += 1);
        }
        Ok(seen < SAMPLE)
    })?;
    // The first of equal counts is the last of the reverse.
    let most = counts.into_iter().rev().max_by_key(|(_, count)| *count);
    Ok(match most {
        Some((action, 1..)) => action,
        _ => settings.action,
    })
}

/// Calls `each` with the rules on each name, until it returns false. Returns the rules that are on no name.
fn each_name(
    zone: &PublishedZone,
    mut each: impl FnMut(&Name, &[(Scope, Effect)]) -> io::Result<bool>,
) -> Result<Unwritten, WriteError> {
    let mut records = zone.records();
    let mut reader = ZoneReader::new(Name::ROOT);
    let mut group = Group::default();
    // A record can complete the rules on two names: those of the owner before the last one, and those of the last one.
    let mut ended: Vec<NameRules> = Vec::new();
    let mut unwritten = Unwritten::default();
    while let Some(record) = records.next() {
        let record = ZoneRecord {
            owner: record.owner,
            rtype: record.rtype,
            class: class::IN,
            ttl_secs: record.ttl_secs,
            data: record.data,
            line: 0,
        };
        let added = reader.add(record, &mut |rule| {
            ended.extend(group.add(&rule, &mut unwritten));
        });
        // What this program publishes, it also reads. If it does not, that is reported like other rules.
        unwritten.add(Reason::Answer, u64::from(added.is_err()));
        for (name, rules) in ended.drain(..) {
            if !each(&name, &rules)? {
                return Ok(unwritten);
            }
        }
    }
    if let Some(damage) = records.damage() {
        return Err(damage.into());
    }
    let finished = reader.finish(&mut |rule| ended.extend(group.add(&rule, &mut unwritten)));
    unwritten.add(Reason::Answer, u64::from(finished.is_err()));
    for (name, rules) in ended.into_iter().chain(group.end()) {
        if !each(&name, &rules)? {
            return Ok(unwritten);
        }
    }
    add_inexpressible(records.inexpressible(), &mut unwritten);
    Ok(unwritten)
}

/// The rules on one name, which follow each other.
#[derive(Default)]
struct Group(Option<NameRules>);

type NameRules = (Name, Vec<(Scope, Effect)>);

impl Group {
    /// Adds a rule. Returns the rules of the name before, if it is on another one.
    fn add(&mut self, rule: &ZoneRule<'_>, unwritten: &mut Unwritten) -> Option<NameRules> {
        let ZoneTrigger::Name(scope) = rule.trigger else {
            unwritten.add(Reason::Network, 1);
            return None;
        };
        let added = (*scope, rule.effect.clone());
        match &mut self.0 {
            Some((name, rules)) if name == rule.name => {
                rules.push(added);
                None
            }
            _ => {
                let ended = self.end();
                self.0 = Some((rule.name.clone(), vec![added]));
                ended
            }
        }
    }

    /// Ends the group. If a name and the names below it have one effect, that is one rule.
    fn end(&mut self) -> Option<NameRules> {
        let (name, mut rules) = self.0.take()?;
        if let [(Scope::Exact, one), (Scope::Below, other)] = &rules[..]
            && one == other
        {
            rules.truncate(1);
            rules[0].0 = Scope::Subtree;
        }
        Some((name, rules))
    }
}

/// Adds what a published zone does not have, either.
fn add_inexpressible(counts: &Inexpressible, unwritten: &mut Unwritten) {
    unwritten.add(Reason::Pattern, counts.patterns);
    unwritten.add(Reason::Condition, counts.conditions);
    unwritten.add(Reason::Answer, counts.effects);
    unwritten.add(Reason::Name, counts.long_owners + counts.reserved_owners);
    unwritten.add(Reason::Network, counts.networks);
}
