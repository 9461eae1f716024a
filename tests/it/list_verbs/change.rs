//! Adding lists to the configuration and removing them, and the catalogue.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use crate::downloads::scene::{PERMIT, config, upstream};
use crate::history::run;
use crate::support::client::is_blocked;
use crate::support::server::{Server, folder, list, preamble, tapis, text, verb};
use crate::support::tls::Security;
use crate::support::upstream::Upstream;
use crate::support::web::{Web, page, response, send};

/// A server with a list, and what comes before it in the configuration.
fn server(upstream: &Upstream) -> Server {
    let lists = format!(
        "# Ours.\n{}# The end.\n",
        list("ads", "scope = \"subtree\"")
    );
    let config = config(upstream, PERMIT, &lists);
    Server::start(&config, &[("ads", "ads.example\nboth.example\n")])
}

fn configuration(folder: &Path) -> String {
    fs::read_to_string(folder.join("tapis.toml")).expect("readable")
}

/// Runs a verb that fails without a change of the configuration, and returns its message.
pub(super) fn refused(folder: &Path, arguments: &[&str]) -> String {
    let before = configuration(folder);
    let output = verb(folder, arguments);
    assert_eq!(
        output.status.code(),
        Some(1),
        "{arguments:?}: {}",
        text(&output)
    );
    assert_eq!(configuration(folder), before, "{arguments:?}");
    text(&output)
}

#[test]
fn a_file_is_added_and_removed_while_the_server_runs_and_the_rest_of_the_configuration_stays() {
    let upstream = upstream();
    let server = server(&upstream);
    let before = configuration(server.folder.path());
    let mine = server.path("mine.txt");
    fs::write(&mine, "0.0.0.0 mine.example\n").expect("written");
    let path = mine.to_str().expect("text");
    let add = [
        "list", "add", "--name", "mine", "--path", path, "--format", "hosts",
    ];
    let (code, printed) = run(&server, &add);
    assert_eq!(code, Some(0), "{printed}");
    assert!(
        printed.contains("mine: added to ") && printed.contains("read again: mine"),
        "{printed}"
    );
    assert!(is_blocked(server.address, "mine.example"));
    let section = format!("\n[[list]]\nname = \"mine\"\npath = \"{path}\"\nformat = \"hosts\"\n");
    assert_eq!(
        configuration(server.folder.path()),
        before.clone() + &section
    );
    let problem = refused(server.folder.path(), &add);
    assert!(
        problem.contains("there is a list `mine` already"),
        "{problem}"
    );
    let (code, printed) = run(&server, &["list", "remove", "mine"]);
    assert_eq!(code, Some(0), "{printed}");
    assert!(
        printed.contains("mine: removed from ") && printed.contains("in force"),
        "{printed}"
    );
    assert_eq!(configuration(server.folder.path()), before);
    assert!(!is_blocked(server.address, "mine.example"));
    assert!(mine.exists(), "the file is not the server's");
    let problem = refused(server.folder.path(), &["list", "remove", "add"]);
    assert!(problem.contains("did you mean `ads`?"), "{problem}");
    server.assert_well();
}

#[test]
fn a_list_by_url_is_waited_for_and_its_rules_or_its_fault_are_printed() {
    let upstream = upstream();
    let web = Web::start(Security::web(), |got, stream| {
        let answer = match &*got.path {
            "/good.txt" => page("||web.example^\n"),
            _ => response("404 Not Found", &[], b""),
        };
        send(stream, &answer);
    });
    let server = server(&upstream);
    let (good, bad) = (web.url("/good.txt"), web.url("/bad.txt"));
    let add = |name: &str, url: &str| {
        run(
            &server,
            &[
                "list", "add", "--name", name, "--url", url, "--format", "adblock",
            ],
        )
    };
    let (code, printed) = add("good", &good);
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("good: 1 rule in force"), "{printed}");
    assert!(is_blocked(server.address, "www.web.example"));
    let (code, printed) = add("bad", &bad);
    assert_eq!(code, Some(1), "{printed}");
    assert!(
        printed.contains(&format!("bad: {bad}: status: ")),
        "{printed}"
    );
    assert!(
        configuration(server.folder.path()).contains(&bad),
        "it is asked again later"
    );
    let problem = refused(
        server.folder.path(),
        &["list", "add", "--name", "again", "--url", &good],
    );
    assert!(
        problem.contains(&format!("the list `good` has {good} already")),
        "{problem}"
    );
}

#[test]
fn a_configuration_that_the_server_does_not_take_stays_changed_and_that_is_said() {
    let upstream = upstream();
    let server = server(&upstream);
    fs::write(server.path("page"), "<html><body>Not found</body></html>\n").expect("written");
    let path = server.path("page");
    let add = [
        "list",
        "add",
        "--name",
        "page",
        "--path",
        path.to_str().expect("text"),
    ];
    let (code, printed) = run(&server, &add);
    assert_eq!(code, Some(1), "{printed}");
    assert!(
        printed.contains("configuration rejected, page: "),
        "{printed}"
    );
    assert!(
        printed.contains("the file is changed all the same"),
        "{printed}"
    );
    assert!(configuration(server.folder.path()).contains("name = \"page\""));
    assert!(is_blocked(server.address, "ads.example"));
}

