//! Imports the configuration of AdGuard Home, in the versions that its releases of 2019 and later write.

use std::net::{IpAddr, SocketAddr};

use toml_edit::{Array, Value};

use super::adguard_keys::KEYS;
use super::draft::{Draft, LOOPBACK, SourceLine, TURNED_OFF};
use super::duration::{millis, seconds};
use super::error::ImportError;
use super::folder::{Folder, ReadFile};
use super::list_urls::{self, ForeignList};
use super::servers::{self, server};
use super::tree::{self, Node};
use crate::names::typed;
use crate::policy::patterns::PatternSet;

/// The newest version of the file's form whose keys are known.
const NEWEST: u32 = 34;
const WEEK_SECS: i64 = 604_800;
/// Names of the class CHAOS, which are never asked of other servers.
const CHAOS: &[&str] = &["version.bind", "id.server", "hostname.bind"];

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
    // Rewrites are not filtered. Forwarded domains are, before their servers are asked.
    draft.local_first = true;
    check_version(&root, draft);
    check_blocking(&root, draft);
    import_server(&root, draft);
    import_upstreams(&root, draft);
    import_lists(folder, &root, draft);
    import_rewrites(&root, draft);
    for path in [["dns", "blocking_mode"], ["filtering", "blocking_mode"]] {
        if let Some(mode) = root.at(&path) {
            blocking_mode(&root, path[0], mode, draft);
        }
    }
    KEYS.report(&root, draft);
    // Old versions have the clients themselves in `clients`.
    if let Some(clients) = root
        .at(&["clients"])
        .filter(|node| !node.items().is_empty())
    {
        draft.leave(&clients.line, "clients", "one policy holds for all clients");
    }
    Ok(())
}

fn check_version(root: &Node, draft: &mut Draft) {
    let Some(node) = root.at(&["schema_version"]) else {
        return;
    };
    let version = node.text().and_then(|text| text.parse::<u32>().ok());
    if version.is_none_or(|version| version > NEWEST) {
        let reason = format!(
            "versions up to {NEWEST} are known: keys that are newer are not seen, so compare the result"
        );
        draft.leave(&node.line, "schema_version", reason);
    }
}

/// Without protection or without filtering, no list blocks anything.
fn check_blocking(root: &Node, draft: &mut Draft) {
    for key in ["protection_enabled", "filtering_enabled"] {
        for section in ["dns", "filtering"] {
            if let Some(node) = root.at(&[section, key]).filter(|node| node.is_off()) {
                draft.turn_blocking_off(&node.line, &format!("{section}.{key} = false"));
            }
        }
    }
}

fn import_server(root: &Node, draft: &mut Draft) {
    let dns = &root.line;
    let port = servers::port(root.at(&["dns", "port"]), "dns.port", draft);
    let hosts = root
        .items_at(&["dns", "bind_hosts"])
        .iter()
        .chain(root.items_at(&["dns", "bind_host"]));
    for host in hosts {
        match host.text().and_then(|host| host.parse::<IpAddr>().ok()) {
            Some(IpAddr::V4(address)) if address.is_unspecified() => {
                draft.listen_everywhere(port, &host.line);
            }
            Some(address) => {
                draft.listen([SocketAddr::new(address.to_canonical(), port)], &host.line);
            }
            None => draft.leave(&host.line, "dns.bind_hosts", "not an address"),
        }
    }
    if draft.listen.is_empty() {
        draft.listen_everywhere(port, dns);
    }
    import_clients(root, draft);
    for (key, to, bounds) in [
        ("cache_ttl_min", "min-ttl-secs", 0..=3600),
        ("cache_ttl_max", "max-ttl-secs", 1..=604_800),
    ] {
        if let Some((node, secs)) = number(root, &["dns", key]).filter(|(_, secs)| *secs > 0) {
            draft.number(("cache", to), secs, bounds, &node.line);
        }
    }
    if let Some((node, bytes)) =
        number(root, &["dns", "cache_size"]).filter(|(_, bytes)| *bytes > 0)
    {
        draft.number(
            ("cache", "size-mib"),
            (bytes >> 20).max(1),
            1..=65_536,
            &node.line,
        );
    }
    if root.is_true(&["dns", "cache_optimistic"]) {
        let age = root.at(&["dns", "cache_optimistic_max_age"]);
        // Before version 33 of the file, without end.
        let secs = age.map_or(Some(WEEK_SECS), |age| seconds(age, draft));
        let line = age.map_or(dns, |age| &age.line);
        if let Some(secs) = secs {
            draft.number(("cache", "stale-secs"), secs, 0..=WEEK_SECS, line);
        }
    }
    for path in [
        ["dns", "blocked_response_ttl"],
        ["filtering", "blocked_response_ttl"],
    ] {
        if let Some((node, secs)) = number(root, &path) {
            draft.number(("block", "ttl-secs"), secs, 1..=3600, &node.line);
        }
    }
}

