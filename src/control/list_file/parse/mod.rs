//! Parses list files: calls back with each rule, and counts the lines and their problems.

mod adblock;
mod answers;
mod bad;
mod bad_rule;
mod cell;
mod detect;
mod dnsmasq;
mod domains;
mod foreign;
mod hosts;
mod json;
mod line_texts;
mod lines;
mod not_applicable;
mod pattern_rules;
mod row_cutter;
mod rule;
mod table;
mod tally;
mod unbound;
mod watched;
mod wildcard;
pub(crate) mod zone;
mod zone_text;

#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;

use crate::config::Format;
use crate::wire::name::Name;

use adblock::AdblockFile;
use detect::{START, detect};
use dnsmasq::Dnsmasq;
use json::Json;
use lines::{Cutter, MAX_LINE};
use not_applicable::Unusable;
use pattern_rules::PatternRules;
use table::Table;
use unbound::Unbound;
use zone::ZoneFile;

pub use bad::{Bad, BadEntry, BadLine};
pub use bad_rule::BadRule;
pub use detect::Detected;
pub use foreign::{FileFormat, Foreign};
pub use line_texts::{FoundTexts, LineTexts};
pub use lines::{Notation, excerpt_of_line};
pub use not_applicable::{IgnoredLine, NotApplicable};
pub use rule::{ParsedRule, ParsedTrigger};
pub use tally::{Tally, ZoneFacts};
pub use watched::Watched;

/// Parses a list, and calls `rule` with each rule, in the order of the file; rules with patterns are the last. `apex` is the name of a policy zone, if it is
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
    if reader.is_scanning() {
        reader.scan(bytes);
    }
    reader.feed(bytes, &mut rule);
    reader.finish(&mut rule)
}

/// Parses a list like [`read`], but from pieces, which may be cut anywhere. If it [scans](Self::is_scanning), all pieces are
/// scanned before the first one is parsed.
///
/// Most formats need a few kilobytes for any list; a policy zone as much as its longest entry, JSON the whole file, and
/// configurations of dnsmasq and Unbound about 100 bytes for each name that is answered with records, and Unbound's about 20
/// bytes for each other name. Rules with patterns are kept until the end.
pub struct Reader(Parser);

enum Parser {
    Lines(Box<Lines>),
    Adblock(Box<AdblockFile>),
    Zone(Box<ZoneFile>),
    Table(Box<Table>),
    Json(Json),
    Auto(Box<Auto>),
}

/// The parser of formats with rules on each line.
struct Lines {
    cutter: Cutter,
    parser: LineParser,
}

struct LineParser {
    notation: Notation,
    dialect: Dialect,
    patterns: PatternRules,
    tally: Tally,
    /// A buffer for the current name.
    name: Name,
}

/// The syntax of a line, and what is known of earlier lines.
enum Dialect {
    Domains,
    Hosts,
    Wildcard,
    Dnsmasq(Box<Dnsmasq>),
    Unbound(Box<Unbound>),
}

/// The parser of a list whose format is recognised by its start.
struct Auto {
    notation: Notation,
    start: Vec<u8>,
    watched: Option<RangeInclusive<u32>>,
    /// The reader in the format, once it is known.
    reader: Option<(Reader, Detected)>,
}

impl Reader {
    /// A reader at the start of a list in this notation. `apex` is the name of a policy zone, if it is configured.
    pub fn new(notation: Notation, apex: Option<&Name>) -> Self {
        let column = notation.column.as_deref();
        let dialect = match notation.format {
            Format::Domains => Dialect::Domains,
            Format::Hosts => Dialect::Hosts,
            Format::Wildcard => Dialect::Wildcard,
            Format::Dnsmasq => Dialect::Dnsmasq(Box::new(Dnsmasq::new())),
            Format::Unbound => Dialect::Unbound(Box::new(Unbound::new())),
            Format::Adblock => {
                return Self(Parser::Adblock(Box::new(AdblockFile::new(notation))));
            }
            Format::Rpz => return Self(Parser::Zone(Box::new(ZoneFile::new(apex)))),
            Format::Csv => {
                let table = Table::new(column.unwrap_or_default(), notation.bare);
                return Self(Parser::Table(Box::new(table)));
            }
            Format::Json => return Self(Parser::Json(Json::new(column, notation.bare))),
            Format::Auto => {
                return Self(Parser::Auto(Box::new(Auto {
                    notation,
                    start: Vec::new(),
                    watched: None,
                    reader: None,
                })));
            }
        };
        Self(Parser::Lines(Box::new(Lines {
            cutter: Cutter::new(&notation),
            parser: LineParser {
                notation,
                dialect,
                patterns: PatternRules::default(),
                tally: Tally::default(),
                name: Name::ROOT,
            },
        })))
    }

    /// Keeps what these lines become, for [`Tally::watched`]. To be called before the first piece.
    pub fn watch(&mut self, lines: RangeInclusive<u32>) {
        match &mut self.0 {
            Parser::Lines(of) => of.parser.tally.watch(lines),
            Parser::Adblock(file) => file.watch(lines),
            Parser::Zone(zone) => zone.watch(lines),
            Parser::Table(table) => table.watch(lines),
            Parser::Json(json) => json.watch(lines),
            Parser::Auto(auto) => auto.watched = Some(lines),
        }
    }

    /// Whether lines of the format can take back lines before them.
    pub fn is_scanning(&self) -> bool {
        matches!(self.0, Parser::Adblock(_) | Parser::Auto(_))
    }

