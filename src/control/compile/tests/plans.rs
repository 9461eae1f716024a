//! Tests of compiling plans in this process: lists and images in, an image out.

use std::fs;
use std::path::Path as FilePath;

use tempfile::TempDir;

use super::super::error::CompileError;
use super::super::plan::{Event, Outcome, Plan, PlanList, Refused};
use super::super::run::compile;
use super::{bits, name, path};
use crate::config::Format;
use crate::config::comments::Comments;
use crate::config::guard::{Limits, Protections};
use crate::control::guard::acceptance::InForce;
use crate::control::guard::protected::ProtectedList;
use crate::control::guard::release::{Guard, Guards};
use crate::control::persist::list_notes::ListNotes;
use crate::control::sources::feeds::fault::Fault;
use crate::control::sources::lists::load::Refusal;
use crate::policy::image::clauses::ClausesBuilder;
use crate::policy::image::path::{Key, Path};
use crate::policy::image::provenance::{ImageSource, Provenance};
use crate::policy::image::text::PairHistogram;
use crate::policy::image::writer::Writer;
use crate::policy::image::{Image, ImageBytes, TooLarge};
use crate::policy::rule::{Kind, Scope};

fn list(folder: &FilePath, name: &str) -> PlanList {
    PlanList {
        name: name.to_owned(),
        path: folder.join(name),
        format: Format::Domains,
        scope: Scope::Exact,
        comments: Comments::default(),
        column: None,
        apex: None,
        transfer: None,
        is_copy: false,
        text: None,
        read: true,
        kind: Kind::Block,
        warn: Protections::NONE,
        released: Guards::NONE,
        before: Vec::new(),
    }
}

pub(super) fn plan(folder: &FilePath, out: &str, lists: &[&str]) -> Plan {
    Plan {
        out: folder.join(out),
        lists: lists.iter().map(|name| list(folder, name)).collect(),
        base: None,
        delta: None,
        strict: false,
        limits: Limits::default(),
        protected_names: ProtectedList::default(),
    }
}

/// A folder with these lists.
pub(super) fn folder(lists: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in lists {
        fs::write(folder.path().join(name), text).expect("written");
    }
    folder
}

pub(super) fn run(plan: &Plan) -> Outcome {
    compile(plan, |_| {}).expect("compiled")
}

pub(super) fn open(path: &FilePath) -> Image {
    Image::open(ImageBytes::Heap(fs::read(path).expect("a file"))).expect("an image")
}

/// The image's rules as `list name`, sorted.
pub(super) fn reported(path: &FilePath) -> Vec<String> {
    let image = open(path);
    let mut cursor = image.cursor();
    let mut rules = Vec::new();
    while cursor.advance() {
        let mut name = Path::ROOT;
        for label in crate::policy::image::path::labels(cursor.path()) {
            name.push(label);
        }
        for rule in cursor.rules() {
            let source = &image.provenance().sources[usize::from(image.source_of(rule))];
            rules.push(format!("{} {}", source.name, name.to_name()));
        }
    }
    rules.sort();
    rules
}

#[test]
fn a_list_that_is_read_replaces_its_old_rules_and_the_others_are_carried_over() {
    let folder = folder(&[
        ("one", "a.example\nb.example\nshared.example\n"),
        (
            "two",
            "c.example\nshared.example\n.wide.example\nx.wide.example\n",
        ),
    ]);
    let at = folder.path();
    let first = plan(at, "first", &["one", "two"]);
    let outcome = run(&first);
    assert_eq!((outcome.given, outcome.rules, outcome.pruned), (7, 6, 1));
    assert_eq!(outcome.lists[1].rules, 4);
    fs::write(at.join("one"), "b.example\nnew.example\n").expect("written");
    fs::remove_file(at.join("two")).expect("there");
    // In another order, with one more.
    let mut second = plan(at, "second", &["two", "three", "one"]);
    second.base = Some(first.out.clone());
    second.lists[0].read = false;
    second.lists[1].text = Some("built.example in vain\nbuilt-in.example\nok.example".to_owned());
    let outcome = run(&second);
    assert_eq!(
        reported(&second.out),
        [
            "one b.example",
            "one new.example",
            "three built-in.example",
            "three ok.example",
            "two c.example",
            "two shared.example",
            "two wide.example",
        ]
    );
    assert_eq!(outcome.lists.iter().map(|list| list.rules).sum::<u64>(), 8);
    let (before, after) = (open(&first.out), open(&second.out));
    assert_eq!(after.key().seed(), before.key().seed());
    let sources = &after.provenance().sources;
    assert_eq!(sources[0], before.provenance().sources[1]);
    let notes = ListNotes::of(&sources[1]).expect("notes");
    assert_eq!((notes.tally.bad_total(), notes.signature), (1, None));
    let notes = ListNotes::of(&sources[2]).expect("notes");
    assert!(notes.signature.is_some());
    let digest = blake3::hash(b"b.example\nnew.example\n").to_string();
    assert_eq!((&sources[2].digest, sources[2].rules), (&digest, 2));
    assert_eq!(ListNotes::of(&ImageSource::named("no notes")), None);
}

