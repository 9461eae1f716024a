//! Values that other programs accept and this one does not are changed, and reported.

use super::{file, imported, left, sections, value};
use crate::config::import::Tool;

#[test]
fn the_shortest_ttl_is_lowered_to_the_longest_one() {
    let dnscrypt =
        "cache_min_ttl = 2400\ncache_max_ttl = 86400\ncache_neg_max_ttl = 600\nserver_names = []\n";
    let unbound = "server:\n  cache-min-ttl: 300\n  cache-max-ttl: 60\n";
    let blocky = "caching:\n  minTime: 10m\n  maxTime: 5m\n  cacheTimeNegative: 7m\n";
    for (tool, name, text, expected, place) in [
        (
            Tool::DnscryptProxy,
            "dnscrypt-proxy.toml",
            dnscrypt,
            "600",
            (1, "cache.min-ttl-secs = 2400"),
        ),
        (
            Tool::Unbound,
            "unbound.conf",
            unbound,
            "60",
            (2, "cache.min-ttl-secs = 300"),
        ),
        (
            Tool::Blocky,
            "config.yml",
            blocky,
            "300",
            (2, "cache.min-ttl-secs = 600"),
        ),
    ] {
        let imported = imported(tool, &[(name, text)]);
        assert_eq!(value(&imported, "cache", "min-ttl-secs"), expected);
        let found = left(&imported);
        assert!(found.contains(&place), "{found:?}");
    }
}

#[test]
fn an_address_that_another_one_includes_is_not_listened_on() {
    let unbound = "server:\n  interface: 127.0.0.1\n  interface: 0.0.0.0\n  interface: ::1\n  interface: 127.0.0.1@5353\n  interface: ::ffff:127.0.0.2\n";
    let imported_unbound = imported(Tool::Unbound, &[("unbound.conf", unbound)]);
    assert_eq!(
        value(&imported_unbound, "server", "listen"),
        r#"["0.0.0.0:53", "[::1]:53", "127.0.0.1:5353"]"#
    );
    let found = left(&imported_unbound);
    assert!(
        found.contains(&(2, "listening on 127.0.0.1:53")),
        "{found:?}"
    );
    assert!(
        found.contains(&(6, "listening on 127.0.0.2:53")),
        "{found:?}"
    );
    let blocky = "ports:\n  dns:\n    - 53\n    - localhost:5353\n    - localhost:53\n";
    let imported_blocky = imported(Tool::Blocky, &[("config.yml", blocky)]);
    assert_eq!(
        value(&imported_blocky, "server", "listen"),
        r#"["0.0.0.0:53", "[::]:53", "127.0.0.1:5353", "[::1]:5353"]"#
    );
}

