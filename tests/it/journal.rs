//! The journal of a running server: the changes, their causes, and whether it was tampered with.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::{Value, json};
use tapis::wire::rtype;

use crate::feeds::{self, Versions, ZONE, blocks};
use crate::history::settled;
use crate::orders::{PAST, order, target};
use crate::support::client::{is_blocked, until};
use crate::support::primary::{Rr, cname};
use crate::support::server::{Server, folder, list, preamble, tapis, text};
use crate::support::upstream::Upstream;

/// A configuration with a state directory, which contains the journal, and a directory of orders.
fn configuration(upstream: &Upstream) -> String {
    format!(
        "{}[state]\ndir = \"state\"\n[orders]\npath = \"orders\"\n{}",
        preamble(upstream.address),
        list("ads", "")
    )
}

fn server() -> (Server, Upstream) {
    let upstream = Upstream::plain();
    let folder = folder(&configuration(&upstream), &[("ads", "ads.example\n")]);
    fs::create_dir(folder.path().join("orders")).expect("made");
    (Server::start_in(folder), upstream)
}

fn write_order(server: &Server, id: &str, name: &str) {
    let text = order(id, PAST, &target(name, "exact"));
    server.replace(&format!("orders/{id}.toml"), &text);
}

/// All entries, as `journal export` prints them.
fn entries(server: &Server, more: &[&str]) -> Vec<Value> {
    let output = server.verb(&[&["journal", "export"], more].concat());
    assert!(output.status.success(), "{}", text(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The causes of all generations, in order.
fn causes(server: &Server) -> Vec<Value> {
    let entries = entries(server, &[]);
    let published = entries.iter().filter(|entry| entry["event"] == "published");
    let causes = published.flat_map(|entry| entry["causes"].as_array().expect("an array"));
    causes.cloned().collect()
}

fn verify(server: &Server) -> String {
    text(&server.verb(&["journal", "verify"]))
}

#[test]
fn every_change_of_the_policy_is_in_the_journal_with_its_cause() {
    let (mut server, _upstream) = server();
    write_order(&server, "x-1", "a.example");
    until("the order", || is_blocked(server.address, "a.example"));
    let lifted = server.verb(&["order", "lift", "x-1", "--reason", "Over"]);
    assert!(
        text(&lifted).contains("read by the server: generation 3"),
        "{}",
        text(&lifted)
    );
    assert!(!is_blocked(server.address, "a.example"), "without delay");
    server.replace("ads", "ads.example\nmore.example\n");
    assert!(server.verb(&["reload"]).status.success());
    server.replace("ads", "ads.example\nmore.example\nthird.example\n");
    server.signal("HUP");
    until("the list", || is_blocked(server.address, "third.example"));
    server.replace("orders/x-1.toml", "id = 1");
    until("the refusal", || server.status()["degraded"] == true);

    let by: Vec<_> = causes(&server)
        .iter()
        .map(|cause| cause["by"].clone())
        .collect();
    assert_eq!(by[..3], ["start", "file", "verb"]);
    let verbs: Vec<_> = causes(&server)
        .into_iter()
        .filter_map(|cause| Some((cause["verb"].as_str()?.to_owned(), cause["user"].as_u64()?)))
        .collect();
    let user = u64::from(user());
    assert_eq!(
        verbs,
        [
            ("order lift x-1".to_owned(), user),
            ("reload".to_owned(), user)
        ]
    );
    let of_order = entries(&server, &["--order", "x-1"]);
    let texts: Vec<_> = of_order
        .iter()
        .filter(|entry| entry["event"] == "order")
        .collect();
    assert_eq!(texts.len(), 2, "the file's text, and that with the lift");
    assert!(
        texts[1]["text"]
            .as_str()
            .expect("a text")
            .contains("lift-reason = \"Over\"")
    );
    let refused = entries(&server, &[]);
    let refused = refused
        .iter()
        .find(|entry| entry["event"] == "refused")
        .expect("an entry");
    assert!(
        refused["problems"][0]
            .as_str()
            .expect("a text")
            .contains("orders/x-1.toml")
    );

    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    let shown = text(&server.verb(&["journal", "show"]));
    for line in [
        "in force, by the server's start",
        "order x-1: none -> in force",
        "order x-1: in force -> lifted",
        "server stopped",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert!(verify(&server).starts_with("good: "), "{}", verify(&server));
}

#[test]
fn a_change_is_in_the_journal_before_it_is_in_force() {
    let (server, _upstream) = server();
    let journal = server.path("state/journal.jsonl");
    for number in 1..=12 {
        let (list, name) = (format!("n{number}.example\n"), format!("n{number}.example"));
        server.replace("ads", &list);
        until("the list", || is_blocked(server.address, &name));
        let text = fs::read_to_string(&journal).expect("readable");
        let digest = blake3::hash(list.as_bytes()).to_string();
        // On a slow disk, the journal entry may miss its deadline. Then the change is in force before it is in the
        // journal, and an alarm reports that.
        let slow = server
            .log()
            .contains("in force before it is in the journal");
        assert!(
            text.contains(&digest) || slow,
            "{name} is in force and not in the journal"
        );
    }
}

/// Writes a key that only its owner can read.
fn write_key(server: &Server, lines: &[(&str, &str)]) {
    let lines = lines
        .iter()
        .map(|(id, secret)| format!("{id} {}\n", secret.repeat(32)));
    server.replace("key", &lines.collect::<String>());
    let owner = fs::Permissions::from_mode(0o600);
    fs::set_permissions(server.path("key"), owner).expect("changed");
}

#[test]
fn the_head_is_authenticated_by_a_key_that_can_be_rotated_and_must_be_secret() {
    let (mut server, _upstream) = server();
    let report = verify(&server);
    assert!(report.contains("; not authenticated\n"), "{report}");
    let config = fs::read_to_string(server.path("tapis.toml")).expect("readable");
    server.replace("tapis.toml", &format!("{config}[journal]\nkey = \"key\"\n"));
    write_key(&server, &[("2026", "ab")]);
    assert!(server.verb(&["reload"]).status.success());
    let early = verify(&server);
    assert!(early.contains("it has no tag"), "{early}");
    assert!(early.contains("restart the server"), "{early}");
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    let server = server.again();
    let authenticated = |id: &str| {
        let report = verify(&server);
        report.starts_with("good: ") && report.contains(&format!("authenticated by key {id}\n"))
    };
    until("the first head", || authenticated("2026"));
    let note = "the head was not authenticated when this server started";
    assert!(verify(&server).contains(note), "{}", verify(&server));
    write_key(&server, &[("2027", "cd"), ("2026", "ab")]);
    server.replace("ads", "ads.example\nmore.example\n");
    assert!(server.verb(&["reload"]).status.success());
    until("the new key", || authenticated("2027"));
    fs::set_permissions(server.path("key"), fs::Permissions::from_mode(0o644)).expect("changed");
    server.replace("ads", "ads.example\nmore.example\nthird.example\n");
    server.verb(&["reload"]);
    until("an alarm", || server.status()["degraded"] == true);
    assert!(
        is_blocked(server.address, "third.example"),
        "nothing is delayed"
    );
    let report = verify(&server);
    assert!(report.contains("can read or change this key"), "{report}");
}

#[test]
fn an_entry_after_the_head_is_not_verified() {
    let (mut server, _upstream) = server();
    let head = server.path("state/journal.jsonl.head");
    until("the first head", || {
        head.exists() && verify(&server).starts_with("good: ")
    });
    let old = fs::read(&head).expect("there");
    server.replace("ads", "ads.example\nmore.example\n");
    assert!(server.verb(&["reload"]).status.success());
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    assert!(verify(&server).starts_with("good: "), "{}", verify(&server));
    fs::write(&head, old).expect("written");
    let output = server.verb(&["journal", "verify"]);
    assert_eq!(output.status.code(), Some(1));
    let report = text(&output);
    assert!(report.contains("beyond the head"), "{report}");
    let server = server.again();
    until("the note", || {
        verify(&server).contains("were beyond the head when this server started")
    });
}

#[test]
fn a_damaged_end_of_any_size_is_set_aside_and_generations_go_on() {
    let (mut server, _upstream) = server();
    let generation = server.status()["generation"].as_u64().expect("a number");
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    let path = server.path("state/journal.jsonl");
    let mut damaged = fs::read(&path).expect("there");
    damaged.extend(b"x".repeat(8 << 20));
    damaged.extend(b"{}\n".repeat(1 << 20));
    fs::write(&path, damaged).expect("written");
    // Without the kept images, only the journal has the number of the generation.
    for image in fs::read_dir(server.path("state")).expect("listed") {
        let image = image.expect("a file").path();
        if !image.display().to_string().contains("journal") {
            let removed = fs::remove_file(&image).or_else(|_| fs::remove_dir_all(&image));
            removed.expect("removed");
        }
    }
    let server = server.again();
    assert!(server.status()["generation"].as_u64() > Some(generation));
    until("the rest set aside", || {
        verify(&server).starts_with("good: ")
    });
}

/// The user ID of the test, taken from a file that it created.
fn user() -> u32 {
    use std::os::unix::fs::MetadataExt;
    let file = tempfile::NamedTempFile::new().expect("made");
    file.as_file().metadata().expect("known").uid()
}

#[test]
fn each_kind_of_tampering_with_the_journal_is_detected_and_named() {
    let (mut server, _upstream) = server();
    write_order(&server, "x-1", "a.example");
    until("the order", || is_blocked(server.address, "a.example"));
    server.signal("TERM");
    server.wait();
    let path = server.path("state/journal.jsonl");
    let whole = fs::read_to_string(&path).expect("there");
    fs::write(&path, whole.replacen("a.example", "b.example", 1)).expect("written");
    let output = server.verb(&["journal", "verify"]);
    assert_eq!(output.status.code(), Some(1));
    let report = text(&output);
    assert!(report.contains("line 3: was changed"), "{report}");
    // A user without the configuration can verify it too.
    let copy = server.path("copy.jsonl");
    fs::write(&copy, whole).expect("written");
    fs::copy(
        server.path("state/journal.jsonl.head"),
        server.path("copy.jsonl.head"),
    )
    .expect("copied");
    let output = tapis()
        .args(["journal", "verify", "--file"])
        .arg(&copy)
        .output()
        .expect("it ran");
    assert!(text(&output).contains("good: "), "{}", text(&output));
}

fn why(server: &Server, name: &str, at: Timestamp) -> Value {
    let output = server.verb(&["why", name, "--json", "--at", &at.to_string()]);
    let why: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let code = if why["decision"] == "unknown" { 3 } else { 0 };
    assert_eq!(output.status.code(), Some(code), "{}", text(&output));
    why
}

#[test]
fn why_reports_the_past_policy_though_files_have_changed() {
    let before = Timestamp::now();
    let (server, _upstream) = server();
    write_order(&server, "x-1", "a.example");
    until("the first text", || is_blocked(server.address, "a.example"));
    let first = settled();
    write_order(&server, "x-1", "b.example");
    until("the second text", || {
        is_blocked(server.address, "b.example")
    });
    let second = settled();
    fs::remove_file(server.path("orders/x-1.toml")).expect("removed");
    until("its end", || !is_blocked(server.address, "b.example"));
    let third = settled();

    let decision = |name, at| why(&server, name, at)["decision"].clone();
    assert_eq!(decision("a.example", first), "blocked");
    assert_eq!(decision("b.example", first), "upstream");
    assert_eq!(decision("a.example", second), "upstream");
    assert_eq!(why(&server, "b.example", second)["by"], "order:x-1");
    assert_eq!(decision("b.example", third), "upstream");
    // The list's file is unchanged.
    assert_eq!(decision("ads.example", first), "blocked");
    server.replace("ads", "ads.example\nmore.example\n");
    until("the list", || is_blocked(server.address, "more.example"));
    until("its rules are kept", || {
        let kept = fs::read_dir(server.path("state/past")).expect("listed");
        kept.flatten().count() > 2
    });
    assert_eq!(decision("ads.example", first), "blocked");
    assert_eq!(decision("more.example", first), "upstream");
    let report = why(&server, "ads.example", before);
    assert_eq!(report["decision"], "unknown");
    let unknown = report["left_out"][0].as_str().expect("a text");
    assert!(unknown.contains("does not reach back so far"), "{unknown}");
    assert!(
        unknown.contains("with --journal, the oldest first"),
        "{unknown}"
    );
}

#[test]
fn a_report_lists_orders_by_authority_and_how_long_they_took() {
    let (server, _upstream) = server();
    let dates = "issued-at = 2020-01-01T00:00:00Z\neffective-from = 2020-01-02T00:00:00Z";
    let text_of = |id, name| order(id, dates, &target(name, "exact"));
    server.replace("orders/x-1.toml", &text_of("x-1", "a.example"));
    let overdue = text_of("x-2", "b.example").replace("review-at = 2100", "review-at = 2021");
    server.replace("orders/x-2.toml", &overdue);
    until("both", || {
        is_blocked(server.address, "a.example") && is_blocked(server.address, "b.example")
    });
    let lift = ["order", "lift", "x-1", "--reason", "Over"];
    assert!(server.verb(&lift).status.success());
    let output = server.verb(&["order", "report", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["states"]["in-force"], 1);
    assert_eq!(report["authorities"]["The Authority"]["orders"], 2);
    assert_eq!(report["legal_bases"]["Law 1"]["in_force"], 1);
    assert_eq!(report["overdue_reviews"][0]["order"], "x-2");
    let first = &report["orders"][0];
    let days = first["days_from_issue_to_force"].as_f64().expect("known");
    assert!(
        days > 365.0,
        "in the journal it began when its file appeared: {days}"
    );
    let days = first["days_from_lift_to_freedom"].as_f64().expect("known");
    assert!((0.0..0.01).contains(&days), "{days}");
    assert!(first["hits"].as_u64().expect("known") > 0);
    assert_eq!(report["list_hits"]["ads"], 0);
    let report = text(&server.verb(&["order", "report"]));
    assert!(
        report.contains("authority The Authority: 2 orders, 1 in force"),
        "{report}"
    );
}

#[test]
fn an_order_older_than_the_journal_began_at_its_date() {
    let upstream = Upstream::plain();
    let folder = folder(&configuration(&upstream), &[("ads", "ads.example\n")]);
    let dates = "issued-at = 2020-01-01T00:00:00Z\neffective-from = 2020-01-02T00:00:00Z";
    let old = order("x-1", dates, &target("a.example", "exact"));
    fs::create_dir(folder.path().join("orders")).expect("made");
    fs::write(folder.path().join("orders/x-1.toml"), old).expect("written");
    let server = Server::start_in(folder);
    let lift = ["order", "lift", "x-1", "--reason", "Over"];
    assert!(server.verb(&lift).status.success());
    let output = server.verb(&["order", "report", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["orders"][0]["days_from_issue_to_force"], 1.0);
    assert!(report["orders"][0]["days_from_lift_to_freedom"].is_number());
}

/// The generation and the states of orders in the last entry of the journal.
fn last_entry(server: &Server) -> (u64, Vec<(String, String)>) {
    let mut states = std::collections::BTreeMap::new();
    let mut generation = 0;
    for entry in entries(server, &[]) {
        for turn in entry["states"].as_array().into_iter().flatten() {
            let order = turn["order"].as_str().expect("an id").to_owned();
            match turn["now"].as_str() {
                Some(state) => states.insert(order, state.to_owned()),
                None => states.remove(&order),
            };
        }
        if entry["event"] == "published" {
            generation = entry["generation"].as_u64().expect("a number");
        }
    }
    (generation, states.into_iter().collect())
}

#[test]
fn after_a_kill_the_journal_continues_and_records_the_policy_in_force() {
    let (mut server, _upstream) = server();
    for round in 0..3 {
        let id = format!("x-{round}");
        let name = format!("{id}.example");
        write_order(&server, &id, &name);
        until("the order", || is_blocked(server.address, &name));
        let generation = last_entry(&server).0;
        server.signal("KILL");
        server.wait();
        server = server.again();
        until("the journal", || last_entry(&server).0 > generation);
        let status = server.status();
        let (now, states) = last_entry(&server);
        assert_eq!(now, status["generation"], "the numbering continues");
        assert_eq!(states.len(), round + 1);
        assert!(
            states.iter().all(|(_, state)| state == "in-force"),
            "{states:?}"
        );
        assert!(is_blocked(server.address, &name));
    }
    assert!(verify(&server).starts_with("good: "), "{}", verify(&server));
}

/// A file in the mount namespace of the server.
pub(crate) fn as_seen_by(server: &Server, name: &str) -> PathBuf {
    let path = server.path(name);
    let inside = path.strip_prefix("/").expect("absolute");
    PathBuf::from(format!("/proc/{}/root", server.id())).join(inside)
}

/// Fills a disk.
pub(crate) fn fill(filler: &Path) {
    let mut bytes = 1 << 20;
    while bytes > 0 {
        let file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(filler);
        match std::io::Write::write_all(&mut file.expect("opened"), &vec![0; bytes]) {
            Ok(()) => {}
            Err(_) => bytes /= 2,
        }
    }
}

#[test]
#[ignore = "needs root, unshare and mount"]
fn on_a_full_disk_blocking_goes_on_and_no_entry_is_lost() {
    let upstream = Upstream::plain();
    let config = configuration(&upstream).replace("dir = \"state\"", "dir = \"disk/state\"");
    let folder = folder(&config, &[("ads", "ads.example\n")]);
    for name in ["orders", "disk"] {
        fs::create_dir(folder.path().join(name)).expect("made");
    }
    let script = "mount -t tmpfs -o size=1m tmpfs disk && exec \"$0\" serve --config tapis.toml";
    let program = env!("CARGO_BIN_EXE_tapis");
    let server = Server::start_by("unshare", &["-m", "sh", "-c", script, program], folder);
    let filler = as_seen_by(&server, "disk/filler");
    fill(&filler);
    for round in 0..20 {
        let name = format!("n{round}.example");
        write_order(&server, &format!("x-{round}"), &name);
        until("the order", || is_blocked(server.address, &name));
    }
    let alarms = server.status()["alarms"].to_string();
    assert!(
        alarms.contains("journal: ") && alarms.contains("No space left"),
        "{alarms}"
    );
    fs::remove_file(&filler).expect("removed");
    until("the alarm's end", || {
        !server.status()["alarms"].to_string().contains("journal: ")
    });
    let journal = as_seen_by(&server, "disk/state/journal.jsonl");
    let output = tapis()
        .args(["journal", "export", "--file"])
        .arg(&journal)
        .output()
        .expect("it ran");
    let entries: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    let orders = entries
        .iter()
        .filter(|entry| entry["event"] == "order")
        .count();
    assert_eq!(orders, 20);
    let output = tapis()
        .args(["journal", "verify", "--file"])
        .arg(&journal)
        .output()
        .expect("it ran");
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn decisions_of_guards_and_their_warnings_about_orders_are_in_the_journal() {
    let (server, _upstream) = server();
    server.replace("ads", "");
    until("the alarm", || server.status()["degraded"] == true);
    assert!(
        server
            .verb(&["reload", "--accept", "ads:empty"])
            .status
            .success()
    );
    server.replace("ads", ".co.id\nads.example\n");
    until("the list", || is_blocked(server.address, "ads.example"));
    let wide = order("x-1", PAST, &target("co.id", "subtree"));
    server.replace("orders/x-1.toml", &wide);
    until("the order", || is_blocked(server.address, "www.co.id"));
    // On a slow disk, the entries are written a little later.
    let is_order = |entry: &Value| entry["event"] == "order";
    until("its entry", || entries(&server, &[]).iter().any(is_order));

    let entries = entries(&server, &[]);
    let of = |event: &str| {
        let mut entries = entries.iter().filter(|entry| entry["event"] == event);
        entries.next().expect("an entry").clone()
    };
    assert_eq!(of("refused")["what"], "list ads");
    let held = of("refused")["problems"].to_string();
    assert!(held.contains("tapis reload --accept ads:empty"), "{held}");
    let verbs = causes(&server);
    let mut verbs = verbs.iter().filter_map(|cause| cause["verb"].as_str());
    assert_eq!(verbs.next(), Some("reload --accept ads:empty"));
    let warnings = of("order")["warnings"].to_string();
    assert!(
        warnings.contains("covers the public suffix co.id"),
        "{warnings}"
    );
    let left_out = |entry: &Value| entry["lists"][0]["left_out"].as_u64();
    assert_eq!(left_out(entries.last().expect("the order's")), Some(1));
}

/// The lines of `journal show` for the last generation.
fn shown_last(server: &Server) -> String {
    let shown = text(&server.verb(&["journal", "show"]));
    let last = shown.rfind("in force, by").expect("a generation");
    shown[last..].to_owned()
}

#[test]
fn each_entry_names_the_settings_that_changed() {
    let (server, _upstream) = server();
    let config = configuration_of(&server);
    let changed = format!(
        "{}[block]\nsinkhole = [\"192.0.2.1\"]\nttl-secs = 30\n",
        config.replace("[orders]\n", "[orders]\nlanguage = \"id\"\n")
    );
    server.replace("tapis.toml", &changed);
    assert!(server.verb(&["reload"]).status.success());
    let shown = shown_last(&server);
    for line in [
        "orders.language: \"en\" -> \"id\"",
        "orders.sinkhole: [\"0.0.0.0\",\"::\"] -> [\"192.0.2.1\"]",
        "list.ads.ttl-secs: 60 -> 30",
        "list.ads.sinkhole: [\"0.0.0.0\",\"::\"] -> [\"192.0.2.1\"]",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert!(!shown.contains("server.allow"), "{shown}");
    for (from, to, line) in [
        (
            "[upstream]\n",
            "id = \"ns1\"\n[upstream]\n",
            "server.id: none -> \"ns1\"",
        ),
        (
            "[upstream]\n",
            "allow = [\"127.0.0.1\"]\n[upstream]\n",
            "server.allow: [\"127.0.0.0/8\",\"::1/128\"] -> [\"127.0.0.1/32\"]",
        ),
        (
            "[block]\n",
            "[special-use]\nforward = [\"home.arpa\"]\n[block]\n",
            "special-use.forward: [] -> [\"home.arpa\"]",
        ),
        (
            "path = \"ads\"\n",
            "path = \"ads\"\naction = \"nxdomain\"\ntext = \"Ask us\"\n",
            "list.ads.action: \"sinkhole\" -> \"nxdomain\"",
        ),
        (
            "path = \"ads\"\n",
            "path = \"ads\"\nkind = \"allow\"\n",
            "list.ads.kind: \"block\" -> \"allow\"",
        ),
    ] {
        let config = configuration_of(&server).replacen(from, to, 1);
        server.replace("tapis.toml", &config);
        assert!(server.verb(&["reload"]).status.success());
        let shown = shown_last(&server);
        assert!(shown.contains(line), "{line}: {shown}");
        let entries = entries(&server, &[]);
        let key = line.split(": ").next().expect("a key");
        let last = &entries.last().expect("an entry")["settings"];
        let named = last.as_array().expect("an array").iter();
        assert!(named.into_iter().any(|one| one["key"] == key), "{last}");
    }
    server.replace(
        "tapis.toml",
        &(configuration_of(&server) + "[guard]\nshrink-percent = 90\n"),
    );
    let reloaded = server.verb(&["reload"]);
    assert!(reloaded.status.success(), "{}", text(&reloaded));
    let shown = shown_last(&server);
    assert!(
        shown.contains("nothing that affects answers changed"),
        "{shown}"
    );
    assert!(verify(&server).starts_with("good: "), "{}", verify(&server));
}

fn configuration_of(server: &Server) -> String {
    fs::read_to_string(server.path("tapis.toml")).expect("readable")
}

#[test]
fn newly_protected_names_are_recorded_though_the_list_is_unchanged() {
    let (server, _upstream) = server();
    server.replace("ads", "ads.example\nmore.example\n");
    assert!(server.verb(&["reload"]).status.success());
    server.replace("mine", "ads.example\n");
    let guard = "[guard]\nprotect = \"mine\"\n";
    server.replace("tapis.toml", &(configuration_of(&server) + guard));
    let reloaded = server.verb(&["reload"]);
    assert!(reloaded.status.success(), "{}", text(&reloaded));
    until("the guard", || !is_blocked(server.address, "ads.example"));
    let shown = shown_last(&server);
    assert!(
        shown.contains("list ads: 1 rule, 1 left out, 0 bad lines"),
        "{shown}"
    );
}

#[test]
fn an_exception_that_expires_is_recorded_once() {
    let (server, _upstream) = server();
    let soon = Timestamp::now() + std::time::Duration::from_secs(2);
    let exception = format!(
        "[[exception]]\nname = \"ads.example\"\nscope = \"exact\"\nagainst = [\"all\"]\n\
         reason = \"a test\"\nauthor = \"me\"\nuntil = {soon:.0}\n"
    );
    server.replace("tapis.toml", &(configuration_of(&server) + &exception));
    assert!(server.verb(&["reload"]).status.success());
    until("its end", || is_blocked(server.address, "ads.example"));
    let shown = shown_last(&server);
    assert!(shown.starts_with("in force, by a date\n"), "{shown}");
    assert!(
        shown.contains("- exception ads.example, me: a test: over (until "),
        "{shown}"
    );
    let server = {
        let mut server = server;
        server.signal("TERM");
        server.wait();
        server.again()
    };
    until("the start", || {
        entries(&server, &[]).last().expect("one")["event"] == "published"
    });
    let ended = entries(&server, &[]);
    let ended = ended
        .iter()
        .filter(|entry| !entry["exceptions_ended"].is_null());
    assert_eq!(ended.count(), 1);
}

#[test]
fn a_journal_that_is_moved_away_continues_in_a_new_file_without_an_error() {
    let (server, _upstream) = server();
    let journal = server.path("state/journal.jsonl");
    until("the first generation", || {
        text(&server.verb(&["journal", "show"])).contains("in force")
    });
    // The file is moved twice: well before the next change, and just before a change.
    let (first, second) = (server.path("first"), server.path("second"));
    fs::rename(&journal, &first).expect("moved away");
    until("a new file", || {
        text(&server.verb(&["journal", "show"])).contains("in force")
    });
    assert!(verify(&server).starts_with("good: "), "{}", verify(&server));
    fs::rename(&journal, &second).expect("moved away");
    server.replace("ads", "ads.example\nmore.example\n");
    assert!(server.verb(&["reload"]).status.success());
    until("the change", || {
        text(&server.verb(&["journal", "show"])).contains("list ads: 2 rules")
    });
    let mut files = vec!["journal", "verify"];
    let paths = [first, second, journal].map(|path| path.display().to_string());
    for path in &paths {
        files.extend(["--file", path]);
    }
    let all = text(&server.verb(&files));
    assert!(all.starts_with("good: "), "{all}");
    server.assert_well();
    let log = server.logged("the journal goes on in a new file");
    assert!(!log.contains("ERROR"), "{log}");
    assert!(
        !log.contains("in force before it is in the journal"),
        "{log}"
    );
}

#[test]
fn the_journal_of_the_running_server_is_used_though_the_configuration_names_another() {
    let (mut server, _upstream) = server();
    let journal = server.path("state/journal.jsonl");
    until("the first head", || verify(&server).starts_with("good: "));
    let first = settled();
    server.replace("ads", "more.example\n");
    assert!(server.verb(&["reload"]).status.success());
    let config = configuration_of(&server);
    // The same directory by another path counts as the same.
    std::os::unix::fs::symlink("state", server.path("link")).expect("linked");
    server.replace(
        "tapis.toml",
        &config.replace("dir = \"state\"", "dir = \"link\""),
    );
    let same = verify(&server);
    assert!(same.starts_with("good: "), "{same}");
    for (from, to) in [
        ("dir = \"state\"\n", "dir = \"elsewhere\"\n"),
        (
            "dir = \"state\"\n",
            "dir = \"state\"\n[journal]\npath = \"elsewhere.jsonl\"\n",
        ),
    ] {
        server.replace("tapis.toml", &config.replace(from, to));
        let printed = verify(&server);
        assert!(printed.contains("good: "), "{printed}");
        let note = format!(
            "using the journal of the running server, {}",
            journal.display()
        );
        assert!(printed.contains(&note), "{printed}");
        let shown = text(&server.verb(&["journal", "show"]));
        assert!(shown.contains("in force, by the server's start"), "{shown}");
        assert_eq!(why(&server, "ads.example", first)["decision"], "blocked");
        let diff = text(&server.verb(&["diff", "1", "2"]));
        assert!(diff.contains("- ads.example (ads)"), "{diff}");
    }
    server.signal("TERM");
    server.wait();
    for verb in ["show", "export", "verify"] {
        let output = server.verb(&["journal", verb]);
        assert_eq!(output.status.code(), Some(1));
        let printed = text(&output);
        assert!(
            printed.contains("elsewhere.jsonl: there is no journal"),
            "{printed}"
        );
        assert!(printed.contains("name its file with --file"), "{printed}");
    }
}

/// The last generation that a transfer caused.
fn transferred(server: &Server) -> Value {
    let entries = entries(server, &[]);
    let mut transfers = entries.into_iter().filter(|entry| {
        let causes = entry["causes"].as_array();
        causes.is_some_and(|causes| causes.iter().any(|cause| cause["by"] == "transfer"))
    });
    transfers.next_back().expect("a transfer")
}

#[test]
fn each_version_of_a_feed_is_in_the_journal_with_its_serial_primary_digest_and_counts() {
    const DNAME: u16 = 39;
    let (upstream, versions) = (
        Upstream::plain(),
        Versions::new(7, &["a.example", "b.example"]),
    );
    let primary = versions.primary();
    let config = feeds::config(&upstream, &primary, "[guard]\nprotect = \"protect\"");
    let server = Server::start(&config, &[("protect", "bank.example\n")]);
    blocks(&server, 7, &["a.example", "b.example"], &[]);

    let asked = primary.asked();
    let mut whole = asked.iter().filter(|asked| asked.rtype == rtype::AXFR);
    // The digest does not depend on the ID of the query.
    let messages = versions.answer(whole.next().expect("a transfer"));
    let messages: Vec<_> = messages.iter().map(|message| &message[2..]).collect();
    let first = blake3::hash(&messages.concat()).to_string();
    let address = primary.address.to_string();
    let cause = |serial| json!([{"by": "transfer", "primary": address, "serial": serial}]);
    let entry = transferred(&server);
    assert_eq!(entry["causes"], cause(7), "{entry}");
    let list = &entry["lists"][0];
    let of_list = |list: &Value| {
        ["name", "path", "digest", "rules", "left_out", "bad"].map(|key| list[key].clone())
    };
    let path = format!("zone:{ZONE}");
    let expected = |digest: &str, counts: [u32; 3]| {
        let [rules, left_out, bad] = counts.map(|count| json!(count));
        [
            json!("feed"),
            json!(path),
            json!(digest),
            rules,
            left_out,
            bad,
        ]
    };
    assert_eq!(of_list(list), expected(&first, [2, 0, 0]));

    let rule = |name: &str| cname(&format!("{name}.{ZONE}"), ".");
    let bad = Rr {
        rtype: DNAME,
        ..cname(&format!("d.example.{ZONE}"), "example")
    };
    let deleted = vec![rule("a.example")];
    let added = vec![
        rule("c.example"),
        rule("d.example"),
        rule("bank.example"),
        bad,
    ];
    versions.change_records(deleted.clone(), added.clone());
    feeds::refresh(&server);
    blocks(
        &server,
        8,
        &["b.example", "c.example", "d.example"],
        &["a.example", "bank.example"],
    );
    let mut hasher = blake3::Hasher::new();
    hasher.update(first.as_bytes());
    for (adds, records) in [(0, deleted), (1, added)] {
        for record in records {
            hasher.update(&[adds]);
            hasher.update(record.owner.wire());
            hasher.update(&record.rtype.to_be_bytes());
            hasher.update(&record.data);
        }
    }
    let second = hasher.finalize().to_string();
    let entry = transferred(&server);
    assert_eq!(entry["causes"], cause(8), "{entry}");
    assert_eq!(of_list(&entry["lists"][0]), expected(&second, [3, 1, 1]));

    let shown = text(&server.verb(&["journal", "show"]));
    for (serial, counts, digest) in [
        (7, "2 rules, 0 left out, 0 bad records", first),
        (8, "3 rules, 1 left out, 1 bad record", second),
    ] {
        let digest = &digest[..16];
        let cause = format!(": in force, by serial {serial} from {address}\n");
        let (_, after) = shown.split_once(&cause).expect(&cause);
        let content = format!("    feed feed: {counts}, BLAKE3 {digest}...");
        assert!(after.contains(&content), "{content}: {shown}");
    }
}
