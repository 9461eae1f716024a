//! Imports the configuration of Unbound.

use std::path::Path;

use ipnet::IpNet;

use super::bind_acl::without;
use super::draft::{Draft, LOOPBACK, SourceLine};
use super::encrypted;
use super::folder::{Folder, ReadFile, absolute};
use super::list_urls;
use super::servers::{self, server};
use super::unbound_settings::other_setting;
use super::unbound_syntax::{Attribute, Clause, read};
use super::unbound_zones::LocalZones;
use crate::names::typed;

/// Imports a configuration.
pub(super) fn import(folder: &Folder, main: &ReadFile, draft: &mut Draft) {
    let first = SourceLine::new(&main.path, 1);
    let mut clauses = Vec::new();
    read(folder, main, 0, &mut clauses, draft);
    let mut zones = LocalZones::default();
    import_server(&clauses, &first, &mut zones, draft);
    let servers = clauses.iter().filter(|clause| clause.name == "server");
    let all_encrypted = servers
        .flat_map(|clause| &clause.attributes)
        .rfind(|attribute| matches!(attribute.key.as_str(), "tls-upstream" | "ssl-upstream"))
        .is_some_and(Attribute::is_yes);
    for clause in &clauses {
        match clause.name.as_str() {
            "server" | "remote-control" | "dnstap" => {}
            "forward-zone" => forward_zone(clause, "forward", all_encrypted, draft),
            "stub-zone" => forward_zone(clause, "stub", all_encrypted, draft),
            "auth-zone" => auth_zone(folder, clause, draft),
            "rpz" => rpz(folder, clause, draft),
            "view" => draft.leave(&clause.line, "view", "one policy holds for all clients"),
            _ if clause.attributes.is_empty() => {}
            other => draft.leave(&clause.line, other, "Tapis has no such module"),
        }
    }
    if !draft.has("upstream", "servers") {
        let reason = "Unbound resolves from the root servers, Tapis forwards: name recursive servers in [upstream] servers; Unbound \
                      itself, on another port, can be one";
        draft.leave(&first, "recursion", reason);
    }
    zones.finish(draft);
}

fn import_server(
    clauses: &[Clause],
    first: &SourceLine,
    zones: &mut LocalZones,
    draft: &mut Draft,
) {
    let servers = || clauses.iter().filter(|clause| clause.name == "server");
    let attributes = || servers().flat_map(|clause| &clause.attributes);
    let last = |key: &str| attributes().rfind(|attribute| attribute.key == key);
    let number = |key: &str| last(key)?.value().parse::<u32>().ok();
    let mut clients = Vec::new();
    let port = number("port")
        .and_then(|port| port.try_into().ok())
        .unwrap_or(53);
    for attribute in attributes() {
        let (line, value) = (&attribute.line, attribute.value());
        match attribute.key.as_str() {
            "interface" | "ip-address" => {
                let sockets = servers::listening(value, port);
                if sockets.is_empty() {
                    let reason = "the server listens on addresses: name those of the interface";
                    draft.leave(line, attribute.shown(), reason);
                }
                draft.listen(sockets, line);
            }
            // With `hide-identity` and `hide-version`, queries for them are refused, as without these keys.
            "identity" | "version"
                if last(&format!("hide-{}", attribute.key)).is_some_and(Attribute::is_yes) => {}
            "identity" | "version" => {
                let key = if attribute.key == "identity" {
                    "id"
                } else {
                    "version"
                };
                draft.set("server", key, value, line);
            }
            "unblock-lan-zones" if attribute.is_yes() => draft.forward_private_reverse(line),
            "unblock-lan-zones" => {}
            "access-control" => access(attribute, &mut clients, draft),
            "local-zone" => zones.zone(&attribute.values, line, draft),
            "local-data" => zones.data(value, line, draft),
            "local-data-ptr" => zones.pointer(value, line, draft),
            "cache-min-ttl" => seconds(attribute, "min-ttl-secs", 0..=3600, draft),
            "cache-max-ttl" => seconds(attribute, "max-ttl-secs", 1..=604_800, draft),
            "cache-max-negative-ttl" => {
                seconds(attribute, "max-negative-ttl-secs", 1..=604_800, draft);
            }
            "serve-expired" if attribute.is_yes() => {
                let secs = number("serve-expired-ttl").unwrap_or(86_400);
                // Unbound's 0 means without end.
                let secs = if secs == 0 { 604_800 } else { i64::from(secs) };
                draft.number(("cache", "stale-secs"), secs, 0..=604_800, line);
            }
            "num-threads" => match value.parse() {
                Ok(threads) => draft.number(("server", "workers"), threads, 0..=1024, line),
                Err(_) => draft.leave(line, attribute.shown(), "not a number"),
            },
            "do-ip4" | "do-ip6" | "do-udp" | "do-tcp" if value == "no" => {
                draft.leave(
                    line,
                    attribute.shown(),
                    "a transport is turned off by listening on other addresses",
                );
            }
            "port" if value.parse::<u16>().is_err() => {
                draft.leave(
                    line,
                    attribute.shown(),
                    "not a port: the default port 53 is used",
                );
            }
            "port" | "msg-cache-size" | "rrset-cache-size" | "serve-expired"
            | "serve-expired-ttl" | "tls-upstream" | "ssl-upstream" => {}
            _ => other_setting(attribute, draft),
        }
    }
    allow(&mut clients, draft);
    cache_size(last("msg-cache-size"), last("rrset-cache-size"), draft);
    if draft.listen.is_empty() {
        draft.listen(servers::listening("localhost", port), first);
    }
}

