//! Downloads before the server serves: the directory of copies, and the lists without which it does not start.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::copy;
use super::fault::Failure;
use super::fetch::Fetcher;
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
    if let Err(error) = copy::create_directory(config) {
        tracing::error!(%error, "lists can't be downloaded");
    }
    if let Err(error) = copy::remove_others(config, true) {
        tracing::warn!(%error, "copies of lists that are not configured any more stay");
    }
}

/// Downloads lists of which there is no copy, and which the server needs to start.
///
/// # Errors
/// The name of a list that could not be downloaded, and the reason.
pub(crate) async fn fetch_required(
    lists: &[&List],
    settings: &Downloads,
    hosts: &Arc<dyn Hosts>,
) -> Result<(), (String, String)> {
    let deadline = Instant::now() + PATIENCE;
    let fetchers = lists.iter();
    for fetcher in fetchers.filter_map(|list| Fetcher::new(list, settings, hosts)) {
        tracing::info!(list = fetcher.list, "downloading a required list");
        let mut last = format!("no mirror has sent it within {} s", PATIENCE.as_secs());
        let download = async {
            while let Err(failure) = fetch(&fetcher).await {
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

/// Asks the mirrors until one has sent the list. An error is about the last one.
async fn fetch(fetcher: &Fetcher) -> Result<(), String> {
    let client = fetcher.client().await.map_err(|it| it.to_string())?;
    let mut last = String::new();
    for url in &fetcher.download.urls {
        match fetcher.fetch(&client, url, None).await {
            Ok(_) => return Ok(()),
            Err(failure) => last = shown(&failure, &url.to_string()),
        }
    }
    Err(last)
}

fn shown(failure: &Failure, url: &str) -> String {
    format!("{url}: {}: {failure}", failure.fault)
}
