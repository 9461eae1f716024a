//! Makes rules of the records of a policy zone, one record at a time.

use serde::{Deserialize, Serialize};

use super::action::{self, UnusableData};
use super::hidden::HiddenRecords;
use super::owner::{UnusableOwner, ZoneTrigger};
use crate::policy::effect::{Effect, EffectAction, EffectError};
use crate::policy::record::{LocalRecord, RecordError};
use crate::policy::rule::Scope;
use crate::wire::name::Name;
use crate::wire::{class, rtype};

/// Makes rules of records. The records of one owner may have any types, and are one rule. If they do not follow each other
/// directly, each group of them is a rule, and [`Effect::joined`] makes one rule of them later. Holds the records of one owner, and nothing else.
pub struct ZoneReader {
    apex: Name,
    /// The owner of the last record, and the name that its trigger is about.
    owner: Name,
    name: Name,
    open: Open,
    /// Most zones have only one.
    last: Option<LastCname>,
    hidden: HiddenRecords,
}

/// The last CNAME record, and its effect.
struct LastCname {
    data: Box<[u8]>,
    ttl_secs: u32,
    target: Name,
    effect: Effect,
}

/// The records of the last owner.
enum Open {
    /// None of them counts.
    Nothing,
    /// A CNAME record. Its rule was emitted.
    Cname,
    /// Records that the rule answers with, and the line of the first one.
    Local(ZoneTrigger, Vec<LocalRecord>, u32),
}

/// A record of a policy zone.
#[derive(Clone, Copy, Debug)]
pub struct ZoneRecord<'r> {
    /// Its owner.
    pub owner: &'r Name,
    /// TYPE.
    pub rtype: u16,
    /// CLASS.
    pub class: u16,
    /// TTL in seconds.
    pub ttl_secs: u32,
    /// RDATA without compressed names.
    pub data: &'r [u8],
    /// Its line in a zone file, from 1, or its number in a transfer.
    pub line: u32,
}

/// A rule of a policy zone.
#[derive(Debug)]
pub struct ZoneRule<'r> {
    /// What it matches.
    pub trigger: &'r ZoneTrigger,
    /// The name that the trigger is about; unused for networks.
    pub name: &'r Name,
    /// What it does.
    pub effect: &'r Effect,
    /// The line or number of its first record.
    pub line: u32,
}

