//! Imports the configuration of dnscrypt-proxy and the files of rules that it names.

use std::net::IpAddr;
use std::path::Path;

use super::draft::{Draft, SourceLine};
use super::error::ImportError;
use super::folder::{Folder, ReadFile};
use super::option_line::without_comment;
use super::servers::{self, ENCRYPTED, server};
use super::tree::{self, Node};
use crate::names::typed;

/// Keys that say how the process runs or how it reaches its servers, not what is answered.
const PROCESS: &[&str] = &[
    "max_clients",
    "user_name",
    "ipv4_servers",
    "ipv6_servers",
    "force_tcp",
    "http3",
    "http3_probe",
    "timeout",
    "keepalive",
    "lb_strategy",
    "lb_estimator",
    "log_level",
    "log_file",
    "log_file_latest",
    "use_syslog",
    "cert_refresh_delay",
    "cert_ignore_timestamp",
    "dnscrypt_ephemeral_keys",
    "tls_disable_session_tickets",
    "tls_cipher_suite",
    "tls_prefer_rsa",
    "ignore_system_dns",
    "netprobe_timeout",
    "netprobe_address",
    "offline_mode",
    "log_files_max_size",
    "log_files_max_age",
    "log_files_max_backups",
    "cache",
    "cloak_ttl",
    "require_dnssec",
    "require_nolog",
    "require_nofilter",
    "dnscrypt_servers",
    "doh_servers",
    "odoh_servers",
    "disabled_server_names",
    "bootstrap_resolvers",
    "fallback_resolvers",
    "fallback_resolver",
    "edns_client_subnet",
    "refused_code_in_responses",
    "blocked_query_response",
    "cache_neg_min_ttl",
    "query_log",
    "nx_log",
    "sources",
    "broken_implementations",
    "anonymized_dns",
    "static",
    "monitoring_ui",
    "enable_hot_reload",
    "http_proxy",
    "proxy",
    "tls_client_auth",
    "doh_client_x509_auth",
    "block_unqualified",
    "block_undelegated",
    "cloak_ptr",
    "reject_ttl",
    "server_names",
    "lb_strategy_exponent",
    "daemonize",
    "tls_key_log_file",
    "cache_size",
];

/// Keys without a counterpart, and what to do.
const NO_COUNTERPART: &[(&str, &str)] = &[
    ("block_ipv6", "answers are not filtered by their type"),
    (
        "blocked_ips",
        "write a policy zone with rules on the answers' addresses (rpz-ip): see docs/rpz.md",
    ),
    (
        "ip_blacklist",
        "write a policy zone with rules on the answers' addresses (rpz-ip): see docs/rpz.md",
    ),
    (
        "allowed_ips",
        "write a policy zone with rules on the answers' addresses (rpz-ip): see docs/rpz.md",
    ),
    ("schedules", "rules hold at all times"),
    ("local_doh", "clients are not served over HTTPS yet"),
    ("captive_portals", "write [[local]] sections"),
    ("dns64", "addresses are not translated"),
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
    let root = tree::toml(main)?;
    let first = SourceLine::new(&main.path, 1);
    for (key, node) in root.entries() {
        import_key(key, node, draft);
    }
    if !draft.has("server", "listen") {
        draft.push("server", "listen", "127.0.0.1:53", &first);
    }
    let names = root.at(&["server_names"]).map_or(&first, |node| &node.line);
    draft.leave(names, "server_names", ENCRYPTED);
    for (section, key, is_allow) in [
        ("allowed_names", "allowed_names_file", true),
        ("whitelist", "whitelist_file", true),
        ("blocked_names", "blocked_names_file", false),
        ("blacklist", "blacklist_file", false),
    ] {
        if let Some(node) = root.at(&[section, key]) {
            let title = if is_allow {
                "allowed-names"
            } else {
                "blocked-names"
            };
            let mut rules = NameRules::default();
            each_line(folder, node, draft, |text, line, draft| {
                name_rule(text, line, &mut rules, draft);
            });
            let Some(first) = rules.first else {
                continue;
            };
            let effect = match is_allow {
                true => ("kind", "allow".into()),
                false => ("guards", "warn".into()),
            };
            let keys = vec![("format", "wildcard".into()), effect];
            draft.file_list(title, (format!("{title}.txt"), rules.text), keys, &first);
        }
    }
    if let Some(node) = root.at(&["forwarding_rules"]) {
        each_line(folder, node, draft, forwarding);
    }
    if let Some(node) = root.at(&["cloaking_rules"]) {
        let ttl_secs = root
            .text_at(&["cloak_ttl"])
            .and_then(|secs| secs.parse().ok());
        each_line(folder, node, draft, |text, line, draft| {
            cloaking(text, ttl_secs, line, draft);
        });
    }
    blocked_answer(&root, draft);
    Ok(())
}

