//! Owns `tapis check`: the configuration and every list, all problems at once.
//! Refuses to start anything.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::{Failure, runtime, told};
use crate::config::Config;
use crate::config::shown::counted;
use crate::control::client::{ClientError, call};
use crate::control::compose;
use crate::control::guard::rails::Rails;
use crate::control::guard::release::Guards;
use crate::control::guard::wards::Guarded;
use crate::control::load::load_as;
use crate::control::orders::book::Book;
use crate::control::status::Status;
use crate::daemon::{self, Running};
use crate::sys::process::user_id;

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Report bad lines of lists without exit code 1. (A server skips them.)
    #[arg(long)]
    allow_bad_lines: bool,
    /// Print every rule that guards leave out or warn of, and not only the first ten of each list.
    #[arg(long)]
    all: bool,
    /// Examine the files alone, and don't try what a start needs: as for another machine, or another user.
    #[arg(long)]
    files_only: bool,
}

/// What a start by this user would not get. What the running server has is no problem.
fn try_start(config: &Config, out: &mut impl Write) -> Result<Vec<String>, Failure> {
    let places = daemon::control_places(config.server.control.as_deref());
    let status = call::<(), Status>(&places, user_id(), "/status", None);
    let running = match runtime()?.block_on(status) {
        Ok(status) => {
            let process = status.pid;
            let listen = status.gauges.listen.iter();
            let listen: Vec<_> = listen.map(ToString::to_string).collect();
            writeln!(
                out,
                "note: a server runs (process {process}) and has {}, its control socket, state directory and \
                 journal: not checked is whether another start could have them",
                listen.join(", ")
            )?;
            Some(Running {
                listen: status.gauges.listen,
            })
        }
        Err(ClientError::Absent { .. }) => None,
        Err(error) => {
            writeln!(
                out,
                "note: not checked is whether a start could have its ports, control socket, state directory and \
                 journal, as a server may have them: {error}"
            )?;
            return Ok(Vec::new());
        }
    };
    Ok(daemon::problems(config, running.as_ref()))
}

pub(super) fn run(
    config: Option<&PathBuf>,
    args: &CheckArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let (config, mistakes) = match config {
        Some(path) => Config::examine(path),
        None => (Some(Config::built_in()), None),
    };
    let mut good = mistakes.is_none();
    if let Some(mistakes) = mistakes {
        writeln!(out, "{mistakes}")?;
    }
    let Some(config) = config else {
        return Err(Failure::Told);
    };
    // With mistakes, defaults stand in for what these look at.
    if good {
        let mut problems = compose::problems(&config);
        if let Err(problem) = daemon::check_upstreams(&config) {
            problems.push(problem.to_string());
        }
        if !args.files_only {
            problems.extend(try_start(&config, out)?);
        }
        for problem in &problems {
            writeln!(out, "{problem}")?;
        }
        good = problems.is_empty();
        let warnings = match args.files_only {
            true => compose::warnings(&config),
            false => daemon::warnings(&config),
        };
        for warning in warnings {
            writeln!(out, "note: {warning}")?;
        }
    }
    let book = Book::read(&config);
    let problems = book.problems();
    for problem in &problems {
        writeln!(out, "{problem}")?;
    }
    good &= problems.is_empty();
    for warning in book.warnings(config.lists.iter().map(|list| &*list.source.name)) {
        writeln!(out, "note: {warning}")?;
    }
    let rails = Rails::read(&config);
    for problem in rails.problems() {
        good = false;
        writeln!(out, "{problem}")?;
    }
    for order in book.orders() {
        for finding in rails.findings(order) {
            writeln!(out, "warning: order {}: {finding}", order.id)?;
        }
    }
    let mut released = Vec::new();
    let most = if args.all { usize::MAX } else { told::SHOWN };
    for list in &config.lists {
        let (name, path) = (&list.source.name, &list.source.path);
        let guarded = Guarded {
            kept: most,
            ..list.into()
        };
        let loaded = match load_as(list, guarded, &rails, &[], Guards::NONE) {
            Ok(fresh) => fresh.loaded,
            Err(refusal) => {
                good = false;
                writeln!(out, "{name}: {refusal}")?;
                continue;
            }
        };
        let tally = &loaded.tally;
        good &= tally.bad_total() == 0 || args.allow_bad_lines;
        told::list(name, path, loaded.rules as u64, tally, most, out)?;
        released.extend_from_slice(&tally.guarded.released);
    }
    for name in rails.vain_releases(&released, book.orders()) {
        writeln!(
            out,
            "note: [guard] release: no rule on {name} needs it, so it changes nothing"
        )?;
    }
    if good {
        let lists = counted(config.lists.len(), "list", "lists");
        let orders = match book.orders().count() {
            0 => String::new(),
            count => format!(", {}", counted(count, "order", "orders")),
        };
        writeln!(out, "good: {lists}{orders}")?;
        return Ok(());
    }
    Err(Failure::Told)
}
