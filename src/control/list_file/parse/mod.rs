//! Parses list files: calls back with each rule, and counts the lines and their problems.

mod bad;
mod domains;
mod foreign;
mod hosts;
mod lines;
mod rule;
mod tally;
pub(crate) mod zone;

#[cfg(test)]
mod tests;

use crate::config::Format;
use crate::wire::name::Name;

use lines::{Cutter, MAX_LINE};
use zone::ZoneFile;

pub use bad::{Bad, BadEntry, BadLine};
pub use foreign::{FileFormat, Foreign};
pub use lines::Notation;
pub use rule::{ParsedRule, ParsedTrigger};
pub use tally::{Tally, ZoneFacts};

/// Parses a list, and calls `rule` with each rule, in the order of the file. `apex` is the name of a policy zone, if it is
/// configured.
///
/// An invalid name does not affect others, even on the same line. Duplicates are not removed. Names of plain ASCII are
/// parsed without allocation.
pub fn read(
    bytes: &[u8],
    notation: Notation,
    apex: Option<&Name>,
    mut rule: impl FnMut(ParsedRule<'_>),
) -> Tally {
    let mut reader = Reader::new(notation, apex);
    reader.feed(bytes, &mut rule);
    reader.finish(&mut rule)
}

/// Parses a list like [`read`], but from pieces, which may be cut anywhere. Needs a few kilobytes for any list, and for a
/// policy zone as much as its longest entry.
pub struct Reader(Parser);

enum Parser {
    Lines(Box<Lines>),
    Zone(Box<ZoneFile>),
}

/// The parser of formats with rules on each line.
struct Lines {
    cutter: Cutter,
    parser: LineParser,
}

struct LineParser {
    notation: Notation,
    tally: Tally,
    /// A buffer for the current name.
    name: Name,
}

impl Reader {
    /// A reader at the start of a list in this notation. `apex` is the name of a policy zone, if it is configured.
    pub fn new(notation: Notation, apex: Option<&Name>) -> Self {
        Self(match notation.format {
            Format::Rpz => Parser::Zone(Box::new(ZoneFile::new(apex))),
            Format::Domains | Format::Hosts => Parser::Lines(Box::new(Lines {
                cutter: Cutter::new(notation),
                parser: LineParser {
                    notation,
                    tally: Tally::default(),
                    name: Name::ROOT,
                },
            })),
        })
    }

    /// Parses the next piece of the file.
    pub fn feed(&mut self, piece: &[u8], rule: &mut impl FnMut(ParsedRule<'_>)) {
        match &mut self.0 {
            Parser::Lines(lines) => {
                let Lines { cutter, parser } = &mut **lines;
                cutter.feed(piece, |number, line| parser.parse(number, line, rule));
            }
            Parser::Zone(zone) => zone.feed(piece, rule),
        }
    }

    /// Whether the last line is complete.
    pub fn is_ended(&self) -> bool {
        match &self.0 {
            Parser::Lines(lines) => lines.cutter.is_ended(),
            Parser::Zone(zone) => zone.is_ended(),
        }
    }

    /// Ends the file. Calls `rule` with the rules of a last line that has no line end.
    pub fn finish(self, rule: &mut impl FnMut(ParsedRule<'_>)) -> Tally {
        match self.0 {
            Parser::Lines(mut lines) => {
                let Lines { cutter, parser } = &mut *lines;
                parser.tally.ended = cutter.is_ended();
                cutter.finish(|number, line| parser.parse(number, line, rule));
                lines.parser.tally
            }
            Parser::Zone(zone) => zone.finish(rule),
        }
    }
}

impl LineParser {
    fn parse(&mut self, number: u32, line: &[u8], rule: &mut impl FnMut(ParsedRule<'_>)) {
        let tally = &mut self.tally;
        let Notation { format, bare, .. } = self.notation;
        let content = lines::content(line, self.notation);
        if content.is_empty() {
            tally.comments += u32::from(!line.is_empty());
            return;
        }
        tally.lines += 1;
        let emit = |name: &Name, scope| {
            rule(ParsedRule {
                trigger: ParsedTrigger::Name(name, scope),
                effect: None,
                line: number,
            });
        };
        let outcome = match format {
            _ if content.len() > MAX_LINE => Err(Bad::LongLine),
            Format::Hosts => hosts::parse_line(content, bare, &mut self.name, emit),
            Format::Domains | Format::Rpz => {
                domains::parse_line(content, bare, &mut self.name, emit)
            }
        };
        match outcome {
            Ok(line_tally) => tally.add(number, content, &line_tally),
            Err(problem) => tally.reject(number, content, problem.or_foreign(content)),
        }
    }
}
