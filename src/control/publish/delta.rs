//! Owns joining lists that were read with those that are in force, one image at a time.
//! Refuses to read files; and to put a new configuration in force before its lists are.

use tokio::sync::mpsc;

use crate::control::compile::job::NewBase;
use crate::control::sources::lists::reading::ReadyList;
use crate::control::sources::orders::registry::OrderRegistry;
use crate::control::sources::pending::PendingConfig;
use crate::policy::image::{Image, TooLarge};

/// Joined lists, or the loads of a joining that panicked.
pub(crate) type Joining = Result<Joined, Vec<u64>>;

/// Small lists on their way into the delta.
pub(crate) struct DeltaJoin {
    /// Lists that were read and wait to be joined with the others.
    pub(crate) ready: Vec<ReadyList>,
    /// Whether lists are being joined.
    pub(crate) joining: bool,
    /// The rollbacks that had ended when that began.
    pub(crate) joining_since: u64,
    /// Whether a new configuration is joined with them: it is in no other place meanwhile, so requests wait until
    /// it is in force.
    pub(crate) joining_config: bool,
    pub(crate) joined: (mpsc::Sender<Joining>, mpsc::Receiver<Joining>),
}

impl DeltaJoin {
    pub(crate) fn new() -> Self {
        Self {
            ready: Vec::new(),
            joining: false,
            joining_since: 0,
            joining_config: false,
            joined: mpsc::channel(1),
        }
    }
}

/// Lists that were joined, and the configuration that brings some of them.
pub(crate) struct Joined {
    pub(crate) ready: Vec<ReadyList>,
    pub(crate) base: Option<NewBase>,
    pub(crate) pending: Option<(PendingConfig, OrderRegistry)>,
    pub(crate) result: Result<Image, TooLarge>,
}
