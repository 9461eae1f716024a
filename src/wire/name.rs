//! Domain names in wire form: validated, lower-cased and indexed by label.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The longest name in wire form, including the root byte (RFC 1035, section 3.1).
pub const MAX_NAME: usize = 255;
/// The longest label without its length byte (RFC 1035, section 3.1).
pub const MAX_LABEL: usize = 63;
/// The maximum number of labels of a name, not counting the root.
pub const MAX_LABELS: usize = 127;

/// The maximum number of compression pointers that are followed in one name. One per label suffices, and
/// chains of thousands of pointers would keep the server busy.
pub(crate) const MAX_JUMPS: usize = 127;

/// Room for the wire form, and for a read of sixteen bytes that starts at any byte of a label. A label has at most 63
/// bytes.
const WIRE_ROOM: usize = MAX_NAME + 1 + 63 + 16;
/// Room for the offsets of labels: a power of two, so that indexing needs no comparison.
const MAX_STARTS: usize = 128;

/// Masks of the first `n` of sixteen bytes, indexed by `n`.
const FIRST: [(u64, u64); 17] = {
    let mut masks = [(u64::MAX, u64::MAX); 17];
    let mut count = 0;
    while count < 8 {
        masks[count] = ((1 << (8 * count)) - 1, 0);
        masks[8 + count] = (u64::MAX, (1 << (8 * count)) - 1);
        count += 1;
    }
    masks
};

/// Each byte in lower case, with the flags [`UNUSUAL`] and [`SPECIAL`].
const FOLDED: [u16; 256] = {
    let mut folded = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let lower = (byte as u8).to_ascii_lowercase();
        folded[byte] = lower as u16;
        if !matches!(lower, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_') {
            folded[byte] |= UNUSUAL;
        }
        if matches!(lower, b'.' | b'\\') {
            folded[byte] |= SPECIAL;
        }
        byte += 1;
    }
    folded
};
/// The byte is unusual in names.
const UNUSUAL: u16 = 1 << 8;
/// In text, the byte ends a label or starts an escape.
const SPECIAL: u16 = 1 << 9;

/// Why bytes or text are not a domain name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NameError {
    /// The message ends inside the name.
    #[error("the name is cut short")]
    Truncated,
    /// A compression pointer where none is allowed, one that points forward, or too many of them.
    #[error("the name is compressed")]
    Compressed,
    /// The length byte of a label has a reserved type (RFC 6891, section 5).
    #[error("a label has a reserved type")]
    LabelType,
    /// A label has more than 63 bytes.
    #[error("a label is longer than 63 bytes")]
    LabelTooLong,
    /// The name has more than 255 bytes.
    #[error("the name is longer than 255 bytes")]
    TooLong,
    /// Two dots in a row, or a dot at the start.
    #[error("a label is empty")]
    EmptyLabel,
    /// A backslash at the end of the text, or before digits that are not three or exceed 255.
    #[error("a backslash is not followed by a character or by three digits up to 255")]
    BadEscape,
}

/// A domain name: uncompressed wire form with lower-cased ASCII letters, and the offset of each label.
///
/// Has a fixed size and never allocates: 255 bytes of name and 127 offsets of labels. Two names are equal if
/// their lower-cased wire forms are, as RFC 4343 requires.
#[derive(Clone)]
pub struct Name {
    len: u8,
    labels: u8,
    plain: bool,
    wire: [u8; WIRE_ROOM],
    starts: [u8; MAX_STARTS],
}

impl Name {
    /// The root name.
    pub const ROOT: Self = Self {
        len: 1,
        labels: 0,
        plain: true,
        wire: [0; WIRE_ROOM],
        starts: [0; MAX_STARTS],
    };

    /// Reads an uncompressed name from `message` at `at`. Returns the name and the offset after it.
    ///
    /// A compression pointer is an error: the question's name is the first of a message and has nothing to
    /// point to.
    ///
    /// # Errors
    /// [`NameError`] if the bytes are not such a name.
    #[inline]
    pub fn parse(message: &[u8], at: usize) -> Result<(Self, usize), NameError> {
        let mut name = Self::ROOT;
        let end = name.parse_wire(message, at)?;
        Ok((name, end))
    }

