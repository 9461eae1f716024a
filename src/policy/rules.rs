//! Finds the rule that decides about a name among all images of a snapshot.

use std::collections::HashSet;
use std::sync::Arc;

use super::effect::{Effect, Tier};
use super::evaluation::{Evaluation, IgnoredSources, RankedPatterns};
use super::image::Image;
use super::image::walk::{BATCH, Position};
use super::images::Images;
use super::prefilter::Prefilter;
use super::ranking::{LOOK, LookupResult};
use super::ranks::{
    CONDITIONAL, ClauseRanks, ClauseVerdict, LOGS, OVERRIDES, RankedValue, Ranks, TierRank,
};
use super::view::{LookupKey, ViewId};
use super::zone_flags::HIDES;
use crate::wire::name::Name;

/// The rules of a snapshot, in all views.
#[derive(Debug, Default)]
pub struct Rules {
    base: Option<RankedImage>,
    delta: Option<Overlay>,
    /// Its clauses have the same ranks in all views.
    orders: Option<Overlay>,
    /// The patterns of each view, the default one first.
    views: Vec<RankedPatterns>,
    /// For each exception, the sorted indices of the sources that it suppresses; `None` for an exception against
    /// everything. Indexed by the source of the exception. Empty if all exceptions are against everything.
    suppressed: Vec<Option<Box<[usize]>>>,
    /// The sources that the delta amends.
    amended: HashSet<u32>,
    has_patterns: bool,
}

#[derive(Debug)]
struct RankedImage {
    image: Arc<Image>,
    clauses: ClauseRanks,
}

impl RankedImage {
    fn new(image: Arc<Image>, verdict: impl Fn(&str, &Effect) -> Option<ClauseVerdict>) -> Self {
        Self {
            clauses: ClauseRanks::new(&image, verdict),
            image,
        }
    }
}

/// A small image that is looked up in addition to the base.
#[derive(Debug)]
struct Overlay {
    ranked: RankedImage,
    prefilter: Prefilter,
}

impl Rules {
    /// The rules of `images`. They have no view until [`add_view`](Self::add_view) adds one. `suppressed` are the
    /// sources that each exception suppresses, sorted; `None` for one against everything. `verdict` returns the verdict
    /// of the clause with this source and effect, or `None` if the source is not configured.
    pub(super) fn new(
        images: Images,
        mut suppressed: Vec<Option<Box<[usize]>>>,
        verdict: impl Fn(&str, &Effect) -> Option<ClauseVerdict>,
    ) -> Self {
        // Tens of thousands of exceptions against everything need not be looked at again for each name.
        if suppressed.iter().all(Option::is_none) {
            suppressed.clear();
        }
        let Images {
            base,
            delta,
            orders,
            // Removed lists have no rank.
            gone: _,
        } = images;
        let overlay = |image: Arc<Image>, prefilter| Overlay {
            prefilter,
            ranked: RankedImage::new(image, &verdict),
        };
        let in_delta = delta.iter().flat_map(|delta| &delta.provenance().sources);
        let (amended, replaced) = in_delta.partition::<Vec<_>, _>(|source| source.amends);
        let source = |name: &str| Some(verdict(name, &Effect::default())?.source);
        let amended = amended.iter().filter_map(|amended| source(&amended.name));
        let amended: HashSet<_> = amended.collect();
        let replaced: HashSet<_> = replaced.iter().map(|source| source.name.clone()).collect();
        let kept = |name: &str, effect: &Effect| match replaced.contains(name) {
            true => None,
            false => verdict(name, effect),
        };
        // A wildcard on the root does not match names below a top-level label that an amendment adds.
        let has_root = base.as_ref().is_some_and(|base| base.has_rules_on_root());
        let is_root_amended = has_root && !amended.is_empty();
        let base = base.map(|base| RankedImage::new(base, kept));
        let mut rules = Self {
            base,
            delta: delta.map(|delta| {
                let prefilter = match is_root_amended {
                    true => Prefilter::of_all_names(),
                    false => Prefilter::new(&delta),
                };
                overlay(delta, prefilter)
            }),
            orders: orders.map(|orders| {
                let prefilter = Prefilter::new(&orders);
                overlay(orders, prefilter)
            }),
            views: Vec::new(),
            suppressed,
            amended,
            has_patterns: false,
        };
        let images = rules.all_images();
        let mut groups = images
            .iter()
            .flatten()
            .map(|ranked| ranked.image.pattern_groups());
        rules.has_patterns = groups.any(|groups| !groups.is_empty());
        rules
    }

