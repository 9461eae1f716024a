//! `why --at` and `diff` about the past: they report what clients received, or that it is unknown.

use std::fs;

use jiff::Timestamp;
use serde_json::Value;

use crate::orders::{PAST, order, target};
use crate::support::client::{is_blocked, until};
use crate::support::server::{Server, folder, list, preamble, text};
use crate::support::upstream::Upstream;

const STATE: &str = "[state]\ndir = \"state\"\nkeep = 10\n[orders]\npath = \"orders\"\n";

fn start(more: &str, files: &[(&str, &str)]) -> (Server, Upstream) {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address) + STATE + more;
    let folder = folder(&config, files);
    fs::create_dir(folder.path().join("orders")).expect("made");
    (Server::start_in(folder), upstream)
}

pub(crate) fn run(server: &Server, arguments: &[&str]) -> (Option<i32>, String) {
    let output = server.verb(arguments);
    (output.status.code(), text(&output))
}

/// Changes the configuration, and waits until it is in force.
fn reconfigure(server: &Server, from: &str, to: &str) {
    let config = fs::read_to_string(server.path("tapis.toml")).expect("readable");
    assert!(config.contains(from), "{from}: {config}");
    server.replace("tapis.toml", &config.replacen(from, to, 1));
    reload(server);
}

fn reload(server: &Server) {
    let (code, printed) = run(server, &["reload"]);
    assert_eq!(code, Some(0), "{printed}");
}

fn generation(server: &Server) -> String {
    server.status()["generation"].to_string()
}

/// The difference between the generation in force and the one that `change` makes.
fn difference(server: &Server, change: impl FnOnce()) -> (Option<i32>, String) {
    let before = generation(server);
    change();
    run(server, &["diff", &before, &generation(server)])
}

fn end(server: &mut Server, signal: &str) {
    server.signal(signal);
    server.wait();
}

/// Waits until the state directory has the rules of that many lists.
pub(crate) fn kept(server: &Server, lists: usize) {
    until("the rules are kept", || {
        let files = fs::read_dir(server.path("state/past"));
        let images = files.into_iter().flatten().flatten().filter(|file| {
            let name = file.file_name();
            name.to_string_lossy().ends_with(".image")
        });
        images.count() >= lists
    });
}

/// Waits for an instant at which the last generation is certainly in force, and returns it. Just
/// after the journal entry the generation may not be in force yet.
pub(crate) fn settled() -> Timestamp {
    let at = Timestamp::now() + std::time::Duration::from_millis(300);
    until("that instant", || Timestamp::now() > at);
    at
}

/// The text output of `why --at`.
fn explained(server: &Server, name: &str, at: Timestamp) -> (Option<i32>, String) {
    run(server, &["why", name, "--at", &at.to_string()])
}

fn decision(server: &Server, name: &str, at: Timestamp) -> String {
    let output = server.verb(&["why", name, "--json", "--at", &at.to_string()]);
    let why: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let is_known = why["decision"] != "unknown" && why["decision"] != "stopped";
    let mut rules = why["rules"].as_array().expect("rules").iter();
    assert!(
        rules.all(|rule| rule["role"].is_null() != is_known),
        "{why}"
    );
    let code = if why["decision"] == "unknown" { 3 } else { 0 };
    assert_eq!(output.status.code(), Some(code), "{}", text(&output));
    why["decision"].as_str().expect("a word").to_owned()
}

