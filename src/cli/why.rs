//! Owns `tapis why`: what happens to a name, by which rules, in which lines of which files.
//! Refuses to guess: the answer is made by the same code that serves, by the running server if there is one.

mod server;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use clap::Args;
use hickory_proto::rr::RecordType;
use ipnet::{Ipv4Net, Ipv6Net};
use jiff::Timestamp;
use serde::Serialize;

use self::server::Server;
use super::configuration::Choice;
use super::then::Then;
use super::{ControlArgs, Failure, order, read_config};
use crate::config::exception::Exception;
use crate::config::moment::Moment;
use crate::config::order::Order;
use crate::config::shown::Show;
use crate::config::{Config, Content, List, regular, typed};
use crate::control::guard::account::Account;
use crate::control::guard::rails::Rails;
use crate::control::guard::release::Guards;
use crate::control::guard::wards::Guarded;
use crate::control::load::{MAX_FILE, load};
use crate::control::orders::book::Book;
use crate::control::orders::life::State;
use crate::control::verdict::{Answer, Outcome, Question, Verdict};
use crate::control::{compose, lists};
use crate::daemon;
use crate::policy::image::provenance::ImageSource;
use crate::policy::images::Images;
use crate::policy::rule::{Kind, Scope};
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
    /// As it was at that time, as in 2017-07-20T00:00:00+07:00: by the journal, and before its first
    /// entry by the dates of orders and exceptions alone. What is not known of it is reported.
    #[arg(long, value_name = "TIME")]
    at: Option<Moment>,
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
    name: String,
    r#type: String,
    client: Option<IpAddr>,
    /// The generation of the running server that was asked; `None` where the files were read.
    generation: Option<u64>,
    decision: Outcome,
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
    /// Nothing when upstream is asked, or when the answer is silence.
    answer: Option<Answer>,
    /// What is missing above: lists and orders whose files are not taken, matching rules that guards
    /// leave out, and what nobody knows any more of that time.
    left_out: Vec<String>,
}

/// An order that is not in force.
#[derive(Debug, Serialize)]
struct Idle {
    state: State,
    #[serde(flatten)]
    order: Order,
}

#[derive(Debug, Serialize)]
struct Rule {
    /// The list's name, `order:` and the order's id, or `exception:` and what tells it from others.
    source: String,
    kind: Kind,
    rule: String,
    scope: Scope,
    path: PathBuf,
    /// Its first line in the file.
    line: Option<u32>,
}

pub(super) fn run(choice: &Choice, args: &WhyArgs, out: &mut impl Write) -> Result<(), Failure> {
    let config = read_config(choice.path.as_ref())?;
    let server = match args.offline || args.at.is_some() {
        true => None,
        false => Server::ask(choice, args)?,
    };
    let explanation = match server {
        Some(server) => server.explain(&config, args),
        None => explain(&config, args)?,
    };
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&explanation)?)?;
    } else {
        print(&explanation, out)?;
    }
    Ok(())
}

