//! Answers of several pools of servers: those of forwarded zones, and those of all other names.

use std::sync::Arc;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType::{A, DS, TXT};
use tapis::policy::effect::EffectAction;
use tapis::policy::local::LocalBuilder;
use tapis::policy::record::LocalRecord;
use tapis::serve::cache::{Failure, Key};
use tapis::serve::respond::Known;
use tapis::serve::routes::{PoolId, Routes};
use tapis::serve::step::Resolution;
use tapis::stats::Count;
use tapis::wire::name::Name;

use super::ask::{Ask, ask};
use super::harness::{Harness, List, PERMITTED, harness, list};
use super::upstream_answer::{UpstreamAnswer, a, cname, rrsig, soa, upstream_answer};

const DEFAULT: PoolId = PoolId::DEFAULT;

fn name(text: &str) -> Name {
    Name::from_text(text).expect("a name")
}

/// A server with the forwarded zones `corp.example` and `lab.example.net`, whose pools differ.
struct Scene {
    harness: Harness,
    routes: Arc<Routes>,
    corp: PoolId,
    lab: PoolId,
}

fn scene(lists: impl IntoIterator<Item = List>) -> Scene {
    let [corp, lab] = [PoolId::unique(), PoolId::unique()];
    let mut scene = Scene {
        harness: harness(lists),
        routes: Arc::default(),
        corp,
        lab,
    };
    scene.route(&[("corp.example", corp), ("lab.example.net", lab)]);
    scene
}

impl Scene {
    fn route(&mut self, zones: &[(&str, PoolId)]) {
        let zones: Vec<_> = zones
            .iter()
            .map(|(zone, pool)| (name(zone), *pool))
            .collect();
        let routes = Routes::new(zones.iter().map(|(zone, pool)| (zone, *pool)));
        self.routes = Arc::new(routes);
        self.harness.cache.set_routes(Arc::clone(&self.routes));
    }

    /// Caches what a pool answers at `now`.
    fn learn(&self, ask: Ask<'_>, answer: UpstreamAnswer, (pool, now): (PoolId, u32)) {
        let entry = answer.of_pool(now, pool, &self.routes);
        self.harness.insert(ask, entry);
    }

    /// The name and type that upstream is asked for, and whether there is a stale answer.
    fn asked(&self, now: u32, ask: Ask<'_>) -> (String, u16, bool) {
        let taken = self.harness.take(now, PERMITTED, &ask.packet());
        let (key, stale) = taken.resolve();
        (shown(&key), key.rtype(), stale.is_some())
    }

    fn has_stale(&self, ask: Ask<'_>) -> bool {
        self.asked(20, ask).2
    }
}

fn shown(key: &Key) -> String {
    let (name, _) = Name::parse(key.name(), 0).expect("a name");
    name.to_string()
}

fn address(owner: &str, last: u8, ttl: u32) -> UpstreamAnswer {
    upstream_answer(owner, A).answers([a(owner, ttl, [192, 0, 2, last])])
}

fn denied(owner: &str, rtype: hickory_proto::rr::RecordType) -> UpstreamAnswer {
    let denied = upstream_answer(owner, rtype).rcode(ResponseCode::NXDomain);
    denied.authority(soa("example", 300, 300))
}

fn alias(owner: &str, target: &str) -> UpstreamAnswer {
    upstream_answer(owner, A).answers([cname(owner, 300, target)])
}

const WWW: &str = "www.corp.example";

#[test]
fn an_nxdomain_of_another_pool_withdraws_no_stale_answer() {
    for (denier, asked, withdraws) in [
        // The parent's servers deny the DS record of the zone's name, or the name above.
        (DEFAULT, ask("corp.example", DS), false),
        (DEFAULT, ask("example", A), false),
        // Upstream does not know the name that one of its answers leads to.
        (DEFAULT, ask(WWW, A), false),
    ] {
        let scene = scene([]);
        for owner in ["corp.example", WWW] {
            scene.learn(ask(owner, A), address(owner, 1, 1), (scene.corp, 0));
        }
        let rtype = asked.rtype.into();
        scene.learn(
            ask(asked.name, rtype),
            denied(asked.name, rtype),
            (denier, 9),
        );
        // Not those of the same names and types: the last one replaced the answer itself.
        let other = if asked.name == WWW {
            "corp.example"
        } else {
            WWW
        };
        assert_eq!(scene.has_stale(ask(other, A)), !withdraws, "{}", asked.name);
    }
    // The zone's servers deny the zone's name, but the DS record is its parent's.
    let scene = scene([]);
    let of_parent = upstream_answer("corp.example", DS).authority(soa("example", 1, 1));
    scene.learn(ask("corp.example", DS), of_parent, (DEFAULT, 0));
    scene.learn(
        ask("corp.example", TXT),
        denied("corp.example", TXT),
        (scene.corp, 9),
    );
    assert!(scene.has_stale(ask("corp.example", DS)));
}

