//! One generation of the policy: everything that can change while serving, and the decisions that follow from
//! it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::clients::Clients;
use super::effect::Effect;
use super::images::Images;
use super::local::LocalZones;
use super::precedence::{Precedence, Verdict, Verdicts, precedence, suppressed};
use super::ranking::{Hit, LookupResult, MAX_SOURCES};
use super::rule::{Action, Blocking, Kind, OwnAnswer, Source};
use super::rules::Rules;
use super::view::{MAX_VIEWS, View, ViewId};
use crate::wire::name::Name;

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
    /// An allow list or an exception against everything matches: the name is answered from upstream, and so
    /// is its CNAME chain as far as [`ChainExemption`] says.
    Allowed(Matched<'s>),
    /// The name is blocked.
    Blocked {
        /// The deciding rule.
        by: Matched<'s>,
        /// Whether NXDOMAIN would be true of every name below, as caches conclude from it (RFC 8020).
        nxdomain: bool,
        /// Whether every name below is blocked as well. If not, validators need the true DS and DNSKEY
        /// records of this name.
        closed: bool,
    },
}

/// The rules that do not apply to the targets of a CNAME chain, because of the decision about the asked name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainExemption {
    /// All rules apply.
    None,
    /// The rules that the asked name's exceptions suppress do not apply.
    Suppressed,
    /// Only orders apply: an allow list matches the asked name.
    Lists,
    /// No rule applies: an exception against everything matches the asked name.
    All,
}

impl Decision<'_> {
    /// The exemption of the CNAME targets of a name with this decision.
    pub fn chain_exemption(&self) -> ChainExemption {
        match self {
            Self::Pass | Self::Blocked { .. } => ChainExemption::None,
            Self::Excepted(_) => ChainExemption::Suppressed,
            Self::Allowed(by) if by.source.kind == Kind::Exception => ChainExemption::All,
            Self::Allowed(_) => ChainExemption::Lists,
        }
    }
}

/// An immutable state of the policy. Every change is a new snapshot with a new generation.
#[derive(Debug)]
pub struct Snapshot {
    /// Increases with each published snapshot; the first is 1.
    pub generation: u64,
    /// The clients that are served.
    pub clients: Clients,
    /// Names that never go upstream.
    pub local: LocalZones,
    /// Answer to `version.bind`, class CH; refused if `None`.
    pub version: Option<String>,
    /// Answer to `id.server`, class CH; refused if `None`.
    pub id: Option<String>,
    /// Sorted by kind.
    sources: Vec<Arc<Source>>,
    verdicts: Verdicts,
    /// Those of the views, the default first.
    views: Vec<Precedence>,
    /// The hit counter of each source.
    slots: Vec<Option<u16>>,
    rules: Rules,
}

impl Default for Snapshot {
    /// Generation 0: no client is served and nothing is blocked.
    fn default() -> Self {
        Self {
            generation: 0,
            clients: Clients::default(),
            local: LocalZones::new(&[], true),
            version: None,
            id: None,
            sources: Vec::new(),
            verdicts: Verdicts::default(),
            views: vec![Precedence::default()],
            slots: Vec::new(),
            rules: Rules::default(),
        }
    }
}

impl Snapshot {
    /// The same snapshot with the rules of `sources`, which are given in the order of the configuration.
    /// Exceptions take precedence over orders, orders over allow lists, and allow lists over block lists.
    /// Among sources of one kind, the earlier one in `sources` takes precedence. Rules of sources that are not
    /// given do not count. Images refer to sources by name.
    pub fn with_rules(self, sources: Vec<Arc<Source>>, images: Images) -> Self {
        self.with_views(sources, images, &[])
    }

    /// Like [`with_rules`](Self::with_rules), with more views. The first one has the [`ViewId`] 1: 0 is the default view.
    ///
    /// # Panics
    /// If there are more than [`MAX_VIEWS`].
    pub fn with_views(
        mut self,
        mut sources: Vec<Arc<Source>>,
        images: Images,
        views: &[View],
    ) -> Self {
        assert!(
            views.len() <= MAX_VIEWS,
            "a snapshot has at most MAX_VIEWS views"
        );
        if sources.len() > MAX_SOURCES {
            // Sources without rules cannot decide.
            let named = images.source_names();
            sources.retain(|source| named.contains(&*source.name));
        }
        sources.sort_by_key(|source| precedence(source.kind));
        let index: HashMap<_, _> = sources
            .iter()
            .map(|source| source.name.as_str())
            .zip(0..)
            .collect();
        let verdicts = Verdicts::new(&sources, &index, &images);
        let mut rules = Rules::new(images, suppressed(&sources, &index));
        let views = std::iter::once(None).chain(views.iter().map(Some));
        let views = views.map(|view| {
            let precedence = Precedence::new(&sources, &index, &verdicts, view);
            rules.add_view(|name, effect| {
                let source = *index.get(name)?;
                Some(precedence.clause(source, effect, &sources[source], &verdicts))
            });
            precedence
        });
        self.views = views.collect();
        self.rules = rules;
        self.verdicts = verdicts;
        self.sources = sources;
        self
    }

