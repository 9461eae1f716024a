//! Rollback of a running server to an earlier generation, held until released; and differences
//! between generations.

use std::fs;

use crate::orders::{order, target};
use crate::state::{end, kept};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::support::client::{ask, is_blocked, rcode, until};
use crate::support::server::{Server, folder, list, preamble, text};
use crate::support::upstream::Upstream;

const PAST: &str = "effective-from = 2020-01-01T00:00:00Z";

/// A server in its third generation: its list had `one.example` in the first, has `two.example` from
/// the second on, and an order was added in the third.
fn server(more: &str) -> (Server, Upstream) {
    let upstream = Upstream::plain();
    let config = format!(
        "{}[orders]\npath = \"orders\"\n{}{more}",
        preamble(upstream.address),
        list("ads", "")
    );
    let folder = folder(&config, &[("ads", "one.example\n")]);
    fs::create_dir(folder.path().join("orders")).expect("made");
    let server = Server::start_in(folder);
    server.replace("ads", "two.example\n");
    assert!(server.verb(&["reload"]).status.success());
    let text = order("x-1", PAST, &target("order.example", "exact"));
    server.replace("orders/x-1.toml", &text);
    until("the order", || blocked(&server, "order.example"));
    (server, upstream)
}

const STATE: &str = "[state]\ndir = \"state\"\nkeep = 10\n";

fn blocked(server: &Server, name: &str) -> bool {
    is_blocked(server.address, name)
}

fn run(server: &Server, arguments: &[&str]) -> (Option<i32>, String) {
    let output = server.verb(arguments);
    (output.status.code(), text(&output))
}

#[test]
fn lists_roll_back_in_one_step_and_are_held_until_released() {
    let (mut server, _upstream) = server(STATE);
    assert!(blocked(&server, "two.example") && !blocked(&server, "one.example"));
    let (code, report) = run(&server, &["rollback", "1"]);
    assert_eq!(code, Some(0), "{report}");
    assert!(report.contains("generation 4 in force"), "{report}");
    assert!(blocked(&server, "one.example") && !blocked(&server, "two.example"));
    assert!(blocked(&server, "order.example"), "an order stays in force");

    server.replace("ads", "three.example\n");
    let (code, report) = run(&server, &["reload"]);
    assert_eq!(code, Some(1));
    assert!(
        report.contains("ads: held as it was in generation 1"),
        "{report}"
    );
    let accept = ["reload", "--accept", "ads:shrunk"];
    assert_eq!(
        run(&server, &accept).0,
        Some(1),
        "a rollback is not released by --accept"
    );
    assert!(blocked(&server, "one.example") && !blocked(&server, "three.example"));
    let status = server.status();
    let alarms = status["alarms"].as_array().expect("alarms");
    assert_eq!(alarms.len(), 1, "{alarms:?}");
    assert!(
        alarms[0].to_string().contains("tapis rollback --release"),
        "{alarms:?}"
    );
    assert_eq!(status["lists"][0]["state"], "held");
    assert_eq!(status["lists"][0]["held_as"], 1);
    let (code, report) = run(&server, &["status"]);
    assert_eq!(code, Some(1), "{report}");
    let state = "0 bad lines, HELD as in generation 1 by the rollback, and a newer version waits\n";
    assert!(
        report.contains(state) && !report.contains("last good"),
        "{report}"
    );
    let log = server.logged("newer state of a list rejected");
    assert!(!log.contains("ERROR list rejected"), "{log}");

    // The rollback outlives the server, and a new order does not end it.
    server.signal("KILL");
    server.wait();
    let server = server.again();
    assert!(blocked(&server, "one.example") && !blocked(&server, "three.example"));
    let text = order("x-2", PAST, &target("other.example", "exact"));
    server.replace("orders/x-2.toml", &text);
    until("the order", || blocked(&server, "other.example"));
    assert!(blocked(&server, "one.example") && !blocked(&server, "three.example"));

    let (code, report) = run(&server, &["rollback", "--release"]);
    assert_eq!(code, Some(0), "{report}");
    assert!(blocked(&server, "three.example") && !blocked(&server, "one.example"));
    server.assert_well();
    let shown = run(&server, &["journal", "show"]).1;
    assert!(shown.contains("`tapis rollback 1` of user"), "{shown}");
    assert!(shown.contains("lists held as in generation 1"), "{shown}");
    assert!(
        shown.contains("`tapis rollback --release` of user"),
        "{shown}"
    );
    let (code, report) = run(&server, &["rollback", "--release"]);
    assert_eq!(code, Some(1));
    assert!(report.contains("no lists are held"), "{report}");
}

#[test]
fn a_generation_made_by_an_order_has_the_lists_of_the_previous_one() {
    let (server, _upstream) = server(STATE);
    server.replace("ads", "three.example\n");
    assert!(server.verb(&["reload"]).status.success());
    let (code, report) = run(&server, &["rollback", "3"]);
    assert_eq!(code, Some(0), "{report}");
    assert!(blocked(&server, "two.example") && !blocked(&server, "three.example"));
}

