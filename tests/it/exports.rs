//! `tapis export`: the rules of a list in the formats of other programs, and what it says of rules that these can't have.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Output;
use std::thread;

use hickory_proto::rr::RecordType;

use crate::support::client::{ask, data, is_blocked, rcode};
use crate::support::server::{Server, folder, list, preamble, tapis, text};
use crate::support::upstream::Upstream;

/// A server with the list `ads`, which has these keys and lines.
fn server(upstream: &Upstream, keys: &str, lines: &str) -> Server {
    let config = preamble(upstream.address) + &list("ads", keys);
    Server::start(&config, &[("ads", lines)])
}

fn export(server: &Server, format: &str) -> Output {
    server.verb(&["export", "ads", "--format", format])
}

/// The lines that are no comments.
fn rules(output: &Output) -> Vec<String> {
    let text = String::from_utf8(output.stdout.clone()).expect("text");
    let rules = text.lines().filter(|line| !line.starts_with(['#', '!']));
    let mut rules: Vec<_> = rules.map(str::to_owned).collect();
    rules.sort_unstable();
    rules
}

#[test]
fn a_list_of_names_is_written_in_every_format_and_each_says_what_it_leaves_out() {
    let upstream = Upstream::plain();
    let server = server(&upstream, "", "a.example\n.b.example\n*.c.example\n");
    let three = "of 3 rules can't be written as";
    for (format, expected, left_out) in [
        (
            "domains",
            &["*.c.example", ".b.example", "a.example"][..],
            None,
        ),
        (
            "hosts",
            &["0.0.0.0 a.example"],
            Some(format!(
                "2 {three} hosts: 1 on a name and all names below it, 1 on all names below a name"
            )),
        ),
        (
            "dnsmasq",
            &["address=/*.c.example/#", "address=/b.example/#"],
            Some(format!(
                "1 {three} dnsmasq: 1 on a name without those below it"
            )),
        ),
        (
            "unbound",
            &[
                "local-data: \"a.example. A 0.0.0.0\"",
                "local-zone: \"b.example.\" always_null",
                "server:",
            ],
            Some(format!("1 {three} unbound: 1 on all names below a name")),
        ),
        (
            "adblock",
            &["*.c.example^", "|a.example^", "||b.example^"],
            None,
        ),
    ] {
        let output = export(&server, format);
        assert_eq!(rules(&output), expected, "{format}");
        let written = String::from_utf8(output.stdout.clone()).expect("text");
        let errors = String::from_utf8(output.stderr.clone()).expect("text");
        let first = written.lines().next().expect("a header");
        assert!(
            first.contains("The list ads, which blocks names: 3 rules in force at 20"),
            "{first}"
        );
        let keys = format!("format = \"{format}\", action = \"sinkhole\"");
        assert!(written.contains(&keys), "{written}");
        assert_eq!(output.status.code(), Some(i32::from(left_out.is_some())));
        match left_out {
            Some(left_out) => {
                assert!(
                    errors.ends_with(&format!("tapis: ads: {left_out}\n")),
                    "{errors}"
                );
                assert!(written.ends_with(&format!("{left_out}\n")), "{written}");
            }
            None => {
                assert!(!errors.contains("can't be written"), "{errors}");
                assert!(written.contains("The end: 3 rules are above."), "{written}");
            }
        }
    }
    server.assert_well();
}

