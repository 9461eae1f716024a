//! Reads files in the form of `/etc/hosts`: lines that block become a list, the others local records.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;

use toml_edit::{Array, Value};

use super::draft::{Draft, SourceLine};
use super::folder::{ReadFile, absolute};
use crate::names::typed;

/// At least so many names with the address of this machine are a list of names to block, not names of this machine.
const LOOPBACK_MIN: usize = 20;

/// Names that such a line may have without blocking anything.
const NO_RULES: &[&str] = &[
    "localhost",
    "localhost.localdomain",
    "local",
    "broadcasthost",
    "0.0.0.0",
];

/// Why a name with an asterisk does not carry over.
const NO_WILDCARDS: &str = "hosts files have no wildcards, so it matches no name";

/// How the names of a hosts file are answered.
#[derive(Clone, Copy, Default)]
pub(super) struct HostsOptions<'t> {
    /// The domain that is added to names without a dot.
    pub(super) domain: Option<&'t str>,
    pub(super) ttl_secs: Option<u32>,
    /// Names with the address of this machine are not answered.
    pub(super) without_loopback: bool,
}

/// How many names of a file there are of each use.
#[derive(Default)]
struct UseCounts {
    /// Names with the unspecified address, which blocks.
    unspecified: usize,
    /// Names with the address of this machine.
    loopback: usize,
    others: usize,
}

/// The effect of a line, by its address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Unspecified,
    Loopback,
    Record,
}

impl UseCounts {
    fn of(text: &str) -> Self {
        let mut counts = Self::default();
        for line in text.lines() {
            let count = names(line).count();
            match use_of(line) {
                Use::Unspecified => counts.unspecified += count,
                Use::Loopback => counts.loopback += count,
                Use::Record => counts.others += count,
            }
        }
        counts
    }

    /// Whether nearly all names have the address of this machine, and too many for one machine.
    fn blocks_by_loopback(&self) -> bool {
        self.loopback >= LOOPBACK_MIN && self.others * 9 <= self.loopback + self.unspecified
    }
}

/// The words of a line, without its comment.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split('#')
        .next()
        .unwrap_or_default()
        .split_whitespace()
}

/// The names of a line that may be blocked.
fn names(line: &str) -> impl Iterator<Item = &str> {
    let is_rule = |name: &&str| !NO_RULES.contains(name) && !name.starts_with("ip6-");
    words(line).skip(1).filter(is_rule)
}

fn use_of(line: &str) -> Use {
    if names(line).next().is_none() {
        return Use::Record;
    }
    match words(line).next().map(str::parse) {
        Some(Ok(IpAddr::V4(address))) if address.is_unspecified() => Use::Unspecified,
        Some(Ok(IpAddr::V6(address))) if address.is_unspecified() => Use::Unspecified,
        // Debian gives a machine's own name 127.0.1.1.
        Some(Ok(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST))) => Use::Loopback,
        Some(Ok(IpAddr::V6(std::net::Ipv6Addr::LOCALHOST))) => Use::Loopback,
        _ => Use::Record,
    }
}

/// Adds a file, which `line` names. If all of its names block, the list reads the file itself.
pub(super) fn import_file(
    path: &Path,
    file: &ReadFile,
    options: HostsOptions<'_>,
    line: &SourceLine,
    draft: &mut Draft,
) {
    let counts = UseCounts::of(&file.text);
    let by_loopback = counts.blocks_by_loopback();
    let blocks = |text: &str| match use_of(text) {
        Use::Unspecified => true,
        Use::Loopback => by_loopback,
        Use::Record => false,
    };
    for (index, text) in file.text.lines().enumerate() {
        if !blocks(text) {
            let line = SourceLine::new(&file.path, index + 1);
            add(text, options, &line, draft);
        }
    }
    if counts.unspecified == 0 && !by_loopback {
        return;
    }
    let mut keys: Vec<(&'static str, Value)> = vec![("format", "hosts".into())];
    if counts.loopback > counts.unspecified {
        let addresses =
            ["127.0.0.1", "::1"].map(|address| (address, text_has(&file.text, address)));
        let used = addresses.into_iter().filter(|(_, is_used)| *is_used);
        let used: Array = used.map(|(address, _)| address).collect();
        keys.extend([("action", "sinkhole".into()), ("sinkhole", used.into())]);
    }
    let title = path.file_stem().unwrap_or_default().to_string_lossy();
    let has_others = counts.others > 0 || !by_loopback && counts.loopback > 0;
    let mut list = String::new();
    let mut has_bad = false;
    for (index, text) in file
        .text
        .lines()
        .enumerate()
        .filter(|(_, text)| blocks(text))
    {
        let line = SourceLine::new(&file.path, index + 1);
        has_bad |= !add_blocked(text, &line, &mut list, draft);
    }
    if !has_others && !has_bad {
        keys.insert(0, ("path", absolute(path).into()));
        return draft.list(&title, keys, line);
    }
    draft.file_list(&title, (format!("{title}.hosts"), list), keys, line);
}

/// Adds a line that blocks to a list, without the words that are no names. Returns whether all are.
fn add_blocked(text: &str, line: &SourceLine, list: &mut String, draft: &mut Draft) -> bool {
    let problem = |name: &str| match typed::one(name) {
        Ok((_, None)) => None,
        Ok(_) => Some(NO_WILDCARDS.to_owned()),
        Err(error) => Some(error.to_string()),
    };
    if names(text).all(|name| problem(name).is_none()) {
        list.push_str(text);
        list.push('\n');
        return true;
    }
    let (good, bad): (Vec<_>, Vec<_>) = names(text).partition(|name| problem(name).is_none());
    for name in bad {
        draft.leave(line, name, problem(name).unwrap_or_default());
    }
    if let Some(address) = words(text).next().filter(|_| !good.is_empty()) {
        // Writing to memory does not fail.
        let _ = writeln!(list, "{address} {}", good.join(" "));
    }
    false
}

/// Whether a line begins with an address.
fn text_has(text: &str, address: &str) -> bool {
    text.lines().any(|line| words(line).next() == Some(address))
}

/// Adds the names of one line as records: an address, and names.
pub(super) fn add(text: &str, options: HostsOptions<'_>, line: &SourceLine, draft: &mut Draft) {
    let mut words = words(text);
    let Some(first) = words.next() else {
        return;
    };
    let Ok(address) = first.parse::<IpAddr>() else {
        return draft.leave(line, "a line of hosts", "does not begin with an address");
    };
    if options.without_loopback && address.is_loopback() {
        return;
    }
    for (index, name) in words.enumerate() {
        if name.contains('*') {
            draft.leave(line, name, NO_WILDCARDS);
            continue;
        }
        let full = options.domain.filter(|_| !name.contains('.'));
        let full = full.map(|domain| format!("{name}.{domain}"));
        if index == 0 && !address.is_unspecified() {
            let target = full.as_deref().unwrap_or(name);
            draft.pointer(address, target, options.ttl_secs, line);
        }
        for owner in std::iter::once(name).chain(full.as_deref()) {
            draft.address(owner, address, options.ttl_secs, line);
        }
    }
}
