//! The shipped configurations, used as their comments say.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{DNSClass, RecordType};
use tempfile::TempDir;

use crate::support::client::{
    PATIENCE, ask, data, errors, exchange, is_blocked, query, rcode, until,
};
use crate::support::server::{Server, tapis, text};
use crate::support::upstream::{Upstream, name};

const ORDER: &str = "id = \"x-2026-1\"\nlegal-basis = [\"law\"]\nissued-at = 2020-01-01T00:00:00Z\n\
                     effective-from = 2020-01-01T00:00:00Z\nreview-at = 2090-01-01T00:00:00Z\n\
                     [authority]\nname = \"A\"\n[reason]\nen = \"r\"\n[redress]\nhow = \"write\"\n\
                     [[targets]]\nname = \"partner.example.com\"\nscope = \"exact\"\n";

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("config")
        .join(name)
}

/// Copies the files that the comment at the beginning of the example names.
fn copy(to: &Path) {
    let text = fs::read_to_string(shipped("isp.toml")).expect("readable");
    for copied in [
        "cp -r config/lists config/orders /etc/tapis/",
        "cp config/isp.toml /etc/tapis/tapis.toml",
    ] {
        assert!(text.contains(copied), "{text}");
    }
    fs::copy(shipped("isp.toml"), to.join("tapis.toml")).expect("copied");
    for folder in ["lists", "orders"] {
        fs::create_dir(to.join(folder)).expect("made");
        for file in fs::read_dir(shipped(folder)).expect("listed") {
            let file = file.expect("a file");
            let name = to.join(folder).join(file.file_name());
            fs::copy(file.path(), name).expect("copied");
        }
    }
}

/// The provider's example in another directory, with values that a test can use.
fn adapted(upstream: SocketAddr) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    copy(folder.path());
    let text = fs::read_to_string(shipped("isp.toml")).expect("readable");
    let mut config = text;
    let upstream = format!("servers = [\"{upstream}\"]");
    for (shipped, ours) in [
        ("\"0.0.0.0:53\", \"[::]:53\"", "\"127.0.0.1:0\""),
        ("/run/tapis/control.sock", "control.sock"),
        ("/var/lib/tapis", "state"),
        ("size-mib = 4096", "size-mib = 16"),
        ("workers = 0", "workers = 2"),
        ("servers = [\"192.0.2.53\", \"192.0.2.54\"]", &upstream),
    ] {
        assert!(config.contains(shipped), "{shipped}");
        config = config.replace(shipped, ours);
    }
    fs::write(folder.path().join("tapis.toml"), config).expect("written");
    folder
}

fn provider(upstream: &Upstream) -> Server {
    Server::start_in(adapted(upstream.address))
}

#[test]
fn each_shipped_configuration_is_valid_in_place_and_as_a_copy() {
    // This machine may run another server, and an ordinary user may not bind port 53.
    let check = |path: &Path| {
        let mut command = tapis();
        command
            .args(["check", "--files-only", "--config"])
            .arg(path)
            .current_dir("/");
        let output = command.output().expect("it ran");
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    };
    for name in ["tapis.toml", "isp.toml"] {
        check(&shipped(name));
    }
    let folder = tempfile::tempdir().expect("a folder");
    copy(folder.path());
    let report = check(&folder.path().join("tapis.toml"));
    assert!(report.contains("mandated: 2 rules"), "{report}");
}

#[test]
fn the_systemd_unit_of_the_providers_example_allows_enough_files_and_restarts() {
    let head = fs::read_to_string(shipped("isp.toml")).expect("readable");
    for line in [
        "--regid tapis --init-groups",
        "After=network-online.target",
        "Wants=network-online.target",
        "Restart=on-failure",
        "ExecReload=/usr/local/bin/tapis reload --config /etc/tapis/tapis.toml",
    ] {
        assert!(head.contains(line), "{line}");
    }
    assert!(!head.contains("kill -HUP"), "{head}");
    let files = head.split("LimitNOFILE=").nth(1).expect("a limit");
    let files = files.lines().next().and_then(|n| n.parse::<u32>().ok());
    // TCP connections of clients use at most half of them.
    assert!(files.is_some_and(|files| files > 3 * 8192), "{files:?}");
    let folder = adapted(SocketAddr::from(([192, 0, 2, 53], 53)));
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 4096; exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_tapis"))
        .args(["check", "--config"])
        .arg(folder.path().join("tapis.toml"));
    let printed = text(&command.output().expect("it ran"));
    assert!(printed.contains("of 8192 are possible"), "{printed}");
}

