//! Imports the configuration of Pi-hole: `pihole.toml` of version 6, or `setupVars.conf` and the files beside it of
//! version 5, with the exported tables of its database.

use std::fmt::Write;
use std::net::IpAddr;

use super::dnsmasq;
use super::dnsmasq_records;
use super::draft::{Draft, SourceLine, TURNED_OFF};
use super::error::ImportError;
use super::folder::{Folder, ReadFile};
use super::hosts::{self, HostsOptions};
use super::option_line;
use super::pihole_exports;
use super::pihole_keys::{self, KEYS};
use super::reverse::reverse_zones;
use super::servers::{self, server};
use super::tree::{self, Node};
use crate::names::scope::Scope;
use crate::names::typed;

const WEEK_SECS: i64 = 604_800;

/// Imports a configuration.
///
/// # Errors
/// A syntax error in `pihole.toml`.
pub(super) fn import(
    folder: &Folder,
    main: &ReadFile,
    draft: &mut Draft,
) -> Result<(), ImportError> {
    let is_toml = main.path.extension().is_some_and(|ending| ending == "toml");
    let first = SourceLine::new(&main.path, 1);
    match is_toml {
        true => import_v6(&tree::toml(main)?, &first, draft),
        false => import_v5(folder, main, &first, draft),
    }
    check_version(folder, is_toml, &first, draft);
    pihole_exports::import(folder, &first, draft);
    Ok(())
}

/// Reports files of other versions than that of the main file.
fn check_version(folder: &Folder, is_v6: bool, first: &SourceLine, draft: &mut Draft) {
    if !is_v6 && folder.beside("pihole.toml").is_some() {
        let reason = "version 6 has its settings in pihole.toml, which is beside this file of version 5: import that one";
        draft.leave(first, "setupVars.conf", reason);
    }
    let old = [
        "adlists.list",
        "blacklist.txt",
        "whitelist.txt",
        "regex.list",
    ];
    for name in old.into_iter().filter(|name| folder.beside(name).is_some()) {
        let reason = "a file of version 4, which later versions do not read: name its lists and rules in [[list]] sections";
        draft.leave(first, name, reason);
    }
}

fn import_v6(root: &Node, first: &SourceLine, draft: &mut Draft) {
    for item in root.items_at(&["dns", "upstreams"]) {
        upstream(item.text().unwrap_or_default(), &item.line, draft);
    }
    let is_expanded = root.is_true(&["dns", "expandHosts"]);
    let domain = root
        .text_at(&["dns", "domain", "name"])
        .or(root.text_at(&["dns", "domain"]));
    let options = HostsOptions {
        domain: domain.filter(|_| is_expanded),
        ..HostsOptions::default()
    };
    for item in root.items_at(&["dns", "hosts"]) {
        hosts::add(item.text().unwrap_or_default(), options, &item.line, draft);
    }
    for item in root.items_at(&["dns", "cnameRecords"]) {
        cname(item.text().unwrap_or_default(), &item.line, draft);
    }
    for item in root.items_at(&["dns", "revServers"]) {
        reverse_server(item.text().unwrap_or_default(), &item.line, draft);
    }
    local_domain(root, draft);
    if let Some(node) = root
        .at(&["dns", "hostRecord"])
        .filter(|node| node.text().is_some())
    {
        let text = node.text().unwrap_or_default();
        dnsmasq_records::option(("host-record", text), None, &node.line, draft);
    }
    if let Some(node) = root.at(&["dns", "bogusPriv"]).filter(|node| node.is_off()) {
        draft.forward_private_reverse(&node.line);
    }
    if let Some(node) = root.at(&["dns", "blocking", "edns"])
        && node.text() == Some("NONE")
    {
        draft.set("block", "ede", "none", &node.line);
    }
    if let Some(node) = root.at(&["dns", "cache", "optimizer"])
        && let Some(secs) = node.text().and_then(|text| text.parse::<i64>().ok())
    {
        // 0 means without end, and less means never.
        let secs = if secs == 0 { WEEK_SECS } else { secs.max(0) };
        draft.number(("cache", "stale-secs"), secs, 0..=WEEK_SECS, &node.line);
    }
    let port = servers::port(root.at(&["dns", "port"]), "dns.port", draft);
    let mode = root.at(&["dns", "listeningMode"]);
    clients(
        mode.and_then(Node::text).unwrap_or("LOCAL"),
        port,
        mode.map_or(first, |node| &node.line),
        draft,
    );
    if let Some(node) = root
        .at(&["dns", "blocking", "active"])
        .filter(|node| node.is_off())
    {
        draft.turn_blocking_off(&node.line, "dns.blocking.active = false");
    }
    if let Some(node) = root.at(&["dns", "blocking", "mode"]) {
        let addresses =
            ["IPv4", "IPv6"].map(|key| root.text_at(&["dns", "reply", "blocking", key]));
        blocking_mode(
            node.text().unwrap_or_default(),
            addresses,
            &node.line,
            draft,
        );
    }
    if let Some(node) = root.at(&["dns", "blockTTL"])
        && let Some(secs) = node.text().and_then(|text| text.parse().ok())
    {
        draft.number(("block", "ttl-secs"), secs, 1..=3600, &node.line);
    }
    if let Some(node) = root.at(&["dns", "cache", "size"]) {
        cache_size(node.text().unwrap_or_default(), &node.line, draft);
    }
    for item in root.items_at(&["misc", "dnsmasq_lines"]) {
        draft.leave(
            &item.line,
            "misc.dnsmasq_lines",
            "write the lines into a file, and import it with `tapis import dnsmasq`",
        );
    }
    special_domains(root, draft);
    KEYS.report(root, draft);
}

