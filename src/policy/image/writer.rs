//! Writes an image in one pass from rules in the order of their paths, holding only the unfinished nodes.

use std::io::{Seek, Write};

use fixedbitset::FixedBitSet;

use super::bits::BitWriter;
use super::bucket::{
    self, CLASS_LIMIT, ChildRef, GROUP_LIMIT, LEADING_ZEROS, MAX_CHILDREN, NewChild, OFFSET_LIMIT,
    TRAILING_ZEROS, UNIT, buckets, index,
};
use super::clauses::ClausesBuilder;
use super::directory::{COARSE_UNIT, DirectoryBuilder, GROUP_SLOTS, GroupContent};
use super::error::{TooLarge, WriteError};
use super::finished::FinishedChildren;
use super::layout::{HeaderFacts, Section, SectionWriter};
use super::path::{Key, labels};
use super::provenance::Provenance;
use super::text::{PairHistogram, TextCode};
use super::tld_table;
use super::triggers::Triggers;
use super::values::{ImageRule, Interner, SOURCES, SourceBelow};
use crate::policy::effect::EffectError;

/// The maximum number of children that are put into one bucket without a directory.
const SINGLE_BUCKET_MAX: usize = 16;
/// The maximum average number of children per bucket of a directory.
const AVERAGE_FILL: usize = 8;

/// Writes an image.
pub struct Writer<W: Write> {
    key: Key,
    text: TextCode,
    /// Counts the text that is written, whichever histogram the code was made from.
    histogram: PairHistogram,
    sections: SectionWriter<W>,
    interner: Interner,
    clauses: ClausesBuilder,
    triggers: Triggers,
    directory: DirectoryBuilder,
    /// The path that was pushed last.
    path: Vec<u8>,
    /// The nodes of that path, the root first; those after `depth` are spare.
    open: Vec<OpenNode>,
    depth: usize,
    /// The nodes directly below the root, unless there are too many.
    tlds: Vec<(u64, u32, ChildRef)>,
    facts: HeaderFacts,
    bits: BitWriter,
    scratch: Vec<u8>,
}

/// A node with further children to come.
#[derive(Default)]
struct OpenNode {
    /// Where its label starts and ends in the path.
    label: (usize, usize),
    hash: u64,
    /// Sorted.
    rules: Vec<u32>,
    /// The rules that cover every name below, as [`ClausesBuilder::cover`] returns them.
    covers: Vec<u32>,
    /// The sources that have rules below: for each source a bit for rules with the default effect, then one for others.
    sources_below: FixedBitSet,
    finished: FinishedChildren,
}

impl<W: Write + Seek> Writer<W> {
    /// A writer that starts at the current position of `to`. The text code is made from `histogram`. Any
    /// histogram can be used; a histogram of the names to be written yields the smallest image. Rules refer to
    /// `clauses`.
    ///
    /// # Errors
    /// If writing fails.
    pub fn new(
        to: W,
        key: Key,
        histogram: PairHistogram,
        clauses: ClausesBuilder,
    ) -> Result<Self, WriteError> {
        let text = TextCode::new(&histogram.lengths()).expect("Huffman's codes are complete");
        let mut sections = SectionWriter::new(to)?;
        sections.write(&[0; LEADING_ZEROS])?;
        Ok(Self {
            key,
            text,
            histogram: PairHistogram::default(),
            sections,
            interner: Interner::default(),
            clauses,
            triggers: Triggers::default(),
            directory: DirectoryBuilder::default(),
            path: Vec::new(),
            open: vec![OpenNode::default()],
            depth: 0,
            tlds: Vec::new(),
            facts: HeaderFacts::default(),
            bits: BitWriter::default(),
            scratch: Vec::new(),
        })
    }

