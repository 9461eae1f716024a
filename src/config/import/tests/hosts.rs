use super::{file, imported, left, sections};
use crate::config::import::Tool;

const MAIN: (&str, &str) = (
    "dnsmasq.conf",
    "no-resolv\nno-hosts\nserver=9.9.9.9\naddn-hosts=ads.hosts\naddn-hosts=ads.hosts\n",
);

/// A file that gives so many names an address.
fn hosts(address: &str, count: usize) -> String {
    let lines = (0..count).map(|at| format!("{address} ad{at}.example\n"));
    "127.0.0.1 localhost\n::1 ip6-localhost\n".to_owned() + &lines.collect::<String>()
}

#[test]
fn many_names_with_the_address_of_the_machine_are_a_list_that_is_read_in_place() {
    let text = hosts("127.0.0.1", 20_000);
    let imported = imported(Tool::Dnsmasq, &[MAIN, ("ads.hosts", &text)]);
    assert_eq!(
        sections(&imported, "[[list]]"),
        [
            r#"name = "ads"; path = "ads.hosts"; format = "hosts"; action = "sinkhole"; sinkhole = ["127.0.0.1", "::1"]"#
        ]
    );
    // Only the names of the machine itself are left.
    assert_eq!(
        sections(&imported, "[[local]]").len(),
        4,
        "{}",
        imported.config
    );
}

#[test]
fn a_few_names_of_the_machine_are_local_names() {
    let text = hosts("127.0.0.1", 19);
    let imported = imported(Tool::Dnsmasq, &[MAIN, ("ads.hosts", &text)]);
    assert!(sections(&imported, "[[list]]").is_empty());
    assert_eq!(sections(&imported, "[[local]]").len(), 19 + 4);
}

#[test]
fn real_addresses_between_blocked_names_become_local_names() {
    for address in ["127.0.0.1", "0.0.0.0"] {
        let text = hosts(address, 30) + "192.168.1.5 nas.lan\n";
        let imported = imported(Tool::Dnsmasq, &[MAIN, ("ads.hosts", &text)]);
        let locals = sections(&imported, "[[local]]");
        let nas = r#"name = "nas.lan"; a = ["192.168.1.5"]"#.to_owned();
        assert!(locals.contains(&nas), "{locals:?}");
        let list = file(&imported, "ads.hosts");
        assert_eq!(list.lines().count(), 30, "{list}");
        assert!(!list.contains("nas.lan"));
        assert_eq!(sections(&imported, "[[list]]").len(), 1);
    }
}

#[test]
fn a_file_of_many_local_names_is_read_in_linear_time() {
    let lines = (0..20_000_u32).map(|at| {
        let [_, a, b, c] = at.to_be_bytes();
        format!("10.{a}.{b}.{c} host{at}.example\n")
    });
    let text: String = lines.collect();
    let imported = imported(Tool::Dnsmasq, &[MAIN, ("ads.hosts", &text)]);
    assert_eq!(imported.config.matches("[[local]]").count(), 40_000);
}

#[test]
fn a_file_in_a_directory_that_can_not_be_read_is_reported() {
    let folder = tempfile::TempDir::new().expect("a directory");
    let hosts = folder.path().join("hosts");
    std::fs::create_dir(&hosts).expect("a directory");
    std::os::unix::fs::symlink("gone", hosts.join("a")).expect("a link");
    std::fs::write(hosts.join("b"), "192.168.1.5 nas.lan\n").expect("a file");
    let main = folder.path().join("dnsmasq.conf");
    std::fs::write(
        &main,
        "no-resolv\nno-hosts\nserver=9.9.9.9\naddn-hosts=hosts\n",
    )
    .expect("a file");
    let imported = super::import(Tool::Dnsmasq, &main).expect("an import");
    assert!(imported.config.contains("name = \"nas.lan\""));
    let found = left(&imported);
    let is_link = |(line, setting): &(u32, &str)| *line == 4 && setting.ends_with("hosts/a");
    assert!(found.iter().any(is_link), "{found:?}");
}