#[test]
fn an_nxdomain_of_the_same_pool_withdraws_stale_answers_whatever_others_say_later() {
    let scene = scene([]);
    scene.learn(ask(WWW, A), address(WWW, 1, 1), (scene.corp, 0));
    assert!(scene.has_stale(ask(WWW, A)));
    scene.learn(
        ask("corp.example", TXT),
        denied("corp.example", TXT),
        (scene.corp, 9),
    );
    assert!(!scene.has_stale(ask(WWW, A)));
    scene.learn(
        ask("corp.example", DS),
        denied("corp.example", DS),
        (DEFAULT, 10),
    );
    assert!(!scene.has_stale(ask(WWW, A)));
}

#[test]
fn after_a_change_of_the_routes_only_answers_of_the_pools_that_are_asked_now_are_used() {
    let mut scene = scene([]);
    let (corp, lab) = (scene.corp, scene.lab);
    let names = [
        (WWW, corp),
        ("a.lab.example.net", lab),
        ("www.example", DEFAULT),
    ];
    for (owner, pool) in names {
        scene.learn(ask(owner, A), address(owner, 7, 30), (pool, 0));
    }
    let known = |scene: &Scene| {
        let packets = names.map(|(owner, _)| ask(owner, A).packet());
        let taken = packets.map(|packet| scene.harness.take(0, PERMITTED, &packet));
        taken.map(|outcome| matches!(outcome, super::decoded::Outcome::Replied(_)))
    };
    assert_eq!(known(&scene), [true; 3]);
    // Another pool for one zone, the other zone as it was, and a third one that nothing is known about.
    let other = PoolId::unique();
    scene.route(&[
        ("corp.example", other),
        ("lab.example.net", lab),
        ("more.example.net", other),
    ]);
    assert_eq!(known(&scene), [false, true, true]);
    assert!(!scene.has_stale(ask(WWW, A)), "not even a stale answer");
    // An answer that the former servers gave meanwhile.
    scene.learn(ask(WWW, A), address(WWW, 8, 30), (corp, 0));
    assert_eq!(known(&scene), [false, true, true]);
    scene.learn(ask(WWW, A), address(WWW, 9, 30), (other, 0));
    assert_eq!(known(&scene), [true; 3]);
    scene.route(&[]);
    assert_eq!(known(&scene), [false, false, true]);
}

#[test]
fn a_failure_of_the_former_servers_is_forgotten() {
    let mut scene = scene([]);
    let failure = Failure {
        code: 22,
        said: None,
    };
    let failed = || Arc::new(failure.clone());
    let key = super::harness::key(ask(WWW, A));
    let cache = &scene.harness.cache;
    cache.insert_failure(key, failed(), 0, scene.corp);
    assert_eq!(scene.harness.answer(ask(WWW, A)).count, Count::Failed);
    let other = PoolId::unique();
    scene.route(&[("corp.example", other)]);
    scene.asked(0, ask(WWW, A));
}

#[test]
fn an_answer_of_the_former_servers_does_not_answer_those_who_waited_for_it() {
    let mut scene = scene([]);
    let entry = address(WWW, 1, 300).of_pool(0, scene.corp, &scene.routes);
    let resolution = Resolution::Answered(entry);
    let decoded = scene.harness.conclude(0, ask(WWW, A), &resolution);
    assert_eq!(decoded.reply().count, Count::Resolved);
    scene.route(&[("corp.example", PoolId::unique())]);
    let (key, _) = scene
        .harness
        .conclude(0, ask(WWW, A), &resolution)
        .resolve();
    assert_eq!(shown(&key), WWW);
}

#[test]
fn a_stale_answer_of_the_former_servers_is_not_sent_when_upstream_fails() {
    let mut scene = scene([]);
    let entry = || address(WWW, 1, 1).of_pool(0, scene.corp, &scene.routes);
    let failure = Arc::new(Failure {
        code: 22,
        said: None,
    });
    let failed = Resolution::Failed(failure, Some(entry()));
    let overloaded = Resolution::Overloaded(Some(entry()));
    scene.route(&[("corp.example", PoolId::unique())]);
    for resolution in [failed, overloaded, Resolution::Outdated] {
        let asked = scene.harness.conclude(20, ask(WWW, A), &resolution);
        assert_eq!(shown(&asked.resolve().0), WWW, "{resolution:?}");
        let known = Known {
            resolution: &resolution,
            cache: &scene.harness.cache,
            is_last: true,
        };
        let last = scene.harness.conclude_with(20, ask(WWW, A), known).reply();
        assert_eq!(last.rcode(), ResponseCode::ServFail, "{resolution:?}");
    }
}

