//! The record sets that the verdicts of a snapshot are published as.

use std::collections::HashMap;

use crate::policy::decide::PolicyView;
use crate::policy::record::LocalRecord;
use crate::policy::rpz::{answer_records, passthru};
use crate::policy::rule::Action;

/// The number of a record set in [`Contents`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ContentId(u32);

impl ContentId {
    /// No records.
    pub(super) const NOTHING: Self = Self(0);
    /// PASSTHRU.
    pub(super) const PASSTHRU: Self = Self(1);
}

/// TTL of records with PASSTHRU. It has no effect on answers.
const PASSTHRU_TTL_SECS: u32 = 60;

/// All record sets of a published zone. Equal ones have the same number.
#[derive(Debug)]
pub(super) struct Contents {
    sets: Vec<Vec<LocalRecord>>,
    /// By verdict: the record set without NXDOMAIN, and with it.
    by_verdict: Vec<[ContentId; 2]>,
    /// The number of verdicts whose action has no counterpart in a policy zone.
    pub(super) inexact: u64,
    /// The number of verdicts with a condition. Their rules are left out.
    pub(super) conditional: u64,
}

impl Contents {
    /// The record sets of all verdicts of a view.
    pub(super) fn new(view: PolicyView<'_>, verdicts: usize) -> Self {
        let fixed = [
            (Vec::new(), ContentId::NOTHING),
            (vec![passthru(PASSTHRU_TTL_SECS)], ContentId::PASSTHRU),
        ];
        let mut contents = Self {
            sets: fixed.iter().map(|(set, _)| set.clone()).collect(),
            by_verdict: Vec::with_capacity(verdicts),
            inexact: 0,
            conditional: 0,
        };
        let mut known = HashMap::from(fixed);
        for verdict in 0..verdicts as u32 {
            let is_conditional = view.is_conditional(verdict);
            contents.conditional += u64::from(is_conditional);
            let ids = match view.blocks(verdict) {
                _ if is_conditional => [ContentId::NOTHING; 2],
                true => {
                    let answer = view.blocking(verdict);
                    let has_nxdomain = answer.action == Action::Nxdomain;
                    let mut is_whole = true;
                    let ids = [false, true].map(|nxdomain| {
                        let (set, is_whole_set) = answer_records(answer, nxdomain && has_nxdomain);
                        is_whole &= is_whole_set;
                        contents.intern(&mut known, set)
                    });
                    contents.inexact += u64::from(!is_whole);
                    ids
                }
                false => [ContentId::PASSTHRU; 2],
            };
            contents.by_verdict.push(ids);
        }
        contents
    }

    /// The record set of a verdict. If its action is NXDOMAIN, `nxdomain` is whether this is sent as such.
    pub(super) fn of(&self, verdict: u32, nxdomain: bool) -> ContentId {
        let [nodata, denied] = self.by_verdict[verdict as usize];
        if nxdomain { denied } else { nodata }
    }

    /// The records of a set. Those of one type follow each other.
    pub(super) fn records(&self, id: ContentId) -> &[LocalRecord] {
        &self.sets[id.0 as usize]
    }

    fn intern(
        &mut self,
        known: &mut HashMap<Vec<LocalRecord>, ContentId>,
        set: Vec<LocalRecord>,
    ) -> ContentId {
        *known.entry(set).or_insert_with_key(|set| {
            self.sets.push(set.clone());
            ContentId(self.sets.len() as u32 - 1)
        })
    }

    /// The number that each record set has in `other`, by number here. `None` if it is not there.
    pub(super) fn numbers_in(&self, other: &Self) -> Vec<Option<ContentId>> {
        let others = (0..).map(ContentId);
        let others: HashMap<_, _> = other.sets.iter().zip(others).collect();
        let sets = self.sets.iter();
        sets.map(|set| others.get(set).copied()).collect()
    }
}

/// The number of a set, as an index of `Contents::numbers_in`.
impl From<ContentId> for usize {
    fn from(id: ContentId) -> Self {
        id.0 as Self
    }
}