    /// The same snapshot with the hit counter that `slot` returns for the name of each source. Hits of a
    /// source are not counted if it returns `None`.
    pub fn with_slots(mut self, mut slot: impl FnMut(&str) -> Option<u16>) -> Self {
        // An exception blocks nothing.
        let counted = |source: &Arc<Source>| source.kind != Kind::Exception;
        let mut place = |source| counted(source).then(|| slot(&source.name)).flatten();
        self.slots = self.sources.iter().map(&mut place).collect();
        self
    }

    /// The hit counter of a rule's source.
    pub fn slot(&self, by: &Matched<'_>) -> Option<u16> {
        self.slots.get(by.index()).copied().flatten()
    }

    /// The sources, sorted by kind: exceptions, orders, allow lists, block lists.
    pub fn sources(&self) -> &[Arc<Source>] {
        &self.sources
    }

    /// Whether `client` is served.
    pub fn permits(&self, client: IpAddr) -> bool {
        self.clients.contains(client)
    }

    /// Looks up a batch of names in the default view, which is faster than one by one: `found[i]` is the result for
    /// `names[i]`, to be passed to [`PolicyView::decide_by`]. Never allocates.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub fn lookup(&self, names: &[&Name], found: &mut [LookupResult]) {
        self.rules.lookup(names, found);
    }

    /// Like [`lookup`](Self::lookup), with a view for each name.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub fn lookup_in(&self, names: &[&Name], views: &[ViewId], found: &mut [LookupResult]) {
        self.rules.lookup_in(names, views, found);
    }

    /// The policy of a view; that of the default view if there is no such view.
    pub fn view(&self, id: ViewId) -> PolicyView<'_> {
        let precedence = self.views.get(usize::from(id.0));
        PolicyView {
            snapshot: self,
            precedence: precedence.unwrap_or(&self.views[0]),
            id,
            is_stream: false,
        }
    }

    /// Decides about a name in the default view: the best source with a matching rule wins. Never allocates.
    pub fn decide(&self, name: &Name) -> Decision<'_> {
        self.view(ViewId::DEFAULT).decide(name)
    }
}

/// The policy that applies to the clients of a view.
#[derive(Clone, Copy, Debug)]
pub struct PolicyView<'s> {
    snapshot: &'s Snapshot,
    precedence: &'s Precedence,
    id: ViewId,
    is_stream: bool,
}

impl<'s> PolicyView<'s> {
    /// The generation of its snapshot.
    pub fn generation(&self) -> u64 {
        self.snapshot.generation
    }

    /// The same policy for queries over a stream if `is_stream`, else over UDP.
    pub fn over(self, is_stream: bool) -> Self {
        Self { is_stream, ..self }
    }

