//! Imports the configuration of dnsmasq. Its rules on names become a list in dnsmasq's format.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::dnsmasq_files::{files, is_configuration};
use super::dnsmasq_options::{DHCP, NO_COUNTERPART, PROCESS};
use super::dnsmasq_records;
use super::draft::{Draft, SourceLine};
use super::folder::{Folder, ReadFile};
use super::hosts::{self, HostsOptions};
use super::option_line;
use super::reverse::reverse_zones;
use super::servers::{self, server};
use crate::names::typed;

/// How deep files may include each other.
const DEPTH_MAX: usize = 16;
/// Why a forwarded zone with an asterisk does not carry over.
const WHOLE_NAMES: &str =
    "a forwarded zone has a whole name: name each zone in a [[forward]] section";
/// Bytes per cached answer, for dnsmasq's number of names.
const BYTES_PER_NAME: i64 = 1024;

/// The parts of the configuration that only matter once all of it is read.
#[derive(Default)]
struct State {
    rules: String,
    first_rule: Option<SourceLine>,
    /// Files with the form of `/etc/hosts`.
    hosts: Vec<(PathBuf, SourceLine)>,
    /// Files that were included.
    read: BTreeSet<PathBuf>,
    domain: Option<String>,
    expand_hosts: bool,
    ttl_secs: Option<u32>,
    flags: BTreeSet<&'static str>,
    port: u16,
    resolv_file: Option<(String, SourceLine)>,
}

/// Imports a configuration.
pub(super) fn import(folder: &Folder, main: &ReadFile, draft: &mut Draft) {
    let first = SourceLine::new(&main.path, 1);
    let mut state = State {
        port: 53,
        ..State::default()
    };
    read(folder, main, 0, &mut state, draft);
    import_hosts(folder, &mut state, &first, draft);
    finish(state, &first, draft);
}

/// Only records and rules on names, for a program that has a configuration of dnsmasq beside its own.
pub(super) fn import_part(folder: &Folder, main: &ReadFile, draft: &mut Draft) {
    let mut state = State::default();
    read(folder, main, 0, &mut state, draft);
    state.flags.insert("no-hosts");
    import_hosts(folder, &mut state, &SourceLine::new(&main.path, 1), draft);
    finish_rules(&mut state, draft);
}

fn read(folder: &Folder, file: &ReadFile, depth: usize, state: &mut State, draft: &mut Draft) {
    for (index, text) in file.text.lines().enumerate() {
        let line = SourceLine::new(&file.path, index + 1);
        if let Some((name, value)) = option_line::option(text) {
            option(folder, (name, value), (&line, depth), state, draft);
        }
    }
}

