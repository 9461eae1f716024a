use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;

use super::*;
use crate::policy::builder::Builder;
use crate::policy::images::Images;
use crate::policy::published::{PublishedZone, Selection};
use crate::policy::rule::{Action, Kind, Scope};
use crate::policy::served_zones::ZoneAccess;
use crate::policy::snapshot::Snapshot;
use crate::policy::tests::sources::source;
use crate::serve::client::Transport;
use crate::serve::resolver::tests::{Fate, resolver};
use crate::serve::shared::Shared;
use crate::wire::transfer::query::Query;
use crate::wire::transfer::{self as wire, Event, Soa};

const ZONE: &str = "rpz.test";

pub(in crate::serve::zones) fn name(text: &str) -> Name {
    Name::from_text(text).expect("a name")
}

/// A policy with lists that have this many names each, of which the zone has one.
fn contents(lists: &[(&str, usize)], published: &str) -> PublishedZone {
    let mut builder = Builder::new();
    for (list, count) in lists {
        let names = (0..*count).map(|n| name(&format!("n{n}.{list}.test")));
        let names: Vec<_> = names.collect();
        let rules = names.iter().map(|name| (name, Scope::Exact));
        builder.list(list, rules).expect("room");
    }
    let images = Images {
        base: Some(Arc::new(builder.finish().expect("room"))),
        ..Images::default()
    };
    let source = |list| Arc::new(source(list, Kind::Block, Action::Nodata));
    let sources = lists.iter().map(|(list, _)| source(list));
    let snapshot = Snapshot::default().with_rules(sources.collect(), images);
    let selection = Selection::Named(vec![published.to_owned()]);
    PublishedZone::new(&snapshot, &selection, &name(ZONE))
}

/// A version with these records, or with this history.
pub(in crate::serve::zones) fn version(
    contents: Option<PublishedZone>,
    history: Vec<Arc<ZoneChange>>,
) -> ZoneVersion {
    let host = name("host.test");
    ZoneVersion {
        soa: Soa {
            mname: host.clone(),
            rname: host.clone(),
            serial: Serial(7),
            refresh: 1,
            retry: 1,
            expire: 1,
            minimum: 1,
        },
        name_server: host,
        ttl_secs: 1,
        contents,
        records: 0,
        bytes: u64::MAX,
        history,
    }
}

/// The data plane with this version of the zone, which anybody may transfer.
fn served(version: ZoneVersion) -> Shared {
    let network = |text: &str| text.parse::<ipnet::IpNet>().expect("a network");
    let everybody = ["0.0.0.0/0", "::/0"].map(network);
    let zone = ServedZone {
        name: name(ZONE),
        access: ZoneAccess {
            networks: Some(everybody.iter().collect()),
            ..ZoneAccess::default()
        },
        version: ArcSwapOption::from_pointee(version),
        transfers: Arc::default(),
    };
    let resolver = resolver(Fate::Silent, Duration::from_secs(2), Vec::new());
    let shared = resolver.responder().shared.clone();
    shared.zones.replace(vec![Arc::new(zone)]);
    shared
}

/// Starts a transfer of the whole zone.
fn start(shared: &Shared) -> RunningTransfer {
    let client = Client::new(([192, 0, 2, 1], 4711).into(), Transport::Tcp);
    let query = Query::Axfr.write(9, &name(ZONE));
    let transfers = Arc::<Transfers>::default();
    running(transfers.start(&shared.zones, &shared.signatures, &client, &query))
}

fn running(started: Option<Started>) -> RunningTransfer {
    match started {
        Some(Started::Running(transfer)) => transfer,
        _ => panic!("not started"),
    }
}

#[tokio::test]
async fn other_tasks_run_while_the_names_of_lists_that_are_not_published_are_skipped() {
    let contents = contents(&[("large", 100_000), ("small", 1)], "small");
    let shared = served(version(Some(contents), Vec::new()));
    let turns = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&turns);
    let other = tokio::spawn(async move {
        loop {
            counter.fetch_add(1, Ordering::Relaxed);
            yield_now().await;
        }
    });
    let mut transfer = start(&shared);
    let mut messages = 0;
    while let Outgoing::Message(_) = transfer.next().await {
        messages += 1;
    }
    other.abort();
    assert_eq!(messages, 1);
    let turns = turns.load(Ordering::Relaxed);
    assert!(turns > 50, "the other task ran {turns} times");
}