#[test]
fn an_adblock_list_is_given_back_with_all_that_its_rules_do() {
    let upstream = Upstream::plain();
    let lines = "||a.example^\n@@||ok.a.example^\n||b.example^$important\n@@||b.example^\n\
                 ||c.example^$dnstype=AAAA\n||d.example^$denyallow=ok.d.example\n\
                 ||e.example^$dnsrewrite=192.0.2.7\n||f.example^$dnsrewrite=NXDOMAIN\n\
                 /^ads[0-9]+\\./\n-track.\n192.0.2.8 g.example\n||h.example^$badfilter\n||h.example^\n";
    let first = server(&upstream, "format = \"adblock\"", lines);
    let output = export(&first, "adblock");
    assert!(output.status.success(), "{}", text(&output));
    let written = String::from_utf8(output.stdout).expect("text");
    let again = server(&upstream, "format = \"adblock\"", &written);
    let count = |server: &Server| server.status()["lists"][0]["rules"].clone();
    assert_eq!(count(&first), 11);
    assert_eq!(count(&again), 11, "{written}");
    for at in [first.address, again.address] {
        for name in [
            "x.a.example",
            "b.example",
            "x.d.example",
            "ads7.example",
            "my-track.example",
        ] {
            assert!(is_blocked(at, name), "{name}");
        }
        for name in [
            "x.ok.a.example",
            "c.example",
            "ok.d.example",
            "ads.example",
            "h.example",
        ] {
            assert!(!is_blocked(at, name), "{name}");
        }
        assert!(
            ask(at, "c.example", RecordType::AAAA).answers[0]
                .data
                .to_string()
                == "::"
        );
        assert_eq!(data(&ask(at, "x.e.example", RecordType::A)), ["192.0.2.7"]);
        assert_eq!(data(&ask(at, "g.example", RecordType::A)), ["192.0.2.8"]);
        let denied = rcode(&ask(at, "f.example", RecordType::A));
        assert_eq!(denied, hickory_proto::op::ResponseCode::NXDomain);
    }
    let output = export(&first, "domains");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(rules(&output), [".a.example"]);
    let left_out = "10 of 11 rules can't be written as domains: 2 with patterns, 2 that allow names, 3 with answers of their \
                    own, 1 with another precedence, 2 for some queries only";
    assert!(text(&output).contains(left_out), "{}", text(&output));
    first.assert_well();
    again.assert_well();
}

#[test]
fn rules_on_addresses_are_given_back_and_names_with_several_addresses_are_one_rule() {
    let upstream = Upstream::plain();
    let lines = "198.51.100.7\n||2001:db8::7^$important\n@@||198.51.100.8^\n198.51.100.9^$dnstype=A\n\
                 192.0.2.8 x.example\n192.0.2.9 x.example\n2001:db8::8 x.example\n";
    let first = server(&upstream, "format = \"adblock\"", lines);
    let output = export(&first, "adblock");
    assert!(output.status.success(), "{}", text(&output));
    let written = rules(&output);
    let expected = [
        "192.0.2.8 x.example",
        "192.0.2.9 x.example",
        "2001:db8::8 x.example",
        "@@||198.51.100.8^",
        "||198.51.100.7^",
        "||198.51.100.9^$dnstype=A",
        "||2001:db8::7^$important",
    ];
    assert_eq!(written, expected);
    let written = String::from_utf8(output.stdout).expect("text");
    assert!(
        written.contains("which blocks names: 5 rules in force"),
        "{written}"
    );
    assert!(written.contains("The end: 5 rules are above."), "{written}");
    let again = server(&upstream, "format = \"adblock\"", &written);
    assert_eq!(
        again.status()["lists"][0]["rules"],
        first.status()["lists"][0]["rules"]
    );
    let output = export(&first, "hosts");
    let errors = String::from_utf8(output.stderr).expect("text");
    assert!(errors.contains("4 on networks"), "{errors}");
}

#[test]
fn rules_that_a_policy_zone_can_not_have_are_reported_too() {
    let upstream = Upstream::plain();
    let server = server(&upstream, "format = \"adblock\"", "||a.example^\n-track.\n");
    let output = export(&server, "rpz");
    assert_eq!(output.status.code(), Some(1));
    let left_out = "not all can be written as rpz: 1 patterns left out\n";
    let errors = String::from_utf8(output.stderr).expect("text");
    assert!(
        errors.ends_with(&format!("tapis: ads: {left_out}")),
        "{errors}"
    );
    let written = String::from_utf8(output.stdout).expect("text");
    assert!(written.ends_with(&format!("\n; {left_out}")), "{written}");
    assert!(written.contains("\na.example 60 A 0.0.0.0\n"), "{written}");
}

#[test]
fn what_can_not_be_exported_is_refused_and_the_file_stays() {
    let upstream = Upstream::plain();
    let server = server(&upstream, "", "a.example\n");
    let path = server.path("out");
    fs::write(&path, "before\n").expect("written");
    let output = format!("--output={}", path.display());
    for (source, format, expected) in [
        ("other", "hosts", "there is no list or feed `other`"),
        ("ads", "csv", "invalid value 'csv'"),
    ] {
        let failed = server.verb(&["export", source, "--format", format, &output]);
        assert!(!failed.status.success());
        assert!(text(&failed).contains(expected), "{}", text(&failed));
        assert_eq!(fs::read_to_string(&path).expect("readable"), "before\n");
    }
    let written = server.verb(&["export", "ads", "--format=hosts", &output]);
    assert!(written.status.success(), "{}", text(&written));
    let written = fs::read_to_string(&path).expect("readable");
    assert!(written.contains("\n0.0.0.0 a.example\n"), "{written}");
}

