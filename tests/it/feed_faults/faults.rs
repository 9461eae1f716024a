//! Each fault of a primary, while the server runs.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use tapis::control::sources::feeds::fault::Fault;
use tapis::wire::rtype;

use super::scene::{Scene, count, versions};
use crate::feeds::{ZONE, blocks, feed, refresh};
use crate::support::client::until;
use crate::support::primary::{Asked, EXPIRE_SECS, Gate, Step, Zone, cname, framed, send};
use crate::support::server::text;
use crate::support::tls::{Security, authority};

/// A zone with this serial and these names.
fn zone(serial: u32, names: &[&str]) -> Zone {
    Zone::new(ZONE, serial, names)
}

/// The second version, which is larger than the messages of the first.
fn second() -> Zone {
    zone(
        2,
        &[
            "kept.example",
            "new.example",
            "a.example",
            "b.example",
            "c.example",
        ],
    )
}

/// Answers the query for the serial with the second version, and others by a script.
fn after_soa(
    script: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static,
) -> impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static {
    move |asked| match asked.rtype {
        rtype::SOA => send(second().answer(asked)),
        _ => script(asked),
    }
}

/// Sends the first messages of the second version, and then does this.
fn midway(then: fn() -> Step) -> impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static {
    after_soa(move |asked| {
        let mut steps = send(second().answer(asked));
        steps.pop();
        steps.push(then());
        steps
    })
}

#[test]
fn an_unreachable_primary() {
    let scene = Scene::start("");
    scene.next_version();
    scene.primary.close();
    refresh(&scene.server);
    scene.reports(Fault::Unreachable, "refused");
    scene.primary.listen();
    scene.recovers(Fault::Unreachable);
}

/// A feed that is transferred over TLS.
fn encrypted() -> Scene {
    let versions = versions();
    let newest = versions.clone();
    let usual = move |asked: &Asked| send(newest.answer(asked));
    Scene::start_with(
        Security::tls(b"dot"),
        versions,
        usual,
        |upstream, primary| {
            let tls = format!(
                "primaries = [{{ address = \"127.0.0.1\", port = {}, tls = \"primary.test\", tls-ca = {:?} }}]",
                primary.address.port(),
                authority()
            );
            let plain = format!("primaries = [\"{}\"]", primary.address);
            crate::feeds::config(upstream, primary, "").replace(&plain, &tls)
        },
    )
}

#[test]
fn a_primary_with_another_protocol_over_tls() {
    let scene = encrypted();
    scene.next_version();
    scene.primary.secure(Security::tls(b"h2"));
    refresh(&scene.server);
    scene.reports(Fault::TlsFailed, "");
    scene.primary.secure(Security::tls(b"dot"));
    scene.recovers(Fault::TlsFailed);
}

#[test]
fn a_primary_with_the_certificate_of_an_authority() {
    let scene = encrypted();
    scene.next_version();
    scene.primary.secure(Security::self_signed());
    refresh(&scene.server);
    scene.reports(
        Fault::TlsFailed,
        "the server needs a separate certificate, which this authority may issue",
    );
    scene.primary.secure(Security::tls(b"dot"));
    scene.recovers(Fault::TlsFailed);
}

#[test]
fn a_primary_that_refuses() {
    let scene = Scene::start("");
    scene.fails(Fault::Refused, "REFUSED", |asked| {
        second().refusal(asked, 5)
    });
    scene.recovers(Fault::Refused);
}

#[test]
fn a_primary_that_has_not_loaded_the_zone() {
    let scene = Scene::start("");
    let script = after_soa(|asked| second().refusal(asked, 2));
    scene.fails(Fault::NotLoaded, "SERVFAIL", script);
    scene.recovers(Fault::NotLoaded);
}

#[test]
fn a_primary_that_does_not_serve_the_zone() {
    let scene = Scene::start("");
    scene.fails(Fault::NotServed, "NOTAUTH", |asked| {
        second().refusal(asked, 9)
    });
    scene.recovers(Fault::NotServed);
}

#[test]
fn an_empty_zone() {
    let scene = Scene::start("");
    scene.fails(Fault::EmptyZone, "serial 2", |asked| {
        send(zone(2, &[]).answer(asked))
    });
    scene.recovers(Fault::EmptyZone);
}

