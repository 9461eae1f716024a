//! Common mistakes in input: the message names the accepted form.

use std::process::Output;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::support::client::{ask, errors, is_blocked, rcode, until};
use crate::support::server::{Server, folder, list, may_be_built_in, preamble, tapis, text, verb};
use crate::support::upstream::{Upstream, address_of, answer, name, soa};

fn check(config: &str) -> String {
    let folder = folder(config, &[]);
    let output = verb(folder.path(), &["check"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    text(&output)
}

#[test]
fn a_url_in_place_of_a_path_is_rejected_with_a_remedy() {
    for config in [
        list("ads", "").replace("path = \"ads\"", "path = \"https://lists.example/ads.txt\""),
        "[guard]\npopular = \"https://lists.example/top.csv\"\n".to_owned(),
        "[orders]\npath = \"http://orders.example/\"\n".to_owned(),
    ] {
        let report = check(&config);
        assert!(
            report.contains("a URL") && report.contains("download"),
            "{report}"
        );
        assert!(!report.contains("No such file"), "{report}");
    }
    let report = check("[state]\ndir = \"file:///var/lib/tapis\"\n");
    assert!(report.contains("write \"/var/lib/tapis\""), "{report}");
}

#[test]
fn an_upstream_in_the_notation_of_another_program_is_answered_with_ours() {
    for (written, meant) in [
        ("2001:db8::1:53", "\"[2001:db8::1]:53\""),
        ("2001:db8::1:5353", "\"[2001:db8::1]:5353\""),
        ("192.0.2.1#53", "\"192.0.2.1:53\""),
        ("192.0.2.1@5353", "\"192.0.2.1:5353\""),
        ("2001:db8::1#5353", "\"[2001:db8::1]:5353\""),
        ("192.0.2.1#dns.example", "\"tls://192.0.2.1#dns.example\""),
        (
            "2001:db8::1#dns.example",
            "\"tls://[2001:db8::1]#dns.example\"",
        ),
        (
            "192.0.2.1@853#dns.example",
            "\"tls://192.0.2.1#dns.example\"",
        ),
        (
            "192.0.2.1@8853#dns.example",
            "\"tls://192.0.2.1:8853#dns.example\"",
        ),
        ("udp://192.0.2.1", "\"192.0.2.1\""),
        ("tcp://192.0.2.1:5353", "\"192.0.2.1:5353\""),
        ("udp://dns.example", "the address of a server"),
        ("ftp://192.0.2.1/list", "the address of a server"),
        ("dot://192.0.2.1", "\"tls://192.0.2.1\""),
        ("tls://192.0.2.1#", "no host name behind the #"),
        ("tls://dns.example", "\"tls://192.0.2.55#dns.example\""),
        ("quic://dns.example", "\"quic://192.0.2.55#dns.example\""),
        (
            "https://dns.example/dns-query",
            "\"https://192.0.2.55/dns-query#dns.example\"",
        ),
        (
            "https://192.0.2.1/dns-query{?dns}",
            "\"https://192.0.2.1/dns-query\"",
        ),
        (
            "h3://dns.example/dns-query",
            "\"h3://192.0.2.55/dns-query#dns.example\"",
        ),
        ("sdns://AgcAAAAAAAAABzEuMC4wLjE", "DNS stamp"),
        ("192.0.2.1/24", "\"192.0.2.1\""),
        ("fe80::1%eth0:53", "\"[fe80::1%eth0]:53\""),
        ("dns.example", "its address"),
        ("192.0.2.1:domain", "\"192.0.2.1:53\""),
    ] {
        let report = check(&format!("[upstream]\nservers = [\"{written}\"]\n"));
        assert!(report.contains(meant), "{written}: {report}");
        let output = tapis()
            .args(["serve", "--upstream", written])
            .output()
            .expect("it ran");
        assert_eq!(output.status.code(), Some(2), "{written}");
        assert!(text(&output).contains(meant), "{}", text(&output));
    }
}

#[test]
fn an_address_that_could_end_in_a_port_needs_brackets_only_where_it_is_ambiguous() {
    for written in [
        "[2001:db8::1:53]",
        "[2001:db8::1:53]:53",
        "2001:db8:35::53",
        "2001:db8:1:2:3:4:5:53",
        "2001:db8::fe:9",
    ] {
        let config = format!("[upstream]\nservers = [\"{written}\"]\n");
        let folder = folder(&config, &[]);
        let path = folder.path().join("tapis.toml");
        let output = tapis()
            .arg("check")
            .arg("--config")
            .arg(path)
            .output()
            .expect("it ran");
        assert!(output.status.success(), "{written}: {}", text(&output));
    }
}

#[test]
fn an_address_to_listen_on_in_another_notation_is_answered_with_ours() {
    for (written, meant) in [
        ("2001:db8::1:53", "\"[2001:db8::1]:53\""),
        ("127.0.0.1#53", "\"127.0.0.1:53\""),
        ("127.0.0.1@5300", "\"127.0.0.1:5300\""),
        ("udp://127.0.0.1:53", "\"127.0.0.1:53\""),
        ("tls://127.0.0.1:853", "DNS over TLS"),
        (":53", "\"0.0.0.0:53\""),
        ("*:53", "\"0.0.0.0:53\""),
        ("localhost:53", "\"127.0.0.1:53\""),
        ("::1:53", "\"[::1]:53\""),
    ] {
        let report = check(&format!("[server]\nlisten = [\"{written}\"]\n"));
        assert!(report.contains(meant), "{written}: {report}");
    }
}

fn ask_three_times(server: &Server) {
    for count in 0..3 {
        let name = format!("n{count}.example");
        let answer = ask(server.address, &name, RecordType::A);
        assert_ne!(rcode(&answer), ResponseCode::NoError);
    }
}

fn upstream_line(server: &Server) -> String {
    let status = text(&server.verb(&["status"]));
    let line = status.lines().find(|line| line.starts_with("upstream "));
    line.expect("the server").to_owned()
}

#[test]
fn status_explains_a_failing_upstream_by_its_answers() {
    for (code, report) in [
        (ResponseCode::FormErr, "answers FORMERR"),
        (ResponseCode::Refused, "answers REFUSED"),
        (ResponseCode::ServFail, "answers SERVFAIL"),
        (ResponseCode::NotImp, "answers NOTIMP"),
    ] {
        let upstream = Upstream::start(move |asked| Some(answer(asked, code)));
        let server = Server::start(&preamble(upstream.address), &[]);
        ask_three_times(&server);
        let line = upstream_line(&server);
        assert!(line.contains(report), "{line}");
        let hint = match code {
            ResponseCode::FormErr | ResponseCode::NotImp => "EDNS",
            ResponseCode::Refused => "may not ask it",
            _ => "",
        };
        assert!(line.contains(hint), "{line}");
    }
}

#[test]
fn status_reports_failures_since_the_last_good_answer_and_all_of_them_in_json() {
    let upstream = Upstream::start(|asked| match name(asked).as_str() {
        "good.example" => Some(address_of(asked, [192, 0, 2, 1])),
        _ => Some(answer(asked, ResponseCode::ServFail)),
    });
    let server = Server::start(&preamble(upstream.address), &[]);
    assert_eq!(
        rcode(&ask(server.address, "one.example", RecordType::A)),
        ResponseCode::ServFail
    );
    let line = upstream_line(&server);
    assert!(line.contains("1 answer SERVFAIL"), "{line}");
    let status = server.status();
    assert_eq!(status["upstream"][0]["failures"]["SERVFAIL"], 1);
    ask(server.address, "good.example", RecordType::A);
    until("the good answer", || {
        !upstream_line(&server).contains("SERVFAIL")
    });
    assert_eq!(
        server.status()["upstream"][0]["failures_total"]["SERVFAIL"],
        1
    );
}

/// Starts with these arguments on a free port.
fn start(config: &str, arguments: &[&str]) -> Server {
    let upstream = Upstream::plain().address.to_string();
    let more = [&["--upstream", &upstream], arguments].concat();
    Server::start_with(
        &(config.to_owned() + "[[list]]\nname = \"ads\"\npath = \"ads\"\n"),
        &[("ads", "a.example\n")],
        &more,
    )
}

const CONTROL: &str = "[server]\ncontrol = \"control.sock\"\n";

#[test]
fn a_server_that_listens_publicly_and_permits_only_itself_warns_at_its_start() {
    let warning = "other machines are refused";
    for (listen, allow, warns) in [
        ("0.0.0.0:0", &[][..], true),
        ("127.0.0.1:0", &[], false),
        ("0.0.0.0:0", &["--allow", "192.0.2.0/24"], false),
        ("0.0.0.0:0", &["--allow", "127.0.0.1"], true),
    ] {
        let server = start(CONTROL, &[&["--listen", listen], allow].concat());
        // The warning is logged before this line.
        let log = server.logged("serving address");
        assert_eq!(log.contains(warning), warns, "{listen} {allow:?}: {log}");
        assert_eq!(log.contains("--allow"), warns, "{log}");
        server.assert_well();
    }
    let config = "[server]\nlisten = [\"0.0.0.0:0\"]\nallow = []\n";
    let folder = folder(config, &[]);
    let path = folder.path().join("tapis.toml");
    let output = tapis()
        .arg("check")
        .arg("--config")
        .arg(path)
        .output()
        .expect("it ran");
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("note: "), "{}", text(&output));
    assert!(
        text(&output).contains("every client is refused"),
        "{}",
        text(&output)
    );
}

#[test]
fn allow_on_the_command_line_overrides_the_file_also_after_a_reload() {
    let config = "[server]\ncontrol = \"control.sock\"\nallow = [\"127.0.0.0/8\"]\n";
    let listen = ["--listen", "127.0.0.1:0"];
    let server = start(
        config,
        &[
            &listen[..],
            &["--allow", "192.0.2.0/24", "--allow", "198.51.100.7"],
        ]
        .concat(),
    );
    let refused = || {
        let answer = ask(server.address, "a.example", RecordType::A);
        (rcode(&answer) == ResponseCode::Refused).then(|| errors(&answer)[0].0)
    };
    assert_eq!(refused(), Some(18));
    assert!(server.verb(&["reload"]).status.success());
    assert_eq!(refused(), Some(18));
    let server = start(config, &[&listen[..], &["--allow", "127.0.0.1"]].concat());
    assert!(is_blocked(server.address, "a.example"));
}

fn serve(arguments: &[&str]) -> Output {
    tapis()
        .arg("serve")
        .args(arguments)
        .output()
        .expect("it ran")
}

#[test]
fn a_prefix_to_allow_is_parsed_as_in_the_file() {
    for (prefix, report) in [
        ("192.0.2.1/24", "192.0.2.0/24"),
        ("lan", "neither network nor address"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
    ] {
        let output = serve(&["--allow", prefix]);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output).contains(report), "{}", text(&output));
    }
}