#[test]
fn generations_differ_where_clients_get_other_answers() {
    let lists = list("ads", "") + &list("more", "");
    let files = [
        ("ads", "ads.example\n.x.example\n"),
        ("more", "more.example\n*.y.example\n"),
    ];
    let (server, _upstream) = start(&lists, &files);
    for (from, to, lines) in [
        (
            "path = \"ads\"\n",
            "path = \"ads\"\naction = \"nodata\"\n",
            &[
                "~ ads.example (ads): sinkhole -> nodata",
                "~ .x.example (ads): sinkhole -> nodata",
                "ads: 0 added, 0 removed, 2 changed",
            ][..],
        ),
        (
            "path = \"more\"\n",
            "path = \"more\"\nsinkhole = [\"192.0.2.1\"]\n",
            &[
                "~ more.example (more): sinkhole 0.0.0.0 ::, TTL 60, EDE 15 \"more\" -> sinkhole 192.0.2.1, TTL 60, EDE 15 \"more\"",
                "~ *.y.example (more): sinkhole",
            ],
        ),
        (
            "path = \"ads\"\n",
            "path = \"ads\"\nkind = \"allow\"\n",
            &["- ads.example (ads): nodata -> allowed"],
        ),
        (
            "path = \"ads\"\nkind = \"allow\"\n",
            "path = \"ads\"\n",
            &["+ ads.example (ads): allowed -> nodata"],
        ),
        (
            "[[list]]\nname = \"more\"\npath = \"more\"\n",
            "[[list]]\nname = \"other\"\npath = \"ads\"\n",
            &[
                "- more.example (more): sinkhole -> upstream",
                "- *.y.example (more)",
            ],
        ),
        (
            "[upstream]\n",
            "id = \"ns1\"\n[upstream]\n",
            &["~ server.id: none -> \"ns1\""],
        ),
    ] {
        let (code, printed) = difference(&server, || reconfigure(&server, from, to));
        assert_eq!(code, Some(1), "{printed}");
        for line in lines {
            assert!(printed.contains(line), "{line}: {printed}");
        }
    }
}

#[test]
fn generations_with_equal_answers_do_not_differ() {
    let lists = list("ads", "") + &list("more", "");
    let files = [("ads", "ads.example\n"), ("more", "more.example\n")];
    let (server, _upstream) = start(&lists, &files);
    // The first list contains the name already.
    let (code, printed) = difference(&server, || {
        server.replace("more", "more.example\nads.example\n");
        reload(&server);
    });
    assert_eq!((code, printed.as_str()), (Some(0), "no difference\n"));
    let (code, printed) = difference(&server, || {
        let order = order("x-1", PAST, &target("ads.example", "subtree"));
        server.replace("orders/x-1.toml", &order);
        until("the order", || is_blocked(server.address, "a.ads.example"));
    });
    assert_eq!(code, Some(1), "{printed}");
    for line in [
        "~ ads.example (order:x-1): sinkhole 0.0.0.0 ::, TTL 60, EDE 15 \"ads\" -> sinkhole",
        "+ *.ads.example (order:x-1): upstream -> sinkhole",
        "order:x-1: 1 added, 0 removed, 1 changed",
    ] {
        assert!(printed.contains(line), "{line}: {printed}");
    }
}

#[test]
fn orders_of_a_past_time_come_from_the_journal_even_if_files_changed_since() {
    let (server, _upstream) = start(&list("ads", ""), &[("ads", "ads.example\n")]);
    let before = Timestamp::now();
    let order = order("x-1", PAST, &target("a.example", "exact"));
    server.replace("orders/x-1.toml", &order);
    until("the order", || is_blocked(server.address, "a.example"));
    let then = Timestamp::now();
    fs::remove_file(server.path("orders/x-1.toml")).expect("removed");
    until("its end", || !is_blocked(server.address, "a.example"));
    let since = Timestamp::now();
    let verb = |arguments: &[&str], at: Timestamp| {
        let output = server.verb(&[&["order"], arguments, &["--at", &at.to_string()]].concat());
        text(&output)
    };
    for (at, list, count) in [(before, "", 0), (then, "x-1: in force", 1), (since, "", 0)] {
        assert!(
            verb(&["list"], at).starts_with(list),
            "{at}: {}",
            verb(&["list"], at)
        );
        assert_eq!(
            verb(&["list"], at).lines().count(),
            count,
            "{}",
            verb(&["list"], at)
        );
        let report: Value = serde_json::from_str(&verb(&["report", "--json"], at)).expect("JSON");
        assert_eq!(
            report["orders"].as_array().map(Vec::len),
            Some(count),
            "{report}"
        );
    }
    let why = "the journal does not reach back so far: orders are shown from the present files";
    let long_ago = Timestamp::UNIX_EPOCH;
    assert!(verb(&["list"], long_ago).contains(why));
    assert!(verb(&["report"], long_ago).contains(&format!("not known: {why}")));
    assert!(verb(&["show", "x-1"], then).contains("in force"));
    assert!(verb(&["show", "x-1"], since).contains("there is no order `x-1`"));
}

