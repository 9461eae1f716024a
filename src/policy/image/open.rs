//! Opens an image: checks its digests, and that its parts fit together.
//!
//! The children of a node are written before the node, so each reference must point to a preceding bucket, and there
//! are no cycles. Each bucket and each group of the directory is referred to once. Buckets fill their section without
//! gaps other than padding. The counts of the header match the nodes. The texts are not checked: a wrong text either
//! matches no name, or is just another name in the image.

use fixedbitset::FixedBitSet;

use super::bits::word;
use super::bucket::{Bucket, ChildRef, LEADING_ZEROS, TRAILING_ZEROS, UNIT};
use super::clauses::Clauses;
use super::directory::{COARSE_UNIT, Directory, groups};
use super::error::ImageError;
use super::layout::{self, Extent, Extents, HEADER, HeaderFacts, Section, read_header};
use super::loaded::{Image, ImageBytes};
use super::path::Key;
use super::provenance::Provenance;
use super::text::{Decoder, TextCode};
use super::tld_table;
use super::triggers::Triggers;
use super::values::{ImageRule, Value};
use crate::policy::rule::Scope;

impl Image {
    /// Checks the bytes and makes an image of them.
    ///
    /// # Errors
    /// [`ImageError`] if the bytes are damaged, or no image.
    pub fn open(bytes: ImageBytes) -> Result<Self, ImageError> {
        let all = &*bytes;
        let (facts, extents) = read_header(&all[..all.len().min(HEADER)], all.len() as u64)?;
        for (section, extent) in Section::ALL.into_iter().zip(&extents) {
            if section != Section::Buckets {
                check_digest(all, section, extent)?;
            }
        }
        check_gaps(all, &extents)?;
        let section = |section: Section| {
            let extent = &extents[section as usize];
            &all[extent.offset..extent.offset + extent.len]
        };
        let text = TextCode::new(section(Section::Text)).ok_or(ImageError::Invalid("text code"))?;
        let provenance = Provenance::from_json(section(Section::Provenance))?;
        let clauses = Clauses::from_sections(
            section(Section::Clauses),
            section(Section::Effects),
            provenance.sources.len(),
        )?;
        if !clauses.are_marks_valid(&provenance) {
            return Err(ImageError::Invalid("amendments"));
        }
        let (triggers, pattern_groups) = Triggers::from_sections(
            section(Section::Prefixes),
            section(Section::Patterns),
            &clauses,
        )?;
        let root = Value::at(
            section(Section::Values),
            section(Section::Words),
            facts.root_value,
        );
        let root_has_rules = root.rules().next().is_some();
        let image = Self {
            key: Key::new(facts.seed),
            text,
            facts,
            extents,
            provenance,
            clauses,
            triggers,
            pattern_groups,
            root_value: facts.root_value,
            root_children: facts.root_children,
            root_has_rules,
            bytes,
        };
        let buckets = Section::Buckets;
        let extent = &image.extents[buckets as usize];
        let digest = || check_digest(&image.bytes, buckets, extent);
        let (sealed, valid) = side_by_side(image.size(), digest, || validate(&image));
        sealed.and(valid)?;
        Ok(image)
    }
}

/// The size from which starting a second thread pays.
const LARGE: usize = 1 << 22;

/// Runs both checks of an image of `size` bytes, in parallel for a large image, because the start of a server
/// waits for them.
fn side_by_side<A: Send, B>(
    size: usize,
    one: impl Fn() -> A + Sync,
    other: impl Fn() -> B,
) -> (A, B) {
    if size < LARGE {
        return (one(), other());
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, &one);
        let other = other();
        // Falls back to this thread if spawning failed.
        let done = thread.ok().and_then(|thread| thread.join().ok());
        (done.unwrap_or_else(&one), other)
    })
}

/// Checks the digest of a section.
fn check_digest(all: &[u8], section: Section, extent: &Extent) -> Result<(), ImageError> {
    let bytes = &all[extent.offset..extent.offset + extent.len];
    if *blake3::hash(bytes).as_bytes() != extent.digest {
        return Err(ImageError::Damaged(section.name()));
    }
    Ok(())
}

