//! Compiles a plan: reads and sorts its lists, merges them with older images, and writes the new one.

use std::io::{self, BufWriter};

use jiff::Timestamp;
use tokio::time::Instant;

use super::arrival::Arrivals;
use super::carried::Old;
use super::error::CompileError;
use super::merge::{Merge, MergeError};
use super::plan::{Event, ListOutcome, Outcome, Plan, PlanList};
use super::rss::{Peak, Reporter};
use super::rules::{ListRules, Stopped};
use super::sort::{Budget, Sorted, Sorter};
use super::state::{ListState, refuse_by_patterns};
use super::transferred::read_transfer;
use crate::config::Format;
use crate::config::paths::recorded;
use crate::control::guard::acceptance::{NewState, check_acceptance, released_before};
use crate::control::guard::policy::digest;
use crate::control::guard::protected::ProtectedNames;
use crate::control::guard::reading::{Reading, read_list};
use crate::control::list_file::parse::ParsedRule;
use crate::control::persist::durable::{Access, DurableError, NewFile, directory_of};
use crate::control::persist::list_notes::ListNotes;
use crate::control::sources::lists::load::{Loaded, Refusal, check_copy};
use crate::control::sources::lists::provenance;
use crate::policy::image::clauses::ClausesBuilder;
use crate::policy::image::path::Key;
use crate::policy::image::provenance::{ImageSource, Provenance};
use crate::policy::image::triggers::Triggers;
use crate::policy::image::values::SOURCES;
use crate::policy::image::writer::Writer;
use crate::policy::image::{TooLarge, WriteError};

/// Bytes that are read between two reports.
const READ_STEP: u64 = 4 << 20;
/// Names that are written between two reports.
const WRITE_STEP: u64 = 1 << 16;
/// Bytes that are written at a time.
const WRITE_PIECE: usize = 256 << 10;

/// Compiles a plan and reports the progress.
///
/// # Errors
/// [`CompileError`]; then the previous file is unchanged.
pub fn compile(plan: &Plan, progress: impl FnMut(Event)) -> Result<Outcome, CompileError> {
    compile_arriving(plan, &Arrivals::default(), progress)
}

/// Like [`compile`], but reads the zones of the plan that are being transferred as they arrive.
///
/// # Errors
/// [`CompileError`]; then the previous file is unchanged.
pub fn compile_arriving(
    plan: &Plan,
    arrivals: &Arrivals,
    progress: impl FnMut(Event),
) -> Result<Outcome, CompileError> {
    let start = Instant::now();
    if plan.lists.len() > SOURCES {
        return Err(CompileError::Lists(plan.lists.len()));
    }
    let mut reporter = Reporter {
        progress,
        peak: Peak::default(),
    };
    let mut work = Work {
        plan,
        arrivals,
        protected_names: ProtectedNames::new(plan.protected_names.clone()),
        old: Old::open(plan)?,
        clauses: ClausesBuilder::of_sources(plan.lists.len()),
        triggers: Triggers::default(),
        states: Vec::new(),
    };
    let mut outcome = work.compile(&mut reporter)?;
    reporter.peak.measure();
    outcome.peak = reporter.peak.bytes();
    outcome.seconds = start.elapsed().as_secs_f64();
    Ok(outcome)
}

/// A compilation in progress.
struct Work<'p> {
    plan: &'p Plan,
    arrivals: &'p Arrivals,
    protected_names: ProtectedNames,
    old: Old,
    /// The clauses of the new image. For each list, the clause with the default effect has the same number as the list.
    clauses: ClausesBuilder,
    /// The rules on networks of the lists that were read.
    triggers: Triggers,
    /// In the order of the plan's lists.
    states: Vec<ListState>,
}

