//! Lists that a program reads from URLs or files.

use std::path::Path;

use toml_edit::Value;

use super::super::public::is_public;
use super::super::web::{WebHost, WebUrl};
use super::draft::{Draft, SourceLine};
use super::folder::{Folder, absolute};

/// A list of another program.
pub(super) struct ForeignList<'t> {
    /// Its name, if it has one.
    pub(super) title: Option<&'t str>,
    /// A URL or a path.
    pub(super) source: &'t str,
    pub(super) format: &'static str,
    pub(super) is_allow: bool,
}

/// Adds a list to the draft.
pub(super) fn add(list: &ForeignList<'_>, folder: &Folder, line: &SourceLine, draft: &mut Draft) {
    let (scheme, rest) = list.source.split_once("://").unwrap_or(("", list.source));
    let is_web = matches!(scheme, "http" | "https");
    let url = is_web.then(|| web_url(list.source));
    let title = match (list.title, &url) {
        (Some(title), _) if !title.is_empty() => title.to_owned(),
        (_, Some(Ok(url))) => title_of_url(url),
        (_, None) if matches!(scheme, "" | "file") => title_of_path(rest),
        // The text may have a password.
        _ => "of a URL".to_owned(),
    };
    let mut keys: Vec<(&'static str, Value)> = Vec::new();
    match url {
        Some(Ok(url)) => keys.push(("url", permitted(&url, line, draft).into())),
        Some(Err(why)) => return draft.leave(line, format!("list {title}"), why),
        None if matches!(scheme, "" | "file") => {
            let base = line.file.parent().unwrap_or(Path::new("."));
            let path = folder.find(base, rest);
            let path = path.unwrap_or_else(|_| base.join(rest));
            keys.push(("path", absolute(&path).into()));
        }
        None => {
            let reason = "only lists by https, http and from files are read";
            return draft.leave(line, format!("list {title}"), reason);
        }
    }
    keys.push(("format", list.format.into()));
    match list.is_allow {
        true => keys.push(("kind", "allow".into())),
        // The programs whose lists have this syntax have one set of rules.
        false if list.format == "adblock" => keys.push(("allow-scope", "all-lists".into())),
        false => {}
    }
    draft.list(&title, keys, line);
}

/// The URL of a list, if it has no password.
///
/// # Errors
/// Why the list does not carry over, without the URL.
pub(super) fn web_url(source: &str) -> Result<WebUrl, String> {
    let url = WebUrl::parse(source.trim()).map_err(|why| format!("its URL {why}"))?;
    if url.login().is_some() {
        let reason = "its URL has a password, which is not copied: add a [[list]] with this URL to the configuration, and let only the \
                      server's user read that file";
        return Err(reason.to_owned());
    }
    Ok(url)
}

/// A URL as a list has it, with its query. Its host may be asked without encryption, or in the own network, if it has to be.
pub(super) fn permitted(url: &WebUrl, line: &SourceLine, draft: &mut Draft) -> String {
    let host = url.host();
    if !url.is_https() {
        draft.push("download", "allow-http", host.to_string(), line);
    }
    if is_private(&host) {
        draft.push("download", "allow-private", host.to_string(), line);
    }
    url.without_login()
}

/// Whether a host is not public by its text. That of another name is only known when it is resolved.
fn is_private(host: &WebHost) -> bool {
    match host {
        WebHost::Address(address) => !is_public(*address),
        WebHost::Name(_) => host.is_loopback_name(),
    }
}

/// A name for a list: the host of its URL, or the owner if the host has files of many, and the end of the path.
fn title_of_url(url: &WebUrl) -> String {
    let (host, target) = (url.authority(), url.target());
    let path = target.split('?').next().unwrap_or(&target);
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts[..] {
        [.., owner, last] if host.starts_with("raw.") => format!("{owner}-{last}"),
        [.., last] => format!("{host}-{last}"),
        [] => host,
    }
}

/// The name of a list's file.
fn title_of_path(path: &str) -> String {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    parts.next_back().unwrap_or(path).to_owned()
}
