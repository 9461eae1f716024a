//! The literals of a pattern: texts of which every matching name contains at least one.

use std::collections::HashMap;

use regex_syntax::hir::literal::{Extractor, Literal, Seq};
use regex_syntax::hir::{Hir, HirKind, Look};

use super::grams::{WINDOW, commonness, windows};
use super::text::{END, START};

/// The shortest literal, including the edges of the name.
pub(super) const MIN_LITERAL: usize = 3;

/// The longest literal.
const MAX_LITERAL: usize = 64;

/// The maximum number of literals of a pattern.
const MAX_LITERALS: usize = 1024;

/// The maximum number of literals that are made from a sequence of parts.
const MAX_CROSSED: usize = 64;

/// The maximum number of consecutive parts of a sequence that are searched together for literals.
const MAX_PARTS: usize = 8;

/// Literals of a pattern. Its start and its end appear as [`START`] and [`END`].
#[derive(Debug)]
pub(super) struct Literals {
    pub(super) texts: Vec<Box<[u8]>>,
    pub(super) role: Role,
}

/// How literals and matches are related.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// A name matches if it contains one of the literals.
    Whole,
    /// Every match contains one of the literals, or is next to it.
    Inside,
}

impl Literals {
    /// The sets of literals that a pattern has, of which any may be used. Empty if every set would have a literal that
    /// is too short.
    pub(super) fn of(pattern: &Hir) -> Vec<Self> {
        let mut looks = pattern.properties().look_set();
        // A text has only one byte for each edge. If a match can need `^` or `$` twice, as in `^^a`, its literals must
        // not contain that edge.
        let edges = [Look::Start, Look::End].map(|look| {
            looks = looks.remove(look);
            count(pattern, look) <= 1
        });
        let marked = mark(pattern, edges);
        let extractor = extractor();
        let beginning = extractor.extract(&marked);
        if beginning.is_exact() && looks.is_empty() && edges == [true; 2] {
            let whole = Self::new(&beginning, Role::Whole);
            if whole.is_some() {
                return whole.into_iter().collect();
            }
        }
        let inside = inside(&extractor, &marked);
        let beginning = Self::shortened(&beginning, Role::Inside);
        beginning.into_iter().chain(inside).collect()
    }

    /// `None` if the number of literals is not limited, or one of them is too short.
    fn new(literals: &Seq, role: Role) -> Option<Self> {
        let mut texts: Vec<_> = literals.literals()?.iter().map(Literal::as_bytes).collect();
        if texts.is_empty() || texts.iter().any(|text| text.len() < MIN_LITERAL) {
            return None;
        }
        texts.sort_unstable();
        texts.dedup();
        let texts = texts.into_iter().map(Box::from).collect();
        Some(Self { texts, role })
    }

    /// Like [`new`](Self::new), for literals that need not be whole: they are shortened if this makes them fewer, so that
    /// `ads[0-9][0-9]` has ten literals instead of a hundred.
    fn shortened(literals: &Seq, role: Role) -> Option<Self> {
        let whole = Self::new(literals, role)?;
        if whole.texts.len() == 1 {
            return Some(whole);
        }
        let short = [12, 8, 6, 5, 4].into_iter().filter_map(|len| {
            let mut literals = literals.clone();
            literals.keep_first_bytes(len);
            Self::new(&literals, role)
        });
        let all = [whole].into_iter().chain(short);
        all.min_by_key(|literals| literals.commonness(commonness))
    }

    /// How common the literals are in names. `of_window` returns how common a window is.
    pub(super) fn commonness(&self, of_window: impl Fn([u8; WINDOW]) -> u64) -> u64 {
        let texts = self.texts.iter();
        texts
            .map(|text| windows(text).map(&of_window).min().unwrap_or(SHORT))
            .sum()
    }
}

/// For each window, the number of literals of a set of patterns that contain it. Literals that many patterns could use
/// are common words, and patterns should use others.
pub(super) struct Uses(HashMap<[u8; WINDOW], u64>);

