//! `tapis feed`: shows how the zones of feeds are transferred, and asks their primaries.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::failure::Failure;
use super::server::{self, ControlArgs};
use super::zones::{self, serial};
use crate::config::shown::counted;
use crate::control::admin::status::{ExportRequest, FeedRequest};
use crate::control::sources::feeds::fault::Fault;
use crate::control::sources::feeds::report::{
    FeedReport, NotifyEvent, NotifyReport, PrimaryReport,
};
use crate::control::zones::text;

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
    /// Ask the primaries of a feed for a newer version now.
    Refresh {
        #[command(flatten)]
        control: ControlArgs,
        /// The name of the feed.
        feed: String,
        /// Transfer the whole zone, even if its serial has not changed or has gone back.
        #[arg(long)]
        whole: bool,
    },
    /// Write the rules in force of a feed or a list as a zone file.
    ///
    /// BIND, Knot Resolver and this program (format = "rpz") read it. It has the rules as they are applied here: without
    /// those that the guard left out, and with the actions that the configuration sets.
    Export {
        #[command(flatten)]
        control: ControlArgs,
        /// The name of the feed or list.
        source: String,
        /// The file, which is replaced in one step. The default is standard output.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

pub(super) fn run(
    config: Option<&PathBuf>,
    args: &FeedArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    match &args.verb {
        FeedVerb::List { control } => {
            let feeds = zones::status(config, control)?.feeds;
            let lines = feeds.iter().map(|feed| {
                let (name, zone) = (feed.name.clone(), feed.zone.clone());
                [name, zone, serial(feed.serial), state(feed)]
            });
            let none = "no feeds are configured: add a section [[feed]]";
            Ok(zones::print_list(lines, none, out)?)
        }
        FeedVerb::Show { control, feed } => {
            let feeds = zones::status(config, control)?.feeds;
            let found = feeds.iter().find(|found| found.name == *feed);
            Ok(print_feed(found.ok_or_else(|| unknown(feed))?, out)?)
        }
        FeedVerb::Refresh {
            control,
            feed,
            whole,
        } => {
            let sockets = control.sockets(config)?;
            let request = FeedRequest {
                feed: feed.clone(),
                whole: *whole,
            };
            let is_known: bool = server::post(&sockets, "/feed", &request)??;
            match is_known {
                true => Ok(writeln!(
                    out,
                    "{feed}: its primaries are being asked; see: tapis feed show {feed}"
                )?),
                false => Err(unknown(feed)),
            }
        }
        FeedVerb::Export {
            control,
            source,
            output,
        } => {
            let sockets = control.sockets(config)?;
            let request = ExportRequest {
                source: source.clone(),
            };
            let write = |out: &mut dyn Write| -> Result<(), Failure> {
                let take = |part: &[u8]| out.write_all(part);
                Ok(server::download(&sockets, "/export", &request, take)??)
            };
            match output {
                Some(path) => text::replace_file(path, write),
                None => write(out),
            }
        }
    }
}

fn unknown(feed: &str) -> Failure {
    let text = format!("{feed}: the server has no such feed; see: tapis feed list");
    Failure::Other(text.into())
}

/// The most important fact about a feed, in a few words.
fn state(feed: &FeedReport) -> String {
    if let Some(transfer) = &feed.transfer {
        let records = counted(transfer.records, "record", "records");
        return format!("transferring from {}: {records}", transfer.primary);
    }
    if let Some(held) = &feed.held {
        return format!("serial {} is held", held.serial);
    }
    let faults = feed
        .primaries
        .iter()
        .filter_map(|primary| primary.fault.as_deref());
    let faults: Vec<_> = faults.collect();
    if feed.is_expired {
        return "expired".to_owned();
    }
    match faults.is_empty() {
        true => "up to date".to_owned(),
        false => faults.join(", "),
    }
}

fn print_feed(feed: &FeedReport, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "zone       {}", feed.zone)?;
    writeln!(out, "in force   {}", serial(feed.serial))?;
    if let Some(confirmed) = feed.confirmed {
        writeln!(out, "confirmed  {confirmed:.0}")?;
    }
    writeln!(out, "state      {}", state(feed))?;
    if let Some(transfer) = &feed.transfer {
        let bytes = counted(transfer.bytes, "byte", "bytes");
        writeln!(out, "transfer   {bytes} since {:.0}", transfer.since)?;
    }
    if let Some(held) = &feed.held {
        writeln!(out, "held       {}", held.why)?;
    }
    for primary in &feed.primaries {
        print_primary(primary, out)?;
    }
    print_notify(&feed.notify, out)?;
    for (fault, count) in &feed.faults {
        writeln!(out, "count      {fault} {count}{}", explained(fault))?;
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
        || "has not answered".to_owned(),
        |ms| format!("answers in {ms} ms"),
    );
    writeln!(out, "primary    {}: {latency}", primary.address)?;
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
