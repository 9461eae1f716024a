//! `tapis query`: has the running server answer one query, and prints the answer and how it came about.

use std::io::{self, Write};
use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::answer_text::{RuleText, print_records, print_rule};
use super::cache::{life, source};
use super::failure::Failure;
use super::plain::print_json;
use super::server::{self, ControlArgs};
use crate::config::shown::Shown;
use crate::control::admin::querying::{
    ClientAnswer, QueryReport, QueryRequest, QueryTransport, UpstreamPart,
};
use crate::control::inspect::explain::source_label;
use crate::wire::name::Name;

#[derive(Debug, Args)]
pub(super) struct QueryArgs {
    #[command(flatten)]
    control: ControlArgs,
    /// The name. IDNs can be written in Unicode.
    #[arg(value_parser = super::why::name)]
    name: Name,
    /// The record type: A, AAAA, HTTPS, TYPE65, ...
    #[arg(value_name = "TYPE", default_value = "A", value_parser = super::why::rtype)]
    rtype: u16,
    /// Answer as for this client. The default is any client that may query.
    #[arg(long, value_name = "IP")]
    client: Option<IpAddr>,
    /// Answer as over this transport: over UDP, long answers are truncated.
    #[arg(long, value_enum, value_name = "TRANSPORT", default_value_t = Over::Udp)]
    transport: Over,
    /// Ask for DNSSEC records.
    #[arg(long)]
    dnssec: bool,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Over {
    Udp,
    Tcp,
}

pub(super) fn run(
    config: Option<&PathBuf>,
    args: &QueryArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let request = QueryRequest {
        name: args.name.to_string(),
        rtype: args.rtype,
        client: args.client,
        transport: match args.transport {
            Over::Udp => QueryTransport::Udp,
            Over::Tcp => QueryTransport::Tcp,
        },
        dnssec: args.dnssec,
    };
    let sockets = args.control.sockets(config)?;
    let report: QueryReport = server::post(&sockets, "/query", &request)??;
    match args.json {
        true => print_json(&report, out)?,
        false => print(&report, out)?,
    }
    match &report.answer {
        Some(ClientAnswer { answer, .. }) if matches!(&*answer.rcode, "NOERROR" | "NXDOMAIN") => {
            Ok(())
        }
        _ => Err(Failure::Reported),
    }
}

fn print(report: &QueryReport, out: &mut impl Write) -> io::Result<()> {
    let rcode = match &report.answer {
        Some(answer) => &*answer.answer.rcode,
        None => "no answer",
    };
    let QueryReport { name, rtype, .. } = report;
    writeln!(out, "{name} {rtype}: {rcode}, {}", decision(report))?;
    if let Some(answer) = &report.answer {
        writeln!(
            out,
            "  flags {}, {} bytes",
            answer.flags.join(" "),
            answer.bytes
        )?;
        print_records(&answer.answer, "    ", out)?;
        for (section, records) in [
            ("authority", &answer.authority),
            ("additional", &answer.additional),
        ] {
            for record in records {
                writeln!(out, "    {} ({section})", Shown::new(&**record))?;
            }
        }
    }
    for rule in &report.rules {
        let text = RuleText {
            rule: &rule.trigger.to_string(),
            kind: rule.kind,
            source: &rule.source,
            path: &rule.path,
            line: None,
            role: Some(rule.role),
            more: &mut rule.records.iter(),
        };
        print_rule(text, out)?;
    }
    for part in &report.upstream {
        writeln!(out, "  upstream: {}", upstream(part))?;
    }
    for note in &report.notes {
        writeln!(out, "  note: {note}")?;
    }
    let (took, client) = (milliseconds(report.took_us), report.client);
    let transport = match report.transport {
        QueryTransport::Udp => "UDP",
        QueryTransport::Tcp => "TCP",
    };
    let generation = report.generation;
    writeln!(
        out,
        "  in {took} for {client} over {transport}, by generation {generation}"
    )
}

/// The decision about the query, in a few words.
fn decision(report: &QueryReport) -> String {
    let path = |source: &str| {
        let mut rules = report.rules.iter();
        let rule = rules.find(|rule| rule.source == source)?;
        Some(rule.path.as_path())
    };
    let by = report.by.as_ref();
    let by = by.map(|by| source_label(by, path(by)));
    match (report.from.as_deref(), by) {
        (Some("policy"), by) => format!("blocked by {}", by.unwrap_or_default()),
        (Some(from), Some(by)) => format!("from {from}, allowed by {by}"),
        (Some(from), None) => format!("from {from}"),
        (None, _) => report.outcome.replace('_', " "),
    }
}

fn upstream(part: &UpstreamPart) -> String {
    let waited = part.waited_us.map(milliseconds);
    let Some(cached) = &part.answer else {
        let (name, rtype) = (&part.name, &part.rtype);
        let when = waited.map_or("a moment ago".to_owned(), |waited| {
            format!("within {waited}")
        });
        return format!("{name} {rtype}: no usable answer {when}");
    };
    let (name, rtype, rcode) = (&cached.name, &cached.rtype, &cached.answer.rcode);
    let found = match waited {
        Some(waited) => format!("after {waited}"),
        None => format!("from the cache, {} s old", cached.age_secs),
    };
    let block = cached.upstream_block.as_ref();
    let block = block.map_or(String::new(), |sign| format!(", blocked there: {sign}"));
    let (source, life) = (source(cached), life(cached));
    format!("{name} {rtype}: {rcode} from {source}, {found}, {life}{block}")
}

fn milliseconds(micros: u64) -> String {
    format!("{:.1} ms", micros as f64 / 1e3)
}
