//! Orders and exceptions in a running server: in force at their dates, explained in answers, gone
//! when they end.

use std::fs;
use std::io::Write;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::support::client::{addresses, ask, errors, is_blocked, rcode, until};
use crate::support::server::{SHIPPED, Server, folder, list, preamble, tapis, text};
use crate::support::upstream::Upstream;

/// An order with this id, these dates and these targets.
pub(crate) fn order(id: &str, dates: &str, targets: &str) -> String {
    format!(
        "id = \"{id}\"\nlegal-basis = [\"Law 1\"]\nreview-at = 2100-01-01T00:00:00Z\n{dates}\n\
         authority = {{ name = \"The Authority\", country = \"ID\" }}\n\
         reason = {{ en = \"It says so\" }}\n\
         public-text = {{ en = \"Ask the authority\", id = \"Tanya\" }}\n\
         redress = {{ how = \"Write to it\" }}\n{targets}"
    )
}

pub(crate) fn target(name: &str, scope: &str) -> String {
    format!("[[targets]]\nname = \"{name}\"\nscope = \"{scope}\"\n")
}

/// The Extended DNS Errors of the answer to a name.
fn why(server: &Server, name: &str) -> Vec<String> {
    let errors = errors(&ask(server.address, name, RecordType::A)).into_iter();
    errors
        .map(|(code, text)| format!("{code} {text}"))
        .collect()
}

pub(crate) const PAST: &str = "effective-from = 2020-01-01T00:00:00Z";

fn moment(seconds: i64) -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(seconds)
}

/// A server with these lists and an empty directory of orders.
fn server(more: &str, files: &[(&str, &str)]) -> (Server, Upstream) {
    let upstream = Upstream::plain();
    let config = format!(
        "{}[orders]\npath = \"orders\"\n{more}",
        preamble(upstream.address)
    );
    let folder = folder(&config, files);
    fs::create_dir(folder.path().join("orders")).expect("made");
    (Server::start_in(folder), upstream)
}

#[test]
fn an_order_is_in_force_once_its_file_exists_and_why_explains_it() {
    let (server, _upstream) = server("", &[]);
    assert_eq!(addresses(server.address, "a.test.example"), ["192.0.2.1"]);
    let text = order("x-1", PAST, &target("a.test.example", "exact"));
    fs::write(server.path("orders/x-1.toml"), text).expect("written");
    until("the order", || is_blocked(server.address, "a.test.example"));
    assert_eq!(
        why(&server, "a.test.example"),
        ["16 order x-1: Ask the authority"]
    );
    assert!(!is_blocked(server.address, "b.a.test.example"), "exact");
    assert_eq!(server.status()["orders"]["states"]["in-force"], 1);
    assert_eq!(server.status()["orders"]["hits"]["x-1"], 2);

    fs::remove_file(server.path("orders/x-1.toml")).expect("removed");
    until("its end", || !is_blocked(server.address, "a.test.example"));
    assert_eq!(addresses(server.address, "a.test.example"), ["192.0.2.1"]);
}

#[test]
fn an_order_begins_and_ends_at_its_instants() {
    let (server, _upstream) = server("", &[]);
    let far = "effective-from = 2100-01-01T00:00:00Z";
    let text = order("x-2", far, &target("far.example", "subtree"));
    server.replace("orders/x-2.toml", &text);
    let from = moment(2);
    let write = |dates: &str| {
        let text = order("x-1", dates, &target("a.test.example", "subtree"));
        server.replace("orders/x-1.toml", &text);
    };
    write(&format!("effective-from = {from}"));
    let is_in_force = || is_blocked(server.address, "b.a.test.example");
    until("the beginning", is_in_force);
    assert!(Timestamp::now() >= from);
    assert_eq!(server.status()["orders"]["states"]["scheduled"], 1);
    assert!(!is_blocked(server.address, "far.example"));

    let to = moment(2);
    write(&format!("effective-from = {from}\nexpires-at = {to}"));
    until("the end", || !is_in_force());
    assert!(Timestamp::now() >= to);
    until("the state", || {
        server.status()["orders"]["states"]["expired"] == 1
    });
}

#[test]
fn a_name_under_several_orders_and_a_list_is_unblocked_when_the_last_of_them_ends() {
    let (server, _upstream) = server(&list("ads", ""), &[("ads", "c.example\n")]);
    // The answer names the earliest order, regardless of the ids and of the sequence of the files.
    for (id, year, name) in [
        ("a-last", 2022, "a.example"),
        ("c-first", 2020, "a.example"),
        ("b-second", 2021, "a.example"),
        ("other", 2020, "c.example"),
    ] {
        let dates = format!("effective-from = {year}-01-01T00:00:00Z");
        let text = order(id, &dates, &target(name, "exact"));
        fs::write(server.path(&format!("orders/{id}.toml")), text).expect("written");
    }
    until("the orders", || {
        server.status()["orders"]["states"]["in-force"] == 4
    });
    let blocked_by = |id: &str| [format!("16 order {id}: Ask the authority")];
    assert_eq!(why(&server, "c.example"), blocked_by("other"));
    for (id, next) in [("c-first", "b-second"), ("b-second", "a-last")] {
        assert_eq!(why(&server, "a.example"), blocked_by(id));
        fs::remove_file(server.path(&format!("orders/{id}.toml"))).expect("removed");
        until(next, || why(&server, "a.example") == blocked_by(next));
    }
    fs::remove_file(server.path("orders/a-last.toml")).expect("removed");
    fs::remove_file(server.path("orders/other.toml")).expect("removed");
    until("the end", || !is_blocked(server.address, "a.example"));
    until("the list", || why(&server, "c.example") == ["15 ads"]);
}