fn option(
    folder: &Folder,
    (name, value): (&str, &str),
    (line, depth): (&SourceLine, usize),
    state: &mut State,
    draft: &mut Draft,
) {
    let name = name.strip_prefix("--").unwrap_or(name);
    let shown = if value.is_empty() {
        name.to_owned()
    } else {
        format!("{name}={value}")
    };
    match name {
        "server" | "local" | "address" if value.starts_with('/') => {
            names(name, value, line, state, draft);
        }
        "local" | "address" => draft.leave(line, shown, "has no slash before the names"),
        "server" => match server(value) {
            Ok(server) => draft.push("upstream", "servers", server, line),
            Err(why) => draft.leave(line, shown, why),
        },
        "rev-server" => rev_server(value, line, draft),
        "conf-file" | "servers-file" | "conf-dir" => {
            include(folder, (name, value), (line, depth), state, draft);
        }
        "addn-hosts" | "hostsdir" => match folder.find(base(line), value) {
            Ok(path) => match files(folder, path, |name| !name.starts_with('.')) {
                Ok(files) => {
                    let files = files.into_iter().map(|file| (file, line.clone()));
                    state.hosts.extend(files);
                }
                Err(why) => draft.leave(line, shown, why),
            },
            Err(why) => draft.leave(line, shown, why),
        },
        "domain" if value.contains(',') => {
            draft.leave(
                line,
                shown,
                "the domain of some addresses is for DHCP, or for names that are made of addresses",
            );
        }
        "domain" => state.domain = Some(value.to_owned()),
        "expand-hosts" => state.expand_hosts = true,
        "local-ttl" => match value.parse() {
            Ok(secs) => state.ttl_secs = Some(secs),
            Err(_) => draft.leave(line, shown, "not a number of seconds"),
        },
        "no-hosts" => _ = state.flags.insert("no-hosts"),
        "no-resolv" => _ = state.flags.insert("no-resolv"),
        "local-service" => _ = state.flags.insert("local-service"),
        "bogus-priv" => _ = state.flags.insert("bogus-priv"),
        "resolv-file" => state.resolv_file = Some((value.to_owned(), line.clone())),
        "port" if value == "0" => {
            draft.leave(
                line,
                shown,
                "port 0 turns dnsmasq's DNS off: the default port 53 is used",
            );
        }
        "port" => match value.parse() {
            Ok(port) => state.port = port,
            Err(_) => draft.leave(line, shown, "not a port: the default port 53 is used"),
        },
        "listen-address" => {
            for text in value.split(',') {
                // The port may come later in the file.
                let sockets = servers::listening(text, 0);
                if sockets.is_empty() {
                    draft.leave(line, format!("listen-address={text}"), "not an address");
                }
                draft.listen(sockets, line);
            }
        }
        "cache-size" => cache_size(value, line, draft),
        "min-cache-ttl" | "max-cache-ttl" | "use-stale-cache" => ttl(name, value, line, draft),
        _ if dnsmasq_records::option((name, value), state.ttl_secs, line, draft) => {}
        _ if PROCESS.contains(&name) => {}
        _ if DHCP.iter().any(|start| name.starts_with(start)) => {
            draft.leave(
                line,
                name,
                "Tapis is no DHCP or TFTP server: keep dnsmasq for that, with port=0",
            );
        }
        _ => {
            let known = NO_COUNTERPART.iter().find(|(known, _)| *known == name);
            let reason = known.map_or("Tapis has no such setting", |(_, reason)| reason);
            draft.leave(line, if known.is_some() { &shown } else { name }, reason);
        }
    }
}

fn base(line: &SourceLine) -> &Path {
    line.file.parent().unwrap_or(Path::new("."))
}

/// `server=/x/y/target`, `local=/x/` and `address=/x/target`.
fn names(option: &str, value: &str, line: &SourceLine, state: &mut State, draft: &mut Draft) {
    let shown = format!("{option}={value}");
    let Some((names, target)) = value[1..].rsplit_once('/') else {
        return draft.leave(line, shown, "has no slash behind the names");
    };
    let is_forward = option != "address" && !matches!(target, "" | "#");
    let is_address = matches!(target, "" | "#") || target.parse::<IpAddr>().is_ok();
    if option == "address" && !is_address {
        return draft.leave(line, shown, format!("{target} is not an address"));
    }
    for text in names.split('/') {
        if matches!(text, "" | "#") && !(is_forward && text == "#") {
            let reason =
                "a rule on all names, or on names without a dot, is not possible in a list";
            draft.leave(line, &shown, reason);
            continue;
        }
        if is_forward {
            forward(text, target, line, state, draft);
            continue;
        }
        let (star, bare) = match (text.strip_prefix("*."), text.strip_prefix('*')) {
            (Some(bare), _) => ("*.", bare),
            (None, Some(bare)) => ("*", bare),
            (None, None) => ("", text),
        };
        if star == "*" && !typed::is_ending(bare.as_bytes()) {
            draft.leave(
                line,
                &shown,
                format!("{text}: only letters, digits, `-`, `_` and dots may follow the `*`"),
            );
            continue;
        }
        match typed::one(bare.trim_start_matches('.')) {
            Ok((name, None)) if name.label_count() > 0 => {
                state.first_rule.get_or_insert_with(|| line.clone());
                let option = if option == "address" {
                    "address"
                } else {
                    "server"
                };
                // Writing to memory does not fail.
                let _ = writeln!(state.rules, "{option}=/{star}{name}/{target}");
                match star {
                    "*" if target == "#" && option == "server" => {
                        draft.leave(line, &shown, WHOLE_NAMES);
                    }
                    _ if target == "#" && option == "server" => {
                        draft.forward_generally(&name, false, line);
                    }
                    "*" => draft.blocked_ends.push(name.to_string()),
                    _ => draft.block(&name),
                }
            }
            Ok(_) => draft.leave(line, &shown, format!("{text} is not a name")),
            Err(error) => draft.leave(line, &shown, error.to_string()),
        }
    }
}

