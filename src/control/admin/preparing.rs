//! Reads the files that a reload or a rollback needs before the control loop acts on it.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use crate::config::{Config, Problems};
use crate::control::admin::status::{ReloadReport, ReloadRequest, RollbackRequest};
use crate::control::file_tasks::FileTasks;
use crate::control::guard::policy::GuardPolicy;
use crate::control::journal::entry::Cause;
use crate::control::publish::data_plane::Change;
use crate::control::sources::files::Files;

/// A reload or a rollback that waits for its files.
pub(crate) enum QueuedRequest {
    Reload(ReloadRequest, Cause, Option<oneshot::Sender<ReloadReport>>),
    Rollback(RollbackRequest, Cause, oneshot::Sender<ReloadReport>),
}

/// Those that wait; the first one's files are read while one is under way.
pub(crate) struct RequestQueue {
    pub(crate) waiting: VecDeque<QueuedRequest>,
    pub(crate) under_way: Option<QueuedRequest>,
    /// The files that were read for it.
    pub(crate) prepared: Option<Box<Prepared>>,
    /// Reads them.
    pub(crate) tasks: FileTasks<(), Box<Prepared>>,
}

impl RequestQueue {
    pub(crate) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            under_way: None,
            prepared: None,
            tasks: FileTasks::new(),
        }
    }
}

/// The configuration's file as it is now.
pub(crate) struct Newest {
    pub(crate) config: Config,
    /// Why it can't be taken, if it is another one than is in force.
    pub(crate) problems: Vec<String>,
    /// Its guard rails, if it is another configuration than the one in force.
    pub(crate) guard_policy: Option<GuardPolicy>,
    /// What the data plane has ready for it.
    pub(crate) change: Option<Change>,
}

/// What a reload needs of files.
pub(crate) struct Prepared {
    /// The configuration in force while they were read.
    pub(crate) config: Config,
    /// `None` for the built-in configuration.
    pub(crate) newest: Option<Result<Newest, Problems>>,
    /// The guard's files of the configuration in force.
    pub(crate) guard_policy: GuardPolicy,
    /// The files of all lists, those of the new configuration too.
    pub(crate) files: Files,
}