/// Checks that there is only padding between the sections.
fn check_gaps(all: &[u8], extents: &Extents) -> Result<(), ImageError> {
    let mut last = HEADER;
    for extent in extents {
        check_gap(&all[last..extent.offset])?;
        last = extent.offset + extent.len;
    }
    check_gap(&all[last..])
}

/// Padding consists of zeros and ends at the next cache line.
fn check_gap(bytes: &[u8]) -> Result<(), ImageError> {
    let zeros = bytes.iter().all(|byte| *byte == 0);
    if !zeros || bytes.len() >= layout::LINE as usize {
        return Err(ImageError::Damaged("space between sections"));
    }
    Ok(())
}

/// Buckets and groups of the directory that no node refers to yet.
struct Unreferenced {
    /// Indexed by the offset of a bucket.
    buckets: FixedBitSet,
    groups: FixedBitSet,
}

/// Checks the nodes and their values.
fn validate(image: &Image) -> Result<(), ImageError> {
    let rules = values(image)?;
    let buckets = image.section(Section::Buckets);
    let directory = image.directory();
    let invalid = ImageError::Invalid("order of buckets");
    let len = |section| image.section(section).len();
    let groups = directory.count(len(Section::Directory), len(Section::Filters));
    let groups = groups.ok_or(invalid)?;
    let mut unreferenced = Unreferenced {
        buckets: FixedBitSet::with_capacity(buckets.len()),
        groups: FixedBitSet::with_capacity(groups),
    };
    unreferenced.groups.insert_range(..);
    let end = buckets.len().checked_sub(TRAILING_ZEROS).ok_or(invalid)?;
    let mut counted = HeaderFacts {
        rules: image.triggers.len() as u64,
        nodes: 0,
        buckets: 0,
        fullest: 0,
        ..image.facts
    };
    let mut at = LEADING_ZEROS;
    while at < end {
        let offset = u32::try_from(at).map_err(|_| invalid)?;
        let bucket = Bucket::at(buckets, offset).ok_or(invalid)?;
        let (mut good, mut after, mut alone) = (!bucket.is_empty(), 0, false);
        let mut sum = 0;
        bucket.each(|is_only_child, child| {
            // An only child follows a parent that has no other children.
            good &= child.text_end > child.start
                && child.text_end <= child.end
                && (!is_only_child || alone);
            let rules = rules.get(child.node.value as usize);
            good &= rules.is_some();
            sum += u64::from(rules.copied().unwrap_or(0));
            good &= unreferenced.take(child.node.children, directory, at);
            alone = !is_only_child && child.node.children == ChildRef::NONE;
            after = child.end;
        });
        if !good {
            return Err(ImageError::Invalid("buckets"));
        }
        unreferenced.buckets.insert(at);
        at += (after.div_ceil(8) as usize - LEADING_ZEROS).next_multiple_of(UNIT);
        // The buckets of a coarse group have more padding. No bucket begins with zeros.
        let zeros = |at: &usize| buckets.get(*at..at + UNIT) == Some(&[0; UNIT]);
        let padding = (at..end).step_by(UNIT).take_while(zeros);
        at += padding.take(COARSE_UNIT / UNIT - 1).count() * UNIT;
        counted.rules += sum;
        counted.buckets += 1;
        counted.nodes += bucket.len() as u64;
        counted.fullest = counted.fullest.max(bucket.len() as u32);
    }
    if at != end
        || !unreferenced.take(image.root_children, directory, at)
        || !unreferenced.is_clear()
    {
        return Err(invalid);
    }
    let root = rules.get(image.root_value as usize);
    counted.rules += u64::from(*root.ok_or(ImageError::Invalid("values"))?);
    // Other code allocates memory according to the counts in the header.
    if counted != image.facts {
        return Err(ImageError::Invalid("counts"));
    }
    if image.section(Section::TldTable) != tld_table(image) {
        return Err(ImageError::Invalid("top labels"));
    }
    Ok(())
}

