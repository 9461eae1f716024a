//! State that outlives the server, and large lists: images in the state directory, and the
//! compiler.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::journal::{as_seen_by, fill};
use crate::support::client::{is_blocked, until};
use crate::support::server::{Server, folder, list, preamble, refused, tapis, text};
use crate::support::upstream::Upstream;

/// Ends a server and returns its directory.
pub(crate) fn end(mut server: Server) -> TempDir {
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0), "{}", server.log());
    let empty = tempfile::tempdir().expect("a folder");
    std::mem::replace(&mut server.folder, empty)
}

/// The configuration of a server that keeps its images.
fn keeping(upstream: &Upstream, lists: &[&str]) -> String {
    let lists: Vec<_> = lists.iter().map(|name| list(name, "")).collect();
    preamble(upstream.address) + "[state]\ndir = \"state\"\n" + &lists.concat()
}

/// A list that is large enough for the compiler: 60,000 names, followed by `more`.
fn large(more: &str) -> String {
    let names = (0..60_000).map(|number| format!("n{number}.large.example\n"));
    names.collect::<String>() + more
}

/// Waits until the policy in force is saved.
pub(crate) fn kept(server: &Server) {
    let generation = server.status()["generation"].as_u64().expect("a number");
    let record = server.path("state").join("current");
    until("the record of what is in force", || {
        let text = fs::read_to_string(&record).unwrap_or_default();
        let text: String = text.split_whitespace().collect();
        // The record has the first and the last generation with the same lists.
        [
            format!("\"generation\":{generation},"),
            format!(",{generation}]]"),
        ]
        .iter()
        .any(|record| text.contains(record))
    });
}

fn flip(file: &Path) {
    let mut bytes = fs::read(file).expect("an image");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).expect("written");
}

fn images(server: &Server, kind: &str) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(server.path("state")).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let of_kind = |path: &std::path::PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(kind))
    };
    paths.filter(of_kind).collect()
}

#[test]
fn a_restart_serves_the_rules_in_force_without_any_list_file() {
    let upstream = Upstream::plain();
    let config = keeping(&upstream, &["ads", "big"]);
    let files = [("ads", "ads.example\n"), ("big", &*large("last.example\n"))];
    let server = Server::start(&config, &files);
    kept(&server);
    let before = server.status();
    let folder = end(server);
    for name in ["ads", "big"] {
        fs::remove_file(folder.path().join(name)).expect("removed");
    }
    let server = Server::start_in(folder);
    for name in ["ads.example", "last.example", "n7.large.example"] {
        assert!(is_blocked(server.address, name), "{name}\n{}", server.log());
    }
    server.logged("kept images are in force");
    let after = server.status();
    for key in ["rules", "digest", "lines", "loaded_at"] {
        for at in 0..2 {
            assert_eq!(
                after["lists"][at][key], before["lists"][at][key],
                "{key} of {at}"
            );
        }
    }
    // The missing files are reported once noticed; the rules stay.
    until("the alarm", || server.status()["degraded"] == true);
    assert!(is_blocked(server.address, "last.example"));
}

#[test]
fn an_allow_list_is_in_force_after_a_restart_without_its_file() {
    let upstream = Upstream::plain();
    let config = keeping(&upstream, &["ads"]) + &list("free", "kind = \"allow\"\n");
    let files = [
        ("ads", "a.example\nfree.example\n"),
        ("free", "free.example\n"),
    ];
    let server = Server::start(&config, &files);
    kept(&server);
    let folder = end(server);
    fs::remove_file(folder.path().join("free")).expect("removed");
    let server = Server::start_in(folder);
    assert!(is_blocked(server.address, "a.example"));
    assert!(!is_blocked(server.address, "free.example"));
}

#[test]
fn changes_while_the_server_was_down_are_read_after_the_start() {
    let upstream = Upstream::plain();
    let config = keeping(&upstream, &["ads"]);
    let server = Server::start(&config, &[("ads", "old.example\n")]);
    kept(&server);
    let folder = end(server);
    fs::write(folder.path().join("ads"), "new.example\n").expect("written");
    let server = Server::start_in(folder);
    until("the new state", || {
        is_blocked(server.address, "new.example")
    });
    assert!(!is_blocked(server.address, "old.example"));
}

