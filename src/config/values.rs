//! Validates single values: bounds, choices, addresses, networks, names, paths. If a value is invalid, that is reported
//! and `None` is returned.

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Component, Path, PathBuf};

use ipnet::{IpNet, Ipv4Net};

use crate::names::typed;
use crate::policy::rule::Scope;
use crate::wire::name::Name;
use crate::wire::text::steers;

use super::address::{DNS_PORT, Purpose, hint, reject_mapped, split_port, url};
use super::findings::{Findings, quote};
use super::reader::{At, Strings};
use super::suggest::nearest;

/// The maximum size of a text that may have several lines, in bytes.
const PROSE_MAX: usize = 16 * 1024;
/// The maximum size of a public text, in bytes. With a list's name it must leave room for records in a UDP answer.
const TEXT_MAX: usize = 160;
const NAME_MAX: usize = 64;
/// The maximum length of a Unix socket's path, in bytes (unix(7)).
const SOCKET_PATH_MAX: usize = 107;
/// The maximum size of a language tag, in bytes (RFC 5646, section 4.4.1).
const TAG_MAX: usize = 35;
/// The maximum size of a single-line text, in bytes.
const LINE_MAX: usize = 512;
/// The length in bits of the prefix of IPv4-mapped IPv6 addresses.
const MAPPED: u8 = 96;
/// The default port to listen on. Port 53 needs a privilege, and 5353 is that of multicast DNS.
pub(super) const PORT: u16 = 5335;

/// All scopes, for keys that have no default.
pub(super) const SCOPES: &[(&str, Scope)] = &[
    ("exact", Scope::Exact),
    ("subtree", Scope::Subtree),
    ("below", Scope::Below),
];

/// A number within bounds.
pub(super) fn number<T>(
    given: Option<At<i64>>,
    bounds: RangeInclusive<T>,
    findings: &mut Findings,
) -> Option<T>
where
    T: TryFrom<i64> + PartialOrd + fmt::Display,
{
    let At { key, line, value } = given?;
    let number = T::try_from(value).ok().filter(|n| bounds.contains(n));
    if number.is_none() {
        let (low, high) = bounds.into_inner();
        findings.report(line, format!("{key} is {value}, must be {low} to {high}"));
    }
    number
}

/// Whether the text is a placeholder, as in the template of an order.
pub(super) fn is_placeholder(text: &str) -> bool {
    matches!(text.trim(), "..." | "…")
}

fn report_placeholder(key: &str, line: u32, value: &str, findings: &mut Findings) {
    let shown = quote(value.trim());
    findings.report(
        line,
        format!("{key} is {shown}, which is a placeholder: replace it"),
    );
}

/// A text that must not be empty.
pub(super) fn non_empty(given: Option<At<String>>, findings: &mut Findings) -> Option<At<String>> {
    let given = given?;
    if given.value.is_empty() {
        findings.report(given.line, format!("{} is empty: fill it in", given.key));
        return None;
    }
    Some(given)
}

/// A text whose length in bytes (UTF-8) is within `bytes`.
pub(super) fn text(
    given: Option<At<String>>,
    bytes: RangeInclusive<usize>,
    findings: &mut Findings,
) -> Option<String> {
    let At { key, line, value } = given?;
    if is_placeholder(&value) {
        report_placeholder(key, line, &value, findings);
        return None;
    }
    if bytes.contains(&value.len()) {
        return Some(value);
    }
    let (found, low, high) = (value.len(), bytes.start(), bytes.end());
    let remedy = if found < *low {
        "leave it out"
    } else {
        "shorten it"
    };
    let message = format!("{key} is {found} bytes long, must be {low} to {high}: {remedy}");
    findings.report(line, message);
    None
}

/// A language tag (BCP 47), in lower case.
pub(super) fn language(given: Option<At<String>>, findings: &mut Findings) -> Option<String> {
    let At { key, line, value } = given?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if (2..=TAG_MAX).contains(&value.len()) && value.bytes().all(plain) {
        return Some(value.to_ascii_lowercase());
    }
    let shown = quote(&value);
    let message = format!("{key} has the language {shown}, must be a tag such as en, id, pt-BR");
    findings.report(line, message);
    None
}

