//! Metrics of the policy: generation, images, sources, orders, alarms.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use prometheus_client::registry::Unit;

use super::families::{NONE, Writer};
use crate::config::order::State;
use crate::control::figures::{Figures, HitFigures, SourceFigures};
use crate::stats::ListSums;

/// Gauges of lists and feeds without a unit: the name, the help, the value.
const SOURCE_GAUGES: [(&str, &str, fn(&SourceFigures) -> f64); 4] = [
    (
        "source_in_force",
        "Whether rules of a list or feed are in force.",
        |source| f64::from(u8::from(source.is_in_force)),
    ),
    (
        "source_rules",
        "Rules of a list or feed in force.",
        |source| source.rules as f64,
    ),
    (
        "source_bad_lines",
        "Lines of the version in force that are no rules.",
        |source| source.bad_lines as f64,
    ),
    ("source_alarms", "Alarms about a list or feed.", |source| {
        source.alarms as f64
    }),
];

/// The same in seconds, for sources that have the value.
const SOURCE_SECONDS: [(&str, &str, fn(&SourceFigures) -> Option<f64>); 3] = [
    (
        "source_last_success_timestamp",
        "When the version in force was loaded, since the epoch.",
        |source| source.loaded.map(seconds),
    ),
    (
        "source_load_duration",
        "How long it took to load the version in force.",
        |source| source.loaded.map(|_| source.load_seconds),
    ),
    (
        "source_next_attempt_timestamp",
        "When the servers of a source are asked next, since the epoch.",
        |source| source.next_attempt.map(seconds),
    ),
];

/// Writes the figures of the control plane. `alarms` is the number of alarms of the data plane.
pub(super) fn write(figures: &Figures, alarms: u64, writer: &mut Writer<'_>) -> fmt::Result {
    let (generation, published) = figures.generation;
    writer.gauge(
        "generation",
        "The generation of the policy in force.",
        generation as f64,
    )?;
    writer.gauges(
        "generation_published_timestamp",
        "When that generation came into force, since the epoch.",
        Some(Unit::Seconds),
        [(NONE, seconds(published))],
    )?;
    let images = || figures.images.iter();
    writer.gauges(
        "image_rules",
        "Rules in an image: the compiled rules of lists, those that changed since, and those of orders.",
        None,
        images().map(|image| ([("image", image.name)], image.rules as f64)),
    )?;
    writer.gauges(
        "image_size",
        "Memory of an image.",
        Some(Unit::Bytes),
        images().map(|image| ([("image", image.name)], image.bytes as f64)),
    )?;
    let all = figures.alarms + alarms;
    writer.gauge("alarms", "Alarms that `tapis status` shows.", all as f64)?;
    writer.gauge(
        "restart_needed",
        "Keys of the configuration that changed and need a restart.",
        figures.restart as f64,
    )?;
    write_work(figures, writer)?;
    write_sources(figures, writer)?;
    write_orders(figures, writer)
}

fn write_work(figures: &Figures, writer: &mut Writer<'_>) -> fmt::Result {
    let ago = Timestamp::now().duration_since(figures.at);
    writer.gauges(
        "control_figures_age",
        "Time since the control loop published the figures of the policy; it does so each second.",
        Some(Unit::Seconds),
        [(NONE, ago.as_secs_f64().max(0.0))],
    )?;
    let works = || [("compile", figures.compile), ("publish", figures.publish)];
    writer.counters(
        "policy_runs",
        "Runs of the compiler, and generations that were put in force.",
        None,
        works().map(|(work, figures)| ([("work", work)], figures.runs)),
    )?;
    let total = works().map(|(work, figures)| ([("work", work)], figures.total.as_secs_f64()));
    writer.counters(
        "policy_work",
        "Time of these runs.",
        Some(Unit::Seconds),
        total,
    )?;
    let last = works().map(|(work, figures)| ([("work", work)], figures.last.as_secs_f64()));
    writer.gauges(
        "policy_last_run",
        "Time of the last of these runs.",
        Some(Unit::Seconds),
        last,
    )?;
    let [good, failed] = figures.reloads;
    let reloads = [("success", good), ("failure", failed)];
    let reloads = reloads.map(|(result, reloads)| ([("result", result)], reloads));
    writer.counters(
        "reloads",
        "Reloads on request; those with problems are failures.",
        None,
        reloads,
    )
}