    /// Adds a view, the default one first. `rank` returns the rank and flags that the rules of a source in a tier have
    /// in the view, given the index of the source in the snapshot.
    pub(super) fn add_view(&mut self, rank: impl Fn(u32, Tier) -> TierRank) {
        let view = ViewId(self.views.len() as u16);
        let base = self.base.as_mut();
        let delta = self.delta.as_mut().map(|delta| &mut delta.ranked);
        let orders = self.orders.as_mut().map(|orders| &mut orders.ranked);
        let orders = orders.filter(|_| view == ViewId::DEFAULT);
        for ranked in [base, delta, orders].into_iter().flatten() {
            ranked.clauses.add_view(&ranked.image, &rank);
        }
        let patterns = RankedPatterns::new(self.images_in(view), &self.amended);
        self.views.push(patterns);
    }

    /// The rules of `images` in one view, without regard to effects. `rank` returns the rank of a source, 0 being the
    /// best, or `None` if it is not configured. `nxdomain` returns whether the source of a rank answers NXDOMAIN. The
    /// verdict of a hit is the rank.
    pub fn by_rank(
        images: Images,
        rank: impl Fn(&str) -> Option<usize>,
        nxdomain: impl Fn(usize) -> bool,
    ) -> Self {
        let mut rules = Self::new(images, Vec::new(), |name, _| {
            let rank = rank(name)? as u32;
            Some(ClauseVerdict {
                source: rank,
                verdict: rank,
                overrides: false,
            })
        });
        rules.add_view(|source, _| TierRank::new(source, nxdomain(source as usize), false));
        rules
    }

    /// Looks up a batch of names in the default view, for queries of type A: `found[i]` is set to the result for `names[i]`.
    /// Allocates only if more than four rules of exceptions match a name, or if the condition of a rule with a pattern does
    /// not hold.
    ///
    /// # Panics
    /// If the slices differ in length.
    #[inline]
    pub fn lookup(&self, names: &[&Name], found: &mut [LookupResult]) {
        self.lookup_by(names, |_| LookupKey::default(), found);
    }

    /// Like [`lookup`](Self::lookup), with a view and a type for each name.
    ///
    /// # Panics
    /// If the slices differ in length.
    #[inline]
    pub fn lookup_in(&self, names: &[&Name], keys: &[LookupKey], found: &mut [LookupResult]) {
        assert_eq!(names.len(), keys.len(), "one key for each name");
        self.lookup_by(names, |which| keys[which], found);
    }

    #[inline]
    fn lookup_by(
        &self,
        names: &[&Name],
        key: impl Fn(usize) -> LookupKey,
        found: &mut [LookupResult],
    ) {
        assert_eq!(names.len(), found.len(), "one result for each name");
        found.fill(LookupResult::default());
        let mut flags = 0;
        if let Some(base) = &self.base {
            let place = |which: usize| which;
            let image = &*base.image;
            flags |= match self.views.len() {
                // With one view, the ranks are the same for all names.
                1 => {
                    let values = base.clauses.default_values();
                    let ranked = |_, _, value| values.get(value as usize).copied();
                    merge(image, ranked, names, found, place)
                }
                _ => {
                    let ranks = |which: usize| base.clauses.in_view(key(which).view);
                    let ranked =
                        |which, position, value| ranks(which).ranked(image, position, value);
                    merge(image, ranked, names, found, place)
                }
            };
        }
        // The orders come last: if they have an exception, all rules of the name are evaluated again. The same is done if
        // the delta voids rules of the base. Of the orders, those that are merged afterwards count as well then.
        for overlay in [&self.delta, &self.orders].into_iter().flatten() {
            if overlay.prefilter.passes_none() {
                continue;
            }
            for (chunk, (names, found)) in
                names.chunks(BATCH).zip(found.chunks_mut(BATCH)).enumerate()
            {
                let key = |which: usize| key(chunk * BATCH + which);
                flags |= self.lookup_overlay(overlay, names, key, found);
            }
        }
        if flags & (LOGS | CONDITIONAL | HIDES) == 0 && !self.has_patterns {
            return;
        }
        for (which, (name, found)) in names.iter().zip(found).enumerate() {
            let is_to_evaluate = found.is_conditional || found.may_be_hidden();
            if !is_to_evaluate && found.logged != LOOK && !self.has_patterns {
                continue;
            }
            let Some(rules) = self.in_view(key(which)) else {
                return;
            };
            if is_to_evaluate {
                rules.evaluate(name, None, found);
            }
            if found.logged == LOOK {
                rules.find_logged(name, found);
            }
            rules.add_patterns(name, None, found);
        }
    }

    /// Looks up a name that an answer leads to. Rules of the sources that are `ignored` for the queried name do not count.
    pub(super) fn lookup_target(
        &self,
        key: LookupKey,
        ignored: &IgnoredSources<'_>,
        name: &Name,
    ) -> LookupResult {
        let mut found = LookupResult::default();
        self.lookup_by(&[name], |_| key, std::slice::from_mut(&mut found));
        if let Some(rules) = self.in_view(key) {
            rules.evaluate(name, Some(ignored), &mut found);
            rules.add_patterns(name, Some(ignored), &mut found);
        }
        found
    }

