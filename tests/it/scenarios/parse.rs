//! Reads the `.rpl` format of Unbound's testbound.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::entry::Entry;
use super::lines::{Line, Lines};

/// A scenario: a configuration, the answers of upstream, and steps.
pub(super) struct Scenario {
    pub(super) clauses: Vec<Clause>,
    /// The files that the configuration names, and their text.
    pub(super) files: Vec<(String, String)>,
    pub(super) ranges: Vec<Range>,
    pub(super) steps: Vec<Step>,
}

/// A clause of Unbound's configuration.
pub(super) struct Clause {
    pub(super) kind: String,
    pub(super) options: Vec<(String, String)>,
}

/// The answers of some servers during some steps.
#[derive(Clone)]
pub(super) struct Range {
    pub(super) steps: RangeInclusive<u32>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) entries: Vec<Entry>,
}

pub(super) struct Step {
    pub(super) number: u32,
    pub(super) line: usize,
    pub(super) action: Action,
}

pub(super) enum Action {
    /// A query of this client.
    Query(Option<IpAddr>, Entry),
    /// The expected answer to the last query.
    Check(Entry),
    TimePasses(Duration),
    /// Zone transfers that are due are made.
    Traffic,
}

impl Scenario {
    /// # Errors
    /// With the number of the line that can't be read.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut scenario = Self {
            clauses: Vec::new(),
            files: Vec::new(),
            ranges: Vec::new(),
            steps: Vec::new(),
        };
        let mut lines = Lines::of(text);
        scenario.read_configuration(&mut lines)?;
        loop {
            let line = lines.next(&[';'])?;
            let (word, rest) = line.split();
            match word {
                "SCENARIO_BEGIN" => {}
                "SCENARIO_END" => return Ok(scenario),
                "RANGE_BEGIN" => scenario.ranges.push(Range::read(line, &rest, &mut lines)?),
                "STEP" => scenario.steps.push(Step::read(line, &rest, &mut lines)?),
                _ => return Err(line.error("unknown word")),
            }
        }
    }

    fn read_configuration(&mut self, lines: &mut Lines<'_>) -> Result<(), String> {
        loop {
            let line = lines.next(&[';', '#'])?;
            let (word, rest) = line.split();
            let last = self.clauses.last_mut();
            match (word, word.strip_suffix(':'), last) {
                ("CONFIG_END", ..) => return Ok(()),
                // In testbound, a temporary path is appended to the line before.
                ("TEMPFILE_NAME", _, Some(clause)) => {
                    let option = clause.options.last_mut();
                    let (_, value) = option.ok_or_else(|| line.error("no option for this file"))?;
                    value.push_str(&rest.concat());
                }
                ("TEMPFILE_CONTENTS", ..) => {
                    self.files
                        .push((rest.concat(), lines.until("TEMPFILE_END")?));
                }
                (_, Some(kind), _) if rest.is_empty() && is_clause(kind) => {
                    let (kind, options) = (kind.to_owned(), Vec::new());
                    self.clauses.push(Clause { kind, options });
                }
                (_, Some(key), Some(clause)) => {
                    let value = rest.join(" ").replace('"', "");
                    clause.options.push((key.to_owned(), value));
                }
                _ => return Err(line.error("unknown word")),
            }
        }
    }
}

fn is_clause(word: &str) -> bool {
    ["server", "rpz", "stub-zone", "forward-zone"].contains(&word)
}

impl Clause {
    /// The values of an option.
    pub(super) fn all<'c>(&'c self, key: &'c str) -> impl Iterator<Item = &'c str> {
        let options = self.options.iter();
        options.filter_map(move |(known, value)| (known == key).then_some(value.as_str()))
    }

    /// The value of an option, which is empty if the clause does not have it.
    pub(super) fn one(&self, key: &str) -> &str {
        let mut values = self.options.iter().filter(|(known, _)| known == key);
        values.next().map_or("", |(_, value)| value)
    }
}

impl Range {
    fn read(begin: Line<'_>, words: &[&str], lines: &mut Lines<'_>) -> Result<Self, String> {
        let mut bounds = words.iter().filter_map(|word| word.parse().ok());
        let (Some(first), Some(last)) = (bounds.next(), bounds.next()) else {
            return Err(begin.error("a range has a first and a last step"));
        };
        let mut range = Self {
            steps: first..=last,
            addresses: Vec::new(),
            entries: Vec::new(),
        };
        loop {
            let line = lines.next(&[';'])?;
            match line.split() {
                ("ADDRESS", words) => range.addresses.push(address(line, &words)?),
                ("ENTRY_BEGIN", _) => range.entries.push(Entry::read(lines)?),
                ("RANGE_END", _) => return Ok(range),
                _ => return Err(line.error("unknown word")),
            }
        }
    }
}

impl Step {
    fn read(line: Line<'_>, words: &[&str], lines: &mut Lines<'_>) -> Result<Self, String> {
        let number = words.first().and_then(|word| word.parse().ok());
        let number = number.ok_or_else(|| line.error("a step has a number"))?;
        let action = match words.get(1..).unwrap_or_default() {
            ["QUERY"] => Action::Query(None, entry(lines)?),
            ["QUERY", "ADDRESS", client @ ..] => {
                Action::Query(Some(address(line, client)?), entry(lines)?)
            }
            ["CHECK_ANSWER"] => Action::Check(entry(lines)?),
            ["TIME_PASSES", "ELAPSE", seconds] => {
                let seconds = seconds.parse().map_err(|error| line.error(error))?;
                Action::TimePasses(Duration::from_secs(seconds))
            }
            ["TRAFFIC"] => Action::Traffic,
            _ => return Err(line.error("unknown kind of step")),
        };
        let line = line.number;
        Ok(Self {
            number,
            line,
            action,
        })
    }
}

fn entry(lines: &mut Lines<'_>) -> Result<Entry, String> {
    let line = lines.next(&[';'])?;
    match line.text {
        "ENTRY_BEGIN" => Entry::read(lines),
        _ => Err(line.error("ENTRY_BEGIN must follow a step")),
    }
}

fn address(line: Line<'_>, words: &[&str]) -> Result<IpAddr, String> {
    let address = words.concat().parse();
    address.map_err(|error| line.error(error))
}
