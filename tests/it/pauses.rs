//! Pauses of lists and feeds: for how long their rules decide nothing, and where that is shown.

use std::fs;
use std::process::Command;
use std::time::Duration;

use hickory_proto::rr::RecordType;
use jiff::Timestamp;
use serde_json::Value;

use crate::history::run;
use crate::orders::{PAST, order, target};
use crate::state::end;
use crate::support::client::{ask, data, is_blocked, until};
use crate::support::clock::Clock;
use crate::support::server::{Server, folder, list, preamble, tapis};
use crate::support::upstream::{Upstream, aliased};

const STATE: &str = "[state]\ndir = \"state\"\nkeep = 10\n";

/// The files of the lists of [`config`].
const LISTS: [(&str, &str); 3] = [
    ("ads", "ads.example\nboth.example\nlisted.example\n"),
    ("more", "more.example\nallowed.example\n"),
    ("good", "allowed.example\n"),
];

/// Two block lists and an allow list, and a directory of orders.
fn config(upstream: &Upstream, more: &str) -> String {
    format!(
        "{}[orders]\npath = \"orders\"\n{}{}{}{more}",
        preamble(upstream.address),
        list("ads", ""),
        list("more", ""),
        list("good", "kind = \"allow\"")
    )
}

/// An upstream server for which `alias.example` is an alias of `listed.example`.
fn upstream() -> Upstream {
    Upstream::start(|asked| Some(aliased(asked, "alias.example", "listed.example")))
}

/// A server with these lists, and with an order that both an order and a list have a rule for.
fn server(more: &str) -> (Server, Upstream) {
    let upstream = upstream();
    let folder = folder(&config(&upstream, more), &LISTS);
    fs::create_dir(folder.path().join("orders")).expect("made");
    let targets = ["order.example", "both.example"].map(|name| target(name, "exact"));
    let text = order("x-1", PAST, &targets.concat());
    fs::write(folder.path().join("orders/x-1.toml"), text).expect("written");
    (Server::start_in(folder), upstream)
}

/// The names of `of` that are blocked.
fn blocked<'n>(server: &Server, of: &[&'n str]) -> Vec<&'n str> {
    let names = of.iter().copied();
    names
        .filter(|name| is_blocked(server.address, name))
        .collect()
}

