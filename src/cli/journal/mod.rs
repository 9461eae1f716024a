//! `tapis journal`: prints, verifies and exports the journal. Needs no running server.

mod show;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use self::show::{Before, print_entry};
use super::configuration::{Choice, Need, read_needed};
use super::failure::Failure;
use super::server::ControlArgs;
use crate::config::Config;
use crate::config::moment::{Moment, time_or_date};
use crate::config::shown::{Show, counted};
use crate::control::journal::entry::Event;
use crate::control::journal::key::Keys;
use crate::control::journal::verify::verify;
use crate::control::journal::{Entry, read_files};

/// The sections of the configuration that the verbs need.
const SECTIONS: &[&str] = &["journal", "state"];

#[derive(Debug, Args)]
pub(super) struct JournalArgs {
    #[command(subcommand)]
    verb: JournalVerb,
}

#[derive(Debug, Subcommand)]
enum JournalVerb {
    /// Show the changes of the policy, one on each line.
    Show(ShowArgs),
    /// Check whether entries were changed, removed or moved.
    ///
    /// Exit code 0 when there are no findings, 1 when there are some: each is printed with its line. With a key, the
    /// journal's head must be authenticated by it.
    Verify(VerifyArgs),
    /// Print entries as one JSON array, with the full texts of orders.
    Export(ShowArgs),
}

#[derive(Debug, Args)]
struct FileArgs {
    /// The journal. The default is that of the configuration.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    /// The journal. The default is that of the configuration. If the journal was moved away, repeat this option for
    /// each of its files, the oldest first.
    #[arg(long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The file of the keys. The default, without --file, is that of the configuration.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

/// The journal's files, for verbs that explain the past.
#[derive(Debug, Args)]
pub(super) struct PastArgs {
    /// The journal, instead of the configuration's. If the journal was moved away, repeat this option for each of its
    /// files, the oldest first, as with `journal verify --file`.
    #[arg(long = "journal", value_name = "FILE")]
    files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
struct ShowArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Only entries from this time on, as in 2017-07-20T00:00:00+07:00; a date alone means 00:00:00 UTC of that day.
    #[arg(long, value_name = "TIME", value_parser = time_or_date)]
    since: Option<Moment>,
    /// Only entries before this time; a date alone means 00:00:00 UTC of that day.
    #[arg(long, value_name = "TIME", value_parser = time_or_date)]
    until: Option<Moment>,
    /// Only entries about this order.
    #[arg(long, value_name = "ID")]
    order: Option<String>,
}

impl JournalArgs {
    /// If the arguments name a journal, no configuration is needed.
    pub(super) fn need(&self) -> Need {
        let file = match &self.verb {
            JournalVerb::Show(args) | JournalVerb::Export(args) => args.file.file.as_ref(),
            JournalVerb::Verify(args) => args.files.first(),
        };
        match file {
            Some(_) => Need::Nothing,
            None => Need::AsServer,
        }
    }
}

/// The journal of a configuration.
fn configured(config: &Config) -> Result<PathBuf, Failure> {
    let Some(path) = &config.journal.path else {
        let missing =
            "no journal is configured: set [state] dir or [journal] path, or name one with --file";
        return Err(Failure::Other(missing.into()));
    };
    if let Ok(false) = path.try_exists() {
        let absent = format!(
            "{}: there is no journal: `tapis serve` creates it; if [state] dir or [journal] path was changed, or the \
             journal was moved away, name its file with --file",
            path.shown()
        );
        return Err(Failure::Other(absent.into()));
    }
    Ok(path.clone())
}

/// The sections of the configuration that the verbs need, with the journal that the running server uses.
fn needed(choice: &Choice) -> Result<Config, Failure> {
    let config = read_needed(choice.path.as_ref(), SECTIONS)?;
    choice.as_served(&ControlArgs::default(), config)
}

impl PastArgs {
    /// The files in the arguments. Fails if one of them can't be read.
    pub(super) fn files(&self) -> Result<&[PathBuf], Failure> {
        for file in &self.files {
            read_files(&[file], |_| false)?;
        }
        Ok(&self.files)
    }
}

impl ShowArgs {
    fn selects(&self, entry: &Entry) -> bool {
        self.since.is_none_or(|since| since.at() <= entry.at)
            && self.until.is_none_or(|until| entry.at < until.at())
            && self
                .order
                .as_ref()
                .is_none_or(|id| is_about(&entry.event, id))
    }

    /// Calls `each` with every entry, and with whether the arguments select that entry. Stops if `each` fails.
    fn for_each_entry(
        &self,
        choice: &Choice,
        mut each: impl FnMut(Entry, bool) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let path = match &self.file.file {
            Some(path) => path.clone(),
            None => configured(&needed(choice)?)?,
        };
        let mut result = Ok(());
        read_files(&[&path], |entry| {
            let is_selected = self.selects(&entry);
            result = each(entry, is_selected);
            result.is_ok()
        })?;
        Ok(result?)
    }
}

fn is_about(event: &Event, order: &str) -> bool {
    match event {
        Event::Order(text) => text.id == order,
        Event::OrderGone { id, .. } => id == order,
        Event::Published(published) => published.states.iter().any(|turn| turn.order == order),
        _ => false,
    }
}

pub(super) fn run(
    choice: &Choice,
    args: &JournalArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    match &args.verb {
        JournalVerb::Show(args) => show(choice, args, out),
        JournalVerb::Export(args) => export(choice, args, out),
        JournalVerb::Verify(args) if args.files.is_empty() => {
            let config = needed(choice)?;
            let key = args.key.as_ref().or(config.journal.key.as_ref());
            verify_files(&[configured(&config)?], key.map(PathBuf::as_path), out)
        }
        JournalVerb::Verify(args) => verify_files(&args.files, args.key.as_deref(), out),
    }
}

fn verify_files(
    files: &[PathBuf],
    key: Option<&Path>,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let keys = key.map(Keys::read).transpose()?;
    let paths: Vec<_> = files.iter().map(PathBuf::as_path).collect();
    let verification = verify(&paths, keys.as_ref())?;
    for finding in &verification.findings {
        writeln!(out, "{}: {finding}", files[finding.file].shown())?;
    }
    if verification.findings.is_empty() {
        let authenticated = match &verification.authenticated_by {
            Some(key) => format!("the head authenticated by key {key}"),
            None => "not authenticated".to_owned(),
        };
        writeln!(
            out,
            "good: {}, none changed, removed or moved; {authenticated}",
            counted(verification.entries, "entry", "entries")
        )?;
    }
    for note in &verification.notes {
        writeln!(out, "note: {}: {note}", files[note.file].shown())?;
    }
    if verification.findings.is_empty() {
        return Ok(());
    }
    Err(Failure::Reported)
}

fn export(choice: &Choice, args: &ShowArgs, out: &mut impl Write) -> Result<(), Failure> {
    let mut before = "[\n";
    args.for_each_entry(choice, |entry, is_selected| {
        if !is_selected {
            return Ok(());
        }
        let text = serde_json::to_string(&entry)?;
        write!(out, "{}{text}", std::mem::replace(&mut before, ",\n"))
    })?;
    let end = if before == "[\n" { "[]" } else { "\n]" };
    writeln!(out, "{end}")?;
    Ok(())
}

fn show(choice: &Choice, args: &ShowArgs, out: &mut impl Write) -> Result<(), Failure> {
    let mut before = Before::default();
    args.for_each_entry(choice, |entry, is_selected| {
        let skipped = before.skipped(&entry);
        if is_selected {
            print_entry(&entry, &before, skipped, out)?;
        }
        before.apply(entry.event);
        Ok(())
    })
}
