//! Verbs for orders beside a running server: they report the server's state.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::orders::{PAST, order, target};
use crate::support::client::{is_blocked, until};
use crate::support::server::{Server, folder, preamble, tapis, text};
use crate::support::upstream::Upstream;

/// A server with one order, `x-1` in `orders/x-1.toml`. `more` is the rest of its configuration.
fn server(more: &str) -> (Server, Upstream) {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address) + "[orders]\npath = \"orders\"\n" + more;
    let folder = folder(&config, &[]);
    fs::create_dir(folder.path().join("orders")).expect("made");
    let text = order("x-1", PAST, &target("a.example", "exact"));
    fs::write(folder.path().join("orders/x-1.toml"), text).expect("written");
    let server = Server::start_in(folder);
    assert!(is_blocked(server.address, "a.example"));
    (server, upstream)
}

fn first_line(output: &Output) -> String {
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    lines.lines().next().unwrap_or_default().to_owned()
}

/// Like `server`, but the server runs as a user other than root. `None` if this process is not root,
/// or if the build directory, in which the server's directory is, is below one that all users can write to: verbs that
/// root runs do not trust a socket there.
fn server_of_another_user() -> Option<(Server, Upstream)> {
    let all_may_write = |folder: &Path| {
        let meta = fs::metadata(folder).expect("there");
        meta.permissions().mode() & 0o002 != 0
    };
    let build = Path::new(env!("CARGO_TARGET_TMPDIR"));
    if fs::metadata("/proc/self").expect("Linux").uid() != 0 || build.ancestors().any(all_may_write)
    {
        return None;
    }
    let upstream = Upstream::plain();
    let config = preamble(upstream.address) + "[orders]\npath = \"orders\"\n";
    let folder = tempfile::tempdir_in(build).expect("a folder");
    fs::write(folder.path().join("tapis.toml"), config).expect("written");
    fs::create_dir(folder.path().join("orders")).expect("made");
    let text = order("x-1", PAST, &target("a.example", "exact"));
    fs::write(folder.path().join("orders/x-1.toml"), text).expect("written");
    for path in ["", "tapis.toml", "orders", "orders/x-1.toml"] {
        chown(folder.path().join(path), Some(65534), None).expect("changed");
    }
    let program = tapis().get_program().to_string_lossy().into_owned();
    let arguments = [
        "--reuid=65534",
        "--clear-groups",
        &program,
        "serve",
        "--config",
        "tapis.toml",
    ];
    let server = Server::start_by("setpriv", &arguments, folder);
    assert!(is_blocked(server.address, "a.example"));
    Some((server, upstream))
}

/// Replaces the order's file by an equal one that only root can read.
fn hide(server: &Server) {
    let hidden = server.path("hidden");
    fs::copy(server.path("orders/x-1.toml"), &hidden).expect("copied");
    chown(&hidden, Some(0), Some(0)).expect("changed");
    fs::set_permissions(&hidden, fs::Permissions::from_mode(0o600)).expect("changed");
    fs::rename(hidden, server.path("orders/x-1.toml")).expect("renamed");
}

const SUSPEND: &[&str] = &[
    "order",
    "suspend",
    "x-1",
    "--reason",
    "talks",
    "--until",
    "2099-01-01",
];
const LIFT: &[&str] = &["order", "lift", "x-1", "--reason", "court"];

#[test]
fn a_change_of_a_file_that_the_server_cannot_read_fails_before_the_change() {
    let Some((server, _upstream)) = server_of_another_user() else {
        return;
    };
    hide(&server);
    for (verb, what) in [(SUSPEND, "suspended"), (LIFT, "lifted")] {
        let output = server.verb(verb);
        assert!(is_blocked(server.address, "a.example"));
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let first = first_line(&output);
        let start = format!("order x-1 is NOT {what} in the server, which has it in force: ");
        assert!(first.starts_with(&start), "{first}");
        assert!(
            first.contains("orders/x-1.toml: cannot be read: Permission denied"),
            "{first}"
        );
        assert!(
            first.contains("chmod or chown") && first.ends_with("then: tapis reload"),
            "{first}"
        );
        assert!(
            !text(&output).contains("read by the server"),
            "{}",
            text(&output)
        );
    }
    // The remedy works.
    chown(server.path("orders/x-1.toml"), Some(65534), None).expect("changed");
    assert!(server.verb(&["reload"]).status.success());
    assert!(!is_blocked(server.address, "a.example"));
}

/// Adds a second file with the same id. Without a journal, the verbs use the new file, and the server uses the first
/// one.
fn add_a_second_file(server: &Server) {
    let text_of_order = fs::read_to_string(server.path("orders/x-1.toml")).expect("readable");
    server.replace("orders/a.toml", &text_of_order);
    until("the second file", || server.status()["degraded"] == true);
}

