//! The decision about an upstream answer: the names of its CNAME chain, its addresses, and all else that it leads to.

use std::cell::OnceCell;
use std::net::IpAddr;

use super::decide::{ChainExemption, Decision, LaterRules, Matched, PolicyView};
use super::evaluation::IgnoredSources;
use super::prefixes::BestNetwork;
use super::ranking::{Hit, LookupResult, NO_RANK, Trigger};
use super::rule::{Action, Kind};
use crate::wire::name::Name;

/// The rules that apply to the answer to one query. The exceptions on the queried name are the same for everything that
/// the answer leads to. They are looked up once, when they are first needed.
pub struct AnswerRules<'s, 'n> {
    policy: PolicyView<'s>,
    asked: &'n Name,
    /// The sources that exceptions on the queried name suppress.
    ignored: OnceCell<IgnoredSources<'s>>,
    /// Whether the records of an owner are signed.
    is_signed: Option<&'n dyn Fn(&Name) -> bool>,
}

/// The decision about an answer.
#[derive(Clone, Copy, Debug)]
pub struct AnswerDecision<'s> {
    /// The number of hops from the queried name to the one that is blocked; 0 if none is.
    pub hops: usize,
    /// The decision about that name, or about its addresses; about the last name if none is blocked.
    pub decision: Decision<'s>,
    /// The first rule on a name of the chain or on an address that would have decided if its list were not logged only.
    pub logged: Option<Matched<'s>>,
    /// The rules that apply to the targets of SVCB and HTTPS records and to their addresses.
    pub later: LaterRules,
}

impl<'s> PolicyView<'s> {
    /// The rules that apply to an answer to a query for `asked`.
    pub fn answer_rules<'n>(&self, asked: &'n Name) -> AnswerRules<'s, 'n> {
        AnswerRules {
            policy: *self,
            asked,
            ignored: OnceCell::new(),
            is_signed: None,
        }
    }

    /// Decides about an upstream answer, none of which is signed, to a query for `asked`: see [`AnswerRules::decide`].
    pub fn decide_answer(
        &self,
        asked: &Name,
        later: LaterRules,
        chain: impl Iterator<Item = Name>,
        addresses: impl Iterator<Item = IpAddr> + Clone,
    ) -> AnswerDecision<'s> {
        self.answer_rules(asked).decide(later, chain, addresses)
    }

    /// Whether some rules are about addresses in answers.
    pub fn has_answer_rules(&self) -> bool {
        !self.snapshot.addresses.answer.is_empty()
    }

    /// The decision by a rule on an address of `name`. NXDOMAIN is not true, as the name has an address, and the rule
    /// does not cover names below.
    fn decided_by_address(&self, name: &Name, by: Matched<'s>) -> Decision<'s> {
        match self.blocks_name(&by, name) {
            true => Decision::Blocked {
                by,
                nxdomain: by.blocking.as_written && by.blocking.action == Action::Nxdomain,
                closed: false,
            },
            false => Decision::Allowed(by),
        }
    }
}

impl<'s, 'n> AnswerRules<'s, 'n> {
    /// The same rules for an answer that may be signed. `is_signed` returns whether the records of an owner are, or the proof
    /// that it has none.
    pub fn with_signatures(self, is_signed: &'n dyn Fn(&Name) -> bool) -> Self {
        Self {
            is_signed: Some(is_signed),
            ..self
        }
    }

