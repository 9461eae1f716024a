//! Owns the verbs that change an order's file, or begin one.
//! Refuses to tell a server: it watches the file.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use jiff::{SignedDuration, Timestamp};

use super::refused;
use crate::cli::Failure;
use crate::config::Config;
use crate::config::moment::Moment;
use crate::control::orders::book::Book;
use crate::control::orders::edit::{self, Change};

#[derive(Debug, Args)]
pub(super) struct NewArgs {
    /// What it is to be called: 1 to 64 characters of a-z, 0-9, `.`, `_`, `-`.
    id: String,
    /// A name to block, exactly; several times for several names.
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct LiftArgs {
    /// The order's id.
    id: String,
    /// Why: it stays in the file.
    #[arg(long)]
    reason: String,
    /// When; without it, now.
    #[arg(long, value_name = "TIME")]
    at: Option<Moment>,
}

#[derive(Debug, Args)]
pub(super) struct SuspendArgs {
    /// The order's id.
    id: String,
    /// Why: it stays in the file.
    #[arg(long)]
    reason: String,
    /// From when; without it, now.
    #[arg(long, value_name = "TIME")]
    from: Option<Moment>,
    /// Until when.
    #[arg(long, value_name = "TIME")]
    until: Moment,
}

/// How long after its beginning a new order is to be reviewed.
const REVIEW: SignedDuration = SignedDuration::from_hours(24 * 180);

pub(super) fn new(args: &NewArgs, out: &mut impl Write) -> io::Result<()> {
    let now = Moment::from(Timestamp::now());
    let review = now.at().saturating_add(REVIEW).unwrap_or(Timestamp::MAX);
    let review = Moment::from(review);
    let template = include_str!("new.toml");
    let template = template.replace("{id}", &args.id);
    let template = template.replace("{now}", &now.to_string());
    write!(out, "{}", template.replace("{review}", &review.to_string()))?;
    let placeholder = ["www.example.org".to_owned()];
    let names = match args.names.is_empty() {
        true => &placeholder[..],
        false => &args.names,
    };
    for name in names {
        write!(out, "\n[[targets]]\nname = {name:?}\nscope = \"exact\"\n")?;
    }
    Ok(())
}

pub(super) fn lift(config: &Config, args: &LiftArgs, out: &mut impl Write) -> Result<(), Failure> {
    let change = Change::Lift {
        at: args.at.unwrap_or_else(|| Timestamp::now().into()),
        reason: &args.reason,
    };
    apply(config, &args.id, &change, out)
}

pub(super) fn suspend(
    config: &Config,
    args: &SuspendArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let change = Change::Suspend {
        from: args.from.unwrap_or_else(|| Timestamp::now().into()),
        until: args.until,
        reason: &args.reason,
    };
    apply(config, &args.id, &change, out)
}

fn apply(
    config: &Config,
    id: &str,
    change: &Change<'_>,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let book = Book::read(config);
    let Some(known) = book.known().find(|known| known.order.id == id) else {
        refused(&book)?;
        return Err(Failure::Other(format!("there is no order `{id}`").into()));
    };
    let path: &PathBuf = &known.order.path;
    edit::apply(path, change)?;
    match change {
        Change::Lift { at, .. } => writeln!(out, "order {id} is lifted at {at}"),
        Change::Suspend { from, until, .. } => {
            writeln!(out, "order {id} is suspended from {from} until {until}")
        }
    }?;
    writeln!(
        out,
        "written to {}; a server that watches it follows",
        path.display()
    )?;
    Ok(())
}