impl Work<'_> {
    fn compile(
        &mut self,
        reporter: &mut Reporter<impl FnMut(Event)>,
    ) -> Result<Outcome, CompileError> {
        let key = self.old.key();
        let carried = self.plan.lists.iter().filter(|list| !list.read);
        let mut missing = carried.filter(|list| self.old.source(&list.name).is_none());
        if let Some(list) = missing.next() {
            return Err(CompileError::NowhereElse(list.name.clone()));
        }
        let sorted = self.read(&key, reporter)?;
        // Some lists can be refused only after their rules were counted. The image is then written again without these
        // rules.
        loop {
            if let Some(outcome) = self.write(&key, &sorted, reporter)? {
                return Ok(outcome);
            }
        }
    }

    /// Reads and sorts the lists.
    fn read(
        &mut self,
        key: &Key,
        reporter: &mut Reporter<impl FnMut(Event)>,
    ) -> Result<Sorted, CompileError> {
        let folder = directory_of(&self.plan.out);
        let unsorted = |source| CompileError::Sort {
            path: folder.to_owned(),
            source,
        };
        let mut sorter = Sorter::new(key.clone(), Budget::USUAL, folder).map_err(unsorted)?;
        for (number, list) in self.plan.lists.iter().enumerate() {
            let state = if list.read {
                match self.read_list(number as u16, list, &mut sorter, reporter) {
                    Ok(reading) => ListState::Read(Box::new(reading.map_err(unsorted)?)),
                    Err(refusal) => ListState::Refused(refusal),
                }
            } else {
                ListState::Carried
            };
            self.states.push(state);
        }
        let index = |name: &str| self.plan.lists.iter().position(|list| list.name == name);
        let number = |name: &str| index(name).map(|index| index as u16);
        let clauses = self.old.delta_clauses(number, &mut self.clauses);
        let clauses = clauses.map_err(CompileError::TooLarge)?;
        let damage = self
            .old
            .changes(&clauses, |name, change| sorter.push(name, change));
        if let Some(source) = damage.map_err(unsorted)? {
            return Err(CompileError::Damaged {
                path: self.plan.delta.clone().unwrap_or_default(),
                source,
            });
        }
        let sorted = sorter.finish().map_err(unsorted)?;
        reporter.peak.measure();
        Ok(sorted)
    }

    fn read_list(
        &mut self,
        source: u16,
        list: &PlanList,
        sorter: &mut Sorter<'_>,
        reporter: &mut Reporter<impl FnMut(Event)>,
    ) -> Result<io::Result<Reading>, Refusal> {
        let (clauses, triggers) = (&mut self.clauses, &mut self.triggers);
        let mut rules = ListRules::new(source, sorter, clauses, triggers);
        let mut next = 0;
        let mut progress = |bytes, of| {
            if bytes >= next || bytes == of {
                next = bytes + READ_STEP;
                let list = list.name.clone();
                reporter.report(Event::Reading { list, bytes, of });
            }
        };
        let notation = (list.notation(), list.apex.as_ref());
        let text = list.text.as_deref();
        let protected_names = (&self.protected_names, list.into());
        let rule = |rule: ParsedRule<'_>| rules.add(rule);
        let reading = match &list.transfer {
            Some(transfer) => {
                let progress = |bytes| progress(bytes, u64::MAX);
                let arrivals = self.arrivals;
                read_transfer(
                    &list.name,
                    transfer,
                    arrivals,
                    protected_names,
                    rule,
                    progress,
                )?
            }
            None => {
                let protected_names = Some(protected_names);
                read_list(&list.path, text, notation, protected_names, rule, progress)?
            }
        };
        check_copy(list.is_copy, &list.path, &reading)?;
        let sorted = match rules.finish() {
            Err(Stopped::TooLarge(source)) => {
                let path = list.path.clone();
                return Err(Refusal::TooLarge { path, source });
            }
            Err(Stopped::Sort(error)) => Err(error),
            Ok(()) => Ok(reading),
        };
        let Ok(reading) = &sorted else {
            return Ok(sorted);
        };
        // The number of distinct rules is not known yet.
        let new = NewState::new(&list.name, &list.path, reading, None);
        let (before, limits) = (&list.before, &self.plan.limits);
        check_acceptance(&new, before, limits, list.released)?;
        Ok(sorted)
    }

    /// Writes the sorted rules and those carried over. `None` if the number of a list's rules violates its limits, or there is
    /// no room for its patterns: then the image is to be written again without them.
    fn write(
        &mut self,
        key: &Key,
        sorted: &Sorted,
        reporter: &mut Reporter<impl FnMut(Event)>,
    ) -> Result<Option<Outcome>, CompileError> {
        let plan = self.plan;
        let unwritten = |source| CompileError::Write {
            path: plan.out.clone(),
            source,
        };
        let failed = |error| match error {
            WriteError::TooLarge(error) => CompileError::TooLarge(error),
            WriteError::Io(source) => unwritten(source),
        };
        let mut pairs = sorted.pairs.clone();
        pairs.add(&self.old.pair_histogram());
        let undurable = |error: DurableError| unwritten(error.source);
        let target = NewFile::create(&plan.out, Access::Umask).map_err(undurable)?;
        let file = BufWriter::with_capacity(WRITE_PIECE, target.file());
        let of: u64 = self.given();
        let mut names = 0;
        let left_out: Vec<_> = self.states.iter().map(|state| !state.counts()).collect();
        let mut clauses = self.clauses.clone();
        for (number, (list, state)) in (0..).zip(self.states()) {
            let is_amendable = match state.counts() {
                true => list.format == Format::Rpz,
                false => (self.old.source(&list.name)).is_some_and(|source| source.amendable),
            };
            if is_amendable {
                clauses.set_amendable(number);
            }
        }
        let carried = self
            .old
            .carried(|name| self.carried_number(name), &mut clauses);
        let carried = carried.map_err(CompileError::TooLarge)?;
        let triggers = self.triggers_to_write(&mut clauses);
        let triggers = triggers.map_err(CompileError::TooLarge)?;
        let sources = clauses.table().iter();
        let sources: Vec<_> = sources.map(|(clause, _)| clause.source).collect();
        let with_patterns = self.triggers.pattern_clauses();
        let with_patterns = with_patterns
            .map(|clause| sources[clause as usize])
            .collect();
        let mut writer = Writer::new(file, key.clone(), pairs, clauses).map_err(failed)?;
        let named = |source: u16| &*plan.lists[usize::from(source)].name;
        match writer.add_triggers(triggers, named) {
            Err(WriteError::TooLarge(error))
                if refuse_by_patterns(&plan.lists, &mut self.states, &with_patterns, &error) =>
            {
                return Ok(None);
            }
            added => added.map_err(failed)?,
        }
        let merge = Merge::new(key, sorted.runs(), carried, &sources, &left_out);
        let counts = merge.and_then(|merge| {
            merge.each(|path, rules| {
                if names % WRITE_STEP == 0 {
                    reporter.report(Event::Writing { names, of });
                }
                names += 1;
                writer.push(path, rules)
            })
        });
        let mut counts = counts.map_err(|error| match error {
            MergeError::Write(error) => failed(error),
            MergeError::Run(source) => CompileError::Sort {
                path: directory_of(&plan.out).to_owned(),
                source,
            },
            MergeError::Image(source) => CompileError::Damaged {
                path: plan.base.clone().unwrap_or_default(),
                source,
            },
        })?;
        for clause in self.triggers.clauses() {
            counts[usize::from(sources[clause as usize])] += 1;
        }
        reporter.report(Event::Writing { names, of });
        if self.refuse_by_rule_count(&counts) {
            return Ok(None);
        }
        let lists = self.outcomes(&counts);
        if plan.strict && lists.iter().any(|list| list.refused.is_some()) {
            return Err(CompileError::Refused(lists));
        }
        let (file, facts) = writer.finish(&self.provenance(&counts)).map_err(failed)?;
        let file = file.into_inner();
        let file = file.map_err(|error| unwritten(error.into_error()))?;
        let bytes = file.metadata().map_err(unwritten)?.len();
        target.commit().map_err(undurable)?;
        Ok(Some(Outcome {
            lists,
            bytes,
            given: of,
            rules: facts.rules,
            pruned: facts.pruned,
            ..Outcome::default()
        }))
    }

    /// The rules on networks and patterns that are carried over, and those on networks of the lists that were read.
    fn triggers_to_write(&self, clauses: &mut ClausesBuilder) -> Result<Triggers, TooLarge> {
        let number = |name: &str| self.carried_number(name);
        let mut triggers = self.old.carried_triggers(number, clauses)?;
        let table = clauses.table();
        triggers.carry(&self.triggers, |clause| {
            let source = usize::from(table.get(clause).source);
            Ok(self.states[source].counts().then_some(clause))
        })?;
        Ok(triggers)
    }

    /// Refuses lists with too few or too many rules. Returns whether there are any.
    fn refuse_by_rule_count(&mut self, counts: &[u64]) -> bool {
        let mut refused = false;
        for ((list, state), &count) in self.plan.lists.iter().zip(&mut self.states).zip(counts) {
            if let ListState::Read(reading) = state {
                let rules = Some(count as usize);
                let new = NewState::new(&list.name, &list.path, reading, rules);
                let (before, limits) = (&list.before, &self.plan.limits);
                if let Err(held) = check_acceptance(&new, before, limits, list.released) {
                    *state = ListState::Refused(held.into());
                    refused = true;
                }
            }
        }
        refused
    }

    fn states(&self) -> impl Iterator<Item = (&PlanList, &ListState)> {
        self.plan.lists.iter().zip(&self.states)
    }

    /// The number of a list whose rules are carried over.
    fn carried_number(&self, name: &str) -> Option<u16> {
        let index = self
            .states()
            .position(|(list, state)| list.name == name && !state.counts());
        index.map(|index| index as u16)
    }

    /// The largest number of rules that can be written.
    fn given(&self) -> u64 {
        let rules = self.states().map(|(list, state)| match state {
            ListState::Read(reading) => u64::from(reading.tally.rules),
            _ => self.old_rules(list),
        });
        rules.sum()
    }

    fn old_rules(&self, list: &PlanList) -> u64 {
        self.old.source(&list.name).map_or(0, |source| source.rules)
    }

    fn outcomes(&self, counts: &[u64]) -> Vec<ListOutcome> {
        let lists = self.states().zip(counts);
        let outcome = |((list, state), &count): ((&PlanList, &ListState), &u64)| {
            let (rules, notes, refused) = match state {
                ListState::Read(reading) => (
                    count,
                    Some(notes(list, &self.loaded(list, reading, count))),
                    None,
                ),
                ListState::Carried => (self.old_rules(list), None, None),
                ListState::Refused(refusal) => (self.old_rules(list), None, Some(refusal.into())),
            };
            ListOutcome {
                name: list.name.clone(),
                rules,
                notes,
                refused,
            }
        };
        lists.map(outcome).collect()
    }

    fn provenance(&self, counts: &[u64]) -> Provenance {
        let sources = self
            .states()
            .zip(counts)
            .map(|((list, state), &rules)| match state {
                ListState::Read(reading) => {
                    let loaded = self.loaded(list, reading, rules);
                    provenance::image_source(&list.name, &list.path, &loaded, &notes(list, &loaded))
                }
                _ => match self.old.source(&list.name) {
                    Some(source) => ImageSource {
                        amends: false,
                        ..source.clone()
                    },
                    None => ImageSource {
                        path: recorded(&list.path),
                        ..ImageSource::named(&list.name)
                    },
                },
            });
        Provenance {
            made_by: env!("CARGO_PKG_VERSION").to_owned(),
            made_at: Timestamp::now(),
            sources: sources.collect(),
        }
    }

    fn loaded(&self, list: &PlanList, reading: &Reading, rules: u64) -> Loaded {
        let allow = self.protected_names.allow_digest();
        let protected_names = digest(&self.protected_names, &allow, list.into());
        Loaded {
            rules: rules as usize,
            tally: reading.tally.clone(),
            digest: reading.digest.to_string(),
            signature: reading.signature,
            at: reading.at,
            took: reading.took,
            protected_names: protected_names.into_owned(),
            released: list
                .released
                .and(released_before(&list.before, reading.signature)),
        }
    }
}

fn notes(list: &PlanList, loaded: &Loaded) -> ListNotes {
    provenance::notes(list.notation(), list.kind, loaded)
}
