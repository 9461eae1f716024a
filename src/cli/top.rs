//! `tapis top`: prints the most frequent names, clients and sources of the running server.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::Args;

use super::failure::Failure;
use super::server::{self, ControlArgs};
use crate::config::shown::counted;
use crate::control::recording::{TopList, TopReport};

/// Clears a terminal.
const CLEAR: &str = "\x1B[H\x1B[2J";

#[derive(Debug, Args)]
pub(super) struct TopArgs {
    #[command(flatten)]
    control: ControlArgs,
    /// The number of entries of each list, 1 to 100.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=100))]
    count: u16,
    /// Print them again after this many seconds, until the program is interrupted.
    #[arg(long, value_name = "SECS", num_args = 0..=1, default_missing_value = "2", value_parser = clap::value_parser!(u64).range(1..=3600))]
    refresh: Option<u64>,
    /// Print JSON, for programs: one document each time.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(
    config: Option<&PathBuf>,
    args: &TopArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let sockets = args.control.sockets(config)?;
    loop {
        let report: TopReport = server::get(&sockets, "/top")??;
        let report = report.first(args.count.into());
        if args.json {
            let text = match args.refresh {
                None => serde_json::to_string_pretty(&report)?,
                Some(_) => serde_json::to_string(&report)?,
            };
            writeln!(out, "{text}")?;
        } else {
            if args.refresh.is_some() && io::stdout().is_terminal() {
                out.flush()?;
                // Not through `out`, which escapes it.
                write!(io::stdout(), "{CLEAR}")?;
            }
            print(&report, out)?;
        }
        out.flush()?;
        let Some(pause) = args.refresh else {
            return Ok(());
        };
        thread::sleep(Duration::from_secs(pause));
    }
}

fn print(report: &TopReport, out: &mut impl Write) -> io::Result<()> {
    let queries = counted(report.queries, "query", "queries");
    let seconds = counted(report.seconds, "second", "seconds");
    let missing = match report.missing {
        0 => String::new(),
        missing => {
            format!("; {missing} more are missing, as the server was too busy to count them")
        }
    };
    writeln!(out, "{queries} within {seconds}{missing}")?;
    for (title, list) in [
        ("names", &report.names),
        ("blocked names", &report.blocked_names),
        ("clients", &report.clients),
        ("lists, zones and orders that blocked", &report.sources),
    ] {
        print_list(title, list, report.queries, out)?;
    }
    Ok(())
}

fn print_list(title: &str, list: &TopList, queries: u64, out: &mut impl Write) -> io::Result<()> {
    let error = match list.error {
        0 => String::new(),
        error => format!(" (counts may be too high by up to {error})"),
    };
    writeln!(out, "\n{title}{error}")?;
    if list.entries.is_empty() {
        return writeln!(out, "  none");
    }
    let digits = |count: u64| count.to_string().len();
    let width = list.entries.iter().map(|entry| digits(entry.count)).max();
    let width = width.unwrap_or(0);
    for entry in &list.entries {
        let percent = entry.count as f64 * 100.0 / queries.max(1) as f64;
        let (count, text) = (entry.count, &entry.text);
        writeln!(out, "  {count:>width$}  {percent:>5.1} %  {text}")?;
    }
    Ok(())
}
