//! Tests of `[[publish]]`.

use std::path::Path;

use super::{list, problems, valid};
use crate::config::publish::{Publish, PublishedSources, PublishedTimers};

/// A zone with these keys, which begin on line 3.
fn publish(keys: &str) -> String {
    format!("[[publish]]\nzone = \"policy.example\"\n{keys}\n")
}

const OPEN: &str = "allow-transfer = [\"192.0.2.0/24\"]\n";

fn published(keys: &str) -> Publish {
    let mut config = valid(&publish(keys));
    config.publish.remove(0)
}

#[test]
fn a_zone_needs_only_a_name_and_who_may_transfer_it() {
    let published = published(OPEN);
    assert_eq!(published.zone.to_string(), "policy.example");
    assert_eq!((&published.sources, &published.tsig), (&None, &None));
    assert_eq!(published.allow_transfer.map(|it| it.len()), Some(1));
    assert!(published.notify.is_empty());
    assert_eq!(published.name_server.to_string(), "localhost");
    let timers = PublishedTimers {
        refresh: 300,
        retry: 60,
        expire: 604_800,
        ttl: 60,
    };
    assert_eq!(published.timers, timers);
    assert_eq!(
        (published.history_changes, published.history_bytes),
        (100, 16 << 20)
    );
    assert_eq!(published.export, None);
    let no_zone = "1: [[publish]] has no `zone`: add zone = \"...\"";
    assert_eq!(problems("[[publish]]\n"), [no_zone]);
}

#[test]
fn a_zone_that_nobody_is_named_for_is_refused_unless_it_is_only_exported() {
    let closed = "2: [[publish]] has neither `allow-transfer` nor `tsig`, so no server may transfer the zone: add \
                  allow-transfer = [\"...\"] with the addresses of the secondaries, or tsig = { name = \"...\", \
                  secret-file = \"...\" }";
    assert_eq!(problems(&publish("")), [closed]);
    let exported = published("export = \"zones/policy\"");
    assert_eq!(
        exported.export.as_deref(),
        Some(Path::new("etc/zones/policy"))
    );
    assert_eq!(
        problems(&publish("allow-transfer = []")),
        ["3: allow-transfer is empty, must name at least one: add one or leave allow-transfer out"]
    );
}

#[test]
fn sources_are_lists_and_all_orders_and_exceptions() {
    let text = |sources: &str| list("") + &publish(&format!("{OPEN}sources = [{sources}]"));
    let lists = valid(&list("")).lists;
    let name = &lists[0].source.name;
    let config = valid(&text(&format!("\"{name}\", \"orders\"")));
    let expected = PublishedSources {
        lists: vec![name.clone()],
        orders: true,
        exceptions: false,
    };
    assert_eq!(config.publish[0].sources.as_ref(), Some(&expected));
    for (sources, problem) in [
        (
            "\"order\"",
            "sources holds \"order\", which is no source; did you mean \"orders\"?",
        ),
        (
            "\"nothing-like-it\"",
            "sources holds \"nothing-like-it\", which is no source; name a list, a feed, \"orders\" or \"exceptions\"",
        ),
        (
            "\"orders\", \"orders\"",
            "sources holds \"orders\", which is a duplicate: remove it",
        ),
        (
            "",
            "sources is empty, must name at least one: add one or leave sources out",
        ),
    ] {
        let found = problems(&text(sources));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].ends_with(&format!(": {problem}")), "{found:?}");
    }
    let named = list("").replace(&format!("\"{name}\""), "\"orders\"");
    let found = problems(&(named + &publish(&format!("{OPEN}sources = [\"orders\"]"))));
    assert!(
        found[0].ends_with("a list has this name, too: rename the list"),
        "{found:?}"
    );
}

#[test]
fn a_zone_or_a_file_cannot_be_published_twice() {
    let exported = publish("export = \"zone\"");
    let other = exported.replace("policy.example", "other.example");
    assert_eq!(
        problems(&(publish(OPEN) + &publish(OPEN))),
        [
            "5: zone is \"policy.example\", but the [[publish]] on line 1 has the same zone: remove one of the two"
        ]
    );
    assert_eq!(
        problems(&(exported + &other)),
        ["6: export is the same file as on line 3: name another file"]
    );
}

#[test]
fn values_out_of_bounds_are_reported() {
    for (keys, problem) in [
        ("refresh-secs = 0", "refresh-secs is 0, must be 1 to 86400"),
        (
            "retry-secs = 90000",
            "retry-secs is 90000, must be 1 to 86400",
        ),
        (
            "expire-secs = 59",
            "expire-secs is 59, must be 60 to 31536000",
        ),
        (
            "expire-secs = 300",
            "expire-secs is 300, must be over refresh-secs, which is 300: raise the one or lower the other",
        ),
        ("ttl-secs = -1", "ttl-secs is -1, must be 0 to 86400"),
        (
            "history-changes = 10001",
            "history-changes is 10001, must be 0 to 10000",
        ),
        ("history-mib = 0", "history-mib is 0, must be 1 to 1024"),
        (
            "notify = [\"fe80::1%eth0\"]",
            "notify holds \"fe80::1%eth0\", which is link-local: write a global address of the server",
        ),
        (
            "notify = [\"192.0.2.1\", \"192.0.2.1:53\"]",
            "notify holds \"192.0.2.1:53\", which is a duplicate: remove it",
        ),
        (
            "zones = 1",
            "unknown key `zones` in [[publish]]; did you mean `zone`?",
        ),
    ] {
        let found = problems(&publish(&format!("{keys}\n{OPEN}")));
        assert_eq!(found, [format!("3: {problem}")]);
    }
    let root = publish(OPEN).replace("policy.example", ".");
    assert_eq!(
        problems(&root),
        [
            "2: zone is the root, which can't be a policy zone: write another name, as in \"rpz.example\""
        ]
    );
}

#[test]
fn a_zone_that_strangers_can_read_and_a_weak_key_are_warned_of() {
    let everybody = published("allow-transfer = [\"::/0\"]").warnings();
    assert!(
        everybody[0].contains("strangers can read the policy"),
        "{everybody:?}"
    );
    let tsig = "tsig = { name = \"key\", secret-file = \"key\", algorithm = \"hmac-sha1\" }";
    let weak = published(tsig).warnings();
    assert!(weak[0].ends_with("agree on hmac-sha256 with the operators of the secondaries"));
    assert!(
        weak[1].contains("any address may connect"),
        "without allow-transfer: {weak:?}"
    );
    let signed = published(&format!(
        "allow-transfer = [\"::/0\"]\n{}",
        tsig.replace("sha1", "sha256")
    ));
    assert!(signed.warnings().is_empty());
}

#[test]
fn servers_that_are_notified_but_may_not_transfer_the_zone_are_warned_of() {
    let notify = "notify = [\"192.0.2.53\"]\n";
    let vain = published(&format!("{notify}export = \"file\"")).warnings();
    assert!(vain[0].contains("notify has no use"), "{vain:?}");
    let open = published(&format!("{notify}allow-transfer = [\"192.0.2.53\"]"));
    assert!(open.warnings().is_empty());
}
