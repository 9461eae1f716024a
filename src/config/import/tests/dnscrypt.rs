use super::{file, imported, left, sections, value};
use crate::config::import::Tool;

#[test]
fn rules_forwarding_and_cloaking_carry_over() {
    let main = "\
server_names = ['quad9-dnscrypt-ip4-filter-pri']
listen_addresses = ['127.0.0.1:5300', '[::1]:5300']
max_clients = 250
cache = true
cache_size = 4096
cache_min_ttl = 600
cache_max_ttl = 86400
cache_neg_max_ttl = 600
reject_ttl = 10
blocked_query_response = 'a:192.0.2.7,aaaa:2001:db8::7'
forwarding_rules = 'forwarding-rules.txt'
cloaking_rules = 'cloaking-rules.txt'
cloak_ttl = 300
block_ipv6 = true
[blocked_names]
blocked_names_file = 'blocked-names.txt'
[allowed_names]
allowed_names_file = 'allowed-names.txt'
[sources.public-resolvers]
urls = ['https://example.com/public-resolvers.md']
";
    let files = [
        ("dnscrypt-proxy.toml", main),
        (
            "forwarding-rules.txt",
            "# lan\nlan 192.168.1.1,192.168.1.2:5300\nhome $DHCP\n",
        ),
        (
            "cloaking-rules.txt",
            "nas.lan 192.168.1.5\n=www.example www.other.example # safe\nwww.google.* safe.example\n",
        ),
        (
            "blocked-names.txt",
            "ads.example # inline\n*.tracker.example\n=exact.example\nads.*\n*sex*\nlate.example @work\nAd?.example\nbanner[0-9]*.example\n*tail.example\n=www.*\n=\nad[.example\n",
        ),
        ("allowed-names.txt", "ok.ads.example\n"),
    ];
    let imported = imported(Tool::DnscryptProxy, &files);
    assert_eq!(
        value(&imported, "server", "listen"),
        r#"["127.0.0.1:5300", "[::1]:5300"]"#
    );
    assert_eq!(value(&imported, "cache", "size-mib"), "5");
    assert_eq!(value(&imported, "cache", "min-ttl-secs"), "600");
    assert_eq!(
        value(&imported, "block", "sinkhole"),
        r#"["192.0.2.7", "2001:db8::7"]"#
    );
    assert_eq!(
        file(&imported, "blocked-names.txt"),
        "*.ads.example\n*.tracker.example\n=exact.example\nads.*\n*sex*\nad?.example\nbanner[0-9]*.example\n*.tail.example\n"
    );
    assert_eq!(file(&imported, "allowed-names.txt"), "*.ok.ads.example\n");
    assert_eq!(
        sections(&imported, "[[list]]"),
        [
            r#"name = "allowed-names"; path = "allowed-names.txt"; format = "wildcard"; kind = "allow""#,
            r#"name = "blocked-names"; path = "blocked-names.txt"; format = "wildcard"; guards = "warn""#,
        ]
    );
    assert_eq!(
        sections(&imported, "[[local]]"),
        [
            r#"name = "nas.lan"; a = ["192.168.1.5"]; ttl-secs = 300"#,
            r#"name = "*.nas.lan"; a = ["192.168.1.5"]; ttl-secs = 300"#,
            r#"name = "www.example"; cname = "www.other.example"; ttl-secs = 300"#,
        ]
    );
    assert_eq!(
        sections(&imported, "[[forward]]"),
        [r#"zone = "lan"; servers = ["192.168.1.1", "192.168.1.2:5300"]"#]
    );
    assert_eq!(
        left(&imported),
        [
            (14, "block_ipv6"),
            (1, "server_names"),
            (6, "late.example"),
            (10, "=www.*"),
            (11, "="),
            (12, "ad[.example"),
            (3, "forwarding of home to $DHCP"),
            (3, "www.google.*"),
            (3, "zone home"),
        ]
    );
}

#[test]
fn old_names_of_keys_are_known() {
    let files = [
        (
            "dnscrypt-proxy.toml",
            "listen_addresses = []\n[blacklist]\nblacklist_file = 'b.txt'\n[whitelist]\nwhitelist_file = 'gone.txt'\n",
        ),
        ("b.txt", "ads.example\n"),
    ];
    let imported = imported(Tool::DnscryptProxy, &files);
    assert_eq!(file(&imported, "blocked-names.txt"), "*.ads.example\n");
    assert_eq!(left(&imported), [(1, "server_names"), (5, "gone.txt")]);
}
