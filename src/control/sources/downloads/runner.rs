//! The task of one downloaded list: asks its mirrors when that is due.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::copy::Copied;
use super::fault::{DownloadFault, Failure};
use super::fetch::{Fetched, Fetcher};
use super::report::{DownloadReport, MirrorReport};
use crate::control::sources::feeds::repeats::Repeats;

/// The pause after the first failure. It doubles with each further one, up to the refresh time.
const AGAIN: Duration = Duration::from_secs(60);
/// The part of the refresh time by which it varies, so that the servers of many installations are not asked at once.
const JITTER: f64 = 0.1;

/// A copy that was replaced.
#[derive(Debug)]
pub(crate) struct Replaced {
    /// The name of the list.
    pub(crate) list: String,
    /// Dropped when the list was read, or will not be.
    pub(crate) done: oneshot::Sender<()>,
}

/// What connects a runner with the rest of the server.
pub(super) struct Links {
    pub(super) replaced: mpsc::Sender<Replaced>,
    /// The number of the operator's last request.
    pub(super) requests: watch::Receiver<u64>,
    pub(super) reports: watch::Sender<DownloadReport>,
}

/// The task of one list.
pub(super) struct Runner {
    fetcher: Fetcher,
    links: Links,
    /// The copy that is here.
    copied: Option<Copied>,
    /// The mirror that worked last, which is asked first.
    preferred: usize,
    faults: Vec<Option<Failure>>,
    counts: BTreeMap<DownloadFault, u64>,
    logged: Repeats<(usize, DownloadFault)>,
    /// Attempts that failed in a row.
    failures: u32,
    is_current: Option<bool>,
    next: Instant,
    answered: u64,
}

impl Runner {
    pub(super) async fn new(fetcher: Fetcher, links: Links) -> Self {
        let now = Instant::now();
        let copied = fetcher.known().await;
        let urls = &fetcher.download.urls;
        let known = |copied: &Copied| urls.iter().position(|url| url.to_string() == copied.url);
        let age = |copied: &Copied| Timestamp::now().duration_since(copied.confirmed);
        let next = copied.as_ref().map_or(now, |copied| {
            let age = Duration::try_from(age(copied)).unwrap_or_default();
            now + varied(fetcher.download.refresh).saturating_sub(age)
        });
        let answered = *links.requests.borrow();
        Self {
            preferred: copied.as_ref().and_then(known).unwrap_or(0),
            faults: vec![None; urls.len()],
            counts: BTreeMap::new(),
            logged: Repeats::default(),
            failures: 0,
            is_current: None,
            copied,
            fetcher,
            links,
            next,
            answered,
        }
    }

    /// Runs until the list is not configured any more.
    pub(super) async fn run(mut self) {
        loop {
            self.report(false);
            tokio::select! {
                () = sleep_until(self.next) => {}
                changed = self.links.requests.changed() => if changed.is_err() {
                    return;
                },
            }
            let request = *self.links.requests.borrow_and_update();
            self.report(true);
            let replaced = self.attempt().await;
            // The source of the new copy must be known when it is read.
            self.report(true);
            if replaced && let Some(done) = self.announce().await {
                // Its sender is dropped when the list was read.
                let _ = done.await;
            }
            self.answered = request;
        }
    }

    /// Asks the mirrors until one has sent or confirmed the newest version. Returns whether the copy was replaced.
    async fn attempt(&mut self) -> bool {
        let client = match self.fetcher.client().await {
            Ok(client) => client,
            Err(failure) => {
                self.fail(self.preferred, failure);
                return self.fail_all(None);
            }
        };
        let mut order: Vec<_> = (0..self.faults.len()).collect();
        order.sort_by_key(|index| *index != self.preferred);
        let mut retry_after = None;
        for index in order {
            let url = self.fetcher.download.urls[index].clone();
            let known = self.copied.as_ref();
            match self.fetcher.fetch(&client, &url, known).await {
                Ok(fetched) => return self.succeed(index, fetched),
                Err(failure) => {
                    let (is_ours, after) = (failure.fault.is_ours(), failure.retry_after);
                    retry_after = retry_after.max(after);
                    self.fail(index, failure);
                    if is_ours {
                        break;
                    }
                }
            }
        }
        self.fail_all(retry_after)
    }

