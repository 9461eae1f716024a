//! `tapis order`: shows, checks and changes orders. States are computed from the files. If a running server has another
//! state of an order, that is shown, too.

mod change;
mod files;
mod list;
mod report;
mod server;

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::configuration::{Need, read_needed};
use super::failure::Failure;
use super::server::ControlArgs;
use crate::config::Config;
use crate::config::order::Order;
use crate::config::shown::counted;
use crate::control::guard::policy::GuardPolicy;
use crate::control::sources::orders;
use crate::control::sources::orders::registry::OrderRegistry;

#[derive(Debug, Args)]
pub(super) struct OrderArgs {
    #[command(subcommand)]
    verb: OrderVerb,
}

#[derive(Debug, Subcommand)]
enum OrderVerb {
    /// List all orders with their states. If a running server has another state of an order, that is shown, too.
    List(list::ListArgs),
    /// Show an order: its state, its contents, and its state in a running server if that differs.
    Show(list::ShowArgs),
    /// Count the orders by state, authority and legal basis. Also print the times from an order's issue until it is in
    /// force, and from its lift until the lift has its effect.
    Report(report::ReportArgs),
    /// Check whether a file is a valid order.
    ///
    /// Exit code 0 when it is, 1 when not. Warns of names that `[guard]` would leave out of a list: public
    /// suffixes, protected and popular names. Also warns if the order supersedes orders that the directory does not
    /// have, or that begin later.
    Check(CheckArgs),
    /// Print a template of an order's file, which explains each field.
    New(change::NewArgs),
    /// End an order, now or at a given time, by a change of its file. Comments in the file are kept.
    ///
    /// Exit code 0 when the running server follows the change, or none runs; 1 when the order is not lifted in the
    /// server.
    Lift(change::LiftArgs),
    /// Suspend an order by a change of its file. Comments in the file are kept.
    ///
    /// Exit code 0 when the running server follows the change, or none runs; 1 when the order is not suspended in
    /// the server.
    Suspend(change::SuspendArgs),
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// The file.
    file: PathBuf,
}

impl OrderArgs {
    pub(super) fn need(&self) -> Need {
        match self.verb {
            OrderVerb::New(_) => Need::Nothing,
            _ => Need::AsServer,
        }
    }

    /// The control socket in the arguments.
    pub(super) fn control(&self) -> ControlArgs {
        let control = match &self.verb {
            OrderVerb::List(args) => Some(&args.control),
            OrderVerb::Show(args) => Some(&args.control),
            OrderVerb::Report(args) => Some(&args.control),
            OrderVerb::Lift(args) => Some(&args.control),
            OrderVerb::Suspend(args) => Some(&args.control),
            OrderVerb::Check(_) | OrderVerb::New(_) => None,
        };
        control.cloned().unwrap_or_default()
    }
}

pub(super) fn run(
    config: Option<&PathBuf>,
    args: &OrderArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    match &args.verb {
        OrderVerb::Check(args) => check(config, args, out),
        OrderVerb::New(args) => Ok(change::print_template(args, out)?),
        OrderVerb::Lift(args) => change::lift(config, args, out),
        OrderVerb::Suspend(args) => change::suspend(config, args, out),
        OrderVerb::Report(args) => report::run(config, args, out),
        OrderVerb::List(args) => list::list(config, args, out),
        OrderVerb::Show(args) => list::show(config, args, out),
    }
}

fn check(config: Option<&PathBuf>, args: &CheckArgs, out: &mut impl Write) -> Result<(), Failure> {
    let text = orders::text(&args.file).map_err(Failure::Config)?;
    let order = Order::parse(&text, &args.file).map_err(Failure::Config)?;
    let supersedes = !order.supersedes.is_empty();
    let sections: &[&str] = match supersedes {
        true => &["guard", "orders", "state", "journal"],
        false => &["guard"],
    };
    let config = read_needed(config, sections)?;
    let guard_policy = GuardPolicy::read(&config);
    let findings = guard_policy.findings(&order);
    let mut warnings = guard_policy.problems().to_vec();
    warnings.extend(findings.map(|finding| finding.to_string()));
    if supersedes {
        warnings.extend(supersession_warnings(&config, &order));
    }
    for warning in warnings {
        writeln!(out, "warning: {warning}")?;
    }
    let targets = counted(order.targets.len(), "target", "targets");
    writeln!(out, "good: order {}, {targets}", order.id)?;
    Ok(())
}

/// The warnings about the orders that this one supersedes.
fn supersession_warnings(config: &Config, order: &Order) -> Vec<String> {
    if config.orders.dir.is_none() {
        let why = "the configuration has no directory of orders, so the orders in `supersedes` are not checked";
        return vec![why.to_owned()];
    }
    let registry = OrderRegistry::read(config);
    let problems = registry.problems();
    // An order whose file can't be read seems not to exist.
    match problems.is_empty() {
        true => registry.ineffective_supersessions(order),
        false => problems,
    }
}
