//! Files of orders and exceptions that changed.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use tokio::time::Instant;

use crate::config::shown::Show;
use crate::control::Control;
use crate::control::sources::orders::directory::RETRY;
use crate::control::sources::orders::reading::{RegistryRead, RequestedFile};
use crate::control::sources::orders::registry::{Known, OrderRegistry};
use crate::control::sources::orders::schedule::State;

/// When files of many orders are removed at once, so many are logged by themselves.
const GONE_LOGGED: usize = 10;

impl Control {
    /// Starts to read files of orders and exceptions, if some are to be read.
    pub(crate) fn start_reading(&mut self) {
        let due = self.scheduler.due();
        let idle = !self.delta.joining_config && !self.scheduler.tasks.is_running(&());
        if !idle || due.is_none_or(|at| at > Instant::now()) {
            return;
        }
        let asked = std::mem::take(&mut self.scheduler.asked);
        let (registry, configured) = (
            Arc::clone(&self.scheduler.registry),
            self.scheduler.configured,
        );
        let requested = asked.requested.iter().map(|requested| requested.ticket);
        self.scheduler.reading = asked.tickets.iter().copied().chain(requested).collect();
        let folders = registry.folders().map(|folder| folder.shown().to_string());
        let places = folders.collect::<Vec<_>>().join(", ");
        let guard_policy = Arc::clone(&self.guard_policy);
        let config = registry
            .is_unrecalled()
            .then(|| self.configuration.boot.clone());
        let work =
            move || Box::new(asked.read(&registry, (configured, config.as_ref()), &guard_policy));
        self.scheduler.tasks.start((), places, work);
    }

    /// Takes what reading came to.
    pub(crate) fn finish_reading_orders(&mut self, read: RegistryRead) {
        self.scheduler.reading.clear();
        if self.delta.joining_config || read.configured != self.scheduler.configured {
            // It is of directories that don't count any more, or the new configuration's were read beside it.
            self.scheduler.asked.refresh = true;
            self.scheduler.asked.tickets.extend(read.tickets);
            self.scheduler.asked.requested.extend(read.requested);
            return;
        }
        let mut waiting = self.requests.waiting.iter();
        let asked =
            waiting.find(|waiting| read.tickets.iter().any(|t| waiting.tickets.contains(t)));
        let refresher = asked.map(|waiting| waiting.cause.clone());
        let is_told =
            !read.changed.is_empty() || !read.tickets.is_empty() || !read.requested.is_empty();
        if !read.changed.is_empty() {
            self.log_removed(&read.registry);
        }
        let mut files = Vec::new();
        for changed in read.changed {
            let refresher = refresher.clone().filter(|_| changed.is_refreshed);
            match (changed.causes.is_empty(), refresher) {
                (true, Some(cause)) => self.publication.change(cause),
                (true, None) => files.push(changed.path),
                (false, _) => changed
                    .causes
                    .into_iter()
                    .for_each(|cause| self.publication.change(cause)),
            }
        }
        self.publication.change_files(files);
        // One that changed while it was read is read again before its writer is answered.
        let unread = |requested: &mut RequestedFile| read.registry.is_due(&requested.path);
        let mut requested = read.requested;
        let again = requested
            .extract_if(.., unread)
            .map(|requested| RequestedFile {
                at: Instant::now() + RETRY,
                ..requested
            });
        self.scheduler.asked.requested.extend(again);
        self.scheduler.registry = Arc::new(read.registry);
        if is_told {
            self.record
                .order_problems(self.scheduler.registry.problems());
        }
        let requested = requested.iter().map(|requested| requested.ticket);
        let tickets: Vec<_> = read.tickets.iter().copied().chain(requested).collect();
        self.end_reading(&tickets, &self.scheduler.registry.problems());
    }

    /// Logs orders in force that are not there any more.
    fn log_removed(&self, newer: &OrderRegistry) {
        let ids: HashSet<&str> = newer.orders().map(|order| &*order.id).collect();
        let paths: HashSet<&Path> = newer.orders().map(|order| &*order.path).collect();
        let now = self.scheduler.at();
        let mut gone = self.scheduler.registry.known().filter(|before| {
            !ids.contains(&*before.order.id) && before.schedule.state(now) == State::InForce
        });
        for Known { order, .. } in gone.by_ref().take(GONE_LOGGED) {
            let why = match paths.contains(&*order.path) {
                true => "its file has another id now",
                false => "its file was removed",
            };
            let path = order.path.shown();
            tracing::warn!(order = order.id, %path, "order no longer in force: {why}");
        }
        let more = gone.count();
        if more > 0 {
            tracing::warn!(
                more,
                "more orders are no longer in force: their files were removed"
            );
        }
    }

    /// Reading broke off: those who waited are told.
    pub(crate) fn fail_reading(&mut self) {
        let tickets = std::mem::take(&mut self.scheduler.reading);
        let problem = "orders and exceptions: reading them broke off inside tapis, which is a bug; \
                       please report it";
        self.end_reading(&tickets, &[problem.to_owned()]);
    }