    /// Decides about an answer in which the CNAME chain of the queried name leads to `addresses`, by the first rule
    /// that applies. `later` limits these rules; it is [`Decision::later_rules`] of the decision about the queried
    /// name.
    pub fn decide(
        &self,
        later: LaterRules,
        chain: impl Iterator<Item = Name>,
        addresses: impl Iterator<Item = IpAddr> + Clone,
    ) -> AnswerDecision<'s> {
        let policy = &self.policy;
        let mut found = AnswerDecision {
            hops: 0,
            decision: Decision::Pass,
            logged: None,
            later,
        };
        let (mut last, mut logged_on_last) = (None, None);
        let mut chain = chain.peekable();
        while let Some(name) = chain.next() {
            let exemption = found.later.exemption;
            if exemption == ChainExemption::All {
                found.decision = Decision::Pass;
                break;
            }
            let (decision, of_name) =
                self.decide_name(exemption, &name, &name, PolicyView::decide_target);
            found.hops += 1;
            // Only rules of lists can be logged only. The first place of the chain counts.
            let logged = of_name.logged();
            let logged = logged.filter(|_| exemption != ChainExemption::Lists);
            match chain.peek() {
                Some(_) => found.logged = found.logged.or(logged.map(|hit| policy.matched(hit))),
                None => logged_on_last = logged,
            }
            // The rank of a rule of an allow list counts only at the place in the chain where the rule matches.
            found.later.before = match exemption {
                ChainExemption::Lists => policy.snapshot.verdicts.first_list(),
                _ => NO_RANK,
            };
            found.decision = Decision::Pass;
            match decision {
                Decision::Blocked { by, .. }
                    if exemption != ChainExemption::Lists || !by.source.kind.is_list() =>
                {
                    found.decision = decision;
                    found.later.before = by.hit.rank;
                    if chain.peek().is_some() {
                        return found;
                    }
                }
                // An order overrides an allow list, whichever of them matches first on the chain.
                Decision::Allowed(by)
                    if exemption != ChainExemption::Lists || !by.source.kind.is_list() =>
                {
                    found.decision = decision;
                    match exemption {
                        ChainExemption::Lists if by.source.kind == Kind::Order => {
                            found.later.before = by.hit.rank;
                        }
                        _ => found.later = decision.later_rules(),
                    }
                }
                Decision::Excepted(_) => found.decision = decision,
                _ => {}
            }
            last = Some(name);
        }
        if policy.has_answer_rules() {
            let last = last.as_ref().unwrap_or(self.asked);
            let best = self.on_addresses(last, found.later).best(addresses, last);
            let enforced = best.enforced(Trigger::Answer);
            // Of rules of one rank, that on the name precedes that on an address.
            let precedes = |hit: &Hit| enforced.is_none_or(|enforced| hit.rank <= enforced.rank);
            let on_name = logged_on_last.take().filter(precedes);
            let logged = on_name.into_iter().chain(best.logged(Trigger::Answer));
            logged_on_last = logged.min_by_key(|hit| hit.rank);
            if let Some(hit) = enforced {
                found.decision = policy.decided_by_address(last, policy.matched(hit));
                if let Decision::Allowed(_) = found.decision {
                    found.later = found.decision.later_rules();
                }
            }
        }
        let logged = logged_on_last.map(|hit| policy.matched(hit));
        found.logged = found.logged.or(logged);
        if !matches!(found.decision, Decision::Blocked { .. }) {
            found.hops = 0;
        }
        found
    }

    /// The rule that blocks a name to which a record of `owner` leads, if any. `later` follows from the decision about the
    /// answer.
    pub fn blocks(&self, later: LaterRules, name: &Name, owner: &Name) -> Option<Matched<'s>> {
        if later.is_final() {
            return None;
        }
        // Rules on the client only matter for names below.
        let (decision, _) =
            self.decide_name(later.exemption, name, owner, PolicyView::decide_found);
        match decision {
            Decision::Blocked { by, .. }
                if later.exemption != ChainExemption::Lists || !by.source.kind.is_list() =>
            {
                Some(by)
            }
            _ => None,
        }
    }

    /// The rules on addresses to which the answer leads. `last` is the last name of its chain.
    pub fn on_addresses<'l>(&'l self, last: &'l Name, later: LaterRules) -> AddressRulesOf<'s, 'l> {
        AddressRulesOf {
            answer: self,
            last,
            later,
            ignored: OnceCell::new(),
        }
    }

    /// The decision of `decide` about a name, with the result of its lookup. `owner` owns the records that a rule changes.
    fn decide_name(
        &self,
        exemption: ChainExemption,
        name: &Name,
        owner: &Name,
        decide: impl Fn(&PolicyView<'s>, &Name, &LookupResult) -> Decision<'s>,
    ) -> (Decision<'s>, LookupResult) {
        let policy = &self.policy;
        let mut found = self.lookup_target(exemption, name);
        let mut decision = decide(policy, name, &found);
        let mut ignored = None;
        while let Some(source) = policy.spared(&decision)
            && self.is_signed(owner)
        {
            let ignored = ignored.get_or_insert_with(|| match exemption {
                ChainExemption::None | ChainExemption::All => IgnoredSources::default(),
                ChainExemption::Suppressed | ChainExemption::Lists => self.ignored().clone(),
            });
            ignored.add(source);
            found = policy
                .snapshot
                .rules
                .lookup_target(policy.key, ignored, name);
            decision = decide(policy, name, &found);
        }
        (decision, found)
    }

    fn is_signed(&self, owner: &Name) -> bool {
        self.is_signed.is_some_and(|is_signed| is_signed(owner))
    }

    fn lookup_target(&self, exemption: ChainExemption, name: &Name) -> LookupResult {
        let policy = &self.policy;
        match exemption {
            ChainExemption::Suppressed | ChainExemption::Lists if !self.ignored().is_empty() => {
                let rules = &policy.snapshot.rules;
                rules.lookup_target(policy.key, self.ignored(), name)
            }
            _ => policy.lookup(name),
        }
    }

    fn ignored(&self) -> &IgnoredSources<'s> {
        self.ignored.get_or_init(|| self.policy.ignored(self.asked))
    }
}

