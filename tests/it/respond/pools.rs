//! Answers of several pools of servers: those of forwarded zones, and those of all other names.

use std::sync::Arc;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType::{A, DS, TXT};
use tapis::serve::cache::{Failure, Key};
use tapis::serve::respond::Known;
use tapis::serve::routes::{PoolId, Routes};
use tapis::serve::step::Resolution;
use tapis::stats::Count;
use tapis::wire::name::Name;

use super::ask::{Ask, ask};
use super::harness::{Harness, List, PERMITTED, harness};
use super::upstream_answer::{UpstreamAnswer, a, cname, soa, upstream_answer};

pub(super) const DEFAULT: PoolId = PoolId::DEFAULT;

pub(super) fn name(text: &str) -> Name {
    Name::from_text(text).expect("a name")
}

/// A server with the forwarded zones `corp.example` and `lab.example.net`, whose pools differ.
pub(super) struct Scene {
    pub(super) harness: Harness,
    pub(super) routes: Arc<Routes>,
    pub(super) corp: PoolId,
    pub(super) lab: PoolId,
}

pub(super) fn scene(lists: impl IntoIterator<Item = List>) -> Scene {
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
    pub(super) fn learn(&self, ask: Ask<'_>, answer: UpstreamAnswer, (pool, now): (PoolId, u32)) {
        let entry = answer.of_pool(now, pool, &self.routes);
        self.harness.insert(ask, entry);
    }

    /// The name and type that upstream is asked for, and whether there is a stale answer.
    pub(super) fn asked(&self, now: u32, ask: Ask<'_>) -> (String, u16, bool) {
        let taken = self.harness.take(now, PERMITTED, &ask.packet());
        let (key, stale) = taken.resolve();
        (shown(&key), key.rtype(), stale.is_some())
    }

    fn has_stale(&self, ask: Ask<'_>) -> bool {
        self.asked(20, ask).2
    }
}

pub(super) fn shown(key: &Key) -> String {
    let (name, _) = Name::parse(key.name(), 0).expect("a name");
    name.to_string()
}

pub(super) fn address(owner: &str, last: u8, ttl: u32) -> UpstreamAnswer {
    upstream_answer(owner, A).answers([a(owner, ttl, [192, 0, 2, last])])
}

fn denied(owner: &str, rtype: hickory_proto::rr::RecordType) -> UpstreamAnswer {
    let denied = upstream_answer(owner, rtype).rcode(ResponseCode::NXDomain);
    denied.authority(soa("example", 300, 300))
}

pub(super) fn alias(owner: &str, target: &str) -> UpstreamAnswer {
    upstream_answer(owner, A).answers([cname(owner, 300, target)])
}

pub(super) const WWW: &str = "www.corp.example";

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
