//! Owns joining lists that were read with those that are in force, one image at a time.
//! Refuses to read files; and to put a new configuration in force before its lists are.

use std::sync::Arc;

use tokio::time::Instant;

use super::compiling::{CompileError, NewBase, Wanted};
use super::compose;
use super::errands::Errand;
use super::journal::entry::Cause;
use super::load::{Fresh, Refusal};
use super::notes;
use super::orders::book::Book;
use super::reload::{Control, carries};
use super::report;
use super::stage::Stage;
use super::start::broken;
use super::state::ListState;
use crate::config::shown::Show;
use crate::config::{Config, List};
use crate::policy::image::{Image, TooLarge};

/// Rules of the delta from which on the compiler moves its lists into the base: joining so many takes
/// about a third of a second.
const MOST: u64 = 1 << 18;

/// A list that was read.
pub(super) struct Ready {
    /// The number of the load.
    pub(super) ticket: u64,
    /// The list.
    pub(super) config: List,
    /// What was read.
    pub(super) fresh: Fresh,
}

/// Lists that were joined, and the configuration that brings some of them.
pub(super) struct Joined {
    ready: Vec<Ready>,
    base: Option<NewBase>,
    stage: Option<(Stage, Book)>,
    result: Result<Image, TooLarge>,
}

impl Control {
    /// Starts to join what is ready, unless that is under way.
    pub(super) fn start_joining(&mut self) {
        // A rollback under way drops a new configuration, or finds it in force.
        let rolling = self.rolling.is_some();
        if self.joining || !self.is_something_ready() {
            return;
        }
        self.joining = true;
        self.joining_since = self.epoch;
        let stage = self.stage.take_if(|stage| stage.is_ready() && !rolling);
        self.stage_joining = stage.is_some();
        let base = self.base.take_if(|base| !base.staged || stage.is_some());
        let (ready, kept) = self.parts(stage.as_ref(), base.as_ref());
        let delta = self.images.delta.clone();
        let known = Arc::clone(&self.calendar.book);
        if let Some(stage) = &stage {
            let Config {
                orders, exceptions, ..
            } = &stage.config;
            let folders = [&orders.dir, &exceptions.dir].into_iter().flatten();
            let folders: Vec<_> = folders.map(|dir| dir.shown().to_string()).collect();
            self.errands.note(Errand::Configure, folders.join(", "));
        }
        let send = self.joined.0.clone();
        let based = base.iter().flat_map(|base| &base.wanted);
        let based = based.map(|wanted| wanted.ticket);
        let tickets: Vec<_> = ready
            .iter()
            .map(|ready| ready.ticket)
            .chain(based)
            .collect();
        let joining = tokio::task::spawn_blocking(move || {
            let staged = stage.iter().flat_map(|stage| &stage.fresh);
            let staged = staged.filter_map(|list| {
                let source = notes::source(&list.config, list.loaded.as_ref()?);
                Some((list.rules.as_ref()?, source))
            });
            let fresh = ready.iter().map(|ready| {
                let Fresh { loaded, image } = &ready.fresh;
                (image, notes::source(&ready.config, loaded))
            });
            let fresh = fresh.chain(staged);
            let stays = |name: &str| kept.iter().any(|kept| kept == name);
            let result = compose::join(delta.as_deref(), stays, fresh);
            let stage = stage.map(|stage| {
                let mut book = Book::clone(&known);
                book.configure(&stage.config);
                book.check(&stage.rails);
                (stage, book)
            });
            Joined {
                ready,
                base,
                stage,
                result,
            }
        });
        tokio::spawn(async move {
            let joined = joining.await.map_err(|_| tickets);
            // Nobody waits when the server ends.
            let _ = send.send(joined).await;
        });
    }

    fn is_something_ready(&self) -> bool {
        let staged = self.rolling.is_none() && self.stage.as_ref().is_some_and(Stage::is_ready);
        let based = self.base.as_ref().is_some_and(|base| !base.staged);
        staged || based || !self.ready.is_empty()
    }

    /// The lists that are read and wanted, and the names of those that stay as they are.
    fn parts(
        &mut self,
        stage: Option<&Stage>,
        base: Option<&NewBase>,
    ) -> (Vec<Ready>, Vec<String>) {
        // A list that means something else by now is no longer what was compiled.
        let counts = |wanted: &Wanted| {
            let mut lists = self.lists.iter();
            wanted.staged || lists.any(|list| carries(list, wanted.ticket))
        };
        let based = base.iter().flat_map(|base| base.loaded());
        let based = based.filter(|(wanted, _)| counts(wanted));
        let based = based.map(|(wanted, _)| wanted.config.source.name.clone());
        // A list that has changed since it moved into the base stays before it.
        let moved = base.iter().flat_map(|base| &base.moved);
        let moved = moved.filter(|source| self.images.in_delta(&source.name) == Some(source));
        let based: Vec<_> = based
            .chain(moved.map(|source| source.name.clone()))
            .collect();
        let based = |name: &str| based.iter().any(|based| based == name);
        let replaced = |name: &str| {
            let fresh = stage.iter().flat_map(|stage| &stage.fresh);
            fresh.into_iter().any(|list| list.name() == name)
        };
        let (gone, ready) = std::mem::take(&mut self.ready)
            .into_iter()
            .partition::<Vec<_>, _>(|ready| replaced(&ready.config.source.name));
        for ready in gone {
            self.no_longer_awaited(ready.ticket);
        }
        let fresh = |name: &str| ready.iter().any(|ready| ready.config.source.name == name);
        let new = |name: &str| fresh(name) || replaced(name) || based(name);
        let names = self.lists.iter().map(ListState::name);
        let kept = names.filter(|name| !new(name)).map(str::to_owned).collect();
        (ready, kept)
    }

