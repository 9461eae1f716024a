//! Owns holding all lists as they were in a generation: until somebody releases them, no newer state of them counts.
//! Refuses to hold orders and exceptions: an authority's word goes on.

use crate::control::admin::preparing::Prepared;
use crate::control::admin::requests::Waiting;
use crate::control::file_tasks::FileTasks;
use crate::control::persist::rollback_file::RollbackRecord;
use crate::policy::images::Images;

/// The images of a rollback whose hold is on the disk.
pub(crate) struct Held {
    pub(crate) images: Images,
    /// What was in force when they were composed.
    pub(crate) in_force: Images,
    pub(crate) hold: RollbackRecord,
}

/// A rollback or a release whose files are being read and written.
pub(crate) struct RunningRollback {
    pub(crate) waiting: Waiting,
    /// What a release needs of the files of lists.
    pub(crate) prepared: Option<Prepared>,
    /// Lists changed while the images of this generation were composed, so they are composed again. No
    /// list changes until that ends.
    pub(crate) again: Option<u64>,
}

impl RunningRollback {
    /// Whether lists may change meanwhile.
    pub(crate) fn allows_changes(&self) -> bool {
        self.again.is_none()
    }
}

/// The rollback in force, and the one under way.
pub(crate) struct Rollback {
    /// The lists that are held, and as of which generation.
    pub(crate) hold: Option<RollbackRecord>,
    /// Why lists that were held are not any more, if nobody released them.
    pub(crate) lost: Option<String>,
    /// The rollback or release under way.
    pub(crate) rolling: Option<RunningRollback>,
    /// Counts rollbacks. A joining or compilation that began before one is outdated when it ends.
    pub(crate) epoch: u64,
    /// Reads a generation and writes that it is held, or removes that.
    pub(crate) tasks: FileTasks<(), RollbackFiles>,
}

/// The end of reading and writing a rollback's files.
pub(crate) enum RollbackFiles {
    Held(Result<Box<Held>, String>),
    Released(Result<(), String>),
}

impl Rollback {
    pub(crate) fn new() -> Self {
        Self {
            hold: None,
            lost: None,
            rolling: None,
            epoch: 0,
            tasks: FileTasks::new(),
        }
    }
}
