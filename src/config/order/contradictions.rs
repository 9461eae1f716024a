//! Finds contradictions in an order: a target excepts names (`except`), but another target of the same order blocks
//! them. The time grows linearly with the number of names.

use std::collections::HashMap;

use super::types::{Except, Target};
use crate::config::findings::Findings;
use crate::policy::rule::Scope;
use crate::wire::name::Name;

/// Reports each except that another target blocks; `lines` are the targets' lines.
pub(super) fn report(targets: &[Target], lines: &[u32], findings: &mut Findings) {
    if targets.iter().all(|target| target.except.is_empty()) {
        return;
    }
    let index = Index::new(targets);
    for (number, (target, line)) in targets.iter().zip(lines).enumerate() {
        let group = index.groups[number];
        if group != number {
            // A copy has the same contradictions as the first target of its group.
            continue;
        }
        for except in &target.except {
            if let Some(other) = index.other(except, group) {
                let (free, blocked) = (&except.name, &other.name);
                findings.report(
                    *line,
                    format!("except leaves {free} free, but the target {blocked} blocks there: correct one of them"),
                );
            }
        }
    }
}

/// The targets of an order by name. Equal targets form a group: a target does not contradict its copies.
struct Index<'t> {
    targets: &'t [Target],
    /// The group of each target: the first target that is equal to it.
    groups: Vec<usize>,
    /// The first two groups by name (in wire form) and scope. Two are enough, because a search skips at most one group,
    /// that of the except's own target.
    named: HashMap<(&'t [u8], Scope), [Option<usize>; 2]>,
    /// The groups sorted by key, so that names below a name are adjacent.
    sorted: Vec<(Vec<u8>, usize)>,
}

impl<'t> Index<'t> {
    fn new(targets: &'t [Target]) -> Self {
        let mut first = HashMap::new();
        let groups = targets.iter().enumerate();
        let groups: Vec<_> = groups
            .map(|(number, target)| *first.entry(target).or_insert(number))
            .collect();
        let mut named: HashMap<_, [Option<usize>; 2]> = HashMap::new();
        let mut sorted = Vec::new();
        for (number, target) in targets.iter().enumerate() {
            if groups[number] != number {
                continue;
            }
            let known = named.entry((target.name.wire(), target.scope)).or_default();
            if let Some(free) = known.iter_mut().find(|known| known.is_none()) {
                *free = Some(number);
            }
            sorted.push((key(&target.name), number));
        }
        sorted.sort_unstable();
        Self {
            targets,
            groups,
            named,
            sorted,
        }
    }

    /// A target outside the group `own` that blocks a name which the except leaves free.
    fn other(&self, except: &Except, own: usize) -> Option<&'t Target> {
        let above = self.above(&except.name, own);
        let found = above.or_else(|| self.below(except, own))?;
        Some(&self.targets[found])
    }

    /// A target outside the group `own` that covers `name`.
    fn above(&self, name: &Name, own: usize) -> Option<usize> {
        let at = name.label_count();
        let mut owners = (0..=at).flat_map(|labels| {
            let scopes: &[Scope] = match labels == at {
                true => &[Scope::Exact, Scope::Subtree],
                false => &[Scope::Subtree, Scope::Below],
            };
            scopes.iter().map(move |scope| (labels, *scope))
        });
        owners.find_map(|(labels, scope)| {
            let groups = self.named.get(&(name.ancestor(labels), scope))?;
            groups.iter().flatten().copied().find(|group| *group != own)
        })
    }

    /// A target outside the group `own` whose name the except covers.
    fn below(&self, except: &Except, own: usize) -> Option<usize> {
        let key = key(&except.name);
        let is_before = |other: &Vec<u8>| match except.scope {
            Scope::Exact | Scope::Subtree => *other < key,
            Scope::Below => *other <= key,
        };
        let start = self.sorted.partition_point(|(other, _)| is_before(other));
        let reaches = |other: &Vec<u8>| match except.scope {
            Scope::Exact => *other == key,
            Scope::Subtree | Scope::Below => other.starts_with(&key),
        };
        // Each group occurs once, so at least one of two is not `own`.
        let below = self.sorted[start..].iter().take(2);
        let mut below = below.take_while(|(other, _)| reaches(other));
        let found = below.find(|(_, group)| *group != own);
        found.map(|(_, group)| *group)
    }
}

