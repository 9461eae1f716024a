//! `tapis publish`: shows the zones that the policy is published as.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::failure::Failure;
use super::server::ControlArgs;
use super::zones::{self, serial};
use crate::config::shown::counted;
use crate::control::zones::report::{NotifiedReport, ZoneReport};

#[derive(Debug, Args)]
pub(super) struct PublishArgs {
    #[command(subcommand)]
    verb: PublishVerb,
}

#[derive(Debug, Subcommand)]
enum PublishVerb {
    /// List the published zones with their serials and records.
    List {
        #[command(flatten)]
        control: ControlArgs,
    },
    /// Show the state of a published zone and of its secondaries.
    Show {
        #[command(flatten)]
        control: ControlArgs,
        /// The name of the zone.
        zone: String,
    },
}

pub(super) fn run(
    config: Option<&PathBuf>,
    args: &PublishArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    match &args.verb {
        PublishVerb::List { control } => {
            let published = zones::status(&control.sockets(config)?)?.published;
            let lines = published
                .iter()
                .map(|zone| [zone.zone.clone(), serial(zone.serial), state(zone)]);
            let none = "no zones are published: add a section [[publish]]";
            Ok(zones::print_list(lines, none, out)?)
        }
        PublishVerb::Show { control, zone } => {
            let published = zones::status(&control.sockets(config)?)?.published;
            let name = zone.trim_end_matches('.').to_ascii_lowercase();
            let found = published.iter().find(|found| found.zone == name);
            let unknown = || {
                let text = format!(
                    "{zone}: the server does not publish this zone; see: tapis publish list"
                );
                Failure::Other(text.into())
            };
            Ok(print_zone(found.ok_or_else(unknown)?, out)?)
        }
    }
}

/// The most important fact about a zone, in a few words.
fn state(zone: &ZoneReport) -> String {
    let counted = match zone.alarms().len() {
        0 => counted(zone.records, "record", "records"),
        count => counted(
            count,
            "alarm, see: tapis status",
            "alarms, see: tapis status",
        ),
    };
    counted.to_string()
}

fn print_zone(zone: &ZoneReport, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "newest     {}", serial(zone.serial))?;
    writeln!(out, "generation {}", zone.generation)?;
    writeln!(out, "records    {}", zone.records)?;
    if let Some(at) = zone.changed_at {
        writeln!(out, "changed    {at:.0}")?;
    }
    let oldest = zone.history.first();
    if let Some(oldest) = oldest {
        let changes = counted(zone.history.len(), "change", "changes");
        writeln!(out, "history    {changes}, since serial {oldest}")?;
    }
    for (reason, count) in &zone.inexpressible {
        writeln!(out, "inexact    {count}: {reason}")?;
    }
    writeln!(
        out,
        "transfers  {} of the whole zone, {} of changes, {} refused, {} because of too many others",
        zone.whole_transfers, zone.incremental_transfers, zone.refused, zone.busy
    )?;
    for notified in &zone.notify {
        print_notified(notified, out)?;
    }
    for secondary in &zone.secondaries {
        let kind = match secondary.is_whole {
            true => "the whole zone",
            false => "changes",
        };
        writeln!(
            out,
            "secondary  {}: serial {}, {kind} at {:.0}",
            secondary.address, secondary.serial, secondary.at
        )?;
    }
    if let Some(export) = &zone.export {
        writeln!(out, "export     {}: {}", export.path, serial(export.serial))?;
    }
    for alarm in zone.alarms() {
        writeln!(out, "alarm      {alarm}")?;
    }
    Ok(())
}

fn print_notified(notified: &NotifiedReport, out: &mut impl Write) -> io::Result<()> {
    let address = notified.address;
    let Some(serial) = notified.serial else {
        return writeln!(out, "notify     {address}: nothing sent yet");
    };
    let answer = match (&notified.answer, notified.is_answered) {
        (Some(answer), _) => format!("answered {answer}"),
        (None, true) => "answered".to_owned(),
        (None, false) => format!(
            "no answer to {}{}",
            counted(notified.sent, "message", "messages"),
            notified
                .error
                .iter()
                .map(|error| format!(": {error}"))
                .collect::<String>(),
        ),
    };
    writeln!(out, "notify     {address}: serial {serial}, {answer}")
}
