//! The configuration in force, and how it differs from the one that the server started with.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;

use super::file_tasks::FileTasks;
use super::local_names::LocalSources;
use super::sources::orders::registry::OrderRegistry;
use super::sources::pending::{ConfiguredOrders, PendingConfig};
use crate::config::Config;
use crate::config::shown::Show;

/// The configuration, and the problems with its newest state.
pub(crate) struct Configuration {
    /// The one that the server started with. Keys that need a restart are compared with it.
    pub(crate) boot: Config,
    /// The one in force.
    pub(crate) current: Config,
    /// Its local names.
    pub(crate) local: LocalSources,
    pub(crate) started_at: Timestamp,
    /// The problems with the newest version of the configuration's file.
    pub(crate) problems: Vec<String>,
    /// Tasks that read the orders and exceptions of a new configuration, keyed by its directories, so that a directory
    /// that hangs does not block another configuration.
    pub(crate) orders: FileTasks<Vec<PathBuf>, Box<ConfiguredOrders>>,
    /// Why the members of the configured group can't use the control socket.
    pub(crate) socket_problem: Option<String>,
}

impl Configuration {
    pub(crate) fn new(config: Config, local: LocalSources) -> Self {
        Self {
            local,
            boot: config.clone(),
            current: config,
            started_at: Timestamp::now(),
            problems: Vec::new(),
            orders: FileTasks::new(),
            socket_problem: None,
        }
    }

    /// Starts to read the orders and exceptions of a pending configuration, once its lists have been read. `registry`
    /// holds the orders and exceptions in force.
    pub(crate) fn start_reading_orders(
        &mut self,
        pending: &mut PendingConfig,
        registry: &Arc<OrderRegistry>,
    ) {
        let version = registry.version();
        if !pending.is_ready() || pending.has_orders(version) {
            return;
        }
        pending.begin_orders(Instant::now());
        let folders = pending.folders();
        if self.orders.is_running(&folders) {
            return;
        }
        let places: Vec<_> = folders.iter().map(|dir| dir.shown().to_string()).collect();
        let (config, guard_policy) = (pending.config.clone(), Arc::clone(&pending.guard_policy));
        let known = Arc::clone(registry);
        let work = move || {
            let mut registry = OrderRegistry::clone(&known);
            registry.configure(&config);
            registry.check(&guard_policy);
            Box::new(ConfiguredOrders {
                config,
                of: version,
                registry,
            })
        };
        self.orders.start(folders, places.join(", "), work);
    }
}
