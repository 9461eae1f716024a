//! Owns where lines end and where comments begin.
//! Refuses to know what a line means.

use memchr::{memchr, memchr2};

use crate::config::comments::Comments;
use crate::config::{Format, List};
use crate::policy::rule::Scope;

/// Most bytes of a line without its comment. Far more than any name has (1,016 if each byte is written as `\DDD`), so
/// that a file without line ends is one bad line.
pub(super) const MAX_LINE: usize = 4096;
/// Octets of a line whose end has not come that are held before it is looked at.
pub(super) const HELD: usize = 4 * MAX_LINE;
/// What may stand at the start of a file in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// How a list is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notation {
    /// Its format.
    pub format: Format,
    /// The scope of a name without a prefix.
    pub bare: Scope,
    /// The characters that begin a comment line.
    pub comments: Comments,
}

impl Default for Notation {
    fn default() -> Self {
        Self {
            format: Format::Domains,
            bare: Scope::Exact,
            comments: Comments::default(),
        }
    }
}

impl From<&List> for Notation {
    fn from(list: &List) -> Self {
        Self {
            format: list.format,
            bare: list.scope,
            comments: list.comments,
        }
    }
}

/// Cuts a file that comes in pieces into lines, trimmed of whitespace, each with its number (1 is
/// the first).
///
/// LF, CRLF and a lone CR end a line, the last one needs no end, and a UTF-8 byte order mark at the
/// file's start belongs to no line. Of a line whose end has not come it holds at most about
/// [`HELD`] octets: of one that is longer it keeps what tells what it is.
pub(super) struct Cutter {
    notation: Notation,
    /// Lines that ended.
    number: u32,
    /// The start of a line whose end has not come.
    pub(super) held: Vec<u8>,
    /// There is such a line.
    open: bool,
    /// Nothing in the rest of that line changes what it is.
    decided: bool,
    /// The last piece ended with CR: an LF now belongs to it.
    after_cr: bool,
}

impl Cutter {
    /// For a file in that notation, from its start.
    pub(super) fn new(notation: Notation) -> Self {
        Self {
            notation,
            number: 0,
            held: Vec::new(),
            open: false,
            decided: false,
            after_cr: false,
        }
    }

