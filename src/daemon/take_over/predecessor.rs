//! The running process: offers its sockets, parks, leaves the queries to the new process, and ends.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::{mpsc, oneshot};

use super::departure::{come_back, leave, next, wait_until_well};
use super::launch::{Launched, Launcher, membership};
use super::warming;
use crate::control::admin::passing::Passing;
use crate::control::admin::requests::{Parking, Request};
use crate::control::admin::successor::{
    Arrivals, Outcome, Successor, TakeOvers, UpgradeReport, Upgraded,
};
use crate::control::vitals::Vitals;
use crate::daemon::essential::Essential;
use crate::daemon::inherited::Described;
use crate::daemon::link::{Link, LinkError, Message};
use crate::daemon::live::Live;
use crate::daemon::service_manager;

/// How long the new process may take to adopt the sockets.
const PREPARING: Duration = Duration::from_secs(30);
/// How long to wait until nothing is being written.
const QUIET: Duration = Duration::from_secs(30);
/// How long the new process may take to restore the policy: the compiler may have to read large lists. In all, a take-over
/// takes less time than `tapis upgrade` waits for its outcome.
const STARTING: Duration = Duration::from_secs(210);
/// How long the new process may leave a message unread while this one answers queries.
const READING: Duration = Duration::from_secs(30);
/// How long a new process may take to end after `Abort`, before it is killed: longer than it waits for its own last queries.
const ENDING: Duration = Duration::from_secs(10);

/// What is needed to hand over.
pub(crate) struct Predecessor {
    pub(crate) live: Live,
    pub(crate) requests: mpsc::Sender<Request>,
    /// The control socket.
    pub(crate) control: Option<(Described, OwnedFd)>,
    pub(crate) launcher: Arc<Launcher>,
    /// Whether a process that has the control socket may serve after this one.
    pub(crate) is_passing: Arc<AtomicBool>,
    pub(crate) essential: Essential,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) take_overs: Arc<TakeOvers>,
}

/// The end of a successful take-over.
pub(crate) struct Handover {
    /// Whether the new process has the control socket.
    pub(crate) has_control: bool,
    link: Link,
    process: OwnedFd,
    number: u32,
    /// Whether this process has read its configuration since the new one did.
    has_reloaded: bool,
}

/// What [`Handover`] has of a take-over.
struct Handed {
    has_control: bool,
    process: OwnedFd,
    has_reloaded: bool,
    report: Upgraded,
}

/// How far a take-over has come.
#[derive(Default)]
struct Progress {
    /// The new process may have the state directory.
    has_parked: bool,
    /// This process reads no queries.
    has_left: bool,
}

