//! Walks from the root to names, up to 32 at a time, so that their accesses to memory overlap.

use super::bits::mask;
use super::bucket::{Bucket, ChildRef, ChildSpan, tag};
use super::directory::{BucketSlot, Directory};
use super::edge::Edges;
use super::layout::Section;
use super::loaded::Image;
use super::path::Key;
use super::tld_table::{self, TldEntry};
use crate::sys::prefetch::prefetch;
use crate::wire::name::Name;

/// The number of names that are looked up at a time.
pub const BATCH: usize = 32;

/// The position of a node relative to the looked-up name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// An ancestor of the name.
    Above,
    /// The name itself.
    At,
    /// Below the name. All other names below the looked-up name are below this node.
    Below,
}

/// The state of one lookup, on its way from a node to the child with the next label.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct LookupState<'n> {
    name: &'n Name,
    /// The number of labels walked.
    level: usize,
    /// The next label: its first sixteen bytes, its length and its hash.
    low: u64,
    high: u64,
    size: usize,
    hash: u64,
    /// The slot of the bucket in the directory, and whether there is one.
    slot: BucketSlot,
    in_directory: bool,
    /// The offset of the bucket, once it is known.
    bucket: u32,
    /// Properties of the next label: [`LAST`], [`LONG`].
    kind: u8,
    /// The place in the bucket of the child that was found, and whether its only child follows it.
    place: u32,
    has_only_child: bool,
}

/// The label is the last one of the name.
const LAST: u8 = 1;
/// The label has more than eight bytes.
const LONG: u8 = 2;

/// The parts of an image that lookups read.
struct TrieView<'i> {
    key: &'i Key,
    edges: Edges<'i>,
    buckets: &'i [u8],
    directory: Directory<'i>,
}

/// The child that was found. Two numbers, which a function returns in registers. The level is separate,
/// because it is known before the bucket has arrived from memory, and what depends on it need not wait.
#[derive(Clone, Copy)]
struct FoundChild {
    /// The number of labels walked, more than the name has if the child is below it; or [`NOWHERE`].
    level: usize,
    /// The value, and the [`ChildRef`] from bit 32 on.
    packed: u64,
}

/// No child was found. The level at which a walk starts is never that of a child.
const NOWHERE: usize = 0;

impl FoundChild {
    const NOTHING: Self = Self {
        level: NOWHERE,
        packed: 0,
    };

    #[inline(always)]
    fn value(self) -> u32 {
        self.packed as u32
    }

    #[inline(always)]
    fn children(self) -> ChildRef {
        ChildRef((self.packed >> 32) as u32)
    }
}

impl Image {
    /// Walks to each name and calls `pass` for every node on the way: with the index of the name, the
    /// position of the node, its number of labels (for a node below the name, the labels of the name), and
    /// its value. The nodes of a name come from the root down; at most one of them is not an ancestor. Never
    /// allocates.
    #[inline]
    pub fn walk(&self, names: &[&Name], mut pass: impl FnMut(usize, Position, usize, u32)) {
        if let [name] = names {
            return self.walk_one(name, &mut |position, level, value| {
                pass(0, position, level, value);
            });
        }
        for (chunk, names) in names.chunks(BATCH).enumerate() {
            self.walk_batch(names, chunk * BATCH, &mut pass);
        }
    }

