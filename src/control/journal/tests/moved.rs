//! Journals that are moved away, or have another file in their place, while a server writes.

use super::*;
use crate::control::journal::entry::Published;
use crate::control::journal::past::Served;
use crate::control::journal::thread::JournalThread;
use crate::control::journal::thread::Shared;
use crate::control::journal::unwritten::UnwrittenFile;
use crate::control::journal::waiting::Item;

/// The state of the journal's thread, driven by calls of the test.
struct Writer {
    thread: JournalThread,
    shared: Arc<Shared>,
}

impl Writer {
    fn open(path: &Path) -> Self {
        let shared = Arc::new(Shared::default());
        let mut thread = JournalThread::new(
            path,
            None,
            None,
            UnwrittenFile::read(None, path),
            shared.clone(),
        );
        thread.write_pending(std::iter::empty());
        Self { thread, shared }
    }

    fn publish(&mut self, draft: Draft) {
        let item = Item::Publish(Box::new(draft));
        self.thread.write_pending([(item, None)].into_iter());
    }

    /// The periodic work while there is nothing to write.
    fn idle(&mut self) {
        self.thread.write_pending(std::iter::empty());
    }

    fn problem(&self) -> Option<String> {
        self.shared.problem.lock().expect("no panic").clone()
    }
}

fn move_away(path: &Path) -> PathBuf {
    let old = beside(path, ".1");
    fs::rename(path, &old).expect("moved away");
    old
}

fn published(path: &Path) -> Vec<(u64, Published)> {
    let entries = entries(path).into_iter();
    let published = entries.filter_map(|entry| match entry.event {
        Event::Published(published) => Some((entry.generation, published)),
        _ => None,
    });
    published.collect()
}

fn is_good(paths: &[&Path]) -> Vec<Problem> {
    let verification = verify(paths, None).expect("readable");
    let findings = verification.findings.into_iter();
    findings.map(|finding| finding.problem).collect()
}

#[test]
fn a_file_that_was_moved_away_is_followed_by_a_new_one_before_the_next_change() {
    let (_dir, path) = written(1);
    let mut writer = Writer::open(&path);
    let orders = [("x", "text 2")];
    writer.publish(draft(2, Some(&orders), &[("x", State::InForce)]));
    let old = move_away(&path);
    writer.idle();
    assert_eq!(writer.problem(), None);
    // All that is in force is in the new file, as of the time when it came into force.
    let last = entries(&old).last().expect("an entry").number;
    let all = entries(&path);
    assert!(
        matches!(&all[0].event, Event::Start(start) if start.continues == Some(last)),
        "{all:?}"
    );
    let past = Past::read(&path, Moment::At(at(250))).expect("readable");
    let past = past.expect("known");
    assert_eq!(past.generation, 2);
    assert_eq!(
        past.orders,
        [(PathBuf::from("x.toml"), "text 2".to_owned())]
    );
    let states = &published(&path)[0].1.states;
    assert_eq!(states[0].now, Some(State::InForce));
    assert_eq!(is_good(&[&path]), []);
    assert_eq!(is_good(&[&old, &path]), []);
    // The next entry is that of the next change, and it is written once.
    let count = all.len();
    writer.idle();
    assert_eq!(entries(&path).len(), count);
    writer.publish(draft(3, None, &[("x", State::InForce)]));
    assert_eq!(published(&path).len(), 2);
    assert_eq!(published(&path)[1].1.states, []);
    assert_eq!(is_good(&[&old, &path]), []);
}

#[test]
fn a_change_right_after_the_file_was_moved_away_is_in_the_new_file_and_not_late() {
    let (_dir, path) = written(0);
    let mut writer = Writer::open(&path);
    writer.publish(draft(1, Some(&[("x", "text")]), &[("x", State::InForce)]));
    let old = move_away(&path);
    let (done, receipt) = std::sync::mpsc::channel();
    let item = Item::Publish(Box::new(draft(2, None, &[("x", State::Suspended)])));
    writer
        .thread
        .write_pending([(item, Some(done))].into_iter());
    assert_eq!(writer.problem(), None);
    assert_eq!(receipt.try_recv(), Ok(()));
    let generations = published(&path);
    let generations = generations.iter().map(|(generation, _)| *generation);
    assert_eq!(generations.collect::<Vec<_>>(), [1, 2]);
    assert_eq!(is_good(&[&old, &path]), []);
}

#[test]
fn a_file_that_is_moved_away_before_anything_is_in_force_is_followed_by_a_new_one() {
    let (_dir, path) = written(3);
    let mut writer = Writer::open(&path);
    let old = move_away(&path);
    writer.idle();
    assert_eq!(writer.problem(), None);
    assert_eq!(published(&path), []);
    writer.publish(draft(4, None, &[("x", State::Suspended)]));
    let past = Past::read(&path, Moment::Generation(4)).expect("readable");
    let text = (PathBuf::from("x.toml"), "text 3".to_owned());
    assert_eq!(past.expect("known").orders, [text]);
    let states = &published(&path)[0].1.states;
    assert_eq!(states[0].now, Some(State::Suspended), "the whole state");
    assert_eq!(is_good(&[&old, &path]), []);
}

#[test]
fn a_new_file_that_can_not_be_created_is_an_alarm_before_the_next_change() {
    let (dir, path) = written(1);
    let mut writer = Writer::open(&path);
    writer.publish(draft(2, None, &[]));
    move_away(&path);
    fs::create_dir(&path).expect("made");
    writer.idle();
    let problem = writer.problem().expect("an alarm");
    assert!(problem.contains("not a regular file"), "{problem}");
    fs::remove_dir(&path).expect("removed");
    writer.idle();
    assert_eq!(writer.problem(), None);
    assert_eq!(published(&path).len(), 1);
    drop(dir);
}

