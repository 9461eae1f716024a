//! Owns what can be wrong with a line of a list, and how such a line is shown.
//! Refuses to count, and to show a line longer or stranger than a terminal should see.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::control::sources::lists::parse::foreign::{Foreign, recognise};
use crate::names::typed::Mistyped;

/// Characters of a bad line that are kept; the rest becomes an ellipsis.
const SHOWN: usize = 80;

/// Why a line is bad. Images keep it by its name, so a name stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bad {
    /// `.x` or `*.x` in a hosts file.
    #[error("`.x` and `*.x` don't exist in hosts files; set the list's `scope` or its `format`")]
    Scoped,
    /// A rule on the root.
    #[error("a rule on the root would cover every name")]
    Root,
    /// An address and a name in a list of names.
    #[error("an address and a name, as in a list of `format = \"hosts\"`")]
    HostsLine,
    /// A name alone in a hosts file.
    #[error("no address at the start, as in a list of `format = \"domains\"`")]
    NoAddress,
    /// A hosts line that begins with neither an address nor a name.
    #[error("no address at the start")]
    Unaddressed,
    /// A hosts line that ends after its address.
    #[error("an address without a name")]
    NoName,
    /// A line that no name can be as long as.
    #[error("the line is longer than 4096 bytes")]
    LongLine,
    /// The syntax of another format.
    #[error(transparent)]
    #[serde(untagged)]
    Foreign(Foreign),
    /// No name as people type them.
    #[error(transparent)]
    #[serde(untagged)]
    Typed(#[from] Mistyped),
}

impl Bad {
    /// The same, or the syntax of another format that the line has.
    #[cold]
    pub(super) fn or_foreign(self, line: &[u8]) -> Self {
        let is_open = matches!(self, Self::NoAddress | Self::Unaddressed | Self::Typed(_));
        let foreign = is_open.then(|| recognise(line)).flatten();
        foreign.map_or(self, Self::Foreign)
    }
}

/// A line that gave no rule, or not all of its rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadLine {
    /// Its number; 1 is the first.
    pub line: u32,
    /// The line without its comment, or the invalid names alone if others on it are valid: at most 80 characters and an ellipsis, of which
    /// escapes of what can't be printed count as one. Safe to show on a terminal.
    pub text: String,
    /// What is wrong with it.
    pub problem: Bad,
}

impl BadLine {
    pub(super) fn new(line: u32, content: &[u8], problem: Bad) -> Self {
        Self {
            line,
            text: excerpt(content),
            problem,
        }
    }
}

fn excerpt(content: &[u8]) -> String {
    let mut text = String::new();
    let mut room = SHOWN;
    for chunk in content.utf8_chunks() {
        for character in chunk.valid().chars() {
            if room == 0 {
                text.push('…');
                return text;
            }
            room -= 1;
            match character {
                '"' | '\'' | '\\' => text.push(character),
                _ => text.extend(character.escape_debug()),
            }
        }
        for octet in chunk.invalid() {
            if room == 0 {
                text.push('…');
                return text;
            }
            room -= 1;
            // Writing to a string can't fail.
            let _ = write!(text, "\\x{octet:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_line_is_short_and_printable() {
        for (content, shown) in [
            (&b"\"a\\b' c"[..], "\"a\\b' c"),
            (b"a\x00b\x1b[2J\tc", "a\\0b\\u{1b}[2J\\tc"),
            (b"caf\xE9.example \xFF\xFE", "caf\\xe9.example \\xff\\xfe"),
            ("münchen\u{202E}".as_bytes(), "münchen\\u{202e}"),
        ] {
            assert_eq!(excerpt(content), shown);
        }
        let exact = "ü".repeat(SHOWN);
        assert_eq!(excerpt(exact.as_bytes()), exact);
        assert_eq!(excerpt(format!("{exact}ü").as_bytes()), format!("{exact}…"));
        assert_eq!(excerpt(&[0xFF; SHOWN + 1]), "\\xff".repeat(SHOWN) + "…");
    }
}
