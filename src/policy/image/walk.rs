//! Owns the walk from the root towards names, many at a time, so that none waits for memory alone.
//! Refuses to judge what stands on the way: it tells each value that it passes.

use super::bits::{mask, peek, word};
use super::bucket::{Bucket, Kids, filter, index, tag};
use super::top::{self, Top};
use super::{Image, Sections};
use crate::sys::prefetch::prefetch;
use crate::wire::name::Name;

/// How many names walk at a time.
pub const LANES: usize = 32;

/// How a value that a walk passes lies to the asked name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lies {
    /// On an ancestor.
    Above,
    /// On the name itself.
    At,
    /// Beneath the name, and all that is beneath it is beneath that or at it.
    Beneath,
}

/// Lookups under way, each between a node and the child with the next label.
///
/// An array for each part, since a lane that is written in parts and read as a whole would wait
/// for its own stores.
struct Lanes<'n, const N: usize> {
    names: [&'n Name; N],
    /// Labels that are walked.
    level: [u8; N],
    /// The next label: its first sixteen octets, and its size.
    low: [u64; N],
    high: [u64; N],
    size: [u8; N],
    hash: [u64; N],
    /// The node's [`Kids`]; then the bucket.
    kids: [Kids; N],
    /// The place in the directory, if `kids` is a range.
    entry: [u32; N],
}

impl Image {
    /// Walks towards each name and calls `pass` with which of the names it is, how the value lies
    /// to it, how many labels lead there (for one beneath, those of the asked name), and the
    /// value. From the root down for each name, never more than one value that is not above.
    /// Never allocates.
    #[inline]
    pub fn walk(&self, names: &[&Name], mut pass: impl FnMut(usize, Lies, usize, u32)) {
        if let [name] = names {
            return self.lanes::<1>(&[name], 0, &mut pass);
        }
        for (chunk, names) in names.chunks(LANES).enumerate() {
            self.lanes::<LANES>(names, chunk * LANES, &mut pass);
        }
    }

    #[inline(always)]
    fn lanes<const N: usize>(
        &self,
        names: &[&Name],
        first: usize,
        pass: &mut impl FnMut(usize, Lies, usize, u32),
    ) {
        let sections = self.sections();
        let mut lanes = Lanes {
            names: [&Name::ROOT; N],
            level: [0; N],
            low: [0; N],
            high: [0; N],
            size: [0; N],
            hash: [0; N],
            kids: [Kids::NONE; N],
            entry: [0; N],
        };
        let mut active = [0_u8; N];
        let mut count = 0;
        for (lane, &name) in names.iter().enumerate() {
            lanes.names[lane % N] = name;
            let out = self.set_out(&sections, &mut lanes, lane % N, first, pass);
            active[count % N] = lane as u8;
            count += usize::from(out);
        }
        while count > 0 {
            let mut kept = 0;
            for at in 0..count {
                let lane = active[at % N];
                let may = look(&sections, &mut lanes, usize::from(lane) % N);
                active[kept % N] = lane;
                kept += usize::from(may);
            }
            (count, kept) = (kept, 0);
            for at in 0..count {
                let lane = active[at % N];
                let on = self.step(&sections, &mut lanes, usize::from(lane) % N, first, pass);
                active[kept % N] = lane;
                kept += usize::from(on);
            }
            count = kept;
        }
    }

    /// Starts at the root, or right below it. Returns whether the walk goes on.
    #[inline(always)]
    fn set_out<const N: usize>(
        &self,
        sections: &Sections<'_>,
        lanes: &mut Lanes<'_, N>,
        lane: usize,
        first: usize,
        pass: &mut impl FnMut(usize, Lies, usize, u32),
    ) -> bool {
        let name = lanes.names[lane];
        let depth = name.label_count();
        if self.root_matters || depth == 0 {
            pass(first + lane, at_or_above(0, depth), 0, self.root_value);
        }
        lanes.level[lane] = 0;
        lanes.kids[lane] = self.root_kids;
        if depth > 0 {
            match top::find(sections.tops, self.key.seed(), name) {
                Top::Unknown => {}
                Top::Missing => return false,
                Top::Node { value, kids } => {
                    pass(first + lane, at_or_above(1, depth), 1, value);
                    lanes.level[lane] = 1;
                    lanes.kids[lane] = kids;
                }
            }
        }
        self.towards(sections, lanes, lane)
    }

    /// Sets out from a node towards the child with the next label, if the name has one.
    #[inline(always)]
    fn towards<const N: usize>(
        &self,
        sections: &Sections<'_>,
        lanes: &mut Lanes<'_, N>,
        lane: usize,
    ) -> bool {
        let (name, level, kids) = (
            lanes.names[lane],
            usize::from(lanes.level[lane]),
            lanes.kids[lane],
        );
        if level >= name.label_count() || kids == Kids::NONE {
            return false;
        }
        let (low, high, size) = name.sixteen_from_root(level);
        let mut hash = self.key.sixteen(low, high, size);
        if size > 16 {
            hash = self.key.continued(hash, name.label_from_root(level));
        }
        match kids.as_range() {
            Some((start, buckets)) => {
                let entry = start + index(hash, buckets) as usize;
                lanes.entry[lane] = entry as u32;
                prefetch(sections.directory, entry * 8);
            }
            None => prefetch_bucket(sections, kids.0),
        }
        (lanes.low[lane], lanes.high[lane], lanes.size[lane]) = (low, high, size as u8);
        lanes.hash[lane] = hash;
        true
    }