#[test]
fn the_generation_before_many_changes_of_a_day_stays_available() {
    let upstream = Upstream::plain();
    let config = |ttl_secs: u32| {
        let block = format!("[block]\nttl-secs = {ttl_secs}\n");
        preamble(upstream.address)
            + &list("ads", "")
            + &block
            + "[state]\ndir = \"state\"\nkeep = 1\n"
    };
    let server = Server::start(&config(60), &[("ads", "one.example\n")]);
    kept(&server);
    for number in 0..8 {
        server.replace("ads", &format!("n{number}.example\n"));
        assert!(server.verb(&["reload"]).status.success());
        kept(&server);
    }
    let record = || {
        let text = fs::read(server.path("state").join("current")).expect("a record");
        let record: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        record["published"].as_array().expect("an array").len()
    };
    let before = record();
    for ttl_secs in 61..66 {
        server.replace("tapis.toml", &config(ttl_secs));
        assert!(server.verb(&["reload"]).status.success());
    }
    server.replace("ads", "last.example\n");
    assert!(server.verb(&["reload"]).status.success());
    kept(&server);
    assert_eq!(
        record(),
        before + 1,
        "the configuration alone changed no list"
    );
    let generation = server.status()["generation"].as_u64().expect("a number");
    // A generation whose lists are those of the previous one, and the first generation.
    for (back, name) in [(generation - 3, "n7.example"), (1, "one.example")] {
        let (code, report) = run(&server, &["rollback", &back.to_string()]);
        assert_eq!(code, Some(0), "{report}");
        assert!(blocked(&server, name), "{report}");
    }
}

#[test]
fn a_generation_that_is_not_kept_is_not_replaced_by_an_older_one() {
    let upstream = Upstream::plain();
    let large = |more: &str| {
        let names = (0..60_000).map(|number| format!("n{number}.large.example\n"));
        names.collect::<String>() + more
    };
    let config = preamble(upstream.address) + &list("ads", "") + &list("big", "");
    let config = config + "[state]\ndir = \"state\"\nkeep = 2\n";
    let files = [("ads", "one.example\n"), ("big", &*large(""))];
    let server = Server::start(&config, &files);
    kept(&server);
    // The large list gets a new base, so the previous base and delta are kept as a pair. More pairs follow.
    server.replace("big", &large("more.example\n"));
    assert!(server.verb(&["reload"]).status.success());
    kept(&server);
    for name in ["two", "three", "four"] {
        server.replace("ads", &format!("{name}.example\n"));
        assert!(server.verb(&["reload"]).status.success());
        kept(&server);
        if name == "two" {
            let current = fs::read(server.path("state").join("current")).expect("a record");
            let current: serde_json::Value = serde_json::from_slice(&current).expect("JSON");
            let delta = current["published"][0]["delta"].as_u64().expect("a number");
            let delta = server.path("state").join(format!("delta-{delta}.image"));
            fs::remove_file(delta).expect("removed");
        }
    }
    let (code, report) = run(&server, &["rollback", "3"]);
    assert_eq!(code, Some(1), "{report}");
    assert!(
        report.contains("of generation 3: they are no longer kept, or there was no such generation; lists are kept of: 5 (")
            && report.contains("), 4 (")
            && report.contains("), 2 (")
            && report.contains("), 1 ("),
        "{report}"
    );
    assert!(blocked(&server, "four.example") && !blocked(&server, "one.example"));
    let (code, report) = run(&server, &["rollback", "4"]);
    assert_eq!(code, Some(0), "{report}");
    assert!(blocked(&server, "three.example") && blocked(&server, "more.example"));
    let (code, report) = run(&server, &["rollback", "1"]);
    assert_eq!(code, Some(0), "{report}");
    assert!(blocked(&server, "one.example") && !blocked(&server, "more.example"));
}

#[test]
fn a_damaged_pair_of_images_does_not_replace_a_good_one() {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address) + &list("ads", "");
    let config = config + "[state]\ndir = \"state\"\nkeep = 3\n";
    let folder = folder(&config, &[("ads", "one.example\n")]);
    let mut server = Server::start_in(folder);
    kept(&server);
    for name in ["two", "three"] {
        server.replace("ads", &format!("{name}.example\n"));
        assert!(server.verb(&["reload"]).status.success());
        kept(&server);
    }
    server.signal("TERM");
    server.wait();
    let entries = fs::read_dir(server.path("state")).expect("listed");
    let deltas = entries.filter_map(|entry| {
        let path = entry.expect("an entry").path();
        let name = path.file_name()?.to_str()?.to_owned();
        let number = name.strip_prefix("delta-")?.strip_suffix(".image")?;
        Some((number.parse::<u64>().ok()?, path))
    });
    let (_, newest) = deltas.max().expect("a delta");
    let mut bytes = fs::read(&newest).expect("an image");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&newest, bytes).expect("written");
    let server = server.again();
    server.logged("kept image refused");
    until("its file", || blocked(&server, "three.example"));
    kept(&server);
    // The server now keeps the images with the content of the file, the images that were in force right after the
    // start, and the undamaged images from before the start.
    let (code, report) = run(&server, &["rollback", "2"]);
    assert_eq!(code, Some(0), "{report}");
    assert!(blocked(&server, "two.example") && !blocked(&server, "three.example"));
}

