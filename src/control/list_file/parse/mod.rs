//! Parses list files: calls back with each rule, and counts the lines and their problems.

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

/// Parses a list, and calls `rule` with each rule and its line (1 is the first), in the order of the file.
///
/// An invalid name does not affect others, even on the same line. Duplicates are not removed. Names of plain ASCII are
/// parsed without allocation.
pub fn read(bytes: &[u8], notation: Notation, mut rule: impl FnMut(&Name, Scope, u32)) -> Tally {
    let mut reader = Reader::new(notation);
    reader.feed(bytes, &mut rule);
    reader.finish(&mut rule)
}

/// Parses a list like [`read`], but from pieces, which may be cut anywhere. Needs a few kilobytes for any list.
pub struct Reader {
    cutter: Cutter,
    lines: LineParser,
}

struct LineParser {
    notation: Notation,
    tally: Tally,
    /// A buffer for the current name.
    name: Name,
}

impl Reader {
    /// A reader at the start of a list in this notation.
    pub fn new(notation: Notation) -> Self {
        Self {
            cutter: Cutter::new(notation),
            lines: LineParser {
                notation,
                tally: Tally::default(),
                name: Name::ROOT,
            },
        }
    }

    /// Parses the next piece of the file.
    pub fn feed(&mut self, piece: &[u8], rule: &mut impl FnMut(&Name, Scope, u32)) {
        let Self { cutter, lines } = self;
        cutter.feed(piece, |number, line| lines.parse(number, line, rule));
    }

    /// Ends the file. Calls `rule` with the rules of a last line that has no line end.
    pub fn finish(mut self, rule: &mut impl FnMut(&Name, Scope, u32)) -> Tally {
        let Self { cutter, lines } = &mut self;
        lines.tally.ended = cutter.is_ended();
        cutter.finish(|number, line| lines.parse(number, line, rule));
        self.lines.tally
    }
}

impl LineParser {
    fn parse(&mut self, number: u32, line: &[u8], rule: &mut impl FnMut(&Name, Scope, u32)) {
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
            Format::Domains => domains::parse_line(content, bare, &mut self.name, emit),
            Format::Rpz => Err(Bad::Foreign(Foreign::Zone)),
            Format::Hosts => hosts::parse_line(content, bare, &mut self.name, emit),
        };
        match outcome {
            Ok(line_tally) => tally.add(number, content, &line_tally),
            Err(problem) => tally.reject(number, content, problem.or_foreign(content)),
        }
    }
}
