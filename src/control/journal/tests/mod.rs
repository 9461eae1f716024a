//! The journal as a whole: writing, damage, and reading.

mod files;
mod harm;
mod keys;
mod losses;
mod moved;
mod unrecorded;

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::Index;

use super::entry::{Cause, Event};
use super::file::JournalFile;
use super::key::Keys;
use super::past::{Moment, Past};
use super::verify::{Problem, verify};
use super::{Draft, Entry, Journal, JournalError, OrderRecord, OrderRecords, read};
use crate::config::order::State;
use crate::control::journal::settings::Settings;

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

pub(super) fn draft(
    generation: u64,
    orders: Option<&[(&str, &str)]>,
    states: &[(&str, State)],
) -> Draft {
    let page = |(id, text): &(&str, &str)| OrderRecord {
        id: (*id).to_owned(),
        path: format!("{id}.toml").into(),
        text: (*text).into(),
        warnings: Vec::new(),
    };
    let order_records = orders.map(|orders| OrderRecords {
        orders: Some(orders.iter().map(page).collect()),
        exceptions: Some(Vec::new()),
    });
    let states = states.iter().map(|(id, state)| ((*id).to_owned(), *state));
    Draft {
        generation,
        at: at(generation as i64 * 100),
        causes: vec![Cause::Date],
        lists: Vec::new(),
        order_records: order_records.map(Arc::new),
        states: states.collect(),
        held: None,
        settings: Settings::new(),
    }
}

/// A folder with a journal of some generations, and the journal's path.
fn written(generations: u64) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("journal.jsonl");
    write(&path, 1..=generations);
    (dir, path)
}

fn write(path: &Path, generations: impl Iterator<Item = u64>) {
    let mut journal = Journal::open(path, None, None);
    let mut last = journal.last_generation();
    for generation in generations {
        last = generation;
        let text = format!("text {generation}");
        let state = match generation % 2 {
            0 => State::InForce,
            _ => State::Suspended,
        };
        let orders = [("x", text.as_str())];
        journal.publish(draft(generation, Some(&orders), &[("x", state)]));
    }
    journal.close(last);
    assert_eq!(journal.problem(), None);
}

fn entries(path: &Path) -> Vec<Entry> {
    let mut entries = Vec::new();
    read(path, |entry| {
        entries.push(entry);
        true
    })
    .expect("readable");
    entries
}

fn problems(path: &Path) -> Vec<Problem> {
    let findings = verify(&[path], None).expect("readable").findings;
    findings
        .into_iter()
        .map(|finding| finding.problem)
        .collect()
}

#[test]
fn each_change_is_recorded_once_and_a_restart_continues() {
    let (_dir, path) = written(1);
    let mut journal = Journal::open(&path, None, None);
    assert_eq!(journal.last_generation(), 1, "the last generation is known");
    let same = [("x", "text 1")];
    journal.publish(draft(2, Some(&same), &[("x", State::Suspended)]));
    journal.publish(draft(3, None, &[("x", State::Lifted)]));
    journal.publish(draft(4, Some(&[]), &[]));
    journal.close(4);
    let reported = entries(&path).into_iter().map(|entry| match entry.event {
        Event::Start(_) => "start".to_owned(),
        Event::Stop => "stop".to_owned(),
        Event::Order(order) => format!("order {}", order.text),
        Event::OrderGone { id, .. } => format!("gone {id}"),
        Event::Published(published) => {
            let state_changes = published.states.iter().map(|change| change.now);
            format!(
                "{} {:?}",
                entry.generation,
                state_changes.collect::<Vec<_>>()
            )
        }
        other => format!("{other:?}"),
    });
    assert_eq!(
        reported.collect::<Vec<_>>(),
        [
            "start",
            "order text 1",
            "1 [Some(Suspended)]",
            "stop",
            "start",
            "2 []",
            "3 [Some(Lifted)]",
            "gone x",
            "4 [None]",
            "stop",
        ]
    );
    assert_eq!(problems(&path), []);
}

#[test]
fn the_past_is_the_policy_that_was_in_force() {
    let (_dir, path) = written(3);
    let past = |moment| Past::read(&path, moment).expect("readable");
    assert!(past(Moment::At(at(99))).is_none(), "before its first entry");
    assert!(past(Moment::Generation(4)).is_none());
    for (moment, generation) in [
        (Moment::At(at(100)), 1),
        (Moment::At(at(299)), 2),
        (Moment::Generation(2), 2),
        (Moment::Generation(3), 3),
    ] {
        let past = past(moment).expect("known");
        let text = format!("text {generation}");
        assert_eq!(past.generation, generation);
        assert_eq!(past.orders, [(PathBuf::from("x.toml"), text)], "{moment:?}");
    }
}

