//! Reads the rules on names of the lists in force, from a base and from a delta that replaces or amends some lists.

use super::effect::Effect;
use super::image::cursor::Cursor;
use super::image::path::Path;
use super::image::values::ImageRule;
use super::image::walk::Position;
use super::image::{Image, ImageError};
use super::images::Images;
use super::prefix::Prefix;
use super::rule::Scope;
use crate::wire::name::Name;

/// Iterates over names, each with the rules that some lists have on it. A name may come twice, but each list has rules on
/// it only once. The names are in no order.
pub struct RuleCursor<'i> {
    delta: Option<&'i Image>,
    /// The images that are not read to their ends. The last one is read first.
    parts: Vec<Part<'i>>,
    /// The rules on the current name.
    rules: Vec<ListRule<'i>>,
    damage: Option<ImageError>,
}

/// Looks up the rules that some lists have on names and on those above them.
pub(super) struct RuleLookup<'i> {
    delta: Option<&'i Image>,
    parts: Vec<Part<'i>>,
    /// A buffer for the rules on one name.
    rules: Vec<ListRule<'i>>,
}

/// A rule of a list on a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListRule<'i> {
    /// The name of the list.
    pub list: &'i str,
    /// The names that the rule matches.
    pub scope: Scope,
    /// Its effect.
    pub effect: &'i Effect,
}

/// An image that is read.
struct Part<'i> {
    image: &'i Image,
    cursor: Cursor<&'i Image>,
    /// By source of the image.
    sources: Vec<Validity>,
}

/// Which rules of a source in an image are in force.
#[derive(Clone, Copy)]
enum Validity {
    None,
    All,
    /// All but those on names on which this source of the delta has a mark.
    Unvoided(u16),
}

impl Images {
    /// A cursor over the rules of those lists in force that `selects` selects, before the first name.
    pub fn rule_cursor(&self, selects: impl Fn(&str) -> bool) -> RuleCursor<'_> {
        RuleCursor {
            delta: self.delta.as_deref(),
            parts: self.parts(selects),
            rules: Vec::new(),
            damage: None,
        }
    }

    /// Looks up the rules of those lists in force that `selects` selects.
    pub(super) fn rule_lookup(&self, selects: impl Fn(&str) -> bool) -> RuleLookup<'_> {
        RuleLookup {
            delta: self.delta.as_deref(),
            parts: self.parts(selects),
            rules: Vec::new(),
        }
    }

    /// The images with rules of those lists in force that `selects` selects; the delta is the first.
    fn parts(&self, selects: impl Fn(&str) -> bool) -> Vec<Part<'_>> {
        let counts = |list: &str| selects(list) && !self.gone.contains(list);
        let part = |image, validity: &dyn Fn(&str) -> Validity| {
            let image: &Image = image;
            let sources = image.provenance().sources.iter();
            let sources: Vec<_> = sources
                .map(|source| match counts(&source.name) {
                    true => validity(&source.name),
                    false => Validity::None,
                })
                .collect();
            // An image without such rules is not read at all.
            let is_needed = sources
                .iter()
                .any(|source| !matches!(source, Validity::None));
            is_needed.then(|| Part {
                image,
                cursor: image.cursor(),
                sources,
            })
        };
        let delta = self.delta.as_deref();
        let in_base = |list: &str| match delta.and_then(|delta| number(delta, list)) {
            Some(amended) if self.is_amended(list) => Validity::Unvoided(amended),
            Some(_) => Validity::None,
            None => Validity::All,
        };
        let parts = [
            delta.and_then(|delta| part(delta, &|_| Validity::All)),
            self.base.as_deref().and_then(|base| part(base, &in_base)),
        ];
        parts.into_iter().flatten().collect()
    }

    /// The rules in force that `list` has on exactly this name.
    pub fn rules_on(&self, name: &Name, list: &str) -> Vec<ListRule<'_>> {
        let mut rules = self.rules_on_each(&[name], list);
        rules.pop().unwrap_or_default()
    }

    /// The rules in force that `list` has on exactly each of these names. Names that are looked up together take less time.
    pub fn rules_on_each(&self, names: &[&Name], list: &str) -> Vec<Vec<ListRule<'_>>> {
        let mut rules = vec![Vec::new(); names.len()];
        if self.gone.contains(list) {
            return rules;
        }
        let mut in_base: Vec<usize> = (0..names.len()).collect();
        if let Some(delta) = &self.delta
            && let Some(source) = number(delta, list)
        {
            let mut is_void = vec![!self.is_amended(list); names.len()];
            on_each(delta, source, names, |which, rule| {
                match rule.effect.is_void() {
                    true => is_void[which] |= rule.scope == Scope::Exact,
                    false => rules[which].push(rule),
                }
            });
            in_base.retain(|which| !is_void[*which]);
        }
        if let Some(base) = &self.base
            && let Some(source) = number(base, list)
        {
            let names: Vec<&Name> = in_base.iter().map(|which| names[*which]).collect();
            on_each(base, source, &names, |which, rule| {
                rules[in_base[which]].push(rule);
            });
        }
        rules
    }

    /// Whether the delta has a mark that voids the rules of `list` in the base on exactly this name.
    pub(super) fn is_voided(&self, name: &Name, list: &str) -> bool {
        let delta = self.delta.as_deref();
        let source = delta.and_then(|delta| Some((delta, number(delta, list)?)));
        source.is_some_and(|(delta, source)| is_voided(delta, source, name))
    }

    /// The rules on networks in force that `list` has, sorted by network.
    pub fn networks(&self, list: &str) -> Vec<(Prefix, &Effect)> {
        let Some((image, _)) = self.find(list).filter(|_| !self.gone.contains(list)) else {
            return Vec::new();
        };
        let clauses = image.clauses();
        let sources = &image.provenance().sources;
        let is_own = |clause: u32| sources[usize::from(clauses.get(clause).source)].name == list;
        let prefixes = image.triggers().prefixes().iter();
        let own = prefixes.filter(|(_, clause)| is_own(*clause));
        own.map(|(prefix, clause)| (*prefix, clauses.effect(*clause)))
            .collect()
    }
}

