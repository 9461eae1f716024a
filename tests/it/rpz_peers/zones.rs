//! Random policy zones of few labels, so that their rules collide with each other and with the queries.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::truth;
use crate::support::random::Random;

/// The clients that ask.
pub(super) const CLIENTS: [[u8; 4]; 6] = [
    [127, 0, 0, 1],
    [127, 0, 0, 2],
    [127, 0, 1, 1],
    [127, 0, 1, 129],
    [127, 1, 0, 1],
    [127, 1, 0, 77],
];
/// The top-level domain below which redirected names are.
pub(super) const GARDEN: &str = "garden.xc";

/// What a rule matches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trigger {
    Exact(String),
    Wildcard(String),
    Client(IpNet),
    Answer(IpNet),
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Nxdomain,
    Nodata,
    Passthru,
    Drop,
    TcpOnly,
    Cname(String),
    /// The target with the queried name in front.
    Garden(String),
    /// Types and data.
    Records(Vec<(&'static str, String)>),
}

/// The rules of a zone.
#[derive(Clone, Debug, Default)]
pub(super) struct Zone {
    pub(super) rules: BTreeMap<Trigger, Action>,
}

impl Zone {
    /// A zone with up to 40 rules.
    pub(super) fn random(random: &mut Random) -> Self {
        let count = 1 + random.below(40);
        let mut rules = BTreeMap::new();
        for _ in 0..count {
            let trigger = Trigger::random(random);
            let action = Action::random(random);
            rules.insert(trigger, action);
        }
        Self { rules }
    }

    /// The same zone without rules that allow names.
    pub(super) fn without_passthru(mut self) -> Self {
        self.rules
            .retain(|trigger, action| match (trigger, action) {
                (_, Action::Passthru) => false,
                // The old form of PASSTHRU (section 3.3 of the draft).
                (Trigger::Exact(name), Action::Cname(target)) => name != target,
                _ => true,
            });
        if self.rules.is_empty() {
            self.rules
                .insert(Trigger::Exact("a.xa".to_owned()), Action::Nodata);
        }
        self
    }

    /// The zone file. Each version has another name in the top-level domain `zz`, which is the last one that a peer
    /// reads, because it is the last name of the zone in DNSSEC's order.
    pub(super) fn text(&self, apex: &str, version: u32) -> String {
        let mut text = format!(
            "$TTL 60\n{apex}. IN SOA localhost. localhost. {version} 3600 600 86400 30\n{apex}. IN NS localhost.\n"
        );
        for (trigger, action) in &self.rules {
            for record in action.records() {
                text += &format!("{trigger}.{apex}. IN {record}\n");
            }
        }
        text + &format!("{}.{apex}. IN TXT \"{version}\"\n", marker(apex, version))
    }
}

/// The name that a zone of this version answers.
pub(super) fn marker(apex: &str, version: u32) -> String {
    format!("v{version}.{apex}.zz")
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::Wildcard(name) => write!(f, "*.{name}"),
            Self::Client(network) => write!(f, "{}.rpz-client-ip", reversed(*network)),
            Self::Answer(network) => write!(f, "{}.rpz-ip", reversed(*network)),
        }
    }
}

/// The labels of a network (section 4.1.1 of the draft).
fn reversed(network: IpNet) -> String {
    let address = match network.network() {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}")
        }
        IpAddr::V6(address) => {
            let text = address.to_string().replace("::", ":zz:");
            let groups: Vec<_> = text.trim_matches(':').rsplit(':').collect();
            groups.join(".")
        }
    };
    format!("{}.{address}", network.prefix_len())
}

impl Trigger {
    fn random(random: &mut Random) -> Self {
        match random.below(100) {
            0..45 => Self::Exact(truth::random_name(random, 0)),
            45..80 => Self::Wildcard(truth::random_name(random, 0)),
            80..82 => {
                let client = CLIENTS[random.below(CLIENTS.len())];
                let prefix = [24, 25, 28, 32, 32, 32][random.below(6)];
                Self::Client(network(Ipv4Addr::from(client).into(), prefix))
            }
            82..93 => {
                let address = truth::random_v4(random);
                Self::Answer(network(
                    address.into(),
                    [24, 26, 28, 29, 32][random.below(5)],
                ))
            }
            _ => {
                let address = truth::random_v6(random);
                Self::Answer(network(
                    address.into(),
                    [32, 48, 64, 126, 128][random.below(5)],
                ))
            }
        }
    }
}

fn network(address: IpAddr, prefix: u8) -> IpNet {
    IpNet::new(address, prefix).expect("valid").trunc()
}

impl Action {
    fn random(random: &mut Random) -> Self {
        match random.below(100) {
            0..20 => Self::Nxdomain,
            20..35 => Self::Nodata,
            35..50 => Self::Passthru,
            50..56 => Self::Drop,
            56..64 => Self::TcpOnly,
            64..72 => Self::Cname(truth::random_name(random, 1)),
            72..80 => Self::Garden(GARDEN.to_owned()),
            _ => Self::Records(local(random)),
        }
    }

    /// Types and data of the records.
    fn records(&self) -> Vec<String> {
        let cname = |target: &str| vec![format!("CNAME {target}.")];
        match self {
            Self::Nxdomain => vec!["CNAME .".to_owned()],
            Self::Nodata => cname("*"),
            Self::Passthru => cname("rpz-passthru"),
            Self::Drop => cname("rpz-drop"),
            Self::TcpOnly => cname("rpz-tcp-only"),
            Self::Cname(target) => cname(target),
            Self::Garden(target) => cname(&format!("*.{target}")),
            Self::Records(records) => {
                let text = |(rtype, data): &(&str, String)| format!("{rtype} {data}");
                records.iter().map(text).collect()
            }
        }
    }
}

/// Local data of some types.
fn local(random: &mut Random) -> Vec<(&'static str, String)> {
    let mut records = Vec::new();
    for n in 0..=random.below(2) {
        if random.percent(60) {
            let address = Ipv4Addr::new(203, 0, 113, random.below(100) as u8);
            records.push(("A", address.to_string()));
        }
        if random.percent(30) {
            let address = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, random.below(100) as u16);
            records.push(("AAAA", address.to_string()));
        }
        if random.percent(30) {
            records.push(("TXT", format!("\"local {n}\"")));
        }
        if random.percent(20) {
            records.push(("MX", format!("{n} mail.{GARDEN}.")));
        }
    }
    if records.is_empty() {
        records.push(("TXT", "\"local\"".to_owned()));
    }
    records.sort();
    records.dedup();
    records
}
