//! The observer of finished queries. To add another observer, change only this file: all threads use this type.

use std::sync::Arc;

use crate::recorder::Tap;
use crate::stats::Counters;

/// The observer that the data plane calls for each query. A tuple of observers is an observer.
pub(super) type QueryObserver = (Arc<Counters>, Arc<Tap>);

/// The observer of a thread that has these counters and this tap.
pub(super) fn query_observer(counters: &Arc<Counters>, tap: Arc<Tap>) -> QueryObserver {
    (Arc::clone(counters), tap)
}
