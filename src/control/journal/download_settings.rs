//! How lists are downloaded, as the journal records it. Users, passwords and the queries of URLs are left out.

use serde_json::{Value, json};

use crate::config::download::{Download, DownloadLimits, Downloads, Proof};
use crate::config::web::WebUrl;

/// Sets the keys of a downloaded list, whose keys begin with `start`.
pub(super) fn of_list(start: &str, download: &Download, set: &mut impl FnMut(&str, Value)) {
    let urls: Vec<_> = download.urls.iter().map(ToString::to_string).collect();
    set(&format!("{start}.url"), json!(urls));
    let refresh = download.refresh.as_secs();
    set(&format!("{start}.refresh-secs"), json!(refresh));
    if !download.redirects.is_empty() {
        set(&format!("{start}.redirects"), json!(download.redirects));
    }
    match &download.proof {
        None => {}
        Some(Proof::Sha256(digest)) => set(&format!("{start}.sha256"), json!(digest)),
        Some(Proof::Minisign { key, url }) => {
            set(&format!("{start}.minisign"), json!(key));
            if let Some(url) = url {
                set(&format!("{start}.minisign-url"), json!(url.to_string()));
            }
        }
    }
}

/// Sets the keys of `[download]` that differ from the defaults.
pub(super) fn of_section(downloads: &Downloads, set: &mut impl FnMut(&str, Value)) {
    if let Some(proxy) = &downloads.proxy {
        set("download.proxy", json!(proxy.to_string()));
    }
    if let Some(authorities) = &downloads.authorities {
        let path = authorities.to_string_lossy();
        set("download.authorities", json!(path));
    }
    let hosts = downloads.private_hosts.iter().cloned();
    let networks = downloads.private_networks.iter().map(ToString::to_string);
    let private: Vec<_> = hosts.chain(networks).collect();
    for (key, hosts) in [
        ("download.allow-http", &downloads.allow_http),
        ("download.allow-private", &private),
    ] {
        if !hosts.is_empty() {
            set(key, json!(hosts));
        }
    }
    let (limits, defaults) = (&downloads.limits, DownloadLimits::default());
    for (key, value, default) in [
        ("download.max-mib", limits.bytes >> 20, defaults.bytes >> 20),
        (
            "download.max-unpacked-mib",
            limits.unpacked >> 20,
            defaults.unpacked >> 20,
        ),
        (
            "download.timeout-secs",
            limits.time.as_secs(),
            defaults.time.as_secs(),
        ),
        (
            "download.stall-secs",
            limits.stall.as_secs(),
            defaults.stall.as_secs(),
        ),
    ] {
        if value != default {
            set(key, json!(value));
        }
    }
}

/// The keys with URLs that differ between two configurations of a list, also in what is left out here.
pub(super) fn differing_urls(was: Option<&Download>, now: Option<&Download>) -> Vec<&'static str> {
    fn signature(download: &Download) -> Option<&WebUrl> {
        match download.proof.as_ref()? {
            Proof::Minisign { url, .. } => url.as_ref(),
            Proof::Sha256(_) => None,
        }
    }
    let urls = |download: Option<&Download>| download.map(|download| download.urls.clone());
    let signatures = |download: Option<&Download>| download.and_then(signature).cloned();
    let keys = [
        ("url", urls(was) != urls(now)),
        ("minisign-url", signatures(was) != signatures(now)),
    ];
    let differing = keys.into_iter().filter(|(_, differs)| *differs);
    differing.map(|(key, _)| key).collect()
}
