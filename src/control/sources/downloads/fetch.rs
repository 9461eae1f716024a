//! Fetches a list from one mirror.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::Instant;

use super::attempts::Attempt;
use super::client::{Client, Validators};
use super::connect::Connector;
use super::copy::{self, Copies, Version, Which};
use super::fault::{DownloadFault, Failure};
use super::pace::Pace;
use super::proof::check_type;
use super::transfer::{Arrived, Checked, check_arrived, failed, receive, receive_text};
use super::unpack::Packing;
use crate::config::List;
use crate::config::download::{Download, Downloads, Proof};
use crate::config::web::WebUrl;
use crate::control::data_plane::Hosts;
use crate::control::persist::durable::DurableError;

/// The end of the name of a signature's file.
const SIGNATURE: &str = ".minisig";
/// The largest signature, in bytes.
const SIGNATURE_MAX: u64 = 16 << 10;
/// The most transfers at the same time. Each has a buffer of 256 KiB, and those of its connection.
const TRANSFERS: usize = 16;
/// The most files that are unpacked and checked at the same time: each may need 32 MiB, for the window of its packing.
const CHECKS: usize = 2;

/// Limits what the downloads of all lists do at the same time: at a start, all lists may be due.
pub(super) struct Slots {
    transfers: Arc<Semaphore>,
    checks: Semaphore,
}

impl Default for Slots {
    fn default() -> Self {
        Self {
            transfers: Arc::new(Semaphore::new(TRANSFERS)),
            checks: Semaphore::new(CHECKS),
        }
    }
}

/// Fetches one list.
#[derive(Clone)]
pub(super) struct Fetcher {
    pub(super) list: String,
    pub(super) download: Download,
    /// Where the copy is.
    path: PathBuf,
    settings: Downloads,
    hosts: Arc<dyn Hosts>,
    slots: Arc<Slots>,
}

/// The copies of a list, and whether they are whole.
#[derive(Default)]
pub(super) struct Look {
    /// The versions that are here.
    pub(super) copies: Option<Copies>,
    /// Whether another one was here, but was damaged.
    pub(super) is_damaged: bool,
}

/// The newest version of a mirror, compared with the versions that are here.
pub(super) enum Fetched {
    /// The copy, which was in force, is the newest version.
    Confirmed(Copies),
    /// The version that is the copy, which was not accepted.
    NotAccepted,
    /// The last good version. The copy is that of a mirror before this one, and was not accepted.
    LastGood(Copies),
    /// The last good version, which is the copy again.
    Withdrawn(Copies),
    /// Another version, which is the copy now.
    New(Copies),
}

impl Fetcher {
    /// That of a list; `None` if it is not downloaded.
    pub(super) fn new(
        list: &List,
        settings: &Downloads,
        hosts: &Arc<dyn Hosts>,
        slots: &Arc<Slots>,
    ) -> Option<Self> {
        Some(Self {
            list: list.source.name.clone(),
            download: (**list.download.as_ref()?).clone(),
            path: list.source.path.clone(),
            settings: settings.clone(),
            hosts: Arc::clone(hosts),
            slots: Arc::clone(slots),
        })
    }

    /// Looks at the copies that are there. If `is_check` is set, their files are read, and those that are damaged are removed.
    pub(super) async fn look(&self, attempt: &Attempt, is_check: bool) -> Look {
        let (list, path, own) = (self.list.clone(), self.path.clone(), attempt.clone());
        let read = spawn_blocking(move || own.change(|| copy::read(&list, &path))).await;
        let Some(copies) = read.ok().flatten().flatten() else {
            return Look::default();
        };
        let damaged = match is_check {
            true => self.damaged(copies.clone()).await,
            false => Vec::new(),
        };
        if damaged.is_empty() {
            return Look {
                copies: Some(copies),
                is_damaged: false,
            };
        }
        copy::log_damage(&self.list, &self.path);
        let path = self.path.clone();
        let left = change(attempt, move || copies.without(&path, &damaged)).await;
        Look {
            copies: left.unwrap_or_else(|error| {
                tracing::warn!(list = self.list, %error, "the damaged copy stays until it is replaced");
                None
            }),
            is_damaged: true,
        }
    }

    /// The versions whose files are damaged. A large file takes seconds, so this does not hold the lock of the attempts.
    async fn damaged(&self, copies: Copies) -> Vec<Which> {
        let _check = self.slots.checks.acquire().await;
        let path = self.path.clone();
        let damaged = spawn_blocking(move || copies.damaged(&path)).await;
        // A panic has been logged. The copies are checked again when they are read as a list.
        damaged.unwrap_or_default()
    }

    /// Records that the newest version is in force.
    pub(super) async fn accept(
        &self,
        copies: Copies,
        attempt: &Attempt,
    ) -> Result<Copies, Failure> {
        let path = self.path.clone();
        change(attempt, move || copies.accept(&path)).await
    }

    /// Sets up connections. The file of authorities is read each time, as it may have changed.
    pub(super) async fn client(&self) -> Result<Client, Failure> {
        let (settings, hosts) = (self.settings.clone(), Arc::clone(&self.hosts));
        let connector = spawn_blocking(move || Connector::new(settings, hosts)).await;
        Ok(Client {
            connector: Arc::new(connector.map_err(broken)?),
        })
    }

