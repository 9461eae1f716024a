//! The decision about a name, in the view of a client.

use std::net::IpAddr;

use super::effect::Effect;
use super::evaluation::IgnoredSources;
use super::local::LocalNames;
use super::precedence::Precedence;
use super::prefixes::{Applying, BestNetwork, NetworkId};
use super::ranking::{Hit, LookupResult, NO_RANK, Rank, Trigger};
use super::rule::{Action, Blocking, EffectAnswer, Kind, Source};
use super::snapshot::Snapshot;
use super::verdicts::Verdict;
use super::view::{LookupKey, ViewId};
use crate::wire::name::Name;
use crate::wire::rtype;

/// A matching rule and its source.
#[derive(Clone, Copy, Debug)]
pub struct Matched<'s> {
    /// The source of the rule.
    pub source: &'s Source,
    /// The answer, if the rule blocks.
    pub blocking: &'s Blocking,
    /// The rule.
    pub hit: Hit,
    verdict: &'s Verdict,
}

impl<'s> Matched<'s> {
    /// The index of its source in [`Snapshot::sources`].
    pub fn index(&self) -> usize {
        self.verdict.source
    }

    /// The effect of the rule, if it is not that of its source.
    pub fn effect(&self) -> Option<&'s Effect> {
        self.verdict.effect()
    }
}

/// The policy's decision about a name.
#[derive(Clone, Copy, Debug)]
pub enum Decision<'s> {
    /// No rule matches.
    Pass,
    /// An exception matches, and no unsuppressed rule does. The suppressed rules do not count for the targets
    /// of the name's CNAME chain either.
    Excepted(Matched<'s>),
    /// The deciding rule allows the name: it is answered from upstream, and so is its CNAME chain as far as
    /// [`ChainExemption`] says.
    Allowed(Matched<'s>),
    /// The name is blocked.
    Blocked {
        /// The deciding rule.
        by: Matched<'s>,
        /// Whether the action is NXDOMAIN, and NXDOMAIN may be sent. It may be sent if every name below is answered
        /// NXDOMAIN, too, because caches conclude this (RFC 8020); or if the rule has [`Blocking::as_written`].
        nxdomain: bool,
        /// Whether every name below is blocked as well. If not, validators need the true DS and DNSKEY
        /// records of this name.
        closed: bool,
    },
}

/// The rules that apply to the rest of an answer, given the decisions about the queried name and about the names of its
/// chain so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaterRules {
    /// The rules that do not apply to the next names of the chain.
    pub exemption: ChainExemption,
    /// Only rules of a better rank apply to the addresses of the last name.
    pub(super) before: Rank,
}

impl LaterRules {
    /// No rule applies to the answer.
    pub const FINAL: Self = Self {
        exemption: ChainExemption::All,
        before: 0,
    };

    /// Whether no rule applies to the answer.
    pub fn is_final(&self) -> bool {
        self.exemption == ChainExemption::All
    }
}

/// The rules that do not apply to the targets of a CNAME chain, because of the decision about the queried name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainExemption {
    /// All rules apply.
    None,
    /// The rules that exceptions on the queried name suppress do not apply.
    Suppressed,
    /// Only orders and exceptions apply: a rule of a list or of an order allows the queried name.
    Lists,
    /// No rule applies: an exception against everything matches the queried name.
    All,
}

impl Decision<'_> {
    /// The exemption of the CNAME targets of a name with this decision.
    pub fn chain_exemption(&self) -> ChainExemption {
        match self {
            Self::Pass => ChainExemption::None,
            // A blocked name is answered from upstream if the query is for its DS or DNSKEY records.
            Self::Excepted(_) | Self::Blocked { .. } => ChainExemption::Suppressed,
            Self::Allowed(by) if by.source.kind == Kind::Exception => ChainExemption::All,
            Self::Allowed(_) => ChainExemption::Lists,
        }
    }

    /// The rules that apply to the answer after this decision about the queried name.
    pub fn later_rules(&self) -> LaterRules {
        LaterRules {
            exemption: self.chain_exemption(),
            before: match self {
                Self::Pass | Self::Excepted(_) | Self::Blocked { .. } => NO_RANK,
                Self::Allowed(by) => by.hit.rank,
            },
        }
    }
}

impl Snapshot {
    /// The hit counter of a rule's source.
    pub fn slot(&self, by: &Matched<'_>) -> Option<u16> {
        self.slots.get(by.index()).copied().flatten()
    }

