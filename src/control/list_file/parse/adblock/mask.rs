//! Reads the pattern of an adblock rule: as a name with a scope where that means the same, else as a regular expression.

use std::net::IpAddr;

use crate::control::list_file::parse::adblock::line::is_regex;
use crate::control::list_file::parse::bad::Bad;
use crate::control::list_file::parse::bad_rule::BadRule;
use crate::control::list_file::parse::foreign::{Foreign, recognise};
use crate::control::list_file::parse::not_applicable::{NotApplicable, Unusable};
use crate::names::typed::{self, Mistyped};
use crate::policy::rule::Scope;
use crate::wire::name::Name;

/// The shortest pattern that a rule without limits may have, with its special characters.
pub(super) const MIN_PATTERN: usize = 3;

/// The names that a pattern matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mask {
    /// A name, which is in the buffer, with this scope.
    Name(Scope),
    /// All names.
    Everything,
    /// The names in which this regular expression is found.
    Regex(String),
    /// The answers that have this address.
    Address(IpAddr),
}

/// Where the start of a pattern is in a name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    /// At the start of any label.
    Label,
    /// At the start of the name.
    Name,
    Anywhere,
}

/// Reads a pattern. `name` is a buffer.
pub(super) fn read(pattern: &[u8], name: &mut Name) -> Result<Mask, Unusable> {
    if is_regex(pattern) {
        let inner = std::str::from_utf8(&pattern[1..pattern.len() - 1]);
        let inner = inner.map_err(|_| Mistyped::Utf8)?;
        return Ok(Mask::Regex(inner.to_owned()));
    }
    let (start, body) = start_of(pattern);
    let (body, ends) = end_of(body);
    let (start, body) = match body.iter().position(|byte| *byte != b'*') {
        None => return Ok(Mask::Everything),
        Some(0) => (start, body),
        Some(stars) => (Start::Anywhere, &body[stars..]),
    };
    if let Some(address) = address(body).filter(|_| !pattern.contains(&b'*')) {
        return Ok(Mask::Address(address));
    }
    check(body, pattern)?;
    // Names have no dot at the end.
    if ends && body.ends_with(b".") {
        return Err(NotApplicable::Url.into());
    }
    if ends && !body.contains(&b'*') {
        let (scope, body) = match (start, body) {
            (Start::Anywhere, [b'.', body @ ..]) => (Some(Scope::Below), body),
            (Start::Label, body) => (Some(Scope::Subtree), body),
            (Start::Name, body) => (Some(Scope::Exact), body),
            (Start::Anywhere, body) => (None, body),
        };
        if let Some(scope) = scope {
            return read_name(body, name).map(|()| Mask::Name(scope));
        }
    }
    regex(start, body, ends, name).map(Mask::Regex)
}

/// The start of a pattern, and the text after it.
fn start_of(pattern: &[u8]) -> (Start, &[u8]) {
    if let Some(body) = pattern.strip_prefix(b"||") {
        return (Start::Label, body);
    }
    // Of the URL that ad blockers would match, only the host is known.
    let at_host = [&b"|"[..], b"://", b"http://"];
    if let Some(body) = at_host
        .iter()
        .find_map(|start| pattern.strip_prefix(*start))
    {
        return (Start::Name, body);
    }
    match pattern {
        [b'/', body @ .., b'.'] if !body.is_empty() && body.iter().all(is_host) => {
            (Start::Name, &pattern[1..])
        }
        _ => (Start::Anywhere, pattern),
    }
}

/// The address that a text is. Answers are compared with rules like names, by the text of their addresses.
fn address(body: &[u8]) -> Option<IpAddr> {
    // Most patterns are not.
    let is_possible = body
        .last()
        .is_some_and(|byte| byte.is_ascii_hexdigit() || *byte == b':');
    let text = is_possible
        .then(|| std::str::from_utf8(body).ok())
        .flatten()?;
    text.parse().ok()
}

fn is_host(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.')
}

/// The text before the end of a pattern, and whether names must end there.
fn end_of(body: &[u8]) -> (&[u8], bool) {
    let (mut body, mut ends) = match body.strip_suffix(b"|") {
        Some(body) => (body, true),
        None => (body, false),
    };
    // `/*` stands for the path of a URL, which follows the end of the name.
    if let Some(host) = body.strip_suffix(b"/*") {
        (body, ends) = (host, true);
    }
    loop {
        (body, ends) = match body {
            [rest @ .., b'^'] => (rest, true),
            [rest @ .., b'*'] => (rest, false),
            _ => return (body, ends),
        };
    }
}

/// Checks that the text between start and end can be in a name.
fn check(body: &[u8], pattern: &[u8]) -> Result<(), Unusable> {
    if body.iter().any(u8::is_ascii_control) {
        return Err(Mistyped::Control.into());
    }
    let is_possible = |byte: &u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'_' | b'.' | b'*')
            || !byte.is_ascii()
    };
    if body.iter().all(is_possible) {
        return Ok(());
    }
    // The file may be no filter list at all, and then its lines must be bad.
    match recognise(pattern) {
        Some(Foreign::Adblock | Foreign::Regex | Foreign::Csv | Foreign::Comment(_)) | None => {}
        Some(foreign) => return Err(Bad::Foreign(foreign).into()),
    }
    match body.iter().any(u8::is_ascii_whitespace) {
        true => Err(Mistyped::Fields.into()),
        false => Err(NotApplicable::Url.into()),
    }
}

