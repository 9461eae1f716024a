//! The settings that answers depend on, as the journal records them; and a configuration made from recorded settings.
//!
//! A setting has its key in the configuration's file, if it has one there. Settings that lists inherit from `[block]` are
//! recorded with each list.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::download_settings;
use super::entry::{ListEntry, Setting};
use super::unrecorded::{unrecorded, unrecorded_of_feed};
use crate::config::feed::Feed;
use crate::config::guard::Protections;
use crate::config::paths;
use crate::config::special_use::{Canary, SpecialUse};
use crate::config::zone::{PolicyZone, policy_with_word};
use crate::config::{Config, Content, Format, List};
use crate::policy::rpz::settings::ZoneSettings;
use crate::policy::rule::{Against, Blocking, Source};
use crate::wire::name::Name;

/// The value of `allow-scope` that is not the default. The default is not recorded, as older entries don't have the key.
const ALL_LISTS: &str = "all-lists";

/// Values by their keys. Pauses are among them, although no configuration has them.
pub type Settings = BTreeMap<String, Value>;

/// The settings that differ.
pub(crate) fn setting_changes(was: &Settings, now: &Settings) -> Vec<Setting> {
    let keys: BTreeSet<_> = was.keys().chain(now.keys()).collect();
    let differ = keys
        .into_iter()
        .filter(|key| was.get(*key) != now.get(*key));
    let setting = |key: &String| Setting {
        key: key.clone(),
        was: was.get(key).cloned(),
        now: now.get(key).cloned(),
    };
    differ.map(setting).collect()
}

/// The settings of a configuration with these lists in force.
pub fn settings<'l>(config: &Config, lists: impl Iterator<Item = &'l List>) -> Settings {
    let mut settings = Settings::new();
    let mut set = |key: &str, value: Value| {
        settings.insert(key.to_owned(), value);
    };
    set("server.allow", texts(&config.server.allow));
    for (key, text) in [
        ("server.version", &config.server.version),
        ("server.id", &config.server.id),
    ] {
        if let Some(text) = text {
            set(key, value(text));
        }
    }
    let special_use = &config.local.special_use;
    set("special-use.forward", texts(&special_use.forward));
    let canary = match special_use.use_application_dns {
        Canary::Nxdomain => "nxdomain",
        Canary::Forward => "forward",
    };
    set("special-use.use-application-dns", value(canary));
    if let Some(servers) = &config.upstream.servers {
        let servers = servers.iter().map(ToString::to_string);
        let named = config.upstream.named.iter().map(ToString::to_string);
        set(
            "upstream.servers",
            value(servers.chain(named).collect::<Vec<_>>()),
        );
    }
    let cache = &config.cache;
    set("cache.min-ttl-secs", value(cache.min_ttl_secs));
    set("cache.max-ttl-secs", value(cache.max_ttl_secs));
    set(
        "cache.max-negative-ttl-secs",
        value(cache.max_negative_ttl_secs),
    );
    set("cache.stale-secs", value(cache.stale_secs));
    set("cache.additional", value(cache.additional));
    set("orders.language", value(&config.orders.language));
    blocking("orders", &config.orders.blocking, &mut set);
    let mut order = Vec::new();
    for list in lists {
        let source = &list.source;
        let start = format!("{}.{}", paths::section(&list.source.path), source.name);
        if !list.is_feed() {
            set(&format!("{start}.path"), value(paths::place(list)));
            set(&format!("{start}.kind"), value(source.kind));
            set(&format!("{start}.format"), value(list.format));
            set(&format!("{start}.comments"), value(list.comments));
            set(&format!("{start}.scope"), value(list.scope));
            if let Some(column) = &list.column {
                set(&format!("{start}.column"), value(column));
            }
            if source.allows_across {
                set(&format!("{start}.allow-scope"), value(ALL_LISTS));
            }
        }
        if let Some(download) = &list.download {
            download_settings::of_list(&start, download, &mut set);
        }
        match &list.zone {
            Some(zone) => {
                policy_zone(&start, zone, &mut set);
                set(&format!("{start}.ede"), value(source.blocking.ede));
            }
            None => blocking(&start, &source.blocking, &mut set),
        }
        set(&format!("{start}.text"), value(&source.blocking.extra_text));
        order.push(source.name.clone());
    }
    set("lists", value(order));
    download_settings::of_section(&config.downloads, &mut set);
    settings
}

