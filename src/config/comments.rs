//! The characters that begin a comment line of a list.

use serde::{Deserialize, Serialize};

use super::findings::{Findings, quote};
use super::reader::At;

/// The characters that begin a comment line. `#` always does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Comments {
    /// One bit for each ASCII character.
    bits: u128,
}

impl Comments {
    /// Parses a text of such characters.
    ///
    /// # Errors
    /// The first character that can't begin a comment: whitespace, or one that begins a rule.
    fn parse(text: &str) -> Result<Self, char> {
        let mut comments = Self::default();
        for c in text.chars() {
            // `.x`, `*.x`, `_x`, `-x`, `\DDD` and `::1` begin rules.
            if !c.is_ascii_punctuation() || matches!(c, '.' | '*' | '_' | '-' | '\\' | ':') {
                return Err(c);
            }
            comments.bits |= 1 << c as u32;
        }
        Ok(comments)
    }

    /// Whether a line is a comment. The line must not begin with whitespace.
    #[inline]
    pub fn begin(self, line: &[u8]) -> bool {
        line.first()
            .is_some_and(|&byte| byte.is_ascii() && self.bits >> byte & 1 == 1)
    }

    /// Whether `#` alone begins comments.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Comments {
    fn default() -> Self {
        Self {
            bits: 1 << u32::from(b'#'),
        }
    }
}

impl From<Comments> for String {
    fn from(comments: Comments) -> Self {
        let known = (0..128).filter(|&byte: &u8| comments.begin(&[byte]));
        known.map(char::from).collect()
    }
}

impl TryFrom<String> for Comments {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).map_err(|c| format!("{c:?} can't begin a comment"))
    }
}

/// The value of a list's `comments`.
pub(super) fn validate(given: Option<At<String>>, findings: &mut Findings) -> Option<Comments> {
    let At { key, line, value } = given?;
    let problem = match Comments::parse(&value) {
        Ok(_) if value.is_empty() => "is empty, must name at least one character".to_owned(),
        Ok(comments) => return Some(comments),
        Err(c) => format!("is {}, must be without {c:?}", quote(&value)),
    };
    let remedy = "write ASCII punctuation that can't begin a rule, as in \"#!\"";
    findings.report(line, format!("{key} {problem}: {remedy}"));
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_always_begins_comments() {
        for (text, first, begins) in [
            ("", b'#', true),
            ("!", b'#', true),
            ("#!", b'!', true),
            ("#!", b';', false),
            ("#;", b'a', false),
        ] {
            let comments = Comments::parse(text).expect("characters");
            assert_eq!(comments.begin(&[first, b'x']), begins, "{text}");
        }
        assert!(!Comments::default().begin(b""));
        assert!(!Comments::default().begin("é".as_bytes()));
    }

    #[test]
    fn comments_are_a_string_in_json() {
        let comments = Comments::parse("!;").expect("characters");
        let json = serde_json::to_string(&comments).expect("JSON");
        assert_eq!(json, "\"!#;\"");
        let read: Comments = serde_json::from_str(&json).expect("the same");
        assert_eq!(read, comments);
        serde_json::from_str::<Comments>("\"a\"").expect_err("no comment");
    }
}