#[test]
fn the_first_lines_have_the_keys_with_which_the_text_gives_the_same_answers() {
    let upstream = Upstream::plain();
    let ads = "allow-scope = \"all-lists\"\nformat = \"adblock\"\nttl-secs = 7\nede = \"filtered\"\n\
               sinkhole = [\"192.0.2.9\", \"2001:db8::9\"]";
    let files = |lines| [("first", "x.example\n"), ("ads", lines)];
    let config = |keys: &str| preamble(upstream.address) + &list("first", "") + &list("ads", keys);
    let first = Server::start(&config(ads), &files("||a.example^\n@@||x.example^\n"));
    let output = export(&first, "adblock");
    assert!(output.status.success(), "{}", text(&output));
    let written = String::from_utf8(output.stdout).expect("text");
    let (_, keys) = written.split_once("with this file: ").expect("keys");
    let keys = keys.lines().next().expect("a line");
    let expected = "format = \"adblock\", action = \"sinkhole\", allow-scope = \"all-lists\", \
                    sinkhole = [\"192.0.2.9\", \"2001:db8::9\"], ttl-secs = 7, ede = \"filtered\"";
    assert_eq!(keys, expected);
    let keys = keys
        .replace(", \"2001", "; \"2001")
        .replace(", ", "\n")
        .replace(';', ",");
    let again = Server::start(&config(&keys), &files(&written));
    for at in [first.address, again.address] {
        assert!(!is_blocked(at, "x.example"), "allowed by the later list");
        let answer = ask(at, "a.example", RecordType::A);
        assert_eq!(data(&answer), ["192.0.2.9"]);
        assert_eq!(answer.answers[0].ttl, 7);
    }
    let output = export(&first, "domains");
    assert!(!text(&output).contains("allow-scope"), "it has no meaning");
}

#[test]
fn a_list_that_is_disabled_or_has_no_version_is_not_exported_and_the_reason_is_reported() {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address)
        + &list("ads", "format = \"rpz\"\npolicy = \"disabled\"")
        + &list("empty", "");
    let server = Server::start(&config, &[("ads", ZONE)]);
    for (source, problem) in [
        ("ads", "`ads` is disabled in the configuration"),
        ("empty", "`empty` has no version yet; see: tapis status"),
        ("add", "there is no list or feed `add`; did you mean `ads`?"),
        (
            "zzzzzz",
            "there is no list or feed `zzzzzz`; `tapis status` shows all",
        ),
    ] {
        let failed = server.verb(&["export", source, "--format", "domains"]);
        assert_eq!(failed.status.code(), Some(1));
        assert!(failed.stdout.is_empty());
        assert!(text(&failed).contains(problem), "{}", text(&failed));
    }
}

#[test]
fn a_file_keeps_its_link_and_mode_and_a_device_is_written_to() {
    let upstream = Upstream::plain();
    let server = server(&upstream, "", "a.example\n");
    let (link, target) = (server.path("link"), server.path("target"));
    fs::write(&target, "before\n").expect("written");
    fs::set_permissions(&target, PermissionsExt::from_mode(0o640)).expect("set");
    symlink("target", &link).expect("linked");
    let output = |path: &Path| format!("--output={}", path.display());
    let written = server.verb(&["export", "ads", "--format=hosts", &output(&link)]);
    assert!(written.status.success(), "{}", text(&written));
    assert!(fs::symlink_metadata(&link).expect("a link").is_symlink());
    let mode = fs::metadata(&target).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    let found = fs::read_to_string(&target).expect("readable");
    assert!(found.contains("\n0.0.0.0 a.example\n"), "{found}");
    // The same if the link leads to no file yet.
    let dangling = server.path("dangling");
    symlink("missing", &dangling).expect("linked");
    let written = server.verb(&["export", "ads", "--format=hosts", &output(&dangling)]);
    assert!(written.status.success(), "{}", text(&written));
    assert!(
        fs::symlink_metadata(&dangling)
            .expect("a link")
            .is_symlink()
    );
    let found = fs::read_to_string(server.path("missing")).expect("readable");
    assert!(found.contains("\n0.0.0.0 a.example\n"), "{found}");
    let device = server.path("device");
    symlink("/dev/stdout", &device).expect("linked");
    let written = server.verb(&["export", "ads", "--format=hosts", &output(&device)]);
    assert!(written.status.success(), "{}", text(&written));
    assert_eq!(rules(&written), ["0.0.0.0 a.example"]);
    assert!(fs::symlink_metadata(&device).expect("a link").is_symlink());
    let full = server.verb(&["export", "ads", "--format=hosts", "--output=/dev/full"]);
    assert_eq!(full.status.code(), Some(1), "{}", text(&full));
    assert!(text(&full).contains("/dev/full: "), "{}", text(&full));
}