/// Runs a verb that succeeds.
fn done(server: &Server, arguments: &[&str]) -> String {
    let (code, report) = run(server, arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {report}");
    report
}

/// Runs a verb that fails, and returns its message.
fn failed(server: &Server, arguments: &[&str]) -> String {
    let (code, report) = run(server, arguments);
    assert_eq!(code, Some(1), "{arguments:?}: {report}");
    report
}

fn pause(server: &Server, list: &str, length: &str) -> String {
    done(
        server,
        &["pause", list, "--for", length, "--reason", "a bank broke"],
    )
}

/// The pause of a list in `status`.
fn paused(server: &Server, list: &str) -> Value {
    let status = server.status();
    let lists = status["lists"].as_array().expect("an array");
    let list = lists.iter().find(|found| found["name"] == list);
    list.expect("a list")["paused"].clone()
}

#[test]
fn a_paused_list_decides_neither_about_names_nor_about_chains_and_orders_stay_in_force() {
    let (server, _upstream) = server("");
    let names = [
        "ads.example",
        "both.example",
        "more.example",
        "order.example",
        "allowed.example",
    ];
    let chain = || data(&ask(server.address, "alias.example", RecordType::A));
    let all = [
        "ads.example",
        "both.example",
        "more.example",
        "order.example",
    ];
    assert_eq!(blocked(&server, &names), all);
    assert!(chain().contains(&"0.0.0.0".to_owned()), "{:?}", chain());
    pause(&server, "ads", "1h");
    let without_ads = ["both.example", "more.example", "order.example"];
    assert_eq!(blocked(&server, &names), without_ads);
    assert!(chain().contains(&"192.0.2.9".to_owned()), "{:?}", chain());
    pause(&server, "good", "1h");
    assert_eq!(
        blocked(&server, &names),
        [&without_ads[..], &["allowed.example"]].concat()
    );
    // A pause of all lists.
    let report = done(&server, &["pause", "--for", "5m", "--reason", "all"]);
    assert!(report.contains("list more: paused until"), "{report}");
    assert!(report.contains("list ads: paused until"), "{report}");
    assert_eq!(blocked(&server, &names), ["both.example", "order.example"]);
    assert_eq!(
        paused(&server, "ads")["reason"],
        "a bank broke",
        "it is longer"
    );
    assert_eq!(paused(&server, "more")["reason"], "all");
    // The end of one pause, and then of all.
    let report = done(&server, &["resume", "more"]);
    assert!(report.contains("list more: in force again"), "{report}");
    let of_more = ["both.example", "more.example", "order.example"];
    assert_eq!(
        blocked(&server, &names),
        [&of_more[..], &["allowed.example"]].concat()
    );
    done(&server, &["resume"]);
    assert_eq!(blocked(&server, &names), all);
    server.assert_well();
}

#[test]
fn a_pause_is_in_status_and_why_with_its_end_reason_and_user() {
    let (server, _upstream) = server("");
    let report = pause(&server, "ads", "1h30m");
    let user = tapis_user();
    let line = format!("(a bank broke, by user {user})");
    assert!(report.starts_with("list ads: paused until 2"), "{report}");
    assert!(report.contains(&line), "{report}");
    let restarts = "a restart of the server ends this, as there is no `dir` in [state]";
    assert!(report.contains(restarts), "{report}");
    for name in ["ads.example", "ads.example", "other.example"] {
        assert!(!is_blocked(server.address, name));
    }
    until("the hits", || {
        paused(&server, "ads")["would_have_blocked"] == 2
    });
    let pause = paused(&server, "ads");
    let time = |key: &str| -> Timestamp {
        let text = pause[key].as_str().expect("a text");
        text.parse().expect("a time")
    };
    assert_eq!(time("until").duration_since(time("since")).as_secs(), 5400);
    assert_eq!(pause["user"], user);
    let shown = done(&server, &["status"]);
    let lines: Vec<_> = shown.lines().collect();
    assert!(lines[2].starts_with("list ads: PAUSED until 2"), "{shown}");
    assert!(lines[2].contains(&line), "{shown}");
    assert!(
        lines[2].ends_with("it would have blocked 2 queries"),
        "{shown}"
    );
    assert!(shown.contains("0 bad lines, PAUSED\n"), "{shown}");
    let log = server.logged("paused: its rules decide nothing");
    assert!(log.contains("a bank broke"), "{log}");

    let why = done(&server, &["why", "ads.example"]);
    assert!(why.starts_with("ads.example: upstream"), "{why}");
    assert!(why.contains("also ads.example (block, list ads, "), "{why}");
    assert!(
        why.contains("note: list ads is paused, and would block it"),
        "{why}"
    );
    assert!(why.contains("note: list ads is paused until 2"), "{why}");
    assert!(why.contains(&line), "{why}");
    // An order precedes the list, with or without the pause.
    let why = done(&server, &["why", "both.example"]);
    assert!(
        why.starts_with("both.example: blocked by order x-1"),
        "{why}"
    );
    assert!(!why.contains("would block it"), "{why}");
    let why = done(&server, &["why", "other.example"]);
    assert!(!why.contains("paused"), "{why}");
    let export = failed(&server, &["export", "ads", "--format=hosts"]);
    assert!(export.contains("`ads` is paused"), "{export}");
}

/// The user of this process.
fn tapis_user() -> u32 {
    let output = Command::new("id").arg("-u").output().expect("it ran");
    let text = String::from_utf8(output.stdout).expect("a number");
    text.trim().parse().expect("a number")
}

#[test]
fn what_can_not_be_paused_is_refused_with_the_remedy() {
    let (server, _upstream) = server("");
    let reason = ["--for", "5m", "--reason", "x"];
    let pause = |list| failed(&server, &[&["pause", list][..], &reason].concat());
    let unknown = pause("adz");
    assert!(
        unknown.contains("no list or feed `adz`; did you mean `ads`?"),
        "{unknown}"
    );
    for order in ["x-1", "order:x-1"] {
        let refused = pause(order);
        assert!(refused.contains("orders can't be paused"), "{refused}");
        assert!(refused.contains("tapis order suspend x-1"), "{refused}");
    }
    let refused = failed(&server, &["resume", "ads"]);
    assert!(refused.contains("list ads is not paused"), "{refused}");
    let refused = failed(&server, &["resume"]);
    assert!(refused.contains("no list or feed is paused"), "{refused}");
    let refused = failed(&server, &["resume", "adz"]);
    assert!(refused.contains("did you mean `ads`?"), "{refused}");
    for (arguments, expected) in [
        (
            &["pause", "ads", "--for", "8d", "--reason", "x"][..],
            "1 second to 7 days",
        ),
        (
            &["pause", "ads", "--for", "5", "--reason", "x"],
            "a time with its unit",
        ),
        (
            &["pause", "ads", "--for", "5m", "--reason", " "],
            "the reason is empty",
        ),
        (&["pause", "ads", "--for", "5m"], "--reason"),
        (&["pause", "ads", "--reason", "x"], "--for"),
        (&["disable"], "tapis pause [LIST] --for 5m"),
        (&["enable"], "tapis resume [LIST]"),
    ] {
        let (code, report) = run(&server, arguments);
        assert_eq!(code, Some(2), "{report}");
        assert!(report.contains(expected), "{report}");
    }
    assert_eq!(server.status()["generation"], 1, "nothing has changed");
}

#[test]
fn a_pause_survives_a_restart_ends_by_the_clock_and_is_in_the_journal() {
    let upstream = upstream();
    let folder = folder(&config(&upstream, STATE), &LISTS);
    fs::create_dir(folder.path().join("orders")).expect("made");
    let serve = || {
        let mut command = tapis();
        command.args(["serve", "--config", "tapis.toml"]);
        command
    };
    let mut command = serve();
    command.current_dir(folder.path());
    let mut clock = Clock::replace(&mut command, folder.path());
    let server = Server::run(command, folder);
    assert!(is_blocked(server.address, "ads.example"));
    let before = Timestamp::now();
    let report = pause(&server, "ads", "1h");
    assert!(!report.contains("restart"), "{report}");
    pause(&server, "more", "2h");
    let during = Timestamp::now();
    assert_eq!(blocked(&server, &["ads.example", "more.example"]), [""; 0]);

    let folder = end(server);
    let mut command = serve();
    command.current_dir(folder.path());
    clock.set(&mut command, folder.path());
    let server = Server::run(command, folder);
    assert_eq!(blocked(&server, &["ads.example", "more.example"]), [""; 0]);

    clock.advance(Duration::from_secs(3700));
    until("the end", || is_blocked(server.address, "ads.example"));
    assert!(!is_blocked(server.address, "more.example"));
    assert!(paused(&server, "ads").is_null());
    done(&server, &["resume", "more"]);
    assert!(is_blocked(server.address, "more.example"));

    let shown = done(&server, &["journal", "show"]);
    let user = tapis_user();
    for line in [
        &*format!("in force, by `tapis pause ads --for 1h` of user {user}"),
        &*format!("(a bank broke, by user {user})"),
        "    list ads: paused until 2",
        "in force, by the end of the pause of list ads",
        "    list ads: no longer paused",
        &*format!("in force, by `tapis resume more` of user {user}"),
        "    list more: no longer paused",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    let at = |moment: Timestamp| {
        let moment = moment.to_string();
        done(&server, &["why", "ads.example", "--at", &moment])
    };
    let was = at(before);
    assert!(was.starts_with("ads.example: blocked by list ads"), "{was}");
    let was = at(during);
    assert!(was.starts_with("ads.example: upstream"), "{was}");
    assert!(
        was.contains("list ads is paused, and would block it"),
        "{was}"
    );
    assert!(was.contains("note: list ads is paused until 2"), "{was}");
    let (code, differs) = run(&server, &["diff", "1", "2"]);
    assert_eq!(code, Some(1), "{differs}");
    assert!(differs.contains("- ads.example (ads)"), "{differs}");
}

#[test]
fn a_server_without_a_state_directory_forgets_a_pause_and_one_that_is_off_lets_it_end() {
    let (server, _upstream) = server("");
    pause(&server, "ads", "1h");
    let server = Server::start_in(end(server));
    assert!(is_blocked(server.address, "ads.example"));

    let (server, _upstream) = self::server(STATE);
    pause(&server, "ads", "1s");
    pause(&server, "more", "1h");
    let folder = end(server);
    let over = Timestamp::now() + Duration::from_secs(1);
    until("its end", || Timestamp::now() > over);
    let server = Server::start_in(folder);
    let names = ["ads.example", "more.example"];
    assert_eq!(blocked(&server, &names), ["ads.example"]);
}

#[test]
fn a_list_is_loaded_while_it_is_paused_and_its_newest_state_counts_afterwards() {
    let (server, _upstream) = server(STATE);
    pause(&server, "ads", "1h");
    // Guards check the list as always.
    server.replace("ads", "newer.example\n");
    let report = failed(&server, &["reload"]);
    assert!(report.contains("fewer than the 3 in force"), "{report}");
    done(&server, &["reload", "--accept", "ads:shrunk"]);
    let names = ["ads.example", "newer.example"];
    assert_eq!(blocked(&server, &names), [""; 0]);
    // A rollback and its release change what the list has, but not that it is paused.
    done(&server, &["rollback", "1"]);
    assert_eq!(blocked(&server, &names), [""; 0]);
    pause(&server, "more", "1h");
    done(&server, &["resume", "ads"]);
    assert_eq!(
        blocked(&server, &["ads.example", "newer.example", "more.example"]),
        ["ads.example"]
    );
    done(&server, &["rollback", "--release"]);
    assert_eq!(
        blocked(&server, &["ads.example", "newer.example", "more.example"]),
        ["newer.example"]
    );
}

#[test]
fn a_list_that_leaves_the_configuration_loses_its_pause() {
    let (server, _upstream) = server(STATE);
    let config = fs::read_to_string(server.path("tapis.toml")).expect("readable");
    pause(&server, "ads", "1h");
    pause(&server, "more", "1h");
    server.replace("tapis.toml", &config.replace(&list("ads", ""), ""));
    done(&server, &["reload"]);
    server.replace("tapis.toml", &config);
    done(&server, &["reload"]);
    let names = ["ads.example", "more.example"];
    assert_eq!(blocked(&server, &names), ["ads.example"]);
    let server = Server::start_in(end(server));
    assert_eq!(blocked(&server, &names), ["ads.example"]);
}

#[test]
fn a_pause_that_the_disk_refuses_is_in_force_and_reported() {
    let (server, _upstream) = server(STATE);
    // A directory in place of the file.
    fs::create_dir(server.path("state/pauses.json")).expect("made");
    let report = failed(
        &server,
        &["pause", "ads", "--for", "1h", "--reason", "a bank broke"],
    );
    assert!(report.contains("list ads: paused until"), "{report}");
    assert!(
        report.contains("not stored, so a restart of the server ends this"),
        "{report}"
    );
    assert!(!is_blocked(server.address, "ads.example"));
    let alarms = server.status()["alarms"].to_string();
    assert!(alarms.contains("pauses of lists are not kept"), "{alarms}");
    fs::remove_dir(server.path("state/pauses.json")).expect("removed");
    until("the next try", || {
        server.path("state/pauses.json").is_file()
    });
    server.assert_well();
}
