//! Finds the rule that decides about a name among all images of a snapshot.

use std::sync::Arc;

use super::image::Image;
use super::image::walk::{BATCH, Position};
use super::images::Images;
use super::prefilter::Prefilter;
use super::ranking::{
    Hit, LookupResult, MAX_RANKED, NO_RANK, NONE, Rank, RankTraits, RankedImage, hit, weight,
};
use super::rule::Scope;
use crate::wire::name::{MAX_LABELS, Name};

/// The rules of a snapshot.
#[derive(Debug, Default)]
pub struct Rules {
    base: Option<RankedImage>,
    delta: Option<Overlay>,
    orders: Option<Overlay>,
    traits: RankTraits,
}

impl Rules {
    /// The rules of `images`. `rank` returns the rank of a source, 0 being the best, or `None` if it is not
    /// configured.
    ///
    /// # Panics
    /// If a rank is [`MAX_RANKED`] or above.
    pub fn new(images: Images, rank: impl Fn(&str) -> Option<usize>, traits: RankTraits) -> Self {
        let Images {
            base,
            delta,
            orders,
            // Removed lists have no rank.
            gone: _,
        } = images;
        let is_whole = |name: &str| {
            let delta = delta.iter().flat_map(|delta| &delta.provenance().sources);
            delta
                .into_iter()
                .any(|source| source.whole && source.name == name)
        };
        let ranks = |image: &Image, is_replaced: &dyn Fn(&str) -> bool| {
            let sources = image.provenance().sources.iter();
            let rank = |name: &str| match rank(name) {
                None => NO_RANK,
                Some(rank) => {
                    assert!(
                        rank < MAX_RANKED,
                        "a snapshot ranks at most MAX_RANKED sources"
                    );
                    rank as Rank
                }
            };
            let of = |name: &str| {
                if is_replaced(name) {
                    NO_RANK
                } else {
                    rank(name)
                }
            };
            sources.map(|source| of(&source.name)).collect::<Vec<_>>()
        };
        let base = base.map(|image| {
            let ranks = ranks(&image, &is_whole);
            RankedImage::new(image, ranks, &traits)
        });
        let overlay = |image: Arc<Image>| {
            let ranks = ranks(&image, &|_| false);
            Overlay {
                prefilter: Prefilter::new(&image),
                ranked: RankedImage::new(image, ranks, &traits),
            }
        };
        Self {
            base,
            delta: delta.map(overlay),
            orders: orders.map(overlay),
            traits,
        }
    }

    /// Looks up a batch of names: `found[i]` is set to the result for `names[i]`. Never allocates.
    ///
    /// # Panics
    /// If the slices differ in length.
    #[inline]
    pub fn lookup(&self, names: &[&Name], found: &mut [LookupResult]) {
        assert_eq!(names.len(), found.len(), "one result for each name");
        found.fill(LookupResult::default());
        if let Some(base) = &self.base {
            base.merge_into(names, found, |which| which, || ());
        }
        // The orders come last: if they have an exception, all rules of the name are evaluated again.
        for overlay in self.delta.iter().chain(&self.orders) {
            for (names, found) in names.chunks(BATCH).zip(found.chunks_mut(BATCH)) {
                self.lookup_overlay(overlay, names, found);
            }
        }
    }

    /// Looks up the target of a CNAME chain that starts at `asked`. Rules that the exceptions of `asked`
    /// suppress do not count.
    pub fn lookup_target(&self, asked: &Name, name: &Name) -> LookupResult {
        let mut found = LookupResult::default();
        self.lookup(&[name], std::slice::from_mut(&mut found));
        self.evaluate_with_exceptions(name, Some(asked), &mut found);
        found
    }

    /// Merges the rules of the delta or of the orders image into the results. The prefilter rejects most names.
    #[inline]
    fn lookup_overlay(&self, overlay: &Overlay, names: &[&Name], found: &mut [LookupResult]) {
        let mut some = [&Name::ROOT; BATCH];
        let mut places = [0_u8; BATCH];
        let mut count = 0;
        for (place, &name) in names.iter().enumerate() {
            some[count % BATCH] = name;
            places[count % BATCH] = place as u8;
            count += usize::from(
                overlay
                    .prefilter
                    .may_match(overlay.ranked.image.key(), name),
            );
        }
        if count == 0 {
            return;
        }
        let place = |which: usize| usize::from(places[which % BATCH]);
        let mut overridden = false;
        overlay
            .ranked
            .merge_into(&some[..count], found, place, || overridden = true);
        if overridden {
            for which in 0..count {
                self.evaluate_with_exceptions(some[which], None, &mut found[place(which)]);
            }
        }
    }

