//! The section `[download]`, and the keys of a `[[list]]` that is downloaded.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use super::findings::{Findings, quote};
use super::reader::{At, Reader, Strings, WordOrStrings};
use super::values::{each, file, network, number};
use super::web::{WebHost, WebUrl};

/// The directory of downloaded lists in the state directory.
pub(crate) const DIRECTORY: &str = "downloads";

const MINUTE_SECS: u32 = 60;
const DAY_SECS: u32 = 24 * 60 * 60;
const MONTH_SECS: u32 = 30 * DAY_SECS;
/// The largest file that can be read as a list, in MiB.
const MIB_MAX: u64 = 2048;
/// The most mirrors of a list.
const MIRRORS_MAX: usize = 16;
/// The length of a SHA-256 digest in hexadecimal.
const SHA256_HEX: usize = 64;

/// How lists are downloaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Downloads {
    /// The proxy that all downloads use.
    pub proxy: Option<WebUrl>,
    /// The hosts that may be asked without encryption.
    pub allow_http: Vec<String>,
    /// Hosts that may have addresses that are not public.
    pub private_hosts: Vec<String>,
    /// Networks that are permitted although they are not public.
    pub private_networks: Vec<IpNet>,
    /// A file of certificates (PEM) that may sign those of servers; `None` means those that the system trusts.
    pub authorities: Option<PathBuf>,
    /// The limits of a download.
    pub limits: DownloadLimits,
}

/// The limits of a download. One that exceeds them is aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DownloadLimits {
    /// Bytes as they are transferred, 1 MiB to 2 GiB.
    pub bytes: u64,
    /// Bytes when they are unpacked, 1 MiB to 2 GiB.
    pub unpacked: u64,
    /// The whole time, 1 second to a day.
    pub time: Duration,
    /// How long a server may send less than 1 KiB per second; 1 second to 10 minutes.
    pub stall: Duration,
}

/// Where a list is downloaded from, and how it is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Download {
    /// Its mirrors: 1 to 16, no duplicates.
    pub urls: Vec<WebUrl>,
    /// The time between two downloads.
    pub refresh: Duration,
    /// Other hosts that redirects may lead to.
    pub redirects: Vec<String>,
    /// How the file is checked.
    pub proof: Option<Proof>,
    /// Whether the list may be JSON. Otherwise JSON is the message of a server that does not have the list.
    pub may_be_json: bool,
}

/// Proves that a file is the publisher's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The digest of the only file that is accepted, in lower-case hexadecimal.
    Sha256(String),
    /// A signature.
    Minisign {
        /// The public key in Base64.
        key: String,
        /// Where the signature is; `None` means beside the file, with `.minisig` at the end of its name.
        url: Option<WebUrl>,
    },
}

impl Download {
    /// The name of the file that has the last good copy. Another list, URL or proof has another one, so that a copy never
    /// passes for the file of another URL.
    pub(super) fn file_name(&self, list: &str) -> String {
        let first = self.urls.first().map(WebUrl::without_login);
        let proof = match &self.proof {
            None => "",
            Some(Proof::Sha256(digest)) => digest,
            Some(Proof::Minisign { key, .. }) => key,
        };
        let hash = format!("{}\n{proof}", first.unwrap_or_default());
        let hash = blake3::hash(hash.as_bytes()).to_hex();
        format!("{list}-{}.list", &hash[..16])
    }
}

impl Downloads {
    /// Whether a URL may be asked as it is: without encryption only if its host is permitted.
    pub(crate) fn permits_scheme_of(&self, url: &WebUrl) -> bool {
        url.is_https() || self.allow_http.contains(&url.host().to_string())
    }
}

impl Default for DownloadLimits {
    fn default() -> Self {
        Self {
            bytes: 256 << 20,
            unpacked: 1024 << 20,
            time: Duration::from_secs(600),
            stall: Duration::from_secs(30),
        }
    }
}

/// The section `[download]` before validation.
#[derive(Default)]
pub(super) struct RawDownloads {
    proxy: Option<At<String>>,
    allow_http: Option<Strings>,
    allow_private: Option<Strings>,
    authorities: Option<At<String>>,
    max_mib: Option<At<i64>>,
    max_unpacked_mib: Option<At<i64>>,
    timeout_secs: Option<At<i64>>,
    stall_secs: Option<At<i64>>,
}

