//! Holds the house: which module may import which, and how large a file may grow.

use std::fs;
use std::path::{Path, PathBuf};

/// A module, and what of the crate it may import. Test code may import more.
const TABLE: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("stats", &[]),
    ("sys", &[]),
    ("policy", &["wire", "sys"]),
    ("config", &["wire", "policy::rule"]),
    ("serve", &["wire", "policy", "config", "stats", "sys"]),
    ("control", &["wire", "policy", "config", "stats"]),
];

/// Modules that may import everything.
const TOP: &[&str] = &["cli", "daemon", "lib", "main"];

const MOST_LINES: usize = 400;

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the source") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// Each source file's path below `src`, with the text that ships.
fn shipped() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&root, &mut found);
    let below = |path: &PathBuf| {
        path.strip_prefix(&root)
            .expect("below src")
            .display()
            .to_string()
    };
    let named = found.iter().map(|path| (below(path), path));
    let real = named.filter(|(name, _)| !name.contains("tests"));
    real.map(|(name, path)| {
        let text = fs::read_to_string(path).expect("readable");
        let end = text.find("\n#[cfg(test)]\nmod").unwrap_or(text.len());
        (name, text[..end].to_owned())
    })
    .collect()
}

/// What a file names of the crate: `crate::a::b` as `a::b`, groups taken apart.
fn imports(text: &str) -> Vec<String> {
    let code: Vec<_> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let code = code.join("\n");
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => {
                let group = group.split('}').next().unwrap_or_default();
                found.extend(group.split(',').map(|part| part.trim().to_owned()));
            }
            None => {
                let path = rest.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
                found.extend(path.take(1).map(str::to_owned));
            }
        }
    }
    found
}

#[test]
fn each_module_imports_only_what_the_table_allows() {
    let mut wrong = Vec::new();
    for (file, text) in shipped() {
        let module = file.split(['/', '.']).next().expect("a module");
        let Some((_, allowed)) = TABLE.iter().find(|(name, _)| *name == module) else {
            assert!(
                TOP.contains(&module),
                "{file}: the table does not know `{module}`"
            );
            continue;
        };
        for import in imports(&text) {
            let within =
                |prefix: &str| import == prefix || import.starts_with(&format!("{prefix}::"));
            if !within(module) && !allowed.iter().any(|prefix| within(prefix)) {
                wrong.push(format!("{file} imports crate::{import}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_in_the_architecture_is_this_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md");
    let text = fs::read_to_string(path).expect("readable");
    for (module, allowed) in TABLE {
        let row = text.lines().find(|line| {
            line.starts_with('|')
                && line.split('|').nth(1).is_some_and(|cell| {
                    cell.split(',')
                        .any(|name| name.trim().trim_matches('`') == *module)
                })
        });
        let row = row.unwrap_or_else(|| panic!("no row for `{module}`"));
        let cell = row
            .split('|')
            .nth(2)
            .expect("a second cell")
            .replace('`', "");
        for import in *allowed {
            let named = |part: &str| part.split('(').next().is_some_and(|p| p.trim() == *import);
            assert!(cell.split(',').any(named), "{row}: lacks {import}");
        }
    }
}

#[test]
fn no_file_outgrows_its_room() {
    for (file, text) in shipped() {
        let code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
        let lines = text.lines().filter(code).count();
        assert!(lines <= MOST_LINES, "{file} has {lines} lines of code");
    }
}
