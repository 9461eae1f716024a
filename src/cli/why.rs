//! Owns `tapis why`: what happens to a name, by which rules, in which lines of which files.
//! Refuses to guess: the answer is made by the same code that serves.

use std::fs;
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
use serde::Serialize;

use super::{Failure, read_config};
use crate::config::{Config, Content, List};
use crate::control::load::load;
use crate::control::{compose, lists};
use crate::policy::rule::{Kind, Scope};
use crate::policy::snapshot::{Decision, Layer, Matched, Snapshot};
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
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Explanation {
    name: String,
    r#type: String,
    client: Option<IpAddr>,
    /// `blocked`, `allowed`, `local`, `refused` or `upstream`.
    decision: &'static str,
    /// Every rule that matches; if the decision is `blocked` or `allowed`, by the first one.
    rules: Vec<Rule>,
    /// Nothing when upstream is asked, or when the answer is silence.
    answer: Option<Answer>,
    /// Lists whose files are not taken, so that their rules are missing above.
    left_out: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Rule {
    list: String,
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
    let mut left_out = Vec::new();
    let mut layers = Vec::new();
    for list in &config.lists {
        match load(list, None, false) {
            Ok(loaded) => layers.push(Layer {
                source: Arc::new(list.source.clone()),
                rules: loaded.rules,
            }),
            Err(refusal) => left_out.push(format!("{}: {refusal}", list.source.name)),
        }
    }
    let mut snapshot = compose::snapshot(config, layers, 1);
    if args.client.is_none() {
        let everybody = [Ipv4Net::default().into(), Ipv6Net::default().into()];
        snapshot.clients = everybody.iter().collect();
    }
    let (decision, answer) = ask(&snapshot, args)?;
    let rules = snapshot.explain(&args.name);
    let rules = rules
        .iter()
        .map(|matched| rule(config, &args.name, matched));
    Ok(Explanation {
        name: args.name.to_string(),
        r#type: args.rtype.to_string(),
        client: args.client,
        decision,
        rules: rules.collect(),
        answer,
        left_out,
    })
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
        Step::Resolve(..) => return Ok(("upstream", None)),
        Step::Drop(_) => return Ok(("blocked", None)),
        Step::Reply(Count::Blocked) => "blocked",
        Step::Reply(Count::Local | Count::Any) => "local",
        Step::Reply(_) => "refused",
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

fn rule(config: &Config, name: &Name, matched: &Matched<'_>) -> Rule {
    let owner = Name::read(name.ancestor(usize::from(matched.hit.labels)), 0);
    let owner = owner.map_or(Name::ROOT, |(owner, _)| owner);
    let scope = matched.hit.scope;
    let sign = match scope {
        Scope::Exact => "",
        Scope::Subtree => ".",
        Scope::Below => "*.",
    };
    let source = matched.source;
    let list = config
        .lists
        .iter()
        .find(|list| list.source.name == source.name);
    Rule {
        list: source.name.clone(),
        kind: source.kind,
        rule: format!("{sign}{owner}"),
        scope,
        path: source.path.clone(),
        line: list.and_then(|list| line_of(list, &owner, scope)),
    }
}

/// The first line that has the rule. Lines are not kept in memory: the file is read again.
fn line_of(list: &List, owner: &Name, scope: Scope) -> Option<u32> {
    let octets = match list.content {
        Content::Embedded(text) => text.as_bytes().to_vec(),
        Content::File => fs::read(&list.source.path).ok()?,
    };
    let mut found = None;
    lists::read(&octets, list.format, list.scope, |name, rule, line| {
        if found.is_none() && rule == scope && name == owner {
            found = Some(line);
        }
    });
    found
}

fn print(told: &Explanation, out: &mut impl Write) -> Result<(), Failure> {
    let by = told
        .rules
        .first()
        .map_or(String::new(), |rule| match told.decision {
            "blocked" | "allowed" => format!(" by list {}", rule.list),
            _ => String::new(),
        });
    writeln!(out, "{}: {}{by}", told.name, told.decision)?;
    for (index, rule) in told.rules.iter().enumerate() {
        let kind = match rule.kind {
            Kind::Block => "block",
            Kind::Allow => "allow",
        };
        let line = rule.line.map_or(String::new(), |line| format!(":{line}"));
        let decides = index == 0 && matches!(told.decision, "blocked" | "allowed");
        let mark = if decides { "  rule" } else { "  also" };
        let (list, text, path) = (&rule.list, &rule.rule, rule.path.display());
        writeln!(out, "{mark} {text} ({kind}, list {list}, {path}{line})")?;
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

fn name(text: &str) -> Result<Name, String> {
    match lists::one(text) {
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