#[test]
fn an_address_to_listen_on_without_a_port_gets_the_default_port() {
    // 192.0.2.1 is not an address of this machine, so the start fails, and the message has the full
    // address with its port.
    for (listen, meant) in [
        ("192.0.2.1", "192.0.2.1:5335"),
        ("2001:db8::1", "[2001:db8::1]:5335"),
        ("[2001:db8::1]", "[2001:db8::1]:5335"),
        ("192.0.2.1:5399", "192.0.2.1:5399"),
    ] {
        let output = serve(&["--listen", listen]);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(text(&output).contains(meant), "{}", text(&output));
    }
}

#[test]
fn the_built_in_default_raises_no_alarm_without_its_files() {
    if !may_be_built_in() {
        return;
    }
    let elsewhere = tempfile::tempdir().expect("a folder");
    let socket = elsewhere.path().join("control.sock");
    let upstream = Upstream::plain().address.to_string();
    let mut command = tapis();
    command.arg("serve").args([
        "--listen",
        "127.0.0.1:0",
        "--upstream",
        &upstream,
        "--control",
    ]);
    command.arg(&socket).current_dir(elsewhere.path());
    let server = Server::run(command, elsewhere);
    let status = || {
        let output = tapis()
            .args(["status", "--json", "--control"])
            .arg(&socket)
            .output();
        let output = output.expect("it ran");
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        status
    };
    let reload = tapis()
        .args(["reload", "--control"])
        .arg(&socket)
        .output()
        .expect("it ran");
    assert!(reload.status.success(), "{}", text(&reload));
    let report = status();
    assert_eq!(report["alarms"], serde_json::json!([]), "{report}");
    assert!(is_blocked(server.address, "t.me"));
    assert!(!server.log().contains("blocklists"), "{}", server.log());
}