/// The rules on addresses that apply to one answer.
pub struct AddressRulesOf<'s, 'l> {
    answer: &'l AnswerRules<'s, 'l>,
    last: &'l Name,
    later: LaterRules,
    /// The sources that exceptions on the last name suppress. They are looked up if a rule is on any of the addresses.
    ignored: OnceCell<IgnoredSources<'s>>,
}

impl<'s> AddressRulesOf<'s, '_> {
    /// The rule that blocks an address in a record of `owner`, if any, and whether it leads to NXDOMAIN.
    pub fn blocks(&self, address: IpAddr, owner: &Name) -> Option<(Matched<'s>, bool)> {
        let policy = &self.answer.policy;
        let best = self.best(std::iter::once(address), owner);
        let by = policy.matched(best.enforced(Trigger::Answer)?);
        match policy.decided_by_address(self.last, by) {
            Decision::Blocked { by, nxdomain, .. } => Some((by, nxdomain)),
            _ => None,
        }
    }

    /// The first rules on these addresses, which `owner` has.
    fn best(&self, addresses: impl Iterator<Item = IpAddr> + Clone, owner: &Name) -> BestNetwork {
        let policy = &self.answer.policy;
        if !policy.spares_some() {
            return self.best_without(addresses, None);
        }
        let mut ignored = IgnoredSources::default();
        loop {
            let best = self.best_without(addresses.clone(), Some(&ignored));
            let enforced = best.enforced(Trigger::Answer);
            let decision =
                enforced.map(|hit| policy.decided_by_address(self.last, policy.matched(hit)));
            match decision.and_then(|decision| policy.spared(&decision)) {
                Some(source) if self.answer.is_signed(owner) => ignored.add(source),
                _ => return best,
            }
        }
    }

    /// The first rules on these addresses whose source is not `ignored`.
    fn best_without(
        &self,
        addresses: impl Iterator<Item = IpAddr>,
        ignored: Option<&IgnoredSources<'s>>,
    ) -> BestNetwork {
        let (policy, mut best) = (&self.answer.policy, BestNetwork::default());
        if self.later.exemption == ChainExemption::All {
            return best;
        }
        let (table, mut previous) = (&policy.snapshot.addresses.answer, None);
        for network in addresses.filter_map(|address| table.find(address)) {
            // Most answers with several listed addresses have them in one network.
            if previous.replace(network) != Some(network) {
                let of_last = self.ignored.get_or_init(|| self.ignored_by_last());
                let by_asked = self.answer.ignored();
                let ignored = [by_asked, of_last, ignored.unwrap_or(by_asked)];
                best.compare(table, network, |verdict| {
                    let applying = policy.applies(verdict, self.last, &ignored);
                    applying.filter(|applying| applying.rank < self.later.before)
                });
            }
        }
        best
    }

    fn ignored_by_last(&self) -> IgnoredSources<'s> {
        match self.last == self.answer.asked {
            true => IgnoredSources::default(),
            false => self.answer.policy.ignored(self.last),
        }
    }
}