    /// Evaluates the name's rules one by one, without those that an exception suppresses. `found.other` does not show
    /// which of the rules below are suppressed. The effect of this imprecision can only be NODATA instead of NXDOMAIN,
    /// or that the names below do not count as all blocked. Exceptions that match `asked` apply to `name` as well.
    #[cold]
    fn evaluate_with_exceptions(
        &self,
        name: &Name,
        asked: Option<&Name>,
        found: &mut LookupResult,
    ) {
        let orders = self.orders.as_ref().map(|orders| &orders.ranked);
        let asked = asked.map(|asked| AncestorRules::new(orders, asked));
        let orders = AncestorRules::new(orders, name);
        (found.best, found.cover, found.excepted) = (NONE, NO_RANK, NONE);
        let mut evaluate = |position, labels, rank, scope| {
            if self.traits.suppresses(rank).is_some() {
                // Rules on names below may be suppressed, too.
                found.other = 0;
                if matches(position, scope) {
                    found.excepted = found.excepted.min(weight(rank, labels, scope));
                }
                return;
            }
            let mut ancestors = asked.iter().chain([&orders]);
            if ancestors.any(|ancestors| self.is_suppressed(ancestors, rank)) {
                return;
            }
            if matches(position, scope) {
                found.best = found.best.min(weight(rank, labels, scope));
            }
            if scope != Scope::Exact {
                found.cover = found.cover.min(rank);
            }
        };
        for image in self.images() {
            AncestorRules::new(Some(image), name).each(&mut evaluate);
        }
    }

    /// All rules that match a name, best first. Allocates; used for explanations.
    pub fn matching(&self, name: &Name) -> Vec<Hit> {
        let mut weights = Vec::new();
        for image in self.images() {
            AncestorRules::new(Some(image), name).each(|position, labels, rank, scope| {
                if matches(position, scope) {
                    weights.push(weight(rank, labels, scope));
                }
            });
        }
        weights.sort_unstable();
        weights.into_iter().map(hit).collect()
    }

    fn images(&self) -> impl Iterator<Item = &RankedImage> {
        let overlays = self.delta.iter().chain(&self.orders);
        self.base
            .iter()
            .chain(overlays.map(|overlay| &overlay.ranked))
    }

    /// Whether an exception on the name or on an ancestor matches the name and suppresses `rank`.
    fn is_suppressed(&self, orders: &AncestorRules<'_>, rank: Rank) -> bool {
        let mut suppressed = false;
        orders.each(|position, _, exception, scope| {
            suppressed |= matches(position, scope) && self.suppresses(exception, rank);
        });
        suppressed
    }

    fn suppresses(&self, exception: Rank, rank: Rank) -> bool {
        let against = self.traits.suppresses(exception);
        against.is_some_and(|ranks| ranks.binary_search(&(rank as usize)).is_ok())
    }
}

/// The values of a name and of its ancestors in one image.
struct AncestorRules<'r> {
    image: Option<&'r RankedImage>,
    /// Position, number of labels, value: at most one entry for each label of the name, and one for the root.
    entries: [(Position, u8, u32); MAX_LABELS + 1],
    count: usize,
}

impl<'r> AncestorRules<'r> {
    fn new(image: Option<&'r RankedImage>, name: &Name) -> Self {
        let mut ancestors = Self {
            image,
            entries: [(Position::Below, 0, 0); MAX_LABELS + 1],
            count: 0,
        };
        if let Some(ranked) = ancestors.image {
            ranked.image.walk(&[name], |_, position, labels, value| {
                if position != Position::Below {
                    ancestors.entries[ancestors.count] = (position, labels as u8, value);
                    ancestors.count += 1;
                }
            });
        }
        ancestors
    }

    /// Calls `each` with every ranked rule.
    fn each(&self, mut each: impl FnMut(Position, usize, Rank, Scope)) {
        let Some(ranked) = self.image else { return };
        for &(position, labels, value) in &self.entries[..self.count] {
            for rule in ranked.image.value(value).rules() {
                let rank = ranked.rank(rule.source);
                if rank != NO_RANK {
                    each(position, labels.into(), rank, rule.scope);
                }
            }
        }
    }
}

/// Whether a rule of this scope matches the looked-up name, given the position of the rule's name.
fn matches(position: Position, scope: Scope) -> bool {
    match position {
        Position::Above => scope != Scope::Exact,
        Position::At => scope != Scope::Below,
        Position::Below => false,
    }
}

