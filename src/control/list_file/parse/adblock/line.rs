//! What a line of an adblock list is, before its rule is read.

use memchr::memchr;

use crate::names::typed;

/// The separators of rules that hide elements, style them, run scripts, or filter HTML.
const COSMETIC: [&[u8]; 12] = [
    b"#@$?#", b"#@?#", b"#$?#", b"#@$#", b"#@%#", b"#@#", b"#?#", b"#$#", b"#%#", b"##", b"$@$",
    b"$$",
];

/// A line that is neither blank nor a comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line<'l> {
    /// A rule on elements of web pages.
    Cosmetic,
    /// An address, and the names after it.
    Hosts { address: &'l [u8], names: &'l [u8] },
    /// A name alone.
    Name(&'l [u8]),
    /// A pattern, and the modifiers behind it.
    Rule(Rule<'l>),
}

/// A rule that is neither a hosts line nor a name alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule<'l> {
    /// Whether it begins with `@@`.
    pub(super) allows: bool,
    pub(super) pattern: &'l [u8],
    /// The text behind `$`.
    pub(super) modifiers: &'l [u8],
}

/// The part of a line that is not a comment, which is empty for a comment line. The line must not start with whitespace.
#[inline]
pub(crate) fn content(line: &[u8]) -> &[u8] {
    match line.first() {
        Some(b'!') => &[],
        Some(b'#') if !is_cosmetic(line) => &[],
        // The header, as in `[Adblock Plus 2.0]`.
        Some(b'[') if line.trim_ascii_end().ends_with(b"]") => &[],
        _ => line.trim_ascii_end(),
    }
}

/// Whether the first `#` or `$` of a line begins the separator of a rule for browsers.
fn is_cosmetic(line: &[u8]) -> bool {
    [b'#', b'$'].into_iter().any(|first| {
        let Some(at) = memchr(first, line) else {
            return false;
        };
        // In `0.0.0.0 x  ## why`, a comment begins.
        let is_comment = line[..at].last().is_some_and(u8::is_ascii_whitespace);
        !is_comment && COSMETIC.iter().any(|marker| line[at..].starts_with(marker))
    })
}

impl<'l> Line<'l> {
    /// The kind of a line with this [`content`].
    pub(super) fn new(content: &'l [u8]) -> Self {
        if is_cosmetic(content) {
            return Self::Cosmetic;
        }
        let content = before_comment(content);
        let end = content.iter().position(u8::is_ascii_whitespace);
        let (first, rest) = content.split_at(end.unwrap_or(content.len()));
        if !rest.is_empty() && typed::is_address(first) {
            return Self::Hosts {
                address: first,
                names: rest,
            };
        }
        match is_name(content) {
            true => Self::Name(content),
            false => Self::Rule(Rule::new(content)),
        }
    }
}

/// The part of a line before a `#` that follows whitespace.
fn before_comment(line: &[u8]) -> &[u8] {
    let is_comment = |pair: &[u8]| pair[0].is_ascii_whitespace() && pair[1] == b'#';
    match line.windows(2).position(is_comment) {
        Some(at) => line[..at].trim_ascii_end(),
        None => line,
    }
}

/// Whether a text is the name of a host: letters, digits and hyphens, and a last label that is not a number. Other texts are
/// patterns.
fn is_name(text: &[u8]) -> bool {
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || !byte.is_ascii();
    let is_label = |label: &[u8]| {
        label.iter().copied().all(is_host)
            && !label.starts_with(b"-")
            && !label.ends_with(b"-")
            && !label.is_empty()
    };
    let is_top = |label: &[u8]| {
        label.len() > 1
            && (label
                .iter()
                .all(|byte| byte.is_ascii_alphabetic() || !byte.is_ascii())
                || label
                    .get(..4)
                    .is_some_and(|start| start.eq_ignore_ascii_case(b"xn--")))
    };
    let mut labels = text.rsplit(|byte| *byte == b'.');
    labels
        .next()
        .is_some_and(|top| is_label(top) && is_top(top))
        && labels.all(is_label)
}

