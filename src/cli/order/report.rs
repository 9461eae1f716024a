//! `tapis order report`: prints figures about all orders.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use super::files::{AtArgs, SECTIONS, check_problems};
use crate::cli::configuration::read_needed;
use crate::cli::failure::Failure;
use crate::cli::plain::print_json;
use crate::cli::server::{self, ControlArgs};
use crate::config::shown::counted;
use crate::control::inspect::order_report::{OrderCount, OrderReport, OverdueReview, spans};
use crate::control::inspect::past::orders_at;

#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    #[command(flatten)]
    at: AtArgs,
    #[command(flatten)]
    pub(super) control: ControlArgs,
}

pub(super) fn run(
    config_path: Option<&PathBuf>,
    args: &ReportArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let config = read_needed(config_path, SECTIONS)?;
    let (registry, unrecorded) = orders_at(&config, args.at.named());
    let mut unknown: Vec<_> = unrecorded.into_iter().collect();
    let spans = spans(&config, &mut unknown)?;
    let status = server::get(&args.control.sockets(config_path)?, "/status")?;
    if let Err(error) = &status {
        unknown.push(format!("hits: {error}"));
    }
    let status = status.ok();
    let report = OrderReport::new(
        &registry,
        args.at.instant(),
        &spans,
        status.as_ref(),
        unknown,
    );
    match args.at.json {
        true => print_json(&report, out)?,
        false => print(&report, out)?,
    }
    check_problems(&registry)
}

fn print(report: &OrderReport, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "orders at {:.0}", report.at)?;
    for (state, count) in &report.states {
        writeln!(out, "  {state}: {count}")?;
    }
    for (what, counts) in [
        ("authority", &report.authorities),
        ("legal basis", &report.legal_bases),
    ] {
        for (name, count) in counts {
            let OrderCount { orders, in_force } = count;
            let orders = counted(*orders, "order", "orders");
            writeln!(out, "{what} {name}: {orders}, {in_force} in force")?;
        }
    }
    for OverdueReview { order, days } in &report.overdue_reviews {
        writeln!(
            out,
            "order {order}: its review is overdue by {days:.1} days"
        )?;
    }
    for line in &report.orders {
        write!(out, "order {}: {}", line.order, line.state)?;
        if let Some(days) = line.days_from_issue_to_force {
            write!(out, ", {days:.2} days from issue to force")?;
        }
        if let Some(days) = line.days_from_lift_to_freedom {
            write!(out, ", {days:.2} days from lift to its effect")?;
        }
        if let Some(hits) = line.hits {
            write!(out, ", {}", counted(hits, "hit", "hits"))?;
        }
        writeln!(out)?;
    }
    if let Some(since) = report.hits_since {
        writeln!(out, "hits are counted since {since:.0}")?;
    }
    for (source, hits) in &report.list_hits {
        writeln!(
            out,
            "list or feed {source}: {}",
            counted(*hits, "hit", "hits")
        )?;
    }
    for unknown in &report.unknown {
        writeln!(out, "not known: {unknown}")?;
    }
    Ok(())
}
