//! Owns the question what time it is, for those whose decisions have dates.
//! Refuses to answer it: `daemon` has the system's clock, tests have one of their own.

use std::fmt::Debug;
use std::pin::Pin;

use jiff::Timestamp;

/// A wait that ends.
pub type Wait<'w> = Pin<Box<dyn Future<Output = ()> + Send + 'w>>;

/// The clock on the wall, which may be set forth and back.
pub trait WallClock: Debug + Send + Sync {
    /// What it shows.
    fn now(&self) -> Timestamp;

    /// Waits until it shows that instant or a later one, or until it was set; may end early.
    fn until(&self, at: Timestamp) -> Wait<'_>;
}

/// A clock for tests, on which no date arrives.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Still;

#[cfg(test)]
impl WallClock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn until(&self, _: Timestamp) -> Wait<'_> {
        Box::pin(std::future::pending())
    }
}
