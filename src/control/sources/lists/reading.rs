//! Reads a small list on a blocking thread, and logs the result of reading any list.

use std::io;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::load::{Loaded, LoadedRules, Refusal, load};
use super::state::{ListState, Loading};
use crate::config::List;
use crate::control::guard::policy::GuardPolicy;
use crate::control::list_file::file::FileError;
use crate::control::list_file::parse::BadLine;
use crate::control::list_file::suppressed::LeftOut;

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

impl ReadyList {
    /// Whether it is the list with this name.
    pub(crate) fn is_of(&self, name: &str) -> bool {
        self.config.source.name == name
    }
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

/// Logs that a list or a version of a feed was read, and its mistakes that the rules in force do not have.
pub(crate) fn log_load(state: &ListState, loaded: &Loaded) {
    let (list, feed) = of_kind(state, state.name());
    let [what, unit] = match state.config.is_feed() {
        true => ["version", "record"],
        false => ["list", "line"],
    };
    let (rules, bad) = (loaded.rules, loaded.tally.bad_total());
    let took_ms = loaded.took.as_millis() as u64;
    let format = loaded.tally.detected.map(|detected| detected.to_string());
    tracing::info!(list, feed, rules, bad, took_ms, format, "{what} read");
    let before = state.loaded.as_ref().map(|before| &before.tally);
    let guarded = before.map(|before| &before.guarded);
    let of_one_rule =
        |left: &LeftOut, other: &LeftOut| (&left.rule, &left.why) == (&other.rule, &other.why);
    let left_out = &loaded.tally.guarded.first;
    let known = guarded.map(|guarded| &guarded.first[..]);
    for left in not_known(left_out, known, of_one_rule).take(LOGGED) {
        let ((line, record), rule, why) = (of_kind(state, left.line), &left.rule, &left.why);
        tracing::warn!(list, feed, line, record, rule, why, "rule left out");
    }
    let warned = &loaded.tally.guarded.first_warned;
    let known = guarded.map(|guarded| &guarded.first_warned[..]);
    for warned in not_known(warned, known, of_one_rule).take(LOGGED) {
        let (line, record) = of_kind(state, warned.line);
        let (rule, why) = (&warned.rule, &warned.why);
        tracing::warn!(
            list,
            feed,
            line,
            record,
            rule,
            why,
            "rule applies, but may be a mistake"
        );
    }
    let is_same =
        |bad: &BadLine, other: &BadLine| (&bad.text, &bad.problem) == (&other.text, &other.problem);
    let known = before.map(|before| &before.first[..]);
    for bad in not_known(&loaded.tally.first, known, is_same) {
        let ((line, record), text, problem) = (of_kind(state, bad.line), &bad.text, &bad.problem);
        tracing::warn!(list, feed, line, record, text, %problem, "bad {unit}");
    }
}

/// A value for one of two fields: the first is that of lists, the second that of feeds. The other one is not logged.
fn of_kind<T>(list: &ListState, value: T) -> (Option<T>, Option<T>) {
    match list.config.is_feed() {
        true => (None, Some(value)),
        false => (Some(value), None),
    }
}

/// The mistakes that were not known before.
fn not_known<'m, T>(
    now: &'m [T],
    known: Option<&[T]>,
    is_same: impl Fn(&T, &T) -> bool,
) -> impl Iterator<Item = &'m T> {
    let known = known.unwrap_or_default();
    let is_known = move |one: &T| known.iter().any(|other| is_same(one, other));
    now.iter().filter(move |one| !is_known(one))
}

/// Logs that the newest state of a list is refused.
pub(crate) fn log_refusal(list: &ListState, refusal: &Refusal) {
    let name = list.name();
    // A state that passes is read again until it is quiet, and one message is enough. A failing disk is tried again every
    // few seconds.
    let passes = refusal.transient() && list.refused.is_some();
    if passes || list.is_refused_alike(refusal) {
        return;
    }
    if refusal.is_first() {
        return log_no_rules(list);
    }
    if refusal.is_rollback() {
        tracing::info!(list = name, %refusal, "newer state of a list rejected");
        return;
    }
    let kept = list.loaded.is_some();
    tracing::error!(list = name, kept, %refusal, "list rejected");
}

/// Logs that a feed has no rules before its first transfer, or a list before its first download, which is no error.
fn log_no_rules(list: &ListState) {
    let (list, feed) = of_kind(list, list.name());
    tracing::info!(
        feed,
        list,
        "no version yet; the first transfer brings its rules"
    );
}

/// Logs that a version of a feed is refused, or its changes, and how many others for the same reason were not logged.
pub(crate) fn log_refused_version(list: &ListState, refusal: &Refusal, unreported: Option<u64>) {
    let feed = list.name();
    match refusal {
        Refusal::NoTransfer(_) => log_no_rules(list),
        Refusal::BrokenChanges(_) => {
            tracing::warn!(feed, %refusal, unreported, "changes not applied");
        }
        _ if refusal.is_rollback() => {
            tracing::info!(feed, %refusal, unreported, "newer version of a feed rejected");
        }
        _ => {
            let kept = list.loaded.is_some();
            tracing::error!(feed, kept, %refusal, unreported, "version rejected");
        }
    }
}