impl Predecessor {
    /// Waits for new processes, until one has taken over.
    pub(crate) async fn wait(self, mut arrivals: Arrivals) -> Handover {
        let this = Arc::new(self);
        loop {
            let (successor, asked): (Successor, Option<(_, Launched)>) = tokio::select! {
                Some(successor) = arrivals.successors.recv() => (successor, None),
                Some((user, reply)) = arrivals.upgrades.recv() => {
                    tracing::info!(user, "asked for an upgrade");
                    match this.launcher.launch(&mut arrivals.successors).await {
                        Ok((successor, launched)) => (successor, Some((reply, launched))),
                        Err(reason) => {
                            tracing::warn!(reason, "the upgrade failed: this process goes on");
                            this.take_overs.count(Outcome::Failed);
                            // The client may have disconnected.
                            let _ = reply.send(UpgradeReport::Failed { reason });
                            continue;
                        }
                    }
                }
                // Without a control socket, there are no new processes.
                else => std::future::pending().await,
            };
            let predecessor = Arc::clone(&this);
            let launched = asked.as_ref().map(|(_, launched)| *launched);
            let Successor { link, turn } = successor;
            let passing = arrivals.passing.clone();
            let run = move || {
                let link = Link::new(link);
                let outcome = predecessor.hand_over(&link, launched, &passing);
                drop(turn);
                outcome.map(|handed| (handed, link))
            };
            let outcome = tokio::task::spawn_blocking(run).await;
            let (report, handover) = match outcome {
                Ok(Ok((handed, link))) => {
                    let upgraded = handed.report;
                    tracing::info!(
                        connections = upgraded.connections,
                        process = upgraded.process,
                        version = upgraded.version,
                        "handed over: this process ends"
                    );
                    let handover = Handover {
                        has_control: handed.has_control,
                        link,
                        process: handed.process,
                        number: upgraded.process,
                        has_reloaded: handed.has_reloaded,
                    };
                    (UpgradeReport::Upgraded(upgraded), Some(handover))
                }
                Ok(Err(LinkError::Stopping)) => {
                    tracing::info!("stopping: the process that was to take over goes on alone");
                    let reason = LinkError::Stopping.to_string();
                    (UpgradeReport::Failed { reason }, None)
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "a take-over failed: this process goes on");
                    this.take_overs.count(Outcome::Failed);
                    let reason = error.to_string();
                    (UpgradeReport::Failed { reason }, None)
                }
                Err(_) => {
                    let reason =
                        "a bug inside tapis, which its log shows; please report it".to_owned();
                    tracing::error!(reason, "a take-over failed");
                    this.take_overs.count(Outcome::Failed);
                    (UpgradeReport::Failed { reason }, None)
                }
            };
            if let Some((reply, _)) = asked {
                // The client may have disconnected.
                let _ = reply.send(report);
            }
            if let Some(handover) = handover {
                return handover;
            }
        }
    }

    /// Returns once the new process serves. On an error, this process goes on.
    fn hand_over(
        &self,
        link: &Link,
        launched: Option<Launched>,
        passing: &Passing,
    ) -> Result<Handed, LinkError> {
        // Without it, a new process that does not end could not be killed.
        let process = open_process(link)?;
        let reloads = || self.vitals.reloads().borrow().begun;
        let before = reloads();
        let (parked, is_parked) = oneshot::channel();
        let (commit, committed) = oneshot::channel();
        // After a panic, the new process goes on alone, because the link ends. So this one stops, before the control loop
        // learns that it is not to be parked any more.
        let guard = self
            .essential
            .guard(self.essential.stop(), "the take-over by another process");
        let mut progress = Progress::default();
        let parking = Parking { parked, committed };
        let led = self.lead(link, launched, passing, parking, is_parked, &mut progress);
        let outcome = match led {
            Ok((has_control, report)) => {
                // Otherwise the socket of this process is of no use any more.
                self.is_passing.store(has_control, Ordering::Relaxed);
                // The control loop may have ended, because of a signal.
                let _ = commit.send(());
                Ok(Handed {
                    has_control,
                    process,
                    has_reloaded: reloads() != before,
                    report,
                })
            }
            Err(LinkError::Stopping) => Err(LinkError::Stopping),
            Err(error) => {
                let is_hung = matches!(error, LinkError::Hung);
                if is_hung {
                    tracing::error!(
                        "the new process gives no sign of life: it is killed, and this one reads queries again"
                    );
                    // `end` tries again if this fails.
                    let _ = pidfd_send_signal(&process, Signal::KILL);
                }
                // Queries don't wait for the end of the new process.
                if progress.has_left {
                    come_back(&self.live);
                }
                if !is_hung {
                    abort(link, &error);
                }
                if progress.has_parked {
                    end(&process);
                }
                self.is_passing.store(false, Ordering::Relaxed);
                passing.end();
                // The control plane goes on as soon as the new process can't use the state directory any more.
                drop(commit);
                Err(error)
            }
        };
        guard.release();
        outcome
    }

    fn lead(
        &self,
        link: &Link,
        launched: Option<Launched>,
        passing: &Passing,
        parking: Parking,
        is_parked: oneshot::Receiver<u64>,
        progress: &mut Progress,
    ) -> Result<(bool, Upgraded), LinkError> {
        let began = launched.map_or_else(Instant::now, |launched| launched.at);
        let process = link.peer()?.as_raw_pid().unsigned_abs();
        let is_launched = launched.is_some_and(|launched| launched.process == process);
        membership(process, is_launched).map_err(LinkError::Refused)?;
        link.set_patience(READING)?;
        // If this process stops from here on, the new one goes on.
        self.is_passing.store(true, Ordering::Relaxed);
        for (described, file) in self.sockets()? {
            link.send(&Message::Socket(described), Some(file.as_fd()))?;
        }
        let offer = Message::Offer {
            process: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        link.send(&offer, None)?;
        let Message::Prepared { version } = next(link, PREPARING)? else {
            return Err(LinkError::Strange);
        };
        let prepared = Instant::now();
        passing.begin();
        // The new process can do without it.
        match warming::written(&self.live) {
            Ok(file) => link.send(&Message::Cache, Some(file.as_fd()))?,
            Err(error) => tracing::warn!(%error, "the new process begins with an empty cache"),
        }
        let asked = self.requests.blocking_send(Request::Park(parking));
        asked.map_err(|_| LinkError::Stopping)?;
        let waiting = tokio::time::timeout(QUIET, is_parked);
        let generation = match tokio::runtime::Handle::current().block_on(waiting) {
            Ok(parked) => parked.map_err(|_| LinkError::Stopping)?,
            Err(_) => {
                return Err(LinkError::Refused(
                    "it is busy with lists or a rollback; try again when `tapis status` shows that this has ended"
                        .to_owned(),
                ));
            }
        };
        let parked = Instant::now();
        // Otherwise it would take the service for ended, and end the new process as well.
        service_manager::check().map_err(|error| {
            LinkError::Refused(format!(
                "the service manager can't be notified: {error}; try again when it can, or restart the server"
            ))
        })?;
        progress.has_parked = true;
        link.send(&Message::Parked { generation }, None)?;
        let Message::Serving { has_control } = next(link, STARTING)? else {
            return Err(LinkError::Strange);
        };
        let answered = Instant::now();
        progress.has_left = true;
        let connections = leave(&self.live, link)?;
        let drained = Instant::now();
        wait_until_well(link)?;
        let millis = |from: Instant, to: Instant| (to - from).as_millis() as u64;
        let upgraded = Upgraded {
            from: env!("CARGO_PKG_VERSION").to_owned(),
            from_process: std::process::id(),
            version,
            process,
            connections,
            prepared_millis: millis(began, prepared),
            parked_millis: millis(parked, answered),
            drained_millis: millis(answered, drained),
            all_millis: millis(began, Instant::now()),
        };
        Ok((has_control, upgraded))
    }

    fn sockets(&self) -> io::Result<Vec<(Described, OwnedFd)>> {
        let mut sockets = Vec::new();
        for endpoint in self.live.0.listeners.endpoints() {
            let configured = endpoint.configured;
            let tcp = endpoint.tcp.as_fd().try_clone_to_owned()?;
            sockets.push((Described::Tcp(configured), tcp));
            for udp in &endpoint.udp {
                let udp = udp.as_fd().try_clone_to_owned()?;
                sockets.push((Described::Udp(configured), udp));
            }
        }
        for (configured, listener) in self.live.0.monitoring.sockets()? {
            sockets.push((Described::Metrics(configured), listener.into()));
        }
        if let Some((described, file)) = &self.control {
            sockets.push((described.clone(), file.try_clone()?));
        }
        Ok(sockets)
    }
}