impl RawDownloads {
    pub(super) fn read(table: &mut Reader<'_, '_>) -> Self {
        Self {
            proxy: table.string("proxy"),
            allow_http: table.strings("allow-http"),
            allow_private: table.strings("allow-private"),
            authorities: table.string("authorities"),
            max_mib: table.integer("max-mib"),
            max_unpacked_mib: table.integer("max-unpacked-mib"),
            timeout_secs: table.integer("timeout-secs"),
            stall_secs: table.integer("stall-secs"),
        }
    }
}

/// Validates the section `[download]`.
pub(super) fn validate(raw: RawDownloads, findings: &mut Findings) -> Downloads {
    let limits = DownloadLimits::default();
    let mib = |given: Option<At<i64>>, default: u64, findings: &mut Findings| {
        number(given, 1..=MIB_MAX, findings).map_or(default, |mib: u64| mib << 20)
    };
    let private = each(raw.allow_private, findings, private).unwrap_or_default();
    let (mut private_hosts, mut private_networks) = (Vec::new(), Vec::new());
    for allowed in private {
        match allowed {
            Private::Host(host) => private_hosts.push(host),
            Private::Network(network) => private_networks.push(network),
        }
    }
    let secs = |given: Option<At<i64>>, max: u32, default: Duration, findings: &mut Findings| {
        number(given, 1..=max, findings).map_or(default, |secs| Duration::from_secs(secs.into()))
    };
    Downloads {
        proxy: url(raw.proxy, findings),
        allow_http: each(raw.allow_http, findings, WebHost::parse).unwrap_or_default(),
        private_hosts,
        private_networks,
        authorities: file(raw.authorities, findings),
        limits: DownloadLimits {
            bytes: mib(raw.max_mib, limits.bytes, findings),
            unpacked: mib(raw.max_unpacked_mib, limits.unpacked, findings),
            time: secs(raw.timeout_secs, DAY_SECS, limits.time, findings),
            stall: secs(raw.stall_secs, 10 * MINUTE_SECS, limits.stall, findings),
        },
    }
}

/// An item of `allow-private`.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Private {
    Host(String),
    Network(IpNet),
}

fn private(text: &str) -> Result<Private, String> {
    if let Ok(network) = network(text) {
        return Ok(Private::Network(network));
    }
    let host = WebHost::parse(text).map_err(|_| {
        "which is neither a host nor a network: write it as in \"lists.example\" or \"192.168.0.0/16\""
    })?;
    Ok(Private::Host(host))
}

/// The keys of a downloaded list before validation.
pub(super) struct RawDownload {
    url: Option<At<WordOrStrings>>,
    refresh_secs: Option<At<i64>>,
    sha256: Option<At<String>>,
    minisign: Option<At<String>>,
    minisign_url: Option<At<String>>,
    redirects: Option<Strings>,
}

impl RawDownload {
    pub(super) fn read(table: &mut Reader<'_, '_>) -> Self {
        Self {
            url: table.word_or_strings("url"),
            refresh_secs: table.integer("refresh-secs"),
            sha256: table.string("sha256"),
            minisign: table.string("minisign"),
            minisign_url: table.string("minisign-url"),
            redirects: table.strings("redirects"),
        }
    }

    /// Whether the list has a URL.
    pub(super) fn is_given(&self) -> bool {
        self.url.is_some()
    }

    /// Reports the keys that only a downloaded list can have.
    pub(super) fn report_unused(self, findings: &mut Findings) {
        let text = |given: &Option<At<String>>| given.as_ref().map(|at| (at.key, at.line));
        let unused = [
            self.refresh_secs.as_ref().map(|at| (at.key, at.line)),
            text(&self.sha256),
            text(&self.minisign),
            text(&self.minisign_url),
            self.redirects.as_ref().map(|at| (at.key, at.line)),
        ];
        for (key, line) in unused.into_iter().flatten() {
            let message = format!("{key} has no meaning without `url`: remove it, or add a url");
            findings.report(line, message);
        }
    }

