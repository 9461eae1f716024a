//! Owns the check that an image's parts fit together, beyond what their digests vouch for.
//! Refuses to read texts: one that is wrong matches no name, or one that the image then does hold.
//!
//! A node's children are written before the node, so whatever points at a bucket must lie behind it:
//! there is no way in a circle. Each bucket and each place of the directory is pointed at once, and
//! buckets fill their section without a gap, but for zeros up to the next unit. The header's counts
//! are those of the nodes.

use super::bits::word;
use super::bucket::{BEFORE, BEHIND, Bucket, ChildRef, UNIT};
use super::directory::{COARSE, Directory, groups};
use super::layout::{Facts, Section};
use super::text::Decoder;
use super::values::ImageRule;
use super::{Image, ImageError, tld_table};

/// What is left to be pointed at.
struct Unreferenced {
    /// A bit for each byte where a bucket starts.
    buckets: Vec<u64>,
    /// A bit for each group of the directory, and how many there are.
    groups: Vec<u64>,
    count: usize,
    /// How many of both were not pointed at yet.
    left: u64,
}

/// Checks the nodes, and the values that they have.
pub(super) fn validate(image: &Image) -> Result<(), ImageError> {
    let rules = values(image)?;
    let buckets = image.section(Section::Buckets);
    let directory = image.directory();
    let invalid = ImageError::Invalid("order of buckets");
    let len = |section| image.section(section).len();
    let groups = directory.count(len(Section::Directory), len(Section::Filters));
    let groups = groups.ok_or(invalid)?;
    let mut unused = Unreferenced {
        buckets: vec![0; buckets.len() / 64 + 1],
        groups: vec![u64::MAX; groups / 64 + 1],
        count: groups,
        left: groups as u64,
    };
    let end = buckets.len().checked_sub(BEHIND).ok_or(invalid)?;
    let mut counted = Facts {
        rules: 0,
        nodes: 0,
        buckets: 0,
        fullest: 0,
        ..image.facts
    };
    let mut at = BEFORE;
    while at < end {
        let offset = u32::try_from(at).map_err(|_| invalid)?;
        let bucket = Bucket::at(buckets, offset).ok_or(invalid)?;
        let (mut good, mut behind, mut alone) = (!bucket.is_empty(), 0, false);
        let mut sum = 0;
        bucket.each(|inner, child| {
            // An only child stands behind a parent that has no others.
            good &= child.end > child.start && child.end <= child.over && (!inner || alone);
            let rules = rules.get(child.node.value as usize);
            good &= rules.is_some();
            sum += u64::from(rules.copied().unwrap_or(0));
            good &= unused.take(child.node.children, directory, at);
            alone = !inner && child.node.children == ChildRef::NONE;
            behind = child.over;
        });
        if !good {
            return Err(ImageError::Invalid("buckets"));
        }
        unused.buckets[at / 64] |= 1 << (at % 64);
        unused.left += 1;
        at += (behind.div_ceil(8) as usize - BEFORE).next_multiple_of(UNIT);
        // In a coarse group more zeros stand behind it; no bucket begins with one.
        let zeros = |at: &usize| buckets.get(*at..at + UNIT) == Some(&[0; UNIT]);
        let padding = (at..end).step_by(UNIT).take_while(zeros);
        at += padding.take(COARSE / UNIT - 1).count() * UNIT;
        counted.rules += sum;
        counted.buckets += 1;
        counted.nodes += bucket.len() as u64;
        counted.fullest = counted.fullest.max(bucket.len() as u32);
    }
    if at != end || !unused.take(image.root_children, directory, at) || unused.left != 0 {
        return Err(invalid);
    }
    let root = rules.get(image.root_value as usize);
    counted.rules += u64::from(*root.ok_or(ImageError::Invalid("values"))?);
    // What reads an image makes room for as many as the header tells.
    if counted != image.facts {
        return Err(ImageError::Invalid("counts"));
    }
    if image.section(Section::TldTable) != tld_table(image) {
        return Err(ImageError::Invalid("top labels"));
    }
    Ok(())
}

impl Unreferenced {
    /// Whether children are where nothing else points, and before the bucket at `at`.
    fn take(&mut self, kids: ChildRef, directory: Directory<'_>, at: usize) -> bool {
        if let Some(bucket) = kids.as_bucket() {
            return self.take_bucket(bucket, at);
        }
        let Some((start, count)) = kids.as_range() else {
            return true;
        };
        let mut groups = start as usize..(start + groups(count)) as usize;
        let there = groups.end <= self.count;
        if !kids.is_countable() || !there || !directory.ends(start, count) {
            return false;
        }
        let free = groups.all(|group| {
            let word = &mut self.groups[group / 64];
            let free = *word >> (group % 64) & 1 != 0;
            *word &= !(1 << (group % 64));
            self.left -= u64::from(free);
            free
        });
        let mut buckets = directory.range(start, 0..count);
        free && buckets.all(|bucket| bucket.is_some_and(|bucket| self.take_bucket(bucket, at)))
    }

    fn take_bucket(&mut self, bucket: u32, at: usize) -> bool {
        let bucket = bucket as usize;
        let free = bucket < at && self.buckets[bucket / 64] >> (bucket % 64) & 1 != 0;
        if free {
            self.buckets[bucket / 64] &= !(1 << (bucket % 64));
            self.left -= 1;
        }
        free
    }
}

/// The table of top labels that the root's children make; they come in the order in which they were
/// written.
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
            let size = (child.end - child.start) as u32;
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
            let edge = labels > 1 || bucket.goes_on(place);
            let node = if edge {
                (0, tld_table::IN_BUCKET)
            } else {
                (child.node.value, child.node.children)
            };
            nodes.extend(tld_table::key(&label).map(|key| (key, node.0, node.1)));
        }
        if nodes.len() > tld_table::MOST {
            break;
        }
    }
    tld_table::table(&nodes, image.facts.seed)
}

/// How many rules each value has, if all are in order.
fn values(image: &Image) -> Result<Vec<u32>, ImageError> {
    let (table, words) = (
        image.section(Section::Values),
        image.section(Section::Words),
    );
    let sources = image.provenance.sources.len();
    let known = |source: usize| source < sources;
    // Each word is one value's: else reading them all might take for ever.
    let mut next = 0;
    let good = table.chunks(8).all(|entry| {
        let entry_at = |at: usize| word(entry, 0) >> at;
        let start = (entry_at(0) & 0xFFFF_FFFF) as usize * 4;
        let rules = (entry_at(32) & 0xFFFF) as usize;
        let beneath = entry_at(48) as usize;
        let end = start + (rules + beneath) * 4;
        let Some(words) = words.get(start..end).filter(|_| start == next) else {
            return false;
        };
        next = end;
        let (all, _) = words.as_chunks::<4>();
        let all: Vec<u32> = all.iter().map(|word| u32::from_le_bytes(*word)).collect();
        let (rules, beneath) = all.split_at(rules);
        let rule = |bits: &u32| ImageRule::from_bits(*bits).is_some_and(|r| known(r.source.into()));
        rules.iter().all(rule) && beneath.iter().all(|source| known(*source as usize))
    });
    if !good || next != words.len() || !table.len().is_multiple_of(8) {
        return Err(ImageError::Invalid("values"));
    }
    let rules = table
        .chunks(8)
        .map(|entry| (word(entry, 0) >> 32) as u32 & 0xFFFF);
    Ok(rules.collect())
}
