use super::{imported, left, sections};
use crate::config::import::{Imported, Tool};

/// A configuration of AdGuard Home with a list, a rule, and a rewrite.
fn adguard(more: &str) -> Imported {
    let text = format!(
        "\
filters:
  - enabled: true
    url: https://lists.example/ads.txt
    name: ads
  - enabled: false
    url: https://lists.example/off.txt
    name: off
user_rules:
  - '||ads.example^'
filtering:
  rewrites:
    - domain: nas.lan
      answer: 192.168.1.5
    - domain: old.lan
      answer: 192.168.1.6
      enabled: false
{more}"
    );
    imported(Tool::Adguard, &[("AdGuardHome.yaml", &text)])
}

fn names(imported: &Imported) -> (Vec<String>, usize) {
    let lists = sections(imported, "[[list]]");
    let lists = lists.iter().filter_map(|list| list.split('"').nth(1));
    let lists = lists.map(str::to_owned).collect();
    (lists, sections(imported, "[[local]]").len())
}

#[test]
fn lists_and_rewrites_that_are_turned_off_are_reported() {
    let imported = adguard("");
    let (lists, locals) = names(&imported);
    assert_eq!(lists, ["ads", "user-rules", "local-names"]);
    assert_eq!(locals, 1);
    let found = left(&imported);
    assert!(found.contains(&(5, "list off")), "{found:?}");
    assert!(found.contains(&(14, "rewrite of old.lan")), "{found:?}");
}

#[test]
fn without_protection_nothing_is_blocked_and_rewrites_hold() {
    let imported = adguard("  protection_enabled: false\n");
    assert_eq!(names(&imported), (vec!["local-names".to_owned()], 1));
    let found = left(&imported);
    let setting = (17, "filtering.protection_enabled = false");
    assert!(found.contains(&setting), "{found:?}");
}

#[test]
fn without_filtering_rewrites_do_not_hold_either() {
    let imported = adguard("dns:\n  filtering_enabled: false\n");
    assert_eq!(names(&imported), (Vec::new(), 0));
    let found = left(&imported);
    assert!(
        found.contains(&(18, "dns.filtering_enabled = false")),
        "{found:?}"
    );
    let imported = adguard("  rewrites_enabled: false\n");
    assert_eq!(names(&imported).1, 0);
}

#[test]
fn lists_of_a_pihole_that_blocks_nothing_are_not_in_the_result() {
    let tables = [
        (
            "adlist.csv",
            "id,address,enabled\n1,https://lists.example/hosts,1\n2,https://lists.example/off,0\n",
        ),
        (
            "domainlist.csv",
            "id,type,domain,enabled\n1,1,ads.example,1\n2,1,off.example,0\n",
        ),
    ];
    let v6 =
        "[dns]\nupstreams = [\"9.9.9.9\"]\nhosts = [\"192.168.1.5 nas.lan\"]\n[dns.blocking]\n";
    let active = v6.to_owned() + "active = true\n";
    let off = v6.to_owned() + "active = false\n";
    let v5 = "PIHOLE_DNS_1=9.9.9.9\nBLOCKING_ENABLED=false\n";
    for (name, text, lists, setting) in [
        ("pihole.toml", active.as_str(), 2, (3, "list 2")),
        ("pihole.toml", &off, 0, (5, "dns.blocking.active = false")),
        ("setupVars.conf", v5, 0, (2, "BLOCKING_ENABLED=false")),
    ] {
        let imported = imported(Tool::Pihole, &[&[(name, text)][..], &tables].concat());
        assert_eq!(sections(&imported, "[[list]]").len(), lists, "{text}");
        let found = left(&imported);
        assert!(found.contains(&setting), "{found:?}");
        assert!(found.contains(&(3, "off.example")), "{found:?}");
    }
}