#[test]
fn after_a_crash_the_lists_of_the_held_generation_return_and_no_others() {
    let (mut server, _upstream) = server(STATE);
    assert_eq!(run(&server, &["rollback", "1"]).0, Some(0));
    kept(&server);
    server.signal("TERM");
    server.wait();
    // The state directory of a server that ended before it could save the result of a second rollback.
    let now = jiff::Timestamp::now();
    let record =
        format!("{{\"generation\":2,\"since\":\"{now}\",\"first\":5,\"lists\":[\"ads\"]}}");
    fs::write(server.path("state/held"), record).expect("written");
    let mut server = server.again();
    for _ in 0..2 {
        assert!(blocked(&server, "two.example") && !blocked(&server, "one.example"));
        let alarms = server.status()["alarms"].to_string();
        assert!(
            alarms.contains("held as they were in generation 2"),
            "{alarms}"
        );
        let shown = run(&server, &["journal", "show"]).1;
        let last = shown.lines().rfind(|line| line.contains("in force, by"));
        let last = last.expect("a generation");
        assert!(last.ends_with("lists held as in generation 2"), "{last}");
        server.replace("ads", "other.example\n");
        let (code, report) = run(&server, &["reload"]);
        assert_eq!(code, Some(1));
        assert!(
            report.contains("ads: held as it was in generation 2"),
            "{report}"
        );
        kept(&server);
        server.signal("KILL");
        server.wait();
        server = server.again();
    }
}

#[test]
fn a_generation_that_is_not_kept_cannot_be_restored() {
    let (server, _upstream) = server(STATE);
    let record = || fs::read_to_string(server.path("state/current")).unwrap_or_default();
    until("the list is kept", || {
        record().contains("\"generation\": 2")
    });
    let (code, report) = run(&server, &["rollback", "99"]);
    assert_eq!(code, Some(1));
    assert!(
        report.contains("there are no lists of generation 99: they are no longer kept, or there was no such generation; lists are kept of: 2 (1 rule, 20"),
        "{report}"
    );
    let (code, report) = run(&server, &["rollback"]);
    assert_eq!(code, Some(0), "{report}");
    let kept: Vec<_> = report.lines().collect();
    assert_eq!(kept.len(), 2, "{report}");
    for (line, generation) in kept.iter().zip([2, 1]) {
        let start = format!("{generation}: in force from 20");
        assert!(
            line.starts_with(&start) && line.ends_with("Z, 1 rule"),
            "{report}"
        );
    }
    let log = server.logged("failed=1");
    assert_eq!(
        log.matches("failed=1").count(),
        1,
        "listing is no failure: {log}"
    );
    assert!(blocked(&server, "two.example"));
    server.assert_well();
}

#[test]
fn without_a_state_directory_nothing_is_kept() {
    let (server, _upstream) = server("");
    let (code, report) = run(&server, &["rollback", "1"]);
    assert_eq!(code, Some(1));
    assert!(report.contains("without a `dir` in [state]"), "{report}");
}

#[test]
fn two_generations_differ_in_lists_and_in_orders() {
    let (server, _upstream) = server(STATE);
    let (code, report) = run(&server, &["diff", "1", "3"]);
    assert_eq!(code, Some(1));
    for line in [
        "- one.example (ads)",
        "+ two.example (ads)",
        "+ order.example (order:x-1)",
    ] {
        assert!(report.contains(line), "{line}: {report}");
    }
    let lift = ["order", "lift", "x-1", "--reason", "Over"];
    assert!(server.verb(&lift).status.success());
    let (code, report) = run(&server, &["diff", "3", "4"]);
    assert_eq!(
        (code, report.as_str()),
        (
            Some(1),
            "- order.example (order:x-1): sinkhole -> upstream\norder:x-1: 0 added, 1 removed, 0 changed\n"
        )
    );
    assert_eq!(run(&server, &["diff", "1", "1"]).0, Some(0));
}

