//! The scripts of packages and releases that need no build.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn run(command: &mut Command) -> Output {
    command.output().expect("it ran")
}

fn notes(version: &str, changelog: &str) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("CHANGELOG.md");
    fs::write(&file, changelog).expect("written");
    run(Command::new(root().join("packaging/notes.sh"))
        .arg(version)
        .arg(&file))
}

const CHANGELOG: &str = "\
# Changelog

## [Unreleased]

- Not yet.

## [1.2.0] - 2027-01-02

### Added

- A verb.

## [1.2.0-rc1] - 2027-01-01

- An earlier one.

## [1.1.0] - 2026-12-01

- Old.

[1.1.0]: https://tapis.example/1.1.0
";

#[test]
fn notes_of_a_release_are_its_part_of_the_changelog() {
    for (version, expected) in [
        ("1.2.0", "### Added\n\n- A verb.\n"),
        ("1.2.0-rc1", "- An earlier one.\n"),
        ("1.1.0", "- Old.\n"),
    ] {
        let output = notes(version, CHANGELOG);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    }
}

#[test]
fn a_version_that_the_changelog_does_not_have_is_an_error_with_the_heading_to_write() {
    for version in ["1.3.0", "1.2"] {
        let output = notes(version, CHANGELOG);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(&format!("## [{version}] - ")), "{error}");
    }
}

/// A repository with the scripts, and this changelog.
fn repository(changelog: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let copy = |from: &str| {
        let to = folder.path().join(from);
        fs::create_dir_all(to.parent().expect("a parent")).expect("created");
        fs::copy(root().join(from), to).expect(from);
    };
    for file in ["release.sh", "notes.sh", "sbom.py"] {
        copy(&format!("packaging/{file}"));
    }
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect(name);
    fs::create_dir(folder.path().join("src")).expect("created");
    write("src/lib.rs", "");
    write(".gitignore", "/target\n");
    write("CHANGELOG.md", changelog);
    write(
        "Cargo.toml",
        "[package]\nname = \"tapis\"\nversion = \"1.2.0\"\nedition = \"2024\"\nlicense = \"MIT\"\n",
    );
    write(
        "Cargo.lock",
        "version = 4\n\n[[package]]\nname = \"tapis\"\nversion = \"1.2.0\"\n",
    );
    for arguments in [
        &["init", "-q"][..],
        &["add", "-A"],
        &["commit", "-qm", "all"],
    ] {
        let output = run(git(&folder).args(arguments));
        assert!(output.status.success(), "{output:?}");
    }
    folder
}

fn git(folder: &TempDir) -> Command {
    let mut git = Command::new("git");
    git.current_dir(folder.path());
    git.args(["-c", "user.name=T", "-c", "user.email=t@tapis.example"]);
    git
}

fn release(folder: &TempDir, version: &str) -> Output {
    let script = folder.path().join("packaging/release.sh");
    run(Command::new(script)
        .args([version, "--dry-run"])
        .env_remove("CARGO_TARGET_DIR")
        .current_dir(folder.path()))
}

#[test]
fn a_dry_run_makes_source_notes_bill_of_materials_and_checksums_and_twice_the_same() {
    let folder = repository(CHANGELOG);
    let out = folder.path().join("target/release-1.2.0");
    let made = || {
        let output = release(&folder, "1.2.0");
        assert!(output.status.success(), "{output:?}");
        fs::read_to_string(out.join("SHA256SUMS")).expect("checksums")
    };
    let sums = made();
    for file in [
        "NOTES.md",
        "tapis-1.2.0-source.tar.gz",
        "tapis-1.2.0.cdx.json",
    ] {
        assert!(sums.contains(&format!("  {file}\n")), "{file}: {sums}");
    }
    assert_eq!(made(), sums);
    let check = run(Command::new("sha256sum")
        .args(["-c", "SHA256SUMS"])
        .current_dir(&out));
    assert!(check.status.success(), "{check:?}");
    let notes = fs::read_to_string(out.join("NOTES.md")).expect("notes");
    assert!(
        notes.contains("A verb.") && !notes.contains("Not yet."),
        "{notes}"
    );
}

/// A program of `packaging/` that only pretends to build.
const BUILDS: &str = "\
#!/bin/sh
set -e
mkdir -p target/dist target/package/man target/package/completions
touch target/dist/tapis target/package/man/tapis.1 target/package/completions/tapis.bash target/$(basename $0).package
echo target/$(basename $0).package
";

