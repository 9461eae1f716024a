//! The server that `respond` is fuzzed on: every kind of rule, and answers in the cache.

use std::sync::Arc;

use tapis::policy::builder::Builder;
use tapis::policy::effect::{Effect, EffectAction, Tier};
use tapis::policy::image::provenance::ImageSource;
use tapis::policy::images::Images;
use tapis::policy::prefix::{AddressOf, Prefix};
use tapis::policy::record::LocalRecord;
use tapis::policy::rule::{Action, Against, Blocking, Ede, Kind, Scope, Source};
use tapis::policy::snapshot::Snapshot;
use tapis::policy::view::{Mode, View, ViewId, ViewList};
use tapis::serve::cache::{Cache, Entry, Failure, Key};
use tapis::serve::routes::PoolId;
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
    ("records.test", 1),
    ("records.test", 16),
    ("records.test", 255),
    ("walled.test", 1),
    ("prepended.test", 28),
    ("garden.example", 1),
    ("tcp.test", 1),
    ("excepted.test", 1),
    ("first.important.test", 1),
    ("ads7.tracker-12.example", 1),
    ("a.b.c.4711", 65),
    ("services.example", 65),
    ("offered.example", 65),
    ("withheld.example", 65),
    ("listed.example", 1),
    ("chain.example", 1),
    ("onward.example", 1),
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
/// An A record at the target of a CNAME that follows a question with a name of 15 bytes.
const TARGET_ADDRESS: &[u8] = b"\xC0\x2B\x00\x01\x00\x01\x00\x00\x01\x2C\x00\x04\xC0\x00\x02\x07";
/// A CNAME from the queried name to `x.sink.test`.
const ALIAS: &[u8] = b"\xC0\x0C\x00\x05\x00\x01\x00\x00\x01\x2C\x00\x0D\x01x\x04sink\x04test\x00";

/// A CNAME from the queried name to `walled.test`, whose rule leads to another name.
const TO_WALLED: &[u8] = b"\xC0\x0C\x00\x05\x00\x01\x00\x00\x01\x2C\x00\x0D\x06walled\x04test\x00";
/// An A record at the queried name with an address that a rule is about.
const LISTED: &[u8] = b"\xC0\x0C\x00\x01\x00\x01\x00\x00\x01\x2C\x00\x04\xC6\x33\x64\x07";
/// An HTTPS record at the queried name with the target `x.sink.test`.
const SERVICE: &[u8] =
    b"\xC0\x0C\x00\x41\x00\x01\x00\x00\x01\x2C\x00\x0F\x00\x01\x01x\x04sink\x04test\x00";
/// An HTTPS record at the queried name with a hint that a rule is about.
const HINT: &[u8] =
    b"\xC0\x0C\x00\x41\x00\x01\x00\x00\x01\x2C\x00\x0B\x00\x02\x00\x00\x04\x00\x04\xC6\x33\x64\x07";

/// An HTTPS record at the queried name with a target that no rule is about.
const FREE: &[u8] =
    b"\xC0\x0C\x00\x41\x00\x01\x00\x00\x01\x2C\x00\x10\x00\x03\x04free\x07example\x00";
/// Additional records: an address of a blocked target, and two addresses of a target that no rule is about. A rule is
/// about the second of these two addresses.
const ADDITIONAL: &[&[u8]] = &[
    b"\x01x\x04sink\x04test\x00\x00\x01\x00\x01\x00\x00\x01\x2C\x00\x04\xC0\x00\x02\x07",
    b"\x04free\x07example\x00\x00\x01\x00\x01\x00\x00\x01\x2C\x00\x04\xC0\x00\x02\x07",
    b"\x04free\x07example\x00\x00\x01\x00\x01\x00\x00\x01\x2C\x00\x04\xC6\x33\x64\x07",
];
/// A CNAME from the queried name to `prepended.test`, whose rule leads to a name that is not in the cache.
const TO_PREPENDED: &[u8] =
    b"\xC0\x0C\x00\x05\x00\x01\x00\x00\x01\x2C\x00\x10\x09prepended\x04test\x00";
/// The same with a TTL of 0.
const TO_PREPENDED_ONCE: &[u8] =
    b"\xC0\x0C\x00\x05\x00\x01\x00\x00\x00\x00\x00\x10\x09prepended\x04test\x00";
