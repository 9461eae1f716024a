//! Tests of the configuration as a whole, from text to result.

mod bounds;
mod catalogue;
mod derived;
mod downloads;
mod feeds;
mod list_edit;
mod lists;
mod local;
mod publish;
mod servers;
mod shipped;
mod values;
mod zones;

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::load::SIZE_MAX;
use super::selection::Selection;
use super::*;

fn parse(text: &str) -> Result<Config, Problems> {
    Config::parse(text, Path::new("etc/tapis.toml"))
}

pub(super) fn valid(text: &str) -> Config {
    parse(text).unwrap_or_else(|problems| panic!("{text}\n{problems}"))
}

/// The problems as they are shown, without the path.
pub(super) fn problems(text: &str) -> Vec<String> {
    let Err(found) = parse(text) else {
        return Vec::new();
    };
    let shown = found.to_string();
    let path = "etc/tapis.toml:";
    shown
        .lines()
        .map(|line| {
            line.strip_prefix(path)
                .expect("each has the path")
                .to_owned()
        })
        .collect()
}

fn list(keys: &str) -> String {
    format!("[[list]]\nname = \"a\"\npath = \"a.txt\"\n{keys}\n")
}

#[test]
fn an_empty_file_means_the_defaults_and_no_lists() {
    let config = valid("");
    assert_eq!(config.origin, Origin::File("etc/tapis.toml".into()));
    let listen: Vec<_> = config
        .server
        .listen
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(listen, ["127.0.0.1:5335", "[::1]:5335"]);
    assert_eq!(config.server.workers, 0);
    assert_eq!(config.server.control, None);
    assert_eq!(config.server.version, None);
    assert_eq!(config.server.tcp_connections, 1024);
    assert_eq!(config.server.tcp_idle, Duration::from_secs(10));
    assert_eq!(config.upstream.servers, None);
    assert_eq!(config.upstream.timeout, Duration::from_secs(2));
    assert_eq!(config.upstream.waiting, 8192);
    assert_eq!(config.upstream.waiting_per_client, 2048);
    assert_eq!(config.upstream.selection, Selection::default());
    assert_eq!(config.cache.size_bytes, 256 << 20);
    assert_eq!(config.cache.max_ttl_secs, 86400);
    assert_eq!(config.state.dir, None);
    assert_eq!(config.state.keep, 3);
    assert_eq!(config.state.deadline, Duration::from_secs(600));
    assert_eq!(config.lists, []);
    assert_eq!(config, valid("# only a comment\n[server]\n[block]\n"));
    assert_eq!(config, valid("\u{feff}"));
}

#[test]
fn a_dozen_mistakes_are_a_dozen_problems_each_on_its_line() {
    let text = r#"[server]
listen = ["127.0.0.1"]
workers = "4"
allow = [
  "127.0.0.0/8",
  "192.0.2.1/24",
]

[upstream]
servrs = ["192.0.2.53"]
timeout-ms 2000

[cache]
size-mib = 1.5

[block]
ttl-secs = 0
action = "sinkhol"

[[list]]
name = "Orders"
path = ""

[[list]]
path = "x.txt"

[sever]
"#;
    assert_eq!(
        problems(text),
        [
            "2: listen holds \"127.0.0.1\", which has no port: write \"127.0.0.1:53\"",
            "3: workers is a string (\"4\"), must be a whole number: remove the quotes",
            "6: allow holds \"192.0.2.1/24\", which has bits set behind its prefix: write \
             \"192.0.2.0/24\" for the network",
            "10: unknown key `servrs` in [upstream]; did you mean `servers`?",
            "11: not TOML: key with no value, expected `=`",
            "14: size-mib is a number with a fraction (1.5), must be a whole number: write digits, \
             without quotes or fraction",
            "17: ttl-secs is 0, must be 1 to 3600",
            "18: action is \"sinkhol\", must be one of nxdomain, nodata, sinkhole, refused, drop; \
             did you mean \"sinkhole\"?",
            "21: name is \"Orders\", must be 1 to 64 characters of a-z, 0-9, `.`, `_`, `-`",
            "22: path is empty, must be the path of a file",
            "24: [[list]] has no `name`: add name = \"...\"",
            "27: unknown key `sever` in the file's top level; did you mean `server`?",
        ]
    );
}

#[test]
fn relative_paths_are_relative_to_the_file() {
    let text = "[server]\ncontrol = \"run/c.sock\"\n[state]\ndir = \"./state/.\"\n\
                [[list]]\nname = \"a\"\npath = \"../lists/a\"\n\
                [[list]]\nname = \"b\"\npath = \"/lists/./b\"\n";
    for (file, control, state, a) in [
        ("tapis.toml", "run/c.sock", "state", "../lists/a"),
        ("etc/tapis.toml", "etc/run/c.sock", "etc/state", "lists/a"),
        (
            "/etc/tapis.toml",
            "/etc/run/c.sock",
            "/etc/state",
            "/lists/a",
        ),
    ] {
        let config = Config::parse(text, Path::new(file)).expect("valid");
        assert_eq!(config.server.control.as_deref(), Some(Path::new(control)));
        assert_eq!(config.state.dir.as_deref(), Some(Path::new(state)));
        assert_eq!(config.lists[0].source.path, Path::new(a));
        assert_eq!(config.lists[1].source.path, Path::new("/lists/b"));
    }
}

#[test]
fn unknown_keys_are_reported_with_the_known_ones() {
    assert_eq!(
        problems("[upstream]\nzone = 1\n[upstream.\"a\\u001b\"]\n"),
        [
            "2: unknown key `zone` in [upstream]; valid keys are servers, bootstrap, discover, resolv-conf, ports, timeout-ms, waiting, waiting-per-client, strategy, parallel-servers, on-upstream-block, landing-addresses",
            "3: unknown key `a\\u{1b}` in [upstream]; valid keys are servers, bootstrap, discover, resolv-conf, ports, timeout-ms, waiting, waiting-per-client, strategy, parallel-servers, on-upstream-block, landing-addresses",
        ]
    );
}

#[test]
fn syntax_errors_and_other_mistakes_are_reported_together() {
    assert_eq!(
        problems("[server]\nworkers = many\n[cache\nsize-mib = 1\n[block]\nttl-secs = 0\n"),
        [
            "2: not TOML: string values must be quoted, expected literal string",
            "3: not TOML: unclosed table, expected `]`",
            "6: ttl-secs is 0, must be 1 to 3600",
        ]
    );
    assert_eq!(
        problems("[server]\nworkers = 1\nworkers = 2\n"),
        ["3: duplicate key `workers`: keep one of the two"]
    );
}

#[test]
fn files_that_cannot_be_read_are_reported_with_their_path() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tapis.toml");
    let problem = || {
        let problems = Config::load(&path).expect_err("no valid file");
        problems
            .to_string()
            .replace(&path.display().to_string(), "x")
    };
    let missing = problem();
    assert!(missing.starts_with("x: cannot be read: "), "{missing}");
    assert!(missing.ends_with("; name a file that exists"), "{missing}");

    fs::write(&path, b"[server]\n# \xff\n").expect("written");
    assert_eq!(problem(), "x:2: is not UTF-8 text: save the file as UTF-8");

    fs::write(&path, " ".repeat(SIZE_MAX as usize + 1)).expect("written");
    assert!(problem().starts_with("x: is over 16 MiB"));

    fs::remove_file(&path).expect("removed");
    fs::create_dir(&path).expect("made");
    assert!(problem().ends_with("; name a file in it"));
}