    /// The names that are answered locally.
    pub fn local(&self) -> &'s LocalZones {
        &self.snapshot.local
    }

    /// The decision about a name, given that of [`decide_by`](Self::decide_by): the name is allowed by a CNAME rule that
    /// leads to this name, and, over a stream, by a rule that demands TCP.
    #[inline]
    pub fn settle(&self, decision: Decision<'s>, name: &Name) -> Decision<'s> {
        match decision {
            Decision::Blocked { by, .. }
                if let Some(own) = &by.blocking.own
                    && own.allows(name, self.is_stream) =>
            {
                Decision::Allowed(by)
            }
            _ => decision,
        }
    }

    /// Decides about a name: the best source with a matching rule wins. Never allocates.
    pub fn decide(&self, name: &Name) -> Decision<'s> {
        let mut found = [LookupResult::default()];
        self.snapshot.lookup_in(&[name], &[self.id], &mut found);
        self.settle(self.decide_by(&found[0]), name)
    }

    /// The decision that a lookup in this view leads to.
    pub fn decide_by(&self, found: &LookupResult) -> Decision<'s> {
        let Some(hit) = found.best() else {
            return match found.excepted() {
                Some(hit) => Decision::Excepted(self.matched(hit)),
                None => Decision::Pass,
            };
        };
        let by = self.matched(hit);
        if !self.blocks(hit.verdict) {
            return Decision::Allowed(by);
        }
        let nxdomain =
            |verdict| self.blocks(verdict) && self.blocking(verdict).action == Action::Nxdomain;
        let allows = |rank| self.precedence.allows(rank, &self.snapshot.verdicts);
        let is_true = || by.blocking.as_written || found.is_all_nxdomain_below(nxdomain);
        Decision::Blocked {
            by,
            nxdomain: nxdomain(hit.verdict) && is_true(),
            closed: found.is_all_blocked_below(|verdict| self.always_blocks(verdict), allows),
        }
    }

    /// The rule that would have decided if its list were not logged only.
    pub fn logged(&self, found: &LookupResult) -> Option<Matched<'s>> {
        found.logged().map(|hit| self.matched(hit))
    }

    /// All rules that match a name, best first, including exceptions, the rules that they suppress, and rules that are
    /// logged only. Allocates; used for explanations.
    pub fn matching(&self, name: &Name) -> Vec<Matched<'s>> {
        let hits = self.snapshot.rules.matching(self.id, name).into_iter();
        hits.map(|hit| self.matched(hit)).collect()
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

    fn blocks(&self, verdict: u32) -> bool {
        let verdict = self.snapshot.verdicts.get(verdict);
        verdict.blocks(&self.snapshot.sources[verdict.source])
    }

    /// Whether a rule blocks all names that it matches, whatever the transport.
    fn always_blocks(&self, number: u32) -> bool {
        let own = self.blocking(number).own.as_ref();
        self.blocks(number) && !own.is_some_and(OwnAnswer::may_allow)
    }

    fn blocking(&self, number: u32) -> &'s Blocking {
        let verdict = self.snapshot.verdicts.get(number);
        let source = &self.snapshot.sources[verdict.source];
        self.precedence.blocking(number, verdict, source)
    }

    /// Decides about an upstream answer: finds the first name of `asked`'s CNAME chain that is blocked despite
    /// `exemption`, which follows from the decision about `asked`. Returns three values: the number of hops to the
    /// blocked name, the decision about that name, and the exemption of the SVCB and HTTPS targets at the end of the
    /// chain. If no name is blocked, the first two values are 0 and `Pass`.
    pub fn decide_chain(
        &self,
        asked: &Name,
        mut exemption: ChainExemption,
        chain: impl Iterator<Item = Name>,
    ) -> (usize, Decision<'s>, ChainExemption) {
        for (hop, name) in chain.enumerate() {
            let decision = match exemption {
                ChainExemption::All => break,
                ChainExemption::None => self.decide(&name),
                ChainExemption::Suppressed | ChainExemption::Lists => {
                    let rules = &self.snapshot.rules;
                    self.decide_by(&rules.lookup_target(self.id, asked, &name))
                }
            };
            let decision = self.settle(decision, &name);
            match decision {
                Decision::Blocked { by, .. }
                    if exemption != ChainExemption::Lists || by.source.kind == Kind::Order =>
                {
                    return (hop + 1, decision, exemption);
                }
                // An order overrides an allow list, whichever of them matches first on the chain.
                Decision::Allowed(_) => exemption = decision.chain_exemption(),
                _ => {}
            }
        }
        (0, Decision::Pass, exemption)
    }
}

#[cfg(test)]
mod tests {
    use super::super::builder::Builder;
    use super::super::image::provenance::ImageSource;
    use super::super::rule::{Against, Blocking, Ede, Scope};
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_text(text).expect("a name")
    }

    type List<'t> = (Source, &'t [(&'t str, Scope)]);

    fn list<'t>(list: &str, kind: Kind, action: Action, rules: &'t [(&'t str, Scope)]) -> List<'t> {
        let blocking = Blocking {
            action,
            own: None,
            as_written: false,
            sinkhole_v4: Vec::new(),
            sinkhole_v6: Vec::new(),
            ttl_secs: 60,
            ede: Ede::Blocked,
            extra_text: list.to_owned(),
        };
        let source = Source {
            name: list.to_owned(),
            path: list.into(),
            kind,
            blocking,
            against: Against::All,
        };
        (source, rules)
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
            let matching = view.matching(&name(text)).into_iter();
            let described = |by: Matched<'_>| (by.source.name.clone(), by.hit.labels, by.hit.scope);
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
            view.decide_chain(&name("b.test"), exemption, names.into_iter())
                .0
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
            let (hops, ..) = view.decide_chain(&asked, ChainExemption::None, names.into_iter());
            hops
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
            let past = view.decide(&asked).chain_exemption();
            match view.decide_chain(&asked, past, chain.into_iter()).1 {
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
