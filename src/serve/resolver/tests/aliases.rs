//! Aliases whose chain or target is stale.

use std::sync::Arc;

use hickory_proto::op::Message;

use super::*;
use crate::policy::builder::Builder;
use crate::policy::effect::{Effect, EffectAction};
use crate::policy::image::provenance::ImageSource;
use crate::policy::rule::{Action, Kind, Scope};
use crate::policy::tests::sources::source;
use crate::serve::client::{Client, Transport};
use crate::serve::pending::Dispatched;

/// A policy by which `b` is an alias of `c`.
fn with_alias() -> Snapshot {
    let name = |text| Name::from_text(text).expect("a name");
    let list = source("wall", Kind::Block, Action::Nodata);
    let effect = Effect {
        action: EffectAction::Cname {
            target: Arc::new(name("c")),
            prepend: false,
        },
        ..Effect::default()
    };
    let mut builder = Builder::new();
    let number = builder.source(ImageSource::named("wall")).expect("room");
    let added = builder.insert_effect(&name("b"), number, Scope::Exact, &effect);
    added.expect("a valid effect");
    let rules = builder.finish().expect("room");
    Snapshot::default().with_rules(vec![Arc::new(list)], Arc::new(rules).into())
}

/// A query for this name, type A, and an answer that was received at second 0 and ends at second 1: an address, behind
/// an alias to `b` if `is_alias`.
fn brief(name: u8, is_alias: bool) -> (Key, Arc<Entry>) {
    let mut packet = PACKET.to_vec();
    packet[13] = name;
    let mut bytes = [b"\0\0\x81\x80\0\x01\0\x01\0\0\0\0", &packet[12..19]].concat();
    if is_alias {
        bytes[7] = 2;
        bytes.extend(b"\xC0\x0C\0\x05\0\x01\0\0\0\x01\0\x03\x01b\0\x01b\0");
    } else {
        bytes.extend(b"\xC0\x0C");
    }
    bytes.extend(b"\0\x01\0\x01\0\0\0\x01\0\x04\xC0\0\x02\x07");
    let mut name = Name::default();
    let query = Query::parse(&packet, &mut name).expect("a query");
    let answer = Answer::parse(&bytes, query.name, 1, 1, BOUNDS).expect("an answer");
    (Key::new(&query), Arc::new(Entry::new(answer, 0)))
}

#[tokio::test(start_paused = true)]
async fn a_stale_chain_before_an_alias_does_not_keep_the_target_from_being_asked_for() {
    for (is_stale, waits_ms, records) in [(true, 1800, 3), (false, 31_800, 0)] {
        let timeout = Duration::from_secs(30);
        let resolver = resolver_by(with_alias(), Fate::Silent, timeout, Vec::new());
        let cache = &resolver.responder().shared.cache;
        let (_, chain) = brief(b'a', true);
        cache.insert(key(), chain);
        let (target, address) = brief(b'c', false);
        if is_stale {
            cache.insert(target.clone(), address);
        }
        let start = Instant::now();
        tokio::time::advance(Duration::from_secs(9)).await;
        let client = Client::new(([127, 0, 0, 1], 9).into(), Transport::Tcp);
        let mut dispatched = resolver.dispatch(&client, PACKET);
        let answer = loop {
            match dispatched {
                Dispatched::Reply(answer) => break answer,
                Dispatched::Nothing => panic!("no answer"),
                Dispatched::Pending(pending) => {
                    let resolution = pending.resolve().await;
                    dispatched = pending.conclude(&resolution);
                }
            }
        };
        let waited = start.elapsed().as_millis() - 9000;
        assert!((waits_ms..waits_ms + 20).contains(&waited), "{waited}");
        let answer = Message::from_vec(&answer).expect("an answer");
        assert_eq!(answer.answers.len(), records);
        let asked = resolver.responder().counters.read(Count::Prefetched);
        assert_eq!(asked, u64::from(is_stale), "the target is asked for again");
    }
}