#[tokio::test]
async fn a_whole_zone_has_the_ns_record_of_its_apex() {
    let contents = contents(&[("list", 1)], "list");
    let shared = served(version(Some(contents), Vec::new()));
    let Outgoing::Message(message) = start(&shared).next().await else {
        panic!("no message");
    };
    let mut received = wire::Transfer::new(&wire::Request {
        id: 9,
        zone: name(ZONE),
        ours: None,
        max_records: 9,
    });
    let records = received.read(&message).expect("a transfer");
    let records = records.filter_map(|event| match event.expect("valid") {
        Event::Record(record) => {
            let mut owner = Name::default();
            record.read_owner(&mut owner).expect("a name");
            let is_host = record.raw_data() == name("host.test").wire();
            Some((owner.to_string(), record.rtype, is_host))
        }
        _ => None,
    });
    let expected = [
        (ZONE.to_owned(), rtype::NS, true),
        (format!("n0.list.test.{ZONE}"), rtype::CNAME, false),
    ];
    assert_eq!(records.collect::<Vec<_>>(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_secondary_that_reads_slowly_does_not_hold_a_version_for_ever() {
    let contents = contents(&[("list", 20_000)], "list");
    let shared = served(version(Some(contents), Vec::new()));
    let mut transfer = start(&shared);
    let zones = shared.zones.load();
    let version = Arc::downgrade(&zones[0].version.swap(None).expect("a version"));
    let begin = Instant::now();
    let mut messages = 0;
    let end = loop {
        tokio::time::sleep(Duration::from_secs(300)).await;
        match transfer.next().await {
            Outgoing::Message(_) => messages += 1,
            end => break end,
        }
    };
    assert!(matches!(end, Outgoing::Cut));
    assert!(messages >= 12, "{messages} messages");
    assert!(begin.elapsed() <= LONGEST + 4 * Duration::from_secs(300));
    assert!(version.upgrade().is_none());
}

#[tokio::test(start_paused = true)]
async fn transfers_of_one_secondary_leave_room_for_those_of_others() {
    leave_room(|_| [192, 0, 2, 1].into(), [192, 0, 2, 2].into()).await;
}

#[tokio::test(start_paused = true)]
async fn the_addresses_of_an_ipv6_network_are_one_secondary() {
    let of_one = |number| [0x2001, 0xDB8, 0, 0, 0, 0, 0, number].into();
    leave_room(of_one, [0x2001, 0xDB8, 1, 0, 0, 0, 0, 1].into()).await;
}

/// Asserts that many transfers of one secondary run a few at a time, and that one of another secondary does not wait for them.
async fn leave_room(of_one: impl Fn(u16) -> IpAddr, of_other: IpAddr) {
    let contents = contents(&[("list", 20_000)], "list");
    let shared = served(version(Some(contents), Vec::new()));
    let transfers = Arc::<Transfers>::default();
    let start = |address: IpAddr| {
        let client = Client::new((address, 4711).into(), Transport::Tcp);
        let query = Query::Axfr.write(9, &name(ZONE));
        running(transfers.start(&shared.zones, &shared.signatures, &client, &query))
    };
    let rcode = |outgoing| match outgoing {
        Outgoing::Message(message) => message[3] & 0x0F,
        _ => panic!("no message"),
    };
    let mut slow: Vec<_> = (0..20).map(|number| start(of_one(number))).collect();
    let begin = Instant::now();
    assert_eq!(rcode(start(of_other).next().await), 0);
    assert_eq!(begin.elapsed(), Duration::ZERO);
    let mut served = 0;
    for transfer in &mut slow {
        served += usize::from(rcode(transfer.next().await) == 0);
    }
    assert_eq!(served, OF_ONE_SECONDARY);
    let zones = shared.zones.load();
    let log = &zones[0].transfers;
    assert_eq!(log.counts().busy, 20 - OF_ONE_SECONDARY as u64);
    let (last, _) = log.last_busy().expect("some waited in vain");
    assert!((0..20).any(|number| of_one(number) == last), "{last}");
}

#[test]
fn without_its_records_a_version_is_sent_to_those_that_need_none_of_them() {
    let change = ZoneChange {
        from: Serial(6),
        to: Serial(7),
        deleted: StoredRecords::default(),
        added: StoredRecords::default(),
    };
    let version = version(None, vec![Arc::new(change)]);
    let parts = |ours: Option<u32>| {
        let parts = parts(ours.map(Serial), &version);
        parts.map(|(parts, is_whole)| (parts.len(), is_whole))
    };
    assert_eq!(parts(Some(7)), Some((1, false)));
    assert_eq!(parts(Some(8)), Some((1, false)), "a newer version");
    assert_eq!(parts(Some(6)), Some((6, false)));
    assert_eq!(parts(Some(5)), None);
    assert_eq!(parts(None), None);
}