#[test]
fn the_providers_example_blocks_and_allows_as_its_comments_say() {
    let upstream = Upstream::plain();
    let server = provider(&upstream);
    let address = server.address;
    server.assert_well();
    for name in ["forbidden.example", "www.forbidden.example"] {
        let answer = ask(address, name, RecordType::A);
        assert_eq!(data(&answer), ["0.0.0.0"], "{name}");
        assert_eq!(answer.answers[0].ttl, 60);
        let (code, text) = &errors(&answer)[0];
        assert!(*code == 16 && text.contains("objections: https://authority.example/dns"));
    }
    for name in ["malware.example.com", "x.phishing.example.org"] {
        let answer = ask(address, name, RecordType::A);
        assert_eq!(rcode(&answer), ResponseCode::NXDomain, "{name}");
    }
    for name in ["gambling.example.net", "www.gambling.example.net"] {
        assert!(is_blocked(address, name), "{name}: enforced whole");
    }
    let reverse = ask(address, "1.0.0.10.in-addr.arpa", RecordType::PTR);
    assert_eq!(rcode(&reverse), ResponseCode::NoError);
    let asked = upstream.asked();
    let mut names = asked.iter().map(name);
    assert!(names.any(|asked| asked == "1.0.0.10.in-addr.arpa"));
    let mut id = query("id.server", RecordType::TXT);
    id.queries[0].set_query_class(DNSClass::CH);
    let id = exchange(address, &id, PATIENCE).expect("an answer");
    assert!(data(&id)[0].contains("resolver-1.example.net"), "{id}");
}

#[test]
fn the_providers_example_enforces_the_mandated_list_whole() {
    let upstream = Upstream::plain();
    let server = provider(&upstream);
    let path = "lists/mandated.txt";
    let list = fs::read_to_string(server.path(path)).expect("readable");
    server.replace(path, &(list + "co.id\n"));
    until("the public suffix", || {
        is_blocked(server.address, "www.co.id")
    });
    let status = server.status();
    assert_eq!(status["lists"][0]["warned"], 1);
    assert_eq!(status["degraded"], false);
}

