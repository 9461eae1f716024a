//! Metrics of the recorder: the query log and dnstap.

use std::fmt;

use super::families::Writer;
use crate::control::gauges::RecordingReport;

/// Writes the figures of the sinks that are on.
pub(super) fn write(recording: &RecordingReport, writer: &mut Writer<'_>) -> fmt::Result {
    let RecordingReport { query_log, dnstap } = recording;
    let sinks = || {
        let sinks = [("query_log", query_log), ("dnstap", dnstap)].into_iter();
        sinks.filter_map(|(name, sink)| Some((name, sink.as_ref()?)))
    };
    let queries = sinks().flat_map(|(name, sink)| {
        let results = [
            ("recorded", sink.recorded),
            ("dropped", sink.dropped),
            ("sampled_out", sink.sampled_out),
            ("lost", sink.lost),
        ];
        results.map(|(result, queries)| ([("sink", name), ("result", result)], queries))
    });
    writer.counters(
        "recorder_queries",
        "Queries that a sink recorded, and others by the reason why it did not.",
        None,
        queries,
    )?;
    writer.counters(
        "recorder_errors",
        "Errors of a sink.",
        None,
        sinks().map(|(name, sink)| ([("sink", name)], sink.errors)),
    )?;
    let problems = sinks().map(|(name, sink)| {
        let has_problem = sink.problem.is_some();
        ([("sink", name)], f64::from(u8::from(has_problem)))
    });
    writer.gauges(
        "recorder_problem",
        "Whether a sink can't record at present.",
        None,
        problems,
    )
}