#[test]
fn a_list_whose_meaning_changed_is_not_restored_from_the_images() {
    let upstream = Upstream::plain();
    let config = keeping(&upstream, &["ads"]);
    let server = Server::start(&config, &[("ads", "ads.example\n")]);
    kept(&server);
    let folder = end(server);
    let wide = config + "scope = \"subtree\"\n";
    fs::write(folder.path().join("tapis.toml"), wide).expect("written");
    let server = Server::start_in(folder);
    assert!(is_blocked(server.address, "deep.ads.example"));
}

/// Ends a server, sets these keys of its list `ads`, and starts it again.
fn again_with(server: Server, keys: &str) -> Server {
    let folder = end(server);
    let config = fs::read_to_string(folder.path().join("tapis.toml")).expect("readable");
    let (before, _) = config.split_once("[[list]]").expect("the list");
    let config = format!("{before}[[list]]\nname = \"ads\"\n{keys}\n");
    fs::write(folder.path().join("tapis.toml"), config).expect("written");
    Server::start_in(folder)
}

#[test]
fn a_list_whose_parsing_changed_is_compared_with_the_kept_rules() {
    let old: String = (0..40).map(|at| format!("n{at}.example\n")).collect();
    let few = "n1.example\nnew.example\n";
    let files = [
        ("ads", &*old),
        ("few", few),
        ("hosts", "0.0.0.0 n1.example\n0.0.0.0 new.example\n"),
        ("empty", ""),
        ("large", &large("last.example\n")),
    ];
    for (keys, held) in [
        ("path = \"few\"", "shrunk"),
        (
            "path = \"few\"\nrequired = true\nguards = \"warn\"",
            "shrunk",
        ),
        ("path = \"few\"\nscope = \"subtree\"", "shrunk"),
        ("path = \"hosts\"\nformat = \"hosts\"", "shrunk"),
        ("path = \"few\"\ncomments = \"!\"", "shrunk"),
        ("path = \"empty\"\nrequired = true", "empty"),
        ("path = \"large\"", "grown"),
    ] {
        let upstream = Upstream::plain();
        let server = Server::start(&keeping(&upstream, &["ads"]), &files);
        kept(&server);
        let server = again_with(server, keys);
        let check = |server: &Server| {
            let status = server.status();
            let list = &status["lists"][0];
            let report = format!("{keys}: {list}");
            assert_eq!(list["state"], "held", "{report}");
            assert_eq!(list["guards"][0], held, "{report}");
            assert_eq!(list["rules"], 40, "{report}");
            assert!(is_blocked(server.address, "n7.example"), "{report}");
            assert!(!is_blocked(server.address, "new.example"), "{report}");
        };
        check(&server);
        // The kept rules are still those in force before that start.
        kept(&server);
        let server = Server::start_in(end(server));
        check(&server);
        let output = server.verb(&["reload", "--accept", &format!("ads:{held}")]);
        assert!(output.status.success(), "{keys}: {}", text(&output));
        assert!(!is_blocked(server.address, "n7.example"), "{keys}");
        assert_eq!(server.status()["degraded"], false, "{keys}");
    }
}

