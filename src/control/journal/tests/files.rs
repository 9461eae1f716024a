//! The journal's files: cut, damaged, held by another process, moved away, or none at all.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use super::*;

#[test]
fn a_damaged_end_is_moved_away_and_recorded_and_the_chain_continues() {
    for tail in [&b"{\"number\":9,\"at\":"[..], &[0; 5000], b"\n", b"}\n{}\n"] {
        let (dir, path) = written(2);
        let whole = fs::read(&path).expect("there");
        fs::write(&path, [&whole, tail].concat()).expect("written");
        write(&path, 3..=3);
        let reported = entries(&path);
        let damaged = reported.iter().find_map(|entry| match &entry.event {
            Event::Start(start) => start.damaged.clone(),
            _ => None,
        });
        let damaged = damaged.expect("a mark");
        assert_eq!(damaged.bytes, tail.len() as u64);
        assert_eq!(fs::read(&damaged.kept).expect("kept"), tail);
        assert_eq!(problems(&path), []);
        assert!(fs::read(&path).expect("there").starts_with(&whole));
        drop(dir);
    }
}

#[test]
fn a_cut_off_end_is_reported_before_and_after_a_server_continues() {
    let (_dir, path) = written(3);
    let whole = fs::read(&path).expect("there");
    let lines: Vec<_> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    let count = lines.len() as u64;
    fs::write(&path, lines[..lines.len() - 2].concat()).expect("written");
    assert_eq!(problems(&path), [Problem::Missing(count - 1, count)]);
    write(&path, 4..=4);
    assert_eq!(problems(&path), [Problem::Lost(count - 1, count)]);
}

#[test]
fn a_journal_in_use_can_not_be_opened_again_and_one_that_is_moved_away_loses_no_change() {
    let (_dir, path) = written(1);
    let mut journal = Journal::open(&path, None, None);
    assert_eq!(journal.last_generation(), 1, "opened");
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
fn with_a_read_only_journal_no_number_is_used_twice() {
    let (_dir, path) = written(5);
    // Root may write to it all the same.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).expect("changed");
    let mut journal = Journal::open(&path, None, None);
    assert_eq!(journal.last_generation(), 5);
    journal.close(5);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("changed");
    // Another server writes to it.
    let (held, ..) = JournalFile::open(&path, None, |_| ()).expect("opened");
    let journal = Journal::open(&path, None, None);
    assert_eq!(journal.last_generation(), 5);
    assert!(
        journal
            .problem()
            .is_some_and(|problem| problem.contains("another process"))
    );
    drop(held);
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
            // Once the generation and its head are written, the file is certainly open.
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
        // If the old file's last entry is removed, that is found.
        let text = fs::read_to_string(&old).expect("there");
        let cut = text.trim_end().rfind('\n').expect("lines");
        fs::write(&old, &text[..=cut]).expect("written");
        let both = verify(&[&old, &path], None).expect("readable");
        assert!(!both.findings.is_empty(), "{with_head} {while_running}");
    }
}

#[test]
fn a_journal_that_can_not_be_opened_is_an_alarm_and_delays_publication_only_briefly() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("missing").join("journal.jsonl");
    let journal = Journal::open(&path, None, None);
    assert_eq!(journal.last_generation(), 0);
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
fn the_file_after_one_that_was_moved_away_has_the_whole_policy() {
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
fn files_that_are_no_journal_or_of_another_version_are_not_changed() {
    let (_dir, path) = written(1);
    let ours = fs::read_to_string(&path).expect("there");
    let foreign = ours
        .lines()
        .last()
        .expect("a line")
        .replace("\"stop\"", "\"news\"");
    let (body, _) = foreign.split_once(",\"hash\"").expect("its hash");
    let hash = crate::control::journal::chain::digest(body.as_bytes());
    let foreign = format!("{ours}{body},\"hash\":\"{hash}\"}}\n");
    for (content, reported) in [
        (foreign.as_str(), "another version"),
        ("precious data\n", "is no journal"),
    ] {
        fs::write(&path, content).expect("written");
        let error = JournalFile::open(&path, None, |_| ()).expect_err("refused");
        assert!(error.to_string().contains(reported), "{error}");
        assert_eq!(fs::read_to_string(&path).expect("there"), content);
    }
}
