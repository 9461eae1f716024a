//! Images that are written, committed and removed.

use super::*;

#[test]
fn a_new_directory_is_private_and_has_no_images() {
    let folder = folder();
    let dir = folder.path().join("state");
    let mut store = Store::open(&dir, 3).expect("ours");
    let mode = fs::metadata(&dir).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert!(store.unwritable().is_none());
    let loaded = store.load();
    assert!(loaded.found.is_none() && loaded.refused.is_empty());
}

#[test]
fn committed_images_are_read_after_a_restart() {
    let folder = folder();
    let mut first = store(&folder);
    let base = publish(&mut first, 3).base;
    change(&mut first, base, 1);
    let pair = change(&mut first, base, 2);
    drop(first);
    let mut second = store(&folder);
    let loaded = second.load();
    assert_eq!(rules(&loaded), Some((3, Some(2))));
    let found = loaded.found.expect("found");
    assert_eq!(found.pair, pair);
    assert_eq!(found.published.expect("recorded").generation, 2);
    assert_eq!(
        reasons(&Loaded {
            found: None,
            ..loaded
        }),
        [""; 0]
    );
    assert_eq!(second.history().len(), 3);
}

#[test]
fn a_crash_before_the_commit_leaves_the_last_good_pair_in_force() {
    let folder = folder();
    let mut before = store(&folder);
    let base = publish(&mut before, 3).base;
    let pair = change(&mut before, base, 1);
    drop(before);
    let steps: [fn(&mut Store, Base); 4] = [
        |store, _| {
            store.create_base_file().expect("a place");
        },
        |store, _| {
            let place = store.create_base_file().expect("a place");
            fs::write(place, image(9)).expect("written");
        },
        |store, _| {
            adopt(store, 9);
        },
        |store, _| {
            store.write_delta(&image(9)).expect("written");
        },
    ];
    for (number, step) in steps.into_iter().enumerate() {
        let mut crashing = store(&folder);
        step(&mut crashing, base);
        drop(crashing);
        let loaded = store(&folder).load();
        assert_eq!(rules(&loaded), Some((3, Some(1))), "step {number}");
        assert_eq!(loaded.found.expect("found").pair, pair);
    }
    let mut after = store(&folder);
    publish(&mut after, 4);
    assert_eq!(files(&folder, "base").len(), 2, "the orphan is gone");
    assert_eq!(files(&folder, "delta").len(), 1, "the orphan is gone");
}

#[test]
fn a_commit_does_not_remove_an_image_that_waits_for_its_own() {
    let folder = folder();
    let mut store = store(&folder);
    let base = publish(&mut store, 3).base;
    let next = adopt(&mut store, 4);
    change(&mut store, base, 1);
    let delta = Some(store.write_delta(&image(2)).expect("written"));
    let waiting = Pair { base: next, delta };
    let delta = None;
    let alone = Pair { base: next, delta };
    store
        .commit(alone, 8, Lists::default())
        .expect("it is still there");
    store
        .commit(waiting, 9, Lists::default())
        .expect("it is still there");
    assert_eq!(rules(&store.load()), Some((4, Some(2))));
}

#[test]
fn numbers_are_never_used_again() {
    let folder = folder();
    let mut first = store(&folder);
    let orphan = adopt(&mut first, 3);
    drop(first);
    let mut second = store(&folder);
    let base = adopt(&mut second, 4);
    assert!(base > orphan, "{base} behind {orphan}");
    let delta = second.write_delta(&image(1)).expect("written");
    assert!(delta.0 > base.0, "{delta} behind {base}");
}

#[test]
fn only_the_configured_number_of_bases_is_kept() {
    let folder = folder();
    let mut store = store(&folder);
    let mut kept = Vec::new();
    for names in 1..=5 {
        let pair = publish(&mut store, names);
        kept.push(pair.base.to_string());
        change(&mut store, pair.base, 1);
    }
    let mut newest = kept.split_off(2);
    newest.sort_unstable();
    assert_eq!(files(&folder, "base"), newest);
    assert!(files(&folder, "delta").len() <= 5);
    drop(store);
    let mut fewer = Store::open(folder.path(), 1).expect("ours");
    let last = publish(&mut fewer, 6).base;
    assert_eq!(files(&folder, "base"), [last.to_string()]);
    assert_eq!(files(&folder, "delta"), [""; 0]);
}

#[test]
fn leftovers_of_a_crash_are_removed_and_other_files_are_not() {
    let folder = folder();
    for name in [
        "base.tmp-3",
        "base.tmp-3.tmp-77",
        "delta-4.image.tmp-4",
        "current.tmp-5",
        "notes.tmp-1",
        "notes",
    ] {
        fs::write(folder.path().join(name), "half").expect("written");
    }
    let store = store(&folder);
    assert_eq!(files(&folder, ""), ["lock", "notes", "notes.tmp-1"]);
    drop(store);
}

#[test]
fn a_compile_that_failed_leaves_nothing_when_the_next_one_starts() {
    let folder = folder();
    let mut store = store(&folder);
    let first = store.create_base_file().expect("a place");
    let beside = format!("{}.tmp-2", first.display());
    fs::write(beside, "half").expect("written");
    let second = store.create_base_file().expect("a place");
    assert_eq!(files(&folder, "base").len(), 1);
    store.remove_leftovers();
    assert_eq!(files(&folder, "base").len(), 0);
    drop(store);
    let mut after = Store::open(folder.path(), 3).expect("ours");
    let third = after.create_base_file().expect("a place");
    assert!(first != second && first != third, "an old child may live");
}
