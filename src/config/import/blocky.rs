//! Imports the configuration of blocky, with the names of keys before and after its version 0.24.

use std::net::IpAddr;
use std::path::Path;

use toml_edit::Array;

use super::draft::{Draft, SourceLine};
use super::duration::seconds;
use super::error::ImportError;
use super::folder::{Folder, ReadFile};
use super::hosts::{self, HostsOptions};
use super::list_urls::{self, ForeignList};
use super::own_rules::OwnRules;
use super::servers::{self, server};
use super::tree::{self, Node};

/// Keys that say how the process runs, not what is answered.
const PROCESS: &[&str] = &[
    "log",
    "logLevel",
    "logFormat",
    "logTimestamp",
    "logPrivacy",
    "prometheus",
    "queryLog",
    "redis",
    "bootstrapDns",
    "startVerifyUpstream",
    "connectIPVersion",
    "minTlsServeVersion",
    "ede",
    "upstreamTimeout",
    "httpPort",
    "httpsPort",
    "upstreams",
    "upstream",
    "blocking",
    "customDNS",
    "conditional",
    "caching",
    "ports",
    "port",
    "hostsFile",
    "specialUseDomains",
    "fqdnOnly",
    "clientLookup",
    "certFile",
    "keyFile",
    "tls",
];

/// Keys without a counterpart, with their path, and what to do.
const NO_COUNTERPART: &[(&[&str], &str)] = &[
    (
        &["filtering", "queryTypes"],
        "answers are not filtered by their type",
    ),
    (&["fqdnOnly"], "names without a dot are forwarded"),
    (
        &["dnssec"],
        "answers are not validated: name upstream servers that validate",
    ),
    (&["ecs"], "clients' addresses are not sent upstream"),
    (
        &["clientLookup"],
        "clients have no names: one policy holds for all",
    ),
    (&["ports", "tls"], "clients are not served over TLS yet"),
    (&["ports", "https"], "clients are not served over HTTPS yet"),
    (
        &["customDNS", "rewrite"],
        "names are not rewritten: write the [[local]] sections of the other names",
    ),
    (
        &["conditional", "rewrite"],
        "names are not rewritten: forward the zones with their own names",
    ),
    (
        &["conditional", "fallbackUpstream"],
        "a forwarded zone is asked of its servers only",
    ),
    (
        &["customDNS", "zone"],
        "write the records into a zone file, and name it in a [[local]] section",
    ),
    (&["redis"], "servers do not share their cache"),
];

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
    import_lists(folder, &root, draft);
    import_blocking(&root, draft);
    import_cache(&root, draft);
    import_local(folder, &root, draft);
    for (path, reason) in NO_COUNTERPART {
        if let Some(node) = root.at(path).filter(|node| !node.is_off()) {
            draft.leave(&node.line, path.join("."), *reason);
        }
    }
    let is_known =
        |key: &str| PROCESS.contains(&key) || NO_COUNTERPART.iter().any(|(path, _)| path[0] == key);
    for (key, node) in root
        .entries()
        .iter()
        .filter(|(key, node)| !is_known(key) && !node.is_off())
    {
        draft.leave(&node.line, key, "Tapis has no such setting");
    }
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
            match (
                text.trim_start_matches(':').parse(),
                servers::listening(text, 53),
            ) {
                (Ok(port), _) => draft.listen_everywhere(port, &item.line),
                (_, Some(socket)) => draft.push("server", "listen", socket.to_string(), &item.line),
                _ => draft.leave(
                    &item.line,
                    format!("ports.dns {text}"),
                    "not an address with a port",
                ),
            }
        }
    }
    if !draft.has("server", "listen") {
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
            match server(item.text().unwrap_or_default()) {
                Ok(server) => draft.push("upstream", "servers", server, &item.line),
                Err(why) => draft.leave(&item.line, "an upstream server of the group default", why),
            }
        }
    }
    if let Some(node) = root
        .at(&["upstreams", "timeout"])
        .or(root.at(&["upstreamTimeout"]))
        && let Some(secs) = seconds(node, draft)
    {
        draft.number(
            ("upstream", "timeout-ms"),
            secs.saturating_mul(1000),
            100..=30_000,
            &node.line,
        );
    }
}

