//! Reads files in the form of `/etc/hosts` as local records.

use std::net::IpAddr;

use super::draft::{Draft, SourceLine};
use super::folder::ReadFile;
use super::servers::reverse_name;

/// How the names of a hosts file are answered.
#[derive(Clone, Copy, Default)]
pub(super) struct HostsOptions<'t> {
    /// The domain that is added to names without a dot.
    pub(super) domain: Option<&'t str>,
    pub(super) ttl_secs: Option<u32>,
}

/// Adds the names of a file.
pub(super) fn import(file: &ReadFile, options: HostsOptions<'_>, draft: &mut Draft) {
    for (index, text) in file.text.lines().enumerate() {
        let line = SourceLine::new(&file.path, index + 1);
        let text = text.split('#').next().unwrap_or_default();
        add(text, options, &line, draft);
    }
}

/// Adds the names of one line: an address, and names.
pub(super) fn add(text: &str, options: HostsOptions<'_>, line: &SourceLine, draft: &mut Draft) {
    let mut words = text.split_whitespace();
    let Some(first) = words.next() else {
        return;
    };
    let Ok(address) = first.parse::<IpAddr>() else {
        return draft.leave(line, "a line of hosts", "does not begin with an address");
    };
    let mut is_first = true;
    for name in words {
        let full = options.domain.filter(|_| !name.contains('.'));
        let full = full.map(|domain| format!("{name}.{domain}"));
        if is_first && !address.is_unspecified() {
            let target = full.as_deref().unwrap_or(name);
            draft.record(
                &reverse_name(address),
                "ptr",
                target,
                options.ttl_secs,
                line,
            );
        }
        is_first = false;
        for owner in std::iter::once(name).chain(full.as_deref()) {
            draft.address(owner, address, options.ttl_secs, line);
        }
    }
}
