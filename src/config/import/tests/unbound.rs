use super::{file, imported, left, sections, value};
use crate::config::import::Tool;

#[test]
fn servers_clients_and_limits_carry_over() {
    let text = "\
server:
    interface: 0.0.0.0
    interface: ::1@5353
    port: 5300
    access-control: 10.0.0.0/8 allow
    access-control: 2001:db8::/32 allow
    access-control: 0.0.0.0/0 refuse
    msg-cache-size: 50m
    rrset-cache-size: 100m
    cache-min-ttl: 30
    cache-max-ttl: 7200
    cache-max-negative-ttl: 60
    serve-expired: yes
    num-threads: 2   # two cores
    hide-identity: yes
forward-zone:
    name: \".\"
    forward-addr: 9.9.9.9
    forward-addr: 149.112.112.112@5300
forward-zone:
    name: \"corp.example\"
    forward-addr: 10.0.0.1
    forward-addr: 10.0.0.2@853#dns.corp.example
stub-zone:
    name: \"10.in-addr.arpa\"
    stub-addr: 10.0.0.1
remote-control:
    control-enable: yes
";
    let imported = imported(Tool::Unbound, &[("unbound.conf", text)]);
    assert_eq!(
        value(&imported, "server", "listen"),
        r#"["0.0.0.0:5300", "[::1]:5353"]"#
    );
    assert_eq!(
        value(&imported, "server", "allow"),
        r#"["10.0.0.0/8", "2001:db8::/32", "127.0.0.0/8", "::1/128"]"#
    );
    assert_eq!(value(&imported, "server", "workers"), "2");
    assert_eq!(
        value(&imported, "upstream", "servers"),
        r#"["9.9.9.9", "149.112.112.112:5300"]"#
    );
    for (key, expected) in [
        ("size-mib", "150"),
        ("min-ttl-secs", "30"),
        ("max-ttl-secs", "7200"),
        ("max-negative-ttl-secs", "60"),
        ("stale-secs", "86400"),
    ] {
        assert_eq!(value(&imported, "cache", key), expected, "{key}");
    }
    assert_eq!(
        sections(&imported, "[[forward]]"),
        [
            r#"zone = "corp.example"; servers = ["10.0.0.1", "10.0.0.2:853"]"#,
            r#"zone = "10.in-addr.arpa"; servers = ["10.0.0.1"]"#,
        ]
    );
    assert_eq!(left(&imported), [(24, "stub-zone 10.in-addr.arpa")]);
}

#[test]
fn local_zones_become_a_list_and_local_data_becomes_records() {
    let text = "\
server:
  local-zone: \"ads.example.\" always_null
  local-zone: \"bad.example\" refuse
  local-zone: \"lan\" static
  local-zone: \"walled.example\" redirect
  local-data: \"walled.example A 192.0.2.7\"
  local-data: \"nas.lan. 120 IN A 192.168.1.5\"
  local-data: 'info.lan TXT \"a text\"'
  local-data-ptr: \"192.168.1.5 nas.lan\"
  local-data: \"open.example MX 10 mail.example.\"
  local-data: \"gone.ads.example A 192.0.2.8\"
  local-data: \"x.lan CAA 0 issue ca.example\"
forward-zone:
  name: .
  forward-addr: 9.9.9.9
";
    let imported = imported(Tool::Unbound, &[("unbound.conf", text)]);
    assert_eq!(
        file(&imported, "unbound-zones.conf"),
        "server:\n  \
           local-zone: \"ads.example.\" always_null\n  \
           local-zone: \"bad.example.\" refuse\n  \
           local-zone: \"lan.\" static\n  \
           local-zone: \"walled.example.\" redirect\n  \
           local-data: 'walled.example. 3600 A 192.0.2.7'\n"
    );
    assert_eq!(
        sections(&imported, "[[local]]"),
        [
            r#"name = "nas.lan"; a = ["192.168.1.5"]; ttl-secs = 120"#,
            r#"name = "info.lan"; txt = ["a text"]; ttl-secs = 3600"#,
            r#"name = "5.1.168.192.in-addr.arpa"; ptr = "nas.lan"; ttl-secs = 3600"#,
            r#"name = "open.example"; mx = ["10 mail.example."]; ttl-secs = 3600"#,
        ]
    );
    let allowed: Vec<_> = file(&imported, "local-names.txt").lines().skip(1).collect();
    assert_eq!(allowed, ["info.lan", "nas.lan"]);
    assert_eq!(left(&imported), [(12, "local-data: x.lan CAA")]);
}

