//! The wall clock by which orders and exceptions begin and end. `daemon` implements it with the system's clock.

use std::fmt::Debug;
use std::pin::Pin;

use jiff::Timestamp;

/// The future of [`WallClock::until`].
pub type Wait<'w> = Pin<Box<dyn Future<Output = ()> + Send + 'w>>;

/// A clock that may be set forward and back.
pub trait WallClock: Debug + Send + Sync {
    /// The time that it shows.
    fn now(&self) -> Timestamp;

    /// Waits until it shows that instant or a later one, or until it is set. May end early.
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