fn blocking(start: &str, blocking: &Blocking, set: &mut impl FnMut(&str, Value)) {
    let v4 = blocking.sinkhole_v4.iter().map(ToString::to_string);
    let v6 = blocking.sinkhole_v6.iter().map(ToString::to_string);
    let sinkhole: Vec<_> = v4.chain(v6).collect();
    set(&format!("{start}.action"), value(blocking.action));
    set(&format!("{start}.sinkhole"), value(sinkhole));
    set(&format!("{start}.ttl-secs"), value(blocking.ttl_secs));
    set(&format!("{start}.ede"), value(blocking.ede));
}

fn policy_zone(start: &str, zone: &PolicyZone, set: &mut impl FnMut(&str, Value)) {
    if let Some(apex) = &zone.apex {
        set(&format!("{start}.zone"), value(apex.to_string()));
    }
    let of_rules = &zone.settings;
    set(&format!("{start}.policy"), value(of_rules.policy.word()));
    if let Some(target) = of_rules.policy.target() {
        set(&format!("{start}.cname"), value(target.to_string()));
    }
    set(
        &format!("{start}.max-policy-ttl-secs"),
        value(of_rules.max_ttl_secs),
    );
    set(
        &format!("{start}.break-dnssec"),
        value(of_rules.break_dnssec),
    );
    set(&format!("{start}.soa"), value(zone.soa));
}

fn value(value: impl Serialize) -> Value {
    serde_json::to_value(value).expect("texts, numbers and words have a JSON form")
}

fn texts(values: &[impl ToString]) -> Value {
    value(values.iter().map(ToString::to_string).collect::<Vec<_>>())
}

/// The name of a feed that is removed, and has the zone of this new one: names identify feeds, so the rules of the other are
/// dropped.
fn same_zone<'c>(was: &'c Config, now: &Config, name: &str) -> Option<&'c str> {
    let new = now.feeds.iter().find(|feed| feed.name == name)?;
    let is_gone = |old: &&Feed| now.feeds.iter().all(|feed| feed.name != old.name);
    let mut gone = was.feeds.iter().filter(is_gone);
    gone.find(|old| old.zone == new.zone)
        .map(|old| old.name.as_str())
}

