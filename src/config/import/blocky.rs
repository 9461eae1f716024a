//! Imports the configuration of blocky, with the names of keys before and after its version 0.24.

use std::net::IpAddr;
use std::path::Path;

use toml_edit::Array;

use super::super::web::WebUrl;
use super::blocky_lists;
use super::draft::{Draft, SourceLine};
use super::duration::{millis, seconds};
use super::error::ImportError;
use super::folder::{Folder, ReadFile};
use super::hosts::{self, HostsOptions};
use super::keys::Keys;
use super::servers::{self, server};
use super::tree::{self, Node};

/// The keys of all versions of the file.
const KEYS: Keys = Keys {
    known: &[
        "upstreams.groups",
        "upstreams.timeout",
        "upstreams.init",
        "upstreams.strategy",
        "upstreams.userAgent",
        "upstreams.quic",
        "upstream",
        "upstreamTimeout",
        "startVerifyUpstream",
        "dohUserAgent",
        "connectIPVersion",
        "disableIPv6",
        "bootstrapDns",
        "customDNS.customTTL",
        "customDNS.mapping",
        "conditional.mapping",
        "blocking.denylists",
        "blocking.allowlists",
        "blocking.blackLists",
        "blocking.whiteLists",
        "blocking.clientGroupsBlock",
        "blocking.blockType",
        "blocking.blockTTL",
        "blocking.loading",
        "blocking.refreshPeriod",
        "blocking.downloadTimeout",
        "blocking.downloadAttempts",
        "blocking.downloadCooldown",
        "blocking.failStartOnListError",
        "blocking.processingConcurrency",
        "blocking.startStrategy",
        "blocking.maxErrorsPerFile",
        "caching.minTime",
        "caching.maxTime",
        "caching.cacheTimeNegative",
        "caching.maxItemsCount",
        "caching.prefetching",
        "caching.prefetchExpires",
        "caching.prefetchThreshold",
        "caching.prefetchMaxItemsCount",
        "ports.dns",
        "ports.http",
        "ports.dohPath",
        "ports.freeBind",
        "port",
        "httpPort",
        "hostsFile",
        "log",
        "logLevel",
        "logFormat",
        "logTimestamp",
        "logPrivacy",
        "prometheus",
        "statistics",
        "queryLog",
        "minTlsServeVersion",
        "certFile",
        "keyFile",
        "ede",
    ],
    no_counterpart: &[
        (
            "filtering.queryTypes",
            "answers are not filtered by their type",
        ),
        ("fqdnOnly", "names without a dot are forwarded"),
        (
            "dnssec",
            "answers are not validated: name upstream servers that validate",
        ),
        ("ecs", "clients' addresses are not sent upstream"),
        (
            "clientLookup",
            "clients have no names: one policy holds for all",
        ),
        ("ports.tls", "clients are not served over TLS yet"),
        ("ports.https", "clients are not served over HTTPS yet"),
        (
            "ports.proxyProtocol",
            "clients' addresses are those of their packets",
        ),
        ("tlsPort", "clients are not served over TLS yet"),
        ("httpsPort", "clients are not served over HTTPS yet"),
        ("http3", "clients are not served over HTTPS yet"),
        (
            "customDNS.rewrite",
            "names are not rewritten: write the [[local]] sections of the other names",
        ),
        (
            "conditional.rewrite",
            "names are not rewritten: forward the zones with their own names",
        ),
        (
            "customDNS.fallbackUpstream",
            "a name with records is answered from them only",
        ),
        (
            "conditional.fallbackUpstream",
            "a forwarded zone is asked of its servers only",
        ),
        (
            "customDNS.zone",
            "write the records into a zone file, and name it in a [[local]] section",
        ),
        ("blocking.schedules", "rules hold at all times"),
        ("blocking.listSchedules", "lists hold at all times"),
        ("caching.exclude", "answers are always cached"),
        ("dns64", "addresses are not translated"),
        (
            "rateLimit",
            "clients' queries are limited by waiting-per-client only",
        ),
        (
            "rebindingProtection",
            "answers with private addresses are not rejected",
        ),
        ("redis", "servers do not share their cache"),
    ],
    off: &[
        (
            "customDNS.filterUnmappedTypes",
            "a name with records has no records of other types",
        ),
        (
            "specialUseDomains",
            "zones of special use are answered locally: name those to forward in [special-use] forward",
        ),
    ],
};

