//! The observer of finished queries. Another observer is added here, and with it to all threads.

use std::sync::Arc;

use crate::stats::Counters;

/// The observer that the data plane calls for each query. A tuple of observers is an observer.
pub(super) type QueryObserver = Arc<Counters>;

/// The observer of a thread that has these counters.
pub(super) fn query_observer(counters: &Arc<Counters>) -> QueryObserver {
    Arc::clone(counters)
}