    fn succeed(&mut self, index: usize, fetched: Fetched) -> bool {
        let Fetched { copied, is_new } = fetched;
        let (list, url) = (&*self.fetcher.list, &copied.url);
        let unreported = self.logged.forget(|(of, _)| *of == index);
        if is_new {
            tracing::info!(list, url, sha256 = copied.sha256, "list downloaded");
        } else if self.faults[index].is_some() {
            tracing::info!(list, url, unreported, "the server works again");
        }
        self.copied = Some(copied);
        (self.preferred, self.failures, self.is_current) = (index, 0, Some(true));
        self.faults[index] = None;
        self.next = Instant::now() + varied(self.fetcher.download.refresh);
        is_new
    }

    fn fail(&mut self, index: usize, failure: Failure) {
        *self.counts.entry(failure.fault).or_default() += 1;
        let kind = (index, failure.fault);
        if let Some(unreported) = self.logged.add(kind, Instant::now()) {
            let list = &*self.fetcher.list;
            let (url, fault) = (&self.fetcher.download.urls[index], failure.fault.name());
            tracing::warn!(list, %url, fault, unreported, "list not downloaded: {failure}");
        }
        self.faults[index] = Some(failure);
    }

    fn fail_all(&mut self, retry_after: Option<Duration>) -> bool {
        let refresh = self.fetcher.download.refresh;
        let pause = pause(self.failures, refresh, retry_after);
        self.failures = self.failures.saturating_add(1);
        self.is_current = Some(false);
        self.next = Instant::now() + varied(pause);
        false
    }

    /// Tells the control loop that the copy was replaced. `None` if the server ends.
    async fn announce(&self) -> Option<oneshot::Receiver<()>> {
        let (done, waits) = oneshot::channel();
        let list = self.fetcher.list.clone();
        let sent = self.links.replaced.send(Replaced { list, done }).await;
        sent.is_ok().then_some(waits)
    }

    fn report(&self, is_active: bool) {
        let mirrors = self.fetcher.download.urls.iter().zip(&self.faults);
        let mirrors = mirrors.map(|(url, fault)| MirrorReport {
            url: url.to_string(),
            fault: fault.as_ref().map(|it| it.fault.name().to_owned()),
            text: fault.as_ref().map(ToString::to_string),
        });
        let counts = self.counts.iter();
        let wait = SignedDuration::try_from(self.next.saturating_duration_since(Instant::now()));
        let next = wait
            .ok()
            .and_then(|wait| Timestamp::now().checked_add(wait).ok());
        self.links.reports.send_replace(DownloadReport {
            mirrors: mirrors.collect(),
            source: self.copied.as_ref().map(|copied| copied.url.clone()),
            fetched: self.copied.as_ref().map(|copied| copied.fetched),
            confirmed: self.copied.as_ref().map(|copied| copied.confirmed),
            next: next.filter(|_| !is_active),
            is_active,
            is_current: self.is_current,
            faults: counts
                .map(|(fault, count)| (fault.name().to_owned(), *count))
                .collect(),
            answered: self.answered,
        });
    }
}

/// The pause after an attempt that failed, when `failures` before it failed, too.
fn pause(failures: u32, refresh: Duration, retry_after: Option<Duration>) -> Duration {
    let doubled = AGAIN.saturating_mul(2_u32.saturating_pow(failures.min(20)));
    doubled.max(retry_after.unwrap_or_default()).min(refresh)
}

/// A time that is longer or shorter by up to [`JITTER`].
fn varied(time: Duration) -> Duration {
    time.mul_f64(1.0 - JITTER + 2.0 * JITTER * rand::random::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn failures_are_tried_again_after_a_minute_and_then_less_often_up_to_the_refresh_time() {
        let minutes = |failures, retry_after| pause(failures, HOUR, retry_after).as_secs() / 60;
        assert_eq!(
            [0, 1, 2, 5, 6, 1000].map(|it| minutes(it, None)),
            [1, 2, 4, 32, 60, 60]
        );
        assert_eq!(minutes(0, Some(HOUR / 2)), 30);
        assert_eq!(
            minutes(0, Some(100 * HOUR)),
            60,
            "the server can't silence the list for good"
        );
        assert_eq!(minutes(0, Some(Duration::ZERO)), 1);
    }

    #[test]
    fn refresh_times_vary_by_a_tenth() {
        let times: Vec<_> = (0..200).map(|_| varied(HOUR)).collect();
        assert!(
            times
                .iter()
                .all(|time| (HOUR * 9 / 10..=HOUR * 11 / 10).contains(time))
        );
        assert!(times.iter().any(|time| *time < HOUR) && times.iter().any(|time| *time > HOUR));
    }
}