/// A small image that is looked up in addition to the base.
#[derive(Debug)]
struct Overlay {
    ranked: RankedImage,
    prefilter: Prefilter,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::builder::Builder;
    use super::super::image::layout::HEADER;
    use super::super::image::provenance::ImageSource;
    use super::super::image::tests::changed;
    use super::*;
    use crate::policy::image::tests::named;

    const LISTS: [&str; 3] = ["one", "two", "three"];
    /// Whether each list answers NXDOMAIN.
    const NXDOMAIN: [bool; 3] = [true, false, true];

    /// List, name, scope.
    type Rule = (usize, Vec<u8>, u8);

    /// The model that lookups are compared with: a set of all rules, searched from end to end.
    #[derive(Debug, Default)]
    struct Model(BTreeSet<Rule>);

    fn scope(number: u8) -> Scope {
        [Scope::Exact, Scope::Below, Scope::Subtree][usize::from(number)]
    }

    impl Model {
        fn best(&self, name: &Name) -> Option<Hit> {
            let depth = name.label_count();
            let hits = self.0.iter().filter_map(|(list, owner, number)| {
                let (owner, _) = Name::parse(owner, 0).expect("a name");
                let labels = owner.label_count();
                let applies = match scope(*number) {
                    Scope::Exact => labels == depth,
                    Scope::Below => labels < depth,
                    Scope::Subtree => labels <= depth,
                };
                let above = labels <= depth && name.ancestor(labels) == owner.wire();
                (applies && above).then_some((*list, usize::MAX - labels, *number))
            });
            hits.min().map(|(source, depth, number)| Hit {
                source,
                scope: scope(number),
                labels: (usize::MAX - depth) as u8,
            })
        }

        /// Whether all names below are answered NXDOMAIN, by the definition of RFC 8020.
        fn is_all_nxdomain_below(&self, name: &Name) -> bool {
            let depth = name.label_count();
            let (mut covers, mut others) = (BTreeSet::new(), BTreeSet::new());
            for (list, owner, number) in &self.0 {
                let (owner, _) = Name::parse(owner, 0).expect("a name");
                let labels = owner.label_count();
                let covering = scope(*number) != Scope::Exact;
                if labels <= depth && name.ancestor(labels) == owner.wire() && covering {
                    covers.insert(*list);
                }
                if labels > depth && owner.ancestor(depth) == name.wire() && !NXDOMAIN[*list] {
                    others.insert(*list);
                }
            }
            let Some(first) = covers.first() else {
                return false;
            };
            NXDOMAIN[*first] && others.iter().all(|other| other > first)
        }
    }

    fn image(rules: &BTreeSet<Rule>, whole: [bool; 3]) -> Arc<Image> {
        let mut builder = Builder::new();
        for (name, whole) in LISTS.into_iter().zip(whole) {
            let source = ImageSource {
                whole,
                ..ImageSource::named(name)
            };
            builder.source(source).expect("room");
        }
        for (list, owner, number) in rules {
            let (owner, _) = Name::parse(owner, 0).expect("a name");
            builder
                .insert(&owner, *list as u16, scope(*number))
                .expect("room");
        }
        Arc::new(builder.finish().expect("room"))
    }

    fn rules(base: &BTreeSet<Rule>, delta: Option<Arc<Image>>) -> Rules {
        let base = image(base, [false; 3]);
        let rank = |name: &str| LISTS.iter().position(|list| *list == name);
        let images = Images {
            base: Some(base),
            delta,
            ..Images::default()
        };
        Rules::new(images, rank, nxdomain(&NXDOMAIN))
    }

    fn nxdomain(ranks: &[bool]) -> RankTraits {
        RankTraits {
            nxdomain: ranks.to_vec(),
            suppressed: Vec::new(),
        }
    }

    /// Few labels, so that names often collide, nest and share ancestors.
    fn names() -> impl Strategy<Value = Name> {
        let label = prop_oneof![
            6 => prop::sample::select(vec!["a", "b", "aa", "com", "x-y", "_t"]).prop_map(str::to_owned),
            1 => prop::collection::vec(any::<u8>(), 1..4)
                .prop_map(|bytes| bytes.iter().map(|o| format!("\\{o:03}")).collect()),
            1 => Just("z".repeat(63)),
        ];
        prop::collection::vec(label, 0..6).prop_map(|labels| named(&labels))
    }

