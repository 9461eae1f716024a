use std::fs;

use tempfile::TempDir;

use super::{left, try_import};
use crate::config::import::{ImportError, Tool, import};

#[test]
fn a_file_of_another_program_is_named() {
    let samples = [
        (Tool::Pihole, "PIHOLE_DNS_1=9.9.9.9\n"),
        (Tool::Adguard, "user_rules: []\nschema_version: 29\n"),
        (Tool::Blocky, "customDNS:\n  mapping:\n    x: 192.0.2.1\n"),
        (Tool::Dnsmasq, "server=9.9.9.9\n"),
        (Tool::Unbound, "server:\n  port: 53\n"),
        (Tool::DnscryptProxy, "server_names = ['x']\n"),
        (Tool::Bind, "options { directory \"/\"; };\n"),
    ];
    for (of, text) in samples {
        for (wanted, _) in samples {
            let result = try_import(wanted, &[("file", text)]);
            match result {
                Err(ImportError::OtherTool { found, .. }) => {
                    assert!(found == of && wanted != of, "{of:?} {wanted:?}");
                }
                // The file's name ends in no known way, so version 5 of Pi-hole is read.
                Ok(_) => assert_eq!(of, wanted),
                Err(error) => panic!("{of:?} {wanted:?}: {error}"),
            }
        }
    }
    let error =
        try_import(Tool::Unbound, &[("file", "<html></html>\n")]).expect_err("no configuration");
    assert!(matches!(error, ImportError::Unknown { .. }), "{error}");
}