    /// Merges the rules of the delta or of the orders image into the results. The prefilter rejects most names. Returns
    /// the flags of [`RankedValue::merge_into`].
    #[inline]
    fn lookup_overlay(
        &self,
        overlay: &Overlay,
        names: &[&Name],
        key: impl Fn(usize) -> LookupKey,
        found: &mut [LookupResult],
    ) -> u32 {
        let RankedImage { image, clauses } = &overlay.ranked;
        let mut some = [&Name::ROOT; BATCH];
        let mut places = [0_u8; BATCH];
        let mut count = 0;
        for (place, &name) in names.iter().enumerate() {
            some[count % BATCH] = name;
            places[count % BATCH] = place as u8;
            count += usize::from(overlay.prefilter.may_match(image.key(), name));
        }
        if count == 0 {
            return 0;
        }
        let place = |which: usize| usize::from(places[which % BATCH]);
        let ranks = |which: usize| clauses.in_view(key(place(which)).view);
        let ranked = |which, position, value| ranks(which).ranked(image, position, value);
        let flags = merge(image, ranked, &some[..count], found, place);
        if flags & OVERRIDES != 0 {
            for which in 0..count {
                if let Some(rules) = self.in_view(key(place(which))) {
                    rules.evaluate(some[which], None, &mut found[place(which)]);
                }
            }
        }
        flags
    }

    /// The images, without regard to lists that are not in force: those are not among the sources of the snapshot.
    pub(super) fn images(&self) -> Images {
        let [base, delta, orders] = self.all_images();
        let image = |ranked: Option<&RankedImage>| ranked.map(|ranked| ranked.image.clone());
        Images {
            base: image(base),
            delta: image(delta),
            orders: image(orders),
            ..Images::default()
        }
    }

    /// The same rules without those that have patterns.
    pub(super) fn without_patterns(mut self) -> Self {
        for patterns in &mut self.views {
            *patterns = RankedPatterns::default();
        }
        self.has_patterns = false;
        self
    }

    /// Whether exceptions suppress the rules of some sources only.
    pub(super) fn has_overrides(&self) -> bool {
        !self.suppressed.is_empty()
    }

    /// Whether some exception suppresses the rules of a source, but not those of all.
    pub(super) fn overrides(&self, source: usize) -> bool {
        let mut exceptions = self.suppressed.iter().flatten();
        exceptions.any(|sources| sources.binary_search(&source).is_ok())
    }

    /// The base, the delta, and the orders.
    fn all_images(&self) -> [Option<&RankedImage>; 3] {
        let overlays = [&self.delta, &self.orders].map(Option::as_ref);
        let [delta, orders] = overlays.map(|overlay| overlay.map(|overlay| &overlay.ranked));
        [self.base.as_ref(), delta, orders]
    }

    /// The images with the ranks that their clauses have in a view.
    fn images_in(&self, view: ViewId) -> [Option<(&Image, Ranks<'_>)>; 3] {
        let images = self.all_images();
        images.map(|ranked| ranked.map(|ranked| (&*ranked.image, ranked.clauses.in_view(view))))
    }

    /// The rules in a view, to be evaluated one by one; those in the default view if there is no such view. `None` if there
    /// are no views.
    pub(super) fn in_view(&self, key: LookupKey) -> Option<Evaluation<'_>> {
        let patterns = self.views.get(usize::from(key.view.0));
        Some(Evaluation {
            qtype: key.qtype,
            images: self.images_in(key.view),
            suppressed: &self.suppressed,
            patterns: patterns.or(self.views.first())?,
        })
    }
}