#[test]
fn a_bad_order_is_reported_and_the_others_and_its_last_good_state_stay() {
    let (server, _upstream) = server("", &[]);
    let one = order("one", PAST, &target("a.example", "exact"));
    let two = order("two", PAST, &target("b.example", "exact"));
    fs::write(server.path("orders/one.toml"), &one).expect("written");
    fs::write(server.path("orders/two.toml"), &two).expect("written");
    until("both", || {
        is_blocked(server.address, "a.example") && is_blocked(server.address, "b.example")
    });
    fs::write(
        server.path("orders/one.toml"),
        one.replace("legal-basis", "basis"),
    )
    .expect("written");
    until("the alarm", || server.status()["degraded"] == true);
    let alarms = server.status()["alarms"].to_string();
    assert!(
        alarms.contains("one.toml:1: the order has no `legal-basis`"),
        "{alarms}"
    );
    assert!(is_blocked(server.address, "a.example"));
    assert!(is_blocked(server.address, "b.example"));

    // A second file with the id of another one has no effect.
    fs::write(server.path("orders/one.toml"), &one).expect("written");
    let double = two.replace("b.example", "c.example");
    fs::write(server.path("orders/a-double.toml"), double).expect("written");
    until("the alarm", || {
        server.status()["alarms"]
            .to_string()
            .contains("a-double.toml: id is \\\"two\\\", as in")
    });
    assert!(!is_blocked(server.address, "c.example"));
    assert!(is_blocked(server.address, "b.example"));
}

#[test]
fn an_exact_order_with_nxdomain_blocks_one_name_alone() {
    let (server, _upstream) = server("", &[]);
    let dates = format!("{PAST}\naction = \"nxdomain\"");
    let targets = target("telegram.org", "exact")
        + &target("x.example", "subtree")
        + "except = [\"free.a.x.example\"]\n";
    let text = order("x-1", &dates, &targets);
    fs::write(server.path("orders/x-1.toml"), text).expect("written");
    let rcode = |name: &str| rcode(&ask(server.address, name, RecordType::A));
    until("the order", || !why(&server, "telegram.org").is_empty());
    assert_eq!(
        rcode("telegram.org"),
        ResponseCode::NoError,
        "names below it exist"
    );
    assert_eq!(addresses(server.address, "api.telegram.org"), ["192.0.2.1"]);
    assert_eq!(rcode("b.x.example"), ResponseCode::NXDomain);
    assert_eq!(
        rcode("x.example"),
        ResponseCode::NoError,
        "a name below it is not blocked"
    );
    assert_eq!(rcode("a.x.example"), ResponseCode::NoError);
    assert_eq!(addresses(server.address, "free.a.x.example"), ["192.0.2.1"]);
}

#[test]
fn an_exception_overrides_the_sources_that_it_names_until_its_end() {
    let later = "2100-01-01T00:00:00Z";
    let more = format!(
        "{}{}[[exception]]\nname = \"shop.example\"\nscope = \"subtree\"\nagainst = [\"ads\"]\n\
         reason = \"a customer's\"\nauthor = \"noc\"\nuntil = {later}\n\
         [[exception]]\nname = \"all.example\"\nscope = \"exact\"\nagainst = [\"all\"]\n\
         reason = \"a court's\"\nauthor = \"legal\"\n",
        list("ads", ""),
        list("more", "")
    );
    let ads = "shop.example\nwww.shop.example\nall.example\n";
    let (server, _upstream) = server(&more, &[("ads", ads), ("more", "www.shop.example\n")]);
    assert_eq!(addresses(server.address, "shop.example"), ["192.0.2.1"]);
    assert_eq!(
        why(&server, "www.shop.example"),
        ["15 more"],
        "the other list applies"
    );
    let order = order("x-1", PAST, &target("all.example", "exact"));
    fs::write(server.path("orders/x-1.toml"), order).expect("written");
    until("the order", || {
        server.status()["orders"]["states"]["in-force"] == 1
    });
    assert_eq!(addresses(server.address, "all.example"), ["192.0.2.1"]);
    let report = text_of(&server, &["why", "all.example"]);
    assert!(
        report.contains("all.example: allowed by exception all.example#1"),
        "{report}"
    );
    assert!(report.contains("a court's, by legal"), "{report}");
    assert!(report.contains("The Authority"), "{report}");
    assert_eq!(addresses(server.address, "shop.example"), ["192.0.2.1"]);
    let over = moment(2);
    let config = fs::read_to_string(server.path("tapis.toml")).expect("readable");
    server.replace("tapis.toml", &config.replace(later, &over.to_string()));
    let output = server.verb(&["reload"]);
    assert!(output.status.success(), "{}", text(&output));
    until("the end", || is_blocked(server.address, "shop.example"));
    assert!(Timestamp::now() >= over);
}

fn text_of(server: &Server, arguments: &[&str]) -> String {
    let output = server.verb(arguments);
    assert!(output.status.success(), "{}", text(&output));
    text(&output)
}

#[test]
fn the_order_of_july_2017_shows_its_block_and_its_lift() {
    // Otherwise `why` would ask another server that runs on this machine.
    let nowhere = tempfile::tempdir().expect("a folder");
    let explain = |at: &str| {
        let output = tapis()
            .args(["why", "web.telegram.org", "--at", at, "--config", SHIPPED])
            .arg("--control")
            .arg(nowhere.path().join("control.sock"))
            .output()
            .expect("it ran");
        (output.status.code(), text(&output))
    };
    let (code, then) = explain("2017-07-20T00:00:00+07:00");
    assert_eq!(code, Some(0), "{then}");
    let first = "web.telegram.org: blocked by order id-2017-07-14-telegram\n";
    assert!(then.starts_with(first), "{then}");
    assert!(
        then.contains("in force from 2017-07-14T11:30:00+07:00"),
        "{then}"
    );
    assert!(then.contains("Permenkominfo 19/2014"), "{then}");
    assert!(
        then.contains("EDE 16 (Censored) order id-2017-07-14-telegram: Blocked by order of"),
        "{then}"
    );
    let (code, later) = explain("2017-08-11T00:00:00+07:00");
    // The content of the list is not recorded.
    assert_eq!(code, Some(3), "{later}");
    assert!(later.starts_with("web.telegram.org: unknown\n"), "{later}");
    assert!(later.contains("not in force, lifted:"), "{later}");
    assert!(
        later.contains("lifted 2017-08-10T10:46:00+07:00: Telegram and the ministry"),
        "{later}"
    );
}