    #[inline(always)]
    fn trie_view(&self) -> TrieView<'_> {
        TrieView {
            key: &self.key,
            edges: Edges { text: &self.text },
            buckets: self.section(Section::Buckets),
            directory: self.directory(),
        }
    }

    #[inline(always)]
    fn walk_one(&self, name: &Name, pass: &mut impl FnMut(Position, usize, u32)) {
        let trie = self.trie_view();
        let mut state = LookupState::new(name);
        let mut next = self.start(&mut state, pass);
        while let Some(children) = next {
            trie.head_for(&mut state, children);
            if !trie.may_hold(&state) {
                return;
            }
            trie.locate_bucket(&mut state);
            let kind = state.kind;
            next = trie.step(&mut state, kind, pass);
        }
    }

    #[inline(always)]
    fn walk_batch(
        &self,
        names: &[&Name],
        first: usize,
        pass: &mut impl FnMut(usize, Position, usize, u32),
    ) {
        let trie = self.trie_view();
        let mut states = [LookupState::new(&Name::ROOT); BATCH];
        let mut active = [0_u8; BATCH];
        let mut count = 0;
        for (which, &name) in names.iter().enumerate() {
            let state = &mut states[which % BATCH];
            state.name = name;
            let next = self.start(state, &mut |position, level, value| {
                pass(first + which, position, level, value);
            });
            if let Some(children) = next {
                trie.head_for(state, children);
                active[count % BATCH] = which as u8;
                count += 1;
            }
        }
        while count > 0 {
            // Labels of one kind take the same branches, which the processor predicts if they follow each
            // other.
            let mut kinds = [([0_u8; BATCH], 0); 4];
            for &which in &active[..count.min(BATCH)] {
                let state = &mut states[usize::from(which) % BATCH];
                let may = trie.may_hold(state);
                trie.locate_bucket(state);
                let (some, len) = &mut kinds[usize::from(state.kind) % 4];
                some[*len % BATCH] = which;
                *len += usize::from(may);
            }
            count = 0;
            for (kind, (some, len)) in kinds.iter().enumerate() {
                for &which in &some[..(*len).min(BATCH)] {
                    let state = &mut states[usize::from(which) % BATCH];
                    let next = trie.step(state, kind as u8, &mut |position, level, value| {
                        pass(first + usize::from(which), position, level, value);
                    });
                    if let Some(children) = next {
                        trie.head_for(state, children);
                        active[count % BATCH] = which;
                        count += 1;
                    }
                }
            }
        }
    }

    /// Starts at the root, or directly below it. Returns the children to continue from.
    #[inline(always)]
    fn start(
        &self,
        state: &mut LookupState<'_>,
        pass: &mut impl FnMut(Position, usize, u32),
    ) -> Option<ChildRef> {
        let depth = state.name.label_count();
        if self.root_has_rules || depth == 0 {
            pass(at_or_above(0, depth), 0, self.root_value);
        }
        let mut children = self.root_children;
        state.level = 0;
        if depth > 0 {
            match tld_table::find(self.section(Section::TldTable), self.key.seed(), state.name) {
                TldEntry::Unknown => {}
                TldEntry::Missing => return None,
                TldEntry::Node {
                    value,
                    children: grandchildren,
                } => {
                    pass(at_or_above(1, depth), 1, value);
                    (state.level, children) = (1, grandchildren);
                }
            }
        }
        (state.level < depth && children != ChildRef::NONE).then_some(children)
    }
}

impl<'n> LookupState<'n> {
    fn new(name: &'n Name) -> Self {
        Self {
            name,
            level: 0,
            low: 0,
            high: 0,
            size: 0,
            hash: 0,
            slot: BucketSlot::FIRST,
            in_directory: false,
            bucket: 0,
            kind: 0,
            place: 0,
            has_only_child: false,
        }
    }
}

