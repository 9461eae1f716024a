//! Large lists on their way through the compiler.
//!
//! ```text
//!             a large list changed,
//!             or the delta is full
//!   idle -----------------------------> compiling
//!    ^                                      |
//!    |     failed: the lists are refused    |
//!    +<-------------------------------------+
//!    |     compiled, but all lists that     |
//!    |     were read were rejected          |
//!    +<-------------------------------------+
//!    |                                      | compiled
//!    |                                      v
//!    +------------------------------- base is ready
//!      joined with the small lists,         | further large lists of the same pending configuration:
//!      and kept in the state directory      +--> compiled once more, together
//! ```
//!
//! A rollback makes all of this outdated. If a compilation started before the rollback, its result is dropped.
//!
//! A zone is compiled while it arrives, which takes as long as its primary likes. So it is compiled alone, and gives way
//! if other lists wait: its compilation is cancelled, and starts again when all of the zone has arrived.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::job::{CompileError, Compiled, Job, NewBase};
use crate::config::List;
use crate::control::figures::Work;
use crate::control::guard::policy::GuardPolicy;
use crate::control::persist::image_store::ImageStore;
use crate::control::sources::feeds::spool::SpooledTransfer;
use crate::control::sources::lists::large::{Wanted, want};
use crate::control::sources::lists::load::Refusal;
use crate::control::sources::lists::reading::log_load;
use crate::control::sources::lists::state::{Tickets, has_load};
use crate::control::sources::lists::{ListSources, LoadResult};
use crate::policy::image::Image;
use crate::policy::image::provenance::ImageSource;
use crate::policy::images::Images;

/// When the compiler moves lists from the delta into the base.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeltaLimits {
    /// All lists, if the delta has at least this many rules. Joining this many rules takes about a third of a second.
    pub(crate) rules: u64,
    /// Only the lists that are amended, if the delta has at least this many rules and marks of them. They are copied twice
    /// for each change of a feed, and few changes should take much longer than the smallest one.
    pub(crate) amended: u64,
}

impl DeltaLimits {
    const USUAL: Self = Self {
        rules: 1 << 18,
        amended: 1 << 16,
    };
}

/// The lists of the delta that are to be moved into the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moves {
    None,
    Amended,
    All,
}

/// How long other lists wait for a zone that is still arriving.
const ARRIVAL_PATIENCE: Duration = Duration::from_secs(5);

/// The large lists that wait for the compiler, and its newest result.
pub(crate) struct CompileQueue {
    wanted: Vec<Wanted>,
    pub(crate) limits: DeltaLimits,
    moves: Moves,
    /// If the lists of the delta could not be moved into the base: the number of its rules then, and the reason.
    pub(crate) overfull: Option<(u64, String)>,
    progress: Progress,
    pub(crate) compiled: (mpsc::Sender<Compiled>, mpsc::Receiver<Compiled>),
    /// The new base, until it comes into force.
    pub(crate) base: Option<NewBase>,
    /// How often it compiled, and how long.
    pub(crate) work: Work,
}

/// The compilation under way.
#[derive(Debug)]
enum Progress {
    Idle,
    Compiling {
        /// The number of rollbacks when the compiler was started.
        epoch: u64,
        /// The zone that it reads while it arrives.
        transfer: Option<SpooledTransfer>,
        cancel: CancellationToken,
        since: Instant,
    },
}

impl Progress {
    /// Cancels the compilation if it reads a zone that is still arriving.
    fn give_way(&self) {
        if let Self::Compiling {
            transfer: Some(transfer),
            cancel,
            ..
        } = self
            && transfer.is_arriving()
        {
            cancel.cancel();
        }
    }
}

/// The inputs of a compilation from other components.
pub(crate) struct CompileInputs<'i> {
    /// The images in force.
    pub(crate) images: &'i Images,
    pub(crate) guard_policy: &'i Arc<GuardPolicy>,
    pub(crate) store: &'i ImageStore,
    /// How long the compiler may report nothing.
    pub(crate) deadline: Duration,
    /// The number of rollbacks so far.
    pub(crate) epoch: u64,
}

