//! Reports the state of the process to the service manager, by the protocol of sd_notify(3). Without NOTIFY_SOCKET in the
//! environment, nothing is sent.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::live::Live;
use super::watchdog::Watchdog;
use crate::control::vitals::{Reloads, Vitals};
use crate::policy::current::Reader;

/// How often the line of state is compared with the policy in force.
const STATUS_PERIOD: Duration = Duration::from_secs(1);

/// Whether a message could not be sent, which is logged once.
static IS_FAILING: AtomicBool = AtomicBool::new(false);

/// The lists are being read.
pub(super) fn starting() {
    send(&[NotifyState::Status("Reading the lists")]);
}

/// The server answers under this policy.
pub(super) fn ready(policy: &Reader) {
    send(&[NotifyState::Ready, NotifyState::Status(&state(policy).0)]);
}

/// Checks that the service manager can be reached, by a message that says nothing to it.
pub(super) fn check() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Custom("X_TAPIS_IS_REACHED=1")])
}

/// Another process is the main process of the service from now on. It belongs to the cgroup of this one.
pub(super) fn hand_over(process: u32) {
    send(&[NotifyState::MainPid(process)]);
}

/// The server accepts no more queries.
pub(super) fn stopping() {
    send(&[
        NotifyState::Stopping,
        NotifyState::Status("Answering the last queries"),
    ]);
}

/// Sends states. The service manager may be absent or restarting, so an error is no reason to stop.
fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states)
        && !IS_FAILING.swap(true, Ordering::Relaxed)
    {
        tracing::warn!(%error, "the service manager can't be notified: it may take the server for failed; see NOTIFY_SOCKET");
    }
}

/// The line that `systemctl status` shows, and the generation that it describes.
fn state(policy: &Reader) -> (String, u64) {
    let snapshot = policy.load();
    let (generation, rules) = (snapshot.generation, snapshot.images().list_rules());
    let line = format!("Serving generation {generation}: {rules} rules of lists");
    (line, generation)
}

/// Sends what changes while the server runs: the state, reloads, and signs of life if the service manager expects them. To
/// be called before [`ready`], which sends the first state.
pub(super) fn follow(
    live: Live,
    policy: Reader,
    vitals: Arc<Vitals>,
    stop: CancellationToken,
) -> impl Future<Output = ()> {
    let shown = policy.load().generation;
    async move {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return;
        }
        let reloads = follow_reloads(&vitals);
        let watchdog = async {
            if let Some(patience) = sd_notify::watchdog_enabled() {
                prove_life(&live, &vitals, patience / 2).await;
            }
        };
        let all = async { tokio::join!(follow_policy(&policy, shown), reloads, watchdog) };
        stop.run_until_cancelled(all).await;
    }
}

/// Sends the state when the generation is not `shown` any more.
async fn follow_policy(policy: &Reader, mut shown: u64) {
    let mut tick = interval(STATUS_PERIOD);
    loop {
        tick.tick().await;
        if shown != policy.load().generation {
            let (line, generation) = state(policy);
            send(&[NotifyState::Status(&line)]);
            shown = generation;
        }
    }
}

/// Reports each reload: the beginning, and that the server is ready again. This is the protocol of `Type=notify-reload`,
/// which `Type=notify` permits as well.
async fn follow_reloads(vitals: &Vitals) {
    let mut reloads = vitals.reloads();
    let mut before = *reloads.borrow_and_update();
    while reloads.changed().await.is_ok() {
        let Reloads { begun, under_way } = *reloads.borrow_and_update();
        if begun != before.begun {
            match NotifyState::monotonic_usec_now() {
                Ok(now) => send(&[NotifyState::Reloading, now]),
                Err(_) => send(&[NotifyState::Reloading]),
            }
        }
        if !under_way {
            send(&[NotifyState::Ready]);
        }
        before = Reloads { begun, under_way };
    }
}

/// Sends a sign of life each `period`, as long as the UDP workers and the control loop do their work.
async fn prove_life(live: &Live, vitals: &Vitals, period: Duration) {
    let mut watchdog = Watchdog::new(Instant::now());
    let mut tick = interval(period.max(Duration::from_millis(1)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_well = true;
    loop {
        tick.tick().await;
        let checked = watchdog.check(live.0.workers(), vitals.turns(), Instant::now());
        match &checked {
            Ok(()) => send(&[NotifyState::Watchdog]),
            Err(why) if is_well => {
                tracing::error!(
                    why,
                    "no sign of life for the service manager, which restarts the server if this lasts"
                );
            }
            Err(_) => {}
        }
        is_well = checked.is_ok();
    }
}