#[test]
fn a_name_at_a_past_time_is_explained_by_the_rules_and_settings_of_that_time() {
    let lists = list("ads", "");
    let (server, _upstream) = start(&lists, &[("ads", "ads.example\n")]);
    kept(&server, 1);
    let first = settled();
    reconfigure(
        &server,
        "path = \"ads\"\n",
        "path = \"ads\"\naction = \"nodata\"\nede = \"filtered\"\n",
    );
    let second = settled();
    let third_list = "[block]\nsinkhole = [\"192.0.2.1\"]\nttl-secs = 30\n[[list]]\nname = \"ads\"\npath = \"other\"\n";
    fs::write(server.path("other"), "other.example\n").expect("written");
    let start =
        "[[list]]\nname = \"ads\"\npath = \"ads\"\naction = \"nodata\"\nede = \"filtered\"\n";
    reconfigure(&server, start, third_list);
    kept(&server, 2);
    let third = settled();
    // A list that is no longer configured, whose file is gone.
    reconfigure(&server, "[[list]]\nname = \"ads\"\npath = \"other\"\n", "");
    fs::remove_file(server.path("ads")).expect("removed");
    fs::remove_file(server.path("other")).expect("removed");

    let (code, first) = explained(&server, "ads.example", first);
    assert_eq!(code, Some(0), "{first}");
    for line in [
        "ads.example: blocked by list ads\n",
        "60 IN A 0.0.0.0",
        "EDE 15 (Blocked) ads",
    ] {
        assert!(first.contains(line), "{line}: {first}");
    }
    let (_, second) = explained(&server, "ads.example", second);
    for line in [
        "blocked by list ads\n",
        "answer to A: NOERROR\n    EDE 17 (Filtered) ads",
    ] {
        assert!(second.contains(line), "{line}: {second}");
    }
    let (_, last) = explained(&server, "other.example", third);
    for line in ["blocked by list ads\n", "30 IN A 192.0.2.1"] {
        assert!(last.contains(line), "{line}: {last}");
    }
    assert_eq!(decision(&server, "ads.example", third), "upstream");
    assert_eq!(decision(&server, "other.example", settled()), "upstream");
}

#[test]
fn the_rules_of_a_large_list_are_known_for_the_past() {
    let names = |start: &str| -> String {
        (0..220_000)
            .map(|number| format!("{start}{number}.example\n"))
            .collect()
    };
    let (server, _upstream) = start(&list("big", ""), &[("big", &names("one"))]);
    kept(&server, 1);
    let first = Timestamp::now();
    server.replace("big", &names("two"));
    until("the list", || is_blocked(server.address, "two7.example"));
    kept(&server, 2);
    assert_eq!(decision(&server, "one7.example", first), "blocked");
    assert_eq!(decision(&server, "two7.example", first), "upstream");
    let (code, printed) = run(&server, &["diff", "1", "2", "--summary"]);
    assert_eq!(
        (code, printed.as_str()),
        (Some(1), "big: 220000 added, 220000 removed, 0 changed\n")
    );
}

