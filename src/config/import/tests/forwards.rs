use super::{imported, left, sections};
use crate::config::import::Tool;

#[test]
fn zones_with_the_same_servers_are_one_section() {
    let text = "\
no-resolv
no-hosts
server=9.9.9.9
server=/a.example/b.example/10.0.0.1
server=/a.example/b.example/10.0.0.2
server=/c.example/10.0.0.3
server=/d.example/10.0.0.2
server=/d.example/10.0.0.1
";
    let imported = imported(Tool::Dnsmasq, &[("dnsmasq.conf", text)]);
    let expected = "\
# dnsmasq.conf:4
[[forward]]
zone = [
    \"a.example\", # dnsmasq.conf:4
    \"b.example\", # dnsmasq.conf:4
    \"d.example\", # dnsmasq.conf:7
]
servers = [\"10.0.0.1\", \"10.0.0.2\"]

# dnsmasq.conf:6
[[forward]]
zone = \"c.example\"
servers = [\"10.0.0.3\"]
";
    assert!(imported.config.ends_with(expected), "{}", imported.config);
}

/// Whether it is reported that the names of a zone go to the general servers.
#[track_caller]
fn assert_lost(tool: Tool, name: &str, text: &str, lines: &[u32]) {
    let files = [(name, text), ("forwarding.txt", "corp.example sdns://AQ\n")];
    let imported = imported(tool, &files);
    let forwards = sections(&imported, "[[forward]]");
    assert!(forwards.is_empty(), "{text}\n{forwards:?}");
    let lost = imported.left.iter().filter(|left| {
        left.setting == "zone corp.example" && left.reason.starts_with("none of its servers")
    });
    let found: Vec<_> = lost.map(|left| left.line).collect();
    assert_eq!(found, lines, "{text}\n{:?}", imported.left);
}

#[test]
fn a_zone_none_of_whose_servers_carries_over_is_reported() {
    let root = "forward-zone:\n  name: .\n  forward-addr: 9.9.9.9\n";
    for zone in [
        "forward-zone:\n  name: corp.example\n  forward-ssl-upstream: yes\n  forward-addr: 10.0.0.1@853\n",
        "forward-zone:\n  name: corp.example\n  forward-tls-upstream: yes\n  forward-addr: 10.0.0.1@853\n",
        "stub-zone:\n  name: corp.example\n  stub-ssl-upstream: yes\n  stub-addr: 10.0.0.1@853\n",
        "stub-zone:\n  name: corp.example\n  stub-host: ns.corp.example\n",
        "forward-zone:\n  name: corp.example\n",
    ] {
        let text = root.to_owned() + zone;
        assert_lost(Tool::Unbound, "unbound.conf", &text, &[4]);
    }
    let text = "no-resolv\nno-hosts\nserver=9.9.9.9\nserver=/corp.example/dns.corp.example\n";
    assert_lost(Tool::Dnsmasq, "dnsmasq.conf", text, &[4]);
    let text =
        "dns:\n  upstream_dns:\n    - 9.9.9.9\n    - '[/corp.example/]tls://dns.corp.example'\n";
    assert_lost(Tool::Adguard, "AdGuardHome.yaml", text, &[4]);
    let text = "conditional:\n  mapping:\n    corp.example: tcp-tls:dns.corp.example:853\n";
    assert_lost(Tool::Blocky, "config.yml", text, &[3]);
    let text = "server_names = []\nforwarding_rules = 'forwarding.txt'\n";
    assert_lost(Tool::DnscryptProxy, "dnscrypt-proxy.toml", text, &[1]);
    for forwarders in [
        "{ 10.0.0.1 port 853 tls x; }",
        "tls x { 10.0.0.1; }",
        "port 853 tls x { 10.0.0.1; }",
    ] {
        let text = format!("zone \"corp.example\" {{ type forward; forwarders {forwarders}; }};\n");
        assert_lost(Tool::Bind, "named.conf", &text, &[1]);
    }
    let text = "zone \"corp.example\" { type forward; forwarders { }; };\n";
    assert_lost(Tool::Bind, "named.conf", text, &[1]);
}

#[test]
fn tls_for_all_of_unbounds_servers_is_that_of_each_zone_that_says_nothing_else() {
    let text = "\
server:
  ssl-upstream: yes
forward-zone:
  name: \"secret.example\"
  forward-addr: 10.0.0.1
forward-zone:
  name: \"plain.example\"
  forward-tls-upstream: no
  forward-addr: 10.0.0.2
";
    let imported = imported(Tool::Unbound, &[("unbound.conf", text)]);
    assert_eq!(
        sections(&imported, "[[forward]]"),
        [r#"zone = "plain.example"; servers = ["10.0.0.2"]"#]
    );
    let found = left(&imported);
    assert!(found.contains(&(5, "forward-addr: 10.0.0.1")), "{found:?}");
    assert!(found.contains(&(3, "zone secret.example")), "{found:?}");
}

#[test]
fn servers_of_stub_zones_are_asked_as_resolvers_which_is_reported() {
    let text = "stub-zone:\n  name: corp.example\n  stub-first: yes\n  stub-addr: 10.0.0.1\n";
    let imported = imported(Tool::Unbound, &[("unbound.conf", text)]);
    assert_eq!(sections(&imported, "[[forward]]").len(), 1);
    let found = left(&imported);
    assert!(found.contains(&(1, "stub-zone corp.example")), "{found:?}");
    assert!(found.contains(&(3, "stub-first: yes")), "{found:?}");
}

#[test]
fn a_zone_within_a_forwarded_one_goes_to_the_general_servers() {
    let dnsmasq = "no-resolv\nno-hosts\nserver=/zone.example/10.0.0.1\nserver=/sub.zone.example/#\nserver=/other.example/#\nserver=9.9.9.9\nserver=/local.zone.example/\n";
    let adguard = "dns:\n  upstream_dns:\n    - '[/zone.example/]10.0.0.1'\n    - '[/sub.zone.example/]#'\n    - '[/other.example/]#'\n    - 9.9.9.9\nuser_rules: []\n";
    let bind = "options { forwarders { 9.9.9.9; }; };\nzone \"zone.example\" { type forward; forwarders { 10.0.0.1; }; };\nzone \"sub.zone.example\" { type forward; forwarders { }; };\n";
    for (tool, name, text) in [
        (Tool::Dnsmasq, "dnsmasq.conf", dnsmasq),
        (Tool::Adguard, "AdGuardHome.yaml", adguard),
        (Tool::Bind, "named.conf", bind),
    ] {
        let imported = imported(tool, &[(name, text)]);
        assert_eq!(
            sections(&imported, "[[forward]]"),
            [
                r#"zone = "zone.example"; servers = ["10.0.0.1"]"#,
                r#"zone = "sub.zone.example"; servers = ["9.9.9.9"]"#,
            ],
            "{text}"
        );
        let found = left(&imported);
        let is_about = |(_, setting): &&(u32, &str)| setting.contains("sub.zone");
        assert_eq!(found.iter().find(is_about), None, "{found:?}");
        // A zone that is only local is blocked.
        let rules = super::file(&imported, "dnsmasq-rules.conf");
        let is_blocked = rules.contains("server=/local.zone.example/\n");
        assert_eq!(is_blocked, tool == Tool::Dnsmasq, "{rules}");
    }
    let unnamed = "no-hosts\nresolv-file=/run/resolv\nserver=/zone.example/10.0.0.1\nserver=/sub.zone.example/#\n";
    let imported = imported(Tool::Dnsmasq, &[("dnsmasq.conf", unnamed)]);
    let found = left(&imported);
    assert!(found.contains(&(4, "zone sub.zone.example")), "{found:?}");
    assert!(
        imported
            .left
            .iter()
            .any(|left| left.reason.contains("goes to those of zone zone.example")),
        "{:?}",
        imported.left
    );
}

#[test]
fn a_lost_zone_within_a_forwarded_one_names_where_its_names_go() {
    let text = "no-resolv\nno-hosts\nserver=9.9.9.9\nserver=/zone.example/10.0.0.1\nserver=/sub.zone.example/dns.example\n";
    let imported = imported(Tool::Dnsmasq, &[("dnsmasq.conf", text)]);
    let mut left = imported.left.iter();
    let lost = left.find(|left| left.setting == "zone sub.zone.example");
    let reason = &lost.expect("it is reported").reason;
    assert!(
        reason.contains("sent to the servers of zone zone.example"),
        "{reason}"
    );
}

#[test]
fn encrypted_servers_of_zones_carry_over_with_their_names() {
    let unbound = "\
forward-zone:
  name: corp.example
  forward-tls-upstream: yes
  forward-addr: 10.0.0.1@853#dns.corp.example
  forward-addr: 10.0.0.2@853
";
    let adguard = "dns:\n  upstream_dns:\n    - 9.9.9.9\n    - '[/corp.example/]tls://10.0.0.1'\n";
    let blocky =
        "conditional:\n  mapping:\n    corp.example: tcp-tls:10.0.0.1:853#dns.corp.example\n";
    for (tool, name, text, expected) in [
        (
            Tool::Unbound,
            "unbound.conf",
            unbound,
            "tls://10.0.0.1:853#dns.corp.example",
        ),
        (Tool::Adguard, "AdGuardHome.yaml", adguard, "tls://10.0.0.1"),
        (
            Tool::Blocky,
            "config.yml",
            blocky,
            "tls://10.0.0.1:853#dns.corp.example",
        ),
    ] {
        let imported = imported(tool, &[(name, text)]);
        assert_eq!(
            sections(&imported, "[[forward]]"),
            [format!(
                "zone = \"corp.example\"; servers = [\"{expected}\"]"
            )]
        );
        if tool == Tool::Unbound {
            // Unbound does not verify the one without a name.
            let found = left(&imported);
            let lost = (5, "forward-addr: 10.0.0.2@853");
            assert!(found.contains(&lost), "{found:?}");
        }
    }
}

#[test]
fn encrypted_servers_by_name_carry_over_with_the_servers_that_find_them() {
    let text = "\
bootstrapDns:
  - upstream: tcp+udp:9.9.9.10
  - https://1.1.1.1/dns-query
upstreams:
  groups:
    default:
      - tcp-tls:fdns1.dismail.de:853
      - https:dns.example/dns-query
      - quic:94.140.14.14
      - sdns://AQ
";
    let imported = imported(Tool::Blocky, &[("config.yml", text)]);
    let value = |key| super::value(&imported, "upstream", key);
    let expected = "[\"tls://fdns1.dismail.de:853\", \"https://dns.example/dns-query\", \"quic://94.140.14.14\"]";
    assert_eq!(value("servers"), expected);
    assert_eq!(value("bootstrap"), "[\"9.9.9.10\"]");
    let found = left(&imported);
    let stamp = (10, "an upstream server of the group default");
    assert!(found.contains(&stamp), "{found:?}");
}

#[test]
fn the_port_and_the_encryption_of_a_list_of_bind_hold_for_its_servers() {
    let text = "\
options { forwarders port 853 tls cloudflare { 1.1.1.1; }; };
zone \"corp.example\" { type forward; forwarders port 5300 { 10.0.0.1; 10.0.0.2 port 5301; }; };
";
    let imported = imported(Tool::Bind, &[("named.conf", text)]);
    let found = left(&imported);
    assert!(found.contains(&(1, "forwarders 1.1.1.1")), "{found:?}");
    assert_eq!(
        sections(&imported, "[[forward]]"),
        [r#"zone = "corp.example"; servers = ["10.0.0.1:5300", "10.0.0.2:5301"]"#]
    );
}
