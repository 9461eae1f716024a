//! A line of the query log.

use std::fmt::Write;
use std::time::SystemTime;

use jiff::Timestamp;
use serde::Serialize;

use crate::recorder::client_text::ClientText;
use crate::recorder::record::Record;
use crate::recorder::servers::ServerAddresses;
use crate::recorder::wall_clock::WallClock;
use crate::serve::client::Transport;
use crate::serve::observe::origin;
use crate::stats::Count;
use crate::wire::presentation::TypeText;

/// A line. Its fields are an interface, which docs/operations.md describes.
#[derive(Serialize)]
struct Line<'l> {
    time: &'l str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<&'l str>,
    transport: &'static str,
    qname: Option<&'l str>,
    qtype: Option<&'l str>,
    rcode: Option<&'l str>,
    outcome: Option<&'static str>,
    from: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'l str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<RuleOfLine<'l>>,
    latency_us: u64,
    bytes: u16,
}

/// The rule that blocked the query.
#[derive(Serialize)]
struct RuleOfLine<'l> {
    kind: &'static str,
    source: &'l str,
    action: &'static str,
    /// The name of the rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'l str>,
}

/// Room for the line of one record, which is written when it is first wanted.
#[derive(Default)]
pub(crate) struct LineRoom {
    servers: ServerAddresses,
    text: String,
    line: Vec<u8>,
}

impl LineRoom {
    /// Room for lines with the addresses of these servers.
    pub(crate) fn new(servers: ServerAddresses) -> Self {
        Self {
            servers,
            ..Self::default()
        }
    }

    /// Begins with another record.
    pub(crate) fn clear(&mut self) {
        self.line.clear();
    }

    /// The line of the record.
    pub(crate) fn line(
        &mut self,
        record: &Record<'_>,
        clock: &WallClock,
        clients: &ClientText,
    ) -> &[u8] {
        if self.line.is_empty() {
            let time = clock.at(record.head.received);
            let number = record.head.upstream;
            let upstream = number.and_then(|number| self.servers.of(number));
            let shown = (clients, upstream);
            write_line(record, time, shown, &mut self.text, &mut self.line);
        }
        &self.line
    }
}

/// Appends the line of a query that was received at `time`, with the address of the upstream server. `text` is room for
/// texts.
fn write_line(
    record: &Record<'_>,
    time: SystemTime,
    (clients, upstream): (&ClientText, Option<&str>),
    text: &mut String,
    lines: &mut Vec<u8>,
) {
    let head = record.head;
    let is_shown = clients.write(head.address, text);
    let client_end = text.len();
    // Writing to a string can't fail.
    let mut part = |value: &dyn std::fmt::Display| {
        let start = text.len();
        let _ = write!(text, "{value}");
        start..text.len()
    };
    let time = Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH);
    let time = part(&format_args!("{time:.3}"));
    let question = record.question();
    let name = question.as_ref().map(|(name, _)| part(name));
    let rtype = question.as_ref().map(|(_, rtype)| part(&TypeText(*rtype)));
    let matched = question
        .as_ref()
        .and_then(|(name, rtype)| record.matched_name(name, *rtype))
        .map(|name| part(&name));
    let rcode = record.rcode().map(|code| part(&Mnemonic(code)));
    let text = &*text;
    let line = Line {
        time: &text[time],
        client: is_shown.then(|| &text[..client_end]),
        transport: transport_word(head.transport),
        qname: name.map(|at| &text[at]),
        qtype: rtype.map(|at| &text[at]),
        rcode: rcode.map(|at| &text[at]),
        outcome: head.outcome.map(Count::name),
        from: origin(head.outcome, record.is_blocked()),
        upstream,
        rule: head.rule.map(|rule| RuleOfLine {
            kind: rule.kind.word(),
            source: record.source(),
            action: rule.action.word(),
            name: matched.map(|at| &text[at]),
        }),
        latency_us: latency(record),
        bytes: head.answer_len,
    };
    // Writing to memory can't fail, and neither can these types.
    let _ = serde_json::to_writer(&mut *lines, &line);
    lines.push(b'\n');
}

fn latency(record: &Record<'_>) -> u64 {
    let took = record
        .head
        .ended
        .saturating_duration_since(record.head.received);
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

/// The name of a transport in records.
fn transport_word(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
    }
}

/// The mnemonic of a response code.
struct Mnemonic(u16);

impl std::fmt::Display for Mnemonic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = match self.0 {
            0 => "NOERROR",
            1 => "FORMERR",
            2 => "SERVFAIL",
            3 => "NXDOMAIN",
            4 => "NOTIMP",
            5 => "REFUSED",
            6 => "YXDOMAIN",
            9 => "NOTAUTH",
            16 => "BADVERS",
            code => return write!(f, "RCODE{code}"),
        };
        f.write_str(word)
    }
}