/// An A record at `prepended.test`.
const PREPENDED_ADDRESS: &[u8] =
    b"\x09prepended\x04test\x00\x00\x01\x00\x01\x00\x00\x01\x2C\x00\x04\xC0\x00\x02\x07";

/// Records with which the answer and the additional section of a response may begin, so that the fuzzer need not find
/// them.
pub(crate) const STARTS: &[Sections] = &[
    (&[], &[]),
    (&[ADDRESS], &[]),
    (&[LISTED], &[]),
    (&[TO_WALLED], &[]),
    (&[TO_PREPENDED, PREPENDED_ADDRESS], &[]),
    (&[TO_PREPENDED_ONCE, PREPENDED_ADDRESS], &[]),
    (&[SERVICE, HINT], ADDITIONAL),
    (&[SERVICE, HINT, FREE], ADDITIONAL),
];

/// Records of the answer section, and of the additional section.
pub(crate) type Sections = (&'static [&'static [u8]], &'static [&'static [u8]]);

/// The second view, in which one list is logged only and others have another order and action.
pub(crate) const OTHER_VIEW: ViewId = ViewId(1);

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
            harness.learn("big.example", 1, dnssec_ok, (&[ADDRESS; 90], &[]));
            let alias = (&[ALIAS, TARGET_ADDRESS][..], &[][..]);
            harness.learn("alias.example", 1, dnssec_ok, alias);
            let chain = (&[TO_WALLED, TARGET_ADDRESS][..], &[][..]);
            harness.learn("chain.example", 1, dnssec_ok, chain);
            let onward = (&[TO_PREPENDED, PREPENDED_ADDRESS][..], &[][..]);
            harness.learn("onward.example", 1, dnssec_ok, onward);
            harness.learn("garden.example", 1, dnssec_ok, (&[ADDRESS], &[]));
            harness.learn("listed.example", 1, dnssec_ok, (&[ADDRESS, LISTED], &[]));
            let blocked = (&[SERVICE, HINT][..], ADDITIONAL);
            harness.learn("services.example", 65, dnssec_ok, blocked);
            harness.learn("withheld.example", 65, dnssec_ok, blocked);
            let partly = (&[SERVICE, HINT, FREE][..], ADDITIONAL);
            harness.learn("offered.example", 65, dnssec_ok, partly);
            let failure = Failure {
                code: 22,
                said: None,
            };
            let key = key(&packet("failed.example", 1, 1, dnssec_ok));
            harness
                .cache
                .insert_failure(key, Arc::new(failure), 0, PoolId::DEFAULT);
        }
        harness
    }

    fn learn(&self, name: &str, rtype: u16, dnssec_ok: bool, sections: (&[&[u8]], &[&[u8]])) {
        let key = key(&packet(name, rtype, 1, dnssec_ok));
        let (answer, additional) = sections;
        let counts = [answer.len() as u16, 0, additional.len() as u16];
        let records = [answer.concat(), additional.concat()].concat();
        let bytes = response(&key, 0x81A0, counts, &records);
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
    let bounds = Intake {
        // This permits answers with a TTL of 0, which are handled differently: they are not cached.
        min_ttl: 0,
        max_ttl: 600,
        max_negative_ttl: 300,
        additional: true,
    };
    let (name, _) = Name::parse(key.name(), 0).expect("a key has a name");
    Answer::parse(bytes, &name, key.rtype(), class::IN, bounds).ok()
}