#[test]
fn a_refused_list_keeps_its_old_rules_and_says_why() {
    let folder = folder(&[
        ("one", "a.example\nb.example\nc.example\n"),
        ("two", "d.example\n"),
    ]);
    let at = folder.path();
    let first = plan(at, "first", &["one", "two"]);
    run(&first);
    // Many lines, but few distinct names: their number is known only after sorting.
    fs::write(at.join("one"), "z.example\n".repeat(50)).expect("written");
    fs::write(at.join("two"), "/\n/\nd.example\n").expect("written");
    let mut second = plan(at, "second", &["one", "two", "missing"]);
    second.base = Some(first.out.clone());
    second.lists[0].before = vec![InForce {
        rules: 3,
        signature: None,
        released: Guards::NONE,
        ended: false,
        format: None,
    }];
    let outcome = run(&second);
    let kept = [
        "one a.example",
        "one b.example",
        "one c.example",
        "two d.example",
    ];
    assert_eq!(reported(&second.out), kept);
    let refused = |number: usize| {
        let refused = outcome.lists[number].refused.as_ref().expect("refused");
        refused.to_string()
    };
    assert!(
        refused(0).contains("1 rule, 67 % fewer than the 3 in force"),
        "{}",
        refused(0)
    );
    assert!(
        refused(1).contains("2 of 3 lines are bad"),
        "{}",
        refused(1)
    );
    assert!(refused(2).contains("must exist"), "{}", refused(2));
    assert_eq!(outcome.given, 4);
    assert_eq!(open(&second.out).provenance().sources[2].digest, "");
    second.lists.pop();
    second.lists[0].released = Guard::Shrunk.into();
    second.lists[1].released = Guard::Bad.into();
    run(&second);
    assert_eq!(reported(&second.out), ["one z.example", "two d.example"]);
}

#[test]
fn data_that_is_too_large_is_a_fault_of_the_primary_whichever_process_reads_it() {
    let refusal = |source| Refusal::TooLarge {
        path: "zone:rpz.example".into(),
        source,
    };
    for (source, fault) in [
        (TooLarge::Data, Some(Fault::TooLarge)),
        (TooLarge::Sources, None),
    ] {
        let refusal = refusal(source);
        assert_eq!(refusal.fault(), fault);
        let sent = serde_json::to_string(&Refused::from(&refusal)).expect("JSON");
        let received: Refused = serde_json::from_str(&sent).expect("valid");
        assert_eq!(Refusal::from(received).fault(), fault);
    }
}

#[test]
fn a_strict_plan_with_a_refused_list_changes_no_file() {
    let folder = folder(&[("one", "a.example\n"), ("image", "old")]);
    let mut plan = plan(folder.path(), "image", &["one", "missing"]);
    plan.strict = true;
    let refused = compile(&plan, |_| {}).expect_err("one is missing");
    let CompileError::Refused(lists) = refused else {
        panic!("{refused}")
    };
    assert!(lists[0].refused.is_none() && lists[1].refused.is_some());
    assert_eq!(fs::read(&plan.out).expect("there"), b"old");
    let left = fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(left, 2, "nothing half-written is left");
}

