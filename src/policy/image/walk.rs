//! Owns the walk from the root towards names, many at a time, so that none waits for memory alone.
//! Refuses to judge what stands on the way: it tells each value that it passes.

use super::bits::mask;
use super::bucket::{Bucket, ChildRef, ChildSpan, tag};
use super::directory::{BucketSlot, Directory};
use super::edge::Edges;
use super::layout::Section;
use super::tld_table::{self, TldEntry};
use super::{Image, order::Key};
use crate::sys::prefetch::prefetch;
use crate::wire::name::Name;

/// How many names walk at a time.
pub const BATCH: usize = 32;

/// How a value that a walk passes lies to the asked name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// On an ancestor.
    Above,
    /// On the name itself.
    At,
    /// Beneath the name, and all that is beneath it is beneath that or at it.
    Beneath,
}

/// A name on its way from a node to the child with its next label.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct LookupState<'n> {
    name: &'n Name,
    /// Labels that are walked.
    level: usize,
    /// The next label: its first sixteen bytes, how many it has, and its hash.
    low: u64,
    high: u64,
    size: usize,
    hash: u64,
    /// Where the directory tells the bucket, and whether it has to be asked.
    entry: BucketSlot,
    is_asked: bool,
    /// The bucket, once it is known.
    bucket: u32,
    /// Bits of the next label: [`LAST`], [`LONG`].
    kind: u8,
    /// The place in the bucket of what was found, and whether its only child stands behind it.
    place: u32,
    goes_on: bool,
}

/// The label is the name's last one.
const LAST: u8 = 1;
/// The label has more than eight bytes.
const LONG: u8 = 2;

/// What lookups read.
struct TrieView<'i> {
    key: &'i Key,
    edges: Edges<'i>,
    buckets: &'i [u8],
    directory: Directory<'i>,
}

/// Where a walk has got to: two numbers, since a function returns two in registers, and the level
/// by itself, since it is known before the bucket is here: what depends on it needn't wait.
#[derive(Clone, Copy)]
struct FoundChild {
    /// Labels that are walked: beyond the name if there are more than it has, or [`NOWHERE`].
    level: usize,
    /// The value, and from bit 32 on the [`ChildRef`].
    holds: u64,
}

/// No level, as the one that a walk starts at is never found.
const NOWHERE: usize = 0;

impl FoundChild {
    const NOTHING: Self = Self {
        level: NOWHERE,
        holds: 0,
    };

    #[inline(always)]
    fn value(self) -> u32 {
        self.holds as u32
    }

    #[inline(always)]
    fn children(self) -> ChildRef {
        ChildRef((self.holds >> 32) as u32)
    }
}

