//! Divides a file into lines, and removes the comment of a line.

use std::sync::Arc;

use memchr::{memchr, memchr2};

use crate::config::comments::Comments;
use crate::config::{Format, List};
use crate::control::list_file::parse::adblock::line as adblock;
use crate::control::list_file::parse::bad::excerpt;
use crate::policy::rule::{Kind, Scope};

/// Maximum length of a line without its comment, in bytes. A name has at most 1,016 bytes, if each of its bytes is
/// written as `\DDD`. A file without line ends is one bad line.
pub(super) const MAX_LINE: usize = 4096;
/// Bytes of an incomplete line that are buffered before it is shortened.
pub(super) const BUFFER_MAX: usize = 4 * MAX_LINE;
/// The optional start of a file in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// The notation of a list file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notation {
    /// Its format.
    pub format: Format,
    /// The scope of a name without a prefix.
    pub bare: Scope,
    /// The characters that begin a comment line.
    pub comments: Comments,
    /// The column of a table that has the names, or the key of JSON.
    pub column: Option<Arc<str>>,
    /// Whether its list allows names. Only [`Format::Adblock`] differs by that.
    pub allows: bool,
}

impl Default for Notation {
    fn default() -> Self {
        Self {
            format: Format::Domains,
            bare: Scope::Exact,
            comments: Comments::default(),
            column: None,
            allows: false,
        }
    }
}

impl From<&List> for Notation {
    fn from(list: &List) -> Self {
        Self {
            format: list.format,
            bare: list.scope,
            comments: list.comments,
            column: list.column.clone(),
            allows: list.source.kind == Kind::Allow,
        }
    }
}

/// Cuts a file, which arrives in pieces, into lines. Trims whitespace, and numbers the lines from 1.
///
/// LF, CRLF and a lone CR end a line. The last line needs no end. A UTF-8 byte order mark at the start of the file is
/// skipped. An incomplete line takes about [`BUFFER_MAX`] bytes of memory at most. Of a longer line, only the
/// part is kept that decides whether the line is blank, a comment, valid or invalid.
pub(super) struct Cutter {
    notation: Notation,
    /// The number of complete lines.
    number: u32,
    /// The start of an incomplete line.
    pub(super) buffer: Vec<u8>,
    /// Whether there is an incomplete line. Its buffer may be empty.
    open: bool,
    /// Whether the rest of the incomplete line can be ignored.
    decided: bool,
    /// Whether the last piece ended with CR. An LF at the start of the next piece belongs to that line end.
    after_cr: bool,
}

impl Cutter {
    /// A cutter at the start of a file in this notation.
    pub(super) fn new(notation: &Notation) -> Self {
        Self {
            notation: notation.clone(),
            number: 0,
            buffer: Vec::new(),
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
                self.append(&rest[..end]);
                self.end_buffered(&mut each);
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
            self.append(rest);
            self.open = true;
        }
    }

    /// The number of a last line that is not complete.
    pub(super) fn open_line(&self) -> Option<u32> {
        self.open.then(|| self.number.saturating_add(1))
    }

    /// What is known of that line. Of one that is too long, it is only the start.
    pub(super) fn open_text(&self) -> &[u8] {
        self.buffer[self.mark_len(&self.buffer)..].trim_ascii()
    }

    /// Ends the file. Calls `each` with the last line if that is incomplete.
    pub(super) fn finish(&mut self, mut each: impl FnMut(u32, &[u8])) {
        if self.open {
            self.end_buffered(&mut each);
        }
    }

    fn end_buffered(&mut self, each: &mut impl FnMut(u32, &[u8])) {
        let line = std::mem::take(&mut self.buffer);
        self.end(&line, each);
        self.buffer = line;
        self.buffer.clear();
        self.open = false;
        self.decided = false;
    }