/// One of several words.
pub(super) fn choice<T: Copy>(
    given: Option<At<String>>,
    words: &[(&'static str, T)],
    findings: &mut Findings,
) -> Option<T> {
    let At { key, line, value } = given?;
    let found = words.iter().find(|(word, _)| *word == value);
    if found.is_none() {
        let known = || words.iter().map(|(word, _)| *word);
        let all = known().collect::<Vec<_>>().join(", ");
        let near = nearest(&value, known());
        let hint = near.map_or_else(String::new, |near| format!("; did you mean \"{near}\"?"));
        let value = quote(&value);
        findings.report(
            line,
            format!("{key} is {value}, must be one of {all}{hint}"),
        );
    }
    found.map(|(_, meaning)| *meaning)
}

/// The path of a file.
pub(super) fn file(given: Option<At<String>>, findings: &mut Findings) -> Option<PathBuf> {
    path(given, "a file", findings)
}

/// The path of a Unix socket.
pub(super) fn socket_file(given: Option<At<String>>, findings: &mut Findings) -> Option<PathBuf> {
    let (key, line) = given.as_ref().map(|given| (given.key, given.line))?;
    let path = file(given, findings)?;
    let length = path.as_os_str().len();
    if length > SOCKET_PATH_MAX {
        findings.report(
            line,
            format!(
                "{key} is a path of {length} bytes, {}, but the path of a socket has at most {SOCKET_PATH_MAX}: \
                 choose a shorter one",
                quote(&path.to_string_lossy())
            ),
        );
        return None;
    }
    Some(path)
}

/// The path of a directory.
pub(super) fn directory(given: Option<At<String>>, findings: &mut Findings) -> Option<PathBuf> {
    path(given, "a directory", findings)
}

/// A path. If it is relative, it is relative to the configuration file's directory.
///
/// `..` is resolved in the text alone, so that messages show clean paths: it removes the directory written before
/// it, even if that is a symbolic link.
fn path(given: Option<At<String>>, what: &str, findings: &mut Findings) -> Option<PathBuf> {
    let At { key, line, value } = given?;
    if value.is_empty() {
        findings.report(line, format!("{key} is empty, must be the path of {what}"));
        return None;
    }
    if let Some((scheme, rest)) = url(&value) {
        let remedy = match scheme {
            "file" => format!("write {}", quote(rest)),
            _ => format!("download it, as with curl, and name {what} of this machine"),
        };
        let shown = quote(&value);
        findings.report(
            line,
            format!("{key} is {shown}, a URL, must be the path of {what}: {remedy}"),
        );
        return None;
    }
    let directory = findings.path().parent().unwrap_or(Path::new(""));
    Some(normalise(&directory.join(value)))
}

fn normalise(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match (component, clean.components().next_back()) {
            (Component::CurDir, _) => {}
            (Component::ParentDir, Some(Component::Normal(_))) => {
                clean.pop();
            }
            (Component::ParentDir, Some(Component::RootDir)) => {}
            _ => clean.push(component),
        }
    }
    if clean.as_os_str().is_empty() {
        clean.push(".");
    }
    clean
}

/// An array that must not be empty.
pub(super) fn non_empty_array(given: Option<Strings>, findings: &mut Findings) -> Option<Strings> {
    let items = given?;
    if items.value.is_empty() {
        let (key, line) = (items.key, items.line);
        let message = format!("{key} is empty, must name at least one: add one or leave {key} out");
        findings.report(line, message);
        return None;
    }
    Some(items)
}

/// The items of an array, each parsed by `read`; duplicates are reported. An error of `read` is appended to
/// `key holds "item",`.
pub(super) fn each<T: Clone + Eq + Hash>(
    given: Option<Strings>,
    findings: &mut Findings,
    read: impl Fn(&str) -> Result<T, String>,
) -> Option<Vec<T>> {
    let (mut values, mut seen) = (Vec::new(), HashSet::new());
    for At { key, line, value } in given?.value {
        let refusal = match read(&value) {
            Ok(item) if seen.insert(item.clone()) => {
                values.push(item);
                continue;
            }
            Ok(_) => "which is a duplicate: remove it".to_owned(),
            Err(refusal) => refusal,
        };
        findings.report(line, format!("{key} holds {}, {refusal}", quote(&value)));
    }
    Some(values)
}

/// Addresses to listen on. If a wildcard address is bound, no other address can be bound with the same port.
pub(super) fn sockets(given: Option<Strings>, findings: &mut Findings) -> Option<Vec<SocketAddr>> {
    let position = given.as_ref().map(|items| (items.key, items.line));
    let sockets = each(given, findings, socket)?;
    for all in sockets
        .iter()
        .filter(|at| at.ip().is_unspecified() && at.port() != 0)
    {
        let is_among = |one: &&SocketAddr| {
            one != &all && one.port() == all.port() && one.is_ipv4() == all.is_ipv4()
        };
        if let (Some(one), Some((key, line))) = (sockets.iter().find(is_among), position) {
            let message = format!(
                "{key} holds \"{all}\", which listens on all addresses, and \"{one}\", which is one of them: \
                 remove one of the two"
            );
            findings.report(line, message);
        }
    }
    Some(sockets)
}

/// An address and port to listen on. Port 0 lets the system choose.
pub(crate) fn socket(text: &str) -> Result<SocketAddr, String> {
    let socket: SocketAddr = text.parse().map_err(|_| match text.parse::<IpAddr>() {
        Ok(ip) => format!(
            "which has no port: write \"{}\"",
            split_port(text).unwrap_or(SocketAddr::new(ip.to_canonical(), DNS_PORT))
        ),
        Err(_) => wildcard_hint(text)
            .or_else(|| hint(text, Purpose::Listen))
            .unwrap_or_else(|| {
                "which is not an address with a port: write it as in \"127.0.0.1:53\" or \"[::1]:53\""
                    .to_owned()
            }),
    })?;
    reject_mapped(socket.ip(), |v4| SocketAddr::new(v4, socket.port()))?;
    Ok(socket)
}

/// An address to listen on from the command line, where the port may be omitted.
pub(crate) fn listening(text: &str) -> Result<SocketAddr, String> {
    let bracketed = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    match bracketed.unwrap_or(text).parse::<IpAddr>() {
        Ok(ip) if split_port(text).is_none() => {
            reject_mapped(ip, |v4| v4)?;
            Ok(SocketAddr::new(ip, PORT))
        }
        _ => socket(text),
    }
}

/// The mistake and its correction for `:53` or `*:53`.
fn wildcard_hint(text: &str) -> Option<String> {
    let port = text.strip_prefix('*').unwrap_or(text).strip_prefix(':')?;
    let port: u16 = port.parse().ok()?;
    Some(format!(
        "which has no address: write \"0.0.0.0:{port}\" for all IPv4 addresses of this machine, \"[::]:{port}\" for \
         all IPv6 ones"
    ))
}

/// A network, or a single address.
pub(crate) fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        reject_mapped(ip, |v4| v4)?;
        return Ok(IpNet::from(ip));
    }
    let network = text.parse::<IpNet>().map_err(|_| {
        "which is neither network nor address: write it as in \"192.0.2.0/24\" or \
         \"2001:db8::/32\""
    })?;
    if let IpNet::V6(v6) = network
        && let (Some(v4), Some(len)) = (
            v6.addr().to_ipv4_mapped(),
            v6.prefix_len().checked_sub(MAPPED),
        )
    {
        let meant = Ipv4Net::new_assert(v4, len).trunc();
        return Err(format!(
            "which is an IPv4 network in IPv6 form: write \"{meant}\""
        ));
    }
    if network.trunc() == network {
        Ok(network)
    } else {
        let meant = network.trunc();
        Err(format!(
            "which has bits set behind its prefix: write \"{meant}\" for the network"
        ))
    }
}

