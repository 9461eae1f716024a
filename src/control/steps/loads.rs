//! The end of a load: it is refused, or comes into force with a new generation.

use std::collections::HashSet;
use std::path::Path;
use std::time::Instant;

use crate::config::paths::legible;
use crate::control::Control;
use crate::control::compile::job::NewBase;
use crate::control::compile::queue::CompileInputs;
use crate::control::journal::entry::Cause;
use crate::control::publish::compose;
use crate::control::publish::delta::{Joined, RollbackState};
use crate::control::publish::record::NextGeneration;
use crate::control::sources::downloads::verdict::Verdict;
use crate::control::sources::feeds::delivery::Undelivered;
use crate::control::sources::feeds::running::Waiting;
use crate::control::sources::lists::load::{Loaded, Refusal};
use crate::control::sources::lists::reading::{ReadyList, broken, log_load};
use crate::control::sources::lists::state::ListState;
use crate::control::sources::lists::{LoadResult, Refused};
use crate::policy::image::TooLarge;
use crate::policy::images::Images;
use crate::policy::rule::Source;

impl Control {
    /// Passes the result of a load on to the components that wait for it.
    pub(crate) fn finish_load(&mut self, result: LoadResult) {
        match result {
            LoadResult::Gone(ticket) => self.dismiss_loads([ticket]),
            LoadResult::Refused(ticket, refusal) => self.refuse(ticket, refusal),
            LoadResult::Ready(ready) => self.delta.add(*ready),
            LoadResult::Pending { ticket, name } => {
                self.requests.report_pending_load(ticket, &name);
            }
        }
    }

    /// Refuses the newest state of a list: the last good one stays in force.
    pub(crate) fn refuse(&mut self, ticket: u64, refusal: Refusal) {
        let fault = refusal.fault();
        let verdict = Verdict::from(&refusal);
        let Some(refused) = self.lists.refuse(ticket, refusal) else {
            return self.dismiss_loads([ticket]);
        };
        let Refused {
            list,
            label,
            why,
            record,
        } = refused;
        if let Some(record) = record {
            self.record.refused(label, vec![record]);
        }
        let undelivered = match fault {
            Some(fault) => Undelivered::Faulty(fault, why.clone()),
            None => Undelivered::Held(why.clone()),
        };
        self.downloads.finish(ticket, &list, verdict);
        self.feeds.finish(ticket, Err(undelivered));
        let problem = format!("{list}: {why}");
        self.requests
            .report_load(ticket, |report| report.problems.push(problem.clone()));
    }

    fn refuse_too_large(&mut self, ticket: u64, source: TooLarge) {
        let list = self.lists.with_load(ticket);
        let path = list.map_or_else(Default::default, |list| list.source.path.clone());
        self.refuse(ticket, Refusal::TooLarge { path, source });
    }

    /// Starts the compiler if large lists wait for it.
    pub(crate) fn start_compiling(&mut self) {
        // The next compilation carries rules over from the last base, so the last base must be in force and on the disk
        // first. A rollback that is under way will replace that base.
        if !self.persist.is_written() || self.delta.is_joining() || self.rollback.is_running() {
            return;
        }
        let inputs = CompileInputs {
            images: self.publication.images(),
            guard_policy: &self.guard_policy,
            store: &self.persist.store,
            deadline: self.configuration.boot.state.deadline,
            epoch: self.rollback.epoch,
        };
        let gone = self
            .compiler
            .start(&mut self.lists, &mut self.requests.tickets, &inputs);
        self.dismiss_loads(gone);
    }

    /// Starts to join the lists that are ready.
    pub(crate) fn start_joining(&mut self) {
        if !self.rollback.allows_changes() {
            return;
        }
        let gone = self.delta.start(
            &mut self.lists,
            &mut self.compiler,
            self.publication.images(),
            self.scheduler.registry.version(),
            RollbackState {
                is_running: self.rollback.is_running(),
                epoch: self.rollback.epoch,
            },
        );
        self.dismiss_loads(gone);
    }

    /// Puts joined lists in force with the next generation.
    pub(crate) fn finish_joining(&mut self, joined: Result<Joined, Vec<u64>>) {
        let counts = self.delta.finish(self.rollback.epoch);
        let joined = match joined {
            Ok(joined) => joined,
            Err(tickets) => return self.fail_joining(tickets),
        };
        if !counts {
            return;
        }
        for (ready, error) in joined.refused {
            self.refuse_too_large(ready.ticket, error);
        }
        let delta = match joined.result {
            Ok(delta) => delta,
            Err(error) => {
                let has_others = joined.base.is_some() || joined.pending.is_some();
                for ready in joined.ready {
                    match has_others {
                        // They may fit without the others.
                        true => self.delta.add(ready),
                        false => self.refuse_too_large(ready.ticket, error.clone()),
                    }
                }
                for wanted in joined.base.into_iter().flat_map(|base| base.wanted) {
                    self.refuse_too_large(wanted.ticket, error.clone());
                }
                if joined.pending.is_some() {
                    self.drop_pending(vec![format!("configuration rejected: {error}")]);
                }
                return;
            }
        };
        // A change of the configuration alone leaves the images as they are. They are not stored again, as that would
        // remove older ones from the state directory.
        let before = self.publication.images().delta.as_ref();
        let sources = before.map_or(&[][..], |before| &before.provenance().sources);
        if joined.base.is_some() || delta.provenance().sources != sources {
            self.publication.set_delta(delta);
            self.persist.mark_dirty();
        }
        if let Some(base) = joined.base {
            self.adopt_base(base);
        }
        for ReadyList {
            ticket,
            config,
            rules,
        } in joined.ready
        {
            self.adopt_load(ticket, &config.source, rules.loaded);
        }
        if let Some((pending, registry)) = joined.pending {
            self.adopt_pending(pending, registry);
        }
        let delta = self.publication.images().delta.as_deref();
        self.compiler.weigh_delta(delta);
    }