/// The labels of a name from the root, each preceded by its length. Thus the key of a name is a prefix of the keys of
/// all names below it.
fn key(name: &Name) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.wire().len());
    for label in name.labels_from_root() {
        key.push(label.len() as u8);
        key.extend_from_slice(label);
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The model: compares every except with every target.
    fn simple<'t>(targets: &'t [Target], target: &Target, except: &Except) -> Option<&'t Target> {
        targets.iter().find(|other| {
            *other != target
                && (except.scope.reaches(&except.name, &other.name)
                    || other.scope.reaches(&other.name, &except.name))
        })
    }

    #[test]
    fn the_index_finds_a_contradiction_where_the_simple_search_does() {
        let scopes = [Scope::Exact, Scope::Subtree, Scope::Below];
        let names = ["a.b.c", "b.c", "c", "x.a.b.c", "xa.b.c", "d.c", "a.d.c"];
        let names = names.map(|name| Name::from_text(name).expect("a name"));
        let mut state = 1_u64;
        let mut random = |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as usize % below
        };
        let mut contradictions = 0;
        for _ in 0..2000 {
            let count = 1 + random(5);
            let mut targets: Vec<_> = (0..count)
                .map(|_| Target {
                    name: names[random(names.len())].clone(),
                    scope: scopes[random(3)],
                    except: (0..random(3))
                        .map(|_| Except {
                            name: names[random(names.len())].clone(),
                            scope: scopes[random(3)],
                        })
                        .collect(),
                })
                .collect();
            if random(2) == 0 {
                targets.push(targets[0].clone());
            }
            let index = Index::new(&targets);
            for (target, &group) in targets.iter().zip(&index.groups) {
                for except in &target.except {
                    let found = index.other(except, group);
                    let expected = simple(&targets, target, except);
                    assert_eq!(
                        found.is_some(),
                        expected.is_some(),
                        "{except:?} {targets:?}"
                    );
                    contradictions += usize::from(found.is_some());
                }
            }
        }
        assert!(
            contradictions > 100,
            "enough random names contradict each other"
        );
    }

    /// A number of targets with which a comparison of all pairs takes minutes.
    const MANY: usize = 50_000;

    fn name(text: &str) -> Name {
        Name::from_text(text).expect("a name")
    }

    /// A target that excepts all names below some names.
    fn target(owner: &str, scope: Scope, below: &[&str]) -> Target {
        let except = below.iter().map(|free| Except {
            name: name(free),
            scope: Scope::Below,
        });
        Target {
            name: name(owner),
            scope,
            except: except.collect(),
        }
    }

    /// The number of excepts that another target contradicts.
    fn contradictions(targets: &[Target]) -> usize {
        let index = Index::new(targets);
        let groups = targets.iter().zip(&index.groups);
        let excepts = groups.flat_map(|(target, group)| {
            let excepts = target.except.iter();
            excepts.map(move |except| (except, *group))
        });
        let excepts = excepts.filter(|(except, group)| index.other(except, *group).is_some());
        excepts.count()
    }

    #[test]
    fn a_search_at_a_name_with_very_many_targets_takes_few_steps() {
        // No target has a name below x.example. A search for such a target must not begin at x.example itself: it would
        // pass all targets of that name.
        let crowd = (0..MANY).map(|number| {
            target(
                "x.example",
                Scope::Below,
                &[&format!("a{number}.x.example")],
            )
        });
        let crowd: Vec<_> = crowd.collect();
        let copies = vec![target("example", Scope::Subtree, &["x.example"]); MANY];
        // Each except of the crowd is within the scope of all other targets of the crowd.
        let found = contradictions(&[&copies[..], &crowd].concat());
        assert_eq!(found, MANY);
        // The same with the names x.example and y.example. One target is below x.example, and is sorted after all
        // targets of x.example.
        let other = crowd[..MANY / 2].iter().map(|target| Target {
            name: name("y.example"),
            ..target.clone()
        });
        let other: Vec<_> = other.collect();
        let copies = vec![target("example", Scope::Subtree, &["y.example", "x.example"]); MANY];
        let below = [target("z.x.example", Scope::Exact, &[])];
        let found = contradictions(&[&copies[..], &crowd[..MANY / 2], &other, &below].concat());
        assert!(found >= MANY, "z.x.example contradicts each copy: {found}");
    }
}