    /// The policy of a view for queries of type A; that of the default view if there is no such view.
    pub fn view(&self, id: ViewId) -> PolicyView<'_> {
        let precedence = self.views.get(usize::from(id.0));
        PolicyView {
            snapshot: self,
            precedence: precedence.unwrap_or(&self.views[0]),
            key: LookupKey::new(id, rtype::A),
            client: None,
            is_stream: false,
            wants_dnssec: false,
        }
    }

    /// Decides about a query of type A for a name in the default view, by the matching rule of the best rank. Allocates only
    /// if more than four rules of exceptions match the name, or if the condition of a rule with a pattern does not hold.
    pub fn decide(&self, name: &Name) -> Decision<'_> {
        self.view(ViewId::DEFAULT).decide(name)
    }
}

/// The policy that applies to the clients of a view.
#[derive(Clone, Copy, Debug)]
pub struct PolicyView<'s> {
    pub(super) snapshot: &'s Snapshot,
    pub(super) precedence: &'s Precedence,
    /// The view, and the type of the query.
    pub(super) key: LookupKey,
    /// The smallest network with rules that the client's address belongs to.
    pub(super) client: Option<NetworkId>,
    pub(super) is_stream: bool,
    /// Whether the client asks for DNSSEC records.
    pub(super) wants_dnssec: bool,
}

impl<'s> PolicyView<'s> {
    /// The generation of its snapshot.
    pub fn generation(&self) -> u64 {
        self.snapshot.generation
    }

    /// The policy for one client of the view: rules on its address apply, too.
    #[inline]
    pub fn for_client(mut self, address: IpAddr) -> Self {
        let table = &self.snapshot.addresses.client;
        if !table.is_empty() {
            self.client = table.find(address);
        }
        self
    }

    /// The same policy for queries of this type.
    #[inline]
    pub fn for_type(mut self, qtype: u16) -> Self {
        self.key.qtype = Some(qtype);
        self
    }

    /// The same policy without rules that have conditions.
    pub(super) fn without_conditions(mut self) -> Self {
        self.key.qtype = None;
        self
    }

    /// The same policy for queries over a stream if `is_stream`, else over UDP.
    #[inline]
    pub fn over(self, is_stream: bool) -> Self {
        Self { is_stream, ..self }
    }

    /// The same policy for queries that ask for DNSSEC records (DO) if `wants_dnssec`. Some policy zones spare signed
    /// answers to such queries.
    #[inline]
    pub fn asking_for_dnssec(self, wants_dnssec: bool) -> Self {
        Self {
            wants_dnssec,
            ..self
        }
    }

