//! Owns large lists on their way into force: which of them are read by a compiling process, and what
//! it comes to.
//! Refuses to read them itself: that would take the server's memory and time.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Content, List};
use crate::control::Control;
use crate::control::compile::child::{ChildError, Compiler};
use crate::control::compile::plan::{Event, Outcome, Plan, PlanList};

use super::queue::{NewBase, Wanted, want};
use crate::control::guard::policy::Rails;
use crate::control::guard::release::Guards;
use crate::control::persist::keeper::{Desk, Keeper};
use crate::control::persist::store::{ImageFileError, StoreError, read_image};
use crate::control::publish::provenance;
use crate::control::sources::lists::load::{Refusal, Signature};
use crate::control::sources::lists::state::ListState;
use crate::control::sources::lists::state::carries;
use crate::policy::image::Image;
use crate::policy::image::provenance::ImageSource;
use crate::policy::images::Images;

/// A compilation that ended.
pub(crate) struct Compiled {
    pub(crate) wanted: Vec<Wanted>,
    pub(crate) moved: Vec<ImageSource>,
    pub(crate) result: Result<Base, CompileError>,
}

/// What a compilation made.
pub(crate) struct Base {
    pub(crate) image: Arc<Image>,
    /// Its file, which has no number yet.
    pub(crate) place: PathBuf,
    pub(crate) outcome: Outcome,
}