#[test]
fn the_past_is_unknown_where_a_list_that_could_decide_was_not_kept() {
    let lists = list("first", "") + &list("ads", "") + &list("good", "kind = \"allow\"");
    let files = [
        ("first", "first.example\n"),
        ("ads", "ads.example\n"),
        ("good", "good.example\n"),
    ];
    let config = lists + "[guard]\nshrink-percent = 100\n";
    let upstream = Upstream::plain();
    let state = STATE.replace("keep = 10", "keep = 1\nhistory-days = 0");
    let folder = folder(&(preamble(upstream.address) + &state + &config), &files);
    fs::create_dir(folder.path().join("orders")).expect("made");
    let server = Server::start_in(folder);
    let order = order("x-1", PAST, &target("order.example", "exact"));
    server.replace("orders/x-1.toml", &order);
    until("the order", || is_blocked(server.address, "order.example"));
    let then = settled();
    server.replace("ads", "other.example\n");
    until("the list", || is_blocked(server.address, "other.example"));
    let current = || fs::read_to_string(server.path("state/current")).unwrap_or_default();
    until("the new image is kept", || {
        let generation = format!("\"generation\": {}", generation(&server));
        current().contains(&generation)
    });
    let record: Value = serde_json::from_str(&current()).expect("JSON");
    let delta = record["published"][1]["delta"].as_u64().expect("a number");
    let old = server.path(&format!("state/delta-{delta}.image"));
    fs::remove_file(old).expect("removed");
    for (name, expected) in [
        ("ads.example", "unknown"),
        ("other.example", "unknown"),
        ("any.example", "unknown"),
        ("first.example", "blocked"),
        ("order.example", "blocked"),
        ("good.example", "allowed"),
    ] {
        assert_eq!(decision(&server, name, then), expected, "{name}");
    }
    let (code, printed) = explained(&server, "ads.example", then);
    assert_eq!(code, Some(3));
    assert!(printed.starts_with("ads.example: unknown\n"), "{printed}");
    assert!(
        printed.contains("left out: list ads: its rules in generation 2"),
        "{printed}"
    );
    let (code, printed) = run(&server, &["diff", "2", "3"]);
    assert_eq!(code, Some(3), "{printed}");
}

#[test]
fn the_past_is_unknown_after_a_kill_and_known_after_a_clean_stop() {
    let (mut server, _upstream) = start(&list("ads", ""), &[("ads", "ads.example\n")]);
    let heartbeat = server.path("state/journal.jsonl.alive");
    until("the heartbeat", || heartbeat.exists());
    let ran = Timestamp::now();
    let (code, now) = explained(&server, "ads.example", ran);
    assert_eq!(code, Some(0), "it runs: {now}");
    assert!(
        now.contains(&format!(
            "  note: as of {ran}, generation 1 by the journal\n"
        )),
        "{now}"
    );
    let beat = fs::read_to_string(&heartbeat).expect("readable");
    let beat: Timestamp = beat
        .split_whitespace()
        .nth(1)
        .expect("a time")
        .parse()
        .expect("a time");
    end(&mut server, "KILL");
    let down = Timestamp::now();
    assert_eq!(decision(&server, "ads.example", beat), "blocked");
    let (code, said_down) = explained(&server, "ads.example", down);
    assert_eq!(code, Some(3));
    assert!(
        said_down.contains("whether the server was running is not known"),
        "{said_down}"
    );

    let mut server = server.again();
    until("the start", || {
        decision(&server, "ads.example", Timestamp::now()) == "blocked"
    });
    assert_eq!(decision(&server, "ads.example", down), "unknown");
    assert_eq!(decision(&server, "ads.example", beat), "blocked");
    let output = server.verb(&["journal", "export"]);
    let entries: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    let starts: Vec<_> = entries
        .iter()
        .filter(|entry| entry["event"] == "start")
        .collect();
    let until_then: Timestamp = starts[1]["ran_until"]
        .as_str()
        .expect("a time")
        .parse()
        .expect("a time");
    assert!(beat <= until_then && until_then <= down);
    let (_, shown) = run(&server, &["journal", "show"]);
    assert!(
        shown.contains("the previous server did not shut down cleanly; it ran until "),
        "{shown}"
    );

    end(&mut server, "TERM");
    let down = Timestamp::now();
    let server = server.again();
    let (code, printed) = explained(&server, "ads.example", down);
    assert_eq!(code, Some(0));
    assert!(printed.starts_with("ads.example: stopped\n"), "{printed}");
    let (_, shown) = run(&server, &["journal", "show"]);
    assert_eq!(
        shown.matches("did not shut down cleanly").count(),
        1,
        "{shown}"
    );
}