fn read_name(body: &[u8], name: &mut Name) -> Result<(), Unusable> {
    // Nothing is before the dot, and no name begins with one.
    if body.starts_with(b".") {
        return Err(NotApplicable::Url.into());
    }
    typed::scoped(body, name)?;
    Ok(())
}

/// The regular expression that finds the same names. `name` is a buffer.
fn regex(start: Start, body: &[u8], ends: bool, name: &mut Name) -> Result<String, Unusable> {
    let ascii = if body.is_ascii() {
        std::str::from_utf8(body)
            .map_err(|_| Mistyped::Utf8)?
            .to_owned()
    } else {
        // Only a whole name has an ASCII form.
        let is_name = !body.starts_with(b".") && typed::scoped(body, name) == Ok(None);
        match is_name {
            true => name.to_string(),
            false => return Err(BadRule::PatternCharacter.into()),
        }
    };
    let mut regex = String::with_capacity(ascii.len() + 8);
    regex.push_str(match start {
        Start::Label => r"(^|\.)",
        Start::Name => "^",
        Start::Anywhere => "",
    });
    for character in ascii.chars() {
        match character {
            '.' => regex.push_str(r"\."),
            '*' => regex.push_str(".*"),
            other => regex.push(other.to_ascii_lowercase()),
        }
    }
    if ends {
        regex.push('$');
    }
    Ok(regex)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(pattern: &str) -> String {
        let mut name = Name::ROOT;
        match read(pattern.as_bytes(), &mut name) {
            Ok(Mask::Name(scope)) => scope.notation(&name),
            Ok(Mask::Everything) => "everything".to_owned(),
            Ok(Mask::Regex(regex)) => format!("/{regex}/"),
            Ok(Mask::Address(address)) => format!("address {address}"),
            Err(Unusable::Ignored(reason)) => reason.to_string(),
            Err(Unusable::Bad(problem)) => problem.to_string(),
        }
    }

    #[test]
    fn a_pattern_is_a_name_where_that_means_the_same() {
        for (pattern, expected) in [
            ("||x.test^", ".x.test"),
            ("||x.test^|", ".x.test"),
            ("||x.test|", ".x.test"),
            ("||x.test^*", ".x.test"),
            ("||x.test/*", ".x.test"),
            ("||X.Test^", ".x.test"),
            ("||bücher.test^", ".xn--bcher-kva.test"),
            ("|x.test^", "x.test"),
            ("|x.test|", "x.test"),
            ("://x.test^", "x.test"),
            ("*.x.test^", "*.x.test"),
            (".x.test^", "*.x.test"),
            ("||*.x.test^", "*.x.test"),
            ("*", "everything"),
            ("||*^", "everything"),
            ("*^", "everything"),
            ("", "everything"),
        ] {
            assert_eq!(shown(pattern), expected, "{pattern}");
        }
    }

    #[test]
    fn other_patterns_are_regular_expressions() {
        for (pattern, expected) in [
            ("x.test^", r"/x\.test$/"),
            ("x.test|", r"/x\.test$/"),
            ("x.test*^", r"/x\.test/"),
            ("*x.test^", r"/x\.test$/"),
            ("||x.test", r"/(^|\.)x\.test/"),
            ("||ads.", r"/(^|\.)ads\./"),
            ("|ads", "/^ads/"),
            ("://ads", "/^ads/"),
            ("/ads.", r"/^ads\./"),
            ("-ads.", r"/-ads\./"),
            ("||cdn.us*.x.test^", r"/(^|\.)cdn\.us.*\.x\.test$/"),
            ("||a*b*", "/(^|\\.)a.*b/"),
            ("bücher.test^", r"/xn--bcher-kva\.test$/"),
            ("/^ads[0-9]+/", "/^ads[0-9]+/"),
        ] {
            assert_eq!(shown(pattern), expected, "{pattern}");
        }
    }

    #[test]
    fn an_address_is_one_of_answers() {
        for (pattern, expected) in [
            ("192.0.2.1", "address 192.0.2.1"),
            ("||192.0.2.1^", "address 192.0.2.1"),
            ("|192.0.2.1|", "address 192.0.2.1"),
            ("||2001:DB8::1^", "address 2001:db8::1"),
            ("192.0.2.1*", r"/192\.0\.2\.1/"),
            ("||192.0.2.", r"/(^|\.)192\.0\.2\./"),
        ] {
            assert_eq!(shown(pattern), expected, "{pattern}");
        }
    }

    #[test]
    fn a_pattern_that_no_name_matches_is_ignored_and_other_text_is_bad() {
        let url = NotApplicable::Url.to_string();
        for pattern in [
            "||x.test/ads",
            "||x.test^ads",
            "http://x.test/",
            "|https://x.test",
            "^ads",
            "&ad_box=",
            "||x.test:8080^",
            "||.x.test^",
            "/ads/*/banner",
            "||x.test.^",
        ] {
            assert_eq!(shown(pattern), url, "{pattern}");
        }
        for (pattern, part) in [
            ("two words", "more than one name"),
            ("<!DOCTYPE html>", "HTML"),
            ("address=/x.test/", "dnsmasq"),
            ("||x..test^", "not a domain name"),
            ("bü*r.test^", "characters that no name has"),
            ("||a\0b^", "control character"),
        ] {
            assert!(
                shown(pattern).contains(part),
                "{pattern}: {}",
                shown(pattern)
            );
        }
    }
}
