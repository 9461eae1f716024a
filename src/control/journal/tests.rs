//! Owns the tests of the journal as a whole: writing, damage, and what comes back.
//! Refuses a server: what it tells the journal is the integration tests'.

use std::fs::{self, OpenOptions};
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
use super::writer::{Draft, Journal, Page, Pages};
use super::{Entry, JournalError, read};
use crate::control::orders::life::State;

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
    let findings = verify(path, None).expect("readable").findings;
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
    assert!(
        problems(&path).contains(&Problem::Lost(1, 4)),
        "{:?}",
        problems(&path)
    );
    assert_eq!(journal.problem(), None);
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

/// What somebody may do to a journal.
#[derive(Clone, Debug)]
enum Harm {
    Change(Index, u8),
    Remove(Index),
    Swap(Index, Index),
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        (any::<Index>(), 1..=u8::MAX).prop_map(|(at, flip)| Harm::Change(at, flip)),
        any::<Index>().prop_map(Harm::Remove),
        (any::<Index>(), any::<Index>()).prop_map(|(one, other)| Harm::Swap(one, other)),
    ]
}

#[test]
fn no_entry_is_changed_removed_or_moved_without_being_found_and_named() {
    let (_dir, path) = written(30);
    let whole = fs::read(&path).expect("there");
    let lines: Vec<Vec<u8>> = whole
        .split_inclusive(|octet| *octet == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(3000));
    let result = runner.run(&harm(), |harm| {
        let mut lines = lines.clone();
        // The first line that is another one than before, or where it was.
        let first = match harm {
            Harm::Change(at, flip) => {
                let at = at.index(whole.len());
                let before = whole[..at].iter().filter(|octet| **octet == b'\n').count();
                let mut octets = whole.clone();
                octets[at] ^= flip;
                lines = vec![octets];
                before
            }
            Harm::Remove(at) => {
                let at = at.index(lines.len());
                lines.remove(at);
                at
            }
            Harm::Swap(one, other) => {
                let (one, other) = (one.index(lines.len()), other.index(lines.len()));
                prop_assume!(one != other);
                lines.swap(one, other);
                one.min(other)
            }
        };
        fs::write(&path, lines.concat()).expect("written");
        let findings = verify(&path, None).expect("readable").findings;
        let told = findings.first().map(|finding| finding.line);
        let line = first as u64 + 1;
        // What is missing at the very end is told there.
        prop_assert!(
            told == Some(Some(line)) || told == Some(None),
            "line {line}: {findings:?}"
        );
        Ok(())
    });
    result.expect("every harm is found");
    fs::write(&path, &whole).expect("written");
    assert_eq!(problems(&path), []);
}

#[test]
fn without_the_file_that_tells_the_last_entry_verify_says_so() {
    let (_dir, path) = written(1);
    let head = path.with_extension("jsonl.head");
    let file = OpenOptions::new().write(true).truncate(true).open(&head);
    drop(file.expect("emptied"));
    assert_eq!(problems(&path), [Problem::NoHead]);
}

#[test]
fn an_entry_that_was_written_anew_with_a_hash_of_its_own_does_not_fit_the_next() {
    let (_dir, path) = written(3);
    let text = fs::read_to_string(&path).expect("there");
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    let (mut entry, _) = Entry::read(lines[2].as_bytes()).expect("an entry");
    entry.generation = 7;
    lines[2] = String::from_utf8(entry.seal().0)
        .expect("text")
        .trim_end()
        .to_owned();
    fs::write(&path, lines.join("\n") + "\n").expect("written");
    assert_eq!(problems(&path), [Problem::Unchained(entry.number + 1)]);
    // The last one is told by the file beside it.
    fs::write(&path, &text).expect("written");
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    let last = lines.pop().expect("a line");
    let (mut entry, _) = Entry::read(last.as_bytes()).expect("an entry");
    entry.generation = 7;
    lines.push(
        String::from_utf8(entry.seal().0)
            .expect("text")
            .trim_end()
            .to_owned(),
    );
    fs::write(&path, lines.join("\n") + "\n").expect("written");
    assert_eq!(problems(&path), [Problem::OtherHead(entry.number)]);
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

/// A file of keys, one for each secret, the newest first.
fn key_file(dir: &Path, secrets: &[&str]) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.join("key");
    let lines = secrets
        .iter()
        .map(|secret| format!("{secret} {}\n", secret.repeat(32)));
    fs::write(&path, lines.collect::<String>()).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("changed");
    path
}

/// Starts and ends a server that publishes one generation.
fn write_with_key(path: &Path, key: &Path, generation: u64) {
    let mut journal = Journal::open(path, Some(key.to_owned()), None);
    journal.publish(draft(generation, None, &[]));
    journal.close(generation);
    assert_eq!(journal.problem(), None);
}

fn with_key(path: &Path, key: &Path) -> super::verify::Verdict {
    let keys = Keys::read(key).unwrap_or_else(|error| panic!("{error}"));
    verify(path, Some(&keys)).expect("readable")
}

fn kinds(findings: &[super::verify::Finding]) -> Vec<Problem> {
    findings.iter().map(|finding| finding.problem).collect()
}

