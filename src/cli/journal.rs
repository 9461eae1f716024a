//! Owns `tapis journal`: what changed the policy, when, and by whom; and whether all of it is as it was written.
//! Refuses to change the journal, and to need a running server.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::configuration::Need;
use super::{Failure, read_config};
use crate::config::moment::Moment;
use crate::config::shown::{Show, counted, entries};
use crate::control::journal::entry::{Cause, Event, Published, Start};
use crate::control::journal::key::Keys;
use crate::control::journal::verify::verify;
use crate::control::journal::{Entry, read};
use crate::control::orders::life::State;

#[derive(Debug, Args)]
pub(super) struct JournalArgs {
    #[command(subcommand)]
    verb: JournalVerb,
}

#[derive(Debug, Subcommand)]
enum JournalVerb {
    /// Show what changed, one line for each change.
    Show(ShowArgs),
    /// Find entries that were changed, removed or moved.
    ///
    /// Exit code 0 when all is as it was written, 1 when not: each finding is reported with its line.
    /// With a key the journal's head must be authenticated by it.
    Verify(VerifyArgs),
    /// Print entries as one JSON array, whole texts of orders and all.
    Export(ShowArgs),
}

#[derive(Debug, Args)]
struct FileArgs {
    /// The journal; without it, the one of the configuration.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    #[command(flatten)]
    file: FileArgs,
    /// The file of the keys; without it, and without --file, the one of the configuration.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ShowArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Only what happened then or later, as in 2017-07-20T00:00:00+07:00.
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Only what happened before.
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
    /// Only what is about this order.
    #[arg(long, value_name = "ID")]
    order: Option<String>,
}

impl JournalArgs {
    /// A journal that is named needs no configuration.
    pub(super) fn need(&self) -> Need {
        let file = match &self.verb {
            JournalVerb::Show(args) | JournalVerb::Export(args) => &args.file,
            JournalVerb::Verify(args) => &args.file,
        };
        match file.file {
            Some(_) => Need::Nothing,
            None => Need::Same,
        }
    }
}

impl FileArgs {
    fn path(&self, config: Option<&PathBuf>) -> Result<PathBuf, Failure> {
        if let Some(path) = &self.file {
            return Ok(path.clone());
        }
        let missing =
            "no journal is configured: set [state] dir or [journal] path, or name one with --file";
        let journal = read_config(config)?.journal;
        journal.ok_or_else(|| Failure::Other(missing.into()))
    }
}

impl ShowArgs {
    fn chosen(&self, entry: &Entry) -> bool {
        self.since.is_none_or(|since| since.at() <= entry.at)
            && self.until.is_none_or(|until| entry.at < until.at())
            && self
                .order
                .as_ref()
                .is_none_or(|id| speaks_of(&entry.event, id))
    }

    /// Hands on the entries that are asked for, as long as they can be told.
    fn each(
        &self,
        config: Option<&PathBuf>,
        mut tell: impl FnMut(Entry) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let path = self.file.path(config)?;
        let mut told = Ok(());
        read(&path, |entry| {
            if self.chosen(&entry) {
                told = tell(entry);
            }
            told.is_ok()
        })?;
        Ok(told?)
    }
}

fn speaks_of(event: &Event, order: &str) -> bool {
    match event {
        Event::Order(text) => text.id == order,
        Event::OrderGone { id, .. } => id == order,
        Event::Published(published) => published.states.iter().any(|turn| turn.order == order),
        _ => false,
    }
}

pub(super) fn run(
    config: Option<&PathBuf>,
    args: &JournalArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    match &args.verb {
        JournalVerb::Show(args) => show(config, args, out),
        JournalVerb::Export(args) => export(config, args, out),
        JournalVerb::Verify(args) => {
            let key = match (&args.key, &args.file.file) {
                (Some(key), _) => Some(key.clone()),
                (None, Some(_)) => None,
                (None, None) => read_config(config)?.journal_key,
            };
            check(&args.file.path(config)?, key.as_deref(), out)
        }
    }
}

fn check(path: &Path, key: Option<&Path>, out: &mut impl Write) -> Result<(), Failure> {
    let keys = key.map(Keys::read).transpose()?;
    let verdict = verify(path, keys.as_ref())?;
    for finding in &verdict.findings {
        writeln!(out, "{}: {finding}", path.shown())?;
    }
    if verdict.findings.is_empty() {
        let authenticated = match &verdict.authenticated_by {
            Some(key) => format!("the head authenticated by key {key}"),
            None => "not authenticated".to_owned(),
        };
        writeln!(
            out,
            "good: {}, none changed, removed or moved; {authenticated}",
            counted(verdict.entries, "entry", "entries")
        )?;
    }
    for note in &verdict.notes {
        writeln!(out, "note: {}: {note}", path.shown())?;
    }
    if verdict.findings.is_empty() {
        return Ok(());
    }
    Err(Failure::Told)
}

fn export(config: Option<&PathBuf>, args: &ShowArgs, out: &mut impl Write) -> Result<(), Failure> {
    let mut before = "[\n";
    args.each(config, |entry| {
        let text = serde_json::to_string(&entry)?;
        write!(out, "{}{text}", std::mem::replace(&mut before, ",\n"))
    })?;
    let end = if before == "[\n" { "[]" } else { "\n]" };
    writeln!(out, "{end}")?;
    Ok(())
}

