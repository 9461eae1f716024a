//! Lists that a program reads from URLs or files.

use std::path::Path;

use toml_edit::Value;

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
    let (scheme, rest) = match list.source.split_once("://") {
        Some((scheme, rest)) => (scheme, rest),
        None => ("", list.source),
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let title = list
        .title
        .filter(|title| !title.is_empty())
        .map_or_else(|| title_of(rest, scheme), str::to_owned);
    let mut keys: Vec<(&'static str, Value)> = Vec::new();
    match scheme {
        // The password is not shown.
        "http" | "https" if host.contains('@') => {
            let reason = "the URL has a password: download the list by another program, and name its file in a [[list]]";
            return draft.leave(line, format!("list {title}"), reason);
        }
        "http" | "https" => {
            keys.push(("url", list.source.into()));
            if scheme == "http" {
                let host = host.split(':').next().unwrap_or(host);
                draft.push("download", "allow-http", host, line);
            }
        }
        "file" | "" => {
            let base = line.file.parent().unwrap_or(Path::new("."));
            let path = folder.find(base, rest);
            let path = path.unwrap_or_else(|_| base.join(rest));
            keys.push(("path", absolute(&path).into()));
        }
        _ => {
            return draft.leave(
                line,
                format!("list {title}"),
                "only lists by https, http and from files are read",
            );
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

/// A name for a list: the last parts of its URL, or the name of its file.
fn title_of(rest: &str, scheme: &str) -> String {
    let path = rest.split(['?', '#']).next().unwrap_or(rest);
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts[..] {
        [.., last] if scheme.is_empty() => last.to_owned(),
        [host, .., owner, last] if host.starts_with("raw.") => format!("{owner}-{last}"),
        [host, .., last] => format!("{}-{last}", host.rsplit('@').next().unwrap_or(host)),
        [host] => host.to_owned(),
        [] => String::new(),
    }
}