#[test]
fn a_lift_by_verb_unblocks_its_names_and_keeps_the_files_comments() {
    let (server, _upstream) = server("", &[]);
    let text = order("x-1", PAST, &target("a.example", "exact"));
    let file = server.path("orders/x-1.toml");
    fs::write(&file, format!("# by courier\n{text}")).expect("written");
    until("the order", || is_blocked(server.address, "a.example"));
    let report = text_of(
        &server,
        &["order", "lift", "x-1", "--reason", "a court's word"],
    );
    assert!(report.starts_with("order x-1 is lifted at "), "{report}");
    until("the lift", || !is_blocked(server.address, "a.example"));
    let text = fs::read_to_string(&file).expect("readable");
    assert!(text.starts_with("# by courier\n"), "{text}");
    let again = server.verb(&["order", "lift", "x-1", "--reason", "again"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text_of(&server, &["order", "show", "x-1"]).contains("lifted because: a court's word"));
}

#[test]
fn a_directory_that_cannot_be_listed_is_no_reason_to_drop_the_orders() {
    let (server, _upstream) = server("", &[]);
    let order = order("x-1", PAST, &target("a.example", "exact"));
    fs::write(server.path("orders/x-1.toml"), order).expect("written");
    until("the order", || is_blocked(server.address, "a.example"));
    let config = fs::read_to_string(server.path("tapis.toml")).expect("readable");
    let other = config.replace("path = \"orders\"", "path = \"nowhere\"");
    fs::write(server.path("tapis.toml"), other).expect("written");
    let reload = server.verb(&["reload"]);
    assert_eq!(reload.status.code(), Some(1));
    assert!(
        text(&reload).contains("nowhere: cannot be listed"),
        "{}",
        text(&reload)
    );
    assert!(is_blocked(server.address, "a.example"));
}

#[test]
fn an_order_that_is_saved_in_two_halves_is_loaded_whole() {
    let (server, _upstream) = server("", &[]);
    let text = order("x-1", PAST, &target("a.example", "exact"));
    let (first, second) = (text, target("b.example", "exact"));
    let path = server.path("orders/x-1.toml");
    let mut file = fs::File::create(&path).expect("made");
    file.write_all(&first.as_bytes()[..40]).expect("written");
    file.sync_all().expect("written");
    // Another file that is closed at once is loaded meanwhile.
    let other = order("x-2", PAST, &target("c.example", "exact"));
    fs::write(server.path("orders/x-2.toml"), other).expect("written");
    until("the other order", || {
        is_blocked(server.address, "c.example")
    });
    assert!(!is_blocked(server.address, "a.example"));
    file.write_all(&first.as_bytes()[40..]).expect("written");
    file.write_all(second.as_bytes()).expect("written");
    drop(file);
    until("the order", || is_blocked(server.address, "b.example"));
    assert!(is_blocked(server.address, "a.example"));
    assert!(!server.log().contains("file rejected"), "{}", server.log());
}

#[test]
fn an_order_is_named_in_place_of_one_that_it_supersedes_from_the_same_instant() {
    let (server, _upstream) = server("", &[]);
    let supersedes = format!("{PAST}\nsupersedes = [\"a-old\"]");
    for (id, dates) in [("a-old", PAST), ("new", &supersedes)] {
        let text = order(id, dates, &target("a.example", "exact"));
        fs::write(server.path(&format!("orders/{id}.toml")), text).expect("written");
    }
    until("both files", || {
        let states = &server.status()["orders"]["states"];
        states["in-force"] == 1 && states["superseded"] == 1
    });
    assert_eq!(
        why(&server, "a.example"),
        ["16 order new: Ask the authority"]
    );
}

#[test]
fn the_public_text_is_in_the_configured_language_or_in_the_nearest_one() {
    let upstream = Upstream::plain();
    let config = format!(
        "{}[orders]\npath = \"orders\"\nlanguage = \"id-ID\"\n",
        preamble(upstream.address)
    );
    let folder = folder(&config, &[]);
    fs::create_dir(folder.path().join("orders")).expect("made");
    let cases = [
        ("region", "en = \"E\", id = \"I\", id-ID = \"R\"", "R"),
        ("language", "en = \"E\", fr = \"F\", id = \"I\"", "I"),
        ("other-region", "en = \"E\", id-SG = \"S\"", "E"),
        ("english", "de = \"D\", en = \"E\"", "E"),
        ("any", "fr = \"F\"", "F"),
    ];
    for (id, texts, _) in cases {
        let text = order(id, PAST, &target(&format!("{id}.example"), "exact"));
        let given = "en = \"Ask the authority\", id = \"Tanya\"";
        assert!(text.contains(given), "{text}");
        let path = folder.path().join(format!("orders/{id}.toml"));
        fs::write(path, text.replace(given, texts)).expect("written");
    }
    let server = Server::start_in(folder);
    for (id, _, shown) in cases {
        let expected = format!("16 order {id}: {shown}");
        assert_eq!(why(&server, &format!("{id}.example")), [expected]);
    }
}

#[test]
fn an_exception_or_an_order_no_longer_applies_at_the_instant_of_its_end() {
    let config = "[orders]\npath = \"orders\"\n[[exception]]\nname = \"a.example\"\nscope = \"exact\"\n\
                  against = [\"order:x-1\"]\nreason = \"x\"\nauthor = \"x\"\nuntil = 2026-03-01T12:00:00Z\n";
    let folder = folder(config, &[]);
    fs::create_dir(folder.path().join("orders")).expect("made");
    let dates = "effective-from = 2026-03-01T00:00:00Z\nexpires-at = 2026-03-01T12:00:00Z";
    for (id, dates, name) in [("x-1", PAST, "a.example"), ("x-2", dates, "b.example")] {
        let order = order(id, dates, &target(name, "exact"));
        let path = folder.path().join(format!("orders/{id}.toml"));
        fs::write(path, order).expect("written");
    }
    let explain = |name: &str, time: &str| {
        let at = format!("2026-03-01T{time}Z");
        let output = tapis()
            .args(["why", name, "--at", &at, "--config"])
            .arg(folder.path().join("tapis.toml"))
            .output()
            .expect("it ran");
        let report = text(&output);
        report.lines().next().unwrap_or_default().to_owned()
    };
    for (name, time, expected) in [
        // Neither the start of the exception nor the rules of lists are known.
        ("a.example", "11:59:59.999999999", "unknown"),
        ("a.example", "12:00:00", "blocked by order x-1"),
        ("a.example", "12:00:00.000000001", "blocked by order x-1"),
        ("b.example", "00:00:00", "blocked by order x-2"),
        ("b.example", "11:59:59.999999999", "blocked by order x-2"),
        ("b.example", "12:00:00", "unknown"),
    ] {
        assert_eq!(
            explain(name, time),
            format!("{name}: {expected}"),
            "at {time}"
        );
    }
}

/// A file name that clears the screen, begins a new line, and reverses the direction of text.
const EVIL: &str = "\u{1b}[2J\u{9b}31mEVIL\nALARM all is well\u{202e}\u{2066}.toml";

/// Whether each character is printable, apart from newlines.
fn is_plain(text: &str) -> bool {
    let format = |c| matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    !text.contains(|c: char| (c.is_control() && c != '\n') || format(c))
}

#[test]
fn a_file_name_can_forge_no_line_and_send_no_control_character_to_a_terminal() {
    let (server, _upstream) = server("[journal]\npath = \"journal.jsonl\"\n", &[]);
    let folder = server.path("orders");
    let text = order("x-1", PAST, &target("a.test.example", "exact"));
    fs::write(folder.join(EVIL), text).expect("written");
    fs::write(folder.join(format!("bad{EVIL}")), "id = 1\n").expect("written");
    until("the order", || is_blocked(server.address, "a.test.example"));
    until("the refusal", || server.status()["degraded"] == true);
    for verb in [
        &["status"][..],
        &["status", "--json"],
        &["why", "a.test.example"],
        &["order", "list"],
        &["order", "show", "x-1"],
        &["journal", "show"],
        &["reload"],
        &["check"],
    ] {
        let report = self::text(&server.verb(verb));
        assert!(is_plain(&report), "{verb:?}: {report:?}");
        assert!(
            !report
                .lines()
                .any(|line| line.starts_with("ALARM all is well")),
            "{verb:?}: {report}"
        );
    }
    let status = self::text(&server.verb(&["status"]));
    assert!(status.contains("EVIL\\nALARM all is well"), "{status}");
    let log = server.logged("EVIL\\nALARM");
    assert!(is_plain(&log), "{log:?}");
    assert!(!log.lines().any(|line| line.starts_with("ALARM")), "{log}");
}

#[test]
fn texts_of_orders_with_bidirectional_controls_are_rejected() {
    let folder = folder("", &[]);
    let path = folder.path().join("x-1.toml");
    let good = order("x-1", PAST, &target("a.test.example", "exact"));
    let check = |text: &str| {
        fs::write(&path, text).expect("written");
        let check = ["order", "check", "--config", SHIPPED];
        let output = tapis().args(check).arg(&path).output();
        self::text(&output.expect("it ran"))
    };
    for c in ['\u{202E}', '\u{2066}', '\u{200B}', '\u{FEFF}'] {
        for (from, to) in [
            ("Ask the authority", format!("Ask {c}the authority")),
            ("The Authority", format!("The {c}Authority")),
        ] {
            let report = check(&good.replace(from, &to));
            assert!(report.contains("control and format characters"), "{report}");
        }
    }
    // Persian needs this character.
    let report = check(&good.replace("Ask the authority", "می\u{200c}خواهم"));
    assert!(report.starts_with("good: "), "{report}");
}

#[test]
fn an_unedited_template_is_rejected_as_an_order() {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address) + "[orders]\npath = \"orders\"\n";
    let folder = folder(&config, &[]);
    fs::create_dir(folder.path().join("orders")).expect("made");
    let server = Server::start_in(folder);
    let draft = server.path("draft").display().to_string();
    for names in [&["--name", "www.example.org"][..], &[]] {
        let made = tapis().args(["order", "new", "x-1"]).args(names).output();
        let made = made.expect("it ran").stdout;
        fs::write(&draft, &made).expect("written");
        let checked = server.verb(&["order", "check", &draft]);
        let report = text(&checked);
        assert!(!checked.status.success(), "{report}");
        let keys = ["legal-basis", "name", "reason", "public-text", "how"];
        let count = report.matches("which is a placeholder").count();
        assert_eq!(
            count,
            keys.len() + usize::from(names.is_empty()),
            "{report}"
        );
        let time = ": issued-at is a string (\"...\"), must be a time with its offset";
        assert!(report.contains(time), "{report}");
        for key in keys {
            let problem = format!(": {key} is \"...\", which is a placeholder");
            let line = report.lines().find(|line| line.contains(&problem));
            let line = line.unwrap_or_else(|| panic!("{key}: {report}"));
            let number = line
                .strip_prefix(&format!("{draft}:"))
                .and_then(|rest| rest.split(':').next());
            let number: usize = number.and_then(|n| n.parse().ok()).expect("a line");
            let text = String::from_utf8_lossy(&made).into_owned();
            let found = text.lines().nth(number - 1).expect("it is there");
            assert!(found.contains("\"...\""), "{line}: {found}");
        }
        server.replace("orders/x-1.toml", &String::from_utf8_lossy(&made));
        until("an alarm", || {
            server.status()["alarms"]
                .to_string()
                .contains("is a placeholder")
        });
        assert!(!is_blocked(server.address, "www.example.org"));
    }
}

