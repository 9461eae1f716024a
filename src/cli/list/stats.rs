//! `tapis list stats`: compares the lists in force.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::cli::failure::Failure;
use crate::cli::plain::print_json;
use crate::cli::server::{self, ControlArgs};
use crate::cli::zones;
use crate::config::shown::counted;
use crate::control::admin::status::{ListStatus, Status};
use crate::policy::overlap::ListOverlap;

#[derive(Debug, Args)]
pub(super) struct StatsArgs {
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

/// The figures of a list. The names of the fields are an interface.
#[derive(Serialize)]
struct Figures<'s> {
    #[serde(flatten)]
    overlap: &'s ListOverlap,
    /// Queries that it blocked since `hits_since`.
    hits: u64,
    hits_since: Option<Timestamp>,
    /// When the rules in force were downloaded; if they were not, when they were read or transferred.
    since: Option<Timestamp>,
}

pub(super) fn run(
    config: Option<&PathBuf>,
    args: &StatsArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let sockets = args.control.sockets(config)?;
    let overlaps: Vec<ListOverlap> = server::post(&sockets, "/overlap", &())??;
    let status = zones::status(&sockets)?;
    let figures: Vec<_> = overlaps
        .iter()
        .map(|overlap| Figures::new(overlap, &status))
        .collect();
    if args.json {
        print_json(&figures, out)?;
        return Ok(());
    }
    if figures.is_empty() {
        writeln!(out, "no list or feed is in force")?;
        return Ok(());
    }
    let lists = figures.iter().map(|list| list.overlap.list.len());
    let width = lists.max().unwrap_or(0).max("list".len());
    writeln!(
        out,
        "{:width$}  {:>9}  {:>9}  {:>9}  {:>9}  age",
        "list", "rules", "shared", "alone", "hits"
    )?;
    for list in &figures {
        let ListOverlap {
            list: name,
            rules,
            shared,
            alone,
            ..
        } = list.overlap;
        let alone = alone.map_or_else(|| "-".to_owned(), |alone| alone.to_string());
        let (hits, age) = (list.hits, list.age());
        writeln!(
            out,
            "{name:width$}  {rules:>9}  {shared:>9}  {alone:>9}  {hits:>9}  {age}"
        )?;
    }
    for list in &figures {
        let notes = list.notes();
        if !notes.is_empty() {
            writeln!(out, "{}: {}", list.overlap.list, notes.join("; "))?;
        }
    }
    if let Some(since) = status.orders.hits_since {
        writeln!(out, "hits are counted since {since:.0}")?;
    }
    Ok(())
}

impl<'s> Figures<'s> {
    fn new(overlap: &'s ListOverlap, status: &Status) -> Self {
        let mut lists = status.lists.iter();
        let list = lists.find(|list| list.name == overlap.list);
        let downloaded =
            |list: &ListStatus| list.download.as_ref().and_then(|download| download.fetched);
        Self {
            overlap,
            hits: list.and_then(|list| list.hits).unwrap_or(0),
            hits_since: status.orders.hits_since,
            since: list.and_then(|list| downloaded(list).or(list.loaded_at)),
        }
    }

    fn age(&self) -> String {
        let age = self.since.map(|since| {
            let secs = Timestamp::now().duration_since(since).as_secs().max(0);
            format!("{:#}", SignedDuration::from_secs(secs))
        });
        age.unwrap_or_else(|| "-".to_owned())
    }

    /// What is not in the table.
    fn notes(&self) -> Vec<String> {
        let ListOverlap {
            rules,
            compared,
            networks,
            patterns,
            ..
        } = *self.overlap;
        let covered = rules.saturating_sub(compared + networks + patterns);
        let mut notes = Vec::new();
        if covered > 0 {
            let rules = counted(covered, "rule is", "rules are");
            notes.push(format!("{rules} covered by others of the list"));
        }
        if patterns > 0 {
            let rules = counted(
                patterns,
                "rule with a pattern is",
                "rules with patterns are",
            );
            notes.push(format!("{rules} not compared"));
        }
        if networks > 0 {
            let rules = counted(networks, "rule on a network is", "rules on networks are");
            notes.push(format!("{rules} not compared"));
        }
        notes
    }
}