impl<'i> RuleCursor<'i> {
    /// Advances to the next name on which some of the lists have rules. Returns whether there is one.
    pub fn advance(&mut self) -> bool {
        while let Some(part) = self.parts.last_mut() {
            while part.cursor.advance() {
                self.rules.clear();
                let on = || Some(Path::of(part.cursor.path()).to_name());
                part.read(self.delta, part.cursor.rules(), on, &mut self.rules);
                if !self.rules.is_empty() {
                    return true;
                }
            }
            self.damage = self.damage.or(part.cursor.damage());
            self.parts.pop();
        }
        self.rules.clear();
        false
    }

    /// The path of the name: its labels from the root down, each after its length byte.
    pub fn path(&self) -> &[u8] {
        self.parts.last().map_or(&[], |part| part.cursor.path())
    }

    /// The rules of the lists on the name.
    pub fn rules(&self) -> &[ListRule<'i>] {
        &self.rules
    }

    /// The first error that ended the iteration over an image early.
    pub fn damage(&self) -> Option<ImageError> {
        self.damage
    }
}

impl<'i> RuleLookup<'i> {
    /// Calls `found` with each rule on one of these names or on a name above it: the number of the name, whether the rule is on
    /// the name itself, and the rule.
    pub(super) fn each(
        &mut self,
        names: &[&Name],
        mut found: impl FnMut(usize, bool, ListRule<'i>),
    ) {
        for part in &self.parts {
            part.image.walk(names, |which, position, labels, value| {
                if position == Position::Below {
                    return;
                }
                self.rules.clear();
                let on = || {
                    Name::parse(names[which].ancestor(labels), 0)
                        .ok()
                        .map(|(name, _)| name)
                };
                let rules = part.image.value(value).rules();
                part.read(self.delta, rules, on, &mut self.rules);
                for rule in &self.rules {
                    found(which, position == Position::At, *rule);
                }
            });
        }
    }
}

impl<'i> Part<'i> {
    /// Appends those of the rules on a name that are in force.
    fn read(
        &self,
        delta: Option<&Image>,
        rules: impl Iterator<Item = ImageRule>,
        on: impl Fn() -> Option<Name>,
        into: &mut Vec<ListRule<'i>>,
    ) {
        // Only names on which an amended list has rules are looked up in the delta.
        let mut name = None;
        for rule in rules {
            let source = self.image.source_of(rule);
            let is_valid = match self.sources[usize::from(source)] {
                Validity::None => false,
                Validity::All => true,
                Validity::Unvoided(source) => delta.is_none_or(|delta| {
                    let name = name.get_or_insert_with(&on).as_ref();
                    !name.is_some_and(|name| is_voided(delta, source, name))
                }),
            };
            let effect = self.image.clauses().effect(rule.clause);
            if is_valid && !effect.is_void() {
                into.push(ListRule {
                    list: &self.image.provenance().sources[usize::from(source)].name,
                    scope: rule.scope,
                    effect,
                });
            }
        }
    }
}

/// The number of a list in an image.
fn number(image: &Image, list: &str) -> Option<u16> {
    let mut sources = image.provenance().sources.iter();
    let place = sources.position(|source| source.name == list)?;
    Some(place as u16)
}

/// Whether a delta has a mark that voids the rules of a source on exactly this name.
fn is_voided(delta: &Image, source: u16, name: &Name) -> bool {
    let mut is_voided = false;
    on_each(delta, source, &[name], |_, rule| {
        is_voided |= rule.scope == Scope::Exact && rule.effect.is_void();
    });
    is_voided
}

/// Calls `found` with the rules and marks of a source in one image on exactly each of these names, and the number of the
/// name.
fn on_each<'i>(
    image: &'i Image,
    source: u16,
    names: &[&Name],
    mut found: impl FnMut(usize, ListRule<'i>),
) {
    let list = &*image.provenance().sources[usize::from(source)].name;
    image.walk(names, |which, position, _, value| {
        if position != Position::At {
            return;
        }
        for rule in image.value(value).rules() {
            if image.source_of(rule) == source {
                let (scope, effect) = (rule.scope, image.clauses().effect(rule.clause));
                found(
                    which,
                    ListRule {
                        list,
                        scope,
                        effect,
                    },
                );
            }
        }
    });
}