    /// The names that are answered locally.
    pub fn local(&self) -> &'s LocalNames {
        &self.snapshot.local
    }

    /// Decides about a queried name, by the first of all rules on the name and on the client's address. Allocates only
    /// if more than four rules of exceptions match the name, or if the condition of a rule with a pattern does not hold.
    pub fn decide(&self, name: &Name) -> Decision<'s> {
        self.decide_by(name, &self.lookup(name))
    }

    pub(super) fn lookup(&self, name: &Name) -> LookupResult {
        let mut found = [LookupResult::default()];
        self.snapshot.lookup_in(&[name], &[self.key], &mut found);
        found[0]
    }

    /// The decision about a queried name, given the result of its lookup in this view, for the type of this query.
    #[inline]
    pub fn decide_by(&self, name: &Name, found: &LookupResult) -> Decision<'s> {
        self.decide_without(name, found, None)
    }

    /// Like [`decide_by`](Self::decide_by). Rules of sources that are `ignored` do not count; the lookup has ignored them,
    /// too.
    #[inline]
    pub(super) fn decide_without(
        &self,
        name: &Name,
        found: &LookupResult,
        ignored: Option<&IgnoredSources<'s>>,
    ) -> Decision<'s> {
        let Some(client) = self.client else {
            return self.decide_found(name, found);
        };
        let on_client = self.best_client(client, name, ignored);
        // Rules on the client also apply to queries for names below, whether or not one decides about this name.
        let found = beside_client(found, &on_client);
        let Some(hit) = on_client.enforced(Trigger::Client) else {
            return self.decide_found(name, &found);
        };
        // Of two rules of one rank, that on the client precedes.
        match found.best() {
            Some(best) if best.rank < hit.rank => self.decide_with(name, best, &found),
            _ => self.decide_with(name, hit, &found),
        }
    }

    /// Decides about a name of a chain. Rules on the client's address do not decide about it, but they cover the names
    /// below, because they apply to queries for those.
    pub(super) fn decide_target(&self, name: &Name, found: &LookupResult) -> Decision<'s> {
        let on_client = self
            .client
            .map(|client| self.best_client(client, name, None));
        match on_client {
            Some(on_client) => self.decide_found(name, &beside_client(found, &on_client)),
            None => self.decide_found(name, found),
        }
    }

    #[inline]
    pub(super) fn decide_found(&self, name: &Name, found: &LookupResult) -> Decision<'s> {
        let Some(hit) = found.best() else {
            return match found.excepted() {
                Some(hit) => Decision::Excepted(self.matched(hit)),
                None => Decision::Pass,
            };
        };
        self.decide_with(name, hit, found)
    }

    /// The decision of a rule about a name. A CNAME rule that leads to the same name allows it, as does a rule that demands
    /// TCP if the query came over a stream.
    #[inline]
    fn decide_with(&self, name: &Name, hit: Hit, found: &LookupResult) -> Decision<'s> {
        let by = self.matched(hit);
        if !self.blocks_name(&by, name) {
            return Decision::Allowed(by);
        }
        let nxdomain =
            |verdict| self.blocks(verdict) && self.blocking(verdict).action == Action::Nxdomain;
        let allows = |rank| self.precedence.allows(rank, &self.snapshot.verdicts);
        // The name may have records of the types for which the condition of a rule does not hold.
        let is_true = || {
            by.blocking.as_written
                || !self.is_conditional(hit.verdict) && found.is_all_nxdomain_below(nxdomain)
        };
        Decision::Blocked {
            by,
            nxdomain: nxdomain(hit.verdict) && is_true(),
            closed: found.is_all_blocked_below(|verdict| self.always_blocks(verdict), allows),
        }
    }

    /// Whether some lists of this view are logged only.
    pub fn has_logged_only(&self) -> bool {
        self.precedence.has_logged_only
    }

    /// The rule that would have blocked a query for `name` if its list were not logged only: a rule on the name or on the
    /// client, or else `on_answer`, which is [`AnswerDecision::logged`](super::answer::AnswerDecision::logged).
    pub fn would_block(&self, name: &Name, on_answer: Option<Hit>) -> Option<Matched<'s>> {
        let on_question = self.logged(name, &self.lookup(name));
        let first = on_question.or_else(|| on_answer.map(|hit| self.matched(hit)));
        first.filter(|by| self.blocks_name(by, name))
    }

    /// The rule that would have decided about a queried name if its list were not logged only, given the result of the
    /// name's lookup in this view.
    pub fn logged(&self, name: &Name, found: &LookupResult) -> Option<Matched<'s>> {
        let on_name = found.logged();
        let Some(client) = self.client else {
            return on_name.map(|hit| self.matched(hit));
        };
        let best = self.best_client(client, name, None);
        // A rule on the client's address precedes those on the name that do not have a better rank.
        let decides = found.best().map_or(NO_RANK, |hit| hit.rank);
        let precedes = |hit: &Hit| hit.rank <= decides;
        let enforced = best.enforced(Trigger::Client).filter(precedes);
        let on_name = on_name.filter(|hit| enforced.is_none_or(|by| hit.rank < by.rank));
        let on_client = best.logged(Trigger::Client).filter(precedes);
        // Of equal ranks, `min_by_key` returns the first, which is that of the rule on the client.
        let hits = on_client.into_iter().chain(on_name);
        let first = hits.min_by_key(|hit| hit.rank);
        first.map(|hit| self.matched(hit))
    }

    /// A rule that was found in this view, with its source and effect.
    ///
    /// # Panics
    /// If it was found in another snapshot that has more sources or effects.
    pub fn matched(&self, hit: Hit) -> Matched<'s> {
        let verdict = self.snapshot.verdicts.get(hit.verdict);
        Matched {
            source: &self.snapshot.sources[verdict.source],
            blocking: self.blocking(hit.verdict),
            hit,
            verdict,
        }
    }

    /// Whether a rule blocks a query for `name` over this transport. A rule that blocks may allow some.
    #[inline]
    pub(super) fn blocks_name(&self, by: &Matched<'_>, name: &Name) -> bool {
        let own = by.blocking.effect_answer.as_ref();
        self.blocks(by.hit.verdict) && !own.is_some_and(|own| own.allows(name, self.is_stream))
    }

    pub(super) fn blocks(&self, verdict: u32) -> bool {
        let verdict = self.snapshot.verdicts.get(verdict);
        verdict.blocks(&self.snapshot.sources[verdict.source])
    }

    /// Whether a rule blocks all names that it matches, whatever the transport.
    fn always_blocks(&self, number: u32) -> bool {
        let own = self.blocking(number).effect_answer.as_ref();
        self.blocks(number) && !own.is_some_and(EffectAnswer::may_allow)
    }

    pub(super) fn blocking(&self, number: u32) -> &'s Blocking {
        let verdict = self.snapshot.verdicts.get(number);
        let source = &self.snapshot.sources[verdict.source];
        let verdicts = &self.snapshot.verdicts;
        self.precedence.blocking(number, source, verdicts)
    }

    /// The first rules on the client's address that no exception on the name suppresses, and whose source is not `ignored`.
    #[cold]
    fn best_client(
        &self,
        client: NetworkId,
        name: &Name,
        ignored: Option<&IgnoredSources<'s>>,
    ) -> BestNetwork {
        let (table, mut best) = (&self.snapshot.addresses.client, BestNetwork::default());
        let by_exceptions = self.ignored(name);
        let ignored = ignored.unwrap_or(&by_exceptions);
        best.compare(table, client, |verdict| {
            self.applies(verdict, name, &[&by_exceptions, ignored])
        });
        best
    }

    /// The sources that exceptions on a name suppress.
    pub(super) fn ignored(&self, name: &Name) -> IgnoredSources<'s> {
        let rules = self.snapshot.rules.in_view(self.key);
        rules.map_or_else(IgnoredSources::default, |rules| rules.suppressed_at(name))
    }

    /// How the rules on a network with this verdict apply to a name. `None` if they do not count.
    pub(super) fn applies(
        &self,
        verdict: u32,
        name: &Name,
        ignored: &[&IgnoredSources<'_>],
    ) -> Option<Applying> {
        let verdicts = &self.snapshot.verdicts;
        let (rank, is_logged_only) = self.precedence.ranked(verdict, verdicts);
        let source = verdicts.get(verdict).source;
        let is_ignored = || ignored.iter().any(|ignored| ignored.contains(source));
        (rank != NO_RANK && !is_ignored()).then(|| Applying {
            rank,
            is_logged_only,
            is_conditional: self.is_conditional(verdict),
            holds: self.holds(verdict, name),
        })
    }

    /// Whether rules with this verdict have a condition.
    pub(super) fn is_conditional(&self, verdict: u32) -> bool {
        let effect = self.snapshot.verdicts.get(verdict).effect();
        effect.is_some_and(|effect| effect.condition.is_some())
    }

    /// Whether rules with this verdict apply to a name that their triggers match: they have no condition, or it holds.
    pub(super) fn holds(&self, verdict: u32, name: &Name) -> bool {
        let effect = self.snapshot.verdicts.get(verdict).effect();
        effect.is_none_or(|effect| effect.applies_to(name, self.key.qtype))
    }
}

