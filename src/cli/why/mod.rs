//! `tapis why`: explains how a name is answered, as decided by the running server or from the files.

mod print;
mod served;

use std::io::Write;
use std::net::IpAddr;

use clap::Args;

use self::served::Served;
use super::configuration::{Choice, read_config, report_others};
use super::failure::Failure;
use super::journal::PastArgs;
use super::plain::print_json;
use super::server::ControlArgs;
use crate::config::moment::{Moment, time_or_date};
use crate::config::{Config, Origin};
use crate::control::admin::verdict::Outcome;
use crate::control::inspect::explain::{Explanation, Query, files, served as by_server};
use crate::daemon;
use crate::names::typed;
use crate::wire::name::Name;
use crate::wire::presentation::type_number;
use crate::wire::rtype;

#[derive(Debug, Args)]
pub(super) struct WhyArgs {
    /// The name. IDNs can be written in Unicode.
    #[arg(value_parser = name)]
    name: Name,
    /// The record type of the query: A, AAAA, HTTPS, TYPE65, ...
    #[arg(long = "type", value_name = "TYPE", default_value = "A", value_parser = rtype)]
    rtype: u16,
    /// Explain the answer to this client. The default is any client that may query.
    #[arg(long, value_name = "IP")]
    client: Option<IpAddr>,
    /// Assume that upstream's answer has this address, so that rules on addresses apply, too. The record type is then A or
    /// AAAA.
    #[arg(long, value_name = "IP", conflicts_with = "rtype")]
    address: Option<IpAddr>,
    /// Explain the answer at this time, as in 2017-07-20T00:00:00+07:00. A past time is explained by the journal;
    /// without a journal, by the dates of orders. A future time is explained by the present files. A date alone means
    /// 00:00:00 UTC of that day. Exit code 3 when the decision is not known.
    #[arg(long, value_name = "TIME", value_parser = time_or_date)]
    at: Option<Moment>,
    #[command(flatten)]
    past: PastArgs,
    /// Explain by the present files of lists, orders and exceptions, not by the state of the running server.
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

impl WhyArgs {
    /// The server that the arguments name.
    pub(super) fn control(&self) -> ControlArgs {
        self.control.clone()
    }
}

pub(super) fn run(choice: &Choice, args: &WhyArgs, out: &mut impl Write) -> Result<(), Failure> {
    if args.at.is_none() && !args.past.files()?.is_empty() {
        let why = "--journal is for a time in the past: give that with --at";
        return Err(Failure::Other(why.into()));
    }
    let query = Query {
        name: args.name.clone(),
        rtype: match args.address {
            None => args.rtype,
            Some(IpAddr::V4(_)) => rtype::A,
            Some(IpAddr::V6(_)) => rtype::AAAA,
        },
        client: args.client,
        address: args.address,
    };
    let (config, problems) = match (&choice.path, args.at) {
        (path, Some(_)) => {
            let config = read_config(path.as_ref())?;
            (Some(choice.as_served(&args.control, config)?), None)
        }
        (Some(path), None) => Config::examine(path),
        (None, None) => (Some(Config::built_in()), None),
    };
    let served = match args.offline || args.at.is_some() {
        true => None,
        false => Served::get(choice, &args.control, &query)?,
    };
    let config = match (config, problems, &served) {
        (Some(config), None, _) => config,
        // The server decided, by a valid configuration; this one is only used to find the lines of rules.
        (Some(config), Some(problems), Some(_)) => {
            report_others(&problems);
            config
        }
        (_, problems, _) => {
            let problems = problems.expect("a configuration that can't be used has problems");
            return Err(Failure::Config(problems));
        }
    };
    let mut explanation = match served {
        Some(Served { status, verdict }) => by_server::explain(&config, &query, &status, verdict),
        None => explain_by_files(&config, &query, args)?,
    };
    if explanation.generation.is_none() && args.at.is_none() && !args.offline {
        let note = "no running server was asked: this is by the present files";
        explanation.notes.push(note.to_owned());
    }
    // With `--at`, paths are not changed: the paths in the journal may be relative to another working directory.
    if args.at.is_none() && config.origin != Origin::BuiltIn {
        explanation.make_paths_absolute();
    }
    if args.json {
        print_json(&explanation, out)?;
    } else {
        print::print_explanation(&explanation, out)?;
    }
    match explanation.decision {
        Outcome::Unknown => Err(Failure::Unknown),
        _ => Ok(()),
    }
}

fn explain_by_files(
    config: &Config,
    query: &Query,
    args: &WhyArgs,
) -> Result<Explanation, Failure> {
    let (moment, journal) = (args.at.map(Moment::at), args.past.files()?);
    let explanation = files::explain(config, query, moment, journal, &|snapshot, request| {
        Ok(daemon::explain(snapshot, request)?)
    });
    Ok(explanation?)
}

pub(super) fn name(text: &str) -> Result<Name, String> {
    match typed::one(text) {
        Ok((name, None)) => Ok(name),
        Ok((_, Some(_))) => Err("write one name, without a leading dot or `*.`".to_owned()),
        Err(bad) => Err(bad.to_string()),
    }
}

pub(super) fn rtype(text: &str) -> Result<u16, String> {
    let upper = text.to_ascii_uppercase();
    let number = upper.parse().ok().or_else(|| type_number(&upper));
    number.ok_or_else(|| "must be a record type such as A, AAAA, HTTPS or TYPE65".to_owned())
}
