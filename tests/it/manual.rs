//! Manual pages and completions, which are made from the definitions of the verbs.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::support::server::{SHIPPED, tapis, text};

fn pages() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let output = tapis().arg("man").arg(folder.path()).output();
    let output = output.expect("it ran");
    assert!(output.status.success(), "{output:?}");
    folder
}

fn read(folder: &TempDir, page: &str) -> String {
    fs::read_to_string(folder.path().join(page)).expect(page)
}

fn help(verb: &[&str]) -> String {
    let output = tapis().args(verb).arg("--help").output();
    text(&output.expect("it ran"))
}

/// The verbs that the help of a verb lists.
fn verbs(help: &str) -> Vec<String> {
    let Some((_, list)) = help.split_once("\nCommands:\n") else {
        return Vec::new();
    };
    let list = list.lines().take_while(|line| !line.is_empty());
    let rows = list.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = rows.filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

/// Adds the pages of a verb and of those below it.
fn add_pages(verb: &[&str], pages: &mut BTreeSet<String>) {
    let name = [&["tapis"], verb].concat().join("-");
    pages.insert(format!("{name}.1"));
    for below in verbs(&help(verb)) {
        add_pages(&[verb, &[below.as_str()]].concat(), pages);
    }
}

#[test]
fn every_verb_has_a_manual_page_and_no_other_page_exists() {
    let folder = pages();
    let names = fs::read_dir(folder.path()).expect("a folder");
    let names = names.map(|entry| entry.expect("an entry").file_name().into_string());
    let found: BTreeSet<_> = names.map(|name| name.expect("text")).collect();
    let mut expected = BTreeSet::from(["tapis.toml.5".to_owned()]);
    add_pages(&[], &mut expected);
    assert_eq!(found, expected);
    assert!(found.contains("tapis-order-lift.1"), "{found:?}");
}

#[test]
fn a_page_has_the_options_of_its_verb_and_the_exit_codes_of_its_help() {
    let folder = pages();
    let pause = read(&folder, "tapis-pause.1");
    assert!(pause.contains("\\-\\-reason"), "{pause}");
    let main = read(&folder, "tapis.1");
    for part in [".SH \"EXIT CODES\"", "TAPIS_CONFIG", "tapis\\-rollback"] {
        assert!(main.contains(part), "{part}: {main}");
    }
    let (_, related) = pause.split_once(".SH \"SEE ALSO\"").expect("related pages");
    for page in ["tapis(1)", "tapis.toml(5)"] {
        assert!(related.contains(page), "{page}: {related}");
    }
    let signals = read(&folder, "tapis-serve.1");
    assert!(signals.contains(".SH SIGNALS"), "{signals}");
}

#[test]
fn the_page_of_the_configuration_has_every_section_and_key() {
    let page = read(&pages(), "tapis.toml.5").replace('\\', "");
    let config = fs::read_to_string(SHIPPED).expect("shipped");
    let mut count = 0;
    for line in config.lines().filter(|line| !line.starts_with('#')) {
        let key = line.split_once(" =").map_or(line, |(key, _)| key);
        if !key.is_empty() && !key.starts_with([' ', ']']) {
            let begins = [format!(".SH {key}"), format!("fB{key} ")];
            let is_there = begins.iter().any(|begin| page.contains(begin));
            assert!(is_there, "{key} is missing");
            count += 1;
        }
    }
    assert!(count > 40, "{count}");
    for section in ["[[feed]]", "[[publish]]", "[[local]]", "[[forward]]"] {
        assert!(page.contains(&format!(".SH {section}\n")), "{section}");
    }
    // A key without a default is a key, too.
    assert!(page.contains("fBcontrol\\-group = ") || page.contains("fBcontrol-group = "));
}

#[test]
fn a_directory_that_can_not_be_written_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("written");
    let output = tapis().arg("man").arg(&file).output().expect("it ran");
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains(&*file.to_string_lossy()), "{error}");
}

fn completions(shell: &str) -> Output {
    let output = tapis().args(["completions", shell]).output();
    output.expect("it ran")
}

/// The words that bash offers after these words, of which the last may be incomplete.
fn offered(script: &Path, words: &[&str]) -> Vec<String> {
    let (last, before) = (words[words.len() - 1], words[words.len() - 2]);
    let program = "source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); \
                   _tapis tapis \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD-1]}\"; \
                   printf '%s\\n' \"${COMPREPLY[@]}\"";
    let output = Command::new("bash")
        .args(["--norc", "-c", program, "bash"])
        .arg(script)
        .args(words)
        .output()
        .expect("bash runs");
    assert!(output.status.success(), "{before} {last}: {output:?}");
    let words = String::from_utf8(output.stdout).expect("text");
    words.lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_verbs_and_options() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("tapis");
    fs::write(&script, completions("bash").stdout).expect("written");
    assert_eq!(offered(&script, &["tapis", "rollb"]), ["rollback"]);
    assert_eq!(offered(&script, &["tapis", "order", "su"]), ["suspend"]);
    let options = offered(&script, &["tapis", "pause", "--re"]);
    assert_eq!(options, ["--reason"]);
}

#[test]
fn each_shell_gets_a_script_in_its_own_language_that_knows_the_verbs() {
    for (shell, begins) in [
        ("bash", "_tapis() {"),
        ("zsh", "#compdef tapis"),
        ("fish", "complete -c tapis"),
    ] {
        let script = String::from_utf8(completions(shell).stdout).expect("text");
        assert!(script.contains(begins), "{shell}: {script}");
        for verb in verbs(&help(&[])) {
            assert!(script.contains(&verb), "{shell} has no {verb}");
        }
    }
}

#[test]
fn a_script_whose_reader_has_gone_ends_without_a_panic() {
    let mut child = tapis()
        .args(["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it started");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ended");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!error.contains("panicked"), "{error}");
}

#[test]
fn an_unknown_shell_is_refused_with_the_known_ones() {
    let output = completions("sh");
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("bash, zsh, fish"), "{error}");
}

#[test]
#[ignore = "needs man, zsh and fish"]
fn manual_pages_and_completions_are_accepted_by_the_programs_that_read_them() {
    let folder = pages();
    for entry in fs::read_dir(folder.path()).expect("a folder") {
        let page = entry.expect("an entry").path();
        let output = Command::new("man")
            .args(["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"])
            .arg(&page)
            .env("MANWIDTH", "80")
            .output()
            .expect("man runs");
        let warnings = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && warnings.is_empty(),
            "{page:?}: {warnings}"
        );
        assert!(output.stdout.len() > 500, "{page:?}");
    }
    for shell in ["zsh", "fish"] {
        let script = folder.path().join(shell);
        fs::write(&script, completions(shell).stdout).expect("written");
        let output = Command::new(shell).arg("-n").arg(&script).output();
        let output = output.expect("it ran");
        assert!(output.status.success(), "{shell}: {output:?}");
    }
}
