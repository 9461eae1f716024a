//! Errors that prevent the server from starting, or stop it.

use std::io;

use super::bind::BindError;
use super::inherited::InheritedError;
use super::link::LinkError;
use super::target::UpstreamError;
use crate::control::admin::socket::SocketError;
use crate::control::start::StartError;

/// An error that prevents the server from starting, or stops it.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// An address can't be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A socket that was passed to the server can't be used.
    #[error(transparent)]
    Inherited(#[from] InheritedError),
    /// The sockets of the running server can't be taken over.
    #[error("take-over: {0}")]
    TakeOver(#[from] LinkError),
    /// An upstream server can't be used.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The control socket can't be created.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// A required list can't be read, the state directory can't be opened, or the lists have too many rules.
    #[error(transparent)]
    List(#[from] StartError),
    /// The system refuses a resource.
    #[error("the system refuses {what}: {source}")]
    System {
        /// The resource.
        what: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// Several problems, a sentence each.
    #[error("{}", .0.join("\n"))]
    Unready(Vec<String>),
    /// An essential task or thread ended while the server was running.
    #[error("{0} ended before the server did, so the server ends too; see the log")]
    Ended(&'static str),
}
