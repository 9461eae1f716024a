//! `tapis cache`: shows the cache of the running server, and removes answers from it.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::answer_text::print_records;
use super::failure::Failure;
use super::plain::print_json;
use super::server::{self, ControlArgs};
use crate::config::shown::counted;
use crate::control::admin::caching::{
    CacheShown, CacheStats, CachedAnswer, FlushReport, FlushRequest, FlushScope, ShowRequest,
};
use crate::wire::name::Name;

#[derive(Debug, Args)]
pub(super) struct CacheArgs {
    #[command(subcommand)]
    verb: CacheVerb,
}

#[derive(Debug, Subcommand)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is only one value, the arguments of this run"
)]
enum CacheVerb {
    /// Show how full the cache is, and how often it had the answer.
    Stats(StatsArgs),
    /// Show the answers of upstream in which a name occurs, also as the target of a CNAME record.
    ///
    /// The policy is applied when an answer is used, so blocked names may be shown. Exit code 1 when there is no answer.
    Show(ShowArgs),
    /// Remove answers, so that upstream is asked again.
    ///
    /// Removed are the answers in which the name occurs, also as the target of a CNAME record, and remembered failures. Answers
    /// that are on their way are not kept. The removal is logged with the user.
    Flush(FlushArgs),
}

#[derive(Debug, Args)]
struct StatsArgs {
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ShowArgs {
    #[command(flatten)]
    control: ControlArgs,
    /// The name. IDNs can be written in Unicode.
    #[arg(value_parser = super::why::name)]
    name: Name,
    /// The record type: A, AAAA, HTTPS, TYPE65, ... The default is all types.
    #[arg(value_name = "TYPE", value_parser = super::why::rtype)]
    rtype: Option<u16>,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false, args = ["name", "zone", "all"])]
struct FlushArgs {
    #[command(flatten)]
    control: ControlArgs,
    /// The name. IDNs can be written in Unicode.
    #[arg(value_parser = super::why::name)]
    name: Option<Name>,
    /// A name and all names below it.
    #[arg(long, value_name = "NAME", value_parser = super::why::name)]
    zone: Option<Name>,
    /// All names.
    #[arg(long)]
    all: bool,
    /// Only the answers to queries for this type.
    #[arg(long = "type", value_name = "TYPE", value_parser = super::why::rtype)]
    rtype: Option<u16>,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(
    config: Option<&PathBuf>,
    args: &CacheArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    match &args.verb {
        CacheVerb::Stats(args) => stats(config, args, out),
        CacheVerb::Show(args) => show(config, args, out),
        CacheVerb::Flush(args) => flush(config, args, out),
    }
}

fn stats(config: Option<&PathBuf>, args: &StatsArgs, out: &mut impl Write) -> Result<(), Failure> {
    let sockets = args.control.sockets(config)?;
    let stats: CacheStats = server::get(&sockets, "/cache")??;
    if args.json {
        print_json(&stats, out)?;
        return Ok(());
    }
    let CacheStats { bytes, limit, .. } = stats;
    writeln!(
        out,
        "{}, {bytes} of {limit} bytes",
        counted(stats.entries, "answer", "answers")
    )?;
    for (name, count) in [
        ("failures", stats.failures as u64),
        ("hits", stats.hits),
        ("misses", stats.misses),
        ("stale", stats.stale),
        ("prefetched", stats.prefetched),
        ("evictions", stats.evictions),
        ("not_kept", stats.not_kept),
    ] {
        writeln!(out, "{name}: {count}")?;
    }
    Ok(())
}

fn show(config: Option<&PathBuf>, args: &ShowArgs, out: &mut impl Write) -> Result<(), Failure> {
    let request = ShowRequest {
        name: args.name.to_string(),
        rtype: args.rtype,
    };
    let sockets = args.control.sockets(config)?;
    let shown: CacheShown = server::post_short(&sockets, "/cache/show", &request)??;
    if args.json {
        print_json(&shown, out)?;
    } else {
        for cached in &shown.answers {
            print(cached, out)?;
        }
        if shown.more > 0 {
            let more = counted(shown.more, "more answer", "more answers");
            writeln!(out, "and {more}")?;
        }
    }
    if !shown.answers.is_empty() {
        return Ok(());
    }
    if !args.json {
        writeln!(out, "no answer about {} is in the cache", args.name)?;
    }
    Err(Failure::Reported)
}

/// How long an answer is used, in a few words.
pub(super) fn life(cached: &CachedAnswer) -> String {
    match cached.stale_secs {
        None => format!("{} s left", cached.ttl_secs),
        Some(secs) => format!("STALE for {secs} s"),
    }
}

/// The server that sent an answer, and the section that names it.
pub(super) fn source(cached: &CachedAnswer) -> String {
    let server = cached.server.as_deref().unwrap_or("a former server");
    match &*cached.zones {
        [] => format!("{server} of [upstream]"),
        zones => format!("{server} of [[forward]] for {}", zones.join(", ")),
    }
}

fn print(cached: &CachedAnswer, out: &mut impl Write) -> Result<(), Failure> {
    let CachedAnswer {
        name,
        rtype,
        age_secs,
        answer,
        ..
    } = cached;
    let flags = [
        (cached.popular, ", popular"),
        (cached.authentic, ", validated by upstream"),
        (cached.dnssec_ok, ", with DNSSEC records"),
        (cached.checking_disabled, ", without validation"),
    ];
    let flags = flags.into_iter().filter(|(is_set, _)| *is_set);
    let flags: String = flags.map(|(_, text)| text).collect();
    let (rcode, life, source) = (&answer.rcode, life(cached), source(cached));
    writeln!(
        out,
        "{name} {rtype}: {rcode}, {life}, {age_secs} s old, from {source}{flags}"
    )?;
    print_records(answer, "  ", out)?;
    if let Some(sign) = &cached.upstream_block {
        writeln!(out, "  blocked there: {sign}")?;
    }
    Ok(())
}

fn flush(config: Option<&PathBuf>, args: &FlushArgs, out: &mut impl Write) -> Result<(), Failure> {
    let scope = match (&args.name, &args.zone) {
        (Some(name), _) => FlushScope::Name(name.to_string()),
        (None, Some(zone)) => FlushScope::Zone(zone.to_string()),
        (None, None) => FlushScope::All,
    };
    let request = FlushRequest {
        scope,
        rtype: args.rtype,
    };
    let sockets = args.control.sockets(config)?;
    let report: FlushReport = server::post_short(&sockets, "/cache/flush", &request)??;
    if args.json {
        print_json(&report, out)?;
        return Ok(());
    }
    writeln!(
        out,
        "removed {} and {}",
        counted(report.answers, "answer", "answers"),
        counted(report.failures, "failure", "failures")
    )?;
    Ok(())
}
