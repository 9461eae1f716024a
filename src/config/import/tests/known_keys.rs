//! Every key is carried over, or named with its line, unless it changes no answer.

use super::{file, imported, left, sections, value};
use crate::config::import::{Imported, Tool};

#[track_caller]
fn assert_left(imported: &Imported, expected: &[(u32, &str)]) {
    let found = left(imported);
    for place in expected {
        assert!(found.contains(place), "{place:?} {found:?}");
    }
}

#[test]
fn keys_that_are_not_known_are_named_wherever_they_are() {
    for (tool, name, text, expected) in [
        (
            Tool::Adguard,
            "AdGuardHome.yaml",
            "dns:\n  port: 53\n  novelty: false\nfiltering:\n  safe_search:\n    enabled: false\n  other: 3\nnew:\n  x: 1\nempty: []\nuser_rules: []\n",
            &[(3, "dns.novelty"), (7, "filtering.other"), (8, "new")][..],
        ),
        (
            Tool::Blocky,
            "config.yml",
            "ports:\n  dns: 53\n  novelty: 1\ncaching:\n  minTime: 5m\n  other: true\nnew: 1\n",
            &[(3, "ports.novelty"), (6, "caching.other"), (7, "new")],
        ),
        (
            Tool::DnscryptProxy,
            "dnscrypt-proxy.toml",
            "cache = true\nnovelty = false\nserver_names = []\n[new]\nx = 1\n",
            &[(2, "novelty"), (4, "new")],
        ),
        (
            Tool::Pihole,
            "pihole.toml",
            "[dns]\nnovelty = 1\n[dns.cache]\nother = 2\n[new]\nx = 1\n[debug]\nall = true\n",
            &[(2, "dns.novelty"), (4, "dns.cache.other"), (5, "new")],
        ),
        (
            Tool::Pihole,
            "setupVars.conf",
            "PIHOLE_DNS_1=9.9.9.9\nNOVELTY=hunter2\nQUERY_LOGGING=true\n",
            &[(2, "NOVELTY")],
        ),
        (
            Tool::Unbound,
            "unbound.conf",
            "forward-zone:\n  name: corp.example\n  forward-addr: 10.0.0.1\n  forward-novelty: 1\n  forward-no-cache: yes\nauth-zone:\n  name: lan\n  novelty: 1\n  for-downstream: no\npython:\n",
            &[
                (4, "forward-novelty"),
                (5, "forward-no-cache: yes"),
                (8, "novelty"),
                (9, "for-downstream: no"),
            ],
        ),
        (
            Tool::Bind,
            "named.conf",
            "zone \"corp.example\" { type forward; forwarders { 10.0.0.1; };\n novelty yes;\n allow-update { any; };\n allow-transfer { none; };\n allow-query { 10.0.0.0/8; }; };\n",
            &[
                (2, "zone corp.example: novelty"),
                (3, "zone corp.example: allow-update"),
                (5, "zone corp.example: allow-query"),
            ],
        ),
    ] {
        let imported = imported(tool, &[(name, text)]);
        assert_left(&imported, expected);
        let unknown = left(&imported);
        let known = [
            "empty",
            "debug",
            "QUERY_LOGGING",
            "allow-transfer",
            "python",
        ];
        let is_known = |(_, setting): &&(u32, &str)| known.iter().any(|key| setting.contains(key));
        assert_eq!(unknown.iter().find(is_known), None, "{unknown:?}");
        assert!(!format!("{imported:?}").contains("hunter2"));
    }
}

#[test]
fn settings_of_adguard_home_that_change_answers_carry_over_or_are_named() {
    let text = "\
dns:
  upstream_timeout: 3s
  blocked_hosts:
    - version.bind
    - evil.example
  cache_enabled: false
  cache_optimistic: true
  cache_optimistic_max_age: 2h
  hostsfile_enabled: true
  serve_plain_dns: false
user_rules: []
";
    let imported = imported(Tool::Adguard, &[("AdGuardHome.yaml", text)]);
    assert_eq!(value(&imported, "upstream", "timeout-ms"), "3000");
    assert_eq!(value(&imported, "cache", "stale-secs"), "7200");
    assert_left(
        &imported,
        &[
            (5, "dns.blocked_hosts evil.example"),
            (6, "dns.cache_enabled is off"),
            (9, "dns.hostsfile_enabled"),
            (10, "dns.serve_plain_dns is off"),
        ],
    );
    assert!(!left(&imported).contains(&(4, "dns.blocked_hosts version.bind")));
}

