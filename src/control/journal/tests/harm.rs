//! Changes to a journal by another program.

use super::*;

/// A changed byte, a removed line, or two swapped lines.
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
        .split_inclusive(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(3000));
    let result = runner.run(&harm(), |harm| {
        let mut lines = lines.clone();
        // The first line that differs, or the place where it was.
        let first = match harm {
            Harm::Change(at, flip) => {
                let at = at.index(whole.len());
                let before = whole[..at].iter().filter(|byte| **byte == b'\n').count();
                let mut bytes = whole.clone();
                bytes[at] ^= flip;
                lines = vec![bytes];
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
        let findings = verify(&[&path], None).expect("readable").findings;
        let found = findings.first().map(|finding| finding.line);
        let line = first as u64 + 1;
        // A missing end is reported without a line.
        prop_assert!(
            found == Some(Some(line)) || found == Some(None),
            "line {line}: {findings:?}"
        );
        Ok(())
    });
    result.expect("every harm is found");
    fs::write(&path, &whole).expect("written");
    assert_eq!(problems(&path), []);
}

#[test]
fn a_generation_whose_entry_is_damaged_is_not_reported_as_unwritten() {
    let (_dir, path) = written(2);
    write(&path, 3..=4);
    let whole = fs::read_to_string(&path).expect("there");
    let third = entries(&path)
        .into_iter()
        .find(|entry| entry.generation == 3 && matches!(&entry.event, Event::Published(_)));
    let number = third.expect("recorded").number as usize;
    let mut lines: Vec<_> = whole.lines().collect();
    let damaged = lines[number - 1].replacen('3', "8", 1);
    lines[number - 1] = &damaged;
    fs::write(&path, lines.join("\n") + "\n").expect("written");
    let verification = verify(&[&path], None).expect("readable");
    assert!(!verification.findings.is_empty());
    assert!(verification.notes.is_empty(), "{:?}", verification.notes);
}

#[test]
fn a_missing_head_is_reported() {
    let (_dir, path) = written(1);
    let head = path.with_extension("jsonl.head");
    let file = OpenOptions::new().write(true).truncate(true).open(&head);
    drop(file.expect("emptied"));
    assert_eq!(problems(&path), [Problem::NoHead]);
}

#[test]
fn a_rewritten_entry_with_a_valid_hash_does_not_chain_to_the_next() {
    let (_dir, path) = written(3);
    let text = fs::read_to_string(&path).expect("there");
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    let (mut entry, _) = Entry::parse(lines[2].as_bytes()).expect("an entry");
    entry.generation = 7;
    lines[2] = String::from_utf8(entry.seal().0)
        .expect("text")
        .trim_end()
        .to_owned();
    fs::write(&path, lines.join("\n") + "\n").expect("written");
    assert_eq!(problems(&path), [Problem::Unchained(entry.number + 1)]);
    // A change of the last entry is found by means of the `.head` file.
    fs::write(&path, &text).expect("written");
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    let last = lines.pop().expect("a line");
    let (mut entry, _) = Entry::parse(last.as_bytes()).expect("an entry");
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
