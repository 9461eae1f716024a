//! Downloads before the server serves: the directory of copies, and the lists without which it does not start.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::block_in_place;
use tokio::time::{Instant, sleep, timeout_at};

use super::attempts::Attempts;
use super::copy::{self, Copies};
use super::directory;
use super::fault::{DownloadFault, Failure};
use super::fetch::{Fetched, Fetcher, Slots};
use crate::config::download::Downloads;
use crate::config::{Config, List};
use crate::control::data_plane::Hosts;

/// How long the start tries to download the required lists of which there is no copy: the network may come up late.
const PATIENCE: Duration = Duration::from_secs(30);
/// The time between two attempts.
const PAUSE: Duration = Duration::from_secs(2);

/// Creates the directory of copies, and removes what is left in it. Problems are only logged here: they do not matter while
/// the copies can be read, and each download reports them again.
pub(crate) fn prepare(config: &Config) {
    if let Err(error) = directory::create_directory(config) {
        tracing::error!(%error, "lists can't be downloaded");
    }
    directory::remove_others(config, &Mutex::new(directory::names(config)), true);
}

/// Makes the last good version of a list the copy again, if the newest one is damaged or not accepted. Without rules in force
/// that it could be compared with, it would be accepted. It is downloaded again.
pub(crate) fn drop_unusable(list: &List) {
    let (name, path) = (&*list.source.name, &list.source.path);
    let dropped = copy::drop_damaged(name, path);
    if let Err(error) = dropped.and_then(|()| copy::drop_unaccepted(name, path)) {
        tracing::warn!(list = name, %error, "a version that is damaged or not accepted stays");
    }
}

/// Downloads lists of which there is no copy, and which the server needs to start. `judge` says why a copy can't be used;
/// then the next mirror is asked.
///
/// # Errors
/// The name of a list that could not be downloaded, and the reason.
pub(crate) async fn fetch_required(
    lists: &[&List],
    settings: &Downloads,
    hosts: &Arc<dyn Hosts>,
    judge: &impl Fn(&List) -> Result<(), String>,
) -> Result<(), (String, String)> {
    let deadline = Instant::now() + PATIENCE;
    let slots = Arc::new(Slots::default());
    for list in lists {
        let Some(fetcher) = Fetcher::new(list, settings, hosts, &slots) else {
            continue;
        };
        tracing::info!(list = fetcher.list, "downloading a required list");
        let mut copies = None;
        let mut last = format!("no mirror has sent it within {} s", PATIENCE.as_secs());
        let download = async {
            while let Err(failure) = fetch(&fetcher, &mut copies, || judge(list)).await {
                last = failure;
                sleep(PAUSE).await;
            }
        };
        // A slow download must not keep the server from answering; it is tried again after the next start.
        if timeout_at(deadline, download).await.is_err() {
            return Err((fetcher.list, last));
        }
    }
    Ok(())
}

/// Asks the mirrors until one has sent a list that can be used. An error is about the last one.
async fn fetch(
    fetcher: &Fetcher,
    copies: &mut Option<Copies>,
    judge: impl Fn() -> Result<(), String>,
) -> Result<(), String> {
    let attempt = Attempts::default().begin();
    let client = fetcher.client().await.map_err(|it| it.to_string())?;
    let mut last = String::new();
    for url in &fetcher.download.urls {
        let transfer = fetcher.slot().await.map_err(|it| it.to_string())?;
        let fetched = fetcher.fetch(&client, url, copies.as_ref(), &attempt, transfer);
        let failure = match fetched.await {
            Ok(fetched) => {
                if let Fetched::New(new) = fetched {
                    *copies = Some(new);
                }
                match block_in_place(&judge) {
                    Ok(()) => return Ok(()),
                    Err(why) => Failure::new(DownloadFault::Rejected, why),
                }
            }
            Err(failure) => failure,
        };
        last = format!("{url}: {}: {failure}", failure.fault);
    }
    Err(last)
}
