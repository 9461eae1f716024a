//! Public lists, which are no part of the project: one family of names in six formats, and a large list in two.
//! `TAPIS_DATA_DIR=FOLDER cargo test --test it real_lists` reads them from `FOLDER/formats`, and other names from
//! `FOLDER/names.txt.xz`. Files that end with `.xz` need the program `xz`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tapis::config::Format;
use tapis::control::list_file::parse::{self, Notation, ParsedTrigger};
use tapis::policy::decide::Decision;
use tapis::policy::effect::Effect;
use tapis::policy::rule::Scope;
use tapis::policy::snapshot::Snapshot;
use tapis::wire::name::Name;

use crate::support::client::until;
use crate::support::policy;
use crate::support::server::{Server, list, preamble, text};
use crate::support::upstream::Upstream;

/// A file of the folder.
struct File {
    list: &'static str,
    path: &'static str,
    format: Format,
    /// How its lines with a rule begin and end.
    line: (&'static str, &'static str),
    rules: usize,
}

const fn file(
    list: &'static str,
    path: &'static str,
    format: Format,
    line: (&'static str, &'static str),
    rules: usize,
) -> File {
    File {
        list,
        path,
        format,
        line,
        rules,
    }
}

/// The family: names alone, and names with those below them.
const EXACT: [File; 2] = [
    file(
        "domains",
        "adaway.domains.txt",
        Format::Domains,
        ("", ""),
        7_648,
    ),
    file(
        "hosts",
        "adaway.hosts.txt",
        Format::Hosts,
        ("0.0.0.0 ", ""),
        7_648,
    ),
];
const SUBTREES: [File; 4] = [
    file(
        "adblock",
        "adaway.adblock.txt",
        Format::Adblock,
        ("||", "^"),
        4_456,
    ),
    file(
        "dnsmasq",
        "adaway.dnsmasq.txt",
        Format::Dnsmasq,
        ("address=/", "/#"),
        4_456,
    ),
    file(
        "unbound",
        "adaway.unbound.conf",
        Format::Unbound,
        ("local-zone: \"", ".\" always_null"),
        4_456,
    ),
    file(
        "wildcard",
        "adaway.wildcard.txt",
        Format::Wildcard,
        ("*.", ""),
        4_456,
    ),
];
/// The large list. One rule of the first form is on a public suffix.
const LARGE: [File; 2] = [
    file(
        "large-adblock",
        "adguarddns.adblock.txt.xz",
        Format::Adblock,
        ("||", "^"),
        82_473,
    ),
    file(
        "large-hosts",
        "adguarddns.hosts.txt.xz",
        Format::Hosts,
        ("0.0.0.0 ", ""),
        123_962,
    ),
];
const PUBLIC_SUFFIX: &str = "net.kg";
/// The number of names that decisions are compared for.
const NAMES: usize = 100_000;

impl File {
    /// The names in its lines, found without the parsers.
    fn names(&self, text: &str) -> BTreeSet<String> {
        let (start, end) = self.line;
        let lines = text.lines().filter(|line| !line.starts_with(['#', '!']));
        let names = lines.filter_map(|line| line.strip_prefix(start)?.strip_suffix(end));
        let names = names.filter(|name| !name.is_empty());
        names.map(str::to_ascii_lowercase).collect()
    }
}

/// The folder, and the texts of the files; `None` with a message if there are none.
struct Data {
    folder: PathBuf,
}

impl Data {
    fn find() -> Option<Self> {
        let Some(folder) = std::env::var_os("TAPIS_DATA_DIR") else {
            eprintln!("TAPIS_DATA_DIR is not set: public lists were not read");
            return None;
        };
        if Command::new("xz").arg("--version").output().is_err() {
            eprintln!("xz is not installed: public lists were not read");
            return None;
        }
        Some(Self {
            folder: folder.into(),
        })
    }

    fn text(&self, file: &File) -> String {
        unpacked(&self.folder.join("formats").join(file.path))
    }