fn key(packet: &[u8]) -> Key {
    Key::new(&Query::parse(packet, &mut Name::default()).expect("a query"))
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
    let (mut base, mut orders) = (Builder::new(), Builder::new());
    let mut sources = Vec::new();
    for (source, rules) in lists {
        let rules = rules.iter().map(|(name, scope)| (name, *scope));
        base.list(&source.name, rules).expect("there is room");
        sources.push(Arc::new(source));
    }
    let (effects, _) = list("effects", Kind::Block, Action::Sinkhole, &[]);
    add_effects(&mut base);
    sources.push(Arc::new(effects));
    let excepted = [tree("excepted.test"), ("services.example", Scope::Exact)];
    let (mut exception, rules) = list("exception", Kind::Exception, Action::Nodata, &excepted);
    exception.against = Against::Named(vec!["sink".to_owned(), "effects".to_owned()]);
    let rules = rules.iter().map(|(name, scope)| (name, *scope));
    orders.list(&exception.name, rules).expect("there is room");
    sources.push(Arc::new(exception));
    let images = Images {
        base: Some(Arc::new(base.finish().expect("there is room"))),
        orders: Some(Arc::new(orders.finish().expect("there is room"))),
        ..Images::default()
    };
    let placed = |(name, mode, action): (&str, Mode, Option<Action>)| ViewList {
        name: name.to_owned(),
        mode,
        action,
    };
    let lists = [
        ("effects", Mode::LogOnly, None),
        ("nx", Mode::Enforce, Some(Action::Refused)),
        ("sink", Mode::Enforce, None),
        ("nodata", Mode::LogOnly, None),
    ];
    let lists = lists.into_iter().map(placed).collect();
    snapshot.with_views(sources, images, &[View { lists }])
}

/// Adds the list `effects`: rules with each kind of effect and of trigger.
fn add_effects(builder: &mut Builder) {
    let name = |text: &str| Name::from_text(text).expect("a name");
    let source = ImageSource::named("effects");
    let source = builder.source(source).expect("there is room");
    let acts = |action| Effect {
        action,
        ..Effect::default()
    };
    let record = |rtype, data: &[u8]| LocalRecord {
        rtype,
        ttl_secs: (rtype == 16).then_some(7),
        data: data.into(),
    };
    let alias = |prepend| {
        acts(EffectAction::Cname {
            target: Arc::new(name("garden.example")),
            prepend,
        })
    };
    let records = vec![
        record(1, &[192, 0, 2, 8]),
        record(1, &[192, 0, 2, 9]),
        record(16, b"\x04text"),
        record(15, b"\x00\x0A\x04mail\x04test\x00"),
    ];
    let important = Effect {
        tier: Tier::ImportantFirst,
        ttl_secs: Some(1),
        as_written: true,
        extra_text: Some("important".to_owned()),
        ..acts(EffectAction::Block(Action::Nxdomain))
    };
    let v6 = vec![[0x20; 16].into()];
    let rules = [
        (
            "records.test",
            Scope::Subtree,
            acts(EffectAction::Records(records)),
        ),
        ("walled.test", Scope::Subtree, alias(false)),
        ("prepended.test", Scope::Subtree, alias(true)),
        ("tcp.test", Scope::Subtree, acts(EffectAction::TcpOnly)),
        ("important.test", Scope::Below, important.clone()),
        ("ok.important.test", Scope::Exact, acts(EffectAction::Allow)),
        (
            "excepted.test",
            Scope::Subtree,
            acts(EffectAction::Addresses(Vec::new(), v6)),
        ),
    ];
    for (owner, scope, effect) in rules {
        let added = builder.insert_effect(&name(owner), source, scope, &effect);
        added.expect("a good effect");
    }
    let patterns = [
        (r"^ads[0-9]+\.", Effect::default()),
        (r"tracker-[0-9]{2}", alias(false)),
        ("[0-9]{4}$", acts(EffectAction::TcpOnly)),
        ("^cdn.*metrics", acts(EffectAction::Allow)),
    ];
    for (pattern, effect) in patterns {
        let added = builder.insert_pattern(pattern, source, &effect);
        added.expect("there is room");
    }
    let networks = [
        (AddressOf::Answer, "198.51.100.0/24", Effect::default()),
        (
            AddressOf::Answer,
            "198.51.100.8/32",
            acts(EffectAction::Allow),
        ),
        (AddressOf::Answer, "203.0.113.0/24", important),
        (
            AddressOf::Client,
            "192.0.2.128/25",
            acts(EffectAction::Block(Action::Refused)),
        ),
        (
            AddressOf::Client,
            "192.0.2.64/26",
            acts(EffectAction::TcpOnly),
        ),
    ];
    for (of, network, effect) in networks {
        let prefix = Prefix::new(of, network.parse().expect("a network")).expect("valid");
        let added = builder.insert_prefix(prefix, source, &effect);
        added.expect("there is room");
    }
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
        allows_across: false,
        zone: None,
        paused: false,
    };
    (source, rules)
}