fn import_key(key: &str, node: &Node, draft: &mut Draft) {
    let line = &node.line;
    let number = node.text().and_then(|text| text.parse::<i64>().ok());
    match (key, number) {
        ("listen_addresses", _) => {
            for item in node.items() {
                let text = item.text().unwrap_or_default();
                let text = text
                    .strip_prefix(':')
                    .map_or(text.to_owned(), |port| format!("0.0.0.0:{port}"));
                match servers::listening(&text, 53) {
                    Some(socket) => draft.push("server", "listen", socket.to_string(), &item.line),
                    None => draft.leave(
                        &item.line,
                        format!("listen_addresses {text}"),
                        "not an address",
                    ),
                }
            }
        }
        ("cache_min_ttl", Some(secs)) => {
            draft.number(("cache", "min-ttl-secs"), secs, 0..=3600, line);
        }
        ("cache_max_ttl", Some(secs)) => {
            draft.number(("cache", "max-ttl-secs"), secs, 1..=604_800, line);
        }
        ("cache_neg_max_ttl", Some(secs)) => {
            draft.number(("cache", "max-negative-ttl-secs"), secs, 1..=604_800, line);
        }
        ("cache_size", Some(answers)) => {
            // An answer takes about 1 KiB.
            draft.number(
                ("cache", "size-mib"),
                answers.div_euclid(1024) + 1,
                1..=65_536,
                line,
            );
        }
        ("reject_ttl", Some(secs)) => draft.number(("block", "ttl-secs"), secs, 1..=3600, line),
        (
            "forwarding_rules" | "cloaking_rules" | "blocked_names" | "allowed_names" | "blacklist"
            | "whitelist",
            _,
        ) => {}
        _ if PROCESS.contains(&key) || node.is_off() => {}
        _ => {
            let known = NO_COUNTERPART.iter().find(|(known, _)| *known == key);
            draft.leave(
                line,
                key,
                known.map_or("Tapis has no such setting", |(_, reason)| reason),
            );
        }
    }
}

/// How blocked names are answered. The default is a HINFO record.
fn blocked_answer(root: &Node, draft: &mut Draft) {
    let Some(node) = root.at(&["blocked_query_response"]) else {
        return;
    };
    let text = node.text().unwrap_or_default();
    if text == "refused" {
        return draft.set("block", "action", "refused", &node.line);
    }
    let mut addresses = toml_edit::Array::new();
    for part in text.split(',') {
        let address = part
            .trim()
            .trim_start_matches("a:")
            .trim_start_matches("aaaa:");
        match address.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) => addresses.push(address.to_string()),
            Err(_) => {
                let reason = "blocked names get the unspecified address: set [block] action to another answer";
                return draft.leave(&node.line, format!("blocked_query_response {text}"), reason);
            }
        }
    }
    draft.set("block", "action", "sinkhole", &node.line);
    draft.set("block", "sinkhole", addresses, &node.line);
}

/// Calls a function for each line of a file that is not blank, without its comment.
fn each_line(
    folder: &Folder,
    node: &Node,
    draft: &mut Draft,
    mut read: impl FnMut(&str, &SourceLine, &mut Draft),
) {
    let base = node.line.file.parent().unwrap_or(Path::new("."));
    let path = node.text().unwrap_or_default();
    match folder.find(base, path).and_then(|path| folder.read(&path)) {
        Ok(file) => {
            for (index, text) in file.text.lines().enumerate() {
                let text = without_comment(text);
                if !text.is_empty() {
                    read(text, &SourceLine::new(&file.path, index + 1), draft);
                }
            }
        }
        Err(why) => draft.leave(&node.line, path, why),
    }
}

