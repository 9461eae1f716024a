//! Owns the making of an image from rules in the order of their paths, in one pass.
//! Refuses to sort, and to hold more than the children of the nodes on the present path.

use std::io::{Seek, Write};

use super::bits::{BitWriter, word};
use super::bucket::{
    self, BEFORE, BEHIND, CLASSES, ChildRef, GROUPS, MOST, NewChild, OFFSETS, UNIT, buckets, index,
};
use super::directory::{COARSE, DirectoryBuilder, GROUP, Group};
use super::layout::{Facts, Section, Sink};
use super::order::{Key, labels};
use super::provenance::Provenance;
use super::text::{PairHistogram, TextCode};
use super::tld_table;
use super::values::{ImageRule, Interner, SOURCES};
use super::{TooLarge, WriteError};

/// Most children that are put into one bucket without a directory.
const SINGLE: usize = 16;
/// Children for each bucket of a directory, at most, on average.
const FILL: usize = 8;
/// Bytes before the text of a child that waits for its parent.
const CHILD_HEADER: usize = 19;

/// Writes an image.
pub struct Writer<W: Write> {
    key: Key,
    text: TextCode,
    /// Of the text that is written, whatever the code was made from.
    census: PairHistogram,
    sink: Sink<W>,
    interner: Interner,
    directory: DirectoryBuilder,
    /// The path that was pushed last.
    path: Vec<u8>,
    /// The nodes on that path, the root first; those behind `depth` are spare.
    open: Vec<OpenNode>,
    depth: usize,
    /// The nodes right below the root, while they are few.
    tlds: Vec<(u64, u32, ChildRef)>,
    facts: Facts,
    bits: BitWriter,
    scratch: Vec<u8>,
}

/// A node whose children are not all known yet.
#[derive(Default)]
struct OpenNode {
    /// Where its label starts and ends in the path.
    label: (usize, usize),
    hash: u64,
    /// Sorted.
    rules: Vec<u32>,
    /// Sources of the rules that match every name below, as they are in a rule's bits.
    covers: Vec<u32>,
    /// A bit for each source that has rules beneath.
    beneath: Vec<u64>,
    waiting: FinishedChildren,
}

/// The finished children of an open node.
#[derive(Default)]
struct FinishedChildren {
    count: usize,
    /// For each: hash (8), value (4), kids (4), size in bits (2), whether it is the only child of
    /// the one before (1), text.
    bytes: Vec<u8>,
}

impl FinishedChildren {
    fn children(&self) -> impl Iterator<Item = NewChild<'_>> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (head, tail) = rest.split_at_checked(CHILD_HEADER)?;
            let size = word(head, 16) as u32 & 0xFFFF;
            let (text, tail) = tail.split_at(size.div_ceil(8) as usize);
            rest = tail;
            Some(NewChild {
                hash: word(head, 0),
                inner: head[18] != 0,
                value: word(head, 8) as u32,
                children: ChildRef(word(head, 12) as u32),
                size,
                text,
            })
        })
    }

    /// Whether there is one, without an only child beside it.
    fn is_single(&self) -> bool {
        self.count == 1
    }

    /// Whether they are all one child, and perhaps its only child.
    fn is_chain(&self) -> bool {
        self.children().skip(1).all(|child| child.inner) && self.count > 0
    }

    fn push(&mut self, hash: u64, inner: bool, value: u32, kids: ChildRef, bits: &mut BitWriter) {
        self.bytes.extend(hash.to_le_bytes());
        self.bytes.extend(value.to_le_bytes());
        self.bytes.extend(kids.0.to_le_bytes());
        self.bytes.extend((bits.count() as u16).to_le_bytes());
        self.bytes.push(u8::from(inner));
        bits.take(&mut self.bytes);
        self.count += 1;
    }
}

