use std::collections::BTreeSet;

use super::*;
use crate::policy::image::bits::mask;

/// A reproducible pseudo-random generator.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) % sides
    }

    /// Children with values below `limit`; most of them are the same if `is_uniform`.
    fn children<'t>(&mut self, texts: &'t [u8], limit: u32, is_uniform: bool) -> Vec<NewChild<'t>> {
        let (count, longest) = (1 + self.roll(31), [40, 200, 400][self.roll(3) as usize]);
        let mut children: Vec<NewChild<'t>> = Vec::new();
        for _ in 0..count {
            let before = children.last();
            let may_be_parent = before
                .is_some_and(|before| !before.is_only_child && before.children == ChildRef::NONE);
            let value = match is_uniform && self.roll(4) > 0 {
                true => limit - 1,
                false => self.roll(limit.into()) as u32,
            };
            children.push(NewChild {
                hash: self.roll(1 << 40),
                is_only_child: may_be_parent && self.roll(4) == 0,
                value,
                children: match self.roll(5) {
                    0 => ChildRef::bucket(self.roll(OFFSET_LIMIT)),
                    1 => ChildRef::range(self.roll(GROUP_LIMIT), 7),
                    _ => ChildRef::NONE,
                },
                size: 1 + self.roll(longest) as u32,
                text: &texts[self.roll(64) as usize..],
            });
        }
        children
    }
}

/// The bucket in a section that has only this bucket, at [`LEADING_ZEROS`].
fn section(children: &[NewChild<'_>]) -> Vec<u8> {
    let mut bytes = vec![0; LEADING_ZEROS];
    write(children, &mut bytes);
    assert!(bytes.len() - LEADING_ZEROS <= MAX_BUCKET_BYTES);
    bytes.resize(bytes.len() + TRAILING_ZEROS, 0);
    bytes
}

fn read(bytes: &[u8]) -> Bucket<'_> {
    Bucket::at(bytes, LEADING_ZEROS as u32).expect("zeros follow")
}

fn assert_same(bucket: &Bucket<'_>, read: &ChildSpan, child: &NewChild<'_>) {
    let expected = Node {
        value: child.value,
        children: child.children,
    };
    assert_eq!(read.node, expected);
    assert_eq!(read.text_end - read.start, u64::from(child.size));
    for at in (0..child.size).step_by(32) {
        let mask = mask((child.size - at).min(32));
        let text = peek(child.text, at.into());
        assert_eq!((bucket.bits(read.start + u64::from(at)) ^ text) & mask, 0);
    }
}

#[test]
fn children_are_read_as_they_were_written_whatever_their_values() {
    let mut dice = Dice(0x1234_5678_9ABC_DEF1);
    let texts: Vec<u8> = (0..160).map(|_| dice.roll(256) as u8).collect();
    let mut formats = BTreeSet::new();
    for round in 0..4000 {
        let limit = [1, 1 << 7, 1 << 11, 1 << 15, VALUE_LIMIT][round % 5];
        let children = dice.children(&texts, limit, round % 2 == 0);
        let bytes = section(&children);
        let bucket = read(&bytes);
        formats.insert(bucket.format() as u8);
        assert_eq!(bucket.len(), children.len());
        let mut rest = children.iter();
        bucket.each(|is_only_child, span| {
            let child = rest.next().expect("no more than were written");
            assert_eq!(is_only_child, child.is_only_child);
            assert_same(&bucket, &span, child);
        });
        assert!(rest.next().is_none());
        for (place, child) in children.iter().enumerate() {
            assert_same(&bucket, &bucket.child(place), child);
            if bucket.is_usual() {
                let near = bucket.near_child(bucket.format(), place);
                assert_same(&bucket, &near, child);
            }
            let expected = (!child.is_only_child).then(|| tag(child.hash));
            assert_eq!(bucket.tag(place), expected);
            let next = children.get(place + 1);
            let has_only_child = next.is_some_and(|next| next.is_only_child);
            assert_eq!(bucket.has_only_child(place), has_only_child);
            let tag = child.tag();
            assert_eq!(bucket.all_with(tag) >> place & 1, 1);
            let first = bucket.first_with(bucket.format(), tag);
            assert!(place >= 16 || first >> place & 1 == 1);
        }
    }
    assert_eq!(formats.len(), 4);
}

#[test]
fn the_values_of_a_bucket_take_as_few_bits_as_they_need() {
    let text = [0; 8];
    // The bytes of a bucket with eight leaves. Each leaf has a text of eight bits. The values begin with `first`, and
    // each is higher by `step` than the one before it.
    let size = |first: u32, step: u32| {
        let child = |place: u32| NewChild {
            hash: u64::from(place) << 4,
            is_only_child: false,
            value: first + place * step,
            children: ChildRef::NONE,
            size: 8,
            text: &text,
        };
        let children: Vec<_> = (0..8).map(child).collect();
        section(&children).len() - LEADING_ZEROS - TRAILING_ZEROS
    };
    // 24 bytes for tags, sizes and texts, and one for the number of children; padded to a multiple of four bytes.
    assert_eq!(size(5, 0), 28);
    assert_eq!(size(0, 1), (25 + 1 + 7_usize).next_multiple_of(UNIT));
    assert_eq!(size(200, 0), 28);
    assert_eq!(size(200, 1), (25 + 2 + 11_usize).next_multiple_of(UNIT));
    assert_eq!(size(3000, 0), 28);
    assert_eq!(size(3000, 1), (25 + 15_usize).next_multiple_of(UNIT));
    assert_eq!(size(40_000, 1), (25 + 3 + 21_usize).next_multiple_of(UNIT));
}
