//! Owns the tests of sorting, merging and whole plans, each beside a simple twin.
//! Refuses processes: the integration tests start some.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path as FilePath;

use proptest::prelude::*;
use tempfile::TempDir;

use super::merge::{Carried, Cursor, Merge, change};
use super::plan::{Event, ListNotes, Outcome, Plan, PlanList};
use super::run::{CompileError, compile};
use super::sort::{Budget, Sorter};
use crate::config::Format;
use crate::policy::image::order::{Key, Path};
use crate::policy::image::provenance::{ImageSource, Provenance};
use crate::policy::image::text::Census;
use crate::policy::image::values::{ImageRule, flag};
use crate::policy::image::writer::Writer;
use crate::policy::image::{Image, ImageError, Octets, WriteError};
use crate::policy::rule::Scope;
use crate::wire::name::Name;

/// Rules by path, in no special order.
type Twin = BTreeMap<Vec<u8>, BTreeSet<u32>>;

fn name(text: &str) -> Name {
    Name::from_text(text).expect("a name")
}

fn path(name: &Name) -> Vec<u8> {
    Path::from(name).octets().to_vec()
}

fn bits(source: u16, flags: u8, scope: Scope) -> u32 {
    ImageRule {
        source,
        flags,
        scope,
    }
    .to_bits()
}

/// The twin's names in the order of the key.
fn in_order(twin: &Twin, key: &Key) -> Vec<(Vec<u8>, Vec<u32>)> {
    let mut names: Vec<_> = twin
        .iter()
        .filter(|(_, rules)| !rules.is_empty())
        .map(|(path, rules)| (path.clone(), rules.iter().copied().collect()))
        .collect();
    names.sort_by(|(one, _), (other, _)| key.compare(one, other));
    names
}

/// A key, and two labels that it gives the hash 0: their upper halves cancel the key's own.
fn colliding() -> (Key, Vec<String>) {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    const PI: u64 = 0x2437_54A8_885A_308D;
    let high = |seed: u64| {
        let product = u128::from(seed ^ GOLDEN) * u128::from(PI);
        (product as u64 ^ (product >> 64) as u64).to_le_bytes()
    };
    let mut seeds = 0..;
    let lower = |seed: &u64| high(*seed).iter().all(|octet| !octet.is_ascii_uppercase());
    let seed = seeds.find(lower).expect("most seeds");
    let key = Key::new(seed);
    let labels = [b"aaaaaaaa", b"bbbbbbbb", b"cccccccc"].map(|low| {
        let octets = [&low[..], &high(seed)].concat();
        octets.iter().map(|octet| format!("\\{octet:03}")).collect()
    });
    for label in &labels {
        let name: &String = label;
        let path = path(&Name::from_text(name).expect("a label"));
        assert_eq!(key.hash(&path[1..]), 0);
    }
    (key, labels.to_vec())
}

/// Names that nest, share beginnings, and have labels with one hash.
fn names() -> impl Strategy<Value = Name> {
    let labels = colliding().1;
    let label = prop_oneof![
        6 => prop::sample::select(vec!["a", "b", "aa", "com", "x-y", "_t", "seven77", "eight888"])
            .prop_map(str::to_owned),
        2 => prop::sample::select(labels),
        1 => Just("z".repeat(63)),
        1 => "[a-c]{15,18}",
    ];
    prop::collection::vec(label, 0..6).prop_map(|labels| {
        let text = if labels.is_empty() {
            ".".to_owned()
        } else {
            labels.join(".")
        };
        Name::from_text(&text).unwrap_or(Name::ROOT)
    })
}

fn scopes() -> impl Strategy<Value = Scope> {
    prop::sample::select(vec![Scope::Exact, Scope::Subtree, Scope::Below])
}

/// Nothing to carry over.
struct Nothing;

impl Cursor for Nothing {
    fn advance(&mut self) -> Result<bool, ImageError> {
        Ok(false)
    }

    fn path(&self) -> &[u8] {
        &[]
    }

    fn rules(&self, _: &mut Vec<ImageRule>) {}
}