    fn end_reading(&mut self, tickets: &[u64], problems: &[String]) {
        for waiting in &mut self.requests.waiting {
            let before = waiting.tickets.len();
            waiting.tickets.retain(|ticket| !tickets.contains(ticket));
            // A new configuration may have other directories: what is wrong there is told when it is taken.
            if waiting.tickets.len() < before && !waiting.staged {
                waiting.report.problems.extend_from_slice(problems);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;
    use std::slice::from_ref;
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;
    use crate::config::Config;
    use crate::control::admin::status::{OrdersRequest, ReloadReport};
    use crate::control::event::Event;
    use crate::control::journal::entry::Cause;
    use crate::control::sources::wall_clock::Still;
    use crate::control::sources::watch::{OPEN_QUIET, Touched};

    fn control(folder: &Path) -> Control {
        fs::create_dir(folder.join("orders")).expect("made");
        let config = Config::parse("[orders]\npath = \"orders\"\n", &folder.join("tapis.toml"));
        let control = Control::start(config.expect("valid"), Arc::new(Still));
        control.expect("a first generation")
    }

    /// Writes a file of an order that is refused: that is a change, too.
    fn write(folder: &Path, name: &str) -> PathBuf {
        let path = folder.join("orders").join(name);
        fs::write(&path, "no order").expect("written");
        path
    }

    fn lift(control: &mut Control, path: &Path, user: u32) -> oneshot::Receiver<ReloadReport> {
        let (reply, answer) = oneshot::channel();
        let wish = OrdersRequest {
            verb: "order lift".to_owned(),
            path: path.to_owned(),
        };
        control.look_at_order(&wish, user, reply);
        answer
    }

    fn lifted(user: u32) -> Cause {
        let verb = "order lift".to_owned();
        Cause::Verb { verb, user }
    }

    /// Reads what is asked for, and answers.
    async fn read(control: &mut Control) {
        control.start_reading();
        while control.scheduler.tasks.is_running(&()) {
            let event = control.next_file_event().await;
            control.route(event);
        }
        control.answer_waiting();
    }

    fn touched(path: &Path, quiet: Duration) -> Touched {
        let path = path.to_owned();
        Touched { path, quiet }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn each_change_of_an_order_has_the_cause_of_whoever_made_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut control = control(folder.path());
        control.publication.causes.clear();
        let [a, b, c] = ["a.toml", "b.toml", "c.toml"].map(|name| write(folder.path(), name));
        let first = lift(&mut control, &a, 1000);
        let second = lift(&mut control, &b, 1001);
        control.touch(&[touched(&c, Duration::ZERO)]);
        read(&mut control).await;
        let expected = [lifted(1000), lifted(1001), Cause::File { path: c }];
        let has = |cause: &Cause| control.publication.causes.contains(cause);
        assert!(expected.iter().all(has), "{:?}", control.publication.causes);
        assert_eq!(control.publication.causes.len(), 3);
        for mut answer in [first, second] {
            assert!(answer.try_recv().is_ok(), "answered");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_file_by_another_path_is_its_writer_s_change_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut control = control(folder.path());
        control.publication.causes.clear();
        let alias = folder.path().join("alias");
        std::os::unix::fs::symlink("orders", &alias).expect("linked");
        write(folder.path(), "a.toml");
        let hand = write(folder.path(), "b.toml");
        let mut answer = lift(&mut control, &alias.join("a.toml"), 1000);
        read(&mut control).await;
        assert_eq!(
            control.publication.causes.len(),
            2,
            "{:?}",
            control.publication.causes
        );
        assert!(control.publication.causes.contains(&lifted(1000)));
        assert!(
            control
                .publication
                .causes
                .contains(&Cause::File { path: hand })
        );
        assert!(answer.try_recv().is_ok());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_file_that_changes_while_it_is_read_is_read_again_before_its_writer_is_answered() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut control = control(folder.path());
        let path = write(folder.path(), "a.toml");
        let mut answer = lift(&mut control, &path, 1000);
        control.start_reading();
        while control.scheduler.tasks.is_running(&()) {
            let mut event = control.next_file_event().await;
            if let Event::OrdersRead(Some(read)) = &mut event {
                read.registry
                    .touch(&touched(&path, OPEN_QUIET), Instant::now());
            }
            control.route(event);
        }
        control.answer_waiting();
        assert_eq!(answer.try_recv().err(), Some(TryRecvError::Empty));
        assert_eq!(control.scheduler.asked.requested.len(), 1);
        control.scheduler.asked.requested[0].at = Instant::now();
        read(&mut control).await;
        assert!(answer.try_recv().is_ok(), "answered");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_event_that_comes_later_keeps_no_verb_s_file_unread() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut control = control(folder.path());
        let [a, b] = ["a.toml", "b.toml"].map(|name| write(folder.path(), name));
        let mut answer = lift(&mut control, &a, 1000);
        assert_eq!(answer.try_recv().err(), Some(TryRecvError::Empty));
        control.touch(&[touched(&a, OPEN_QUIET), touched(&b, Duration::ZERO)]);
        read(&mut control).await;
        let report = answer.try_recv().expect("answered");
        let told = |path: &PathBuf| {
            let path = path.display().to_string();
            report
                .problems
                .iter()
                .any(|problem| problem.contains(&path))
        };
        assert!(
            from_ref(&a).iter().chain([&b]).all(told),
            "{:?}",
            report.problems
        );
    }
}
