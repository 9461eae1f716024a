//! Escapes control and format characters in all text that verbs print, apart from newlines and tabs.

use std::io::{self, Write};

use serde::Serialize;

use crate::config::shown::escape;
use crate::wire::text::steers;

/// A writer that escapes these characters. The meaning of JSON does not change.
pub(super) struct Plain<W>(pub(super) W);

impl<W: Write> Write for Plain<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let plain = |byte: &u8| matches!(byte, b' '..=b'~' | b'\n' | b'\t');
        if bytes.iter().all(plain) {
            self.0.write_all(bytes)?;
            return Ok(bytes.len());
        }
        let mut text = String::with_capacity(bytes.len() + 16);
        // Formatting never splits a character between two writes.
        for c in String::from_utf8_lossy(bytes).chars() {
            match c {
                '\n' | '\t' => text.push(c),
                c if steers(c) => escape(c, &mut text).map_err(io::Error::other)?,
                c => text.push(c),
            }
        }
        self.0.write_all(text.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Standard output, and its first error: whatever the verb makes of an error, the output is not complete.
pub(super) struct Output<W> {
    to: W,
    /// The first error.
    pub(super) error: Option<io::Error>,
}

impl<W: Write> Output<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to, error: None }
    }

    /// Remembers an error. Returns one of the same kind.
    fn failed(&mut self, error: io::Error) -> io::Error {
        let kind = error.kind();
        if kind != io::ErrorKind::Interrupted {
            self.error.get_or_insert(error);
        }
        kind.into()
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write(bytes).map_err(|error| self.failed(error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush().map_err(|error| self.failed(error))
    }
}

/// Prints a value as JSON, for programs.
pub(super) fn print_json(value: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", serde_json::to_string_pretty(value)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(text: &str) -> String {
        let mut plain = Plain(Vec::new());
        write!(plain, "{text}").expect("memory");
        String::from_utf8(plain.0).expect("text")
    }

    #[test]
    fn control_and_format_characters_are_escaped() {
        let text = "a\tb\n\u{1b}]0;x\u{7} \u{202e}gnp \u{9b}1m é 漢 \u{2067}";
        let plain = "a\tb\n\\u001b]0;x\\u0007 \\u202egnp \\u009b1m é 漢 \\u2067";
        assert_eq!(printed(text), plain);
    }

    #[test]
    fn json_means_the_same_as_before() {
        let value = serde_json::json!({ "a\u{202e}\u{E0001}": ["\u{9b}\n\u{1b}", "\u{feff}é"] });
        let text = printed(&serde_json::to_string_pretty(&value).expect("JSON"));
        assert!(!text.contains(|c: char| c != '\n' && steers(c)), "{text}");
        let again: serde_json::Value = serde_json::from_str(&text).expect("JSON still");
        assert_eq!(again, value);
    }
}