/// The domain of the network, which is never forwarded, unless it has servers of its own. Its local names are answered,
/// and zones in it that have servers of their own are forwarded.
fn local_domain(root: &Node, draft: &mut Draft) {
    let Some(node) = root
        .at(&["dns", "domain", "name"])
        .filter(|_| root.is_true(&["dns", "domain", "local"]))
    else {
        return;
    };
    let text = node.text().unwrap_or_default();
    match typed::one(text) {
        _ if text.is_empty() => {}
        Ok((name, None)) if name.label_count() > 0 => {
            if draft.index.forwards.contains_key(&name) {
                return;
            }
            draft.block(&name);
            let keys = vec![("format", "dnsmasq".into()), ("guards", "warn".into())];
            let mut rules = format!("local=/{name}/\n");
            let forwards = draft.forwards.iter();
            for below in forwards.filter(|below| Scope::Below.reaches(&name, &below.zone)) {
                // Lists precede forwarded zones, but in Pi-hole the longest name counts.
                // Writing to memory does not fail.
                let _ = writeln!(rules, "server=/{}/#", below.zone);
            }
            let file = ("local-domain.conf".to_owned(), rules);
            draft.file_list("local-domain", file, keys, &node.line);
        }
        _ => draft.leave(&node.line, format!("dns.domain.name {text}"), "not a name"),
    }
}

/// The names by which browsers and systems ask whether they may use other servers.
fn special_domains(root: &Node, draft: &mut Draft) {
    let special = |key: &str| root.at(&["dns", "specialDomains", key]);
    if let Some(node) = special("mozillaCanary").filter(|node| node.is_off()) {
        draft.set("special-use", "use-application-dns", "forward", &node.line);
    }
    if let Some(node) = special("designatedResolver").filter(|node| node.is_off()) {
        draft.push("special-use", "forward", "resolver.arpa", &node.line);
    }
    if let Some(node) =
        special("iCloudPrivateRelay").filter(|node| !node.is_off() && !draft.is_blocking_off)
    {
        private_relay(&node.line, draft);
    }
}

/// Blocks the names of Apple's relay, by which its clients would ask other servers.
fn private_relay(line: &SourceLine, draft: &mut Draft) {
    let text = ".mask.icloud.com\n.mask-h2.icloud.com\n".to_owned();
    let keys = vec![("action", "nxdomain".into()), ("guards", "warn".into())];
    draft.file_list(
        "private-relay",
        ("private-relay.txt".to_owned(), text),
        keys,
        line,
    );
}