#[test]
fn a_new_order_contains_its_arguments_as_toml() {
    let folder = folder("", &[]);
    let new = |id: &str, name: &str| {
        let output = tapis().args(["order", "new", id, "--name", name]).output();
        output.expect("it ran")
    };
    let made = new("x-1", "نامه\u{200c}ای.example");
    assert!(made.status.success());
    let path = folder.path().join("x-1.toml");
    fs::write(&path, &made.stdout).expect("written");
    let check = ["order", "check", "--config", SHIPPED];
    let checked = tapis().args(check).arg(&path).output();
    let report = text(&checked.expect("it ran"));
    assert!(!report.contains("not TOML"), "{report}");
    let refused = new("X \"2", "a.example");
    assert_eq!(refused.status.code(), Some(2));
    let report = text(&refused);
    assert!(report.contains("1 to 64 characters"), "{report}");
}

/// Kills a server, calls `meanwhile`, and starts the server again.
fn crash(mut server: Server, meanwhile: impl FnOnce(&Server)) -> Server {
    server.signal("KILL");
    server.wait();
    meanwhile(&server);
    server.again()
}

fn has_alarm(server: &Server, what: &str) -> bool {
    server.status()["alarms"].to_string().contains(what)
}

/// The two ways to configure a journal.
const JOURNALS: [&str; 2] = [
    "[state]\ndir = \"state\"\n",
    "[journal]\npath = \"journal.jsonl\"\n",
];