#[test]
fn a_delta_is_merged_into_its_base() {
    let folder = folder(&[
        ("one", "a.example\nb.example\n"),
        ("two", "c.example\nd.example\n"),
        ("three", "f.example\n"),
    ]);
    let at = folder.path();
    let mut next = plan(at, "next", &["one", "two", "three"]);
    let first = plan(at, "first", &["one", "two", "three"]);
    run(&first);
    // The delta has another key than the base.
    let key = Key::random();
    let sources = [("two", 2), ("three", 0), ("gone", 1)].map(|(name, rules)| ImageSource {
        rules,
        ..ImageSource::named(name)
    });
    let mut rules = [
        ("e.example", bits(0, Scope::Exact)),
        ("c.example", bits(0, Scope::Exact)),
        ("g.example", bits(2, Scope::Exact)),
    ]
    .map(|(text, rule)| (path(&name(text)), rule));
    rules.sort_by(|(one, _), (other, _)| key.compare(one, other));
    let file = fs::File::create(at.join("delta")).expect("made");
    let mut writer = Writer::new(
        file,
        key,
        PairHistogram::default(),
        ClausesBuilder::of_sources(3),
    )
    .expect("written");
    for (path, rule) in &rules {
        writer.push(path, &[*rule]).expect("written");
    }
    let provenance = Provenance {
        sources: sources.to_vec(),
        ..Provenance::default()
    };
    writer.finish(&provenance).expect("written");
    next.base = Some(first.out.clone());
    next.delta = Some(at.join("delta"));
    for list in &mut next.lists {
        list.read = false;
    }
    let outcome = run(&next);
    let expected = [
        "one a.example",
        "one b.example",
        "two c.example",
        "two e.example",
    ];
    assert_eq!(reported(&next.out), expected);
    assert_eq!((outcome.given, outcome.rules), (4, 4));
    // A list that is read has no rules from the delta.
    next.lists[1].read = true;
    run(&next);
    let expected = [
        "one a.example",
        "one b.example",
        "two c.example",
        "two d.example",
    ];
    assert_eq!(reported(&next.out), expected);
}

#[test]
fn rules_that_can_not_be_carried_over_are_reported() {
    let folder = folder(&[("one", "a.example\n"), ("damaged", "no image")]);
    let at = folder.path();
    let mut plan = plan(at, "image", &["one"]);
    plan.lists[0].read = false;
    let nowhere = compile(&plan, |_| {}).expect_err("no base");
    assert!(nowhere.to_string().contains("it must be read"), "{nowhere}");
    for (base, reason) in [("damaged", "not an image"), ("missing", "No such file")] {
        plan.base = Some(at.join(base));
        let error = compile(&plan, |_| {}).expect_err("no image");
        assert!(error.to_string().contains(reason), "{error}");
        assert!(
            error.to_string().contains("every list must be read"),
            "{error}"
        );
    }
}

#[test]
fn a_thousand_lists_may_have_the_same_names_and_the_reading_of_each_is_reported() {
    let folder = folder(&[("one", "a.example\nb.example\n")]);
    let mut plan = plan(folder.path(), "image", &[]);
    for number in 0..1000 {
        plan.lists.push(PlanList {
            name: format!("list {number}"),
            ..list(folder.path(), "one")
        });
    }
    let mut events = Vec::new();
    let outcome = compile(&plan, |event| events.push(event)).expect("compiled");
    assert_eq!((outcome.given, outcome.rules), (2000, 2000));
    assert_eq!(reported(&plan.out).len(), 2000);
    let read = |event: &Event| {
        matches!(
            event,
            Event::Reading {
                bytes: 20,
                of: 20,
                ..
            }
        )
    };
    assert_eq!(events.iter().filter(|event| read(event)).count(), 1000);
    assert_eq!(events.last(), Some(&Event::Writing { names: 2, of: 2000 }));
    for event in events.into_iter().chain([Event::Done(outcome)]) {
        let text = serde_json::to_string(&event).expect("JSON");
        assert_eq!(
            serde_json::from_str::<Event>(&text).expect("the same"),
            event
        );
    }
}

#[test]
fn a_plan_and_the_problems_of_lines_are_the_same_after_json() {
    let folder = folder(&[]);
    let plan = plan(folder.path(), "image", &["one"]);
    let text = serde_json::to_string(&plan).expect("JSON");
    assert_eq!(serde_json::from_str::<Plan>(&text).expect("the same"), plan);
    let bad = r#"[{"name":"empty-label"},"hosts-line","long-line"]"#;
    let read: Vec<crate::control::list_file::parse::Bad> =
        serde_json::from_str(bad).expect("known names");
    assert_eq!(serde_json::to_string(&read).expect("JSON"), bad);
}