#[test]
fn policy_zones_become_lists_and_feeds() {
    let text = "\
rpz:
  name: rpz.example.
  zonefile: /var/lib/unbound/rpz.zone
  rpz-action-override: nxdomain
  rpz-log: yes
rpz:
  name: feed.example
  primary: 192.0.2.10@5300
rpz:
  name: web.example
  url: https://lists.example/web.rpz
forward-zone:
  name: .
  forward-addr: 9.9.9.9
";
    let files = [("unbound.conf", text), ("unbound/rpz.zone", "")];
    let imported = imported(Tool::Unbound, &files);
    let lists = sections(&imported, "[[list]]");
    assert_eq!(lists.len(), 2, "{lists:?}");
    assert!(
        lists[0].contains("path = \"unbound/rpz.zone\"; format = \"rpz\""),
        "{lists:?}"
    );
    assert!(lists[0].contains("policy = \"nxdomain\""), "{lists:?}");
    assert!(
        lists[1].contains("url = \"https://lists.example/web.rpz\"; format = \"rpz\""),
        "{lists:?}"
    );
    let feeds = sections(&imported, "[[feed]]");
    assert_eq!(
        feeds,
        [r#"name = "feed.example"; zone = "feed.example"; primaries = ["192.0.2.10:5300"]"#]
    );
    assert_eq!(left(&imported), []);
}

#[test]
fn recursion_encryption_and_views_are_reported_with_their_lines() {
    let files = [
        (
            "unbound.conf",
            "include-toplevel: \"/etc/unbound/unbound.conf.d/*.conf\"\nview:\n  name: x\n",
        ),
        (
            "unbound.conf.d/dot.conf",
            "forward-zone:\n  name: \"corp.example\"\n  forward-tls-upstream: yes\n  forward-addr: 10.0.0.1@853\n",
        ),
        (
            "unbound.conf.d/root.conf",
            "server:\n  auto-trust-anchor-file: \"/var/lib/unbound/root.key\"\n  unheard-of: 1\n",
        ),
    ];
    let imported = imported(Tool::Unbound, &files);
    let expected = [
        (2, "auto-trust-anchor-file"),
        (3, "unheard-of"),
        (4, "forward-addr: 10.0.0.1@853"),
        (2, "view"),
        (1, "recursion"),
        (1, "zone corp.example"),
    ];
    assert_eq!(left(&imported), expected);
    assert_eq!(
        imported.left[0].file.to_str(),
        Some("unbound.conf.d/root.conf")
    );
    assert!(sections(&imported, "[[forward]]").is_empty());
}

#[test]
fn of_all_networks_that_contain_a_client_the_smallest_one_counts() {
    let text = "\
server:
  access-control: 10.0.0.0/14 allow
  access-control: 10.1.0.0/16 refuse
  access-control: 10.2.0.0/15 deny
  access-control: 10.1.2.0/24 allow
  access-control: 192.168.0.0/16 allow
  access-control: 192.168.0.0/16 refuse
forward-zone:
  name: .
  forward-addr: 9.9.9.9
";
    let imported = imported(Tool::Unbound, &[("unbound.conf", text)]);
    assert_eq!(
        value(&imported, "server", "allow"),
        r#"["10.0.0.0/16", "10.1.2.0/24", "127.0.0.0/8", "::1/128"]"#
    );
    assert_eq!(left(&imported), [(4, "access-control: 10.2.0.0/15 deny")]);
}