    /// Calls `each` with every line that ends in the next piece of the file.
    pub(super) fn feed(&mut self, piece: &[u8], mut each: impl FnMut(u32, &[u8])) {
        let mut rest = piece;
        if !rest.is_empty() && std::mem::take(&mut self.after_cr) {
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while let Some(end) = memchr2(b'\n', b'\r', rest) {
            if self.open {
                self.hold(&rest[..end]);
                self.end_held(&mut each);
            } else {
                self.end(&rest[..end], &mut each);
            }
            rest = match &rest[end..] {
                [b'\r', b'\n', tail @ ..] => tail,
                [b'\r'] => {
                    self.after_cr = true;
                    &[]
                }
                [_, tail @ ..] => tail,
                [] => &[],
            };
        }
        if !rest.is_empty() {
            self.hold(rest);
            self.open = true;
        }
    }

    /// Whether what was fed is nothing, or ends with a line end.
    pub(super) fn is_ended(&self) -> bool {
        !self.open
    }

    /// Calls `each` with a last line that does not end: the file does.
    pub(super) fn finish(&mut self, mut each: impl FnMut(u32, &[u8])) {
        if self.open {
            self.end_held(&mut each);
        }
    }

    fn end_held(&mut self, each: &mut impl FnMut(u32, &[u8])) {
        let line = std::mem::take(&mut self.held);
        self.end(&line, each);
        self.held = line;
        self.held.clear();
        self.open = false;
        self.decided = false;
    }

    #[inline]
    fn end(&mut self, line: &[u8], each: &mut impl FnMut(u32, &[u8])) {
        let line = &line[self.mark(line)..];
        self.number = self.number.saturating_add(1);
        each(self.number, line.trim_ascii());
    }

    /// Octets of the byte order mark before a line.
    #[inline]
    fn mark(&self, line: &[u8]) -> usize {
        let marked = self.number == 0 && line.starts_with(BYTE_ORDER_MARK);
        if marked { BYTE_ORDER_MARK.len() } else { 0 }
    }

    /// Keeps more of the line whose end has not come.
    fn hold(&mut self, octets: &[u8]) {
        for octets in octets.chunks(HELD) {
            if self.decided {
                return;
            }
            self.held.extend(octets);
            if self.held.len() > HELD {
                self.shorten();
            }
        }
    }

    /// Brings the held line back below [`HELD`]: whatever its rest is, the line is blank, a comment,
    /// good or bad for the same reason, and shown in the same way, as if all of it were there.
    fn shorten(&mut self) {
        let mark = self.mark(&self.held);
        let line = self.held[mark..].trim_ascii_start();
        let content = content(line, self.notation);
        let start = self.held.len() - line.len();
        let (end, behind) = (content.len(), line[content.len()..].trim_ascii_start());
        self.decided = end > MAX_LINE || !behind.is_empty();
        // One octet of whitespace stays: what follows it is not at the file's start.
        let spare = start - usize::from(start > mark);
        self.held.drain(mark..spare);
        let start = mark + (start - spare);
        if end > MAX_LINE {
            // Too long. What is kept of it is too long as well: it does not end with whitespace.
            self.held.truncate(start + MAX_LINE);
            self.held.push(b'x');
        } else if self.decided {
            self.held.truncate(start + end);
            self.held.extend(b" #");
        } else {
            // Whitespace may go on to the line's end, or something follows: too long, then.
            let keep = if end == 0 { 0 } else { MAX_LINE + 1 };
            self.held.truncate(start + keep);
        }
    }
}

/// The part before a line's comment. The line has no whitespace before it.
#[inline]
pub(super) fn content(line: &[u8], notation: Notation) -> &[u8] {
    if notation.comments.begin(line) {
        return &[];
    }
    if memchr(b'#', line).is_none() {
        return line.trim_ascii_end();
    }
    match notation.format {
        Format::Domains => before_spaced_hash(line),
        Format::Hosts => before_hash(line),
    }
}

/// What stands before a comment that starts at any `#`, as hosts(5) has it.
fn before_hash(line: &[u8]) -> &[u8] {
    let end = line.iter().position(|&octet| octet == b'#');
    line[..end.unwrap_or(line.len())].trim_ascii_end()
}

/// What stands before a comment that starts at a `#` at the line's start or after whitespace. A `#`
/// within a word is part of it: cutting there would make a rule of a name that nobody wrote.
fn before_spaced_hash(line: &[u8]) -> &[u8] {
    let mut after_space = true;
    let end = line.iter().position(|&octet| {
        let found = octet == b'#' && after_space;
        after_space = octet.is_ascii_whitespace();
        found
    });
    line[..end.unwrap_or(line.len())].trim_ascii_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<(u32, String)> {
        let mut lines = Vec::new();
        let mut cutter = Cutter::new(Notation::default());
        let mut each = |number, line: &[u8]| {
            lines.push((number, String::from_utf8(line.to_vec()).expect("UTF-8")));
        };
        cutter.feed(text.as_bytes(), &mut each);
        cutter.finish(&mut each);
        lines
    }

    #[test]
    fn lf_crlf_lone_cr_and_the_end_of_the_file_end_a_line() {
        let expected = [(1, "a"), (2, "b"), (3, "c"), (4, ""), (5, "d")];
        let expected = expected.map(|(number, line)| (number, line.to_owned()));
        assert_eq!(lines("a\nb\r\nc\r\rd"), expected);
        assert_eq!(lines("a\nb\r\nc\r\rd\n"), expected);
        assert_eq!(lines(""), []);
        assert_eq!(lines("\n"), [(1, String::new())]);
    }

    #[test]
    fn a_byte_order_mark_and_whitespace_around_a_line_vanish() {
        let expected = [(1, "a".to_owned()), (2, "b c".to_owned())];
        assert_eq!(lines("\u{FEFF} a\t\n\tb c \n"), expected);
        assert_eq!(lines("\u{FEFF}"), [(1, String::new())]);
    }

    #[test]
    fn comments_are_cut_where_their_format_says() {
        for (line, spaced, any) in [
            ("# a", "", ""),
            ("a # b # c", "a", "a"),
            ("a\t#b", "a", "a"),
            ("a#b", "a#b", "a"),
            ("a#b #c", "a#b", "a"),
            ("", "", ""),
        ] {
            assert_eq!(
                before_spaced_hash(line.as_bytes()),
                spaced.as_bytes(),
                "{line:?}"
            );
            assert_eq!(before_hash(line.as_bytes()), any.as_bytes(), "{line:?}");
        }
    }
}