fn show(config: Option<&PathBuf>, args: &ShowArgs, out: &mut impl Write) -> Result<(), Failure> {
    let mut digests = HashMap::new();
    args.each(config, |entry| {
        let (number, at) = (entry.number, entry.at);
        write!(out, "{number} {at:.3} generation {}: ", entry.generation)?;
        match &entry.event {
            Event::Start(start) => tell_start(start, out),
            Event::Stop => writeln!(out, "server stopped"),
            Event::Order(order) => {
                writeln!(out, "order {}: new text, {}", order.id, order.path.shown())?;
                for warning in &order.warnings {
                    writeln!(out, "    warning: {warning}")?;
                }
                Ok(())
            }
            Event::OrderGone { id, path } => {
                writeln!(out, "order {id}: its file is gone, {}", path.shown())
            }
            Event::Published(published) => tell_published(published, &mut digests, out),
            Event::Refused { what, problems } => {
                writeln!(out, "{what}: not taken")?;
                for problem in problems {
                    writeln!(out, "    {problem}")?;
                }
                Ok(())
            }
            Event::Lost { entries } => {
                writeln!(
                    out,
                    "{} missing before this, as memory ran out",
                    counted(*entries, "change is", "changes are")
                )
            }
        }
    })
}

fn tell_start(start: &Start, out: &mut impl Write) -> io::Result<()> {
    let config = match &start.config {
        Some(path) => path.shown().to_string(),
        None => "the built-in configuration".to_owned(),
    };
    let (version, pid) = (&start.version, start.pid);
    writeln!(out, "tapis {version} started, process {pid}, {config}")?;
    if let Some(damaged) = &start.damaged {
        let kept = damaged.kept.shown();
        writeln!(
            out,
            "    {} damaged, kept in {kept}",
            counted(
                damaged.octets,
                "byte at the end was",
                "bytes at the end were"
            )
        )?;
    }
    if let Some((first, last)) = start.missing {
        writeln!(out, "    {} gone", entries(first, last, ["was", "were"]))?;
    }
    if let Some((first, last)) = start.uncovered {
        let which = entries(first, last, ["was", "were"]);
        writeln!(out, "    {which} beyond the head")?;
    }
    if let Some(head) = &start.other_head {
        let (number, hash) = (head.number, &head.hash);
        writeln!(
            out,
            "    entry {number} was not the one that the head named, which has the hash {hash}"
        )?;
    }
    if start.unauthenticated {
        writeln!(out, "    the head was not authenticated")?;
    }
    Ok(())
}

fn tell_published(
    published: &Published,
    digests: &mut HashMap<String, String>,
    out: &mut impl Write,
) -> io::Result<()> {
    let causes: Vec<_> = published.causes.iter().map(cause).collect();
    let held = published.held.map_or_else(String::new, |generation| {
        format!(", lists held as in generation {generation}")
    });
    writeln!(out, "in force, by {}{held}", causes.join("; "))?;
    for turn in &published.states {
        let word = |state: Option<State>| match state {
            Some(state) => state.to_string(),
            None => "none".to_owned(),
        };
        writeln!(
            out,
            "    order {}: {} -> {}",
            turn.order,
            word(turn.was),
            word(turn.now)
        )?;
    }
    for (sign, exceptions) in [
        ('+', &published.exceptions),
        ('-', &published.exceptions_gone),
    ] {
        for exception in exceptions {
            let (name, author, reason) = (&exception.name, &exception.author, &exception.reason);
            writeln!(
                out,
                "    {sign} exception {}{name}, {author}: {reason}",
                exception.scope.sign()
            )?;
        }
    }
    for list in &published.lists {
        let before = digests.insert(list.name.clone(), list.digest.clone());
        if before.as_ref() != Some(&list.digest) {
            let (name, rules, bad) = (&list.name, list.rules, list.bad);
            let left_out = list.left_out;
            let digest = list.digest.get(..16).unwrap_or(&list.digest);
            writeln!(
                out,
                "    list {name}: {}, {left_out} left out, {}, BLAKE3 {digest}...",
                counted(rules, "rule", "rules"),
                counted(bad, "bad line", "bad lines")
            )?;
        }
    }
    let gone: Vec<_> = digests
        .keys()
        .filter(|name| published.lists.iter().all(|list| list.name != **name))
        .cloned()
        .collect();
    for name in gone {
        digests.remove(&name);
        writeln!(out, "    list {name}: gone")?;
    }
    Ok(())
}

fn cause(cause: &Cause) -> String {
    match cause {
        Cause::Start => "the server's start".to_owned(),
        Cause::File { path } => path.shown().to_string(),
        Cause::Signal { signal } => signal.clone(),
        Cause::Verb { verb, user } => format!("`tapis {verb}` of user {user}"),
        Cause::Guard => "a change of [guard] or its files".to_owned(),
        Cause::Date => "a date".to_owned(),
        Cause::ClockSetBack { from } => format!("the clock, set back from {from}"),
        Cause::Merge => "merging small lists".to_owned(),
    }
}