/// An address of a sinkhole.
pub(super) fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| {
        "which is not an address: write it as in \"0.0.0.0\" or \"::\", without a port".to_owned()
    })
}

/// A domain name.
pub(super) fn zone(text: &str) -> Result<Name, String> {
    Name::from_text(text).map_err(|why| {
        format!("which is not a domain name ({why}): write it as in \"10.in-addr.arpa\"")
    })
}

/// Whether a text is valid as the name of a list or an order.
pub(crate) fn is_plain_name(name: &str) -> bool {
    let plain = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(plain)
}

/// The name of a list or an order. It appears in commands, logs and metrics, so its characters need no quoting there.
pub(super) fn plain_name(given: Option<At<String>>, findings: &mut Findings) -> Option<String> {
    let At { key, line, value } = given?;
    if is_placeholder(&value) {
        report_placeholder(key, line, &value, findings);
        return None;
    }
    if is_plain_name(&value) {
        return Some(value);
    }
    let shown = quote(&value);
    let message =
        format!("{key} is {shown}, must be 1 to {NAME_MAX} characters of a-z, 0-9, `.`, `_`, `-`");
    findings.report(line, message);
    None
}

/// A text of one line.
pub(super) fn line(given: Option<At<String>>, findings: &mut Findings) -> Option<String> {
    let At { key, line, .. } = *given.as_ref()?;
    let found = text(given, 1..=LINE_MAX, findings)?;
    if found.contains(steers) {
        let shown = quote(&found);
        findings.report(
            line,
            format!("{key} is {shown}, must be one line: remove control and format characters"),
        );
        return None;
    }
    Some(found)
}

