//! Response policy zones: random zones and queries, answered by Tapis, BIND and PowerDNS Recursor. All three ask one
//! upstream. Each answer of Tapis must be that of the model in `documented`, and each difference from BIND's answer is
//! one of a table in `differences`, which docs/rpz.md explains.
//!
//! `TAPIS_DIFFERENTIAL=ZONES,QUERIES cargo test --test it rpz_peers -- --ignored` sets the numbers of zones and of
//! queries for each zone, and `TAPIS_SEED=N` the seed.

mod ask;
mod differences;
mod documented;
mod matching;
mod servers;
mod truth;
mod zones;

use std::collections::HashMap;
use std::time::Duration;

use self::ask::{Outcome, Question, ask};
use self::differences::{Case, Table};
use self::servers::Servers;
use self::zones::Zone;
use crate::support::client::PATIENCE;
use crate::support::random::Random;

/// The seed that is used without `TAPIS_SEED`.
const SEED: u64 = 7;
/// The time after the last answer after which queries count as dropped.
const QUIET: Duration = Duration::from_millis(100);
/// The same if another server has answered.
const LONG: Duration = Duration::from_millis(400);

/// The other test uses so many times more zones.
const SPARING_SHARE: usize = 10;

/// How often a query is repeated whose answers differ without a reason.
const TRIES: usize = 5;

#[test]
#[ignore = "needs named, pdns_recursor and rec_control"]
fn random_zones_are_applied_as_bind_and_powerdns_apply_them() {
    let (zones, queries) = numbers();
    let seed = seed();
    eprintln!("TAPIS_SEED={seed}");
    let mut random = Random(seed);
    let upstream = truth::upstream();
    let servers = Servers::start(upstream.address, true);
    let mut table = Table::breaking();
    let (mut made, mut version) = (0, 0);
    while made < zones {
        version += 1;
        let count = 1 + random.below(servers::ZONES.len());
        let set: Vec<_> = (0..count).map(|_| Zone::random(&mut random)).collect();
        made += count;
        servers.replace(&set, version);
        let questions: Vec<_> = (0..queries * count)
            .map(|_| Question::random(&mut random, &set))
            .collect();
        let mut compare = |question, [tapis, bind, powerdns]: [Outcome; 3], is_last| {
            let case = Case {
                version,
                zones: &set,
                question,
                spares_signed: false,
                tapis,
                bind,
                powerdns,
            };
            let is_explained = table.explain(&case);
            if !is_explained && is_last {
                table.report(&case);
            }
            is_explained
        };
        let outcomes = answers(&servers, &questions, [QUIET, LONG]);
        for (question, outcomes) in questions.iter().zip(outcomes) {
            let mut is_explained = compare(question, outcomes, false);
            // Datagrams to or from upstream may have been lost.
            for nth in 1..=TRIES {
                if !is_explained {
                    let one = std::slice::from_ref(question);
                    let again = answers(&servers, one, [PATIENCE / 4; 2]);
                    let outcomes = again.into_iter().next().expect("one");
                    is_explained = compare(question, outcomes, nth == TRIES);
                }
            }
        }
    }
    table.assert_explained();
}

/// Signatures in the answers of upstream, and zones that do not change signed answers to clients that ask for DNSSEC records.
/// PowerDNS Recursor has no such setting.
#[test]
#[ignore = "needs named, pdns_recursor and rec_control"]
fn rules_spare_signed_answers_as_bind_does_without_break_dnssec() {
    let (zones, queries) = numbers();
    let seed = seed();
    eprintln!("TAPIS_SEED={seed}");
    let mut random = Random(seed);
    let upstream = truth::signed_upstream();
    let servers = Servers::start(upstream.address, false);
    let (mut table, mut spared) = (Table::sparing(), 0);
    for version in 1..=(zones / SPARING_SHARE) as u32 {
        let zone = Zone::random(&mut random).without_passthru();
        let set = [zone, Zone::random(&mut random).without_passthru()];
        servers.replace(&set, version);
        let question = |_| Question::random(&mut random, &set);
        let plain: Vec<_> = (0..queries).map(question).collect();
        let ask = |question: &Question, dnssec: bool| Question {
            dnssec,
            ..question.clone()
        };
        let questions: Vec<_> = plain.iter().map(|one| ask(one, true)).collect();
        let plain: Vec<_> = plain.iter().map(|one| ask(one, false)).collect();
        let both = [questions, plain].map(|questions| {
            let outcomes = answers(&servers, &questions, [QUIET, LONG]);
            (questions, outcomes)
        });
        let [(_, with), (_, without)] = &both;
        let differ = with
            .iter()
            .zip(without)
            .filter(|(with, without)| with[0] != without[0]);
        spared += differ.count();
        for (question, outcomes) in both
            .iter()
            .flat_map(|(asked, found)| asked.iter().zip(found))
        {
            let mut explain = |[tapis, bind, _]: &[Outcome; 3], is_last| {
                let case = Case {
                    version,
                    zones: &set,
                    question,
                    spares_signed: true,
                    tapis: tapis.clone(),
                    bind: bind.clone(),
                    powerdns: bind.clone(),
                };
                let is_explained = table.explain(&case);
                if !is_explained && is_last {
                    table.report(&case);
                }
                is_explained
            };
            let mut is_explained = explain(outcomes, false);
            for nth in 1..=TRIES {
                if !is_explained {
                    let one = std::slice::from_ref(question);
                    let again = answers(&servers, one, [PATIENCE / 4; 2]);
                    is_explained = explain(&again[0], nth == TRIES);
                }
            }
        }
    }
    assert!(spared > 0, "no rule has spared an answer");
    table.assert_explained();
}

/// Zones, and queries for each zone.
fn numbers() -> (usize, usize) {
    let given = std::env::var("TAPIS_DIFFERENTIAL").ok();
    given.map_or((200, 500), |text| {
        let (zones, queries) = text.split_once(',').expect("zones,queries");
        let number = |text: &str| text.parse().expect("a number");
        (number(zones), number(queries))
    })
}

fn seed() -> u64 {
    let given = std::env::var("TAPIS_SEED").ok();
    given.map_or(SEED, |text| text.parse().expect("a number"))
}

/// What each server answers. Queries that only some servers answered are repeated: a datagram may be lost.
fn answers(
    servers: &Servers,
    questions: &[Question],
    [first, second]: [Duration; 2],
) -> Vec<[Outcome; 3]> {
    let addresses = servers.addresses();
    let all: Vec<_> = questions.iter().enumerate().collect();
    let mut found: [HashMap<usize, Outcome>; 3] = std::thread::scope(|scope| {
        let all = &all;
        addresses
            .map(|server| scope.spawn(move || ask(server, all, first)))
            .map(|thread| thread.join().expect("no panic"))
    });
    let is_answered = |number: &usize| found.iter().any(|of| of.contains_key(number));
    let missing = [0, 1, 2].map(|server: usize| -> Vec<_> {
        let all = all.iter().copied();
        all.filter(|(number, _)| is_answered(number) && !found[server].contains_key(number))
            .collect()
    });
    for (server, missing) in missing.iter().enumerate() {
        if !missing.is_empty() {
            found[server].extend(ask(addresses[server], missing, second));
        }
    }
    let outcome = |number| {
        [0, 1, 2].map(|server: usize| {
            let outcome = found[server].get(&number);
            outcome.cloned().unwrap_or(Outcome::Dropped)
        })
    };
    (0..questions.len()).map(outcome).collect()
}
