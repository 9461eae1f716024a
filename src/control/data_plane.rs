//! The interface of the control plane to the data plane: its gauges, the application of a new configuration, and the
//! addresses of hosts.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::config::Config;
use crate::control::gauges::Gauges;
use crate::wire::name::Name;

/// The data plane, as far as the control plane uses it.
pub trait DataPlane: Send + Sync {
    /// The present values of its gauges.
    fn gauges(&self) -> Gauges;

    /// Reopens the files of records, because another program may have rotated them. Does not block.
    fn reopen_records(&self) {}

    /// Prepares a new configuration, without applying it. May block on files.
    ///
    /// # Errors
    /// The reasons why the data plane can't run with the configuration, a sentence each. The configuration is
    /// rejected then.
    fn prepare(&self, config: &Config) -> Result<Change, Vec<String>>;

    /// Reads the files again that the configuration in force names, and applies those that changed. May block on files.
    /// Returns what changed.
    ///
    /// # Errors
    /// Why they can't be used, a sentence each. What was read before stays in use.
    fn read_again(&self) -> Result<Vec<String>, Vec<String>> {
        Ok(Vec::new())
    }
}

/// A data plane that only reports gauges, and accepts every configuration.
impl<F: Fn() -> Gauges + Send + Sync> DataPlane for F {
    fn gauges(&self) -> Gauges {
        self()
    }

    fn prepare(&self, _: &Config) -> Result<Change, Vec<String>> {
        Ok(Change {
            restart: Vec::new(),
            precede: Box::new(|| {}),
            apply: Box::new(|| {}),
        })
    }
}

/// Resolves the hosts of URLs, by the upstream servers and without the policy: the resolver of this machine may be this
/// server.
pub trait Hosts: Send + Sync {
    /// The addresses of a host, of both families; at least one.
    ///
    /// # Errors
    /// Why there is none, as a part of a sentence.
    fn addresses(&self, host: &Name) -> BoxFuture<'static, Result<Vec<IpAddr>, String>>;
}

/// Resolves nothing, for a control plane without upstream servers.
#[derive(Clone, Copy, Debug)]
pub struct NoHosts;

impl Hosts for NoHosts {
    fn addresses(&self, _: &Name) -> BoxFuture<'static, Result<Vec<IpAddr>, String>> {
        Box::pin(std::future::ready(Err(
            "there are no upstream servers".to_owned()
        )))
    }
}

/// A prepared change of the data plane to a new configuration. Drop it to cancel the change.
pub struct Change {
    /// Keys whose new values need a restart.
    pub restart: Vec<String>,
    /// Sends the queries for forwarded zones to their new servers, to be called before the policy of the configuration is in
    /// force: names that it does not answer locally any more must never be sent to others. Does not block.
    pub precede: Box<dyn Fn() + Send + Sync>,
    /// Applies the configuration. Must be called within the tokio runtime. Does not block.
    pub apply: Box<dyn FnOnce() + Send + Sync>,
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Change(restart: {:?})", self.restart)
    }
}

/// The data plane, if it has started, and its change to a new configuration.
#[derive(Default)]
pub(crate) struct Following {
    plane: Option<Arc<dyn DataPlane>>,
    /// The change to apply once the policy of the same configuration is in force.
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

    /// Keys of the configuration in force whose values need a restart.
    pub(crate) fn restart(&self) -> &[String] {
        &self.restart
    }

    /// Stores the change to an accepted configuration until its policy is in force.
    pub(crate) fn take(&mut self, change: Change) {
        self.pending = Some(change);
    }

    /// Applies the part of the stored change that comes before the publication of its policy.
    pub(crate) fn precede(&self) {
        if let Some(change) = &self.pending {
            (change.precede)();
        }
    }

    /// Applies the stored change. Called after publication, so that `allow` is in force before the server listens on
    /// new addresses.
    pub(crate) fn follow(&mut self) {
        if let Some(change) = self.pending.take() {
            self.restart = change.restart;
            (change.apply)();
        }
    }
}
