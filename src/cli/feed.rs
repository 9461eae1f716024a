//! `tapis feed`: shows how the zones of feeds are transferred, and asks their primaries.

use std::io::{self, Write};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};

use super::failure::Failure;
use super::progress::Progress;
use super::server::{self, ControlArgs};
use super::zones::{self, serial};
use crate::config::paths;
use crate::config::shown::counted;
use crate::control::admin::status::{BadCount, BadLine, FeedRequest, ListStatus, Status};
use crate::control::sources::feeds::fault::Fault;
use crate::control::sources::feeds::report::{
    FeedReport, LocalReport, NotifyEvent, NotifyReport, PrimaryReport,
};

/// The time between two looks at a transfer under way.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(super) struct FeedArgs {
    #[command(subcommand)]
    verb: FeedVerb,
}

#[derive(Debug, Subcommand)]
enum FeedVerb {
    /// List the feeds with their serials and faults.
    List {
        #[command(flatten)]
        control: ControlArgs,
    },
    /// Show the state of a feed and of its primaries.
    Show {
        #[command(flatten)]
        control: ControlArgs,
        /// The name of the feed.
        feed: String,
    },
    /// Ask the primaries of a feed for a newer version now, and wait for the result.
    ///
    /// The exit code is 1 if the newest version is not in force in the end.
    Refresh {
        #[command(flatten)]
        control: ControlArgs,
        /// The name of the feed.
        feed: String,
        /// Transfer the whole zone, even if its serial has not changed or has gone back.
        #[arg(long)]
        whole: bool,
        /// Do not wait for the result.
        #[arg(long)]
        no_wait: bool,
    },
}

pub(super) fn run(
    config: Option<&PathBuf>,
    args: &FeedArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    match &args.verb {
        FeedVerb::List { control } => {
            let feeds = zones::status(&control.sockets(config)?)?.feeds;
            let lines = feeds.iter().map(|feed| {
                let (name, zone) = (feed.name.clone(), feed.zone.clone());
                [name, zone, serial(feed.serial), feed.state()]
            });
            let none = "no feeds are configured: add a section [[feed]]";
            Ok(zones::print_list(lines, none, out)?)
        }
        FeedVerb::Show { control, feed } => {
            let Status { feeds, lists, .. } = zones::status(&control.sockets(config)?)?;
            let list = lists.iter().find(|list| list.name == *feed);
            Ok(print_feed(&named(feeds, feed)?, list, out)?)
        }
        FeedVerb::Refresh {
            control,
            feed,
            whole,
            no_wait,
        } => {
            let request = FeedRequest {
                feed: feed.clone(),
                whole: *whole,
            };
            refresh(&control.sockets(config)?, &request, *no_wait, out)
        }
    }
}

/// Asks the primaries of a feed, shows the progress of the transfer, and prints the result.
fn refresh(
    sockets: &[PathBuf],
    request: &FeedRequest,
    no_wait: bool,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let feed = &*request.feed;
    let before = find(sockets, feed)?;
    let number: Option<u64> = server::post(sockets, "/feed", request)??;
    let number = number.ok_or_else(|| unknown(feed))?;
    if no_wait {
        let text = "its primaries are being asked; see: tapis feed show";
        return Ok(writeln!(out, "{feed}: {text} {feed}")?);
    }
    let progress = Progress::text();
    let after = loop {
        let now = find(sockets, feed)?;
        if now.answered >= number {
            break now;
        }
        progress.show(feed, &under_way(&now));
        sleep(PAUSE);
    };
    drop(progress);
    let problems = after.problems();
    for problem in &problems {
        writeln!(out, "{problem}")?;
    }
    if !problems.is_empty() {
        return Err(Failure::Reported);
    }
    let serial = serial(after.serial);
    match after.serial == before.serial && !request.whole {
        true => writeln!(out, "{feed}: {serial} is in force, and is the newest one")?,
        false => writeln!(out, "{feed}: {serial} is in force now")?,
    }
    Ok(())
}

/// How far a transfer has come.
fn under_way(feed: &FeedReport) -> String {
    match feed.transfer.is_some() || feed.compiling.is_some() {
        true => feed.state(),
        false => "asking the primaries".to_owned(),
    }
}

