//! Checks that a file is a configuration of the program that was named.

use super::error::ImportError;
use super::folder::ReadFile;
use super::tool::Tool;

/// The beginnings of lines that only this program's files have.
fn marks(tool: Tool) -> &'static [&'static str] {
    match tool {
        Tool::Pihole => &[
            "PIHOLE_",
            "DNSMASQ_LISTENING=",
            "BLOCKING_ENABLED=",
            "WEBPASSWORD=",
            "upstreams = [",
            "listeningMode =",
            "[dns]",
            "[webserver",
        ],
        Tool::Adguard => &[
            "schema_version:",
            "user_rules:",
            "bind_hosts:",
            "  bind_hosts:",
            "  upstream_dns:",
            "filters:",
            "whitelist_filters:",
        ],
        Tool::Blocky => &[
            "upstreams:",
            "upstream:",
            "customDNS:",
            "blocking:",
            "conditional:",
            "caching:",
            "ports:",
            "clientLookup:",
            "bootstrapDns:",
            "hostsFile:",
        ],
        Tool::Dnsmasq => &[
            "server=",
            "local=",
            "address=",
            "conf-dir=",
            "conf-file=",
            "cache-size=",
            "listen-address=",
            "interface=",
            "domain-needed",
            "bogus-priv",
            "no-resolv",
            "no-hosts",
            "expand-hosts",
            "dhcp-",
            "host-record=",
            "cname=",
            "txt-record=",
            "port=",
            "addn-hosts=",
            "domain=",
            "resolv-file=",
            "local-service",
            "bind-interfaces",
            "srv-host=",
            "mx-host=",
            "ptr-record=",
            "rev-server=",
            "log-queries",
        ],
        Tool::Unbound => &[
            "server:",
            "forward-zone:",
            "stub-zone:",
            "auth-zone:",
            "include:",
            "include-toplevel:",
            "rpz:",
            "local-zone:",
            "local-data:",
        ],
        Tool::DnscryptProxy => &[
            "server_names",
            "listen_addresses",
            "[sources",
            "[blocked_names]",
            "cloaking_rules",
            "forwarding_rules",
            "dnscrypt_servers",
        ],
        Tool::Bind => &[
            "options",
            "zone \"",
            "zone .",
            "include \"",
            "acl ",
            "view \"",
            "key \"",
            "logging",
            "controls",
        ],
    }
}

/// Whether a file has such lines.
fn resembles(tool: Tool, text: &str) -> bool {
    let is_nested = |tool| matches!(tool, Tool::Adguard | Tool::Blocky);
    let mut lines = text.lines().map(|line| {
        if is_nested(tool) {
            line
        } else {
            line.trim_start()
        }
    });
    let found = lines.any(|line| marks(tool).iter().any(|mark| line.starts_with(mark)));
    match tool {
        // A word such as `options` proves nothing without a block.
        Tool::Bind => found && text.contains(';'),
        _ => found,
    }
}

/// Checks a file. One that has only comments belongs to every program.
///
/// # Errors
/// If the file has no line of the program.
pub(super) fn check(wanted: Tool, file: &ReadFile) -> Result<(), ImportError> {
    let text = &*file.text;
    let is_blank =
        |line: &str| line.is_empty() || line.starts_with(['#', ';', '!']) || line.starts_with("//");
    if resembles(wanted, text) || text.lines().all(|line| is_blank(line.trim())) {
        return Ok(());
    }
    let path = file.path.to_path_buf();
    let found = Tool::ALL.into_iter().find(|tool| resembles(*tool, text));
    Err(match found {
        Some(found) => ImportError::OtherTool {
            path,
            wanted,
            found,
        },
        None => ImportError::Unknown { path, wanted },
    })
}