#[test]
fn a_server_without_a_writable_journal_is_not_taken_for_a_stopped_one() {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address) + STATE + &list("ads", "");
    let journal = "[journal]\npath = \"journals/journal.jsonl\"\n";
    let folder = folder(&(config + journal), &[("ads", "ads.example\n")]);
    for name in ["orders", "journals"] {
        fs::create_dir(folder.path().join(name)).expect("made");
    }
    let mut server = Server::start_in(folder);
    end(&mut server, "TERM");
    let stopped = Timestamp::now();
    let (there, away) = (server.path("journals"), server.path("away"));
    fs::rename(&there, &away).expect("moved");
    // Two servers run without the journal.
    let mut server = server.again();
    server.replace("ads", "new.example\n");
    reload(&server);
    let ran = Timestamp::now();
    let (_, said_now) = run(&server, &["why", "ads.example"]);
    assert!(
        said_now.starts_with("ads.example: upstream\n"),
        "{said_now}"
    );
    end(&mut server, "TERM");
    let mut server = server.again();
    let again = Timestamp::now();
    end(&mut server, "TERM");
    fs::rename(&away, &there).expect("moved back");
    for round in 0..2 {
        // Before the next server starts, and afterwards.
        for moment in [ran, again] {
            for name in ["ads.example", "new.example"] {
                let (code, printed) = explained(&server, name, moment);
                assert_eq!(code, Some(3), "{printed}");
                assert!(
                    printed.starts_with(&format!("{name}: unknown\n")),
                    "{printed}"
                );
                assert!(
                    printed.contains("entries of the journal are missing"),
                    "{printed}"
                );
            }
        }
        assert_eq!(decision(&server, "ads.example", stopped), "stopped");
        if round == 0 {
            server = server.again();
        }
    }
    let (code, status) = run(&server, &["status"]);
    assert_eq!(code, Some(1), "{status}");
    assert!(
        status.contains("ALARM journal: changes that servers before this one made after"),
        "{status}"
    );
    let (code, verified) = run(&server, &["journal", "verify"]);
    assert_eq!(code, Some(0), "{verified}");
    let (_, shown) = run(&server, &["journal", "show"]);
    for text in [&verified, &shown] {
        assert!(
            text.contains("not recorded: a server could not write the journal then"),
            "{text}"
        );
        assert!(text.contains("until this"), "{text}");
    }
}

#[test]
fn a_future_time_is_answered_from_the_present_files() {
    let (server, _upstream) = start(&list("ads", ""), &[("ads", "ads.example\n")]);
    let dates = "effective-from = 2100-01-01T00:00:00Z";
    server.replace(
        "orders/x-1.toml",
        &order("x-1", dates, &target("x.example", "exact")),
    );
    let at = "2101-01-01T00:00:00Z".parse().expect("a time");
    assert_eq!(decision(&server, "x.example", at), "blocked");
    assert_eq!(decision(&server, "ads.example", at), "blocked");
    assert_eq!(decision(&server, "other.example", at), "upstream");
}

#[test]
fn why_reports_which_rules_apply_to_the_targets_of_cnames() {
    let lists = list("ads", "") + &list("good", "kind = \"allow\"");
    let exception = |name: &str, against: &str| {
        format!(
            "[[exception]]\nname = \"{name}\"\nscope = \"exact\"\nagainst = [\"{against}\"]\n\
             reason = \"a test\"\nauthor = \"me\"\n"
        )
    };
    let exceptions = exception("some.example", "ads") + &exception("all.example", "all");
    let files = [
        ("ads", "ads.example\nsome.example\nall.example\n"),
        ("good", "good.example\n"),
    ];
    let (server, _upstream) = start(&(lists + &exceptions), &files);
    for (name, chain, line) in [
        (
            "good.example",
            "orders",
            "an order may still block the target of a CNAME",
        ),
        (
            "some.example",
            "not-excepted",
            "rules that the exception does not override may still",
        ),
        ("all.example", "none", "  the query is forwarded\n"),
        ("other.example", "all", "may still lead to a blocked name"),
    ] {
        let (code, printed) = run(&server, &["why", name]);
        assert!(code == Some(0) && printed.contains(line), "{printed}");
        let output = server.verb(&["why", name, "--json"]);
        let why: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(why["chain"], chain, "{why}");
    }
    let output = server.verb(&["why", "ads.example", "--json"]);
    let why: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(why["chain"].is_null(), "{why}");
}