#[test]
fn the_providers_allow_list_overrides_block_lists_and_not_the_mandated_list() {
    let upstream = Upstream::plain();
    let server = provider(&upstream);
    let mandated = fs::read_to_string(server.path("lists/mandated.txt")).expect("readable");
    let freed = fs::read_to_string(server.path("lists/never-block.txt")).expect("readable");
    let names = |list: &str| {
        let lines = list.lines().filter(|line| !line.starts_with('#'));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    for freed in names(&freed) {
        for name in names(&mandated) {
            let apart = !freed.ends_with(&name) && !name.ends_with(&freed);
            assert!(apart, "{name} is not enforced whole beside {freed}");
        }
        server.replace(
            "lists/mandated.txt",
            &format!("{mandated}{freed}\nx.example\n"),
        );
        until("the list", || is_blocked(server.address, "x.example"));
        assert!(!is_blocked(server.address, &freed), "as the comments say");
        server.replace("lists/mandated.txt", &format!("{mandated}{freed}\n"));
        server.verb(&["reload", "--accept", "mandated:shrunk"]);
    }
}

#[test]
fn the_providers_mandated_list_is_held_if_a_fifth_of_it_is_gone() {
    let upstream = Upstream::plain();
    let server = provider(&upstream);
    let path = "lists/mandated.txt";
    let list = |count| {
        (0..count)
            .map(|n| format!("n{n}.example\n"))
            .collect::<String>()
    };
    server.replace(path, &list(100));
    until("the list", || is_blocked(server.address, "n99.example"));
    server.replace(path, &(list(80) + "com"));
    until("the guard", || {
        server.status()["lists"][0]["state"] == "held"
    });
    assert!(is_blocked(server.address, "n99.example"));
    assert!(!is_blocked(server.address, "www.other.com"));
    let output = server.verb(&["reload", "--accept", "mandated:shrunk"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(!is_blocked(server.address, "www.other.com"), "suppressed");
}

#[test]
fn a_bad_line_of_the_providers_mandated_list_is_a_warning() {
    let upstream = Upstream::plain();
    let server = provider(&upstream);
    let path = "lists/mandated.txt";
    let list = fs::read_to_string(server.path(path)).expect("readable");
    server.replace(path, &(list + "x.example\nforbidden..example\n"));
    until("the list", || is_blocked(server.address, "x.example"));
    let report = text(&server.verb(&["status"]));
    assert!(
        report.contains("list mandated: 3 rules, WARNING: 1 bad line"),
        "{report}"
    );
}

#[test]
fn the_providers_mandated_list_is_lifted_by_a_comment_and_not_by_an_empty_file() {
    let upstream = Upstream::plain();
    let server = provider(&upstream);
    let path = "lists/mandated.txt";
    server.replace(path, "");
    until("the guard", || {
        server.status()["lists"][0]["state"] == "held"
    });
    assert!(is_blocked(server.address, "forbidden.example"));
    server.replace(path, "# Lifted.\n");
    until("the lift", || {
        !is_blocked(server.address, "forbidden.example")
    });
    server.assert_well();
}

#[test]
fn the_provider_starts_without_the_mandated_list_only_while_the_state_directory_has_it() {
    let upstream = Upstream::plain();
    let mut server = provider(&upstream);
    until("it is kept", || server.path("state/current").exists());
    fs::remove_file(server.path("lists/mandated.txt")).expect("removed");
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    let mut server = server.again();
    assert!(is_blocked(server.address, "forbidden.example"));
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    fs::remove_dir_all(server.path("state")).expect("removed");
    let output = server.verb(&["serve"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("mandated"), "{}", text(&output));
}

#[test]
fn an_order_of_the_providers_example_blocks_a_protected_name_and_is_lifted_by_a_verb() {
    let upstream = Upstream::plain();
    let server = provider(&upstream);
    server.replace("orders/x.toml", ORDER);
    until("the order", || {
        is_blocked(server.address, "partner.example.com")
    });
    let lift = [
        "order",
        "lift",
        "x-2026-1",
        "--reason",
        "a court's decision",
    ];
    let output = server.verb(&lift);
    assert!(output.status.success(), "{}", text(&output));
    until("the lift", || {
        !is_blocked(server.address, "partner.example.com")
    });
    let record = fs::read_to_string(server.path("orders/x.toml")).expect("readable");
    assert!(record.contains("a court's decision"), "{record}");
}

#[test]
fn the_providers_real_list_is_held_if_the_first_start_was_without_it() {
    let upstream = Upstream::plain();
    let server = provider(&upstream);
    let real: String = (0..5000).map(|n| format!("n{n}.example\n")).collect();
    server.replace("lists/mandated.txt", &real);
    until("the guard", || {
        server.status()["lists"][0]["state"] == "held"
    });
    assert!(!is_blocked(server.address, "n1.example"));
    let head = fs::read_to_string(shipped("isp.toml")).expect("readable");
    let accept = ["reload", "--accept", "mandated:grown"];
    assert!(
        head.contains(&format!("`tapis {}`", accept.join(" "))),
        "{head}"
    );
    let output = server.verb(&accept);
    assert!(output.status.success(), "{}", text(&output));
    assert!(is_blocked(server.address, "n1.example"));
}
