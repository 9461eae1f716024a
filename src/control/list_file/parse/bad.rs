//! The problems that a line of a list can have, and excerpts of such lines that are safe to print on a terminal.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::control::list_file::parse::bad_rule::BadRule;
use crate::control::list_file::parse::foreign::{Foreign, recognise};
use crate::names::typed::Mistyped;
use crate::policy::rpz::RecordProblem;

/// Characters in the excerpt of a bad line; an ellipsis replaces the rest.
const SHOWN: usize = 80;

/// The problem of a bad line. Images store a variant's name, so it can't be renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bad {
    /// `.x` or `*.x` in a hosts file.
    #[error("hosts files have no `.x` and `*.x`; set the list's `scope` or its `format`")]
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
    /// A line that is longer than any name can be.
    #[error("the line is longer than 4096 bytes")]
    LongLine,
    /// A line of a configuration that is no option.
    #[error("not an option")]
    NoOption,
    /// An option whose value is missing.
    #[error("the option has no value")]
    NoValue,
    /// A quote without a counterpart.
    #[error("a quote has no counterpart")]
    Quotes,
    /// Names of an option of dnsmasq that no slash ends.
    #[error("no `/` ends the names")]
    NamesWithoutEnd,
    /// The part of an option of dnsmasq after its names.
    #[error("neither an address nor `#`")]
    Target,
    /// A type of `local-zone`.
    #[error("the type of the zone is not known")]
    ZoneType,
    /// Records that are no answer together.
    #[error("no answer can carry these records together")]
    Records,
    /// `*.*.x` or the like.
    #[error("more than one `*.`")]
    TwoScopes,
    /// The first row of a table has no such title.
    #[error("no column has the title that the list's `column` says")]
    NoColumn,
    /// A row of a table ends before the column.
    #[error("the row has no such column")]
    ShortRow,
    /// A row of a table that is too long.
    #[error("the row is longer than 256 KiB, or has more than 1024 columns")]
    LongRow,
    /// Text that is not JSON.
    #[error("not valid JSON here; nothing of the file is used")]
    Json,
    /// Arrays or objects within too many others.
    #[error("more than 32 arrays and objects within each other")]
    Nested,
    /// A JSON file that is too large.
    #[error("JSON of more than 256 MiB; write each document on a line of a list of names")]
    LongJson,
    /// The syntax of another format.
    #[error(transparent)]
    #[serde(untagged)]
    Foreign(Foreign),
    /// Text that is not a name.
    #[error(transparent)]
    #[serde(untagged)]
    Typed(#[from] Mistyped),
    /// An entry of a zone file that is no record.
    #[error(transparent)]
    #[serde(untagged)]
    Entry(#[from] BadEntry),
    /// A rule with a pattern or modifiers.
    #[error(transparent)]
    #[serde(untagged)]
    Rule(#[from] BadRule),
    /// A record of a policy zone that is no part of a rule.
    #[error(transparent)]
    #[serde(untagged)]
    Record(#[from] RecordProblem),
}

/// Why a line of a zone file gives no record. Images store a variant's name, so it can't be renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BadEntry {
    /// A directive that reads another file.
    #[error("$INCLUDE is not followed; write the records into this file")]
    Include,
    /// A directive that is not known, such as `$GENERATE`.
    #[error("the directive is not known; known are $ORIGIN and $TTL")]
    Directive,
    /// A relative name before the origin is known.
    #[error(
        "the name has no dot at its end, and there is no origin; set the list's `zone`, or write $ORIGIN"
    )]
    NoOrigin,
    /// The line starts with a blank, but no record precedes it.
    #[error("the record has no owner")]
    NoOwner,
    /// A policy record before the apex is known.
    #[error(
        "the zone is not known yet; set the list's `zone`, or begin the file with the SOA record"
    )]
    NoZone,
    /// The line ends before the type.
    #[error("the record has no type")]
    NoType,
    /// A word in place of the type.
    #[error("the type is not known")]
    UnknownType,
    /// A TTL that is no number.
    #[error("the TTL is no number")]
    Ttl,
    /// RDATA that can't be parsed.
    #[error("the data can't be read as data of this type")]
    Unreadable,
    /// A quote or a parenthesis has no counterpart.
    #[error("a quote or a parenthesis has no counterpart")]
    Unbalanced,
    /// An entry that is too long for any record.
    #[error("the entry is longer than any record can be")]
    LongEntry,
}

impl Bad {
    /// The same problem, or a more specific one if the line has the syntax of another format.
    #[cold]
    pub(super) fn or_foreign(self, line: &[u8]) -> Self {
        let is_unspecific = matches!(
            self,
            Self::NoAddress | Self::Unaddressed | Self::NoOption | Self::Typed(_)
        );
        let foreign = is_unspecific.then(|| recognise(line)).flatten();
        foreign.map_or(self, Self::Foreign)
    }
}

/// A line with a problem. A hosts line may have valid names nevertheless, and these become rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadLine {
    /// Its number; 1 is the first.
    pub line: u32,
    /// The line without its comment, or only the invalid names if others on it are valid. Characters that can't be
    /// printed are escaped. At most 80 characters and an ellipsis; an escape counts as one character.
    pub text: String,
    /// The problem; of several, the first.
    pub problem: Bad,
}

impl BadLine {
    pub(super) fn new(line: u32, content: &[u8], problem: Bad) -> Self {
        Self {
            line,
            text: Self::excerpt(content),
            problem,
        }
    }

    /// The text of a line, as in [`text`](Self::text).
    pub(super) fn excerpt(content: &[u8]) -> String {
        excerpt(content)
    }
}

pub(super) fn excerpt(content: &[u8]) -> String {
    excerpt_up_to(content, SHOWN)
}

/// An excerpt of at most `room` characters.
pub(super) fn excerpt_up_to(content: &[u8], mut room: usize) -> String {
    let mut text = String::new();
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
        for byte in chunk.invalid() {
            if room == 0 {
                text.push('…');
                return text;
            }
            room -= 1;
            // Writing to a string can't fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_of_a_line_is_short_and_printable() {
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