fn forward(text: &str, target: &str, line: &SourceLine, state: &mut State, draft: &mut Draft) {
    let zone = if text == "#" { "." } else { text };
    if zone.starts_with('*') && !zone.starts_with("*.") {
        return draft.leave(line, format!("server=/{text}/{target}"), WHOLE_NAMES);
    }
    match server(target) {
        Ok(server) => {
            draft.forward(zone, &server, line);
            let bare = zone.trim_start_matches("*.").trim_start_matches('.');
            if !bare.is_empty() {
                // In dnsmasq the longest name counts, whether it blocks or forwards.
                let _ = writeln!(state.rules, "server=/{bare}/#");
            }
        }
        Err(why) => draft.leave_of_zone(zone, line, format!("server=/{text}/{target}"), why),
    }
}

/// `rev-server=network,server`
fn rev_server(value: &str, line: &SourceLine, draft: &mut Draft) {
    let parts = value
        .split_once(',')
        .map(|(network, target)| (servers::network(network), server(target)));
    match parts {
        Some((Some(network), Ok(server))) => {
            for zone in reverse_zones(network) {
                draft.forward(&zone, &server, line);
            }
        }
        Some((Some(network), Err(why))) => {
            draft.leave(line, format!("rev-server={value}"), why);
            for zone in reverse_zones(network) {
                draft.note_zone(&zone, line);
            }
        }
        _ => draft.leave(
            line,
            format!("rev-server={value}"),
            "must be a network and a server",
        ),
    }
}

fn include(
    folder: &Folder,
    (option, value): (&str, &str),
    (line, depth): (&SourceLine, usize),
    state: &mut State,
    draft: &mut Draft,
) {
    let shown = format!("{option}={value}");
    if depth >= DEPTH_MAX {
        return draft.leave(
            line,
            shown,
            "files include each other too deeply, or in a circle",
        );
    }
    let (path, filters) = value.split_once(',').unwrap_or((value, ""));
    let found = folder.find(base(line), path);
    let found = found.and_then(|path| files(folder, path, |name| is_configuration(name, filters)));
    let files = match found {
        Ok(files) => files,
        Err(why) => return draft.leave(line, shown, why),
    };
    for path in files {
        // dnsmasq reads no file twice, either.
        let is_open = folder.is_open(&path);
        if !is_open
            && !state
                .read
                .insert(path.canonicalize().unwrap_or_else(|_| path.clone()))
        {
            continue;
        }
        match folder.read(&path) {
            Ok(file) => read(folder, &file, depth + 1, state, draft),
            Err(why) => draft.leave(line, &shown, why),
        }
    }
}

fn cache_size(value: &str, line: &SourceLine, draft: &mut Draft) {
    match value.parse::<i64>() {
        Ok(0) => draft.leave(line, "cache-size=0", "answers are always cached"),
        Ok(names) => {
            let mib = names.saturating_mul(BYTES_PER_NAME).div_euclid(1 << 20) + 1;
            draft.number(("cache", "size-mib"), mib, 1..=65_536, line);
        }
        Err(_) => draft.leave(line, "cache-size", "not a number"),
    }
}

