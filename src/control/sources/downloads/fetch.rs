//! Fetches a list from one mirror.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::Instant;

use super::client::{Client, Validators};
use super::connect::Connector;
use super::copy::{self, Copied};
use super::fault::{DownloadFault, Failure};
use super::pace::Pace;
use super::proof::check_type;
use super::transfer::{Arrived, accept, failed, receive, receive_text};
use super::unpack::Packing;
use crate::config::List;
use crate::config::download::{Download, Downloads, Proof};
use crate::config::web::WebUrl;
use crate::control::data_plane::Hosts;

/// The end of the name of a signature's file.
const SIGNATURE: &str = ".minisig";
/// The largest signature, in bytes.
const SIGNATURE_MAX: u64 = 16 << 10;

/// Fetches one list.
#[derive(Clone)]
pub(super) struct Fetcher {
    pub(super) list: String,
    pub(super) download: Download,
    /// Where the copy is.
    path: PathBuf,
    settings: Downloads,
    hosts: Arc<dyn Hosts>,
}

/// A copy that is the newest version.
pub(super) struct Fetched {
    pub(super) copied: Copied,
    /// Whether it was replaced.
    pub(super) is_new: bool,
}

impl Fetcher {
    /// That of a list; `None` if it is not downloaded.
    pub(super) fn new(list: &List, settings: &Downloads, hosts: &Arc<dyn Hosts>) -> Option<Self> {
        Some(Self {
            list: list.source.name.clone(),
            download: (**list.download.as_ref()?).clone(),
            path: list.source.path.clone(),
            settings: settings.clone(),
            hosts: Arc::clone(hosts),
        })
    }

    /// The facts about the copy that is there.
    pub(super) async fn known(&self) -> Option<Copied> {
        let (list, path) = (self.list.clone(), self.path.clone());
        spawn_blocking(move || copy::read(&list, &path))
            .await
            .ok()?
    }

    /// Sets up connections. The file of authorities is read each time, as it may have changed.
    pub(super) async fn client(&self) -> Result<Client, Failure> {
        let (settings, hosts) = (self.settings.clone(), Arc::clone(&self.hosts));
        let connector = spawn_blocking(move || Connector::new(settings, hosts)).await;
        Ok(Client {
            connector: Arc::new(connector.map_err(broken)?),
        })
    }

    /// Fetches the newest version from a mirror, unless it is the copy that is `known`.
    pub(super) async fn fetch(
        &self,
        client: &Client,
        url: &WebUrl,
        known: Option<&Copied>,
    ) -> Result<Fetched, Failure> {
        let limits = self.settings.limits;
        let mut pace = Pace::new(limits, Instant::now());
        let shown = url.to_string();
        let validators = known.map_or_else(Validators::default, |known| known.validators(&shown));
        let redirects = &self.download.redirects;
        let mut answer = client.get(url, redirects, &validators, &pace).await?;
        if answer.is_unchanged() {
            let Some(known) = known else {
                let detail = "it answers 304 although nothing is here";
                return Err(Failure::new(DownloadFault::Protocol, detail));
            };
            return self.store(known.clone(), false).await;
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
            known: known.map(|known| known.sha256.clone()),
            limits,
            path: self.path.clone(),
        };
        let accepted = spawn_blocking(move || accept(arrived)).await;
        let (sha256, is_new) = accepted.map_err(broken)??;
        let fetched = known.filter(|_| !is_new).map(|known| known.fetched);
        let validators = answer.validators();
        let copied = Copied {
            url: shown,
            etag: validators.etag,
            last_modified: validators.last_modified,
            fetched: fetched.unwrap_or_else(Timestamp::now),
            confirmed: Timestamp::now(),
            sha256,
        };
        self.store(copied, is_new).await
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

    /// Stores the facts about a copy that is the newest version now.
    async fn store(&self, mut copied: Copied, is_new: bool) -> Result<Fetched, Failure> {
        copied.confirmed = Timestamp::now();
        let (path, facts) = (self.path.clone(), copied.clone());
        let stored = spawn_blocking(move || copy::store(&path, &facts)).await;
        if let Err(error) = stored.map_err(broken)? {
            if !is_new {
                return Err(failed(error));
            }
            // The copy is in place, so it comes into force; it is downloaded again after a restart.
            let list = &*self.list;
            tracing::warn!(list, %error, "it will not be known which version was downloaded");
        }
        Ok(Fetched { copied, is_new })
    }
}

/// Work that panicked.
fn broken(error: JoinError) -> Failure {
    let detail = format!("it failed inside tapis, which is a bug, please report it: {error}");
    Failure::new(DownloadFault::NotWritten, detail)
}