#[test]
fn syntax_errors_of_yaml_and_toml_have_their_lines_and_no_content() {
    for (tool, name, text, line) in [
        (
            Tool::Adguard,
            "AdGuardHome.yaml",
            "user_rules:\n  - 'a'\n password: hunter2: [\n",
            3,
        ),
        (
            Tool::Blocky,
            "config.yml",
            "ports:\n  dns: [53\nredis:\n  password: hunter2\n",
            3,
        ),
        (
            Tool::DnscryptProxy,
            "dnscrypt-proxy.toml",
            "server_names = []\nproxy = 'socks5://u:hunter2\n",
            2,
        ),
        (Tool::Pihole, "pihole.toml", "[dns]\npwhash = hunter2\n", 2),
    ] {
        let error = try_import(tool, &[(name, text)]).expect_err("an error");
        let shown = error.to_string();
        assert!(shown.contains(&format!("{name}:{line}: ")), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn includes_that_are_missing_outside_or_in_a_circle_are_reported() {
    let files = [(
        "dnsmasq.conf",
        "no-hosts\nno-resolv\nconf-file=gone.conf\nconf-file=/etc/hostname\nconf-file=dnsmasq.conf\nserver=9.9.9.9\n",
    )];
    let imported = try_import(Tool::Dnsmasq, &files).expect("an import");
    let found = left(&imported);
    assert!(found.contains(&(3, "conf-file=gone.conf")), "{found:?}");
    assert!(found.contains(&(4, "conf-file=/etc/hostname")), "{found:?}");
    assert!(found.contains(&(5, "conf-file=dnsmasq.conf")), "{found:?}");
    let files = [("unbound.conf", "server:\ninclude: \"*.conf\"\n")];
    let imported = try_import(Tool::Unbound, &files).expect("an import");
    assert!(left(&imported).iter().any(|(line, _)| *line == 2));
    let files = [(
        "named.conf",
        "include \"named.conf\";\ninclude \"named.conf\";\n",
    )];
    let imported = try_import(Tool::Bind, &files).expect("an import");
    assert!(!imported.left.is_empty());
}

#[test]
fn files_that_are_no_text_say_what_they_are() {
    let folder = TempDir::new().expect("a directory");
    let path = folder.path().join("x");
    for (bytes, expected) in [
        (&b"\x1f\x8b\x08\0"[..], "is a gzip archive: unpack it"),
        (b"PK\x03\x04", "is a ZIP archive: unpack it"),
        (
            b"SQLite format 3\0",
            "is an SQLite database: export its tables",
        ),
        (b"server=9.9.9.9\n# caf\xe9\n", ":2: not UTF-8"),
    ] {
        fs::write(&path, bytes).expect("a file");
        let error = import(Tool::Dnsmasq, &path)
            .expect_err("an error")
            .to_string();
        assert!(error.contains(expected), "{error}");
    }
    let error = import(Tool::Bind, folder.path())
        .expect_err("no file")
        .to_string();
    assert!(
        error.contains("has none of the files named.conf"),
        "{error}"
    );
    fs::write(&path, vec![b'#'; (16 << 20) + 1]).expect("a file");
    let error = import(Tool::Dnsmasq, &path)
        .expect_err("too large")
        .to_string();
    assert!(error.contains("has more than 16 MiB"), "{error}");
}

#[test]
fn broken_files_never_panic() {
    let samples = [
        (
            Tool::Unbound,
            "server:\n  local-data: \"x A 192.0.2.1\"\n  local-zone: \"é\" static\nforward-zone:\n  name: \"\u{202e}\"\n",
        ),
        (
            Tool::Bind,
            "options { listen-on { any; }; };\nzone \"x\" { type master; file \"y\"; }; // é\n",
        ),
        (
            Tool::Dnsmasq,
            "address=/é/x/192.0.2.1\nserver=/\nhost-record=,\nsrv-host=_x\ncname=\nrev-server=::/0,9.9.9.9\n",
        ),
        (
            Tool::Adguard,
            "user_rules: ['é']\ndns:\n  upstream_dns: ['[/', '[//]9.9.9.9', '[/x/]']\nschema_version: x\n",
        ),
        (
            Tool::Blocky,
            "customDNS:\n  mapping: {x: [1, {}]}\nblocking: {blockTTL: 1é, denylists: {a: [[]]}}\n",
        ),
        (
            Tool::DnscryptProxy,
            "listen_addresses = [1, 'é']\ncloaking_rules = 'gone'\ncache_size = -1\n",
        ),
        (
            Tool::Pihole,
            "PIHOLE_DNS_1=é\nREV_SERVER_TARGET=x\nCACHE_SIZE=-99999999999\n",
        ),
    ];
    for (tool, text) in samples {
        for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            // Any result is fine.
            let _ = try_import(tool, &[("file", &text[..end])]);
        }
    }
}

#[test]
fn lines_that_the_program_itself_rejects_are_reported() {
    let unbound = "server:\n  interface: \"192.0.2.1\n  port: x\n  local-zone:\n  what is this\nforward-zone:\n  name: .\n  forward-addr: 9.9.9.9\n";
    let dnsmasq = "no-hosts\nno-resolv\nserver=9.9.9.9\nport=x\naddress=ads.example\nlocal-ttl=x\ncache-size=x\n";
    let bind = "options { listen-on port x { 127.0.0.1; }; };\n";
    let adguard = "dns:\n  port: x\nuser_rules: []\n";
    let pihole = "[dns]\nport = 70000\n";
    for (tool, name, text, expected) in [
        (
            Tool::Unbound,
            "unbound.conf",
            unbound,
            &[
                (2, "syntax error"),
                (3, "port: x"),
                (4, "local-zone"),
                (5, "syntax error"),
            ][..],
        ),
        (
            Tool::Dnsmasq,
            "dnsmasq.conf",
            dnsmasq,
            &[
                (4, "port=x"),
                (5, "address=ads.example"),
                (6, "local-ttl=x"),
                (7, "cache-size"),
            ],
        ),
        (Tool::Bind, "named.conf", bind, &[(1, "listen-on port x")]),
        (
            Tool::Adguard,
            "AdGuardHome.yaml",
            adguard,
            &[(2, "dns.port")],
        ),
        (Tool::Pihole, "pihole.toml", pihole, &[(2, "dns.port")]),
    ] {
        let imported = try_import(tool, &[(name, text)]).expect("an import");
        let found = left(&imported);
        for place in expected {
            assert!(found.contains(place), "{place:?} {found:?}");
        }
    }
}

#[test]
fn files_of_other_versions_of_pihole_are_named() {
    let files = [
        ("setupVars.conf", "PIHOLE_DNS_1=9.9.9.9\n"),
        ("pihole.toml", "[dns]\n"),
        ("adlists.list", "https://lists.example/hosts\n"),
    ];
    let imported = try_import(Tool::Pihole, &files).expect("an import");
    let found = left(&imported);
    assert!(found.contains(&(1, "setupVars.conf")), "{found:?}");
    assert!(found.contains(&(1, "adlists.list")), "{found:?}");
}

#[test]
fn a_directory_that_includes_itself_is_read_once_and_the_size_of_all_files_is_limited() {
    let again = "conf-dir=more\naddress=/ads.example/#\n";
    let files = [
        ("dnsmasq.conf", "no-hosts\nno-resolv\nconf-dir=more\n"),
        ("more/a.conf", again),
        ("more/b.conf", again),
    ];
    let imported = try_import(Tool::Dnsmasq, &files).expect("an import");
    let reasons = imported.left.iter().map(|left| &left.reason);
    let circles = reasons.filter(|reason| reason.contains("in a circle"));
    // One for each line that includes them.
    assert_eq!(circles.count(), 2, "{:?}", imported.left);
    let text = "server:\n  include: \"*.conf\"\n";
    let names = ["unbound.conf", "a.conf", "b.conf", "c.conf"];
    let imported = try_import(Tool::Unbound, &names.map(|name| (name, text))).expect("an import");
    let reasons = imported.left.iter().map(|left| &left.reason);
    let circles = reasons.filter(|reason| reason.contains("in a circle"));
    assert_eq!(circles.count(), 4, "{:?}", imported.left);

    let large = format!("#{}\n", "x".repeat(15 << 20));
    let names = [1, 2, 3, 4, 5].map(|number| format!("{number}.conf"));
    let includes = names.iter().map(|name| format!("conf-file={name}\n"));
    let main = "no-hosts\nno-resolv\n".to_owned() + &includes.collect::<String>();
    let files = names.iter().map(|name| (&**name, &*large));
    let files: Vec<_> = std::iter::once(("dnsmasq.conf", &*main))
        .chain(files)
        .collect();
    let imported = try_import(Tool::Dnsmasq, &files).expect("an import");
    let reason = &imported.left[0].reason;
    assert!(reason.contains("more than 64 MiB"), "{reason}");
    assert_eq!(imported.left[0].line, 7);
}
