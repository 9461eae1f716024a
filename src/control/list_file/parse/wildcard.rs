//! Parses the `wildcard` format, the lists of dnscrypt-proxy: `*.x` and `x` are x with all names below it, `=x` is x alone,
//! and other wildcards are patterns for whole names.

use crate::control::list_file::parse::bad::Bad;
use crate::control::list_file::parse::not_applicable::{NotApplicable, Unusable};
use crate::control::list_file::parse::pattern_rules::PatternRules;
use crate::control::list_file::parse::tally::LineTally;
use crate::names::typed::{self, Mistyped};
use crate::policy::rule::Scope;
use crate::wire::name::Name;

/// Parses a line that is not blank, without its comment and outer whitespace. `name` is a buffer.
pub(super) fn parse_line(
    number: u32,
    line: &[u8],
    name: &mut Name,
    patterns: &mut PatternRules,
    mut emit: impl FnMut(&Name, Scope),
) -> Result<LineTally, Unusable> {
    if let Some(at) = line.iter().position(|byte| *byte == b'@')
        && line[..at].ends_with(b" ")
    {
        return Err(NotApplicable::Schedule.into());
    }
    let (text, scope) = match line {
        [b'=', text @ ..] => (text, Scope::Exact),
        [b'*', b'.', text @ ..] | [b'.', text @ ..] | text => (text, Scope::Subtree),
    };
    if text.iter().any(|byte| matches!(byte, b'*' | b'?' | b'[')) {
        patterns.add(regex(line)?, None, number, line)?;
        return Ok(LineTally::default());
    }
    if typed::scoped(text, name)?.is_some() {
        return Err(Bad::TwoScopes.into());
    }
    if name.label_count() == 0 {
        return Err(Bad::Root.into());
    }
    emit(name, scope);
    Ok(LineTally::rule())
}

/// The regular expression of a pattern for whole names, in which `*` stands for any text, `?` for a character, and brackets
/// for one of several.
fn regex(pattern: &[u8]) -> Result<String, Unusable> {
    let mut regex = String::from("^");
    let mut in_brackets = false;
    for &byte in pattern {
        match byte {
            b'[' | b']' => {
                in_brackets = byte == b'[';
                regex.push(byte.into());
            }
            b'^' | b'-' if in_brackets => regex.push(byte.into()),
            b'*' if !in_brackets => regex.push_str(".*"),
            b'?' if !in_brackets => regex.push('.'),
            b'.' => regex.push_str(r"\."),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => {
                regex.push(byte.to_ascii_lowercase().into());
            }
            byte if byte.is_ascii_whitespace() => return Err(Mistyped::Fields.into()),
            byte if byte.is_ascii() => return Err(Mistyped::Character.into()),
            _ => return Err(Mistyped::Idn.into()),
        }
    }
    regex.push('$');
    Ok(regex)
}
