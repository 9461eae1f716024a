//! The task of one downloaded list: asks its mirrors when that is due.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep_until};

use super::attempts::{Attempt, Attempts};
use super::client::Client;
use super::copy::Copies;
use super::fault::{DownloadFault, Failure};
use super::fetch::{Fetched, Fetcher};
use super::report::{DownloadReport, MirrorReport};
use super::verdict::{Reason, Replaced, Verdict};
use crate::control::sources::feeds::repeats::Repeats;

/// The pause after the first failure. It doubles with each further one, up to the refresh time.
const AGAIN: Duration = Duration::from_secs(60);
/// How long the copies are trusted. To check them, all of them are read.
const TRUST: Duration = Duration::from_secs(24 * 3600);
/// The part of the refresh time by which it varies, so that the servers of many installations are not asked at once.
const JITTER: f64 = 0.1;

/// What connects a runner with the rest of the server.
pub(super) struct Links {
    pub(super) replaced: mpsc::Sender<Replaced>,
    /// How to download the list.
    pub(super) fetchers: watch::Receiver<Fetcher>,
    /// The number of the operator's last request.
    pub(super) requests: watch::Receiver<u64>,
    /// The results of loads that this task has not asked for; `None` if the list may have to be read again.
    pub(super) verdicts: watch::Receiver<Option<Verdict>>,
    pub(super) reports: watch::Sender<DownloadReport>,
}

/// What a runner does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activity {
    /// It waits until the mirrors are to be asked.
    Idle,
    /// It waits until another transfer ends.
    Queued,
    Asking,
}

/// The task of one list.
pub(super) struct Runner {
    fetcher: Fetcher,
    links: Links,
    attempts: Attempts,
    attempt: Attempt,
    /// The versions that are here.
    copies: Option<Copies>,
    /// Why the newest version is not in force; `None` also if that is not known.
    verdict: Option<Verdict>,
    faults: Vec<Option<Failure>>,
    counts: BTreeMap<DownloadFault, u64>,
    logged: Repeats<(usize, DownloadFault)>,
    /// Attempts that failed in a row.
    failures: u32,
    is_current: Option<bool>,
    /// Whether a copy was damaged, and has not been downloaded again.
    is_damaged: bool,
    /// When the copies were checked, and whole; `None` if they are to be checked.
    checked: Option<Instant>,
    next: Instant,
    answered: u64,
}

impl Runner {
    /// A runner for which all requests up to `answered` were made before it.
    pub(super) fn new(links: Links, attempts: Attempts, answered: u64) -> Self {
        let fetcher = links.fetchers.borrow().clone();
        Self {
            faults: vec![None; fetcher.download.urls.len()],
            attempt: attempts.begin(),
            attempts,
            fetcher,
            links,
            copies: None,
            verdict: None,
            counts: BTreeMap::new(),
            logged: Repeats::default(),
            failures: 0,
            is_current: None,
            is_damaged: false,
            checked: None,
            next: Instant::now(),
            answered,
        }
    }

    /// Runs until the list is not configured any more.
    pub(super) async fn run(mut self) {
        self.next = Instant::now();
        self.look().await;
        if !self.is_damaged {
            self.next = self.refresh_time();
        }
        loop {
            self.judge_between().await;
            self.report(Activity::Idle);
            tokio::select! {
                () = sleep_until(self.next) => {}
                changed = self.links.requests.changed() => match changed {
                    Ok(()) => self.checked = None,
                    Err(_) => return,
                },
                _ = self.links.verdicts.changed() => {
                    self.take_verdict().await;
                    continue;
                }
                _ = self.links.fetchers.changed() => {
                    self.take_fetcher();
                    continue;
                }
            }
            let request = *self.links.requests.borrow_and_update();
            self.report(Activity::Asking);
            let mut fetchers = self.links.fetchers.clone();
            tokio::select! {
                () = self.attempt() => self.answered = request,
                // The request stays unanswered, and the mirrors are asked in the new way.
                _ = fetchers.changed() => self.next = Instant::now(),
            }
        }
    }

    /// Looks at the copies. If one is found to be damaged, the mirrors are asked now.
    async fn look(&mut self) {
        let is_check = is_check_due(self.checked, Instant::now());
        let look = self.fetcher.look(&self.attempt, is_check).await;
        self.copies = look.copies;
        if is_check {
            // A damaged file may still be there, if it can't be removed.
            self.checked = (!look.is_damaged).then(Instant::now);
        }
        if look.is_damaged {
            *self.counts.entry(DownloadFault::Damaged).or_default() += 1;
            (self.is_damaged, self.next) = (true, Instant::now());
        }
    }

    /// When the mirrors are to be asked, if all is well.
    fn refresh_time(&self) -> Instant {
        let confirmed = self.copies.as_ref().map(|copies| copies.newest.confirmed);
        let age = confirmed.map(|confirmed| Timestamp::now().duration_since(confirmed));
        let Some(age) = age else {
            return Instant::now();
        };
        let age = Duration::try_from(age).unwrap_or_default();
        Instant::now() + varied(self.fetcher.download.refresh).saturating_sub(age)
    }