/// Why a record is no part of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordProblem {
    /// Its class is not IN.
    #[error("the class is not IN")]
    Class,
    /// No rule can answer with its type.
    #[error("no rule of a policy zone can have a record of this type")]
    Type,
    /// It belongs to the signatures of the zone (RFC 4035, section 2), and says nothing about the policy.
    #[error("the record belongs to the zone's signatures")]
    Signature,
    /// There is a CNAME record and another record for one owner.
    #[error("the owner has a CNAME record and other records (RFC 1034, section 3.6.2)")]
    CnameWithOthers,
    /// No answer can carry all records of the owner.
    #[error("the records of the owner do not fit into an answer")]
    TooMany,
    /// Its owner is no trigger.
    #[error(transparent)]
    #[serde(untagged)]
    Owner(#[from] UnusableOwner),
    /// Its data is no action.
    #[error(transparent)]
    #[serde(untagged)]
    Data(#[from] UnusableData),
}

impl RecordProblem {
    /// Whether the record counts when other records of its owner are deleted.
    pub fn is_of_others(self) -> bool {
        matches!(self, Self::CnameWithOthers | Self::TooMany)
    }

    /// Whether the record can be skipped without a report: it is no part of the policy.
    pub fn is_usual(self) -> bool {
        self == Self::Signature
    }
}

impl ZoneReader {
    /// A reader of the zone at `apex`.
    pub fn new(apex: Name) -> Self {
        Self {
            apex,
            owner: Name::ROOT,
            name: Name::ROOT,
            open: Open::Nothing,
            last: None,
            hidden: HiddenRecords::default(),
        }
    }

    /// The apex of the zone.
    pub fn apex(&self) -> &Name {
        &self.apex
    }

    /// The owners of records that the rules do not show.
    pub fn hidden(&self) -> &HiddenRecords {
        &self.hidden
    }

    /// Ends reading. Returns the owners of records that the rules do not show.
    pub fn into_hidden(self) -> HiddenRecords {
        self.hidden
    }

    /// Adds a record. Calls `emit` with each rule that is complete then. Records of the apex describe the zone and are
    /// ignored.
    ///
    /// # Errors
    /// [`RecordProblem`] of the record, or of the rule that is complete now; other records of the same owner still count.
    #[inline]
    pub fn add(
        &mut self,
        record: ZoneRecord<'_>,
        emit: &mut impl FnMut(ZoneRule<'_>),
    ) -> Result<(), RecordProblem> {
        let finished = match *record.owner == self.owner {
            true => Ok(()),
            false => self.finish(emit),
        };
        finished.and(self.add_one(record, emit))
    }

    #[inline]
    fn add_one(
        &mut self,
        record: ZoneRecord<'_>,
        emit: &mut impl FnMut(ZoneRule<'_>),
    ) -> Result<(), RecordProblem> {
        if record.class != class::IN {
            return Err(RecordProblem::Class);
        }
        if !matches!(self.open, Open::Nothing) {
            return self.add_to_owner(record);
        }
        let trigger = ZoneTrigger::parse(record.owner, &self.apex, &mut self.name)?;
        let Some(trigger) = trigger else {
            return Ok(());
        };
        if let ZoneTrigger::Network(prefix) = &trigger {
            self.hidden.add_spellings(record.owner, prefix, &self.apex);
        }
        if record.rtype == rtype::CNAME {
            self.emit_cname(&trigger, record, emit)?;
            self.open = Open::Cname;
        } else {
            let local = local(record)?;
            self.open = Open::Local(trigger, vec![local], record.line);
        }
        self.owner.clone_from(record.owner);
        Ok(())
    }

    /// Why a record can't be part of a rule, whatever other records its owner has.
    pub fn problem_of(&mut self, record: ZoneRecord<'_>) -> Option<RecordProblem> {
        self.open = Open::Nothing;
        let added = self.add_one(record, &mut |_| ());
        self.open = Open::Nothing;
        added.err()
    }

    /// Ends the zone. Calls `emit` with the rule of the last owner, if it is not emitted yet.
    ///
    /// # Errors
    /// [`RecordProblem::TooMany`]
    pub fn finish(&mut self, emit: &mut impl FnMut(ZoneRule<'_>)) -> Result<(), RecordProblem> {
        self.finish_owner(emit)
    }

    fn finish_owner(&mut self, emit: &mut impl FnMut(ZoneRule<'_>)) -> Result<(), RecordProblem> {
        let open = std::mem::replace(&mut self.open, Open::Nothing);
        let Open::Local(trigger, records, line) = open else {
            return Ok(());
        };
        // Each record has its own TTL; the effect's is that of negative answers about other types.
        let ttl_secs = records.iter().filter_map(|record| record.ttl_secs).min();
        let effect = action::effect(EffectAction::Records(records), ttl_secs.unwrap_or(0));
        if let Err(error) = effect.check() {
            self.hidden.add(&self.owner);
            return Err(match error {
                EffectError::Records(RecordError::CnameWithOthers) => {
                    RecordProblem::CnameWithOthers
                }
                _ => RecordProblem::TooMany,
            });
        }
        emit(ZoneRule {
            trigger: &trigger,
            name: &self.name,
            effect: &effect,
            line,
        });
        Ok(())
    }

    /// The effect of all records of one owner. The owner of a CNAME record counts only if it is its own target. Calls
    /// `problem` for each record that does not count. `None` if no record does.
    pub fn effect_of(
        &mut self,
        owner: &Name,
        records: &[LocalRecord],
        problem: &mut impl FnMut(RecordProblem),
    ) -> Option<Effect> {
        // An owner before may have been the same name.
        self.open = Open::Nothing;
        let mut effect = None;
        let mut emit = |rule: ZoneRule<'_>| effect = Some(rule.effect.clone());
        for record in records {
            let record = ZoneRecord {
                owner,
                rtype: record.rtype,
                class: class::IN,
                ttl_secs: record.ttl_secs.unwrap_or(0),
                data: &record.data,
                line: 0,
            };
            if let Err(found) = self.add(record, &mut emit) {
                problem(found);
            }
        }
        if let Err(found) = self.finish(&mut emit) {
            problem(found);
        }
        self.open = Open::Nothing;
        effect
    }

    fn emit_cname(
        &mut self,
        trigger: &ZoneTrigger,
        record: ZoneRecord<'_>,
        emit: &mut impl FnMut(ZoneRule<'_>),
    ) -> Result<(), RecordProblem> {
        // It is left where it is: most records have the same target as the one before, and moving it takes long.
        let last = match &mut self.last {
            Some(last) if *last.data == *record.data && last.ttl_secs == record.ttl_secs => last,
            last => last.insert(LastCname::of(record)?),
        };
        // A target that is the rule's own name is the old form of PASSTHRU (section 3.3 of the draft).
        let is_own = *trigger == ZoneTrigger::Name(Scope::Exact) && self.name == last.target;
        let passthru;
        let effect = match is_own {
            true => {
                passthru = action::effect(EffectAction::Allow, record.ttl_secs);
                &passthru
            }
            false => &last.effect,
        };
        emit(ZoneRule {
            trigger,
            name: &self.name,
            effect,
            line: record.line,
        });
        Ok(())
    }

    /// Adds a record that has the same owner as the one before.
    #[cold]
    fn add_to_owner(&mut self, record: ZoneRecord<'_>) -> Result<(), RecordProblem> {
        if rtype::is_signature(record.rtype) {
            return Err(RecordProblem::Signature);
        }
        match &mut self.open {
            Open::Local(_, records, _) if record.rtype != rtype::CNAME => {
                records.push(local(record)?);
                Ok(())
            }
            // The same record again is no other record (RFC 2181, section 5).
            Open::Cname if self.last.as_ref().is_some_and(|last| last.is(&record)) => Ok(()),
            _ => {
                self.hidden.add(&self.owner);
                Err(RecordProblem::CnameWithOthers)
            }
        }
    }
}

impl LastCname {
    fn is(&self, record: &ZoneRecord<'_>) -> bool {
        record.rtype == rtype::CNAME && *self.data == *record.data
    }

    fn of(record: ZoneRecord<'_>) -> Result<Self, UnusableData> {
        let parsed = Name::parse(record.data, 0);
        let (target, end) = parsed.map_err(|_| UnusableData::Malformed)?;
        if end != record.data.len() {
            return Err(UnusableData::Malformed);
        }
        Ok(Self {
            data: record.data.into(),
            ttl_secs: record.ttl_secs,
            effect: action::effect(action::of_cname(&target)?, record.ttl_secs),
            target,
        })
    }
}

/// The record as a part of an effect.
fn local(record: ZoneRecord<'_>) -> Result<LocalRecord, RecordProblem> {
    let ZoneRecord {
        rtype,
        ttl_secs,
        data,
        ..
    } = record;
    if rtype::is_signature(rtype) {
        return Err(RecordProblem::Signature);
    }
    if is_of_zone(rtype) {
        return Err(RecordProblem::Type);
    }
    let record = LocalRecord {
        rtype,
        ttl_secs: Some(action::usable_ttl(ttl_secs)),
        data: data.into(),
    };
    match record.check() {
        Ok(()) => Ok(record),
        Err(RecordError::Type { .. }) => Err(RecordProblem::Type),
        Err(_) => Err(UnusableData::Malformed.into()),
    }
}

/// Whether a rule can have records of a type, if they can be answers at all.
pub(super) fn is_local_data(rtype: u16) -> bool {
    !rtype::is_signature(rtype) && !is_of_zone(rtype)
}

/// Whether records of a type delegate or make a name a zone. A rule does neither (section 3.6).
fn is_of_zone(rtype: u16) -> bool {
    matches!(rtype, rtype::NS | rtype::DNAME | rtype::DS)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::policy::rule::Action;

    const APEX: &str = "rpz.example";

    fn name(text: &str) -> Name {
        Name::from_text(text).expect("a name")
    }

    type Rules = Vec<(String, EffectAction)>;
    type Problems = Vec<(u32, RecordProblem)>;

    /// The rules of these records, and the problems with the numbers of the records that have them.
    fn read(records: &[(&str, u16, &[u8])]) -> (Rules, Problems) {
        let mut reader = ZoneReader::new(name(APEX));
        let (mut rules, mut problems) = (Vec::new(), Vec::new());
        let mut emit = |rule: ZoneRule<'_>| {
            let trigger = match rule.trigger {
                ZoneTrigger::Name(scope) => scope.notation(rule.name),
                ZoneTrigger::Network(prefix) => prefix.network().to_string(),
            };
            rules.push((trigger, rule.effect.action.clone()));
        };
        for (line, (owner, rtype, data)) in (1..).zip(records) {
            let owner = match *owner {
                "@" => name(APEX),
                owner => name(&format!("{owner}.{APEX}")),
            };
            let record = ZoneRecord {
                owner: &owner,
                rtype: *rtype,
                class: class::IN,
                ttl_secs: 60,
                data,
                line,
            };
            if let Err(problem) = reader.add(record, &mut emit) {
                problems.push((line, problem));
            }
        }
        reader.finish(&mut emit).expect("it fits");
        (rules, problems)
    }

    fn local(records: &[(u16, &[u8])]) -> EffectAction {
        let local = |&(rtype, data): &(u16, &[u8])| LocalRecord {
            rtype,
            ttl_secs: Some(60),
            data: data.into(),
        };
        EffectAction::Records(records.iter().map(local).collect())
    }

    const CNAME: u16 = rtype::CNAME;
    const NXDOMAIN: EffectAction = EffectAction::Block(Action::Nxdomain);

    #[test]
    fn the_records_of_an_owner_are_one_rule() {
        let (rules, problems) = read(&[
            ("@", rtype::SOA, b""),
            ("@", rtype::NS, b"\x00"),
            ("a.test", rtype::A, &[192, 0, 2, 1]),
            ("a.test", rtype::A, &[192, 0, 2, 2]),
            ("a.test", rtype::TXT, b"\x01x"),
            ("*.a.test", CNAME, b"\x00"),
            ("b.test", CNAME, b"\x00"),
            ("24.0.2.0.192.rpz-ip", rtype::A, &[192, 0, 2, 3]),
        ]);
        let of_a = local(&[(1, &[192, 0, 2, 1]), (1, &[192, 0, 2, 2]), (16, b"\x01x")]);
        let expected = [
            ("a.test", of_a),
            ("*.a.test", NXDOMAIN),
            ("b.test", NXDOMAIN),
            ("192.0.2.0/24", local(&[(1, &[192, 0, 2, 3])])),
        ];
        assert_eq!(
            rules,
            expected.map(|(rule, action)| (rule.to_owned(), action))
        );
        assert_eq!(problems, []);
    }

    #[test]
    fn a_cname_to_its_own_name_is_passthru_for_that_name_only() {
        let target = b"\x01a\x04test\x00";
        let (rules, _) = read(&[
            ("b.test", CNAME, target),
            ("a.test", CNAME, target),
            ("*.a.test", CNAME, target),
        ]);
        let actions: Vec<_> = rules.iter().map(|(_, action)| action).collect();
        let redirect = EffectAction::Cname {
            target: Arc::new(name("a.test")),
            prepend: false,
        };
        assert_eq!(actions, [&redirect, &EffectAction::Allow, &redirect]);
    }

    #[test]
    fn a_bad_record_is_reported_and_the_others_count() {
        use RecordProblem::{CnameWithOthers, Data, Owner, Signature, Type};
        let a: &[u8] = &[192, 0, 2, 1];
        let (rules, problems) = read(&[
            ("a.test", rtype::A, a),
            ("a.test", CNAME, b"\x00"),
            ("a.test", rtype::A, &[1]),
            ("b.test", CNAME, b"\x00"),
            ("b.test", rtype::A, a),
            ("b.test", CNAME, b"\x01*\x00"),
            ("b.test", rtype::RRSIG, b""),
            ("c.test", CNAME, b"\x00\x00"),
            ("c.test", CNAME, b"\x09rpz-other\x00"),
            ("c.test", rtype::A, a),
            ("d.test", rtype::NS, b"\x00"),
            ("d.test", rtype::DNAME, b"\x00"),
            ("d.test", rtype::NSEC, b""),
            ("d.test", rtype::OPT, b""),
            ("ns.test.rpz-nsdname", CNAME, b"\x00"),
        ]);
        let expected = [
            ("a.test", local(&[(1, a)])),
            ("b.test", NXDOMAIN),
            ("c.test", local(&[(1, a)])),
        ];
        assert_eq!(
            rules,
            expected.map(|(rule, action)| (rule.to_owned(), action))
        );
        let malformed = Data(UnusableData::Malformed);
        assert_eq!(
            problems,
            [
                (2, CnameWithOthers),
                (3, malformed),
                (5, CnameWithOthers),
                (6, CnameWithOthers),
                (7, Signature),
                (8, malformed),
                (9, Data(UnusableData::UnknownAction)),
                (11, Type),
                (12, Type),
                (13, Signature),
                (14, Type),
                (15, Owner(UnusableOwner::NameServers)),
            ]
        );
    }
}
