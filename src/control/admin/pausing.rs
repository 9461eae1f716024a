//! The requests that pause lists and end pauses, and their answers. Their fields are an interface.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::config::pause::{Pause, PauseError};
use crate::config::suggest::nearest;
use crate::control::journal::entry::Cause;

/// A request to pause a list or feed, or all of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PauseRequest {
    /// The name of the list or feed; `None` for all.
    pub list: Option<String>,
    /// The length of the pause in seconds.
    pub secs: i64,
    /// The reason.
    pub reason: String,
}

impl PauseRequest {
    /// The length of the pause.
    pub(crate) fn length(&self) -> SignedDuration {
        SignedDuration::from_secs(self.secs)
    }

    /// The cause of the change, with the user. The reason is recorded with the pause.
    pub(crate) fn cause(&self, user: u32) -> Cause {
        let list = with_space(self.list.as_deref());
        let verb = format!("pause{list} --for {:#}", self.length());
        Cause::Verb { verb, user }
    }
}

/// A request to end the pause of a list or feed, or all pauses.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ResumeRequest {
    /// The name of the list or feed; `None` for all.
    pub list: Option<String>,
}

impl ResumeRequest {
    /// The cause of the change, with the user.
    pub(crate) fn cause(&self, user: u32) -> Cause {
        let verb = format!("resume{}", with_space(self.list.as_deref()));
        Cause::Verb { verb, user }
    }
}

fn with_space(list: Option<&str>) -> String {
    list.map_or_else(String::new, |list| format!(" {list}"))
}

/// The result of a request to pause lists or to end pauses.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PauseReport {
    /// The generation in force afterwards.
    pub generation: u64,
    /// The lists and feeds that were paused or resumed, as in `list ads`.
    pub sources: Vec<String>,
    /// Their pauses, in the same order; empty after a resume.
    pub pauses: Vec<Pause>,
    /// Why nothing changed.
    pub refused: Option<String>,
    /// Whether a restart ends the pauses, because there is no state directory.
    pub until_restart: bool,
    /// Why the change is not stored. It is in force all the same.
    pub unstored: Option<String>,
}

/// Why a request changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PauseProblem {
    #[error(transparent)]
    Invalid(#[from] PauseError),
    #[error("there is no list or feed `{name}`{}", suggested(.nearest.as_deref()))]
    Unknown {
        name: String,
        nearest: Option<String>,
    },
    #[error(
        "{0} is an order, and orders can't be paused; to suspend it: tapis order suspend {0}; to end it: tapis order \
         lift {0}"
    )]
    Order(String),
    #[error("there is nothing to pause: no list or feed is configured")]
    NoLists,
    #[error("{0} is not paused; `tapis status` shows what is")]
    NotPaused(String),
    #[error("no list or feed is paused")]
    NothingPaused,
}

fn suggested(nearest: Option<&str>) -> String {
    nearest.map_or_else(
        || "; `tapis status` shows all".to_owned(),
        |nearest| format!("; did you mean `{nearest}`?"),
    )
}

impl PauseProblem {
    /// No list or feed of `known` has this name.
    pub(crate) fn unknown<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Self {
        Self::Unknown {
            name: name.to_owned(),
            nearest: nearest(name, known).map(str::to_owned),
        }
    }
}

/// A request that was carried out, and is answered when the pauses are stored.
pub(crate) struct WaitingPause {
    /// The version of the pauses that has to be stored.
    pub(crate) version: u64,
    pub(crate) report: PauseReport,
    pub(crate) reply: oneshot::Sender<PauseReport>,
}