/// Writes the hits of sources.
pub(super) fn write_hits(
    figures: &Figures,
    hits: &ListSums,
    writer: &mut Writer<'_>,
) -> fmt::Result {
    let of = |is_logged_only: bool| {
        let sources = figures.hits.iter();
        let sources = sources.filter(move |source| source.is_logged_only == is_logged_only);
        sources.flat_map(|source| {
            let labels = |action| {
                [
                    ("kind", source.kind),
                    ("source", &*source.name),
                    ("action", action),
                ]
            };
            let by_action = by_action(source, hits).into_iter();
            by_action.map(move |(action, hits)| (labels(action), hits))
        })
    };
    writer.counters(
        "blocked",
        "Queries that a list, a feed or the orders of an authority blocked, by the action.",
        None,
        of(false),
    )?;
    writer.counters(
        "would_block",
        "Queries that a paused list or a disabled feed would have blocked, by the action.",
        None,
        of(true),
    )
}

/// The hits of a source by action: of its own action, and of others that occurred.
fn by_action(source: &HitFigures, hits: &ListSums) -> BTreeMap<&'static str, u64> {
    let own = source.action.word();
    let mut sums = BTreeMap::from([(own, 0)]);
    for &slot in &source.slots {
        match hits.by_action(slot) {
            Some(hits) => {
                for (action, hits) in hits.filter(|(_, hits)| *hits > 0) {
                    *sums.entry(action).or_default() += hits;
                }
            }
            None => *sums.entry(own).or_default() += hits.of(slot),
        }
    }
    sums
}

fn write_sources(figures: &Figures, writer: &mut Writer<'_>) -> fmt::Result {
    let now = Timestamp::now();
    let each = |value: &dyn Fn(&SourceFigures) -> Option<f64>| {
        let sources = figures.sources.iter();
        let samples = sources.filter_map(|source| Some((labels(source), value(source)?)));
        samples.collect::<Vec<_>>()
    };
    let ago = |at: Timestamp| now.duration_since(at).as_secs_f64().max(0.0);
    for (name, help, value) in SOURCE_GAUGES {
        writer.gauges(name, help, None, each(&|source| Some(value(source))))?;
    }
    writer.gauges(
        "source_age",
        "Time since a server sent or confirmed the version in force, or since the file was written.",
        Some(Unit::Seconds),
        each(&|source| source.current_at.map(ago)),
    )?;
    for (name, help, value) in SOURCE_SECONDS {
        writer.gauges(name, help, Some(Unit::Seconds), each(&value))?;
    }
    let ends = figures.sources.iter().flat_map(|source| {
        let [kind, (key, name)] = labels(source);
        let ends = source.certificate_ends.iter();
        ends.map(move |(server, end)| {
            let [kind, name] = [kind, (key, name)].map(|(key, value)| (key, value.to_owned()));
            ([kind, name, ("server", server.to_string())], seconds(*end))
        })
    });
    writer.gauges(
        "source_certificate_not_after_timestamp",
        "When the certificate of a primary ends, since the epoch.",
        Some(Unit::Seconds),
        ends,
    )?;
    let faults = figures.sources.iter().flat_map(|source| {
        let [kind, name] = labels(source);
        let faults = source.faults.iter();
        faults.map(move |(fault, count)| ([kind, name, ("fault", fault)], *count))
    });
    writer.counters(
        "source_faults",
        "Faults of the servers of a downloaded list or a feed.",
        None,
        faults,
    )
}

fn write_orders(figures: &Figures, writer: &mut Writer<'_>) -> fmt::Result {
    let states = State::ALL.map(|state| {
        let number = figures.orders.get(&state).copied().unwrap_or(0);
        (
            [("state", state.to_string().replace(' ', "_"))],
            number as f64,
        )
    });
    writer.gauges("orders", "Orders of authorities by state.", None, states)?;
    writer.gauge(
        "orders_overdue_reviews",
        "Orders in force whose review is overdue.",
        figures.overdue_reviews as f64,
    )?;
    let next = figures.next_change.map(|at| (NONE, seconds(at)));
    writer.gauges(
        "orders_next_change_timestamp",
        "When the next order or exception begins or ends, since the epoch.",
        Some(Unit::Seconds),
        next,
    )?;
    let (in_force, over) = figures.exceptions;
    let exceptions = [("in_force", in_force), ("over", over)];
    let exceptions = exceptions.map(|(state, number)| ([("state", state)], number as f64));
    writer.gauges("exceptions", "The operator's exceptions.", None, exceptions)
}

fn labels(source: &SourceFigures) -> [(&'static str, &str); 2] {
    [("kind", source.kind), ("source", &source.name)]
}

fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1e3
}
