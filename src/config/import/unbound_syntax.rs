//! The clauses and attributes of `unbound.conf`, with those of included files.

use std::path::Path;

use super::draft::{Draft, SourceLine};
use super::folder::{Folder, ReadFile};

/// How deep files may include each other.
const DEPTH_MAX: usize = 16;

/// A key with its values.
pub(super) struct Attribute {
    pub(super) key: String,
    pub(super) values: Vec<String>,
    pub(super) line: SourceLine,
}

impl Attribute {
    pub(super) fn value(&self) -> &str {
        self.values.first().map_or("", String::as_str)
    }

    pub(super) fn is_yes(&self) -> bool {
        self.value() == "yes"
    }

    pub(super) fn shown(&self) -> String {
        format!("{}: {}", self.key, self.values.join(" "))
    }
}

/// A clause, such as `server:`, with its attributes.
pub(super) struct Clause {
    pub(super) name: String,
    pub(super) line: SourceLine,
    pub(super) attributes: Vec<Attribute>,
}

impl Clause {
    pub(super) fn all(&self, key: &str) -> impl Iterator<Item = &Attribute> {
        self.attributes
            .iter()
            .filter(move |attribute| attribute.key == key)
    }

    pub(super) fn value(&self, key: &str) -> Option<&str> {
        self.all(key).last().map(Attribute::value)
    }
}

const CLAUSES: &[&str] = &[
    "server",
    "forward-zone",
    "stub-zone",
    "auth-zone",
    "view",
    "remote-control",
    "python",
    "rpz",
    "cachedb",
    "dnstap",
    "dynlib",
    "dnscrypt",
    "ipset",
];

/// Reads the clauses of a file and of those that it includes.
pub(super) fn read(
    folder: &Folder,
    file: &ReadFile,
    depth: usize,
    clauses: &mut Vec<Clause>,
    draft: &mut Draft,
) {
    for (index, text) in file.text.lines().enumerate() {
        let line = SourceLine::new(&file.path, index + 1);
        let found = match attributes(text, &line) {
            Ok(found) => found,
            Err(why) => {
                draft.leave(&line, "syntax error", why);
                continue;
            }
        };
        for attribute in found {
            let Attribute { key, .. } = &attribute;
            if key == "include" || key == "include-toplevel" {
                include(folder, &attribute, depth, clauses, draft);
            } else if CLAUSES.contains(&key.as_str()) && attribute.values.is_empty() {
                clauses.push(Clause {
                    name: key.clone(),
                    line: line.clone(),
                    attributes: Vec::new(),
                });
            } else if attribute.values.is_empty() {
                draft.leave(&line, key, "has no value on its line");
            } else if let Some(clause) = clauses.last_mut() {
                clause.attributes.push(attribute);
            } else {
                draft.leave(&line, key, "is before the first clause, such as `server:`");
            }
        }
    }
}

fn include(
    folder: &Folder,
    attribute: &Attribute,
    depth: usize,
    clauses: &mut Vec<Clause>,
    draft: &mut Draft,
) {
    let line = &attribute.line;
    if depth >= DEPTH_MAX {
        let reason = "files include each other too deeply, or in a circle";
        return draft.leave(line, attribute.shown(), reason);
    }
    let base = line.file.parent().unwrap_or(Path::new("."));
    let files = match folder.glob(base, attribute.value()) {
        Ok(files) => files,
        Err(why) => return draft.leave(line, attribute.shown(), why),
    };
    for path in files {
        match folder.read(&path) {
            Ok(file) => read(folder, &file, depth + 1, clauses, draft),
            Err(why) => draft.leave(line, attribute.shown(), why),
        }
    }
}

/// The keys of a line with their values. A key is a bare word that ends in a colon.
///
/// # Errors
/// The reason why the line has another form.
fn attributes(text: &str, line: &SourceLine) -> Result<Vec<Attribute>, &'static str> {
    let mut found: Vec<Attribute> = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next().filter(|first| *first != '#') {
        let (word, is_bare, behind) = match first {
            '"' | '\'' => {
                let (inner, behind) = rest[1..]
                    .split_once(first)
                    .ok_or("a quotation mark without its end")?;
                (inner, false, behind)
            }
            _ => {
                // A `#` within a word is no comment: it begins the name of a TLS server.
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                // A key may be followed by its value without a space.
                let end = match rest[..end].find(":\"") {
                    Some(colon) if is_key(&rest[..=colon]) => colon + 1,
                    _ => end,
                };
                (&rest[..end], true, &rest[end..])
            }
        };
        match found.last_mut() {
            _ if is_bare && is_key(word) => found.push(Attribute {
                key: word.trim_end_matches(':').to_owned(),
                values: Vec::new(),
                line: line.clone(),
            }),
            Some(attribute) => attribute.values.push(word.to_owned()),
            None => return Err("does not begin with a key, such as `port:`"),
        }
        rest = behind.trim_start();
    }
    Ok(found)
}

fn is_key(word: &str) -> bool {
    let name = word.strip_suffix(':').unwrap_or_default();
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.starts_with(|c: char| c.is_ascii_lowercase()) && name.bytes().all(fits)
}