/// Clients with what they may do.
struct Access {
    network: IpNet,
    is_permitted: bool,
    line: SourceLine,
}

fn access(attribute: &Attribute, clients: &mut Vec<Access>, draft: &mut Draft) {
    let line = &attribute.line;
    let network = servers::network(attribute.value());
    let action = attribute.values.get(1).map_or("", String::as_str);
    let permitted = match action {
        "allow" | "allow_snoop" | "allow_setrd" | "allow_cookie" => Some(true),
        "deny" | "deny_non_local" | "refuse" | "refuse_non_local" => Some(false),
        _ => None,
    };
    let (Some(network), Some(is_permitted)) = (network, permitted) else {
        let reason = "not a network and an action that Tapis knows";
        return draft.leave(line, attribute.shown(), reason);
    };
    match action {
        "deny" => {
            let reason = "clients that are not in [server] allow get REFUSED, not silence";
            draft.leave(line, attribute.shown(), reason);
        }
        "deny_non_local" | "refuse_non_local" => {
            let reason = "clients that are not in [server] allow get REFUSED for local names, too";
            draft.leave(line, attribute.shown(), reason);
        }
        _ => {}
    }
    // Of two lines on the same network, the last one counts.
    clients.retain(|known| known.network != network);
    clients.push(Access {
        network,
        is_permitted,
        line: line.clone(),
    });
}

/// Permits clients. Of all networks that contain a client, the smallest one counts. One within a larger network that is
/// permitted, too, has its own part of the result.
fn allow(clients: &mut Vec<Access>, draft: &mut Draft) {
    let Some(line) = clients.first().map(|client| client.line.clone()) else {
        return;
    };
    // Unbound permits this machine, unless a line is about the same network.
    for network in LOOPBACK.iter().filter_map(|text| servers::network(text)) {
        if !clients.iter().any(|known| known.network == network) {
            clients.push(Access {
                network,
                is_permitted: true,
                line: line.clone(),
            });
        }
    }
    let denied = clients.iter().filter(|client| !client.is_permitted);
    let denied: Vec<_> = denied.map(|client| client.network).collect();
    for client in clients.iter().filter(|client| client.is_permitted) {
        let smaller = |other: &IpNet| client.network.contains(other);
        let smaller: Vec<_> = denied.iter().copied().filter(smaller).collect();
        for network in without(&[client.network], &smaller) {
            draft.allow(network, &client.line);
        }
    }
}

fn seconds(
    attribute: &Attribute,
    key: &'static str,
    bounds: std::ops::RangeInclusive<i64>,
    draft: &mut Draft,
) {
    match attribute.value().parse() {
        Ok(secs) => draft.number(("cache", key), secs, bounds, &attribute.line),
        Err(_) => draft.leave(&attribute.line, attribute.shown(), "not a number"),
    }
}

fn cache_size(messages: Option<&Attribute>, records: Option<&Attribute>, draft: &mut Draft) {
    let sizes = [messages, records].into_iter().flatten();
    let mut total = 0_i64;
    for attribute in sizes.clone() {
        match bytes(attribute.value()) {
            Some(bytes) => total = total.saturating_add(bytes),
            None => draft.leave(&attribute.line, attribute.shown(), "not a size"),
        }
    }
    if let (Some(attribute), 1..) = (sizes.last(), total) {
        draft.number(
            ("cache", "size-mib"),
            (total >> 20).max(1),
            1..=65_536,
            &attribute.line,
        );
    }
}

/// A size with the suffix `k`, `m` or `g`.
fn bytes(text: &str) -> Option<i64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 1,
        "k" | "kb" => 1 << 10,
        "m" | "mb" => 1 << 20,
        "g" | "gb" => 1 << 30,
        _ => return None,
    };
    digits.parse::<i64>().ok()?.checked_mul(factor)
}

