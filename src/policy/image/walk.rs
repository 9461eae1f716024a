//! Walks from the root to names, up to 32 at a time, so that their accesses to memory overlap.

use super::bucket::ChildRef;
use super::edge::Edges;
use super::layout::Section;
use super::loaded::Image;
pub use super::step::Position;
use super::step::{LookupState, TrieView, at_or_above};
use super::tld_table::{self, TldEntry};
use crate::wire::name::Name;

/// The number of names that are looked up at a time.
pub const BATCH: usize = 32;

impl Image {
    /// Walks to each name and calls `pass` for every node on the way, but for the root only if it has rules or is the
    /// name. The arguments are the index of the name, the position of the node, its number of labels (for a node below
    /// the name, the labels of the name), and its value. The nodes of a name come from the root down. After its
    /// ancestors come at most two nodes: the name itself or the next node below, and the only child of that node. Never
    /// allocates.
    #[inline]
    pub fn walk(&self, names: &[&Name], mut pass: impl FnMut(usize, Position, usize, u32)) {
        self.walk_nodes(names, |which, position, level, value, _| {
            pass(which, position, level, value);
        });
    }

    /// Finds the nodes of names. Calls `found` with the index of each name that has a node, the node's
    /// [place](super::cursor::Cursor::place), and its value. The place of a name without a parent in the image but the root
    /// may be unknown.
    pub fn locate(&self, names: &[&Name], mut found: impl FnMut(usize, Option<usize>, u32)) {
        self.walk_nodes(names, |which, position, _, value, place| {
            if position == Position::At {
                found(which, place, value);
            }
        });
    }

    /// Like [`walk`](Self::walk), with the places of the nodes, as far as they are known.
    #[inline(always)]
    fn walk_nodes(
        &self,
        names: &[&Name],
        mut pass: impl FnMut(usize, Position, usize, u32, Option<usize>),
    ) {
        if let [name] = names {
            return self.walk_one(name, &mut |position, level, value, place| {
                pass(0, position, level, value, place);
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
    fn walk_one(&self, name: &Name, pass: &mut impl FnMut(Position, usize, u32, Option<usize>)) {
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
        pass: &mut impl FnMut(usize, Position, usize, u32, Option<usize>),
    ) {
        let trie = self.trie_view();
        let mut states = [LookupState::new(&Name::ROOT); BATCH];
        let mut active = [0_u8; BATCH];
        let mut count = 0;
        for (which, &name) in names.iter().enumerate() {
            let state = &mut states[which % BATCH];
            state.name = name;
            let next = self.start(state, &mut |position, level, value, place| {
                pass(first + which, position, level, value, place);
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
                    let next =
                        trie.step(state, kind as u8, &mut |position, level, value, place| {
                            pass(first + usize::from(which), position, level, value, place);
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
        pass: &mut impl FnMut(Position, usize, u32, Option<usize>),
    ) -> Option<ChildRef> {
        let depth = state.name.label_count();
        if self.root_has_rules || depth == 0 {
            pass(at_or_above(0, depth), 0, self.root_value, None);
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
                    pass(at_or_above(1, depth), 1, value, None);
                    (state.level, children) = (1, grandchildren);
                }
            }
        }
        (state.level < depth && children != ChildRef::NONE).then_some(children)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::io::Cursor;

    use super::*;
    use crate::policy::image::ImageBytes;
    use crate::policy::image::clauses::ClausesBuilder;
    use crate::policy::image::path::{Key, Path};
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
        let mut histogram = PairHistogram::default();
        let mut paths: Vec<_> = model.iter().map(|(name, s)| (path(name), s)).collect();
        for (path, _) in paths.iter().filter(|_| counted) {
            histogram.count(path.as_bytes());
        }
        paths.sort_by(|(a, _), (b, _)| key.compare(a.as_bytes(), b.as_bytes()));
        let mut writer = Writer::new(
            Cursor::new(Vec::new()),
            key,
            histogram,
            ClausesBuilder::of_sources(400),
        )
        .expect("memory");
        for (path, sources) in paths {
            let rule = |&source: &u16| ImageRule {
                clause: source.into(),
                scope: Scope::Exact,
            };
            let rules: Vec<_> = sources.iter().map(|s| rule(s).to_bits()).collect();
            writer.push(path.as_bytes(), &rules).expect("memory");
        }
        let (to, _) = writer.finish(&Provenance::numbered(400)).expect("memory");
        Image::open(ImageBytes::Heap(to.into_inner())).expect("undamaged")
    }

    /// The expected report of a walk to a name: the sources on each of its ancestors and on itself, by level, and the
    /// sources below.
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
            let sources: Vec<_> = value.rules().map(|rule| image.source_of(rule)).collect();
            match position {
                Position::Above => assert!(level < depth),
                Position::At => assert!(level == depth && nth + 2 >= passed.len()),
                Position::Below => assert!(level == depth && nth + 2 >= passed.len()),
            }
            match position {
                Position::Below => below.extend(sources),
                _ if !sources.is_empty() => on.push((level, sources)),
                _ => {}
            }
            if position != Position::Above {
                below.extend(value.sources_below().map(|below| below.source));
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
                // In odd rounds, a large model can have more values than fit into seven bits.
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
