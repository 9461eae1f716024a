//! Journals whose head is authenticated by a key.

use super::*;

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

fn with_key(path: &Path, key: &Path) -> crate::control::journal::verify::Verification {
    let keys = Keys::read(key).unwrap_or_else(|error| panic!("{error}"));
    verify(&[path], Some(&keys)).expect("readable")
}

fn kinds(findings: &[crate::control::journal::verify::Finding]) -> Vec<Problem> {
    findings.iter().map(|finding| finding.problem).collect()
}

/// Replaces the journal and its head by others with a valid chain, as any program that may write the files can.
fn forge(path: &Path, more: u64, tag: &str) {
    let mut previous = crate::control::journal::chain::zero_hash();
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
fn a_journal_that_was_replaced_with_its_head_is_detected_with_the_key() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("journal.jsonl");
    let key = key_file(dir.path(), &["aa"]);
    write_with_key(&path, &key, 1);
    let verification = with_key(&path, &key);
    assert_eq!(
        (kinds(&verification.findings), kinds(&verification.notes)),
        (vec![], vec![])
    );
    assert_eq!(verification.authenticated_by.as_deref(), Some("aa"));
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
        let verification = with_key(&path, &key);
        assert_eq!(kinds(&verification.findings), [problem]);
        assert_eq!(verification.authenticated_by, None);
    }
    // The next server records this in its entry `start`, as its new head does not authenticate the earlier entries.
    write_with_key(&path, &key, 9);
    let verification = with_key(&path, &key);
    assert_eq!(kinds(&verification.findings), []);
    assert_eq!(
        kinds(&verification.notes),
        [Problem::WasUnauthenticated, Problem::Skipped(6, 8)]
    );
}

