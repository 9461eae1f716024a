//! `tapis import`: turns the configuration of another program into one of this server.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::failure::Failure;
use super::plain::Plain;
use crate::config::Config;
use crate::config::import::{Imported, Tool, import};
use crate::config::shown::{Show, counted};
use crate::control::local_names::LocalSources;

/// The name of the configuration in the directory.
const CONFIG: &str = "tapis.toml";

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// The program whose configuration it is.
    #[arg(value_parser = tool())]
    tool: Tool,
    /// Its configuration file, or the directory that has it. Files that it includes must be in that directory.
    file: PathBuf,
    /// Write the configuration and its lists into this directory, which is created if its parent exists. Existing files
    /// are not overwritten.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

fn tool() -> impl TypedValueParser<Value = Tool> {
    let words = PossibleValuesParser::new(Tool::ALL.map(Tool::word));
    words.try_map(|word| Tool::from_word(&word).ok_or("not a program"))
}

pub(super) fn run(args: &ImportArgs, out: &mut impl Write) -> Result<(), Failure> {
    let imported = import(args.tool, &args.file)?;
    let mut to = Plain(io::stderr());
    for left in &imported.left {
        // If standard error is closed, the result is the same.
        let _ = writeln!(to, "{left}");
    }
    match &args.output {
        Some(directory) => {
            write(directory, &imported)?;
            writeln!(out, "{}", directory.join(CONFIG).shown())?;
        }
        None => {
            out.write_all(imported.config.as_bytes())?;
            if !imported.files.is_empty() {
                let names: Vec<_> = imported
                    .files
                    .iter()
                    .map(|(name, _)| name.as_str())
                    .collect();
                let names = names.join(", ");
                let _ = writeln!(
                    to,
                    "tapis: the configuration needs files beside it, which --output DIR writes: {names}"
                );
                return Err(Failure::Reported);
            }
        }
    }
    // Other programs accept values and files that this one does not.
    let directory = args.output.as_deref().unwrap_or(Path::new(""));
    let mistakes = match Config::parse(&imported.config, &directory.join(CONFIG)) {
        Ok(config) => {
            let files = LocalSources::read(&config);
            files.problems().cloned().collect()
        }
        Err(mistakes) => vec![mistakes.to_string()],
    };
    for mistake in &mistakes {
        let _ = writeln!(to, "{mistake}");
    }
    if !mistakes.is_empty() {
        let _ = writeln!(
            to,
            "tapis: the configuration is not valid until this is corrected"
        );
    }
    if !imported.left.is_empty() {
        let settings = counted(imported.left.len(), "setting", "settings");
        let _ = writeln!(to, "tapis: {settings} did not carry over");
    }
    match imported.left.is_empty() && mistakes.is_empty() {
        true => Ok(()),
        false => Err(Failure::Reported),
    }
}

/// Writes all files, or none if one of them exists.
fn write(directory: &Path, imported: &Imported) -> Result<(), Failure> {
    let is_new = !directory.is_dir();
    if is_new {
        fs::create_dir(directory).map_err(|error| failed(directory, &error))?;
    }
    let config = (CONFIG, imported.config.as_str());
    let files = imported
        .files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()));
    let files: Vec<_> = files.chain([config]).collect();
    let existing = files
        .iter()
        .map(|(name, _)| directory.join(name))
        .find(|path| path.exists());
    if let Some(path) = existing {
        let message = format!(
            "{} exists: name another directory, or remove the file",
            path.shown()
        );
        return Err(Failure::Other(message.into()));
    }
    let mut created = Vec::new();
    let written = create(directory, &files, &mut created);
    if written.is_err() {
        // The next attempt would refuse what is left of this one. If that can't be removed, it names it.
        for path in &created {
            let _ = fs::remove_file(path);
        }
        if is_new {
            let _ = fs::remove_dir(directory);
        }
    }
    written
}

/// Writes files, and notes each that it has created.
fn create(
    directory: &Path,
    files: &[(&str, &str)],
    created: &mut Vec<PathBuf>,
) -> Result<(), Failure> {
    for (name, text) in files {
        let path = directory.join(name);
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let mut file = file.map_err(|error| failed(&path, &error))?;
        created.push(path.clone());
        file.write_all(text.as_bytes())
            .map_err(|error| failed(&path, &error))?;
    }
    Ok(())
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::Other(format!("{}: {error}", path.shown()).into())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_write_that_fails_half_way_leaves_nothing_behind() {
        let folder = TempDir::new().expect("a directory");
        let file = |name: &str| (name.to_owned(), "x.example\n".to_owned());
        let imported = Imported {
            config: String::new(),
            // The second one can't be created.
            files: vec![file("a.txt"), file("missing/b.txt")],
            left: Vec::new(),
        };
        let new = folder.path().join("new");
        write(&new, &imported).expect_err("a failure");
        assert!(!new.exists());
        fs::create_dir(&new).expect("a directory");
        fs::write(new.join("mine"), "").expect("a file");
        write(&new, &imported).expect_err("a failure");
        let left = fs::read_dir(&new).expect("a directory");
        let left: Vec<_> = left.flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, ["mine"]);
    }
}
