//! Collects the records that a list answers names with: those of one name may stand on several lines.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::control::list_file::parse::bad::Bad;
use crate::control::list_file::parse::rule::{ParsedRule, ParsedTrigger};
use crate::control::list_file::parse::tally::Tally;
use crate::policy::effect::{Effect, EffectAction};
use crate::policy::record::LocalRecord;
use crate::policy::rule::Scope;
use crate::wire::name::Name;

/// The number of names whose records are collected, about 100 bytes each. Of a longer list, the further names get one
/// record each.
const MAX_NAMES: usize = 1 << 20;
/// The number of records of one name, with each of which the others are compared.
const MAX_RECORDS: usize = 1024;

/// The records of names, until the file ends.
#[derive(Default)]
pub(super) struct Answers {
    /// By the wire form of the name and the scope.
    names: HashMap<(Box<[u8]>, Scope), Collected>,
}

/// The records of one name.
struct Collected {
    /// The line of the first one.
    line: u32,
    records: Vec<LocalRecord>,
}

impl Answers {
    /// Adds a record of a name. Returns the effect of this record alone if there is no room for the name.
    ///
    /// # Errors
    /// If the name has too many records.
    pub(super) fn add(
        &mut self,
        (name, scope): (&Name, Scope),
        line: u32,
        record: LocalRecord,
    ) -> Result<Option<Effect>, Bad> {
        let has_room = self.names.len() < MAX_NAMES;
        match self.names.entry((name.wire().into(), scope)) {
            Entry::Occupied(known) => {
                let records = &mut known.into_mut().records;
                if records.len() == MAX_RECORDS {
                    return Err(Bad::Records);
                }
                if !records.contains(&record) {
                    records.push(record);
                }
                Ok(None)
            }
            Entry::Vacant(place) if has_room => {
                place.insert(Collected {
                    line,
                    records: vec![record],
                });
                Ok(None)
            }
            Entry::Vacant(_) => Ok(Some(of(vec![record]))),
        }
    }

    /// The names with records, in wire form.
    pub(super) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.names.keys().map(|(name, _)| &**name)
    }

    /// Calls `rule` with a rule for each name. Records that no answer can carry are bad lines. `adapted` completes the
    /// effect of a name's rule, and returns its scope, given that with which it was added.
    pub(super) fn finish(
        self,
        adapted: impl Fn(&Name, Scope, &mut Effect) -> Scope,
        tally: &mut Tally,
        rule: &mut impl FnMut(ParsedRule<'_>),
    ) {
        let mut names: Vec<_> = self.names.into_iter().collect();
        names
            .sort_unstable_by(|one, other| (one.1.line, &one.0.0).cmp(&(other.1.line, &other.0.0)));
        let mut name = Name::ROOT;
        for ((wire, scope), Collected { line, records }) in names {
            name.parse_wire(&wire, 0).expect("the wire form of a name");
            let mut effect = of(records);
            let scope = adapted(&name, scope, &mut effect);
            let fits = effect.check_trigger(|| name.clone(), scope);
            if effect.check().and(fits).is_err() {
                tally.reject(line, name.to_string().as_bytes(), Bad::Records);
                continue;
            }
            tally.rules += 1;
            rule(ParsedRule {
                trigger: ParsedTrigger::Name(&name, scope),
                effect: Some(&effect),
                line,
            });
        }
    }
}

/// The effect that answers with these records.
fn of(mut records: Vec<LocalRecord>) -> Effect {
    records.sort_unstable_by(|one, other| (one.rtype, &one.data).cmp(&(other.rtype, &other.data)));
    Effect {
        action: EffectAction::Records(records),
        ..Effect::default()
    }
}
