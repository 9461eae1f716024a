//! Writes a draft as the text of a configuration.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;

use toml_edit::{Array, Value};

use super::super::shown::Show;
use super::draft::{Draft, SourceLine};
use super::draft_parts::{ForwardDraft, LocalDraft, written};
use super::normalise::normalise;
use super::source::NotCarried;
use super::tool::Tool;
use crate::wire::name::Name;

/// The sections that exist once, in the order in which they are written.
const SECTIONS: &[&str] = &[
    "server",
    "upstream",
    "cache",
    "special-use",
    "block",
    "download",
];
/// The file of local names that lists must not block.
const LOCAL_NAMES: &str = "local-names.txt";

/// An imported configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The text of the configuration file. Relative paths in it name `files`.
    pub config: String,
    /// The files that belong beside the configuration: their names and texts.
    pub files: Vec<(String, String)>,
    /// The settings that did not carry over, in the order in which it was read.
    pub left: Vec<NotCarried>,
}

/// The result of an import.
pub(super) fn finish(mut draft: Draft, tool: Tool) -> Imported {
    draft.resolve_general_zones();
    draft.report_lost_zones();
    normalise(&mut draft);
    allow_local_names(&mut draft);
    let mut text = format!(
        "# Imported from a configuration of {}. Check it with `tapis check`.\n",
        tool.title()
    );
    for section in SECTIONS {
        write_section(&mut text, section, &draft);
    }
    write_state(&mut text, &draft);
    for list in &draft.lists {
        header(&mut text, &format!("[[{}]]", list.section), &list.line);
        key(&mut text, "name", &list.name.as_str().into());
        for (name, value) in &list.keys {
            key(&mut text, name, value);
        }
    }
    for local in &draft.locals {
        write_local(&mut text, local);
    }
    for (zone, file, line) in &draft.zones {
        header(&mut text, "[[local]]", line);
        key(&mut text, "zone", &zone.to_string().into());
        key(&mut text, "file", &file.as_str().into());
    }
    write_forwards(&mut text, &draft.forwards);
    Imported {
        config: text,
        files: draft.files,
        left: draft.left,
    }
}

/// Adds an allow list of the local names that rules would block: the policy precedes local records.
fn allow_local_names(draft: &mut Draft) {
    let covered = |name: &Name| draft.local_first || draft.is_below_block(name);
    let mut names = BTreeSet::new();
    for local in draft.locals.iter().filter(|local| covered(&local.name)) {
        names.insert(written(&local.name, local.is_wildcard) + "\n");
    }
    let mut lines = draft.locals.iter().map(|local| &local.line);
    let Some(line) = lines.next().cloned().filter(|_| !names.is_empty()) else {
        return;
    };
    let text = "# Names with local records, which no list blocks.\n".to_owned();
    let text = text + &names.into_iter().collect::<String>();
    let keys = vec![("kind", "allow".into())];
    draft.file_list("local-names", (LOCAL_NAMES.to_owned(), text), keys, &line);
}

fn write_section(text: &mut String, section: &str, draft: &Draft) {
    let mut settings = draft
        .settings
        .iter()
        .filter(|setting| setting.section == section)
        .peekable();
    if settings.peek().is_none() {
        return;
    }
    text.push_str(&format!("\n[{section}]\n"));
    for setting in settings {
        comment(text, &setting.line);
        key(text, setting.key, &setting.value);
    }
}

/// Names a directory for downloaded lists, if there are any: they need one, and no other program says where.
fn write_state(text: &mut String, draft: &Draft) {
    let keys = draft.lists.iter().flat_map(|list| &list.keys);
    if keys.map(|(name, _)| *name).any(|name| name == "url") {
        text.push_str("\n# The copies of downloaded lists are kept here.\n[state]\n");
        key(text, "dir", &"/var/lib/tapis".into());
    }
}

fn write_local(text: &mut String, local: &LocalDraft) {
    header(text, "[[local]]", &local.line);
    key(
        text,
        "name",
        &written(&local.name, local.is_wildcard).into(),
    );
    let keys: BTreeSet<_> = local.records.iter().map(|record| record.key).collect();
    for wanted in keys {
        let values = local.records.iter().filter(|record| record.key == wanted);
        let values: Vec<_> = values.map(|record| record.text.as_str()).collect();
        match values[..] {
            [value] if matches!(wanted, "cname" | "ptr") => key(text, wanted, &value.into()),
            _ => key(text, wanted, &values.into_iter().collect::<Array>().into()),
        }
    }
    if let Some(secs) = local.ttl_secs {
        key(text, "ttl-secs", &i64::from(secs).into());
    }
}

/// Writes a section for each set of servers, with all zones that have it.
fn write_forwards(text: &mut String, forwards: &[ForwardDraft]) {
    let mut sections: Vec<Vec<&ForwardDraft>> = Vec::new();
    let mut known = HashMap::new();
    for forward in forwards {
        let servers: BTreeSet<_> = forward.servers.iter().collect();
        let at = *known.entry(servers).or_insert(sections.len());
        match sections.get_mut(at) {
            Some(section) => section.push(forward),
            None => sections.push(vec![forward]),
        }
    }
    for section in sections {
        let first = section[0];
        header(text, "[[forward]]", &first.line);
        match section[..] {
            [only] => key(text, "zone", &only.zone.to_string().into()),
            _ => {
                text.push_str("zone = [\n");
                for forward in &section {
                    let zone = Value::from(forward.zone.to_string());
                    let (file, number) = (&forward.line.file, forward.line.number);
                    // Writing to memory does not fail.
                    let _ = writeln!(text, "    {zone}, # {}:{number}", file.shown());
                }
                text.push_str("]\n");
            }
        }
        let servers: Array = first.servers.iter().map(String::as_str).collect();
        key(text, "servers", &servers.into());
    }
}

fn header(text: &mut String, header: &str, line: &SourceLine) {
    text.push('\n');
    comment(text, line);
    text.push_str(header);
    text.push('\n');
}

fn comment(text: &mut String, line: &SourceLine) {
    // Writing to memory does not fail.
    let _ = writeln!(text, "# {}:{}", line.file.shown(), line.number);
}

fn key(text: &mut String, key: &str, value: &Value) {
    let value = value.to_string();
    let _ = writeln!(text, "{key} = {}", value.trim());
}
