//! Large lists: to the compiler, and with its result into force.

use std::sync::Arc;

use crate::config::{Content, List};
use crate::control::Control;
use crate::control::compile::job::{CompileError, Compiled, Job, NewBase, Wanted, want};
use crate::control::sources::lists::load::Refusal;
use crate::control::sources::lists::reading::log_load;
use crate::control::sources::lists::state::has_load;
use crate::policy::images::Images;

impl Control {
    /// Starts the compiler if large lists wait for it, or the delta is to be relieved, unless it runs
    /// or what it made last is not in force yet.
    pub(crate) fn start_compiling(&mut self) {
        // The next one carries over what the last one made, so that must be in force and kept.
        let unkept =
            self.persist.is_writing || self.persist.is_dirty || self.persist.base_file.is_some();
        let nothing = self.compiler.wanted.is_empty() && !self.compiler.delta_is_full;
        // A rollback replaces the base that it would carry over.
        let rolling = self.rollback.running.is_some();
        if self.compiler.compiling || nothing || self.delta.joining || unkept || rolling {
            return;
        }
        self.reopen_staged();
        if self.compiler.base.is_some() {
            return;
        }
        let staged = |wanted: &Wanted| wanted.staged;
        let tickets: Vec<_> = self.lists.all().filter_map(|list| list.loading).collect();
        let awaited = |wanted: &Wanted| {
            tickets
                .iter()
                .any(|loading| loading.ticket == wanted.ticket)
        };
        let (wanted, gone) = std::mem::take(&mut self.compiler.wanted)
            .into_iter()
            .partition::<Vec<_>, _>(awaited);
        for wanted in gone {
            self.requests.dismiss(wanted.ticket);
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
            let fresh = self
                .lists
                .pending
                .iter_mut()
                .flat_map(|pending| &mut pending.lists);
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
            .lists
            .pending
            .iter()
            .filter(|_| wanted.iter().any(|wanted| wanted.staged));
        let guard_policy = staged
            .map(|pending| &pending.guard_policy)
            .next()
            .unwrap_or(&self.guard_policy);
        Job {
            guard_policy: Arc::clone(guard_policy),
            store: self.persist.store.clone(),
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
    pub(crate) fn finish_compiling(&mut self, compiled: Compiled) {
        self.compiler.compiling = false;
        if self.compiler.compiling_since != self.rollback.epoch {
            // It is newer than what is held.
            for wanted in compiled.wanted {
                self.requests.dismiss(wanted.ticket);
            }
            return;
        }
        let base = match compiled.result {
            Ok(base) => base,
            Err(error) => {
                if !compiled.moved.is_empty() {
                    self.compiler
                        .keep_delta(self.publication.delta_rules(), &error);
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
                None if self.lists.all().any(|list| has_load(list, wanted.ticket)) => any = true,
                // The list is gone.
                None => self.requests.dismiss(wanted.ticket),
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
            let staged = self
                .lists
                .pending
                .iter_mut()
                .flat_map(|pending| &mut pending.lists);
            let list = staged
                .into_iter()
                .find(|list| has_load(list, wanted.ticket));
            let Some(list) = list else { continue };
            log_load(list, Ok(&loaded));
            let name = list.name().to_owned();
            // It may have been small before.
            list.rules = None;
            list.settle(Ok(loaded), tokio::time::Instant::now());
            self.requests.settle_staged(wanted.ticket, &name);
        }
    }
}
