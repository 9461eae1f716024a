//! Reads a small list on a blocking thread, and logs the result of reading any list.

use std::io;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::load::{Loaded, LoadedRules, Refusal, load};
use super::state::{ListState, Loading};
use crate::config::List;
use crate::control::guard::policy::GuardPolicy;
use crate::control::list_file::file::FileError;

/// How many suppressed rules, and how many rules with a warning, are logged at each read of a list.
const LOGGED: usize = 10;

/// A load of a small list that ended.
pub(crate) struct FinishedLoad {
    pub(crate) ticket: u64,
    pub(crate) result: Result<LoadedRules, Refusal>,
}

/// A small list that was read, and is to be joined with the others.
pub(crate) struct ReadyList {
    /// The number of the load.
    pub(crate) ticket: u64,
    /// The list as it was configured when the load started.
    pub(crate) config: List,
    pub(crate) rules: LoadedRules,
}

/// Starts reading a small list. The result is sent to `done`, even after a panic.
pub(crate) fn start_load(
    list: &mut ListState,
    guard_policy: &Arc<GuardPolicy>,
    ticket: u64,
    done: &mpsc::Sender<FinishedLoad>,
) {
    let Loading {
        ticket, released, ..
    } = list.start(ticket);
    let (config, before, guard_policy) = (
        list.config.clone(),
        list.in_force(),
        Arc::clone(guard_policy),
    );
    let reading =
        tokio::task::spawn_blocking(move || load(&config, &guard_policy, &before, released));
    let (broken, done) = (broken(list), done.clone());
    tokio::spawn(async move {
        let result = reading.await.unwrap_or(Err(broken));
        // The receiver is gone when the server ends.
        let _ = done.send(FinishedLoad { ticket, result }).await;
    });
}

/// The refusal for a load that panicked.
pub(crate) fn broken(list: &ListState) -> Refusal {
    Refusal::File(FileError::Unreadable {
        path: list.source.path.clone(),
        source: io::Error::other(
            "reading it failed inside tapis, which is a bug; please report it",
        ),
    })
}

/// Logs the result of reading a list.
pub(crate) fn log_load(list: &ListState, result: Result<&Loaded, &Refusal>) {
    let name = list.name();
    let loaded = match result {
        Ok(loaded) => loaded,
        // It is read again until it is quiet, and one message is enough.
        Err(refusal) if refusal.transient() && list.refused.is_some() => return,
        // A failing disk is tried again every few seconds.
        Err(refusal) if list.is_refused_alike(refusal) => return,
        Err(refusal) if refusal.is_rollback() => {
            tracing::info!(list = name, %refusal, "newer state of a list rejected");
            return;
        }
        Err(refusal) => {
            let kept = list.loaded.is_some();
            tracing::error!(list = name, kept, %refusal, "list rejected");
            return;
        }
    };
    let (rules, bad) = (loaded.rules, loaded.tally.bad_total());
    let took_ms = loaded.took.as_millis() as u64;
    tracing::info!(list = name, rules, bad, took_ms, "list read");
    for left in loaded.tally.guarded.first.iter().take(LOGGED) {
        let (line, rule, why) = (left.line, &left.rule, &left.why);
        tracing::warn!(list = name, line, rule, why, "rule left out");
    }
    for warned in loaded.tally.guarded.first_warned.iter().take(LOGGED) {
        let (line, rule, why) = (warned.line, &warned.rule, &warned.why);
        tracing::warn!(
            list = name,
            line,
            rule,
            why,
            "rule applies, but may be a mistake"
        );
    }
    for bad in &loaded.tally.first {
        tracing::warn!(list = name, line = bad.line, text = bad.text, problem = %bad.problem, "bad line");
    }
}