#[test]
fn entries_beyond_the_head_are_reported_before_and_after_a_server_continues() {
    let (_dir, path) = written(2);
    let last = entries(&path).len() as u64;
    add(&path, 2);
    let (first, last) = (last + 1, last + 2);
    assert_eq!(problems(&path), [Problem::Uncovered(first, last)]);
    write(&path, 3..=3);
    let verification = verify(&[&path], None).expect("readable");
    assert_eq!(kinds(&verification.findings), []);
    assert_eq!(
        kinds(&verification.notes),
        [Problem::WasUncovered(first, last)]
    );
    // One entry alone, and a head that is gone.
    let (_dir, path) = written(1);
    let count = entries(&path).len() as u64;
    fs::remove_file(path.with_extension("jsonl.head")).expect("removed");
    write(&path, 2..=2);
    let verification = verify(&[&path], None).expect("readable");
    assert_eq!(
        kinds(&verification.notes),
        [Problem::WasUncovered(1, count)]
    );
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
    let verification = with_key(&path, &key);
    assert_eq!(kinds(&verification.findings), []);
    assert_eq!(verification.authenticated_by.as_deref(), Some("bb"));
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
    assert_only_the_head_waits(&problem);
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

/// Replaces all entries but not the head. Returns the text of the head.
fn forge_below_the_head(path: &Path) -> String {
    let head = path.with_extension("jsonl.head");
    let genuine = fs::read_to_string(&head).expect("there");
    forge(path, 1, "");
    fs::write(&head, &genuine).expect("written");
    genuine
}

/// Adds entries that follow the last one.
fn add(path: &Path, count: u64) {
    let last = entries(path).pop().expect("an entry");
    let (_, mut previous) = last.seal();
    let mut text = fs::read(path).expect("there");
    for number in last.number + 1..=last.number + count {
        let added = Entry {
            number,
            previous,
            ..last.clone()
        };
        let (line, hash) = added.seal();
        text.extend(line);
        previous = hash;
    }
    fs::write(path, text).expect("written");
}

#[test]
fn a_rewritten_history_is_still_reported_after_the_next_server_signed_a_head() {
    for more in [0, 3] {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("journal.jsonl");
        let key = key_file(dir.path(), &["aa"]);
        write_with_key(&path, &key, 1);
        let covered = entries(&path).len() as u64;
        let head = forge_below_the_head(&path);
        if more > 0 {
            add(&path, more);
        }
        let other = Problem::OtherHead(covered);
        assert_eq!(kinds(&with_key(&path, &key).findings), [other]);
        write_with_key(&path, &key, 9);
        let verification = with_key(&path, &key);
        let was = Problem::WasOtherHead(covered);
        assert_eq!(kinds(&verification.findings), [was], "{more} more entries");
        // The hash of the entry that is gone is kept, as evidence.
        let reported = entries(&path)
            .into_iter()
            .find_map(|entry| match entry.event {
                Event::Start(start) => start.other_head,
                _ => None,
            });
        assert!(head.contains(&reported.expect("a mismatch").hash));
        // A further start does not remove the finding.
        write_with_key(&path, &key, 10);
        assert_eq!(kinds(&with_key(&path, &key).findings), [was]);
    }
}

#[test]
fn a_rewritten_history_is_found_without_a_key_and_without_the_head_s_entry() {
    let (_dir, path) = written(2);
    let covered = entries(&path).len() as u64;
    forge_below_the_head(&path);
    write(&path, 3..=3);
    assert_eq!(problems(&path), [Problem::WasOtherHead(covered)]);
    // The entry that the head names was removed, and the chain of the others is intact.
    let (_dir, path) = written(2);
    let covered = entries(&path).len() as u64;
    let mut previous = crate::control::journal::chain::zero_hash();
    let mut text = Vec::new();
    for entry in entries(&path) {
        let number = match entry.number == covered {
            true => covered + 1,
            false => entry.number,
        };
        let forged = Entry {
            number,
            previous,
            ..entry
        };
        let (line, hash) = forged.seal();
        text.extend(line);
        previous = hash;
    }
    fs::write(&path, text).expect("written");
    write(&path, 3..=3);
    let found = problems(&path);
    assert!(found.contains(&Problem::WasOtherHead(covered)), "{found:?}");
}

#[test]
fn entries_that_a_crash_left_beyond_the_head_follow_the_one_that_it_names() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("journal.jsonl");
    let key = key_file(dir.path(), &["aa"]);
    write_with_key(&path, &key, 1);
    let covered = entries(&path).len() as u64;
    add(&path, 2);
    write_with_key(&path, &key, 2);
    let verification = with_key(&path, &key);
    assert_eq!(kinds(&verification.findings), []);
    let note = Problem::WasUncovered(covered + 1, covered + 2);
    assert_eq!(kinds(&verification.notes), [note]);
}

/// Entries are on the disk, and the alarm must not say that they are not.
fn assert_only_the_head_waits(problem: &str) {
    assert!(
        problem.starts_with("journal: entries are written, and the head that covers them is not: "),
        "{problem}"
    );
    assert!(!problem.contains("wait"), "{problem}");
}

#[test]
fn entries_are_written_although_the_head_can_not_be() {
    for key_is_there in [true, false] {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("journal.jsonl");
        let key = key_file(dir.path(), &["aa"]);
        match key_is_there {
            true => fs::create_dir(path.with_extension("jsonl.head")).expect("made"),
            false => fs::remove_file(&key).expect("removed"),
        }
        let mut journal = Journal::open(&path, Some(key), None);
        for generation in 1..=2 {
            let receipt = journal.publish(draft(generation, None, &[]));
            journal.wait(receipt);
            // If the disk is slow, there is another alarm until the entry is written.
            until_written(&path, generation);
        }
        journal.close(2);
        let problem = journal.problem().expect("an alarm");
        assert_only_the_head_waits(&problem);
    }
}

fn until_written(path: &Path, generation: u64) {
    while !path.exists()
        || entries(path)
            .iter()
            .all(|entry| entry.generation < generation)
    {
        std::thread::yield_now();
    }
}