#[test]
fn a_rollback_that_a_crash_cut_short_is_whole_after_the_restart() {
    let upstream = Upstream::plain();
    // The list shrinks from 20,001 names to one, which a guard would reject.
    let config =
        preamble(upstream.address) + STATE + "[guard]\nshrink-percent = 100\n" + &list("ads", "");
    let names = (0..20_000).map(|number| format!("n{number}.long.example\n"));
    let long = names.collect::<String>() + "one.example\n";
    let server = Server::start_in(folder(&config, &[("ads", &long)]));
    kept(&server);
    server.replace("ads", "two.example\n");
    assert!(server.verb(&["reload"]).status.success());
    kept(&server);
    let folder = end(server);

    // The image of the long list can't be written: the rollback record is on disk and the rollback in force by then, but
    // `current` does not name its images.
    let script = "ulimit -f 96; exec \"$0\" serve --config tapis.toml";
    let arguments = ["-c", script, env!("CARGO_BIN_EXE_tapis")];
    let mut server = Server::start_by("sh", &arguments, folder);
    kept(&server);
    assert!(blocked(&server, "two.example"));
    let before = fs::read_to_string(server.path("state/current")).expect("readable");
    server.verb(&["rollback", "1"]);
    server.signal("KILL");
    server.wait();
    assert!(server.path("state/held").exists());
    let current = fs::read_to_string(server.path("state/current")).expect("readable");
    assert_eq!(current, before, "the restored images were not kept");

    let server = server.again();
    assert!(blocked(&server, "one.example") && blocked(&server, "n7.long.example"));
    assert!(!blocked(&server, "two.example"));
    let alarms = server.status()["alarms"].to_string();
    assert!(
        alarms.contains("held as they were in generation 1"),
        "{alarms}"
    );
    let report = run(&server, &["why", "one.example"]).1;
    assert!(
        report.contains("ads: held as it was in generation 1;"),
        "{report}"
    );
    assert_eq!(run(&server, &["rollback", "--release"]).0, Some(0));
    assert!(blocked(&server, "two.example") && !blocked(&server, "one.example"));
}

#[test]
fn an_unreadable_rollback_record_is_ignored_and_reported() {
    let (mut server, _upstream) = server(STATE);
    // The order's generation has the same images, so it has no record.
    let record = || fs::read_to_string(server.path("state/current")).unwrap_or_default();
    until("the list is kept", || {
        record().contains("\"generation\": 2")
    });
    server.signal("TERM");
    server.wait();
    fs::write(server.path("state/held"), "???").expect("written");
    let server = server.again();
    assert!(blocked(&server, "two.example"));
    let alarms = server.status()["alarms"].to_string();
    assert!(
        alarms.contains("state/held: can't be read, so no list is held"),
        "{alarms}"
    );
}

#[test]
fn a_list_that_is_not_in_the_generation_follows_its_file() {
    let (server, _upstream) = server(STATE);
    fs::write(server.path("more"), "more.example\n").expect("written");
    let config = fs::read_to_string(server.path("tapis.toml")).expect("readable");
    server.replace("tapis.toml", &(config + &list("more", "")));
    assert!(server.verb(&["reload"]).status.success());
    assert!(blocked(&server, "more.example"));
    let (code, report) = run(&server, &["rollback", "1"]);
    assert_eq!(code, Some(1), "{report}");
    assert!(
        report.contains("more: generation 1 does not have it"),
        "{report}"
    );
    assert!(blocked(&server, "more.example") && blocked(&server, "one.example"));
    server.replace("more", "other.example\n");
    until("its file", || blocked(&server, "other.example"));
    assert!(blocked(&server, "one.example") && !blocked(&server, "two.example"));
    // After a restart the list is not held either.
    let mut server = server;
    server.signal("TERM");
    server.wait();
    server.replace("more", "third.example\n");
    let server = server.again();
    until("its file", || blocked(&server, "third.example"));
    assert!(blocked(&server, "one.example") && !blocked(&server, "two.example"));
}

#[test]
fn a_configuration_reloaded_while_lists_are_held_applies_with_their_release() {
    let (server, _upstream) = server(STATE);
    assert_eq!(run(&server, &["rollback", "1"]).0, Some(0));
    fs::write(server.path("more"), "more.example\n").expect("written");
    let config = fs::read_to_string(server.path("tapis.toml")).expect("readable");
    server.replace("tapis.toml", &(config + &list("more", "")));
    let (code, report) = run(&server, &["reload"]);
    assert_eq!(code, Some(1));
    assert!(
        report.contains("lists of the configuration rejected: lists are held"),
        "{report}"
    );
    let (code, report) = run(&server, &["rollback", "--release"]);
    assert_eq!(code, Some(0), "{report}");
    assert!(blocked(&server, "more.example") && blocked(&server, "two.example"));
}

/// Replaces the configuration and reloads it.
fn reconfigure(server: &Server, config: &str) {
    server.replace("tapis.toml", config);
    let (code, report) = run(server, &["reload"]);
    assert_eq!(code, Some(0), "{report}");
}