#[test]
fn a_late_answer_of_the_former_servers_does_not_displace_that_of_the_new_ones() {
    let mut scene = scene([]);
    let other = PoolId::unique();
    scene.route(&[("corp.example", other)]);
    scene.learn(ask(WWW, A), address(WWW, 9, 300), (other, 0));
    for late in [address(WWW, 8, 300), denied(WWW, A)] {
        scene.learn(ask(WWW, A), late.clone(), (scene.corp, 1));
        let entry = late.of_pool(1, scene.corp, &scene.routes);
        let key = super::harness::key(ask(WWW, A));
        assert!(scene.harness.cache.try_insert(key, entry));
        let decoded = scene.harness.answer_at(2, ask(WWW, A));
        assert_eq!(decoded.answers(), ["www.corp.example. 298 IN A 192.0.2.9"]);
    }
}

#[test]
fn a_chain_that_may_not_be_cached_is_completed_and_counted_as_resolved() {
    let start = "www.example";
    let scene = scene([]);
    let said = upstream_answer(start, A).answers([cname(start, 0, WWW)]);
    let entry = said.of_pool(0, DEFAULT, &scene.routes);
    scene.harness.insert(ask(start, A), Arc::clone(&entry));
    let conclude = |entry| {
        let resolution = Resolution::Answered(entry);
        scene.harness.conclude(1, ask(start, A), &resolution)
    };
    assert_eq!(shown(&conclude(entry).resolve().0), WWW);
    let target = address(WWW, 7, 300).of_pool(1, scene.corp, &scene.routes);
    scene.harness.insert(ask(WWW, A), Arc::clone(&target));
    let expected = [
        "www.example. 0 IN CNAME www.corp.example.",
        "www.corp.example. 300 IN A 192.0.2.7",
    ];
    let decoded = conclude(target).reply();
    assert_eq!(decoded.answers(), expected);
    assert_eq!(decoded.count, Count::Resolved);
    let decoded = scene.harness.answer_at(1, ask(start, A));
    assert_eq!(decoded.count, Count::CacheHits);
    assert!(
        scene
            .harness
            .take(2, PERMITTED, &ask(start, A).packet())
            .resolve()
            .1
            .is_some()
    );
}

#[test]
fn an_nxdomain_about_a_name_of_another_pool_neither_withdraws_nor_keeps_a_stale_chain() {
    let (start, middle) = ("www.example", "middle.example");
    // Upstream denies the name at the end of the chain, which is not its own.
    let chain = [cname(start, 1, middle), cname(middle, 1, WWW)];
    let said = upstream_answer(start, A).answers(chain);
    let said = said.rcode(ResponseCode::NXDomain);
    let said = said.authority(soa("example", 1, 1));
    for (denier, withdraws) in [("corp.example", false), (middle, true), (start, true)] {
        let scene = scene([]);
        scene.learn(ask(start, A), said.clone(), (DEFAULT, 0));
        assert!(scene.has_stale(ask(start, A)));
        let rtype = if denier == "corp.example" { DS } else { TXT };
        scene.learn(ask(denier, rtype), denied(denier, rtype), (DEFAULT, 9));
        assert_eq!(scene.has_stale(ask(start, A)), !withdraws, "{denier}");
    }
    // Nor does it deny that name to others.
    let scene = scene([]);
    let other = "other.example";
    let stale = upstream_answer(other, DS).answers([cname(other, 1, "x.corp.example")]);
    scene.learn(ask(other, DS), stale, (DEFAULT, 0));
    scene.learn(ask(start, A), said, (DEFAULT, 9));
    assert!(scene.has_stale(ask(other, DS)));
}

#[test]
fn the_chain_of_a_rule_ends_at_a_name_of_which_other_servers_are_asked() {
    let rule = EffectAction::Cname {
        target: Arc::new(name("garden.example")),
        prepend: false,
    };
    let scene = scene([list("wall").exact("bad.example").acts(rule)]);
    let garden = "garden.example";
    let said = alias(garden, WWW).answers([a(WWW, 9, [203, 0, 113, 1])]);
    scene.learn(ask(garden, A), said, (DEFAULT, 0));
    let decoded = scene.harness.answer_at(100, ask("bad.example", A));
    let expected = [
        "bad.example. 60 IN CNAME garden.example.",
        "garden.example. 200 IN CNAME www.corp.example.",
    ];
    assert_eq!(decoded.answers(), expected);
}