/// Explains by the files.
fn explain(config: &Config, args: &WhyArgs) -> Result<Explanation, Failure> {
    let at = args.at.map_or_else(Timestamp::now, Moment::at);
    let rails = Rails::read(config);
    let then = match args.at {
        Some(at) => Then::at(config, at.at()),
        None => Then::now(config),
    };
    let book = then.book;
    let mut left_out = then.unknown;
    left_out.extend(book.problems());
    left_out.extend_from_slice(rails.problems());
    let mut sources = book.sources(at);
    let mut images = Vec::new();
    for (list, rules) in then.lists {
        match load(list, &rails, None, Guards::NONE) {
            Ok(fresh) => {
                if let Some(then) = rules.filter(|then| *then != fresh.loaded.rules) {
                    let (name, now) = (&list.source.name, fresh.loaded.rules);
                    left_out.push(format!(
                        "list {name}: {then} of its rules counted then, of which today's guard leaves {now}"
                    ));
                }
                sources.push(Arc::new(list.source.clone()));
                images.push((fresh.image, ImageSource::named(&list.source.name)));
            }
            Err(refusal) => left_out.push(format!("{}: {refusal}", list.source.name)),
        }
    }
    let fresh = images.iter().map(|(image, source)| (image, source.clone()));
    let joined = compose::join(None, |_| false, fresh)?;
    let images = Images {
        base: Some(Arc::new(joined)),
        delta: None,
        orders: book.rules().cloned(),
    };
    let mut snapshot = compose::snapshot(config, sources, images, 1);
    if args.client.is_none() {
        let everybody = [Ipv4Net::default().into(), Ipv6Net::default().into()];
        snapshot.clients = everybody.iter().collect();
    }
    let verdict = daemon::explain(&snapshot, &args.question())?;
    let of_orders = book.matching(&args.name);
    let rules = snapshot.sources().iter().flat_map(|source| {
        let list = config
            .lists
            .iter()
            .find(|list| list.source.name == source.name);
        match list {
            Some(list) => matching(list, &rails, &args.name, &mut left_out),
            None => {
                let rules = of_orders.get(&source.name).into_iter().flatten();
                let rule = |(owner, scope): &(&Name, Scope)| Rule {
                    source: source.name.clone(),
                    kind: source.kind,
                    rule: format!("{}{owner}", scope.sign()),
                    scope: *scope,
                    path: source.path.clone(),
                    line: None,
                };
                rules.map(rule).collect()
            }
        }
    });
    let rules: Vec<_> = rules.collect();
    Ok(conclude(args, &book, at, verdict, rules, left_out))
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
        orders: orders.cloned().collect(),
        idle: idle(book, &args.name, at),
        exceptions: exceptions.cloned().collect(),
        name: args.name.to_string(),
        r#type: args.rtype.to_string(),
        client: args.client,
        generation: None,
        decision: verdict.outcome,
        by: verdict.by,
        rules,
        answer: verdict.answer,
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
    lists::read(&octets, list.into(), |owner, scope, line| {
        if scope.reaches(owner, name) && account.admits(wards, guarded, owner, scope, line) {
            let weight = scope.weight();
            let rule = || (line, scope, owner.to_string());
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
    let rule = |(line, scope, owner): (u32, Scope, String)| {
        let sign = scope.sign();
        Rule {
            source: list.source.name.clone(),
            kind: list.source.kind,
            rule: format!("{sign}{owner}"),
            scope,
            path: list.source.path.clone(),
            line: Some(line),
        }
    };
    found.into_values().map(rule).collect()
}

fn print(told: &Explanation, out: &mut impl Write) -> Result<(), Failure> {
    let by = told.by.as_ref();
    let of = by.map_or(String::new(), |by| format!(" by {}", called(by)));
    writeln!(out, "{}: {}{of}", told.name, told.decision)?;
    let mut decided = false;
    for rule in &told.rules {
        let kind = match rule.kind {
            Kind::Block => "block",
            Kind::Allow => "allow",
            Kind::Order => "order",
            Kind::Exception => "exception",
        };
        let line = rule.line.map_or(String::new(), |line| format!(":{line}"));
        let decides = !decided && by == Some(&rule.source);
        decided |= decides;
        let mark = if decides { "  rule" } else { "  also" };
        let (source, text, path) = (called(&rule.source), &rule.rule, rule.path.shown());
        writeln!(out, "{mark} {text} ({kind}, {source}, {path}{line})")?;
    }
    for order in &told.orders {
        order::brief(order, out)?;
    }
    for Idle { state, order } in &told.idle {
        writeln!(out, "  not in force, {state}:")?;
        order::brief(order, out)?;
    }
    for exception in &told.exceptions {
        let (reason, author) = (&exception.reason, &exception.author);
        let until = exception
            .until
            .map_or(String::new(), |at| format!(", until {at}"));
        let (path, line) = (exception.path.shown(), exception.line);
        writeln!(
            out,
            "  exception ({path}:{line}): {reason}, by {author}{until}"
        )?;
    }
    match &told.answer {
        Some(answer) => {
            writeln!(out, "  answer to {}: {}", told.r#type, answer.rcode)?;
            for record in &answer.records {
                writeln!(out, "    {record}")?;
            }
            for ede in &answer.ede {
                writeln!(out, "    EDE {ede}")?;
            }
        }
        None if told.decision == Outcome::Blocked => writeln!(out, "  no answer is sent")?,
        None if told.decision == Outcome::Allowed => writeln!(out, "  upstream is asked")?,
        None if told.decision == Outcome::Excepted => writeln!(
            out,
            "  upstream is asked; a CNAME in its answer may still lead to a name blocked by a rule that the \
             exception does not override"
        )?,
        None => writeln!(
            out,
            "  upstream is asked; a CNAME in its answer may still lead to a blocked name"
        )?,
    }
    for list in &told.left_out {
        writeln!(out, "  left out: {list}")?;
    }
    if let Some(generation) = told.generation {
        writeln!(out, "  by the running server, generation {generation}")?;
    }
    Ok(())
}

/// What people call a source.
fn called(source: &str) -> String {
    match source.split_once(':') {
        Some((kind @ ("order" | "exception"), name)) => format!("{kind} {name}"),
        _ => format!("list {source}"),
    }
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