impl<'l> Rule<'l> {
    fn new(content: &'l [u8]) -> Self {
        let rest = content.strip_prefix(b"@@");
        let (allows, text) = rest.map_or((false, content), |rest| (true, rest));
        let (pattern, modifiers) = split_modifiers(text);
        Self {
            allows,
            pattern,
            modifiers,
        }
    }
}

/// Splits a rule at the last `$` that is not escaped and not the last character. A regular expression between slashes may
/// have such characters.
fn split_modifiers(text: &[u8]) -> (&[u8], &[u8]) {
    if is_regex(text) {
        return (text, &[]);
    }
    let is_escaped = |at: usize| at > 0 && text[at - 1] == b'\\';
    let before_last = 0..text.len().saturating_sub(1);
    let at = before_last
        .rev()
        .find(|&at| text[at] == b'$' && !is_escaped(at));
    at.map_or((text, &[]), |at| (&text[..at], &text[at + 1..]))
}

/// Whether a pattern is a regular expression between slashes.
pub(super) fn is_regex(pattern: &[u8]) -> bool {
    pattern.len() > 1 && pattern.starts_with(b"/") && pattern.ends_with(b"/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(line: &str) -> (bool, &str, &str) {
        let shown = |bytes| std::str::from_utf8(bytes).expect("UTF-8");
        match Line::new(line.as_bytes()) {
            Line::Rule(rule) => (rule.allows, shown(rule.pattern), shown(rule.modifiers)),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn a_rule_is_split_at_the_last_dollar_sign_that_begins_modifiers() {
        for (line, expected) in [
            ("||x.test^", (false, "||x.test^", "")),
            ("@@||x.test^", (true, "||x.test^", "")),
            ("||x.test^$important", (false, "||x.test^", "important")),
            ("/ads$/", (false, "/ads$/", "")),
            ("/^ads$/$important", (false, "/^ads$/", "important")),
            ("@@/ads/$important", (true, "/ads/", "important")),
            ("$dnstype=A", (false, "", "dnstype=A")),
            ("x^$", (false, "x^$", "")),
            (r"x\$y^", (false, r"x\$y^", "")),
            ("||x.test^ # a comment", (false, "||x.test^", "")),
        ] {
            assert_eq!(rule(line), expected, "{line}");
        }
    }

    #[test]
    fn a_line_is_a_name_a_hosts_line_a_rule_for_browsers_or_a_pattern() {
        let kind = |line: &str| match Line::new(line.as_bytes()) {
            Line::Cosmetic => "cosmetic",
            Line::Hosts { .. } => "hosts",
            Line::Name(_) => "name",
            Line::Rule(_) => "rule",
        };
        for (line, expected) in [
            ("example.org", "name"),
            ("a-1.example.xn--p1ai", "name"),
            ("bücher.example", "name"),
            ("example.org # why", "name"),
            ("192.0.2.1", "rule"),
            ("a_b.example", "rule"),
            ("-ads.example", "rule"),
            ("x.1a", "rule"),
            ("*.example", "rule"),
            ("0.0.0.0 a.example b.example", "hosts"),
            ("::1\tlocalhost", "hosts"),
            ("0.0.0.0 a.example  ## why", "hosts"),
            ("example.org##.ad", "cosmetic"),
            ("##.ad", "cosmetic"),
            ("example.org#@#.ad", "cosmetic"),
            ("example.org#%#//scriptlet('x')", "cosmetic"),
            ("example.org$$script", "cosmetic"),
            ("||x^$important", "rule"),
        ] {
            assert_eq!(kind(line), expected, "{line}");
        }
    }

    #[test]
    fn comments_and_headers_have_no_content() {
        for line in ["! a", "# a", "#", "[Adblock Plus 2.0]", "#a ##b"] {
            assert_eq!(content(line.as_bytes()), b"", "{line}");
        }
        for line in ["##.ad", "#@#.ad", "||x^", "[a"] {
            assert_eq!(content(line.as_bytes()), line.as_bytes(), "{line}");
        }
    }
}
