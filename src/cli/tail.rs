//! `tapis tail`: prints the queries of the running server as it finishes them.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use serde::Deserialize;

use super::failure::Failure;
use super::plain::Plain;
use super::server::{self, ControlArgs};
use crate::config::shown::{Shown, counted};
use crate::control::recording::{TailEvent, TailRequest};

#[derive(Debug, Args)]
pub(super) struct TailArgs {
    #[command(flatten)]
    control: ControlArgs,
    /// Only queries for this name.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Only queries for this name and all names below it.
    #[arg(long, value_name = "NAME", conflicts_with = "name")]
    zone: Option<String>,
    /// Only queries of this client: an address, a network, or, if clients are hashed, a hash. Clients that are shown by
    /// their network are chosen by their network.
    #[arg(long, value_name = "CLIENT")]
    client: Option<String>,
    /// Only blocked queries.
    #[arg(long)]
    blocked: bool,
    /// End after this many queries.
    #[arg(short = 'n', long, value_name = "N")]
    count: Option<u64>,
    /// Print the lines of JSON that the query log has, for programs; and {"missing":N} where N queries are missing.
    #[arg(long)]
    json: bool,
}

/// A line of the stream.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Event(TailEvent),
    Query(Box<QueryLine>),
}

/// The parts of a line of the query log that are printed.
#[derive(Deserialize)]
struct QueryLine {
    time: String,
    client: Option<String>,
    transport: String,
    qname: Option<String>,
    qtype: Option<String>,
    rcode: Option<String>,
    from: Option<String>,
    upstream: Option<String>,
    rule: Option<RuleOfLine>,
    latency_us: u64,
}

#[derive(Deserialize)]
struct RuleOfLine {
    kind: String,
    source: String,
    action: String,
    name: Option<String>,
}

pub(super) fn run(
    config: Option<&PathBuf>,
    args: &TailArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    if args.count == Some(0) {
        return Ok(());
    }
    let sockets = args.control.sockets(config)?;
    let request = TailRequest {
        name: args.name.clone(),
        zone: args.zone.clone(),
        client: args.client.clone(),
        blocked: args.blocked,
    };
    let mut printer = Printer {
        out,
        json: args.json,
        left: args.count,
        text: Vec::new(),
        result: None,
    };
    let take = |part: &[u8]| printer.take(part);
    let ended = server::download(&sockets, "/tail", &request, take)?;
    match (printer.result, ended) {
        (Some(result), _) => result,
        (None, Err(error)) => Err(error.into()),
        (None, Ok(_)) => Err(Failure::Other("the server ended the stream".into())),
    }
}

/// Prints a stream.
struct Printer<'o, O> {
    out: &'o mut O,
    json: bool,
    /// The queries that are still to be printed.
    left: Option<u64>,
    /// The start of a line.
    text: Vec<u8>,
    /// How the stream ended.
    result: Option<Result<(), Failure>>,
}

impl<O: Write> Printer<'_, O> {
    /// Prints the lines of a part. An error ends the stream.
    fn take(&mut self, part: &[u8]) -> io::Result<()> {
        self.text.extend_from_slice(part);
        let text = std::mem::take(&mut self.text);
        let mut rest = &*text;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let line = &rest[..end];
            rest = &rest[end + 1..];
            if let Err(result) = self.line(line) {
                self.result = Some(result);
                return Err(io::ErrorKind::Interrupted.into());
            }
        }
        self.text = rest.to_vec();
        Ok(())
    }

    /// Prints a line. An error has the result of the verb.
    fn line(&mut self, line: &[u8]) -> Result<(), Result<(), Failure>> {
        if line.is_empty() {
            return Ok(());
        }
        let parsed: Line = serde_json::from_slice(line).map_err(|error| Err(error.into()))?;
        let printed = match &parsed {
            Line::Event(TailEvent::End(why)) => {
                // If standard error is closed, the result is the same.
                let _ = writeln!(Plain(io::stderr()), "tapis: ended: {}", Shown::new(&**why));
                return Err(Ok(()));
            }
            _ if self.json => self.out.write_all(line).and_then(|()| writeln!(self.out)),
            Line::Event(TailEvent::Missing(count)) => {
                let missing = counted(*count, "query is", "queries are");
                writeln!(self.out, "... {missing} missing here ...")
            }
            Line::Query(query) => print(query, self.out),
        };
        printed
            .and_then(|()| self.out.flush())
            .map_err(|error| Err(error.into()))?;
        if let (Line::Query(_), Some(left)) = (&parsed, &mut self.left) {
            *left -= 1;
            if *left == 0 {
                return Err(Ok(()));
            }
        }
        Ok(())
    }
}

fn print(query: &QueryLine, out: &mut impl Write) -> io::Result<()> {
    let or = |text: &Option<String>, other: &str| text.as_deref().unwrap_or(other).to_owned();
    let question = match (&query.qname, &query.qtype) {
        (Some(name), Some(rtype)) => format!("{name} {rtype}"),
        _ => "unreadable query".to_owned(),
    };
    let rule = query.rule.as_ref().map_or_else(String::new, |rule| {
        let name = rule.name.as_ref().map(|name| format!(" of {name}"));
        let RuleOfLine {
            kind,
            source,
            action,
            ..
        } = rule;
        format!(", {action} by {kind} {source}{}", name.unwrap_or_default())
    });
    let upstream = query.upstream.as_ref();
    let server = upstream.map_or_else(String::new, |server| format!(" {server}"));
    writeln!(
        out,
        "{} {} {} {question}: {} from {}{server}{rule}, {} us",
        query.time,
        or(&query.client, "-"),
        query.transport,
        or(&query.rcode, "no answer"),
        or(&query.from, "server"),
        query.latency_us
    )
}