#[test]
fn the_earlier_of_two_files_with_one_id_applies_after_a_restart_too() {
    let write = |server: &Server, file: &str, name: &str| {
        let text = order("x-1", PAST, &target(name, "exact"));
        server.replace(&format!("orders/{file}"), &text);
    };
    let counts = |server: &Server, name: &str| {
        let names = ["first.example", "second.example", "third.example"];
        let is_as_expected = |one: &&str| is_blocked(server.address, one) == (**one == *name);
        names.iter().all(is_as_expected)
    };
    for journal in JOURNALS {
        let (server, _upstream) = server(journal, &[]);
        write(&server, "m.toml", "first.example");
        until("the order", || counts(&server, "first.example"));
        // Its name sorts before that of the first.
        write(&server, "a.toml", "second.example");
        until("the alarm", || has_alarm(&server, "a.toml: id is"));
        assert!(counts(&server, "first.example"));
        let server = crash(server, |_| ());
        assert!(counts(&server, "first.example"), "{}", server.log());
        // A file that is created while no server runs sorts before it too.
        let server = crash(server, |server| write(server, "0.toml", "third.example"));
        assert!(counts(&server, "first.example"), "{}", server.log());
        assert!(has_alarm(&server, "0.toml: id is") && has_alarm(&server, "a.toml: id is"));
        fs::remove_file(server.path("orders/m.toml")).expect("removed");
        until("another file", || counts(&server, "third.example"));
        write(&server, "m.toml", "first.example");
        until("the alarm", || has_alarm(&server, "m.toml: id is"));
        let server = crash(server, |_| ());
        assert!(counts(&server, "third.example"), "{}", server.log());
        for file in ["a.toml", "m.toml"] {
            fs::remove_file(server.path("orders").join(file)).expect("removed");
        }
        until("no alarm", || server.status()["degraded"] == false);
        assert!(counts(&server, "third.example"));
    }
}

#[test]
fn the_first_by_name_of_two_new_files_with_one_id_applies() {
    let (server, _upstream) = server("", &[]);
    let server = crash(server, |server| {
        // The name of a backup adds `-old` to the stem of the original's name. It sorts before that name, because `-`
        // sorts before the dot of the extension.
        for (file, name) in [("x-1.toml", "new.example"), ("x-1-old.toml", "old.example")] {
            let text = order("x-1", PAST, &target(name, "exact"));
            server.replace(&format!("orders/{file}"), &text);
        }
    });
    let is_right = |server: &Server| {
        assert!(is_blocked(server.address, "new.example"));
        assert!(!is_blocked(server.address, "old.example"));
        assert!(has_alarm(server, "x-1-old.toml: id is"));
    };
    is_right(&server);
    is_right(&crash(server, |_| ()));
}

/// Writes two orders, and waits until they are in force.
fn write_two(server: &Server) {
    for (id, name) in [("x-1", "one.example"), ("x-2", "two.example")] {
        let text = order(id, PAST, &target(name, "exact"));
        server.replace(&format!("orders/{id}.toml"), &text);
        until("the order", || is_blocked(server.address, name));
    }
}

#[test]
fn orders_whose_directory_is_missing_at_the_start_stay_in_force() {
    for journal in JOURNALS {
        let (server, _upstream) = server(journal, &[]);
        write_two(&server);
        let mut server = crash(server, |server| {
            fs::rename(server.path("orders"), server.path("away")).expect("renamed");
        });
        for _ in 0..2 {
            for name in ["one.example", "two.example"] {
                assert!(is_blocked(server.address, name), "{}", server.log());
            }
            let alarm = "orders: 2 files could not be read since the start; the last good content stays in force";
            assert!(has_alarm(&server, alarm), "{}", server.status()["alarms"]);
            assert!(has_alarm(&server, "orders: cannot be listed"));
            // A reload rejects the directory while it is missing.
            assert_eq!(server.verb(&["reload"]).status.code(), Some(1));
            assert!(is_blocked(server.address, "one.example"));
            server = crash(server, |_| ());
        }
        // The directory is back, without one of the files.
        fs::remove_file(server.path("away/x-2.toml")).expect("removed");
        fs::rename(server.path("away"), server.path("orders")).expect("renamed");
        until("the directory", || {
            !is_blocked(server.address, "two.example")
        });
        assert!(is_blocked(server.address, "one.example"));
        until("no alarm", || server.status()["degraded"] == false);

        // The last good state applies also to a file that was damaged meanwhile.
        let server = crash(server, |server| server.replace("orders/x-1.toml", "id = "));
        assert!(is_blocked(server.address, "one.example"));
        assert!(has_alarm(
            &server,
            "orders: 1 file could not be read since the start"
        ));
        assert!(has_alarm(&server, "its last good content stays in force"));
        // A removed file has no effect any more.
        let server = crash(server, |server| {
            fs::remove_file(server.path("orders/x-1.toml")).expect("removed");
        });
        assert!(!is_blocked(server.address, "one.example"));
        assert!(has_alarm(&server, "orders: the only order is gone"));
        assert!(server.verb(&["reload"]).status.success());
        server.assert_well();
    }
}