    #[inline]
    fn end(&mut self, line: &[u8], each: &mut impl FnMut(u32, &[u8])) {
        let line = &line[self.mark_len(line)..];
        self.number = self.number.saturating_add(1);
        each(self.number, line.trim_ascii());
    }

    /// The length of the byte order mark before a line, in bytes.
    #[inline]
    fn mark_len(&self, line: &[u8]) -> usize {
        let marked = self.number == 0 && line.starts_with(BYTE_ORDER_MARK);
        if marked { BYTE_ORDER_MARK.len() } else { 0 }
    }

    /// Adds bytes to the incomplete line.
    fn append(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(BUFFER_MAX) {
            if self.decided {
                return;
            }
            self.buffer.extend(chunk);
            if self.buffer.len() > BUFFER_MAX {
                self.shorten();
            }
        }
    }

    /// Shortens the buffer to less than [`BUFFER_MAX`] bytes. However the line continues, the shortened line gives the
    /// same result: blank, a comment, valid, or invalid with the same problem and excerpt.
    fn shorten(&mut self) {
        let mark = self.mark_len(&self.buffer);
        let line = self.buffer[mark..].trim_ascii_start();
        let content = content(line, &self.notation);
        let start = self.buffer.len() - line.len();
        let (end, behind) = (content.len(), line[content.len()..].trim_ascii_start());
        self.decided = end > MAX_LINE || !behind.is_empty();
        // One byte of whitespace stays: without it, a byte order mark that follows would be skipped as if it started
        // the file.
        let spare = start - usize::from(start > mark);
        self.buffer.drain(mark..spare);
        let start = mark + (start - spare);
        if end > MAX_LINE {
            // The line is too long. The `x` keeps the shortened line too long even if whitespace is trimmed.
            self.buffer.truncate(start + MAX_LINE);
            self.buffer.push(b'x');
        } else if self.decided {
            self.buffer.truncate(start + end);
            self.buffer.extend(b" #");
        } else {
            // So far only whitespace follows the content. If anything else follows, the line is too long.
            let keep = if end == 0 { 0 } else { MAX_LINE + 1 };
            self.buffer.truncate(start + keep);
        }
    }
}

/// An excerpt of the line with this number. Empty if there is none.
pub fn excerpt_of_line(bytes: &[u8], number: u32) -> String {
    let mut text = String::new();
    let mut cutter = Cutter::new(&Notation::default());
    let mut each = |line_number, line: &[u8]| {
        if line_number == number {
            text = excerpt(line);
        }
    };
    cutter.feed(bytes, &mut each);
    cutter.finish(&mut each);
    text
}

/// The part of a line before its comment. The line must not start with whitespace.
#[inline]
pub(super) fn content<'l>(line: &'l [u8], notation: &Notation) -> &'l [u8] {
    if notation.format == Format::Adblock {
        return adblock::content(line);
    }
    if notation.comments.begin(line) {
        return &[];
    }
    if memchr(b'#', line).is_none() {
        return line.trim_ascii_end();
    }
    match notation.format {
        Format::Hosts => before_hash(line),
        _ => before_spaced_hash(line),
    }
}

/// The part before the first `#`, where a comment starts according to hosts(5).
fn before_hash(line: &[u8]) -> &[u8] {
    let end = line.iter().position(|&byte| byte == b'#');
    line[..end.unwrap_or(line.len())].trim_ascii_end()
}

/// The part before the first `#` that is at the start of the line or follows whitespace. A `#` within a word does not
/// start a comment: cutting the word there would make a rule on a name that is not in the file.
fn before_spaced_hash(line: &[u8]) -> &[u8] {
    let mut after_space = true;
    let end = line.iter().position(|&byte| {
        let found = byte == b'#' && after_space;
        after_space = byte.is_ascii_whitespace();
        found
    });
    line[..end.unwrap_or(line.len())].trim_ascii_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<(u32, String)> {
        let mut lines = Vec::new();
        let mut cutter = Cutter::new(&Notation::default());
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
