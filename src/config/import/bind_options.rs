//! Imports the options of BIND.

use std::cell::Cell;
use std::collections::BTreeMap;

use super::bind_syntax::Statement;
use super::draft::{Draft, SourceLine};
use super::encrypted::ENCRYPTED;
use super::folder::Folder;
use super::servers::{self, server};
use crate::names::typed;

/// Options that say how the process runs or how it resolves, not what is answered.
const PROCESS: &[&str] = &[
    "directory",
    "pid-file",
    "dump-file",
    "statistics-file",
    "memstatistics-file",
    "managed-keys-directory",
    "session-keyfile",
    "session-keyalg",
    "session-keyname",
    "bindkeys-file",
    "key-directory",
    "secroots-file",
    "recursing-file",
    "querylog",
    "recursion",
    "auth-nxdomain",
    "minimal-responses",
    "prefetch",
    "tcp-clients",
    "recursive-clients",
    "edns-udp-size",
    "max-udp-size",
    "query-source",
    "query-source-v6",
    "transfer-source",
    "zone-statistics",
    "interface-interval",
    "listen-backlog",
    "require-server-cookie",
    "cookie-algorithm",
    "qname-minimization",
    "max-recursion-depth",
    "max-recursion-queries",
    "allow-new-zones",
    "geoip-directory",
    "tkey-gssapi-keytab",
    "lame-ttl",
    "root-key-sentinel",
    "use-alt-transfer-source",
    "answer-cookie",
    "dnssec-enable",
    "allow-query",
    "allow-recursion",
    "allow-query-cache",
    "stale-answer-enable",
    "resolver-query-timeout",
];

/// Why a zone is not transferred to other servers.
const NO_SECONDARIES: &str =
    "local zones are not transferred to other servers: use a name server for that";

/// Options without a counterpart, and what to do.
const NO_COUNTERPART: &[(&str, &str)] = &[
    (
        "dnssec-validation",
        "answers are not validated: name upstream servers that validate",
    ),
    (
        "allow-query-on",
        "clients are permitted by their own addresses only",
    ),
    (
        "allow-recursion-on",
        "clients are permitted by their own addresses only",
    ),
    // The one of a zone.
    (
        "allow-query",
        "the clients of a zone are those of the server",
    ),
    // Only `forward first` counts, see `is_turned_off`.
    ("forward", "names are asked of the forwarders only"),
    ("allow-transfer", NO_SECONDARIES),
    ("also-notify", NO_SECONDARIES),
    ("notify", NO_SECONDARIES),
    ("allow-notify", NO_SECONDARIES),
    (
        "allow-update",
        "records are changed in the zone's file only",
    ),
    (
        "update-policy",
        "records are changed in the zone's file only",
    ),
    ("dns64", "addresses are not translated"),
    ("rate-limit", "answers are not limited by their rate"),
    (
        "blackhole",
        "clients outside of [server] allow get REFUSED, not silence",
    ),
    (
        "deny-answer-addresses",
        "write a policy zone with a rule on the answer's address (rpz-ip): see docs/rpz.md",
    ),
    (
        "ede",
        "[block] ede is that of all lists, and `ede` of a [[list]] or [[feed]] its own",
    ),
    ("deny-answer-aliases", "block the aliases with a list"),
    ("sortlist", "the order of records is that of upstream"),
    ("rrset-order", "the order of records is that of upstream"),
    (
        "filter-aaaa-on-v4",
        "answers are not filtered by their type",
    ),
];

/// Options of policy zones that are read, or only say what is logged.
const POLICY_OPTIONS: &[&str] = &[
    "policy",
    "max-policy-ttl",
    "nsip-enable",
    "nsdname-enable",
    "recursive-only",
    "break-dnssec",
    "add-soa",
    "log",
];

/// The settings of the whole configuration that the import of a zone reads.
pub(super) struct Context<'f> {
    pub(super) folder: &'f Folder,
    pub(super) directory: Option<String>,
    pub(super) acls: BTreeMap<String, Statement>,
    /// The policy zones in order, with the statement that names each.
    pub(super) policies: Vec<Statement>,
    /// How many elements of lists of clients were read, those of named lists each time.
    pub(super) elements: Cell<usize>,
}

/// Imports an option.
pub(super) fn import_option(option: &Statement, draft: &mut Draft) {
    let (line, name) = (&option.line, option.word(0));
    match name {
        "listen-on" | "listen-on-v6" => listen(option, draft),
        "forwarders" => {
            for item in &option.block {
                match forwarder(item, option) {
                    Ok(server) => draft.push("upstream", "servers", server, line),
                    Err(why) => draft.leave(
                        &item.line,
                        format!("forwarders {}", item.words.join(" ")),
                        why,
                    ),
                }
            }
        }
        "recursion" if option.word(1) == "no" => {
            let reason = "only its own zones are answered there; Tapis forwards all other queries";
            draft.leave(line, "recursion no", reason);
        }
        "max-cache-size" => match size(option.word(1)) {
            Some(mib) => draft.number(("cache", "size-mib"), mib, 1..=65_536, line),
            None => draft.leave(
                line,
                format!("max-cache-size {}", option.word(1)),
                "set [cache] size-mib to a number of MiB",
            ),
        },
        "max-cache-ttl" => seconds(option, "max-ttl-secs", 1..=604_800, draft),
        "min-cache-ttl" => seconds(option, "min-ttl-secs", 0..=3600, draft),
        "max-ncache-ttl" => seconds(option, "max-negative-ttl-secs", 1..=604_800, draft),
        "max-stale-ttl" => seconds(option, "stale-secs", 0..=604_800, draft),
        "response-policy" => report_policy_options(option, draft),
        "version" | "server-id" if !matches!(option.word(1), "none" | "hostname" | "") => {
            let key = if name == "version" { "version" } else { "id" };
            draft.set("server", key, option.word(1), line);
        }
        "version" | "server-id" | "hostname" => {}
        "disable-empty-zone" => {
            let zone = option.word(1).trim_end_matches('.').to_ascii_lowercase();
            match typed::one(&zone) {
                Ok((zone, None)) => draft.push("special-use", "forward", zone.to_string(), line),
                _ => draft.leave(line, option.words.join(" "), "not the name of a zone"),
            }
        }
        "empty-zones-enable" if option.word(1) == "no" => draft.forward_private_reverse(line),
        "empty-zones-enable" => {}
        _ if is_turned_off(option) => {}
        _ if PROCESS.contains(&name) => {}
        _ => draft.leave(line, name, why_left(name)),
    }
}