#[test]
fn no_order_is_reported_in_force_for_a_missing_directory_that_the_journal_does_not_know() {
    let more = JOURNALS[0].to_owned() + "[exceptions]\npath = \"exceptions\"\n";
    let (server, _upstream) = server(&more, &[]);
    let missing = "exceptions: cannot be listed";
    let nothing = "none of its exceptions are in force";
    // The directory has never existed.
    assert!(has_alarm(&server, missing) && has_alarm(&server, nothing));
    write_two(&server);
    let server = crash(server, |server| {
        fs::rename(server.path("orders"), server.path("away")).expect("renamed");
        fs::rename(server.path("state/journal.jsonl"), server.path("old")).expect("renamed");
    });
    assert!(!is_blocked(server.address, "one.example"));
    let alarms = server.status()["alarms"].to_string();
    let checked = text(&server.verb(&["check"]));
    for report in [alarms, checked] {
        assert!(
            report.contains("none of its orders are in force"),
            "{report}"
        );
        assert!(report.contains(nothing), "{report}");
        assert!(!report.contains("what is known of"), "{report}");
    }
    // Once the directory has been read, its orders stay in force.
    fs::rename(server.path("away"), server.path("orders")).expect("renamed");
    until("the orders", || is_blocked(server.address, "one.example"));
    fs::rename(server.path("orders"), server.path("away")).expect("renamed");
    until("the alarm", || {
        has_alarm(&server, "its orders that were read before stay in force")
    });
    assert!(is_blocked(server.address, "one.example"));
}

#[test]
fn the_log_names_orders_that_come_into_force_and_end() {
    let (server, _upstream) = server("", &[]);
    write_two(&server);
    let logged = |what: &str| {
        server
            .log()
            .lines()
            .filter(|line| line.contains(what))
            .count()
    };
    until("its beginning", || logged("order x-1: in force") == 1);
    let lift = ["order", "lift", "x-1", "--reason", "a court's word"];
    assert!(server.verb(&lift).status.success());
    until("its lift", || {
        logged("order x-1: lifted; it was in force before") == 1
    });
    let pause = [
        "order",
        "suspend",
        "x-2",
        "--until",
        "2100-01-01T00:00:00Z",
        "--reason",
        "a",
    ];
    let output = server.verb(&pause);
    assert!(output.status.success(), "{}", text(&output));
    until("its suspension", || {
        logged("order x-2: suspended; it was in force before") == 1
    });
    let over = format!("{PAST}\nexpires-at = {}", moment(1));
    server.replace(
        "orders/x-3.toml",
        &order("x-3", &over, &target("c.example", "exact")),
    );
    until("its end", || logged("order x-3: expired") == 1);
    fs::remove_file(server.path("orders/x-2.toml")).expect("removed");
    until("its loss", || {
        logged("order x-2: gone; it was suspended before") == 1
    });
    assert_eq!(logged("order x-1: "), 2, "{}", server.log());
}

#[test]
fn a_directory_of_orders_that_is_empty_at_the_start_is_an_alarm_until_a_reload() {
    let (server, _upstream) = server(JOURNALS[0], &[]);
    write_two(&server);
    // Like the mount point of a file system that is not mounted.
    let server = crash(server, |server| {
        fs::rename(server.path("orders"), server.path("away")).expect("renamed");
        fs::create_dir(server.path("orders")).expect("made");
    });
    assert!(!is_blocked(server.address, "one.example"));
    assert!(has_alarm(&server, "orders: all 2 orders are gone at once"));
    let output = server.verb(&["reload"]);
    assert!(output.status.success(), "{}", text(&output));
    server.assert_well();
}

#[test]
fn an_order_that_is_missing_at_the_start_is_an_alarm_if_it_was_in_force() {
    let over = "effective-from = 2020-01-01T00:00:00Z\nexpires-at = 2021-01-01T00:00:00Z";
    for (dates, is_alarm) in [(PAST, true), (over, false)] {
        let (server, _upstream) = server(JOURNALS[1], &[]);
        let text = order("x-1", dates, &target("one.example", "exact"));
        server.replace("orders/x-1.toml", &text);
        until("the order", || {
            text_of(&server, &["journal", "export"]).contains("x-1")
        });
        let server = crash(server, |server| {
            fs::remove_file(server.path("orders/x-1.toml")).expect("removed");
        });
        assert_eq!(has_alarm(&server, "the only order is gone"), is_alarm);
    }
}

const EXCEPTION: &str = "[[exception]]\nname = \"free.example\"\nscope = \"exact\"\nagainst = [\"all\"]\n\
                         reason = \"wrong\"\nauthor = \"me\"\n";