    /// Looks for the child in its bucket, and goes there.
    #[inline(always)]
    fn step<const N: usize>(
        &self,
        sections: &Sections<'_>,
        lanes: &mut Lanes<'_, N>,
        lane: usize,
        first: usize,
        pass: &mut impl FnMut(usize, Lies, usize, u32),
    ) -> bool {
        let bucket = Bucket::at(sections.buckets, lanes.kids[lane].0);
        let (name, level) = (lanes.names[lane], usize::from(lanes.level[lane]));
        let (low, high, size) = (
            lanes.low[lane],
            lanes.high[lane],
            usize::from(lanes.size[lane]),
        );
        let found = bucket.find(tag(lanes.hash[lane]), |text| {
            let at = match self.same_short(sections.buckets, text.start, low, high, size, name) {
                Some(at) => at?,
                None => self.same_label(sections.buckets, text.start, name, level)?,
            };
            if at == text.end {
                return Some((text.holds, End::Level(level + 1)));
            }
            let end = self.same_rest(sections.buckets, at, text.end, name, level + 1)?;
            Some((text.holds, end))
        });
        let Some((holds, end)) = found else {
            return false;
        };
        let depth = name.label_count();
        match end {
            End::Inside => {
                pass(first + lane, Lies::Beneath, depth, holds.value);
                false
            }
            End::Level(level) => {
                pass(first + lane, at_or_above(level, depth), level, holds.value);
                lanes.level[lane] = level as u8;
                lanes.kids[lane] = holds.kids;
                self.towards(sections, lanes, lane)
            }
        }
    }

    /// Whether a label of up to sixteen plain octets stands at bit `at`: then the bit behind it.
    /// Nothing if the label is not such a one.
    #[inline(always)]
    fn same_short(
        &self,
        octets: &[u8],
        at: u64,
        low: u64,
        high: u64,
        size: usize,
        name: &Name,
    ) -> Option<Option<u64>> {
        if size > 16 || !name.is_plain() {
            return None;
        }
        let (low, first) = self.text.eight(low)?;
        let (high, second) = self.text.eight(high)?;
        let behind = at + u64::from(first);
        let differing =
            (peek(octets, at) ^ low) & mask(first) | (peek(octets, behind) ^ high) & mask(second);
        Some((differing == 0).then_some(behind + u64::from(second)))
    }

    /// Whether any label stands at bit `at`: then the bit behind it.
    #[inline(never)]
    fn same_label(&self, octets: &[u8], mut at: u64, name: &Name, level: usize) -> Option<u64> {
        let mut same = true;
        self.text.label(name.label_from_root(level), |bits, count| {
            same &= (peek(octets, at) ^ bits) & mask(count) == 0;
            at += u64::from(count);
        });
        same.then_some(at)
    }

    /// Whether the rest of an edge's text, behind its first label, is that of the name's labels
    /// from `level` on, and where it leads.
    #[inline(always)]
    fn same_rest(
        &self,
        octets: &[u8],
        mut at: u64,
        end: u64,
        name: &Name,
        mut level: usize,
    ) -> Option<End> {
        loop {
            if at >= end {
                return (at == end).then_some(End::Level(level));
            }
            let (bits, count) = self.text.between(name.label_from_root(level - 1).len());
            if (peek(octets, at) ^ bits) & mask(count) != 0 {
                return None;
            }
            at += u64::from(count);
            if level == name.label_count() {
                return (at < end).then_some(End::Inside);
            }
            let (low, high, size) = name.sixteen_from_root(level);
            at = match self.same_short(octets, at, low, high, size, name) {
                Some(at) => at?,
                None => self.same_label(octets, at, name, level)?,
            };
            level += 1;
        }
    }
}

#[inline(always)]
fn at_or_above(level: usize, depth: usize) -> Lies {
    if level == depth {
        Lies::At
    } else {
        Lies::Above
    }
}

/// Where an edge leads.
#[derive(Clone, Copy)]
enum End {
    /// To a node of so many labels.
    Level(usize),
    /// Beyond the asked name.
    Inside,
}

/// Finds the bucket of a lane in the directory. Returns whether it may hold the child.
#[inline(always)]
fn look<const N: usize>(sections: &Sections<'_>, lanes: &mut Lanes<'_, N>, lane: usize) -> bool {
    if lanes.kids[lane].as_bucket().is_some() {
        return true;
    }
    let entry = word(sections.directory, lanes.entry[lane] as usize * 8);
    let wanted = filter(lanes.hash[lane]);
    lanes.kids[lane] = Kids(entry as u32);
    prefetch_bucket(sections, entry as u32);
    (entry >> 32) as u32 & wanted == wanted
}

#[inline(always)]
fn prefetch_bucket(sections: &Sections<'_>, at: u32) {
    prefetch(sections.buckets, at as usize);
    prefetch(sections.buckets, at as usize + 64);
}