#[test]
fn settings_of_dnscrypt_proxy_that_change_answers_carry_over_or_are_named() {
    let text = "\
block_unqualified = true
block_undelegated = true
cache = false
cache_neg_ttl = 120
cache_neg_min_ttl = 60
edns_client_subnet = ['0.0.0.0/0']
refused_code_in_responses = true
cloaking_rules = 'cloaking.txt'
cloak_ptr = true
[ip_encryption]
algorithm = 'none'
";
    let files = [
        ("dnscrypt-proxy.toml", text),
        ("cloaking.txt", "=nas.lan 192.168.1.5\n"),
    ];
    let imported = imported(Tool::DnscryptProxy, &files);
    assert_eq!(value(&imported, "cache", "max-negative-ttl-secs"), "120");
    assert_eq!(value(&imported, "block", "action"), r#""refused""#);
    assert_eq!(
        sections(&imported, "[[local]]"),
        [
            r#"name = "5.1.168.192.in-addr.arpa"; ptr = "nas.lan""#,
            r#"name = "nas.lan"; a = ["192.168.1.5"]"#
        ]
    );
    let mut found = left(&imported);
    found.sort_unstable();
    assert_eq!(
        found,
        [
            (1, "block_unqualified"),
            (1, "server_names"),
            (2, "block_undelegated"),
            (3, "cache is off"),
            (5, "cache_neg_min_ttl"),
            (6, "edns_client_subnet"),
        ]
    );
}

#[test]
fn settings_of_pihole_that_change_answers_carry_over_or_are_named() {
    let text = "\
[dns]
upstreams = [\"9.9.9.9\"]
hosts = [\"192.168.1.5 nas.lan\"]
hostRecord = \"box.lan,192.168.1.6\"
revServers = [\"false,10.0.0.0/8,10.0.0.1\"]
bogusPriv = false
CNAMEdeepInspect = false
[dns.domain]
name = \"lan\"
local = true
[dns.cache]
optimizer = 3600
[dns.blocking]
edns = \"NONE\"
[dns.specialDomains]
mozillaCanary = false
iCloudPrivateRelay = true
designatedResolver = false
[ntp.ipv4]
active = true
";
    let imported_v6 = imported(Tool::Pihole, &[("pihole.toml", text)]);
    assert_eq!(value(&imported_v6, "cache", "stale-secs"), "3600");
    assert_eq!(value(&imported_v6, "block", "ede"), r#""none""#);
    let canary = value(&imported_v6, "special-use", "use-application-dns");
    assert_eq!(canary, r#""forward""#);
    let forward = value(&imported_v6, "special-use", "forward");
    for zone in ["10.in-addr.arpa", "resolver.arpa"] {
        assert!(forward.contains(zone), "{forward}");
    }
    let relay = file(&imported_v6, "private-relay.txt");
    assert_eq!(relay, ".mask.icloud.com\n.mask-h2.icloud.com\n");
    assert_eq!(file(&imported_v6, "local-domain.conf"), "local=/lan/\n");
    let allowed: Vec<_> = file(&imported_v6, "local-names.txt")
        .lines()
        .skip(1)
        .collect();
    assert_eq!(allowed, ["box.lan", "nas.lan"]);
    assert_left(
        &imported_v6,
        &[
            (5, "reverse server of 10.0.0.0/8"),
            (7, "dns.CNAMEdeepInspect is off"),
            (20, "ntp.ipv4.active"),
        ],
    );
    let v5 = "PIHOLE_DNS_1=9.9.9.9\nREV_SERVER=false\nREV_SERVER_CIDR=192.168.1.0/24\nREV_SERVER_TARGET=192.168.1.1\nDNS_BOGUS_PRIV=false\n";
    let ftl = "BLOCKINGMODE=IP\nBLOCK_IPV4=192.0.2.7\nMOZILLA_CANARY=false\nRATE_LIMIT=0/0\n";
    let files = [("setupVars.conf", v5), ("pihole-FTL.conf", ftl)];
    let imported_v5 = imported(Tool::Pihole, &files);
    assert!(sections(&imported_v5, "[[forward]]").is_empty());
    assert_eq!(value(&imported_v5, "block", "sinkhole"), r#"["192.0.2.7"]"#);
    let forward = value(&imported_v5, "special-use", "forward");
    assert!(forward.contains("10.in-addr.arpa"), "{forward}");
    assert_left(
        &imported_v5,
        &[(2, "reverse server of 192.168.1.0/24"), (4, "RATE_LIMIT")],
    );
}

#[test]
fn hosts_files_of_blocky_have_their_ttl_and_lack_loopback_if_it_is_filtered() {
    let text = "hostsFile:\n  hostsTTL: 30m\n  filterLoopback: true\n  sources:\n    - |\n      127.0.0.1 here.lan\n      192.168.1.5 nas.lan\nblocking:\n  schedules:\n    x: 1\ncustomDNS:\n  filterUnmappedTypes: false\n";
    let imported = imported(Tool::Blocky, &[("config.yml", text)]);
    assert_eq!(
        sections(&imported, "[[local]]"),
        [
            r#"name = "5.1.168.192.in-addr.arpa"; ptr = "nas.lan"; ttl-secs = 1800"#,
            r#"name = "nas.lan"; a = ["192.168.1.5"]; ttl-secs = 1800"#,
        ]
    );
    assert_left(
        &imported,
        &[
            (9, "blocking.schedules"),
            (12, "customDNS.filterUnmappedTypes is off"),
        ],
    );
}

#[test]
fn zones_that_unbound_unblocks_are_forwarded() {
    let text = "\
server:
  local-zone: \"10.in-addr.arpa\" transparent
  local-zone: \"1.168.192.in-addr.arpa.\" transparent
  local-zone: \"test\" nodefault
  local-zone: \"open.example\" transparent
  local-zone: \"home.arpa\" static
  identity: one
  ip-ratelimit: 100
  local-zone: \"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa\" nodefault
forward-zone:
  name: .
  forward-addr: 9.9.9.9
";
    let imported_zones = imported(Tool::Unbound, &[("unbound.conf", text)]);
    assert_eq!(
        value(&imported_zones, "special-use", "forward"),
        r#"["10.in-addr.arpa", "test", "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa"]"#
    );
    assert_eq!(
        sections(&imported_zones, "[[forward]]"),
        [r#"zone = "1.168.192.in-addr.arpa"; servers = ["9.9.9.9"]"#]
    );
    assert_eq!(value(&imported_zones, "server", "id"), r#""one""#);
    assert_left(&imported_zones, &[(8, "ip-ratelimit")]);
    let text = "server:\n  unblock-lan-zones: yes\n";
    let imported_lan = imported(Tool::Unbound, &[("unbound.conf", text)]);
    let forward = value(&imported_lan, "special-use", "forward");
    assert!(forward.contains("168.192.in-addr.arpa"), "{forward}");
}

#[test]
fn empty_zones_and_options_of_policy_zones_of_bind_carry_over() {
    let text = "\
options {
  disable-empty-zone \"10.IN-ADDR.ARPA\";
  server-id \"one\";
  allow-query-on { 10.0.0.1; };
  response-policy { zone \"a.rpz\" policy no-op; zone \"b.rpz\" max-policy-ttl 9; } max-policy-ttl 60 break-dnssec no nsip-enable no;
};
zone \"a.rpz\" { type primary; file \"db\"; };
zone \"b.rpz\" { type primary; file \"db\"; };
";
    let imported = imported(Tool::Bind, &[("named.conf", text), ("db", "")]);
    assert_eq!(
        value(&imported, "special-use", "forward"),
        r#"["10.in-addr.arpa"]"#
    );
    assert_eq!(value(&imported, "server", "id"), r#""one""#);
    let lists = sections(&imported, "[[list]]");
    assert!(
        lists[0].contains("policy = \"passthru\"; max-policy-ttl-secs = 60; break-dnssec = false")
            && lists[1].contains("max-policy-ttl-secs = 9"),
        "{lists:?}"
    );
    assert_left(&imported, &[(4, "allow-query-on"), (5, "nsip-enable no")]);
}

#[test]
fn options_of_policy_zones_that_are_not_known_are_reported_once() {
    let text = "\
options {
  response-policy {
    zone \"a.rpz\" policy cname log.example log no ede forged;
    zone \"b.rpz\" min-update-interval 5;
  } qname-wait-recurse no nsip-wait-recurse yes max-policy-ttl 60;
};
zone \"a.rpz\" { type primary; file \"db\"; };
zone \"b.rpz\" { type primary; file \"db\"; };
";
    let imported = imported(Tool::Bind, &[("named.conf", text), ("db", "")]);
    assert_left(
        &imported,
        &[
            (2, "response-policy: qname-wait-recurse no"),
            (2, "response-policy: nsip-wait-recurse yes"),
            (3, "response-policy: ede forged"),
            (4, "response-policy: min-update-interval 5"),
        ],
    );
    let all = left(&imported);
    let options = all
        .iter()
        .filter(|(_, setting)| setting.starts_with("response-policy: "));
    assert_eq!(options.count(), 4, "{all:?}");
    let lists = sections(&imported, "[[list]]");
    assert!(
        lists[0].contains("policy = \"cname\"; cname = \"log.example\"; max-policy-ttl-secs = 60"),
        "{lists:?}"
    );
}

#[test]
fn a_module_for_policy_zones_is_reported_and_is_no_zone() {
    let text = "\
options {
  response-policy { zone \"a.rpz\"; } dnsrps-enable yes dnsrps-options { socket 1; } ;
};
zone \"a.rpz\" { type primary; file \"db\"; };
";
    let imported = imported(Tool::Bind, &[("named.conf", text), ("db", "")]);
    assert_left(
        &imported,
        &[
            (2, "response-policy: dnsrps-enable yes"),
            (2, "response-policy: socket"),
        ],
    );
    assert_eq!(sections(&imported, "[[list]]").len(), 1);
}

#[test]
fn resolution_by_bind_itself_behind_its_forwarders_is_reported() {
    let text = "\
options {
  forwarders { 9.9.9.9; };
  forward first;
};
zone \"a.example\" { type forward; forward first; forwarders { 10.0.0.1; }; };
zone \"b.example\" { type forward; forward only; forwarders { 10.0.0.1; }; };
";
    let imported_first = imported(Tool::Bind, &[("named.conf", text)]);
    let expected = [(3, "forward"), (5, "zone a.example: forward")];
    assert_left(&imported_first, &expected);
    let only = text.replace("first", "only");
    let imported_only = imported(Tool::Bind, &[("named.conf", &only)]);
    let found = left(&imported_only);
    let mut settings = found.iter().map(|(_, setting)| setting);
    assert!(
        !settings.any(|setting| setting.ends_with("forward")),
        "{found:?}"
    );
}

#[test]
fn texts_that_unbound_hides_are_not_answered() {
    let text = "\
server:
  hide-identity: yes
  identity: one
  version: two
  hide-version: yes
";
    let hidden = imported(Tool::Unbound, &[("unbound.conf", text)]);
    let shown = text.replace("yes", "no");
    let shown = imported(Tool::Unbound, &[("unbound.conf", &shown)]);
    for (key, expected) in [("id", r#""one""#), ("version", r#""two""#)] {
        assert_eq!(value(&hidden, "server", key), "");
        assert_eq!(value(&shown, "server", key), expected);
    }
}
