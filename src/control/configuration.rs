//! The configuration in force, and how it differs from the one that the server started with.

use jiff::Timestamp;

use crate::config::Config;

/// The configuration, and the problems with its newest state.
#[derive(Debug)]
pub(crate) struct Configuration {
    /// The one that the server started with. Keys that need a restart are compared with it.
    pub(crate) boot: Config,
    /// The one in force.
    pub(crate) current: Config,
    pub(crate) started_at: Timestamp,
    /// The problems with the newest state of the configuration's file.
    pub(crate) problems: Vec<String>,
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
            socket_problem: None,
        }
    }
}