#[test]
fn a_start_with_other_lists_reports_the_lists_that_are_not_held() {
    let upstream = Upstream::plain();
    let preamble = preamble(upstream.address) + STATE;
    let first = ["ads", "gone", "kind", "place", "act"].map(|name| list(name, ""));
    let files = ["ads", "gone", "kind", "place", "act", "elsewhere", "new"];
    let files = files.map(|name| (name, format!("{name}.example\n")));
    let files = files.each_ref().map(|(name, text)| (*name, &**text));
    let server = Server::start(&(preamble.clone() + &first.concat()), &files);
    kept(&server);
    assert_eq!(run(&server, &["rollback", "1"]).0, Some(0));
    kept(&server);
    let place = "[[list]]\nname = \"place\"\npath = \"elsewhere\"\n";
    let then = [
        list("ads", ""),
        list("kind", "kind = \"allow\""),
        place.to_owned(),
        list("act", "action = \"refused\""),
        list("new", ""),
    ];
    server.replace("tapis.toml", &(preamble + &then.concat()));
    let server = Server::start_in(end(server));
    assert!(blocked(&server, "ads.example"));
    let alarms = server.status()["alarms"].to_string();
    for alarm in [
        "gone: in force in generation 1, and no longer in the configuration",
        "kind: generation 1 does not have it as it is configured now",
        "place: generation 1 does not have it",
        "act: its action in generation 1 is sinkhole, and now refused",
        "new: generation 1 does not have it",
    ] {
        assert!(alarms.contains(alarm), "{alarm}: {alarms}");
    }
    assert!(!alarms.contains("\"ads: "), "{alarms}");
    assert_eq!(run(&server, &["rollback", "--release"]).0, Some(0));
    assert_eq!(server.status()["alarms"].as_array().map(Vec::len), Some(0));
}

#[test]
fn lists_that_differ_from_the_generation_keep_their_rules_in_force() {
    let upstream = Upstream::plain();
    let preamble = preamble(upstream.address) + STATE + &list("ads", "");
    let first = [list("old", ""), list("moved", ""), list("wide", "")].concat()
        + &list("turned", "action = \"nodata\"\n")
        + &list("hosts", "");
    let files = [
        ("ads", "one.example\nfree.example\n"),
        ("old", "renamed.example\n"),
        ("moved", "moved.example\n"),
        ("wide", "wide.example\n"),
        ("turned", "free.example\n"),
        ("hosts", "plain.example\n"),
    ];
    let server = Server::start(&(preamble.clone() + &first), &files);
    kept(&server);
    for (name, content) in [
        ("new", "new.example\n"),
        ("elsewhere", "moved.example\n"),
        ("must", "must.example\n"),
    ] {
        fs::write(server.path(name), content).expect("written");
    }
    server.replace("hosts", "0.0.0.0 formed.example\n");
    let second = [
        "[[list]]\nname = \"renamed\"\npath = \"old\"\n",
        "[[list]]\nname = \"moved\"\npath = \"elsewhere\"\n",
        &list("wide", "scope = \"subtree\"\n"),
        &list("turned", "kind = \"allow\"\n"),
        &list("hosts", "format = \"hosts\"\n"),
        &list("new", ""),
        &list("must", "required = true\n"),
    ]
    .concat();
    server.replace("tapis.toml", &(preamble + &second));
    // Under the configuration in force until this reload, the file of `hosts` is invalid.
    run(&server, &["reload"]);
    server.replace("ads", "two.example\nfree.example\n");
    assert_eq!(run(&server, &["reload"]).0, Some(0));
    kept(&server);
    // A guard rejects the empty file of the required list, whose last good state stays; the files of the others are
    // gone.
    server.replace("must", "");
    for file in ["old", "elsewhere", "wide", "turned", "hosts", "new"] {
        fs::remove_file(server.path(file)).expect("removed");
    }
    assert_eq!(run(&server, &["reload"]).0, Some(1));

    let stays = |server: &Server| {
        for name in [
            "renamed.example",
            "moved.example",
            "deep.wide.example",
            "formed.example",
            "new.example",
            "must.example",
        ] {
            assert!(blocked(server, name), "{name}");
        }
        assert!(!blocked(server, "free.example"), "an allow list");
    };
    stays(&server);
    let (code, report) = run(&server, &["rollback", "1"]);
    stays(&server);
    assert_eq!(code, Some(1), "{report}");
    for name in ["renamed", "moved", "wide", "turned", "hosts", "new", "must"] {
        let line = format!(
            "{name}: generation 1 does not have it as it is configured now; its rules in force stay"
        );
        assert!(report.contains(&line), "{line}: {report}");
    }
    assert!(blocked(&server, "one.example") && !blocked(&server, "two.example"));

    // The same applies after a restart. The lists that are not held then change with their files.
    kept(&server);
    let server = Server::start_in(end(server));
    stays(&server);
    assert!(blocked(&server, "one.example") && !blocked(&server, "two.example"));
    server.replace("new", "newest.example\n");
    until("its file", || blocked(&server, "newest.example"));
    server.replace("must", "# lifted\nmust.example\nmore.example\n");
    until("its file", || blocked(&server, "more.example"));
    server.replace("new", "new.example\n");
    until("its file", || blocked(&server, "new.example"));

    server.replace("must", "");
    until("the guard", || {
        server.status()["lists"].to_string().contains("must:empty")
    });
    run(&server, &["rollback", "--release"]);
    stays(&server);
    assert!(blocked(&server, "two.example") && !blocked(&server, "one.example"));
}