fn import_lists(folder: &Folder, root: &Node, draft: &mut Draft) {
    let assigned = root.entries_at(&["blocking", "clientGroupsBlock"]);
    let default = assigned.iter().find(|(client, _)| client == "default");
    let used: Vec<_> = default
        .iter()
        .flat_map(|(_, groups)| groups.items())
        .filter_map(Node::text)
        .collect();
    for (client, groups) in assigned.iter().filter(|(client, _)| client != "default") {
        draft.leave(
            &groups.line,
            format!("blocking.clientGroupsBlock.{client}"),
            "one policy holds for all clients: only `default` is used",
        );
    }
    block_all_others(root, &used, draft);
    for (key, is_allow) in [
        ("allowlists", true),
        ("whiteLists", true),
        ("denylists", false),
        ("blackLists", false),
    ] {
        for (group, sources) in root.entries_at(&["blocking", key]) {
            if !used.contains(&group.as_str()) {
                let reason = "no rule of clientGroupsBlock.default uses the group: add a [[list]] if all clients shall have it";
                draft.leave(&sources.line, format!("blocking.{key}.{group}"), reason);
                continue;
            }
            for (index, source) in sources.items().iter().enumerate() {
                import_list(folder, (group, index), source, is_allow, draft);
            }
        }
    }
}

/// Adds a list that blocks all names, if a group has only lists that allow: blocky answers no others then. It blocks
/// addresses only.
fn block_all_others(root: &Node, used: &[&str], draft: &mut Draft) {
    let groups = |keys: [&'static str; 2]| {
        let groups = keys
            .into_iter()
            .flat_map(|key| root.entries_at(&["blocking", key]));
        groups.filter(|(group, sources)| used.contains(&&**group) && !sources.items().is_empty())
    };
    let blocked: Vec<_> = groups(["denylists", "blackLists"]).collect();
    let only = groups(["allowlists", "whiteLists"])
        .find(|(group, _)| !blocked.iter().any(|(known, _)| known == group));
    if let Some((group, sources)) = only {
        let text = format!(
            "! The group {group} allows names, and blocks no others by lists.\n*$dnstype=A|AAAA\n"
        );
        let keys = vec![("format", "adblock".into()), ("guards", "warn".into())];
        let file = ("all-others.txt".to_owned(), text);
        draft.file_list("all-others", file, keys, &sources.line);
    }
}

fn import_list(
    folder: &Folder,
    (group, index): (&str, usize),
    source: &Node,
    is_allow: bool,
    draft: &mut Draft,
) {
    // Version 0.25 permits a map with the format.
    let text = source
        .text()
        .or(source.text_at(&["source"]))
        .unwrap_or_default();
    if !text.contains('\n') {
        let list = ForeignList {
            title: None,
            source: text.trim(),
            format: "auto",
            is_allow,
        };
        return list_urls::add(&list, folder, &source.line, draft);
    }
    let mut rules = OwnRules::default();
    for (offset, text) in text.lines().enumerate() {
        let line = SourceLine {
            number: source.line.number + 1 + offset as u32,
            ..source.line.clone()
        };
        inline_rule(text, &line, &mut rules, draft);
    }
    let kind = if is_allow { "allow" } else { "block" };
    rules.finish(&format!("{group}-{kind}-{}", index + 1), is_allow, draft);
}

/// A line of a list in the configuration itself: a name, `*.x`, a line of a hosts file, or a pattern between slashes.
fn inline_rule(text: &str, line: &SourceLine, rules: &mut OwnRules, draft: &mut Draft) {
    let text = text.trim();
    if text.is_empty() || text.starts_with('#') {
        return;
    }
    if let Some(pattern) = text
        .strip_prefix('/')
        .and_then(|text| text.strip_suffix('/'))
    {
        return rules.pattern(pattern, line, draft);
    }
    let text = text.split('#').next().unwrap_or_default().trim();
    let mut words = text.split_whitespace();
    let names = match words.next() {
        Some(first) if first.parse::<IpAddr>().is_ok() => words.collect(),
        _ => vec![text],
    };
    for name in names {
        match name.strip_prefix("*.") {
            Some(name) => rules.name(name, true, line, draft),
            None => rules.name(name, false, line, draft),
        }
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
    for source in files {
        let base = source.line.file.parent().unwrap_or(Path::new("."));
        let path = source.text().unwrap_or_default();
        match folder.find(base, path).and_then(|path| folder.read(&path)) {
            Ok(file) => {
                hosts::import_file(
                    &file.path,
                    &file,
                    HostsOptions::default(),
                    &source.line,
                    draft,
                );
            }
            Err(why) => draft.leave(&source.line, format!("hostsFile {path}"), why),
        }
    }
}
