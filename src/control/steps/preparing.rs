//! The files that a reload or a rollback needs, read before it is carried out.

use std::time::Duration;

use crate::config::shown::Show;
use crate::config::{Config, Content, Origin};
use crate::control::Control;
use crate::control::admin::preparing::{Newest, Prepared, QueuedRequest};
use crate::control::admin::requests::Waiting;
use crate::control::sources::files::look;
use crate::control::sources::orders::registry::OrderRegistry;

/// Reloads and rollbacks that wait for their turn.
const WAITING_MAX: usize = 64;

/// How long a reload waits for the files that it needs.
const PATIENCE: Duration = Duration::from_secs(30);

impl Control {
    /// Takes a reload or a rollback.
    pub(crate) fn wish(&mut self, wish: QueuedRequest) {
        if self.requests.queue.waiting.len() == WAITING_MAX {
            return self.answer_unprepared(wish, "too many others wait");
        }
        self.requests.queue.waiting.push_back(wish);
    }

    /// Reads the files for the next one, or acts on it when they are read.
    pub(crate) fn prepare(&mut self) {
        // While a new configuration is joined, it is in no place where it could be found.
        if self.delta.joining_config || self.rollback.running.is_some() {
            return;
        }
        if let Some(prepared) = self.requests.queue.prepared.take() {
            match self.requests.queue.under_way.take() {
                // Another configuration came into force meanwhile: what is ready is a change of the one before.
                Some(wish) if prepared.config != self.configuration.current => {
                    self.requests.queue.waiting.push_front(wish);
                }
                Some(QueuedRequest::Reload(wish, cause, reply)) => {
                    self.reload(&wish, cause, reply, *prepared);
                }
                Some(QueuedRequest::Rollback(wish, cause, reply)) => {
                    self.roll_back(wish, cause, reply, Some(*prepared));
                }
                None => {}
            }
        }
        if self.requests.queue.under_way.is_some() || self.rollback.running.is_some() {
            return;
        }
        let next = self.requests.queue.waiting.front();
        // A rollback to a generation needs no file outside of the state directory, and may be the way out
        // when others hang.
        let is_hold =
            matches!(next, Some(QueuedRequest::Rollback(wish, ..)) if wish.generation.is_some());
        if self.requests.queue.tasks.is_running(&()) && !is_hold {
            return;
        }
        let wish = match self.requests.queue.waiting.pop_front() {
            Some(QueuedRequest::Rollback(wish, cause, reply)) if is_hold => {
                return self.roll_back(wish, cause, reply, None);
            }
            Some(wish) => wish,
            None => return,
        };
        self.requests.queue.under_way = Some(wish);
        let (now, boot) = (
            self.configuration.current.clone(),
            self.configuration.boot.overrides.clone(),
        );
        let (guard_policy, staged) = (self.guard_policy.clone(), self.lists.pending.is_some());
        let plane = self.publication.plane.plane();
        let mut places = vec!["the configuration and the files that it names".to_owned()];
        if let Origin::File(path) = &now.origin {
            places.insert(0, path.shown().to_string());
        }
        let work = move || {
            let newest = match &now.origin {
                Origin::BuiltIn => None,
                Origin::File(path) => Some(Config::load(path).map(|config| {
                    let nothing = Config::parse("", path);
                    let nothing = nothing.map(|nothing| nothing.with_overrides(boot.clone()));
                    let config = config.with_overrides(boot);
                    let other = staged || config != now;
                    let mut problems = OrderRegistry::unlisted(&config);
                    // As it is while it is written in place, or after the disk was full.
                    if config != now && nothing.is_ok_and(|nothing| config == nothing) {
                        problems.push(format!(
                            "configuration not taken: {} holds nothing that differs from the defaults, and may be cut off: \
                             write it again; to serve without lists and orders, restart with it",
                            path.shown()
                        ));
                    }
                    let plane = plane.filter(|_| config != now && problems.is_empty());
                    let change = plane.map(|plane| plane.prepare(&config)).transpose();
                    let change = change.unwrap_or_else(|why| {
                        let why = why.into_iter();
                        problems.extend(why.map(|why| format!("configuration not taken: {why}")));
                        None
                    });
                    Newest {
                        problems,
                        change,
                        guard_policy: other.then(|| guard_policy.read_again(&config)),
                        config,
                    }
                })),
            };
            let new = newest
                .iter()
                .flatten()
                .flat_map(|newest| &newest.config.lists);
            let lists = now.lists.iter().chain(new);
            let lists = lists.filter(|list| matches!(list.content, Content::File));
            let files = look(lists.map(|list| list.source.path.clone()));
            Box::new(Prepared {
                newest,
                guard_policy: guard_policy.read_again(&now),
                files,
                config: now,
            })
        };
        self.requests.queue.tasks.start((), places.join(", "), work);
    }