    /// Like [`parse`](Self::parse), but overwrites an existing name, which avoids copies. Returns the offset after the
    /// name in the message. After an error the name is the root.
    ///
    /// # Errors
    /// [`NameError`] if the bytes are not such a name.
    #[inline(always)]
    pub fn parse_wire(&mut self, message: &[u8], at: usize) -> Result<usize, NameError> {
        self.overwrite(|name| name.read_wire(message, at, false))
    }

    /// Reads a name that may be compressed (RFC 1035, section 4.1.4). Pointers must point backwards, which
    /// bounds the time to follow them.
    ///
    /// # Errors
    /// [`NameError`] if the bytes are not such a name.
    pub fn parse_compressed(message: &[u8], at: usize) -> Result<(Self, usize), NameError> {
        let mut name = Self::ROOT;
        let end = name.read_wire(message, at, true)?;
        Ok((name, end))
    }

    /// Like [`parse_compressed`](Self::parse_compressed), but overwrites an existing name, which avoids copies. Returns
    /// the offset after the name in the message. After an error the name is the root.
    ///
    /// # Errors
    /// [`NameError`] if the bytes are not such a name.
    pub fn parse_compressed_wire(&mut self, message: &[u8], at: usize) -> Result<usize, NameError> {
        self.overwrite(|name| name.read_wire(message, at, true))
    }