    /// Handles a panic while joining: the rules in force stay, and the requests are answered.
    fn fail_joining(&mut self, tickets: Vec<u64>) {
        for ticket in tickets {
            match self.lists.with_load(ticket).map(broken) {
                Some(refusal) => self.refuse(ticket, refusal),
                None => self.dismiss_loads([ticket]),
            }
        }
        if self.requests.awaiting_pending().next().is_some() && self.lists.pending.is_none() {
            self.drop_pending(vec![
                "configuration rejected: joining failed inside tapis, which is a bug; please report it".to_owned(),
            ]);
        }
    }

    /// Puts a new base in force with the next generation.
    pub(crate) fn adopt_base(&mut self, new: NewBase) {
        if !new.moved.is_empty() {
            self.publication.change(Cause::Merge);
        }
        for (wanted, loaded) in new.loaded() {
            if let Some(list) = self.lists.with_load(wanted.ticket) {
                log_load(list, &loaded);
            }
            self.adopt_load(wanted.ticket, &wanted.config.source, loaded);
        }
        self.publication.set_base(new.base.image);
        self.persist.set_base_file(new.base.place);
    }

    fn adopt_load(&mut self, ticket: u64, source: &Source, loaded: Loaded) {
        self.publication.change(self.cause_of(ticket, &source.path));
        self.lists.adopt(ticket, loaded);
        self.downloads
            .finish(ticket, &source.name, Verdict::InForce);
        self.feeds.finish(ticket, Ok(()));
        self.requests
            .report_load(ticket, |report| report.loaded.push(source.name.clone()));
    }

    /// The cause of a load: a request, or a change of the file.
    fn cause_of(&self, ticket: u64, path: &Path) -> Cause {
        if let Some(cause) = self.requests.cause_of(&[ticket]) {
            return cause;
        }
        if let Some(Waiting {
            primary, serial, ..
        }) = self.feeds.waiting(ticket)
        {
            return Cause::Transfer {
                primary: *primary,
                serial: serial.0,
            };
        }
        let list = self.lists.with_load(ticket);
        if list.is_some_and(ListState::is_reread) {
            return Cause::Guard;
        }
        match list.and_then(|list| self.downloads.source(list.name())) {
            Some(url) => Cause::Download { url },
            None => Cause::File {
                path: legible(path),
            },
        }
    }

    /// The images, with the names of lists whose rules are in them but not in force.
    pub(crate) fn images_in_force(&self) -> Images {
        let known: HashSet<_> = self.lists.in_force().map(ListState::name).collect();
        let images = self.publication.images().clone();
        images.with_lists(|name| known.contains(name))
    }

    /// Publishes a snapshot of the sources in force, as the next generation.
    pub(crate) fn publish(&mut self) {
        let began = Instant::now();
        self.scheduler.advance();
        let lists = self.lists.sources();
        let sources = self.scheduler.sources().iter().cloned().chain(lists);
        let sources = sources.collect();
        let mut images = self.images_in_force();
        // A list that left the configuration is still in the images, and the stored images must record that it is not
        // in force.
        if images.gone != self.publication.images().gone {
            self.persist.mark_dirty();
        }
        images.orders = self.scheduler.registry.rules().cloned();
        self.publication.set_images(images);
        let generation = self
            .publication
            .take_generation(self.record.journal.last_generation());
        self.persist.publish(generation);
        let states = self.scheduler.registry.states(self.scheduler.at());
        let draft = self.record.draft(NextGeneration {
            generation,
            at: self.scheduler.at(),
            causes: self.publication.take_causes(),
            lists: &self.lists.active,
            pauses: self.lists.pauses.in_force(),
            registry: &self.scheduler.registry,
            states: &states,
            held: self.rollback.held_as(),
            config: &self.configuration.current,
        });
        let receipt = draft.map(|draft| self.record.journal.publish(draft));
        let (config, images) = (
            &self.configuration.current,
            self.publication.images().clone(),
        );
        let local = self.configuration.local.names();
        // Making a snapshot of a large delta takes a while. Other tasks of this thread do not wait for that.
        let next = tokio::task::block_in_place(|| {
            let next = compose::snapshot(config, local, sources, images, generation);
            // The entry is written first, unless the disk is slow.
            if let Some(receipt) = receipt {
                self.record.journal.wait(receipt);
            }
            next
        });
        self.publication.plane.precede();
        self.publication.publish(next, states);
        self.record.generation = generation;
        self.files.refresh();
        self.publication.work.add(began.elapsed());
    }
}
