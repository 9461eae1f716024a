//! Holds the house: which module may import which, and how large a file may grow.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A module, and what of the crate it may import. Test code may import more.
const TABLE: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("stats", &[]),
    ("sys", &[]),
    ("names", &["wire"]),
    ("policy", &["wire", "names", "sys"]),
    ("config", &["wire", "names", "policy::rule"]),
    ("serve", &["wire", "policy", "config", "stats", "sys"]),
    ("control", &["wire", "names", "policy", "config", "stats"]),
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
    let is_test = |part: &str| part == "tests" || part == "tests.rs";
    let real = named.filter(|(name, _)| !name.split('/').any(is_test));
    real.map(|(name, path)| {
        let text = fs::read_to_string(path).expect("readable");
        let end = text.find("\n#[cfg(test)]\nmod").unwrap_or(text.len());
        (name, text[..end].to_owned())
    })
    .collect()
}

/// What a file names of the crate, by `crate::` or by leaving its own module: `crate::a::{b, c::d}`
/// as `a::b` and `a::c::d`.
fn imports(file: &str, text: &str) -> Vec<String> {
    let code: Vec<_> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let code = code.join("\n");
    let module: Vec<_> = file
        .trim_end_matches(".rs")
        .split('/')
        .filter(|part| !["mod", "lib", "main"].contains(part))
        .collect();
    let mut found = Vec::new();
    for (at, start) in code
        .match_indices("crate::")
        .chain(code.match_indices("super::"))
    {
        let inside = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        if code[..at].ends_with(inside) {
            continue;
        }
        let mut rest = &code[at..];
        let mut base = module.clone();
        if start == "crate::" {
            base.clear();
            rest = &rest[start.len()..];
        }
        while let Some(above) = rest.strip_prefix("super::") {
            base.pop().expect("no module is above the crate");
            rest = above;
        }
        let base: String = base.iter().map(|part| format!("{part}::")).collect();
        expand(&base, rest, &mut found);
    }
    found
}

/// Takes the path that `text` starts with apart, and returns what is behind it.
fn expand<'t>(base: &str, text: &'t str, found: &mut Vec<String>) -> &'t str {
    let text = text.trim_start();
    let end = text
        .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
        .unwrap_or(text.len());
    let (path, behind) = text.split_at(end);
    let path = format!("{base}{path}");
    let Some(mut group) = behind
        .strip_prefix('{')
        .filter(|_| path.is_empty() || path.ends_with("::"))
    else {
        let path = path.trim_end_matches(':');
        found.push(path.strip_suffix("::self").unwrap_or(path).to_owned());
        return behind;
    };
    loop {
        group = group.trim_start();
        if let Some(behind) = group.strip_prefix('}') {
            return behind;
        }
        let behind = expand(&path, group, found);
        // An `as` may stand before the comma.
        let Some(next) = behind.find([',', '}']) else {
            return "";
        };
        group = behind[next..].strip_prefix(',').unwrap_or(&behind[next..]);
    }
}

#[test]
fn imports_are_seen_in_groups_and_through_super() {
    let text = "use crate::{stats, wire::{name::Name, query::{self, Query as Q}}};\n\
                use super::super::policy::rule;\nfn f() -> crate::sys::udp::Socket {}\n\
                use super::health;\n// use crate::cli;\nuse mycrate::x;";
    let expected = [
        "stats",
        "wire::name::Name",
        "wire::query",
        "wire::query::Query",
        "sys::udp::Socket",
        "policy::rule",
        "serve::upstream::health",
    ];
    let text = text.replace("super::super::", "super::super::super::");
    assert_eq!(imports("serve/upstream/connect.rs", &text), expected);
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
        for import in imports(&file, &text) {
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
    let rows = text
        .lines()
        .skip_while(|line| *line != "| module | may import |");
    let rows = rows.skip(2).take_while(|line| line.starts_with('|'));
    let mut written = BTreeMap::new();
    for row in rows {
        let cells: Vec<_> = row.split('|').map(|cell| cell.replace('`', "")).collect();
        let names = |cell: &str| -> BTreeSet<String> {
            cell.split(',').map(|name| name.trim().to_owned()).collect()
        };
        for module in names(&cells[1]) {
            written.insert(module, names(&cells[2]));
        }
    }
    let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let all = ["cli", "daemon"].map(|top| (top.to_owned(), set(&["all"])));
    let rules = TABLE.iter().map(|(module, allowed)| {
        let nothing = ["nothing of the crate"];
        let allowed = if allowed.is_empty() {
            &nothing
        } else {
            *allowed
        };
        ((*module).to_owned(), set(allowed))
    });
    assert_eq!(written, rules.chain(all).collect());
}

#[test]
fn no_file_outgrows_its_room() {
    for (file, text) in shipped() {
        let code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
        let lines = text.lines().filter(code).count();
        assert!(lines <= MOST_LINES, "{file} has {lines} lines of code");
    }
}

#[test]
fn no_path_is_shown_as_it_is() {
    for (file, text) in shipped() {
        assert!(
            !text.contains(".display()"),
            "{file}: a file's name may hold escape sequences: use `config::shown`"
        );
        for error in text.split("#[error(").skip(1) {
            let error = error.split(")]\n").next().expect("a part");
            let path = ["{path}", "{dir}"].iter().any(|name| error.contains(name));
            assert!(!path || error.contains(".shown()"), "{file}: {error}");
        }
    }
}
