//! Rollbacks and their releases, as they concern lists, the compiler, and a pending configuration.

use std::path::PathBuf;

use tokio::sync::oneshot;

use crate::control::Control;
use crate::control::admin::preparing::Prepared;
use crate::control::admin::requests::{OpenRequest, RollbackWaiter};
use crate::control::admin::status::{ReloadReport, ReloadRequest, RollbackRequest};
use crate::control::journal::entry::Cause;
use crate::control::rollback::record::RollbackRecord;
use crate::control::rollback::restore::{are_same, loaded};
use crate::control::rollback::state::{Composition, PreparedRollback, RollbackFiles};
use crate::control::sources::files::Files;
use crate::control::sources::lists::held;
use crate::control::sources::lists::load::Refusal;
use crate::control::sources::pending::PendingConfig;
use crate::policy::images::Images;

impl Control {
    /// Holds the lists of an earlier generation, or releases them. The files of the state directory are read and written
    /// on another thread; requests that arrive meanwhile wait.
    pub(crate) fn roll_back(
        &mut self,
        request: RollbackRequest,
        cause: Cause,
        reply: oneshot::Sender<ReloadReport>,
        prepared: Option<Box<Prepared>>,
    ) {
        let mut waiting = OpenRequest::new(cause, Some(reply));
        let started = match request.generation {
            Some(generation) => self.state_dir().map(|dir| {
                let composition = self.composition(dir);
                self.rollback.start(generation, composition);
            }),
            None if self.rollback.record.is_none() => Err("no lists are held".to_owned()),
            None => self.state_dir().map(|dir| self.rollback.start_release(dir)),
        };
        if let Err(problem) = started {
            waiting.report.problems.push(problem);
            self.requests.add(waiting);
            return;
        }
        self.requests
            .await_rollback(RollbackWaiter { waiting, prepared });
    }

    fn state_dir(&self) -> Result<PathBuf, String> {
        let dir = self.configuration.boot.state.dir.clone();
        dir.ok_or_else(|| "no generation is kept without a `dir` in [state]".to_owned())
    }

    fn composition(&self, dir: PathBuf) -> Composition {
        let lists = self.lists.active.iter();
        let before = self.rollback.record.as_ref().map(|record| &record.accepted);
        Composition {
            dir,
            journal: self.configuration.boot.journal.path.clone(),
            store: self.persist.store.clone(),
            lists: lists.map(|list| list.config.clone()).collect(),
            accepted: held::accepted(&self.lists.active, before),
            in_force: self.images_in_force(),
            // The rollback gets this generation number or a later one, as changes of orders may publish generations
            // before it. Images are not written meanwhile, so stored images with this number or a later one are those
            // of the rollback.
            first: self
                .publication
                .next_generation(self.record.journal.last_generation()),
        }
    }

    /// Finishes a rollback or a release whose files have been read and written; `None` if that panicked.
    pub(crate) fn finish_rollback_files(&mut self, files: Option<RollbackFiles>) {
        if let Some(RollbackFiles::Written(Ok(held))) = &files
            && !are_same(&held.in_force, &self.images_in_force())
        {
            self.rollback.want_again(held.record.generation);
            return self.roll_back_again();
        }
        self.rollback.finish();
        let Some(waiter) = self.requests.take_rollback() else {
            return;
        };
        let RollbackWaiter {
            mut waiting,
            prepared,
        } = waiter;
        match files {
            Some(RollbackFiles::Written(Ok(held))) => self.adopt_rollback(*held, &mut waiting),
            Some(RollbackFiles::Released(Ok(()))) => {
                if let Some(prepared) = prepared {
                    self.release(&mut waiting, *prepared);
                }
            }
            Some(RollbackFiles::Written(Err(problem)) | RollbackFiles::Released(Err(problem))) => {
                waiting.report.problems.push(problem);
            }
            None => {
                let ended = match prepared {
                    Some(_) => "not released now, but the lists may follow their files",
                    None => "not rolled back now, but the rollback may take effect",
                };
                waiting.report.problems.push(format!(
                    "{ended} after a restart: reading or writing its files failed inside tapis, which is a bug; \
                     please report it"
                ));
            }
        }
        self.requests.add(waiting);
    }

