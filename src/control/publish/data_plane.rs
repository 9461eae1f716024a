//! The data plane as the control plane sees it: how it does, and how it follows a new configuration.

use std::fmt;
use std::sync::Arc;

use crate::config::Config;
use crate::control::admin::status::Gauges;

/// The data plane.
pub trait DataPlane: Send + Sync {
    /// How it does.
    fn gauges(&self) -> Gauges;

    /// Gets ready for a configuration and changes nothing yet. May wait for files.
    ///
    /// # Errors
    /// Why the configuration can't be followed, a sentence each. It is refused then.
    fn prepare(&self, config: &Config) -> Result<Change, Vec<String>>;
}

/// One that only reports.
impl<F: Fn() -> Gauges + Send + Sync> DataPlane for F {
    fn gauges(&self) -> Gauges {
        self()
    }

    fn prepare(&self, _: &Config) -> Result<Change, Vec<String>> {
        Ok(Change {
            restart: Vec::new(),
            apply: Box::new(|| {}),
        })
    }
}

/// What a data plane has ready for a configuration. It is given up by dropping it.
pub struct Change {
    /// Keys that it can't follow before a restart.
    pub restart: Vec<String>,
    /// Follows the configuration. Runs within the runtime, and never waits.
    pub apply: Box<dyn FnOnce() + Send + Sync>,
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Change(restart: {:?})", self.restart)
    }
}

/// The data plane that follows the configuration, once there is one.
#[derive(Default)]
pub(crate) struct Following {
    plane: Option<Arc<dyn DataPlane>>,
    /// It is to follow this once the policy of the same configuration is in force.
    pending: Option<Change>,
    restart: Vec<String>,
}

impl Following {
    pub(crate) fn new(plane: Arc<dyn DataPlane>) -> Self {
        Self {
            plane: Some(plane),
            pending: None,
            restart: Vec::new(),
        }
    }

    pub(crate) fn plane(&self) -> Option<Arc<dyn DataPlane>> {
        self.plane.clone()
    }

    pub(crate) fn gauges(&self) -> Gauges {
        self.plane()
            .map_or_else(Gauges::default, |plane| plane.gauges())
    }

    /// The keys that it can't follow before a restart.
    pub(crate) fn restart(&self) -> &[String] {
        &self.restart
    }

    /// A new configuration is taken.
    pub(crate) fn take(&mut self, change: Change) {
        self.pending = Some(change);
    }

    /// Its policy is in force: who may ask counts before new addresses are listened on.
    pub(crate) fn follow(&mut self) {
        if let Some(change) = self.pending.take() {
            self.restart = change.restart;
            (change.apply)();
        }
    }
}
