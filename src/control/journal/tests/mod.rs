//! Owns the tests of the journal as a whole: writing, damage, and what comes back.
//! Refuses a server: what it tells the journal is the integration tests'.

mod harm;
mod keys;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::Index;

use super::entry::{Cause, Event};
use super::file::JournalFile;
use super::key::Keys;
use super::past::{Moment, Past};
use super::verify::{Problem, verify};
use super::{Draft, Entry, Journal, JournalError, Page, Pages, read};
use crate::control::orders::life::State;
use crate::control::settings::Settings;

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

pub(super) fn draft(
    generation: u64,
    orders: Option<&[(&str, &str)]>,
    states: &[(&str, State)],
) -> Draft {
    let page = |(id, text): &(&str, &str)| Page {
        id: (*id).to_owned(),
        path: format!("{id}.toml").into(),
        text: (*text).into(),
        warnings: Vec::new(),
    };
    let pages = orders.map(|orders| Pages {
        orders: orders.iter().map(page).collect(),
        exceptions: Vec::new(),
    });
    let states = states.iter().map(|(id, state)| ((*id).to_owned(), *state));
    Draft {
        generation,
        at: at(generation as i64 * 100),
        causes: vec![Cause::Date],
        lists: Vec::new(),
        pages: pages.map(Arc::new),
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
    let mut last = journal.known();
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
fn what_is_new_is_told_once_and_a_restart_goes_on() {
    let (_dir, path) = written(1);
    let mut journal = Journal::open(&path, None, None);
    assert_eq!(journal.known(), 1, "the last generation is known");
    let same = [("x", "text 1")];
    journal.publish(draft(2, Some(&same), &[("x", State::Suspended)]));
    journal.publish(draft(3, None, &[("x", State::Lifted)]));
    journal.publish(draft(4, Some(&[]), &[]));
    journal.close(4);
    let told = entries(&path).into_iter().map(|entry| match entry.event {
        Event::Start(_) => "start".to_owned(),
        Event::Stop => "stop".to_owned(),
        Event::Order(order) => format!("order {}", order.text),
        Event::OrderGone { id, .. } => format!("gone {id}"),
        Event::Published(published) => {
            let turns = published.states.iter().map(|turn| turn.now);
            format!("{} {:?}", entry.generation, turns.collect::<Vec<_>>())
        }
        other => format!("{other:?}"),
    });
    assert_eq!(
        told.collect::<Vec<_>>(),
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
fn the_past_is_what_was_in_force_then() {
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
fn a_tail_that_is_no_entry_is_kept_aside_and_the_chain_goes_on_with_a_mark() {
    for tail in [&b"{\"number\":9,\"at\":"[..], &[0; 5000], b"\n", b"}\n{}\n"] {
        let (dir, path) = written(2);
        let whole = fs::read(&path).expect("there");
        fs::write(&path, [&whole, tail].concat()).expect("written");
        write(&path, 3..=3);
        let told = entries(&path);
        let damaged = told.iter().find_map(|entry| match &entry.event {
            Event::Start(start) => start.damaged.clone(),
            _ => None,
        });
        let damaged = damaged.expect("a mark");
        assert_eq!(damaged.octets, tail.len() as u64);
        assert_eq!(fs::read(&damaged.kept).expect("kept"), tail);
        assert_eq!(problems(&path), []);
        assert!(fs::read(&path).expect("there").starts_with(&whole));
        drop(dir);
    }
}

#[test]
fn an_end_that_was_cut_off_is_missed_before_and_after_the_server_goes_on() {
    let (_dir, path) = written(3);
    let whole = fs::read(&path).expect("there");
    let lines: Vec<_> = whole.split_inclusive(|octet| *octet == b'\n').collect();
    let count = lines.len() as u64;
    fs::write(&path, lines[..lines.len() - 2].concat()).expect("written");
    assert_eq!(problems(&path), [Problem::Missing(count - 1, count)]);
    write(&path, 4..=4);
    assert_eq!(problems(&path), [Problem::Lost(count - 1, count)]);
}

#[test]
fn a_journal_that_somebody_else_holds_or_replaces_is_told_and_nothing_is_lost() {
    let (_dir, path) = written(1);
    let mut journal = Journal::open(&path, None, None);
    assert_eq!(journal.known(), 1, "opened");
    assert!(matches!(
        JournalFile::open(&path, None, |_| ()),
        Err(JournalError::InUse(_))
    ));
    let moved = path.with_extension("old");
    fs::rename(&path, &moved).expect("moved away");
    let receipt = journal.publish(draft(2, None, &[]));
    journal.wait(receipt);
    // It is opened again at once when the next change comes, or a second later.
    let receipt = journal.publish(draft(3, None, &[]));
    journal.wait(receipt);
    journal.close(3);
    let generations: Vec<_> = entries(&path)
        .iter()
        .map(|entry| entry.generation)
        .collect();
    assert!(
        generations.contains(&2) && generations.contains(&3),
        "{generations:?}"
    );
    assert_eq!(problems(&path), []);
    assert_eq!(journal.problem(), None);
}

#[test]
fn a_journal_that_can_only_be_read_gives_no_number_twice() {
    let (_dir, path) = written(5);
    // Root may write to it all the same.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).expect("changed");
    let mut journal = Journal::open(&path, None, None);
    assert_eq!(journal.known(), 5);
    journal.close(5);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("changed");
    // Another server writes to it.
    let (held, ..) = JournalFile::open(&path, None, |_| ()).expect("opened");
    let journal = Journal::open(&path, None, None);
    assert_eq!(journal.known(), 5);
    assert!(
        journal
            .problem()
            .is_some_and(|problem| problem.contains("another process"))
    );
    drop(held);
}

fn beside(path: &Path, end: &str) -> PathBuf {
    path.with_extension(format!("jsonl{end}"))
}

#[test]
fn files_of_a_journal_that_was_moved_away_are_verified_together_and_alone() {
    // With its head and without, while the server runs and while it does not.
    for (with_head, while_running) in [(true, true), (false, true), (false, false)] {
        let (_dir, path) = written(2);
        let move_away = || {
            fs::rename(&path, beside(&path, ".1")).expect("moved away");
            if with_head {
                let head = beside(&path, ".head");
                fs::rename(head, beside(&path, ".1.head")).expect("moved away");
            }
        };
        if !while_running {
            move_away();
        }
        let mut journal = Journal::open(&path, None, None);
        let receipt = journal.publish(draft(3, Some(&[("x", "text 2")]), &[]));
        journal.wait(receipt);
        if while_running {
            // Only then is the file open for certain.
            while entries(&path).iter().all(|entry| entry.generation < 3)
                || !problems(&path).is_empty()
            {
                std::thread::yield_now();
            }
            move_away();
        }
        let receipt = journal.publish(draft(4, None, &[]));
        journal.wait(receipt);
        journal.close(4);
        let old = beside(&path, ".1");
        let both = verify(&[&old, &path], None).expect("readable");
        assert_eq!(both.findings, [], "{with_head} {while_running}");
        assert_eq!(both.notes, []);
        let count = entries(&old).len() + entries(&path).len();
        assert_eq!(both.entries, count as u64);
        let swapped = verify(&[&path, &old], None).expect("readable");
        assert_ne!(swapped.findings, []);
        if while_running {
            let alone = verify(&[&path], None).expect("readable");
            let last = entries(&old).last().expect("one").number;
            assert_eq!(alone.findings, []);
            assert_eq!(alone.notes[0].problem, Problem::Before(last));
        }
        if with_head {
            assert_eq!(problems(&old), []);
        }
        // An entry of the old file's end is missed.
        let text = fs::read_to_string(&old).expect("there");
        let cut = text.trim_end().rfind('\n').expect("lines");
        fs::write(&old, &text[..=cut]).expect("written");
        let both = verify(&[&old, &path], None).expect("readable");
        assert!(!both.findings.is_empty(), "{with_head} {while_running}");
    }
}

#[test]
fn what_can_not_be_opened_holds_nobody_up_for_long_and_is_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("missing").join("journal.jsonl");
    let journal = Journal::open(&path, None, None);
    assert_eq!(journal.known(), 0);
    let start = Instant::now();
    let receipt = journal.publish(draft(1, Some(&[("x", "first")]), &[]));
    journal.wait(receipt);
    assert!(start.elapsed() < Duration::from_secs(5));
    let problem = journal.problem().expect("an alarm");
    assert!(problem.contains("missing/journal.jsonl"), "{problem}");
    assert!(problem.contains("generation 1"), "{problem}");
    fs::create_dir(dir.path().join("missing")).expect("made");
    let mut journal = journal;
    journal.publish(draft(2, None, &[("x", State::InForce)]));
    journal.close(2);
    assert_eq!(journal.problem(), None);
    let past = Past::read(&path, Moment::Generation(1)).expect("readable");
    assert_eq!(past.expect("not lost").orders.len(), 1);
    assert_eq!(problems(&path), []);
}

#[test]
fn a_pipe_is_no_journal() {
    let (_dir, path) = written(1);
    let pipe = path.with_extension("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo runs").success());
    let error = JournalFile::open(&pipe, None, |_| ()).expect_err("refused");
    assert!(error.to_string().contains("not a regular file"), "{error}");
}

#[test]
fn a_journal_that_was_moved_away_is_begun_anew_with_all_that_is_known() {
    let (_dir, path) = written(1);
    let mut journal = Journal::open(&path, None, None);
    let orders = [("x", "text 1")];
    let receipt = journal.publish(draft(2, Some(&orders), &[("x", State::InForce)]));
    journal.wait(receipt);
    fs::rename(&path, path.with_extension("old")).expect("moved away");
    for generation in 3..=4 {
        journal.publish(draft(generation, None, &[("x", State::InForce)]));
    }
    journal.close(4);
    let past = Past::read(&path, Moment::Generation(4)).expect("readable");
    let text = (PathBuf::from("x.toml"), "text 1".to_owned());
    assert_eq!(past.expect("known").orders, [text]);
}

#[test]
fn what_is_no_journal_or_of_another_version_is_left_alone() {
    let (_dir, path) = written(1);
    let ours = fs::read_to_string(&path).expect("there");
    let foreign = ours
        .lines()
        .last()
        .expect("a line")
        .replace("\"stop\"", "\"news\"");
    let (body, _) = foreign.split_once(",\"hash\"").expect("its hash");
    let hash = super::chain::digest(body.as_bytes());
    let foreign = format!("{ours}{body},\"hash\":\"{hash}\"}}\n");
    for (content, told) in [
        (foreign.as_str(), "another version"),
        ("precious data\n", "is no journal"),
    ] {
        fs::write(&path, content).expect("written");
        let error = JournalFile::open(&path, None, |_| ()).expect_err("refused");
        assert!(error.to_string().contains(told), "{error}");
        assert_eq!(fs::read_to_string(&path).expect("there"), content);
    }
}

#[test]
fn a_clock_that_was_ahead_for_a_while_hides_nothing_that_came_after() {
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
fn the_last_generation_is_known_whatever_stands_behind_it() {
    let damaged = [&b"{\"number\":"[..], &b"x\n".repeat(500_000), &[0; 300_000]].concat();
    let (_dir, path) = written(7);
    let whole = fs::read(&path).expect("there");
    fs::write(&path, [&whole[..], &damaged].concat()).expect("written");
    let mut journal = Journal::open(&path, None, None);
    assert_eq!(journal.known(), 7, "numbers go on after it");
    journal.close(7);
    assert_eq!(problems(&path), []);
}

#[test]
fn entries_without_the_newer_fields_are_read_and_verified() {
    let (_dir, path) = written(0);
    fs::remove_file(&path).expect("removed");
    let (mut previous, mut text) = (super::chain::nothing(), String::new());
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
    // The server of today goes on in it.
    write(&path, 2..=2);
    assert_eq!(problems(&path), []);
}