    /// Scans the next piece of the file for such lines.
    pub fn scan(&mut self, piece: &[u8]) {
        match &mut self.0 {
            Parser::Adblock(file) => file.scan(piece),
            Parser::Auto(auto) => auto.scan(piece),
            _ => {}
        }
    }

    /// Parses the next piece of the file.
    pub fn feed(&mut self, piece: &[u8], rule: &mut impl FnMut(ParsedRule<'_>)) {
        match &mut self.0 {
            Parser::Lines(lines) => {
                let Lines { cutter, parser } = &mut **lines;
                cutter.feed(piece, |number, line| parser.parse(number, line, rule));
            }
            Parser::Adblock(file) => file.feed(piece, rule),
            Parser::Zone(zone) => zone.feed(piece, rule),
            Parser::Table(table) => table.feed(piece, rule),
            Parser::Json(json) => json.feed(piece),
            Parser::Auto(auto) => auto.recognised().feed(piece, rule),
        }
    }

    /// The number of a last line that has no line end. Of an entry with several lines, it is the first one.
    pub fn open_line(&self) -> Option<u32> {
        match &self.0 {
            Parser::Lines(lines) => lines.cutter.open_line(),
            Parser::Adblock(file) => file.open_line(),
            Parser::Zone(zone) => zone.open_line(),
            Parser::Table(table) => table.open_line(),
            // JSON that was cut off is refused as a whole.
            Parser::Json(_) => None,
            Parser::Auto(auto) => auto
                .reader
                .as_ref()
                .and_then(|(reader, _)| reader.open_line()),
        }
    }

    /// Ends the file. Calls `rule` with the rules of a last line that has no line end, and with those that depend on
    /// several lines.
    pub fn finish(self, rule: &mut impl FnMut(ParsedRule<'_>)) -> Tally {
        match self.0 {
            Parser::Lines(mut lines) => {
                let Lines { cutter, parser } = &mut *lines;
                parser.tally.ended = cutter.open_line().is_none();
                cutter.finish(|number, line| parser.parse(number, line, rule));
                lines.parser.finish(rule)
            }
            Parser::Adblock(file) => file.finish(rule),
            Parser::Zone(zone) => zone.finish(rule),
            Parser::Table(table) => table.finish(rule),
            Parser::Json(json) => json.finish(rule),
            Parser::Auto(auto) => auto.finish(rule),
        }
    }
}

impl Auto {
    /// Recognises the format by the start of the file, and scans the file in it.
    fn scan(&mut self, piece: &[u8]) {
        if let Some((reader, _)) = &mut self.reader {
            return reader.scan(piece);
        }
        self.start.extend(piece);
        if self.start.len() >= START {
            self.recognised();
        }
    }

    /// The reader in the format that the start shows.
    fn recognised(&mut self) -> &mut Reader {
        let (notation, start) = (&self.notation, &mut self.start);
        let watched = &mut self.watched;
        let (reader, _) = self.reader.get_or_insert_with(|| {
            let start = std::mem::take(start);
            let detected = detect(&start, notation.column.is_some());
            let notation = Notation {
                format: detected.format,
                ..notation.clone()
            };
            let mut reader = Reader::new(notation, None);
            if let Some(lines) = watched.take() {
                reader.watch(lines);
            }
            reader.scan(&start);
            (reader, detected)
        });
        reader
    }

    fn finish(mut self, rule: &mut impl FnMut(ParsedRule<'_>)) -> Tally {
        self.recognised();
        match self.reader {
            Some((reader, detected)) => Tally {
                detected: Some(detected),
                ..reader.finish(rule)
            },
            None => Tally::default(),
        }
    }
}

impl LineParser {
    /// Ends the file, and calls `rule` with the rules that depend on several lines.
    fn finish(self, rule: &mut impl FnMut(ParsedRule<'_>)) -> Tally {
        let mut tally = self.tally;
        self.patterns.finish(&mut tally, rule);
        match self.dialect {
            Dialect::Dnsmasq(dnsmasq) => dnsmasq.finish(&mut tally, rule),
            Dialect::Unbound(unbound) => unbound.finish(&mut tally, rule),
            Dialect::Domains | Dialect::Hosts | Dialect::Wildcard => {}
        }
        tally
    }

    fn parse(&mut self, number: u32, line: &[u8], rule: &mut impl FnMut(ParsedRule<'_>)) {
        let tally = &mut self.tally;
        let bare = self.notation.bare;
        let content = lines::content(line, &self.notation);
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
        let name = &mut self.name;
        let outcome = match &mut self.dialect {
            _ if content.len() > MAX_LINE => Err(Bad::LongLine.into()),
            Dialect::Hosts => hosts::parse_line(content, bare, name, emit).map_err(Into::into),
            Dialect::Domains => domains::parse_line(content, bare, name, emit).map_err(Into::into),
            Dialect::Wildcard => {
                wildcard::parse_line(number, content, name, &mut self.patterns, emit)
            }
            Dialect::Dnsmasq(dnsmasq) => {
                dnsmasq.parse_line(number, content, name, &mut self.patterns, rule)
            }
            Dialect::Unbound(unbound) => unbound.parse_line(number, content, name, rule),
        };
        match outcome {
            Ok(line_tally) => tally.add(number, content, &line_tally),
            Err(Unusable::Bad(problem)) => {
                tally.reject(number, content, problem.or_foreign(content));
            }
            Err(Unusable::Ignored(reason)) => tally.ignore(number, content, reason),
        }
    }
}
