//! Servers that could not write the journal until they ended, or had none.

use super::*;
use crate::control::journal::past::Served;

/// A folder, a state directory in it, a journal of one generation whose server has stopped, and the time of that stop.
fn stopped() -> (tempfile::TempDir, PathBuf, PathBuf, Timestamp) {
    let dir = tempfile::tempdir().expect("a folder");
    let state = dir.path().join("state");
    let folder = dir.path().join("journals");
    for folder in [&state, &folder] {
        fs::create_dir(folder).expect("made");
    }
    let path = folder.join("journal.jsonl");
    write(&path, 1..=1);
    let stop = entries(&path).last().expect("an entry").at;
    (dir, state, path, stop)
}

fn now(generation: u64) -> Draft {
    Draft {
        at: Timestamp::now(),
        ..draft(generation, None, &[])
    }
}

fn served(path: &Path, moment: Timestamp) -> Served {
    let past = Past::read(path, Moment::At(moment)).expect("readable");
    past.expect("known").served
}

fn notes(path: &Path) -> Vec<Problem> {
    let verification = verify(&[path], None).expect("readable");
    assert_eq!(verification.findings, []);
    let notes = verification.notes.into_iter();
    notes.map(|note| note.problem).collect()
}

#[test]
fn the_past_is_incomplete_where_generations_are_not_recorded() {
    for (next, missing) in [(2, None), (3, Some((2, 2))), (6, Some((2, 5)))] {
        let (_dir, _state, path, stop) = stopped();
        let between = Timestamp::now();
        // A start that fails publishes nothing.
        let mut failed = Journal::open(&path, None, None);
        failed.close(1);
        let mut journal = Journal::open(&path, None, None);
        journal.publish(now(next));
        journal.close(next);
        let expected = match missing {
            Some(_) => Served::Incomplete(stop),
            None => Served::Stopped(stop),
        };
        assert_eq!(served(&path, between), expected);
        assert_eq!(served(&path, at(200)), Served::Yes);
        let first = Past::read(&path, Moment::Generation(1)).expect("readable");
        assert_eq!(first.expect("known").served, Served::Yes);
        let skipped = missing.map(|(first, last)| Problem::Skipped(first, last));
        assert_eq!(notes(&path), Vec::from_iter(skipped));
        let losses = journal.losses().concat();
        let reported = match next {
            2 => "",
            3 => "journal: generation 2 is not recorded",
            _ => "journal: generations 2 to 5 are not recorded",
        };
        assert!(losses.starts_with(reported), "{losses}");
        assert_eq!(losses.is_empty(), missing.is_none(), "{losses}");
    }
}

#[test]
fn the_next_server_records_since_when_an_earlier_one_could_not_write() {
    // With a state directory, and without one.
    for has_state in [true, false] {
        let (dir, state, path, stop) = stopped();
        let state = has_state.then_some(&*state);
        let mark = match state {
            Some(state) => state.join("unwritten"),
            None => beside(&path, ".unwritten"),
        };
        let away = dir.path().join("away");
        // Without a state directory, the journal is not accessible, but its directory is.
        let (lost, found) = match has_state {
            true => (path.parent().expect("a folder"), &*away),
            false => (&*path, &*away),
        };
        fs::rename(lost, found).expect("moved");
        if !has_state {
            fs::create_dir(&path).expect("made");
        }
        let between = Timestamp::now();
        let mut since = Timestamp::now();
        for generation in 2..=3 {
            let mut journal = Journal::open_with(&path, None, None, state);
            let draft = now(generation);
            since = if generation == 2 { draft.at } else { since };
            journal.publish(draft);
            journal.close(generation);
            assert!(mark.exists());
        }
        let within = Timestamp::now();
        if !has_state {
            fs::remove_dir(&path).expect("removed");
        }
        fs::rename(found, lost).expect("moved back");
        assert_eq!(
            crate::control::journal::unwritten_since(state, &path),
            Some(since)
        );

        // Generation 2 is used again, so no gap in the numbers shows the loss.
        let mut journal = Journal::open_with(&path, None, None, state);
        journal.publish(now(2));
        journal.close(2);
        assert!(!mark.exists());
        assert_eq!(served(&path, between), Served::Stopped(stop));
        assert_eq!(served(&path, within), Served::Incomplete(since));
        assert_eq!(notes(&path), [Problem::Unwritten(since)]);
        let losses = journal.losses().concat();
        assert!(
            losses.contains(&format!("after {since:.0} are not recorded")),
            "{losses}"
        );
        let mut next = Journal::open_with(&path, None, None, state);
        next.close(2);
        assert_eq!(next.losses(), [""; 0]);
        assert_eq!(notes(&path), [Problem::Unwritten(since)]);
    }
}

#[test]
fn changes_that_are_written_late_leave_no_mark() {
    let (_dir, state, path, _) = stopped();
    let folder = path.parent().expect("a folder");
    let away = beside(folder, ".away");
    fs::rename(folder, &away).expect("moved");
    let mut journal = Journal::open_with(&path, None, None, Some(&state));
    journal.publish(now(2));
    while !state.join("unwritten").exists() {
        std::thread::yield_now();
    }
    let within = Timestamp::now();
    fs::rename(&away, folder).expect("moved back");
    journal.close(2);
    assert!(!state.join("unwritten").exists());
    assert_eq!(notes(&path), []);
    assert_eq!(journal.losses(), [""; 0]);
    assert_eq!(served(&path, within), Served::Yes);
}

#[test]
fn nothing_is_written_beside_another_server_s_journal() {
    let (_dir, _, path, _) = stopped();
    let mut first = Journal::open(&path, None, None);
    first.last_generation();
    let mut second = Journal::open(&path, None, None);
    second.publish(now(2));
    second.close(2);
    assert!(
        second
            .problem()
            .expect("an alarm")
            .contains("another process")
    );
    assert!(!beside(&path, ".unwritten").exists());
    first.close(1);
}

#[test]
fn if_a_full_disk_had_no_room_for_the_mark_the_heartbeat_has_the_time() {
    let (_dir, _state, path, stop) = stopped();
    let beat = format!("{:20} {stop:.9} waits\n", 1);
    fs::write(beside(&path, ".alive"), beat).expect("written");
    let between = Timestamp::now();
    let mut journal = Journal::open(&path, None, None);
    journal.publish(now(2));
    journal.close(2);
    assert_eq!(served(&path, between), Served::Incomplete(stop));
    assert_eq!(served(&path, at(200)), Served::Yes);
}