impl<W: Write + Seek> Writer<W> {
    /// A writer to `to`, from its present position on. `census` makes the text code: any will do,
    /// one of the names to come gives the smallest image.
    ///
    /// # Errors
    /// When `to` can't be written.
    pub fn new(to: W, key: Key, census: PairHistogram) -> Result<Self, WriteError> {
        let text = TextCode::new(&census.lengths()).expect("Huffman's codes are complete");
        let mut sink = Sink::new(to)?;
        sink.write(&[0; BEFORE])?;
        Ok(Self {
            key,
            text,
            census: PairHistogram::default(),
            sink,
            interner: Interner::default(),
            directory: DirectoryBuilder::default(),
            path: Vec::new(),
            open: vec![OpenNode::default()],
            depth: 0,
            tlds: Vec::new(),
            facts: Facts::default(),
            bits: BitWriter::default(),
            scratch: Vec::new(),
        })
    }

    /// Adds the rules of a path: not empty, sorted, each once. Paths come in the order of
    /// [`Key::compare`], each once. A rule that another one of the same source makes
    /// needless is counted and left out.
    ///
    /// # Errors
    /// When the image gets too large, or can't be written.
    pub fn push(&mut self, path: &[u8], rules: &[u32]) -> Result<(), WriteError> {
        let (same, bytes) = shared(&self.path, path);
        while self.depth > same {
            self.close()?;
        }
        self.path.truncate(bytes);
        let mut at = bytes;
        self.path.extend(&path[bytes..]);
        for label in labels(&path[bytes..]) {
            self.depth += 1;
            if self.depth == self.open.len() {
                self.open.push(OpenNode::default());
            }
            let open = &mut self.open[self.depth];
            open.label = (at + 1, at + 1 + label.len());
            open.hash = self.key.hash(label);
            at += 1 + label.len();
        }
        let (above, own) = self.open.split_at_mut(self.depth);
        let own = &mut own[0];
        for &rule in rules {
            let source = rule & !0xFF;
            let covered = above.iter().any(|open| open.covers.contains(&source));
            if covered || is_redundant(rule, rules) {
                self.facts.pruned += 1;
                continue;
            }
            self.facts.rules += 1;
            own.rules.push(rule);
            if rule & 0xFF != ImageRule::EXACT {
                own.covers.push(source);
            }
        }
        Ok(())
    }

    /// Closes the deepest node on the path: it becomes a child of the one above.
    fn close(&mut self) -> Result<(), WriteError> {
        let (above, own) = self.open.split_at_mut(self.depth);
        let (parent, node) = (&mut above[self.depth - 1], &mut own[0]);
        self.depth -= 1;
        let label = &self.path[node.label.0..node.label.1];
        if node.waiting.count > 0 || !node.rules.is_empty() {
            self.text.label(label, |symbol, bits, count| {
                self.census.count_pair(symbol);
                self.bits.push(bits, count);
            });
        }
        unite(&mut parent.beneath, &node.beneath);
        for &rule in &node.rules {
            let source = (rule >> 16) as usize;
            mark(&mut parent.beneath, source);
        }
        let chain = node.rules.is_empty() && node.waiting.is_chain();
        // An only child stands right behind the node itself, instead of in a bucket.
        let single = !node.rules.is_empty() && node.waiting.is_single();
        if chain {
            // A chain without rules on the way is one edge.
            let (bits, count) = self.text.between(label.len());
            self.bits.push(bits, count);
        } else if node.waiting.count > 0 || !node.rules.is_empty() {
            let kids = if single {
                ChildRef::NONE
            } else {
                write_children(
                    &node.waiting,
                    &mut self.sink,
                    &mut self.directory,
                    &mut self.facts,
                    &mut self.scratch,
                )?
            };
            let value = self.interner.intern(&node.rules, sources(&node.beneath))?;
            (parent.waiting).push(node.hash, false, value, kids, &mut self.bits);
            self.facts.nodes += 1;
            if self.depth == 0 && !single {
                add_tld(&mut self.tlds, label, value, kids);
            }
        }
        if chain || single {
            for child in node.waiting.children() {
                self.bits.append(child.text, child.size);
                let inner = single || child.inner;
                (parent.waiting).push(
                    node.hash,
                    inner,
                    child.value,
                    child.children,
                    &mut self.bits,
                );
            }
            if self.depth == 0 {
                add_tld(&mut self.tlds, label, 0, tld_table::IN_BUCKET);
            }
        }
        node.rules.clear();
        node.covers.clear();
        node.beneath.clear();
        node.waiting.count = 0;
        node.waiting.bytes.clear();
        Ok(())
    }

