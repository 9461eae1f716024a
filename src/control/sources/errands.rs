//! Work on files, on other threads: a network file system that does not answer stops neither dates nor `status`.
//!
//! At most one errand of each kind runs at a time. Its result comes back to the control loop as an event;
//! what is asked for meanwhile waits for the next one.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::files::Files;
use super::orders::reading::BookRead;
use super::watch::Following;
use crate::control::admin::hits::Kept;
use crate::control::admin::preparing::Prepared;
use crate::control::control_loop::Control;
use crate::control::persist::rollback::Held;
use crate::control::publish::delta::Configured;

/// After how long without an answer an errand is an alarm.
pub(crate) const LATE: Duration = Duration::from_secs(5);

/// What is done with files.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Errand {
    /// Files of orders and exceptions are read.
    Book,
    /// The lists in this directory are looked at.
    Look(PathBuf),
    /// The directories of all files are watched.
    Follow,
    /// The files are read that a reload needs.
    Prepare,
    /// Files of a new configuration's orders and exceptions are read, in these directories.
    Configure(Vec<PathBuf>),
    /// The counts of hits are written.
    Count,
    /// A generation is read and held in the state directory, or a hold is removed there.
    Rollback,
}

/// What an errand came to.
pub(crate) enum Landed {
    Book(Box<BookRead>),
    Looked(Files),
    Followed(Following),
    Prepared(Box<Prepared>),
    Configured(Box<Configured>),
    Held(Result<Box<Held>, String>),
    Released(Result<(), String>),
    Counted(Result<Box<Kept>, String>),
}

/// The errands under way.
pub(crate) struct Errands {
    running: HashMap<Errand, Running>,
    sender: mpsc::Sender<(Errand, Option<Landed>)>,
    landed: mpsc::Receiver<(Errand, Option<Landed>)>,
}

struct Running {
    since: Instant,
    /// The paths that are read.
    places: String,
    /// It is in the log that it is late.
    logged: bool,
}

impl Running {
    fn is_late(&self) -> bool {
        self.since.elapsed() >= LATE
    }

    fn told(&self) -> String {
        let seconds = self.since.elapsed().as_secs();
        // Where nothing is to be read, a machine that stood still is late all the same.
        let places = match &*self.places {
            "" => "files",
            places => places,
        };
        format!(
            "{places}: no answer from the file system for {seconds} s; what was read before stays in \
             force; check the disk or the network mount"
        )
    }
}

impl Errands {
    pub(crate) fn new() -> Self {
        let (sender, landed) = mpsc::channel(64);
        Self {
            running: HashMap::new(),
            sender,
            landed,
        }
    }

    pub(crate) fn is_running(&self, errand: &Errand) -> bool {
        self.running.contains_key(errand)
    }

    /// Starts an errand of which none is under way; `places` are the paths that it reads.
    pub(crate) fn start(
        &mut self,
        errand: Errand,
        places: String,
        work: impl FnOnce() -> Landed + Send + 'static,
    ) {
        self.note(errand.clone(), places);
        let sender = self.sender.clone();
        let working = tokio::task::spawn_blocking(work);
        tokio::spawn(async move {
            let landed = working.await.ok();
            // Nobody waits when the server ends.
            let _ = sender.send((errand, landed)).await;
        });
    }

    /// Notes that an errand is under way which others started, and will end with [`done`](Self::done).
    pub(crate) fn note(&mut self, errand: Errand, places: String) {
        let running = Running {
            since: Instant::now(),
            places,
            logged: false,
        };
        self.running.insert(errand, running);
    }

    /// An errand ended.
    pub(crate) fn done(&mut self, errand: &Errand) {
        if let Some(running) = self.running.remove(errand)
            && running.logged
        {
            let (places, after) = (running.places, running.since.elapsed());
            tracing::info!(places, ?after, "the file system answers again");
        }
    }