/// Whether an option without a counterpart has a value that turns it off, so that nothing is lost.
pub(super) fn is_turned_off(option: &Statement) -> bool {
    let is_none = |item: &Statement| item.word(0) == "none";
    match option.word(0) {
        "allow-transfer" | "allow-update" | "allow-notify" | "also-notify" => {
            option.block.iter().all(is_none)
        }
        "notify" => option.word(1) == "no",
        "forward" => option.word(1) == "only",
        _ => false,
    }
}

/// Reports the options of a `response-policy` and of its zones that do not carry over.
fn report_policy_options(option: &Statement, draft: &mut Draft) {
    report_unknown_policy_words(&option.words[1..], &option.line, draft);
    for item in &option.block {
        match item.word(0) {
            "zone" => {
                let options = item.words.get(2..).unwrap_or_default();
                report_unknown_policy_words(options, &item.line, draft);
            }
            // The options of a module, `dnsrps-options`, have a block as well.
            other => draft.leave(
                &item.line,
                format!("response-policy: {other}"),
                why_left(other),
            ),
        }
    }
}

/// Reports the options that are not known among those of a policy zone, each of which is followed by its value.
fn report_unknown_policy_words(words: &[String], line: &SourceLine, draft: &mut Draft) {
    let mut words = words.iter().map(String::as_str);
    while let Some(option) = words.next() {
        // The options of a module have a block instead of a value.
        if option == "dnsrps-options" {
            continue;
        }
        let value = words.next().unwrap_or_default();
        if (option, value) == ("policy", "cname") {
            // The target of the alias.
            words.next();
        }
        if !POLICY_OPTIONS.contains(&option) {
            let setting = format!("response-policy: {option} {value}");
            draft.leave(line, setting, why_left(option));
        }
    }
}

/// Whether an option says how the process runs or how it resolves, not what is answered.
pub(super) fn is_of_process(name: &str) -> bool {
    PROCESS.contains(&name)
}

/// Why an option does not carry over.
pub(super) fn why_left(name: &str) -> &'static str {
    let known = NO_COUNTERPART.iter().find(|(known, _)| *known == name);
    known.map_or("Tapis has no such setting", |(_, reason)| reason)
}

fn seconds(
    option: &Statement,
    key: &'static str,
    bounds: std::ops::RangeInclusive<i64>,
    draft: &mut Draft,
) {
    let text = option.word(1);
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" | "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        "d" => Some(86_400),
        "w" => Some(604_800),
        _ => None,
    };
    let secs = digits
        .parse::<i64>()
        .ok()
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(factor));
    match secs {
        Some(secs) => draft.number(("cache", key), secs, bounds, &option.line),
        None => draft.leave(
            &option.line,
            option.words.join(" "),
            "not a number of seconds",
        ),
    }
}

/// A size in MiB: a number with the suffix `k`, `m` or `g`.
fn size(text: &str) -> Option<i64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(['k', 'm', 'g']);
    let number: i64 = digits.parse().ok()?;
    let bytes = match &lower[digits.len()..] {
        "" => Some(number),
        "k" => number.checked_mul(1 << 10),
        "m" => number.checked_mul(1 << 20),
        _ => number.checked_mul(1 << 30),
    };
    Some((bytes? >> 20).max(1))
}

fn listen(option: &Statement, draft: &mut Draft) {
    let is_v6 = option.word(0) == "listen-on-v6";
    let port = option.after("port").unwrap_or("53");
    let Ok(port) = port.parse() else {
        return draft.leave(&option.line, option.words.join(" "), "not a port");
    };
    if option.after("tls").is_some() || option.after("http").is_some() {
        return draft.leave(
            &option.line,
            option.words.join(" "),
            "clients are served without encryption only",
        );
    }
    for item in &option.block {
        let text = item.word(0);
        let text = match (text, is_v6) {
            ("none", _) => continue,
            ("any", false) => "0.0.0.0",
            ("any", true) => "::",
            ("localhost", false) => "127.0.0.1",
            ("localhost", true) => "::1",
            _ => text,
        };
        let sockets = servers::listening(text, port);
        if sockets.is_empty() {
            let shown = format!("{} {text}", option.word(0));
            draft.leave(&item.line, shown, "name the address to listen on");
        }
        draft.listen(sockets, &item.line);
    }
}

/// An address with an optional port, `192.0.2.1 port 5300`, in a list whose port and encryption hold for the items that
/// have none: `forwarders port 853 tls x { 192.0.2.1; }`.
pub(super) fn forwarder(item: &Statement, list: &Statement) -> Result<String, String> {
    let after = |keyword| item.after(keyword).or_else(|| list.after(keyword));
    if after("tls").is_some() {
        return Err(ENCRYPTED.to_owned());
    }
    match after("port") {
        Some(port) => server(&format!("{}#{port}", item.word(0))),
        None => server(item.word(0)),
    }
}