/// Puts another journal and its head in place of the one that a server writes, as a file system that is mounted over
/// the directory does.
fn mount(path: &Path, other: &Path) {
    for end in ["", ".head", ".alive"] {
        // Not every journal has all three files.
        let _ = fs::rename(beside(path, end), beside(path, &format!("{end}.hidden")));
        let _ = fs::rename(beside(other, end), beside(path, end));
    }
}

#[test]
fn another_journal_in_its_place_is_continued_after_its_own_last_entry() {
    for (theirs, ours) in [(9, 2), (2, 9), (4, 0)] {
        for idle in [true, false] {
            let (_dir, path) = written(0);
            fs::remove_file(&path).expect("removed");
            fs::remove_file(beside(&path, ".head")).expect("removed");
            let (_other_dir, other) = written(theirs);
            let mut writer = Writer::open(&path);
            for generation in 1..=ours {
                let orders = [("y", "ours")];
                writer.publish(draft(generation, Some(&orders), &[("y", State::InForce)]));
            }
            let before = entries(&other).len() as u64;
            mount(&path, &other);
            if idle {
                writer.idle();
            }
            writer.publish(draft(ours + 1, None, &[("y", State::Suspended)]));
            assert_eq!(writer.problem(), None);
            assert_eq!(is_good(&[&path]), [], "{theirs} {ours} {idle}");
            let all = entries(&path);
            assert!(all[before as usize].number == before + 1);
            assert!(
                matches!(&all[before as usize].event, Event::Start(start) if start.continues.is_none())
            );
            let generations = published(&path);
            let generations: Vec<_> = generations.iter().map(|(number, _)| *number).collect();
            assert!(
                generations.is_sorted_by(|one, next| one < next),
                "{generations:?}"
            );
            // It has the policy in force, and nothing else.
            let past = Past::read(&path, Moment::Generation(*generations.last().expect("one")));
            let past = past.expect("readable").expect("known");
            let texts: Vec<_> = past.orders.into_iter().map(|(_, text)| text).collect();
            if ours > 0 {
                assert_eq!(texts, ["ours"], "{theirs} {ours} {idle}");
            }
        }
    }
}

#[test]
fn a_file_that_is_put_back_is_continued_and_its_missing_entries_are_reported() {
    let (_dir, path) = written(1);
    let mut writer = Writer::open(&path);
    writer.publish(draft(2, None, &[]));
    let old = move_away(&path);
    writer.publish(draft(3, None, &[]));
    let (first, last) = (
        entries(&old).len() as u64 + 1,
        entries(&path).last().expect("one").number,
    );
    fs::rename(&old, &path).expect("put back");
    writer.publish(draft(4, None, &[]));
    assert_eq!(writer.problem(), None);
    assert_eq!(is_good(&[&path]), [Problem::Lost(first, last)]);
}

/// The generation and whether a server answered, by these files.
fn past(paths: &[&Path], moment: Moment) -> Option<(u64, Served)> {
    let past = Past::read_files(paths, moment).expect("readable");
    past.map(|past| (past.generation, past.served))
}

#[test]
fn the_past_is_read_from_both_files_after_one_was_moved_away() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("journal.jsonl");
    let mut writer = Writer::open(&path);
    for generation in 1..=4 {
        let text = format!("text {generation}");
        let state = [("x", State::InForce)];
        writer.publish(draft(generation, Some(&[("x", text.as_str())]), &state));
        if generation == 2 {
            move_away(&path);
            writer.idle();
        }
    }
    let old = beside(&path, ".1");
    let both = [&*old, &*path];
    for (second, generation) in [(100, 1), (150, 1), (250, 2), (350, 3)] {
        let moment = Moment::At(at(second));
        assert_eq!(
            past(&both, moment),
            Some((generation, Served::Yes)),
            "{second}"
        );
        let known = Past::read_files(&both, moment).expect("readable");
        let text = format!("text {generation}");
        assert_eq!(known.expect("known").orders, [("x.toml".into(), text)]);
    }
    for generation in 1..=4 {
        let found = past(&both, Moment::Generation(generation));
        assert_eq!(found, Some((generation, Served::Yes)));
    }
    assert_eq!(past(&[&path], Moment::At(at(150))), None);
    // In the wrong order the files don't continue each other, and no server has the old one open.
    let swapped = past(&[&path, &old], Moment::At(at(250)));
    assert!(!matches!(swapped, Some((_, Served::Yes))), "{swapped:?}");
    assert!(Past::read_files(&[&beside(&path, ".0"), &path], Moment::Generation(1)).is_err());
}

#[test]
fn nothing_is_missing_between_two_files_if_no_server_ran_when_one_was_moved_away() {
    let (_dir, path) = written(2);
    let old = move_away(&path);
    let stop = entries(&old).last().expect("an entry").at;
    let between = Timestamp::now();
    let mut journal = Journal::open(&path, None, None);
    journal.publish(Draft {
        at: Timestamp::now(),
        ..draft(3, None, &[])
    });
    journal.close(3);
    let both = [&*old, &*path];
    let found = past(&both, Moment::At(between));
    assert_eq!(found, Some((2, Served::Stopped(stop))));
    assert_eq!(past(&both, Moment::At(at(250))), Some((2, Served::Yes)));
    assert_eq!(past(&both, Moment::Generation(1)), Some((1, Served::Yes)));
    assert_eq!(past(&both, Moment::Generation(3)), Some((3, Served::Yes)));
}
