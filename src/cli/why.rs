//! Owns `tapis why`: what happens to a name, by which rules, in which lines of which files.
//! Refuses to guess: the answer is made by the same code that serves.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use clap::Args;
use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{Name as DnsName, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use ipnet::{Ipv4Net, Ipv6Net};
use jiff::Timestamp;
use serde::Serialize;

use super::then::Then;
use super::{Failure, order, read_config};
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
use crate::control::{compose, lists};
use crate::policy::image::provenance::ImageSource;
use crate::policy::images::Images;
use crate::policy::rule::{Kind, Scope, Source};
use crate::policy::snapshot::{Decision, Snapshot};
use crate::serve::cache::Cache;
use crate::serve::respond::{Client, Step, respond};
use crate::stats::Count;
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
    /// entry by the dates of orders and exceptions alone. What is not known of it is told.
    #[arg(long, value_name = "TIME")]
    at: Option<Moment>,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Explanation {
    name: String,
    r#type: String,
    client: Option<IpAddr>,
    /// `blocked`, `allowed`, `excepted`, `local`, `refused` or `upstream`.
    decision: &'static str,
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

#[derive(Debug, Serialize)]
struct Answer {
    rcode: String,
    records: Vec<String>,
    ede: Vec<String>,
}

pub(super) fn run(
    config: Option<&PathBuf>,
    args: &WhyArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let config = read_config(config)?;
    let explanation = explain(&config, args)?;
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&explanation)?)?;
    } else {
        print(&explanation, out)?;
    }
    Ok(())
}

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
                        "list {name}: {then} of its rules counted then, of which the guard of today leaves {now}"
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
    let (decision, answer) = ask(&snapshot, args)?;
    let by = match snapshot.decide(&args.name) {
        Decision::Blocked { by, .. } | Decision::Allowed(by) | Decision::Excepted(by) => {
            Some(by.source.name.clone())
        }
        Decision::Pass => None,
    };
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
    let decides = |source: &&Arc<Source>| rules.iter().any(|rule| rule.source == source.name);
    let deciding = || snapshot.sources().iter().filter(decides);
    Ok(Explanation {
        by: by.filter(|_| matches!(decision, "blocked" | "allowed" | "excepted")),
        orders: deciding()
            .filter_map(|source| book.order(source))
            .cloned()
            .collect(),
        idle: idle(&book, &args.name, at),
        exceptions: deciding()
            .filter_map(|source| book.exception(source))
            .cloned()
            .collect(),
        name: args.name.to_string(),
        r#type: args.rtype.to_string(),
        client: args.client,
        decision,
        rules,
        answer,
        left_out,
    })
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

/// Asks the code that serves.
fn ask(snapshot: &Snapshot, args: &WhyArgs) -> Result<(&'static str, Option<Answer>), Failure> {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    let name = DnsName::read(&mut BinDecoder::new(args.name.wire()))?;
    message.queries.push(Query::query(name, args.rtype));
    let mut edns = Edns::new();
    edns.set_max_payload(crate::wire::UDP_PAYLOAD);
    message.edns = Some(edns);
    let client = Client {
        ip: args.client.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        stream: true,
    };
    let mut out = Vec::new();
    let nothing_known = Cache::new(1 << 20, 0);
    let step = respond(
        0,
        client,
        &message.to_vec()?,
        snapshot,
        &nothing_known,
        &mut out,
    );
    let decision = match step {
        Step::Resolve(..) if matches!(snapshot.decide(&args.name), Decision::Allowed(_)) => {
            return Ok(("allowed", None));
        }
        Step::Resolve(..) if matches!(snapshot.decide(&args.name), Decision::Excepted(_)) => {
            return Ok(("excepted", None));
        }
        // The cache is empty, and nobody else writes to it.
        Step::Resolve(..) | Step::Refresh(_) | Step::Busy => return Ok(("upstream", None)),
        Step::Drop(_) => return Ok(("blocked", None)),
        Step::Reply(tally) => match tally.count {
            Count::Blocked => "blocked",
            Count::Local | Count::Any => "local",
            _ => "refused",
        },
    };
    let reply = Message::from_vec(&out)?;
    let options = reply
        .edns
        .iter()
        .flat_map(|edns| edns.options().as_ref().iter());
    let ede = options.filter_map(|(_, option)| match option {
        EdnsOption::Unknown(15, octets) => octets.split_at_checked(2).map(|(code, text)| {
            let code = u16::from_be_bytes([code[0], code[1]]);
            format!("{code} {}", String::from_utf8_lossy(text))
        }),
        _ => None,
    });
    let answer = Answer {
        rcode: mnemonic(reply.metadata.response_code),
        records: reply.answers.iter().map(ToString::to_string).collect(),
        ede: ede.collect(),
    };
    Ok((decision, Some(answer)))
}

/// The response code as `dig` writes it.
fn mnemonic(code: ResponseCode) -> String {
    match code {
        ResponseCode::NoError => "NOERROR".to_owned(),
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        ResponseCode::NotImp => "NOTIMP".to_owned(),
        ResponseCode::FormErr => "FORMERR".to_owned(),
        other => format!("RCODE{}", u16::from(other)),
    }
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
    lists::read(&octets, list.format, list.scope, |owner, scope, line| {
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
        None if told.decision == "blocked" => writeln!(out, "  no answer is sent")?,
        None if told.decision == "allowed" => writeln!(out, "  upstream is asked")?,
        None if told.decision == "excepted" => writeln!(
            out,
            "  upstream is asked; what the exception does not stand against may still block what a \
             CNAME in its answer leads to"
        )?,
        None => writeln!(
            out,
            "  upstream is asked; a CNAME in its answer may still lead to a blocked name"
        )?,
    }
    for list in &told.left_out {
        writeln!(out, "  left out: {list}")?;
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
