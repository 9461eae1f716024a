//! Owns `tapis why`: what happens to a name, by which rules, in which lines of which files.
//! Refuses to guess: the answer is made by the same code that serves, by the running server if there is one.

mod print;
mod server;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use hickory_proto::rr::RecordType;
use ipnet::{Ipv4Net, Ipv6Net};
use jiff::Timestamp;
use serde::Serialize;

use self::server::Server;
use super::configuration::Choice;
use super::journal::PastArgs;
use super::{ControlArgs, Failure, read_config, report_others};
use crate::config::exception::Exception;
use crate::config::moment::{Moment, or_date};
use crate::config::order::{Order, Suspension};
use crate::config::shown::{Show, path_text};
use crate::config::{Config, Content, List, Origin, regular, typed};
use crate::control::admin::verdict::{Answer, Chain, Outcome, Question, Verdict};
use crate::control::guard::policy::Rails;
use crate::control::guard::protected::Guarded;
use crate::control::guard::suppressed::Account;
use crate::control::inspect::policy_at::{ListRule, Replay};
use crate::control::journal::past::Served;
use crate::control::sources::lists::load::MAX_FILE;
use crate::control::sources::lists::parse;
use crate::control::sources::orders::registry::Book;
use crate::control::sources::orders::schedule::State;
use crate::daemon;
use crate::policy::rule::{Kind, Scope, Source};
use crate::policy::snapshot::Snapshot;
use crate::wire::name::Name;

#[derive(Debug, Args)]
pub(super) struct WhyArgs {
    /// The name, as people write it; IDNs in Unicode too.
    #[arg(value_parser = name)]
    name: Name,
    /// The type that is asked for: A, AAAA, HTTPS, TYPE65, ...
    #[arg(long = "type", value_name = "TYPE", default_value = "A", value_parser = rtype)]
    rtype: RecordType,
    /// Answer as for this client; without it, as for one that may ask.
    #[arg(long, value_name = "IP")]
    client: Option<IpAddr>,
    /// As it was at that time, as in 2017-07-20T00:00:00+07:00: by the journal, or without one by the dates
    /// of orders. Exit code 3 when the decision is not known.
    /// A time to come is answered by the files as they are. A date alone is its 00:00:00 UTC.
    #[arg(long, value_name = "TIME", value_parser = or_date)]
    at: Option<Moment>,
    #[command(flatten)]
    past: PastArgs,
    /// Explain by the lists, orders and exceptions as their files are, whatever the server has in force.
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

impl WhyArgs {
    /// The server that is named.
    pub(super) fn control(&self) -> ControlArgs {
        self.control.clone()
    }