#[test]
fn negative_answers_have_a_maximum_ttl() {
    let upstream = Upstream::start(|asked| {
        let mut message = answer(asked, ResponseCode::NXDomain);
        message.authorities.push(soa("example.", 86_400));
        Some(message)
    });
    for (keys, ttl) in [
        ("", 10_800),
        ("max-negative-ttl-secs = 60\n", 60),
        ("max-ttl-secs = 600\n", 600),
        ("min-ttl-secs = 120\nmax-negative-ttl-secs = 120\n", 120),
    ] {
        let config = preamble(upstream.address) + "[cache]\n" + keys;
        let server = Server::start(&config, &[]);
        let fresh = ask(server.address, "n.example", RecordType::A);
        let kept = ask(server.address, "n.example", RecordType::A);
        for answer in [fresh, kept] {
            let found = answer.authorities[0].ttl;
            assert!((ttl - 10..=ttl).contains(&found), "{keys}: {found}");
        }
    }
}

/// An order that blocks one name.
const ORDER: &str = "id = \"x-1\"\nlegal-basis = [\"Act 1\"]\n\
    effective-from = 2026-01-02T00:00:00Z\nreview-at = 2030-01-01T00:00:00Z\n\
    authority = { name = \"Authority\" }\nredress = { how = \"write\" }\nreason = { en = \"why\" }\n\
    targets = [{ name = \"o.example\", scope = \"exact\" }]\n";

