//! The tables of Pi-hole's database, as its Teleporter of version 5 exports them (JSON), or as `sqlite3 -csv -header` does.

use csv_core::{ReadRecordResult, Reader};

use super::draft::{Draft, SourceLine, TURNED_OFF};
use super::folder::{Folder, ReadFile};
use super::list_urls::{self, ForeignList};
use super::own_rules::OwnRules;
use super::tree::{self, Node, Value};

/// Files of tables, with the kind of their rows. Version 5 has a file for each kind of rule; the type of rows in
/// `domainlist` is a number.
const FILES: &[(&str, Option<Kind>)] = &[
    ("whitelist.exact", Some(Kind::AllowName)),
    ("blacklist.exact", Some(Kind::BlockName)),
    ("whitelist.regex", Some(Kind::AllowPattern)),
    ("blacklist.regex", Some(Kind::BlockPattern)),
    ("domainlist", None),
    ("adlist", Some(Kind::List)),
    ("adlists", Some(Kind::List)),
    ("client", Some(Kind::Client)),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    AllowName,
    BlockName,
    AllowPattern,
    BlockPattern,
    List,
    Client,
}

impl Kind {
    /// The kind of a number in the column `type` of `domainlist`.
    fn of_number(text: &str) -> Option<Self> {
        Some(match text {
            "0" => Self::AllowName,
            "1" => Self::BlockName,
            "2" => Self::AllowPattern,
            "3" => Self::BlockPattern,
            _ => return None,
        })
    }
}

/// Imports the tables that are beside the configuration.
pub(super) fn import(folder: &Folder, first: &SourceLine, draft: &mut Draft) {
    let (mut block, mut allow) = (OwnRules::default(), OwnRules::default());
    let mut has_tables = false;
    for (name, kind) in FILES {
        let names = [format!("{name}.json"), format!("{name}.csv")];
        let paths = names.iter().filter_map(|name| folder.beside(name));
        for path in paths {
            has_tables = true;
            let rows = folder.read(&path).and_then(|file| rows(&file));
            match rows {
                Ok(rows) => {
                    for row in rows {
                        import_row(folder, *kind, &row, [&mut block, &mut allow], draft);
                    }
                }
                Err(why) => draft.leave(&SourceLine::new(&path.into(), 1), *name, why),
            }
        }
    }
    allow.finish("allowed", true, draft);
    block.finish("blocked", false, draft);
    if !has_tables {
        let reason = "the lists and rules of Pi-hole are in an SQLite database: export its tables into this directory as \
                      docs/coming-from.md shows";
        draft.leave(first, "gravity.db", reason);
    }
}

fn import_row(
    folder: &Folder,
    kind: Option<Kind>,
    row: &Node,
    [block, allow]: [&mut OwnRules; 2],
    draft: &mut Draft,
) {
    let line = &row.line;
    let domain = row.text_at(&["domain"]).unwrap_or_default();
    let kind = kind.or_else(|| Kind::of_number(row.text_at(&["type"])?));
    if matches!(row.text_at(&["enabled"]), Some("0" | "false")) {
        let shown = match kind {
            Some(Kind::List) => format!("list {}", row.text_at(&["id"]).unwrap_or_default()),
            _ => domain.to_owned(),
        };
        return draft.leave(line, shown, TURNED_OFF);
    }
    if draft.is_blocking_off && kind != Some(Kind::Client) {
        return;
    }
    match kind {
        Some(Kind::AllowName) => allow.name(domain, false, line, draft),
        Some(Kind::BlockName) => block.name(domain, false, line, draft),
        Some(Kind::AllowPattern) => pattern(domain, allow, line, draft),
        Some(Kind::BlockPattern) => pattern(domain, block, line, draft),
        Some(Kind::List) => {
            let Some(source) = row.text_at(&["address"]) else {
                return;
            };
            // Since version 6 there are lists that allow.
            let is_allow = row.text_at(&["type"]) == Some("1");
            let list = ForeignList {
                title: None,
                source,
                format: "adblock",
                is_allow,
            };
            list_urls::add(&list, folder, line, draft);
        }
        Some(Kind::Client) => {
            let client = row.text_at(&["ip"]).unwrap_or("a client");
            draft.leave(
                line,
                format!("client {client}"),
                "one policy holds for all clients",
            );
        }
        None => draft.leave(line, domain, "a row without a type of rule"),
    }
}

/// A regular expression of Pi-hole, which may end in options.
fn pattern(text: &str, rules: &mut OwnRules, line: &SourceLine, draft: &mut Draft) {
    let (pattern, options) = text.split_once(';').unwrap_or((text, ""));
    match options {
        "" => rules.pattern(pattern, line, draft),
        _ => draft.leave(
            line,
            format!("/{text}/"),
            "options behind a pattern (querytype, invert, reply) do not carry over",
        ),
    }
}

/// The rows of a table. Those of CSV have their lines.
fn rows(file: &ReadFile) -> Result<Vec<Node>, String> {
    if file.path.extension().is_some_and(|ending| ending == "json") {
        return match tree::json(file)?.value {
            Value::List(rows) => Ok(rows),
            _ => Err("not an array of rows".to_owned()),
        };
    }
    let records = records(file);
    let mut records = records.into_iter();
    let Some((_, titles)) = records.next() else {
        return Ok(Vec::new());
    };
    if !titles
        .iter()
        .any(|title| title == "address" || title == "domain" || title == "ip")
    {
        return Err(
            "the first row has no titles: export the table with `sqlite3 -csv -header`".to_owned(),
        );
    }
    let rows = records.map(|(number, fields)| {
        let line = SourceLine::new(&file.path, number);
        let entries = titles.iter().cloned().zip(fields);
        let entries = entries.map(|(title, text)| {
            (
                title,
                Node {
                    value: Value::Text(text),
                    line: line.clone(),
                },
            )
        });
        Node {
            value: Value::Map(entries.collect()),
            line: line.clone(),
        }
    });
    Ok(rows.collect())
}

/// The records of a CSV text with their lines.
fn records(file: &ReadFile) -> Vec<(usize, Vec<String>)> {
    // With a line break at the end, the reader never sees a part of a record.
    let text = format!("{}\n", file.text);
    let mut reader = Reader::new();
    let (mut input, mut found) = (text.as_bytes(), Vec::new());
    let (mut output, mut ends) = (vec![0; input.len()], vec![0; input.len()]);
    loop {
        let number = usize::try_from(reader.line()).unwrap_or(usize::MAX);
        let (result, read, _, count) = reader.read_record(input, &mut output, &mut ends);
        input = &input[read..];
        match result {
            ReadRecordResult::End => return found,
            ReadRecordResult::Record => {
                let starts = std::iter::once(0).chain(ends[..count].iter().copied());
                let fields = starts
                    .zip(&ends[..count])
                    .map(|(start, end)| String::from_utf8_lossy(&output[start..*end]).into_owned());
                found.push((number, fields.collect()));
            }
            _ => {}
        }
    }
}
