//! Owns the tests of the state directory as a whole: what a start finds after whatever happened.
//! Refuses the contents of images: a handful of names stands for all.

use std::fs;
use std::io::Cursor;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use tempfile::TempDir;

use super::*;
use crate::policy::image::order::{Key, Path as NamePath};
use crate::policy::image::provenance::Provenance;
use crate::policy::image::text::Census;
use crate::policy::image::values::ImageRule;
use crate::policy::image::writer::Writer;
use crate::policy::image::{ImageError, layout};
use crate::policy::rule::Scope;
use crate::wire::name::Name;

/// An image of so many names.
fn image(names: usize) -> Vec<u8> {
    let key = Key::new(7);
    let name = |n| Name::from_text(&format!("n{n}.example.com")).expect("a name");
    let mut paths: Vec<_> = (0..names).map(|n| NamePath::from(&name(n))).collect();
    paths.sort_by(|one, other| key.compare(one.octets(), other.octets()));
    let rule = ImageRule {
        source: 0,
        flags: 0,
        scope: Scope::Exact,
    };
    let to = Cursor::new(Vec::new());
    let mut writer = Writer::new(to, key, Census::default()).expect("memory");
    for path in paths {
        writer
            .push(path.octets(), &[rule.to_bits()])
            .expect("memory");
    }
    let (to, _) = writer.finish(&Provenance::numbered(1)).expect("memory");
    to.into_inner()
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn store(folder: &TempDir) -> Store {
    Store::open(folder.path(), 3).expect("ours")
}

/// Puts a base of so many names in place.
fn adopt(store: &mut Store, names: usize) -> Base {
    let place = store.place_for_base().expect("a place");
    fs::write(&place, image(names)).expect("written");
    store.adopt_base(&place).expect("adopted")
}

/// Brings a base of so many names into force, alone.
fn publish(store: &mut Store, names: usize) -> Pair {
    let pair = Pair {
        base: adopt(store, names),
        delta: None,
    };
    store.commit(pair, names as u64).expect("committed");
    pair
}

/// Brings a delta of so many names over a base into force.
fn change(store: &mut Store, base: Base, names: usize) -> Pair {
    let delta = store.put_delta(&image(names)).expect("written");
    let delta = Some(delta);
    let pair = Pair { base, delta };
    store.commit(pair, names as u64).expect("committed");
    pair
}

/// How many rules the images have that were found: base, delta.
fn rules(loaded: &Loaded) -> Option<(u64, Option<u64>)> {
    let found = loaded.found.as_ref()?;
    let delta = found.delta.as_ref().map(|delta| delta.facts().rules);
    Some((found.base.facts().rules, delta))
}

fn reasons(loaded: &Loaded) -> Vec<String> {
    loaded.refused.iter().map(ToString::to_string).collect()
}

/// The names of the files in the folder that begin so.
fn files(folder: impl AsRef<Path>, start: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("readable");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = names.map(|name| name.display().to_string()).collect();
    names.retain(|name| name.starts_with(start));
    names.sort();
    names
}

/// What happens to a file, and what is told of it.
type Damage = (fn(&Path), &'static str);

fn flip(path: &Path, at: impl Fn(usize) -> usize) {
    let mut octets = fs::read(path).expect("readable");
    let at = at(octets.len());
    octets[at] ^= 1;
    fs::write(path, octets).expect("written");
}

#[test]
fn an_empty_directory_is_made_for_its_owner_alone_and_holds_nothing() {
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
fn what_was_committed_is_there_after_a_restart() {
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
            store.place_for_base().expect("a place");
        },
        |store, _| {
            let place = store.place_for_base().expect("a place");
            fs::write(place, image(9)).expect("written");
        },
        |store, _| {
            adopt(store, 9);
        },
        |store, _| {
            store.put_delta(&image(9)).expect("written");
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
fn an_image_that_waits_for_its_commit_outlives_that_of_another() {
    let folder = folder();
    let mut store = store(&folder);
    let base = publish(&mut store, 3).base;
    let next = adopt(&mut store, 4);
    change(&mut store, base, 1);
    let delta = Some(store.put_delta(&image(2)).expect("written"));
    let waiting = Pair { base: next, delta };
    let delta = None;
    let alone = Pair { base: next, delta };
    store.commit(alone, 8).expect("it is still there");
    store.commit(waiting, 9).expect("it is still there");
    assert_eq!(rules(&store.load()), Some((4, Some(2))));
}

#[test]
fn numbers_never_come_again() {
    let folder = folder();
    let mut first = store(&folder);
    let orphan = adopt(&mut first, 3);
    drop(first);
    let mut second = store(&folder);
    let base = adopt(&mut second, 4);
    assert!(base > orphan, "{base} behind {orphan}");
    let delta = second.put_delta(&image(1)).expect("written");
    assert!(delta.0 > base.0, "{delta} behind {base}");
}

#[test]
fn only_so_many_bases_are_kept() {
    let folder = folder();
    let mut store = store(&folder);
    let mut kept = Vec::new();
    for names in 1..=5 {
        let pair = publish(&mut store, names);
        kept.push(pair.base.to_string());
        change(&mut store, pair.base, 1);
    }
    assert_eq!(files(&folder, "base"), kept[2..]);
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
    let first = store.place_for_base().expect("a place");
    let beside = format!("{}.tmp-2", first.display());
    fs::write(beside, "half").expect("written");
    let second = store.place_for_base().expect("a place");
    assert_eq!(files(&folder, "base").len(), 1);
    store.remove_leftovers();
    assert_eq!(files(&folder, "base").len(), 0);
    drop(store);
    let mut after = Store::open(folder.path(), 3).expect("ours");
    let third = after.place_for_base().expect("a place");
    assert!(first != second && first != third, "an old child may live");
}

#[test]
fn a_damaged_base_is_told_and_the_pair_before_it_taken() {
    let damage: [Damage; 6] = [
        (|path| flip(path, |size| size / 2), "damaged: its "),
        (|path| flip(path, |_| 20), "damaged: its header"),
        (
            |path| {
                let file = fs::File::options().write(true).open(path).expect("there");
                let size = file.metadata().expect("there").len();
                file.set_len(size - 200).expect("cut");
            },
            "cut short",
        ),
        (
            |path| fs::File::create(path).map(drop).expect("emptied"),
            "not an image of Tapis",
        ),
        (
            |path| fs::remove_file(path).expect("removed"),
            "No such file",
        ),
        (
            |path| {
                let mut octets = fs::read(path).expect("there");
                octets[8..12].copy_from_slice(&(layout::VERSION + 1).to_le_bytes());
                fs::write(path, octets).expect("written");
            },
            "an image of layout",
        ),
    ];
    for (damage, reason) in damage {
        let folder = folder();
        let mut before = store(&folder);
        let good = publish(&mut before, 3);
        let bad = publish(&mut before, 4);
        change(&mut before, bad.base, 1);
        let path = before.base_path(bad.base);
        damage(&path);
        drop(before);
        let mut after = store(&folder);
        let loaded = after.load();
        assert_eq!(rules(&loaded), Some((3, None)), "{reason}");
        assert_eq!(loaded.found.as_ref().expect("found").pair, good);
        let told = reasons(&loaded);
        let start = format!("{}: ", path.display());
        assert_eq!(told.len(), 1, "once for two pairs: {told:?}");
        assert!(told[0].starts_with(&start), "{told:?}");
        assert!(told[0].contains(reason), "{told:?}");
        change(&mut after, good.base, 2);
        assert_eq!(
            files(&folder, "base"),
            [good.base.to_string()],
            "{reason}: the damaged one is gone with the next commit"
        );
    }
}

#[test]
fn a_damaged_delta_costs_only_itself() {
    let folder = folder();
    let mut before = store(&folder);
    let base = publish(&mut before, 3).base;
    change(&mut before, base, 1);
    let bad = change(&mut before, base, 2).delta.expect("given");
    flip(&before.delta_path(bad), |size| size / 2);
    drop(before);
    let loaded = store(&folder).load();
    assert_eq!(rules(&loaded), Some((3, Some(1))));
    assert_eq!(reasons(&loaded).len(), 1);
}

#[test]
fn a_file_that_grew_is_refused_before_memory_is_taken_for_it() {
    let folder = folder();
    let path = folder.path().join("grown");
    fs::write(&path, image(3)).expect("written");
    let file = fs::File::options().write(true).open(&path).expect("there");
    // Sparse: it takes no room on the disk, but would in memory.
    file.set_len(1 << 40).expect("grown");
    let error = read_image(&path).expect_err("refused");
    assert!(error.to_string().contains("its length"), "{error}");
}

#[test]
fn a_large_image_is_read_like_a_small_one() {
    let folder = folder();
    for (names, large) in [(3, false), (200_000, true)] {
        let path = folder.path().join("image");
        fs::write(&path, image(names)).expect("written");
        let image = read_image(&path).expect("whole");
        assert_eq!(image.facts().rules, names as u64);
        assert_eq!(image.size() >= 2 << 20, large, "{} octets", image.size());
    }
}

#[test]
fn what_is_no_image_is_not_read() {
    let folder = folder();
    let socket = folder.path().join("socket");
    let _listener = UnixListener::bind(&socket).expect("made");
    for path in [socket.as_path(), folder.path()] {
        let error = read_image(path).expect_err("refused");
        assert!(matches!(error, ImageFileError::NotAFile(_)), "{error}");
    }
    let text = folder.path().join("text");
    fs::write(&text, "a.example\n").expect("written");
    let error = read_image(&text).expect_err("refused");
    let source = ImageError::NotAnImage;
    assert!(matches!(error, ImageFileError::Refused { source: why, .. } if why == source));
}

#[test]
fn without_a_whole_record_the_newest_base_that_opens_is_taken() {
    let damage: [Damage; 4] = [
        (|path| fs::write(path, "{").expect("written"), "damaged"),
        (
            |path| {
                // One number for another: still JSON, but not what was written.
                let text = fs::read_to_string(path).expect("readable");
                let changed = text.replace("\"generation\": 3", "\"generation\": 8");
                assert_ne!(text, changed);
                fs::write(path, changed).expect("written");
            },
            "damaged",
        ),
        (
            |path| fs::write(path, "{\"version\": 99}").expect("written"),
            "of form 99, and this program reads form 1",
        ),
        (
            |path| {
                fs::remove_file(path).expect("removed");
                fs::create_dir(path).expect("made");
            },
            "Is a directory",
        ),
    ];
    for (damage, reason) in damage {
        let folder = folder();
        let mut before = store(&folder);
        publish(&mut before, 3);
        let pair = publish(&mut before, 4);
        let worse = publish(&mut before, 5);
        flip(&before.base_path(worse.base), |size| size / 2);
        drop(before);
        damage(&folder.path().join("current"));
        let loaded = store(&folder).load();
        assert_eq!(rules(&loaded), Some((4, None)), "{reason}");
        let told = reasons(&loaded);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("/current: "), "{told:?}");
        assert!(told[0].contains(reason), "{told:?}");
        let found = loaded.found.expect("found");
        assert_eq!(found.pair, pair);
        assert!(found.published.is_none());
    }
}

#[test]
fn a_second_process_is_told_whose_the_directory_is() {
    let folder = folder();
    let first = store(&folder);
    let error = Store::open(folder.path(), 3)
        .expect_err("taken")
        .to_string();
    let whose = format!(
        "{}: in use by process {}; ",
        folder.path().display(),
        std::process::id()
    );
    assert!(error.starts_with(&whose), "{error}");
    drop(first);
    store(&folder);
}

#[test]
fn a_lock_that_is_a_link_is_not_written_through() {
    let folder = folder();
    let (dir, victim) = (folder.path().join("state"), folder.path().join("victim"));
    fs::create_dir(&dir).expect("made");
    fs::write(&victim, "precious").expect("written");
    symlink(&victim, dir.join("lock")).expect("linked");
    let mut store = Store::open(&dir, 3).expect("to be read");
    assert!(store.unwritable().is_some());
    store.put_delta(&image(1)).expect_err("not ours");
    assert_eq!(fs::read_to_string(&victim).expect("there"), "precious");
}

#[test]
fn a_directory_that_vanished_is_made_again_and_what_was_in_it_told_as_gone() {
    let folder = folder();
    let dir = folder.path().join("state");
    let mut store = Store::open(&dir, 3).expect("ours");
    let base = publish(&mut store, 3).base;
    fs::remove_dir_all(&dir).expect("removed");
    let delta = Some(store.put_delta(&image(1)).expect("written"));
    let error = store.commit(Pair { base, delta }, 2).expect_err("no base");
    assert!(matches!(&error, StoreError::Gone(path) if *path == store.base_path(base)));
    Store::open(&dir, 3).expect_err("the new one is ours as well");
    let next = publish(&mut store, 4);
    assert!(next.base > base);
    assert_eq!(store.history().len(), 1, "what is gone is not kept");
    drop(store);
    let mut after = Store::open(&dir, 3).expect("ours");
    assert_eq!(rules(&after.load()), Some((4, None)));
}

#[test]
fn a_directory_that_another_took_over_is_left_alone() {
    let folder = folder();
    let dir = folder.path().join("state");
    let mut first = Store::open(&dir, 3).expect("ours");
    publish(&mut first, 3);
    fs::remove_dir_all(&dir).expect("removed");
    let mut second = Store::open(&dir, 3).expect("theirs");
    publish(&mut second, 4);
    let error = first.put_delta(&image(1)).expect_err("not ours any more");
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    drop(second);
    first.put_delta(&image(1)).expect("ours again");
    assert_eq!(files(&dir, "base").len(), 1);
}

#[test]
fn a_place_that_can_not_be_one_is_told_with_a_remedy() {
    let folder = folder();
    let file = folder.path().join("file");
    fs::write(&file, "").expect("written");
    for (dir, remedy) in [
        (file.clone(), "; name a directory as `dir` in [state]"),
        (file.join("state"), "; name a directory as `dir` in [state]"),
        (
            folder.path().join("a/b"),
            "; make the directory that it is in",
        ),
    ] {
        let error = Store::open(&dir, 3).expect_err("refused").to_string();
        assert!(
            error.starts_with(&format!("{}: ", dir.display())),
            "{error}"
        );
        assert!(error.ends_with(remedy), "{error}");
    }
}

#[test]
fn a_place_that_became_a_file_is_told_and_works_again_when_it_is_a_directory() {
    let folder = folder();
    let dir = folder.path().join("state");
    let mut store = Store::open(&dir, 3).expect("ours");
    publish(&mut store, 3);
    fs::remove_dir_all(&dir).expect("removed");
    fs::write(&dir, "").expect("written");
    for _ in 0..2 {
        let error = store.place_for_base().expect_err("no directory");
        assert!(matches!(error, StoreError::Io { .. }), "{error}");
    }
    fs::remove_file(&dir).expect("removed");
    publish(&mut store, 4);
    assert_eq!(rules(&store.load()), Some((4, None)));
}

#[test]
fn a_directory_that_can_only_be_read_serves_what_is_in_it() {
    let folder = folder();
    let mut before = store(&folder);
    let base = publish(&mut before, 3).base;
    drop(before);
    let mode = |mode| {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(folder.path(), mode).expect("ours");
    };
    let lock = folder.path().join("lock");
    for with_lock in [true, false] {
        if with_lock {
            let mode = fs::Permissions::from_mode(0o400);
            fs::set_permissions(&lock, mode).expect("ours");
        } else {
            fs::remove_file(&lock).expect("removed");
        }
        mode(0o500);
        if fs::write(folder.path().join("probe"), "").is_ok() {
            // Nothing stops root.
            return;
        }
        let mut store = store(&folder);
        let told = store.unwritable().expect("told").to_string();
        let remedy = "; let the server's user write to the state directory";
        assert!(told.ends_with(remedy), "{told}");
        assert_eq!(store.lock.is_some(), with_lock);
        assert_eq!(rules(&store.load()), Some((3, None)));
        let error = store.put_delta(&image(1)).expect_err("not writable");
        assert!(error.to_string().ends_with(remedy), "{error}");
        mode(0o700);
        let delta = Some(store.put_delta(&image(1)).expect("writable"));
        store.commit(Pair { base, delta }, 1).expect("committed");
        store
            .commit(Pair { base, delta: None }, 2)
            .expect("committed");
    }
}
