//! Parses domain names as people type them: with scope prefixes, escapes or non-ASCII labels. For any other text, the
//! error names its apparent kind, such as a URL.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::from_utf8;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use serde::{Deserialize, Serialize};

use super::scope::Scope;
use crate::wire::name::{Name, NameError};

/// The reason why a text is not a name. Images store a variant's name, so it can't be renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mistyped {
    /// The characters are valid, but not the lengths, dots or escapes.
    #[error("not a domain name: {0}")]
    Name(#[from] NameError),
    /// UTS 46 has no ASCII form for the name.
    #[error("not a valid internationalised domain name (UTS 46)")]
    Idn,
    /// An IP address, with or without prefix length or port.
    #[error("an address, not a name")]
    Address,
    /// A scheme or a path.
    #[error("a URL or a path; write the host name alone")]
    Url,
    /// A name with a port.
    #[error("a port behind the name; write the host name alone")]
    Port,
    /// A `*` anywhere but in a leading `*.`.
    #[error("`*` is only understood as a leading `*.`")]
    Wildcard,
    /// More than one word where one name is expected.
    #[error("more than one name")]
    Fields,
    /// Punctuation that is not valid in a name.
    #[error("a character that a name can contain only as `\\DDD`")]
    Character,
    /// A control character other than whitespace, such as NUL.
    #[error("a control character; is it a text file?")]
    Control,
    /// Bytes that are not UTF-8.
    #[error("not UTF-8")]
    Utf8,
}

/// ASCII characters that an IDN can't have. It can have those of STD3 (letters, digits, hyphens) and the underscore,
/// which service names have. [`Name`] checks lengths; hyphens are allowed at any position, as in names in use.
const DENIED: AsciiDenyList = AsciiDenyList::new(true, "!\"#$%&'()*+,/:;<=>?@[\\]^`{|}~");

/// Parses a single name as an operator types it: `x`, `.x` (subtree) or `*.x` (below). Upper case, a final dot, `\DDD`
/// escapes and IDNs are allowed, as in lists. `.` is the root.
///
/// IDNs are converted by UTS 46, non-transitional. A label in `xn--` form is not changed or checked, because invalid
/// ones are in use, too.
///
/// # Errors
/// [`Mistyped`] if the text is not one name.
pub fn one(text: &str) -> Result<(Name, Option<Scope>), Mistyped> {
    let mut name = Name::ROOT;
    let scope = scoped(text.trim_ascii().as_bytes(), &mut name)?;
    Ok((name, scope))
}

/// Parses a name into `name`, as [`one`] does. There must be no whitespace before or after the text.
///
/// # Errors
/// As [`one`].
pub fn scoped(text: &[u8], name: &mut Name) -> Result<Option<Scope>, Mistyped> {
    let (text, scope) = match text {
        b"." => (text, None),
        b"*" | b"*." => (&b"."[..], Some(Scope::Below)),
        [b'*', b'.', text @ ..] => (text, Some(Scope::Below)),
        [b'.', text @ ..] => (text, Some(Scope::Subtree)),
        text => (text, None),
    };
    parse_bare(text, name)?;
    Ok(scope)
}

/// Whether the bytes are an IP address; a zone (`fe80::1%lo0`) is allowed.
pub fn is_address(text: &[u8]) -> bool {
    from_utf8(text).is_ok_and(|text| match text.split_once('%') {
        Some((address, _)) => address.parse::<Ipv6Addr>().is_ok(),
        None => text.parse::<IpAddr>().is_ok(),
    })
}

/// Whether the bytes may follow the `*` of a text that stands for all names with this end, such as `*ads.example`.
pub fn is_ending(text: &[u8]) -> bool {
    let is_usual = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !text.is_empty() && text.iter().all(is_usual)
}

/// Parses a name without a scope prefix.
fn parse_bare(text: &[u8], name: &mut Name) -> Result<(), Mistyped> {
    let ends_in_digit = matches!(text, [.., b'0'..=b'9'] | [.., b'0'..=b'9', b'.']);
    if !ends_in_digit {
        // The most common case by far. An IPv4 address ends in a digit, so it is not accepted here.
        match name.parse_text(text) {
            // Every mistake but `Mistyped::Name` involves a character that is not plain. So the error for a plain text
            // is final.
            Ok(()) if name.is_plain() => return Ok(()),
            Err(error) if text.iter().copied().all(is_plain) => return Err(error.into()),
            _ => {}
        }
    }
    parse_or_diagnose(text, name)
}

/// Parses an IDN or a name with other characters, or finds the reason why the text is not a name.
fn parse_or_diagnose(text: &[u8], name: &mut Name) -> Result<(), Mistyped> {
    let space = |byte: &u8| byte.is_ascii_whitespace();
    if text
        .iter()
        .any(|byte| byte.is_ascii_control() && !space(byte))
    {
        return Err(Mistyped::Control);
    }
    if text.iter().any(space) {
        return Err(Mistyped::Fields);
    }
    let text = from_utf8(text).map_err(|_| Mistyped::Utf8)?;
    if resembles_address(text) {
        return Err(Mistyped::Address);
    }
    let has = |wanted: fn(u8) -> bool| unescaped(text).any(wanted);
    if has(|byte| byte == b'/') {
        return Err(Mistyped::Url);
    }
    let port = text.rsplit_once(':').map_or("", |(_, port)| port);
    if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Mistyped::Port);
    }
    if has(|byte| byte == b'*') {
        return Err(Mistyped::Wildcard);
    }
    if has(|byte| byte.is_ascii() && !is_plain(byte)) {
        return Err(Mistyped::Character);
    }
    if text.is_ascii() {
        return Ok(name.parse_text(text.as_bytes())?);
    }
    let ascii = Uts46::new()
        .to_ascii(text.as_bytes(), DENIED, Hyphens::Allow, DnsLength::Ignore)
        .map_err(|_| Mistyped::Idn)?;
    Ok(name.parse_text(ascii.as_bytes())?)
}