/// Imports a configuration.
///
/// # Errors
/// A syntax error.
pub(super) fn import(
    folder: &Folder,
    main: &ReadFile,
    draft: &mut Draft,
) -> Result<(), ImportError> {
    let root = tree::yaml(main)?;
    // blocky answers its own names before it looks at lists.
    draft.local_first = true;
    let first = SourceLine::new(&main.path, 1);
    import_ports(&root, &first, draft);
    import_upstreams(&root, draft);
    blocky_lists::import(folder, &root, draft);
    import_blocking(&root, draft);
    import_cache(&root, draft);
    import_local(folder, &root, draft);
    KEYS.report(&root, draft);
    Ok(())
}

fn import_ports(root: &Node, first: &SourceLine, draft: &mut Draft) {
    let ports = root
        .items_at(&["ports", "dns"])
        .iter()
        .chain(root.items_at(&["port"]));
    for item in ports {
        for text in item.text().unwrap_or_default().split(',') {
            let text = text.trim();
            let sockets = servers::listening(text, 53);
            match text.parse() {
                Ok(port) => draft.listen_everywhere(port, &item.line),
                Err(_) if sockets.is_empty() => {
                    let shown = format!("ports.dns {text}");
                    draft.leave(&item.line, shown, "not an address with a port");
                }
                Err(_) => draft.listen(sockets, &item.line),
            }
        }
    }
    if draft.listen.is_empty() {
        draft.listen_everywhere(53, first);
    }
    draft.allow_private(first);
    draft.leave(
        first,
        "all clients",
        "blocky answers every client: [server] allow has all private networks, add others",
    );
}

fn import_upstreams(root: &Node, draft: &mut Draft) {
    // A server alone, several, or each with the addresses of its name.
    let bootstrap = root.items_at(&["bootstrapDns"]);
    let bootstrap: Vec<_> = bootstrap
        .iter()
        .map(|node| node.at(&["upstream"]).unwrap_or(node))
        .collect();
    let groups = root.entries_at(&["upstreams", "groups"]).iter();
    // Before version 0.22.
    let groups = groups.chain(root.entries_at(&["upstream"]));
    for (group, servers) in groups {
        if group != "default" {
            draft.leave(
                &servers.line,
                format!("upstreams.groups.{group}"),
                "one policy holds for all clients: only the group `default` is used",
            );
            continue;
        }
        for item in servers.items() {
            let text = item.text().unwrap_or_default();
            if let Err(why) = servers::upstream(text, &bootstrap, &item.line, draft) {
                draft.leave(&item.line, "an upstream server of the group default", why);
            }
        }
    }
    if let Some(node) = root
        .at(&["upstreams", "timeout"])
        .or(root.at(&["upstreamTimeout"]))
        && let Some(millis) = millis(node, draft)
    {
        draft.number(("upstream", "timeout-ms"), millis, 100..=30_000, &node.line);
    }
}

fn import_blocking(root: &Node, draft: &mut Draft) {
    if let Some(node) = root.at(&["blocking", "blockType"]) {
        let text = node.text().unwrap_or_default();
        let addresses: Result<Vec<IpAddr>, _> = text
            .split(',')
            .map(|address| address.trim().parse())
            .collect();
        match (text.to_ascii_lowercase().as_str(), addresses) {
            ("nxdomain", _) => draft.set("block", "action", "nxdomain", &node.line),
            ("zeroip", _) => draft.set("block", "action", "sinkhole", &node.line),
            (_, Ok(addresses)) => {
                let addresses: Array = addresses.iter().map(ToString::to_string).collect();
                draft.set("block", "action", "sinkhole", &node.line);
                draft.set("block", "sinkhole", addresses, &node.line);
            }
            _ => draft.leave(
                &node.line,
                format!("blocking.blockType {text}"),
                "not a kind of answer that Tapis knows",
            ),
        }
    }
    if let Some(node) = root.at(&["blocking", "blockTTL"])
        && let Some(secs) = seconds(node, draft)
    {
        draft.number(("block", "ttl-secs"), secs, 1..=3600, &node.line);
    }
}