    /// Uses new settings. What is known about the mirrors stays.
    fn take_fetcher(&mut self) {
        let next = self.links.fetchers.borrow_and_update().clone();
        let before = std::mem::replace(&mut self.fetcher, next);
        let (old, urls) = (&before.download.urls, &self.fetcher.download.urls);
        let place = |url| old.iter().position(|old| old == url);
        let faults = urls.iter().map(|url| self.faults[place(url)?].clone());
        self.faults = faults.collect();
        self.logged = Repeats::default();
        // The new settings may be the remedy.
        self.next = match self.is_current {
            Some(false) => Instant::now(),
            _ => self.next.min(self.refresh_time()),
        };
    }

    /// The list was loaded for another reason than a download.
    async fn take_verdict(&mut self) {
        let verdict = self.links.verdicts.borrow_and_update().clone();
        let is_suspect = verdict.as_ref().is_some_and(Verdict::is_suspect);
        if is_suspect {
            self.checked = None;
        }
        if !self.is_open() && verdict != Some(Verdict::InForce) {
            if is_suspect {
                self.look().await;
            }
            return;
        }
        self.verdict = match verdict {
            // What was loaded may be an older version, so that is asked for.
            None | Some(Verdict::InForce) => None,
            Some(verdict) => Some(verdict),
        };
    }

    /// Asks the mirrors, in the order of the configuration, until one has sent or confirmed the newest version.
    async fn attempt(&mut self) {
        self.attempt = block_in_place(|| self.attempts.begin());
        // The copy may have been removed or damaged.
        self.look().await;
        let client = match self.fetcher.client().await {
            Ok(client) => client,
            Err(failure) => {
                self.fail(0, failure);
                return self.fail_all(None);
            }
        };
        let mut retry_after = None;
        for index in 0..self.faults.len() {
            let settled = match self.fetch(&client, index).await {
                Ok(fetched) => self.settle(fetched).await,
                Err(failure) => Err(failure),
            };
            let failure = match settled {
                Ok(true) => return self.succeed(index),
                Ok(false) => {
                    self.note_answer(index);
                    continue;
                }
                Err(failure) => failure,
            };
            let (is_ours, after) = (failure.fault.is_ours(), failure.retry_after);
            retry_after = retry_after.max(after);
            self.fail(index, failure);
            if is_ours {
                break;
            }
        }
        self.fail_all(retry_after);
    }

    /// Asks one mirror, as soon as there is a slot for the transfer.
    async fn fetch(&self, client: &Client, index: usize) -> Result<Fetched, Failure> {
        let transfer = match self.fetcher.free_slot() {
            Some(transfer) => transfer,
            None => {
                self.report(Activity::Queued);
                let transfer = self.fetcher.slot().await?;
                self.report(Activity::Asking);
                transfer
            }
        };
        let (url, known) = (&self.fetcher.download.urls[index], self.copies.as_ref());
        let fetched = self
            .fetcher
            .fetch(client, url, known, &self.attempt, transfer);
        fetched.await
    }

    /// Takes what a mirror has. Returns whether that is the newest version; an error if it is rejected.
    async fn settle(&mut self, fetched: Fetched) -> Result<bool, Failure> {
        // Whichever version it is, there is no other one to download.
        self.is_damaged = false;
        match fetched {
            Fetched::Confirmed(copies) => self.copies = Some(copies),
            Fetched::NotAccepted => {}
            Fetched::LastGood(copies) => {
                self.copies = Some(copies);
                return Ok(false);
            }
            Fetched::Withdrawn(copies) => {
                let (list, url) = (&*self.fetcher.list, &copies.newest.url);
                tracing::info!(list, url, "the last good version is the newest again");
                self.copies = Some(copies);
                self.judge().await;
            }
            Fetched::New(copies) => {
                let (list, url) = (&*self.fetcher.list, &copies.newest.url);
                let sha256 = &copies.newest.sha256;
                tracing::info!(list, url, sha256, "list downloaded");
                self.copies = Some(copies);
                self.judge().await;
            }
        }
        self.judge_if_open().await;
        match &self.verdict {
            Some(Verdict::Rejected(why)) => Err(rejected(why)),
            _ => Ok(true),
        }
    }

    /// Has the list read, if it is not known whether the newest version is accepted.
    async fn judge_if_open(&mut self) {
        if self.is_open() && self.verdict.is_none() {
            self.judge().await;
        }
    }

    /// Whether the newest version is not accepted.
    fn is_open(&self) -> bool {
        let copies = self.copies.as_ref();
        copies.is_some_and(|copies| !copies.is_accepted)
    }