/// Rules in order, in memory.
struct Listed {
    names: Vec<(Vec<u8>, Vec<u32>)>,
    next: usize,
}

impl Cursor for Listed {
    fn advance(&mut self) -> Result<bool, ImageError> {
        self.next += 1;
        Ok(self.next <= self.names.len())
    }

    fn path(&self) -> &[u8] {
        self.names.get(self.next - 1).map_or(&[], |name| &name.0)
    }

    fn rules(&self, into: &mut Vec<ImageRule>) {
        let rules = self.names[self.next - 1].1.iter();
        into.extend(rules.filter_map(|rule| ImageRule::from_bits(*rule)));
    }
}

/// Sorts with that budget; returns how many runs it took, names with rules, and counts.
#[expect(clippy::type_complexity, reason = "what a test compares, once")]
fn sorted<C: Cursor>(
    key: &Key,
    budget: Budget,
    rules: &[(Name, u32)],
    base: Option<Carried<C>>,
    left_out: &[bool],
) -> (usize, Vec<(Vec<u8>, Vec<u32>)>, Vec<u64>) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut sorter = Sorter::new(key.clone(), budget, folder.path()).expect("room");
    for (name, rule) in rules {
        sorter.push(name, *rule).expect("taken");
    }
    let sorted = sorter.finish().expect("sorted");
    let left = fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(left, 0, "the file has no name");
    let mut names = Vec::new();
    let merge = Merge::new(key, sorted.runs(), base, left_out).expect("read");
    let counts = merge.each(|path, rules| {
        names.push((path.to_vec(), rules.to_vec()));
        Ok::<_, WriteError>(())
    });
    (sorted.runs().len(), names, counts.expect("read"))
}

proptest! {
    #[test]
    fn many_runs_and_one_give_what_the_twin_gives(
        rules in prop::collection::vec((names(), 0..3_u16, scopes()), 0..200),
        room in 1..40_usize,
        octets in 0..600_usize,
    ) {
        let key = colliding().0;
        let rules: Vec<_> = rules
            .into_iter()
            .map(|(name, source, scope)| (name, bits(source, 0, scope)))
            .collect();
        let mut twin = Twin::new();
        for (name, rule) in &rules {
            twin.entry(path(name)).or_default().insert(*rule);
        }
        let mut counts = [0; 3];
        for rule in twin.values().flatten() {
            counts[(rule >> 16) as usize] += 1;
        }
        let expected = in_order(&twin, &key);
        for budget in [Budget { rules: room, octets }, Budget { rules: 1000, octets: 100_000 }] {
            let found = sorted::<Nothing>(&key, budget, &rules, None, &[false; 3]);
            prop_assert!(found.0 > 1 || rules.len() <= budget.rules);
            prop_assert_eq!(&found.1, &expected);
            prop_assert_eq!(&found.2, &counts);
        }
    }

    #[test]
    fn what_is_carried_over_is_what_the_twin_carries_over(
        read in prop::collection::vec((names(), 0..4_u16, scopes()), 0..40),
        base in prop::collection::vec((names(), 0..4_u16, scopes()), 0..60),
        delta in prop::collection::vec((names(), 0..4_u16, scopes(), any::<bool>()), 0..40),
        // For each list: read, read and refused, carried over, carried over from a whole delta.
        kinds in prop::collection::vec(0..4_u8, 4),
        // What each list's number was in the image.
        turn in 0..4_u16,
        room in 1..40_usize,
    ) {
        let key = colliding().0;
        let old = |source: u16| (source + turn) % 4;
        let kind = |source: u16| kinds[usize::from(source)];
        let mut twin = Twin::new();
        let mut base_twin = Twin::new();
        for (name, source, scope) in &base {
            base_twin.entry(path(name)).or_default().insert(bits(old(*source), 0, *scope));
            if matches!(kind(*source), 1 | 2) {
                twin.entry(path(name)).or_default().insert(bits(*source, 0, *scope));
            }
        }
        let mut rules = Vec::new();
        // What is lifted and there is there.
        let (lifts, adds): (Vec<_>, Vec<_>) = delta.into_iter().partition(|(.., lifted)| *lifted);
        for (name, source, scope, lifted) in lifts.into_iter().chain(adds) {
            let flags = if lifted { flag::LIFTED } else { 0 };
            rules.push((name.clone(), change(ImageRule { source, flags, scope })));
            let rules = twin.entry(path(&name)).or_default();
            match (kind(source), lifted) {
                (0, _) => false,
                (_, true) => rules.remove(&bits(source, 0, scope)),
                (_, false) => rules.insert(bits(source, 0, scope)),
            };
        }
        let mut counts = vec![BTreeSet::new(); 4];
        for (name, source, scope) in read.iter().filter(|(_, source, _)| kind(*source) < 2) {
            let rule = bits(*source, 0, *scope);
            rules.push((name.clone(), rule));
            counts[usize::from(*source)].insert((path(name), rule));
            if kind(*source) == 0 {
                twin.entry(path(name)).or_default().insert(rule);
            }
        }
        let sources = (0..4).map(|number| (0..4).find(|source| old(*source) == number));
        // What was read, and what the delta holds whole, is not carried over from the base.
        let sources = sources.map(|source| source.filter(|source| matches!(kind(*source), 1 | 2)));
        let base = Carried {
            cursor: Listed { names: in_order(&base_twin, &key), next: 0 },
            sources: sources.collect(),
        };
        let left_out: Vec<_> = kinds.iter().map(|kind| *kind != 0).collect();
        let budget = Budget { rules: room, octets: 1000 };
        let found = sorted(&key, budget, &rules, Some(base), &left_out);
        prop_assert_eq!(found.1, in_order(&twin, &key));
        let counts: Vec<_> = counts.iter().map(|rules| rules.len() as u64).collect();
        prop_assert_eq!(found.2, counts);
    }
}