impl Handover {
    /// Makes the new process the only one. This process must not use the control socket and the addresses of metrics
    /// any more. `is_to_reload` is whether a reload was asked for that this process has not begun.
    pub(crate) fn finish(self, is_to_reload: bool) {
        if is_to_reload || self.has_reloaded {
            tracing::info!("a reload during the take-over is left to the new process");
            // It reads the signal once it serves alone. If this fails, it has ended.
            let _ = pidfd_send_signal(&self.process, Signal::HUP);
        }
        // In this order: the new process speaks to the service manager after `End`.
        service_manager::hand_over(self.number);
        // If this fails, the new process has ended, and the service manager restarts it.
        if self.link.send(&Message::End, None).is_err() {
            tracing::error!("the new process has ended");
        }
    }
}

/// The process at the other end of the link.
fn open_process(link: &Link) -> Result<OwnedFd, LinkError> {
    let process = pidfd_open(link.peer()?, PidfdFlags::empty()).map_err(|error| match error {
        Errno::SRCH => LinkError::ended(),
        Errno::INVAL => LinkError::Refused(
            "it can't see the new process, which runs in another container; start that in the container of the server"
                .to_owned(),
        ),
        error => io::Error::from(error).into(),
    })?;
    // If it had ended before, its number could have been another process's already.
    match link.has_ended() {
        true => Err(LinkError::ended()),
        false => Ok(process),
    }
}

fn abort(link: &Link, error: &LinkError) {
    let reason = match error {
        LinkError::Refused(reason) => reason.clone(),
        error => error.to_string(),
    };
    // If this fails, the process has ended, or does not read: in both cases, it does not go on.
    let _ = link.set_patience(ENDING);
    let _ = link.send(&Message::Abort { reason }, None);
}

/// Makes sure that the new process has ended.
fn end(process: &OwnedFd) {
    if has_ended(process, ENDING) {
        return;
    }
    tracing::error!("the new process does not end: it is killed");
    if let Err(error) = pidfd_send_signal(process, Signal::KILL) {
        tracing::error!(%error, "the new process can't be killed; stop it, so that the policy can change again");
    }
    while !has_ended(process, ENDING) {}
}

/// Waits until a process has ended.
pub(super) fn has_ended(process: &OwnedFd, patience: Duration) -> bool {
    let patience = Timespec::try_from(patience).ok();
    let mut polled = [PollFd::new(process, PollFlags::IN)];
    poll(&mut polled, patience.as_ref()).is_ok_and(|ready| ready > 0)
}