fn import_v5(folder: &Folder, main: &ReadFile, first: &SourceLine, draft: &mut Draft) {
    let mut mode = ("LOCAL".to_owned(), first.clone());
    let mut reverse = [String::new(), String::new(), String::new()];
    let mut has_reverse = ("true".to_owned(), first.clone());
    for (index, text) in main.text.lines().enumerate() {
        let line = SourceLine::new(&main.path, index + 1);
        let Some((key, value)) = option_line::option(text) else {
            continue;
        };
        match key {
            _ if key.starts_with("PIHOLE_DNS_") => upstream(value, &line, draft),
            "REV_SERVER" | "CONDITIONAL_FORWARDING" => has_reverse = (value.to_owned(), line),
            "DNS_BOGUS_PRIV" if value == "false" => draft.forward_private_reverse(&line),
            "DNSMASQ_LISTENING" => mode = (value.to_ascii_uppercase(), line),
            "REV_SERVER_CIDR" | "CONDITIONAL_FORWARDING_REVERSE" => reverse[0] = value.to_owned(),
            "REV_SERVER_TARGET" | "CONDITIONAL_FORWARDING_IP" => reverse[1] = value.to_owned(),
            "REV_SERVER_DOMAIN" | "CONDITIONAL_FORWARDING_DOMAIN" => reverse[2] = value.to_owned(),
            "CACHE_SIZE" => cache_size(value, &line, draft),
            "DNSSEC" if value == "true" => draft.leave(
                &line,
                key,
                "answers are not validated: name upstream servers that validate",
            ),
            "DNS_FQDN_REQUIRED" if value == "true" => draft.leave(
                &line,
                key,
                "names without a dot are forwarded: block them with a list if that matters",
            ),
            "DHCP_ACTIVE" if value == "true" => draft.leave(&line, key, "Tapis is no DHCP server"),
            "BLOCKING_ENABLED" if value == "false" => {
                draft.turn_blocking_off(&line, "BLOCKING_ENABLED=false");
            }
            _ if pihole_keys::is_known_of_v5(key) => {}
            // A value may be a password.
            _ => draft.leave(&line, key, "Tapis has no such setting"),
        }
    }
    if !reverse[1].is_empty() {
        let (enabled, line) = has_reverse;
        reverse_server(&format!("{enabled},{}", reverse.join(",")), &line, draft);
    }
    clients(&mode.0, 53, &mode.1, draft);
    if let Some(file) = beside(folder, "pihole-FTL.conf", draft, first) {
        import_ftl(&file, draft);
    }
    if let Some(file) = beside(folder, "custom.list", draft, first) {
        hosts::import_file(&file.path, &file, HostsOptions::default(), first, draft);
    }
    // Pi-hole writes the other files of this directory from the settings above.
    for name in [
        "05-pihole-custom-cname.conf",
        "dnsmasq.d/05-pihole-custom-cname.conf",
        "etc/dnsmasq.d/05-pihole-custom-cname.conf",
    ] {
        if let Some(file) = beside(folder, name, draft, first) {
            dnsmasq::import_part(folder, &file, draft);
        }
    }
}

/// The settings of the resolver itself in version 5.
fn import_ftl(file: &ReadFile, draft: &mut Draft) {
    let options = || {
        let lines = file.text.lines().zip(1..);
        lines.filter_map(|(text, number)| Some((option_line::option(text)?, number)))
    };
    let value = |wanted: &str| options().find(|((key, _), _)| *key == wanted);
    let is_off = |key: &str| value(key).is_some_and(|((_, value), _)| value == "false");
    for ((key, text), number) in options() {
        let line = SourceLine::new(&file.path, number);
        match key {
            "BLOCKINGMODE" => {
                let addresses = ["BLOCK_IPV4", "BLOCK_IPV6"];
                let addresses = addresses.map(|key| value(key).map(|((_, text), _)| text));
                blocking_mode(text, addresses, &line, draft);
            }
            "BLOCK_TTL" => {
                let secs = text.parse().unwrap_or(2);
                draft.number(("block", "ttl-secs"), secs, 1..=3600, &line);
            }
            "MOZILLA_CANARY" if is_off(key) => {
                draft.set("special-use", "use-application-dns", "forward", &line);
            }
            "BLOCK_ICLOUD_PR" if !is_off(key) && !draft.is_blocking_off => {
                private_relay(&line, draft);
            }
            _ if pihole_keys::is_known_of_ftl(key) => {}
            _ => draft.leave(&line, key, "Tapis has no such setting"),
        }
    }
}

fn beside(folder: &Folder, name: &str, draft: &mut Draft, first: &SourceLine) -> Option<ReadFile> {
    let path = folder
        .beside(name)
        .or_else(|| folder.beside(&format!("etc/pihole/{name}")))?;
    match folder.read(&path) {
        Ok(file) => Some(file),
        Err(why) => {
            draft.leave(first, name, why);
            None
        }
    }
}

