//! Imports the configuration of dnscrypt-proxy and the files of rules that it names.

use std::net::IpAddr;
use std::path::Path;

use super::dnscrypt_keys::KEYS;
use super::draft::{Draft, SourceLine};
use super::encrypted::ENCRYPTED;
use super::error::ImportError;
use super::folder::{Folder, ReadFile};
use super::option_line::without_comment;
use super::servers::{self, server};
use super::tree::{self, Node};
use crate::names::typed;

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
    KEYS.report(&root, draft);
    if draft.listen.is_empty() {
        draft.listen(servers::listening("127.0.0.1", 53), &first);
    }
    let mut listen = draft.listen.iter();
    let open = listen.find(|(socket, _)| !socket.ip().is_loopback());
    if let Some(line) = open.map(|(_, line)| line.clone()) {
        draft.allow_private(&line);
        let reason = "dnscrypt-proxy answers every client: [server] allow has all private networks, add others";
        draft.leave(&line, "all clients", reason);
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
        let with_pointers = root.is_true(&["cloak_ptr"]);
        each_line(folder, node, draft, |text, line, draft| {
            cloaking(text, (ttl_secs, with_pointers), line, draft);
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
                let sockets = servers::listening(text, 53);
                if sockets.is_empty() {
                    let shown = format!("listen_addresses {text}");
                    draft.leave(&item.line, shown, "not an address");
                }
                draft.listen(sockets, &item.line);
            }
        }
        ("cache_min_ttl", Some(secs)) => {
            draft.number(("cache", "min-ttl-secs"), secs, 0..=3600, line);
        }
        ("cache_max_ttl", Some(secs)) => {
            draft.number(("cache", "max-ttl-secs"), secs, 1..=604_800, line);
        }
        // The old key for the shortest and the longest one of negative answers.
        ("cache_neg_ttl" | "cache_neg_max_ttl", Some(secs)) if secs > 0 => {
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
        _ => {}
    }
}

/// How blocked names are answered. The default is a HINFO record.
fn blocked_answer(root: &Node, draft: &mut Draft) {
    let old = ["refused_code_in_responses"];
    if let Some(node) = root.at(&old).filter(|_| root.is_true(&old)) {
        draft.set("block", "action", "refused", &node.line);
    }
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
fn cloaking(
    text: &str,
    (ttl_secs, with_pointers): (Option<u32>, bool),
    line: &SourceLine,
    draft: &mut Draft,
) {
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
    let addresses = targets
        .split(',')
        .filter_map(|target| target.parse::<IpAddr>().ok());
    for address in addresses.filter(|_| with_pointers) {
        draft.pointer(address, bare, ttl_secs, line);
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