    /// Writes all that is left, and returns what was written to.
    ///
    /// # Errors
    /// When the image gets too large, or can't be written.
    pub fn finish(mut self, provenance: &Provenance) -> Result<(W, Facts), WriteError> {
        if provenance.sources.len() > SOURCES {
            return Err(TooLarge::Sources.into());
        }
        while self.depth > 0 {
            self.close()?;
        }
        let root = &self.open[0];
        let kids = write_children(
            &root.waiting,
            &mut self.sink,
            &mut self.directory,
            &mut self.facts,
            &mut self.scratch,
        )?;
        let value = self.interner.intern(&root.rules, sources(&root.beneath))?;
        self.facts.root_children = kids;
        self.facts.root_value = value;
        self.facts.seed = self.key.seed();
        let Self {
            mut sink,
            directory,
            tlds: tops,
            interner,
            text,
            census,
            facts,
            ..
        } = self;
        sink.write(&[0; BEHIND])?;
        sink.end(Section::Buckets)?;
        let (groups, filters) = directory.sections();
        sink.write(&groups)?;
        sink.end(Section::Directory)?;
        sink.write(&filters)?;
        sink.end(Section::Filters)?;
        sink.write(&tld_table::table(&tops, facts.seed))?;
        sink.end(Section::TldTable)?;
        let (table, words) = interner.sections();
        sink.write(&table)?;
        sink.end(Section::Values)?;
        sink.write(&words)?;
        sink.end(Section::Words)?;
        sink.write(text.lengths())?;
        sink.end(Section::Text)?;
        sink.write(&census.to_bytes())?;
        sink.end(Section::PairHistogram)?;
        sink.write(&provenance.to_json())?;
        sink.end(Section::Provenance)?;
        let to = sink.finish(&facts)?;
        Ok((to, facts))
    }
}

/// Keeps a node right below the root for the table; of too many for one, just one too many.
fn add_tld(tops: &mut Vec<(u64, u32, ChildRef)>, label: &[u8], value: u32, kids: ChildRef) {
    if tops.len() <= tld_table::MOST {
        tops.extend(tld_table::key(label).map(|key| (key, value, kids)));
    }
}

/// How many labels and bytes two paths share.
fn shared(one: &[u8], other: &[u8]) -> (usize, usize) {
    let pairs = labels(one).zip(labels(other)).take_while(|(a, b)| a == b);
    pairs.fold((0, 0), |(count, bytes), (label, _)| {
        (count + 1, bytes + 1 + label.len())
    })
}

/// Whether another rule on the same name makes this one needless.
fn is_redundant(rule: u32, rules: &[u32]) -> bool {
    let subtree = rule & !0xFF | ImageRule::SUBTREE;
    rule != subtree && rules.contains(&subtree)
}

/// Writes the children of a node, which come in the order of their hashes.
fn write_children<W: Write + Seek>(
    waiting: &FinishedChildren,
    sink: &mut Sink<W>,
    directory: &mut DirectoryBuilder,
    facts: &mut Facts,
    scratch: &mut Vec<u8>,
) -> Result<ChildRef, WriteError> {
    if waiting.count == 0 {
        return Ok(ChildRef::NONE);
    }
    scratch.clear();
    if waiting.count <= SINGLE {
        let mut children = [EMPTY; MOST];
        for (place, child) in children.iter_mut().zip(waiting.children()) {
            *place = child;
        }
        add_bucket(&children[..waiting.count], facts, scratch);
        let offset = sink.section_len();
        write_bucket(scratch, UNIT, sink)?;
        return Ok(ChildRef::bucket(offset));
    }
    let class = class(waiting)?;
    let count = buckets(class);
    let kids = directory.begin(class)?;
    let mut children = waiting.children().peekable();
    for first in (0..count).step_by(GROUP) {
        // Twelve together: the largest decides in which unit all are told.
        scratch.clear();
        let mut group = Group::default();
        for (slot, bucket) in (first..count).take(GROUP).enumerate() {
            let mut mine = [EMPTY; MOST];
            let mut len = 0;
            while let Some(child) = children.next_if(|child| index(child.hash, count) == bucket) {
                mine[len] = child;
                len += 1;
            }
            let (mine, before) = (&mine[..len], scratch.len());
            if len > 0 {
                add_bucket(mine, facts, scratch);
            }
            let hashes = mine.iter().map(|child| child.hash);
            group.set(slot, scratch.len() - before, hashes);
        }
        let unit = directory.push(sink.section_len(), &group);
        let mut rest = scratch.as_slice();
        for size in group.sizes {
            let (bucket, behind) = rest.split_at(size);
            write_bucket(bucket, unit, sink)?;
            rest = behind;
        }
    }
    Ok(kids)
}