    fn question(&self) -> Question {
        Question {
            name: self.name.to_string(),
            rtype: self.rtype.into(),
            client: self.client,
        }
    }
}

#[derive(Debug, Serialize)]
struct Explanation {
    /// The moment that it is about.
    #[serde(skip)]
    at: Timestamp,
    name: String,
    r#type: String,
    client: Option<IpAddr>,
    /// The generation of the running server that was asked; `None` where the files were read.
    generation: Option<u64>,
    decision: Outcome,
    /// The rules that count for the names that a CNAME in upstream's answer leads to. `None` when upstream is not
    /// asked.
    chain: Option<Chain>,
    /// The source of the rule that decides, where one does.
    by: Option<String>,
    /// Every rule that matches, the weightiest first.
    rules: Vec<Rule>,
    /// The orders among their sources.
    orders: Vec<Order>,
    /// Other orders that speak of the name, which are not in force.
    idle: Vec<Idle>,
    /// The exceptions among their sources.
    exceptions: Vec<Exception>,
    /// Nothing when upstream is asked, or when no answer is sent.
    answer: Option<Answer>,
    /// Which moment it is about, and what the running server has alarms of, as a list that is held.
    notes: Vec<String>,
    /// What is missing above: lists and orders whose files are not taken, matching rules that guards
    /// leave out, and what is no longer known of that time.
    left_out: Vec<String>,
}

/// An order that is not in force.
#[derive(Debug, Serialize)]
struct Idle {
    state: State,
    /// The suspension that it is in.
    #[serde(skip)]
    pause: Option<Suspension>,
    #[serde(flatten)]
    order: Order,
}

#[derive(Debug, Serialize)]
struct Rule {
    /// The list's name, `order:` and the order's id, or `exception:` and what distinguishes it from others.
    source: String,
    kind: Kind,
    rule: String,
    scope: Scope,
    #[serde(serialize_with = "path_text")]
    path: PathBuf,
    /// Its first line in the file, if that is still the one that was read.
    line: Option<u32>,
}

pub(super) fn run(choice: &Choice, args: &WhyArgs, out: &mut impl Write) -> Result<(), Failure> {
    if args.at.is_none() && !args.past.files()?.is_empty() {
        let why = "--journal is for a time in the past: give that with --at";
        return Err(Failure::Other(why.into()));
    }
    let (config, problems) = match (&choice.path, args.at) {
        (path, Some(_)) => {
            let config = read_config(path.as_ref())?;
            (Some(choice.as_served(&args.control, config)?), None)
        }
        (Some(path), None) => Config::examine(path),
        (None, None) => (Some(Config::built_in()), None),
    };
    let server = match args.offline || args.at.is_some() {
        true => None,
        false => Server::ask(choice, args)?,
    };
    let config = match (config, problems, &server) {
        (Some(config), None, _) => config,
        // It has a configuration without them; this one only says on which lines of its lists the rules are.
        (Some(config), Some(problems), Some(_)) => {
            report_others(&problems);
            config
        }
        (_, problems, _) => {
            let problems = problems.expect("what is not understood has problems");
            return Err(Failure::Config(problems));
        }
    };
    let mut explanation = match server {
        Some(server) => server.explain(&config, args),
        None => explain(&config, args)?,
    };
    if explanation.generation.is_none() && args.at.is_none() && !args.offline {
        let note = "no running server was asked: this is by the files as they are";
        explanation.notes.push(note.to_owned());
    }
    // The past's files may have had another working directory.
    if args.at.is_none() && config.origin != Origin::BuiltIn {
        explanation.name_files_from_anywhere();
    }
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&explanation)?)?;
    } else {
        print::print(&explanation, out)?;
    }
    match explanation.decision {
        Outcome::Unknown => Err(Failure::Unknown),
        _ => Ok(()),
    }
}

impl Explanation {
    /// Makes the files' paths absolute, whether the server named them or the configuration.
    fn name_files_from_anywhere(&mut self) {
        let rules = self.rules.iter_mut().map(|rule| &mut rule.path);
        let exceptions = self
            .exceptions
            .iter_mut()
            .map(|exception| &mut exception.path);
        let idle = self.idle.iter_mut().map(|idle| &mut idle.order);
        let orders = self.orders.iter_mut().chain(idle);
        let orders = orders.map(|order| &mut order.path);
        for path in rules.chain(exceptions).chain(orders) {
            // Without a working directory it stays as it is.
            if let Ok(absolute) = std::path::absolute(&*path) {
                *path = absolute;
            }
        }
    }
}