#[test]
fn a_large_list_renamed_since_keeps_its_rules_beside_the_restored_ones() {
    let upstream = Upstream::plain();
    let preamble = preamble(upstream.address) + STATE + &list("ads", "");
    let names = (0..60_000).map(|number| format!("n{number}.large.example\n"));
    let names: String = names.collect();
    let first = preamble.clone() + &list("big", "") + &list("also", "");
    let also = names.replace("large", "other");
    let files = [
        ("ads", "one.example\n"),
        ("big", &*names),
        ("also", &*(also.clone() + "old.example\n")),
    ];
    let server = Server::start(&first, &files);
    kept(&server);
    server.replace("also", &(also + "new.example\n"));
    let huge = "[[list]]\nname = \"huge\"\npath = \"big\"\n";
    reconfigure(&server, &(preamble + huge + &list("also", "")));
    server.replace("ads", "two.example\n");
    assert_eq!(run(&server, &["reload"]).0, Some(0));
    kept(&server);
    fs::remove_file(server.path("big")).expect("removed");
    let mut server = server;
    for _ in 0..2 {
        assert_eq!(run(&server, &["rollback", "1"]).0, Some(1));
        for name in [
            "one.example",
            "old.example",
            "n7.large.example",
            "n7.other.example",
        ] {
            assert!(blocked(&server, name), "{name}");
        }
        for name in ["two.example", "new.example"] {
            assert!(!blocked(&server, name), "{name}");
        }
        kept(&server);
        server = Server::start_in(end(server));
    }
    run(&server, &["rollback", "--release"]);
    for name in [
        "two.example",
        "new.example",
        "n7.large.example",
        "n7.other.example",
    ] {
        assert!(blocked(&server, name), "{name}");
    }
}

#[test]
fn a_rollback_names_the_lists_and_settings_that_it_does_not_restore() {
    let upstream = Upstream::plain();
    let preamble = preamble(upstream.address) + STATE;
    let first = [
        list("gone", ""),
        list("ads", "action = \"refused\"\n"),
        list("more", ""),
        list("last", ""),
    ];
    let files = [
        ("gone", "gone.example\n"),
        ("ads", "one.example\n"),
        ("more", "more.example\n"),
        ("last", "last.example\n"),
    ];
    let server = Server::start(&(preamble.clone() + &first.concat()), &files);
    kept(&server);
    let second = [list("ads", ""), list("last", ""), list("more", "")];
    reconfigure(&server, &(preamble.clone() + &second.concat()));
    server.replace("ads", "two.example\n");
    assert_eq!(run(&server, &["reload"]).0, Some(0));
    kept(&server);
    let (code, report) = run(&server, &["rollback", "1"]);
    assert_eq!(code, Some(1), "{report}");
    let expected = [
        "gone: in force in generation 1, and no longer in the configuration: it is not restored",
        "ads: its action in generation 1 is refused, and now sinkhole: the action is not restored",
        "lists: their order in generation 1 is ads, more, last, and now ads, last, more: the order is not restored",
    ];
    for line in expected {
        assert!(report.contains(line), "{line}: {report}");
    }
    let held = "lists are held as they were in generation 1, except for the problems above, until: tapis rollback --release";
    assert!(report.contains(held), "{report}");
    assert!(blocked(&server, "one.example") && !blocked(&server, "gone.example"));
    // The alarm stays over a restart, until the lists are released.
    kept(&server);
    let server = Server::start_in(end(server));
    let alarms = server.status()["alarms"].to_string();
    for line in expected {
        assert!(alarms.contains(line), "{line}: {alarms}");
    }
    assert_eq!(run(&server, &["rollback", "--release"]).0, Some(0));
    server.assert_well();

    // A list that was removed before that generation is not reported.
    let (code, report) = run(&server, &["rollback", "3"]);
    assert_eq!(code, Some(0), "{report}");
}

#[test]
fn a_rollback_without_a_journal_also_names_lists_that_are_gone() {
    let upstream = Upstream::plain();
    let preamble = preamble(upstream.address) + STATE + "[journal]\npath = \"missing/journal\"\n";
    let config = preamble.clone() + &list("ads", "") + &list("gone", "");
    let files = [("ads", "one.example\n"), ("gone", "gone.example\n")];
    let server = Server::start(&config, &files);
    kept(&server);
    reconfigure(&server, &(preamble + &list("ads", "")));
    let (code, report) = run(&server, &["rollback", "1"]);
    assert_eq!(code, Some(1), "{report}");
    assert!(
        report.contains("gone: in force in generation 1, and no longer"),
        "{report}"
    );
}

const EXCEPTION: &str = "[[exception]]\nname = \"one.example\"\nscope = \"exact\"\nagainst = [\"all\"]\n\
                         reason = \"wrong\"\nauthor = \"me\"\n";

