//! Compiling lists to one image file, from the command line and from the server.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use tapis::control::compile::child::Compiler;
use tapis::control::compile::plan::{Event, Plan, PlanList};
use tapis::control::guard::policy::GuardPolicy;
use tapis::policy::image::{Image, ImageBytes};
use tempfile::TempDir;

use crate::support::server::{folder, list, tapis, text};

const CONFIG_LISTS: [(&str, &str); 2] = [
    (
        "ads",
        "a.example\n*.b.example\nhttps://no.example/\n.wide.example\nx.wide.example\n",
    ),
    (
        "hosts",
        "0.0.0.0 a.example c.example\n127.0.0.1 localhost\n",
    ),
];

fn config() -> String {
    list("ads", "scope = \"subtree\"") + &list("hosts", "format = \"hosts\"")
}

fn compile(folder: &TempDir, out: &str, arguments: &[&str]) -> Output {
    let mut command = tapis();
    command
        .current_dir(folder.path())
        .args(["--config", "tapis.toml", "compile", "-o", out])
        .args(arguments);
    command.output().expect("run")
}

fn open(path: &Path) -> Image {
    let bytes = fs::read(path).expect("a file");
    Image::open(ImageBytes::Heap(bytes)).expect("an image")
}

/// The files of the directory except the configuration and the lists.
fn created_files(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string());
    let given = ["tapis.toml", "ads", "hosts"];
    names
        .map(|name| name.expect("UTF-8"))
        .filter(|name| !given.contains(&name.as_str()))
        .collect()
}

#[test]
fn the_lists_of_a_configuration_become_an_image_and_bad_lines_are_reported() {
    let folder = folder(&config(), &CONFIG_LISTS);
    let output = compile(&folder, "image", &[]);
    let printed = text(&output);
    assert!(output.status.success(), "{printed}");
    assert!(
        printed.contains("ads: 4 rules, 0 skipped, 1 bad line"),
        "{printed}"
    );
    assert!(
        printed.contains("ads:3: https://no.example/: a URL"),
        "{printed}"
    );
    assert!(
        printed.contains(
            "hosts: 2 rules, 1 skipped (localhost and the like, or addresses), 0 bad lines"
        ),
        "{printed}"
    );
    let summary = "image: 6 names in, 5 rules, 1 pruned, ";
    assert!(printed.contains(summary), "{printed}");
    assert_eq!(created_files(&folder), ["image"]);
    let image = open(&folder.path().join("image"));
    assert_eq!((image.facts().rules, image.facts().pruned), (5, 1));
    let sources = &image.provenance().sources;
    let digest = blake3::hash(CONFIG_LISTS[0].1.as_bytes()).to_string();
    assert_eq!(
        (sources[0].name.as_str(), &sources[0].digest),
        ("ads", &digest)
    );
    assert_eq!((sources[1].name.as_str(), sources[1].rules), ("hosts", 2));
}

#[test]
fn an_image_that_cannot_be_written_leaves_no_file_and_the_reason_is_reported() {
    let folder = folder(&config(), &CONFIG_LISTS);
    for (out, reason) in [
        ("missing/image", "missing/image: No such file or directory"),
        ("ads/image", "ads/image: Not a directory"),
    ] {
        let output = compile(&folder, out, &[]);
        let printed = text(&output);
        assert_eq!(output.status.code(), Some(1), "{printed}");
        assert!(printed.contains(reason), "{printed}");
        assert!(printed.contains("have room for"), "{printed}");
        assert_eq!(created_files(&folder), [""; 0]);
    }
}

#[test]
fn a_full_disk_leaves_the_old_image() {
    let folder = folder(&config(), &CONFIG_LISTS);
    let image = b"\x89tapis\r\nold";
    fs::write(folder.path().join("image"), image).expect("written");
    // A disk that is full for this process only: no file may grow past a block.
    let script = "ulimit -f 1; exec \"$0\" -c tapis.toml compile -o image";
    let output = Command::new("/bin/sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_tapis")])
        .current_dir(folder.path())
        .output()
        .expect("run");
    let printed = text(&output);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(printed.contains("image: File too large"), "{printed}");
    assert_eq!(created_files(&folder), ["image"]);
    let old = fs::read(folder.path().join("image")).expect("there");
    assert_eq!(old, image);
}

