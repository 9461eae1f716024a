//! `tapis status`: prints the state of the running server.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use super::plain::print_json;
use super::server::{self, ControlArgs};
use super::{feed, list_summary, log, reload};
use crate::config::paths;
use crate::config::shown::{Show, counted};
use crate::control::admin::status::{BadLine, ListHealth, ListStatus, PauseStatus, Status};
use crate::control::gauges::{DiscoveryStatus, LogSource, SinkReport};
use crate::control::recording::TopReport;
use crate::control::sources::feeds::report::FeedReport;

/// The most forwarded zones of a server that are printed.
const MOST_ZONES: usize = 3;
/// The entries of each top list that are printed.
const TOP_ENTRIES: usize = 3;

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(
    config: Option<&PathBuf>,
    args: &StatusArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let sockets = args.control.sockets(config)?;
    let status: Status = server::get(&sockets, "/status")??;
    if args.json {
        print_json(&status, out)?;
        return exit_code(&status);
    }
    let Status {
        version,
        pid,
        started_at,
        generation,
        published_at,
        ..
    } = &status;
    writeln!(out, "tapis {version}, process {pid}, since {started_at:.0}")?;
    writeln!(
        out,
        "generation {generation}, in force since {published_at:.0}"
    )?;
    for list in &status.lists {
        if let Some(PauseStatus {
            pause,
            would_have_blocked,
        }) = &list.paused
        {
            let (section, name) = (paths::section(&list.path), &list.name);
            let queries = counted(*would_have_blocked, "query", "queries");
            writeln!(
                out,
                "{section} {name}: PAUSED {pause}, it would have blocked {queries}"
            )?;
        }
    }
    for address in &status.gauges.listen {
        writeln!(out, "listening on {address} (UDP, TCP)")?;
    }
    for address in &status.gauges.metrics {
        writeln!(out, "metrics on http://{address}/metrics")?;
    }
    for server in &status.gauges.upstream {
        let unanswered = match server.unanswered {
            0 => None,
            1 => Some("no answer to its last query".to_owned()),
            count => Some(format!("no answer to its last {count} queries")),
        };
        let latency = server.latency_ms.map(|ms| format!("{ms:.1} ms"));
        let mut state: Vec<String> = latency.into_iter().chain(unanswered).collect();
        state.extend((!server.edns).then(|| "no EDNS".to_owned()));
        state.extend(
            server
                .encrypted
                .then(|| format!("over {}", server.transport.to_uppercase())),
        );
        let has_no_case = !server.random_case && !server.encrypted;
        state.extend(has_no_case.then(|| "no random case".to_owned()));
        state.extend(server.troubles());
        state.extend((server.blocks > 0).then(|| {
            let answers = counted(server.blocks, "answer", "answers");
            format!("{answers} blocked by it")
        }));
        if state.is_empty() {
            state.push("not asked yet".to_owned());
        }
        let zones = match &*server.zones {
            [] => String::new(),
            zones => format!(" for {}", listed(zones)),
        };
        let (address, state) = (server.address, state.join(", "));
        writeln!(out, "upstream {address}{zones}: {state}")?;
    }
    for found in &status.gauges.discovery {
        writeln!(out, "discovery: {}", discovered(found))?;
    }
    let landlock = &status.gauges.landlock;
    if let Some(why) = &landlock.unavailable {
        writeln!(out, "Landlock: not in force: {why}")?;
    } else if landlock.in_force {
        let below = landlock.below.iter().map(|path| path.shown().to_string());
        let below = below.collect::<Vec<_>>().join(", ");
        writeln!(out, "Landlock: writes only below {below}")?;
    }
    if let Some(level) = &status.gauges.log
        && level.source == LogSource::Verb
    {
        writeln!(out, "log level: {}", log::shown(level))?;
    }
    if let Some(log) = &status.gauges.recording.query_log {
        print_sink("query log", log, out)?;
    }
    if let Some(tap) = &status.gauges.recording.dnstap {
        print_sink("dnstap to", tap, out)?;
    }
    if let Some(top) = &status.gauges.recording.top {
        print_top(top, out)?;
    }
    for list in &status.lists {
        let feed = status.feeds.iter().find(|feed| feed.name == list.name);
        print_list(list, feed, out)?;
    }
    for (state, count) in &status.orders.states {
        writeln!(out, "orders {state}: {count}")?;
    }
    if status.orders.exceptions > 0 {
        writeln!(out, "exceptions: {}", status.orders.exceptions)?;
    }
    for id in &status.orders.overdue_reviews {
        writeln!(out, "order {id}: its review is overdue")?;
    }
    for warning in &status.orders.warnings {
        writeln!(out, "note: {warning}")?;
    }
    reload::print_restart_keys(&status.restart, out)?;
    for alarm in &status.alarms {
        writeln!(out, "ALARM {alarm}")?;
    }
    let cache = &status.gauges;
    writeln!(
        out,
        "cache: {}, {}",
        counted(cache.cache_entries, "answer", "answers"),
        counted(cache.cache_octets, "byte", "bytes")
    )?;
    for (name, count) in cache
        .counters
        .iter()
        .filter(|(_, count)| count.as_u64() != Some(0))
    {
        writeln!(out, "{name}: {count}")?;
    }
    exit_code(&status)
}

/// The first zones, and how many others there are.
fn listed(zones: &[String]) -> String {
    let (shown, more) = zones.split_at(zones.len().min(MOST_ZONES));
    let shown = shown.join(", ");
    match more.len() {
        0 => shown,
        count => format!("{shown} and {}", counted(count, "more zone", "more zones")),
    }
}