#[test]
fn exceptions_orders_and_client_permissions_are_never_held() {
    let (server, _upstream) = server(STATE);
    fs::create_dir(server.path("others")).expect("made");
    let text = order("x-3", PAST, &target("third.example", "exact"));
    fs::write(server.path("others/x-3.toml"), text).expect("written");
    assert_eq!(run(&server, &["rollback", "1"]).0, Some(0));
    assert!(blocked(&server, "one.example"));
    let config = fs::read_to_string(server.path("tapis.toml")).expect("readable");
    let taken = |config: &str| {
        server.replace("tapis.toml", config);
        let report = run(&server, &["reload"]).1;
        assert!(!report.contains("configuration"), "{report}");
    };
    taken(&(config.clone() + EXCEPTION));
    assert!(!blocked(&server, "one.example"), "it is excepted");
    taken(&config.replace("\"orders\"", "\"others\""));
    assert!(blocked(&server, "third.example") && !blocked(&server, "order.example"));
    assert!(blocked(&server, "one.example") && !blocked(&server, "two.example"));
    taken(&config.replace("[server]\n", "[server]\nallow = [\"192.0.2.1/32\"]\n"));
    let answer = ask(server.address, "one.example", RecordType::A);
    assert_eq!(rcode(&answer), ResponseCode::Refused);
    taken(&config);
    assert!(blocked(&server, "one.example"));

    // Lists stay held through other changes and through reloads.
    fs::write(server.path("more"), "more.example\n").expect("written");
    let both = config + &list("more", "") + EXCEPTION;
    server.replace("tapis.toml", &both);
    for _ in 0..2 {
        let (code, report) = run(&server, &["reload"]);
        assert_eq!(code, Some(1));
        let held =
            "lists of the configuration rejected: lists are held as they were in generation 1";
        assert!(report.contains(held), "{report}");
        assert!(server.status()["alarms"].to_string().contains(held));
        assert!(!blocked(&server, "one.example"), "it is excepted");
        assert!(!blocked(&server, "more.example"));
    }
    let (code, report) = run(&server, &["rollback", "--release"]);
    assert_eq!(code, Some(0), "{report}");
    assert!(blocked(&server, "more.example") && blocked(&server, "two.example"));
    server.assert_well();
}

/// A journal, and one that cannot be opened.
const JOURNALS: [&str; 2] = [
    "[journal]\npath = \"journal\"\n",
    "[journal]\npath = \"missing/journal\"\n",
];

/// Enough names to make a list large enough for the compiler.
fn many() -> String {
    let names = (0..60_000).map(|number| format!("n{number}.large.example\n"));
    names.collect()
}

#[test]
fn a_list_removed_and_added_again_keeps_its_rules_beside_a_generation_without_it() {
    for (journal, filler) in JOURNALS
        .into_iter()
        .flat_map(|journal| [(journal, String::new()), (journal, many())])
    {
        let upstream = Upstream::plain();
        let without = preamble(upstream.address) + STATE + journal + &list("ads", "");
        let with = without.clone() + &list("mand", "");
        let (old, new) = (
            "old.example\n".to_owned() + &filler,
            "new.example\nnewer.example\n".to_owned() + &filler,
        );
        let server = Server::start(&with, &[("ads", "one.example\n"), ("mand", &old)]);
        kept(&server);
        reconfigure(&server, &without);
        kept(&server);
        assert!(!blocked(&server, "old.example"));
        server.replace("ads", "two.example\nfree.example\n");
        assert_eq!(run(&server, &["reload"]).0, Some(0));
        kept(&server);
        server.replace("mand", &new);
        reconfigure(&server, &with);
        kept(&server);
        let report = run(&server, &["rollback", "99"]).1;
        for known in ["2 (1 rule, ", "3 (2 rules, "] {
            assert!(report.contains(known), "{known}: {report}");
        }

        let stays = |server: &Server| {
            assert!(blocked(server, "new.example") && blocked(server, "newer.example"));
            assert!(!blocked(server, "old.example"));
            assert_eq!(blocked(server, "n7.large.example"), !filler.is_empty());
        };
        let problem = |generation: u64| {
            format!(
                "mand: generation {generation} does not have it as it is configured now; \
                 its rules in force stay, and it follows its file"
            )
        };
        let is_alarm = |server: &Server, problem: &str| {
            server.status()["alarms"].to_string().contains(problem)
        };
        for (generation, name) in [(2, "one.example"), (3, "free.example")] {
            let (code, report) = run(&server, &["rollback", &generation.to_string()]);
            assert_eq!(code, Some(1), "{report}");
            assert!(report.contains(&problem(generation)), "{report}");
            stays(&server);
            assert!(blocked(&server, name), "{name}");
            assert!(is_alarm(&server, &problem(generation)));
        }
        kept(&server);
        let server = Server::start_in(end(server));
        stays(&server);
        assert!(is_alarm(&server, &problem(3)));
        assert_eq!(run(&server, &["rollback", "--release"]).0, Some(0));
        assert!(!is_alarm(&server, &problem(3)));
        stays(&server);
        // The first generation has the list.
        assert_eq!(run(&server, &["rollback", "1"]).0, Some(0));
        assert!(blocked(&server, "old.example") && !blocked(&server, "new.example"));
    }
}