#[test]
fn a_start_without_the_journal_s_file_system_ends_no_order_in_the_journal() {
    let journals = [
        "[state]\ndir = \"mnt/state\"\n",
        "[state]\ndir = \"mnt/state\"\n[journal]\npath = \"mnt/journal.jsonl\"\n",
    ];
    for journal in journals {
        let upstream = Upstream::plain();
        let more = "[orders]\npath = \"mnt/orders\"\n[exceptions]\npath = \"mnt/exceptions\"\n";
        let config = preamble(upstream.address) + more + journal + &list("ads", "");
        let folder = folder(&config, &[("ads", "free.example\n")]);
        for dir in ["mnt", "mnt/orders", "mnt/exceptions"] {
            fs::create_dir(folder.path().join(dir)).expect("made");
        }
        let server = Server::start_in(folder);
        for (id, name) in [("x-1", "one.example"), ("x-2", "two.example")] {
            let text = order(id, PAST, &target(name, "exact"));
            server.replace(&format!("mnt/orders/{id}.toml"), &text);
            until("the order", || is_blocked(server.address, name));
        }
        server.replace("mnt/exceptions/mine.toml", EXCEPTION);
        let is_free = |server: &Server| !is_blocked(server.address, "free.example");
        until("the exception", || is_free(&server));
        let is_whole = |server: &Server| {
            let entries: Value =
                serde_json::from_str(&text_of(server, &["journal", "export"])).expect("JSON");
            let entries = entries.as_array().expect("entries");
            let published = entries.iter().filter(|entry| entry["event"] == "published");
            let numbers = published.map(|entry| entry["generation"].as_u64().expect("a number"));
            let numbers: Vec<_> = numbers.collect();
            assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
            let is_gone = |entry: &Value| {
                entry["event"] == "order-gone" || entry["exceptions_gone"].is_array()
            };
            assert!(!entries.iter().any(is_gone), "{entries:?}");
            numbers.last().copied() == server.status()["generation"].as_u64()
        };
        until("the journal", || is_whole(&server));
        let server = crash(server, |server| {
            fs::rename(server.path("mnt"), server.path("away")).expect("renamed");
        });
        assert!(!is_blocked(server.address, "one.example"));
        assert!(has_alarm(
            &server,
            "orders: the last good content of files that can't be read is not known"
        ));
        // The file system of the orders is mounted after that of the journal.
        let away = ["orders", "exceptions"].map(|dir| server.path("away").join(dir));
        let kept = ["kept-orders", "kept-exceptions"].map(|dir| server.path(dir));
        for (away, kept) in away.iter().zip(&kept) {
            fs::rename(away, kept).expect("renamed");
        }
        fs::rename(server.path("away"), server.path("mnt")).expect("renamed");
        for name in ["one.example", "two.example"] {
            until("the order of the journal", || {
                is_blocked(server.address, name)
            });
        }
        until("the exception of the journal", || is_free(&server));
        assert!(has_alarm(
            &server,
            "orders: 2 files could not be read since the start"
        ));
        until("the journal", || is_whole(&server));
        for (dir, kept) in ["mnt/orders", "mnt/exceptions"].iter().zip(&kept) {
            fs::rename(kept, server.path(dir)).expect("renamed");
        }
        until("no alarm of the files", || {
            !has_alarm(&server, "since the start")
        });
        until("the journal", || is_whole(&server));
        let server = crash(server, |server| {
            fs::rename(server.path("mnt"), server.path("away")).expect("renamed");
        });
        // Both are mounted at once.
        fs::rename(server.path("away"), server.path("mnt")).expect("renamed");
        until("the order", || is_blocked(server.address, "one.example"));
        until("no alarm of the files", || {
            !has_alarm(&server, "since the start")
        });
        until("the journal", || is_whole(&server));
        let verified = text_of(&server, &["journal", "verify"]);
        assert!(verified.starts_with("good: "), "{verified}");
    }
}

#[test]
fn exceptions_whose_directory_is_missing_at_the_start_stay_in_force() {
    let more = format!(
        "{}[exceptions]\npath = \"exceptions\"\n{}",
        JOURNALS[0],
        list("ads", "")
    );
    let upstream = Upstream::plain();
    let folder = folder(
        &(preamble(upstream.address) + &more),
        &[("ads", "free.example\nblocked.example\n")],
    );
    fs::create_dir(folder.path().join("exceptions")).expect("made");
    let server = Server::start_in(folder);
    server.replace("exceptions/mine.toml", EXCEPTION);
    until("the exception", || {
        !is_blocked(server.address, "free.example")
    });
    let server = crash(server, |server| {
        fs::rename(server.path("exceptions"), server.path("away")).expect("renamed");
    });
    assert!(
        !is_blocked(server.address, "free.example"),
        "{}",
        server.log()
    );
    assert!(is_blocked(server.address, "blocked.example"));
    assert!(has_alarm(
        &server,
        "exceptions: 1 file could not be read since the start"
    ));
    fs::rename(server.path("away"), server.path("exceptions")).expect("renamed");
    until("no alarm", || server.status()["degraded"] == false);
    assert!(!is_blocked(server.address, "free.example"));
}

#[test]
fn counts_of_hits_of_orders_and_lists_continue_after_a_restart() {
    let more = format!("{}{}", JOURNALS[0], list("ads", ""));
    let (server, _upstream) = server(&more, &[("ads", "ads.example\n")]);
    write_two(&server);
    let hits = |server: &Server| {
        let status = server.status();
        let hits = [
            &status["orders"]["hits"]["x-1"],
            &status["orders"]["hits"]["x-2"],
            &status["lists"][0]["hits"],
        ];
        (
            hits.map(|hits| hits.as_u64().unwrap_or(0)),
            status["orders"]["hits_since"].clone(),
        )
    };
    assert!(is_blocked(server.address, "ads.example"));
    let (before, since) = hits(&server);
    assert!(before.iter().all(|hits| *hits > 0), "{before:?}");
    let mut server = server;
    for restart in 1..3 {
        server.signal("TERM");
        server.wait();
        server = server.again();
        for name in ["one.example", "ads.example"] {
            assert!(is_blocked(server.address, name));
        }
        let (after, from) = hits(&server);
        let expected = [before[0] + restart, before[1], before[2] + restart];
        assert_eq!((after, &from), (expected, &since));
    }
    let report = text(&server.verb(&["order", "report"]));
    let line = format!(", {} hits\n", before[0] + 2);
    assert!(report.contains(&line), "{report}");
    assert!(report.contains("hits are counted since 20"), "{report}");
}

