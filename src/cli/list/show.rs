//! `tapis list show`: prints the facts of a list, or lines of its file and what they became.

use std::io::Write;
use std::ops::RangeInclusive;

use clap::Args;

use crate::cli::configuration::{Choice, Need, read_needed};
use crate::cli::failure::Failure;
use crate::cli::server::{self, ControlArgs};
use crate::cli::status;
use crate::cli::zones;
use crate::config::shown::{Show, counted};
use crate::config::suggest::nearest;
use crate::config::{Config, List};
use crate::control::admin::client::ClientError;
use crate::control::admin::status::{ListStatus, Status};
use crate::control::guard::policy::GuardPolicy;
use crate::control::inspect::list_lines::{ListLines, list_lines};

/// The sections of the configuration that are needed.
const SECTIONS: &[&str] = &["list", "feed", "state", "guard", "block"];
/// The lines that are shown before and after those that were asked for.
const AROUND: u32 = 2;
/// The most lines that can be asked for.
const LINES_MAX: u32 = 1000;

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    pub(super) control: ControlArgs,
    /// The name of the list.
    list: String,
    /// A line of its file, and some around it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    line: Option<u32>,
    /// Lines of its file, as in 20-40: at most 1000.
    #[arg(long, value_name = "A-B", value_parser = lines, conflicts_with = "line")]
    lines: Option<RangeInclusive<u32>>,
}

fn lines(text: &str) -> Result<RangeInclusive<u32>, String> {
    let (first, last) = text
        .split_once('-')
        .ok_or("write two numbers, as in 20-40")?;
    let number = |text: &str| {
        let number = text.parse::<u32>().ok().filter(|number| *number > 0);
        number.ok_or_else(|| format!("`{text}` is not the number of a line; 1 is the first"))
    };
    let (first, last) = (number(first)?, number(last)?);
    match last.checked_sub(first) {
        None => Err(format!("{last} is before {first}")),
        Some(more) if more >= LINES_MAX => Err(format!("these are over {LINES_MAX} lines")),
        Some(_) => Ok(first..=last),
    }
}

impl ShowArgs {
    /// Lines are read by this process, facts are those of the server.
    pub(super) fn need(&self) -> Need {
        match self.line.is_some() || self.lines.is_some() {
            true => Need::AsServer,
            false => Need::Socket,
        }
    }
}

pub(super) fn run(choice: &Choice, args: &ShowArgs, out: &mut impl Write) -> Result<(), Failure> {
    let line = args.line.map(|line| line..=line);
    match args.lines.clone().or(line) {
        Some(lines) => show_lines(choice, args, lines, out),
        None => show_facts(choice, args, out),
    }
}

fn show_facts(choice: &Choice, args: &ShowArgs, out: &mut impl Write) -> Result<(), Failure> {
    let status = zones::status(&args.control.sockets(choice.path.as_ref())?)?;
    let Some(list) = find(&status, &args.list) else {
        let names = status.lists.iter().map(|list| &*list.name);
        return Err(unknown(&args.list, names));
    };
    let feed = status.feeds.iter().find(|feed| feed.name == list.name);
    status::print_list(list, feed, out)?;
    writeln!(out, "  {}", list.path.shown())?;
    let (kind, action) = (format!("{:?}", list.kind), format!("{:?}", list.action));
    writeln!(
        out,
        "  kind {}, action {}",
        kind.to_lowercase(),
        action.to_lowercase()
    )?;
    if let Some(at) = list.loaded_at {
        let (lines, skipped) = (list.lines, list.skipped);
        writeln!(
            out,
            "  read at {at:.0} in {} ms: {lines} lines without comments and blank ones, {skipped} skipped",
            list.took_ms
        )?;
    }
    for bad in &list.bad {
        writeln!(out, "  {} bad: {}", bad.count, bad.problem)?;
    }
    for left in &list.left_out {
        writeln!(out, "  {} left out: {}", left.count, left.protection)?;
    }
    if let Some(alarm) = &list.alarm {
        writeln!(out, "  ALARM {alarm}")?;
    }
    Ok(())
}

