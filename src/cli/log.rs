//! The server's log: its level, its format, and the line prefixes of service managers.

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::plain;
use crate::config::shown::escape;
use crate::daemon::LogOutput;
use crate::wire::text::steers;

/// The default level.
const DEFAULT: &str = "info";
const VARIABLE: &str = "RUST_LOG";

#[derive(Debug, Default, Args)]
pub(super) struct LogArgs {
    /// Log this level and more severe ones. Without this option, the variable RUST_LOG sets the level, or a filter such
    /// as info,tapis::control=debug. If it is not set either, the level is info.
    #[arg(long, value_enum, value_name = "LEVEL")]
    log_level: Option<LogLevel>,
    /// Log in this format: lines of text, or a JSON object on each line.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    #[default]
    Text,
    Json,
}

impl LogArgs {
    /// Whether each line of standard error must have the format of the log.
    pub(super) fn is_for_programs(&self) -> bool {
        self.log_format == LogFormat::Json || is_journald()
    }
}

/// Sends the log to standard error. Under journald, which records the time itself, lines have no time and begin with
/// their priority, see sd-daemon(3).
pub(super) fn start(args: &LogArgs) {
    let (filter, problem) = filter(args.log_level);
    let started = LogOutput::start();
    let journald = is_journald();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(args.log_format == LogFormat::Text && io::stderr().is_terminal())
        .with_writer(|| LogOutput)
        // Internal errors are written to standard error with a macro that panics if that fails.
        .log_internal_errors(false)
        .fmt_fields(plain::fields());
    let text = Format::default().with_target(false);
    match (args.log_format, journald) {
        (LogFormat::Text, false) => builder.event_format(text).init(),
        (LogFormat::Text, true) => builder
            .event_format(Prioritised(text.without_time()))
            .init(),
        (LogFormat::Json, false) => builder.event_format(Json { time: true }).init(),
        (LogFormat::Json, true) => builder
            .event_format(Prioritised(Json { time: false }))
            .init(),
    }
    if let Err(error) = started {
        tracing::warn!(%error, "no thread for the log: a slow reader of standard error can block the server");
    }
    if let Some(problem) = problem {
        tracing::warn!("{VARIABLE} can't be read, so level {DEFAULT} is logged: {problem}");
    }
}

/// The filter, and the error if the variable has an invalid one.
fn filter(level: Option<LogLevel>) -> (EnvFilter, Option<String>) {
    let level = level.map(|level| match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    });
    let variable = std::env::var_os(VARIABLE).unwrap_or_default();
    if level.is_some() || variable.is_empty() {
        return (EnvFilter::new(level.unwrap_or(DEFAULT)), None);
    }
    match EnvFilter::try_new(variable.to_string_lossy()) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(DEFAULT), Some(error.to_string())),
    }
}

/// Whether standard error is the stream that the service manager connected to journald. The presence of the variable
/// JOURNAL_STREAM does not show this: a parent process may have set it for another standard error.
fn is_journald() -> bool {
    let Ok(stderr) = io::stderr().as_fd().try_clone_to_owned() else {
        return false;
    };
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let meta = File::from(stderr).metadata();
    meta.is_ok_and(|meta| stream == format!("{}:{}", meta.dev(), meta.ino()))
}

/// Puts the priority of syslog(3) before each line.
struct Prioritised<F>(F);

impl<S, N, F> FormatEvent<S, N> for Prioritised<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        self.0.format_event(context, writer, event)
    }
}

fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// Formats an event as an object: `time`, `level`, and the event's fields, of which `message` is one.
struct Json {
    time: bool,
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields(Map::new());
        if self.time {
            fields.insert("time", format!("{:.6}", Timestamp::now()).into());
        }
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        fields.insert("level", level.into());
        event.record(&mut fields);
        for c in Value::Object(fields.0).to_string().chars() {
            match steers(c) {
                true => escape(c, &mut writer)?,
                false => fmt::Write::write_char(&mut writer, c)?,
            }
        }
        fmt::Write::write_char(&mut writer, '\n')
    }
}

struct Fields(Map<String, Value>);

impl Fields {
    fn insert(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.insert(field.name(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field.name(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field.name(), value.into());
    }
}