#[test]
fn without_a_server_a_list_is_in_force_at_the_next_start_and_the_file_keeps_owner_mode_and_link() {
    let upstream = upstream();
    let folder = folder(&config(&upstream, "", ""), &[]);
    let (link, target) = (
        folder.path().join("tapis.toml"),
        folder.path().join("real.toml"),
    );
    fs::rename(&link, &target).expect("renamed");
    symlink("real.toml", &link).expect("linked");
    fs::set_permissions(&target, PermissionsExt::from_mode(0o640)).expect("set");
    let before = fs::metadata(&target).expect("a file");
    let output = verb(folder.path(), &["list", "add", "oisd-small"]);
    let printed = text(&output);
    assert_eq!(output.status.code(), Some(0), "{printed}");
    for part in [
        "behind all other lists, which precede it",
        "its license is https://github.com/sjhgvr/oisd/blob/main/LICENSE",
        "no server is running: in force at its next start",
    ] {
        assert!(printed.contains(part), "{part:?} is not in: {printed}");
    }
    assert!(configuration(folder.path()).contains("url = [\"https://small.oisd.nl/\", "));
    let after = fs::metadata(&target).expect("a file");
    assert!(fs::symlink_metadata(&link).expect("a link").is_symlink());
    assert_eq!((after.mode(), after.uid()), (before.mode(), before.uid()));
    assert_ne!(after.ino(), before.ino(), "it was replaced in one step");
    let checked = text(&verb(folder.path(), &["list", "remove", "oisd-small"]));
    assert!(checked.contains("removed from"), "{checked}");
    let add = [
        "list",
        "add",
        "oisd-small",
        "--name",
        "small",
        "--kind",
        "allow",
    ];
    let printed = text(&verb(folder.path(), &add));
    let place = "as an allow list, which precedes the ordinary rules of all block lists";
    assert!(printed.contains(place), "{printed}");
    assert!(!printed.contains("behind all other lists"), "{printed}");
    let configured = configuration(folder.path());
    assert!(configured.contains("name = \"small\"\nurl = [\"https://small.oisd.nl/\", "));
    assert!(configured.ends_with("kind = \"allow\"\n"), "{configured}");
}

#[test]
fn bad_requests_change_nothing_and_say_what_to_do() {
    let upstream = upstream();
    let place = folder(&preamble(upstream.address), &[("a", "a.example\n")]);
    let file = place.path().join("a");
    let (file, dir) = (
        file.to_str().expect("text"),
        place.path().to_str().expect("text"),
    );
    for (arguments, problem) in [
        (
            &["add", "oisd-smal"][..],
            "`oisd-smal` is not in the catalogue of lists: did you mean `oisd-small`?",
        ),
        (
            &["add", "oisd-small"],
            "a list by URL needs a directory for its copies",
        ),
        (
            &["add", "--name", "b", "--path", "/nowhere/b"],
            "/nowhere/b: can't be read: ",
        ),
        (&["add", "--name", "b", "--path", dir], "not a regular file"),
        (
            &["add", "--name", "B!", "--path", file],
            "name is \"B!\", must be 1 to 64 characters",
        ),
        (
            &["add", "--name", "b", "--path", file, "--format", "host"],
            "did you mean \"hosts\"?",
        ),
        (
            &["remove", "zzzzzz"],
            "there is no list `zzzzzz`; `tapis status` shows all",
        ),
        (&["available", "stevenblak"], "did you mean `stevenblack`?"),
        (
            &["show", "b", "--line", "1"],
            "there is no list or feed `b`",
        ),
    ] {
        let printed = refused(place.path(), &[&["list"], arguments].concat());
        assert!(
            printed.contains(problem),
            "{problem:?} is not in: {printed}"
        );
    }
    for arguments in [
        &["add"][..],
        &["add", "--url", "https://x.example/"],
        &["add", "oisd-small", "--format", "hosts"],
        &[
            "add",
            "--name",
            "b",
            "--url",
            "https://x.example/",
            "--path",
            file,
        ],
        &["show", "b", "--line", "0"],
        &["show", "b", "--lines", "1-5000"],
        &["show", "b", "--lines", "5-1"],
    ] {
        let output = verb(place.path(), &[&["list"], arguments].concat());
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?}: {}",
            text(&output)
        );
    }
    fs::write(place.path().join("tapis.toml"), "[serve]\n").expect("written");
    let printed = refused(
        place.path(),
        &["list", "add", "--name", "b", "--path", file],
    );
    assert!(
        printed.contains("mistakes already; correct these first:"),
        "{printed}"
    );
    let output = tapis()
        .args([
            "list",
            "add",
            "--name",
            "b",
            "--path",
            file,
            "--control",
            "/nowhere/s",
        ])
        .output()
        .expect("it ran");
    if crate::support::server::may_be_built_in() {
        assert_eq!(output.status.code(), Some(1));
        let printed = text(&output);
        assert!(
            printed.contains("the built-in configuration can't be changed; make a file"),
            "{printed}"
        );
    }
}

#[test]
fn the_catalogue_is_a_table_and_each_list_has_its_facts() {
    let run = |arguments: &[&str]| {
        let output = tapis().args(arguments).output().expect("it ran");
        assert_eq!(output.status.code(), Some(0));
        text(&output)
    };
    let table = run(&["list", "available"]);
    assert!(table.lines().count() > 12, "{table}");
    let row = table
        .lines()
        .find(|line| line.starts_with("hagezi-pro "))
        .expect("a row");
    assert!(row.contains("218509") && row.contains("phishing"), "{row}");
    let facts = run(&["list", "available", "adaway"]);
    for part in [
        "adaway: AdAway default blocklist",
        "license: CC-BY-3.0",
        "url: https://adaway.org/hosts.txt",
    ] {
        assert!(facts.contains(part), "{facts}");
    }
}