/// The differences between two configurations, as texts: keys, new lists, removed lists, lists in another sequence.
pub(crate) fn changed(was: &Config, now: &Config) -> Vec<String> {
    let of = |config: &Config| settings(config, config.lists.iter());
    let keys: Vec<_> = setting_changes(&of(was), &of(now))
        .into_iter()
        .map(|setting| setting.key)
        .collect();
    let is_of_lists =
        |key: &&String| key.starts_with("list.") || key.starts_with("feed.") || *key == "lists";
    let mut changed: Vec<_> = keys
        .iter()
        .filter(|key| !is_of_lists(key))
        .cloned()
        .collect();
    for list in &now.lists {
        let name = label(list);
        match same(was, list) {
            None => changed.push(match same_zone(was, now, &list.source.name) {
                Some(old) => format!(
                    "{name} (new; no rules until it is transferred, although feed {old} had this zone)"
                ),
                None => format!("{name} (new)"),
            }),
            Some(before) if before != list => {
                let start = format!(
                    "{}.{}.",
                    paths::section(&list.source.path),
                    list.source.name
                );
                changed.extend(keys.iter().filter(|key| key.starts_with(&start)).cloned());
                let unrecorded = [
                    ("required", before.required != list.required),
                    ("guards", before.warn != list.warn),
                ];
                let differing = unrecorded.into_iter().filter(|(_, differs)| *differs);
                let downloads = [&before.download, &list.download].map(Option::as_deref);
                let urls = download_settings::differing_urls(downloads[0], downloads[1]);
                let differing = differing.map(|(key, _)| key).chain(urls);
                for key in differing.map(|key| format!("{start}{key}")) {
                    if !changed.contains(&key) {
                        changed.push(key);
                    }
                }
            }
            Some(_) => {}
        }
    }
    for feed in &now.feeds {
        let mut before = was.feeds.iter();
        if let Some(before) = before.find(|before| before.name == feed.name) {
            let keys = unrecorded_of_feed(before, feed);
            changed.extend(keys.map(|key| format!("feed.{}.{key}", feed.name)));
            if before.zone != feed.zone {
                let key = format!("feed.{}.zone", feed.name);
                let keys = changed.iter_mut().filter(|known| **known == key);
                keys.for_each(|key| key.push_str(" (no rules until it is transferred)"));
            }
        }
    }
    let gone = was.lists.iter().filter(|list| same(now, list).is_none());
    changed.extend(gone.map(|list| format!("{} (gone)", label(list))));
    let order = |config: &Config, other: &Config| {
        let both = config.lists.iter();
        let both = both.filter(|list| same(other, list).is_some());
        both.map(label).collect::<Vec<_>>()
    };
    if order(was, now) != order(now, was) {
        let what = match now.feeds.is_empty() {
            true => "lists",
            false => "lists and feeds",
        };
        changed.push(format!("{what} (their order)"));
    }
    for key in unrecorded(was, now) {
        // The journal records only the address of an upstream server.
        if !changed.iter().any(|known| known == key) {
            changed.push(key.to_owned());
        }
    }
    changed
}

/// A list or feed, as it is shown.
fn label(list: &List) -> String {
    format!("{} {}", paths::section(&list.source.path), list.source.name)
}

/// The list of the same name in another configuration; for a feed, the feed.
fn same<'c>(config: &'c Config, list: &List) -> Option<&'c List> {
    let mut lists = config.lists.iter();
    lists.find(|other| other.source.name == list.source.name && other.is_feed() == list.is_feed())
}

/// The configuration `today` with the recorded settings. Settings that are not recorded stay as they are today.
pub fn configured(today: &Config, settings: &Settings) -> Config {
    let mut config = today.clone();
    if settings.is_empty() {
        return config;
    }
    if let Some(allow) = get::<Vec<String>>(settings, "server.allow") {
        config.server.allow = allow.iter().filter_map(|net| net.parse().ok()).collect();
    }
    config.server.version = get(settings, "server.version");
    config.server.id = get(settings, "server.id");
    special_use_of(settings, &mut config.local.special_use);
    if let Some(language) = get(settings, "orders.language") {
        config.orders.language = language;
    }
    blocking_of("orders", settings, &mut config.orders.blocking);
    config
}

fn special_use_of(settings: &Settings, special_use: &mut SpecialUse) {
    // Earlier versions had these keys in the section `[local]`.
    fn recorded<T: DeserializeOwned>(settings: &Settings, key: &str) -> Option<T> {
        let value = |section: &str| get(settings, &format!("{section}.{key}"));
        value("special-use").or_else(|| value("local"))
    }
    if let Some(zones) = recorded::<Vec<String>>(settings, "forward") {
        let zones = zones.iter().filter_map(|zone| Name::from_text(zone).ok());
        special_use.forward = zones.collect();
    }
    let canary = recorded::<String>(settings, "use-application-dns");
    special_use.use_application_dns = match canary.as_deref() {
        Some("forward") => Canary::Forward,
        _ => Canary::Nxdomain,
    };
}

