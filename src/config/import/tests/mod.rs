mod adguard;
mod bad_input;
mod bad_records;
mod bind;
mod blocky;
mod dnscrypt;
mod dnsmasq;
mod downloads;
mod forwards;
mod hosts;
mod known_keys;
mod normalised;
mod pihole;
mod secrets;
mod turned_off;
mod unbound;

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use toml_edit::DocumentMut;

use super::super::Config;
use super::{ImportError, Imported, Tool, import};

/// Imports the first of some files, which are in one directory.
fn try_import(tool: Tool, files: &[(&str, &str)]) -> Result<Imported, ImportError> {
    let folder = TempDir::new().expect("a directory");
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("a file");
    }
    let imported = import(tool, &folder.path().join(files[0].0))?;
    // Messages have the paths that were given; tests only look at their ends.
    let root = format!("{}/", folder.path().display());
    let plain = |text: String| text.replace(&root, "");
    let left = imported.left.into_iter().map(|mut left| {
        left.file = Path::new(&plain(left.file.display().to_string())).to_owned();
        left.reason = plain(left.reason);
        left.setting = plain(left.setting);
        left
    });
    Ok(Imported {
        config: plain(imported.config),
        left: left.collect(),
        files: imported.files,
    })
}

/// Like [`try_import`], and checks that the result is a valid configuration.
fn imported(tool: Tool, files: &[(&str, &str)]) -> Imported {
    let imported = try_import(tool, files).expect("an import");
    if let Err(problems) = Config::parse(&imported.config, Path::new("tapis.toml")) {
        panic!("{problems}\n{}", imported.config);
    }
    imported
}

/// The value of a key of a section that exists once, as it is written.
fn value(imported: &Imported, section: &str, key: &str) -> String {
    let document: DocumentMut = imported.config.parse().expect("TOML");
    let item = document.get(section).and_then(|section| section.get(key));
    item.map(|item| item.to_string().trim().to_owned())
        .unwrap_or_default()
}

/// The sections of a kind, each on one line without comments.
fn sections(imported: &Imported, header: &str) -> Vec<String> {
    let blocks = imported.config.split("\n\n");
    let blocks = blocks.filter(|block| block.lines().any(|line| line == header));
    let lines = blocks.map(|block| {
        let lines = block.lines().filter(|line| !line.starts_with(['#', '[']));
        lines.collect::<Vec<_>>().join("; ")
    });
    lines.collect()
}

/// The lines and settings that did not carry over.
fn left(imported: &Imported) -> Vec<(u32, &str)> {
    imported
        .left
        .iter()
        .map(|left| (left.line, left.setting.as_str()))
        .collect()
}

/// The text of a file beside the configuration.
fn file<'i>(imported: &'i Imported, name: &str) -> &'i str {
    let mut files = imported.files.iter();
    files
        .find(|(known, _)| known == name)
        .map_or("", |(_, text)| text)
}
