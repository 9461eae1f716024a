//! Tests of edits of a configuration's lists.

use std::path::Path;

use crate::config::Config;
use crate::config::list_edit::{Location, NewList, with_list, without_list};

const CONFIG: &str = "# The lists of the school.

[state]
dir = \"state\" # on the large disk

# Ads.
[[list]]
name = \"ads\"
path = \"ads.txt\"
# format = \"hosts\"

# From the ministry.
[[feed]]
zone = \"rpz.example\"
primaries = [\"192.0.2.1\"]
[[list]]
url = [\"https://lists.example/b\", \"https://mirror.example/b\"]
name = \"b\"
# The end.
";

fn path() -> &'static Path {
    Path::new("/etc/tapis.toml")
}

fn new(name: &str, url: &str) -> NewList {
    NewList {
        name: name.to_owned(),
        location: Location::Urls(vec![url.to_owned()]),
        keys: vec![("format", "hosts".to_owned())],
    }
}

fn removed(text: &str, name: &str) -> String {
    without_list(text, path(), name).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn a_list_is_appended_behind_everything_and_removed_again_without_a_trace() {
    let added =
        with_list(CONFIG, path(), &new("new", "https://lists.example/\"x\"")).expect("added");
    let section = added.strip_prefix(CONFIG).expect("nothing else changes");
    assert_eq!(
        section,
        "\n[[list]]\nname = \"new\"\nurl = 'https://lists.example/\"x\"'\nformat = \"hosts\"\n"
    );
    let config = Config::parse(&added, path()).expect("valid");
    assert_eq!(config.lists.last().expect("a list").source.name, "new");
    assert_eq!(removed(&added, "new"), CONFIG);
}

#[test]
fn a_url_that_would_never_be_asked_is_refused_with_the_remedy() {
    let new = new("new", "http://lists.example/x");
    let refused = with_list(CONFIG, path(), &new)
        .expect_err("refused")
        .to_string();
    let remedy = "use https, or add \"lists.example\" to allow-http in [download]";
    assert!(refused.contains(remedy), "{refused}");
    let permit = format!("{CONFIG}[download]\nallow-http = [\"lists.example\"]\n");
    with_list(&permit, path(), &new).expect("added");
}

#[test]
fn line_ends_are_those_of_the_text_and_a_last_line_is_ended() {
    let text = "[state]\r\ndir = \"state\"";
    let added = with_list(text, path(), &new("new", "https://lists.example/x")).expect("added");
    let section = added.strip_prefix(text).expect("nothing else changes");
    assert!(
        section.starts_with("\r\n\r\n[[list]]\r\nname"),
        "{section:?}"
    );
    assert_eq!(
        section.matches('\n').count(),
        section.matches("\r\n").count()
    );
    assert!(section.ends_with("\r\n"));
    let first = with_list(
        "",
        path(),
        &NewList {
            location: Location::Path("/a".to_owned()),
            keys: Vec::new(),
            ..new("a", "")
        },
    );
    assert_eq!(
        first.expect("added"),
        "[[list]]\nname = \"a\"\npath = \"/a\"\n"
    );
}

#[test]
fn a_removed_list_takes_its_own_comments_along_and_leaves_the_others() {
    let without = removed(CONFIG, "ads");
    let expected = CONFIG.replace(
        "# Ads.\n[[list]]\nname = \"ads\"\npath = \"ads.txt\"\n# format = \"hosts\"\n\n",
        "",
    );
    assert_eq!(without, expected);
    let without = removed(CONFIG, "b");
    assert!(
        without.ends_with("primaries = [\"192.0.2.1\"]\n# The end.\n"),
        "{without}"
    );
    let heading = CONFIG.replace("# Ads.", "# Our own lists follow.\n\n# Ads.");
    let without = removed(&heading, "ads");
    assert!(
        without.contains("# Our own lists follow.\n\n# From the ministry.\n[[feed]]"),
        "{without}"
    );
}

#[test]
fn a_removed_list_leaves_the_line_ends_and_all_other_bytes() {
    let config = CONFIG.replace('\n', "\r\n") + "\t# Mixed.\n";
    let without = removed(&config, "ads");
    let section = "# Ads.\r\n[[list]]\r\nname = \"ads\"\r\npath = \"ads.txt\"\r\n# format = \"hosts\"\r\n\r\n";
    assert_eq!(without, config.replace(section, ""));
    let added = with_list(&config, path(), &new("new", "https://lists.example/x")).expect("added");
    assert_eq!(removed(&added, "new"), config);
}

#[test]
fn a_comment_below_a_removed_list_stays_unless_it_is_a_key_of_the_list() {
    let note = "# format = \"hosts\"\n# The feed is new.\n";
    let config = CONFIG.replace("# format = \"hosts\"\n", note);
    let without = removed(&config, "ads");
    let expected = "disk\n\n# The feed is new.\n\n# From the ministry.\n[[feed]]";
    assert!(without.contains(expected), "{without}");
}

#[test]
fn each_reason_against_an_edit_is_a_message_with_a_remedy() {
    let added = |text: &str, new: &NewList| {
        let error = with_list(text, path(), new).expect_err("refused");
        error.to_string()
    };
    let url = "https://lists.example/new";
    for (text, new, problem) in [
        (CONFIG, new("ads", url), "there is a list `ads` already"),
        (
            CONFIG,
            new("rpz.example", url),
            "there is a feed `rpz.example` already",
        ),
        (
            CONFIG,
            new("c", "https://mirror.example/b"),
            "the list `b` has https://mirror.example/b already",
        ),
        (
            CONFIG,
            new("Bad!", url),
            "would have mistakes then:\n/etc/tapis.toml:22: name is \"Bad!\"",
        ),
        (
            CONFIG,
            new("c", "ftp://x.example/"),
            "would have mistakes then:\n/etc/tapis.toml:23: url",
        ),
        (
            "[state]\nkeep = 4\n",
            new("c", url),
            "add this to the section [state] on line 1, then try again:\n\ndir = \"/var/lib/tapis\"",
        ),
        (
            "",
            new("c", url),
            "add these lines to the configuration, then try again:\n\n[state]\ndir = \"/var/lib/tapis\"",
        ),
        (
            "[stat]\n",
            new("c", url),
            "has mistakes already; correct these first:\n/etc/tapis.toml:1:",
        ),
        (
            "list = []\n[state]\ndir = \"s\"\n",
            new("c", url),
            "would have mistakes then",
        ),
    ] {
        let found = added(text, &new);
        assert!(found.contains(problem), "{found}");
    }
    let same = NewList {
        location: Location::Path("/etc/ads.txt".to_owned()),
        ..new("c", url)
    };
    assert!(added(CONFIG, &same).contains("the list `ads` has /etc/ads.txt already"));
    for (text, name, problem) in [
        (CONFIG, "adz", "there is no list `adz`; did you mean `ads`?"),
        (
            CONFIG,
            "zzzzzz",
            "there is no list `zzzzzz`; `tapis status` shows all",
        ),
        (CONFIG, "rpz.example", "`rpz.example` is a feed"),
        ("x", "ads", "has mistakes already"),
        (
            &*format!(
                "{CONFIG}[[publish]]\nzone = \"p.example\"\nsources = [\"ads\"]\nallow-transfer = [\"192.0.2.2\"]\n"
            ),
            "ads",
            "would have mistakes then",
        ),
        (
            "list = [{ name = \"a\", path = \"a\" }]\n",
            "a",
            "no sections [[list]] that can be edited",
        ),
    ] {
        let error = without_list(text, path(), name).expect_err("refused");
        assert!(error.to_string().contains(problem), "{error}");
    }
}