#[test]
fn a_text_that_ends_early_replaces_no_file() {
    let folder = folder("", &[("out", "before\n")]);
    let socket = folder.path().join("control.sock");
    let listener = UnixListener::bind(&socket).expect("bound");
    let broken = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).expect("a request");
        let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nx.example\r\n";
        stream.write_all(answer.as_bytes()).expect("sent");
    });
    let path = folder.path().join("out");
    let mut command = tapis();
    command.args(["export", "ads", "--format=domains", "--output"]);
    let output = command.arg(&path).arg("--control").arg(&socket).output();
    let output = output.expect("it ran");
    broken.join().expect("it answered");
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
    assert_eq!(fs::read_to_string(&path).expect("readable"), "before\n");
    let files = fs::read_dir(folder.path()).expect("readable").count();
    assert_eq!(files, 3, "tapis.toml, out and the socket");
}

/// A zone whose wildcards are hidden from names below others (RFC 4592).
const ZONE: &str = "$ORIGIN zone.test.\n$TTL 60\n@ SOA a. b. 1 1 1 1 1\n\
                    x.example CNAME .\n*.x.example CNAME .\nok.x.example CNAME rpz-passthru.\n\
                    only.example CNAME .\ndrop.example CNAME rpz-drop.\n\
                    *.w.example CNAME .\nc.b.w.example A 192.0.2.7\n\
                    n1.example CNAME .\nn2.example A 192.0.2.8\nn3.example CNAME .\n\
                    24.0.100.51.198.rpz-ip CNAME .\n";

#[test]
fn a_policy_zone_is_written_so_that_names_hidden_from_its_wildcards_stay_allowed() {
    let upstream = Upstream::plain();
    let first = server(&upstream, "format = \"rpz\"", ZONE);
    let output = export(&first, "dnsmasq");
    assert_eq!(
        rules(&output),
        [
            "address=/*.w.example/",
            "address=/x.example/",
            "server=/*.c.b.w.example/#",
            "server=/b.w.example/#",
            "server=/ok.x.example/#",
        ]
    );
    let left_out = "7 of 12 rules can't be written as dnsmasq: 6 on a name without those below it, 1 on networks";
    assert!(text(&output).contains(left_out), "{}", text(&output));
    let written = String::from_utf8(output.stdout).expect("text");
    assert!(written.contains("action = \"nxdomain\""), "{written}");
    let again = server(&upstream, "format = \"dnsmasq\"", &written);
    for at in [first.address, again.address] {
        // A list answers NODATA in place of NXDOMAIN above a name that it allows.
        let denied = |name| ask(at, name, RecordType::A).answers.is_empty();
        for name in ["x.example", "y.x.example", "y.w.example", "z.y.w.example"] {
            assert!(denied(name), "{name}");
        }
        for name in [
            "ok.x.example",
            "y.ok.x.example",
            "w.example",
            "b.w.example",
            "y.c.b.w.example",
        ] {
            assert!(!denied(name), "{name}");
        }
    }
    let output = export(&first, "domains");
    assert_eq!(
        rules(&output),
        [
            "*.w.example",
            ".x.example",
            "n1.example",
            "n3.example",
            "only.example"
        ]
    );
    let left_out = "7 of 12 rules can't be written as domains: 1 on networks, 3 that allow names, 3 with answers of their own";
    assert!(text(&output).contains(left_out), "{}", text(&output));
    first.assert_well();
    again.assert_well();
}
