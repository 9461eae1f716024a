//! Owns all that can change while serving, and the decisions that follow from it.
//! Refuses to change: a new state is a new snapshot with a new generation.

use std::net::IpAddr;
use std::sync::Arc;

use super::clients::Clients;
use super::local::LocalZones;
use super::rule::{Action, Kind, Source};
use super::trie::{Found, Hit, Trie};
use crate::wire::name::Name;

/// The rules of one source.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Who says so.
    pub source: Arc<Source>,
    /// What it says.
    pub rules: Arc<Trie>,
}

/// A rule that decides, or would if no better one did.
#[derive(Clone, Copy, Debug)]
pub struct Matched<'s> {
    /// Which list.
    pub source: &'s Source,
    /// Which of its rules.
    pub hit: Hit,
}

/// What the policy says about a name.
#[derive(Clone, Copy, Debug)]
pub enum Decision<'s> {
    /// No rule speaks of it.
    Pass,
    /// An allow list speaks of it: it is answered truthfully, CNAMEs and all.
    Allowed(Matched<'s>),
    /// It is answered by the source's blocking.
    Blocked {
        /// The rule.
        by: Matched<'s>,
        /// Whether NXDOMAIN would be true of every name beneath, as RFC 8020 makes caches believe.
        nxdomain: bool,
    },
}

/// One generation of the policy.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts up with each one that is published; the first is 1.
    pub generation: u64,
    /// Who may ask.
    pub clients: Clients,
    /// Names that never go upstream.
    pub local: LocalZones,
    /// Answer to `version.bind`, class CH; without one it is refused.
    pub version: Option<String>,
    /// Answer to `id.server`, class CH; without one it is refused.
    pub id: Option<String>,
    /// In the order of precedence.
    layers: Vec<Layer>,
}

impl Default for Snapshot {
    /// Generation 0: nobody may ask, nothing is blocked.
    fn default() -> Self {
        Self {
            generation: 0,
            clients: Clients::default(),
            local: LocalZones::new(&[], true),
            version: None,
            id: None,
            layers: Vec::new(),
        }
    }
}

impl Snapshot {
    /// The same with these layers, given in the order of the configuration: allow lists come
    /// before block lists, else that order is the precedence.
    pub fn with_layers(mut self, mut layers: Vec<Layer>) -> Self {
        layers.sort_by_key(|layer| layer.source.kind != Kind::Allow);
        self.layers = layers;
        self
    }

    /// The layers in the order of precedence.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Whether `client` may ask at all.
    pub fn permits(&self, client: IpAddr) -> bool {
        self.clients.contains(client)
    }

