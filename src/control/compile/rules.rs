//! Takes the rules of one list while it is read: those on names to be sorted, those on networks to be kept.

use std::io;

use super::sort::Sorter;
use crate::control::list_file::parse::{ParsedRule, ParsedTrigger};
use crate::policy::effect::{Effect, MAX_DATA};
use crate::policy::image::TooLarge;
use crate::policy::image::clauses::ClausesBuilder;
use crate::policy::image::triggers::Triggers;
use crate::policy::image::values::ImageRule;

/// The rules of one list on their way into an image.
pub(super) struct ListRules<'r, 'd> {
    /// The number of the list.
    source: u16,
    sorter: &'r mut Sorter<'d>,
    clauses: &'r mut ClausesBuilder,
    triggers: &'r mut Triggers,
    /// The effect of the last rule and its clause: most rules of a list have the same one.
    last: Option<(Effect, u32)>,
    /// The bytes of its distinct effects.
    data: usize,
    ended: Result<(), Stopped>,
}

/// Why no more rules can be taken.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The file of sorted rules can't be written.
    Sort(io::Error),
    /// An image can't hold them.
    TooLarge(TooLarge),
}

impl<'r, 'd> ListRules<'r, 'd> {
    /// Takes the rules of the list with this number, whose default effect has the clause with the same number.
    pub(super) fn new(
        source: u16,
        sorter: &'r mut Sorter<'d>,
        clauses: &'r mut ClausesBuilder,
        triggers: &'r mut Triggers,
    ) -> Self {
        Self {
            source,
            sorter,
            clauses,
            triggers,
            last: None,
            data: 0,
            ended: Ok(()),
        }
    }

    /// Takes a rule. After an error, further rules are ignored.
    #[inline]
    pub(super) fn add(&mut self, rule: ParsedRule<'_>) {
        if self.ended.is_ok() {
            self.ended = self.try_add(rule);
        }
    }

    /// The error that stopped it, if there was one.
    pub(super) fn finish(self) -> Result<(), Stopped> {
        self.ended
    }

    #[inline]
    fn try_add(&mut self, rule: ParsedRule<'_>) -> Result<(), Stopped> {
        let clause = match rule.effect {
            None => self.source.into(),
            Some(effect) => self.clause(effect).map_err(Stopped::TooLarge)?,
        };
        match rule.trigger {
            ParsedTrigger::Name(name, scope) => {
                let rule = ImageRule { clause, scope }.to_bits();
                self.sorter.push(name, rule).map_err(Stopped::Sort)
            }
            ParsedTrigger::Network(prefix) => {
                let added = self.triggers.add_prefix(prefix, clause);
                added.map_err(Stopped::TooLarge)
            }
            ParsedTrigger::Pattern(pattern) => {
                self.triggers.add_pattern(pattern, clause);
                Ok(())
            }
        }
    }

    fn clause(&mut self, effect: &Effect) -> Result<u32, TooLarge> {
        if let Some((_, clause)) = self.last.as_ref().filter(|(last, _)| last == effect) {
            return Ok(*clause);
        }
        let known = self.clauses.table().len();
        let clause = self.clauses.add(self.source, effect)?;
        if self.clauses.table().len() > known {
            self.data += effect.size();
        }
        if self.data > MAX_DATA {
            return Err(TooLarge::Data);
        }
        self.last = Some((effect.clone(), clause));
        Ok(clause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::compile::sort::Budget;
    use crate::policy::image::path::Key;
    use crate::policy::rule::Scope;
    use crate::wire::name::Name;

    #[test]
    fn a_list_is_refused_if_its_distinct_effects_need_too_much_memory() {
        let folder = tempfile::tempdir().expect("a folder");
        let sorter = Sorter::new(Key::random(), Budget::USUAL, folder.path());
        let mut sorter = sorter.expect("created");
        let (mut clauses, mut triggers) = (ClausesBuilder::of_sources(2), Triggers::default());
        let name = Name::from_text("x.example").expect("a name");
        let most = MAX_DATA / Effect::large(0).size();
        let mut add = |source, from: usize, count| {
            let mut rules = ListRules::new(source, &mut sorter, &mut clauses, &mut triggers);
            for scope in [Scope::Exact, Scope::Below] {
                for number in from..from + count {
                    let effect = Effect::large(number as u32);
                    rules.add(ParsedRule {
                        trigger: ParsedTrigger::Name(&name, scope),
                        effect: Some(&effect),
                        line: 0,
                    });
                }
            }
            rules.finish()
        };
        assert!(add(0, 0, most).is_ok(), "equal effects count once");
        let refused = add(1, most, most + 1);
        assert!(
            matches!(refused, Err(Stopped::TooLarge(TooLarge::Data))),
            "{refused:?}"
        );
    }
}