/// Explains by the files and the journal.
fn explain(config: &Config, args: &WhyArgs) -> Result<Explanation, Failure> {
    let now = Timestamp::now();
    let at = args.at.map_or(now, Moment::at);
    let rails = Rails::read(config);
    let files = args.past.files()?;
    let replay = match args.at {
        Some(_) if at <= now => Replay::at(config, &rails, files, at),
        _ => Replay::now(config, &rails, at),
    };
    let book = &replay.book;
    let mut left_out = replay.notes.clone();
    left_out.extend(book.problems());
    left_out.extend_from_slice(rails.problems());
    let (snapshot, matching_lists) = snapshot(&replay, args)?;
    let mut verdict = verdict(&replay, &snapshot, args)?;
    if replay.served == Served::Unrecorded {
        let (outcome, by) = (verdict.outcome, &verdict.by);
        let by = by.as_ref().map(|by| format!(" by {}", print::called(by)));
        left_out.push(format!(
            "by the dates in these files it would be: {outcome}{}",
            by.unwrap_or_default()
        ));
        verdict = undecided(verdict, Outcome::Unknown);
    }
    if let Some(before) = replay
        .is_fresh()
        .then(|| replay.before(config, &rails, files))
        .flatten()
        && before.served == Served::Yes
    {
        let (snapshot, _) = self::snapshot(&before, args)?;
        let was = self::verdict(&before, &snapshot, args)?;
        if (was.outcome, &was.answer) != (verdict.outcome, &verdict.answer) {
            verdict = undecided(verdict, Outcome::Unknown);
            left_out.push(
                "a new generation was being put in force at that moment, and the one before decides otherwise"
                    .to_owned(),
            );
        }
    }
    let of_orders = book.matching(&args.name);
    let mut rules = Vec::new();
    for source in snapshot.sources() {
        let mut lists = replay.lists.iter();
        let list = lists.position(|replayed| replayed.list.source.name == source.name);
        match list {
            Some(at) => {
                let replayed = &replay.lists[at];
                let mut of_list = match replayed.is_file {
                    true => matching(&replayed.list, &rails, &args.name, &mut left_out),
                    false => Vec::new(),
                };
                if of_list.is_empty() {
                    let found = matching_lists.iter().filter(|rule| rule.list == at);
                    let mut found: Vec<_> = found.collect();
                    found.sort_by_key(|rule| weight(rule));
                    let found = found.into_iter();
                    of_list = found
                        .map(|rule| Rule::of(source, &rule.owner, rule.scope))
                        .collect();
                }
                rules.extend(of_list);
            }
            None => {
                let found = of_orders.get(&source.name).into_iter().flatten();
                rules.extend(found.map(|(owner, scope)| Rule::of(source, owner, *scope)));
            }
        }
    }
    let as_of = args.at.map(|_| match replay.in_force {
        Some(generation) => format!("as of {at}, generation {generation} by the journal"),
        None if at > now => format!(
            "as of {at}, which is to come: by the files as they are, with orders and exceptions by their dates"
        ),
        None => format!("as of {at}"),
    });
    Ok(Explanation {
        notes: as_of.into_iter().collect(),
        ..conclude(args, book, at, verdict, rules, left_out)
    })
}

/// The rule of a source that has the lowest one decides.
fn weight(rule: &ListRule) -> (Reverse<usize>, u32) {
    (Reverse(rule.owner.label_count()), rule.scope.weight())
}

/// The policy by which the client is answered, and the rules of lists that match.
fn snapshot(replay: &Replay, args: &WhyArgs) -> Result<(Snapshot, Vec<ListRule>), Failure> {
    let (mut snapshot, matching) = replay.snapshot_for(&args.name)?;
    if args.client.is_none() {
        let everybody = [Ipv4Net::default().into(), Ipv6Net::default().into()];
        snapshot.clients = everybody.iter().collect();
    }
    Ok((snapshot, matching))
}

/// What the client gets, as far as it is known.
fn verdict(replay: &Replay, snapshot: &Snapshot, args: &WhyArgs) -> Result<Verdict, Failure> {
    let verdict = daemon::explain(snapshot, &args.question())?;
    let decided = snapshot.decide(&args.name);
    Ok(match replay.served {
        Served::Stopped(_) => undecided(verdict, Outcome::Stopped),
        Served::Unknown(_) | Served::Incomplete(_) => undecided(verdict, Outcome::Unknown),
        Served::Unrecorded => verdict,
        // Who may ask does not depend on lists.
        Served::Yes
            if verdict.outcome != Outcome::Refused && replay.is_open(snapshot, &decided) =>
        {
            undecided(verdict, Outcome::Unknown)
        }
        Served::Yes => verdict,
    })
}

/// The same without what says more than the outcome.
fn undecided(verdict: Verdict, outcome: Outcome) -> Verdict {
    Verdict {
        outcome,
        chain: None,
        by: None,
        answer: None,
        ..verdict
    }
}