    /// Validates the keys. `state_dir` is the state directory, and `has_path` whether the list also has a path. `None` if
    /// there is no valid URL or no state directory.
    pub(super) fn validate(
        self,
        (state_dir, has_path): (Option<&Path>, bool),
        may_be_json: bool,
        downloads: &Downloads,
        findings: &mut Findings,
    ) -> Option<Download> {
        let line = self.url.as_ref()?.line;
        let signature_line = self.minisign_url.as_ref().map(|at| at.line);
        if has_path {
            findings.report(
                line,
                "the list has a url and a path: remove one of the two".to_owned(),
            );
        }
        if state_dir.is_none() {
            let message = "url needs a directory for downloaded lists: set `dir` in [state], as in dir = \
                           \"/var/lib/tapis\"";
            findings.report(line, message.to_owned());
        }
        let urls = urls(self.url?, findings);
        let refresh = number(self.refresh_secs, MINUTE_SECS..=MONTH_SECS, findings);
        let proof = proof([self.sha256, self.minisign, self.minisign_url], findings);
        let redirects = each(self.redirects, findings, WebHost::parse).unwrap_or_default();
        for url in &urls {
            report_unencrypted("url", line, url, downloads, findings);
        }
        if let (Some(line), Some(Proof::Minisign { url: Some(url), .. })) = (signature_line, &proof)
        {
            report_unencrypted("minisign-url", line, url, downloads, findings);
        }
        if urls.is_empty() || state_dir.is_none() {
            return None;
        }
        Some(Download {
            urls,
            refresh: Duration::from_secs(refresh.unwrap_or(DAY_SECS).into()),
            redirects,
            proof,
            may_be_json,
        })
    }
}

/// Reports a URL that is never asked.
fn report_unencrypted(
    key: &str,
    line: u32,
    url: &WebUrl,
    downloads: &Downloads,
    findings: &mut Findings,
) {
    if downloads.permits_scheme_of(url) {
        return;
    }
    let message = format!(
        "{key} holds {url}, which is not encrypted, so anyone on the way can change the list: use https, or add \"{}\" to \
         allow-http in [download]",
        url.host()
    );
    findings.report(line, message);
}

fn urls(given: At<WordOrStrings>, findings: &mut Findings) -> Vec<WebUrl> {
    let At { key, line, value } = given;
    let texts = match value {
        WordOrStrings::Word(value) => vec![At { key, line, value }],
        WordOrStrings::Strings(texts) => texts,
    };
    match texts.len() {
        1..=MIRRORS_MAX => {}
        0 => findings.report(line, format!("{key} is empty, must name at least one URL")),
        count => findings.report(
            line,
            format!("{key} holds {count} URLs, must be at most {MIRRORS_MAX}: remove some"),
        ),
    }
    let mut urls = Vec::new();
    for text in texts {
        let line = text.line;
        let Some(url) = url(Some(text), findings) else {
            continue;
        };
        match urls.contains(&url) {
            true => findings.report(line, format!("{key} holds {url} twice: remove one")),
            false => urls.push(url),
        }
    }
    urls
}

fn url(given: Option<At<String>>, findings: &mut Findings) -> Option<WebUrl> {
    let At { key, line, value } = given?;
    match WebUrl::parse(&value) {
        Ok(url) => Some(url),
        Err(problem) => {
            findings.report(line, format!("{key} {problem}"));
            None
        }
    }
}

fn proof(
    [sha256, minisign, minisign_url]: [Option<At<String>>; 3],
    findings: &mut Findings,
) -> Option<Proof> {
    if let (Some(minisign), Some(_)) = (&minisign, &sha256) {
        let message = "minisign and sha256 exclude each other: a digest accepts one file only, so remove one of the two";
        findings.report(minisign.line, message.to_owned());
    }
    if let (Some(url), None) = (&minisign_url, &minisign) {
        let message =
            "minisign-url has no meaning without `minisign`: add the public key as minisign";
        findings.report(url.line, message.to_owned());
    }
    let url = url(minisign_url, findings);
    if let Some(At { key, line, value }) = minisign {
        if minisign_verify::PublicKey::from_base64(&value).is_ok() {
            return Some(Proof::Minisign { key: value, url });
        }
        let message = format!(
            "{key} is {}, must be a public key of minisign: the second line of its file, as in \
             \"RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\"",
            quote(&value)
        );
        findings.report(line, message);
        return None;
    }
    let At { key, line, value } = sha256?;
    let digest = value.to_ascii_lowercase();
    if digest.len() == SHA256_HEX && digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Some(Proof::Sha256(digest));
    }
    let shown = quote(&value);
    findings.report(
        line,
        format!(
            "{key} is {shown}, must be {SHA256_HEX} hexadecimal digits, as sha256sum prints them"
        ),
    );
    None
}