fn upstream(text: &str, line: &SourceLine, draft: &mut Draft) {
    match server(text) {
        Ok(server) => draft.push("upstream", "servers", server, line),
        Err(why) => draft.leave(line, format!("upstream {text}"), why),
    }
}

/// `alias[,alias...],target[,TTL]`
fn cname(text: &str, line: &SourceLine, draft: &mut Draft) {
    let parts: Vec<_> = text.split(',').map(str::trim).collect();
    let (ttl_secs, names) = match parts.split_last() {
        Some((last, names)) if last.parse::<u32>().is_ok() => (last.parse().ok(), names),
        _ => (None, &parts[..]),
    };
    match names.split_last() {
        Some((target, aliases)) if !aliases.is_empty() => {
            for alias in aliases {
                draft.record(alias, "cname", *target, ttl_secs, line);
            }
        }
        _ => draft.leave(
            line,
            format!("CNAME {text}"),
            "must be an alias and a target",
        ),
    }
}

/// `enabled,network,server[,domain]`
fn reverse_server(text: &str, line: &SourceLine, draft: &mut Draft) {
    let parts: Vec<_> = text.split(',').map(str::trim).collect();
    let [enabled, network, target, domain @ ..] = &parts[..] else {
        return draft.leave(
            line,
            format!("reverse server {text}"),
            "must be a network and a server",
        );
    };
    if *enabled != "true" {
        return draft.leave(line, format!("reverse server of {network}"), TURNED_OFF);
    }
    // Before version 5.0, the reverse zone is written itself.
    let mut zones = match servers::network(network) {
        Some(network) => reverse_zones(network),
        None if network.ends_with(".arpa") => vec![(*network).to_owned()],
        None => {
            let shown = format!("reverse server of {network}");
            draft.leave(line, shown, "not a network");
            Vec::new()
        }
    };
    let domain = domain.first().filter(|domain| !domain.is_empty());
    zones.extend(domain.map(|domain| (*domain).to_owned()));
    let server = match server(target) {
        Ok(server) => server,
        Err(why) => {
            draft.leave(line, format!("reverse server {target}"), why);
            zones.iter().for_each(|zone| draft.note_zone(zone, line));
            return;
        }
    };
    for zone in zones {
        draft.forward(&zone, &server, line);
    }
}

/// On which addresses Pi-hole listens, and whom it answers.
fn clients(mode: &str, port: u16, line: &SourceLine, draft: &mut Draft) {
    draft.listen_everywhere(port, line);
    draft.allow_private(line);
    let reason = "the permitted clients are named by their networks: [server] allow has all private ones, add others";
    draft.leave(line, format!("listening mode {mode}"), reason);
}

fn blocking_mode(mode: &str, addresses: [Option<&str>; 2], line: &SourceLine, draft: &mut Draft) {
    let action = match mode {
        "NX" | "NXDOMAIN" => "nxdomain",
        "NODATA" => "nodata",
        "NULL" => "sinkhole",
        "IP" | "IP-NODATA-AAAA" | "IP_NODATA_AAAA" => {
            let parsed = addresses
                .into_iter()
                .flatten()
                .filter(|text| text.parse::<IpAddr>().is_ok());
            let addresses: toml_edit::Array = parsed.collect();
            match addresses.is_empty() {
                true => draft.leave(
                    line,
                    format!("blocking mode {mode}"),
                    "name the address of this machine in [block] sinkhole",
                ),
                false => draft.set("block", "sinkhole", addresses, line),
            }
            "sinkhole"
        }
        _ => {
            return draft.leave(
                line,
                format!("blocking mode {mode}"),
                "not a mode that Tapis knows",
            );
        }
    };
    draft.set("block", "action", action, line);
}

fn cache_size(text: &str, line: &SourceLine, draft: &mut Draft) {
    match text.parse::<i64>() {
        Ok(0) => draft.leave(line, "cache size 0", "answers are always cached"),
        // An answer takes about 1 KiB.
        Ok(names) => draft.number(
            ("cache", "size-mib"),
            names.div_euclid(1024) + 1,
            1..=65_536,
            line,
        ),
        Err(_) => draft.leave(line, "cache size", "not a number"),
    }
}