impl CompileQueue {
    pub(crate) fn new() -> Self {
        Self {
            wanted: Vec::new(),
            limits: DeltaLimits::USUAL,
            moves: Moves::None,
            overfull: None,
            progress: Progress::Idle,
            compiled: mpsc::channel(1),
            base: None,
            work: Work::default(),
        }
    }

    /// Whether the compiler runs, or its result is not in force yet.
    pub(crate) fn is_compiling(&self) -> bool {
        !matches!(self.progress, Progress::Idle) || self.base.is_some()
    }

    /// Adds large lists whose files have changed. They are compiled together.
    pub(crate) fn want(&mut self, lists: Vec<Wanted>) {
        self.wanted.extend(lists);
    }

    /// Drops the lists that wait, and the base that is ready. Returns the tickets of their loads.
    pub(crate) fn clear(&mut self) -> Vec<u64> {
        self.moves = Moves::None;
        let base = self.base.take();
        let based = base.into_iter().flat_map(|base| base.wanted);
        let wanted = std::mem::take(&mut self.wanted).into_iter().chain(based);
        wanted.map(|wanted| wanted.ticket).collect()
    }

    /// Drops a base with lists of a pending configuration, which was rejected or replaced.
    pub(crate) fn drop_pending_base(&mut self) {
        self.base.take_if(|base| base.for_pending);
    }

    /// Decides which lists of the delta are to be moved into the base.
    pub(crate) fn weigh_delta(&mut self, delta: Option<&Image>) {
        let rules = delta.map_or(0, |delta| delta.facts().rules);
        self.moves = if rules >= self.limits.rules {
            Moves::All
        } else if delta.map_or(0, amended_rules) >= self.limits.amended {
            Moves::Amended
        } else {
            self.overfull = None;
            Moves::None
        };
        let tried = self.overfull.as_ref().map_or(0, |(tried, _)| *tried);
        if rules < tried * 2 {
            self.moves = Moves::None;
        }
    }

    /// Starts the compiler, if lists wait for it and the last base that it made is in force. Returns the tickets of
    /// loads that are not needed any more.
    pub(crate) fn start(
        &mut self,
        lists: &mut ListSources,
        tickets: &mut Tickets,
        inputs: &CompileInputs<'_>,
    ) -> Vec<u64> {
        if let Progress::Compiling { .. } = self.progress {
            let mut waiting = self.wanted.iter().filter(|wanted| wanted.is_ready());
            if waiting.any(|wanted| wanted.since.elapsed() >= ARRIVAL_PATIENCE) {
                self.progress.give_way();
            }
            return Vec::new();
        }
        if !self.wanted.iter().any(Wanted::is_ready) && self.moves == Moves::None {
            return Vec::new();
        }
        self.reopen_pending(lists, tickets);
        if self.base.is_some() {
            return Vec::new();
        }
        let loading: Vec<_> = lists.all().filter_map(|list| list.loading).collect();
        let is_awaited = |wanted: &Wanted| {
            loading
                .iter()
                .any(|loading| loading.ticket == wanted.ticket)
        };
        let (wanted, gone) = std::mem::take(&mut self.wanted)
            .into_iter()
            .partition::<Vec<_>, _>(is_awaited);
        // Lists of a pending configuration are compiled first, and without others.
        let is_for_pending = wanted.iter().any(|wanted| wanted.for_pending);
        let (now, later) = wanted.into_iter().partition::<Vec<_>, _>(|wanted| {
            wanted.for_pending == is_for_pending && wanted.is_ready()
        });
        // The others must not wait for a zone that is still arriving.
        let (arriving, now): (Vec<_>, Vec<_>) = now.into_iter().partition(Wanted::is_arriving);
        let (now, rest) = match now.is_empty() {
            true => first_of(arriving),
            false => (now, arriving),
        };
        self.wanted = later;
        self.wanted.extend(rest);
        let job = self.job(lists, now, inputs);
        if !job.wanted.is_empty() || !job.moved.is_empty() {
            self.run(job, inputs.epoch);
        }
        gone.into_iter().map(|wanted| wanted.ticket).collect()
    }