/// The list of an entry, with the recorded settings. `today` is the list of that name in today's configuration, which is
/// used for fields that older entries don't have.
pub fn list(entry: &ListEntry, settings: &Settings, today: Option<&List>) -> List {
    let start = format!("{}.{}", paths::section(&entry.path), entry.name);
    let mut blocking = match today {
        Some(today) => today.source.blocking.clone(),
        None => Blocking {
            extra_text: entry.name.clone(),
            ..Blocking::none()
        },
    };
    blocking.action = entry.action;
    blocking_of(&start, settings, &mut blocking);
    if let Some(text) = get(settings, &format!("{start}.text")) {
        blocking.extra_text = text;
    }
    let embedded = today.filter(|today| matches!(today.content, Content::Embedded(_)));
    let content = match paths::is_of_feed(&entry.path) {
        true => Content::Transferred,
        false => embedded.map_or(Content::File, |today| today.content),
    };
    let format = entry.format.or(today.map(|today| today.format));
    let format = format.unwrap_or(Format::Domains);
    let zone = (format == Format::Rpz).then(|| {
        let today = today.and_then(|today| today.zone.clone());
        policy_zone_of(&start, settings, today.unwrap_or_default())
    });
    if let Some(zone) = &zone {
        blocking = zone.blocking(blocking);
    }
    let allow_scope: Option<String> = get(settings, &format!("{start}.allow-scope"));
    List {
        format,
        comments: entry.comments,
        scope: entry.scope,
        column: entry.column.clone(),
        required: false,
        warn: today.map_or(Protections::NONE, |today| today.warn),
        download: None,
        content,
        source: Source {
            name: entry.name.clone(),
            path: entry.path.clone(),
            kind: entry.kind,
            blocking,
            against: Against::All,
            allows_across: allow_scope.as_deref() == Some(ALL_LISTS),
            zone: zone.as_ref().map(PolicyZone::of_source),
            paused: false,
        },
        zone,
    }
}

fn blocking_of(start: &str, settings: &Settings, blocking: &mut Blocking) {
    if let Some(action) = get(settings, &format!("{start}.action")) {
        blocking.action = action;
    }
    if let Some(ttl_secs) = get(settings, &format!("{start}.ttl-secs")) {
        blocking.ttl_secs = ttl_secs;
    }
    if let Some(ede) = get(settings, &format!("{start}.ede")) {
        blocking.ede = ede;
    }
    if let Some(sinkhole) = get::<Vec<IpAddr>>(settings, &format!("{start}.sinkhole")) {
        let v4 = sinkhole.iter().filter_map(|ip| match ip {
            IpAddr::V4(ip) => Some(*ip),
            IpAddr::V6(_) => None,
        });
        let v6 = sinkhole.iter().filter_map(|ip| match ip {
            IpAddr::V6(ip) => Some(*ip),
            IpAddr::V4(_) => None,
        });
        blocking.sinkhole_v4 = v4.collect::<Vec<Ipv4Addr>>();
        blocking.sinkhole_v6 = v6.collect::<Vec<Ipv6Addr>>();
    }
}

/// The recorded settings of a policy zone. Settings that are not recorded are those of `today`.
fn policy_zone_of(start: &str, settings: &Settings, today: PolicyZone) -> PolicyZone {
    let key = |key: &str| format!("{start}.{key}");
    let name = |key: &str| Name::from_text(&get::<String>(settings, key)?).ok();
    let Some(word) = get::<String>(settings, &key("policy")) else {
        return today;
    };
    let of_today = today.settings;
    PolicyZone {
        apex: name(&key("zone")),
        settings: ZoneSettings {
            policy: policy_with_word(&word, name(&key("cname"))).unwrap_or(of_today.policy),
            max_ttl_secs: get(settings, &key("max-policy-ttl-secs"))
                .unwrap_or(of_today.max_ttl_secs),
            break_dnssec: get(settings, &key("break-dnssec")).unwrap_or(of_today.break_dnssec),
        },
        soa: get(settings, &key("soa")).unwrap_or(today.soa),
    }
}