#[test]
fn a_change_of_a_file_that_the_server_ignores_fails_before_the_change() {
    let (server, _upstream) = server("");
    add_a_second_file(&server);
    for (verb, what) in [(SUSPEND, "suspended"), (LIFT, "lifted")] {
        let output = server.verb(verb);
        assert!(is_blocked(server.address, "a.example"));
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let first = first_line(&output);
        let start = format!("order x-1 is NOT {what} in the server, which has it in force: ");
        assert!(
            first.starts_with(&start) && first.contains("orders/a.toml"),
            "{first}"
        );
    }
}

#[test]
fn a_lift_reports_that_no_server_runs_or_that_the_server_has_other_orders() {
    let (mut server, _upstream) = server("");
    let other = folder("[orders]\npath = \"other\"\n", &[]);
    fs::create_dir(other.path().join("other")).expect("made");
    let of_other = order("y-1", PAST, &target("b.example", "exact"));
    fs::write(other.path().join("other/y-1.toml"), of_other).expect("written");
    let socket = server.path("control.sock").display().to_string();
    let lift = [
        "order",
        "lift",
        "y-1",
        "--reason",
        "court",
        "--control",
        &socket,
    ];
    let output = crate::support::server::verb(other.path(), &lift);
    assert!(output.status.success(), "{}", text(&output));
    assert!(
        text(&output).contains("the running server has other orders"),
        "{}",
        text(&output)
    );
    server.signal("TERM");
    server.wait();
    let output = server.verb(LIFT);
    assert!(output.status.success(), "{}", text(&output));
    assert!(
        text(&output).contains("no server is running"),
        "{}",
        text(&output)
    );
}

#[test]
fn list_and_show_report_the_servers_orders_where_the_files_differ() {
    let Some((server, _upstream)) = server_of_another_user() else {
        return;
    };
    let list = text(&server.verb(&["order", "list"]));
    assert!(!list.contains("server"), "{list}");
    hide(&server);
    assert!(!server.verb(LIFT).status.success());
    for verb in [
        &["order", "list"][..],
        &["order", "list", "--state", "in-force"],
        &["order", "show", "x-1"],
    ] {
        let shown = text(&server.verb(verb));
        assert!(shown.contains("x-1: lifted"), "{shown}");
        assert!(shown.contains("\n  the server has it in force"), "{shown}");
    }
    let json = server.verb(&["order", "list", "--json"]);
    let json: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(json[0]["state"], "lifted");
    assert_eq!(json[0]["server-state"], "in-force");
    // For another time than now, there is no state of the server to compare with.
    let then = text(&server.verb(&["order", "list", "--at", "2021-01-01"]));
    assert!(
        then.contains("in force") && !then.contains("server"),
        "{then}"
    );
    // An order whose file was removed from a directory that the server cannot read.
    fs::set_permissions(server.path("orders"), fs::Permissions::from_mode(0o700)).expect("changed");
    chown(server.path("orders"), Some(0), Some(0)).expect("changed");
    fs::remove_file(server.path("orders/x-1.toml")).expect("removed");
    for verb in [&["order", "list"][..], &["order", "show", "x-1"]] {
        let shown = text(&server.verb(verb));
        assert!(shown.contains("x-1: in force in the server"), "{shown}");
    }
    let json = server.verb(&["order", "list", "--json"]);
    let json: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(json[0]["id"], "x-1");
    assert_eq!(json[0]["server-state"], "in-force");
}

#[test]
fn list_names_the_dates_that_the_server_does_not_have() {
    let (server, _upstream) = server("");
    add_a_second_file(&server);
    // Until that date, the order is in force in the file and in the server.
    let lift = [LIFT, &["--at", "2099-01-01"]].concat();
    assert_eq!(server.verb(&lift).status.code(), Some(1));
    let shown = text(&server.verb(&["order", "list"]));
    assert!(
        shown.contains("\n  the server has it in force, with other dates"),
        "{shown}"
    );
}

