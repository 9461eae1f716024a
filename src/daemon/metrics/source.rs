//! What metrics are computed from: the figures of the control plane, and the running data plane.

use std::sync::{Arc, OnceLock, Weak};

use jiff::Timestamp;

use super::connections::Connections;
use super::plane::Plane;
use crate::control::admin::successor::TakeOvers;
use crate::control::figures::{Figures, PublishedFigures};

/// The state of this server, as far as metrics show it. Reading it waits for no other thread.
pub(crate) struct Source {
    /// When the process started.
    pub(super) started: Timestamp,
    /// The connections of clients that read it.
    pub(super) connections: Connections,
    figures: PublishedFigures,
    pub(super) take_overs: Arc<TakeOvers>,
    /// The data plane has a reference to this in turn.
    plane: OnceLock<Weak<dyn Plane>>,
}

impl Source {
    /// The state of a server that reads its lists.
    pub(crate) fn new(figures: PublishedFigures, take_overs: Arc<TakeOvers>) -> Self {
        Self {
            started: Timestamp::now(),
            connections: Connections::default(),
            figures,
            take_overs,
            plane: OnceLock::new(),
        }
    }

    /// Adds the data plane, once it has started.
    pub(crate) fn follow(&self, plane: Weak<dyn Plane>) {
        self.plane.get_or_init(|| plane);
    }

    /// The figures of the control plane; `None` before it runs.
    pub(super) fn figures(&self) -> Option<Arc<Figures>> {
        self.figures.load_full()
    }

    /// The data plane; `None` before it runs.
    pub(super) fn plane(&self) -> Option<Arc<dyn Plane>> {
        self.plane.get()?.upgrade()
    }

    /// Why the server should get no queries now, in one line; `None` if it should.
    pub(super) fn unready(&self) -> Option<String> {
        let Some(plane) = self.plane() else {
            return Some("starting: the lists are being read".to_owned());
        };
        if let Some(why) = plane.unready() {
            return Some(why.to_owned());
        }
        match self.figures() {
            Some(figures) => figures.unready(),
            None => Some("starting: the state of the policy is not known yet".to_owned()),
        }
    }
}
