//! The format of log lines: text or JSON, and the priorities for journald.

use std::fmt;

use jiff::Timestamp;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::{Format, Full, Writer, debug_fn};
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::config::log::LogFormat;
use crate::config::shown::{Shown, escape};
use crate::wire::text::steers;

/// The format of the lines. Under journald, which records the time itself, they have no time and begin with their priority,
/// see sd-daemon(3).
pub(super) struct Lines {
    body: Body,
    is_journald: bool,
}

enum Body {
    Text(Format<Full, SystemTime>),
    TextWithoutTime(Format<Full, ()>),
    Json,
}

impl Lines {
    pub(super) fn new(format: LogFormat, is_journald: bool) -> Self {
        let text = Format::default().with_target(false);
        let body = match (format, is_journald) {
            (LogFormat::Text, false) => Body::Text(text),
            (LogFormat::Text, true) => Body::TextWithoutTime(text.without_time()),
            (LogFormat::Json, _) => Body::Json,
        };
        Self { body, is_journald }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if self.is_journald {
            write!(writer, "<{}>", priority(*event.metadata().level()))?;
        }
        match &self.body {
            Body::Text(text) => text.format_event(context, writer, event),
            Body::TextWithoutTime(text) => text.format_event(context, writer, event),
            Body::Json => json(event, !self.is_journald, writer),
        }
    }
}

/// The priority of syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// Formats an event as an object: `time`, `level`, and the event's fields, of which `message` is one.
fn json(event: &Event<'_>, has_time: bool, mut writer: Writer<'_>) -> fmt::Result {
    let mut fields = Fields(Map::new());
    if has_time {
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

/// Formats the fields of an event on one line, otherwise like `tracing_subscriber`.
pub(super) fn fields() -> impl for<'w> FormatFields<'w> + Send + Sync + 'static {
    debug_fn(field).delimited(" ")
}

fn field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let value = Shown::new(format!("{value:?}"));
    match field.name() {
        "message" => write!(writer, "{value}"),
        name if writer.has_ansi_escapes() => {
            write!(writer, "\u{1b}[3m{name}\u{1b}[0m\u{1b}[2m=\u{1b}[0m{value}")
        }
        name => write!(writer, "{name}={value}"),
    }
}
