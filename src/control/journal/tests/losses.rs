//! Lost entries: too many waited, or the journal's end was cut.

use super::*;

/// A draft that leaves no room for others to wait.
fn huge(generation: u64) -> Draft {
    let states = vec![(String::new(), State::InForce); 1 << 20];
    Draft {
        states,
        ..draft(generation, None, &[])
    }
}

#[test]
fn changes_that_do_not_fit_into_memory_are_an_alarm_even_after_the_journal_is_written_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("missing").join("journal.jsonl");
    let mut journal = Journal::open(&path, None, None);
    assert_eq!(journal.losses(), [""; 0]);
    journal.publish(huge(1));
    journal.publish(huge(2));
    journal.publish(draft(4, None, &[]));
    while !journal
        .losses()
        .iter()
        .any(|loss| loss.contains("2 changes"))
    {
        std::thread::yield_now();
    }
    let problem = journal.problem().expect("the other alarm");
    assert!(problem.contains("missing/journal.jsonl"), "{problem}");
    fs::create_dir(dir.path().join("missing")).expect("made");
    journal.close(4);
    assert_eq!(journal.problem(), None);
    let [loss] = &journal.losses()[..] else {
        panic!("one alarm: {:?}", journal.losses());
    };
    // The first draft is recorded as it was, and the last one with the changes of the dropped ones.
    for part in [
        "journal: 2 changes between 1970-01-01T00:03:20Z and 1970-01-01T00:06:40Z",
        "tapis journal show",
        "until the next start",
    ] {
        assert!(loss.contains(part), "{loss}");
    }
    let lost = entries(&path)
        .into_iter()
        .find_map(|entry| match entry.event {
            Event::Lost { entries } => Some(entries),
            _ => None,
        });
    assert_eq!(lost, Some(2));
}

#[test]
fn entries_that_are_gone_at_the_start_are_an_alarm_until_the_next_one() {
    let (_dir, path) = written(3);
    let all = entries(&path);
    let last = all.len() as u64;
    let text = fs::read_to_string(&path).expect("there");
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    for gone in [1, 3, lines.len()] {
        let kept = lines.len() - gone;
        fs::write(&path, lines[..kept].concat()).expect("written");
        let head = format!("{last:20} {}\n", "0".repeat(64));
        fs::write(beside(&path, ".head"), head).expect("written");
        let mut journal = Journal::open(&path, None, None);
        journal.close(3);
        assert_eq!(journal.problem(), None);
        let [loss] = &journal.losses()[..] else {
            panic!("one alarm: {:?}", journal.losses());
        };
        let first = kept as u64 + 1;
        let reported = match gone {
            1 => format!("journal: entry {last} is missing"),
            _ => format!("journal: entries {first} to {last} are missing"),
        };
        assert!(loss.starts_with(&reported), "{loss}");
        assert!(loss.contains("tapis journal verify"), "{loss}");
        if let Some(entry) = all[..kept].last() {
            assert!(loss.contains(&format!("{:.0}", entry.at)), "{loss}");
        }
        let mut next = Journal::open(&path, None, None);
        next.close(3);
        assert_eq!(next.losses(), [""; 0]);
    }
}

#[test]
fn a_journal_that_is_cut_while_it_is_written_is_an_alarm_and_one_that_is_moved_away_is_none() {
    for cut in [true, false] {
        let (_dir, path) = written(2);
        let mut journal = Journal::open(&path, None, None);
        let receipt = journal.publish(draft(3, None, &[]));
        journal.wait(receipt);
        while entries(&path).iter().all(|entry| entry.generation < 3) || !problems(&path).is_empty()
        {
            std::thread::yield_now();
        }
        let text = fs::read_to_string(&path).expect("there");
        let last = entries(&path).len();
        let end = text.trim_end().rfind('\n').expect("lines");
        match cut {
            true => fs::write(&path, &text[..=end]).expect("written"),
            false => fs::rename(&path, path.with_extension("old")).expect("moved away"),
        }
        journal.publish(draft(4, None, &[]));
        journal.close(4);
        let losses = journal.losses().concat();
        match cut {
            true => assert!(
                losses.contains(&format!("entry {last} is missing")),
                "{losses}"
            ),
            false => assert_eq!(losses, ""),
        }
    }
}

#[test]
fn entries_that_were_replaced_while_no_server_ran_are_an_alarm() {
    let (_dir, path) = written(2);
    let last = entries(&path).len();
    let head = format!("{last:20} {}\n", "1".repeat(64));
    fs::write(beside(&path, ".head"), head).expect("written");
    let mut journal = Journal::open(&path, None, None);
    journal.close(2);
    let losses = journal.losses().concat();
    let reported = format!("journal: entry {last} is not the one that was written");
    assert!(losses.contains(&reported), "{losses}");
}
