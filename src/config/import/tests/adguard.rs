use super::{file, imported, left, sections, value};
use crate::config::import::Tool;

const NEW: &str = "\
http:
  address: 0.0.0.0:80
users:
  - name: admin
    password: $2y$10$hashhashhash
dns:
  bind_hosts:
    - 192.168.1.2
  port: 53
  ratelimit: 0
  upstream_dns:
    - '# comment'
    - 9.9.9.9
    - https://dns10.quad9.net/dns-query
    - '[/corp.example/home.arpa/]10.0.0.1 10.0.0.2:5300'
  bootstrap_dns:
    - 9.9.9.10
  allowed_clients:
    - 192.168.1.0/24
    - my-phone
  cache_size: 4194304
  cache_ttl_min: 60
  cache_ttl_max: 3600
  enable_dnssec: true
tls:
  enabled: false
  private_key: \"\"
filters:
  - enabled: true
    url: https://adguardteam.github.io/HostlistsRegistry/assets/filter_1.txt
    name: AdGuard DNS filter
    id: 1
  - enabled: false
    url: https://example.com/off.txt
    name: off
    id: 2
  - enabled: true
    url: https://bob:hunter2@lists.example/private.txt
    name: private
    id: 3
whitelist_filters:
  - enabled: true
    url: https://lists.example/allow.txt
    name: Allowed
    id: 4
user_rules:
  - '||ads.example^'
  - '@@||ok.ads.example^$important'
  - '||games.example^$client=kids'
filtering:
  blocking_mode: custom_ip
  blocking_ipv4: 192.0.2.7
  blocking_ipv6: 2001:db8::7
  blocked_response_ttl: 10
  rewrites:
    - domain: nas.lan
      answer: 192.168.1.5
    - domain: '*.web.lan'
      answer: nas.lan
    - domain: nas.lan
      answer: AAAA
  safe_search:
    enabled: true
    bing: true
  blocked_services:
    schedule:
      time_zone: Local
    ids:
      - tiktok
  parental_enabled: false
clients:
  runtime_sources:
    whois: true
  persistent:
    - name: phone
      ids:
        - 192.168.1.7
schema_version: 29
";

#[test]
fn lists_rules_rewrites_and_servers_carry_over() {
    let imported = imported(Tool::Adguard, &[("AdGuardHome.yaml", NEW)]);
    assert_eq!(
        value(&imported, "server", "listen"),
        r#"["192.168.1.2:53"]"#
    );
    assert_eq!(value(&imported, "server", "allow"), r#"["192.168.1.0/24"]"#);
    assert_eq!(
        value(&imported, "upstream", "servers"),
        r#"["9.9.9.9", "https://dns10.quad9.net/dns-query"]"#
    );
    assert_eq!(value(&imported, "upstream", "bootstrap"), r#"["9.9.9.10"]"#);
    assert_eq!(value(&imported, "block", "action"), r#""sinkhole""#);
    assert_eq!(
        value(&imported, "block", "sinkhole"),
        r#"["192.0.2.7", "2001:db8::7"]"#
    );
    assert_eq!(value(&imported, "block", "ttl-secs"), "10");
    assert_eq!(value(&imported, "cache", "size-mib"), "4");
    assert_eq!(
        sections(&imported, "[[list]]"),
        [
            r#"name = "allowed"; url = "https://lists.example/allow.txt"; format = "adblock"; kind = "allow""#,
            r#"name = "adguard-dns-filter"; url = "https://adguardteam.github.io/HostlistsRegistry/assets/filter_1.txt"; format = "adblock"; allow-scope = "all-lists""#,
            r#"name = "user-rules"; path = "user-rules.txt"; format = "adblock"; allow-scope = "all-lists"; guards = "warn""#,
            r#"name = "local-names"; path = "local-names.txt"; kind = "allow""#,
        ]
    );
    let rules = "||ads.example^\n@@||ok.ads.example^$important\n||games.example^$client=kids\n";
    assert_eq!(file(&imported, "user-rules.txt"), rules);
    let allowed: Vec<_> = file(&imported, "local-names.txt").lines().skip(1).collect();
    assert_eq!(allowed, ["*.web.lan", "nas.lan"]);
    assert_eq!(
        sections(&imported, "[[local]]"),
        [
            r#"name = "nas.lan"; a = ["192.168.1.5"]"#,
            r#"name = "*.web.lan"; cname = "nas.lan""#
        ]
    );
    assert_eq!(
        sections(&imported, "[[forward]]"),
        [
            r#"zone = [;     "corp.example", # AdGuardHome.yaml:15;     "home.arpa", # AdGuardHome.yaml:15; ]; servers = ["10.0.0.1", "10.0.0.2:5300"]"#
        ]
    );
}

#[test]
fn what_has_no_counterpart_is_reported_without_passwords() {
    let imported = imported(Tool::Adguard, &[("AdGuardHome.yaml", NEW)]);
    assert_eq!(
        left(&imported),
        [
            (20, "dns.allowed_clients"),
            (33, "list off"),
            (37, "list private"),
            (49, "||games.example^$client=kids"),
            (60, "rewrite of nas.lan"),
            (74, "clients.persistent"),
            (68, "filtering.blocked_services.ids"),
            (66, "filtering.blocked_services.schedule"),
            (62, "filtering.safe_search"),
            (24, "dns.enable_dnssec"),
        ]
    );
    let all = format!("{imported:?}");
    assert!(
        !all.contains("hunter2") && !all.contains("hashhash"),
        "{all}"
    );
}

#[test]
fn old_and_newer_versions_are_read_as_far_as_they_are_known() {
    let old = "\
bind_host: 0.0.0.0
dns:
  bind_host: 0.0.0.0
  port: 5353
  blocking_mode: nxdomain
  rewrites:
  - domain: nas.lan
    answer: 192.168.1.5
  upstream_dns:
  - 9.9.9.9
filters: []
user_rules: []
clients:
- name: phone
  ids: [192.168.1.7]
schema_version: 6
";
    let imported_old = imported(Tool::Adguard, &[("AdGuardHome.yaml", old)]);
    assert_eq!(
        value(&imported_old, "server", "listen"),
        r#"["0.0.0.0:5353", "[::]:5353"]"#
    );
    assert_eq!(value(&imported_old, "block", "action"), r#""nxdomain""#);
    assert_eq!(sections(&imported_old, "[[local]]").len(), 1);
    assert_eq!(left(&imported_old)[1], (13, "clients"));
    let newer = NEW.replace("schema_version: 29", "schema_version: 99");
    let imported_newer = imported(Tool::Adguard, &[("AdGuardHome.yaml", &newer)]);
    assert_eq!(left(&imported_newer)[0].1, "schema_version");
}

#[test]
fn if_no_permitted_client_carries_over_only_this_machine_is_answered() {
    let text = "dns:\n  allowed_clients:\n    - my-phone\nuser_rules: []\n";
    let imported = imported(Tool::Adguard, &[("AdGuardHome.yaml", text)]);
    assert_eq!(
        value(&imported, "server", "allow"),
        r#"["127.0.0.0/8", "::1/128"]"#
    );
    let reason = &imported.left.last().expect("a reason").reason;
    assert!(reason.contains("only this machine is answered"), "{reason}");
}
