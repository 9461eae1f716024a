//! Compares the text of an edge with labels of a name, without decoding it.

use super::bits::mask;
use super::bucket::{Bucket, ChildSpan};
use super::text::TextCode;
use crate::wire::name::Name;

/// Compares texts of one text code.
#[derive(Clone, Copy)]
pub(super) struct Edges<'i> {
    pub(super) text: &'i TextCode,
}

impl Edges<'_> {
    /// Compares the text of an edge with the name's labels from `level` on. Returns the level that the edge
    /// leads to, or `None` if a label differs. If the edge has more labels than the rest of the name, the
    /// returned level is greater than the number of labels of the name.
    #[inline(always)]
    pub(super) fn same_edge(
        &self,
        bucket: &Bucket<'_>,
        text: &ChildSpan,
        name: &Name,
        level: usize,
    ) -> Option<usize> {
        let at = self.same_label(bucket, text.start, name, level)?;
        self.same_rest(bucket, at, text.text_end, name, level + 1)
    }

    /// Compares sixteen bytes of a label with the text at bit `at`. Returns the bit after the compared text; an
    /// inner `None` if the text differs; an outer `None` if the bytes need an escape.
    #[inline(always)]
    fn same_sixteen(
        &self,
        bucket: &Bucket<'_>,
        at: u64,
        low: u64,
        high: u64,
    ) -> Option<Option<u64>> {
        let ((low, first), (high, second)) = (self.text.eight(low)?, self.text.eight(high)?);
        let after = at + u64::from(first);
        let differing =
            (bucket.bits(at) ^ low) & mask(first) | (bucket.bits(after) ^ high) & mask(second);
        Some((differing == 0).then_some(after + u64::from(second)))
    }

    /// Compares a label with the text at bit `start`. Returns the bit after it, or `None` if they differ.
    #[inline(always)]
    fn same_label(
        &self,
        bucket: &Bucket<'_>,
        start: u64,
        name: &Name,
        level: usize,
    ) -> Option<u64> {
        let (low, high, size) = name.sixteen_from_root(level);
        if !name.is_plain() {
            return self.same_odd(bucket, start, name, level);
        }
        match self.same_sixteen(bucket, start, low, high) {
            Some(at) if size <= 16 => at,
            Some(at) => self.same_from_sixteen(bucket, start, at?, name, level),
            None => self.same_odd(bucket, start, name, level),
        }
    }

    /// Goes on with a label of more than sixteen bytes; the first sixteen match the text up to bit `at`.
    #[inline(always)]
    pub(super) fn same_from_sixteen(
        &self,
        bucket: &Bucket<'_>,
        start: u64,
        mut at: u64,
        name: &Name,
        level: usize,
    ) -> Option<u64> {
        let mut from = 16;
        while from < name.size_from_root(level) {
            let (low, high) = name.sixteen_at(level, from);
            at = match self.same_sixteen(bucket, at, low, high) {
                Some(at) => at?,
                None => return self.same_odd(bucket, start, name, level),
            };
            from += 16;
        }
        Some(at)
    }

    /// Compares any label, pair by pair.
    #[inline(never)]
    fn same_odd(&self, bucket: &Bucket<'_>, mut at: u64, name: &Name, level: usize) -> Option<u64> {
        let mut same = true;
        self.text
            .label(name.label_from_root(level), |_, bits, count| {
                same &= (bucket.bits(at) ^ bits) & mask(count) == 0;
                at += u64::from(count);
            });
        same.then_some(at)
    }

    /// Compares the rest of an edge's text after its first label, as `same_edge` does for the whole text.
    #[inline(always)]
    pub(super) fn same_rest(
        &self,
        bucket: &Bucket<'_>,
        mut at: u64,
        end: u64,
        name: &Name,
        mut level: usize,
    ) -> Option<usize> {
        while at < end {
            let (bits, count) = self.text.between(name.size_from_root(level - 1));
            if (bucket.bits(at) ^ bits) & mask(count) != 0 {
                return None;
            }
            at += u64::from(count);
            if level == name.label_count() {
                return (at < end).then_some(level + 1);
            }
            at = self.same_label(bucket, at, name, level)?;
            level += 1;
        }
        (at == end).then_some(level)
    }
}
