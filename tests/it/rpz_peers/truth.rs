//! The data of the upstream that all servers ask. A name always has the same data, so caches may keep it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, MX, NULL, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::support::random::Random;
use crate::support::upstream::{Asked, Upstream, alias, answer, soa};

const TTL_SECS: u32 = 86_400;
const LABELS: [&str; 4] = ["a", "b", "c", "d"];
/// The longest label sequence below a top-level domain.
const DEPTH: usize = 4;

/// The answer to a query.
pub(super) struct Resolved {
    /// The queried name, and the targets of its chain.
    pub(super) names: Vec<String>,
    pub(super) rcode: ResponseCode,
    /// The CNAME records of the chain, and the records of the queried type.
    pub(super) records: Vec<Record>,
}

impl Resolved {
    /// The addresses in the records.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        let data = self.records.iter().map(|record| &record.data);
        data.filter_map(RData::ip_addr).collect()
    }
}

/// The records of a name.
enum Data {
    Missing,
    Empty,
    Alias(String),
    Records(Random),
}

/// A server with that data.
pub(super) fn upstream() -> Upstream {
    Upstream::start(|asked| Some(respond(asked)))
}

/// A server with that data, half of which is signed, with signatures that nobody could verify.
pub(super) fn signed_upstream() -> Upstream {
    Upstream::start(|asked| {
        let mut message = respond(asked);
        let edns = asked.message.edns.as_ref();
        if edns.is_some_and(|edns| edns.flags().dnssec_ok) {
            let name = asked.message.queries[0].name();
            let last = (message.answers.iter().rev()).find_map(|record| match &record.data {
                RData::CNAME(target) => Some(&target.0),
                _ => None,
            });
            let denied = text(last.unwrap_or(name));
            sign(&mut message.answers, text);
            sign(&mut message.authorities, |_| denied.clone());
        }
        Some(message)
    })
}

/// Whether the records of a name are signed, or the denial of their existence.
pub(super) fn is_signed(name: &str) -> bool {
    rank(name) >> 8 & 1 == 0
}

fn text(name: &Name) -> String {
    let mut text = name.to_lowercase().to_string();
    text.pop();
    text
}

/// Adds a signature of each set of records whose data `about` is signed.
fn sign(records: &mut Vec<Record>, about: impl Fn(&Name) -> String) {
    let mut signed = BTreeSet::new();
    for record in records.clone() {
        let set = (record.name.clone(), u16::from(record.record_type()));
        if is_signed(&about(&record.name)) && signed.insert(set) {
            let mut data = u16::from(record.record_type()).to_be_bytes().to_vec();
            // The algorithm, the labels of the owner, the TTL, the end and the start of validity, and the key.
            data.extend([8, record.name.num_labels()]);
            data.extend(TTL_SECS.to_be_bytes());
            data.extend(u32::to_be_bytes(0x7000_0000));
            data.extend(u32::to_be_bytes(0x6000_0000));
            data.extend([0, 1, 0]);
            data.extend([7; 64]);
            let data = RData::Unknown {
                code: RecordType::RRSIG,
                rdata: NULL::with(data),
            };
            records.push(Record::from_rdata(record.name, TTL_SECS, data));
        }
    }
}

/// A name with at least so many labels below its top-level domain.
pub(super) fn random_name(random: &mut Random, least: usize) -> String {
    let mut name = random.of(&["xa", "xb"]).to_owned();
    for _ in 0..least + random.below(DEPTH + 1 - least) {
        name = format!("{}.{name}", random.of(&LABELS));
    }
    name
}

/// An IPv4 address as answers have it.
pub(super) fn random_v4(random: &mut Random) -> Ipv4Addr {
    let last = random.below(32) as u8;
    match random.percent(50) {
        true => Ipv4Addr::new(192, 0, 2, last),
        false => Ipv4Addr::new(198, 51, 100, last),
    }
}

