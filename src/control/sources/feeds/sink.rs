//! Where a transfer goes while it arrives.

use std::future::Future;

use crate::wire::transfer::{Kind, Record, Request, Soa};

/// Takes a transfer. Nothing that it took may be used before [`end`](Self::end).
///
/// The next message is read from the network only when the future of the one before has ended, so a sink that is slow
/// slows the primary down.
pub trait Sink: Send {
    /// Why the sink can't take more.
    type Error: Send;

    /// A transfer begins. May be called again, if the transfer failed and is repeated in another way: what was taken
    /// before is void then.
    fn begin(&mut self, begin: &Begin<'_>) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// The next record of a whole zone. [`message`](Self::message) follows with all of them. Its data is not checked.
    fn record(&mut self, _record: &Record<'_>) {}

    /// The next message of a whole zone, without its length field. All of its records are in the zone, but their data is
    /// not checked. With TSIG, its signature was checked, or is covered by that of a later message. A
    /// [`Transfer`](crate::wire::transfer::Transfer) for the request in [`Begin`] reads it.
    fn message(&mut self, message: &[u8]) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// The next change. Changes apply in this order: a record may be deleted and added again.
    ///
    /// # Errors
    /// If the sink can't take it. The transfer ends then.
    fn change(&mut self, change: Change, record: &Record<'_>) -> Result<(), Self::Error>;

    /// The transfer is complete and authentic.
    fn end(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// The beginning of a transfer.
#[derive(Clone, Copy, Debug)]
pub struct Begin<'a> {
    /// The query that is answered.
    pub request: &'a Request,
    /// The SOA record of the new version.
    pub soa: &'a Soa,
    /// Whether messages or changes follow; never [`Kind::UpToDate`].
    pub kind: Kind,
}

/// What happens to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is not in the zone any more.
    Delete,
    /// It is in the zone now.
    Add,
}