/// What somebody can do who may write all files: another journal with a chain and a head of its own.
fn forge(path: &Path, more: u64, tag: &str) {
    let mut previous = super::chain::nothing();
    let (mut text, mut number) = (Vec::new(), 0);
    for entry in entries(path) {
        let forged = Entry {
            generation: entry.generation + more,
            previous,
            ..entry
        };
        let (line, hash) = forged.seal();
        (previous, number) = (hash, entry.number);
        text.extend(line);
    }
    fs::write(path, text).expect("written");
    let head = format!("{number:20} {previous}{tag}\n");
    fs::write(path.with_extension("jsonl.head"), head).expect("written");
}

#[test]
fn a_journal_that_was_written_anew_with_its_head_is_found_with_the_key() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("journal.jsonl");
    let key = key_file(dir.path(), &["aa"]);
    write_with_key(&path, &key, 1);
    let verdict = with_key(&path, &key);
    assert_eq!(
        (kinds(&verdict.findings), kinds(&verdict.notes)),
        (vec![], vec![])
    );
    assert_eq!(verdict.authenticated_by.as_deref(), Some("aa"));
    let head = fs::read_to_string(path.with_extension("jsonl.head")).expect("there");
    let tag = head
        .split_ascii_whitespace()
        .nth(3)
        .expect("a tag")
        .to_owned();
    for (tag, problem) in [
        (String::new(), Problem::Untagged),
        (format!(" aa {tag}"), Problem::Forged),
        (format!(" zz {tag}"), Problem::UnknownKey),
        (" aa xx".to_owned(), Problem::Forged),
    ] {
        forge(&path, 1, &tag);
        assert_eq!(problems(&path), [], "the chain alone does not show it");
        let verdict = with_key(&path, &key);
        assert_eq!(kinds(&verdict.findings), [problem]);
        assert_eq!(verdict.authenticated_by, None);
    }
    // A server that goes on says that it found it so: the new head vouches for nothing before.
    write_with_key(&path, &key, 9);
    let verdict = with_key(&path, &key);
    assert_eq!(kinds(&verdict.findings), []);
    assert_eq!(kinds(&verdict.notes), [Problem::WasUnauthenticated]);
}

#[test]
fn entries_beyond_the_head_are_reported_before_and_after_the_server_goes_on() {
    let (_dir, path) = written(2);
    let last = entries(&path).pop().expect("an entry");
    let (_, mut previous) = last.seal();
    let mut text = fs::read(&path).expect("there");
    for number in last.number + 1..=last.number + 2 {
        let added = Entry {
            number,
            previous,
            ..last.clone()
        };
        let (line, hash) = added.seal();
        text.extend(line);
        previous = hash;
    }
    fs::write(&path, text).expect("written");
    let (first, last) = (last.number + 1, last.number + 2);
    assert_eq!(problems(&path), [Problem::Uncovered(first, last)]);
    write(&path, 3..=3);
    let verdict = verify(&path, None).expect("readable");
    assert_eq!(kinds(&verdict.findings), []);
    assert_eq!(kinds(&verdict.notes), [Problem::WasUncovered(first, last)]);
    // One entry alone, and a head that is gone.
    let (_dir, path) = written(1);
    let count = entries(&path).len() as u64;
    fs::remove_file(path.with_extension("jsonl.head")).expect("removed");
    write(&path, 2..=2);
    let verdict = verify(&path, None).expect("readable");
    assert_eq!(kinds(&verdict.notes), [Problem::WasUncovered(1, count)]);
}

#[test]
fn a_key_is_rotated_while_the_journal_is_written() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("journal.jsonl");
    let key = key_file(dir.path(), &["aa"]);
    let mut journal = Journal::open(&path, Some(key.clone()), None);
    let receipt = journal.publish(draft(1, None, &[]));
    journal.wait(receipt);
    key_file(dir.path(), &["bb", "aa"]);
    journal.publish(draft(2, None, &[]));
    journal.close(2);
    assert_eq!(journal.problem(), None);
    let verdict = with_key(&path, &key);
    assert_eq!(kinds(&verdict.findings), []);
    assert_eq!(verdict.authenticated_by.as_deref(), Some("bb"));
    key_file(dir.path(), &["aa"]);
    assert_eq!(
        kinds(&with_key(&path, &key).findings),
        [Problem::UnknownKey]
    );
}

#[test]
fn a_key_that_others_can_read_signs_nothing_and_is_an_alarm() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("journal.jsonl");
    let key = key_file(dir.path(), &["aa"]);
    write_with_key(&path, &key, 1);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("changed");
    let mut journal = Journal::open(&path, Some(key.clone()), None);
    journal.publish(draft(2, None, &[]));
    journal.close(2);
    let problem = journal.problem().expect("an alarm");
    assert!(problem.contains("can read or change this key"), "{problem}");
    let generations = entries(&path).into_iter().map(|entry| entry.generation);
    assert_eq!(
        generations.max(),
        Some(2),
        "the entries are written all the same"
    );
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("changed");
    let findings = kinds(&with_key(&path, &key).findings);
    assert!(
        matches!(findings[..], [Problem::Uncovered(..)]),
        "{findings:?}"
    );
}
