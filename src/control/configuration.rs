//! The configuration in force, and how it differs from the one that the server started with.

use std::path::PathBuf;

use jiff::Timestamp;

use super::file_tasks::FileTasks;
use super::sources::pending::ConfiguredOrders;
use crate::config::Config;

/// The configuration, and the problems with its newest state.
pub(crate) struct Configuration {
    /// The one that the server started with. Keys that need a restart are compared with it.
    pub(crate) boot: Config,
    /// The one in force.
    pub(crate) current: Config,
    pub(crate) started_at: Timestamp,
    /// The problems with the newest state of the configuration's file.
    pub(crate) problems: Vec<String>,
    /// Reads the orders and exceptions of a new configuration, by their directories: those of another one may hang.
    pub(crate) orders: FileTasks<Vec<PathBuf>, Box<ConfiguredOrders>>,
    /// Why some users who may use the control socket can't.
    pub(crate) socket_problem: Option<String>,
}

impl Configuration {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            boot: config.clone(),
            current: config,
            started_at: Timestamp::now(),
            problems: Vec::new(),
            orders: FileTasks::new(),
            socket_problem: None,
        }
    }
}