#[test]
fn a_count_of_one_is_singular() {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address)
        + "[orders]\npath = \"orders\"\n[state]\ndir = \"state\"\n[guard]\nbad-percent = 50\n"
        + &list("ads", "");
    let folder = folder(&config, &[("ads", "a.example\nb..example\n")]);
    std::fs::create_dir(folder.path().join("orders")).expect("made");
    std::fs::write(folder.path().join("orders/x-1.toml"), ORDER).expect("written");
    let server = Server::start_in(folder);
    ask(server.address, "true.example", RecordType::A);
    let order = server.path("orders/x-1.toml").display().to_string();
    let image = server.path("image").display().to_string();
    for (verb, report) in [
        (&["check"][..], "ads: 1 rule, 0 skipped, 1 bad line ("),
        (&["check", "--allow-bad-lines"], "good: 1 list, 1 order\n"),
        (&["status"], "list ads: 1 rule, 1 bad line\n"),
        (&["status"], "cache: 1 answer, "),
        (&["order", "check", &order], "good: order x-1, 1 target\n"),
        (&["order", "list"], ", 1 target, Authority\n"),
        (
            &["order", "report"],
            "authority Authority: 1 order, 1 in force\n",
        ),
        (
            &["journal", "show"],
            "list ads: 1 rule, 0 left out, 1 bad line, BLAKE3",
        ),
        (
            &["compile", "-o", &image],
            ": 1 name in, 1 rule, 0 pruned, ",
        ),
    ] {
        let output = server.verb(verb);
        assert!(
            text(&output).contains(report),
            "{verb:?}: {}",
            text(&output)
        );
    }
    std::fs::write(server.path("ads"), "a..b\n").expect("written");
    let report = text(&server.verb(&["reload"]));
    assert!(report.contains("1 of 1 line is bad"), "{report}");
}
