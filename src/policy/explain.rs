//! Explains a query by running the code that decides: the decision at each place of its chain, and all rules that match
//! there.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::decide::{Decision, Matched, PolicyView};
use super::prefix::Prefix;
use super::prefixes::PrefixTable;
use super::ranking::{Hit, NO_RANK, Rank, Trigger};
use super::rule::Against;
use crate::wire::name::Name;

/// One place of a query: the queried name, or a name of its CNAME chain.
#[derive(Debug)]
pub struct Place<'s> {
    /// The queried name, or the target of a CNAME record.
    pub name: Name,
    /// The decision there, given the decisions at the places before it.
    pub decision: Decision<'s>,
    /// All rules whose triggers match there, in the order of precedence. These are rules on the name; at the first place also
    /// those on the client's address, and at the last place also those on the addresses of the answer.
    pub rules: Vec<(Matched<'s>, Role)>,
}

/// The part of a matching rule in the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It decided.
    Decides,
    /// Another rule precedes it, or it does not apply because of the decision at an earlier place. If no policy applies to
    /// the query, this is the role of the first rule, too.
    Loses,
    /// It decides nothing, because its source is logged only.
    LogOnly,
    /// An exception suppresses its source.
    Ignored,
    /// Its condition does not hold for the query.
    Fails,
}