    /// All names of `names`, the names above them and names below them, and as many others as are missing from [`NAMES`].
    fn probes(&self, names: &BTreeSet<String>) -> Vec<Name> {
        let mut probes = BTreeSet::new();
        for name in names {
            let above = name.split_once('.').map(|(_, above)| above.to_owned());
            probes.extend(above);
            probes.insert(format!("x-1.{name}"));
            probes.insert(format!("www.y.{name}"));
            probes.insert(name.clone());
        }
        let others = unpacked(&self.folder.join("names.txt.xz"));
        let missing = NAMES.saturating_sub(probes.len());
        let step = others.lines().count() / missing.max(1);
        let others = others.lines().step_by(step.max(1));
        probes.extend(others.map(str::to_owned));
        assert!(probes.len() >= NAMES, "{}", probes.len());
        let name = |text: &String| Name::from_text(text).expect("a name");
        probes.iter().map(name).collect()
    }
}

fn unpacked(path: &Path) -> String {
    if path.extension().is_none_or(|end| end != "xz") {
        return fs::read_to_string(path).expect("a text");
    }
    let output = Command::new("xz").arg("-dc").arg(path).output();
    let Output { status, stdout, .. } = output.expect("xz runs");
    assert!(status.success(), "{}", path.display());
    String::from_utf8(stdout).expect("a text")
}

/// The policy of a list alone, without the guards, and the number of its rules.
fn loaded(format: Format, text: &str) -> (Snapshot, usize) {
    let notation = Notation {
        format,
        ..Notation::default()
    };
    let mut rules: Vec<(Name, Scope, Effect)> = Vec::new();
    let tally = parse::read(text.as_bytes(), notation, None, |rule| {
        let ParsedTrigger::Name(name, scope) = rule.trigger else {
            panic!("{:?}", rule.trigger);
        };
        if scope != Scope::Subtree || name.to_string() != PUBLIC_SUFFIX {
            let effect = rule.effect.cloned().unwrap_or_default();
            rules.push((name.clone(), scope, effect));
        }
    });
    assert_eq!(tally.bad_total(), 0, "{:?}", tally.first);
    let count = rules.len();
    let rules = rules.iter();
    let rules = rules.map(|(name, scope, effect)| (name, *scope, effect.clone()));
    (policy::snapshot_with_effects("127.0.0.0/8", rules), count)
}

/// The names about which two policies decide differently, as texts: those that the first one alone blocks, and those that
/// the second one alone blocks.
fn differences(one: &Snapshot, other: &Snapshot, probes: &[Name]) -> [Vec<String>; 2] {
    let mut differences = [Vec::new(), Vec::new()];
    for name in probes {
        let blocks = [one, other].map(|policy| {
            let decision = policy.decide(name);
            matches!(decision, Decision::Blocked { .. })
        });
        if blocks[0] != blocks[1] {
            differences[usize::from(blocks[1])].push(name.to_string());
        }
    }
    differences
}

/// A server that has loaded these files.
fn server(data: &Data, upstream: &Upstream, files: &[&File]) -> Server {
    let mut config = preamble(upstream.address);
    let mut texts = Vec::new();
    for file in files {
        config += &list(file.list, &format!("format = \"{}\"", file.format.word()));
        texts.push((file.list, data.text(file)));
    }
    let texts: Vec<_> = texts
        .iter()
        .map(|(name, text)| (*name, text.as_str()))
        .collect();
    let server = Server::start(&config, &texts);
    until("all lists are loaded", || {
        let status = server.status();
        let lists = status["lists"].as_array().expect("lists");
        lists.iter().all(|list| list["rules"] != 0)
    });
    server
}

/// Exports a list, which must succeed, and loads the text.
fn exported(server: &Server, file: &File, format: Format) -> (Snapshot, usize) {
    let path = server.path(&format!("{}.exported", file.list));
    let output = format!("--output={}", path.display());
    let written = server.verb(&["export", file.list, "--format", format.word(), &output]);
    assert!(written.status.success(), "{}", text(&written));
    loaded(format, &fs::read_to_string(&path).expect("readable"))
}

/// The format in which a list of this format is exported. There is none for lists of wildcards, whose rules `domains` has, too.
fn own(format: Format) -> Format {
    match format {
        Format::Wildcard => Format::Domains,
        format => format,
    }
}

