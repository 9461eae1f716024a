//! Compiles a transferred zone that hardly differs from the one in force: only the differences are written.

use super::arrival::Arrivals;
use super::carried::open;
use super::comparison::Comparison;
use super::error::CompileError;
use super::plan::{Event, ListOutcome, Outcome, Plan, PlanList, Refused};
use super::rss::Reporter;
use super::transferred::SpoolReading;
use crate::control::guard::acceptance::{NewState, check_acceptance};
use crate::control::guard::protected::ProtectedNames;
use crate::control::guard::reading::Reading;
use crate::control::list_file::parse::ParsedRule;
use crate::control::persist::durable::{Access, replace_unsynced};
use crate::control::sources::feeds::spool::TransferPlan;
use crate::control::sources::lists::load::{Loaded, Refusal};
use crate::control::sources::lists::provenance;
use crate::policy::amendment::Amendment;
use crate::policy::image::provenance::ImageSource;
use crate::policy::images::Images;

/// Bytes that are read between two reports.
const READ_STEP: u64 = 4 << 20;

/// Compares the transferred zone of the plan with the rules in force, if the plan wants that, and writes an amendment
/// of them to the plan's file. `None` if too much differs: the zone has to be read again then, and all rules compiled.
///
/// # Errors
/// If an image can't be read or written. The zone may be refused without an error.
pub(super) fn amend(
    plan: &Plan,
    arrivals: &Arrivals,
    protected_names: &ProtectedNames,
    reporter: &mut Reporter<impl FnMut(Event)>,
) -> Result<Option<Outcome>, CompileError> {
    let Some(in_force) = &plan.in_force else {
        return Ok(None);
    };
    let mut read = plan.lists.iter().filter(|list| list.read);
    let Some((list, transfer)) = read.find_map(|list| Some((list, list.transfer.as_ref()?))) else {
        return Ok(None);
    };
    let images = Images {
        base: open(plan.base.as_deref())?,
        delta: open(in_force.delta.as_deref())?,
        ..Images::default()
    };
    let Some(comparison) = Comparison::new(&images, &list.name) else {
        return Ok(None);
    };
    let compared = compare(
        comparison,
        (list, transfer),
        arrivals,
        protected_names,
        reporter,
    );
    let result = match compared {
        Err(refusal) => Err(refusal),
        Ok(None) => return Ok(None),
        Ok(Some((comparison, reading))) => {
            let damaged = |source| CompileError::Damaged {
                path: plan.base.clone().unwrap_or_default(),
                source,
            };
            let Some(amendment) = comparison.finish().map_err(damaged)? else {
                return Ok(None);
            };
            let rules = amendment.rules_after(&images, &list.name);
            let new = NewState::new(&list.name, &list.path, &reading, Some(rules as usize));
            match check_acceptance(&new, &list.before, &plan.limits, list.released) {
                Ok(()) => {
                    let loaded = list.loaded(protected_names, &reading, rules);
                    Ok((amendment, loaded))
                }
                Err(held) => Err(held.into()),
            }
        }
    };
    write(plan, list, &images, result).map(Some)
}

/// Reads the zone to its end. `None` if too much differs.
fn compare<'i>(
    mut comparison: Comparison<'i>,
    (list, transfer): (&PlanList, &TransferPlan),
    arrivals: &Arrivals,
    protected_names: &ProtectedNames,
    reporter: &mut Reporter<impl FnMut(Event)>,
) -> Result<Option<(Comparison<'i>, Reading)>, Refusal> {
    let mut zone = SpoolReading::open(list, transfer, arrivals, protected_names)?;
    let mut next = 0;
    while zone.read(&mut |rule: ParsedRule<'_>| comparison.add(rule))? {
        if comparison.is_too_different() {
            return Ok(None);
        }
        if zone.bytes() >= next {
            next = zone.bytes() + READ_STEP;
            reporter.report(Event::Reading {
                list: list.name.clone(),
                bytes: zone.bytes(),
                of: u64::MAX,
            });
        }
    }
    let reading = zone.finish(&mut |rule: ParsedRule<'_>| comparison.add(rule))?;
    Ok(Some((comparison, reading)))
}

/// Writes the amendment, or one without changes if the zone is refused.
fn write(
    plan: &Plan,
    list: &PlanList,
    images: &Images,
    result: Result<(Amendment, Loaded), Refusal>,
) -> Result<Outcome, CompileError> {
    let of = |name: &str| images.find(name).map_or(0, |(_, source)| source.rules);
    let mut outcome = Outcome {
        amends: true,
        lists: Vec::new(),
        ..Outcome::default()
    };
    let (amendment, source, notes, refused) = match result {
        Ok((amendment, loaded)) => {
            let notes = list.notes(&loaded);
            let source = provenance::image_source(&list.name, &list.path, &loaded, &notes);
            (amendment, source, Some(notes), None)
        }
        Err(refusal) => {
            let source = ImageSource::named(&list.name);
            (
                Amendment::default(),
                source,
                None,
                Some(Refused::from(&refusal)),
            )
        }
    };
    let image = amendment.image(images, source)?;
    let bytes = image.bytes();
    let written = replace_unsynced(&plan.out, bytes, Access::Umask);
    written.map_err(|error| CompileError::Write {
        path: plan.out.clone(),
        source: error.source,
    })?;
    let own = image.provenance().sources.first();
    outcome.bytes = bytes.len() as u64;
    outcome.rules = image.facts().rules;
    for other in &plan.lists {
        let is_own = other.name == list.name;
        let own_rules = own.filter(|_| is_own && notes.is_some());
        outcome.lists.push(ListOutcome {
            name: other.name.clone(),
            rules: own_rules.map_or_else(|| of(&other.name), |source| source.rules),
            notes: notes.clone().filter(|_| is_own),
            refused: refused.clone().filter(|_| is_own),
        });
    }
    Ok(outcome)
}