#[test]
fn why_shows_the_role_of_each_rule_by_the_server_and_by_the_files() {
    let lists = list("ads", "") + &list("more", "");
    let exception = "[[exception]]\nname = \"shop.example\"\nscope = \"subtree\"\nagainst = [\"ads\"]\n\
                     reason = \"a test\"\nauthor = \"me\"\n";
    let files = [
        ("ads", ".shop.example\nwww.shop.example\n"),
        ("more", ".shop.example\nwww.shop.example\n"),
    ];
    let (server, _upstream) = start(&(lists + exception), &files);
    let expected = [
        ("exception:.shop.example#0", ".shop.example", "loses"),
        // In memory, the second rule of each list covers the first one.
        ("ads", "www.shop.example", "ignored"),
        ("ads", ".shop.example", "ignored"),
        ("more", "www.shop.example", "decides"),
        ("more", ".shop.example", "loses"),
    ];
    for by in [&[][..], &["--offline"]] {
        let output = server.verb(&[&["why", "www.shop.example", "--json"], by].concat());
        let why: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let rules = why["rules"].as_array().expect("rules").iter();
        let text = |rule: &Value, key: &str| rule[key].as_str().unwrap_or_default().to_owned();
        let rules = rules.map(|rule| ["source", "rule", "role"].map(|key| text(rule, key)));
        let expected = expected.map(|(source, rule, role)| [source, rule, role].map(str::to_owned));
        assert_eq!(rules.collect::<Vec<_>>(), expected, "{by:?}");

        let (code, printed) = run(&server, &[&["why", "www.shop.example"], by].concat());
        assert_eq!(code, Some(0), "{printed}");
        let lines = printed.lines().filter(|line| line.contains("(block, "));
        let ends: Vec<_> = lines
            .map(|line| {
                let (start, end) = line.split_once(" (block, list ").expect("a list");
                let end = end.split_once(')').expect("a place").1;
                format!("{}{end}", start.trim())
            })
            .collect();
        let ignored = " (ignored because of an exception)";
        assert_eq!(
            ends,
            [
                format!("also www.shop.example{ignored}"),
                format!("also .shop.example{ignored}"),
                "rule www.shop.example".to_owned(),
                "also .shop.example".to_owned(),
            ],
            "{printed}"
        );
    }
    // A rule on a name decides nothing for a client that may not query.
    let refused = [
        "why",
        "www.shop.example",
        "--client",
        "203.0.113.9",
        "--json",
    ];
    let output = server.verb(&refused);
    let why: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(why["decision"], "refused", "{why}");
    assert_eq!(why["rules"][3]["role"], "loses", "{why}");
}

#[test]
fn the_past_is_read_from_the_moved_journal_and_from_the_new_one() {
    let (server, _upstream) = start(&list("ads", ""), &[("ads", "ads.example\n")]);
    settled();
    let before = Timestamp::now();
    let first = generation(&server);
    fs::rename(server.path("state/journal.jsonl"), server.path("old")).expect("moved away");
    server.replace("ads", "more.example\n");
    reload(&server);
    let second = generation(&server);
    let (old, new) = (server.path("old"), server.path("state/journal.jsonl"));
    let (old, new) = (old.display().to_string(), new.display().to_string());
    let both = ["--journal", &old, "--journal", &new];
    let at = before.to_string();
    let why = ["why", "ads.example", "--at", &at];
    let (code, printed) = run(&server, &[&why[..], &both].concat());
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.starts_with("ads.example: blocked"), "{printed}");
    let (code, printed) = run(&server, &[&["diff", &first, &second][..], &both].concat());
    assert_eq!(code, Some(1), "{printed}");
    assert!(
        printed.contains("- ads.example (ads): sinkhole -> upstream"),
        "{printed}"
    );
    assert!(
        printed.contains("+ more.example (ads): upstream -> sinkhole"),
        "{printed}"
    );
    // A journal that does not exist, and verbs that do not take one.
    let (code, printed) = run(&server, &[&why[..], &["--journal", "gone"]].concat());
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains("gone: can't be opened"), "{printed}");
    let (code, printed) = run(&server, &[&["why", "ads.example"][..], &both].concat());
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains("give that with --at"), "{printed}");
}
