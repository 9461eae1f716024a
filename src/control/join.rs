//! Owns joining lists that were read with those that are in force, one image at a time.
//! Refuses to read files; and to put a new configuration in force before its lists are.

use tokio::time::Instant;

use super::compose;
use super::load::{Fresh, Refusal};
use super::reload::{Control, carries};
use super::stage::Stage;
use super::state::ListState;
use crate::policy::image::{Image, TooLarge};

/// A list that was read.
pub(super) struct Ready {
    /// The number of the load.
    pub(super) ticket: u64,
    /// The list's name.
    pub(super) list: String,
    /// What was read.
    pub(super) fresh: Fresh,
}

/// Lists that were joined, and the configuration that brings some of them.
pub(super) struct Joined {
    ready: Vec<Ready>,
    stage: Option<Stage>,
    result: Result<Image, TooLarge>,
}

impl Control {
    /// Starts to join what is ready, unless that is under way.
    pub(super) fn start_joining(&mut self) {
        if self.joining || !self.is_something_ready() {
            return;
        }
        self.joining = true;
        let stage = self.stage.take_if(|stage| stage.is_ready());
        let (ready, kept) = self.parts(stage.as_ref());
        let delta = self.images.delta.clone();
        let send = self.joined.0.clone();
        tokio::task::spawn_blocking(move || {
            let staged = stage.iter().flat_map(|stage| &stage.fresh);
            let staged = staged.filter_map(|list| list.rules.as_ref());
            let fresh = ready.iter().map(|ready| &ready.fresh.image).chain(staged);
            let stays = |name: &str| kept.iter().any(|kept| kept == name);
            let result = compose::join(delta.as_deref(), stays, fresh);
            // Nobody waits when the server ends.
            let _ = send.blocking_send(Joined {
                ready,
                stage,
                result,
            });
        });
    }

    fn is_something_ready(&self) -> bool {
        let staged = self.stage.as_ref().is_some_and(Stage::is_ready);
        staged || !self.ready.is_empty()
    }

    /// The lists that are read and wanted, and the names of those that stay as they are.
    fn parts(&mut self, stage: Option<&Stage>) -> (Vec<Ready>, Vec<String>) {
        let replaced = |name: &str| {
            let fresh = stage.iter().flat_map(|stage| &stage.fresh);
            fresh.into_iter().any(|list| list.name() == name)
        };
        let (gone, ready) = std::mem::take(&mut self.ready)
            .into_iter()
            .partition::<Vec<_>, _>(|ready| replaced(&ready.list));
        for ready in gone {
            self.no_longer_awaited(ready.ticket);
        }
        let new = |name: &str| ready.iter().any(|ready| ready.list == name) || replaced(name);
        let names = self.lists.iter().map(ListState::name);
        let kept = names.filter(|name| !new(name)).map(str::to_owned).collect();
        (ready, kept)
    }

    /// Puts joined lists in force.
    pub(super) fn land_joined(&mut self, joined: Joined) {
        self.joining = false;
        let now = Instant::now();
        let image = match joined.result {
            Ok(image) => image,
            Err(error) => return self.refuse_joined(joined.ready, joined.stage, error, now),
        };
        self.images.delta = Some(image.into());
        for ready in joined.ready {
            let Ready {
                ticket,
                list,
                fresh,
            } = ready;
            if let Some(list) = self.lists.iter_mut().find(|list| carries(list, ticket)) {
                list.settle(Ok(fresh.loaded), now);
            }
            self.tell(ticket, |report| report.loaded.push(list.clone()));
        }
        if let Some(stage) = joined.stage {
            self.take_stage(stage);
        }
        self.unpublished = true;
    }

    /// Takes a new configuration with its lists.
    fn take_stage(&mut self, stage: Stage) {
        let (config, lists, gone) = stage.merge(std::mem::take(&mut self.lists));
        (self.config, self.lists) = (config, lists);
        for ticket in gone.iter().filter_map(|list| list.promised) {
            self.no_longer_awaited(ticket);
        }
        for waiting in self.waiting.iter_mut().filter(|waiting| waiting.staged) {
            waiting.staged = false;
        }
    }

    fn refuse_joined(
        &mut self,
        ready: Vec<Ready>,
        stage: Option<Stage>,
        source: TooLarge,
        now: Instant,
    ) {
        for Ready { ticket, list, .. } in ready {
            let mut problem = format!("{list}: {source}");
            if let Some(list) = self.lists.iter_mut().find(|list| carries(list, ticket)) {
                let path = list.source.path.clone();
                let refusal = Refusal::TooLarge { path, source };
                tracing::error!(list = list.name(), %refusal, "list refused");
                problem = format!("{}: {refusal}", list.name());
                list.settle(Err(refusal), now);
            }
            self.tell(ticket, |report| report.problems.push(problem.clone()));
        }
        if stage.is_some() {
            self.leave_stage(vec![format!("configuration not taken: {source}")]);
        }
    }
}