impl Image {
    /// Walks towards each name and calls `pass` with which of the names it is, how the value lies
    /// to it, how many labels lead there (for one beneath, those of the asked name), and the
    /// value. From the root down for each name, never more than one value that is not above.
    /// Never allocates.
    #[inline]
    pub fn walk(&self, names: &[&Name], mut pass: impl FnMut(usize, Position, usize, u32)) {
        if let [name] = names {
            return self.walk_one(name, &mut |lies, level, value| pass(0, lies, level, value));
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
        let ways = self.trie_view();
        let mut lane = LookupState::new(name);
        let mut on = self.start(&mut lane, pass);
        while let Some(kids) = on {
            ways.head_for(&mut lane, kids);
            if !ways.may_hold(&lane) {
                return;
            }
            ways.locate_bucket(&mut lane);
            let kind = lane.kind;
            on = ways.step(&mut lane, kind, pass);
        }
    }

    #[inline(always)]
    fn walk_batch(
        &self,
        names: &[&Name],
        first: usize,
        pass: &mut impl FnMut(usize, Position, usize, u32),
    ) {
        let ways = self.trie_view();
        let mut lanes = [LookupState::new(&Name::ROOT); BATCH];
        let mut active = [0_u8; BATCH];
        let mut count = 0;
        for (which, &name) in names.iter().enumerate() {
            let lane = &mut lanes[which % BATCH];
            lane.name = name;
            let on = self.start(lane, &mut |lies, level, value| {
                pass(first + which, lies, level, value);
            });
            if let Some(kids) = on {
                ways.head_for(lane, kids);
                active[count % BATCH] = which as u8;
                count += 1;
            }
        }
        while count > 0 {
            // Those of a kind take the same branches: one after the other, they are foreseen.
            let mut kinds = [([0_u8; BATCH], 0); 4];
            for &which in &active[..count.min(BATCH)] {
                let lane = &mut lanes[usize::from(which) % BATCH];
                let may = ways.may_hold(lane);
                ways.locate_bucket(lane);
                let (some, len) = &mut kinds[usize::from(lane.kind) % 4];
                some[*len % BATCH] = which;
                *len += usize::from(may);
            }
            count = 0;
            for (kind, (some, len)) in kinds.iter().enumerate() {
                for &which in &some[..(*len).min(BATCH)] {
                    let lane = &mut lanes[usize::from(which) % BATCH];
                    let on = ways.step(lane, kind as u8, &mut |lies, level, value| {
                        pass(first + usize::from(which), lies, level, value);
                    });
                    if let Some(kids) = on {
                        ways.head_for(lane, kids);
                        active[count % BATCH] = which;
                        count += 1;
                    }
                }
            }
        }
    }

    /// Starts at the root, or right below it. Returns from which children the walk goes on, if it
    /// does.
    #[inline(always)]
    fn start(
        &self,
        lane: &mut LookupState<'_>,
        pass: &mut impl FnMut(Position, usize, u32),
    ) -> Option<ChildRef> {
        let depth = lane.name.label_count();
        if self.root_matters || depth == 0 {
            pass(at_or_above(0, depth), 0, self.root_value);
        }
        let mut kids = self.root_children;
        lane.level = 0;
        if depth > 0 {
            match tld_table::find(self.section(Section::TldTable), self.key.seed(), lane.name) {
                TldEntry::Unknown => {}
                TldEntry::Missing => return None,
                TldEntry::Node { value, kids: below } => {
                    pass(at_or_above(1, depth), 1, value);
                    (lane.level, kids) = (1, below);
                }
            }
        }
        (lane.level < depth && kids != ChildRef::NONE).then_some(kids)
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
            entry: BucketSlot::FIRST,
            is_asked: false,
            bucket: 0,
            kind: 0,
            place: 0,
            goes_on: false,
        }
    }
}