/// The result for a name if these rules on the client apply, too, which match all names below.
fn beside_client(found: &LookupResult, on_client: &BestNetwork) -> LookupResult {
    let mut found = match on_client.covering(Trigger::Client) {
        Some(hit) => found.covered_by(hit),
        None => *found,
    };
    if let Some(rank) = on_client.conditional() {
        found.beside_conditional(rank);
    }
    found
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::builder::Builder;
    use super::super::image::provenance::ImageSource;
    use super::super::images::Images;
    use super::super::rule::{Against, Scope};
    use super::super::tests::sources::source;
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_text(text).expect("a name")
    }

    type List<'t> = (Source, &'t [(&'t str, Scope)]);

    fn list<'t>(list: &str, kind: Kind, action: Action, rules: &'t [(&'t str, Scope)]) -> List<'t> {
        (source(list, kind, action), rules)
    }

    fn snapshot(lists: &[List<'_>]) -> Snapshot {
        let mut builder = Builder::new();
        for (source, rules) in lists {
            let number = builder
                .source(ImageSource::named(&source.name))
                .expect("few");
            for (text, scope) in *rules {
                builder.insert(&name(text), number, *scope).expect("room");
            }
        }
        let sources = lists
            .iter()
            .map(|(source, _)| Arc::new(source.clone()))
            .collect();
        let base = Arc::new(builder.finish().expect("room"));
        Snapshot::default().with_rules(sources, base.into())
    }

    fn block<'t>(name: &str, action: Action, rules: &'t [(&'t str, Scope)]) -> List<'t> {
        list(name, Kind::Block, action, rules)
    }

    fn allow<'t>(name: &str, rules: &'t [(&'t str, Scope)]) -> List<'t> {
        list(name, Kind::Allow, Action::Nodata, rules)
    }

    fn decided<'s>(snapshot: &'s Snapshot, text: &str) -> Option<(&'s str, bool)> {
        match snapshot.decide(&name(text)) {
            Decision::Pass | Decision::Excepted(_) => None,
            Decision::Allowed(by) => Some((&by.source.name, false)),
            Decision::Blocked { by, .. } => Some((&by.source.name, true)),
        }
    }

    fn nxdomain(lists: &[List<'_>], text: &str) -> bool {
        match snapshot(lists).decide(&name(text)) {
            Decision::Blocked { nxdomain, .. } => nxdomain,
            other => panic!("not blocked: {other:?}"),
        }
    }

    const X: (&str, Scope) = ("x.test", Scope::Subtree);

    /// Block lists in a base, and `count` exceptions in the image of orders. The exceptions precede the lists.
    fn behind_exceptions(count: usize, lists: &[List<'_>]) -> Snapshot {
        let (mut base, mut orders) = (Builder::new(), Builder::new());
        let mut sources = Vec::new();
        for number in 0..count {
            let (mut source, _) = list(&format!("x{number}"), Kind::Exception, Action::Nodata, &[]);
            source.against = Against::Named(vec!["nothing".to_owned()]);
            let owner = name(&format!("x{number}.free.test"));
            let source = (source.name.clone(), Arc::new(source));
            orders
                .list(&source.0, [(&owner, Scope::Exact)])
                .expect("room");
            sources.push(source.1);
        }
        for (source, rules) in lists {
            let owners: Vec<_> = rules
                .iter()
                .map(|(text, scope)| (name(text), *scope))
                .collect();
            let rules = owners.iter().map(|(owner, scope)| (owner, *scope));
            base.list(&source.name, rules).expect("room");
            sources.push(Arc::new(source.clone()));
        }
        let images = Images {
            base: Some(Arc::new(base.finish().expect("room"))),
            orders: Some(Arc::new(orders.finish().expect("room"))),
            ..Images::default()
        };
        Snapshot::default().with_rules(sources, images)
    }

    #[test]
    fn lists_after_tens_of_thousands_of_exceptions_block() {
        let lists = [
            block("one", Action::Nxdomain, &[("one.test", Scope::Exact)]),
            block("two", Action::Nxdomain, &[("two.test", Scope::Subtree)]),
            block("three", Action::Nxdomain, &[("three.test", Scope::Subtree)]),
            block(
                "four",
                Action::Sinkhole,
                &[("deep.four.test", Scope::Exact)],
            ),
            block("five", Action::Nxdomain, &[("four.test", Scope::Subtree)]),
        ];
        for count in [65_533, 65_535] {
            let snapshot = behind_exceptions(count, &lists);
            for (text, list) in [
                ("one.test", "one"),
                ("a.two.test", "two"),
                ("three.test", "three"),
                ("deep.four.test", "four"),
                ("x.four.test", "five"),
            ] {
                assert_eq!(
                    decided(&snapshot, text),
                    Some((list, true)),
                    "{count}: {text}"
                );
            }
            for (text, all_nxdomain) in [("three.test", true), ("four.test", false)] {
                let Decision::Blocked { nxdomain, .. } = snapshot.decide(&name(text)) else {
                    panic!("{text} is not blocked");
                };
                assert_eq!(nxdomain, all_nxdomain, "{count}: {text}");
            }
            assert_eq!(decided(&snapshot, "x7.free.test"), None);
        }
    }

    #[test]
    fn allow_lists_override_block_lists_at_any_position_and_depth() {
        let snapshot = snapshot(&[
            block("ads", Action::Sinkhole, &[("deep.a.test", Scope::Exact)]),
            allow("good", &[("a.test", Scope::Subtree)]),
        ]);
        assert_eq!(decided(&snapshot, "deep.a.test"), Some(("good", false)));
    }

    #[test]
    fn all_matching_rules_are_listed_best_first() {
        let ads = [("x.a.test", Scope::Exact), ("a.test", Scope::Subtree)];
        let good = [("a.test", Scope::Below), ("x.a.test", Scope::Below)];
        let more = [("test", Scope::Exact), ("a.test", Scope::Subtree)];
        let snapshot = snapshot(&[
            block("ads", Action::Sinkhole, &ads),
            allow("good", &good),
            block("more", Action::Sinkhole, &more),
        ]);
        let matching = |text: &str| -> Vec<(String, u8, Scope)> {
            let view = snapshot.view(ViewId::DEFAULT);
            let places = view.explain(&name(text), &[], &[]);
            let matching = places[0].rules.iter().map(|(matched, _)| matched);
            let described = |by: &Matched<'_>| match by.hit.trigger {
                Trigger::Name { scope, labels } => (by.source.name.clone(), labels, scope),
                other => panic!("not a name: {other:?}"),
            };
            matching.map(described).collect()
        };
        let is = |list: &str, labels, scope| (list.to_owned(), labels, scope);
        assert_eq!(
            matching("y.x.a.test"),
            [
                is("good", 2, Scope::Below),
                is("ads", 2, Scope::Subtree),
                is("more", 2, Scope::Subtree),
            ],
            "not the rule of `good` on x.a.test, because its rule on a.test covers it"
        );
        assert_eq!(matching("test"), [is("more", 1, Scope::Exact)]);
        assert!(matching("b.test").is_empty());
    }

    #[test]
    fn among_block_lists_the_order_of_the_configuration_decides() {
        let one = block("one", Action::Sinkhole, &[X]);
        let two = block("two", Action::Refused, &[("a.x.test", Scope::Exact)]);
        let forth = snapshot(&[one.clone(), two.clone()]);
        let back = snapshot(&[two, one]);
        assert_eq!(decided(&forth, "a.x.test"), Some(("one", true)));
        assert_eq!(decided(&back, "a.x.test"), Some(("two", true)));
        assert_eq!(decided(&back, "b.x.test"), Some(("one", true)));
        assert_eq!(decided(&back, "y.test"), None);
    }

    #[test]
    fn an_exact_rule_never_answers_nxdomain() {
        let exact = block("ads", Action::Nxdomain, &[("x.test", Scope::Exact)]);
        assert!(!nxdomain(&[exact], "x.test"));
    }

    #[test]
    fn a_subtree_rule_answers_nxdomain_at_and_below_its_name() {
        let tree = block("ads", Action::Nxdomain, &[X]);
        assert!(nxdomain(std::slice::from_ref(&tree), "x.test"));
        assert!(nxdomain(&[tree], "a.x.test"));
        let both = block("ads", Action::Nxdomain, &[X, ("x.test", Scope::Exact)]);
        assert!(
            nxdomain(&[both], "x.test"),
            "the same list's exact rule changes nothing"
        );
    }

    #[test]
    fn nxdomain_requires_that_no_name_below_is_decided_otherwise() {
        let tree = block("ads", Action::Nxdomain, &[X]);
        let good = allow("good", &[("ok.a.x.test", Scope::Exact)]);
        let lists = [tree.clone(), good];
        assert!(!nxdomain(&lists, "x.test"));
        assert!(!nxdomain(&lists, "a.x.test"));
        assert!(nxdomain(&lists, "b.x.test"), "no other rule below b");

        let sink = block("sink", Action::Sinkhole, &[("s.x.test", Scope::Exact)]);
        assert!(!nxdomain(&[sink.clone(), tree.clone()], "x.test"));
        assert!(
            nxdomain(&[tree, sink], "x.test"),
            "a later list never decides"
        );
    }

    #[test]
    fn an_exact_rule_answers_nxdomain_if_a_second_list_covers_the_names_below() {
        let exact = block("one", Action::Nxdomain, &[("x.test", Scope::Exact)]);
        let below = block("two", Action::Nxdomain, &[("x.test", Scope::Below)]);
        assert!(nxdomain(&[exact.clone(), below], "x.test"));
        let sink = block("two", Action::Sinkhole, &[("x.test", Scope::Below)]);
        assert!(!nxdomain(&[exact, sink], "x.test"));
    }

    #[test]
    fn orders_apply_to_targets_of_allowed_names_but_not_of_excepted_ones() {
        let order = |name: &str, rules| list(name, Kind::Order, Action::Sinkhole, rules);
        let snapshot = snapshot(&[
            order("order:x", &[("c.test", Scope::Exact)]),
            allow("good", &[("b.test", Scope::Exact)]),
            block("ads", Action::Sinkhole, &[("d.test", Scope::Exact)]),
        ]);
        let chain = |exemption, names: &[&str]| {
            let names: Vec<_> = names.iter().map(|n| name(n)).collect();
            let view = snapshot.view(ViewId::DEFAULT);
            let later = LaterRules {
                exemption,
                before: NO_RANK,
            };
            let (chain, none) = (names.into_iter(), std::iter::empty());
            view.decide_answer(&name("b.test"), later, chain, none).hops
        };
        assert_eq!(
            snapshot.decide(&name("b.test")).chain_exemption(),
            ChainExemption::Lists
        );
        assert_eq!(chain(ChainExemption::Lists, &["d.test", "c.test"]), 2);
        assert_eq!(chain(ChainExemption::None, &["b.test", "c.test"]), 2);
        assert_eq!(chain(ChainExemption::All, &["c.test"]), 0);
    }

    #[test]
    fn the_first_name_of_a_chain_with_a_matching_rule_decides() {
        let snapshot = snapshot(&[
            block("ads", Action::Sinkhole, &[("c.test", Scope::Exact)]),
            allow("good", &[("b.test", Scope::Exact)]),
        ]);
        let chain = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|n| name(n)).collect();
            let asked = name("asked.test");
            let view = snapshot.view(ViewId::DEFAULT);
            let later = view.decide(&asked).later_rules();
            let (chain, none) = (names.into_iter(), std::iter::empty());
            view.decide_answer(&asked, later, chain, none).hops
        };
        assert_eq!(chain(&["a.test", "c.test"]), 2);
        assert_eq!(
            chain(&["b.test", "c.test"]),
            0,
            "no name after an allowed one is blocked by a list"
        );
        assert_eq!(chain(&["a.test"]), 0);
    }

    #[test]
    fn a_target_is_not_denied_if_an_exception_of_the_queried_name_suppresses_a_rule_on_it() {
        let against = |named: &str| {
            let (mut source, _) = list("exception:x", Kind::Exception, Action::Nodata, &[]);
            source.against = Against::Named(vec![named.to_owned()]);
            (source, &[("asked.test", Scope::Exact)][..])
        };
        const TARGET: &[(&str, Scope)] = &[("t.test", Scope::Subtree)];
        let denies = |exception: List<'_>| {
            let orders = [exception];
            let lists = [
                block("one", Action::Sinkhole, TARGET),
                block("two", Action::Nxdomain, TARGET),
            ];
            let image = |lists: &[List<'_>]| {
                let mut builder = Builder::new();
                for (source, rules) in lists {
                    let rules: Vec<_> = rules
                        .iter()
                        .map(|(text, scope)| (name(text), *scope))
                        .collect();
                    let rules = rules.iter().map(|(owner, scope)| (owner, *scope));
                    builder.list(&source.name, rules).expect("room");
                }
                Some(Arc::new(builder.finish().expect("room")))
            };
            let images = Images {
                base: image(&lists),
                orders: image(&orders),
                ..Images::default()
            };
            let sources = orders.iter().chain(&lists);
            let sources = sources.map(|(source, _)| Arc::new(source.clone()));
            let snapshot = Snapshot::default().with_rules(sources.collect(), images);
            let view = snapshot.view(ViewId::DEFAULT);
            let (asked, chain) = (name("asked.test"), [name("t.test")]);
            let later = view.decide(&asked).later_rules();
            let (chain, none) = (chain.into_iter(), std::iter::empty());
            match view.decide_answer(&asked, later, chain, none).decision {
                Decision::Blocked { by, nxdomain, .. } => (by.source.name.clone(), nxdomain),
                other => panic!("not blocked: {other:?}"),
            }
        };
        // The names below t.test have the sinkhole of `one`.
        assert_eq!(denies(against("one")), ("two".to_owned(), false));
        assert_eq!(denies(against("two")), ("one".to_owned(), false));
        assert_eq!(denies(against("none")), ("one".to_owned(), false));
    }
}