    /// Resets the name to the root, and calls `read`, which appends labels. After an error the name is the root.
    #[inline(always)]
    fn overwrite<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, NameError>,
    ) -> Result<T, NameError> {
        let reset = |name: &mut Self| {
            (name.len, name.labels, name.plain) = (1, 0, true);
            name.wire[0] = 0;
        };
        reset(self);
        let result = read(self);
        if result.is_err() {
            reset(self);
        }
        result
    }

    /// Appends the labels in `message` to the root.
    #[inline(always)]
    fn read_wire(
        &mut self,
        message: &[u8],
        mut at: usize,
        pointers: bool,
    ) -> Result<usize, NameError> {
        let mut len = 0_usize;
        let mut end = None;
        let mut jumps = 0;
        loop {
            let byte = *message.get(at).ok_or(NameError::Truncated)?;
            match byte {
                0 => break,
                1..=63 => {
                    let size = usize::from(byte);
                    let label = message
                        .get(at + 1..at + 1 + size)
                        .ok_or(NameError::Truncated)?;
                    self.push(&mut len, label)?;
                    at += 1 + size;
                }
                0xC0.. if pointers => {
                    let low = *message.get(at + 1).ok_or(NameError::Truncated)?;
                    let target = usize::from(byte & 0x3F) << 8 | usize::from(low);
                    jumps += 1;
                    if target >= at || jumps > MAX_JUMPS {
                        return Err(NameError::Compressed);
                    }
                    end.get_or_insert(at + 2);
                    at = target;
                }
                0xC0.. => return Err(NameError::Compressed),
                _ => return Err(NameError::LabelType),
            }
        }
        self.finish(len);
        Ok(end.unwrap_or(at + 1))
    }

    /// Reads presentation form (RFC 1035, section 5.1): labels separated by dots, an optional final dot, the escapes
    /// `\.` and `\DDD`. Bytes other than ASCII letters are not changed; IDNs are converted by `names::typed`.
    ///
    /// # Errors
    /// [`NameError`] if the text is not such a name.
    pub fn from_text(text: &str) -> Result<Self, NameError> {
        let mut name = Self::ROOT;
        name.parse_text(text.as_bytes())?;
        Ok(name)
    }

    /// Like [`from_text`](Self::from_text), but overwrites an existing name, which avoids a copy. After an
    /// error the name is the root.
    ///
    /// # Errors
    /// [`NameError`] if the bytes are not such a name.
    pub fn parse_text(&mut self, text: &[u8]) -> Result<(), NameError> {
        self.overwrite(|name| match text {
            b"." => Ok(()),
            _ => name.read_labels(text),
        })
    }

    /// Appends the labels in `text` to the root.
    fn read_labels(&mut self, text: &[u8]) -> Result<(), NameError> {
        let mut len = 0_usize;
        let mut rest = text;
        loop {
            // A usual label is written in place as it is read. Wherever it starts, `WIRE_ROOM` has room for more than
            // 63 bytes, so that a label that is too long is noticed.
            let (mut size, mut odd) = (0, 0);
            for (to, byte) in self.wire[len + 1..].iter_mut().zip(rest) {
                let folded = FOLDED[usize::from(*byte)];
                if folded & SPECIAL != 0 {
                    break;
                }
                *to = folded as u8;
                odd |= folded & UNUSUAL;
                size += 1;
            }
            rest = match rest.get(size) {
                Some(b'.') => {
                    self.add(&mut len, size)?;
                    &rest[size + 1..]
                }
                None => {
                    self.add(&mut len, size)?;
                    &[]
                }
                Some(_) => self.push_escaped(&mut len, rest)?,
            };
            self.plain &= odd == 0;
            if rest.is_empty() {
                self.finish(len);
                return Ok(());
            }
        }
    }

    /// Appends a label that may have escapes, byte by byte. Returns the text after it.
    fn push_escaped<'t>(&mut self, len: &mut usize, text: &'t [u8]) -> Result<&'t [u8], NameError> {
        let mut label = [0_u8; MAX_LABEL];
        let mut filled = 0;
        let mut bytes = text.iter().copied();
        while let Some(byte) = bytes.next().filter(|byte| *byte != b'.') {
            let byte = if byte == b'\\' {
                unescape(&mut bytes)?
            } else {
                byte
            };
            *label.get_mut(filled).ok_or(NameError::LabelTooLong)? = byte;
            filled += 1;
        }
        self.push(len, &label[..filled])?;
        Ok(&text[text.len() - bytes.len()..])
    }

    /// Appends a label in lower case; keeps room for the root byte.
    #[inline(always)]
    fn push(&mut self, len: &mut usize, label: &[u8]) -> Result<(), NameError> {
        let mut odd = 0;
        for (to, from) in self.wire[*len + 1..].iter_mut().zip(label) {
            let folded = FOLDED[usize::from(*from)];
            *to = folded as u8;
            odd |= folded & UNUSUAL;
        }
        self.plain &= odd == 0;
        self.add(len, label.len())
    }

    /// Completes a label: writes its length byte at offset `len`. The `size` bytes of the label are already there,
    /// directly after that offset.
    fn add(&mut self, len: &mut usize, size: usize) -> Result<(), NameError> {
        let start = *len;
        let next = start + 1 + size;
        if size == 0 {
            return Err(NameError::EmptyLabel);
        }
        if size > MAX_LABEL {
            return Err(NameError::LabelTooLong);
        }
        if next + 1 > MAX_NAME {
            return Err(NameError::TooLong);
        }
        self.wire[start] = size as u8;
        // Each label takes at least two of at most 254 bytes, so there are at most 127 labels.
        self.starts[usize::from(self.labels)] = start as u8;
        self.labels += 1;
        *len = next;
        Ok(())
    }

    fn finish(&mut self, len: usize) {
        self.wire[len] = 0;
        self.len = (len + 1) as u8;
    }

    /// The wire form, including the root byte; 1 to 255 bytes.
    pub fn wire(&self) -> &[u8] {
        &self.wire[..usize::from(self.len)]
    }

    /// The number of labels, not counting the root; 0 to 127.
    pub fn label_count(&self) -> usize {
        usize::from(self.labels)
    }

    /// The labels from the root down (`com`, then `example`), without their length bytes.
    pub fn labels_from_root(&self) -> impl Iterator<Item = &[u8]> {
        self.starts[..self.label_count()]
            .iter()
            .rev()
            .map(|&start| {
                let start = usize::from(start);
                let size = usize::from(self.wire[start]);
                &self.wire[start + 1..start + 1 + size]
            })
    }

    /// The label at `level`, counted from the root (`com` is at level 0), without its length byte.
    ///
    /// # Panics
    /// If the name has no more than `level` labels.
    #[inline(always)]
    pub fn label_from_root(&self, level: usize) -> &[u8] {
        let start = usize::from(self.starts[self.label_count() - 1 - level]);
        &self.wire[start + 1..][..usize::from(self.wire[start])]
    }

    /// The first sixteen bytes of the label at `level` as two little-endian numbers, padded with zeros, and
    /// the length of the label. Never panics; the result is meaningless if the name has no such label.
    #[inline(always)]
    pub fn sixteen_from_root(&self, level: usize) -> (u64, u64, usize) {
        let start = self.start(level);
        let size = usize::from(self.wire[start]);
        let (low, high) = self.sixteen(start + 1, size);
        (low, high, size)
    }

    /// Like [`sixteen_from_root`](Self::sixteen_from_root), but starts at byte `from` of the label. `from` must
    /// be below the length of the label.
    #[inline(always)]
    pub fn sixteen_at(&self, level: usize, from: usize) -> (u64, u64) {
        let start = self.start(level);
        let size = usize::from(self.wire[start]);
        self.sixteen(start + 1 + from % 64, size.saturating_sub(from))
    }

    /// The length of the label at `level`.
    #[inline(always)]
    pub fn size_from_root(&self, level: usize) -> usize {
        usize::from(self.wire[self.start(level)])
    }

    #[inline(always)]
    fn start(&self, level: usize) -> usize {
        usize::from(self.starts[self.label_count().wrapping_sub(1 + level) % MAX_STARTS])
    }

    #[inline(always)]
    fn sixteen(&self, at: usize, size: usize) -> (u64, u64) {
        let eight = |at: usize| {
            let bytes = self.wire[at..].first_chunk();
            u64::from_le_bytes(*bytes.expect("there is room after every label"))
        };
        let (low, high) = FIRST[size.min(16)];
        (eight(at) & low, eight(at + 8) & high)
    }

    /// Whether all labels consist of lower-case letters, digits, hyphens and underscores.
    #[inline(always)]
    pub fn is_plain(&self) -> bool {
        self.plain
    }

    /// The offset in [`wire`](Self::wire) of the ancestor with this number of labels. The ancestor with all
    /// labels is the name itself, the one with none the root.
    ///
    /// # Panics
    /// If the name has fewer labels.
    pub fn ancestor_start(&self, labels: usize) -> usize {
        let above = self.label_count() - labels;
        if labels == 0 {
            usize::from(self.len) - 1
        } else {
            usize::from(self.starts[above])
        }
    }

    /// The wire form of the ancestor with this number of labels.
    ///
    /// # Panics
    /// If the name has fewer labels.
    pub fn ancestor(&self, labels: usize) -> &[u8] {
        &self.wire()[self.ancestor_start(labels)..]
    }
}