fn get<T: DeserializeOwned>(settings: &Settings, key: &str) -> Option<T> {
    T::deserialize(settings.get(key)?).ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const CONFIG: &str = r#"
[server]
allow = ["192.0.2.0/24"]
id = "one"
[special-use]
forward = ["home.arpa"]
use-application-dns = "forward"
[block]
action = "nodata"
sinkhole = ["192.0.2.1", "2001:db8::1"]
ttl-secs = 30
ede = "filtered"
[orders]
language = "id"
[[list]]
name = "ads"
path = "/ads"
format = "hosts"
action = "sinkhole"
text = "Ask us"
[[list]]
name = "good"
path = "/good"
kind = "allow"
[[list]]
name = "local"
path = "/local.zone"
format = "rpz"
zone = "local.example"
policy = "cname"
cname = "*.garden.example"
max-policy-ttl-secs = 77
break-dnssec = false
soa = false
[[feed]]
zone = "rpz.example"
primaries = ["192.0.2.1"]
policy = "tcp-only"
"#;

    fn config(text: &str) -> Config {
        Config::parse(text, Path::new("/tapis.toml")).expect("valid")
    }

    fn entry(list: &List) -> ListEntry {
        ListEntry {
            name: list.source.name.clone(),
            path: list.source.path.clone(),
            kind: list.source.kind,
            format: Some(list.format),
            comments: list.comments,
            scope: list.scope,
            column: list.column.clone(),
            action: list.source.blocking.action,
            digest: String::new(),
            rules: 0,
            bad: 0,
            left_out: 0,
            content: None,
        }
    }

    #[test]
    fn a_configuration_comes_back_from_its_settings() {
        let recorded_config = config(CONFIG);
        let recorded = settings(&recorded_config, recorded_config.lists.iter());
        let today = config("");
        let back = configured(&today, &recorded);
        assert_eq!(back.server.allow, recorded_config.server.allow);
        assert_eq!(back.server.id, recorded_config.server.id);
        assert_eq!(back.server.version, recorded_config.server.version);
        assert_eq!(back.local, recorded_config.local);
        assert_eq!(back.orders.language, recorded_config.orders.language);
        assert_eq!(back.orders.blocking, recorded_config.orders.blocking);
        for list in &recorded_config.lists {
            assert_eq!(super::list(&entry(list), &recorded, None), *list);
        }
        assert_eq!(
            settings(&back, recorded_config.lists.iter()).get("orders.sinkhole"),
            recorded.get("orders.sinkhole")
        );
    }

    #[test]
    fn a_change_is_named_by_its_keys_its_lists_or_its_section() {
        let was = config(CONFIG);
        let reported = |from: &str, to: &str| {
            assert!(CONFIG.contains(from), "{from}");
            changed(&was, &config(&CONFIG.replace(from, to)))
        };
        assert_eq!(reported("id = \"one\"", "id = \"two\""), ["server.id"]);
        assert_eq!(
            reported("ttl-secs = 30", "ttl-secs = 31"),
            ["orders.ttl-secs", "list.ads.ttl-secs", "list.good.ttl-secs"]
        );
        assert_eq!(
            reported("text = \"Ask us\"", "guards = \"warn\"\ntext = \"Ask us\""),
            ["list.ads.guards"]
        );
        assert_eq!(
            reported(
                "text = \"Ask us\"",
                "guards = \"warn\"\nrequired = true\ntext = \"Us\""
            ),
            ["list.ads.text", "list.ads.required", "list.ads.guards"]
        );
        for (from, to, key) in [
            (
                "zone = \"local.example\"",
                "zone = \"other.example\"",
                "list.local.zone",
            ),
            ("*.garden.", "*.other.", "list.local.cname"),
            (
                "break-dnssec = false",
                "break-dnssec = true",
                "list.local.break-dnssec",
            ),
            ("soa = false", "soa = true", "list.local.soa"),
        ] {
            assert_eq!(reported(from, to), [key]);
        }
        assert_eq!(
            reported("policy = \"tcp-only\"", "policy = \"drop\""),
            ["feed.rpz.example.policy"]
        );
        assert_eq!(
            reported(
                "policy = \"tcp-only\"",
                "policy = \"tcp-only\"\nmax-policy-ttl-secs = 6\nmax-age-hours = 1\nmax-records = 2\n\
                 max-transfer-mib = 3\nmax-transfer-secs = 4\nrefresh-secs = 5\nretry-secs = 6\nexpire-secs = 70\n\
                 notify-from = []\ntsig = { name = \"k\", secret-file = \"k\" }"
            ),
            [
                "max-policy-ttl-secs",
                "tsig",
                "notify-from",
                "max-age-hours",
                "max-records",
                "max-transfer-mib",
                "max-transfer-secs",
                "refresh-secs",
                "retry-secs",
                "expire-secs"
            ]
            .map(|key| format!("feed.rpz.example.{key}"))
        );
        assert_eq!(
            reported(
                "[[feed]]\nzone = \"rpz.example\"",
                "[[feed]]\nname = \"rpz.example\"\nzone = \"new.example\""
            ),
            ["feed.rpz.example.zone (no rules until it is transferred)"]
        );
        assert_eq!(
            reported("primaries = [\"192.0.2.1\"]", "primaries = [\"192.0.2.2\"]"),
            ["primaries", "notify-from"].map(|key| format!("feed.rpz.example.{key}"))
        );
        assert_eq!(
            reported(
                "[[feed]]\nzone = \"rpz.example\"",
                "[[feed]]\nzone = \"new.example\""
            ),
            ["feed new.example (new)", "feed rpz.example (gone)"]
        );
        assert_eq!(
            reported(
                "[[feed]]\nzone = \"rpz.example\"",
                "[[feed]]\nname = \"other\"\nzone = \"rpz.example\""
            ),
            [
                "feed other (new; no rules until it is transferred, although feed rpz.example had this zone)",
                "feed rpz.example (gone)"
            ]
        );
        assert_eq!(
            reported("[special-use]", "[cache]\nmax-ttl-secs = 9\n[special-use]"),
            ["cache.max-ttl-secs"]
        );
        assert_eq!(
            reported(
                "[special-use]",
                "[upstream]\ntimeout-ms = 900\n[special-use]"
            ),
            ["upstream.timeout-ms"]
        );
        assert_eq!(
            reported("id = \"one\"", "id = \"two\"\ntcp-idle-secs = 7"),
            ["server.id", "server.tcp-idle-secs"]
        );
        assert_eq!(
            reported(
                "[special-use]",
                "[guard]\nshrink-percent = 9\n[special-use]"
            ),
            ["guard.shrink-percent"]
        );
        // The first downloaded list changes no other setting.
        let downloads =
            "[state]\ndir = \"/s\"\n[download]\nstall-secs = 9\nallow-private = [\"10.0.0.0/8\"]\n";
        let downloaded = "[[list]]\nname = \"new\"\nurl = \"https://lists.example/\"\n";
        let (before, after) = (
            format!("{CONFIG}{downloads}"),
            format!("{CONFIG}{downloads}{downloaded}"),
        );
        assert_eq!(
            changed(&config(&before), &config(&after)),
            ["list new (new)"]
        );
        assert_eq!(
            changed(&was, &config(&before)),
            ["download.allow-private", "download.stall-secs", "state.dir"]
        );
        // If several keys of a section differ, each of them is reported.
        assert_eq!(
            reported(
                "[orders]\n",
                "[state]\ndir = \"s\"\nkeep = 2\nhistory-days = 3\nhistory-mib = 4\ncompile-secs = 77\n\
                 [journal]\npath = \"j\"\nkey = \"k\"\n[exceptions]\npath = \"e\"\n\
                 [guard]\nshrink-percent = 9\ngrow-percent = 8\nmax-age-hours = 7\nbad-percent = 6\n\
                 public-suffixes = \"all\"\nprotect = \"p\"\npopular = \"top\"\npopular-first = 5\n\
                 release = [\"zip\"]\n[orders]\npath = \"o\"\n"
            ),
            [
                "state.dir",
                "state.keep",
                "state.history-days",
                "state.history-mib",
                "state.compile-secs",
                "journal.path",
                "journal.key",
                "guard.shrink-percent",
                "guard.grow-percent",
                "guard.max-age-hours",
                "guard.bad-percent",
                "guard.public-suffixes",
                "guard.protect",
                "guard.popular",
                "guard.popular-first",
                "guard.release",
                "orders.path",
                "exceptions.path"
            ]
        );
        assert_eq!(
            reported("[orders]\n", "[state]\ndir = \"s\"\n[orders]\n"),
            ["state.dir"],
            "the journal is in it by default"
        );
        let servers =
            |servers: &str| config(&format!("[upstream]\nwaiting-per-client = 9\n{servers}"));
        let plain = servers("servers = [\"192.0.2.1\"]\n");
        for (other, keys) in [
            (
                "servers = [\"192.0.2.1\"]\nwaiting = 99",
                &["upstream.waiting"][..],
            ),
            (
                "waiting = 99\nservers = [{ address = \"192.0.2.1\", edns = false }]",
                &["upstream.servers", "upstream.waiting"],
            ),
            ("servers = [\"192.0.2.2\"]", &["upstream.servers"]),
            (
                "servers = [\"192.0.2.1\"]\ndiscover = true\nstrategy = \"strict\"\nparallel-servers = 3\n\
                 on-upstream-block = \"next\"\nlanding-addresses = []",
                &[
                    "upstream.discover",
                    "upstream.strategy",
                    "upstream.parallel-servers",
                    "upstream.on-upstream-block",
                    "upstream.landing-addresses",
                ],
            ),
        ] {
            assert_eq!(changed(&plain, &servers(other)), keys);
        }
        assert_eq!(
            reported("name = \"good\"", "name = \"fine\""),
            ["list fine (new)", "list good (gone)"]
        );
        let exception = "[[exception]]\nname = \"a.example\"\nscope = \"exact\"\nagainst = [\"all\"]\n\
                         reason = \"r\"\nauthor = \"a\"\n";
        let excepting = |before: &str| config(&format!("{CONFIG}{before}{exception}"));
        assert_eq!(
            changed(&excepting(""), &excepting("\n# A comment.\n")),
            [""; 0]
        );
        assert_eq!(changed(&was, &excepting("")), ["[[exception]]"]);
        let (head, lists) = CONFIG.split_once("[[list]]").expect("lists");
        let (ads, others) = lists.split_once("[[list]]").expect("more");
        let (good, others) = others.split_once("[[list]]").expect("more");
        let swapped = config(&format!(
            "{head}[[list]]{good}[[list]]{ads}[[list]]{others}"
        ));
        assert_eq!(changed(&was, &swapped), ["lists and feeds (their order)"]);
        assert_eq!(changed(&was, &was), [""; 0]);
    }

    #[test]
    fn without_recorded_settings_todays_are_used() {
        let today = config(CONFIG);
        assert_eq!(configured(&today, &Settings::new()), today);
        let ads = &today.lists[0];
        let back = list(&entry(ads), &Settings::new(), Some(ads));
        assert_eq!(back, *ads);
        let zone = &today.lists[2];
        let back = list(&entry(zone), &Settings::new(), Some(zone));
        assert_eq!(back, *zone);
    }
}