/// A text that may have several lines.
pub(super) fn prose(given: Option<At<String>>, findings: &mut Findings) -> Option<String> {
    let At { key, line, .. } = *given.as_ref()?;
    let text = text(given, 1..=PROSE_MAX, findings)?.replace("\r\n", "\n");
    if text.contains(|c| !matches!(c, '\n' | '\t') && steers(c)) {
        let shown = quote(&text);
        let message = format!(
            "{key} is {shown}, must be without control and format characters other than line ends and \
             tabs: remove them"
        );
        findings.report(line, message);
        return None;
    }
    Some(text)
}

/// The name of a rule, without a scope, which is a separate key.
pub(super) fn rule_name(given: Option<At<String>>, findings: &mut Findings) -> Option<Name> {
    let At { key, line, value } = given?;
    if is_placeholder(&value) {
        report_placeholder(key, line, &value, findings);
        return None;
    }
    let why = match typed::one(&value) {
        Ok((name, None)) if name.label_count() > 0 => return Some(name),
        Ok((_, None)) => "the root, which covers every name: write another name".to_owned(),
        Ok((_, Some(_))) => "a name with a scope: write the name alone, and `scope`".to_owned(),
        Err(why) => why.to_string(),
    };
    findings.report(line, format!("{key} is {}, {why}", quote(&value)));
    None
}

/// A text that is sent to clients: without characters that control terminals or the direction of text.
pub(super) fn public_text(given: Option<At<String>>, findings: &mut Findings) -> Option<String> {
    let At { key, line, .. } = *given.as_ref()?;
    let text = text(given, 1..=TEXT_MAX, findings)?;
    if text.contains(steers) {
        let shown = quote(&text);
        let message =
            format!("{key} is {shown}, must be without control and format characters: remove them");
        findings.report(line, message);
        return None;
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_without_looking_at_the_disk() {
        for (path, clean) in [
            ("config/../blocklists/x", "blocklists/x"),
            ("./a/./b", "a/b"),
            ("../../x", "../../x"),
            ("a/../../x", "../x"),
            ("/etc/../../x", "/x"),
            ("./a/..", "."),
        ] {
            assert_eq!(normalise(Path::new(path)), Path::new(clean), "{path}");
        }
    }
}