/// Prints the first entries of the top lists, a line each.
fn print_top(top: &TopReport, out: &mut impl Write) -> io::Result<()> {
    for (what, list) in [
        ("names", &top.names),
        ("blocked names", &top.blocked_names),
        ("clients", &top.clients),
        ("sources", &top.sources),
    ] {
        let entries = list.entries.iter().take(TOP_ENTRIES);
        let entries = entries.map(|entry| format!("{} ({})", entry.text, entry.count));
        let entries = entries.collect::<Vec<_>>().join(", ");
        if !entries.is_empty() {
            let seconds = counted(top.seconds, "second", "seconds");
            writeln!(out, "top {what} within {seconds}: {entries}")?;
        }
    }
    Ok(())
}

fn discovered(found: &DiscoveryStatus) -> String {
    let server = found.server;
    match (&found.encrypted, &found.problem) {
        (Some(encrypted), None) => format!("{encrypted} is asked in place of {server}"),
        (Some(encrypted), Some(problem)) => format!(
            "{encrypted} is asked in place of {server}, which does not confirm it: {problem}"
        ),
        (None, Some(problem)) => format!("{server} is asked in clear: {problem}"),
        (None, None) => format!("{server} is asked in clear until the first check ends"),
    }
}

fn print_sink(what: &str, sink: &SinkReport, out: &mut impl Write) -> io::Result<()> {
    let recorded = counted(sink.recorded, "query", "queries");
    let others = [
        ("dropped", sink.dropped),
        ("lost", sink.lost),
        ("not in the sample", sink.sampled_out),
    ];
    let others = others.into_iter().filter(|(_, count)| *count > 0);
    let others: String = others
        .map(|(how, count)| format!(", {count} {how}"))
        .collect();
    writeln!(out, "{what} {}: {recorded}{others}", sink.target)
}

/// Prints the numbers of a list, how its zone is transferred if it is a feed, and its first lines or rules with problems.
pub(super) fn print_list(
    list: &ListStatus,
    feed: Option<&FeedReport>,
    out: &mut impl Write,
) -> io::Result<()> {
    let section = paths::section(&list.path);
    let bad: u32 = list.bad.iter().map(|bad| bad.count).sum();
    let left_out: u32 = list.left_out.iter().map(|left| left.count).sum();
    // A list that must be enforced completely should have no bad lines.
    let unenforced = list.whole && bad > 0;
    let state = match list.state {
        ListHealth::Missing => "MISSING, none of its rules is in force".to_owned(),
        ListHealth::Current | ListHealth::Held => in_force(list, bad, left_out, unenforced),
    };
    writeln!(out, "{section} {}: {state}", list.name)?;
    if let Some(feed) = feed {
        writeln!(out, "  {}", feed::summary(feed))?;
    }
    if let Some(download) = &list.download {
        writeln!(out, "  {}", list_summary::download(download))?;
    }
    if unenforced {
        for line in &list.first_bad {
            let BadLine {
                line,
                text,
                problem,
            } = line;
            writeln!(out, "  {}: {text}: {problem}", paths::at(&list.path, *line))?;
        }
        let more = bad.saturating_sub(list.first_bad.len() as u32);
        if more > 0 {
            let verb = match feed {
                Some(feed) => format!("feed show {}", feed.name),
                None => "check".to_owned(),
            };
            writeln!(
                out,
                "  and {more} more bad; `tapis {verb}` counts them by kind"
            )?;
        }
    }
    for ignored in &list.ignored {
        let lines = counted(ignored.count, "line", "lines");
        writeln!(out, "  {lines} ignored: {}", ignored.reason)?;
    }
    list_summary::print_left_out(
        &list.path,
        list_summary::first(&list.first_left_out, list_summary::SHOWN),
        left_out,
        out,
    )?;
    list_summary::print_warned(
        &list.path,
        list_summary::first(&list.first_warned, list_summary::SHOWN),
        list.warned,
        out,
    )
}

/// The numbers of a list that has rules in force, and which version these are of.
fn in_force(list: &ListStatus, bad: u32, left_out: u32, unenforced: bool) -> String {
    let state = match (list.state, list.held_as) {
        (_, Some(generation)) => {
            let newer = match list.state {
                ListHealth::Held => ", and a newer version waits",
                _ => "",
            };
            format!(", HELD as in generation {generation} by the rollback{newer}")
        }
        (ListHealth::Held, None) => ", HELD at its last good state".to_owned(),
        (_, None) => String::new(),
    };
    let left = match left_out {
        0 => String::new(),
        count => format!(", {count} left out"),
    };
    let warned = match list.warned {
        0 => String::new(),
        count => {
            let rules = counted(count, "rule may be a mistake", "rules may be mistakes");
            format!(", WARNING: {rules}")
        }
    };
    let format = match list.detected {
        None => String::new(),
        Some(detected) => format!(", recognised as {}", detected.format.word()),
    };
    let disabled = match list.disabled {
        false => String::new(),
        true => {
            let queries = counted(list.hits.unwrap_or(0), "query", "queries");
            format!(", DISABLED: it would have blocked {queries}")
        }
    };
    let paused = match list.paused {
        None => "",
        Some(_) => ", PAUSED",
    };
    format!(
        "{}, {}{}{left}{warned}{format}{disabled}{paused}{state}",
        counted(list.rules, "rule", "rules"),
        if unenforced { "WARNING: " } else { "" },
        paths::bad(&list.path, bad)
    )
}

fn exit_code(status: &Status) -> Result<(), Failure> {
    match status.degraded {
        true => Err(Failure::Reported),
        false => Ok(()),
    }
}
