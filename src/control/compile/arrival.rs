//! How much of each transferred zone has arrived: the server reports it, and the compiler reads no further.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::control::sources::feeds::arrival::{Arrival, ArrivalState};

/// How long the compiler waits before it reports that it still waits.
const PATIENCE: Duration = Duration::from_secs(1);

/// The newest report about each list.
#[derive(Debug, Default)]
pub struct Arrivals {
    newest: Mutex<HashMap<String, (u64, ArrivalState)>>,
    changed: Condvar,
}

impl Arrivals {
    /// Records a report.
    pub fn report(&self, arrival: Arrival) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.insert(arrival.list, (arrival.bytes, arrival.state));
        self.changed.notify_all();
    }

    /// Waits until more than `known` bytes of a list have arrived or its transfer has ended. Returns the number of bytes,
    /// and the state; after a second at the latest.
    pub(super) fn wait(&self, list: &str, known: u64) -> (u64, ArrivalState) {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = |newest: &mut HashMap<String, (u64, ArrivalState)>| match newest.get(list) {
            Some((bytes, state)) => *bytes <= known && *state == ArrivalState::Arriving,
            None => true,
        };
        let waited = self.changed.wait_timeout_while(newest, PATIENCE, waits);
        let (newest, _) = waited.unwrap_or_else(PoisonError::into_inner);
        newest.get(list).cloned().unwrap_or_default()
    }
}