fn import_cache(root: &Node, draft: &mut Draft) {
    for (key, to, bounds) in [
        ("minTime", "min-ttl-secs", 0..=3600),
        ("maxTime", "max-ttl-secs", 1..=604_800),
        ("cacheTimeNegative", "max-negative-ttl-secs", 1..=604_800),
    ] {
        if let Some(node) = root.at(&["caching", key])
            && let Some(secs) = seconds(node, draft).filter(|secs| *secs != 0)
        {
            draft.number(("cache", to), secs, bounds, &node.line);
        }
    }
    let count = root.at(&["caching", "maxItemsCount"]);
    if let Some((node, count)) =
        count.and_then(|node| Some((node, node.text()?.parse::<i64>().ok()?)))
        && count > 0
    {
        // An answer takes about 1 KiB.
        draft.number(
            ("cache", "size-mib"),
            count.div_euclid(1024) + 1,
            1..=65_536,
            &node.line,
        );
    }
}

fn import_local(folder: &Folder, root: &Node, draft: &mut Draft) {
    let ttl_secs = root
        .at(&["customDNS", "customTTL"])
        .and_then(|node| seconds(node, draft));
    let ttl_secs = ttl_secs.and_then(|secs| u32::try_from(secs).ok());
    for (name, addresses) in root.entries_at(&["customDNS", "mapping"]) {
        for text in addresses
            .items()
            .iter()
            .filter_map(Node::text)
            .flat_map(|text| text.split(','))
        {
            match text.trim().parse::<IpAddr>() {
                Ok(address) => {
                    // The mapping holds for all names below as well.
                    draft.address(name, address, ttl_secs, &addresses.line);
                    draft.address(&format!("*.{name}"), address, ttl_secs, &addresses.line);
                }
                Err(_) => draft.leave(
                    &addresses.line,
                    format!("customDNS.mapping.{name}"),
                    "only addresses carry over",
                ),
            }
        }
    }
    for (zone, targets) in root.entries_at(&["conditional", "mapping"]) {
        for target in targets
            .items()
            .iter()
            .filter_map(Node::text)
            .flat_map(|text| text.split(','))
        {
            match server(target) {
                _ if zone == "." => draft.leave(
                    &targets.line,
                    "conditional.mapping .",
                    "names without a dot can't be forwarded by themselves",
                ),
                Ok(server) => draft.forward(zone, &server, &targets.line),
                Err(why) => {
                    let shown = format!("conditional.mapping.{zone}");
                    draft.leave_of_zone(zone, &targets.line, shown, why);
                }
            }
        }
    }
    let files = root
        .items_at(&["hostsFile", "sources"])
        .iter()
        .chain(root.items_at(&["hostsFile", "filePath"]));
    let ttl_secs = root
        .at(&["hostsFile", "hostsTTL"])
        .and_then(|node| seconds(node, draft));
    let options = HostsOptions {
        domain: None,
        ttl_secs: ttl_secs.and_then(|secs| u32::try_from(secs).ok()),
        without_loopback: root.is_true(&["hostsFile", "filterLoopback"]),
    };
    for source in files {
        import_hosts(folder, source, options, draft);
    }
}

/// A hosts file: its path, its URL, or its lines.
fn import_hosts(folder: &Folder, source: &Node, options: HostsOptions<'_>, draft: &mut Draft) {
    let text = source.text().unwrap_or_default().trim_end();
    if text.contains('\n') {
        for (line, text) in source.lines() {
            hosts::add(text, options, &line, draft);
        }
        return;
    }
    if text.contains("://") {
        // A text that is no URL of the web may have a password as well.
        let shown = WebUrl::parse(text).map_or("of a URL".to_owned(), |url| url.to_string());
        let reason = "hosts files are read from files only: download it, and name the file";
        return draft.leave(&source.line, format!("hostsFile {shown}"), reason);
    }
    let base = source.line.file.parent().unwrap_or(Path::new("."));
    match folder.find(base, text).and_then(|path| folder.read(&path)) {
        Ok(file) => hosts::import_file(&file.path, &file, options, &source.line, draft),
        Err(why) => draft.leave(&source.line, format!("hostsFile {text}"), why),
    }
}
