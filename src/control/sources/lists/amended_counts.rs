//! Keeps the counts of a zone up to date when changes apply to its rules: of all records, of those that are no rule, and of
//! rules that guards left out or warned of.

use crate::control::guard::protected::{Guarded, ProtectedNames};
use crate::control::guard::suppressed::admits_rule;
use crate::control::guard::transferred::described;
use crate::control::list_file::parse::{Bad, ParsedRule, ParsedTrigger, Tally};
use crate::control::list_file::suppressed::SuppressedRules;
use crate::control::sources::feeds::delivery::ZoneChange;
use crate::policy::effect::{Effect, EffectAction};
use crate::policy::rpz::{RecordProblem, ZoneReader, ZoneRecord};
use crate::wire::class;
use crate::wire::name::Name;

/// What a rule was before the changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Before {
    #[default]
    None,
    InForce {
        allows: bool,
    },
    /// Records were deleted that were not in force.
    LeftOut,
}

/// Counts a record that is deleted or added. Returns why it can't be part of a rule, if it can't.
pub(super) fn count(
    change: &ZoneChange,
    owner: &Name,
    reader: &mut ZoneReader,
    tally: &mut Tally,
) -> Option<RecordProblem> {
    let problem = reader.problem_of(ZoneRecord {
        owner,
        rtype: change.rtype,
        class: class::IN,
        ttl_secs: change.ttl_secs,
        data: &change.data,
        line: 0,
    });
    let add = |count: &mut u32| match change.adds {
        true => *count = count.saturating_add(1),
        false => *count = count.saturating_sub(1),
    };
    add(&mut tally.lines);
    let problem = problem?;
    if problem.is_usual() {
        add(&mut tally.skipped);
        return Some(problem);
    }
    let text = described(owner, change.rtype);
    match change.adds {
        // A record that is added has the last number.
        true => tally.reject(tally.lines, text.as_bytes(), Bad::Record(problem)),
        false => tally.withdraw(text.as_bytes(), Bad::Record(problem)),
    }
    Some(problem)
}

/// Takes back what a guard recorded about a rule before the changes.
pub(super) fn withdraw(
    before: Before,
    trigger: ParsedTrigger<'_>,
    recorded: &mut SuppressedRules,
    (protected_names, guarded): (&ProtectedNames, Guarded),
) {
    let allow = Effect {
        action: EffectAction::Allow,
        ..Effect::default()
    };
    let effect = match before {
        Before::None => return,
        Before::InForce { allows: true } => Some(&allow),
        Before::InForce { allows: false } | Before::LeftOut => None,
    };
    let rule = ParsedRule {
        trigger,
        effect,
        line: 0,
    };
    let mut of_rule = SuppressedRules::default();
    admits_rule(&mut of_rule, protected_names, guarded, rule);
    recorded.withdraw(&of_rule);
}
