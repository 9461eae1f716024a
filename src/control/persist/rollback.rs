//! The rollback in force, and the one whose files are being read and written.
//!
//! A rollback puts the lists of an earlier generation in force, and ignores newer versions of their files until it is
//! released. Orders and exceptions go on as before.

use crate::control::admin::preparing::Prepared;
use crate::control::admin::requests::Waiting;
use crate::control::file_tasks::FileTasks;
use crate::control::persist::rollback_file::RollbackRecord;
use crate::policy::images::Images;

/// A rollback whose record is on the disk, before its images are in force.
pub(crate) struct PreparedRollback {
    pub(crate) images: Images,
    /// The images that were in force when `images` were composed.
    pub(crate) in_force: Images,
    pub(crate) record: RollbackRecord,
}

/// A rollback or a release whose files are being read and written.
pub(crate) struct RunningRollback {
    pub(crate) waiting: Waiting,
    /// A release: the configuration, and the states of the files of lists.
    pub(crate) prepared: Option<Prepared>,
    /// A rollback to this generation whose images are composed a second time, as lists changed during the first
    /// time. Lists can't change meanwhile.
    pub(crate) again: Option<u64>,
}

impl RunningRollback {
    /// Whether lists may change meanwhile.
    pub(crate) fn allows_changes(&self) -> bool {
        self.again.is_none()
    }
}

/// The rollback in force, and the one that is running.
pub(crate) struct Rollback {
    /// The rollback in force: its lists and their generation.
    pub(crate) record: Option<RollbackRecord>,
    /// Why a rollback ended without a release.
    pub(crate) lost: Option<String>,
    /// The rollback or release that is running.
    pub(crate) running: Option<RunningRollback>,
    /// Counts rollbacks. A delta or compilation that was started before the last one is outdated when it ends.
    pub(crate) epoch: u64,
    /// Reads a generation and writes the rollback's record, or removes it.
    pub(crate) tasks: FileTasks<(), RollbackFiles>,
}

/// The result of reading and writing a rollback's files.
pub(crate) enum RollbackFiles {
    Written(Result<Box<PreparedRollback>, String>),
    Released(Result<(), String>),
}

impl Rollback {
    pub(crate) fn new() -> Self {
        Self {
            record: None,
            lost: None,
            running: None,
            epoch: 0,
            tasks: FileTasks::new(),
        }
    }
}