#[test]
fn a_serial_that_has_gone_back() {
    let scene = Scene::start("");
    let older = |asked: &Asked| send(zone(0, &["older.example"]).answer(asked));
    scene.fails(Fault::SerialGoneBack, "serial 0", older);
    scene.recovers(Fault::SerialGoneBack);
}

#[test]
fn an_older_version_is_transferred_if_the_operator_wants_it() {
    let scene = Scene::start("");
    let reset = zone(0, &["reset.example"]);
    scene.fails(Fault::SerialGoneBack, "serial 0", move |asked| {
        send(reset.answer(asked))
    });
    let done = scene.server.verb(&["feed", "refresh", "feed", "--whole"]);
    assert!(done.status.success(), "{done:?}");
    blocks(&scene.server, 0, &["reset.example"], &["kept.example"]);
}

#[test]
fn the_verb_that_asks_the_primaries_ends_with_the_result() {
    let scene = Scene::start("");
    let refresh = || {
        let done = scene.server.verb(&["feed", "refresh", "feed"]);
        (done.status.code(), text(&done))
    };
    let newest = |serial| format!("feed: serial {serial} is in force, and is the newest one\n");
    assert_eq!(refresh(), (Some(0), newest(1)));
    scene.next_version();
    let now = "feed: serial 2 is in force now\n".to_owned();
    assert_eq!(refresh(), (Some(0), now));
    scene.primary.play(|asked| second().refusal(asked, 5));
    let (code, printed) = refresh();
    assert_eq!(code, Some(1));
    let start = format!("feed: zone {ZONE} from {}: ", scene.primary.address);
    assert!(printed.starts_with(&start), "{printed}");
    assert!(
        printed.ends_with(&format!("{}\n", Fault::Refused.remedy())),
        "{printed}"
    );
    let unknown = scene.server.verb(&["feed", "refresh", "other"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown).contains("tapis feed list"), "{unknown:?}");
}