#[test]
fn the_removal_of_the_file_of_an_order_in_force_is_logged_and_journalled() {
    let (server, _upstream) = server(JOURNALS[0], &[]);
    let write = |id: &str, dates: &str| {
        let name = format!("{id}.example");
        let path = server.path(&format!("orders/{id}.toml"));
        fs::write(path, order(id, dates, &target(&name, "exact"))).expect("written");
    };
    write("ends", PAST);
    write("renamed", PAST);
    write("begins", "effective-from = 2090-01-01T00:00:00Z");
    write("stays", PAST);
    for id in ["ends", "renamed", "stays"] {
        until("the order", || {
            is_blocked(server.address, &format!("{id}.example"))
        });
    }
    fs::remove_file(server.path("orders/ends.toml")).expect("removed");
    fs::remove_file(server.path("orders/begins.toml")).expect("removed");
    let other = order("other", PAST, &target("other.example", "exact"));
    server.replace("orders/renamed.toml", &other);
    until("the end", || !is_blocked(server.address, "ends.example"));
    until("the end", || !is_blocked(server.address, "renamed.example"));
    until("the log", || {
        server.log().contains("its file has another id now")
    });
    let mark = "order no longer in force";
    until("both lines", || server.log().matches(mark).count() == 2);
    let log = server.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains(mark)).collect();
    let line = lines.iter().find(|line| line.contains("ends"));
    let line = line.expect("a line about it");
    assert!(
        line.contains("its file was removed") && line.contains("orders/ends.toml"),
        "{line}"
    );
    let shown = text_of(&server, &["journal", "show", "--order", "ends"]);
    assert!(
        shown.contains("order ends: its file is gone, or"),
        "{shown}"
    );
}

#[test]
fn a_suspended_order_is_shown_with_its_suspension() {
    let (server, _upstream) = server("", &[]);
    let suspended = "suspended = [{ from = 2021-01-01T00:00:00Z, until = 2090-01-01T00:00:00Z, reason = \"talks\" }]";
    let open = "suspended = [{ from = 2021-01-01T00:00:00Z, until = 2021-01-02T00:00:00Z }, \
                { from = 2022-01-01T00:00:00Z }]";
    for (id, dates, span, reason) in [
        (
            "until",
            suspended,
            "from 2021-01-01T00:00:00Z until 2090-01-01T00:00:00Z",
            ": talks",
        ),
        (
            "open",
            open,
            "from 2022-01-01T00:00:00Z until further notice",
            "",
        ),
    ] {
        let name = format!("{id}.example");
        let text = order(id, &format!("{PAST}\n{dates}"), &target(&name, "exact"));
        fs::write(server.path(&format!("orders/{id}.toml")), text).expect("written");
        let listed = text_of(&server, &["order", "list"]);
        let line = format!("{id}: suspended {span}, from 2020-01-01T00:00:00Z, 1 target, ");
        assert!(listed.contains(&line), "{listed}");
        let shown = text_of(&server, &["why", &name]);
        assert!(shown.contains("  not in force, suspended:\n"), "{shown}");
        assert!(
            shown.contains(&format!("\n    suspended {span}{reason}\n")),
            "{shown}"
        );
        // Outside the suspension the order is reported as usual.
        let before = text_of(&server, &["order", "list", "--at", "2020-06-01T00:00:00Z"]);
        let line = format!("{id}: in force, from 2020-01-01T00:00:00Z, 1 target, ");
        assert!(before.contains(&line), "{before}");
    }
}

#[test]
fn an_order_that_is_lifted_at_once_was_in_force_from_its_beginning_to_its_lift() {
    let (server, _upstream) = server(JOURNALS[0], &[]);
    let now = Timestamp::from_second(Timestamp::now().as_second()).expect("a time");
    let text = order(
        "x-1",
        &format!("effective-from = {now}"),
        &target("x.example", "exact"),
    );
    fs::write(server.path("orders/x-1.toml"), text).expect("written");
    until("the order", || is_blocked(server.address, "x.example"));
    let lifted = text_of(&server, &["order", "lift", "x-1", "--reason", "a mistake"]);
    let end = lifted
        .split_once(" is lifted at ")
        .and_then(|(_, rest)| rest.lines().next());
    let end = end.expect("its end");
    assert!(end.parse::<Timestamp>().expect("a time") > now, "{end}");
    let listed = text_of(&server, &["order", "list"]);
    let line = format!("x-1: lifted, in force from {now} to {end}, 1 target, ");
    assert!(listed.contains(&line), "{listed}");
    let checked = text_of(&server, &["check", "--files-only"]);
    assert!(!checked.contains("never"), "{checked}");
    let shown = text_of(&server, &["journal", "show", "--order", "x-1"]);
    assert!(shown.contains("order x-1: in force -> lifted"), "{shown}");
}

#[test]
fn why_names_the_same_files_whether_a_server_is_asked_or_not() {
    let (server, _upstream) = server(&list("ads", ""), &[("ads", "x.example\n")]);
    let text = order("x-1", PAST, &target("x.example", "exact"));
    fs::write(server.path("orders/x-1.toml"), text).expect("written");
    until("the order", || {
        server.status()["orders"]["states"]["in-force"] == 1
    });
    let paths = |more: &[&str]| {
        let mut why = tapis();
        why.current_dir(server.path(""))
            .args(["why", "-c", "tapis.toml", "--json", "x.example"]);
        let output = why.args(more).output().expect("it ran");
        let shown: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let rules = shown["rules"].as_array().expect("rules").clone();
        let paths = rules.into_iter().map(|rule| rule["path"].clone());
        paths
            .chain([shown["orders"][0]["path"].clone()])
            .collect::<Vec<_>>()
    };
    let expected = ["orders/x-1.toml", "ads", "orders/x-1.toml"];
    let expected = expected.map(|path| server.path(path).to_str().expect("text").to_owned());
    assert_eq!(paths(&[]), expected);
    assert_eq!(paths(&["--offline"]), expected);
}