impl<'s> PolicyView<'s> {
    /// The places of a query up to the one that blocks it. `chain` and `addresses` are those of upstream's answer, as far as
    /// it is known. Allocates.
    pub fn explain(&self, asked: &Name, chain: &[Name], addresses: &[IpAddr]) -> Vec<Place<'s>> {
        let first = self.decide(asked);
        let is_blocked = matches!(first, Decision::Blocked { .. });
        let mut places = Vec::new();
        for hops in 0..=chain.len() {
            let is_last = hops == chain.len();
            let name = hops.checked_sub(1).map_or(asked, |hop| &chain[hop]);
            // The queried name is decided before upstream is asked for addresses.
            let addresses = match is_last && !is_blocked {
                true => addresses,
                false => &[],
            };
            let names = chain[..hops].iter().cloned();
            let answer =
                self.decide_answer(asked, first.later_rules(), names, addresses.iter().copied());
            let decision = match (hops, answer.decision) {
                (0, Decision::Pass) => first,
                (_, decision) => decision,
            };
            let mut matching = match hops {
                0 => self.matching(asked),
                _ => self
                    .on_name(name)
                    .into_iter()
                    .map(|hit| self.matched(hit))
                    .collect(),
            };
            matching.extend(self.matching_addresses(addresses.iter().copied()));
            // Stable: of rules of one rank, those on addresses come last.
            matching.sort_by_key(|matched| matched.hit.rank);
            let decides = decides(&decision);
            let role = |matched: Matched<'s>| {
                let role = match matched {
                    _ if Some(matched.hit) == decides => Role::Decides,
                    _ if !self.holds(matched.hit.verdict, name) => Role::Fails,
                    _ if self.is_ignored(&matched, [asked, name]) => Role::Ignored,
                    _ if self.is_logged_only(&matched) => Role::LogOnly,
                    _ => Role::Loses,
                };
                (matched, role)
            };
            places.push(Place {
                name: name.clone(),
                decision,
                rules: matching.into_iter().map(role).collect(),
            });
            if matches!(decision, Decision::Blocked { .. }) {
                break;
            }
        }
        places
    }

    /// All rules whose triggers match a queried name or the client's address, in the order of precedence, including exceptions,
    /// the rules that they suppress, rules that are logged only, and rules whose condition does not hold.
    fn matching(&self, name: &Name) -> Vec<Matched<'s>> {
        let client = &self.snapshot.addresses.client;
        let mut hits = client.matching(
            self.client.into_iter(),
            |verdict| self.rank(verdict),
            Trigger::Client,
        );
        hits.extend(self.on_name(name));
        // Stable: of rules of one rank, that on the client's address comes first, and patterns come last.
        hits.sort_by_key(|hit| hit.rank);
        hits.into_iter().map(|hit| self.matched(hit)).collect()
    }

    /// All rules that match a name of a chain. Several patterns with one verdict count as one rule.
    fn on_name(&self, name: &Name) -> Vec<Hit> {
        let Some(rules) = self.snapshot.rules.in_view(self.key) else {
            return Vec::new();
        };
        let mut hits = rules.matching(name);
        let mut patterns = rules.matching_patterns(name);
        patterns.dedup_by_key(|(hit, _)| *hit);
        hits.extend(patterns.into_iter().map(|(hit, _)| hit));
        hits
    }

    /// Whether the source of a rule is logged only.
    fn is_logged_only(&self, matched: &Matched<'_>) -> bool {
        let verdicts = &self.snapshot.verdicts;
        self.precedence.is_logged_only(matched.index(), verdicts)
    }

    /// Whether an exception on one of the names suppresses the source of a rule.
    fn is_ignored(&self, matched: &Matched<'_>, names: [&Name; 2]) -> bool {
        let rules = self.snapshot.rules.in_view(self.key);
        matched.source.against == Against::All
            && rules.is_some_and(|rules| {
                let mut ignored = names.into_iter().map(|name| rules.suppressed_at(name));
                ignored.any(|ignored| ignored.contains(matched.index()))
            })
    }

    /// All rules on addresses of an answer, in the order of precedence. Allocates; used for explanations.
    pub fn matching_addresses(
        &self,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> Vec<Matched<'s>> {
        let table = &self.snapshot.addresses.answer;
        let networks = addresses
            .into_iter()
            .filter_map(|address| table.find(address));
        let hits = table.matching(networks, |verdict| self.rank(verdict), Trigger::Answer);
        hits.into_iter().map(|hit| self.matched(hit)).collect()
    }

    /// The number of rules on addresses in answers that may still decide, after this decision about the queried name.
    /// Looks at all rules on addresses; used for explanations.
    pub fn later_answer_rules(&self, asked: &Name, decision: &Decision<'_>) -> usize {
        let later = decision.later_rules();
        match later.is_final() {
            true => 0,
            false => self.count(&self.snapshot.addresses.answer, asked, |_, rank| {
                rank < later.before
            }),
        }
    }

    /// The number of rules on addresses of clients that would precede this decision about the queried name for the clients
    /// that they match, besides the rule that has decided. Looks at all rules on addresses; used for explanations.
    pub fn preceding_client_rules(&self, asked: &Name, decision: &Decision<'_>) -> usize {
        let decided = decides(decision);
        let decided_rank = decided.map_or(NO_RANK, |hit| hit.rank);
        let is_decider = |(network, verdict)| {
            decided.is_some_and(|hit| {
                hit.trigger == Trigger::Client(network) && hit.verdict == verdict
            })
        };
        let table = &self.snapshot.addresses.client;
        // Of two rules of one rank, that on the client precedes.
        self.count(table, asked, |rule, rank| {
            rank <= decided_rank && !is_decider(rule)
        })
    }

    /// The number of rules of a table that are neither logged only nor suppressed by exceptions on the queried name, and
    /// that may decide: by their networks and verdicts, and their ranks.
    fn count(
        &self,
        table: &PrefixTable,
        asked: &Name,
        may_decide: impl Fn((u32, u32), Rank) -> bool,
    ) -> usize {
        let ignored = self.ignored(asked);
        let rules = table.ids().flat_map(|network| {
            let verdicts = table.verdicts(network).iter();
            verdicts.map(move |&verdict| (network, verdict))
        });
        let counted = rules.filter(|&rule| {
            let (_, verdict) = rule;
            let applying = self.applies(verdict, asked, &[&ignored]);
            applying.is_some_and(|applying| {
                applying.holds && !applying.is_logged_only && may_decide(rule, applying.rank)
            })
        });
        counted.count()
    }

    fn rank(&self, verdict: u32) -> Rank {
        self.precedence.ranked(verdict, &self.snapshot.verdicts).0
    }

    /// The patterns of a matching rule with [`Trigger::Pattern`] that are found in the name. Allocates; used for explanations.
    pub fn patterns(&self, hit: Hit, name: &Name) -> Vec<&'s str> {
        let rules = self.snapshot.rules.in_view(self.key).into_iter();
        let patterns = rules.flat_map(|rules| rules.matching_patterns(name));
        let patterns = patterns.filter(|(of, _)| *of == hit);
        patterns.map(|(_, pattern)| pattern).collect()
    }

    /// The network of a [`Trigger::Client`] that was found in this snapshot.
    pub fn client_network(&self, network: u32) -> Prefix {
        self.snapshot.addresses.client.prefix(network)
    }

    /// The network of a [`Trigger::Answer`] that was found in this snapshot.
    pub fn answer_network(&self, network: u32) -> Prefix {
        self.snapshot.addresses.answer.prefix(network)
    }
}

