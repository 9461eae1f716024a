use super::{file, imported, left, sections, value};
use crate::config::import::Tool;

#[test]
fn version_6_carries_over_with_the_tables_of_its_database() {
    let text = "\
[dns]
  upstreams = [
    \"9.9.9.9\",
    \"127.0.0.1#5335\"
  ] ### CHANGED, default = []
  expandHosts = true
  hosts = [ \"192.168.1.5 nas\" ]
  cnameRecords = [ \"www.lan,nas.lan,300\" ]
  revServers = [ \"true,192.168.0.0/16,192.168.1.1,lan\" ]
  listeningMode = \"ALL\"
  port = 53
  dnssec = true
  [dns.domain]
    name = \"lan\"
  [dns.cache]
    size = 10000
  [dns.blocking]
    active = true
    mode = \"NX\"
[webserver.api]
  pwhash = \"$BALLOON-SHA256$hunter2\"
";
    let adlist = "id,address,enabled,comment\n1,https://lists.example/hosts,1,\"a, b\"\n2,https://lists.example/off,0,\n";
    let domains = "id,type,domain,enabled\n1,0,ok.example,1\n2,1,ads.example,1\n3,3,(^|\\.)track[0-9]+\\.,1\n4,3,bad;querytype=A,1\n5,1,off.example,0\n";
    let files = [
        ("pihole.toml", text),
        ("adlist.csv", adlist),
        ("domainlist.csv", domains),
        ("client.csv", "id,ip\n1,192.168.1.7\n"),
    ];
    let imported = imported(Tool::Pihole, &files);
    assert_eq!(
        value(&imported, "upstream", "servers"),
        r#"["9.9.9.9", "127.0.0.1:5335"]"#
    );
    assert_eq!(value(&imported, "block", "action"), r#""nxdomain""#);
    assert_eq!(value(&imported, "cache", "size-mib"), "10");
    assert_eq!(
        sections(&imported, "[[list]]"),
        [
            r#"name = "lists.example-hosts"; url = "https://lists.example/hosts"; format = "adblock"; allow-scope = "all-lists""#,
            r#"name = "allowed"; path = "allowed.txt"; kind = "allow""#,
            r#"name = "blocked"; path = "blocked.txt"; format = "adblock"; guards = "warn""#,
        ]
    );
    assert_eq!(file(&imported, "allowed.txt"), "ok.example\n");
    assert_eq!(
        file(&imported, "blocked.txt"),
        "|ads.example^\n/(^|\\.)track[0-9]+\\./\n"
    );
    let locals = sections(&imported, "[[local]]");
    assert!(
        locals.contains(&r#"name = "nas.lan"; a = ["192.168.1.5"]"#.to_owned()),
        "{locals:?}"
    );
    assert!(
        locals.contains(&r#"name = "www.lan"; cname = "nas.lan"; ttl-secs = 300"#.to_owned()),
        "{locals:?}"
    );
    let zones: Vec<_> = sections(&imported, "[[forward]]");
    assert_eq!(zones.len(), 1, "{zones:?}");
    assert_eq!(
        left(&imported),
        [
            (10, "listening mode ALL"),
            (12, "dns.dnssec"),
            (5, "/bad;querytype=A/"),
            (6, "off.example"),
            (3, "list 2"),
            (2, "client 192.168.1.7")
        ]
    );
    assert!(!format!("{imported:?}").contains("hunter2"));
}

#[test]
fn version_5_carries_over_from_the_files_of_its_teleporter() {
    let setup = "\
WEBPASSWORD=hunter2hunter2
PIHOLE_INTERFACE=eth0
PIHOLE_DNS_1=9.9.9.9#53
PIHOLE_DNS_2=149.112.112.112
REV_SERVER=true
REV_SERVER_CIDR=192.168.1.0/24
REV_SERVER_TARGET=192.168.1.1
REV_SERVER_DOMAIN=lan
DNSMASQ_LISTENING=local
CACHE_SIZE=10000
";
    let files = [
        ("setupVars.conf", setup),
        ("pihole-FTL.conf", "BLOCKINGMODE=IP-NODATA-AAAA\n"),
        ("custom.list", "192.168.1.5 nas.lan\n"),
        (
            "dnsmasq.d/05-pihole-custom-cname.conf",
            "cname=www.lan,nas.lan\n",
        ),
        (
            "adlist.json",
            r#"[{"id":1,"address":"https://lists.example/hosts","enabled":1},{"id":2,"address":"https://lists.example/off","enabled":0}]"#,
        ),
        (
            "blacklist.exact.json",
            r#"[{"id":1,"type":1,"domain":"ads.example","enabled":1}]"#,
        ),
        (
            "whitelist.regex.json",
            r#"[{"id":2,"type":2,"domain":"^ok\\.","enabled":1}]"#,
        ),
    ];
    let imported = imported(Tool::Pihole, &files);
    assert_eq!(
        value(&imported, "upstream", "servers"),
        r#"["9.9.9.9", "149.112.112.112"]"#
    );
    assert_eq!(file(&imported, "blocked.txt"), "ads.example\n");
    assert_eq!(file(&imported, "allowed.txt"), "/^ok\\./\n");
    assert_eq!(sections(&imported, "[[forward]]").len(), 1);
    let locals = sections(&imported, "[[local]]");
    assert!(
        locals.contains(&r#"name = "www.lan"; cname = "nas.lan""#.to_owned()),
        "{locals:?}"
    );
    assert_eq!(
        left(&imported),
        [
            (9, "listening mode LOCAL"),
            (1, "blocking mode IP-NODATA-AAAA"),
            (1, "list 2")
        ]
    );
    assert!(!format!("{imported:?}").contains("hunter2"));
}

#[test]
fn a_database_without_exports_is_named() {
    let imported = imported(
        Tool::Pihole,
        &[("pihole.toml", "[dns]\nupstreams = [\"9.9.9.9\"]\n")],
    );
    assert_eq!(
        left(&imported),
        [(1, "listening mode LOCAL"), (1, "gravity.db")]
    );
    assert!(imported.left[1].reason.contains("docs/coming-from.md"));
}

#[test]
fn a_forwarded_zone_within_the_domain_of_the_network_is_forwarded() {
    let text = "\
[dns]
upstreams = [\"9.9.9.9\"]
revServers = [
  \"true,10.0.0.0/8,10.0.0.1,corp.lan\",
  \"true,10.1.0.0/16,10.1.0.1,xlan\",
]
[dns.domain]
name = \"lan\"
local = true
";
    let imported = imported(Tool::Pihole, &[("pihole.toml", text)]);
    assert_eq!(
        file(&imported, "local-domain.conf"),
        "local=/lan/\nserver=/corp.lan/#\n"
    );
}