#[test]
fn crowds_on_one_name_one_parent_or_one_way_are_sorted() {
    let deep = "a.".repeat(126);
    let crowd = |make: &dyn Fn(u32) -> String| {
        let names = (0..5000_u32).map(|number| (name(&make(number * 7919 % 5000)), 0));
        names.collect::<Vec<_>>()
    };
    let key = Key::random();
    for (rules, distinct) in [
        (crowd(&|_| "one.example".to_owned()), 1),
        (crowd(&|number| format!("x{number}.y.example")), 5000),
        (crowd(&|number| format!("same.same.x{number}")), 5000),
        (crowd(&|number| format!("x.y{number}")), 5000),
        (
            crowd(&|number| deep[..2 * (number as usize % 126) + 2].to_owned()),
            126,
        ),
    ] {
        for room in [700, 10_000] {
            let budget = Budget {
                rules: room,
                octets: 1 << 20,
            };
            let (_, names, counts) = sorted::<Nothing>(&key, budget, &rules, None, &[false]);
            assert_eq!((names.len(), counts), (distinct, vec![distinct as u64]));
            let sorted = names.is_sorted_by(|(one, _), (other, _)| key.compare(one, other).is_lt());
            assert!(sorted);
        }
    }
}

fn list(folder: &FilePath, name: &str) -> PlanList {
    PlanList {
        name: name.to_owned(),
        path: folder.join(name),
        format: Format::Domains,
        scope: Scope::Exact,
        text: None,
        read: true,
        accept: false,
        before: None,
    }
}

fn plan(folder: &FilePath, out: &str, lists: &[&str]) -> Plan {
    Plan {
        out: folder.join(out),
        lists: lists.iter().map(|name| list(folder, name)).collect(),
        base: None,
        delta: None,
        strict: false,
    }
}

/// A folder with these lists.
fn folder(lists: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in lists {
        fs::write(folder.path().join(name), text).expect("written");
    }
    folder
}

fn run(plan: &Plan) -> Outcome {
    compile(plan, |_| {}).expect("compiled")
}