    /// Takes the files that were read for one.
    pub(crate) fn finish_preparing(&mut self, prepared: Option<Box<Prepared>>) {
        match prepared {
            Some(prepared) if self.requests.queue.under_way.is_some() => {
                for list in &mut self.lists.active {
                    list.set_looked(&prepared.files);
                }
                self.requests.queue.prepared = Some(prepared);
            }
            // Whoever asked was answered when it took too long.
            Some(_) => {}
            None => {
                if let Some(wish) = self.requests.queue.under_way.take() {
                    let why = "reading its files broke off inside tapis, which is a bug; please report it";
                    self.answer_unprepared(wish, why);
                }
            }
        }
    }

    /// Answers those whose files take too long to be read.
    pub(crate) fn give_up_preparing(&mut self) {
        let ages = [
            self.requests.queue.tasks.age(&()),
            self.rollback.tasks.age(&()),
        ];
        if ages.into_iter().flatten().all(|age| age < PATIENCE) {
            return;
        }
        // A rollback that has started is not among them: its hold may be on the disk already.
        let under_way = self.requests.queue.under_way.take();
        let all: Vec<_> = under_way
            .into_iter()
            .chain(self.requests.queue.waiting.drain(..))
            .collect();
        for wish in all {
            self.answer_unprepared(wish, "the file system does not answer; see `tapis status`");
        }
    }

    fn answer_unprepared(&mut self, wish: QueuedRequest, why: &str) {
        let (what, cause, reply) = match wish {
            QueuedRequest::Reload(_, cause, reply) => ("not reloaded", cause, reply),
            QueuedRequest::Rollback(_, cause, reply) => ("not rolled back", cause, Some(reply)),
        };
        tracing::error!(why, "{what}");
        let mut waiting = Waiting::new(cause, reply);
        waiting.report.problems.push(format!("{what}: {why}"));
        self.requests.waiting.push(waiting);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::oneshot;
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;
    use crate::control::admin::status::ReloadRequest;
    use crate::control::journal::entry::Cause;
    use crate::control::sources::wall_clock::Still;

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_prepared_for_another_configuration_than_is_in_force_by_then_is_prepared_again()
     {
        let control = Control::start(Config::built_in(), Arc::new(Still));
        let mut control = control.expect("a first generation");
        let (reply, mut answer) = oneshot::channel();
        let cause = Cause::Start;
        control.wish(QueuedRequest::Reload(
            ReloadRequest::default(),
            cause,
            Some(reply),
        ));
        control.prepare();
        while control.requests.queue.prepared.is_none() {
            let event = control.next_file_event().await;
            control.route(event);
        }
        control.configuration.current.server.id = Some("another.example".to_owned());
        control.prepare();
        assert_eq!(answer.try_recv().err(), Some(TryRecvError::Empty));
        assert!(
            control.requests.queue.under_way.is_some(),
            "it is prepared again"
        );
        while control.requests.queue.prepared.is_none() {
            let event = control.next_file_event().await;
            control.route(event);
        }
        control.prepare();
        assert!(control.requests.queue.under_way.is_none(), "it is acted on");
    }
}