    fn sets(size: usize) -> impl Strategy<Value = BTreeSet<Rule>> {
        let rule = (0..3_usize, names(), 0..3_u8)
            .prop_map(|(list, name, scope)| (list, name.wire().to_vec(), scope));
        prop::collection::btree_set(rule, 0..size)
    }

    fn compare(rules: &Rules, model: &Model, names: &[&Name]) -> Result<(), TestCaseError> {
        let mut found = vec![LookupResult::default(); names.len()];
        rules.lookup(names, &mut found);
        for (name, found) in names.iter().zip(found) {
            let mut alone = [LookupResult::default()];
            rules.lookup(&[name], &mut alone);
            prop_assert_eq!(found, alone[0], "{} in a batch", name);
            // Several rules of one list may decide alike; the image keeps one of them.
            let best = |hit: Option<Hit>| hit.map(|hit| hit.source);
            prop_assert_eq!(best(found.best()), best(model.best(name)), "{}", name);
            let nxdomain = found.is_all_nxdomain_below(|rank| NXDOMAIN[rank]);
            prop_assert_eq!(
                nxdomain,
                model.is_all_nxdomain_below(name),
                "{} below",
                name
            );
        }
        Ok(())
    }

    fn all<'n>(asked: &'n [Name], owners: &'n [Name]) -> Vec<&'n Name> {
        asked.iter().chain(owners).collect()
    }

    fn owners<'r>(rules: impl Iterator<Item = &'r Rule>) -> Vec<Name> {
        rules
            .map(|(_, owner, _)| Name::parse(owner, 0).expect("a name").0)
            .collect()
    }

    proptest! {
        #[test]
        fn image_and_model_never_differ(
            set in sets(80),
            asked in prop::collection::vec(names(), 1..60),
        ) {
            let owners = owners(set.iter());
            compare(&rules(&set, None), &Model(set), &all(&asked, &owners))?;
        }

        #[test]
        fn a_delta_adds_and_replaces_whole_lists(
            base in sets(60),
            added in sets(20),
            whole in any::<[bool; 3]>(),
            asked in prop::collection::vec(names(), 1..60),
        ) {
            let kept = base.iter().filter(|rule| !whole[rule.0]);
            let model = Model(kept.chain(&added).cloned().collect());
            let owners = owners(base.iter().chain(&added));
            let delta = image(&added, whole);
            compare(&rules(&base, Some(delta)), &model, &all(&asked, &owners))?;
        }
    }

    #[test]
    fn rules_of_a_list_without_a_rank_do_not_count() {
        let name = Name::from_text("a.test").expect("a name");
        let set = BTreeSet::from([(0, name.wire().to_vec(), 2), (1, name.wire().to_vec(), 2)]);
        let base = image(&set, [false; 3]);
        let rank = |list: &str| (list == "two").then_some(0);
        let rules = Rules::new(base.into(), rank, nxdomain(&[false]));
        let mut found = [LookupResult::default()];
        rules.lookup(&[&name], &mut found);
        assert_eq!(found[0].best().map(|hit| hit.source), Some(0));
        let base = rules.base.expect("it has one").image;
        let rules = Rules::new(base.into(), |_| None, nxdomain(&[]));
        rules.lookup(&[&name], &mut found);
        assert_eq!(found[0].best(), None);
    }

    #[test]
    fn a_damaged_delta_is_searched_for_every_name() {
        let names: Vec<_> = (0..200).map(|n| format!("a{n}.n{}.test", n % 40)).collect();
        let names: Vec<_> = names
            .iter()
            .filter_map(|n| Name::from_text(n).ok())
            .collect();
        let set = names.iter().map(|name| (0, name.wire().to_vec(), 2));
        let intact = image(&set.collect(), [false; 3]);
        let names: Vec<_> = names.iter().collect();
        let look = |base, delta| {
            let images = Images {
                base,
                delta,
                ..Images::default()
            };
            let rules = Rules::new(images, |_| Some(0), nxdomain(&[true]));
            let mut found = vec![LookupResult::default(); names.len()];
            rules.lookup(&names, &mut found);
            found
        };
        let mut damaged = 0;
        for at in 0..400 {
            let Ok(image) = changed(&intact, |bytes| bytes[HEADER + 8 + at] ^= 1) else {
                continue;
            };
            let image = Arc::new(image);
            let mut cursor = image.cursor();
            while cursor.advance() {}
            damaged += usize::from(cursor.damage().is_some());
            assert!(look(None, Some(image.clone())) == look(Some(image), None));
        }
        assert!(damaged > 0);
    }
}
