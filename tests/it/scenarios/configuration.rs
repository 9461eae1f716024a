//! The server's configuration from that of Unbound.

use std::net::{IpAddr, SocketAddr};

use hickory_proto::rr::Name;
use toml::{Table, Value, toml};

use super::parse::{Clause, Scenario};
use super::primary::Primary;
use super::records::{name, zone};

/// Options of Unbound's `server:` that have no meaning here: they say how it recurses, validates,
/// logs and orders records, and which clients it permits.
const UNUSED: [&str; 17] = [
    "access-control",
    "aggressive-nsec",
    "discard-timeout",
    "fake-sha1",
    "iter-scrub-promiscuous",
    "log-servfail",
    "minimal-responses",
    "module-config",
    "qname-minimisation",
    "rrset-roundrobin",
    "serve-expired",
    "serve-expired-client-timeout",
    "serve-expired-reply-ttl",
    "serve-expired-ttl",
    "target-fetch-policy",
    "trust-anchor-signaling",
    "local-zone",
];

/// The file of a scenario that is added to the configuration.
const OWN: &str = "tapis.toml";

/// The zones whose servers the recursive resolver behind the server knows.
pub(super) fn servers(scenario: &Scenario) -> Result<Vec<(Name, Vec<IpAddr>)>, String> {
    let is_server =
        |clause: &&Clause| ["stub-zone", "forward-zone"].contains(&clause.kind.as_str());
    let clauses = scenario.clauses.iter().filter(is_server);
    let servers = clauses.map(|clause| {
        let addresses = clause.all("stub-addr").chain(clause.all("forward-addr"));
        let addresses = addresses.map(address).collect::<Result<_, _>>()?;
        Ok((name(clause.one("name"))?, addresses))
    });
    servers.collect()
}

/// The primaries of the zones that are transferred.
pub(super) fn primaries(scenario: &Scenario) -> Result<Vec<Primary>, String> {
    let zones = scenario.clauses.iter().filter(|clause| is_feed(clause));
    let primaries = zones.map(|clause| {
        let addresses = clause.all("primary").chain(clause.all("master"));
        let addresses = addresses.map(address).collect::<Result<_, _>>()?;
        let apex = name(clause.one("name"))?;
        let file = clause.one("zonefile");
        let text = scenario.files.iter().find(|(name, _)| name == file);
        let records = zone(text.map_or("", |(_, text)| text), &apex)?;
        Primary::new(apex, addresses, records)
    });
    primaries.collect()
}

/// The configuration.
pub(super) fn configuration(scenario: &Scenario, upstream: SocketAddr) -> Result<String, String> {
    // Scenarios have rules on top-level domains.
    let mut config = toml! {
        [server]
        listen = ["127.0.0.1:0"]
        workers = 2
        control = "control.sock"
        [cache]
        stale-secs = 0
        [guard]
        public-suffixes = "none"
        bad-percent = 100
        shrink-percent = 100
        grow-percent = 0
    };
    let servers = Value::from(vec![upstream.to_string()]);
    config.insert("upstream".to_owned(), one("servers", servers));
    for clause in &scenario.clauses {
        match clause.kind.as_str() {
            "server" => merge(&mut config, server(clause)?),
            "rpz" => merge(&mut config, policy_zone(clause, upstream)?),
            _ => {}
        }
    }
    if let Some((_, own)) = scenario.files.iter().find(|(name, _)| name == OWN) {
        let own: Table = own.parse().map_err(|error| format!("{OWN}: {error}"))?;
        merge(&mut config, own);
    }
    Ok(config.to_string())
}

fn server(clause: &Clause) -> Result<Table, String> {
    for (key, _) in &clause.options {
        if !UNUSED.contains(&key.as_str()) {
            return Err(format!("unknown option of server: {key}"));
        }
    }
    let mut table = Table::new();
    let zones = clause.all("local-zone");
    let forwarded = zones.map(|zone| match zone.split_once(' ') {
        Some((zone, "nodefault")) => Ok(Value::from(zone.trim_end_matches('.'))),
        _ => Err(format!("unknown kind of local-zone: {zone}")),
    });
    let forwarded: Vec<Value> = forwarded.collect::<Result<_, _>>()?;
    table.insert("special-use".to_owned(), one("forward", forwarded.into()));
    if clause.one("serve-expired") == "yes" {
        let ttl = match clause.one("serve-expired-ttl") {
            "" => 86_400,
            ttl => ttl.parse::<i64>().map_err(|error| error.to_string())?,
        };
        table.insert("cache".to_owned(), one("stale-secs", ttl.into()));
    }
    Ok(table)
}

/// A list, or a feed if the zone has a primary.
fn policy_zone(clause: &Clause, upstream: SocketAddr) -> Result<Table, String> {
    let zone = clause.one("name").trim_end_matches('.');
    let mut table = Table::new();
    let mut set = |key: &str, value: Value| drop(table.insert(key.to_owned(), value));
    let log_name = match clause.one("rpz-log-name") {
        "" => zone,
        name => name,
    };
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    let log_name = log_name.to_ascii_lowercase();
    set(
        "name",
        log_name.replace(|letter| !allowed(letter), "-").into(),
    );
    set("zone", zone.into());
    set("guards", "warn".into());
    for (key, value) in &clause.options {
        match key.as_str() {
            "name" | "rpz-log" | "rpz-log-name" => {}
            "zonefile" if is_feed(clause) => {}
            "primary" | "master" => {
                set("primaries", vec![upstream.to_string()].into());
            }
            "zonefile" => {
                set("path", value.as_str().into());
                set("format", "rpz".into());
            }
            "rpz-action-override" => set("policy", value.as_str().into()),
            "rpz-cname-override" => set("cname", value.trim_end_matches('.').into()),
            _ => return Err(format!("unknown option of rpz: {key}")),
        }
    }
    let kind = if is_feed(clause) { "feed" } else { "list" };
    Ok(one(kind, vec![table].into()).try_into().expect("a table"))
}

fn is_feed(clause: &Clause) -> bool {
    clause
        .all("primary")
        .chain(clause.all("master"))
        .next()
        .is_some()
}

/// A table with one key.
fn one(key: &str, value: Value) -> Value {
    Table::from_iter([(key.to_owned(), value)]).into()
}

/// Adds keys to a table: arrays are joined, tables are merged, and other values are replaced.
fn merge(table: &mut Table, more: Table) {
    for (key, value) in more {
        match (table.get_mut(&key), value) {
            (Some(Value::Table(own)), Value::Table(more)) => merge(own, more),
            (Some(Value::Array(own)), Value::Array(more)) => own.extend(more),
            (_, value) => drop(table.insert(key, value)),
        }
    }
}

fn address(text: &str) -> Result<IpAddr, String> {
    let address = text.split('@').next().unwrap_or_default();
    address.parse().map_err(|error| format!("{error}: {text}"))
}
