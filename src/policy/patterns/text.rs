//! The text of a name that patterns are searched in.

use arrayvec::ArrayVec;

use crate::wire::name::{MAX_NAME, Name};

/// The byte before the text of a name. No text has it.
pub(super) const START: u8 = 1;

/// The byte after the text of a name. It differs from [`START`], so that a pattern with `$` before something else does
/// not find its literal at the start.
pub(super) const END: u8 = 0;

/// The bytes that a text may have: printable ASCII without the space.
pub(super) const TEXT: std::ops::RangeInclusive<u8> = 0x21..=0x7E;

/// The longest text: 250 escaped bytes in four labels, and three dots.
pub(super) const MAX_TEXT: usize = 4 * (MAX_NAME - 5) + 3;

/// The most windows of four bytes without an escape that a text and its edges have.
pub(super) const MAX_WINDOWS: usize = MAX_NAME - 2;

/// Room for the longest text and three edges.
const ROOM: usize = MAX_TEXT + 3;

/// A name in lower case and without the final dot, on the stack. The text of the root is empty.
///
/// Labels are separated by dots. Other bytes stand for themselves if they are printable ASCII; the others, and dots and
/// backslashes within a label, are written as `\DDD`. So a dot is always a separator. Unlike in presentation form,
/// there is no backslash before other special characters.
#[derive(Clone)]
pub struct NameText {
    /// The text, with one edge before it and two after it.
    edged: ArrayVec<u8, ROOM>,
}

impl NameText {
    /// The text of a name.
    #[inline]
    pub fn new(name: &Name) -> Self {
        let mut edged = ArrayVec::new();
        let wire = name.wire();
        match name.is_plain() {
            true => {
                // The text is as long as the wire form: the length byte of the first label becomes the edge, those of
                // the other labels become dots, and the root byte is the edge after the text.
                let fits = edged.try_extend_from_slice(wire);
                fits.expect("there is room for every name");
                for labels in 1..name.label_count() {
                    edged[name.ancestor_start(labels)] = b'.';
                }
                edged[0] = START;
            }
            false => escape(name, &mut edged),
        }
        // The wire form of the root has only one byte, which is not enough for both edges.
        if wire.len() == 1 {
            edged.push(END);
        }
        edged.push(END);
        Self { edged }
    }

    /// The text as bytes: printable ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        &self.edged[1..self.edged.len() - 2]
    }

    /// The text with an edge before it and two after it, so that there are four bytes even if it has a single one.
    #[inline]
    pub(super) fn edged(&self) -> &[u8] {
        &self.edged
    }
}

#[cold]
fn escape(name: &Name, edged: &mut ArrayVec<u8, ROOM>) {
    let mut push = |byte| edged.push(byte);
    for level in (0..name.label_count()).rev() {
        // The first label follows the edge.
        push(match level + 1 == name.label_count() {
            true => START,
            false => b'.',
        });
        for &byte in name.label_from_root(level) {
            match byte {
                b'.' | b'\\' => escaped(byte).into_iter().for_each(&mut push),
                _ if TEXT.contains(&byte) => push(byte),
                _ => escaped(byte).into_iter().for_each(&mut push),
            }
        }
    }
    push(END);
}

fn escaped(byte: u8) -> [u8; 4] {
    let digit = |value: u8| b'0' + value % 10;
    [b'\\', digit(byte / 100), digit(byte / 10), digit(byte)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str) -> String {
        let name = Name::from_text(name).expect("a valid name");
        let text = NameText::new(&name);
        String::from_utf8(text.as_bytes().to_vec()).expect("ASCII")
    }

    #[test]
    fn a_usual_name_is_in_lower_case_and_without_the_final_dot() {
        assert_eq!(text("WWW.Ex-ample_1.com."), "www.ex-ample_1.com");
        assert_eq!(text("com"), "com");
        assert_eq!(text("."), "");
    }

    #[test]
    fn only_separators_are_dots_and_backslashes_begin_escapes() {
        assert_eq!(text(r"a\.b.c\\d.com"), r"a\046b.c\092d.com");
        assert_eq!(text(r"a\032\200\007.*.(x)"), r"a\032\200\007.*.(x)");
    }

    #[test]
    fn the_longest_names_fit() {
        let label = r"\200".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", r"\201".repeat(61));
        assert_eq!(text(&longest), longest);
        assert_eq!(longest.len(), MAX_TEXT);
        let longest = "a.".repeat(127);
        assert_eq!(text(&longest), longest.trim_end_matches('.'));
    }
}
