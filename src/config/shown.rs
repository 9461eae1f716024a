//! Makes text from outside, such as file names, safe for terminals and logs.

use std::borrow::Cow;
use std::fmt::{self, Display, Write};
use std::path::Path;

use serde::Serializer;

use crate::wire::text::steers;

/// Text whose control and format characters are escaped as in JSON. If a text is JSON already, this does not change its
/// meaning.
#[derive(Clone, Debug)]
pub struct Shown<'t>(Cow<'t, str>);

impl<'t> Shown<'t> {
    /// Shows any text.
    pub fn new(text: impl Into<Cow<'t, str>>) -> Self {
        Self(text.into())
    }
}

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '\n' => f.write_str("\\n"),
            c if steers(c) => escape(c, f),
            c => f.write_char(c),
        })
    }
}

/// Writes a character as a JSON escape.
///
/// # Errors
/// If the writer fails.
pub fn escape(c: char, to: &mut impl Write) -> fmt::Result {
    let mut units = [0; 2];
    let units = c.encode_utf16(&mut units);
    units
        .iter()
        .try_for_each(|unit| write!(to, "\\u{unit:04x}"))
}

/// Serializes a path as text; bytes that are not UTF-8 are replaced.
///
/// # Errors
/// If the serializer fails.
pub fn path_text<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

/// A number with its noun: `1 rule`, `2 rules`.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    number: u64,
    noun: &'static str,
}

/// A number with its noun in the singular or plural.
pub fn counted(number: impl TryInto<u64>, one: &'static str, more: &'static str) -> Counted {
    // No count exceeds 64 bits.
    let number = number.try_into().unwrap_or(u64::MAX);
    let noun = if number == 1 { one } else { more };
    Counted { number, noun }
}

impl Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number, self.noun)
    }
}

/// Returns the first `most` sentences, and the number of further ones, if there are any.
pub fn first(
    most: usize,
    mut sentences: impl Iterator<Item = impl Display>,
) -> (Vec<String>, Option<usize>) {
    let first = sentences.by_ref().take(most);
    let first = first.map(|sentence| sentence.to_string()).collect();
    let more = sentences.count();
    (first, (more > 0).then_some(more))
}

/// Says how many warnings are left out.
pub fn more_warnings(count: usize) -> String {
    counted(count, "more warning", "more warnings").to_string()
}

/// Entries of a journal by their numbers, with a verb that agrees: `entry 5 is`, `entries 5 to 7 are`.
pub fn entries(first: u64, last: u64, [one, more]: [&str; 2]) -> String {
    match first == last {
        true => format!("entry {first} {one}"),
        false => format!("entries {first} to {last} {more}"),
    }
}

/// Generations by their numbers, with a verb: `generation 5 is`, `generations 5 to 7 are`.
pub fn generations(first: u64, last: u64) -> String {
    match first == last {
        true => format!("generation {first} is"),
        false => format!("generations {first} to {last} are"),
    }
}

/// Types that can be [`Shown`].
pub trait Show {
    /// The text on one line, without characters that control a terminal.
    fn shown(&self) -> Shown<'_>;
}

/// A file name may contain newlines and escape sequences.
impl Show for Path {
    fn shown(&self) -> Shown<'_> {
        Shown(self.to_string_lossy())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn one_is_singular_and_all_else_is_plural() {
        let shown = [0_u32, 1, 2].map(|count| counted(count, "entry", "entries").to_string());
        assert_eq!(shown, ["0 entries", "1 entry", "2 entries"]);
    }

    #[test]
    fn a_file_name_is_shown_on_one_line_without_control_characters() {
        for (name, shown) in [
            ("/a/b c.toml", "/a/b c.toml"),
            (
                "\u{1b}[31mEVIL\nALARM x\u{202e}.toml",
                "\\u001b[31mEVIL\\nALARM x\\u202e.toml",
            ),
            ("\u{9b}2J\r\t\u{7f}", "\\u009b2J\\u000d\\u0009\\u007f"),
            ("\u{2066}\u{E0041}", "\\u2066\\udb40\\udc41"),
            ("می\u{200c}خواهم.toml", "می\u{200c}خواهم.toml"),
        ] {
            assert_eq!(Path::new(name).shown().to_string(), shown);
        }
    }

    /// A sentence that counts how often it is written out.
    struct Written<'c>(&'c Cell<usize>);

    impl Display for Written<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.set(self.0.get() + 1);
            f.write_str("a problem")
        }
    }

    #[test]
    fn sentences_that_are_only_counted_are_not_written_out() {
        for (count, more) in [(3, None), (1000, None), (70_000, Some(69_000))] {
            let written = Cell::new(0);
            let sentences = (0..count).map(|_| Written(&written));
            let (reported, left) = first(1000, sentences);
            assert_eq!((reported.len(), left), (count.min(1000), more));
            assert_eq!(written.get(), reported.len());
        }
    }
}
