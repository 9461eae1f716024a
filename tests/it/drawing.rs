//! Checks the drawings of imports in `docs/architecture.md`: they are computed from the imports of the source.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::layering::{graph, shipped};

/// Files and folders of `control/` that know all of its components. They are one node of the drawing.
const LOOP: &[&str] = &["mod", "control_loop", "event", "start", "steps"];

/// The imports of each part from others.
type Parts = BTreeMap<String, BTreeSet<String>>;

/// The imports between parts; `part` names the part that a file belongs to, if it is drawn.
fn parts(part: impl Fn(&str) -> Option<String>) -> Parts {
    let mut parts = Parts::new();
    for (file, imports) in graph(&shipped()) {
        let Some(from) = part(&file) else { continue };
        let others = imports.iter().filter_map(|import| part(import));
        let others = others.filter(|other| *other != from).collect::<Vec<_>>();
        parts.entry(from).or_default().extend(others);
    }
    parts
}

/// A module of the crate. The roots of the library and the binary only call others.
fn module(file: &str) -> Option<String> {
    let module = file.split(['/', '.']).next()?;
    (module != "lib" && module != "main").then(|| module.to_owned())
}

/// A component of the control plane: a folder or a file of `control/`.
fn component(file: &str) -> Option<String> {
    let name = file.strip_prefix("control/")?.split(['/', '.']).next()?;
    let name = if LOOP.contains(&name) { "loop" } else { name };
    Some(name.to_owned())
}

/// Whether `to` can be reached from `from` in at least one step.
fn reaches(parts: &Parts, from: &str, to: &str) -> bool {
    let (mut seen, mut left) = (BTreeSet::new(), vec![from]);
    while let Some(next) = left.pop() {
        for import in &parts[next] {
            if import == to {
                return true;
            }
            if seen.insert(import) {
                left.push(import);
            }
        }
    }
    false
}

/// A drawing in the language of Mermaid. Imports that follow from others are left out: if a part imports another one
/// also through a third, only the longer way is drawn.
fn drawing(parts: &Parts) -> String {
    let mut text = "graph TD\n".to_owned();
    for (from, imports) in parts {
        for to in imports {
            let is_indirect = imports
                .iter()
                .any(|third| third != to && reaches(parts, third, to));
            if !is_indirect {
                writeln!(text, "    {from} --> {to}").expect("memory");
            }
        }
    }
    text
}

fn assert_drawn(title: &str, parts: &Parts) {
    for part in parts.keys() {
        assert!(!reaches(parts, part, part), "{part} is part of a circle");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md");
    let text = fs::read_to_string(path).expect("readable");
    let expected = drawing(parts);
    let section = text.split_once(title).expect("the title").1;
    let drawn = section.split_once("```mermaid\n").expect("a drawing").1;
    let drawn = drawn.split_once("```").expect("its end").0;
    assert_eq!(
        drawn, expected,
        "put this drawing under {title:?} of docs/architecture.md:\n{expected}"
    );
}

#[test]
fn the_drawing_of_modules_shows_the_imports_and_no_circle() {
    assert_drawn("### Modules\n", &parts(module));
}

#[test]
fn the_drawing_of_the_control_plane_shows_the_imports_and_no_circle() {
    assert_drawn("### Components of the control plane\n", &parts(component));
}

#[test]
fn imports_that_follow_from_others_are_not_drawn() {
    let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let parts = [
        ("a".to_owned(), set(&["b", "c"])),
        ("b".to_owned(), set(&["c"])),
        ("c".to_owned(), set(&[])),
    ];
    let mut parts = Parts::from(parts);
    assert_eq!(drawing(&parts), "graph TD\n    a --> b\n    b --> c\n");
    assert!(!reaches(&parts, "a", "a"));
    parts.insert("c".to_owned(), set(&["a"]));
    assert!(reaches(&parts, "a", "a"), "a circle is found");
}