/// Whether a byte may appear in a typed name without an escape.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.')
}

/// The bytes that do not follow a backslash. They include the last two digits of `\DDD`, which are plain.
fn unescaped(text: &str) -> impl Iterator<Item = u8> {
    let mut bytes = text.bytes();
    std::iter::from_fn(move || {
        loop {
            match bytes.next()? {
                b'\\' => bytes.next(),
                byte => return Some(byte),
            };
        }
    })
}

/// Whether the text is an address, also as `address/length`, `address:port` or with a final dot.
fn resembles_address(text: &str) -> bool {
    let address = text.split_once('/').map_or(text, |(address, _)| address);
    let address = address.strip_suffix('.').unwrap_or(address);
    is_address(address.as_bytes()) || address.parse::<SocketAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(text: &str) -> Result<(String, Option<Scope>), Mistyped> {
        one(text).map(|(name, scope)| (name.to_string(), scope))
    }

    #[test]
    fn a_name_is_parsed_in_all_notations() {
        for (typed, name, scope) in [
            ("example.com", "example.com", None),
            ("  Example.COM.\t", "example.com", None),
            (".example.com", "example.com", Some(Scope::Subtree)),
            ("*.example.com", "example.com", Some(Scope::Below)),
            ("com", "com", None),
            ("_dmarc.-a-.x--y.example", "_dmarc.-a-.x--y.example", None),
            ("a.example2", "a.example2", None),
            ("999.1.1.1", "999.1.1.1", None),
            ("a\\032b\\.c.example", "a\\032b\\.c.example", None),
            ("\\*.example", "*.example", None),
            (".", ".", None),
            ("*", ".", Some(Scope::Below)),
            ("*.", ".", Some(Scope::Below)),
        ] {
            assert_eq!(text_of(typed), Ok((name.into(), scope)), "{typed:?}");
        }
    }

    #[test]
    fn idns_are_converted_and_punycode_labels_are_unchanged() {
        for (typed, name) in [
            ("münchen.example", "xn--mnchen-3ya.example"),
            ("MÜNCHEN.example.", "xn--mnchen-3ya.example"),
            ("mu\u{308}nchen.example", "xn--mnchen-3ya.example"),
            ("faß.example", "xn--fa-hia.example"),
            ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
            ("_sip.münchen.example", "_sip.xn--mnchen-3ya.example"),
            ("i❤.example", "xn--i-7iq.example"),
            ("exam\u{AD}ple.com", "example.com"),
            ("XN--MNCHEN-3YA.example", "xn--mnchen-3ya.example"),
            (
                "xn--no-such-punycode-.example",
                "xn--no-such-punycode-.example",
            ),
        ] {
            assert_eq!(text_of(typed), Ok((name.into(), None)), "{typed:?}");
        }
        assert_eq!(
            text_of("*.münchen.example"),
            Ok(("xn--mnchen-3ya.example".into(), Some(Scope::Below)))
        );
    }

    #[test]
    fn the_error_names_the_apparent_kind_of_the_text() {
        let long_idn = "ü".repeat(70);
        let endless_idn = "ü".repeat(2000);
        for (typed, problem) in [
            ("", Mistyped::Name(NameError::EmptyLabel)),
            ("a..example", Mistyped::Name(NameError::EmptyLabel)),
            ("a\\999.example", Mistyped::Name(NameError::BadEscape)),
            (&long_idn, Mistyped::Name(NameError::LabelTooLong)),
            (&endless_idn, Mistyped::Idn),
            ("mün chen.example", Mistyped::Fields),
            ("mün\u{A0}chen.example", Mistyped::Idn),
            ("a\u{2F}\u{FF0F}.example", Mistyped::Url),
            ("a\u{FF0F}.example", Mistyped::Idn),
            ("xn--\u{FC}.example", Mistyped::Idn),
            ("192.0.2.1", Mistyped::Address),
            ("192.0.2.1.", Mistyped::Address),
            (".192.0.2.1", Mistyped::Address),
            ("192.0.2.0/24", Mistyped::Address),
            ("192.0.2.1:53", Mistyped::Address),
            ("2001:db8::1", Mistyped::Address),
            ("[2001:db8::1]:53", Mistyped::Address),
            ("fe80::1%eth0", Mistyped::Address),
            ("https://example.com", Mistyped::Url),
            ("https://münchen.example/", Mistyped::Url),
            ("example.com/path", Mistyped::Url),
            ("example.com:443", Mistyped::Port),
            ("münchen.example:8080", Mistyped::Port),
            ("example.com:", Mistyped::Character),
            ("a.*.example", Mistyped::Wildcard),
            ("*a.example", Mistyped::Wildcard),
            ("*.*.example", Mistyped::Wildcard),
            ("||example.com^", Mistyped::Character),
            ("example.com#note", Mistyped::Character),
            (";example.com", Mistyped::Character),
            ("a\0b", Mistyped::Control),
            ("a\u{7F}b", Mistyped::Control),
        ] {
            assert_eq!(text_of(typed), Err(problem), "{typed:?}");
        }
    }
}