fn ttl(option: &str, value: &str, line: &SourceLine, draft: &mut Draft) {
    let (key, max) = match option {
        "min-cache-ttl" => ("min-ttl-secs", 3600),
        "max-cache-ttl" => ("max-ttl-secs", 604_800),
        // Without a value, dnsmasq serves answers for a day.
        _ if value.is_empty() => return draft.set("cache", "stale-secs", 86_400, line),
        _ => ("stale-secs", 604_800),
    };
    let min = i64::from(option == "max-cache-ttl");
    match value.parse() {
        Ok(secs) => draft.number(("cache", key), secs, min..=max, line),
        Err(_) => draft.leave(line, option, "not a number"),
    }
}

/// The hosts files, with `/etc/hosts` unless the configuration turns it off.
fn import_hosts(folder: &Folder, state: &mut State, first: &SourceLine, draft: &mut Draft) {
    if !state.flags.contains("no-hosts") {
        match folder.find(Path::new("/etc"), "/etc/hosts") {
            Ok(path) => state.hosts.insert(0, (path, first.clone())),
            Err(_) => draft.leave(
                first,
                "/etc/hosts",
                "dnsmasq answers its names, but it is not in the directory of the configuration: copy it there, or add no-hosts",
            ),
        }
    }
    let domain = state.domain.as_deref().filter(|_| state.expand_hosts);
    let options = HostsOptions {
        domain,
        ttl_secs: state.ttl_secs,
        ..HostsOptions::default()
    };
    let mut known = BTreeSet::new();
    for (path, line) in std::mem::take(&mut state.hosts) {
        if !known.insert(path.clone()) {
            continue;
        }
        match folder.read(&path) {
            Ok(file) => hosts::import_file(&path, &file, options, &line, draft),
            Err(why) => draft.leave(&line, path.to_string_lossy(), why),
        }
    }
}

fn finish(mut state: State, first: &SourceLine, draft: &mut Draft) {
    finish_rules(&mut state, draft);
    finish_listening(state.port, first, draft);
    let has_servers = draft.has("upstream", "servers");
    let reads_resolv = !state.flags.contains("no-resolv");
    match state.resolv_file {
        Some((path, line)) if reads_resolv && !has_servers => {
            draft.set("upstream", "resolv-conf", path, &line);
        }
        _ if reads_resolv && has_servers => {
            let reason = "dnsmasq also asks the servers of resolv.conf; only those of `server` are used: add no-resolv, or add the others";
            draft.leave(first, "resolv-file", reason);
        }
        _ => {}
    }
    if !state.flags.contains("bogus-priv") {
        draft.forward_private_reverse(first);
    }
    draft.allow_private(first);
    let setting = match state.flags.contains("local-service") {
        true => "local-service",
        false => "all clients",
    };
    let reason = "the permitted clients are named by their networks: [server] allow has all private ones, add others";
    draft.leave(first, setting, reason);
}

fn finish_rules(state: &mut State, draft: &mut Draft) {
    let has_blocks = !draft.blocked.is_empty() || !draft.blocked_ends.is_empty();
    if let Some(line) = state.first_rule.take().filter(|_| has_blocks) {
        let file = (
            "dnsmasq-rules.conf".to_owned(),
            std::mem::take(&mut state.rules),
        );
        let keys = vec![("format", "dnsmasq".into()), ("guards", "warn".into())];
        draft.file_list("dnsmasq-rules", file, keys, &line);
    }
}

/// Puts the port behind the addresses to listen on.
fn finish_listening(port: u16, first: &SourceLine, draft: &mut Draft) {
    if draft.listen.is_empty() {
        return draft.listen_everywhere(port, first);
    }
    for (socket, _) in &mut draft.listen {
        socket.set_port(port);
    }
}
