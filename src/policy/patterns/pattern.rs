//! Parses a pattern and reduces it to the bytes that texts of names have.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, ClassBytes, ClassBytesRange, Hir, HirKind, Look, Repetition};

use super::error::Problem;
use super::limits::MAX_LENGTH;
use super::text::{MAX_TEXT, TEXT};

/// The maximum depth of nested groups, which bounds recursion.
const MAX_NESTING: u32 = 100;

/// Parses a pattern. The result has no captures, no upper-case letters and no other bytes that a text can't have, and
/// matches the same texts.
pub(super) fn parse(pattern: &str) -> Result<Hir, Problem> {
    if pattern.len() > MAX_LENGTH {
        return Err(Problem::TooLong(pattern.len()));
    }
    if let Some(other) = pattern.chars().find(|c| !c.is_ascii()) {
        return Err(Problem::NotAscii(other));
    }
    if let Some(other) = pattern.chars().find(char::is_ascii_control) {
        return Err(Problem::Control(other));
    }
    let mut parser = ParserBuilder::new();
    parser.unicode(false).utf8(false).case_insensitive(true);
    parser.dot_matches_new_line(true).nest_limit(MAX_NESTING);
    let hir = parser.build().parse(pattern);
    let hir = hir.map_err(|error| Problem::Syntax(reason(&error)))?;
    if hir.properties().look_set().contains_word_unicode() {
        return Err(Problem::UnicodeBoundary);
    }
    let hir = trim(reduce(hir));
    match hir.properties().minimum_len() {
        None => Err(Problem::MatchesNothing),
        Some(0) => Err(Problem::MatchesEmpty),
        Some(len) if len > MAX_TEXT => Err(Problem::MatchesNothing),
        Some(_) => Ok(hir),
    }
}

/// The text of a syntax error on one line, without the copy of the pattern that marks the place of the error.
fn reason(error: &regex_syntax::Error) -> String {
    let (kind, span) = match error {
        regex_syntax::Error::Parse(error) => (error.kind().to_string(), error.span()),
        regex_syntax::Error::Translate(error) => (error.kind().to_string(), error.span()),
        _ => return error.to_string(),
    };
    format!("{kind}, at character {}", span.start.column)
}

/// Removes captures, and bytes that no text has.
fn reduce(hir: Hir) -> Hir {
    match hir.into_kind() {
        HirKind::Empty => Hir::empty(),
        HirKind::Literal(literal) => match literal.0.iter().all(|byte| is_possible(*byte)) {
            true => Hir::literal(literal.0),
            false => Hir::fail(),
        },
        HirKind::Class(class) => Hir::class(Class::Bytes(possible(&class))),
        // A text is a single line.
        HirKind::Look(Look::StartLF | Look::StartCRLF) => Hir::look(Look::Start),
        HirKind::Look(Look::EndLF | Look::EndCRLF) => Hir::look(Look::End),
        HirKind::Look(look) => Hir::look(look),
        HirKind::Repetition(repetition) => {
            let sub = reduce(*repetition.sub);
            match (can_match(&sub), repetition.min) {
                (false, 0) => Hir::empty(),
                (false, _) => Hir::fail(),
                _ => Hir::repetition(Repetition {
                    sub: Box::new(sub),
                    ..repetition
                }),
            }
        }
        HirKind::Capture(capture) => reduce(*capture.sub),
        HirKind::Concat(parts) => Hir::concat(parts.into_iter().map(reduce).collect()),
        HirKind::Alternation(parts) => {
            let parts = parts.into_iter().map(reduce);
            // A branch that can't match would hide literals of the others.
            Hir::alternation(parts.filter(can_match).collect())
        }
    }
}

fn can_match(hir: &Hir) -> bool {
    hir.properties().minimum_len().is_some()
}

fn is_possible(byte: u8) -> bool {
    TEXT.contains(&byte) && !byte.is_ascii_uppercase()
}

/// The possible bytes of a class. A class with an upper-case letter has the lower-case letter, too, so removing the
/// upper-case letters loses nothing.
fn possible(class: &Class) -> ClassBytes {
    let contains = |byte: u8| match class {
        Class::Bytes(class) => {
            let mut ranges = class.iter();
            ranges.any(|range| (range.start()..=range.end()).contains(&byte))
        }
        Class::Unicode(class) => {
            let mut ranges = class.iter();
            ranges.any(|range| (range.start()..=range.end()).contains(&char::from(byte)))
        }
    };
    let bytes = TEXT.filter(|byte| is_possible(*byte) && contains(*byte));
    ClassBytes::new(bytes.map(|byte| ClassBytesRange::new(byte, byte)))
}

/// A class of all possible bytes.
pub(super) fn any() -> Hir {
    let bytes = TEXT.filter(|byte| is_possible(*byte));
    let ranges = bytes.map(|byte| ClassBytesRange::new(byte, byte));
    Hir::class(Class::Bytes(ClassBytes::new(ranges)))
}

/// Removes `^.*` at the start and `.*$` at the end, because patterns are searched for anywhere. Of `^.+`, one byte is
/// kept.
fn trim(hir: Hir) -> Hir {
    let HirKind::Concat(parts) = hir.kind() else {
        return hir;
    };
    let mut parts = parts.clone();
    let any = any();
    trim_end(&mut parts, Look::End, &any);
    parts.reverse();
    trim_end(&mut parts, Look::Start, &any);
    parts.reverse();
    Hir::concat(parts)
}

fn trim_end(parts: &mut Vec<Hir>, look: Look, any: &Hir) {
    while let Some(last) = parts.last() {
        let is_look = matches!(last.kind(), HirKind::Look(last) if *last == look);
        let at = parts.len().checked_sub(1 + usize::from(is_look));
        let repetition = at.and_then(|at| parts.get(at)).map(Hir::kind);
        let (Some(at), Some(HirKind::Repetition(repetition))) = (at, repetition) else {
            return;
        };
        if repetition.max.is_some() || *repetition.sub != *any {
            return;
        }
        let mut kept = repetition.clone();
        kept.max = Some(kept.min);
        let is_done = kept.min > 0;
        parts.truncate(at);
        if is_done {
            parts.push(Hir::repetition(kept));
            return;
        }
    }
}