fn open(path: &FilePath) -> Image {
    Image::open(Octets::Heap(fs::read(path).expect("a file"))).expect("an image")
}

/// The image's rules as `list name`, sorted.
fn told(path: &FilePath) -> Vec<String> {
    let image = open(path);
    let mut cursor = image.cursor();
    let mut rules = Vec::new();
    while cursor.advance() {
        let mut name = Path::ROOT;
        for label in crate::policy::image::order::labels(cursor.path()) {
            name.push(label);
        }
        for rule in cursor.rules() {
            let source = &image.provenance().sources[usize::from(rule.source)];
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
        told(&second.out),
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
    // Many lines, and two names: only sorting tells.
    fs::write(at.join("one"), "z.example\n".repeat(50)).expect("written");
    fs::write(at.join("two"), "/\n/\nd.example\n").expect("written");
    let mut second = plan(at, "second", &["one", "two", "missing"]);
    second.base = Some(first.out.clone());
    second.lists[0].before = Some(3);
    let outcome = run(&second);
    let kept = [
        "one a.example",
        "one b.example",
        "one c.example",
        "two d.example",
    ];
    assert_eq!(told(&second.out), kept);
    let refused = |number: usize| {
        let refused = outcome.lists[number].refused.as_ref().expect("refused");
        refused.to_string()
    };
    assert!(
        refused(0).contains("1 rules, less than half of the 3 in force"),
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
    second.lists[0].accept = true;
    second.lists[1].accept = true;
    run(&second);
    assert_eq!(told(&second.out), ["one z.example", "two d.example"]);
}

#[test]
fn all_or_nothing_leaves_what_is_there() {
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
    ]);
    let at = folder.path();
    let mut next = plan(at, "next", &["one", "two"]);
    let first = plan(at, "first", &["one", "two"]);
    run(&first);
    // Its key is another one.
    let key = Key::random();
    let sources =
        [("two", true), ("one", false), ("gone", true)].map(|(name, whole)| ImageSource {
            whole,
            rules: 2,
            ..ImageSource::named(name)
        });
    let mut rules = [
        ("e.example", bits(0, 0, Scope::Exact)),
        ("a.example", bits(1, flag::LIFTED, Scope::Exact)),
        ("f.example", bits(1, 0, Scope::Exact)),
        ("g.example", bits(2, 0, Scope::Exact)),
    ]
    .map(|(text, rule)| (path(&name(text)), rule));
    rules.sort_by(|(one, _), (other, _)| key.compare(one, other));
    let file = fs::File::create(at.join("delta")).expect("made");
    let mut writer = Writer::new(file, key, Census::default()).expect("written");
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
    next.lists[0].read = false;
    next.lists[1].read = false;
    let outcome = run(&next);
    let expected = ["one b.example", "one f.example", "two e.example"];
    assert_eq!(told(&next.out), expected);
    assert_eq!((outcome.given, outcome.rules), (4, 3));
    // What is read counts, and nothing that changed it.
    next.lists[0].read = true;
    run(&next);
    let expected = ["one a.example", "one b.example", "two e.example"];
    assert_eq!(told(&next.out), expected);
}

#[test]
fn what_can_not_be_carried_over_is_told() {
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
fn one_name_may_be_in_a_thousand_lists_and_each_is_told_when_it_is_read() {
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
    assert_eq!(told(&plan.out).len(), 2000);
    let read = |event: &Event| {
        matches!(
            event,
            Event::Reading {
                octets: 20,
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
fn the_plan_and_the_problems_of_lines_survive_their_way_through_json() {
    let folder = folder(&[]);
    let plan = plan(folder.path(), "image", &["one"]);
    let text = serde_json::to_string(&plan).expect("JSON");
    assert_eq!(serde_json::from_str::<Plan>(&text).expect("the same"), plan);
    let bad = r#"[{"name":"empty-label"},"hosts-line","long-line"]"#;
    let read: Vec<crate::control::lists::Bad> = serde_json::from_str(bad).expect("known names");
    assert_eq!(serde_json::to_string(&read).expect("JSON"), bad);
}
