//! State directories that are in use, were removed, or can't be used.

use super::*;

#[test]
fn transfers_that_a_kill_left_are_removed_at_the_next_start_and_at_no_other_time() {
    let folder = folder();
    let mut first = store(&folder);
    let foreign = ["my-transfer.tmp-1", "transfer.txt"];
    for name in foreign.into_iter().chain(["transfer.tmp-aB3"]) {
        fs::write(folder.path().join(name), "").expect("written");
    }
    assert!(Store::open(folder.path(), 3).is_err(), "it is in use");
    publish(&mut first, 3);
    assert_eq!(
        files(&folder, "transfer.tmp-"),
        ["transfer.tmp-aB3"],
        "it may be arriving"
    );
    drop(first);
    let _second = store(&folder);
    assert_eq!(files(&folder, "transfer"), ["transfer.txt"]);
    assert_eq!(files(&folder, "my-"), ["my-transfer.tmp-1"]);
}

#[test]
fn the_error_for_a_directory_in_use_names_the_process() {
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
    store.write_delta(&image(1)).expect_err("not ours");
    assert_eq!(fs::read_to_string(&victim).expect("there"), "precious");
}

#[test]
fn a_removed_directory_is_created_again_and_its_images_are_reported_as_removed() {
    let folder = folder();
    let dir = folder.path().join("state");
    let mut store = Store::open(&dir, 3).expect("ours");
    let base = publish(&mut store, 3).base;
    fs::remove_dir_all(&dir).expect("removed");
    let delta = Some(store.write_delta(&image(1)).expect("written"));
    let error = store
        .commit(Pair { base, delta }, 2, Lists::default())
        .expect_err("no base");
    assert!(matches!(&error, StoreError::Gone(path) if *path == store.base_path(base)));
    Store::open(&dir, 3).expect_err("the new one is ours as well");
    let next = publish(&mut store, 4);
    assert!(next.base > base);
    assert_eq!(store.history().len(), 1, "removed images are not in it");
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
    let error = first.write_delta(&image(1)).expect_err("not ours any more");
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    drop(second);
    first.write_delta(&image(1)).expect("ours again");
    assert_eq!(files(&dir, "base").len(), 1);
}

#[test]
fn the_error_for_an_unusable_path_has_a_remedy() {
    let folder = folder();
    let file = folder.path().join("file");
    fs::write(&file, "").expect("written");
    for (dir, remedy) in [
        (file.clone(), "; name a directory as `dir` in [state]"),
        (file.join("state"), "; name a directory as `dir` in [state]"),
        (
            folder.path().join("a/b"),
            "; create the directory that it is in",
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
fn a_directory_that_became_a_file_is_an_error_until_it_is_a_directory_again() {
    let folder = folder();
    let dir = folder.path().join("state");
    let mut store = Store::open(&dir, 3).expect("ours");
    publish(&mut store, 3);
    fs::remove_dir_all(&dir).expect("removed");
    fs::write(&dir, "").expect("written");
    for _ in 0..2 {
        let error = store.create_base_file().expect_err("no directory");
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
            // Root may write to it all the same.
            return;
        }
        let mut store = store(&folder);
        let reported = store.unwritable().expect("not writable").to_string();
        let remedy = "; let the server's user write to the state directory";
        assert!(reported.ends_with(remedy), "{reported}");
        assert_eq!(store.lock.is_some(), with_lock);
        assert_eq!(rules(&store.load()), Some((3, None)));
        let error = store.write_delta(&image(1)).expect_err("not writable");
        assert!(error.to_string().ends_with(remedy), "{error}");
        mode(0o700);
        let delta = Some(store.write_delta(&image(1)).expect("writable"));
        store
            .commit(Pair { base, delta }, 1, Lists::default())
            .expect("committed");
        store
            .commit(Pair { base, delta: None }, 2, Lists::default())
            .expect("committed");
    }
}
