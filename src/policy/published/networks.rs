//! The rules on networks, as records of a policy zone, in which networks of clients precede names, and names precede
//! networks of answers.

use super::contents::{ContentId, Contents};
use super::inexpressible::Inexpressible;
use crate::policy::decide::PolicyView;
use crate::policy::prefix::Prefix;
use crate::policy::prefixes::{BestNetwork, PrefixTable};
use crate::policy::ranking::{Hit, NO_RANK, Rank, Trigger};
use crate::wire::name::Name;

/// The networks that have records, sorted. A network without records has those of the smallest one that contains it.
#[derive(Debug, Default)]
pub(super) struct Networks(pub(super) Vec<(Prefix, ContentId)>);

/// The ranks of all rules on names.
struct NameRanks {
    /// The best one.
    best: Rank,
    /// The worst one of a rule that allows; `None` if none does.
    worst_allow: Option<Rank>,
}

impl Networks {
    /// The networks of a view. Also returns what can't be expressed.
    pub(super) fn new(view: PolicyView<'_>, contents: &Contents) -> (Self, Inexpressible) {
        let (mut networks, mut inexpressible) = (Self::default(), Inexpressible::default());
        let addresses = &view.snapshot.addresses;
        if addresses.client.is_empty() && addresses.answer.is_empty() {
            return (networks, inexpressible);
        }
        let names = NameRanks::of(view);
        networks.add(view, &addresses.client, Trigger::Client, |hit| {
            // Otherwise clients could be exempt from an order, for example.
            if names.best < hit.rank {
                inexpressible.networks += 1;
                return None;
            }
            inexpressible.inexact_networks += u64::from(is_overridden(view, hit));
            Some(contents.of(hit.verdict, true))
        });
        networks.add(view, &addresses.answer, Trigger::Answer, |hit| {
            let is_preceded = names.worst_allow.is_some_and(|worst| worst > hit.rank);
            let is_inexact = is_preceded || is_overridden(view, hit);
            inexpressible.inexact_networks += u64::from(is_inexact);
            // The name exists, so NXDOMAIN is not true.
            Some(contents.of(hit.verdict, view.blocking(hit.verdict).as_written))
        });
        networks.0.sort_unstable_by_key(|(prefix, _)| *prefix);
        (networks, inexpressible)
    }

    /// Adds the networks of a table. `content` returns the records of the rule that decides about a network, or `None` to leave
    /// the network out.
    fn add(
        &mut self,
        view: PolicyView<'_>,
        table: &PrefixTable,
        trigger: fn(u32) -> Trigger,
        mut content: impl FnMut(Hit) -> Option<ContentId>,
    ) {
        let mut contents = vec![ContentId::NOTHING; table.ids().len()];
        for network in table.ids() {
            let above = match table.parent(network) {
                Some(parent) => contents[parent as usize],
                None => ContentId::NOTHING,
            };
            let mut best = BestNetwork::default();
            best.compare(table, network, |verdict| {
                view.applies(verdict, &Name::ROOT, &[])
            });
            let own = best.enforced(trigger).and_then(&mut content);
            let own = own.unwrap_or(above);
            contents[network as usize] = own;
            if own != above {
                self.0.push((table.prefix(network), own));
            }
        }
    }
}

/// Whether an exception restricts the rules of the source of a rule.
fn is_overridden(view: PolicyView<'_>, hit: Hit) -> bool {
    let source = view.snapshot.verdicts.get(hit.verdict).source;
    view.snapshot.rules.overrides(source)
}

impl NameRanks {
    fn of(view: PolicyView<'_>) -> Self {
        let mut ranks = Self {
            best: NO_RANK,
            worst_allow: None,
        };
        let images = view.snapshot.rules.in_view(view.key);
        let images = images.into_iter().flat_map(|rules| rules.images).flatten();
        for (image, of_image) in images {
            let values = (0..image.value_count()).map(|value| image.value(value));
            for rule in values.flat_map(|value| value.rules()) {
                let clause = of_image.clause(rule.clause);
                let is_left_out = clause.is_void || clause.is_conditional;
                if clause.rank == NO_RANK || clause.overrides || is_left_out {
                    continue;
                }
                ranks.best = ranks.best.min(clause.rank);
                if !view.blocks(clause.verdict) {
                    ranks.worst_allow = ranks.worst_allow.max(Some(clause.rank));
                }
            }
        }
        ranks
    }
}