#[test]
fn an_order_that_is_to_be_lifted_later_can_be_lifted_now() {
    let (server, _upstream) = server("");
    let output = server.verb(&[LIFT, &["--at", "2098-12-31"]].concat());
    assert!(output.status.success(), "{}", text(&output));
    assert!(is_blocked(server.address, "a.example"));
    let output = server.verb(&[LIFT, &["--at", "2099-12-31"]].concat());
    assert_eq!(output.status.code(), Some(1));
    let printed = text(&output);
    let why = "the order will be lifted at 2098-12-31T00:00:00Z already: to correct that, change `lifted-at`";
    assert!(printed.contains(why), "{printed}");
    let output = server.verb(&["order", "lift", "x-1", "--reason", "court: now"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(!is_blocked(server.address, "a.example"));
    let shown = text(&server.verb(&["order", "show", "x-1"]));
    assert!(shown.contains("lifted because: court: now"), "{shown}");
}

const JOURNAL: &str = "[journal]\npath = \"journal.jsonl\"\n";

/// Appends to the server's configuration, which is not reloaded.
fn append_to_config(server: &Server, more: &str) {
    let config = fs::read_to_string(server.path("tapis.toml")).expect("readable");
    let (own, _) = config.split_once("# appended\n").unwrap_or((&config, ""));
    let appended = format!("{own}# appended\n{more}");
    fs::write(server.path("tapis.toml"), appended).expect("written");
}

#[test]
fn verbs_of_orders_and_journal_work_despite_mistakes_elsewhere_in_the_configuration() {
    for mistake in [
        "[guard]\ngrow-procent = 5\n",
        "[cache]\nsize-mib = \n",
        "[gaurd]\ngrow-percent = 5\n",
        "[[list]]\nname = \"Ads!\"\npath = \"ads\"\n",
    ] {
        let (server, _upstream) = server(JOURNAL);
        append_to_config(&server, mistake);
        for verb in [
            &["order", "list"][..],
            &["order", "show", "x-1"],
            &["order", "report"],
            &["why", "a.example"],
            SUSPEND,
            LIFT,
            &["journal", "show"],
            &["journal", "export"],
            &["journal", "verify"],
        ] {
            let output = server.verb(verb);
            let printed = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{verb:?}: {}", text(&output));
            assert!(
                printed.contains("tapis.toml:")
                    && printed.contains("these mistakes are in sections"),
                "{verb:?}: {printed}"
            );
        }
        assert!(!is_blocked(server.address, "a.example"));
    }
}

#[test]
fn a_mistake_in_the_orders_section_stops_their_verbs() {
    let (server, _upstream) = server(JOURNAL);
    for mistake in ["[block]\nttl-secs = \"\"\"\n", "[state]\nkeep = 0\n"] {
        append_to_config(&server, mistake);
        for verb in [&["order", "list"][..], LIFT, &["journal", "show"]] {
            let output = server.verb(verb);
            assert_eq!(
                output.status.code(),
                Some(1),
                "{verb:?} {mistake}: {}",
                text(&output)
            );
        }
    }
    assert!(is_blocked(server.address, "a.example"));
    // The path of the socket is unknown, and `order list` does not need it.
    let config = fs::read_to_string(server.path("tapis.toml")).expect("readable");
    let (own, _) = config.split_once("# appended\n").expect("it was appended");
    let doubtful = own.replace("control =", "contrl =");
    fs::write(server.path("tapis.toml"), doubtful).expect("written");
    let output = server.verb(&["order", "list"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(
        text(&output).contains("path of the control socket is not known"),
        "{}",
        text(&output)
    );
    assert_eq!(server.verb(LIFT).status.code(), Some(1));
    let file = fs::read_to_string(server.path("orders/x-1.toml")).expect("readable");
    assert!(!file.contains("lifted-at"), "{file}");
}

#[test]
fn the_only_order_in_force_that_is_gone_is_an_alarm_until_a_reload() {
    let over = "effective-from = 2020-01-01T00:00:00Z\nexpires-at = 2021-01-01T00:00:00Z";
    for (dates, is_alarm) in [(PAST, true), (over, false)] {
        let (server, _upstream) = server("");
        let text_of_order = order("x-1", dates, &target("a.example", "exact"));
        server.replace("orders/x-1.toml", &text_of_order);
        let known = |server: &Server| server.status()["orders"]["states"].clone();
        let state = if is_alarm { "in-force" } else { "expired" };
        until("the file", || known(&server)[state] == 1);
        fs::remove_file(server.path("orders/x-1.toml")).expect("removed");
        until("its end", || known(&server)[state].is_null());
        let alarms = server.status()["alarms"].to_string();
        assert_eq!(
            alarms.contains("orders: the only order is gone and no longer in force"),
            is_alarm,
            "{alarms}"
        );
        assert_eq!(
            server.verb(&["status"]).status.code(),
            Some(i32::from(is_alarm))
        );
        assert!(server.verb(&["reload"]).status.success());
        server.assert_well();
    }
}

#[test]
fn a_file_whose_name_is_not_utf8_stops_no_verb() {
    let (server, _upstream) = server("");
    let odd = server
        .path("orders")
        .join(OsStr::from_bytes(b"\xff\xfe.toml"));
    fs::write(&odd, order("odd", PAST, &target("odd.example", "exact"))).expect("written");
    until("the order", || is_blocked(server.address, "odd.example"));
    for arguments in [
        &["order", "list"][..],
        &["order", "show", "odd", "--json"],
        &["order", "report", "--json"],
        &["order", "lift", "x-1", "--reason", "r"],
        &["order", "lift", "odd", "--reason", "r"],
    ] {
        let why = server.verb(&["why", "odd.example", "--json"]);
        assert_eq!(why.status.code(), Some(0), "{}", text(&why));
        let output = server.verb(arguments);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{arguments:?}: {}",
            text(&output)
        );
        assert!(output.stderr.is_empty(), "{arguments:?}: {}", text(&output));
    }
    assert!(!is_blocked(server.address, "odd.example"));
    assert!(!is_blocked(server.address, "a.example"));
}

#[test]
fn a_later_end_of_an_order_is_reported_as_planned() {
    let (server, _upstream) = server("");
    let dates = format!("{PAST}\nexpires-at = 2099-01-01T00:00:00Z");
    let text_of_file = order("x-2", &dates, &target("b.example", "exact"));
    fs::write(server.path("orders/x-2.toml"), text_of_file).expect("written");
    until("the order", || is_blocked(server.address, "b.example"));
    let lift = [
        "order",
        "lift",
        "x-1",
        "--reason",
        "a typo",
        "--at",
        "2100-01-01T00:00:00Z",
    ];
    let output = server.verb(&lift);
    let lifting = text(&output);
    assert!(output.status.success(), "{lifting}");
    assert!(
        lifting.contains("order x-1 is to be lifted at 2100-01-01T00:00:00Z\n"),
        "{lifting}"
    );
    let printed = |verb: &[&str]| text(&server.verb(verb));
    let lifted = "x-1: in force, from 2020-01-01T00:00:00Z, to be lifted at 2100-01-01T00:00:00Z, ";
    for (verb, expected) in [
        (&["order", "list"][..], lifted),
        (
            &["order", "list"],
            "x-2: in force, from 2020-01-01T00:00:00Z, expires at 2099-01-01T00:00:00Z, ",
        ),
        (
            &["order", "show", "x-1"],
            "  to be lifted: 2100-01-01T00:00:00Z\n  to be lifted because: a typo\n",
        ),
        (
            &["why", "a.example"],
            "    to be lifted at 2100-01-01T00:00:00Z: a typo\n",
        ),
        (
            &["why", "a.example", "--offline"],
            "    to be lifted at 2100-01-01T00:00:00Z: a typo\n",
        ),
    ] {
        let printed = printed(verb);
        assert!(printed.contains(expected), "{verb:?}: {printed}");
        assert!(
            !printed.contains(" lifted 2100") && !printed.contains("  lifted"),
            "{verb:?}: {printed}"
        );
    }
    // A lift in the past is not reported as planned, even if the verb is asked about a time before the lift.
    fs::write(
        server.path("orders/x-3.toml"),
        order(
            "x-3",
            &format!("{PAST}\nlifted-at = 2021-01-01T00:00:00Z"),
            &target("c.example", "exact"),
        ),
    )
    .expect("written");
    let before = ["order", "list", "--at", "2020-06-01T00:00:00Z"];
    until("the order", || {
        printed(&before)
            .contains("x-3: in force, from 2020-01-01T00:00:00Z, lifted at 2021-01-01T00:00:00Z, ")
    });
    let then = "2101-01-01T00:00:00Z";
    let why = printed(&["why", "a.example", "--at", then]);
    assert!(
        why.contains("    lifted 2100-01-01T00:00:00Z: a typo\n"),
        "{why}"
    );
    let shown = printed(&["order", "show", "x-1", "--at", then]);
    assert!(
        shown.contains("  lifted: 2100-01-01T00:00:00Z\n  lifted because: a typo\n"),
        "{shown}"
    );
}

#[test]
fn a_check_warns_of_an_order_that_supersedes_one_that_does_not_exist() {
    let (server, upstream) = server("");
    let dates = format!("supersedes = [\"gone\", \"x-1\"]\n{PAST}");
    let path = server.path("next.toml");
    fs::write(&path, order("next", &dates, &target("b.example", "exact"))).expect("written");
    let output = server.verb(&["order", "check", &path.display().to_string()]);
    assert!(output.status.success(), "{}", text(&output));
    let warning = "warning: order next: it supersedes `gone`, which does not exist\n";
    let expected = format!("{warning}good: order next, 1 target\n");
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    let bare = server.path("bare.toml");
    fs::write(&bare, preamble(upstream.address)).expect("written");
    let output = tapis()
        .args(["order", "check", "--config"])
        .args([&bare, &path])
        .output();
    let report = text(&output.expect("it ran"));
    let unchecked = "no directory of orders, so the orders in `supersedes` are not checked";
    assert!(
        report.contains(unchecked) && !report.contains("exist"),
        "{report}"
    );
}