#[test]
fn a_rollback_removes_no_kept_rules_of_a_list_whose_new_file_is_held() {
    let upstream = Upstream::plain();
    let config = keeping(&upstream, &["ads"]);
    let old = "one.example\ntwo.example\nthree.example\n";
    let files = [("ads", old), ("few", "one.example\n")];
    let server = Server::start(&config, &files);
    kept(&server);
    let server = again_with(server, "path = \"few\"");
    assert!(is_blocked(server.address, "three.example"));
    let output = server.verb(&["rollback", "1"]);
    let report = "generation 1 does not have it as it is configured now; its rules in force stay";
    assert!(text(&output).contains(report), "{}", text(&output));
    assert!(is_blocked(server.address, "three.example"));
    server.verb(&["rollback", "--release"]);
    assert!(is_blocked(server.address, "three.example"));
    let output = server.verb(&["reload", "--accept", "ads:shrunk"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(!is_blocked(server.address, "three.example"));
}

#[test]
fn kept_rules_apply_where_a_lists_new_path_does_not_exist() {
    let upstream = Upstream::plain();
    let server = Server::start(&keeping(&upstream, &["ads"]), &[("ads", "ads.example\n")]);
    kept(&server);
    let server = again_with(server, "path = \"typo\"\nrequired = true");
    assert!(is_blocked(server.address, "ads.example"));
    let status = server.status();
    let alarm = status["lists"][0]["alarm"].as_str().expect("an alarm");
    assert!(alarm.contains("typo: No such file"), "{alarm}");
    // The new file appears. It has as many rules as are in force, so no guard rejects it.
    server.replace("typo", "other.example\n");
    until("the new file", || {
        is_blocked(server.address, "other.example")
    });
    assert!(!is_blocked(server.address, "ads.example"));
    server.assert_well();
}

#[test]
fn kept_rules_of_a_large_list_apply_while_its_new_file_is_held() {
    let upstream = Upstream::plain();
    let files = [
        ("ads", &*large("last.example\n")),
        ("few", "few.example\n"),
        ("page", &"<b>no list</b>\n".repeat(100_000)),
    ];
    for (path, guard) in [("few", "shrunk"), ("page", "bad")] {
        let server = Server::start(&keeping(&upstream, &["ads"]), &files);
        kept(&server);
        let server = again_with(server, &format!("path = \"{path}\""));
        assert!(is_blocked(server.address, "last.example"), "{path}");
        assert_eq!(server.status()["lists"][0]["guards"][0], guard, "{path}");
    }
}

#[test]
fn kept_rules_of_a_block_list_do_not_apply_to_an_allow_list_of_its_name() {
    let upstream = Upstream::plain();
    let server = Server::start(&keeping(&upstream, &["ads"]), &[("ads", "ads.example\n")]);
    kept(&server);
    let server = again_with(server, "path = \"typo\"\nkind = \"allow\"");
    assert!(!is_blocked(server.address, "ads.example"));
    assert_eq!(server.status()["lists"][0]["state"], "missing");
}

#[test]
fn damaged_images_are_reported_and_the_lists_are_read() {
    let upstream = Upstream::plain();
    let config = keeping(&upstream, &["ads", "big"]);
    let files = [("ads", "ads.example\n"), ("big", &*large("last.example\n"))];
    let server = Server::start(&config, &files);
    kept(&server);
    images(&server, "base").iter().for_each(|file| flip(file));
    let server = Server::start_in(end(server));
    let log = server.logged("kept image refused");
    assert!(log.contains("damaged"), "{log}");
    for name in ["ads.example", "last.example"] {
        assert!(is_blocked(server.address, name), "{name}");
    }
}

#[test]
fn a_state_directory_belongs_to_one_server() {
    let upstream = Upstream::plain();
    let config = keeping(&upstream, &["ads"]);
    let server = Server::start(&config, &[("ads", "ads.example\n")]);
    let other = folder("", &[("ads", "ads.example\n")]);
    let state = server.path("state");
    let config = config.replace("dir = \"state\"", &format!("dir = {state:?}"));
    let printed = refused(other.path(), &config, &[]);
    assert!(printed.contains("in use by process"), "{printed}");
    assert!(is_blocked(server.address, "ads.example"));
}

#[test]
fn an_unusable_state_directory_is_reported_and_lists_are_still_served() {
    let upstream = Upstream::plain();
    let config = keeping(&upstream, &["ads"]).replace("dir = \"state\"", "dir = \"ads/state\"");
    let server = Server::start(&config, &[("ads", "ads.example\n")]);
    assert!(is_blocked(server.address, "ads.example"));
    let status = server.status();
    let alarm = status["alarms"][0].as_str().expect("an alarm");
    assert!(
        alarm.contains("not up to date") && alarm.contains("ads/state"),
        "{alarm}"
    );
}

#[test]
fn large_lists_are_compiled_while_small_ones_change() {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address) + &list("big", "") + &list("small", "");
    let files = [
        ("big", &*large("first.example\n")),
        ("small", "one.example\n"),
    ];
    let server = Server::start(&config, &files);
    until("the compile in the log", || {
        server.log().contains("compiled")
    });
    assert!(is_blocked(server.address, "first.example"));

    server.replace("small", "two.example\n");
    until("the small list", || {
        is_blocked(server.address, "two.example")
    });
    assert!(!is_blocked(server.address, "one.example"));

    server.replace("big", &large("second.example\n"));
    until("the large list", || {
        is_blocked(server.address, "second.example")
    });
    assert!(!is_blocked(server.address, "first.example"));
    assert!(is_blocked(server.address, "two.example"));
    assert!(is_blocked(server.address, "n7.large.example"));

    // The list is small now, so the server itself reads it; the compiler's result no longer
    // applies.
    let names = (0..40_000).map(|number| format!("n{number}.large.example\n"));
    server.replace("big", &names.collect::<String>());
    until("the list that shrank", || {
        !is_blocked(server.address, "second.example")
    });
    assert!(is_blocked(server.address, "n7.large.example"));
}

/// The names of the lists in the newest image of that kind.
fn sources(server: &Server, kind: &str) -> Vec<String> {
    let newest = images(server, kind).into_iter().max_by_key(|path| {
        let name = path.to_string_lossy().into_owned();
        let digits = name
            .rsplit('-')
            .next()
            .and_then(|end| end.strip_suffix(".image"));
        digits.and_then(|digits| digits.parse::<u64>().ok())
    });
    let image = newest.and_then(|path| tapis::control::persist::store::read_image(&path).ok());
    let sources = image.iter().flat_map(|image| &image.provenance().sources);
    sources.map(|source| source.name.clone()).collect()
}

#[test]
fn many_small_lists_move_into_the_base_as_they_are() {
    let upstream = Upstream::plain();
    let names = ["ads", "b", "c", "d"];
    let config = keeping(&upstream, &names);
    let many = |list: &str| -> String { (0..90_000).map(|n| format!("{list}{n}.x\n")).collect() };
    let texts = ["b", "c", "d"].map(many);
    let mut files = vec![("ads", "ads.example\n")];
    files.extend(
        names[1..]
            .iter()
            .copied()
            .zip(texts.iter().map(String::as_str)),
    );
    let server = Server::start(&config, &files);
    until("the lists in the base", || {
        sources(&server, "base") == names
    });
    until("no list in the delta", || {
        sources(&server, "delta").is_empty()
    });
    for name in ["ads.example", "b0.x", "c89999.x", "d7.x"] {
        assert!(is_blocked(server.address, name), "{name}\n{}", server.log());
    }
    assert!(!is_blocked(server.address, "b90000.x"));
    assert_eq!(server.status()["degraded"], false, "{}", server.log());
    // Later changes are in the delta, which precedes the base.
    server.replace("ads", "new.example\n");
    until("the change", || is_blocked(server.address, "new.example"));
    assert!(!is_blocked(server.address, "ads.example"));
    assert_eq!(sources(&server, "base"), names);
}

#[test]
fn a_suspicious_large_list_is_held() {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address) + &list("big", "");
    let server = Server::start(&config, &[("big", &large("last.example\n"))]);
    let bad: String = (0..60_000)
        .map(|number| format!("<b>{number} is no name</b>\n"))
        .collect();
    server.replace("big", &bad);
    let output = server.verb(&["reload"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(
        text(&output).contains("60000 of 60000 lines are bad"),
        "{}",
        text(&output)
    );
    assert_eq!(server.status()["lists"][0]["state"], "held");
    assert!(is_blocked(server.address, "last.example"));
}

#[test]
fn a_configuration_with_a_new_large_list_applies_whole() {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address) + &list("big", "");
    let server = Server::start(&config, &[("big", &large("one.example\n"))]);
    let more = format!("{config}{}{}", list("more", ""), list("small", ""));
    fs::write(server.path("small"), "small.example\n").expect("written");
    fs::write(server.path("tapis.toml"), &more).expect("written");
    let output = server.verb(&["reload"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(
        !is_blocked(server.address, "small.example"),
        "all or nothing"
    );
    assert!(is_blocked(server.address, "one.example"));

    let names = (0..60_000).map(|number| format!("m{number}.more.example\n"));
    fs::write(server.path("more"), names.collect::<String>()).expect("written");
    let output = server.verb(&["reload"]);
    assert!(output.status.success(), "{}", text(&output));
    for name in [
        "small.example",
        "m7.more.example",
        "one.example",
        "n7.large.example",
    ] {
        assert!(is_blocked(server.address, name), "{name}");
    }
}

#[test]
fn images_are_described_and_compared() {
    let folder = folder(
        "[[list]]\nname = \"ads\"\npath = \"ads\"\n",
        &[(
            "ads",
            "a.example\n.tree.example\nx.tree.example\n*.b.example\n",
        )],
    );
    let run = |arguments: &[&str]| {
        let mut command = tapis();
        command.args(arguments).current_dir(folder.path());
        command.output().expect("it ran")
    };
    let compile = |out: &str| {
        let output = run(&["compile", "--config", "tapis.toml", "-o", out]);
        assert!(output.status.success(), "{}", text(&output));
    };
    compile("old.image");
    let report = text(&run(&["image", "old.image"]));
    assert!(
        report.contains("4 rules given, 1 pruned, 3 in it"),
        "{report}"
    );
    assert!(report.contains("source ads: 4 rules"), "{report}");

    fs::write(
        folder.path().join("ads"),
        "c.example\n.tree.example\nb.example\n",
    )
    .expect("written");
    compile("new.image");
    let output = run(&["diff", "old.image", "new.image"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let mut lines: Vec<_> = text(&output).lines().map(str::to_owned).collect();
    lines.sort();
    let expected = [
        "+ c.example (ads)",
        "- a.example (ads)",
        "ads: 1 added, 1 removed, 1 changed",
        "~ *.b.example now b.example (ads)",
    ];
    assert_eq!(lines, expected);
    let output = run(&["diff", "new.image", "new.image"]);
    assert!(output.status.success(), "{}", text(&output));

    flip(&folder.path().join("new.image"));
    let output = run(&["image", "new.image"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output).contains("new.image: damaged"),
        "{}",
        text(&output)
    );
}

/// A server with a small list, whose state directory is on a separate disk, and whose temporary
/// files are in `temporary`.
fn on_a_separate_disk(temporary: &str) -> (Server, Upstream) {
    let upstream = Upstream::plain();
    let config = keeping(&upstream, &["ads"]);
    let config = config.replace(
        "dir = \"state\"",
        "dir = \"disk/state\"\n[guard]\ngrow-percent = 0",
    );
    let folder = folder(&config, &[("ads", "ads.example\n")]);
    for name in ["disk", "tmp"] {
        fs::create_dir(folder.path().join(name)).expect("made");
    }
    let script = format!(
        "mount -t tmpfs -o size=4m tmpfs disk && exec env TMPDIR={temporary} \"$0\" serve --config tapis.toml"
    );
    let program = env!("CARGO_BIN_EXE_tapis");
    let server = Server::start_by("unshare", &["-m", "sh", "-c", &script, program], folder);
    until("it is kept", || {
        as_seen_by(&server, "disk/state/current").exists()
    });
    (server, upstream)
}

#[test]
#[ignore = "needs root, unshare and mount"]
fn a_large_list_comes_into_force_while_the_state_directorys_disk_is_full() {
    let (server, _upstream) = on_a_separate_disk("tmp");
    fill(&as_seen_by(&server, "disk/filler"));
    server.replace("ads", &large("ads.example\n"));
    until("the list", || {
        server.status()["lists"][0]["state"] != "current"
            || is_blocked(server.address, "n1.large.example")
    });
    assert!(
        is_blocked(server.address, "n1.large.example"),
        "{}",
        server.status()["lists"]
    );
    assert_eq!(server.status()["lists"][0]["state"], "current");
}

#[test]
#[ignore = "needs root, unshare and mount"]
fn a_large_list_is_compiled_once_the_disk_has_room() {
    let (server, _upstream) = on_a_separate_disk("disk");
    let filler = as_seen_by(&server, "disk/filler");
    fill(&filler);
    server.replace("ads", &large("ads.example\n"));
    let list = || server.status()["lists"][0].clone();
    until("the alarm", || list()["state"] == "held");
    let alarm = list()["alarm"].as_str().expect("an alarm").to_owned();
    assert!(
        alarm.contains("No space left") && alarm.contains("after a while"),
        "{alarm}"
    );
    assert!(is_blocked(server.address, "ads.example"));
    fs::remove_file(filler).expect("removed");
    until("the list", || {
        is_blocked(server.address, "n1.large.example")
    });
    until("the alarm's end", || list()["state"] == "current");
}
