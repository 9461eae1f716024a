//! The server that `respond` is fuzzed on: every kind of rule, and answers in the cache.

use std::sync::Arc;

use tapis::policy::builder::Builder;
use tapis::policy::rule::{Action, Against, Blocking, Ede, Kind, Scope, Source};
use tapis::policy::snapshot::Snapshot;
use tapis::serve::cache::{Cache, Entry, Failure, Key};
use tapis::wire::answer::{Answer, Intake};
use tapis::wire::class;
use tapis::wire::name::Name;
use tapis::wire::query::Query;

/// Names that are answered in different ways, each with a query type whose answer shows the difference.
pub(crate) const ASKED: &[(&str, u16)] = &[
    ("sink.test", 1),
    ("a.b.sink.test", 255),
    ("sink.test", 65),
    ("nx.test", 16),
    ("a.nx.test", 28),
    ("nodata.test", 1),
    ("refused.test", 1),
    ("dropped.test", 1),
    ("ok.nx.test", 1),
    ("localhost", 255),
    ("10.in-addr.arpa", 6),
    ("1.10.in-addr.arpa", 12),
    ("resolver.arpa", 64),
    ("any.example", 255),
    ("version.bind", 16),
    ("big.example", 1),
    ("alias.example", 1),
    ("failed.example", 1),
    ("unknown.example", 1),
];

/// An A record at the queried name: 16 bytes.
const ADDRESS: &[u8] = b"\xC0\x0C\x00\x01\x00\x01\x00\x00\x01\x2C\x00\x04\xC0\x00\x02\x07";
/// A CNAME from the queried name to `x.sink.test`.
const ALIAS: &[u8] = b"\xC0\x0C\x00\x05\x00\x01\x00\x00\x01\x2C\x00\x0D\x01x\x04sink\x04test\x00";

pub(crate) struct Harness {
    pub(crate) snapshot: Snapshot,
    pub(crate) cache: Cache,
}

impl Harness {
    pub(crate) fn build() -> Self {
        let harness = Self {
            snapshot: snapshot(),
            cache: Cache::new(1 << 20, 600),
        };
        for dnssec_ok in [false, true] {
            harness.learn("big.example", dnssec_ok, &[ADDRESS; 90]);
            harness.learn("alias.example", dnssec_ok, &[ALIAS, ADDRESS]);
            let failure = Failure {
                code: 22,
                said: None,
            };
            let key = key(&packet("failed.example", 1, 1, dnssec_ok));
            harness.cache.insert_failure(key, Arc::new(failure), 0);
        }
        harness
    }

    fn learn(&self, name: &str, dnssec_ok: bool, records: &[&[u8]]) {
        let key = key(&packet(name, 1, 1, dnssec_ok));
        let counts = [records.len() as u16, 0, 0];
        let bytes = response(&key, 0x81A0, counts, &records.concat());
        let answer = read(&bytes, &key).expect("the records above are good");
        self.cache.insert(key, Arc::new(Entry::new(answer, 0)));
    }
}

/// A query with RD. With `dnssec_ok`, it has an OPT record with DO and a UDP payload size of 1232 bytes.
pub(crate) fn packet(name: &str, rtype: u16, class: u16, dnssec_ok: bool) -> Vec<u8> {
    let name = Name::from_text(name).expect("the names above are names");
    let mut bytes = vec![0xBE, 0xEF, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(dnssec_ok)];
    bytes.extend_from_slice(name.wire());
    bytes.extend_from_slice(&rtype.to_be_bytes());
    bytes.extend_from_slice(&class.to_be_bytes());
    if dnssec_ok {
        bytes.extend_from_slice(b"\x00\x00\x29\x04\xD0\x00\x00\x80\x00\x00\x00");
    }
    bytes
}

/// A response to the key's question with these flags, counts and records.
pub(crate) fn response(key: &Key, flags: u16, counts: [u16; 3], records: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 7];
    bytes.extend_from_slice(&(flags | 0x8000).to_be_bytes());
    bytes.extend_from_slice(&[0, 1]);
    bytes.extend(counts.iter().flat_map(|count| count.to_be_bytes()));
    bytes.extend_from_slice(key.name());
    bytes.extend_from_slice(&key.rtype().to_be_bytes());
    bytes.extend_from_slice(&[0, 1]);
    bytes.extend_from_slice(records);
    bytes
}

/// The answer as it is cached. `None` if the response is not one.
pub(crate) fn read(bytes: &[u8], key: &Key) -> Option<Answer> {
    let bounds = Intake { min_ttl: 5, max_ttl: 600, max_negative_ttl: 300, additional: false };
    let (name, _) = Name::parse(key.name(), 0).expect("a key has a name");
    Answer::parse(bytes, &name, key.rtype(), class::IN, bounds).ok()
}

fn key(packet: &[u8]) -> Key {
    Key::new(&Query::parse(packet).expect("a query"))
}

fn snapshot() -> Snapshot {
    let network = "192.0.2.0/24".parse().expect("a network");
    let mut snapshot = Snapshot::default();
    snapshot.generation = 41;
    snapshot.clients = [network].iter().collect();
    snapshot.version = Some("sifter".to_owned());
    let tree = |name| (name, Scope::Subtree);
    let lists = [
        list(
            "sink",
            Kind::Block,
            Action::Sinkhole,
            &[tree("sink.test"), ("target.test", Scope::Exact)],
        ),
        list(
            "nx",
            Kind::Block,
            Action::Nxdomain,
            &[tree("nx.test"), ("below.test", Scope::Below)],
        ),
        list(
            "nodata",
            Kind::Block,
            Action::Nodata,
            &[tree("nodata.test")],
        ),
        list(
            "refused",
            Kind::Block,
            Action::Refused,
            &[tree("refused.test")],
        ),
        list(
            "dropped",
            Kind::Block,
            Action::Drop,
            &[tree("dropped.test")],
        ),
        list(
            "good",
            Kind::Allow,
            Action::Nodata,
            &[("ok.nx.test", Scope::Exact)],
        ),
    ];
    let mut builder = Builder::new();
    let mut sources = Vec::new();
    for (source, rules) in lists {
        let rules = rules.iter().map(|(name, scope)| (name, *scope));
        builder.list(&source.name, rules).expect("there is room");
        sources.push(Arc::new(source));
    }
    let rules = builder.finish().expect("there is room");
    snapshot.with_rules(sources, Arc::new(rules).into())
}

fn list(
    list: &str,
    kind: Kind,
    action: Action,
    rules: &[(&str, Scope)],
) -> (Source, Vec<(Name, Scope)>) {
    let name = |text| Name::from_text(text).expect("the names above are names");
    let rules = rules
        .iter()
        .map(|(text, scope)| (name(text), *scope))
        .collect();
    let blocking = Blocking {
        action,
        effect_answer: None,
        as_written: false,
        sinkhole_v4: vec![[0; 4].into(), [192, 0, 2, 9].into()],
        sinkhole_v6: vec![[0; 16].into()],
        ttl_secs: 60,
        ede: Ede::Censored,
        extra_text: list.repeat(150),
    };
    let source = Source {
        name: list.to_owned(),
        path: list.into(),
        kind,
        against: Against::All,
        blocking,
    };
    (source, rules)
}