impl TrieView<'_> {
    /// Sets out from a node's children towards the one with the next label.
    #[inline(always)]
    fn head_for(&self, lane: &mut LookupState<'_>, kids: ChildRef) {
        let (low, high, size) = lane.name.sixteen_from_root(lane.level);
        let mut hash = self.key.sixteen(low, high, size);
        let mut from = 16;
        while from < size {
            let (low, high) = lane.name.sixteen_behind(lane.level, from);
            hash = self.key.next(hash, low, high);
            from += 16;
        }
        match kids.as_range() {
            Some((start, count)) => {
                lane.is_asked = true;
                lane.entry = BucketSlot::wanted(start, count, hash);
                self.directory.prefetch(lane.entry);
            }
            None => {
                lane.is_asked = false;
                lane.bucket = kids.0;
                self.prefetch_bucket(kids.0);
            }
        }
        (lane.low, lane.high, lane.size, lane.hash) = (low, high, size, hash);
        let is_last = lane.level + 1 == lane.name.label_count();
        lane.kind = (u8::from(is_last) * LAST) | (u8::from(size > 8) * LONG);
    }

    /// Whether the lane's bucket may hold the child.
    #[inline(always)]
    fn may_hold(&self, lane: &LookupState<'_>) -> bool {
        !lane.is_asked || self.directory.may_hold(lane.entry, lane.hash)
    }

    /// Finds the lane's bucket, and asks for it.
    #[inline(always)]
    fn locate_bucket(&self, lane: &mut LookupState<'_>) {
        if lane.is_asked {
            // What is in no place has no filter either.
            lane.bucket = self.directory.bucket(lane.entry).unwrap_or(lane.bucket);
            self.prefetch_bucket(lane.bucket);
        }
    }

    #[inline(always)]
    fn prefetch_bucket(&self, at: u32) {
        prefetch(self.buckets, at as usize);
        prefetch(self.buckets, at as usize + 64);
        prefetch(self.buckets, at as usize + 128);
    }

    /// Looks for the child in its bucket, and goes there, and on to only children next to it.
    /// Returns from which children the walk goes on, if it does.
    #[inline(always)]
    fn step(
        &self,
        lane: &mut LookupState<'_>,
        kind: u8,
        pass: &mut impl FnMut(Position, usize, u32),
    ) -> Option<ChildRef> {
        let depth = lane.name.label_count();
        let mut found = match (kind & LAST != 0, kind & LONG != 0) {
            (false, false) => self.find::<false, false>(lane),
            (false, true) => self.find::<false, true>(lane),
            (true, false) => self.find::<true, false>(lane),
            (true, true) => self.find::<true, true>(lane),
        };
        loop {
            let level = found.level;
            if level == NOWHERE {
                return None;
            }
            if level > depth {
                pass(Position::Beneath, depth, found.value());
                return None;
            }
            pass(at_or_above(level, depth), level, found.value());
            if level == depth {
                return None;
            }
            lane.level = level;
            if !lane.goes_on {
                return (found.children() != ChildRef::NONE).then_some(found.children());
            }
            found = self.find_only_child(lane);
        }
    }

    /// Finds the child with the lane's label, of the kind that its lane tells: there is a function
    /// for each kind, as a branch on it would be a guess. Functions of their own: there are not enough
    /// registers for this and the walk around it.
    #[inline(never)]
    fn find<const IS_LAST: bool, const IS_LONG: bool>(
        &self,
        lane: &mut LookupState<'_>,
    ) -> FoundChild {
        let Some(bucket) = Bucket::at(self.buckets, lane.bucket) else {
            return FoundChild::NOTHING;
        };
        if !bucket.is_usual() || !lane.name.is_plain() {
            self.find_any(lane)
        } else if bucket.is_wide() {
            self.find_usual::<true, IS_LAST, IS_LONG>(&bucket, lane)
        } else {
            self.find_usual::<false, IS_LAST, IS_LONG>(&bucket, lane)
        }
    }

    #[inline(always)]
    fn find_usual<const IS_WIDE: bool, const IS_LAST: bool, const IS_LONG: bool>(
        &self,
        bucket: &Bucket<'_>,
        lane: &mut LookupState<'_>,
    ) -> FoundChild {
        let with = bucket.first_with(tag(lane.hash));
        if with == 0 {
            return FoundChild::NOTHING;
        }
        let place = with.trailing_zeros() as usize;
        let text = bucket.near_child::<IS_WIDE>(place);
        let Some((bits, count)) = self.edges.text.eight(lane.low) else {
            return self.find_any(lane);
        };
        let mut at = text.start + u64::from(count);
        let mut differing = (bucket.near_bits(text.start) ^ bits) & mask(count);
        if IS_LONG {
            let Some((bits, count)) = self.edges.text.eight(lane.high) else {
                return self.find_any(lane);
            };
            differing |= (bucket.near_bits(at) ^ bits) & mask(count);
            at += u64::from(count);
        }
        if differing != 0 {
            // Another child may have the same tag.
            return if with & (with - 1) == 0 {
                FoundChild::NOTHING
            } else {
                self.find_any(lane)
            };
        }
        if IS_LONG && lane.size > 16 || at != text.end {
            return self.find_rest(lane, place, at, &text);
        }
        if IS_LAST {
            FoundChild {
                level: lane.level + 1,
                holds: u64::from(text.node.value),
            }
        } else {
            found(bucket, lane, lane.level + 1, place, &text)
        }
    }

    /// Finds the child with the lane's label. The one at `place` has its first sixteen bytes, up
    /// to bit `at`, and something else behind them.
    #[inline(never)]
    fn find_rest(
        &self,
        lane: &mut LookupState<'_>,
        place: usize,
        at: u64,
        text: &ChildSpan,
    ) -> FoundChild {
        let Some(bucket) = Bucket::at(self.buckets, lane.bucket) else {
            return FoundChild::NOTHING;
        };
        let (name, level) = (lane.name, lane.level);
        let at = if lane.size > 16 {
            self.edges.same_behind(&bucket, text.start, at, name, level)
        } else {
            Some(at)
        };
        let end = at.and_then(|at| self.edges.same_rest(&bucket, at, text.end, name, level + 1));
        match end {
            Some(level) => found(&bucket, lane, level, place, text),
            None => self.find_any(lane),
        }
    }

    /// Finds the child in any bucket, for any label.
    #[inline(never)]
    fn find_any(&self, lane: &mut LookupState<'_>) -> FoundChild {
        let Some(bucket) = Bucket::at(self.buckets, lane.bucket) else {
            return FoundChild::NOTHING;
        };
        let mut with = bucket.all_with(tag(lane.hash));
        while with != 0 {
            let place = with.trailing_zeros() as usize;
            let text = bucket.child(place);
            let end = self.edges.same_edge(&bucket, &text, lane.name, lane.level);
            if let Some(level) = end {
                return found(&bucket, lane, level, place, &text);
            }
            with &= with - 1;
        }
        FoundChild::NOTHING
    }

    /// The only child of what was found, which is behind it, if the name's next label is that.
    #[inline(never)]
    fn find_only_child(&self, lane: &mut LookupState<'_>) -> FoundChild {
        let Some(bucket) = Bucket::at(self.buckets, lane.bucket) else {
            return FoundChild::NOTHING;
        };
        let place = lane.place as usize + 1;
        let text = bucket.child(place);
        match self.edges.same_edge(&bucket, &text, lane.name, lane.level) {
            Some(level) => found(&bucket, lane, level, place, &text),
            None => FoundChild::NOTHING,
        }
    }
}

