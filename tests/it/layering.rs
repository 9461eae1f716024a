//! Checks how the source is layered: which module may import which, that no files import each other in a circle, and
//! how large a file and a struct may be.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

/// Each module, and the modules of the crate that it may import. Test code may import more.
const TABLE: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("stats", &[]),
    ("sys", &[]),
    ("names", &["wire"]),
    ("policy", &["wire", "names", "sys"]),
    (
        "config",
        &[
            "wire",
            "names",
            "policy::local::special_use",
            "policy::patterns",
            "policy::record",
            "policy::rule",
            "policy::rpz::settings",
        ],
    ),
    ("tls", &["config"]),
    (
        "serve",
        &["wire", "policy", "config", "tls", "stats", "sys"],
    ),
    (
        "control",
        &["wire", "names", "policy", "config", "tls", "stats"],
    ),
    (
        "recorder",
        &[
            "wire",
            "policy",
            "config",
            "serve",
            "stats",
            "control::gauges",
            "control::recording",
        ],
    ),
];

/// Modules that may import everything.
const TOP: &[&str] = &["cli", "daemon", "lib", "main"];

/// Lines of code that a file may have, without its tests.
const MAX_LINES: usize = 400;

/// Named fields that a struct may have. One struct of each component may have more.
const MAX_FIELDS: usize = 15;

/// Derives of structs that are plain data of a file, an API or a command line. They may have any number of fields.
const PLAIN_DATA: &[&str] = &["Serialize", "Deserialize", "Args", "Parser"];

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

/// The path of each source file below `src`, and its text without the items that only tests are built with.
pub(crate) fn shipped() -> Vec<(String, String)> {
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
        (name, without_tests(&text))
    })
    .collect()
}

/// Removes each item with `#[cfg(test)]`. The text must be formatted: an item ends with its first line, or with a
/// closing bracket that is indented like its attribute.
fn without_tests(text: &str) -> String {
    let ends = |line: &str| [";", "}", ","].iter().any(|end| line.ends_with(end));
    let mut kept = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(indent) = line.strip_suffix("#[cfg(test)]") else {
            kept.push_str(line);
            kept.push('\n');
            continue;
        };
        let is_preface = |line: &&str| {
            ["#[", "//"]
                .iter()
                .any(|start| line.trim_start().starts_with(start))
        };
        let first = lines.find(|line| !is_preface(line));
        if !first.is_some_and(ends) {
            let closes = |line: &str| {
                line.strip_prefix(indent)
                    .is_some_and(|line| line.starts_with(['}', ')', ']']))
            };
            lines.find(|line| closes(line) && ends(line));
        }
    }
    kept
}

#[test]
fn only_items_of_tests_are_removed() {
    let text = r##"
mod a;
#[cfg(test)]
mod tests;
#[cfg(test)]
#[path = "x.rs"]
pub(crate) fn f(
    b: u8,
) -> u8 {
    b;
}
struct S {
    c: u8,
    #[cfg(test)]
    d: u8,
    e: u8,
}
#[cfg(test)]
mod more {
    const T: &str = "
x;
";
}
mod g;
"##;
    let expected = "\nmod a;\nstruct S {\n    c: u8,\n    e: u8,\n}\nmod g;\n";
    assert_eq!(without_tests(text), expected);
}

/// The module that a file defines; empty for the root of the crate.
fn module_of(file: &str) -> Vec<&str> {
    let parts = file.trim_end_matches(".rs").split('/');
    parts
        .filter(|part| !["mod", "lib", "main"].contains(part))
        .collect()
}

/// The paths within the crate that a file names, each from the crate's root. A file names them by `crate::`, `super::`,
/// `self::` or the name of a submodule; `crate::a::{b, c::d}` yields `a::b` and `a::c::d`.
fn imports(file: &str, text: &str) -> Vec<String> {
    let code: Vec<_> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let code = code.join("\n");
    let submodules = code.lines().filter_map(|line| {
        let (_, name) = line.strip_suffix(';')?.split_once("mod ")?;
        Some(format!("{name}::"))
    });
    let starts = ["crate::", "super::", "self::"].map(str::to_owned);
    let mut found = Vec::new();
    for start in starts.into_iter().chain(submodules) {
        for (at, _) in code.match_indices(&start) {
            let inside = |c: char| c.is_alphanumeric() || "_:.".contains(c);
            if code[..at].ends_with(inside) {
                continue;
            }
            let mut rest = &code[at..];
            let mut base = module_of(file);
            if let Some(below) = rest.strip_prefix("crate::") {
                base.clear();
                rest = below;
            }
            rest = rest.strip_prefix("self::").unwrap_or(rest);
            while let Some(above) = rest.strip_prefix("super::") {
                base.pop().expect("no module is above the crate");
                rest = above;
            }
            let base: String = base.iter().map(|part| format!("{part}::")).collect();
            expand(&base, rest, &mut found);
        }
    }
    found
}

