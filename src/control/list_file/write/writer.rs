//! Writes rules one by one, and reads unusual lines again to see whether they give the same rules.

use std::io::{self, Write};

use crate::control::list_file::parse::{self, Notation, ParsedRule, ParsedTrigger};
use crate::control::list_file::write::format::WrittenFormat;
use crate::control::list_file::write::meaning::{Does, ListSettings, Meaning};
use crate::control::list_file::write::reason::Reason;
use crate::control::list_file::write::rule::{Rule, Trigger};
use crate::control::list_file::write::unwritten::WrittenList;
use crate::policy::effect::Effect;
use crate::policy::prefix::Prefix;
use crate::policy::rule::{Action, Scope};
use crate::wire::name::Name;

/// The rules on no names that are read again together.
const TOGETHER: usize = 1000;

/// Writes the rules of a list.
pub(super) struct Writer<'o, W> {
    format: WrittenFormat,
    list: ListSettings,
    notation: Notation,
    out: &'o mut W,
    /// The lines of the current rules.
    text: String,
    pub(super) written: WrittenList,
}

/// A rule as it was read again.
struct ReadRule {
    trigger: ReadTrigger,
    effect: Effect,
    line: u32,
}

/// A trigger as it was read again.
enum ReadTrigger {
    Name,
    Pattern(String),
    Network(Prefix),
}

impl<'o, W: Write> Writer<'o, W> {
    pub(super) fn new(format: WrittenFormat, list: ListSettings, out: &'o mut W) -> Self {
        Self {
            format,
            list,
            notation: Notation {
                format: format.format(),
                allows: list.allows,
                ..Notation::default()
            },
            out,
            text: String::new(),
            written: WrittenList::default(),
        }
    }

    /// Writes all rules on a name.
    pub(super) fn name<'e>(
        &mut self,
        name: &Name,
        rules: impl ExactSizeIterator<Item = (Scope, &'e Effect)>,
    ) -> io::Result<()> {
        self.text.clear();
        let mut kept: Vec<(Scope, Meaning)> = Vec::new();
        let is_alone = rules.len() == 1;
        for (scope, effect) in rules {
            let end = self.text.len();
            match self.add(name, scope, effect, is_alone, &mut kept) {
                Ok(loses_ttl) => self.count(loses_ttl),
                Err(reason) => {
                    self.text.truncate(end);
                    self.written.unwritten.add(reason, 1);
                }
            }
        }
        self.out.write_all(self.text.as_bytes())
    }

    fn count(&mut self, loses_ttl: bool) {
        self.written.rules += 1;
        self.written.without_ttl += u64::from(loses_ttl);
    }

    /// Appends the lines of a rule to those of the others on its name. Returns whether they do not have its TTL.
    fn add(
        &mut self,
        name: &Name,
        scope: Scope,
        effect: &Effect,
        is_alone: bool,
        kept: &mut Vec<(Scope, Meaning)>,
    ) -> Result<bool, Reason> {
        let meaning = Meaning::of(effect, &self.list)?;
        let rule = Rule {
            trigger: Trigger::Name(name, scope),
            meaning: &meaning,
            list: &self.list,
        };
        self.format.write(&rule, &mut self.text)?;
        // Almost all rules of most lists.
        if is_alone && effect.is_default() && is_common(name) {
            return Ok(false);
        }
        let loses_ttl = self.loses_ttl(&meaning);
        kept.push((scope, self.comparable(meaning)));
        if self.reads_as(name, kept) {
            return Ok(loses_ttl);
        }
        kept.pop();
        Err(match kept.is_empty() {
            false => Reason::Beside,
            true if effect.condition.is_some() => Reason::Condition,
            true if is_common(name) => Reason::Answer,
            true => Reason::Name,
        })
    }

    /// Whether lines of the format do not have the TTL of a rule.
    fn loses_ttl(&self, meaning: &Meaning) -> bool {
        let has_ttl = match meaning.does {
            Does::Alias(_) | Does::Records(_) => self.format.has_ttls(),
            // There is no answer of its own that could have one.
            Does::Allow | Does::Block(Action::Drop) => true,
            Does::AsList | Does::Block(_) => false,
        };
        !has_ttl && meaning.has_own_ttl(&self.list)
    }

    /// The meaning as far as the format can have it.
    fn comparable(&self, meaning: Meaning) -> Meaning {
        match (&meaning.does, self.format.has_ttls()) {
            (Does::Alias(_) | Does::Records(_), true) => meaning.normalized(&self.list),
            _ => meaning.without_ttl(&self.list),
        }
    }

    /// Whether the text is read as these rules on a name, and no others.
    fn reads_as(&self, name: &Name, expected: &[(Scope, Meaning)]) -> bool {
        let mut found: Vec<(Scope, Effect)> = Vec::new();
        let mut is_other = false;
        let text = self.text.as_bytes();
        let tally = parse::read(text, self.notation.clone(), None, |rule| {
            match rule.trigger {
                ParsedTrigger::Name(own, scope) if own == name => {
                    join(&mut found, scope, effect_of(&rule));
                }
                _ => is_other = true,
            }
        });
        let found = found.iter().map(|(scope, effect)| {
            let meaning = Meaning::of(effect, &self.list).ok()?;
            Some((*scope, self.comparable(meaning)))
        });
        let Some(found) = found.collect::<Option<Vec<_>>>() else {
            return false;
        };
        !is_other
            && tally.bad_total() == 0
            && found.iter().all(|rule| expected.contains(rule))
            && expected.iter().all(|rule| found.contains(rule))
    }