impl Rule {
    fn of(source: &Source, owner: &Name, scope: Scope) -> Self {
        Self {
            source: source.name.clone(),
            kind: source.kind,
            rule: format!("{}{owner}", scope.sign()),
            scope,
            path: source.path.clone(),
            line: None,
        }
    }
}

/// The explanation, once it is known which rules match; the caller sets `generation`.
fn conclude(
    args: &WhyArgs,
    book: &Book,
    at: Timestamp,
    verdict: Verdict,
    rules: Vec<Rule>,
    left_out: Vec<String>,
) -> Explanation {
    let mut sources: Vec<&str> = Vec::new();
    for rule in &rules {
        if !sources.contains(&&*rule.source) {
            sources.push(&rule.source);
        }
    }
    let orders = sources.iter().filter_map(|source| book.order(source));
    let exceptions = sources.iter().filter_map(|source| book.exception(source));
    Explanation {
        at,
        orders: orders.cloned().collect(),
        idle: idle(book, &args.name, at),
        exceptions: exceptions.cloned().collect(),
        name: args.name.to_string(),
        r#type: args.rtype.to_string(),
        client: args.client,
        generation: None,
        decision: verdict.outcome,
        chain: verdict.chain,
        by: verdict.by,
        rules,
        answer: verdict.answer,
        notes: Vec::new(),
        left_out,
    }
}

/// The orders that would speak of the name at another time.
fn idle(book: &Book, name: &Name, at: Timestamp) -> Vec<Idle> {
    let all = book.known().filter(|known| {
        let mut targets = known.order.targets.iter();
        targets.any(|target| {
            let mut except = target.except.iter();
            target.scope.reaches(&target.name, name)
                && !except.any(|except| except.scope.reaches(&except.name, name))
        })
    });
    let idle = all.map(|known| Idle {
        state: known.life.state(at),
        pause: known.life.pause(at).cloned(),
        order: known.order.clone(),
    });
    idle.filter(|idle| idle.state != State::InForce).collect()
}

/// The rules of a list that match, the weightiest first, each with its first line. Neither lines
/// nor rules that others make needless are kept in memory: the file is read again.
fn matching(list: &List, rails: &Rails, name: &Name, left_out: &mut Vec<String>) -> Vec<Rule> {
    let octets = match list.content {
        Content::Embedded(text) => text.as_bytes().to_vec(),
        Content::File => regular::read(&list.source.path, MAX_FILE).unwrap_or_default(),
    };
    // By weight: a file may have the same rule millions of times.
    let (mut found, mut account) = (BTreeMap::new(), Account::default());
    let (wards, guarded) = (rails.wards(), Guarded::from(list));
    parse::read(&octets, list.into(), |owner, scope, line| {
        if scope.reaches(owner, name) && account.admits(wards, guarded, owner, scope, line) {
            let weight = scope.weight();
            let rule = || (line, scope, owner.clone());
            found
                .entry((Reverse(owner.label_count()), weight))
                .or_insert_with(rule);
        }
    });
    let place = format!("{}: {}", list.source.name, list.source.path.shown());
    left_out.extend(account.first.iter().map(|left| {
        let (line, rule, why) = (left.line, &left.rule, &left.why);
        format!("{place}:{line}: {rule}: it {why}")
    }));
    let rule = |(line, scope, owner): (u32, Scope, Name)| Rule {
        line: Some(line),
        ..Rule::of(&list.source, &owner, scope)
    };
    found.into_values().map(rule).collect()
}

fn name(text: &str) -> Result<Name, String> {
    match typed::one(text) {
        Ok((name, None)) => Ok(name),
        Ok((_, Some(_))) => Err("ask about one name, without a leading dot or `*.`".to_owned()),
        Err(bad) => Err(bad.to_string()),
    }
}

fn rtype(text: &str) -> Result<RecordType, String> {
    let upper = text.to_ascii_uppercase();
    let number = upper.strip_prefix("TYPE").unwrap_or(&upper).parse::<u16>();
    match number {
        Ok(number) => Ok(RecordType::from(number)),
        Err(_) => RecordType::from_str(&upper)
            .map_err(|_| "must be a record type such as A, AAAA, HTTPS or TYPE65".to_owned()),
    }
}