    /// Composes the images of a rollback again, if lists changed during the composition and none is being joined now.
    pub(crate) fn roll_back_again(&mut self) {
        let again = self
            .rollback
            .due_again()
            .filter(|_| !self.delta.is_joining());
        let (Some(generation), Ok(dir)) = (again, self.state_dir()) else {
            return;
        };
        let composition = self.composition(dir);
        self.rollback.start_again(generation, composition);
    }

    fn adopt_rollback(&mut self, held: PreparedRollback, waiting: &mut OpenRequest) {
        let PreparedRollback { images, record, .. } = held;
        let generation = record.generation;
        let problems = &mut waiting.report.problems;
        problems.extend(record.unrestored.iter().cloned());
        self.drop_newer(&record);
        self.rollback.adopt(record);
        self.restore_images(images);
        self.refuse_updates_of_held_lists();
        let tickets = &mut self.requests.tickets;
        let (requested, gone) = held::request_others(&mut self.lists.active, tickets);
        waiting.tickets.extend(requested);
        self.dismiss_loads(gone);
        self.persist.mark_dirty();
        self.publication.change(waiting.cause.clone());
        tracing::warn!(generation, "lists are held");
    }

    /// Drops all loads that have not come into force. Those that are being joined or compiled are dropped when they end.
    fn drop_newer(&mut self, record: &RollbackRecord) {
        if let Some(pending) = self.lists.pending.take() {
            self.keep_without_lists(pending, record);
        }
        let tickets = self.compiler.clear().into_iter().chain(self.delta.clear());
        // Loads of lists in force are not dismissed here: those of held lists are refused, with the reason, and the
        // others are requested again.
        let gone = tickets.filter(|ticket| self.lists.with_load(*ticket).is_none());
        self.dismiss_loads(gone.collect::<Vec<_>>());
        // The file belongs to a base that is no longer in force.
        self.persist.drop_base_file();
    }

    /// Keeps a pending configuration, but with the lists in force.
    fn keep_without_lists(&mut self, pending: PendingConfig, record: &RollbackRecord) {
        self.compiler.drop_pending_base();
        let (config, problem) = self.without_held(pending.config, record);
        let is_other = config != self.configuration.current;
        for open in self.requests.awaiting_pending() {
            open.report.problems.extend(problem.clone());
            open.awaits_pending = is_other;
        }
        self.report_held_back(problem);
        if is_other {
            // All of its lists are in force, so it needs no files of lists.
            self.lists.pending = Some(PendingConfig::new(
                config,
                (pending.guard_policy, pending.local),
                pending.change,
                &self.lists.active,
                &Files::new(),
            ));
        }
    }

    /// Adopts restored images, and the facts about lists in them.
    pub(crate) fn restore_images(&mut self, images: Images) {
        let record = self.rollback.record.as_ref();
        let names = record.map_or(&[][..], |record| &record.lists);
        held::restore(&mut self.lists.active, names, |list| loaded(&images, list));
        self.publication.set_images(images);
    }

    /// Refuses newer states of the held lists. The refusals are reported, and no request waits for these lists.
    pub(crate) fn refuse_updates_of_held_lists(&mut self) {
        let Some(generation) = self.rollback.held_as() else {
            return;
        };
        let tickets = &mut self.requests.tickets;
        for ticket in held::start_refusals(&mut self.lists.active, tickets) {
            self.refuse(ticket, Refusal::RolledBack { generation });
        }
    }

    fn release(&mut self, waiting: &mut OpenRequest, prepared: Prepared) {
        let record = self.rollback.release();
        let generation = record.as_ref().map(|record| record.generation);
        tracing::info!(generation, "lists follow their files again");
        let requested = held::release(
            &mut self.lists.active,
            record.map_or_else(Default::default, |record| record.accepted),
            &self.guard_policy,
            &mut self.requests.tickets,
        );
        waiting.tickets.extend(requested);
        self.publication.change(waiting.cause.clone());
        // Lists of a new configuration have been waiting for this.
        let Prepared { newest, files, .. } = prepared;
        self.reconfigure(&ReloadRequest::default(), waiting, newest, &files);
    }
}
