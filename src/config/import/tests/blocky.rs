use super::{file, imported, left, sections, value};
use crate::config::import::Tool;

#[test]
fn lists_custom_names_and_servers_carry_over() {
    let text = "\
upstreams:
  groups:
    default:
      - 9.9.9.9
      - tcp+udp:149.112.112.112
      - tcp-tls:fdns1.dismail.de:853
    laptop*:
      - 1.1.1.1
  timeout: 3s
customDNS:
  customTTL: 1h
  mapping:
    printer.lan: 192.168.178.3,2001:db8::3
conditional:
  mapping:
    fritz.box: 192.168.178.1
blocking:
  denylists:
    ads:
      - https://lists.example/hosts
      - http://old.example/list.txt
      - |
        # inline
        ads.example
        *.tracker.example
        /^banners?[_.-]/
    kids:
      - https://lists.example/kids
  allowlists:
    ads:
      - allow.txt
  clientGroupsBlock:
    default:
      - ads
    laptop*:
      - kids
  blockType: nxDomain
  blockTTL: 1m
caching:
  minTime: 5m
  maxTime: 30m
  cacheTimeNegative: 30m
ports:
  dns: 127.0.0.1:5353
  tls: 853
filtering:
  queryTypes:
    - AAAA
redis:
  address: redis:6379
  password: hunter2
queryLog:
  type: mysql
  target: user:hunter2@tcp(db:3306)/x
";
    let imported = imported(
        Tool::Blocky,
        &[("config.yml", text), ("allow.txt", "ok.example\n")],
    );
    assert_eq!(
        value(&imported, "upstream", "servers"),
        r#"["9.9.9.9", "149.112.112.112"]"#
    );
    assert_eq!(value(&imported, "upstream", "timeout-ms"), "3000");
    assert_eq!(
        value(&imported, "server", "listen"),
        r#"["127.0.0.1:5353"]"#
    );
    assert_eq!(value(&imported, "block", "action"), r#""nxdomain""#);
    assert_eq!(value(&imported, "block", "ttl-secs"), "60");
    assert_eq!(value(&imported, "cache", "min-ttl-secs"), "300");
    assert_eq!(value(&imported, "cache", "max-ttl-secs"), "1800");
    assert_eq!(
        value(&imported, "download", "allow-http"),
        r#"["old.example"]"#
    );
    assert_eq!(
        sections(&imported, "[[list]]"),
        [
            r#"name = "allow.txt"; path = "allow.txt"; format = "auto"; kind = "allow""#,
            r#"name = "lists.example-hosts"; url = "https://lists.example/hosts"; format = "auto""#,
            r#"name = "old.example-list.txt"; url = "http://old.example/list.txt"; format = "auto""#,
            r#"name = "ads-block-3"; path = "ads-block-3.txt"; format = "adblock"; guards = "warn""#,
            r#"name = "local-names"; path = "local-names.txt"; kind = "allow""#,
        ]
    );
    let rules = "|ads.example^\n||tracker.example^\n/^banners?[_.-]/\n";
    assert_eq!(file(&imported, "ads-block-3.txt"), rules);
    assert_eq!(
        sections(&imported, "[[local]]"),
        [
            r#"name = "printer.lan"; a = ["192.168.178.3"]; aaaa = ["2001:db8::3"]; ttl-secs = 3600"#,
            r#"name = "*.printer.lan"; a = ["192.168.178.3"]; aaaa = ["2001:db8::3"]; ttl-secs = 3600"#,
        ]
    );
    let expected = [
        (1, "all clients"),
        (6, "an upstream server of the group default"),
        (7, "upstreams.groups.laptop*"),
        (35, "blocking.clientGroupsBlock.laptop*"),
        (27, "blocking.denylists.kids"),
        (45, "ports.tls"),
        (47, "filtering.queryTypes"),
        (49, "redis"),
    ];
    let mut found = left(&imported);
    let mut expected = expected.to_vec();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert!(!format!("{imported:?}").contains("hunter2"));
}

#[test]
fn names_of_keys_before_version_0_24_are_known() {
    let text = "\
upstream:
  default:
    - 9.9.9.9
blocking:
  blackLists:
    ads:
      - https://lists.example/ads.txt
  whiteLists:
    ads:
      - https://lists.example/ok.txt
  clientGroupsBlock:
    default:
      - ads
  blockType: 192.0.2.7, 2001:db8::7
  blockTTL: 6h
port: 53
";
    let imported = imported(Tool::Blocky, &[("config.yml", text)]);
    assert_eq!(sections(&imported, "[[list]]").len(), 2);
    assert_eq!(
        value(&imported, "block", "sinkhole"),
        r#"["192.0.2.7", "2001:db8::7"]"#
    );
    assert_eq!(value(&imported, "block", "ttl-secs"), "3600");
    assert_eq!(
        left(&imported),
        [(1, "all clients"), (15, "block.ttl-secs = 21600")]
    );
}

#[test]
fn names_of_groups_are_no_paths_of_files_and_equal_ones_get_files_of_their_own() {
    let text = "\
upstreams:
  groups:
    default:
      - 9.9.9.9
blocking:
  denylists:
    ../../up:
      - |
        a.example
    /etc/up:
      - |
        b.example
    ..-..-up:
      - |
        c.example
  clientGroupsBlock:
    default:
      - ../../up
      - /etc/up
      - ..-..-up
ports:
  dns: 53
";
    let imported = imported(Tool::Blocky, &[("config.yml", text)]);
    let names: Vec<_> = imported.files.iter().map(|(name, _)| &**name).collect();
    assert_eq!(
        names,
        [
            "-..-..-up-block-1.txt",
            "-etc-up-block-1.txt",
            "2--..-..-up-block-1.txt"
        ]
    );
}

#[test]
fn a_group_that_only_allows_blocks_all_other_names() {
    let text = "\
blocking:
  denylists:
    ads:
      - https://lists.example/ads.txt
  allowlists:
    ads:
      - https://lists.example/ok.txt
    school:
      - |
        school.example
  clientGroupsBlock:
    default: [ads, GROUP]
";
    for (group, lists) in [("ads", 2), ("school", 4)] {
        let text = text.replace("GROUP", group);
        let imported = imported(Tool::Blocky, &[("config.yml", &text)]);
        assert_eq!(sections(&imported, "[[list]]").len(), lists);
        let rules = file(&imported, "all-others.txt");
        assert_eq!(
            rules.ends_with("\n*$dnstype=A|AAAA\n"),
            group == "school",
            "{rules}"
        );
    }
}

#[test]
fn hosts_in_the_configuration_itself_are_local_names() {
    let text = "\
hostsFile:
  sources:
    - |
      # inline
      192.168.1.5 nas.lan
      not-an-address x.lan
";
    let imported = imported(Tool::Blocky, &[("config.yml", text)]);
    assert_eq!(
        sections(&imported, "[[local]]"),
        [
            r#"name = "5.1.168.192.in-addr.arpa"; ptr = "nas.lan""#,
            r#"name = "nas.lan"; a = ["192.168.1.5"]"#,
        ]
    );
    let found = left(&imported);
    assert!(found.contains(&(6, "a line of hosts")), "{found:?}");
}

#[test]
fn a_timeout_of_less_than_a_second_carries_over() {
    for (timeout, expected) in [("500ms", "500"), ("1s500ms", "1500"), ("0.5s", "500")] {
        let text = format!("upstreams:\n  timeout: {timeout}\n");
        let imported = imported(Tool::Blocky, &[("config.yml", &text)]);
        assert_eq!(value(&imported, "upstream", "timeout-ms"), expected);
    }
}