/// The rule that decided.
fn decides(decision: &Decision<'_>) -> Option<Hit> {
    match decision {
        Decision::Pass => None,
        Decision::Allowed(by) | Decision::Excepted(by) | Decision::Blocked { by, .. } => {
            Some(by.hit)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::builder::Builder;
    use super::super::condition::{Condition, TypeSet};
    use super::super::effect::Effect;
    use super::super::image::provenance::ImageSource;
    use super::super::images::Images;
    use super::super::prefix::{AddressOf, Prefix};
    use super::super::rule::{Action, Kind, Scope, Source};
    use super::super::snapshot::Snapshot;
    use super::super::tests::sources;
    use super::super::view::{Mode, View, ViewId, ViewList};
    use super::*;
    use crate::wire::rtype;

    fn name(text: &str) -> Name {
        Name::from_text(text).expect("a name")
    }

    fn source(name: &str, kind: Kind, against: Against) -> Arc<Source> {
        Arc::new(Source {
            against,
            ..sources::source(name, kind, Action::Nodata)
        })
    }

    /// Images of these lists, and of an exception on `free.test`.
    fn with_exception(lists: Builder) -> Images {
        let mut orders = Builder::new();
        let added = orders.list("exception:x", [(&name("free.test"), Scope::Exact)]);
        added.expect("room");
        Images {
            base: Some(Arc::new(lists.finish().expect("room"))),
            orders: Some(Arc::new(orders.finish().expect("room"))),
            ..Images::default()
        }
    }

    fn list(name: &str, mode: Mode) -> ViewList {
        ViewList {
            name: name.to_owned(),
            mode,
            action: None,
        }
    }

    /// A snapshot with an exception, two block lists and an allow list, and a view in which `ads` is logged only.
    fn snapshot() -> Snapshot {
        let mut lists = Builder::new();
        let effect = Effect::default();
        let network =
            |of, text: &str| Prefix::new(of, text.parse().expect("a network")).expect("valid");
        let ads = lists.source(ImageSource::named("ads")).expect("few");
        let more = lists.source(ImageSource::named("more")).expect("few");
        let good = lists.source(ImageSource::named("good")).expect("few");
        let answer = network(AddressOf::Answer, "198.51.100.0/24");
        let client = network(AddressOf::Client, "192.0.2.0/24");
        for added in [
            lists.insert(&name("a.test"), ads, Scope::Exact),
            lists.insert(&name("free.test"), ads, Scope::Exact),
            lists.insert(&name("test"), more, Scope::Below),
            lists.insert_pattern("a[.]te", more, &effect),
            lists.insert_prefix(answer, ads, &effect),
            lists.insert_prefix(client, more, &effect),
            lists.insert(&name("good.test"), good, Scope::Exact),
            lists.insert(&name("net"), good, Scope::Exact),
        ] {
            added.expect("room");
        }
        let images = with_exception(lists);
        let against = Against::Named(vec!["ads".to_owned(), "more".to_owned()]);
        let sources = vec![
            source("exception:x", Kind::Exception, against),
            source("ads", Kind::Block, Against::All),
            source("more", Kind::Block, Against::All),
            source("good", Kind::Allow, Against::All),
        ];
        let view = View {
            lists: vec![list("ads", Mode::LogOnly), list("good", Mode::Enforce)],
        };
        Snapshot::default().with_views(sources, images, &[view])
    }

    /// Each place: its name, and its rules with their roles.
    fn explained(view: PolicyView<'_>, names: &[&str], addresses: &[IpAddr]) -> Vec<String> {
        let chain: Vec<Name> = names[1..].iter().map(|text| name(text)).collect();
        let places = view.explain(&name(names[0]), &chain, addresses).into_iter();
        places
            .map(|place| {
                let rules = place.rules.iter().map(|(matched, role)| {
                    let trigger = match matched.hit.trigger {
                        Trigger::Name { scope, .. } => format!("{scope:?}"),
                        other => format!("{other:?}"),
                    };
                    let trigger = trigger.split('(').next().expect("a part").to_owned();
                    format!(" {} {trigger} {role:?}", matched.source.name)
                });
                format!("{}:{}", place.name, rules.collect::<Vec<_>>().join(","))
            })
            .collect()
    }

    #[test]
    fn the_rules_at_every_place_are_shown_with_what_became_of_them() {
        let snapshot = snapshot();
        let view = snapshot.view(ViewId::DEFAULT);
        let bad = [[198, 51, 100, 1].into()];
        assert_eq!(
            explained(view, &["a.test", "net"], &bad),
            ["a.test: ads Exact Decides, more Below Loses, more Pattern Loses"],
            "nothing after the queried name matters"
        );
        assert_eq!(
            explained(view, &["x.net", "good.test", "y.net"], &bad),
            [
                "x.net:",
                "good.test: good Exact Decides, more Below Loses",
                "y.net: ads Answer Loses",
            ]
        );
        assert_eq!(
            explained(view, &["x.net", "y.net"], &bad),
            ["x.net:", "y.net: ads Answer Decides"]
        );
        assert_eq!(
            explained(view, &["free.test"], &bad),
            [
                "free.test: exception:x Exact Decides, ads Exact Ignored, ads Answer Ignored, more Below Ignored"
            ]
        );
        let client = view.for_client([192, 0, 2, 1].into());
        assert_eq!(
            explained(client, &["x.net"], &[]),
            ["x.net: more Client Decides"]
        );
    }

    #[test]
    fn rules_on_addresses_that_may_still_decide_are_counted() {
        let snapshot = snapshot();
        let counts = |view: ViewId, asked: &str| {
            let (view, asked) = (snapshot.view(view), name(asked));
            let decision = view.decide(&asked);
            let answers = view.later_answer_rules(&asked, &decision);
            (answers, view.preceding_client_rules(&asked, &decision))
        };
        for (asked, expected) in [
            ("x.net", (1, 1)),
            // Queries for the DS records of a blocked name are forwarded.
            ("a.test", (1, 0)),
            ("x.test", (1, 1)),
            ("good.test", (0, 0)),
            ("free.test", (0, 0)),
        ] {
            assert_eq!(counts(ViewId::DEFAULT, asked), expected, "{asked}");
        }
        assert_eq!(counts(ViewId(1), "x.net"), (0, 0), "they are logged only");
        let client = snapshot.view(ViewId::DEFAULT);
        let (client, asked) = (client.for_client([192, 0, 2, 1].into()), name("x.net"));
        let decision = client.decide(&asked);
        let others = client.preceding_client_rules(&asked, &decision);
        assert_eq!(others, 0, "it decides for this client");
    }

    #[test]
    fn rules_that_are_logged_only_are_marked_in_their_view() {
        let snapshot = snapshot();
        let view = snapshot.view(ViewId(1));
        let bad = [[198, 51, 100, 1].into()];
        assert_eq!(
            explained(view, &["a.test"], &bad),
            ["a.test: ads Exact LogOnly, ads Answer LogOnly"]
        );
        assert_eq!(explained(view, &["net"], &[]), ["net: good Exact Decides"]);
        let (asked, none) = (name("x.net"), std::iter::empty());
        let later = view.decide(&asked).later_rules();
        let answer = view.decide_answer(&asked, later, none, bad.into_iter());
        let logged = answer.logged.map(|logged| logged.source.name.as_str());
        assert_eq!(logged, Some("ads"), "it would have blocked the answer");
        let logged = |asked: &str, target: &str| {
            let asked = name(asked);
            let (later, chain) = (view.decide(&asked).later_rules(), [name(target)]);
            let answer = view.decide_answer(&asked, later, chain.into_iter(), std::iter::empty());
            answer.logged.map(|logged| logged.source.name.as_str())
        };
        assert_eq!(
            logged("x.net", "a.test"),
            Some("ads"),
            "it would have blocked the target"
        );
        assert_eq!(
            logged("good.test", "a.test"),
            None,
            "an allow list precedes it"
        );
        assert_eq!(
            logged("free.test", "a.test"),
            None,
            "an exception suppresses it"
        );
    }

    #[test]
    fn a_rule_whose_condition_does_not_hold_is_shown_without_a_part_in_the_decision() {
        let mut lists = Builder::new();
        let ads = lists.source(ImageSource::named("ads")).expect("few");
        let only = |qtype: u16, except: &[&str]| {
            let types = Some(TypeSet::Only([qtype].into()));
            let except = except.iter().map(|text| name(text));
            Effect {
                condition: Condition::new(types, except).ok().map(Box::new),
                ..Effect::default()
            }
        };
        let network = "198.51.100.0/24".parse().expect("a network");
        let network = Prefix::new(AddressOf::Answer, network).expect("valid");
        let (v6, v4) = (only(rtype::AAAA, &[]), only(rtype::A, &["x.a.test"]));
        for added in [
            lists.insert_effect(&name("a.test"), ads, Scope::Exact, &v6),
            lists.insert_effect(&name("test"), ads, Scope::Subtree, &v4),
            lists.insert_pattern("a[.]te", ads, &v6),
            lists.insert_prefix(network, ads, &v6),
        ] {
            added.expect("room");
        }
        let sources = vec![source("ads", Kind::Block, Against::All)];
        let base = Arc::new(lists.finish().expect("room"));
        let snapshot = Snapshot::default().with_rules(sources, base.into());
        let view = snapshot.view(ViewId::DEFAULT);
        let shown = |qtype, asked| explained(view.for_type(qtype), &[asked], &[]);
        assert_eq!(
            shown(rtype::A, "a.test"),
            ["a.test: ads Exact Fails, ads Subtree Decides, ads Pattern Fails"]
        );
        assert_eq!(
            shown(rtype::AAAA, "a.test"),
            ["a.test: ads Exact Decides, ads Subtree Fails, ads Pattern Loses"]
        );
        assert_eq!(
            shown(rtype::A, "x.a.test"),
            ["x.a.test: ads Subtree Fails, ads Pattern Fails"]
        );
        let address = [198, 51, 100, 1].into();
        let answered = |qtype| explained(view.for_type(qtype), &["b.net"], &[address]);
        assert_eq!(answered(rtype::A), ["b.net: ads Answer Fails"]);
        assert_eq!(answered(rtype::AAAA), ["b.net: ads Answer Decides"]);
    }

    #[test]
    fn a_rule_is_reported_as_logged_only_if_no_rule_in_force_would_precede_it() {
        let mut lists = Builder::new();
        let block = lists.source(ImageSource::named("block")).expect("few");
        let log = lists.source(ImageSource::named("log")).expect("few");
        let network = "198.51.100.0/24".parse().expect("a network");
        let network = Prefix::new(AddressOf::Answer, network).expect("valid");
        for added in [
            lists.insert(&name("both.test"), block, Scope::Exact),
            lists.insert(&name("both.test"), log, Scope::Exact),
            lists.insert(&name("log.test"), log, Scope::Exact),
            lists.insert_prefix(network, block, &Effect::default()),
        ] {
            added.expect("room");
        }
        let images = with_exception(lists);
        let sources = vec![
            source(
                "exception:x",
                Kind::Exception,
                Against::Named(vec!["block".to_owned()]),
            ),
            source("block", Kind::Block, Against::All),
            source("log", Kind::Block, Against::All),
        ];
        let view = View {
            lists: vec![list("block", Mode::Enforce), list("log", Mode::LogOnly)],
        };
        let snapshot = Snapshot::default().with_views(sources, images, &[view]);
        let view = snapshot.view(ViewId(1));
        let logged = |asked: &str, target: &str, address: [u8; 4]| {
            let (asked, chain) = (name(asked), [name(target)]);
            let later = view.decide(&asked).later_rules();
            let addresses = [address.into()].into_iter();
            let answer = view.decide_answer(&asked, later, chain.into_iter(), addresses);
            answer.logged.map(|logged| logged.source.name.as_str())
        };
        let (good, bad) = ([192, 0, 2, 1], [198, 51, 100, 1]);
        assert_eq!(logged("x.net", "both.test", good), None);
        assert_eq!(logged("free.test", "both.test", good), Some("log"));
        assert_eq!(logged("x.net", "log.test", good), Some("log"));
        assert_eq!(logged("x.net", "log.test", bad), None);
        assert_eq!(logged("free.test", "log.test", bad), Some("log"));
    }
}