#[test]
fn the_forms_of_a_family_have_its_names_and_decide_alike() {
    let Some(data) = Data::find() else { return };
    let loaded = |file: &File| {
        let text = data.text(file);
        let (policy, rules) = loaded(file.format, &text);
        let names = file.names(&text);
        assert_eq!(
            (rules, names.len()),
            (file.rules, file.rules),
            "{}",
            file.path
        );
        (policy, names)
    };
    let exact = EXACT.each_ref().map(loaded);
    let subtrees = SUBTREES.each_ref().map(loaded);
    let probes = data.probes(&exact[0].1);
    let none = [Vec::<String>::new(), Vec::new()];
    assert_eq!(differences(&exact[0].0, &exact[1].0, &probes), none);
    for (policy, _) in &subtrees[1..] {
        assert_eq!(differences(&subtrees[0].0, policy, &probes), none);
    }
    // Subtrees also have the names below those of the list, and no form has others.
    let [only_exact, only_subtrees] = differences(&exact[0].0, &subtrees[0].0, &probes);
    assert_eq!(only_exact, none[0]);
    let is_below = |name: &String| {
        let mut above = name.match_indices('.').map(|(at, _)| &name[at + 1..]);
        above.any(|above| subtrees[0].1.contains(above))
    };
    assert!(!only_subtrees.is_empty() && only_subtrees.iter().all(is_below));
    assert!(only_subtrees.iter().all(|name| !exact[0].1.contains(name)));
}

#[test]
fn a_large_list_has_the_same_names_in_two_forms_apart_from_some_below_www() {
    let Some(data) = Data::find() else { return };
    let [subtrees, exact] = LARGE.each_ref().map(|file| (file, data.text(file)));
    let names = |(file, text): &(&File, String)| file.names(text);
    let (in_subtrees, in_exact) = (names(&subtrees), names(&exact));
    assert_eq!(in_subtrees.len(), subtrees.0.rules);
    assert_eq!(in_exact.len(), exact.0.rules);
    let load = |(file, text): &(&File, String)| loaded(file.format, text);
    let ((subtrees, subtree_rules), (exact, exact_rules)) = (load(&subtrees), load(&exact));
    assert_eq!(
        subtree_rules,
        LARGE[0].rules - 1,
        "without the public suffix"
    );
    assert_eq!(exact_rules, LARGE[1].rules);
    let probes: Vec<_> = in_exact
        .iter()
        .map(|name| Name::from_text(name).expect("a name"))
        .collect();
    let [only_exact, only_subtrees] = differences(&exact, &subtrees, &probes);
    assert_eq!(only_subtrees, Vec::<String>::new());
    // The file with subtrees lacks some `www.x`, although x is in neither file.
    let left_out: Vec<_> = only_exact
        .iter()
        .filter(|name| !name.ends_with(PUBLIC_SUFFIX))
        .collect();
    assert_eq!(left_out.len(), 53);
    assert!(
        left_out.iter().all(|name| name.starts_with("www.")),
        "{left_out:?}"
    );
    assert!(in_subtrees.is_subset(&in_exact));
}

#[test]
fn exported_lists_have_the_same_rules_and_decide_alike() {
    let Some(data) = Data::find() else { return };
    let upstream = Upstream::plain();
    let files: Vec<_> = EXACT.iter().chain(&SUBTREES).chain(&LARGE).collect();
    let server = server(&data, &upstream, &files);
    let status = server.status();
    let none = [Vec::<String>::new(), Vec::new()];
    let family = EXACT[0].names(&data.text(&EXACT[0]));
    let probes = data.probes(&family);
    for (place, file) in files.iter().enumerate() {
        let suppressed = usize::from(file.list == "large-adblock");
        let rules = file.rules - suppressed;
        assert_eq!(status["lists"][place]["rules"], rules, "{}", file.path);
        let (original, _) = loaded(file.format, &data.text(file));
        let (policy, count) = exported(&server, file, own(file.format));
        assert_eq!(count, rules, "{}", file.path);
        assert_eq!(
            differences(&original, &policy, &probes),
            none,
            "{}",
            file.path
        );
    }
    // Each format that has subtrees gives back those of another one.
    let (original, _) = loaded(SUBTREES[0].format, &data.text(&SUBTREES[0]));
    for format in [Format::Domains, Format::Dnsmasq, Format::Unbound] {
        let (policy, count) = exported(&server, &SUBTREES[0], format);
        assert_eq!(count, SUBTREES[0].rules);
        assert_eq!(differences(&original, &policy, &probes), none, "{format:?}");
    }
    for (list, format, reason) in [
        ("adblock", "hosts", "4456 on a name and all names below it"),
        ("hosts", "dnsmasq", "7648 on a name without those below it"),
    ] {
        let output = server.verb(&["export", list, "--format", format]);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output).contains(reason), "{list} as {format}");
    }
    server.assert_well();
}
