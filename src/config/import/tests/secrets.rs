use super::{imported, left, sections, try_import};
use crate::config::import::Tool;

/// Configurations with a password, and the setting that each reports.
const WITH_SECRETS: &[(Tool, &str, &str, &str)] = &[
    (
        Tool::Unbound,
        "unbound.conf",
        "rpz:\n  name: web.example\n  url: https://me:hunter2@lists.example/web.rpz\n",
        "rpz web.example",
    ),
    (
        Tool::Adguard,
        "AdGuardHome.yaml",
        "filters:\n  - enabled: true\n    url: https://me:hunter2@lists.example\n",
        "list of a URL",
    ),
    (
        Tool::Adguard,
        "AdGuardHome.yaml",
        "filters:\n  - enabled: true\n    url: https://me:hunter2/x@lists.example/a.txt\n",
        "list of a URL",
    ),
    (
        Tool::Blocky,
        "config.yml",
        "blocking:\n  denylists:\n    ads:\n      - ftp://me:hunter2@lists.example/a.txt\n  clientGroupsBlock:\n    default: ads\n",
        "list of a URL",
    ),
    (
        Tool::Bind,
        "named.conf",
        "key \"tapis\" { algorithm hmac-sha256; secret \"hunter2\"; };\n",
        "key tapis",
    ),
    (
        Tool::Adguard,
        "AdGuardHome.yaml",
        "users:\n  - name: admin\n    password: hunter2\ndns:\n  upstream_dns:\n    - https://me:hunter2/x@dns.example/hunter2\n",
        "dns.upstream_dns https://",
    ),
    (
        Tool::Adguard,
        "AdGuardHome.yaml",
        "user_rules: []\ndns:\n  fallback_dns:\n    - sdns://hunter2\n",
        "dns.fallback_dns sdns://",
    ),
    (
        Tool::Blocky,
        "config.yml",
        "hostsFile:\n  sources:\n    - https://me:hunter2@lists.example/hosts?key=hunter2\n",
        "hostsFile https://lists.example/hosts?...",
    ),
    (
        Tool::Blocky,
        "config.yml",
        "hostsFile:\n  sources:\n    - ftp://me:hunter2@lists.example/hosts\n",
        "hostsFile of a URL",
    ),
];

#[test]
fn passwords_are_neither_in_the_result_nor_in_what_is_reported() {
    for (tool, name, text, setting) in WITH_SECRETS {
        let imported = try_import(*tool, &[(name, text)]).expect("an import");
        let all = format!("{imported:?}");
        assert!(!all.contains("hunter2"), "{text}\n{all}");
        let found = left(&imported);
        assert!(
            found.iter().any(|(_, shown)| shown == setting),
            "{text}\n{found:?}"
        );
    }
}

#[test]
fn an_at_sign_in_the_path_of_a_url_is_no_password() {
    let url = "https://cdn.example/gh/owner/lists@latest/a.txt";
    let text = format!("filters:\n  - enabled: true\n    url: {url}\n    name: x\n");
    let imported = imported(Tool::Adguard, &[("AdGuardHome.yaml", &text)]);
    let lists = sections(&imported, "[[list]]");
    assert!(lists[0].contains(&format!("url = \"{url}\"")), "{lists:?}");
}