#[test]
fn rules_of_a_removed_list_do_not_return_when_its_file_is_missing() {
    for filler in [String::new(), many()] {
        let upstream = Upstream::plain();
        let without = preamble(upstream.address) + STATE + JOURNALS[0] + &list("ads", "");
        let with = without.clone() + &list("more", "");
        let more = "more.example\n".to_owned() + &filler;
        let server = Server::start(&with, &[("ads", "one.example\n"), ("more", &more)]);
        kept(&server);
        reconfigure(&server, &without);
        server.replace("ads", "two.example\n");
        assert_eq!(run(&server, &["reload"]).0, Some(0));
        kept(&server);
        let folder = end(server);
        fs::remove_file(folder.path().join("more")).expect("removed");
        fs::write(folder.path().join("tapis.toml"), &with).expect("written");
        let server = Server::start_in(folder);
        assert!(!blocked(&server, "more.example") && blocked(&server, "two.example"));
        let (code, report) = run(&server, &["status"]);
        assert_eq!(code, Some(1), "{report}");
        assert!(!report.contains("last good"), "{report}");
        // A rollback to a generation without the list does not restore it either.
        kept(&server);
        let (code, report) = run(&server, &["rollback", "2"]);
        assert_eq!(code, Some(1), "{report}");
        let problem = "more: generation 2 does not have it as it is configured now; \
                       nothing of it was in force";
        assert!(report.contains(problem), "{report}");
        assert!(!blocked(&server, "more.example") && blocked(&server, "one.example"));

        // A required list has its last good state; without one the server would not start.
        let folder = end(server);
        let config = with + "required = true\n";
        fs::write(folder.path().join("tapis.toml"), config).expect("written");
        let server = Server::start_in(folder);
        let report = run(&server, &["status"]).1;
        assert!(report.contains("HELD at its last good state"), "{report}");
        let stays = |server: &Server| {
            assert!(blocked(server, "more.example") && blocked(server, "one.example"));
        };
        stays(&server);
        kept(&server);
        stays(&Server::start_in(end(server)));
    }
}

#[test]
fn a_held_list_that_is_absent_for_one_start_is_held_again() {
    let upstream = Upstream::plain();
    let without = preamble(upstream.address) + STATE + &list("ads", "");
    let with = without.clone() + &list("more", "");
    // A large list stays in the base.
    let more = |name: &str| format!("{name}.example\n{}", many());
    let files = [("ads", "one.example\n"), ("more", &*more("old"))];
    let server = Server::start(&with, &files);
    kept(&server);
    server.replace("more", &more("new"));
    assert_eq!(run(&server, &["reload"]).0, Some(0));
    assert_eq!(run(&server, &["rollback", "1"]).0, Some(0));
    kept(&server);
    let again = |server: Server, config: &str| {
        let folder = end(server);
        fs::write(folder.path().join("tapis.toml"), config).expect("written");
        let server = Server::start_in(folder);
        kept(&server);
        server
    };
    let server = again(server, &without);
    assert!(!blocked(&server, "old.example") && !blocked(&server, "new.example"));
    let server = again(server, &with);
    assert!(blocked(&server, "old.example") && !blocked(&server, "new.example"));
    let report = run(&server, &["status"]).1;
    let state = "list more: 60001 rules, 0 bad lines, HELD as in generation 1";
    assert!(report.contains(state), "{report}");
}

#[test]
fn files_replaced_by_equal_ones_evict_no_generation() {
    for (journal, filler) in JOURNALS
        .into_iter()
        .flat_map(|journal| [(journal, String::new()), (journal, many())])
    {
        let upstream = Upstream::plain();
        let config = preamble(upstream.address) + "[state]\ndir = \"state\"\nkeep = 2\n" + journal;
        let config = config + &list("ads", "") + &list("small", "");
        let text = |name: &str| format!("{name}.example\n{filler}");
        let files = [("ads", &*text("one")), ("small", "s1.example\n")];
        let server = Server::start(&config, &files);
        kept(&server);
        let mut then = vec![(1, ["one.example", "s1.example"])];
        let mut step = |file: &str, content: &str, names: [&'static str; 2]| {
            server.replace(file, content);
            assert_eq!(run(&server, &["reload"]).0, Some(0));
            kept(&server);
            let generation = server.status()["generation"].as_u64().expect("a number");
            then.push((generation, names));
        };
        step("ads", &text("two"), ["two.example", "s1.example"]);
        step("small", "s2.example\n", ["two.example", "s2.example"]);
        step("small", "s3.example\n", ["two.example", "s3.example"]);
        for number in 0..5 {
            let file = ["ads", "small"][number % 2];
            let same = fs::read_to_string(server.path(file)).expect("readable");
            step(file, &same, ["two.example", "s3.example"]);
        }
        let report = run(&server, &["rollback", "99"]).1;
        for (generation, names) in then {
            let (code, printed) = run(&server, &["rollback", &generation.to_string()]);
            assert_eq!(code, Some(0), "{generation}: {printed} {report}");
            for name in names {
                assert!(blocked(&server, name), "{generation}: {name}");
            }
        }
    }
}