/// A `forward-zone` or a `stub-zone`, whose keys begin with `kind`.
fn forward_zone(clause: &Clause, kind: &str, all_encrypted: bool, draft: &mut Draft) {
    let Some(name) = clause.value("name") else {
        return draft.leave(&clause.line, &clause.name, "has no `name`");
    };
    let encryption = ["tls", "ssl"].map(|word| format!("{kind}-{word}-upstream"));
    let encryption = clause
        .attributes
        .iter()
        .rfind(|attribute| encryption.contains(&attribute.key));
    let is_encrypted = encryption.map_or(all_encrypted, Attribute::is_yes);
    draft.note_zone(name, &clause.line);
    for attribute in &clause.attributes {
        let line = &attribute.line;
        match attribute.key.strip_prefix(kind) {
            Some("-addr") => {
                let server = match is_encrypted {
                    true => encrypted::of_unbound(attribute.value()),
                    false => server(attribute.value()),
                };
                match server {
                    Ok(server) => draft.forward(name, &server, line),
                    Err(why) => draft.leave(line, attribute.shown(), why),
                }
            }
            Some("-host") => other_setting(attribute, draft),
            Some("-first") if attribute.is_yes() => {
                let reason = "a forwarded zone is asked of its servers only";
                draft.leave(line, attribute.shown(), reason);
            }
            Some("-no-cache") if attribute.is_yes() => {
                draft.leave(line, attribute.shown(), "answers are always cached");
            }
            Some(
                "-first" | "-no-cache" | "-tls-upstream" | "-ssl-upstream" | "-tcp-upstream"
                | "-prime",
            ) => {}
            _ if attribute.key == "name" => {}
            _ => other_setting(attribute, draft),
        }
    }
    if kind == "stub" {
        let reason = "its servers are asked as resolvers: names that they delegate to other servers are not found";
        draft.leave(&clause.line, format!("stub-zone {name}"), reason);
    }
}

fn auth_zone(folder: &Folder, clause: &Clause, draft: &mut Draft) {
    let (line, name) = (&clause.line, clause.value("name").unwrap_or_default());
    let base = line.file.parent().unwrap_or(Path::new("."));
    for attribute in &clause.attributes {
        match attribute.key.as_str() {
            "for-downstream" if !attribute.is_yes() => {
                let reason = "clients are answered from the zone's file";
                draft.leave(&attribute.line, attribute.shown(), reason);
            }
            "name" | "zonefile" | "primary" | "master" | "url" | "for-downstream"
            | "for-upstream" | "fallback-enabled" | "allow-notify" => {}
            _ => other_setting(attribute, draft),
        }
    }
    let has_primary = clause
        .attributes
        .iter()
        .any(|attribute| matches!(attribute.key.as_str(), "primary" | "master" | "url"));
    let file = clause
        .value("zonefile")
        .map(|file| match folder.find(base, file) {
            Ok(path) => absolute(&path),
            Err(_) => file.to_owned(),
        });
    match (typed::one(name), file) {
        (Ok((zone, None)), Some(file)) if zone.label_count() > 0 && !has_primary => {
            draft.zones.push((zone, file, line.clone()));
        }
        _ => draft.leave(
            line,
            format!("auth-zone {name}"),
            "only zones with their own file carry over: forward this one to its servers with [[forward]]",
        ),
    }
}

fn rpz(folder: &Folder, clause: &Clause, draft: &mut Draft) {
    let (line, name) = (&clause.line, clause.value("name").unwrap_or_default());
    let title = name.trim_end_matches('.');
    let mut keys = vec![("zone", title.into())];
    for attribute in &clause.attributes {
        let value = attribute.value();
        match attribute.key.as_str() {
            "rpz-action-override" if value == "disabled" => {
                keys.push(("policy", "disabled".into()));
            }
            "rpz-action-override" => keys.push(("policy", value.into())),
            "rpz-cname-override" => keys.push(("cname", value.trim_end_matches('.').into())),
            "name" | "zonefile" | "primary" | "master" | "url" | "rpz-log" | "rpz-log-name"
            | "allow-notify" => {}
            "tags" => draft.leave(
                &attribute.line,
                attribute.shown(),
                "one policy holds for all clients",
            ),
            _ => other_setting(attribute, draft),
        }
    }
    let primaries = clause
        .attributes
        .iter()
        .filter(|attribute| matches!(attribute.key.as_str(), "primary" | "master"));
    let mut addresses = toml_edit::Array::new();
    for primary in primaries {
        match server(primary.value()) {
            Ok(address) => addresses.push(address),
            Err(why) => draft.leave(&primary.line, primary.shown(), why),
        }
    }
    if !addresses.is_empty() {
        keys.push(("primaries", addresses.into()));
        return draft.section("feed", title, keys, line);
    }
    let base = line.file.parent().unwrap_or(Path::new("."));
    match (clause.value("url"), clause.value("zonefile")) {
        (Some(url), _) => match list_urls::web_url(url) {
            Ok(url) => keys.insert(0, ("url", list_urls::permitted(&url, line, draft).into())),
            Err(why) => return draft.leave(line, format!("rpz {title}"), why),
        },
        (None, Some(file)) => {
            let path = folder
                .find(base, file)
                .map_or(file.to_owned(), |path| absolute(&path));
            keys.insert(0, ("path", path.into()));
        }
        (None, None) => {
            return draft.leave(line, format!("rpz {title}"), "has no file, URL or primary");
        }
    }
    keys.insert(1, ("format", "rpz".into()));
    draft.list(title, keys, line);
}
