//! `tapis order new`, `lift` and `suspend`: print or change an order's file. A change fails if the order in the running
//! server differs from its file afterwards.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;

use super::files::{SECTIONS, check_problems};
use super::server::{self, Outcome};
use crate::cli::configuration::read_needed;
use crate::cli::failure::Failure;
use crate::cli::server::ControlArgs;
use crate::config::moment::{Moment, time_or_date};
use crate::config::order::{Order, REVIEW};
use crate::config::shown::Show;
use crate::config::values::is_plain_name;
use crate::control::admin::status::OrdersRequest;
use crate::control::sources::orders::edit;
use crate::control::sources::orders::edit::Change;
use crate::control::sources::orders::registry::OrderRegistry;

#[derive(Debug, Args)]
pub(super) struct NewArgs {
    /// The new order's id: 1 to 64 characters of a-z, 0-9, `.`, `_`, `-`.
    #[arg(value_parser = id)]
    id: String,
    /// A name to block, without the names below it; may be repeated.
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct LiftArgs {
    /// The order's id.
    id: String,
    /// The reason, which is written into the file.
    #[arg(long)]
    reason: String,
    /// The time of the lift, as in 2017-07-20T00:00:00+07:00; a date alone means 00:00:00 UTC of that day. The default
    /// is now.
    #[arg(long, value_name = "TIME", value_parser = time_or_date)]
    at: Option<Moment>,
    #[command(flatten)]
    pub(super) control: ControlArgs,
}

#[derive(Debug, Args)]
pub(super) struct SuspendArgs {
    /// The order's id.
    id: String,
    /// The reason, which is written into the file.
    #[arg(long)]
    reason: String,
    /// The start of the suspension, as in 2017-07-20T00:00:00+07:00; a date alone means 00:00:00 UTC of that day. The
    /// default is now.
    #[arg(long, value_name = "TIME", value_parser = time_or_date)]
    from: Option<Moment>,
    /// The end of the suspension; a date alone means 00:00:00 UTC of that day.
    #[arg(long, value_name = "TIME", value_parser = time_or_date)]
    until: Moment,
    #[command(flatten)]
    pub(super) control: ControlArgs,
}

pub(super) fn print_template(args: &NewArgs, out: &mut impl Write) -> io::Result<()> {
    let now = Moment::from(Timestamp::now());
    let review = now.at().saturating_add(REVIEW).unwrap_or(Timestamp::MAX);
    let review = Moment::from(review);
    let template = include_str!("new.toml");
    let template = template.replace("{id}", &args.id);
    let template = template.replace("{now}", &now.to_string());
    write!(out, "{}", template.replace("{review}", &review.to_string()))?;
    // The same placeholder as in the template; `order check` rejects it.
    let placeholder = ["...".to_owned()];
    let names = match args.names.is_empty() {
        true => &placeholder[..],
        false => &args.names,
    };
    for name in names {
        // This adds quotes and escapes.
        let name = toml_edit::Value::from(name.as_str());
        write!(out, "\n[[targets]]\nname = {name}\nscope = \"exact\"\n")?;
    }
    Ok(())
}

fn id(text: &str) -> Result<String, String> {
    match is_plain_name(text) {
        true => Ok(text.to_owned()),
        false => Err("write 1 to 64 characters of a-z, 0-9, `.`, `_`, `-`".to_owned()),
    }
}

pub(super) fn lift(
    config: Option<&PathBuf>,
    args: &LiftArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let change = |order: &Order| Change::Lift {
        at: args.at.unwrap_or_else(|| now(order)),
        reason: &args.reason,
    };
    apply(config, &args.id, change, &args.control, out)
}

pub(super) fn suspend(
    config: Option<&PathBuf>,
    args: &SuspendArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let change = |order: &Order| Change::Suspend {
        from: args.from.unwrap_or_else(|| now(order)),
        until: args.until,
        reason: &args.reason,
    };
    apply(config, &args.id, change, &args.control, out)
}

/// The present time, rounded down to whole seconds. If the order began within this second, the time is not rounded:
/// otherwise the order would end before its beginning.
fn now(order: &Order) -> Moment {
    whole_seconds(Timestamp::now(), order.dates.effective_from)
}

fn whole_seconds(now: Timestamp, begun: Moment) -> Moment {
    let second = Moment::from(now);
    match second <= begun && begun.at() < now {
        true => Moment::exact(now),
        false => second,
    }
}

fn apply<'r>(
    config: Option<&PathBuf>,
    id: &str,
    change: impl FnOnce(&Order) -> Change<'r>,
    control: &ControlArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let registry = OrderRegistry::read(&read_needed(config, SECTIONS)?);
    let sockets = control.sockets(config)?;
    let Some(known) = registry.known().find(|known| known.order.id == id) else {
        check_problems(&registry)?;
        return Err(Failure::Other(format!("there is no order `{id}`").into()));
    };
    let path: &PathBuf = &known.order.path;
    let absolute = std::path::absolute(path)?;
    let change = change(known.order);
    let dates = edit::apply(path, &change)?.dates;
    let (verb, done, when) = match &change {
        Change::Lift { at, .. } => {
            let done = match at.at() > Timestamp::now() {
                true => "to be lifted",
                false => "lifted",
            };
            ("lift", done, format!("at {at}"))
        }
        Change::Suspend { from, until, .. } => {
            let mut pauses = dates.suspended.iter();
            // An existing suspension may have been extended.
            let from = pauses
                .find(|pause| pause.until == Some(*until))
                .map_or(*from, |pause| pause.from);
            ("suspend", "suspended", format!("from {from} until {until}"))
        }
    };
    let request = OrdersRequest {
        verb: format!("order {verb} {id}"),
        // A path that is not UTF-8 is sent as an empty one: then the server reads all changed files.
        path: absolute.to_str().map_or_else(PathBuf::new, PathBuf::from),
    };
    let outcome = server::notify(&registry, &sockets, &request, id, &dates)?;
    let written = format!("written to {}", path.shown());
    match outcome {
        Outcome::Followed(generation, problems) => {
            writeln!(out, "order {id} is {done} {when}\n{written}")?;
            for problem in &problems {
                writeln!(out, "rejected: {problem}")?;
            }
            writeln!(out, "read by the server: generation {generation} in force")?;
            Ok(())
        }
        Outcome::NotFollowed(why) => {
            writeln!(out, "order {id} is {done} {when}\n{written}\n{why}")?;
            Ok(())
        }
        Outcome::Rejected(why) => {
            writeln!(out, "order {id} is NOT {done} in the server, which {why}")?;
            writeln!(out, "in its file it is {done} {when}: {written}")?;
            Err(Failure::Reported)
        }
        Outcome::Unknown(error) => {
            writeln!(
                out,
                "order {id}: it is not known whether it is {done} in the server: {error}"
            )?;
            writeln!(out, "in its file it is {done} {when}: {written}")?;
            Err(Failure::Reported)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_that_ends_within_the_second_of_its_beginning_was_in_force_before() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let now = at("2026-11-26T15:10:10.25Z");
        for (begun, expected) in [
            ("2026-11-26T15:10:10Z", "2026-11-26T15:10:10.25Z"),
            ("2026-11-26T22:10:10.125+07:00", "2026-11-26T15:10:10.25Z"),
            ("2026-11-26T15:10:09Z", "2026-11-26T15:10:10Z"),
            ("2026-11-26T15:10:11Z", "2026-11-26T15:10:10Z"),
        ] {
            let begun = begun.parse().expect("a time");
            assert_eq!(whole_seconds(now, begun).to_string(), expected);
        }
    }
}
