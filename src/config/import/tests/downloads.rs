use super::{imported, sections, value};
use crate::config::import::Tool;

/// A configuration of each program that downloads lists, with `URL` in place of the URL of one.
const DOWNLOADING: &[(Tool, &[(&str, &str)])] = &[
    (
        Tool::Pihole,
        &[
            ("pihole.toml", "[dns]\nport = 53\n"),
            ("adlist.csv", "id,address,enabled,comment\n1,URL,1,x\n"),
        ],
    ),
    (
        Tool::Adguard,
        &[(
            "AdGuardHome.yaml",
            "filters:\n  - enabled: true\n    url: URL\n",
        )],
    ),
    (
        Tool::Blocky,
        &[(
            "config.yml",
            "blocking:\n  denylists:\n    ads:\n      - URL\n  clientGroupsBlock:\n    default: ads\n",
        )],
    ),
    (
        Tool::Unbound,
        &[("unbound.conf", "rpz:\n  name: web.example\n  url: URL\n")],
    ),
];

#[test]
fn the_url_of_a_list_keeps_its_query() {
    let url = "https://lists.example/serverlist.php?hostformat=hosts&showintro=0";
    for (tool, files) in DOWNLOADING {
        let files: Vec<_> = files
            .iter()
            .map(|(name, text)| (*name, text.replace("URL", url)))
            .collect();
        let files: Vec<_> = files.iter().map(|(name, text)| (*name, &**text)).collect();
        let lists = sections(&imported(*tool, &files), "[[list]]");
        assert!(
            lists[0].contains(&format!("url = \"{url}\"")),
            "{tool:?} {lists:?}"
        );
    }
}

#[test]
fn a_host_in_the_own_network_may_be_asked_and_a_public_one_needs_no_permission() {
    for (host, http, private) in [
        ("192.168.1.5:8080", "192.168.1.5", true),
        ("100.64.0.9", "100.64.0.9", true),
        ("[fd00::5]", "fd00::5", true),
        ("localhost:8000", "localhost", true),
        ("9.9.9.9", "9.9.9.9", false),
        ("lists.example", "lists.example", false),
    ] {
        let text = format!("filters:\n  - enabled: true\n    url: http://{host}/ads.txt\n");
        let imported = imported(Tool::Adguard, &[("AdGuardHome.yaml", &text)]);
        let expected = format!("[\"{http}\"]");
        assert_eq!(value(&imported, "download", "allow-http"), expected);
        let expected = if private { expected } else { String::new() };
        assert_eq!(
            value(&imported, "download", "allow-private"),
            expected,
            "{host}"
        );
    }
}