    /// Writes rules with patterns.
    pub(super) fn patterns(&mut self, rules: &[(&str, &Effect)]) -> io::Result<()> {
        for rules in rules.chunks(TOGETHER) {
            let rules = rules.iter();
            let rules = rules.map(|(pattern, effect)| (Trigger::Pattern(pattern), *effect));
            self.together(rules, Reason::Pattern)?;
        }
        Ok(())
    }

    /// Writes rules on networks.
    pub(super) fn networks(&mut self, rules: &[(Prefix, &Effect)]) -> io::Result<()> {
        for rules in rules.chunks(TOGETHER) {
            let rules = rules.iter();
            let rules = rules.map(|(prefix, effect)| (Trigger::Network(*prefix), *effect));
            self.together(rules, Reason::Network)?;
        }
        Ok(())
    }

    /// Writes rules that are on no names. The format can't have those that are read as others, for the reason `other`.
    fn together<'r>(
        &mut self,
        rules: impl Iterator<Item = (Trigger<'r>, &'r Effect)>,
        other: Reason,
    ) -> io::Result<()> {
        self.text.clear();
        let mut candidates = Vec::new();
        let mut next_line = 1;
        for (trigger, effect) in rules {
            let start = self.text.len();
            match self.add_alone(trigger, effect) {
                Ok(meaning) => {
                    let text = start..self.text.len();
                    let lines = self.text[text.clone()].matches('\n').count() as u32;
                    candidates.push((trigger, meaning, text, next_line..next_line + lines));
                    next_line += lines;
                }
                Err(reason) => {
                    self.text.truncate(start);
                    self.written.unwritten.add(reason, 1);
                }
            }
        }
        let read = self.read_again();
        for (trigger, meaning, text, lines) in candidates {
            let first = read.partition_point(|rule| rule.line < lines.start);
            let own = &read[first..];
            let own = &own[..own.partition_point(|rule| rule.line < lines.end)];
            let loses_ttl = self.loses_ttl(&meaning);
            let meaning = self.comparable(meaning);
            let is_same = |rule: &ReadRule| {
                let read = Meaning::of(&rule.effect, &self.list);
                rule.trigger.is(trigger) && read.is_ok_and(|read| self.comparable(read) == meaning)
            };
            if own.is_empty() || !own.iter().all(is_same) {
                self.written.unwritten.add(other, 1);
                continue;
            }
            self.count(loses_ttl);
            self.out.write_all(self.text[text].as_bytes())?;
        }
        Ok(())
    }

    fn add_alone(&mut self, trigger: Trigger<'_>, effect: &Effect) -> Result<Meaning, Reason> {
        let meaning = Meaning::of(effect, &self.list)?;
        let rule = Rule {
            trigger,
            meaning: &meaning,
            list: &self.list,
        };
        self.format.write(&rule, &mut self.text)?;
        Ok(meaning)
    }

    /// The rules that the text is read as, by line.
    fn read_again(&self) -> Vec<ReadRule> {
        let mut read = Vec::new();
        let text = self.text.as_bytes();
        parse::read(text, self.notation.clone(), None, |rule| {
            read.push(ReadRule {
                trigger: match rule.trigger {
                    ParsedTrigger::Pattern(pattern) => ReadTrigger::Pattern(pattern.to_owned()),
                    ParsedTrigger::Network(prefix) => ReadTrigger::Network(prefix),
                    ParsedTrigger::Name(..) => ReadTrigger::Name,
                },
                effect: effect_of(&rule),
                line: rule.line,
            });
        });
        read.sort_by_key(|rule| rule.line);
        read
    }
}

impl ReadTrigger {
    /// Whether it is this one, which is on no name.
    fn is(&self, trigger: Trigger<'_>) -> bool {
        match (self, trigger) {
            (Self::Pattern(own), Trigger::Pattern(pattern)) => own == pattern,
            (Self::Network(own), Trigger::Network(prefix)) => *own == prefix,
            _ => false,
        }
    }
}

/// Whether a name has a form that all formats read as this name: no escapes, no address, no name of a machine itself.
fn is_common(name: &Name) -> bool {
    let labels = name.label_count();
    labels > 1
        && name.is_plain()
        && !name.label_from_root(labels - 1).starts_with(b"local")
        && !name
            .label_from_root(0)
            .last()
            .is_some_and(u8::is_ascii_digit)
}

/// Adds a rule that was read. Rules of one trigger that answer with records are joined, as in an image.
fn join(found: &mut Vec<(Scope, Effect)>, scope: Scope, effect: Effect) {
    for (own, other) in &mut *found {
        if *own == scope
            && let Some(joined) = other.joined(&effect)
        {
            *other = joined;
            return;
        }
    }
    found.push((scope, effect));
}

fn effect_of(rule: &ParsedRule<'_>) -> Effect {
    rule.effect.cloned().unwrap_or_default()
}