    fn run(&mut self, job: Job, epoch: u64) {
        let cancel = CancellationToken::new();
        self.progress = Progress::Compiling {
            epoch,
            transfer: job.wanted.iter().find_map(|wanted| wanted.transfer.clone()),
            cancel: cancel.clone(),
            since: Instant::now(),
        };
        let send = self.compiled.0.clone();
        let (wanted, moved) = (job.wanted.clone(), job.moved.clone());
        let running = tokio::spawn(async move { cancel.run_until_cancelled(job.run()).await });
        tokio::spawn(async move {
            let failed = |error| Compiled {
                wanted,
                moved,
                result: Err(error),
            };
            let compiled = match running.await {
                Ok(Some(compiled)) => compiled,
                Ok(None) => failed(CompileError::GaveWay),
                Err(_) => failed(CompileError::Broken),
            };
            // At shutdown there is no receiver.
            let _ = send.send(compiled).await;
        });
    }

    /// Makes the next compilation include all large lists of a pending configuration. Otherwise a base with some of
    /// them would wait for the others, which wait for the compiler.
    fn reopen_pending(&mut self, lists: &mut ListSources, tickets: &mut Tickets) {
        if !self.wanted.iter().any(|wanted| wanted.for_pending) {
            return;
        }
        let Some(old) = self.base.take_if(|base| base.for_pending) else {
            return;
        };
        for wanted in old.wanted {
            let name = &wanted.config.source.name;
            let mut fresh = lists.pending_lists();
            let list = fresh.find(|list| list.name() == name && list.loading.is_none());
            if let Some(list) = list {
                self.wanted.push(want(list, tickets.next(), true));
            }
        }
    }

    /// A compilation of the wanted lists, and of all others that are in the base.
    pub(crate) fn job(
        &mut self,
        lists: &ListSources,
        wanted: Vec<Wanted>,
        inputs: &CompileInputs<'_>,
    ) -> Job {
        let is_wanted = |name: &str| {
            let mut wanted = wanted.iter();
            wanted.any(|wanted| wanted.config.source.name == name)
        };
        let mut all: Vec<List> = Vec::new();
        // Lists of the delta are moved only if no large list changed. Otherwise a failure to move them would make the
        // load of the changed list fail, too.
        let moves = match wanted.is_empty() {
            true => std::mem::replace(&mut self.moves, Moves::None),
            false => Moves::None,
        };
        let is_moved = |list: &List, source: &ImageSource| match moves {
            Moves::None => false,
            Moves::Amended => source.amends,
            Moves::All => list.content.embedded().is_none(),
        };
        let mut moved = Vec::new();
        for list in lists.active.iter().filter(|list| !is_wanted(list.name())) {
            let in_delta = inputs.images.in_delta(list.name());
            // Without its delta, a list that is amended keeps the rules that the old base has: the delta still amends
            // them in the new one.
            let is_in_base = inputs.images.is_in_base(list.name());
            if let Some(source) = in_delta.filter(|source| is_moved(&list.config, source)) {
                moved.push(source.clone());
                all.push(list.config.clone());
            } else if is_in_base {
                all.push(list.config.clone());
            }
        }
        // They are the last, so that patterns for which there is no room are theirs.
        all.extend(wanted.iter().map(|wanted| wanted.config.clone()));
        let is_for_pending = wanted.iter().any(|wanted| wanted.for_pending);
        let pending = lists.pending.as_ref().filter(|_| is_for_pending);
        let guard_policy = pending.map_or(inputs.guard_policy, |pending| &pending.guard_policy);
        let delta = inputs.images.delta.clone();
        Job {
            guard_policy: Arc::clone(guard_policy),
            store: inputs.store.clone(),
            patience: inputs.deadline,
            images: Images {
                base: inputs.images.base.clone(),
                delta: delta.filter(|_| !moved.is_empty()),
                ..Images::default()
            },
            lists: all,
            wanted,
            moved,
        }
    }