impl Uses {
    pub(super) fn new<'l>(all: impl Iterator<Item = &'l Literals>) -> Self {
        let mut uses = HashMap::new();
        for window in all
            .flat_map(|literals| &literals.texts)
            .flat_map(|text| windows(text))
        {
            *uses.entry(window).or_default() += 1;
        }
        Self(uses)
    }

    /// The literals of a pattern that are rarest in names and in other patterns.
    pub(super) fn choose<'l>(&self, candidates: &'l [Literals]) -> Option<&'l Literals> {
        let uses = |window| self.0.get(&window).copied().unwrap_or(1);
        candidates
            .iter()
            .min_by_key(|literals| literals.commonness(|window| commonness(window) * uses(window)))
    }
}

/// The commonness of a literal that is shorter than a window.
const SHORT: u64 = 1 << 30;

fn extractor() -> Extractor {
    let mut extractor = Extractor::new();
    extractor.limit_class(16).limit_repeat(8);
    extractor
        .limit_literal_len(MAX_LITERAL)
        .limit_total(MAX_CROSSED);
    extractor
}

/// The maximum number of times that `look` occurs in a match; 2 if it can occur more often than once.
fn count(hir: &Hir, look: Look) -> u32 {
    if !hir.properties().look_set().contains(look) {
        return 0;
    }
    match hir.kind() {
        HirKind::Look(_) => 1,
        HirKind::Capture(capture) => count(&capture.sub, look),
        HirKind::Repetition(repetition) if repetition.max == Some(1) => {
            count(&repetition.sub, look)
        }
        HirKind::Repetition(_) => 2,
        HirKind::Concat(parts) => parts
            .iter()
            .map(|part| count(part, look))
            .sum::<u32>()
            .min(2),
        HirKind::Alternation(parts) => {
            let counts = parts.iter().map(|part| count(part, look));
            counts.max().unwrap_or(0)
        }
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) => 0,
    }
}

/// Replaces start and end by an edge if `edges` says so, and other assertions by nothing.
fn mark(hir: &Hir, edges: [bool; 2]) -> Hir {
    if hir.properties().look_set().is_empty() {
        return hir.clone();
    }
    match hir.kind() {
        HirKind::Look(Look::Start) if edges[0] => Hir::literal([START]),
        HirKind::Look(Look::End) if edges[1] => Hir::literal([END]),
        HirKind::Look(_) => Hir::empty(),
        HirKind::Repetition(repetition) => {
            let mut repetition = repetition.clone();
            *repetition.sub = mark(&repetition.sub, edges);
            Hir::repetition(repetition)
        }
        HirKind::Concat(parts) => Hir::concat(parts.iter().map(|part| mark(part, edges)).collect()),
        HirKind::Alternation(parts) => {
            Hir::alternation(parts.iter().map(|part| mark(part, edges)).collect())
        }
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Capture(_) => {
            hir.clone()
        }
    }
}

/// Sets of literals of a part of a pattern, without the literals at its beginning.
fn inside(extractor: &Extractor, hir: &Hir) -> Vec<Literals> {
    match hir.kind() {
        HirKind::Concat(parts) => {
            let tails = (1..parts.len()).filter_map(|from| {
                let tail = &parts[from..parts.len().min(from + MAX_PARTS)];
                let literals = extractor.extract(&Hir::concat(tail.to_vec()));
                Literals::shortened(&literals, Role::Inside)
            });
            let inner = parts.iter().flat_map(|part| inside(extractor, part));
            tails.chain(inner).collect()
        }
        HirKind::Repetition(repetition) if repetition.min > 0 => {
            rarest(extractor, &repetition.sub).into_iter().collect()
        }
        HirKind::Alternation(parts) => union(extractor, parts).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// The rarest literals of a part of a pattern.
fn rarest(extractor: &Extractor, hir: &Hir) -> Option<Literals> {
    let whole = Literals::shortened(&extractor.extract(hir), Role::Inside);
    let all = whole.into_iter().chain(inside(extractor, hir));
    all.min_by_key(|literals| literals.commonness(commonness))
}

/// The literals of all branches, of which one must match.
fn union(extractor: &Extractor, branches: &[Hir]) -> Option<Literals> {
    let mut texts = Vec::new();
    for branch in branches {
        texts.extend(rarest(extractor, branch)?.texts);
        if texts.len() > MAX_LITERALS {
            return None;
        }
    }
    texts.sort_unstable();
    texts.dedup();
    let role = Role::Inside;
    Some(Literals { texts, role })
}