/// The serial in force and the state, the age of the last confirmation, and how many primaries fail.
pub(super) fn summary(feed: &FeedReport) -> String {
    let confirmed = feed.confirmed.map(|at| {
        let age = Timestamp::now().duration_since(at).as_secs().max(0);
        format!("confirmed {:#} ago", SignedDuration::from_secs(age))
    });
    let primaries = feed.primaries.len();
    let failing = match feed.failing() {
        0 => None,
        1 => Some(format!("1 of {primaries} primaries fails")),
        failing => Some(format!("{failing} of {primaries} primaries fail")),
    };
    let facts = [serial(feed.serial), feed.state()].into_iter();
    let facts = facts.chain(confirmed).chain(failing);
    facts.collect::<Vec<_>>().join(", ")
}

fn find(sockets: &[PathBuf], feed: &str) -> Result<FeedReport, Failure> {
    named(zones::status(sockets)?.feeds, feed)
}

fn named(feeds: Vec<FeedReport>, name: &str) -> Result<FeedReport, Failure> {
    let found = feeds.into_iter().find(|feed| feed.name == name);
    found.ok_or_else(|| unknown(name))
}

fn unknown(feed: &str) -> Failure {
    let text = format!("{feed}: the server has no such feed; see: tapis feed list");
    Failure::Other(text.into())
}

fn print_feed(
    feed: &FeedReport,
    list: Option<&ListStatus>,
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(out, "zone       {}", feed.zone)?;
    writeln!(out, "in force   {}", serial(feed.serial))?;
    if let Some(confirmed) = feed.confirmed {
        writeln!(out, "confirmed  {confirmed:.0}")?;
    }
    writeln!(out, "state      {}", feed.state())?;
    if let Some(transfer) = &feed.transfer {
        let bytes = counted(transfer.bytes, "byte", "bytes");
        writeln!(out, "transfer   {bytes} since {:.0}", transfer.since)?;
    }
    if let Some(held) = &feed.held {
        writeln!(out, "held       {}", held.why)?;
    }
    for LocalReport { problem, text } in &feed.local {
        writeln!(out, "problem    {problem}: {text}")?;
    }
    for primary in &feed.primaries {
        print_primary(primary, out)?;
    }
    print_notify(&feed.notify, out)?;
    for (fault, count) in &feed.faults {
        writeln!(out, "count      {fault} {count}{}", explained(fault))?;
    }
    list.map_or(Ok(()), |list| print_bad(list, out))
}

/// Prints how many records of a feed are ignored because of each problem, and the first of them.
fn print_bad(list: &ListStatus, out: &mut impl Write) -> io::Result<()> {
    for BadCount { problem, count } in &list.bad {
        let records = paths::bad(&list.path, *count);
        writeln!(out, "ignored    {records}: {problem}")?;
        for BadLine { line, text, .. } in
            list.first_bad.iter().filter(|bad| bad.problem == *problem)
        {
            writeln!(out, "           record {line}: {text}")?;
        }
    }
    Ok(())
}

/// What a fault means. A remedy is with the primary that has the fault, or here if it is no failure.
fn explained(name: &str) -> String {
    let fault = Fault::ALL.into_iter().find(|fault| fault.name() == name);
    match fault {
        Some(fault) if fault.is_failure() => format!(": {}", fault.meaning()),
        Some(fault) => format!(": {}; {}", fault.meaning(), fault.remedy()),
        // A server of another version has counted it.
        None => String::new(),
    }
}

fn print_primary(primary: &PrimaryReport, out: &mut impl Write) -> io::Result<()> {
    let latency = primary.latency_ms;
    let latency = latency.map_or_else(
        || "has not sent or confirmed a version".to_owned(),
        |ms| format!("answers in {ms} ms"),
    );
    writeln!(out, "primary    {}: {latency}", primary.address)?;
    if let Some(end) = primary.certificate_end {
        writeln!(out, "           its certificate ends at {end:.0}")?;
    }
    if let Some(text) = &primary.text {
        let failures = counted(primary.failures, "failure", "failures");
        writeln!(out, "           {failures} in a row: {text}")?;
    }
    Ok(())
}

fn print_notify(notify: &NotifyReport, out: &mut impl Write) -> io::Result<()> {
    let events = [
        (notify.accepted, "accepted", &notify.last),
        (notify.refused, "not accepted", &notify.last_refused),
    ];
    if notify.accepted + notify.refused == 0 {
        writeln!(out, "notify     none received")?;
    }
    for (count, verdict, last) in events {
        if let Some(NotifyEvent { at, from, why }) = last {
            let why = why
                .as_ref()
                .map_or_else(String::new, |why| format!(": {why}"));
            writeln!(
                out,
                "notify     {count} {verdict}, the last from {from} at {at:.0}{why}"
            )?;
        }
    }
    Ok(())
}