/// Adds the paths that `text` starts with to `found`, and returns the text after them.
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
        // There may be an `as` before the comma.
        let Some(next) = behind.find([',', '}']) else {
            return "";
        };
        group = behind[next..].strip_prefix(',').unwrap_or(&behind[next..]);
    }
}

#[test]
fn imports_are_found_in_groups_and_relative_to_the_file() {
    let text = "use crate::{stats, wire::{name::Name, query::{self, Query as Q}}};\n\
                use super::super::policy::rule;\nfn f() -> crate::sys::udp::Socket {}\n\
                use super::health;\n// use crate::cli;\nuse mycrate::x;\nmod tls;\n\
                use self::tls::Session;\nuse tls::{Config, x::Y};\nself.tls::<u8>();";
    let expected = [
        "stats",
        "wire::name::Name",
        "wire::query",
        "wire::query::Query",
        "sys::udp::Socket",
        "policy::rule",
        "serve::upstream::health",
        "serve::upstream::connect::tls::Session",
        "serve::upstream::connect::tls::Config",
        "serve::upstream::connect::tls::x::Y",
    ];
    let text = text.replace("super::super::", "super::super::super::");
    assert_eq!(imports("serve/upstream/connect.rs", &text), expected);
}

#[test]
fn each_module_imports_only_what_the_table_permits() {
    let mut wrong = Vec::new();
    for (file, text) in shipped() {
        let module = file.split(['/', '.']).next().expect("a module");
        let Some((_, allowed)) = TABLE.iter().find(|(name, _)| *name == module) else {
            assert!(
                TOP.contains(&module),
                "{file}: `{module}` is not in the table"
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
fn the_documented_table_is_the_same() {
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

/// The files that each file imports from.
pub(crate) type Graph = BTreeMap<String, BTreeSet<String>>;

pub(crate) fn graph(files: &[(String, String)]) -> Graph {
    // The binary's root is another crate.
    let files = files.iter().filter(|(file, _)| file != "main.rs");
    let modules = files
        .clone()
        .map(|(file, _)| (module_of(file).join("::"), file));
    let modules: BTreeMap<_, _> = modules.collect();
    // An import names a module, or an item in a module. The longest prefix that is a module's path is the module.
    let defined_in = |import: &str| {
        let mut path = import;
        loop {
            if let Some(&file) = modules.get(path) {
                return Some(file.clone());
            }
            path = path.rsplit_once("::")?.0;
        }
    };
    let edges = files.map(|(file, text)| {
        let imports = imports(file, text);
        let others = imports.iter().filter_map(|import| defined_in(import));
        (file.clone(), others.filter(|other| other != file).collect())
    });
    edges.collect()
}

/// A shortest way from a file through its imports back to it.
fn circle(graph: &Graph, start: &str) -> Option<Vec<String>> {
    let mut ways = VecDeque::from([vec![start.to_owned()]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for next in &graph[way.last()?] {
            let mut longer = way.clone();
            longer.push(next.clone());
            if next == start {
                return Some(longer);
            }
            if seen.insert(next) {
                ways.push_back(longer);
            }
        }
    }
    None
}

/// Each circle once, beginning with its alphabetically first file.
fn circles(graph: &Graph) -> Vec<String> {
    let mut known = BTreeSet::new();
    let mut found = Vec::new();
    for way in graph.keys().filter_map(|file| circle(graph, file)) {
        if known.insert(way.iter().cloned().collect::<BTreeSet<_>>()) {
            found.push(way.join(" -> "));
        }
    }
    found
}

#[test]
fn circles_are_found_with_their_files() {
    let files = [
        ("a/mod.rs", "mod b;\npub use b::B;\nuse crate::c::C;"),
        ("a/b.rs", "use super::A;"),
        ("a/d.rs", "use super::b::B;"),
        ("c.rs", "use crate::e::E;"),
        ("e.rs", "// use crate::a::A;\nuse std::fmt;"),
    ];
    let files = files.map(|(file, text)| (file.to_owned(), text.to_owned()));
    let found = circles(&graph(&files));
    assert_eq!(found, ["a/b.rs -> a/mod.rs -> a/b.rs"]);
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let found = circles(&graph(&shipped()));
    assert!(
        found.is_empty(),
        "move what both sides need to the lower one, or to a file below both:\n{}",
        found.join("\n")
    );
}

/// The brace structs of a text that are not plain data, with the number of their fields.
fn structs(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<_> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let indent = &line[..line.len() - line.trim_start().len()];
        let words = line.trim_start();
        let visibility = words.starts_with("pub").then(|| words.find("struct "));
        let after = words.get(visibility.flatten().unwrap_or(0)..);
        let Some(name) = after.and_then(|words| words.strip_prefix("struct ")) else {
            continue;
        };
        let name = name.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        let name = name.take(1).collect::<String>();
        let head = |line: &&&str| !line.ends_with(['{', '}', ';']);
        let head = lines[at..].iter().take_while(head).count();
        if !lines[at + head].ends_with('{') {
            continue;
        }
        let attributes = lines[..at].iter().rev();
        let attributes = attributes.take_while(|line| !line.is_empty() && !line.ends_with('}'));
        let attributes = attributes.filter(|line| !line.trim_start().starts_with("//"));
        let is_plain_data = attributes
            .flat_map(|line| line.split(|c: char| !c.is_alphanumeric()))
            .any(|word| PLAIN_DATA.contains(&word));
        if is_plain_data {
            continue;
        }
        let fields = lines[at + head + 1..].iter();
        let fields = fields.take_while(|line| **line != format!("{indent}}}"));
        let is_field = |line: &&&str| {
            let Some(field) = line
                .strip_prefix(indent)
                .and_then(|line| line.strip_prefix("    "))
            else {
                return false;
            };
            let field = field.split_once(": ").map_or("", |(field, _)| field);
            let name = field.rsplit(' ').next().unwrap_or_default();
            !name.is_empty()
                && name
                    .chars()
                    .all(|c| c.is_lowercase() || c.is_ascii_digit() || c == '_')
        };
        found.push((name, fields.filter(is_field).count()));
    }
    found
}

#[test]
fn fields_are_counted_of_brace_structs_that_are_not_plain_data() {
    let text = "
pub struct Unit;
struct Pair(u8, u8);

/// Of: two.
#[derive(Debug)]
pub(in crate::serve) struct Two<T>
where
    T: Copy,
{
    /// A: field.
    a: T,
    pub(in crate::serve) b_2: [u8; 2],
}

#[derive(Debug, Serialize)]
struct Data {
    a: u8,
}

struct None {}
mod inside {
    struct One {
        a: Vec<(
            u8,
        )>,
    }
}
";
    let expected = [("Two", 2), ("One", 1)].map(|(name, count)| (name.to_owned(), count));
    assert_eq!(structs(text), expected);
}

/// A component is a folder in one of the top modules, such as `control/guard`, or all files of a top module that are in
/// no such folder.
#[test]
fn each_component_has_at_most_one_large_struct() {
    let mut large: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (file, text) in shipped() {
        let parts: Vec<_> = file.split('/').collect();
        let component = parts[..parts.len().saturating_sub(1).min(2)].join("/");
        for (name, count) in structs(&text) {
            if count > MAX_FIELDS {
                let described = format!("{file}: {name} has {count} fields");
                large.entry(component.clone()).or_default().push(described);
            }
        }
    }
    let wrong: Vec<_> = large
        .into_values()
        .filter(|all| all.len() > 1)
        .flatten()
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_has_more_lines_than_permitted() {
    for (file, text) in shipped() {
        let code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
        let lines = text.lines().filter(code).count();
        assert!(lines <= MAX_LINES, "{file} has {lines} lines of code");
    }
}

#[test]
fn paths_are_shown_escaped() {
    for (file, text) in shipped() {
        assert!(
            !text.contains(".display()"),
            "{file}: a file's name may contain escape sequences: use `config::shown`"
        );
        for error in text.split("#[error(").skip(1) {
            let error = error.split(")]\n").next().expect("a part");
            let path = ["{path}", "{dir}"].iter().any(|name| error.contains(name));
            assert!(!path || error.contains(".shown()"), "{file}: {error}");
        }
    }
}