#[test]
fn a_rejected_list_is_reported_and_nothing_is_written_until_it_is_accepted() {
    let folder = folder(&config(), &CONFIG_LISTS);
    fs::write(folder.path().join("ads"), "").expect("written");
    let output = compile(&folder, "image", &[]);
    let printed = text(&output);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(printed.contains("ads: ads: empty"), "{printed}");
    assert!(
        printed.contains("tapis compile -o image --accept ads:empty"),
        "{printed}"
    );
    assert!(printed.contains("hosts: 2 rules"), "{printed}");
    assert!(printed.contains("nothing is written"), "{printed}");
    assert_eq!(created_files(&folder), [""; 0]);
    let output = compile(&folder, "image", &["--accept", "ads:empty"]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(open(&folder.path().join("image")).facts().rules, 2);
    let output = compile(&folder, "image", &["--accept", "adds:empty"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("no such list"), "{}", text(&output));
}

#[test]
fn a_directory_whose_name_is_not_utf8_works() {
    let outer = tempfile::tempdir().expect("a folder");
    let folder = outer.path().join(OsStr::from_bytes(b"l\xEFsts"));
    fs::create_dir(&folder).expect("created");
    fs::write(folder.join("tapis.toml"), config()).expect("written");
    for (name, content) in CONFIG_LISTS {
        fs::write(folder.join(name), content).expect("written");
    }
    let mut command = tapis();
    command.arg("--config").arg(folder.join("tapis.toml"));
    command.args(["compile", "-o"]).arg(folder.join("image"));
    let output = command.output().expect("run");
    assert!(output.status.success(), "{}", text(&output));
    let output = tapis().arg("image").arg(folder.join("image")).output();
    let printed = text(&output.expect("run"));
    assert!(printed.contains("l\u{FFFD}sts/ads"), "{printed}");
}

fn plan(folder: &TempDir) -> Plan {
    let config = tapis::config::Config::load(&folder.path().join("tapis.toml"));
    let config = config.expect("a configuration");
    let lists = config.lists.iter().map(PlanList::read).collect();
    Plan::new(
        folder.path().join("image"),
        lists,
        &GuardPolicy::read(&config),
    )
}

fn compiler() -> Compiler {
    Compiler {
        program: env!("CARGO_BIN_EXE_tapis").into(),
        arguments: vec!["compile", "--plan", "-"],
        patience: Duration::from_secs(60),
    }
}

#[tokio::test]
async fn a_separate_process_makes_the_image_and_reports_progress() {
    let folder = folder(&config(), &CONFIG_LISTS);
    let mut plan = plan(&folder);
    let mut events = Vec::new();
    let outcome = compiler()
        .compile(&plan, Vec::new(), |event| events.push(event))
        .await;
    let outcome = outcome.expect("compiled");
    assert_eq!((outcome.given, outcome.rules, outcome.pruned), (6, 5, 1));
    assert!(outcome.peak > 0);
    let last = events.last();
    assert!(
        matches!(last, Some(Event::Writing { of: 6, .. })),
        "{last:?}"
    );
    let notes = outcome.lists[0].notes.as_ref().expect("it was read");
    assert_eq!(notes.tally.first[0].line, 3);
    let image = open(&plan.out);
    assert_eq!(image.size() as u64, outcome.bytes);
    // A second compilation over the existing image: one list is read, the other carried over.
    fs::write(folder.path().join("hosts"), ":: d.example\n").expect("written");
    fs::remove_file(folder.path().join("ads")).expect("there");
    plan.base = Some(plan.out.clone());
    plan.lists[0].read = false;
    let outcome = compiler()
        .compile(&plan, Vec::new(), |_| {})
        .await
        .expect("compiled");
    assert_eq!((outcome.lists[0].rules, outcome.lists[1].rules), (4, 1));
    assert_eq!(
        open(&plan.out).provenance().sources[0],
        image.provenance().sources[0]
    );
}

#[tokio::test]
async fn of_lists_whose_patterns_do_not_fit_together_the_last_is_refused_and_the_others_are_compiled()
 {
    // There is room for 128 sets of patterns.
    let names: Vec<_> = (0..129).map(|number| format!("list{number}")).collect();
    let config: String = names
        .iter()
        .map(|name| list(name, "format = \"adblock\""))
        .collect();
    let content = "/^ads[0-9]/\n||x.example^\n";
    let contents: Vec<_> = names.iter().map(|name| (&**name, content)).collect();
    let folder = folder(&config, &contents);
    let plan = plan(&folder);
    let outcome = compiler().compile(&plan, Vec::new(), |_| {}).await;
    let outcome = outcome.expect("compiled");
    let refused = outcome.lists.iter();
    let refused: Vec<_> = refused
        .filter(|list| list.refused.is_some())
        .map(|list| &*list.name)
        .collect();
    assert_eq!(refused, ["list128"]);
    let image = open(&plan.out);
    let sources = image.provenance().sources.iter();
    let rules: Vec<_> = sources.map(|source| source.rules).collect();
    assert_eq!(rules, [vec![2; 128], vec![0]].concat());
}

#[tokio::test]
async fn the_last_message_of_the_compiler_process_is_the_reason() {
    let folder = folder(&config(), &CONFIG_LISTS);
    let mut plan = plan(&folder);
    plan.out = folder.path().join("missing").join("image");
    let reason = compiler()
        .compile(&plan, Vec::new(), |_| {})
        .await
        .expect_err("no folder");
    assert!(
        reason.to_string().contains("its folder must exist"),
        "{reason}"
    );
    plan.base = Some(folder.path().join("ads"));
    let reason = compiler()
        .compile(&plan, Vec::new(), |_| {})
        .await
        .expect_err("no image");
    assert!(reason.to_string().contains("not an image"), "{reason}");
}

#[test]
fn an_image_only_overwrites_an_image() {
    let folder = folder(&config(), &[("ads", "a.example\n"), ("hosts", "")]);
    let accept = ["--accept", "hosts:empty"];
    for _ in 0..2 {
        let output = compile(&folder, "image", &accept);
        assert!(output.status.success(), "{}", text(&output));
    }
    let fifo = Command::new("mkfifo")
        .arg(folder.path().join("fifo"))
        .status();
    assert!(fifo.expect("mkfifo ran").success());
    symlink("image", folder.path().join("link")).expect("created");
    for (place, why) in [
        ("fifo", "is not a regular file"),
        ("link", "is not a regular file"),
        (".", "is not a regular file"),
        ("ads", "is not an image"),
        ("tapis.toml", "is not an image"),
    ] {
        let before = fs::symlink_metadata(folder.path().join(place)).expect("there");
        let output = compile(&folder, place, &accept);
        assert_eq!(output.status.code(), Some(1), "{place}");
        let printed = text(&output);
        assert!(printed.contains(&format!("{place}: {why}")), "{printed}");
        let after = fs::symlink_metadata(folder.path().join(place)).expect("there");
        assert_eq!(after.ino(), before.ino(), "{place}");
    }
}

#[test]
fn a_compiler_whose_parent_is_gone_ends_without_an_image() {
    let folder = folder(&config(), &CONFIG_LISTS);
    // With this list, the compiler runs for longer than it needs to notice the end of its input.
    let many: String = (0..400_000).map(|n| format!("n{n}.example\n")).collect();
    fs::write(folder.path().join("ads"), many).expect("written");
    let text = serde_json::to_string(&plan(&folder)).expect("JSON") + "\n";
    fs::write(folder.path().join("hosts"), text).expect("written");
    let input = fs::File::open(folder.path().join("hosts")).expect("there");
    let mut command = tapis();
    let output = command
        .args(["compile", "--plan", "-"])
        .stdin(input)
        .output();
    assert_eq!(output.expect("run").status.code(), Some(1));
    assert_eq!(created_files(&folder), [""; 0]);
}