/// Walks through an image to each name, and merges the rules for `names[i]` into `found[place(i)]`. The arguments of
/// `ranked` are `i`, a position and the number of a value; it returns this value, ranked in the view that applies to
/// `names[i]`. Returns the flags of [`RankedValue::merge_into`].
#[inline(always)]
fn merge(
    image: &Image,
    ranked: impl Fn(usize, Position, u32) -> Option<RankedValue>,
    names: &[&Name],
    found: &mut [LookupResult],
    place: impl Fn(usize) -> usize,
) -> u32 {
    let mut flags = 0;
    image.walk(names, |which, position, labels, value| {
        if let (Some(ranked), Some(found)) =
            (ranked(which, position, value), found.get_mut(place(which)))
        {
            flags |= ranked.merge_into(found, position, labels);
        }
    });
    flags
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::builder::Builder;
    use super::super::image::layout::HEADER;
    use super::super::image::provenance::ImageSource;
    use super::super::image::tests::changed;
    use super::super::ranking::{Hit, Trigger};
    use super::super::rule::Scope;
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
            hits.min().map(|(rank, depth, number)| Hit {
                rank: rank as u32,
                verdict: rank as u32,
                trigger: Trigger::Name {
                    scope: scope(number),
                    labels: (usize::MAX - depth) as u8,
                },
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

    /// An image with the rules of those lists that it `has`.
    fn image(rules: &BTreeSet<Rule>, has: [bool; 3]) -> Arc<Image> {
        let mut builder = Builder::new();
        for (number, name) in LISTS.into_iter().enumerate().filter(|list| has[list.0]) {
            let source = builder.source(ImageSource::named(name)).expect("room");
            for (_, owner, number) in rules.iter().filter(|rule| rule.0 == number) {
                let (owner, _) = Name::parse(owner, 0).expect("a name");
                builder
                    .insert(&owner, source, scope(*number))
                    .expect("room");
            }
        }
        Arc::new(builder.finish().expect("room"))
    }

    fn rules(base: &BTreeSet<Rule>, delta: Option<Arc<Image>>) -> Rules {
        let base = image(base, [true; 3]);
        let rank = |name: &str| LISTS.iter().position(|list| *list == name);
        let images = Images {
            base: Some(base),
            delta,
            ..Images::default()
        };
        Rules::by_rank(images, rank, |rank| NXDOMAIN[rank])
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
            let best = |hit: Option<Hit>| hit.map(|hit| hit.rank);
            prop_assert_eq!(best(found.best()), best(model.best(name)), "{}", name);
            let nxdomain = found.is_all_nxdomain_below(|verdict| NXDOMAIN[verdict as usize]);
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
        fn a_delta_replaces_the_lists_that_it_has_even_if_it_has_no_rules_of_them(
            base in sets(60),
            newer in sets(20),
            has in any::<[bool; 3]>(),
            asked in prop::collection::vec(names(), 1..60),
        ) {
            let kept = base.iter().filter(|rule| !has[rule.0]);
            let replaced = newer.iter().filter(|rule| has[rule.0]);
            let model = Model(kept.chain(replaced).cloned().collect());
            let owners = owners(base.iter().chain(&newer));
            let delta = image(&newer, has);
            compare(&rules(&base, Some(delta)), &model, &all(&asked, &owners))?;
        }
    }

    #[test]
    fn rules_of_a_list_without_a_rank_do_not_count() {
        let name = Name::from_text("a.test").expect("a name");
        let set = BTreeSet::from([(0, name.wire().to_vec(), 2), (1, name.wire().to_vec(), 2)]);
        let base = image(&set, [true; 3]);
        let rank = |list: &str| (list == "two").then_some(0);
        let rules = Rules::by_rank(base.into(), rank, |_| false);
        let mut found = [LookupResult::default()];
        rules.lookup(&[&name], &mut found);
        assert_eq!(found[0].best().map(|hit| hit.rank), Some(0));
        let base = rules.base.expect("it has one");
        let rules = Rules::by_rank(base.image.into(), |_| None, |_| false);
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
        let intact = image(&set.collect(), [true; 3]);
        let names: Vec<_> = names.iter().collect();
        let look = |base, delta| {
            let images = Images {
                base,
                delta,
                ..Images::default()
            };
            let rules = Rules::by_rank(images, |_| Some(0), |_| true);
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

    #[test]
    fn patterns_of_an_overlay_without_rules_on_names_apply() {
        let rule = (0, b"\x01x\x00".to_vec(), 0);
        let base = image(&BTreeSet::from([rule]), [true, false, false]);
        let mut builder = Builder::new();
        let two = builder.source(ImageSource::named("two")).expect("room");
        let effect = Effect::default();
        builder.insert_pattern("ads", two, &effect).expect("room");
        let overlay = Arc::new(builder.finish().expect("room"));
        let overlays = [
            Images {
                base: Some(base.clone()),
                delta: Some(overlay.clone()),
                ..Images::default()
            },
            Images {
                base: Some(base),
                orders: Some(overlay),
                ..Images::default()
            },
        ];
        for images in overlays {
            let rank = |name: &str| LISTS.iter().position(|list| *list == name);
            let rules = Rules::by_rank(images, rank, |_| false);
            for (text, expected) in [
                ("ads", Some(1)),
                ("ads.a.test", Some(1)),
                ("x", Some(0)),
                ("a.test", None),
                (".", None),
            ] {
                let name = Name::from_text(text).expect("a name");
                let mut found = [LookupResult::default()];
                rules.lookup(&[&name], &mut found);
                assert_eq!(found[0].best().map(|hit| hit.rank), expected, "{text}");
            }
        }
    }
}