impl TrieView<'_> {
    /// Prepares the step from a node's children to the child with the next label, and prefetches it.
    #[inline(always)]
    fn head_for(&self, state: &mut LookupState<'_>, children: ChildRef) {
        let (low, high, size) = state.name.sixteen_from_root(state.level);
        let mut hash = self.key.sixteen(low, high, size);
        let mut from = 16;
        while from < size {
            let (low, high) = state.name.sixteen_at(state.level, from);
            hash = self.key.next(hash, low, high);
            from += 16;
        }
        match children.as_range() {
            Some((start, count)) => {
                state.in_directory = true;
                state.slot = BucketSlot::wanted(start, count, hash);
                self.directory.prefetch(state.slot);
            }
            None => {
                state.in_directory = false;
                state.bucket = children.0;
                self.prefetch_bucket(children.0);
            }
        }
        (state.low, state.high, state.size, state.hash) = (low, high, size, hash);
        let is_last = state.level + 1 == state.name.label_count();
        state.kind = (u8::from(is_last) * LAST) | (u8::from(size > 8) * LONG);
    }

    /// Whether the bucket may hold the child.
    #[inline(always)]
    fn may_hold(&self, state: &LookupState<'_>) -> bool {
        !state.in_directory || self.directory.may_hold(state.slot, state.hash)
    }

    /// Reads the offset of the bucket from the directory, and prefetches the bucket.
    #[inline(always)]
    fn locate_bucket(&self, state: &mut LookupState<'_>) {
        if state.in_directory {
            // A slot that does not exist has no filter either.
            state.bucket = self.directory.bucket(state.slot).unwrap_or(state.bucket);
            self.prefetch_bucket(state.bucket);
        }
    }

    #[inline(always)]
    fn prefetch_bucket(&self, at: u32) {
        prefetch(self.buckets, at as usize);
        prefetch(self.buckets, at as usize + 64);
        prefetch(self.buckets, at as usize + 128);
    }

    /// Steps to the child in the bucket, and on to only children next to it. Returns the children to continue
    /// from.
    #[inline(always)]
    fn step(
        &self,
        state: &mut LookupState<'_>,
        kind: u8,
        pass: &mut impl FnMut(Position, usize, u32),
    ) -> Option<ChildRef> {
        let depth = state.name.label_count();
        let mut found = match (kind & LAST != 0, kind & LONG != 0) {
            (false, false) => self.find::<false, false>(state),
            (false, true) => self.find::<false, true>(state),
            (true, false) => self.find::<true, false>(state),
            (true, true) => self.find::<true, true>(state),
        };
        loop {
            let level = found.level;
            if level == NOWHERE {
                return None;
            }
            if level > depth {
                pass(Position::Below, depth, found.value());
                return None;
            }
            pass(at_or_above(level, depth), level, found.value());
            if level == depth {
                return None;
            }
            state.level = level;
            if !state.has_only_child {
                return (found.children() != ChildRef::NONE).then_some(found.children());
            }
            found = self.find_only_child(state);
        }
    }

    /// Finds the child with the next label. One function for each kind of label, because a branch on the kind
    /// would be mispredicted, and not inlined, because registers do not suffice for it and the walk around
    /// it.
    #[inline(never)]
    fn find<const IS_LAST: bool, const IS_LONG: bool>(
        &self,
        state: &mut LookupState<'_>,
    ) -> FoundChild {
        let Some(bucket) = Bucket::at(self.buckets, state.bucket) else {
            return FoundChild::NOTHING;
        };
        if !bucket.is_usual() || !state.name.is_plain() {
            self.find_any(state)
        } else if bucket.is_wide() {
            self.find_usual::<true, IS_LAST, IS_LONG>(&bucket, state)
        } else {
            self.find_usual::<false, IS_LAST, IS_LONG>(&bucket, state)
        }
    }

    #[inline(always)]
    fn find_usual<const IS_WIDE: bool, const IS_LAST: bool, const IS_LONG: bool>(
        &self,
        bucket: &Bucket<'_>,
        state: &mut LookupState<'_>,
    ) -> FoundChild {
        let with = bucket.first_with(tag(state.hash));
        if with == 0 {
            return FoundChild::NOTHING;
        }
        let place = with.trailing_zeros() as usize;
        let text = bucket.near_child::<IS_WIDE>(place);
        let Some((bits, count)) = self.edges.text.eight(state.low) else {
            return self.find_any(state);
        };
        let mut at = text.start + u64::from(count);
        let mut differing = (bucket.near_bits(text.start) ^ bits) & mask(count);
        if IS_LONG {
            let Some((bits, count)) = self.edges.text.eight(state.high) else {
                return self.find_any(state);
            };
            differing |= (bucket.near_bits(at) ^ bits) & mask(count);
            at += u64::from(count);
        }
        if differing != 0 {
            // Another child may have the same tag.
            return if with & (with - 1) == 0 {
                FoundChild::NOTHING
            } else {
                self.find_any(state)
            };
        }
        if IS_LONG && state.size > 16 || at != text.text_end {
            return self.find_rest(state, place, at, &text);
        }
        if IS_LAST {
            FoundChild {
                level: state.level + 1,
                packed: u64::from(text.node.value),
            }
        } else {
            found(bucket, state, state.level + 1, place, &text)
        }
    }

    /// Finds the child with the next label. The child at `place` matches in the first sixteen bytes, up to
    /// bit `at`, and needs a closer look after them.
    #[inline(never)]
    fn find_rest(
        &self,
        state: &mut LookupState<'_>,
        place: usize,
        at: u64,
        text: &ChildSpan,
    ) -> FoundChild {
        let Some(bucket) = Bucket::at(self.buckets, state.bucket) else {
            return FoundChild::NOTHING;
        };
        let (name, level) = (state.name, state.level);
        let at = if state.size > 16 {
            self.edges
                .same_from_sixteen(&bucket, text.start, at, name, level)
        } else {
            Some(at)
        };
        let end = at.and_then(|at| {
            self.edges
                .same_rest(&bucket, at, text.text_end, name, level + 1)
        });
        match end {
            Some(level) => found(&bucket, state, level, place, text),
            None => self.find_any(state),
        }
    }

    /// Finds the child in any bucket, for any label.
    #[inline(never)]
    fn find_any(&self, state: &mut LookupState<'_>) -> FoundChild {
        let Some(bucket) = Bucket::at(self.buckets, state.bucket) else {
            return FoundChild::NOTHING;
        };
        let mut with = bucket.all_with(tag(state.hash));
        while with != 0 {
            let place = with.trailing_zeros() as usize;
            let text = bucket.child(place);
            let end = self
                .edges
                .same_edge(&bucket, &text, state.name, state.level);
            if let Some(level) = end {
                return found(&bucket, state, level, place, &text);
            }
            with &= with - 1;
        }
        FoundChild::NOTHING
    }

    /// Follows the only child of the child that was found, if its label is the next one.
    #[inline(never)]
    fn find_only_child(&self, state: &mut LookupState<'_>) -> FoundChild {
        let Some(bucket) = Bucket::at(self.buckets, state.bucket) else {
            return FoundChild::NOTHING;
        };
        let place = state.place as usize + 1;
        let text = bucket.child(place);
        match self
            .edges
            .same_edge(&bucket, &text, state.name, state.level)
        {
            Some(level) => found(&bucket, state, level, place, &text),
            None => FoundChild::NOTHING,
        }
    }
}

