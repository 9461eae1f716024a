//! A policy of one adblock list, without guards.

use std::str::FromStr;
use std::sync::Arc;

use hickory_proto::rr::RecordType;
use tapis::config::Format;
use tapis::control::list_file::parse::{Notation, ParsedTrigger, Tally, read};
use tapis::policy::builder::Builder;
use tapis::policy::decide::Decision;
use tapis::policy::effect::{Effect, EffectAction};
use tapis::policy::image::provenance::ImageSource;
use tapis::policy::images::Images;
use tapis::policy::rule::{Action, Blocking, EffectAnswer, Kind, Source};
use tapis::policy::snapshot::Snapshot;
use tapis::policy::view::ViewId;
use tapis::wire::name::Name;

use crate::support::policy::list;

/// The rules of a list in force, and the counts of its lines.
pub(super) struct Filter {
    snapshot: Snapshot,
    pub(super) tally: Tally,
}

impl Filter {
    /// The rules of a list with this text.
    pub(super) fn new(kind: Kind, text: &[u8]) -> Self {
        let mut builder = Builder::new();
        let number = builder.source(ImageSource::named("ads")).expect("few");
        let notation = Notation {
            format: Format::Adblock,
            allows: kind == Kind::Allow,
            ..Notation::default()
        };
        let tally = read(text, notation, None, |rule| {
            let default = Effect::default();
            let effect = rule.effect.unwrap_or(&default);
            let added = match rule.trigger {
                ParsedTrigger::Name(name, scope) => {
                    builder.insert_effect(name, number, scope, effect)
                }
                ParsedTrigger::Pattern(pattern) => builder.insert_pattern(pattern, number, effect),
                ParsedTrigger::Network(prefix) => builder.insert_prefix(prefix, number, effect),
            };
            added.expect("room");
        });
        let images = Images {
            base: Some(Arc::new(builder.finish().expect("room"))),
            ..Images::default()
        };
        let source = Source {
            kind,
            ..list("ads")
        };
        let snapshot = Snapshot::default().with_views(vec![Arc::new(source)], images, &[]);
        Self { snapshot, tally }
    }

    /// What a query gets: `pass`, `allow`, `block`, a response code, `NODATA`, or records.
    pub(super) fn answer(&self, name: &str, rtype: &str) -> String {
        let name = Name::from_text(name).expect("a name");
        let rtype = u16::from(RecordType::from_str(rtype).expect("a type"));
        let policy = self.snapshot.view(ViewId::DEFAULT).for_type(rtype);
        match policy.decide(&name) {
            Decision::Pass | Decision::Excepted(_) => "pass".to_owned(),
            Decision::Allowed(_) => "allow".to_owned(),
            Decision::Blocked { by, .. } => match by.effect().map(|effect| &effect.action) {
                None | Some(EffectAction::Source) => "block".to_owned(),
                Some(EffectAction::Block(action)) => code(*action).to_owned(),
                Some(_) => records(by.blocking, rtype),
            },
        }
    }
}

fn code(action: Action) -> &'static str {
    match action {
        Action::Nxdomain => "NXDOMAIN",
        Action::Nodata => "NODATA",
        Action::Refused => "REFUSED",
        Action::Sinkhole | Action::Drop => panic!("no rewrite has it"),
    }
}

fn records(blocking: &Blocking, rtype: u16) -> String {
    match &blocking.effect_answer {
        Some(EffectAnswer::Cname { target, .. }) => format!("CNAME {target}"),
        Some(EffectAnswer::Records(all)) => {
            let own = all.iter().filter(|record| record.rtype == rtype);
            let shown = own.map(|record| {
                let shown = record.to_string();
                let (_, without_ttl) = shown.split_once(' ').expect("a TTL");
                without_ttl.replace('"', "")
            });
            let shown: Vec<_> = shown.collect();
            match shown.is_empty() {
                true => "NODATA".to_owned(),
                false => shown.join(" + "),
            }
        }
        other => panic!("{other:?}"),
    }
}