#[test]
fn what_upstream_says_about_names_of_a_forwarded_zone_is_asked_of_its_servers() {
    let start = "www.example";
    let chain = [cname(start, 300, WWW), cname(WWW, 300, "cdn.example")];
    let public = alias(start, WWW).answers([a(WWW, 300, [203, 0, 113, 1])]);
    let denied = alias(start, WWW).rcode(ResponseCode::NXDomain);
    let denied = denied.authority(soa("example", 30, 30));
    let onwards = upstream_answer(start, A).answers(chain);
    for said in [public, denied, alias(start, WWW), onwards] {
        let scene = scene([]);
        scene.learn(ask(start, A), said, (DEFAULT, 0));
        assert_eq!(scene.asked(0, ask(start, A)).0, WWW);
        scene.learn(ask(WWW, A), address(WWW, 7, 300), (scene.corp, 0));
        let decoded = scene.harness.answer_at(100, ask(start, A));
        let expected = [
            "www.example. 200 IN CNAME www.corp.example.",
            "www.corp.example. 200 IN A 192.0.2.7",
        ];
        assert_eq!(decoded.answers(), expected);
        assert_eq!(decoded.rcode(), ResponseCode::NoError);
    }
}

#[test]
fn a_chain_through_the_zones_of_three_pools_and_a_local_alias_is_completed() {
    let mut scene = scene([]);
    let mut builder = LocalBuilder::new(&[], true);
    let target = name("b.lab.example.net");
    let record = LocalRecord {
        rtype: 5,
        ttl_secs: Some(60),
        data: target.wire().into(),
    };
    builder.add_record(&name("own.example"), record, 1);
    scene.harness.snapshot.local = Arc::new(builder.finish());
    let start = "www.example";
    let alias_to = [(start, WWW, DEFAULT), (WWW, "own.example", scene.corp)];
    for (owner, target, pool) in alias_to {
        scene.learn(ask(owner, A), alias(owner, target), (pool, 0));
    }
    assert_eq!(scene.asked(0, ask(start, A)).0, "b.lab.example.net");
    let back = alias("b.lab.example.net", "end.example");
    scene.learn(ask("b.lab.example.net", A), back, (scene.lab, 0));
    assert_eq!(scene.asked(0, ask(start, A)).0, "end.example");
    scene.learn(
        ask("end.example", A),
        address("end.example", 7, 20),
        (DEFAULT, 0),
    );
    let decoded = scene.harness.answer(ask(start, A));
    let expected = [
        "www.example. 300 IN CNAME www.corp.example.",
        "www.corp.example. 300 IN CNAME own.example.",
        "own.example. 60 IN CNAME b.lab.example.net.",
        "b.lab.example.net. 300 IN CNAME end.example.",
        "end.example. 20 IN A 192.0.2.7",
    ];
    assert_eq!(decoded.answers(), expected);
    // A chain that leads back ends where it does.
    scene.learn(
        ask("end.example", A),
        alias("end.example", WWW),
        (DEFAULT, 0),
    );
    assert_eq!(scene.harness.answer(ask(start, A)).answers().len(), 5);
}

#[test]
fn a_stale_chain_is_completed_as_a_fresh_one_and_says_that_it_is_stale() {
    let start = "www.example";
    let scene = scene([]);
    let brief = upstream_answer(start, A).answers([cname(start, 1, WWW)]);
    scene.learn(ask(start, A), brief, (DEFAULT, 0));
    scene.learn(ask(WWW, A), address(WWW, 7, 300), (scene.corp, 0));
    let asked = ask(start, A).edns(1232);
    let (_, stale) = scene.harness.take(20, PERMITTED, &asked.packet()).resolve();
    let failure = Arc::new(Failure {
        code: 22,
        said: None,
    });
    let failed = Resolution::Failed(failure, Some(stale.expect("a stale chain")));
    let decoded = scene.harness.conclude(20, asked, &failed).reply();
    let expected = [
        "www.example. 30 IN CNAME www.corp.example.",
        "www.corp.example. 280 IN A 192.0.2.7",
    ];
    assert_eq!(
        (decoded.answers(), decoded.codes()),
        (expected.map(str::to_owned).to_vec(), vec![3])
    );
    // At the last attempt, too.
    let known = Known {
        resolution: &failed,
        cache: &scene.harness.cache,
        is_last: true,
    };
    let decoded = scene.harness.conclude_with(20, asked, known).reply();
    assert_eq!(decoded.answers(), expected);
}

