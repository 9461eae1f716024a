//! Cuts a table into rows (RFC 4180). A quote that no other closes does not swallow the rows after it.

use memchr::{memchr, memchr2};

/// The bytes of a line. A row with a longer one is bad.
pub(super) const MAX_ROW: usize = 256 << 10;
/// The bytes and the lines after which a field in quotes must have ended.
const MAX_QUOTED: usize = 64 << 10;
const MAX_LINES: u32 = 64;

const SEPARATORS: [u8; 4] = *b",;\t|";
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// A part of a table, with the number of its last line; 1 is the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut<'t> {
    /// A row, without its line end, and the separator of its fields. It is not empty.
    Row(u32, &'t [u8], u8),
    /// A line whose first character is `#`.
    Comment,
    /// A line in which a quote opens a field, and none closes it. The rows after this line are cut as if it were not there.
    OpenQuote(u32, &'t [u8]),
    /// The start of a row with a line that is too long.
    Long(u32, &'t [u8]),
}

/// Cuts a table, which arrives in pieces, into rows. LF, CRLF and a lone CR end a line, and, outside quotes, a row. A
/// UTF-8 byte order mark at the start is skipped, and so are blank lines.
#[derive(Default)]
pub(super) struct RowCutter {
    /// `None` until the first row has shown it.
    separator: Option<u8>,
    /// What is not cut yet.
    pending: Vec<u8>,
    /// The number of lines that are cut.
    line: u32,
    /// Whether the pending line was too long, and its rest is dropped.
    is_dropping: bool,
}

/// The row at the start of a text.
enum Start {
    /// It has all these lines.
    Row(Lines),
    /// A quote in its first line, which is this one, is not closed.
    OpenQuote(Lines),
    /// It has a line that is too long. `is_whole` says whether the end of that line is in the text.
    Long { lines: Lines, is_whole: bool },
    /// Its end is in a later piece.
    Later,
}

/// Some lines at the start of a text.
#[derive(Clone, Copy, Default)]
struct Lines {
    count: u32,
    /// Their bytes, without the last line end and with it.
    text: usize,
    with_end: usize,
}

/// What is behind a line.
#[derive(PartialEq, Eq)]
enum After {
    /// Another row.
    Row,
    /// The rest of a field in quotes.
    Field,
    /// Text follows a quote that closes a field of an earlier line: this is another field's quote.
    Nonsense,
}

impl RowCutter {
    /// Calls `each` with the parts that end in the next piece.
    pub(super) fn feed(&mut self, piece: &[u8], each: impl FnMut(Cut<'_>)) {
        self.pending.extend(piece);
        let has_end = memchr2(b'\n', b'\r', piece).is_some();
        if has_end || self.pending.len() > MAX_ROW {
            self.cut(false, each);
        }
    }

    /// The number of the last line, whose end has not arrived.
    pub(super) fn last_line(&self) -> u32 {
        let (mut rest, mut line) = (&*self.pending, self.line.saturating_add(1));
        while let Some(ended) = first_line(rest, false) {
            rest = &rest[ended.with_end..];
            line = line.saturating_add(1);
        }
        line
    }

    /// Ends the file. Calls `each` with what is left of it.
    pub(super) fn finish(&mut self, each: impl FnMut(Cut<'_>)) {
        self.cut(true, each);
    }

    fn cut(&mut self, is_end: bool, mut each: impl FnMut(Cut<'_>)) {
        let mut text = std::mem::take(&mut self.pending);
        let Some(separator) = self.separator.or_else(|| separator(&mut text, is_end)) else {
            self.pending = text;
            return;
        };
        self.separator = Some(separator);
        let mut done = 0;
        while let Some(read) = self.next(&text[done..], separator, is_end, &mut each) {
            done += read;
        }
        text.drain(..done);
        self.pending = text;
    }

    /// Cuts off the first part of a text. Returns its length; `None` if its end is in a later piece.
    fn next(
        &mut self,
        text: &[u8],
        separator: u8,
        is_end: bool,
        each: &mut impl FnMut(Cut<'_>),
    ) -> Option<usize> {
        if text.is_empty() {
            return None;
        }
        let first = first_line(text, is_end);
        if self.is_dropping {
            self.is_dropping = first.is_none();
            // A CR at the end stays, because LF may follow.
            let dropped = text.len() - usize::from(text.ends_with(b"\r"));
            let read = first.map_or(dropped, |line| line.with_end);
            return (read > 0).then_some(read);
        }
        if let Some(line) = first {
            let is_comment = text[0] == b'#';
            if is_comment || text[..line.text].trim_ascii().is_empty() {
                self.line += 1;
                if is_comment {
                    each(Cut::Comment);
                }
                return Some(line.with_end);
            }
        }
        let (lines, is_whole) = match start(text, separator, is_end) {
            Start::Later => return None,
            Start::Row(lines) => {
                self.line = self.line.saturating_add(lines.count);
                each(Cut::Row(self.line, &text[..lines.text], separator));
                (lines, true)
            }
            Start::OpenQuote(lines) => {
                self.line = self.line.saturating_add(lines.count);
                each(Cut::OpenQuote(self.line, &text[..lines.text]));
                (lines, true)
            }
            Start::Long { lines, is_whole } => {
                self.line = self.line.saturating_add(lines.count);
                each(Cut::Long(self.line, &text[..lines.text]));
                (lines, is_whole)
            }
        };
        self.is_dropping = !is_whole;
        Some(lines.with_end)
    }
}

/// The separator that the first row has most of, and removes the byte order mark. `None` if the row is not complete.
fn separator(text: &mut Vec<u8>, is_end: bool) -> Option<u8> {
    let mark = if text.starts_with(BYTE_ORDER_MARK) {
        BYTE_ORDER_MARK.len()
    } else {
        0
    };
    let start = &text[mark..text.len().min(mark + MAX_ROW)];
    let lines = start.split_inclusive(|byte| matches!(byte, b'\n' | b'\r'));
    let row = lines
        .filter(|line| !line.trim_ascii().is_empty() && line[0] != b'#')
        .find(|line| line.ends_with(b"\n") || line.ends_with(b"\r"));
    if row.is_none() && !is_end && start.len() < MAX_ROW {
        return None;
    }
    let row = row.unwrap_or(start);
    let count = |separator: &u8| row.iter().filter(|byte| *byte == separator).count();
    // Of equal counts, `max_by_key` returns the last, so the comma comes last.
    let most = SEPARATORS.into_iter().rev().max_by_key(count);
    text.drain(..mark);
    most
}

/// The row at the start of a text.
fn start(text: &[u8], separator: u8, is_end: bool) -> Start {
    let mut lines = Lines::default();
    let mut after = After::Row;
    let first = loop {
        let rest = &text[lines.with_end..];
        let Some(line) = first_line(rest, is_end) else {
            // One byte may be a CR that belongs to the line end.
            if rest.len() > MAX_ROW + 1 {
                lines.add(Lines {
                    count: 1,
                    text: rest.len() - 1,
                    with_end: rest.len() - 1,
                });
                return Start::Long {
                    lines,
                    is_whole: false,
                };
            }
            match is_end {
                true => break first_line(text, true),
                false => return Start::Later,
            }
        };
        after = after_line(&rest[..line.text], after == After::Field, separator);
        lines.add(line);
        if line.text > MAX_ROW {
            return Start::Long {
                lines,
                is_whole: true,
            };
        }
        let is_over = lines.count == MAX_LINES || lines.with_end > MAX_QUOTED;
        match after {
            After::Row => return Start::Row(lines),
            After::Field if !is_over => {}
            After::Field | After::Nonsense => break first_line(text, is_end),
        }
    };
    first.map_or(Start::Later, Start::OpenQuote)
}

impl Lines {
    fn add(&mut self, more: Self) {
        *self = Self {
            count: self.count + more.count,
            text: self.with_end + more.text,
            with_end: self.with_end + more.with_end,
        };
    }
}

/// The first line of a text. `None` if its end is in a later piece, or there is none.
fn first_line(text: &[u8], is_end: bool) -> Option<Lines> {
    let line = |text, end| Lines {
        count: 1,
        text,
        with_end: text + end,
    };
    let Some(at) = memchr2(b'\n', b'\r', text) else {
        return (is_end && !text.is_empty()).then(|| line(text.len(), 0));
    };
    match &text[at..] {
        [b'\r', b'\n', ..] => Some(line(at, 2)),
        [b'\r'] if !is_end => None,
        _ => Some(line(at, 1)),
    }
}

/// What is behind a line, which begins with the rest of a field in quotes or with a field.
fn after_line(line: &[u8], is_quoted: bool, separator: u8) -> After {
    let (mut rest, mut is_quoted, mut is_of_this_line) = (line, is_quoted, false);
    loop {
        if !is_quoted && let [b'"', quoted @ ..] = rest {
            (rest, is_quoted, is_of_this_line) = (quoted, true, true);
        }
        if is_quoted {
            let Some(at) = memchr(b'"', rest) else {
                return After::Field;
            };
            rest = &rest[at + 1..];
            match rest.first() {
                Some(b'"') => {
                    rest = &rest[1..];
                    continue;
                }
                Some(next) if *next != separator && !is_of_this_line => return After::Nonsense,
                // As lenient as other readers: what follows the quote belongs to the field.
                _ => is_quoted = false,
            }
        }
        let Some(at) = memchr(separator, rest) else {
            return After::Row;
        };
        rest = &rest[at + 1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parts of a table, as text.
    fn cut(text: &str) -> Vec<String> {
        let shown = |text: &[u8]| {
            String::from_utf8_lossy(&text[..text.len().min(40)])
                .escape_debug()
                .to_string()
        };
        let show = |part: Cut<'_>| match part {
            Cut::Row(line, row, _) => format!("{line} row {}", shown(row)),
            Cut::Comment => "comment".to_owned(),
            Cut::OpenQuote(line, text) => format!("{line} quote {}", shown(text)),
            Cut::Long(line, text) => format!("{line} long {}", shown(text)),
        };
        let cut = |size: usize| {
            let mut parts = Vec::new();
            let mut cutter = RowCutter::default();
            for piece in text.as_bytes().chunks(size) {
                cutter.feed(piece, |part| parts.push(show(part)));
            }
            cutter.finish(|part| parts.push(show(part)));
            parts
        };
        let whole = cut(text.len().max(1));
        let sizes = if text.len() > 10_000 {
            vec![4096, 65_537]
        } else {
            vec![1, 2, 7]
        };
        for size in sizes {
            assert_eq!(cut(size), whole, "pieces of {size}");
        }
        whole
    }

    #[test]
    fn rows_end_with_their_lines_except_within_quotes() {
        let text = "\u{FEFF}a,b\r\n# \"a comment\r1,\"x\ny\"\"z\"\r\r\n\n2,\"\"\n3,a\"b";
        let expected = [
            "1 row a,b",
            "comment",
            "4 row 1,\\\"x\\ny\\\"\\\"z\\\"",
            "7 row 2,\\\"\\\"",
            "8 row 3,a\\\"b",
        ];
        assert_eq!(cut(text), expected);
        assert_eq!(cut(""), [""; 0]);
        assert_eq!(cut("a;\"b\r"), ["1 quote a;\\\"b"]);
    }

    #[test]
    fn a_quote_that_nothing_closes_is_a_bad_line_and_the_rows_after_it_count() {
        for rest in ["2,b\n3,c\n".to_owned(), "2,\"b\"\n3,c\n".to_owned()] {
            let parts = cut(&format!("1,\"a\n{rest}"));
            assert_eq!(parts[0], "1 quote 1,\\\"a", "{rest}");
            assert_eq!(parts.len(), 3, "{rest}");
        }
        let mut text = "1,a\n2,\"b\n".to_owned();
        for line in 3..1000 {
            text += &format!("{line},c\n");
        }
        let parts = cut(&text);
        assert_eq!((parts.len(), &*parts[1]), (999, "2 quote 2,\\\"b"));
        assert_eq!(parts[2], "3 row 3,c");
    }

    #[test]
    fn a_line_that_is_too_long_is_bad_and_the_rows_after_it_count() {
        let long = "x".repeat(MAX_ROW + 1);
        for text in [format!("a,{long}\r\nb,c\n"), format!("a,\"b\n{long}\nb,c")] {
            let parts = cut(&text);
            assert_eq!(parts.len(), 2);
            assert!(parts[0].contains(" long a,"), "{}", parts[0]);
            assert!(parts[1].ends_with(" row b,c"), "{}", parts[1]);
        }
        assert_eq!(cut(&format!("{}\r\n", &long[1..])).len(), 1);
        assert!(cut(&long[1..])[0].contains("row"));
    }
}
