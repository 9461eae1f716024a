//! The lines of an adblock list that take other rules back: `$badfilter`, and `@@` with `$dnsrewrite`. They may be anywhere
//! in the file, so they are looked for before its rules are read.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use memchr::memmem::Finder;
use memchr::{memchr2, memrchr2};

use crate::control::list_file::parse::adblock::line::{Line, Rule, content};
use crate::control::list_file::parse::adblock::mask::{self, Mask};
use crate::control::list_file::parse::adblock::modifiers::{Modifiers, split};
use crate::control::list_file::parse::adblock::parts::{ExceptionNames, Part, TakenOut};
use crate::control::list_file::parse::adblock::rewrite::Rewrite;
use crate::control::list_file::parse::bad_rule::{
    BadRule, MAX_REWRITE_EXCEPTIONS, MAX_REWRITE_PATTERNS, MAX_VOIDING,
};
use crate::control::list_file::parse::lines::MAX_LINE;
use crate::policy::patterns::PatternSet;
use crate::wire::name::Name;

const BADFILTER: &[u8] = b"badfilter";
const DNSREWRITE: &[u8] = b"dnsrewrite";

/// The rules that a list takes back. Lines are identified by [`TakenBack::hash`], so that a long line takes no more memory.
#[derive(Default)]
pub(super) struct TakenBack {
    hasher: RandomState,
    /// The rules that `$badfilter` voids.
    voided: HashSet<u64>,
    rewrites: Vec<RewriteException>,
    /// The number of patterns that were compiled for rules that take rewrites back, whether they were accepted or not.
    compiled: usize,
    /// Such rules whose patterns are not accepted, with the reasons.
    refused: HashMap<u64, BadRule>,
}

/// A rule that takes rewrites back.
struct RewriteException {
    hash: u64,
    taken: TakenOut,
    /// The answer whose rewrites are taken back; all if `None`.
    rewrite: Option<Rewrite>,
    is_important: bool,
}

impl TakenBack {
    /// Whether no rule is voided.
    #[inline]
    pub(super) fn voids_none(&self) -> bool {
        self.voided.is_empty()
    }

    /// Whether `$badfilter` voids the rule of this line.
    pub(super) fn voids(&self, line: &Line<'_>) -> bool {
        !self.voids_none()
            && self
                .hash(line)
                .is_some_and(|hash| self.voided.contains(&hash))
    }

    /// Whether a rule that takes others back is known. If the list has too many, it is not.
    pub(super) fn has(&self, line: &Line<'_>, is_badfilter: bool) -> bool {
        self.hash(line).is_some_and(|hash| match is_badfilter {
            true => self.voided.contains(&hash),
            false => (self.rewrites.iter()).any(|exception| exception.hash == hash),
        })
    }

    /// Why a rule with a pattern that is to take rewrites back is not known.
    pub(super) fn problem(&self, line: &Line<'_>) -> BadRule {
        let refused = self.hash(line).and_then(|hash| self.refused.get(&hash));
        refused.copied().unwrap_or(BadRule::TooManyTakenBack)
    }

    /// The parts of a rewrite that the exceptions leave. `room` is the number of further parts that the list may have.
    ///
    /// # Errors
    /// If there are too many. Then no room is left, so that a list can't cause this work for each of its rewrites.
    pub(super) fn left_of(
        &self,
        whole: Part,
        (rewrite, is_important): (&Rewrite, bool),
        room: &mut usize,
    ) -> Result<Vec<Part>, BadRule> {
        let mut parts = vec![whole];
        for exception in &self.rewrites {
            let is_meant = exception.rewrite.as_ref().is_none_or(|own| own == rewrite)
                && (exception.is_important || !is_important);
            if !is_meant {
                continue;
            }
            let before = parts.len();
            for part in std::mem::take(&mut parts) {
                part.without(&exception.taken, &mut parts);
                if parts.len() > before + *room {
                    *room = 0;
                    return Err(BadRule::TooManyParts);
                }
            }
            *room -= parts.len().saturating_sub(before);
        }
        Ok(parts)
    }

    /// Keeps what a line takes back, if it takes something back.
    fn add(&mut self, text: &[u8]) {
        let line = Line::new(content(text.trim_ascii()));
        let Line::Rule(rule) = line else {
            return;
        };
        let mut parts = split(rule.modifiers);
        if parts.any(|modifier| *modifier == *BADFILTER) {
            if self.voided.len() < MAX_VOIDING {
                self.voided.extend(self.hash(&line));
            }
            return;
        }
        if rule.allows && self.rewrites.len() < MAX_REWRITE_EXCEPTIONS {
            let exception = self.exception(&line, &rule);
            self.rewrites.extend(exception);
        }
    }