/// Rules on names, as a list in the format `wildcard`.
#[derive(Default)]
struct NameRules {
    text: String,
    first: Option<SourceLine>,
}

/// A rule on names. One with a schedule holds at some times only.
fn name_rule(text: &str, line: &SourceLine, rules: &mut NameRules, draft: &mut Draft) {
    if let Some((name, _)) = text.split_once('@') {
        let reason = "rules hold at all times: block it for ever by a line without a schedule";
        return draft.leave(line, name.trim(), reason);
    }
    match wildcard(text) {
        Ok(rule) => {
            rules.first.get_or_insert_with(|| line.clone());
            rules.text.push_str(&rule);
            rules.text.push('\n');
        }
        Err(why) => draft.leave(line, text, why),
    }
}

/// A rule in the form of a list: `*.x` is x with all names below, `=x` is x alone. All others are patterns for whole names,
/// in which `*` stands for any characters, `?` for one, and `[a-z]` for one of some.
fn wildcard(text: &str) -> Result<String, String> {
    let inner = text.strip_prefix('*').unwrap_or(text);
    let inner = inner.strip_suffix('*').unwrap_or(inner);
    let is_pattern = text.ends_with('*') || inner.contains(['*', '?', '[']);
    let name = |text: &str| match typed::one(text) {
        Ok((name, None)) if name.label_count() > 0 => Ok(name),
        Ok(_) => Err("not a name".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    match text.strip_prefix('=') {
        Some(_) if is_pattern => {
            Err("matches no name: `=` is for a name without wildcards".to_owned())
        }
        Some(exact) => Ok(format!("={}", name(exact)?)),
        None if is_pattern => pattern(text),
        None => Ok(format!("*.{}", name(inner.trim_start_matches('.'))?)),
    }
}

/// Checks a pattern.
fn pattern(text: &str) -> Result<String, String> {
    let (mut in_brackets, mut length) = (false, 0);
    for c in text.chars() {
        match (c, in_brackets) {
            ('[', false) => (in_brackets, length) = (true, 0),
            (']', true) if length > 0 => in_brackets = false,
            ('^', true) | ('*' | '?', false) => {}
            _ if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') => length += 1,
            _ => return Err(format!("a pattern can't have {c:?} here")),
        }
    }
    match in_brackets {
        true => Err("a bracket without its end".to_owned()),
        false if text.len() < 2 || text == "**" => Err("matches all names".to_owned()),
        false => Ok(text.to_ascii_lowercase()),
    }
}

/// `zone server[,server...]`
fn forwarding(text: &str, line: &SourceLine, draft: &mut Draft) {
    let Some((zone, targets)) = text.split_once(char::is_whitespace) else {
        return draft.leave(line, text, "must be a name and servers");
    };
    for target in targets.split(',') {
        match server(target) {
            Ok(server) => draft.forward(zone, &server, line),
            Err(why) => {
                let shown = format!("forwarding of {zone} to {}", target.trim());
                draft.leave_of_zone(zone, line, shown, why);
            }
        }
    }
}

/// `name target`: addresses, or another name. It holds for all names below as well, unless it begins with `=`.
fn cloaking(text: &str, ttl_secs: Option<u32>, line: &SourceLine, draft: &mut Draft) {
    let mut words = text.split_whitespace();
    let (Some(pattern), Some(targets)) = (words.next(), words.next()) else {
        return draft.leave(line, text, "must be a name and an address or another name");
    };
    let bare = pattern
        .trim_start_matches(['=', '*'])
        .trim_start_matches('.');
    if bare.contains(['*', '?', '[']) {
        return draft.leave(
            line,
            pattern,
            "only whole names can have local records: write a [[local]] section for each",
        );
    }
    let mut owners = vec![bare.to_owned()];
    if !pattern.starts_with('=') {
        owners.push(format!("*.{bare}"));
    }
    for owner in owners {
        for target in targets.split(',') {
            match target.parse::<IpAddr>() {
                Ok(address) => draft.address(&owner, address, ttl_secs, line),
                Err(_) => draft.record(&owner, "cname", target, ttl_secs, line),
            }
        }
    }
}