    /// Has the list read between two attempts, if it is not known whether the newest version is accepted.
    async fn judge_between(&mut self) {
        let was_open = self.is_open();
        self.judge_if_open().await;
        if let Some(Verdict::Rejected(why)) = &self.verdict
            && self.is_current != Some(false)
        {
            let failure = rejected(why);
            let newest = self.copies.as_ref().map(|copies| &copies.newest);
            let mut urls = self.fetcher.download.urls.iter();
            let index = urls.position(|url| newest.is_some_and(|newest| newest.is_from(url)));
            self.faults[index.unwrap_or(0)] = Some(failure);
            self.is_current = Some(false);
            self.next = self.next.min(Instant::now() + varied(AGAIN));
        }
        if was_open && !self.is_open() && self.is_current == Some(false) {
            // The operator has accepted it, or the guards have changed.
            let is_over = |failure: &mut Failure| failure.fault == DownloadFault::Rejected;
            self.faults
                .iter_mut()
                .for_each(|fault| _ = fault.take_if(is_over));
            (self.failures, self.is_current) = (0, Some(true));
            self.next = self.refresh_time();
        }
    }

    /// Has the list read, and waits for the result.
    async fn judge(&mut self) {
        // The source of the new copy must be known when it is read.
        self.verdict = None;
        self.links.verdicts.mark_unchanged();
        self.report(Activity::Asking);
        let (done, verdict) = oneshot::channel();
        let list = self.fetcher.list.clone();
        let sent = self.links.replaced.send(Replaced { list, done }).await;
        let verdict = match sent {
            Ok(()) => verdict.await.ok(),
            Err(_) => None,
        };
        let Some(Verdict::InForce) = verdict else {
            let unread = || {
                Verdict::Postponed(Reason {
                    text: "the list has not been read".to_owned(),
                    is_suspect: false,
                })
            };
            let verdict = verdict.unwrap_or_else(unread);
            if verdict.is_suspect() {
                self.checked = None;
            }
            self.verdict = Some(verdict);
            return;
        };
        if let Some(copies) = &mut self.copies {
            let list = &*self.fetcher.list;
            match self.fetcher.accept(copies.clone(), &self.attempt).await {
                Ok(accepted) => *copies = accepted,
                Err(error) => {
                    // After a restart it is read again.
                    copies.is_accepted = true;
                    tracing::warn!(list, %error, "it is not recorded that the version is accepted");
                }
            }
        }
    }

    /// A mirror has the newest version.
    fn succeed(&mut self, index: usize) {
        self.note_answer(index);
        (self.failures, self.is_current) = (0, Some(true));
        let is_rejected = |fault: &Failure| fault.fault == DownloadFault::Rejected;
        for fault in &mut self.faults[index..] {
            // What that mirror sent was replaced.
            fault.take_if(|fault| is_rejected(fault));
        }
        let pause = match self.faults.iter().flatten().any(is_rejected) {
            // The rejected version was replaced, too. To be accepted, it must be here.
            true => AGAIN.min(self.fetcher.download.refresh),
            false => self.fetcher.download.refresh,
        };
        self.next = Instant::now() + varied(pause);
    }

    /// A mirror has sent a good version, or confirmed one.
    fn note_answer(&mut self, index: usize) {
        let unreported = self.logged.forget(|(of, _)| *of == index);
        if self.faults[index].take().is_some() {
            let list = &*self.fetcher.list;
            let url = &self.fetcher.download.urls[index];
            tracing::info!(list, %url, unreported, "the server works again");
        }
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

    fn fail_all(&mut self, retry_after: Option<Duration>) {
        let refresh = self.fetcher.download.refresh;
        let pause = pause(self.failures, refresh, retry_after);
        self.failures = self.failures.saturating_add(1);
        self.is_current = Some(false);
        self.next = Instant::now() + varied(pause);
    }

    fn report(&self, activity: Activity) {
        let is_active = activity != Activity::Idle;
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
        let version = self.copies.as_ref().and_then(|copies| match &self.verdict {
            Some(Verdict::Rejected(_)) => copies.accepted(),
            _ => Some(&copies.newest),
        });
        self.links.reports.send_replace(DownloadReport {
            mirrors: mirrors.collect(),
            source: version.map(|version| version.url.clone()),
            fetched: version.map(|version| version.fetched),
            confirmed: version.map(|version| version.confirmed),
            next: next.filter(|_| !is_active),
            is_active,
            is_queued: activity == Activity::Queued,
            is_current: self.is_current,
            is_damaged: self.is_damaged,
            waits: match &self.verdict {
                Some(Verdict::Postponed(why)) => Some(why.text.clone()),
                _ => None,
            },
            faults: counts
                .map(|(fault, count)| (fault.name().to_owned(), *count))
                .collect(),
            answered: self.answered,
        });
    }
}

/// Whether the copies are to be checked, which were when they were last `checked`.
fn is_check_due(checked: Option<Instant>, now: Instant) -> bool {
    checked.is_none_or(|checked| now.saturating_duration_since(checked) >= TRUST)
}

fn rejected(why: &Reason) -> Failure {
    Failure::new(DownloadFault::Rejected, why.text.clone())
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
    fn copies_are_checked_once_a_day_unless_something_is_wrong_with_them() {
        let now = Instant::now();
        assert!(is_check_due(None, now));
        assert!(!is_check_due(Some(now), now + 23 * HOUR));
        assert!(is_check_due(Some(now), now + 24 * HOUR));
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