/// The child at `place`.
#[inline(always)]
fn found(
    bucket: &Bucket<'_>,
    state: &mut LookupState<'_>,
    level: usize,
    place: usize,
    text: &ChildSpan,
) -> FoundChild {
    state.place = place as u32;
    state.has_only_child = bucket.has_only_child(place);
    FoundChild {
        level,
        packed: u64::from(text.node.value) | u64::from(text.node.children.0) << 32,
    }
}

#[inline(always)]
fn at_or_above(level: usize, depth: usize) -> Position {
    if level == depth {
        Position::At
    } else {
        Position::Above
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::io::Cursor;

    use super::*;
    use crate::policy::image::ImageBytes;
    use crate::policy::image::path::Path;
    use crate::policy::image::provenance::Provenance;
    use crate::policy::image::text::PairHistogram;
    use crate::policy::image::values::ImageRule;
    use crate::policy::image::writer::Writer;
    use crate::policy::rule::Scope;

    /// The model that walks are compared with: the sources that have exact rules, by labels from the root
    /// down.
    type Model = BTreeMap<Vec<Vec<u8>>, Vec<u16>>;

    /// A reproducible pseudo-random generator.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 20) as usize % sides
        }

        fn label(&mut self) -> Vec<u8> {
            let bytes: &[u8] = match self.roll(8) {
                0 => b"\0.\xFFa ",
                1 => b"ab\0",
                2 => b"ab",
                _ => b"abcdefghijklmnopqrstuvwxyz0123456789-_",
            };
            let size = match self.roll(12) {
                0 => [7, 8, 9, 15, 16, 17, 31, 32, 33, 62, 63][self.roll(11)],
                1 => 1,
                2 => return b"www".to_vec(),
                3..6 => 1 + self.roll(3),
                _ => 1 + self.roll(12),
            };
            (0..size).map(|_| bytes[self.roll(bytes.len())]).collect()
        }

        /// A name that often shares its first labels with one of `others`.
        fn name(&mut self, others: &[Vec<Vec<u8>>]) -> Vec<Vec<u8>> {
            let mut name = Vec::new();
            if !others.is_empty() && self.roll(4) > 0 {
                name.clone_from(&others[self.roll(others.len())]);
                name.truncate(self.roll(name.len() + 1));
            }
            for _ in 0..1 + self.roll(3) {
                name.push(self.label());
            }
            while name.iter().map(|label| 1 + label.len()).sum::<usize>() > 254 {
                name.pop();
            }
            name
        }
    }

    fn path(name: &[Vec<u8>]) -> Path {
        let mut path = Path::ROOT;
        for label in name {
            path.push(label);
        }
        path
    }

    fn image(model: &Model, seed: u64, counted: bool) -> Image {
        let key = Key::new(seed);
        let mut census = PairHistogram::default();
        let mut paths: Vec<_> = model.iter().map(|(name, s)| (path(name), s)).collect();
        for (path, _) in paths.iter().filter(|_| counted) {
            census.count(path.as_bytes());
        }
        paths.sort_by(|(a, _), (b, _)| key.compare(a.as_bytes(), b.as_bytes()));
        let mut writer = Writer::new(Cursor::new(Vec::new()), key, census).expect("memory");
        for (path, sources) in paths {
            let rule = |&source| ImageRule {
                source,
                scope: Scope::Exact,
            };
            let rules: Vec<_> = sources.iter().map(|s| rule(s).to_bits()).collect();
            writer.push(path.as_bytes(), &rules).expect("memory");
        }
        let (to, _) = writer.finish(&Provenance::numbered(400)).expect("memory");
        Image::open(ImageBytes::Heap(to.into_inner())).expect("whole")
    }

    /// What a walk to a name must report: the sources on each of its ancestors and on itself, by level, and
    /// the sources below.
    fn expected(model: &Model, name: &[Vec<u8>]) -> (Vec<(usize, Vec<u16>)>, BTreeSet<u16>) {
        let on = (0..=name.len())
            .filter_map(|level| Some((level, model.get(&name[..level])?.clone())))
            .collect();
        let below = model.range(name.to_vec()..);
        let below = below
            .take_while(|(other, _)| other.starts_with(name))
            .filter(|(other, _)| other.len() > name.len())
            .flat_map(|(_, sources)| sources.iter().copied())
            .collect();
        (on, below)
    }

    fn reported(
        image: &Image,
        depth: usize,
        passed: &[(Position, usize, u32)],
    ) -> (Vec<(usize, Vec<u16>)>, BTreeSet<u16>) {
        let (mut on, mut below) = (Vec::new(), BTreeSet::new());
        for (nth, &(position, level, value)) in passed.iter().enumerate() {
            let value = image.value(value);
            let sources: Vec<_> = value.rules().map(|rule| rule.source).collect();
            match position {
                Position::Above => assert!(level < depth),
                _ => assert!(level == depth && nth + 1 == passed.len()),
            }
            match position {
                Position::Below => below.extend(sources),
                _ if !sources.is_empty() => on.push((level, sources)),
                _ => {}
            }
            if position != Position::Above {
                below.extend(value.sources_below());
            }
        }
        (on, below)
    }

    fn compare(model: &Model, seed: u64, counted: bool, dice: &mut Dice) {
        let image = image(model, seed, counted);
        let names: Vec<_> = model.keys().cloned().collect();
        let mut asked = vec![Vec::new()];
        for name in &names {
            asked.push(name.clone());
            asked.push(name[..dice.roll(name.len())].to_vec());
            let mut longer = name.clone();
            longer.push(dice.label());
            let mut other = name.clone();
            let at = dice.roll(other.len());
            match dice.roll(3) {
                0 => other[at] = dice.label(),
                1 => other[at][0] = b"qz\0"[dice.roll(3)],
                _ => drop(other[at].pop()),
            }
            asked.extend([longer, other, dice.name(&names)]);
        }
        asked.retain(|name| {
            name.iter().map(|label| 1 + label.len()).sum::<usize>() <= 254
                && name.iter().all(|label| !label.is_empty())
        });
        let asked_names: Vec<_> = asked.iter().map(|name| path(name).to_name()).collect();
        let refs: Vec<_> = asked_names.iter().collect();
        let mut together = vec![Vec::new(); refs.len()];
        image.walk(&refs, |which, position, level, value| {
            together[which].push((position, level, value));
        });
        for ((asked, name), together) in asked.iter().zip(&asked_names).zip(together) {
            let mut alone = Vec::new();
            image.walk(&[name], |_, position, level, value| {
                alone.push((position, level, value));
            });
            assert_eq!(alone, together, "{name}");
            let reported = reported(&image, asked.len(), &alone);
            assert_eq!(reported, expected(model, asked), "{name}, seed {seed}");
        }
    }

    #[test]
    fn a_walk_finds_the_same_as_a_map_of_all_names() {
        let mut dice = Dice(0x1234_5678_9ABC_DEF1);
        for round in 0..60 {
            let mut model = Model::new();
            let mut names = Vec::new();
            for _ in 0..[1, 3, 30, 300, 900][round % 5] {
                let name = dice.name(&names);
                // At times more values than seven bits can number.
                let most = if round % 2 == 0 { 3 } else { 400 };
                let mut sources: Vec<_> = (0..1 + dice.roll(2))
                    .map(|_| dice.roll(most) as u16)
                    .collect();
                sources.sort_unstable();
                sources.dedup();
                model.insert(name.clone(), sources);
                names.push(name);
            }
            compare(&model, round as u64, round % 3 > 0, &mut dice);
        }
    }

    #[test]
    fn large_nodes_and_the_longest_names_are_found() {
        let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
        let mut model = Model::new();
        for child in 0..3000_u16 {
            let mut name = vec![b"com".to_vec(), format!("n{child}").into_bytes()];
            model.insert(name.clone(), vec![child % 3]);
            for _ in 0..dice.roll(3) {
                name.push(dice.label());
                model.insert(name.clone(), vec![child % 5]);
            }
        }
        model.insert(
            vec![vec![b'a'; 63], vec![b'b'; 63], vec![b'c'; 63], vec![0; 61]],
            vec![1],
        );
        model.insert(vec![vec![b'x']; 127], vec![2]);
        model.insert(vec![vec![0]; 127], vec![2]);
        // Each name below the preceding one, all with a rule.
        for depth in 1..=127 {
            model.insert(vec![vec![b'i']; depth], vec![depth as u16 % 4]);
        }
        for counted in [true, false] {
            compare(&model, 7, counted, &mut dice);
        }
    }

    #[test]
    fn walks_over_damaged_images_end_without_panic() {
        let mut dice = Dice(0xDEAD_BEEF_0BAD_F00D);
        let mut model = Model::new();
        for child in 0..300 {
            let mut name = vec![b"com".to_vec(), format!("n{child}").into_bytes()];
            model.insert(name.clone(), vec![child % 300]);
            name.push(dice.label());
            model.insert(name, vec![1]);
        }
        let names: Vec<_> = model.keys().map(|name| path(name).to_name()).collect();
        let refs: Vec<_> = names.iter().collect();
        for _ in 0..300 {
            let mut image = image(&model, 7, true);
            let ImageBytes::Heap(bytes) = &mut image.bytes else {
                unreachable!("made on the heap");
            };
            let end = image.extents[Section::TldTable as usize];
            for _ in 0..1 + dice.roll(300) {
                let at = dice.roll(end.offset + end.len);
                bytes[at] = dice.roll(256) as u8;
            }
            let mut count = 0;
            image.walk(&refs, |_, _, _, _| count += 1);
            for name in &refs {
                image.walk(&[name], |_, _, _, _| count -= 1);
            }
            assert_eq!(count, 0);
        }
    }
}