const EMPTY: NewChild<'static> = NewChild {
    hash: 0,
    inner: false,
    value: 0,
    children: ChildRef::NONE,
    size: 0,
    text: &[],
};

/// How many buckets a node gets: enough that none holds more than [`MOST`].
fn class(waiting: &FinishedChildren) -> Result<u32, TooLarge> {
    let places = GROUPS * GROUP as u64;
    let mut classes = (0..CLASSES)
        .skip_while(|&class| (buckets(class) as usize) < waiting.count.div_ceil(FILL))
        .take_while(|&class| u64::from(buckets(class)) <= places);
    let fits = |&class: &u32| {
        let (mut run, mut last) = (0, None);
        waiting.children().all(|child| {
            let bucket = Some(index(child.hash, buckets(class)));
            run = if last == bucket { run + 1 } else { 1 };
            last = bucket;
            run <= MOST
        })
    };
    classes.find(fits).ok_or(TooLarge::Directory)
}

fn add_bucket(children: &[NewChild<'_>], facts: &mut Facts, scratch: &mut Vec<u8>) {
    bucket::write(children, scratch);
    facts.buckets += 1;
    facts.fullest = facts.fullest.max(children.len() as u32);
}

/// Writes a bucket, and zeros up to a multiple of `unit`.
fn write_bucket<W: Write + Seek>(
    bucket: &[u8],
    unit: usize,
    sink: &mut Sink<W>,
) -> Result<(), WriteError> {
    let size = bucket.len().next_multiple_of(unit);
    if sink.section_len() + size as u64 >= OFFSETS {
        return Err(TooLarge::Buckets.into());
    }
    sink.write(bucket)?;
    sink.write(&[0; COARSE][..size - bucket.len()])
}

fn mark(set: &mut Vec<u64>, source: usize) {
    if set.len() <= source / 64 {
        set.resize(source / 64 + 1, 0);
    }
    set[source / 64] |= 1 << (source % 64);
}

fn unite(set: &mut Vec<u64>, more: &[u64]) {
    if set.len() < more.len() {
        set.resize(more.len(), 0);
    }
    for (word, more) in set.iter_mut().zip(more) {
        *word |= more;
    }
}

/// The members of a set, sorted.
fn sources(set: &[u64]) -> impl Iterator<Item = u16> {
    set.iter().enumerate().flat_map(|(at, &word)| {
        let bits = (0..64).filter(move |bit| word >> bit & 1 != 0);
        bits.map(move |bit| (at * 64 + bit) as u16)
    })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn more_top_labels_than_a_table_has_are_not_kept() {
        let key = Key::new(7);
        let mut paths: Vec<_> = (0..9999).map(|n| format!("\x04{n:04}")).collect();
        paths.sort_by(|one, other| key.compare(one.as_bytes(), other.as_bytes()));
        let to = Cursor::new(Vec::new());
        let mut writer = Writer::new(to, key, PairHistogram::default()).expect("memory");
        for path in paths {
            writer.push(path.as_bytes(), &[0]).expect("memory");
        }
        assert_eq!(writer.tlds.len(), tld_table::MOST + 1);
    }
}
