use super::{file, imported, left, sections, value};
use crate::config::import::Tool;

const BASE: &str = "no-resolv\nno-hosts\n";

#[test]
fn servers_addresses_and_limits_carry_over() {
    let text = "\
# An office
port=5353
listen-address=127.0.0.1,192.168.1.1
no-resolv
no-hosts
server=9.9.9.9
server=149.112.112.112#5300
server=/corp.example/10.0.0.1
server=/corp.example/10.0.0.2#5300
rev-server=10.1.0.0/16,10.0.0.1
cache-size=10000
min-cache-ttl=60
max-cache-ttl=7200
use-stale-cache=3600
bogus-priv
";
    let imported = imported(Tool::Dnsmasq, &[("dnsmasq.conf", text)]);
    let servers = value(&imported, "upstream", "servers");
    assert_eq!(servers, r#"["9.9.9.9", "149.112.112.112:5300"]"#);
    let listen = value(&imported, "server", "listen");
    assert_eq!(listen, r#"["127.0.0.1:5353", "192.168.1.1:5353"]"#);
    assert_eq!(
        sections(&imported, "[[forward]]"),
        [
            r#"zone = "corp.example"; servers = ["10.0.0.1", "10.0.0.2:5300"]"#,
            r#"zone = "1.10.in-addr.arpa"; servers = ["10.0.0.1"]"#,
        ]
    );
    assert_eq!(value(&imported, "cache", "size-mib"), "10");
    assert_eq!(value(&imported, "cache", "min-ttl-secs"), "60");
    assert_eq!(value(&imported, "cache", "max-ttl-secs"), "7200");
    assert_eq!(value(&imported, "cache", "stale-secs"), "3600");
    assert_eq!(left(&imported), [(1, "all clients")]);
    assert!(
        imported.config.contains("# dnsmasq.conf:6\nservers"),
        "{}",
        imported.config
    );
    assert!(imported.files.is_empty());
}

#[test]
fn rules_on_names_become_a_list_in_the_same_format() {
    let text = BASE.to_owned()
        + "address=/ads.example/#\n\
           address=/page.example/192.0.2.7\n\
           address=/a.example/b.example/\n\
           local=/lan/\n\
           server=/sub.lan/10.0.0.1\n\
           address=/#/192.0.2.1\n\
           server=/open.ads.example/#\n";
    let imported = imported(Tool::Dnsmasq, &[("dnsmasq.conf", &text)]);
    assert_eq!(
        file(&imported, "dnsmasq-rules.conf"),
        "address=/ads.example/#\n\
         address=/page.example/192.0.2.7\n\
         address=/a.example/\n\
         address=/b.example/\n\
         server=/lan/\n\
         server=/sub.lan/#\n\
         server=/open.ads.example/#\n"
    );
    let lists = sections(&imported, "[[list]]");
    let keys = r#"name = "dnsmasq-rules"; path = "dnsmasq-rules.conf"; format = "dnsmasq"; guards = "warn""#;
    assert_eq!(lists, [keys]);
    assert_eq!(
        left(&imported),
        [(8, "address=/#/192.0.2.1"), (1, "all clients")]
    );
}

#[test]
fn records_become_local_names_and_are_excepted_from_the_rules_above_them() {
    let text = BASE.to_owned()
        + "local=/lan/\n\
           host-record=nas.lan,files.lan,192.168.1.5,fd00::5,120\n\
           cname=www.lan,nas.lan\n\
           txt-record=info.example,\"v=1 a\"\n\
           mx-host=mail.example,mx.example,10\n\
           srv-host=_sip._udp.example,sip.example,5060,1,2\n\
           ptr-record=9.1.168.192.in-addr.arpa,printer.lan\n\
           caa-record=x.example,0,issue,ca.example\n";
    let imported = imported(Tool::Dnsmasq, &[("dnsmasq.conf", &text)]);
    let locals = sections(&imported, "[[local]]");
    for expected in [
        r#"name = "5.1.168.192.in-addr.arpa"; ptr = "nas.lan"; ttl-secs = 120"#,
        r#"name = "nas.lan"; a = ["192.168.1.5"]; aaaa = ["fd00::5"]; ttl-secs = 120"#,
        r#"name = "files.lan"; a = ["192.168.1.5"]; aaaa = ["fd00::5"]; ttl-secs = 120"#,
        r#"name = "www.lan"; cname = "nas.lan""#,
        r#"name = "info.example"; txt = ["v=1 a"]"#,
        r#"name = "mail.example"; mx = ["10 mx.example."]"#,
        r#"name = "_sip._udp.example"; srv = ["1 2 5060 sip.example."]"#,
        r#"name = "9.1.168.192.in-addr.arpa"; ptr = "printer.lan""#,
    ] {
        assert!(
            locals.iter().any(|local| local == expected),
            "{expected}: {locals:#?}"
        );
    }
    let allowed = file(&imported, "local-names.txt");
    let allowed: Vec<_> = allowed
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    assert_eq!(allowed, ["files.lan", "nas.lan", "www.lan"]);
    let lists = sections(&imported, "[[list]]");
    assert!(
        lists.iter().any(|list| list.contains("kind = \"allow\"")),
        "{lists:?}"
    );
    assert_eq!(
        left(&imported)[0],
        (10, "caa-record=x.example,0,issue,ca.example")
    );
}

#[test]
fn files_that_it_includes_are_read_with_their_own_lines() {
    let files = [
        (
            "dnsmasq.conf",
            "no-resolv\nconf-dir=/etc/dnsmasq.d,*.conf\naddn-hosts=hosts.d/office\nexpand-hosts\ndomain=lan\n",
        ),
        ("dnsmasq.d/b.conf", "server=9.9.9.9\nstop-dns-rebind\n"),
        ("dnsmasq.d/c.conf.bak", "server=1.1.1.1\n"),
        ("hosts", "127.0.0.1 localhost\n"),
        (
            "hosts.d/office",
            "# printers\n192.168.1.9 printer p2.example\n",
        ),
    ];
    let imported = imported(Tool::Dnsmasq, &files);
    assert_eq!(value(&imported, "upstream", "servers"), r#"["9.9.9.9"]"#);
    assert!(
        imported.config.contains("# dnsmasq.d/b.conf:1\n"),
        "{}",
        imported.config
    );
    let locals = sections(&imported, "[[local]]");
    for name in ["localhost", "printer", "printer.lan", "p2.example"] {
        let start = format!("name = \"{name}\";");
        assert!(
            locals.iter().any(|local| local.starts_with(&start)),
            "{name}: {locals:#?}"
        );
    }
    let place = &imported.left[0];
    assert_eq!(
        (place.file.to_str(), place.line),
        (Some("dnsmasq.d/b.conf"), 2)
    );
}

#[test]
fn a_hosts_file_that_blocks_is_a_list() {
    let files = [
        (
            "dnsmasq.conf",
            "no-resolv\nno-hosts\naddn-hosts=block.hosts\n",
        ),
        (
            "block.hosts",
            "# ads\n0.0.0.0 a.example\n0.0.0.0 b.example\n",
        ),
    ];
    let imported = imported(Tool::Dnsmasq, &files);
    let lists = sections(&imported, "[[list]]");
    assert_eq!(
        lists,
        [r#"name = "block"; path = "block.hosts"; format = "hosts""#]
    );
    assert!(sections(&imported, "[[local]]").is_empty());
}

#[test]
fn what_has_no_counterpart_is_reported_with_its_line() {
    let text = BASE.to_owned()
        + "dhcp-range=192.168.1.50,192.168.1.150,12h\n\
           dnssec\n\
           frobnicate=secret\n\
           server=dns.example\n\
           user=nobody\n";
    let imported = imported(Tool::Dnsmasq, &[("dnsmasq.conf", &text)]);
    assert_eq!(
        left(&imported),
        [
            (3, "dhcp-range"),
            (4, "dnssec"),
            (5, "frobnicate"),
            (6, "server=dns.example"),
            (1, "all clients")
        ]
    );
}

#[test]
fn reverse_zones_of_private_networks_are_forwarded_unless_bogus_priv_is_set() {
    for (text, count) in [(BASE.to_owned(), 23), (BASE.to_owned() + "bogus-priv\n", 0)] {
        let imported = imported(Tool::Dnsmasq, &[("dnsmasq.conf", &text)]);
        let zones = value(&imported, "special-use", "forward");
        assert_eq!(zones.matches(".arpa").count(), count, "{zones}");
    }
}

#[test]
fn a_star_before_a_name_stays_in_the_list() {
    let text = BASE.to_owned()
        + "server=9.9.9.9\naddress=/*ads.example/#\nhost-record=my.badads.example,192.0.2.1\nserver=/*corp.example/10.0.0.1\nserver=/*open.example/#\naddress=/*/#\naddress=/*b\u{fc}cher.example/#\naddress=/*.below.example/#\naddress=/bad.example/192.0.2\n";
    let imported = imported(Tool::Dnsmasq, &[("dnsmasq.conf", &text)]);
    let rules = file(&imported, "dnsmasq-rules.conf");
    assert_eq!(
        rules,
        "address=/*ads.example/#\nserver=/*open.example/#\naddress=/*.below.example/#\n"
    );
    assert!(file(&imported, "local-names.txt").ends_with("\nmy.badads.example\n"));
    let found = left(&imported);
    let lines: Vec<_> = found.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [6, 7, 8, 9, 11, 1], "{found:?}");
}

#[test]
fn an_include_without_a_name_reads_nothing_and_a_file_is_read_once() {
    let files = [
        (
            "dnsmasq.conf",
            "no-resolv\nno-hosts\nconf-file=\nconf-dir=\naddn-hosts=\nconf-file=a.conf\nconf-file=a.conf\n",
        ),
        ("a.conf", "dnssec\nserver=9.9.9.9\naddress=/ads.example/#\n"),
    ];
    let imported = imported(Tool::Dnsmasq, &files);
    assert_eq!(
        left(&imported),
        [
            (3, "conf-file="),
            (4, "conf-dir="),
            (5, "addn-hosts"),
            (1, "dnssec"),
            (1, "all clients")
        ]
    );
    assert_eq!(
        file(&imported, "dnsmasq-rules.conf"),
        "address=/ads.example/#\n"
    );
}
