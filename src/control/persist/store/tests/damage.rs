//! Damaged images and records.

use super::*;

#[test]
fn a_damaged_base_is_reported_and_the_pair_before_it_read() {
    let damage: [Damage; 6] = [
        (|path| flip(path, |size| size / 2), "damaged: "),
        (|path| flip(path, |_| 20), "damaged: header"),
        (
            |path| {
                let file = File::options().write(true).open(path).expect("there");
                let size = file.metadata().expect("there").len();
                file.set_len(size - 200).expect("cut");
            },
            "cut short",
        ),
        (
            |path| File::create(path).map(drop).expect("emptied"),
            "not an image of Tapis",
        ),
        (
            |path| fs::remove_file(path).expect("removed"),
            "No such file",
        ),
        (
            |path| {
                let mut bytes = fs::read(path).expect("there");
                bytes[8..12].copy_from_slice(&(layout::VERSION + 1).to_le_bytes());
                fs::write(path, bytes).expect("written");
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
        let reported = reasons(&loaded);
        let start = format!("{}: ", path.display());
        assert_eq!(reported.len(), 1, "once for two pairs: {reported:?}");
        assert!(reported[0].starts_with(&start), "{reported:?}");
        assert!(reported[0].contains(reason), "{reported:?}");
        change(&mut after, good.base, 2);
        assert_eq!(
            files(&folder, "base"),
            [good.base.to_string()],
            "{reason}: the damaged one is gone with the next commit"
        );
    }
}

#[test]
fn without_a_damaged_delta_its_base_is_still_read() {
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
    let file = File::options().write(true).open(&path).expect("there");
    // Sparse: it takes no room on the disk, but would in memory.
    file.set_len(1 << 40).expect("grown");
    let error = read_image(&path).expect_err("refused");
    assert!(error.to_string().contains("damaged: length"), "{error}");
}

#[test]
fn a_large_image_is_read_like_a_small_one() {
    let folder = folder();
    for (names, large) in [(3, false), (200_000, true)] {
        let path = folder.path().join("image");
        fs::write(&path, image(names)).expect("written");
        let image = read_image(&path).expect("undamaged");
        assert_eq!(image.facts().rules, names as u64);
        assert_eq!(image.size() >= 2 << 20, large, "{} bytes", image.size());
    }
}

#[test]
fn a_file_that_is_no_image_is_not_read() {
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
fn without_a_whole_record_the_newest_base_that_opens_is_read() {
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
            "of format 99, and this program reads format 1",
        ),
        (
            |path| {
                fs::remove_file(path).expect("removed");
                fs::create_dir(path).expect("made");
            },
            "not a regular file",
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
        let reported = reasons(&loaded);
        assert_eq!(reported.len(), 2, "{reported:?}");
        assert!(reported[0].contains("/current: "), "{reported:?}");
        assert!(reported[0].contains(reason), "{reported:?}");
        let found = loaded.found.expect("found");
        assert_eq!(found.pair, pair);
        assert!(found.published.is_none());
    }
}
