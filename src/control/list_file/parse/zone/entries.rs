//! Cuts a zone file into entries: a record or a directive, without its comments, on one line (RFC 1035, section 5.1).

use memchr::{memchr, memchr_iter};

/// The longest entry in bytes, without comments. The data of a record has at most 65,535 bytes, and each of them takes up
/// to four characters.
pub(super) const MAX_ENTRY: usize = 320 << 10;

/// Cuts a file, which arrives in pieces, into entries. An entry ends with its line, unless the line end is within
/// parentheses.
#[derive(Default)]
pub(super) struct Entries {
    /// The start of an incomplete entry.
    buffer: Vec<u8>,
    /// The number of the line that is being read, and of the line in which the entry starts; 0 is the first.
    line: u32,
    start: u32,
    /// The parentheses that are open.
    depth: u32,
    state: State,
    fault: Option<Fault>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Plain,
    /// After a backslash; whether it is within quotes.
    Escape(bool),
    Quoted,
    Comment,
}

/// Why an entry can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is longer than [`MAX_ENTRY`].
    Long,
    /// A quote or parenthesis is not closed, or closed without being opened.
    Unbalanced,
}

impl Entries {
    /// Calls `each` with the line and the text of every entry that ends in the next piece of the file. Lines count from
    /// 1. Blank entries are left out.
    pub(super) fn feed(&mut self, piece: &[u8], mut each: impl FnMut(u32, Result<&[u8], Fault>)) {
        let mut from = 0;
        for end in memchr_iter(b'\n', piece) {
            let line = &piece[from..end];
            from = end + 1;
            if self.buffer.is_empty() && self.state == State::Plain && is_simple(line) {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                self.line = self.line.saturating_add(1);
                if !line.trim_ascii().is_empty() {
                    each(self.line, checked(line));
                }
                continue;
            }
            self.take(line);
            self.end_line(&mut each);
        }
        self.take(&piece[from..]);
    }

    /// Ends the file. Calls `each` with the last entry, if it has no line end.
    pub(super) fn finish(&mut self, mut each: impl FnMut(u32, Result<&[u8], Fault>)) {
        if self.depth > 0 {
            self.fault.get_or_insert(Fault::Unbalanced);
            self.depth = 0;
        }
        self.end_line(&mut each);
    }

    /// The first line of a last entry that is not complete.
    pub(super) fn open_line(&self) -> Option<u32> {
        let is_ended = self.buffer.is_empty() && self.depth == 0 && self.state == State::Plain;
        (!is_ended).then(|| self.start.saturating_add(1))
    }

    fn take(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let next = match (self.state, byte) {
                (State::Comment, _) => continue,
                (State::Escape(true), _) => State::Quoted,
                (State::Escape(false), _) => State::Plain,
                (State::Plain, b';') => {
                    self.state = State::Comment;
                    continue;
                }
                (State::Plain, b'"') => State::Quoted,
                (State::Quoted, b'"') => State::Plain,
                (state, b'\\') => State::Escape(state == State::Quoted),
                (State::Plain, b'(' | b')') => {
                    self.parenthesis(byte);
                    continue;
                }
                (state, _) => state,
            };
            self.state = next;
            self.push(byte);
        }
    }

    fn parenthesis(&mut self, byte: u8) {
        match byte {
            b'(' => self.depth += 1,
            _ if self.depth > 0 => self.depth -= 1,
            _ => self.fault = Some(Fault::Unbalanced),
        }
        self.push(b' ');
    }

    fn push(&mut self, byte: u8) {
        if self.buffer.is_empty() {
            self.start = self.line;
        }
        if self.buffer.len() < MAX_ENTRY {
            self.buffer.push(byte);
        } else {
            self.fault.get_or_insert(Fault::Long);
        }
    }

    fn end_line(&mut self, each: &mut impl FnMut(u32, Result<&[u8], Fault>)) {
        let state = std::mem::take(&mut self.state);
        if matches!(state, State::Quoted | State::Escape(_)) {
            self.fault.get_or_insert(Fault::Unbalanced);
        }
        self.line = self.line.saturating_add(1);
        if self.depth > 0 && self.fault.is_none() {
            self.push(b' ');
            return;
        }
        let entry = std::mem::take(&mut self.buffer);
        match self.fault.take() {
            Some(fault) => each(self.start.saturating_add(1), Err(fault)),
            None if entry.trim_ascii().is_empty() => {}
            None => {
                let text = entry.strip_suffix(b"\r").unwrap_or(&entry);
                each(self.start.saturating_add(1), Ok(text));
            }
        }
        self.depth = 0;
        self.buffer = entry;
        self.buffer.clear();
    }
}

/// Whether a line is an entry as it is: no comment, quote or parenthesis, and no escape of the line end.
fn is_simple(line: &[u8]) -> bool {
    memchr::memchr3(b';', b'"', b'(', line).is_none()
        && memchr(b')', line).is_none()
        && !line.ends_with(b"\\")
}

fn checked(line: &[u8]) -> Result<&[u8], Fault> {
    match line.len() > MAX_ENTRY {
        true => Err(Fault::Long),
        false => Ok(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(text: &str, piece: usize) -> Vec<(u32, Result<String, Fault>)> {
        let mut found = Vec::new();
        let mut each = |line, entry: Result<&[u8], Fault>| {
            let text = entry.map(|entry| String::from_utf8(entry.to_vec()).expect("UTF-8"));
            found.push((line, text));
        };
        let mut entries = Entries::default();
        for piece in text.as_bytes().chunks(piece) {
            entries.feed(piece, &mut each);
        }
        entries.finish(&mut each);
        found
    }

    #[test]
    fn an_entry_is_a_line_or_what_parentheses_hold_together() {
        let text =
            "a A 1\r\n; comment\n\n  b A 2 ; c\nc SOA ( 1 ; one\n 2 )\nd TXT \"x;(\" y\\;z\ne A 5";
        let expected = [
            (1, "a A 1"),
            (4, "  b A 2 "),
            (5, "c SOA   1   2  "),
            (7, "d TXT \"x;(\" y\\;z"),
            (8, "e A 5"),
        ];
        let expected = expected.map(|(line, text)| (line, Ok(text.to_owned())));
        for piece in [1, 2, 7, 1000] {
            assert_eq!(entries(text, piece), expected, "pieces of {piece}");
        }
    }

    #[test]
    fn an_entry_with_a_fault_does_not_affect_the_next_one() {
        let long = "x".repeat(MAX_ENTRY + 1);
        let text = format!("a )\n\"b\n{long}\n{long};\nc A 1\n( d");
        let fault = |line, fault| (line, Err(fault));
        let expected = [
            fault(1, Fault::Unbalanced),
            fault(2, Fault::Unbalanced),
            fault(3, Fault::Long),
            fault(4, Fault::Long),
            (5, Ok("c A 1".to_owned())),
            fault(6, Fault::Unbalanced),
        ];
        for piece in [999, 1 << 20] {
            assert_eq!(entries(&text, piece), expected);
        }
    }

    #[test]
    fn a_line_that_ends_with_a_backslash_is_the_same_in_pieces() {
        let text = "a.example\\\nb.example\\\\\nc.example\n";
        let expected = [
            (1, Err(Fault::Unbalanced)),
            (2, Ok("b.example\\\\".to_owned())),
            (3, Ok("c.example".to_owned())),
        ];
        for piece in [1, 4, text.len()] {
            assert_eq!(entries(text, piece), expected, "{piece}");
        }
    }
}