    /// Waits for the end of an errand. Its result is `None` if it panicked.
    pub(crate) async fn next(&mut self) -> Option<(Errand, Option<Landed>)> {
        let (errand, landed) = self.landed.recv().await?;
        self.done(&errand);
        if landed.is_none() {
            tracing::error!(
                ?errand,
                "it broke off inside tapis, which is a bug; please report it"
            );
        }
        Some((errand, landed))
    }

    /// How long an errand has been under way.
    pub(crate) fn age(&self, errand: &Errand) -> Option<Duration> {
        self.running
            .get(errand)
            .map(|running| running.since.elapsed())
    }

    /// Logs the errands that have become late.
    pub(crate) fn log_late(&mut self) {
        for running in self.running.values_mut() {
            if running.is_late() && !running.logged {
                running.logged = true;
                tracing::error!(problem = running.told(), "files can't be read");
            }
        }
    }

    /// The errands that are late, a sentence each.
    pub(crate) fn problems(&self) -> Vec<String> {
        let late = self.running.values().filter(|running| running.is_late());
        let mut late: Vec<_> = late.map(Running::told).collect();
        late.sort();
        late
    }
}

impl Control {
    /// Takes what an errand came to.
    pub(crate) fn land_errand(&mut self, errand: &Errand, landed: Option<Landed>) {
        match (errand, landed) {
            (_, Some(Landed::Book(read))) => self.land_book(*read),
            (Errand::Look(folder), Some(Landed::Looked(files))) => {
                self.land_looked(folder, Some(files));
            }
            (_, Some(Landed::Followed(following))) => self.land_followed(&following),
            (_, Some(Landed::Prepared(prepared))) => self.land_prepared(Some(prepared)),
            (_, Some(Landed::Configured(configured))) => self.land_configured(Some(*configured)),
            (Errand::Configure(_), None) => self.land_configured(None),
            (_, Some(Landed::Counted(counted))) => self.land_counted(counted),
            (Errand::Rollback, landed) => self.land_rollback(landed),
            (Errand::Book, None) => self.break_off_reading(),
            (Errand::Look(folder), None) => self.land_looked(folder, None),
            (Errand::Prepare, None) => self.land_prepared(None),
            // The next sweep has the files watched again.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc as blocking;

    use super::*;

    #[tokio::test]
    async fn an_errand_that_hangs_is_an_alarm_until_it_ends_and_others_go_on() {
        let mut errands = Errands::new();
        let (release, held) = blocking::channel::<()>();
        errands.start(Errand::Look("/net".into()), "/net".to_owned(), move || {
            held.recv().expect("released");
            Landed::Looked(Files::new())
        });
        errands.note(Errand::Book, String::new());
        errands.start(Errand::Look("/disk".into()), "/disk".to_owned(), || {
            Landed::Looked(Files::new())
        });
        let (errand, _) = errands.next().await.expect("one ends");
        assert_eq!(errand, Errand::Look("/disk".into()));
        assert!(errands.problems().is_empty(), "not yet");
        tokio::time::pause();
        tokio::time::advance(LATE).await;
        tokio::time::resume();
        let problems = errands.problems().join("\n");
        for told in ["/net: no answer", "files: no answer"] {
            assert!(problems.contains(told), "{problems}");
        }
        errands.done(&Errand::Book);
        release.send(()).expect("it waits");
        let (errand, landed) = errands.next().await.expect("the other ends");
        assert_eq!(errand, Errand::Look("/net".into()));
        assert!(landed.is_some() && errands.problems().is_empty());
    }

    #[tokio::test]
    async fn an_errand_that_panics_ends() {
        let mut errands = Errands::new();
        errands.start(Errand::Book, "/orders".to_owned(), || panic!("a bug"));
        let (errand, landed) = errands.next().await.expect("it ends");
        assert!(errand == Errand::Book && landed.is_none());
        assert!(!errands.is_running(&Errand::Book));
    }
}
