//! A fleet: a hidden primary that enforces all rules of its lists, and nodes that transfer its policy.

use std::fmt::Write;

use super::{TSIG, ZONE, change, config, directory, serial};
use crate::support::client::{is_blocked, until};
use crate::support::server::{Server, preamble, text};
use crate::support::upstream::Upstream;

/// The settings of docs/rpz.md for nodes.
const GUARD: &str = "shrink-percent = 100\ngrow-percent = 0\n";
const FEED: &str = "guards = \"warn\"\nede = \"censored\"\n";
/// Nodes and the primary protect the same names.
const PROTECTED: (&str, &str) = ("protect", "bank.example\n");

/// A hidden primary that enforces all rules of its list.
fn hidden_primary(upstream: &Upstream, names: &str) -> Server {
    let config = config(upstream, TSIG)
        .replace("[guard]\n", "[guard]\nprotect = \"protect\"\n")
        .replace(
            "scope = \"subtree\"",
            "scope = \"subtree\"\nguards = \"warn\"",
        );
    Server::start_in(directory(&config, &[("names", names), PROTECTED]))
}

/// A node of the fleet, with these keys in the sections `[guard]` and `[[feed]]`.
fn node(upstream: &Upstream, primary: &Server, guard: &str, feed: &str) -> Server {
    let (start, address) = (preamble(upstream.address), primary.address);
    let config = format!(
        "{start}[state]\ndir = \"state\"\n[guard]\nprotect = \"protect\"\n{guard}[[feed]]\nname = \"policy\"\nzone = \"{ZONE}\"\n\
         primaries = [\"{address}\"]\n{TSIG}{feed}"
    );
    Server::start_in(directory(&config, &[PROTECTED]))
}

/// A public suffix, a protected name, and this number of other names.
fn names(count: usize) -> String {
    let mut names = "co.id\nbank.example\n".to_owned();
    for number in 0..count {
        let _ = writeln!(names, "n{number}.example");
    }
    names
}

/// Lets the node ask its primary, and returns the output of the verb.
fn refresh(node: &Server) -> String {
    text(&node.verb(&["feed", "refresh", "policy"]))
}

/// Asserts that primary and node block the same names: the first `count` ones, and those that guards protect.
fn equal(primary: &Server, node: &Server, count: usize) {
    let serial = serial(primary);
    refresh(node);
    until("the version of the primary", || {
        node.status()["feeds"][0]["serial"] == serial
    });
    let number = |number: usize| format!("x.n{number}.example");
    for (name, expected) in [
        ("co.id".to_owned(), true),
        ("shop.co.id".to_owned(), true),
        ("bank.example".to_owned(), true),
        (number(0), true),
        (number(count - 1), true),
        (number(count), false),
        ("example".to_owned(), false),
        ("id".to_owned(), false),
    ] {
        for (server, which) in [(primary, "primary"), (node, "node")] {
            let found = is_blocked(server.address, &name);
            assert_eq!(found, expected, "{name} at the {which} with {count} names");
        }
    }
    node.assert_well();
}

#[test]
fn a_node_that_only_warns_blocks_what_its_primary_blocks_however_much_the_policy_changes() {
    let upstream = Upstream::plain();
    let primary = hidden_primary(&upstream, &names(200));
    let node = node(&upstream, &primary, GUARD, FEED);
    equal(&primary, &node, 200);
    for count in [20, 4000, 400] {
        change(&primary, &names(count));
        equal(&primary, &node, count);
    }
    let status = text(&node.verb(&["status"]));
    assert!(
        status.contains("WARNING"),
        "the rules are reported: {status}"
    );
}

#[test]
fn a_node_with_the_default_guards_leaves_out_rules_of_its_primary_and_holds_a_policy_that_shrank() {
    let upstream = Upstream::plain();
    let primary = hidden_primary(&upstream, &names(200));
    let node = node(&upstream, &primary, "", "");
    until("the policy", || is_blocked(node.address, "n199.example"));
    for name in ["shop.co.id", "bank.example"] {
        assert!(is_blocked(primary.address, name), "{name}");
        assert!(!is_blocked(node.address, name), "{name}");
    }
    let newest = change(&primary, &names(20));
    let held = refresh(&node);
    assert!(
        held.contains("tapis reload --accept policy:shrunk"),
        "{held}"
    );
    assert_eq!(node.status()["feeds"][0]["held"]["serial"], newest);
    assert!(is_blocked(node.address, "n199.example"));
}
