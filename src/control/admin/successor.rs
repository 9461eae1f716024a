//! The requests to replace this server by a new process: that of the new process, which turns a connection to the control
//! socket into a link between the two, and that of an operator.

use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Json;
use axum::extract::Request;
use axum::http::header::{CONNECTION, UPGRADE};
use axum::http::{StatusCode, Version};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::Upgraded as UpgradedStream;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::passing::Passing;

/// The protocol that is spoken on the link, with its version. Programs with different ones can't take over from each
/// other.
pub const PROTOCOL: &str = "tapis-take-over/1";
/// The path of the request of a new process.
pub const PATH: &str = "/take-over";
/// The path of the request of an operator.
pub const UPGRADE_PATH: &str = "/upgrade";

const FOREIGN: &str = "only the server's user and root may take over from it";
const BUSY: &str = "another process is taking over at this moment";

/// A process that wants to take over.
#[derive(Debug)]
pub struct Successor {
    /// The link to it.
    pub link: StdStream,
    /// Until this is dropped, no other process can take over.
    pub turn: OwnedSemaphorePermit,
}

/// What came of a request for an upgrade.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpgradeReport {
    /// The new process serves.
    Upgraded(Upgraded),
    /// The process that was asked has ended without a report, and another one serves. Only the verb finds this out.
    Replaced(Replaced),
    /// The running process goes on.
    Failed {
        /// The reason, with the remedy.
        reason: String,
    },
}

/// A server before and after an upgrade without a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Replaced {
    /// The version of the process before.
    pub from: String,
    /// Its process ID.
    pub from_process: u32,
    /// The version of the process that serves.
    pub version: String,
    /// Its process ID.
    pub process: u32,
}

/// A take-over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Upgraded {
    /// The version of the process before.
    pub from: String,
    /// Its process ID.
    pub from_process: u32,
    /// The version of the new process.
    pub version: String,
    /// Its process ID.
    pub process: u32,
    /// Open TCP connections that the new process has got.
    pub connections: usize,
    /// From the start of the new process until it had adopted the sockets.
    pub prepared_millis: u64,
    /// From then on, while nothing could change the policy, until the new process answered queries.
    pub parked_millis: u64,
    /// Until the process before had answered its last query.
    pub drained_millis: u64,
    /// From the start of the new process to the end.
    pub all_millis: u64,
}

/// A request for an upgrade: its user, and where the report goes.
pub type UpgradeRequest = (u32, oneshot::Sender<UpgradeReport>);

/// A result of take-overs, as far as this process has a part in them.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    /// This process has taken over from another one, or goes on alone after the death of that one.
    Succeeded,
    /// Another process was to take over, and this one goes on.
    Failed,
    /// Another process, or an operator, was not permitted to begin.
    Refused,
}

/// How often each [`Outcome`] came about since the start of the process.
#[derive(Debug, Default)]
pub struct TakeOvers([AtomicU64; 3]);

impl TakeOvers {
    /// Counts one.
    pub fn count(&self, outcome: Outcome) {
        self.0[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The counts by the names of the outcomes.
    pub fn read(&self) -> [(&'static str, u64); 3] {
        let [succeeded, failed, refused] = &self.0;
        [
            ("succeeded", succeeded),
            ("failed", failed),
            ("refused", refused),
        ]
        .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
    }
}

/// Passes requests to the part of the server that deals with them.
#[derive(Clone, Debug)]
pub struct Successors {
    successors: mpsc::Sender<Successor>,
    upgrades: mpsc::Sender<UpgradeRequest>,
    turn: Arc<Semaphore>,
    take_overs: Arc<TakeOvers>,
    pub(super) passing: Passing,
}

/// The requests as they arrive.
#[derive(Debug)]
pub struct Arrivals {
    /// New processes.
    pub successors: mpsc::Receiver<Successor>,
    /// Requests to start one.
    pub upgrades: mpsc::Receiver<UpgradeRequest>,
    /// Holds back changes while another process takes over.
    pub passing: Passing,
}

/// Both ends of the queues of requests. Those that are refused are counted in `take_overs`.
pub fn successors(take_overs: Arc<TakeOvers>) -> (Successors, Arrivals) {
    let (to_successors, successors) = mpsc::channel(1);
    let (to_upgrades, upgrades) = mpsc::channel(1);
    let turn = Arc::new(Semaphore::new(1));
    let passing = Passing::default();
    let sender = Successors {
        successors: to_successors,
        upgrades: to_upgrades,
        turn,
        take_overs,
        passing: passing.clone(),
    };
    let arrivals = Arrivals {
        successors,
        upgrades,
        passing,
    };
    (sender, arrivals)
}

impl Successors {
    /// Answers the request of a new process. Only the server's own user and root may take over.
    pub(super) fn answer(&self, mut request: Request, caller: u32, user: u32) -> Response {
        if !is_permitted(caller, user) {
            return self.refuse(caller, StatusCode::FORBIDDEN, FOREIGN);
        }
        let asked = request.headers().get(UPGRADE);
        let asked = asked.map_or("none", |it| it.to_str().unwrap_or("an unknown protocol"));
        if asked != PROTOCOL || request.version() != Version::HTTP_11 {
            let text = format!(
                "this server (version {}) speaks {PROTOCOL}, and the new process {asked}, so it can't take over; restart the server instead",
                env!("CARGO_PKG_VERSION")
            );
            return self.refuse(caller, StatusCode::CONFLICT, &text);
        }
        let Ok(turn) = Arc::clone(&self.turn).try_acquire_owned() else {
            return self.refuse(caller, StatusCode::CONFLICT, BUSY);
        };
        let upgrade = hyper::upgrade::on(&mut request);
        let sender = self.successors.clone();
        tokio::spawn(async move {
            // If this fails, the process has ended, and its turn ends, too.
            if let Ok(upgraded) = upgrade.await
                && let Some(link) = link(upgraded)
            {
                let _ = sender.send(Successor { link, turn }).await;
            }
        });
        let head = [(CONNECTION, "upgrade"), (UPGRADE, PROTOCOL)];
        (StatusCode::SWITCHING_PROTOCOLS, head).into_response()
    }

    fn refuse(&self, user: u32, status: StatusCode, reason: &str) -> Response {
        self.take_overs.count(Outcome::Refused);
        tracing::warn!(user, reason, "a take-over was refused");
        (status, reason.to_owned()).into_response()
    }

    /// Answers the request for an upgrade, once it has succeeded or failed. The same users may ask for it.
    pub(super) async fn upgrade(&self, caller: u32, user: u32) -> Response {
        if !is_permitted(caller, user) {
            return self.refuse(caller, StatusCode::FORBIDDEN, FOREIGN);
        }
        let (reply, report) = oneshot::channel();
        if self.turn.available_permits() == 0 || self.upgrades.try_send((caller, reply)).is_err() {
            return self.refuse(caller, StatusCode::CONFLICT, BUSY);
        }
        match report.await {
            Ok(report) => Json(report).into_response(),
            Err(_) => {
                let text = "the server is shutting down";
                (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
            }
        }
    }
}

fn is_permitted(caller: u32, user: u32) -> bool {
    caller == user || caller == 0
}

/// The connection below HTTP. The other process sends nothing before it has read the answer, so no byte is lost.
fn link(upgraded: UpgradedStream) -> Option<StdStream> {
    let parts = upgraded.downcast::<TokioIo<UnixStream>>().ok()?;
    let link = parts.io.into_inner().into_std().ok()?;
    link.set_nonblocking(false).ok()?;
    Some(link)
}