/// The clients that are answered. Some that are named by other things than addresses must not become everyone.
fn import_clients(root: &Node, draft: &mut Draft) {
    let clients = root.items_at(&["dns", "allowed_clients"]);
    for client in clients {
        match client.text().and_then(servers::network) {
            Some(network) => draft.allow(network, &client.line),
            None => draft.leave(
                &client.line,
                "dns.allowed_clients",
                "clients are permitted by their address or network only",
            ),
        }
    }
    if draft.has("server", "allow") {
        return;
    }
    let Some(first) = clients.first() else {
        draft.allow_private(&root.line);
        let reason = "AdGuard Home answers every client: [server] allow has all private networks, add others";
        return draft.leave(&root.line, "dns.allowed_clients", reason);
    };
    for network in LOOPBACK {
        draft.push("server", "allow", *network, &first.line);
    }
    let reason = "none of the permitted clients carries over, so only this machine is answered: add their networks to [server] allow";
    draft.leave(&first.line, "dns.allowed_clients", reason);
}

fn number<'n>(root: &'n Node, path: &[&str]) -> Option<(&'n Node, i64)> {
    let node = root.at(path)?;
    Some((node, node.text()?.parse().ok()?))
}

fn import_upstreams(root: &Node, draft: &mut Draft) {
    let bootstrap: Vec<_> = root.items_at(&["dns", "bootstrap_dns"]).iter().collect();
    for item in root.items_at(&["dns", "upstream_dns"]) {
        let text = item.text().unwrap_or_default().trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        match text
            .strip_prefix("[/")
            .and_then(|text| text.split_once("/]"))
        {
            Some((zones, targets)) => forward(zones, targets, item, draft),
            None => {
                if let Err(why) = servers::upstream(text, &bootstrap, &item.line, draft) {
                    let shown = format!("dns.upstream_dns {}", without_path(text));
                    draft.leave(&item.line, shown, why);
                }
            }
        }
    }
    if let Some(node) = root.at(&["dns", "upstream_timeout"])
        && let Some(millis) = millis(node, draft)
    {
        draft.number(("upstream", "timeout-ms"), millis, 100..=30_000, &node.line);
    }
    for item in root.items_at(&["dns", "fallback_dns"]) {
        let reason = "all upstream servers are equal: add it to [upstream] servers";
        draft.leave(
            &item.line,
            format!(
                "dns.fallback_dns {}",
                without_path(item.text().unwrap_or_default())
            ),
            reason,
        );
    }
}

/// A server's URL without its path, which may be a secret. Of one with a user, or of a stamp, only the scheme is left.
fn without_path(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, rest)) if scheme == "sdns" || rest.contains('@') => format!("{scheme}://"),
        Some((scheme, rest)) => {
            let host = rest.split(['/', '?']).next().unwrap_or_default();
            format!("{scheme}://{host}")
        }
        None => text.to_owned(),
    }
}

/// `[/zone/zone/]server server`; the server `#` means the general ones.
fn forward(zones: &str, targets: &str, item: &Node, draft: &mut Draft) {
    for zone in zones.split('/').filter(|zone| !zone.is_empty()) {
        for target in targets.split_whitespace() {
            let shown = || format!("dns.upstream_dns [/{zone}/]");
            match server(target) {
                _ if target == "#" => match typed::one(zone.trim_start_matches("*.")) {
                    Ok((name, None)) => draft.forward_generally(&name, false, &item.line),
                    _ => draft.leave(&item.line, shown(), "not the name of a zone"),
                },
                Ok(server) => draft.forward(zone, &server, &item.line),
                Err(why) => draft.leave_of_zone(zone, &item.line, shown(), why),
            }
        }
    }
    if zones.split('/').all(str::is_empty) {
        draft.leave(
            &item.line,
            "dns.upstream_dns [//]",
            "names without a dot can't be forwarded by themselves",
        );
    }
}

