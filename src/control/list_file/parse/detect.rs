//! Recognises the format of a list by its start.

use std::fmt;

use memchr::memrchr;
use serde::{Deserialize, Serialize};

use crate::config::Format;
use crate::config::shown::counted;
use crate::control::list_file::parse::foreign::{Foreign, recognise};
use crate::names::typed;
use crate::wire::name::Name;

/// The bytes at the start of a file that decide about its format.
pub(super) const START: usize = 64 << 10;

/// A format that was recognised, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detected {
    /// The format.
    pub format: Format,
    /// The number of lines at the start of the file that have it.
    pub like: u32,
    /// The number of lines that were compared; 0 if the first character or a header has decided, or there was none.
    pub of: u32,
}

impl Detected {
    /// Whether the file shows its format. A file of comments does not.
    pub fn is_certain(&self) -> bool {
        self.like > 0 || matches!(self.format, Format::Json | Format::Adblock)
    }
}

/// As in `adblock, like 99 of the first 100 lines`.
impl fmt::Display for Detected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { format, like, of } = self;
        let word = format.word();
        match (of, format) {
            (0, Format::Json) => write!(f, "{word}, by its first character"),
            (0, Format::Adblock) => write!(f, "{word}, by its header"),
            (0, _) => write!(f, "{word}, as it has no line to recognise"),
            _ => write!(
                f,
                "{word}, like {like} of the first {}",
                counted(*of, "line", "lines")
            ),
        }
    }
}

/// The kinds of lines that say something about the format.
#[derive(Default)]
struct Votes {
    lines: u32,
    /// An address and names.
    hosts: u32,
    /// `*.x`
    wildcards: u32,
    /// Other lines that only lists of wildcards have: `=x`, and `*` in other places.
    patterns: u32,
    /// `.x`
    subtrees: u32,
    /// A name alone.
    names: u32,
    /// Rules of adblock lists, which may also have names and hosts lines.
    adblock: u32,
    dnsmasq: u32,
    unbound: u32,
    rows: u32,
}

/// The format of a file that begins with this text, of which the first [`START`] bytes count. If none is recognised, it is
/// that of plain names, and the lines say why they are bad. A policy zone is not recognised, as its list has settings of its
/// own.
pub(super) fn detect(start: &[u8], has_column: bool) -> Detected {
    let start = match start.get(..START) {
        // The last line is cut.
        Some(start) => &start[..memrchr(b'\n', start).unwrap_or(START)],
        None => start,
    };
    let start = start.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(start);
    let by_its_start = |format| Detected {
        format,
        like: 0,
        of: 0,
    };
    let is_json = match start.trim_ascii_start() {
        [b'{', ..] => true,
        [b'[', rest @ ..] => !rest.first().is_some_and(u8::is_ascii_alphabetic),
        _ => false,
    };
    if is_json {
        return by_its_start(Format::Json);
    }
    let lines = || start.split(|byte| matches!(byte, b'\n' | b'\r'));
    if lines().any(|line| is_adblock_header(line.trim_ascii())) {
        return by_its_start(Format::Adblock);
    }
    let mut votes = Votes::default();
    let mut name = Name::ROOT;
    for line in lines() {
        votes.add(line.trim_ascii(), &mut name);
    }
    let (format, like) = votes.winner(has_column);
    Detected {
        format,
        like,
        of: votes.lines,
    }
}

/// Whether a line is the header of an adblock list, as in `[Adblock Plus 2.0]`.
fn is_adblock_header(line: &[u8]) -> bool {
    const PROGRAMS: [&[u8]; 3] = [b"[adblock", b"[ublock", b"[adguard"];
    let starts_with = |program: &[u8]| {
        let start = line.get(..program.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(program))
    };
    line.ends_with(b"]") && PROGRAMS.into_iter().any(starts_with)
}

/// Whether a line that is no name is one of a list of wildcards: `=x`, or a name with `*` in other places than its start.
fn is_pattern(line: &[u8], name: &mut Name) -> bool {
    if let [b'=', text @ ..] = line {
        return typed::scoped(text, name) == Ok(None);
    }
    let is_usual =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'*');
    line.contains(&b'*') && line.len() > 1 && line.iter().all(is_usual)
}

impl Votes {
    fn add(&mut self, line: &[u8], name: &mut Name) {
        if let [] | [b'#' | b'!' | b';' | b'[', ..] | [b'/', b'/', ..] = line {
            return;
        }
        self.lines += 1;
        let mut words = line
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty());
        let first = words.next().unwrap_or_default();
        if typed::is_address(first) && words.next().is_some() {
            self.hosts += 1;
            return;
        }
        let content = line
            .split(|byte| *byte == b'#')
            .next()
            .unwrap_or(line)
            .trim_ascii_end();
        if typed::scoped(content, name).is_ok() {
            match content {
                [b'*', b'.', ..] => self.wildcards += 1,
                [b'.', ..] => self.subtrees += 1,
                _ => self.names += 1,
            }
            return;
        }
        match recognise(line) {
            Some(Foreign::Adblock) => self.adblock += 1,
            Some(Foreign::Dnsmasq) => self.dnsmasq += 1,
            Some(Foreign::Unbound) => self.unbound += 1,
            Some(Foreign::Csv) => self.rows += 1,
            None if is_pattern(content, name) => self.patterns += 1,
            _ => {}
        }
    }

    /// The format that most lines have, and their number.
    fn winner(&self, has_column: bool) -> (Format, u32) {
        // Read as wildcards, all names of a list of names would block the names below them, too. So a few wildcards among
        // many names are no evidence.
        let evidence = self.wildcards + self.patterns;
        let names = match self.subtrees == 0 && evidence > 0 && evidence >= self.names {
            true => (Format::Wildcard, evidence + self.names),
            false => (Format::Domains, self.names + self.subtrees + self.wildcards),
        };
        // A file with a few such rules among names or hosts lines is one of them, too.
        let adblock = match self.adblock * 50 > self.lines {
            true => self.adblock + self.hosts + self.names,
            false => self.adblock,
        };
        let rows = if has_column { self.rows } else { 0 };
        // Of equal numbers, `max_by_key` returns the last.
        let found = [
            (Format::Hosts, self.hosts),
            (Format::Dnsmasq, self.dnsmasq),
            (Format::Unbound, self.unbound),
            (Format::Csv, rows),
            (Format::Adblock, adblock),
            names,
        ];
        found
            .into_iter()
            .max_by_key(|(_, lines)| *lines)
            .unwrap_or(names)
    }
}
