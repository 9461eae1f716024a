//! Everything that can happen to the control plane, as one type that the control loop routes.

use std::path::PathBuf;

use super::admin::hits::Counted;
use super::admin::preparing::Prepared;
use super::admin::requests::Request;
use super::compile::job::Compiled;
use super::publish::delta::Joining;
use super::sources::downloads::verdict::Replaced;
use super::sources::feeds::delivery::Delivery;
use super::sources::feeds::notified::Notified;
use super::sources::files::Files;
use super::sources::lists::reading::FinishedLoad;
use super::sources::orders::reading::RegistryRead;
use super::sources::pauses::Written;
use super::sources::pending::ConfiguredOrders;
use super::sources::watch::{Following, Touched};
use crate::control::rollback::state::RollbackFiles;

/// Something that happened.
pub(crate) enum Event {
    Request(Request),
    /// SIGHUP.
    HangUp,
    /// Something happened to files.
    Touched(Vec<Touched>),
    /// A file may be read now.
    Due,
    /// An order, an exception or a pause may begin or end now.
    Date,
    /// All files are looked at, for changes that no event reported.
    Sweep,
    /// The copy of a downloaded list was replaced.
    Downloaded(Replaced),
    /// A feed has a new version of its zone.
    Delivered(Box<Delivery>),
    /// The data plane received a NOTIFY for a feed.
    Notified(Notified),
    /// A small list was read.
    Loaded(Box<FinishedLoad>),
    /// Small lists were joined into a delta.
    Joined(Box<Joining>),
    /// The compiler ended.
    Compiled(Box<Compiled>),
    /// The images in force were written, or could not be.
    ImagesWritten(bool),
    // All events from here on: a task that reads or writes files has ended. The value is `None` if the task panicked.
    /// Files of orders and exceptions were read.
    OrdersRead(Option<Box<RegistryRead>>),
    /// The lists in a directory were looked at.
    Looked(PathBuf, Option<Files>),
    /// The current directories are watched now.
    Followed(Option<Following>),
    /// The files that a reload needs were read.
    Prepared(Option<Box<Prepared>>),
    /// The orders and exceptions of a new configuration were read.
    ConfiguredOrders(Option<Box<ConfiguredOrders>>),
    /// A rollback's files were read and written.
    RollbackFiles(Option<RollbackFiles>),
    /// The pauses of lists were written, or could not be.
    PausesWritten(Option<Written>),
    /// The counts of hits were written.
    Counted(Option<Counted>),
}
