//! Names as the texts of lists have them.

use std::fmt::{self, Write};

use crate::names::typed;
use crate::wire::name::{Name, write_text};

/// Appends a name with escapes, so that it is read as this name whatever bytes it has. Only letters, digits, hyphens and
/// underscores stand for themselves; and a name that looks like an address has an escape, too.
pub(super) fn push_escaped(name: &Name, text: &mut String) {
    let start = text.len();
    if name.is_plain() {
        push_plain(name, text);
        if typed::is_address(&text.as_bytes()[start..])
            && let Some(last) = text.pop()
        {
            push_escape(last as u8, text);
        }
        return;
    }
    for level in (0..name.label_count()).rev() {
        for &byte in name.label_from_root(level) {
            match byte {
                b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => text.push(byte.into()),
                _ => push_escape(byte, text),
            }
        }
        if level > 0 {
            text.push('.');
        }
    }
}

/// Appends a name that is [plain](Name::is_plain).
pub(super) fn push_plain(name: &Name, text: &mut String) {
    // Writing to a string does not fail.
    let _ = write_text(name.wire(), text);
}

fn push_escape(byte: u8, text: &mut String) {
    let _ = write!(text, "\\{byte:03}");
}

/// A name in wire form, to be displayed with its final dot.
pub struct Absolute<'n>(pub &'n [u8]);

impl fmt::Display for Absolute<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_text(self.0, f)?;
        match self.0.len() {
            1 => Ok(()),
            _ => f.write_char('.'),
        }
    }
}