fn unescape(bytes: &mut impl Iterator<Item = u8>) -> Result<u8, NameError> {
    let first = bytes.next().ok_or(NameError::BadEscape)?;
    if !first.is_ascii_digit() {
        return Ok(first);
    }
    let mut value = u16::from(first - b'0');
    for _ in 0..2 {
        let digit = bytes.next().filter(u8::is_ascii_digit);
        value = value * 10 + u16::from(digit.ok_or(NameError::BadEscape)? - b'0');
    }
    u8::try_from(value).map_err(|_| NameError::BadEscape)
}

impl Default for Name {
    fn default() -> Self {
        Self::ROOT
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.wire() == other.wire()
    }
}

impl Eq for Name {}

/// The order of the wire forms, which has no meaning.
impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        self.wire().cmp(other.wire())
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Presentation form.
impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_text(&text).map_err(de::Error::custom)
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.wire().hash(state);
    }
}

/// Presentation form without the final dot; the root is `.`. Bytes that are not printable ASCII, and those
/// with a special meaning, are escaped (RFC 1035, section 5.1).
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_text(self.wire(), f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}

/// Writes a valid, uncompressed wire name in presentation form.
pub fn write_text(wire: &[u8], f: &mut impl fmt::Write) -> fmt::Result {
    let mut rest = wire;
    let mut first = true;
    while let [size @ 1..=63, tail @ ..] = rest {
        let (label, tail) = tail.split_at(usize::from(*size).min(tail.len()));
        if !std::mem::take(&mut first) {
            f.write_char('.')?;
        }
        for &byte in label {
            match byte {
                b'.' | b'\\' | b'"' | b';' | b'@' | b'$' | b'(' | b')' => {
                    write!(f, "\\{}", char::from(byte))?;
                }
                0x21..=0x7E => f.write_char(char::from(byte))?,
                _ => write!(f, "\\{byte:03}")?,
            }
        }
        rest = tail;
    }
    if first { f.write_char('.') } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_text(text).expect("a valid name")
    }

    #[test]
    fn text_and_wire_agree_and_case_is_folded() {
        let read = Name::parse(b"\x03WwW\x07Example\x00rest", 0).expect("valid");
        assert_eq!(read.0, name("www.example."));
        assert_eq!(read.1, 13);
        assert_eq!(read.0.to_string(), "www.example");
    }

    #[test]
    fn every_byte_survives_conversion_to_text_and_back() {
        for byte in 0..=255_u8 {
            let wire = [2, b'a', byte, 0];
            let (from_wire, _) = Name::parse(&wire, 0).expect("valid");
            assert_eq!(name(&from_wire.to_string()), from_wire, "byte {byte}");
        }
    }

    #[test]
    fn labels_are_listed_from_the_root_and_ancestors_are_suffixes() {
        let n = name("a.bc.def");
        let labels: Vec<_> = n.labels_from_root().collect();
        assert_eq!(labels, [&b"def"[..], b"bc", b"a"]);
        assert_eq!(n.ancestor(2), name("bc.def").wire());
        assert_eq!(n.ancestor(0), [0]);
        assert_eq!(n.ancestor(3), n.wire());
    }

    #[test]
    fn the_longest_name_fits_and_one_byte_more_does_not() {
        let label = "x".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "y".repeat(61));
        assert_eq!(name(&longest).wire().len(), 255);
        let longer = format!("{label}.{label}.{label}.{}", "y".repeat(62));
        assert_eq!(Name::from_text(&longer), Err(NameError::TooLong));
        assert_eq!(name(&"a.".repeat(127)).label_count(), 127);
        assert_eq!(Name::from_text(&"a.".repeat(128)), Err(NameError::TooLong));
    }

    #[test]
    fn invalid_text_is_rejected_with_its_reason() {
        for (text, error) in [
            ("", NameError::EmptyLabel),
            (".a", NameError::EmptyLabel),
            ("a..b", NameError::EmptyLabel),
            ("a\\", NameError::BadEscape),
            ("a\\256", NameError::BadEscape),
            ("a\\1x", NameError::BadEscape),
        ] {
            assert_eq!(Name::from_text(text), Err(error), "{text:?}");
        }
        let long = "x".repeat(64);
        assert_eq!(Name::from_text(&long), Err(NameError::LabelTooLong));
    }

    #[test]
    fn pointers_are_followed_backwards_and_only_where_allowed() {
        let message = b"\x03com\x00\x01a\xC0\x00\xC0\x09";
        let (read, end) = Name::parse_compressed(message, 5).expect("valid");
        assert_eq!((read, end), (name("a.com"), 9));
        assert_eq!(Name::parse(message, 5), Err(NameError::Compressed));
        assert_eq!(
            Name::parse_compressed(message, 9),
            Err(NameError::Compressed),
            "a pointer to itself"
        );
        assert_eq!(Name::parse(b"\x41x\x00", 0), Err(NameError::LabelType));
        assert_eq!(Name::parse(b"\x03ab", 0), Err(NameError::Truncated));
    }

    #[test]
    fn a_name_that_is_overwritten_is_as_a_new_one() {
        let long = [&b"\x3F"[..], &[b'~'; 63]].concat();
        let longest = [&long[..], &long, &long, b"\x3D", &[b'~'; 61], b"\0"].concat();
        let deepest = [&b"\x01~".repeat(127)[..], b"\0"].concat();
        let usual = b"\x03WwW\x11seventeen-bytes-x\x04test\0";
        let names = [&longest[..], &deepest, usual, b"\0"];
        let cut = [&long[..], b"\x03ab"].concat();
        let bad = [&cut[..], b"\x41x\0", b"\xC0\0", b""];
        let described = |name: &Name| {
            let levels = 0..name.label_count();
            let labels = levels.map(|level| {
                let later =
                    (0..name.size_from_root(level)).map(|from| name.sixteen_at(level, from));
                (name.sixteen_from_root(level), later.collect::<Vec<_>>())
            });
            (
                name.clone(),
                name.is_plain(),
                labels.collect::<Vec<_>>(),
                name.to_string(),
            )
        };
        for (before, message) in names.iter().flat_map(|one| names.map(|two| (one, two))) {
            let (new, end) = Name::parse(message, 0).expect("valid");
            let (mut name, _) = Name::parse(before, 0).expect("valid");
            assert_eq!(name.parse_wire(message, 0), Ok(end));
            assert_eq!(described(&name), described(&new));
            for bad in bad {
                assert!(name.parse_wire(bad, 0).is_err());
                assert_eq!(described(&name), described(&Name::ROOT));
                assert_eq!(name.parse_text(new.to_string().as_bytes()), Ok(()));
                assert_eq!(described(&name), described(&new));
            }
        }
    }
}