/// An IPv6 address as answers have it.
pub(super) fn random_v6(random: &mut Random) -> Ipv6Addr {
    let net = random.below(3) as u16;
    Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, 1 + random.below(16) as u16)
}

/// The name and the targets of its chain; and the addresses of the last one, unless that does not exist.
pub(super) fn chain(name: &str) -> (Vec<String>, Vec<IpAddr>) {
    let mut names = vec![name.to_owned()];
    loop {
        match data(names.last().expect("one")) {
            Data::Alias(target) => names.push(target),
            Data::Missing | Data::Empty => return (names, Vec::new()),
            Data::Records(random) => {
                let of = |rtype| records(&mut Random(random.0), rtype);
                let all = [of(RecordType::A), of(RecordType::AAAA)].concat();
                let addresses = all.iter().filter_map(RData::ip_addr).collect();
                return (names, addresses);
            }
        }
    }
}

/// A number that is always the same for a name.
fn rank(name: &str) -> u64 {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    let hash = name.bytes().fold(0xCBF2_9CE4_8422_2325, mix);
    Random(hash).bits()
}

fn data(name: &str) -> Data {
    let own = rank(name);
    let mut random = Random(own);
    match random.below(100) {
        0..12 => Data::Missing,
        12..20 => Data::Empty,
        20..45 => {
            // Each target has a lower rank than its alias, so no chain is a loop.
            let target = random_name(&mut random, 1);
            match rank(&target) < own {
                true => Data::Alias(target),
                false => Data::Records(random),
            }
        }
        _ => Data::Records(random),
    }
}

fn respond(asked: &Asked) -> Message {
    let question = &asked.message.queries[0];
    let rtype = question.query_type();
    let resolved = resolve(&text(question.name()), rtype);
    let mut message = answer(asked, resolved.rcode);
    let last = resolved.records.last();
    if last.is_none_or(|last| last.record_type() != rtype) {
        let name = resolved.names.last().expect("one");
        let zone = name.rsplit('.').next().expect("a label");
        message.authorities.push(soa(&format!("{zone}."), TTL_SECS));
    }
    message.answers = resolved.records;
    message
}

/// The answer to a query for records of a name.
pub(super) fn resolve(name: &str, rtype: RecordType) -> Resolved {
    let mut resolved = Resolved {
        names: vec![name.to_owned()],
        rcode: ResponseCode::NoError,
        records: Vec::new(),
    };
    loop {
        let name = resolved.names.last().expect("one");
        let owner = format!("{name}.");
        match data(name) {
            Data::Alias(target) => {
                let record = alias(&owner, &format!("{target}."), TTL_SECS);
                resolved.records.push(record);
                if rtype != RecordType::CNAME {
                    resolved.names.push(target);
                    continue;
                }
            }
            Data::Missing => resolved.rcode = ResponseCode::NXDomain,
            Data::Empty => {}
            Data::Records(mut random) => {
                let owner = Name::from_ascii(owner).expect("a name");
                let record = |data| Record::from_rdata(owner.clone(), TTL_SECS, data);
                let records = records(&mut random, rtype).into_iter().map(record);
                resolved.records.extend(records);
            }
        }
        return resolved;
    }
}

fn records(random: &mut Random, rtype: RecordType) -> Vec<RData> {
    let mut all = Vec::new();
    for _ in 0..=random.below(3) {
        all.push(RData::A(A(random_v4(random))));
    }
    for _ in 0..random.below(3) {
        all.push(RData::AAAA(AAAA(random_v6(random))));
    }
    if random.percent(40) {
        all.push(RData::TXT(TXT::new(vec!["upstream".to_owned()])));
    }
    if random.percent(40) {
        let exchange = Name::from_ascii("mail.garden.xc.").expect("a name");
        all.push(RData::MX(MX::new(10, exchange)));
    }
    all.retain(|data| data.record_type() == rtype);
    all.dedup();
    all
}