fn show_lines(
    choice: &Choice,
    args: &ShowArgs,
    wanted: RangeInclusive<u32>,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let config = read_needed(choice.path.as_ref(), SECTIONS)?;
    let list = configured(&config, &args.list)?;
    let guard_policy = GuardPolicy::read(&config);
    let first = wanted.start().saturating_sub(AROUND).max(1);
    let last = wanted.end().saturating_add(AROUND);
    let found = list_lines(list, &guard_policy, first..=last)?;
    let path = &list.source.path;
    if *wanted.start() > found.total {
        let total = counted(found.total, "line", "lines");
        let text = format!("{} has only {total}", path.shown());
        return Err(Failure::Other(text.into()));
    }
    let total = counted(found.total, "line", "lines");
    writeln!(out, "{}: {}, {total}", list.source.name, path.shown())?;
    if let Some(detected) = found.detected {
        writeln!(out, "  format: {detected}")?;
    }
    for problem in guard_policy.problems() {
        writeln!(out, "  note: {problem}")?;
    }
    let width = last.min(found.total).to_string().len();
    for line in &found.lines {
        let is_wanted = wanted.contains(&line.number);
        let mark = if is_wanted { ">" } else { " " };
        writeln!(out, "{mark} {:>width$}  {}", line.number, line.text)?;
        if is_wanted {
            let nothing = "no rule of its own: a comment, blank, or about other lines".to_owned();
            let nothing = line.became.is_empty().then_some(&nothing);
            for became in line.became.iter().chain(nothing) {
                writeln!(out, "  {:>width$}    {became}", "")?;
            }
        }
    }
    writeln!(out, "{}", in_force(choice, args, list, &found)?)?;
    Ok(())
}

/// Whether the file is the version in force.
fn in_force(
    choice: &Choice,
    args: &ShowArgs,
    list: &List,
    found: &ListLines,
) -> Result<String, Failure> {
    let sockets = args.control.sockets(choice.path.as_ref())?;
    let status = match server::get::<Status>(&sockets, "/status")? {
        Ok(status) if choice.is_used_by(&status) => status,
        Ok(_) => return Ok("the running server has another configuration".to_owned()),
        Err(ClientError::Absent { .. }) => {
            return Ok("no server is running, so none of this is in force".to_owned());
        }
        Err(error) => return Ok(format!("not known whether this is in force: {error}")),
    };
    let digest = find(&status, &list.source.name).and_then(|list| list.digest.as_deref());
    Ok(match digest {
        None => "no version of this list is in force".to_owned(),
        Some(digest) if digest == found.digest => "this file is the version in force".to_owned(),
        Some(_) => {
            let name = &list.source.name;
            format!("this file is not the version in force: see `tapis list show {name}`")
        }
    })
}

/// The list in the configuration. A feed has no file.
fn configured<'c>(config: &'c Config, name: &str) -> Result<&'c List, Failure> {
    match config.lists.iter().find(|list| list.source.name == name) {
        Some(list) if list.is_feed() => {
            let text = format!(
                "{name} is a feed, whose zone is transferred, so it has no lines; its state: tapis feed show {name}"
            );
            Err(Failure::Other(text.into()))
        }
        Some(list) => Ok(list),
        None => Err(unknown(
            name,
            config.lists.iter().map(|list| &*list.source.name),
        )),
    }
}

fn find<'s>(status: &'s Status, name: &str) -> Option<&'s ListStatus> {
    status.lists.iter().find(|list| list.name == name)
}

fn unknown<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Failure {
    let suggestion = match nearest(name, known) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => "`tapis status` shows all".to_owned(),
    };
    Failure::Other(format!("there is no list or feed `{name}`; {suggestion}").into())
}
