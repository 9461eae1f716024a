//! Owns the way from a list file's bytes to rules, and the account of what was wrong on the way.
//! Refuses to open files, to keep rules, and to judge whether a list as a whole may be used.

mod bad;
mod domains;
mod foreign;
mod hosts;
mod lines;
mod tally;

#[cfg(test)]
mod tests;

use crate::config::Format;
use crate::policy::rule::Scope;
use crate::wire::name::Name;

use lines::{Cutter, MAX_LINE};

pub use bad::{Bad, BadLine};
pub use foreign::{FileFormat, Foreign};
pub use lines::Notation;
pub use tally::Tally;

/// Reads a list and hands each rule to `rule`, in the file's order, with its line (1 is the first).
///
/// An invalid name gives no rule and does not affect
/// the others, those on its line included. Duplicates are handed on as they come. Names of plain ASCII
/// are read without allocating.
pub fn read(bytes: &[u8], notation: Notation, mut rule: impl FnMut(&Name, Scope, u32)) -> Tally {
    let mut reader = Reader::new(notation);
    reader.feed(bytes, &mut rule);
    reader.finish(&mut rule)
}

/// Reads a list that comes in pieces, cut anywhere, as [`read`] does.
///
/// Whatever the list holds, it keeps some kilobytes.
pub struct Reader {
    cutter: Cutter,
    lines: Lines,
}

/// Reads lines.
struct Lines {
    notation: Notation,
    tally: Tally,
    /// Each name, one after the other.
    name: Name,
}

impl Reader {
    /// For a list in that notation.
    pub fn new(notation: Notation) -> Self {
        Self {
            cutter: Cutter::new(notation),
            lines: Lines {
                notation,
                tally: Tally::default(),
                name: Name::ROOT,
            },
        }
    }

    /// Reads the next piece of the file.
    pub fn feed(&mut self, piece: &[u8], rule: &mut impl FnMut(&Name, Scope, u32)) {
        let Self { cutter, lines } = self;
        cutter.feed(piece, |number, line| lines.read(number, line, rule));
    }

    /// The file ends here. What `rule` is called with is of a last line that has no end.
    pub fn finish(mut self, rule: &mut impl FnMut(&Name, Scope, u32)) -> Tally {
        let Self { cutter, lines } = &mut self;
        lines.tally.ended = cutter.is_ended();
        cutter.finish(|number, line| lines.read(number, line, rule));
        self.lines.tally
    }
}

impl Lines {
    fn read(&mut self, number: u32, line: &[u8], rule: &mut impl FnMut(&Name, Scope, u32)) {
        let tally = &mut self.tally;
        let Notation { format, bare, .. } = self.notation;
        let content = lines::content(line, self.notation);
        if content.is_empty() {
            tally.comments += u32::from(!line.is_empty());
            return;
        }
        tally.lines += 1;
        let emit = |name: &Name, scope| rule(name, scope, number);
        let outcome = match format {
            _ if content.len() > MAX_LINE => Err(Bad::LongLine),
            Format::Domains => domains::read(content, bare, &mut self.name, emit),
            Format::Hosts => hosts::read(content, bare, &mut self.name, emit),
        };
        match outcome {
            Ok(gain) => tally.add(number, content, &gain),
            Err(problem) => tally.reject(number, content, problem.or_foreign(content)),
        }
    }
}