    /// Decides on a name: the first layer that speaks of it wins. Never allocates.
    pub fn decide(&self, name: &Name) -> Decision<'_> {
        for (rank, layer) in self.layers.iter().enumerate() {
            let found = layer.rules.lookup(name);
            let Some(hit) = found.best else { continue };
            let by = Matched {
                source: &layer.source,
                hit,
            };
            return match layer.source.kind {
                Kind::Allow => Decision::Allowed(by),
                Kind::Block => Decision::Blocked {
                    by,
                    nxdomain: layer.source.blocking.action == Action::Nxdomain
                        && self.all_nxdomain_beneath(name, rank, found),
                },
            };
        }
        Decision::Pass
    }

    /// Decides on what upstream answered: the first name of the CNAME chain that is spoken of.
    /// Returns how many hops lead to it, with the decision; `Pass` when none is.
    pub fn decide_chain(&self, chain: impl Iterator<Item = Name>) -> (usize, Decision<'_>) {
        for (hop, name) in chain.enumerate() {
            let decision = self.decide(&name);
            if !matches!(decision, Decision::Pass) {
                return (hop + 1, decision);
            }
        }
        (0, Decision::Pass)
    }

    /// Every rule that matches, the deciding one first.
    pub fn explain(&self, name: &Name) -> Vec<Matched<'_>> {
        let mut all = Vec::new();
        for layer in &self.layers {
            let start = all.len();
            layer.rules.matches(name, |hit| {
                all.push(Matched {
                    source: &layer.source,
                    hit,
                });
            });
            all[start..].reverse();
        }
        all
    }

    /// Whether all names beneath `name` get NXDOMAIN, too. The first layer that speaks of all of
    /// them must say so, and those before it may have nothing else to say beneath.
    fn all_nxdomain_beneath(&self, name: &Name, rank: usize, found: Found) -> bool {
        let mut found = Some(found);
        for (index, layer) in self.layers.iter().enumerate() {
            let found = match found.take_if(|_| index == rank) {
                Some(found) => found,
                None => layer.rules.lookup(name),
            };
            let nxdomain = layer.source.kind == Kind::Block
                && layer.source.blocking.action == Action::Nxdomain;
            if (found.rules_beneath || found.covers_beneath) && !nxdomain {
                return false;
            }
            if found.covers_beneath {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::builder::Builder;
    use super::super::rule::{Blocking, Ede, Scope};
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_text(text).expect("a name")
    }

    fn layer(list: &str, kind: Kind, action: Action, rules: &[(&str, Scope)]) -> Layer {
        let mut builder = Builder::new();
        for (text, scope) in rules {
            builder.insert(&name(text), *scope).expect("room");
        }
        let blocking = Blocking {
            action,
            sinkhole_v4: Vec::new(),
            sinkhole_v6: Vec::new(),
            ttl_secs: 60,
            ede: Ede::Blocked,
            extra_text: list.to_owned(),
        };
        Layer {
            source: Arc::new(Source {
                name: list.to_owned(),
                path: list.into(),
                kind,
                blocking,
            }),
            rules: Arc::new(builder.finish()),
        }
    }

    fn block(list: &str, action: Action, rules: &[(&str, Scope)]) -> Layer {
        layer(list, Kind::Block, action, rules)
    }

    fn allow(list: &str, rules: &[(&str, Scope)]) -> Layer {
        layer(list, Kind::Allow, Action::Nodata, rules)
    }

    fn decided<'s>(snapshot: &'s Snapshot, text: &str) -> Option<(&'s str, bool)> {
        match snapshot.decide(&name(text)) {
            Decision::Pass => None,
            Decision::Allowed(by) => Some((&by.source.name, false)),
            Decision::Blocked { by, .. } => Some((&by.source.name, true)),
        }
    }

    fn nxdomain(layers: Vec<Layer>, text: &str) -> bool {
        match Snapshot::default().with_layers(layers).decide(&name(text)) {
            Decision::Blocked { nxdomain, .. } => nxdomain,
            other => panic!("not blocked: {other:?}"),
        }
    }

    const X: (&str, Scope) = ("x.test", Scope::Subtree);

    #[test]
    fn allow_lists_win_over_block_lists_whatever_their_place_and_depth() {
        let snapshot = Snapshot::default().with_layers(vec![
            block("ads", Action::Sinkhole, &[("deep.a.test", Scope::Exact)]),
            allow("good", &[("a.test", Scope::Subtree)]),
        ]);
        assert_eq!(decided(&snapshot, "deep.a.test"), Some(("good", false)));
    }

    #[test]
    fn among_block_lists_the_order_of_the_configuration_decides() {
        let one = block("one", Action::Sinkhole, &[X]);
        let two = block("two", Action::Refused, &[("a.x.test", Scope::Exact)]);
        let forth = Snapshot::default().with_layers(vec![one.clone(), two.clone()]);
        let back = Snapshot::default().with_layers(vec![two, one]);
        assert_eq!(decided(&forth, "a.x.test"), Some(("one", true)));
        assert_eq!(decided(&back, "a.x.test"), Some(("two", true)));
        assert_eq!(decided(&back, "b.x.test"), Some(("one", true)));
        assert_eq!(decided(&back, "y.test"), None);
    }

    #[test]
    fn every_matching_rule_is_explained_the_deciding_one_first() {
        let snapshot = Snapshot::default().with_layers(vec![
            block("ads", Action::Sinkhole, &[X, ("a.x.test", Scope::Exact)]),
            allow("good", &[("a.x.test", Scope::Exact)]),
        ]);
        let all = snapshot.explain(&name("a.x.test"));
        let told: Vec<_> = all
            .iter()
            .map(|m| (m.source.name.as_str(), m.hit.scope))
            .collect();
        let exact = Scope::Exact;
        assert_eq!(
            told,
            [("good", exact), ("ads", exact), ("ads", Scope::Subtree)]
        );
    }

    #[test]
    fn an_exact_rule_never_answers_nxdomain() {
        let exact = block("ads", Action::Nxdomain, &[("x.test", Scope::Exact)]);
        assert!(!nxdomain(vec![exact], "x.test"));
    }

    #[test]
    fn a_subtree_rule_answers_nxdomain_at_and_beneath_its_name() {
        let tree = block("ads", Action::Nxdomain, &[X]);
        assert!(nxdomain(vec![tree.clone()], "x.test"));
        assert!(nxdomain(vec![tree], "a.x.test"));
        let both = block("ads", Action::Nxdomain, &[X, ("x.test", Scope::Exact)]);
        assert!(
            nxdomain(vec![both], "x.test"),
            "the same list's exact rule changes nothing"
        );
    }

    #[test]
    fn nothing_beneath_a_name_may_be_decided_otherwise_for_nxdomain() {
        let tree = block("ads", Action::Nxdomain, &[X]);
        let good = allow("good", &[("ok.a.x.test", Scope::Exact)]);
        let layers = vec![tree.clone(), good];
        assert!(!nxdomain(layers.clone(), "x.test"));
        assert!(!nxdomain(layers.clone(), "a.x.test"));
        assert!(
            nxdomain(layers, "b.x.test"),
            "nothing else is said beneath b"
        );

        let sink = block("sink", Action::Sinkhole, &[("s.x.test", Scope::Exact)]);
        assert!(!nxdomain(vec![sink.clone(), tree.clone()], "x.test"));
        assert!(
            nxdomain(vec![tree, sink], "x.test"),
            "a later list never decides"
        );
    }

    #[test]
    fn a_second_list_may_make_an_exact_rules_nxdomain_true() {
        let exact = block("one", Action::Nxdomain, &[("x.test", Scope::Exact)]);
        let below = block("two", Action::Nxdomain, &[("x.test", Scope::Below)]);
        assert!(nxdomain(vec![exact.clone(), below], "x.test"));
        let sink = block("two", Action::Sinkhole, &[("x.test", Scope::Below)]);
        assert!(!nxdomain(vec![exact, sink], "x.test"));
    }

    #[test]
    fn the_first_name_of_a_chain_that_is_spoken_of_decides() {
        let snapshot = Snapshot::default().with_layers(vec![
            block("ads", Action::Sinkhole, &[("c.test", Scope::Exact)]),
            allow("good", &[("b.test", Scope::Exact)]),
        ]);
        let chain = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|n| name(n)).collect();
            let (hops, decision) = snapshot.decide_chain(names.into_iter());
            (hops, matches!(decision, Decision::Blocked { .. }))
        };
        assert_eq!(chain(&["a.test", "c.test"]), (2, true));
        assert_eq!(chain(&["b.test", "c.test"]), (1, false), "allowed ends it");
        assert_eq!(chain(&["a.test"]), (0, false));
    }
}