/// What was found: a child at a place.
#[inline(always)]
fn found(
    bucket: &Bucket<'_>,
    lane: &mut LookupState<'_>,
    level: usize,
    place: usize,
    text: &ChildSpan,
) -> FoundChild {
    lane.place = place as u32;
    lane.goes_on = bucket.goes_on(place);
    FoundChild {
        level,
        holds: u64::from(text.node.value) | u64::from(text.node.children.0) << 32,
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
    use crate::policy::image::order::Path;
    use crate::policy::image::provenance::Provenance;
    use crate::policy::image::text::PairHistogram;
    use crate::policy::image::values::ImageRule;
    use crate::policy::image::writer::Writer;
    use crate::policy::rule::Scope;

    /// The stupid twin: labels from the root down, and the sources that have exact rules there.
    type Twin = BTreeMap<Vec<Vec<u8>>, Vec<u16>>;

    /// Numbers without end, the same ones in each run.
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

    fn image(twin: &Twin, seed: u64, counted: bool) -> Image {
        let key = Key::new(seed);
        let mut census = PairHistogram::default();
        let mut paths: Vec<_> = twin.iter().map(|(name, s)| (path(name), s)).collect();
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

    /// What the walk must tell of a name: sources on each of its ancestors and itself, by level,
    /// and the sources beneath.
    fn expected(twin: &Twin, name: &[Vec<u8>]) -> (Vec<(usize, Vec<u16>)>, BTreeSet<u16>) {
        let on = (0..=name.len())
            .filter_map(|level| Some((level, twin.get(&name[..level])?.clone())))
            .collect();
        let beneath = twin.range(name.to_vec()..);
        let beneath = beneath
            .take_while(|(other, _)| other.starts_with(name))
            .filter(|(other, _)| other.len() > name.len())
            .flat_map(|(_, sources)| sources.iter().copied())
            .collect();
        (on, beneath)
    }

    fn told(
        image: &Image,
        depth: usize,
        passed: &[(Position, usize, u32)],
    ) -> (Vec<(usize, Vec<u16>)>, BTreeSet<u16>) {
        let (mut on, mut beneath) = (Vec::new(), BTreeSet::new());
        for (nth, &(lies, level, value)) in passed.iter().enumerate() {
            let value = image.value(value);
            let sources: Vec<_> = value.rules().map(|rule| rule.source).collect();
            match lies {
                Position::Above => assert!(level < depth),
                _ => assert!(level == depth && nth + 1 == passed.len()),
            }
            match lies {
                Position::Beneath => beneath.extend(sources),
                _ if !sources.is_empty() => on.push((level, sources)),
                _ => {}
            }
            if lies != Position::Above {
                beneath.extend(value.beneath());
            }
        }
        (on, beneath)
    }

    fn compare(twin: &Twin, seed: u64, counted: bool, dice: &mut Dice) {
        let image = image(twin, seed, counted);
        let names: Vec<_> = twin.keys().cloned().collect();
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
        image.walk(&refs, |which, lies, level, value| {
            together[which].push((lies, level, value));
        });
        for ((asked, name), together) in asked.iter().zip(&asked_names).zip(together) {
            let mut alone = Vec::new();
            image.walk(&[name], |_, lies, level, value| {
                alone.push((lies, level, value));
            });
            assert_eq!(alone, together, "{name}");
            let told = told(&image, asked.len(), &alone);
            assert_eq!(told, expected(twin, asked), "{name}, seed {seed}");
        }
    }

    #[test]
    fn a_walk_tells_what_a_map_of_all_names_does() {
        let mut dice = Dice(0x1234_5678_9ABC_DEF1);
        for round in 0..60 {
            let mut twin = Twin::new();
            let mut names = Vec::new();
            for _ in 0..[1, 3, 30, 300, 900][round % 5] {
                let name = dice.name(&names);
                // More sources than a value of seven bits can tell apart, sometimes.
                let most = if round % 2 == 0 { 3 } else { 400 };
                let mut sources: Vec<_> = (0..1 + dice.roll(2))
                    .map(|_| dice.roll(most) as u16)
                    .collect();
                sources.sort_unstable();
                sources.dedup();
                twin.insert(name.clone(), sources);
                names.push(name);
            }
            compare(&twin, round as u64, round % 3 > 0, &mut dice);
        }
    }

    #[test]
    fn large_nodes_and_the_longest_names_are_found() {
        let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
        let mut twin = Twin::new();
        for child in 0..3000_u16 {
            let mut name = vec![b"com".to_vec(), format!("n{child}").into_bytes()];
            twin.insert(name.clone(), vec![child % 3]);
            for _ in 0..dice.roll(3) {
                name.push(dice.label());
                twin.insert(name.clone(), vec![child % 5]);
            }
        }
        twin.insert(
            vec![vec![b'a'; 63], vec![b'b'; 63], vec![b'c'; 63], vec![0; 61]],
            vec![1],
        );
        twin.insert(vec![vec![b'x']; 127], vec![2]);
        twin.insert(vec![vec![0]; 127], vec![2]);
        // One inside the other, each with a rule.
        for depth in 1..=127 {
            twin.insert(vec![vec![b'i']; depth], vec![depth as u16 % 4]);
        }
        for counted in [true, false] {
            compare(&twin, 7, counted, &mut dice);
        }
    }

    #[test]
    fn whatever_bytes_an_image_has_walks_end_without_panic() {
        let mut dice = Dice(0xDEAD_BEEF_0BAD_F00D);
        let mut twin = Twin::new();
        for child in 0..300 {
            let mut name = vec![b"com".to_vec(), format!("n{child}").into_bytes()];
            twin.insert(name.clone(), vec![child % 300]);
            name.push(dice.label());
            twin.insert(name, vec![1]);
        }
        let names: Vec<_> = twin.keys().map(|name| path(name).to_name()).collect();
        let refs: Vec<_> = names.iter().collect();
        for _ in 0..300 {
            let mut image = image(&twin, 7, true);
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
