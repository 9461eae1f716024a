//! The faults of downloads: each has a name, a text, a remedy and a counter. None of them changes what is in force.

use std::fmt;
use std::time::Duration;

/// A fault of a mirror, or of this server during a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DownloadFault {
    /// The host has no address, or there is no connection to it.
    Unreachable,
    /// The proxy does not connect to the host.
    Proxy,
    /// The download took longer than permitted.
    Timeout,
    /// The server sent nothing, or too little, for too long.
    Stalled,
    /// The certificate is not valid for the host, or TLS failed otherwise.
    Tls,
    /// The server answered with a status other than 200 and 304.
    Status,
    /// A redirect leads to another host, to another scheme, or in a circle.
    Redirect,
    /// The host has a private address, and is not permitted to.
    Private,
    /// The file has more bytes than permitted, as transferred or unpacked.
    TooLarge,
    /// The file can't be unpacked.
    Broken,
    /// The connection was closed before the end of the file.
    Truncated,
    /// The server sent a page or an error in place of a list.
    NotAList,
    /// The file is empty.
    Empty,
    /// The signature is missing, is not valid, or was made with another key.
    Signature,
    /// The file does not have the configured digest.
    Digest,
    /// The list arrived, but its rules do not come into force: guards or its contents are the reason.
    Rejected,
    /// The server sent something that is not HTTP.
    Protocol,
    /// The file can't be written to the state directory.
    NotWritten,
    /// The settings of TLS can't be used.
    TlsSettings,
    /// A copy can't be read, or has other bytes than were downloaded.
    Damaged,
}

impl DownloadFault {
    /// All faults, in the order in which they are shown.
    pub const ALL: [Self; 20] = [
        Self::Unreachable,
        Self::Proxy,
        Self::Timeout,
        Self::Stalled,
        Self::Tls,
        Self::Status,
        Self::Redirect,
        Self::Private,
        Self::TooLarge,
        Self::Broken,
        Self::Truncated,
        Self::NotAList,
        Self::Empty,
        Self::Signature,
        Self::Digest,
        Self::Rejected,
        Self::Protocol,
        Self::NotWritten,
        Self::TlsSettings,
        Self::Damaged,
    ];

    /// The name in `status` and in the log.
    pub fn name(self) -> &'static str {
        self.texts().0
    }

    /// What happened.
    pub fn meaning(self) -> &'static str {
        self.texts().1
    }

    /// What the operator can do.
    pub fn remedy(self) -> &'static str {
        self.texts().2
    }

    /// Whether another mirror would fail in the same way.
    pub(super) fn is_ours(self) -> bool {
        matches!(self, Self::NotWritten | Self::TlsSettings)
    }

    /// Name, meaning and remedy.
    fn texts(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Unreachable => (
                "unreachable",
                "there is no connection to the server",
                "check the host in the URL, the upstream servers, and that no firewall drops the connection",
            ),
            Self::Proxy => (
                "proxy",
                "the proxy does not connect to the server",
                "check `proxy` in [download], and that the proxy permits this host",
            ),
            Self::Timeout => (
                "timeout",
                "the download took too long",
                "raise timeout-secs in [download] if the list is that large",
            ),
            Self::Stalled => (
                "stalled",
                "the server sent too little for too long",
                "try another mirror, or raise stall-secs in [download]",
            ),
            Self::Tls => (
                "tls",
                "TLS failed",
                "check the URL; if the certificate is from an authority of your own, set `authorities` in [download]",
            ),
            Self::Status => (
                "status",
                "the server refused the request",
                "check whether the publisher has moved the list",
            ),
            Self::Redirect => (
                "redirect",
                "a redirect is not followed",
                "use the new URL if the publisher confirms it, or add its host to `redirects` of the list",
            ),
            Self::Private => (
                "private",
                "the host has an address that is not public",
                "if this server is yours, add the host or its network to allow-private in [download]",
            ),
            Self::TooLarge => (
                "too-large",
                "the list is larger than permitted",
                "raise max-mib or max-unpacked-mib in [download] if the list is that large",
            ),
            Self::Broken => (
                "broken",
                "the file can't be unpacked",
                "wait for the publisher to mend it, or try another mirror",
            ),
            Self::Truncated => (
                "truncated",
                "the connection ended before the list did",
                "wait, as it is tried again; if this lasts, try another mirror",
            ),
            Self::NotAList => (
                "not-a-list",
                "the server sent a page or an error message in place of a list",
                "open the URL in a browser, and check whether the publisher has moved the list",
            ),
            Self::Empty => (
                "empty",
                "the file is empty",
                "wait for the publisher to mend it; if the list ended, remove it from the configuration",
            ),
            Self::Signature => (
                "signature",
                "the signature does not prove that the list is the publisher's",
                "compare `minisign` with the publisher's key; do not use the list until it is clear why they differ",
            ),
            Self::Digest => (
                "digest",
                "the list does not have the configured SHA-256 digest",
                "if the publisher has released a new version that you want, set `sha256` to its digest",
            ),
            Self::Rejected => (
                "rejected",
                "the version that the server has is not accepted",
                "compare it with the version in force, and accept it if it is meant so, or wait for the publisher to mend it",
            ),
            Self::Protocol => (
                "protocol",
                "the server does not speak HTTP as expected",
                "check the port in the URL, and whether it is https",
            ),
            Self::NotWritten => (
                "not-written",
                "the list can't be written to the state directory",
                "free space on its disk, and let the server's user write to it",
            ),
            Self::TlsSettings => (
                "tls-settings",
                "TLS can't be set up",
                "check `authorities` in [download]",
            ),
            Self::Damaged => (
                "damaged",
                "a stored copy of the list could not be read, or had other bytes than were downloaded, so it is \
                 downloaded again",
                "check the disk of the state directory",
            ),
        }
    }
}

/// The name.
impl fmt::Display for DownloadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a download failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) fault: DownloadFault,
    /// The circumstances. Nothing in it is secret.
    pub(super) detail: String,
    /// When the server wants to be asked again.
    pub(super) retry_after: Option<Duration>,
}

impl Failure {
    pub(super) fn new(fault: DownloadFault, detail: impl Into<String>) -> Self {
        Self {
            fault,
            detail: detail.into(),
            retry_after: None,
        }
    }
}

/// A sentence with the remedy.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fault, detail, .. } = self;
        write!(f, "{}: {detail}; {}", fault.meaning(), fault.remedy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_has_a_name_and_texts_of_its_own() {
        let all = DownloadFault::ALL.map(DownloadFault::texts);
        for part in [
            |it: (_, _, _)| it.0,
            |it: (_, _, _)| it.1,
            |it: (_, _, _)| it.2,
        ] {
            let distinct: std::collections::HashSet<&str> = all.into_iter().map(part).collect();
            assert_eq!(distinct.len(), all.len());
        }
    }
}