    /// Adds the rules on a path: not empty, sorted, without duplicates. Paths are pushed in the order of
    /// [`Key::compare`], each once. Rules that are redundant beside others of the same source are counted and left
    /// out: the others match the same names with the same effect.
    ///
    /// # Errors
    /// If the image gets too large, or writing fails.
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
        let joined = self.clauses.join_records(rules)?;
        let given = rules.len();
        let rules = joined.as_deref().unwrap_or(rules);
        self.facts.pruned += (given - rules.len()) as u64;
        for &rule in rules {
            if self
                .clauses
                .is_redundant(rule, rules, above.iter().rev().map(|open| &*open.covers))
            {
                self.facts.pruned += 1;
                continue;
            }
            self.facts.rules += 1;
            own.rules.push(rule);
            if rule & ImageRule::SCOPE != ImageRule::EXACT {
                own.covers.push(self.clauses.cover(rule));
            }
        }
        if self.clauses.has_amendable() && own.rules.len() > 1 {
            let before = own.rules.len();
            self.clauses.join_pairs(&mut own.rules);
            let joined = (before - own.rules.len()) as u64;
            self.facts.rules -= joined;
            self.facts.pruned += joined;
        }
        Ok(())
    }

    /// Adds rules whose triggers are not names. May be called once. `source` returns the name of a source for an error.
    ///
    /// # Errors
    /// If a pattern is not accepted, or all of them are too much work for a lookup.
    pub fn add_triggers<'n>(
        &mut self,
        mut triggers: Triggers,
        source: impl Fn(u16) -> &'n str,
    ) -> Result<(), WriteError> {
        triggers.join_records(&mut self.clauses)?;
        self.triggers = triggers.finish(self.clauses.table(), source)?;
        self.facts.rules += self.triggers.len() as u64;
        Ok(())
    }

    /// Finishes the deepest node of the path, and adds it to the finished children of its parent.
    fn close(&mut self) -> Result<(), WriteError> {
        let (above, own) = self.open.split_at_mut(self.depth);
        let (parent, node) = (&mut above[self.depth - 1], &mut own[0]);
        self.depth -= 1;
        let label = &self.path[node.label.0..node.label.1];
        if node.finished.count > 0 || !node.rules.is_empty() {
            self.text.label(label, |symbol, bits, count| {
                self.histogram.count_pair(symbol);
                self.bits.push(bits, count);
            });
        }
        parent.sources_below.union_with(&node.sources_below);
        for &rule in &node.rules {
            let clause = self.clauses.table().get(rule >> ImageRule::CLAUSE_SHIFT);
            if clause.effect != 0
                && self
                    .clauses
                    .table()
                    .is_void(rule >> ImageRule::CLAUSE_SHIFT)
            {
                continue;
            }
            let has_effect = usize::from(clause.effect != 0);
            let place = usize::from(clause.source) * 2 + has_effect;
            parent.sources_below.grow_and_insert(place);
        }
        // Lookups of names below must then find the node, and in its value the sources below.
        let hides = self
            .clauses
            .hides_wildcard(&node.rules, &node.sources_below, &parent.covers);
        let chain = !hides && node.rules.is_empty() && node.finished.is_chain();
        // An only child directly follows the node in the same bucket. This avoids a bucket for one child.
        let single = !hides && !node.rules.is_empty() && node.finished.is_one_child();
        if chain {
            // A chain of nodes without rules is one edge.
            let (bits, count) = self.text.between(label.len());
            self.bits.push(bits, count);
        } else if node.finished.count > 0 || !node.rules.is_empty() {
            let children = if single {
                ChildRef::NONE
            } else {
                write_children(
                    &node.finished,
                    &mut self.sections,
                    &mut self.directory,
                    &mut self.facts,
                    &mut self.scratch,
                )?
            };
            // Lookups read the sources below from the only child. So the value of the node does not depend on them, and
            // fewer combinations of rules and sources need a value.
            let below = sources(&node.sources_below).filter(|_| !single);
            let value = self.interner.intern(&node.rules, below)?;
            (parent.finished).push(node.hash, false, value, children, &mut self.bits);
            self.facts.nodes += 1;
            if self.depth == 0 && !single {
                add_tld(&mut self.tlds, label, value, children);
            }
        }
        if chain || single {
            for child in node.finished.children() {
                self.bits.append(child.text, child.size);
                let is_only_child = single || child.is_only_child;
                (parent.finished).push(
                    node.hash,
                    is_only_child,
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
        node.sources_below.clear();
        node.finished.clear();
        Ok(())
    }

    /// Finishes the image. Returns the `to` that was passed to [`new`](Self::new), and the header's fields.
    ///
    /// # Errors
    /// If the image gets too large, or writing fails.
    pub fn finish(mut self, provenance: &Provenance) -> Result<(W, HeaderFacts), WriteError> {
        if provenance.sources.len() > SOURCES {
            return Err(TooLarge::Sources.into());
        }
        if !self.clauses.table().are_marks_valid(provenance) {
            return Err(TooLarge::Effect(EffectError::Void).into());
        }
        while self.depth > 0 {
            self.close()?;
        }
        let root = &self.open[0];
        let children = write_children(
            &root.finished,
            &mut self.sections,
            &mut self.directory,
            &mut self.facts,
            &mut self.scratch,
        )?;
        let value = self
            .interner
            .intern(&root.rules, sources(&root.sources_below))?;
        self.facts.root_children = children;
        self.facts.root_value = value;
        self.facts.seed = self.key.seed();
        let Self {
            mut sections,
            directory,
            tlds,
            interner,
            clauses,
            triggers,
            text,
            histogram,
            facts,
            ..
        } = self;
        sections.write(&[0; TRAILING_ZEROS])?;
        sections.end(Section::Buckets)?;
        let (groups, filters) = directory.sections();
        let (table, words) = interner.sections();
        let (pairs, effects) = clauses.table().sections();
        let (prefixes, patterns) = triggers.sections();
        for (section, bytes) in [
            (Section::Directory, &*groups),
            (Section::Filters, &filters),
            (Section::TldTable, &tld_table::table(&tlds, facts.seed)),
            (Section::Values, &table),
            (Section::Words, &words),
            (Section::Clauses, &pairs),
            (Section::Effects, &effects),
            (Section::Prefixes, &prefixes),
            (Section::Patterns, &patterns),
            (Section::Text, text.lengths()),
            (Section::PairHistogram, &histogram.to_bytes()),
            (Section::Provenance, &provenance.to_json()),
        ] {
            sections.write(bytes)?;
            sections.end(section)?;
        }
        let to = sections.finish(&facts)?;
        Ok((to, facts))
    }
}

/// Adds a node directly below the root to the table of top-level labels. Stops one after the maximum, so that
/// the table is known to be too large.
fn add_tld(tlds: &mut Vec<(u64, u32, ChildRef)>, label: &[u8], value: u32, children: ChildRef) {
    if tlds.len() <= tld_table::MAX_LABELS {
        tlds.extend(tld_table::key(label).map(|key| (key, value, children)));
    }
}

/// The number of labels and of bytes that two paths share.
fn shared(one: &[u8], other: &[u8]) -> (usize, usize) {
    let pairs = labels(one).zip(labels(other)).take_while(|(a, b)| a == b);
    pairs.fold((0, 0), |(count, bytes), (label, _)| {
        (count + 1, bytes + 1 + label.len())
    })
}

/// Writes the children of a node, which are in the order of their hashes.
fn write_children<W: Write + Seek>(
    finished: &FinishedChildren,
    sections: &mut SectionWriter<W>,
    directory: &mut DirectoryBuilder,
    facts: &mut HeaderFacts,
    scratch: &mut Vec<u8>,
) -> Result<ChildRef, WriteError> {
    if finished.count == 0 {
        return Ok(ChildRef::NONE);
    }
    scratch.clear();
    if finished.count <= SINGLE_BUCKET_MAX {
        let mut children = [EMPTY; MAX_CHILDREN];
        for (place, child) in children.iter_mut().zip(finished.children()) {
            *place = child;
        }
        add_bucket(&children[..finished.count], facts, scratch);
        let offset = sections.section_len();
        write_bucket(scratch, UNIT, sections)?;
        return Ok(ChildRef::bucket(offset));
    }
    let class = class(finished)?;
    let count = buckets(class);
    let child_ref = directory.begin(class)?;
    let mut children = finished.children().peekable();
    for first in (0..count).step_by(GROUP_SLOTS) {
        // The largest of the twelve buckets determines the unit of the group.
        scratch.clear();
        let mut group = GroupContent::default();
        for (slot, bucket) in (first..count).take(GROUP_SLOTS).enumerate() {
            let mut mine = [EMPTY; MAX_CHILDREN];
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
        let unit = directory.push(sections.section_len(), &group);
        let mut rest = scratch.as_slice();
        for size in group.sizes {
            let (bucket, after) = rest.split_at(size);
            write_bucket(bucket, unit, sections)?;
            rest = after;
        }
    }
    Ok(child_ref)
}

const EMPTY: NewChild<'static> = NewChild {
    hash: 0,
    is_only_child: false,
    value: 0,
    children: ChildRef::NONE,
    size: 0,
    text: &[],
};

/// The smallest class of a range with which no bucket has more than [`MAX_CHILDREN`] children.
fn class(finished: &FinishedChildren) -> Result<u32, TooLarge> {
    let places = GROUP_LIMIT * GROUP_SLOTS as u64;
    let mut classes = (0..CLASS_LIMIT)
        .skip_while(|&class| (buckets(class) as usize) < finished.count.div_ceil(AVERAGE_FILL))
        .take_while(|&class| u64::from(buckets(class)) <= places);
    let fits = |&class: &u32| {
        let (mut run, mut last) = (0, None);
        finished.children().all(|child| {
            let bucket = Some(index(child.hash, buckets(class)));
            run = if last == bucket { run + 1 } else { 1 };
            last = bucket;
            run <= MAX_CHILDREN
        })
    };
    classes.find(fits).ok_or(TooLarge::Directory)
}

fn add_bucket(children: &[NewChild<'_>], facts: &mut HeaderFacts, scratch: &mut Vec<u8>) {
    bucket::write(children, scratch);
    facts.buckets += 1;
    facts.fullest = facts.fullest.max(children.len() as u32);
}

/// Writes a bucket, padded with zeros to a multiple of `unit`.
fn write_bucket<W: Write + Seek>(
    bucket: &[u8],
    unit: usize,
    sections: &mut SectionWriter<W>,
) -> Result<(), WriteError> {
    let size = bucket.len().next_multiple_of(unit);
    if sections.section_len() + size as u64 >= OFFSET_LIMIT {
        return Err(TooLarge::Buckets.into());
    }
    sections.write(bucket)?;
    sections.write(&[0; COARSE_UNIT][..size - bucket.len()])
}

fn sources(set: &FixedBitSet) -> impl Iterator<Item = u32> {
    let mut ones = set.ones().peekable();
    std::iter::from_fn(move || {
        let first = ones.next()?;
        let is_first_effect = first % 2 != 0;
        let second = ones.next_if(|next| next / 2 == first / 2);
        let below = SourceBelow {
            source: (first / 2) as u16,
            has_default: !is_first_effect,
            has_effect: is_first_effect || second.is_some(),
        };
        Some(below.to_bits())
    })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn top_level_labels_are_not_collected_past_the_limit_of_the_table() {
        let key = Key::new(7);
        let mut paths: Vec<_> = (0..9999).map(|n| format!("\x04{n:04}")).collect();
        paths.sort_by(|one, other| key.compare(one.as_bytes(), other.as_bytes()));
        let to = Cursor::new(Vec::new());
        let mut writer = Writer::new(
            to,
            key,
            PairHistogram::default(),
            ClausesBuilder::of_sources(1),
        )
        .expect("memory");
        for path in paths {
            writer.push(path.as_bytes(), &[0]).expect("memory");
        }
        assert_eq!(writer.tlds.len(), tld_table::MAX_LABELS + 1);
    }
}