    fn exception(&mut self, line: &Line<'_>, rule: &Rule<'_>) -> Option<RewriteException> {
        let modifiers = Modifiers::read(rule.modifiers).ok()?;
        let (rewrite, hash) = (modifiers.rewrite?, self.hash(line)?);
        let mut name = Name::ROOT;
        let names = match mask::read(rule.pattern, &mut name).ok()? {
            Mask::Name(scope) => ExceptionNames::Of(name.into(), scope),
            Mask::Everything | Mask::Address(_) => return None,
            Mask::Regex(regex) => {
                let set = self.compile(&regex, hash)?;
                ExceptionNames::Regex(regex, Box::new(set))
            }
        };
        Some(RewriteException {
            hash,
            taken: TakenOut::new(names, modifiers.types, modifiers.except),
            rewrite,
            is_important: modifiers.is_important,
        })
    }

    /// Compiles the pattern of the line with this hash. `None` if it is not accepted, or one too many.
    fn compile(&mut self, regex: &str, hash: u64) -> Option<PatternSet> {
        if self.compiled == MAX_REWRITE_PATTERNS {
            return None;
        }
        self.compiled += 1;
        match PatternSet::new([regex]) {
            Ok(set) => Some(set),
            Err(error) => {
                self.refused.insert(hash, BadRule::from(&error.problem));
                None
            }
        }
    }

    /// Identifies a rule by its [`key`].
    fn hash(&self, line: &Line<'_>) -> Option<u64> {
        key(line).map(|key| self.hasher.hash_one(key))
    }
}

/// Identifies a rule by its text without `$badfilter`, whatever the order of its modifiers. `None` if the line can't be taken
/// back.
fn key(line: &Line<'_>) -> Option<Vec<u8>> {
    let rule = match *line {
        Line::Name(pattern) => Rule {
            allows: false,
            pattern,
            modifiers: &[],
        },
        Line::Rule(rule) => rule,
        Line::Cosmetic | Line::Hosts { .. } => return None,
    };
    let mut modifiers: Vec<_> = split(rule.modifiers)
        .filter(|modifier| **modifier != *BADFILTER)
        .collect();
    modifiers.sort_unstable();
    let mut key = vec![u8::from(rule.allows)];
    key.extend(rule.pattern.to_ascii_lowercase());
    for modifier in modifiers {
        // No pattern has this byte.
        key.push(b'\n');
        key.extend_from_slice(&modifier);
    }
    Some(key)
}

/// Looks for such lines in a file that arrives in pieces.
pub(super) struct Scan {
    taken_back: TakenBack,
    finders: [Finder<'static>; 2],
    /// The start of a line whose end is in a later piece.
    open: Vec<u8>,
}

impl Default for Scan {
    fn default() -> Self {
        Self {
            taken_back: TakenBack::default(),
            finders: [BADFILTER, DNSREWRITE].map(Finder::new),
            open: Vec::new(),
        }
    }
}

impl Scan {
    /// Scans the next piece.
    pub(super) fn feed(&mut self, piece: &[u8]) {
        let mut rest = piece;
        if !self.open.is_empty() {
            let end = memchr2(b'\n', b'\r', rest);
            let (line, after) = rest.split_at(end.unwrap_or(rest.len()));
            // The end of a line that is too long does not matter.
            let room = (2 * MAX_LINE).saturating_sub(self.open.len());
            self.open.extend_from_slice(&line[..line.len().min(room)]);
            if end.is_none() {
                return;
            }
            rest = after;
            self.end_open();
        }
        let end = memrchr2(b'\n', b'\r', rest).map_or(0, |end| end + 1);
        let (lines, open) = rest.split_at(end);
        self.lines(lines);
        self.open
            .extend_from_slice(&open[..open.len().min(2 * MAX_LINE)]);
    }

    /// Ends the file.
    pub(super) fn finish(mut self) -> TakenBack {
        self.end_open();
        let TakenBack {
            voided, rewrites, ..
        } = &mut self.taken_back;
        rewrites.retain(|exception| !voided.contains(&exception.hash));
        self.taken_back
    }

    fn end_open(&mut self) {
        let line = std::mem::take(&mut self.open);
        self.lines(&line);
        self.open = line;
        self.open.clear();
    }

    /// Scans whole lines.
    fn lines(&mut self, text: &[u8]) {
        for finder in &self.finders {
            let mut from = 0;
            while let Some(at) = text.get(from..).and_then(|rest| finder.find(rest)) {
                let at = from + at;
                let start = memrchr2(b'\n', b'\r', &text[..at]).map_or(0, |end| end + 1);
                let end = memchr2(b'\n', b'\r', &text[at..]).map_or(text.len(), |end| at + end);
                from = end;
                if end - start <= MAX_LINE {
                    self.taken_back.add(&text[start..end]);
                }
            }
        }
    }
}