    /// Takes the result of a compilation: a base that is to be joined with the delta, which has `delta_rules` rules.
    /// Returns the results of the loads that end now. The others end when the base comes into force.
    pub(crate) fn finish(
        &mut self,
        compiled: Compiled,
        epoch: u64,
        lists: &mut ListSources,
        delta_rules: u64,
    ) -> Vec<LoadResult> {
        let ended = std::mem::replace(&mut self.progress, Progress::Idle);
        if let Progress::Compiling { since, .. } = ended {
            self.work.add(since.elapsed());
        }
        let gone = |wanted: &Wanted| LoadResult::Gone(wanted.ticket);
        if matches!(ended, Progress::Compiling { epoch: began, .. } if began != epoch) {
            return compiled.wanted.iter().map(gone).collect();
        }
        let base = match compiled.result {
            Ok(base) => base,
            Err(CompileError::GaveWay) => {
                let again = compiled.wanted.into_iter().map(|wanted| Wanted {
                    gave_way: true,
                    ..wanted
                });
                self.wanted.extend(again);
                return Vec::new();
            }
            Err(error) => {
                if !compiled.moved.is_empty() {
                    let why = format!("rules of the delta were not merged into the base: {error}");
                    self.overfull = Some((delta_rules, why));
                }
                let refused = |wanted: Wanted| {
                    let transfer = wanted.transfer.as_ref();
                    if let Some(zone) = transfer.and_then(SpooledTransfer::failed_zone) {
                        return LoadResult::Refused(wanted.ticket, Refusal::TransferFailed(zone));
                    }
                    let is_transferred = wanted.transfer.is_some();
                    let refusal = Refusal::NotCompiled {
                        path: wanted.config.source.path,
                        text: error.to_string(),
                        passes: error.passes() || is_transferred,
                        is_transferred,
                    };
                    LoadResult::Refused(wanted.ticket, refusal)
                };
                return compiled.wanted.into_iter().map(refused).collect();
            }
        };
        let mut results = Vec::new();
        let mut is_needed = !compiled.moved.is_empty();
        for wanted in &compiled.wanted {
            let name = &wanted.config.source.name;
            let mut outcomes = base.outcome.lists.iter();
            let outcome = outcomes.find(|outcome| outcome.name == *name);
            match outcome.and_then(|outcome| outcome.refused.clone()) {
                Some(refused) => {
                    let failed = wanted
                        .transfer
                        .as_ref()
                        .and_then(SpooledTransfer::failed_zone);
                    let refusal = failed.map_or_else(|| refused.into(), Refusal::TransferFailed);
                    results.push(LoadResult::Refused(wanted.ticket, refusal));
                }
                None if lists.all().any(|list| has_load(list, wanted.ticket)) => is_needed = true,
                None => results.push(gone(wanted)),
            }
        }
        if !is_needed {
            return results;
        }
        let new = NewBase {
            for_pending: compiled.wanted.iter().any(|wanted| wanted.for_pending),
            wanted: compiled.wanted,
            moved: compiled.moved,
            base,
        };
        if new.for_pending {
            results.extend(results_of_pending(lists, &new));
        }
        self.base = Some(new);
        results
    }
}

/// The number of rules and marks that a delta has of the lists that it amends.
fn amended_rules(delta: &Image) -> u64 {
    let sources = delta.provenance().sources.iter();
    let whole = sources.filter(|source| !source.amends);
    let whole = whole.map(|source| source.rules).sum();
    (delta.facts().given() as u64).saturating_sub(whole)
}

/// The first list, and the others.
fn first_of(mut lists: Vec<Wanted>) -> (Vec<Wanted>, Vec<Wanted>) {
    let rest = lists.split_off(lists.len().min(1));
    (lists, rest)
}

/// Marks the lists of a pending configuration as read; they come into force with it.
fn results_of_pending(lists: &mut ListSources, new: &NewBase) -> Vec<LoadResult> {
    let mut results = Vec::new();
    for (wanted, loaded) in new.loaded() {
        let mut pending = lists.pending_lists();
        let Some(list) = pending.find(|list| has_load(list, wanted.ticket)) else {
            continue;
        };
        log_load(list, &loaded);
        // It may have been small before.
        list.rules = None;
        list.finish_load(Ok(loaded), Instant::now());
        results.push(LoadResult::Pending {
            ticket: wanted.ticket,
            name: list.name().to_owned(),
        });
    }
    results
}