#[test]
fn the_progress_of_a_transfer_is_shown_on_a_terminal() {
    let scene = Scene::start("");
    let gate = Gate::default();
    let (held, newest) = (gate.clone(), scene.versions.clone());
    scene.primary.play(move |asked| {
        let mut steps = send(newest.newest().answer(asked));
        if asked.rtype != rtype::SOA {
            steps.insert(1, Step::Wait(held.clone()));
        }
        steps
    });
    let config = scene.server.path("tapis.toml");
    let verb = format!(
        "{} feed refresh feed --whole --config {}",
        env!("CARGO_BIN_EXE_tapis"),
        config.display()
    );
    let mut terminal = Command::new("script")
        .args(["--quiet", "--return", "--command", &verb, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script runs");
    let mut output = terminal.stdout.take().expect("piped");
    let (mut shown, mut buffer) = (String::new(), [0; 1024]);
    while !shown.contains(" MiB, ") {
        let len = output.read(&mut buffer).expect("readable");
        assert!(len > 0, "it ended: {shown}");
        shown.push_str(&String::from_utf8_lossy(&buffer[..len]));
    }
    let progress = format!("3 records from {}, 0.0 MiB, ", scene.primary.address);
    assert!(shown.contains(&progress), "{shown}");
    gate.open();
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("text");
    assert!(rest.contains("feed: serial 1 is in force now"), "{rest}");
    assert!(terminal.wait().expect("it ended").success());
}

#[test]
fn a_primary_that_refuses_the_whole_zone_is_asked_for_changes_afterwards() {
    let scene = Scene::start("");
    scene.next_version();
    let newest = scene.versions.clone();
    scene.primary.play(move |asked| match asked.rtype {
        rtype::AXFR => second().refusal(asked, 5),
        _ => send(newest.answer(asked)),
    });
    let done = scene.server.verb(&["feed", "refresh", "feed", "--whole"]);
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    scene.reports(Fault::Refused, "REFUSED");
    refresh(&scene.server);
    scene.has_the_second_version();
    scene.server.assert_well();
}

#[test]
fn a_whole_zone_in_place_of_changes_is_used_and_counted() {
    let scene = Scene::start("");
    scene.next_version();
    scene
        .primary
        .play(|asked| send(zone(2, &["kept.example", "new.example"]).answer(asked)));
    refresh(&scene.server);
    scene.has_the_second_version();
    until("it is counted", || {
        count(&feed(&scene.server), Fault::WholeZone) == 1
    });
    let shown = text(&scene.server.verb(&["feed", "show", "feed"]));
    let line = format!(
        "count      whole-zone 1: {}; {}\n",
        Fault::WholeZone.meaning(),
        Fault::WholeZone.remedy()
    );
    assert!(shown.contains(&line), "{shown}");
    assert!(feed(&scene.server)["primaries"][0]["fault"].is_null());
    scene.server.assert_well();
}

#[test]
fn changes_that_do_not_begin_at_the_version_in_force_are_followed_by_the_whole_zone() {
    let scene = Scene::start("");
    let gate = Gate::default();
    let held = gate.clone();
    scene.next_version();
    scene
        .primary
        .play(after_soa(move |asked| match asked.rtype {
            rtype::IXFR => {
                let added = [cname(&format!("new.example.{ZONE}"), ".")];
                let zone = second();
                send(zone.messages(asked, &zone.changes(&[(7, &[], 2, &added)])))
            }
            _ => {
                let whole = send(zone(2, &["kept.example", "new.example"]).answer(asked));
                [Step::Wait(held.clone())]
                    .into_iter()
                    .chain(whole)
                    .collect()
            }
        }));
    refresh(&scene.server);
    until("the whole zone is asked for", || {
        scene.whole_transfers() == 2 && !feed(&scene.server)["transfer"].is_null()
    });
    let during = feed(&scene.server);
    assert_eq!(during["primaries"][0]["fault"], Fault::BrokenChanges.name());
    let reported = during["primaries"][0]["text"].as_str().expect("a text");
    assert!(
        reported.contains(Fault::BrokenChanges.meaning()),
        "{reported}"
    );
    assert!(
        reported.ends_with(Fault::BrokenChanges.remedy()),
        "{reported}"
    );
    scene.keeps_the_first_version();
    gate.open();
    scene.has_the_second_version();
    until("the fault is over", || {
        feed(&scene.server)["primaries"][0]["fault"].is_null()
    });
    assert_eq!(count(&feed(&scene.server), Fault::BrokenChanges), 1);
    scene.server.assert_well();
}

#[test]
fn changes_that_delete_a_record_that_is_not_there_are_counted_and_followed_by_the_whole_zone() {
    let scene = Scene::start("");
    let deleted = ["gone.example", "never.example"];
    scene.versions.change(&deleted, &["new.example"]);
    refresh(&scene.server);
    scene.has_the_second_version();
    until("it is counted", || {
        count(&feed(&scene.server), Fault::BrokenChanges) == 1
    });
    scene.server.assert_well();
}

#[test]
fn a_transfer_that_takes_too_long() {
    let mut scene = Scene::start("max-transfer-secs = 25");
    hangs(&mut scene, Duration::from_secs(26));
    scene.reports(Fault::TooLong, "after 25 s");
    scene.recovers(Fault::TooLong);
}

#[test]
fn a_primary_that_falls_silent() {
    let mut scene = Scene::start("");
    hangs(&mut scene, Duration::from_secs(31));
    scene.reports(Fault::TooSlow, "for 30 s");
    scene.recovers(Fault::TooSlow);
}

/// The primary hangs in the middle of a transfer, and this time passes.
fn hangs(scene: &mut Scene, time: Duration) {
    scene.next_version();
    scene.primary.play(midway(|| Step::Hang));
    refresh(&scene.server);
    until("the transfer is under way", || {
        feed(&scene.server)["transfer"]["records"] == 6
    });
    scene.clock.advance(time);
}

#[test]
fn too_many_records() {
    let scene = Scene::start("max-records = 7");
    scene.fails(Fault::TooLarge, "7 records", |asked| {
        send(second().answer(asked))
    });
    scene.recovers(Fault::TooLarge);
}

#[test]
fn a_zone_without_end_is_ended_by_the_limit_of_records_and_takes_little_memory() {
    let scene = Scene::start("max-records = 1000000");
    let before = scene.server.peak_kib();
    let endless = after_soa(|asked| {
        let zone = second();
        let first = zone.message(asked, &[zone.soa(2)], 0);
        let label = "x".repeat(60);
        let part = (0..700).map(|number| cname(&format!("{number}.{label}.{ZONE}"), "."));
        let part: Vec<_> = part.collect();
        vec![
            Step::Send(first),
            Step::Forever(zone.message(asked, &part, 0)),
        ]
    });
    scene.fails(Fault::TooLarge, "1000000 records", endless);
    let grown = scene.server.peak_kib() - before;
    // The records take 80 MB.
    assert!(grown < 32 * 1024, "{grown} KiB");
    scene.recovers(Fault::TooLarge);
}

#[test]
fn too_many_bytes() {
    let scene = Scene::start("max-transfer-mib = 1");
    let endless = after_soa(|asked| {
        let zone = second();
        let first = zone.message(asked, &[zone.soa(2)], 0);
        let part = vec![cname(&format!("x.{ZONE}"), "."); 1000];
        vec![
            Step::Send(first),
            Step::Forever(zone.message(asked, &part, 0)),
        ]
    });
    scene.fails(Fault::TooLarge, "1048576 bytes", endless);
    scene.recovers(Fault::TooLarge);
}

#[test]
fn a_connection_that_is_cut() {
    let scene = Scene::start("");
    scene.fails(Fault::Cut, "closed the connection", midway(|| Step::Close));
    scene.recovers(Fault::Cut);
}

#[test]
fn a_connection_that_is_cut_within_a_message() {
    let scene = Scene::start("");
    let script = after_soa(|asked| {
        let messages = second().answer(asked);
        let part = framed(&messages[1])[..40].to_vec();
        vec![
            Step::Send(messages[0].clone()),
            Step::Raw(part),
            Step::Close,
        ]
    });
    scene.fails(Fault::Cut, "closed the connection", script);
    scene.recovers(Fault::Cut);
}

/// Changes the second message of the transfer.
fn changed(change: fn(&mut Vec<u8>)) -> impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static {
    after_soa(move |asked| {
        let mut messages = second().answer(asked);
        change(&mut messages[1]);
        send(messages)
    })
}

#[test]
fn a_count_of_records_that_lies() {
    let scene = Scene::start("");
    scene.fails(Fault::Malformed, "", changed(|message| message[7] += 1));
    scene.recovers(Fault::Malformed);
}

#[test]
fn a_length_of_data_that_lies() {
    let scene = Scene::start("");
    let script = changed(|message| {
        let at = message.len() - 2;
        message[at] = 200;
    });
    scene.fails(Fault::Malformed, "", script);
    scene.recovers(Fault::Malformed);
}

#[test]
fn a_transfer_whose_beginning_is_repeated() {
    let scene = Scene::start("");
    let script = after_soa(|asked| {
        let messages = second().answer(asked);
        send([&messages[..1], &messages[..]].concat())
    });
    scene.fails(Fault::Malformed, "", script);
    scene.recovers(Fault::Malformed);
}

#[test]
fn two_transfers_that_are_interleaved() {
    let scene = Scene::start("");
    let script = after_soa(|asked| {
        let [one, other] = [
            second(),
            Zone {
                serial: 3,
                ..second()
            },
        ];
        let pairs = one.answer(asked).into_iter().zip(other.answer(asked));
        send(pairs.flat_map(|(one, other)| [one, other]).collect())
    });
    scene.fails(Fault::Malformed, "", script);
    scene.recovers(Fault::Malformed);
}

#[test]
fn a_record_outside_the_zone() {
    let scene = Scene::start("");
    let script = after_soa(|asked| {
        let mut zone = second();
        zone.records.insert(3, cname("stranger.example", "."));
        send(zone.answer(asked))
    });
    scene.fails(Fault::OutsideZone, "", script);
    scene.recovers(Fault::OutsideZone);
}

#[test]
fn a_zone_that_no_primary_confirms_expires_and_stays_in_force() {
    let mut scene = Scene::start("");
    scene.fails(Fault::NotLoaded, "SERVFAIL", |asked| {
        second().refusal(asked, 2)
    });
    scene
        .clock
        .advance(Duration::from_secs(u64::from(EXPIRE_SECS) + 1));
    until("it expires", || feed(&scene.server)["is_expired"] == true);
    scene.keeps_the_first_version();
    let status = scene.server.status();
    assert_eq!(count(&status["feeds"][0], Fault::Expired), 1);
    let alarm = format!(
        "feed: expired: {}; {}",
        Fault::Expired.meaning(),
        Fault::Expired.remedy()
    );
    let alarms = status["alarms"].as_array().expect("alarms");
    assert!(alarms.iter().any(|found| *found == *alarm), "{alarms:?}");
    assert!(text(&scene.server.verb(&["status"])).contains(&format!("ALARM {alarm}")));
    let shown = text(&scene.server.verb(&["feed", "show", "feed"]));
    assert!(shown.contains("state      expired\n"), "{shown}");
    scene
        .server
        .logged("no primary has confirmed the zone for too long");
    scene.recovers(Fault::Expired);
}

#[test]
fn a_zone_that_expires_during_a_transfer_is_reported_at_once() {
    let mut scene = Scene::start("");
    scene.primary.play(|asked| second().refusal(asked, 2));
    let expire = Duration::from_secs(EXPIRE_SECS.into());
    scene.clock.advance(expire - 15 * SECOND);
    // The transfer would fail after 30 s without a message.
    hangs(&mut scene, 18 * SECOND);
    until("it expires", || feed(&scene.server)["is_expired"] == true);
    let found = feed(&scene.server);
    assert_eq!(found["transfer"]["records"], 6, "{found}");
    assert_eq!(count(&found, Fault::Expired), 1);
    scene
        .server
        .logged("no primary has confirmed the zone for too long");
}

/// Lets time pass until the primary, which answers SERVFAIL, has been asked again.
fn pass(scene: &mut Scene, time: Duration) {
    scene.clock.advance(time);
    // The zone expires after the first of these, if at all.
    for _ in 0..2 {
        scene.server.verb(&["feed", "refresh", "feed"]);
    }
}

/// Asserts that state, alarm and counter agree on whether the zone has expired.
fn has_expired(scene: &Scene, expected: bool) {
    let status = scene.server.status();
    let feed = &status["feeds"][0];
    let listed = text(&scene.server.verb(&["feed", "list"]));
    let found = [
        feed["is_expired"] == true,
        status["alarms"].to_string().contains("feed: expired: "),
        listed == "feed  rpz.test  serial 1  expired\n",
        count(feed, Fault::Expired) == 1,
    ];
    assert_eq!(found, [expected; 4], "{listed}{status}");
    scene.keeps_the_first_version();
}

/// A scene with these keys, whose primary has a newer version that it can't serve.
fn not_loaded(keys: &str) -> Scene {
    let scene = Scene::start(keys);
    scene.fails(Fault::NotLoaded, "SERVFAIL", |asked| {
        second().refusal(asked, 2)
    });
    scene
}

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_zone_expires_after_max_age_hours_if_its_own_expire_time_is_longer() {
    let mut scene = not_loaded("max-age-hours = 2");
    pass(&mut scene, HOUR);
    has_expired(&scene, false);
    pass(&mut scene, HOUR + SECOND);
    has_expired(&scene, true);
    scene.recovers(Fault::Expired);
}

#[test]
fn a_zone_expires_after_max_age_hours_if_its_own_expire_time_is_shorter() {
    let mut scene = not_loaded("max-age-hours = 48");
    let expire = Duration::from_secs(EXPIRE_SECS.into());
    pass(&mut scene, expire + SECOND);
    has_expired(&scene, false);
    pass(&mut scene, 48 * HOUR - expire);
    has_expired(&scene, true);
    scene.recovers(Fault::Expired);
}

#[test]
fn a_zone_never_expires_if_max_age_hours_is_0() {
    let mut scene = not_loaded("max-age-hours = 0");
    pass(&mut scene, 2400 * HOUR);
    has_expired(&scene, false);
    scene.recovers(Fault::NotLoaded);
}