fn import_lists(folder: &Folder, root: &Node, draft: &mut Draft) {
    for (key, is_allow) in [("whitelist_filters", true), ("filters", false)] {
        for filter in root.items_at(&[key]) {
            if !filter.is_true(&["enabled"]) {
                let id = filter.text_at(&["name"]).or(filter.text_at(&["id"]));
                let shown = format!("list {}", id.unwrap_or("without a name"));
                draft.leave(&filter.line, shown, TURNED_OFF);
                continue;
            }
            if draft.is_blocking_off {
                continue;
            }
            let Some(source) = filter.text_at(&["url"]) else {
                continue;
            };
            let list = ForeignList {
                title: filter.text_at(&["name"]),
                source,
                format: "adblock",
                is_allow,
            };
            list_urls::add(&list, folder, &filter.line, draft);
        }
    }
    for host in root.items_at(&["dns", "blocked_hosts"]) {
        let text = host.text().unwrap_or_default();
        if !CHAOS.contains(&text) {
            let reason = "add it to a [[list]] with action = \"drop\", which precedes the others";
            draft.leave(&host.line, format!("dns.blocked_hosts {text}"), reason);
        }
    }
    let rules = root.items_at(&["user_rules"]);
    let Some(first) = rules.first().filter(|_| !draft.is_blocking_off) else {
        return;
    };
    let lines = rules.iter().filter_map(|rule| Some((rule, rule.text()?)));
    let lines = lines.filter(|(_, text)| !text.contains('\n'));
    let mut text = String::new();
    for (rule, line) in lines {
        match pattern(line).map(|pattern| PatternSet::new([pattern])) {
            Some(Err(error)) => {
                let reason = format!("not a pattern that a list can have: {}", error.problem);
                draft.leave(&rule.line, line, reason);
            }
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    let keys: Vec<(&str, Value)> = vec![
        ("format", "adblock".into()),
        ("allow-scope", "all-lists".into()),
        ("guards", "warn".into()),
    ];
    draft.file_list(
        "user-rules",
        ("user-rules.txt".to_owned(), text),
        keys,
        &first.line,
    );
    for rule in rules {
        let text = rule.text().unwrap_or_default();
        if text.contains("$client") || text.contains(",client=") || text.contains("ctag=") {
            draft.leave(
                &rule.line,
                text,
                "one policy holds for all clients: the rule does nothing",
            );
        }
    }
}

/// The regular expression of a rule between slashes.
fn pattern(rule: &str) -> Option<&str> {
    let rule = rule.trim().trim_start_matches("@@");
    let (pattern, options) = rule.strip_prefix('/')?.rsplit_once('/')?;
    (options.is_empty() || options.starts_with('$')).then_some(pattern)
}

/// Rewrites also hold without protection, but not without filtering.
fn import_rewrites(root: &Node, draft: &mut Draft) {
    let is_off = |path: &[&str]| root.at(path).is_some_and(Node::is_off);
    let unfiltered = ["dns", "filtering"]
        .into_iter()
        .any(|section| is_off(&[section, "filtering_enabled"]));
    if unfiltered {
        return;
    }
    if let Some(node) = root
        .at(&["filtering", "rewrites_enabled"])
        .filter(|node| node.is_off())
    {
        return draft.leave(&node.line, "filtering.rewrites_enabled = false", TURNED_OFF);
    }
    for path in [["dns", "rewrites"], ["filtering", "rewrites"]] {
        for rewrite in root.items_at(&path) {
            import_rewrite(rewrite, draft);
        }
    }
}

fn import_rewrite(rewrite: &Node, draft: &mut Draft) {
    let line: &SourceLine = &rewrite.line;
    let (Some(domain), Some(answer)) = (rewrite.text_at(&["domain"]), rewrite.text_at(&["answer"]))
    else {
        return;
    };
    if rewrite.at(&["enabled"]).is_some_and(Node::is_off) {
        return draft.leave(line, format!("rewrite of {domain}"), TURNED_OFF);
    }
    match answer.parse::<IpAddr>() {
        Ok(address) => draft.address(domain, address, None, line),
        Err(_) if matches!(answer, "A" | "AAAA") || answer == domain => {
            let reason = "local names can't be excepted from a wildcard: name the other ones instead of the wildcard";
            draft.leave(line, format!("rewrite of {domain}"), reason);
        }
        Err(_) => draft.record(domain, "cname", answer, None, line),
    }
}

fn blocking_mode(root: &Node, section: &str, mode: &Node, draft: &mut Draft) {
    let line = &mode.line;
    let action = match mode.text().unwrap_or_default() {
        "nxdomain" => "nxdomain",
        "refused" => "refused",
        "custom_ip" => {
            let addresses =
                ["blocking_ipv4", "blocking_ipv6"].map(|key| root.text_at(&[section, key]));
            let addresses: Array = addresses.into_iter().flatten().collect();
            if !addresses.is_empty() {
                draft.set("block", "sinkhole", addresses, line);
            }
            "sinkhole"
        }
        _ => "sinkhole",
    };
    draft.set("block", "action", action, line);
}