impl Unreferenced {
    /// Marks children as referred to. False if they already were, or if they do not precede the bucket at `at`.
    fn take(&mut self, children: ChildRef, directory: Directory<'_>, at: usize) -> bool {
        if let Some(bucket) = children.as_bucket() {
            return self.take_bucket(bucket, at);
        }
        let Some((start, count)) = children.as_range() else {
            return true;
        };
        let groups = start as usize..(start + groups(count)) as usize;
        let exist = groups.end <= self.groups.len();
        if !children.is_countable() || !exist || !directory.ends(start, count) {
            return false;
        }
        let is_free = self.groups.contains_all_in_range(groups.clone());
        self.groups.remove_range(groups);
        let mut buckets = directory.range(start, 0..count);
        is_free && buckets.all(|bucket| bucket.is_some_and(|bucket| self.take_bucket(bucket, at)))
    }

    fn take_bucket(&mut self, bucket: u32, at: usize) -> bool {
        let bucket = bucket as usize;
        let is_free = bucket < at && self.buckets.contains(bucket);
        if is_free {
            self.buckets.remove(bucket);
        }
        is_free
    }

    fn is_clear(&self) -> bool {
        self.buckets.is_clear() && self.groups.is_clear()
    }
}

/// The table of top-level labels, rebuilt from the root's children in the order in which they were written.
fn tld_table(image: &Image) -> Vec<u8> {
    let buckets = image.section(Section::Buckets);
    let decoder = Decoder::new(&image.text);
    let (start, count) = image.root_children.as_range().unwrap_or((0, 0));
    let range = image.directory().range(start, 0..count).flatten();
    let mut nodes = Vec::new();
    for at in image.root_children.as_bucket().into_iter().chain(range) {
        let Some(bucket) = Bucket::at(buckets, at) else {
            continue;
        };
        for place in (0..bucket.len()).filter(|place| bucket.tag(*place).is_some()) {
            let child = bucket.child(place);
            let (mut label, mut labels) = (Vec::new(), 0);
            let size = (child.text_end - child.start) as u32;
            decoder.decode(
                buckets,
                bucket.section_bit(child.start),
                size,
                |byte| match byte {
                    Some(byte) if labels == 0 => label.push(byte),
                    Some(_) => {}
                    None => labels += 1,
                },
            );
            let edge = labels > 1 || bucket.has_only_child(place);
            let node = if edge {
                (0, tld_table::IN_BUCKET)
            } else {
                (child.node.value, child.node.children)
            };
            nodes.extend(tld_table::key(&label).map(|key| (key, node.0, node.1)));
        }
        if nodes.len() > tld_table::MAX_LABELS {
            break;
        }
    }
    tld_table::table(&nodes, image.facts.seed)
}

/// The number of rules of each value.
///
/// # Errors
/// [`ImageError`] if a value is malformed.
fn values(image: &Image) -> Result<Vec<u32>, ImageError> {
    let (table, words) = (
        image.section(Section::Values),
        image.section(Section::Words),
    );
    let sources = image.provenance.sources.len();
    let known = |source: usize| source < sources;
    let clauses = &image.clauses;
    // Each word belongs to one value, which bounds the time to read them all.
    let mut next = 0;
    let good = table.chunks(8).all(|entry| {
        let entry_at = |at: usize| word(entry, 0) >> at;
        let start = (entry_at(0) & 0xFFFF_FFFF) as usize * 4;
        let rules = (entry_at(32) & 0xFFFF) as usize;
        let below = entry_at(48) as usize;
        let end = start + (rules + below) * 4;
        let Some(words) = words.get(start..end).filter(|_| start == next) else {
            return false;
        };
        next = end;
        let (all, _) = words.as_chunks::<4>();
        let all: Vec<u32> = all.iter().map(|word| u32::from_le_bytes(*word)).collect();
        let (rules, below) = all.split_at(rules);
        let rule = |bits: &u32| {
            ImageRule::from_bits(*bits).is_some_and(|rule| {
                let is_known = (rule.clause as usize) < clauses.len();
                is_known && (rule.scope != Scope::Subtree || !clauses.is_void(rule.clause))
            })
        };
        let is_known = |bits: &u32| known((bits >> 2) as usize) && bits & 3 != 0;
        rules.iter().all(rule) && below.iter().all(is_known)
    });
    if !good || next != words.len() || !table.len().is_multiple_of(8) {
        return Err(ImageError::Invalid("values"));
    }
    let rules = table
        .chunks(8)
        .map(|entry| (word(entry, 0) >> 32) as u32 & 0xFFFF);
    Ok(rules.collect())
}