#[test]
fn a_journal_opened_late_repeats_no_generation_and_removes_no_unread_order() {
    let (dir, path) = written(5);
    let known = |path: &Path| {
        let past = Past::read(path, Moment::At(Timestamp::MAX)).expect("readable");
        past.expect("known").orders
    };
    let before = known(&path);
    assert!(!before.is_empty());
    let missing = dir.path().join("missing");
    let late = missing.join("journal.jsonl");
    let mut journal = Journal::open(&late, None, None);
    assert_eq!(journal.last_generation(), 0);
    let unread = OrderRecords {
        orders: None,
        exceptions: None,
    };
    let order_records = Some(Arc::new(unread));
    for generation in 1..=2 {
        journal.publish(Draft {
            order_records: order_records.clone(),
            ..draft(generation, None, &[])
        });
    }
    // Moved in one step, as the thread tries to open it all the time.
    let ready = dir.path().join("ready");
    fs::create_dir(&ready).expect("made");
    for end in ["", ".head"] {
        let to = beside(&ready.join("journal.jsonl"), end);
        fs::rename(beside(&path, end), to).expect("moved");
    }
    fs::rename(&ready, &missing).expect("moved");
    let receipt = journal.publish(draft(3, None, &[]));
    journal.wait(receipt);
    journal.close(3);
    assert_eq!(
        journal.last_generation(),
        8,
        "the policy in force gets a number after those"
    );
    let entries = entries(&late);
    let published = |entry: &&Entry| matches!(entry.event, Event::Published(_));
    let published = entries.iter().filter(published);
    let generations: Vec<_> = published.map(|entry| entry.generation).collect();
    assert_eq!(generations, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(known(&late), before);
    assert_eq!(problems(&late), []);
}

fn beside(path: &Path, end: &str) -> PathBuf {
    path.with_extension(format!("jsonl{end}"))
}

#[test]
fn a_clock_that_was_ahead_hides_no_later_generation() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("journal.jsonl");
    let mut journal = Journal::open(&path, None, None);
    for (generation, second) in [(1, 100), (2, 9000), (3, 200), (4, 300)] {
        let text = format!("text {generation}");
        let new = draft(generation, Some(&[("x", text.as_str())]), &[]);
        journal.publish(Draft {
            at: at(second),
            ..new
        });
    }
    journal.close(4);
    for (second, generation) in [(150, 1), (250, 3), (400, 4), (9500, 4)] {
        let past = Past::read(&path, Moment::At(at(second))).expect("readable");
        assert_eq!(past.expect("known").generation, generation, "at {second}");
    }
}

#[test]
fn the_last_generation_is_found_whatever_follows_it() {
    let damaged = [&b"{\"number\":"[..], &b"x\n".repeat(500_000), &[0; 300_000]].concat();
    let (_dir, path) = written(7);
    let whole = fs::read(&path).expect("there");
    fs::write(&path, [&whole[..], &damaged].concat()).expect("written");
    let mut journal = Journal::open(&path, None, None);
    assert_eq!(journal.last_generation(), 7, "numbers go on after it");
    journal.close(7);
    assert_eq!(problems(&path), []);
}

#[test]
fn entries_without_the_newer_fields_are_read_and_verified() {
    let (_dir, path) = written(0);
    fs::remove_file(&path).expect("removed");
    let (mut previous, mut text) = (super::chain::zero_hash(), String::new());
    for (number, event) in [
        r#""event":"start","version":"0.1.0","pid":1,"config":null"#,
        r#""event":"published","causes":[{"by":"start"}],"lists":[{"name":"ads","path":"ads","kind":"block","scope":"exact","action":"sinkhole","digest":"00","rules":1,"bad":0}]"#,
        r#""event":"stop""#,
    ]
    .into_iter()
    .enumerate()
    {
        let (at, number) = (at(100 * number as i64), number + 1);
        let body = format!(
            r#"{{"number":{number},"at":"{at}","generation":1,"previous":"{previous}",{event}"#
        );
        previous = super::chain::digest(body.as_bytes());
        text += &format!("{body},\"hash\":\"{previous}\"}}\n");
    }
    fs::write(&path, text).expect("written");
    let head = format!("{:20} {previous}\n", 3);
    fs::write(beside(&path, ".head"), head).expect("written");
    assert_eq!(problems(&path), []);
    let past = Past::read(&path, Moment::At(at(150))).expect("readable");
    let past = past.expect("known");
    assert_eq!((past.lists.len(), past.settings.len()), (1, 0));
    assert_eq!(past.lists[0].content, None);
    // A server of this version continues it.
    write(&path, 2..=2);
    assert_eq!(problems(&path), []);
}
