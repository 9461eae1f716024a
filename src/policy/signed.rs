//! Policy zones with `break-dnssec = false`: their rules do not change signed answers to clients that ask for DNSSEC records.

use super::decide::{Decision, Matched, PolicyView};
use super::evaluation::IgnoredSources;
use crate::wire::name::Name;

impl<'s> PolicyView<'s> {
    /// Whether some rules do not apply to signed answers for this client.
    #[inline]
    pub(super) fn spares_some(&self) -> bool {
        self.wants_dnssec && !self.snapshot.sparing.is_empty()
    }

    /// Whether a rule does not apply to signed answers for this client.
    #[inline]
    pub fn spares_signed(&self, by: &Matched<'_>) -> bool {
        self.spares_some() && by.source.spares_signed()
    }

    /// The decision about a queried name whose answer is signed, given the decision if it is not. Sources whose rules would
    /// change the answer are ignored as a whole, one after the other. Rules that allow the name change nothing, and so
    /// they apply.
    #[cold]
    pub fn decide_signed(&self, name: &Name, unsigned: Decision<'s>) -> Decision<'s> {
        let (mut decision, mut ignored) = (unsigned, IgnoredSources::default());
        while let Some(source) = self.spared(&decision) {
            ignored.add(source);
            let found = self.snapshot.rules.lookup_target(self.key, &ignored, name);
            decision = self.decide_without(name, &found, Some(&ignored));
        }
        decision
    }

    /// The source of a decision that changes the answer, if it spares signed answers for this client.
    #[inline]
    pub(super) fn spared(&self, decision: &Decision<'_>) -> Option<&'s [usize]> {
        match decision {
            Decision::Blocked { by, .. } if self.spares_signed(by) => {
                let sparing = &self.snapshot.sparing;
                let place = sparing.binary_search(&by.index()).ok()?;
                Some(&sparing[place..=place])
            }
            _ => None,
        }
    }
}
