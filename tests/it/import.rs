//! `tapis import`: what it prints and writes, and that the result gives the answers of the program whose configuration it was:
//! of the program itself where Debian has it, and else of a model of its documentation.

mod adguard;
mod bind;
mod blocky;
mod compared;
mod dnscrypt;
mod dnsmasq;
mod pihole;
mod truth;
mod unbound;

use std::fs;
use std::path::Path;
use std::process::Output;

use crate::support::server::{folder, tapis};

const DNSMASQ: &str =
    "no-resolv\nno-hosts\nserver=9.9.9.9\naddress=/ads.example/#\ndhcp-range=192.0.2.5,192.0.2.9\n";

fn import(arguments: &[&str], folder: &Path) -> Output {
    let mut command = tapis();
    let command = command.current_dir(folder).arg("import");
    command.args(arguments).output().expect("it ran")
}

fn printed(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_configuration_and_its_lists_are_written_once_and_what_is_left_is_printed() {
    let folder = folder("", &[("dnsmasq.conf", DNSMASQ)]);
    let output = import(
        &["dnsmasq", "dnsmasq.conf", "--output", "new"],
        folder.path(),
    );
    let errors = printed(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert_eq!(printed(&output.stdout), "new/tapis.toml\n");
    assert!(errors.contains("dnsmasq.conf:5: dhcp-range: "), "{errors}");
    assert!(
        errors.ends_with("tapis: 2 settings did not carry over\n"),
        "{errors}"
    );
    let rules = fs::read_to_string(folder.path().join("new/dnsmasq-rules.conf"));
    assert_eq!(rules.expect("a list"), "address=/ads.example/#\n");
    let mut check = tapis();
    let check = check.current_dir(folder.path()).args([
        "check",
        "--files-only",
        "--config",
        "new/tapis.toml",
    ]);
    let check = check.output().expect("it ran");
    assert!(
        check.status.success(),
        "{}{}",
        printed(&check.stdout),
        printed(&check.stderr)
    );
    let again = import(
        &["dnsmasq", "dnsmasq.conf", "--output", "new"],
        folder.path(),
    );
    let errors = printed(&again.stderr);
    assert!(
        errors.contains("exists: name another directory"),
        "{errors}"
    );
}

#[test]
fn everything_that_carries_over_is_printed_with_exit_code_0() {
    let text = "server:\n  access-control: 10.0.0.0/8 allow\nforward-zone:\n  name: \".\"\n  forward-addr: 9.9.9.9\n";
    let folder = folder("", &[("unbound.conf", text)]);
    let output = import(&["unbound", "unbound.conf"], folder.path());
    assert_eq!(output.status.code(), Some(0), "{}", printed(&output.stderr));
    let config = printed(&output.stdout);
    assert!(
        config.contains("# unbound.conf:5\nservers = [\"9.9.9.9\"]\n"),
        "{config}"
    );
    assert!(output.stderr.is_empty(), "{}", printed(&output.stderr));
}

#[test]
fn lists_that_are_not_written_are_named() {
    let folder = folder("", &[("dnsmasq.conf", DNSMASQ)]);
    let output = import(&["dnsmasq", "."], folder.path());
    assert_eq!(output.status.code(), Some(1));
    let errors = printed(&output.stderr);
    assert!(
        errors.contains("--output DIR writes: dnsmasq-rules.conf"),
        "{errors}"
    );
    let output = import(&["bind", "dnsmasq.conf"], folder.path());
    let errors = printed(&output.stderr);
    assert!(
        errors.contains("use `tapis import dnsmasq FILE`"),
        "{errors}"
    );
    let output = import(&["maradns", "dnsmasq.conf"], folder.path());
    assert_eq!(output.status.code(), Some(2), "{}", printed(&output.stderr));
}

#[test]
fn a_zone_file_that_can_not_be_used_is_reported() {
    let text = "zone \"lan\" { type primary; file \"db.lan\"; };\n";
    let zone = "@ 300 IN SOA ns.lan. root.lan. 1 2 3 4 5\nbad..name 300 IN A 192.0.2.1\n";
    let folder = folder("", &[("named.conf", text), ("db.lan", zone)]);
    for arguments in [&["bind", "."][..], &["bind", ".", "--output", "new"]] {
        let output = import(arguments, folder.path());
        let errors = printed(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains("db.lan:2: "), "{errors}");
        assert!(
            errors.contains("not valid until this is corrected"),
            "{errors}"
        );
    }
}

#[test]
fn values_that_only_the_other_program_accepts_leave_a_valid_configuration() {
    let text = "server_names = ['a']\nlisten_addresses = ['127.0.0.1:53', '0.0.0.0:53']\ncache_min_ttl = 2400\ncache_neg_max_ttl = 600\n[blocked_names]\nblocked_names_file = 'blocked.txt'\n";
    let files = [("dnscrypt-proxy.toml", text), ("blocked.txt", "ads.*\n")];
    let folder = folder("", &files);
    let output = import(&["dnscrypt-proxy", ".", "--output", "new"], folder.path());
    let errors = printed(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(!errors.contains("not valid"), "{errors}");
    let mut check = tapis();
    let arguments = ["check", "--files-only", "--config", "new/tapis.toml"];
    let check = check.current_dir(folder.path()).args(arguments);
    let check = check.output().expect("it ran");
    assert!(check.status.success(), "{}", printed(&check.stdout));
}

#[test]
fn lists_of_clients_that_multiply_are_given_up() {
    let mut text = "acl a0 { 192.0.2.0/24; };\n".to_owned();
    for number in 1..40 {
        let before = number - 1;
        text += &format!("acl a{number} {{ a{before}; !a{before}; a{before}; }};\n");
    }
    text += "options { allow-query { a15; }; };\n";
    let folder = folder("", &[("named.conf", &text)]);
    let output = import(&["bind", "named.conf"], folder.path());
    let errors = printed(&output.stderr);
    assert!(errors.contains("more than 10000 elements"), "{errors}");
}