#[test]
fn each_stale_part_of_a_completed_chain_has_the_ttl_of_stale_records() {
    let (start, end) = ("www.example", "x.lab.example.net");
    let scene = scene([]);
    for (owner, target, pool) in [(start, WWW, DEFAULT), (WWW, end, scene.corp)] {
        let brief = upstream_answer(owner, A).answers([cname(owner, 1, target)]);
        scene.learn(ask(owner, A), brief, (pool, 0));
    }
    scene.learn(ask(end, A), address(end, 7, 300), (scene.lab, 0));
    let asked = ask(start, A).edns(1232);
    let (_, stale) = scene.harness.take(20, PERMITTED, &asked.packet()).resolve();
    let failure = Arc::new(Failure {
        code: 22,
        said: None,
    });
    let failed = Resolution::Failed(failure, Some(stale.expect("a stale chain")));
    // The servers of the middle part may answer, so they are asked first.
    let last = Known {
        resolution: &failed,
        cache: &scene.harness.cache,
        is_last: true,
    };
    let decoded = scene.harness.conclude_with(20, asked, last).reply();
    let expected = [
        "www.example. 30 IN CNAME www.corp.example.",
        "www.corp.example. 30 IN CNAME x.lab.example.net.",
        "x.lab.example.net. 280 IN A 192.0.2.7",
    ];
    assert_eq!(decoded.answers(), expected);
}

#[test]
fn rules_apply_to_all_parts_of_a_completed_chain() {
    let start = "www.example";
    for rules in [
        list("ads").exact(WWW),
        list("ads").exact("end.example"),
        list("ads").address("192.0.2.0/24"),
    ] {
        let scene = scene([rules]);
        scene.learn(ask(start, A), alias(start, WWW), (DEFAULT, 0));
        let onwards = alias(WWW, "end.example");
        scene.learn(ask(WWW, A), onwards, (scene.corp, 0));
        scene.learn(
            ask("end.example", A),
            address("end.example", 7, 20),
            (DEFAULT, 0),
        );
        let decoded = scene.harness.answer(ask(start, A));
        assert_eq!(decoded.count, Count::BlockedTarget);
        let answers = decoded.answers();
        let last = answers.last().expect("the sinkhole");
        assert!(last.ends_with("IN A 0.0.0.0"), "{answers:?}");
    }
}

#[test]
fn a_rule_that_spares_signed_answers_decides_by_the_answer_that_begins_the_chain() {
    let start = "www.example";
    let asked = ask(start, A).dnssec_ok();
    for (signature, count) in [
        (
            Some(rrsig(start, 300, hickory_proto::rr::RecordType::CNAME)),
            Count::CacheHits,
        ),
        (None, Count::Blocked),
    ] {
        let scene = scene([list("feed").zone(false).exact(start)]);
        let said = alias(start, WWW).answers(signature);
        scene.learn(asked, said, (DEFAULT, 0));
        scene.learn(ask(WWW, A), address(WWW, 7, 300), (scene.corp, 0));
        assert_eq!(scene.harness.answer(asked).count, count);
    }
}

#[test]
fn rules_on_addresses_do_not_apply_to_local_addresses_at_the_end_of_any_chain() {
    let mut scene = scene([list("ads").address("192.0.2.0/24")]);
    let mut builder = LocalBuilder::new(&[], true);
    let mut add = |owner: &str, rtype: u16, data: &[u8]| {
        let record = LocalRecord {
            rtype,
            ttl_secs: Some(60),
            data: data.into(),
        };
        builder.add_record(&name(owner), record, 1);
    };
    add("router.example", 1, &[192, 0, 2, 7]);
    add("alias.example", 5, name("router.example").wire());
    scene.harness.snapshot.local = Arc::new(builder.finish());
    scene.learn(ask(WWW, A), alias(WWW, "router.example"), (scene.corp, 0));
    for (owner, count) in [("alias.example", Count::Local), (WWW, Count::CacheHits)] {
        let decoded = scene.harness.answer(ask(owner, A));
        assert_eq!(decoded.count, count, "{owner}");
        assert_eq!(decoded.answers()[1], "router.example. 60 IN A 192.0.2.7");
    }
    // What upstream says about a local name is sent as upstream sent it, and rules on addresses apply.
    let said = alias("www.example", "router.example");
    let said = said.answers([a("router.example", 300, [192, 0, 2, 8])]);
    scene.learn(ask("www.example", A), said, (DEFAULT, 0));
    let decoded = scene.harness.answer(ask("www.example", A));
    assert_eq!(decoded.count, Count::BlockedTarget);
}
