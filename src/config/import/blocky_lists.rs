//! Imports the lists of blocky, which belong to groups, and those that are written into its configuration.

use std::net::IpAddr;

use super::draft::{Draft, SourceLine};
use super::folder::Folder;
use super::list_urls::{self, ForeignList};
use super::own_rules::OwnRules;
use super::tree::Node;

/// Imports the lists of the groups that clients without a name have.
pub(super) fn import(folder: &Folder, root: &Node, draft: &mut Draft) {
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
    let block = source.at(&["source"]).unwrap_or(source);
    for (line, text) in block.lines() {
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