    /// Puts joined lists in force.
    pub(super) fn land_joined(&mut self, joined: Result<Joined, Vec<u64>>) {
        self.joining = false;
        self.stage_joining = false;
        self.errands.done(&Errand::Configure);
        let now = Instant::now();
        let joined = match joined {
            Ok(joined) => joined,
            Err(tickets) => return self.break_off(tickets),
        };
        if self.joining_since != self.epoch {
            // What was joined is newer than what is held: who waited for it was told. There is no
            // configuration in it, as nobody is heard while one is joined.
            return;
        }
        let image = match joined.result {
            Ok(image) => image,
            Err(error) => {
                let based = joined.base.into_iter().flat_map(|base| base.wanted);
                let based: Vec<_> = based.map(|wanted| wanted.ticket).collect();
                let staged = joined.stage.is_some();
                return self.refuse_joined(joined.ready, &based, staged, error);
            }
        };
        self.images.delta = Some(image.into());
        if let Some(base) = joined.base {
            self.take_base(base);
        }
        for ready in joined.ready {
            let Ready {
                ticket,
                config,
                fresh,
            } = ready;
            self.change(self.cause_of(ticket, &config.source.path));
            let name = config.source.name;
            if let Some(list) = self.lists.iter_mut().find(|list| carries(list, ticket)) {
                list.settle(Ok(fresh.loaded), now);
            }
            self.tell(ticket, |report| report.loaded.push(name.clone()));
        }
        if let Some((stage, book)) = joined.stage {
            self.take_stage(stage, book);
        }
        self.unkept = true;
        self.weigh_delta();
    }

    /// Joining broke off inside: what is in force stays, and nobody waits any more.
    fn break_off(&mut self, tickets: Vec<u64>) {
        for ticket in tickets {
            let list = self.lists.iter().find(|list| carries(list, ticket));
            match list.map(broken) {
                Some(refusal) => self.refuse(ticket, refusal),
                None => self.no_longer_awaited(ticket),
            }
        }
        if self.waiting.iter().any(|waiting| waiting.staged) && self.stage.is_none() {
            self.leave_stage(vec!["configuration not taken: joining broke off inside tapis, which is a bug; please report it".to_owned()]);
        }
    }

    /// Takes a new base.
    pub(super) fn take_base(&mut self, new: NewBase) {
        if !new.moved.is_empty() {
            self.change(Cause::Merge);
        }
        for (wanted, loaded) in new.loaded() {
            self.change(self.cause_of(wanted.ticket, &wanted.config.source.path));
            let name = wanted.config.source.name.clone();
            if let Some(list) = self
                .lists
                .iter_mut()
                .find(|list| carries(list, wanted.ticket))
            {
                report::log_load(list, Ok(&loaded));
                list.settle(Ok(loaded), Instant::now());
            }
            self.tell(wanted.ticket, |report| report.loaded.push(name.clone()));
        }
        self.images.base = Some(new.base.image);
        self.base_file = Some(new.base.place);
    }

    /// Looks whether the delta is to be relieved.
    pub(super) fn weigh_delta(&mut self) {
        let delta = self.images.delta.as_ref();
        let rules = delta.map_or(0, |delta| delta.facts().rules);
        if rules < MOST {
            self.overfull = None;
        }
        let tried = self.overfull.as_ref().map_or(0, |(tried, _)| *tried);
        self.delta_is_full = rules >= MOST.max(tried * 2);
    }

    /// The delta could not be relieved. It serves as it is, and what failed is tried again when it is
    /// twice as large.
    pub(super) fn stay_in_delta(&mut self, error: &CompileError) {
        let delta = self.images.delta.as_ref();
        let rules = delta.map_or(0, |delta| delta.facts().rules);
        self.overfull = Some((rules, format!("small lists were not merged: {error}")));
    }

    /// Takes a new configuration with its lists.
    fn take_stage(&mut self, stage: Stage, book: Book) {
        let rails = Arc::clone(&stage.rails);
        let (config, lists, gone) = stage.merge(std::mem::take(&mut self.lists));
        (self.config, self.lists) = (config, lists);
        self.take_rails(rails);
        self.calendar.configure(book);
        self.tell_book_problems();
        let wishes = self.waiting.iter().filter(|waiting| waiting.staged);
        let causes: Vec<_> = wishes.map(|waiting| waiting.cause.clone()).collect();
        causes.into_iter().for_each(|cause| self.change(cause));
        let problems = self.calendar.book.problems();
        for ticket in gone.iter().filter_map(|list| list.promised) {
            self.no_longer_awaited(ticket);
        }
        for waiting in self.waiting.iter_mut().filter(|waiting| waiting.staged) {
            waiting.staged = false;
            waiting.report.problems.extend(problems.iter().cloned());
        }
    }

    fn refuse_joined(&mut self, ready: Vec<Ready>, based: &[u64], staged: bool, source: TooLarge) {
        let tickets = ready.iter().map(|ready| ready.ticket);
        for ticket in tickets.chain(based.iter().copied()) {
            let list = self.lists.iter().find(|list| carries(list, ticket));
            let path = list.map_or_else(Default::default, |list| list.source.path.clone());
            self.refuse(ticket, Refusal::TooLarge { path, source });
        }
        if staged {
            self.leave_stage(vec![format!("configuration not taken: {source}")]);
        }
    }
}
