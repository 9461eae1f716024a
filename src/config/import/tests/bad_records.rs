use super::{imported, left, sections};
use crate::config::import::Tool;

#[test]
fn a_ttl_that_is_too_long_is_shortened_and_reported_once() {
    let text = "server:\n  local-data: \"a.lan 9999999 A 192.0.2.1\"\n  local-data: \"b.lan 9999999 A 192.0.2.2\"\nforward-zone:\n  name: .\n  forward-addr: 9.9.9.9\n";
    let imported = imported(Tool::Unbound, &[("unbound.conf", text)]);
    assert_eq!(
        sections(&imported, "[[local]]"),
        [
            r#"name = "a.lan"; a = ["192.0.2.1"]; ttl-secs = 604800"#,
            r#"name = "b.lan"; a = ["192.0.2.2"]; ttl-secs = 604800"#,
        ]
    );
    assert_eq!(left(&imported), [(2, "TTL 9999999")]);
}

#[test]
fn a_record_that_is_not_valid_is_left_out_with_its_line() {
    let long = "x".repeat(5000);
    let label = "l".repeat(60);
    let name = [&*label, &label, &label, &label, "abc.cdef"].join(".");
    let text = format!(
        "\
no-hosts
no-resolv
server=9.9.9.9
cname=www.lan,bad..name
txt-record=txt.lan,{long}
mx-host=mx.lan,two hosts
srv-host=_sip._udp.lan,..,5060
ptr-record=1.2.0.192.in-addr.arpa,Host.lan
ptr-record=1.2.0.192.in-addr.arpa,host.LAN
host-record=ok.lan,192.0.2.1
cname=*.{name},ok.lan
"
    );
    let imported = imported(Tool::Dnsmasq, &[("dnsmasq.conf", &text)]);
    let found = left(&imported);
    let wildcard = format!("*.{name}");
    for expected in [
        (4, "cname of www.lan"),
        (5, "txt of txt.lan"),
        (6, "mx of mx.lan"),
        (7, "srv of _sip._udp.lan"),
        (11, &wildcard),
    ] {
        assert!(found.contains(&expected), "{expected:?} {found:?}");
    }
    assert_eq!(
        sections(&imported, "[[local]]"),
        [
            r#"name = "1.2.0.192.in-addr.arpa"; ptr = ["Host.lan", "ok.lan"]"#,
            r#"name = "ok.lan"; a = ["192.0.2.1"]"#,
        ]
    );
    let shown: usize = imported.left.iter().map(|left| left.reason.len()).sum();
    assert!(shown < 3000, "{found:?}");
}