#[test]
fn clients_with_ipv4_addresses_in_ipv6_form_are_those_of_ipv4() {
    let unbound = "server:\n  access-control: ::ffff:10.0.0.0/104 allow\n  access-control: ::ffff:127.0.0.0/104 refuse\n";
    let unbound = imported(Tool::Unbound, &[("unbound.conf", unbound)]);
    assert_eq!(
        value(&unbound, "server", "allow"),
        r#"["10.0.0.0/8", "::1/128"]"#
    );
    let bind = "options { allow-query { ::ffff:192.0.2.7; }; };\n";
    let bind = imported(Tool::Bind, &[("named.conf", bind)]);
    assert_eq!(value(&bind, "server", "allow"), r#"["192.0.2.7/32"]"#);
}

#[test]
fn clients_beyond_this_machine_are_permitted_if_the_program_permits_them() {
    let only_here = "listen_addresses = ['127.0.0.1:53', '[::1]:53']\n";
    let imported_here = imported(Tool::DnscryptProxy, &[("dnscrypt-proxy.toml", only_here)]);
    assert_eq!(value(&imported_here, "server", "allow"), "");
    for text in [
        "listen_addresses = ['127.0.0.1:53',\n'192.168.1.1:53']\n",
        "listen_addresses = [\n':53']\n",
    ] {
        let imported = imported(Tool::DnscryptProxy, &[("dnscrypt-proxy.toml", text)]);
        let allow = value(&imported, "server", "allow");
        assert!(allow.contains("192.168.0.0/16"), "{allow}");
        let found = left(&imported);
        assert!(found.contains(&(2, "all clients")), "{found:?}");
    }
}

#[test]
fn zones_and_names_within_a_zone_from_a_file_are_left_out() {
    let bind = "\
zone \"lan\" { type primary; file \"db\"; };
zone \"sub.lan\" { type primary; file \"db\"; };
zone \"corp.example\" { type primary; file \"db\"; };
zone \"corp.example\" { type forward; forwarders { 10.0.0.1; }; };
zone \"gone.example\" { type primary; file \"gone\"; };
";
    let imported_bind = imported(Tool::Bind, &[("named.conf", bind), ("db", "")]);
    assert_eq!(
        sections(&imported_bind, "[[local]]"),
        [
            r#"zone = "lan"; file = "db""#,
            r#"zone = "corp.example"; file = "db""#
        ]
    );
    assert!(sections(&imported_bind, "[[forward]]").is_empty());
    let found: Vec<_> = imported_bind.left.iter().map(|left| left.line).collect();
    assert!(
        [2, 4, 5].iter().all(|line| found.contains(line)),
        "{:?}",
        imported_bind.left
    );
    let unbound =
        "server:\n  local-data: \"nas.lan A 192.0.2.1\"\nauth-zone:\n  name: lan\n  zonefile: db\n";
    let imported_unbound = imported(Tool::Unbound, &[("unbound.conf", unbound), ("db", "")]);
    assert_eq!(
        sections(&imported_unbound, "[[local]]"),
        [r#"zone = "lan"; file = "db""#]
    );
    let found = left(&imported_unbound);
    assert!(found.contains(&(2, "records of nas.lan")), "{found:?}");
}

#[test]
fn a_list_whose_file_does_not_exist_is_left_out() {
    let text = "blocking:\n  allowlists:\n    ads:\n      - gone.txt\n  denylists:\n    ads:\n      - here.txt\n  clientGroupsBlock:\n    default: ads\n";
    let files = [("config.yml", text), ("here.txt", "ads.example\n")];
    let imported = imported(Tool::Blocky, &files);
    assert_eq!(
        sections(&imported, "[[list]]"),
        [r#"name = "here.txt"; path = "here.txt"; format = "auto""#]
    );
    let found = left(&imported);
    assert!(found.contains(&(4, "list gone.txt")), "{found:?}");
}

#[test]
fn words_of_hosts_files_that_are_no_names_are_left_out_with_their_lines() {
    let main = "no-resolv\nno-hosts\nserver=9.9.9.9\naddn-hosts=ads.hosts\n";
    let hosts = "0.0.0.0 a.example bad..example b.example\n0.0.0.0 *.c.example\n0.0.0.0 d.example # good\n192.0.2.1 *.lan nas.lan\n";
    let files = [("dnsmasq.conf", main), ("ads.hosts", hosts)];
    let imported_records = imported(Tool::Dnsmasq, &files);
    assert_eq!(
        file(&imported_records, "ads.hosts"),
        "0.0.0.0 a.example b.example\n0.0.0.0 d.example # good\n"
    );
    let found = left(&imported_records);
    for place in [(1, "bad..example"), (2, "*.c.example"), (4, "*.lan")] {
        assert!(found.contains(&place), "{place:?} {found:?}");
    }
    let locals = sections(&imported_records, "[[local]]");
    assert!(
        locals.contains(&r#"name = "nas.lan"; a = ["192.0.2.1"]"#.to_owned()),
        "{locals:?}"
    );
    let only_blocks = [("dnsmasq.conf", main), ("ads.hosts", &hosts[..60])];
    let imported = imported(Tool::Dnsmasq, &only_blocks);
    assert_eq!(
        file(&imported, "ads.hosts"),
        "0.0.0.0 a.example b.example\n"
    );
}

#[test]
fn a_server_on_a_link_needs_its_interface() {
    let text = "no-resolv\nno-hosts\nserver=9.9.9.9\nserver=fe80::1\nserver=fe80::2%eth0\nserver=2001:db8::53%eth0\n";
    let imported = imported(Tool::Dnsmasq, &[("dnsmasq.conf", text)]);
    assert_eq!(
        value(&imported, "upstream", "servers"),
        r#"["9.9.9.9", "[fe80::2%eth0]:53", "[2001:db8::53]:53"]"#
    );
    let found = left(&imported);
    assert!(found.contains(&(4, "server=fe80::1")), "{found:?}");
}

#[test]
fn a_pattern_that_no_list_can_have_is_reported_with_the_reason() {
    let domains = "id,type,domain,enabled\n1,3,.*,1\n2,3,^ad[0-9]+\\.,1\n3,3,(a)\\1,1\n4,2,x?,1\n";
    let files = [
        ("pihole.toml", "[dns]\nupstreams = [\"9.9.9.9\"]\n"),
        ("domainlist.csv", domains),
    ];
    let imported = imported(Tool::Pihole, &files);
    assert_eq!(file(&imported, "blocked.txt"), "/^ad[0-9]+\\./\n");
    assert_eq!(file(&imported, "allowed.txt"), "");
    let found = left(&imported);
    for place in [(2, "/.*/"), (4, "/(a)\\1/"), (5, "/x?/")] {
        assert!(found.contains(&place), "{place:?} {found:?}");
    }
    let mut reasons = imported.left.iter().map(|left| &left.reason);
    assert!(reasons.any(|reason| reason.contains("matches every name")));
    let rules = "user_rules:\n  - '/.*/'\n  - '@@/x?/$important'\n  - '/^ad[0-9]+\\./'\n  - '||ads.example^'\n";
    let imported = super::imported(Tool::Adguard, &[("AdGuardHome.yaml", rules)]);
    assert_eq!(
        file(&imported, "user-rules.txt"),
        "/^ad[0-9]+\\./\n||ads.example^\n"
    );
    let found = left(&imported);
    for place in [(2, "/.*/"), (3, "@@/x?/$important")] {
        assert!(found.contains(&place), "{place:?} {found:?}");
    }
}