    /// A slot for a transfer; `None` if all are in use.
    pub(super) fn free_slot(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.slots.transfers).try_acquire_owned().ok()
    }

    /// A slot for a transfer, when one is free.
    pub(super) async fn slot(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let slot = Arc::clone(&self.slots.transfers).acquire_owned();
        slot.await.map_err(|_| ended())
    }

    /// Fetches the newest version from a mirror, unless it is one of the versions that are `known`. `transfer` is a slot.
    pub(super) async fn fetch(
        &self,
        client: &Client,
        url: &WebUrl,
        known: Option<&Copies>,
        attempt: &Attempt,
        transfer: OwnedSemaphorePermit,
    ) -> Result<Fetched, Failure> {
        let limits = self.settings.limits;
        let mut pace = Pace::new(limits, Instant::now());
        let sent = known.and_then(|known| known.sent_by(url));
        let (which, validators) = sent.unzip();
        let validators = validators.unwrap_or_default();
        let redirects = &self.download.redirects;
        let mut answer = client.get(url, redirects, &validators, &pace).await?;
        if answer.is_unchanged() {
            let asked = which.filter(|_| !validators.is_empty());
            let Some((known, which)) = known.zip(asked) else {
                let detail = "it answers 304 although no version was sent to compare with";
                return Err(Failure::new(DownloadFault::Protocol, detail));
            };
            return self.have(url, known.clone(), which, None, attempt).await;
        }
        check_type(&answer.content_type())?;
        let packing = Packing::of_transfer(answer.content_encoding().as_deref())?;
        let file = receive(&mut answer, &self.path, limits, &mut pace).await?;
        let arrived = Arrived {
            file,
            packing,
            proof: self.download.proof.clone(),
            signature: self.signature(client, url, &mut pace).await?,
            may_be_json: self.download.may_be_json,
            known: known.cloned(),
            limits,
            path: self.path.clone(),
        };
        drop(transfer);
        let check = self.slots.checks.acquire().await;
        let _check = check.map_err(|_| ended())?;
        let checked = spawn_blocking(move || check_arrived(arrived)).await;
        let (checked, sha256) = checked.map_err(broken)??;
        let version = Version::new(url, answer.validators(), sha256);
        match (checked, known) {
            (Checked::Known(which), Some(known)) => {
                self.have(url, known.clone(), which, Some(version), attempt)
                    .await
            }
            (Checked::Known(_), None) => Ok(Fetched::NotAccepted),
            (Checked::New(file), known) => {
                let (path, known) = (self.path.clone(), known.cloned());
                let installed = change(attempt, move || copy::install(file, &path, version, known));
                Ok(Fetched::New(installed.await?))
            }
        }
    }

    /// A mirror has a version that is here; `sent` if it was sent again.
    async fn have(
        &self,
        url: &WebUrl,
        known: Copies,
        which: Which,
        sent: Option<Version>,
        attempt: &Attempt,
    ) -> Result<Fetched, Failure> {
        let path = self.path.clone();
        match which {
            Which::Newest if !known.is_accepted => Ok(Fetched::NotAccepted),
            Which::Newest => {
                let confirmed = change(attempt, move || known.confirm(&path, sent));
                Ok(Fetched::Confirmed(confirmed.await?))
            }
            Which::LastGood if self.is_from_before(url, &known.newest) => {
                let confirmed = change(attempt, move || known.confirm_last_good(&path, sent));
                Ok(Fetched::LastGood(confirmed.await?))
            }
            Which::LastGood => {
                let withdrawn = change(attempt, move || known.withdraw(&path, sent));
                Ok(Fetched::Withdrawn(withdrawn.await?))
            }
        }
    }

    /// Whether a version is from a mirror that is asked before this one.
    fn is_from_before(&self, url: &WebUrl, version: &Version) -> bool {
        let mut before = self.download.urls.iter().take_while(|it| *it != url);
        before.any(|mirror| version.is_from(mirror))
    }

    /// The text of the signature, if the list has one.
    async fn signature(
        &self,
        client: &Client,
        url: &WebUrl,
        pace: &mut Pace,
    ) -> Result<Option<String>, Failure> {
        let Some(Proof::Minisign { url: own, .. }) = &self.download.proof else {
            return Ok(None);
        };
        let url = own.clone().unwrap_or_else(|| url.with_suffix(SIGNATURE));
        let missing = |mut failure: Failure| {
            if failure.fault == DownloadFault::Status {
                failure.fault = DownloadFault::Signature;
            }
            failure.detail = format!("{url}: {}", failure.detail);
            failure
        };
        let none = Validators::default();
        let redirects = &self.download.redirects;
        let answer = client.get(&url, redirects, &none, pace).await;
        let mut answer = answer.map_err(missing)?;
        let text = receive_text(&mut answer, SIGNATURE_MAX, pace).await;
        text.map(Some).map_err(missing)
    }
}

/// Changes the copy on another thread, unless the attempt has ended.
async fn change<T: Send + 'static>(
    attempt: &Attempt,
    change: impl FnOnce() -> Result<T, DurableError> + Send + 'static,
) -> Result<T, Failure> {
    let attempt = attempt.clone();
    let changed = spawn_blocking(move || attempt.change(change)).await;
    match changed.map_err(broken)? {
        Some(changed) => changed.map_err(failed),
        None => Err(ended()),
    }
}

/// An attempt that has ended. Nobody waits for its result.
fn ended() -> Failure {
    Failure::new(DownloadFault::NotWritten, "the download was aborted")
}

/// Work that panicked.
fn broken(error: JoinError) -> Failure {
    let detail = format!("it failed inside tapis, which is a bug, please report it: {error}");
    Failure::new(DownloadFault::NotWritten, detail)
}