#[test]
fn the_archive_of_the_program_has_the_files_that_its_documentation_links_to() {
    let folder = repository(CHANGELOG);
    let program = |path: &str| {
        let path = folder.path().join(path);
        fs::write(&path, BUILDS).expect("written");
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("set");
    };
    for file in ["packaging/build-deb.sh", "packaging/build-rpm.sh"] {
        program(file);
    }
    let mut parts = vec!["docs", "README.md", "LICENSE-APACHE", "LICENSE-MIT"];
    let of_packaging = ["etc", "systemd", "prometheus", "grafana", "logrotate"];
    let of_packaging = of_packaging.map(|part| format!("packaging/{part}"));
    parts.extend(of_packaging.iter().map(String::as_str));
    for part in parts {
        let copied = run(Command::new("cp")
            .arg("-r")
            .args([root().join(part), folder.path().join(part)]));
        assert!(copied.status.success(), "{copied:?}");
    }
    for arguments in [&["add", "-A"][..], &["commit", "-qm", "more"]] {
        let output = run(git(&folder).args(arguments));
        assert!(output.status.success(), "{output:?}");
    }
    let output = run(Command::new(folder.path().join("packaging/release.sh"))
        .arg("1.2.0")
        .env_remove("CARGO_TARGET_DIR")
        .current_dir(folder.path()));
    assert!(output.status.success(), "{output:?}");
    let out = folder.path().join("target/release-1.2.0");
    let mut made = fs::read_dir(&out).expect("a folder");
    let archive = made.find_map(|file| {
        let name = file
            .expect("a file")
            .file_name()
            .into_string()
            .expect("UTF-8");
        (name.ends_with("-gnu.tar.gz") || name.ends_with("-musl.tar.gz")).then_some(name)
    });
    let files = run(Command::new("tar")
        .arg("-tzf")
        .arg(out.join(archive.expect("an archive"))));
    let files = String::from_utf8(files.stdout).expect("UTF-8");
    let has = |file: &str| {
        files
            .lines()
            .any(|line| line == format!("tapis-1.2.0/{file}"))
    };
    for file in [
        "tapis",
        "man/tapis.1",
        "packaging/logrotate",
        "packaging/etc/tapis.toml",
    ] {
        assert!(has(file), "{file}: {files}");
    }
    let mut links = 0;
    for page in fs::read_dir(root().join("docs")).expect("a folder") {
        let path = page.expect("a page").path();
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = fs::read_to_string(path).expect("readable");
        for link in text.split("](../packaging/").skip(1) {
            let (file, _) = link.split_once([')', '#']).expect("an end");
            assert!(has(&format!("packaging/{file}")), "{file}: {files}");
            links += 1;
        }
    }
    assert!(links > 3, "{links}");
}

#[test]
fn a_release_reports_all_that_hinders_it_at_once() {
    let folder = repository("# Changelog\n");
    fs::write(folder.path().join("src/lib.rs"), "// changed\n").expect("written");
    let output = release(&folder, "1.3.0");
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    for part in [
        "Cargo.toml has version 1.2.0",
        "not committed",
        "## [1.3.0]",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(!folder.path().join("target/release-1.3.0").exists());
}

#[test]
fn a_version_that_is_the_tag_of_another_commit_is_not_released_again() {
    let folder = repository(CHANGELOG);
    let tag = |of: &str| {
        let output = run(git(&folder).args(["tag", "-f", "v1.2.0", of]));
        assert!(output.status.success(), "{output:?}");
    };
    tag("HEAD");
    let output = release(&folder, "1.2.0");
    assert!(output.status.success(), "its own commit: {output:?}");
    let output = run(git(&folder).args(["commit", "-qm", "later", "--allow-empty"]));
    assert!(output.status.success(), "{output:?}");
    let output = release(&folder, "1.2.0");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("tag v1.2.0 is another commit"), "{error}");
}

#[test]
fn the_bill_of_materials_names_what_is_linked_with_its_checksum_and_nothing_that_only_tests_need() {
    let output = run(&mut Command::new(root().join("packaging/sbom.py")));
    assert!(output.status.success(), "{output:?}");
    let bill: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(bill["bomFormat"], "CycloneDX");
    assert_eq!(bill["metadata"]["component"]["name"], "tapis");
    let components = bill["components"].as_array().expect("an array");
    let named = |name: &str| {
        components
            .iter()
            .find(|component| component["name"] == name)
    };
    let tokio = named("tokio").expect("tokio");
    assert_eq!(
        tokio["hashes"][0]["content"].as_str().map(str::len),
        Some(64)
    );
    assert_eq!(tokio["licenses"][0]["expression"], "MIT");
    for tests in ["criterion", "proptest", "tapis"] {
        assert!(named(tests).is_none(), "{tests}");
    }
    for component in components {
        let expression = &component["licenses"][0]["expression"];
        let text = expression.as_str().expect("a licence");
        assert!(!text.contains('/'), "no expression of SPDX: {component}");
    }
    let refs = components.iter().map(|component| &component["bom-ref"]);
    let refs: Vec<_> = refs
        .chain([&bill["metadata"]["component"]["bom-ref"]])
        .collect();
    let entries = bill["dependencies"].as_array().expect("an array");
    let on = |from: &Value| {
        let entry = entries.iter().find(|entry| entry["ref"] == *from);
        entry.expect("an entry")["dependsOn"]
            .as_array()
            .expect("an array")
            .clone()
    };
    let root = &bill["metadata"]["component"]["bom-ref"];
    assert!(on(root).contains(&tokio["bom-ref"]), "tapis needs tokio");
    let bytes = named("bytes").expect("bytes");
    assert!(
        on(&tokio["bom-ref"]).contains(&bytes["bom-ref"]),
        "tokio needs bytes"
    );
    let needed = entries
        .iter()
        .flat_map(|entry| entry["dependsOn"].as_array().expect("an array"));
    for needed in needed {
        assert!(refs.contains(&needed), "{needed}");
    }
}