/// Why a compilation made nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompileError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Child(#[from] ChildError),
    #[error(transparent)]
    Image(#[from] ImageFileError),
    #[error("this program can't find itself, to start the compiler: {0}")]
    Program(#[from] std::io::Error),
    #[error("compiling broke off inside tapis, which is a bug; please report it")]
    Broken,
}

impl CompileError {
    /// Whether the system may let the same be done later.
    fn passes(&self) -> bool {
        match self {
            Self::Store(_) | Self::Image(_) | Self::Program(_) => true,
            Self::Child(error) => error.is_of_system(),
            Self::Broken => false,
        }
    }
}

/// All that a compilation needs to know.
pub(crate) struct Job {
    pub(crate) keeper: Keeper,
    pub(crate) patience: Duration,
    /// The images in force; the delta only if it is to be relieved.
    pub(crate) images: Images,
    /// The lists of the new base, in their order; those that are not wanted are carried over.
    pub(crate) lists: Vec<List>,
    pub(crate) wanted: Vec<Wanted>,
    /// What those are judged by.
    pub(crate) rails: Arc<Rails>,
    /// What the delta says of the lists that move from there into the base.
    pub(crate) moved: Vec<ImageSource>,
}

impl Job {
    /// Compiles.
    pub(crate) async fn run(self) -> Compiled {
        let result = self.compile().await;
        if let Err(error) = &result {
            // It may be for the base that rules were to be carried over from.
            let keeper = self.keeper.clone();
            let _ = tokio::task::spawn_blocking(move || keeper.distrust()).await;
            tracing::error!(%error, "nothing was compiled; what is in force stays");
        }
        Compiled {
            wanted: self.wanted,
            moved: self.moved,
            result,
        }
    }

    async fn compile(&self) -> Result<Base, CompileError> {
        let desk = self.desk(false).await?;
        let is_elsewhere = desk.is_elsewhere;
        match self.compile_at(desk).await {
            // The state directory's disk may be full.
            Err(CompileError::Child(error)) if error.is_of_system() && !is_elsewhere => {
                tracing::warn!(%error, "compiling elsewhere");
                let desk = self.desk(true).await?;
                self.compile_at(desk).await
            }
            ended => ended,
        }
    }

    async fn desk(&self, elsewhere: bool) -> Result<Desk, CompileError> {
        let (keeper, images) = (self.keeper.clone(), self.images.clone());
        let desk = tokio::task::spawn_blocking(move || keeper.desk(&images, elsewhere));
        Ok(desk.await.map_err(|_| CompileError::Broken)??)
    }

    async fn compile_at(&self, desk: Desk) -> Result<Base, CompileError> {
        let compiler = Compiler::own(self.patience)?;
        let (place, delta) = (desk.out.clone(), desk.delta.clone());
        let plan = self.plan(desk);
        let mut last = String::new();
        let progress = |event: Event| {
            if let Event::Reading { list, .. } = event
                && list != last
            {
                tracing::info!(list, "compiling");
                last = list;
            }
        };
        let outcome = compiler.compile(&plan, progress).await;
        if let Some(delta) = delta {
            // If it can't be removed, the next compilation tries again.
            let _ = std::fs::remove_file(delta);
        }
        let outcome = outcome?;
        let file = place.clone();
        let reading = tokio::task::spawn_blocking(move || read_image(&file));
        let image = reading.await.map_err(|_| CompileError::Broken)??;
        // Without a rule there was nothing to compile, or it is refused, which is logged by itself.
        if outcome.rules > 0 {
            tracing::info!(
                bytes = outcome.octets,
                rules = outcome.rules,
                seconds = outcome.seconds,
                peak_bytes = outcome.peak,
                "compiled"
            );
        }
        let image = Arc::new(image);
        Ok(Base {
            image,
            place,
            outcome,
        })
    }

    fn plan(&self, desk: Desk) -> Plan {
        let list = |list: &List| {
            let wanted = self
                .wanted
                .iter()
                .find(|wanted| wanted.config.source.name == list.source.name);
            let mut plan = PlanList::read(list);
            plan.read = wanted.is_some();
            plan.released = wanted.map_or(Guards::NONE, |wanted| wanted.released);
            plan.before = wanted.map_or(Vec::new(), |wanted| wanted.before.clone());
            if !plan.read {
                // For the record alone, which is JSON.
                plan.path = provenance::recorded(&plan.path);
            }
            plan
        };
        Plan {
            base: desk.base,
            delta: desk.delta,
            ..Plan::new(desk.out, self.lists.iter().map(list).collect(), &self.rails)
        }
    }
}

impl Control {
    /// Starts the compiler if large lists wait for it, or the delta is to be relieved, unless it runs
    /// or what it made last is not in force yet.
    pub(crate) fn start_compiling(&mut self) {
        // The next one carries over what the last one made, so that must be in force and kept.
        let unkept =
            self.persist.keeping || self.persist.unkept || self.persist.base_file.is_some();
        let nothing = self.compiler.wanted.is_empty() && !self.compiler.delta_is_full;
        // A rollback replaces the base that it would carry over.
        let rolling = self.rollback.rolling.is_some();
        if self.compiler.compiling || nothing || self.delta.joining || unkept || rolling {
            return;
        }
        self.reopen_staged();
        if self.compiler.base.is_some() {
            return;
        }
        let staged = |wanted: &Wanted| wanted.staged;
        let tickets: Vec<_> = self.all_lists().filter_map(|list| list.loading).collect();
        let awaited = |wanted: &Wanted| {
            tickets
                .iter()
                .any(|loading| loading.ticket == wanted.ticket)
        };
        let (wanted, gone) = std::mem::take(&mut self.compiler.wanted)
            .into_iter()
            .partition::<Vec<_>, _>(awaited);
        for wanted in gone {
            self.no_longer_awaited(wanted.ticket);
        }
        let any_staged = wanted.iter().any(staged);
        let (now, later) = wanted
            .into_iter()
            .partition(|wanted| staged(wanted) == any_staged);
        self.compiler.wanted = later;
        let job = self.job(now);
        if job.wanted.is_empty() && job.moved.is_empty() {
            return;
        }
        self.compiler.compiling = true;
        self.compiler.compiling_since = self.rollback.epoch;
        let send = self.compiler.compiled.0.clone();
        let (wanted, moved) = (job.wanted.clone(), job.moved.clone());
        let running = tokio::spawn(job.run());
        tokio::spawn(async move {
            let compiled = running.await.unwrap_or_else(|_| Compiled {
                wanted,
                moved,
                result: Err(CompileError::Broken),
            });
            // Nobody waits when the server ends.
            let _ = send.send(compiled).await;
        });
    }

    /// Lets large lists of a new configuration be compiled together: one that waits for another
    /// would wait in vain if that needed the compiler, too.
    fn reopen_staged(&mut self) {
        if !self.compiler.wanted.iter().any(|wanted| wanted.staged) {
            return;
        }
        let Some(old) = self.compiler.base.take_if(|base| base.staged) else {
            return;
        };
        for wanted in old.wanted {
            let fresh = self.stage.iter_mut().flat_map(|stage| &mut stage.fresh);
            let name = &wanted.config.source.name;
            let list = fresh
                .into_iter()
                .find(|list| list.name() == name && list.loading.is_none());
            if let Some(list) = list {
                self.compiler
                    .wanted
                    .push(want(list, self.requests.tickets.next(), true));
            }
        }
    }

    /// A compilation of these lists, and of all others that are in the base.
    pub(crate) fn job(&mut self, wanted: Vec<Wanted>) -> Job {
        let wants = |name: &str| {
            wanted
                .iter()
                .find(|wanted| wanted.config.source.name == name)
        };
        let mut lists: Vec<List> = wanted.iter().map(|wanted| wanted.config.clone()).collect();
        // Large lists come first, and alone: what keeps others from moving is not theirs.
        let moves = wanted.is_empty() && std::mem::take(&mut self.compiler.delta_is_full);
        let mut moved = Vec::new();
        for list in &self.lists.active {
            if wants(list.name()).is_some() {
                continue;
            }
            let file = list.config.content == Content::File;
            if self.publication.images.is_in_base(list.name()) {
                lists.push(list.config.clone());
            } else if let Some(source) = self.publication.images.in_delta(list.name())
                && moves
                && file
            {
                moved.push(source.clone());
                lists.push(list.config.clone());
            }
        }
        let staged = self
            .stage
            .iter()
            .filter(|_| wanted.iter().any(|wanted| wanted.staged));
        let rails = staged
            .map(|stage| &stage.rails)
            .next()
            .unwrap_or(&self.rails);
        Job {
            rails: Arc::clone(rails),
            keeper: self.persist.keeper.clone(),
            patience: self.configuration.boot.state.deadline,
            images: Images {
                base: self.publication.images.base.clone(),
                delta: self
                    .publication
                    .images
                    .delta
                    .clone()
                    .filter(|_| !moved.is_empty()),
                ..Images::default()
            },
            lists,
            wanted,
            moved,
        }
    }

    /// Takes what a compilation made to be joined with the small lists, or tells why there is none.
    pub(crate) fn land_compiled(&mut self, compiled: Compiled) {
        self.compiler.compiling = false;
        if self.compiler.compiling_since != self.rollback.epoch {
            // It is newer than what is held.
            for wanted in compiled.wanted {
                self.no_longer_awaited(wanted.ticket);
            }
            return;
        }
        let base = match compiled.result {
            Ok(base) => base,
            Err(error) => {
                if !compiled.moved.is_empty() {
                    self.stay_in_delta(&error);
                }
                for wanted in compiled.wanted {
                    let refusal = Refusal::NotCompiled {
                        path: wanted.config.source.path.clone(),
                        text: error.to_string(),
                        passes: error.passes(),
                    };
                    self.refuse(wanted.ticket, refusal);
                }
                return;
            }
        };
        let mut any = !compiled.moved.is_empty();
        for wanted in &compiled.wanted {
            let name = &wanted.config.source.name;
            let outcome = base
                .outcome
                .lists
                .iter()
                .find(|outcome| outcome.name == *name);
            let refused = outcome.and_then(|outcome| outcome.refused.clone());
            match refused {
                Some(refused) => self.refuse(wanted.ticket, refused.into()),
                None if self.all_lists().any(|list| carries(list, wanted.ticket)) => any = true,
                // The list is gone.
                None => self.no_longer_awaited(wanted.ticket),
            }
        }
        if !any {
            return;
        }
        let new = NewBase {
            staged: compiled.wanted.iter().any(|wanted| wanted.staged),
            wanted: compiled.wanted,
            moved: compiled.moved,
            base,
        };
        if new.staged {
            // Read, and in force with the configuration.
            self.settle_staged(&new);
        }
        self.compiler.base = Some(new);
    }

    fn settle_staged(&mut self, new: &NewBase) {
        for (wanted, loaded) in new.loaded() {
            let staged = self.stage.iter_mut().flat_map(|stage| &mut stage.fresh);
            let list = staged.into_iter().find(|list| carries(list, wanted.ticket));
            let Some(list) = list else { continue };
            crate::control::admin::report::log_load(list, Ok(&loaded));
            let name = list.name().to_owned();
            // It may have been small before.
            list.rules = None;
            list.settle(Ok(loaded), tokio::time::Instant::now());
            self.tell(wanted.ticket, |_| ());
            for waiting in self
                .requests
                .waiting
                .iter_mut()
                .filter(|waiting| waiting.staged)
            {
                waiting.report.loaded.push(name.clone());
            }
        }
    }

    /// Tells that a list's newest state is not taken.
    pub(crate) fn refuse(&mut self, ticket: u64, refusal: Refusal) {
        let staged = self.stage.iter_mut().flat_map(|stage| &mut stage.fresh);
        let mut lists = self.lists.active.iter_mut().chain(staged);
        let Some(list) = lists.find(|list| carries(list, ticket)) else {
            return self.no_longer_awaited(ticket);
        };
        crate::control::admin::report::log_load(list, Err(&refusal));
        let problem = format!("{}: {refusal}", list.name());
        // It is read again until it is quiet; once is enough to tell.
        let known = match refusal.waits_for_room() {
            true => list.is_refused_alike(&refusal),
            false => refusal.transient() && list.refused.is_some(),
        };
        let told = (!known).then(|| (format!("list {}", list.name()), refusal.to_string()));
        list.settle(Err(refusal), tokio::time::Instant::now());
        if let Some((what, problem)) = told {
            self.tell_refused(what, vec![problem]);
        }
        self.tell(ticket, |report| report.problems.push(problem.clone()));
    }
}

/// Whether a list is read by a process of its own.
pub(crate) fn is_large(list: &ListState) -> bool {
    is_large_file(list.looked())
}

/// The same, given its file as it was when it was looked at last.
pub(crate) fn is_large_file(file: Option<Signature>) -> bool {
    file.is_some_and(|file| file.size() > SMALL)
}

/// Octets of a list's file up to which the server reads it itself: that takes a few milliseconds
/// for each 100 kB.
const SMALL: u64 = 1 << 20;
