//! The server's log: where it goes, its format, and its level, which can be changed while the server runs.
//!
//! It is global, like standard error.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tracing_subscriber::EnvFilter;

use super::log_format::{Lines, fields};
use super::log_output::LogOutput;
use crate::config::log::{Log, LogFilter, LogFormat};
use crate::control::admin::logging::{LogControl, LogRequest};
use crate::control::gauges::{LogReport, LogSource};

/// The environment variable that sets the level if no argument does.
const VARIABLE: &str = "RUST_LOG";
/// The longest time that a level can be set for.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The level, once the log has started.
static LEVEL: OnceLock<LogLevel> = OnceLock::new();

/// Settings from the command line, which override those of the configuration.
#[derive(Clone, Debug, Default)]
pub struct LogOverrides {
    /// Replaces `[log] level`.
    pub level: Option<LogFilter>,
    /// Replaces `[log] format`.
    pub format: Option<LogFormat>,
}

/// Sends the log to standard error, in the format of the arguments or else of the configuration. Returns whether each line
/// must have that format, because programs read the log.
pub fn start_log(config: &Log, overrides: LogOverrides) -> bool {
    let format = overrides.format.unwrap_or(config.format);
    let variable = std::env::var_os(VARIABLE).filter(|value| !value.is_empty());
    let variable = variable.map(|value| value.to_string_lossy().into_owned());
    let (fixed, problem) = match (overrides.level, variable) {
        (Some(level), _) => (Some((level.to_string(), LogSource::Argument)), None),
        (None, Some(filter)) => match EnvFilter::try_new(&filter) {
            Ok(_) => (Some((filter, LogSource::Variable)), None),
            Err(error) => (None, Some(error.to_string())),
        },
        (None, None) => (None, None),
    };
    let levels = Levels {
        fixed,
        configured: config.level.clone(),
        by_verb: None,
        changes: 0,
    };
    let started = LogOutput::start();
    let is_journald = is_journald();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(levels.report().level))
        .with_ansi(format == LogFormat::Text && io::stderr().is_terminal())
        .with_writer(|| LogOutput)
        // Internal errors are written to standard error with a macro that panics if that fails.
        .log_internal_errors(false)
        .fmt_fields(fields())
        .event_format(Lines::new(format, is_journald))
        // This comes last: the type of the handle has those of the settings before.
        .with_filter_reloading();
    let handle = builder.reload_handle();
    builder.init();
    let set = move |filter: &str| {
        // This fails only if the subscriber is gone, and it stays as long as the process.
        let _ = handle.reload(EnvFilter::new(filter));
    };
    let level = LogLevel(Arc::new(Parts {
        levels: Mutex::new(levels),
        set: Box::new(set),
    }));
    let _ = LEVEL.set(level);
    if let Err(error) = started {
        tracing::warn!(%error, "no thread for the log: a slow reader of standard error can block the server");
    }
    if let Some(problem) = problem {
        let level = config.level.as_str();
        tracing::warn!("{VARIABLE} can't be read, so level {level} is logged: {problem}");
    }
    format == LogFormat::Json || is_journald
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

/// The level of the log.
#[derive(Clone)]
pub(super) struct LogLevel(Arc<Parts>);

struct Parts {
    levels: Mutex<Levels>,
    /// Puts a filter in force.
    set: Box<dyn Fn(&str) + Send + Sync>,
}

/// The levels that were asked for. That of the verb precedes the others.
struct Levels {
    /// That of the command line or of the environment, which precedes the configuration's.
    fixed: Option<(String, LogSource)>,
    configured: LogFilter,
    by_verb: Option<ByVerb>,
    /// How often the verb was used.
    changes: u64,
}

/// A level that the verb has set.
struct ByVerb {
    filter: LogFilter,
    user: u32,
    until: Option<Timestamp>,
}

impl Levels {
    fn report(&self) -> LogReport {
        let (without, source) = match &self.fixed {
            Some((filter, source)) => (filter.clone(), *source),
            None => (self.configured.to_string(), LogSource::Configuration),
        };
        match &self.by_verb {
            Some(by_verb) => LogReport {
                level: by_verb.filter.to_string(),
                source: LogSource::Verb,
                user: Some(by_verb.user),
                until: by_verb.until,
                configured: without,
            },
            None => LogReport {
                level: without.clone(),
                source,
                user: None,
                until: None,
                configured: without,
            },
        }
    }
}

impl LogLevel {
    /// The level of the log; `None` if it was not started.
    pub(super) fn global() -> Option<Self> {
        LEVEL.get().cloned()
    }

    /// Applies a new configuration.
    pub(super) fn configure(&self, config: &Log) {
        let mut levels = self.lock();
        if levels.configured == config.level {
            return;
        }
        levels.configured.clone_from(&config.level);
        self.apply(&levels);
    }

    fn lock(&self) -> MutexGuard<'_, Levels> {
        let levels = self.0.levels.lock();
        levels.unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, levels: &Levels) {
        (self.0.set)(&levels.report().level);
    }

    /// Ends the level of a request when its time is over, unless another request came after it.
    async fn expire(self, after: Duration, change: u64) {
        tokio::time::sleep(after).await;
        let mut levels = self.lock();
        if levels.changes == change && levels.by_verb.take().is_some() {
            self.apply(&levels);
            let level = levels.report().level;
            tracing::info!(level, "the time of the log's level is over");
        }
    }
}

impl LogControl for LogLevel {
    fn report(&self) -> LogReport {
        self.lock().report()
    }

    fn change(&self, request: &LogRequest, user: u32) -> Result<LogReport, String> {
        let filter = request.level.as_deref().map(str::parse::<LogFilter>);
        let filter = filter.transpose().map_err(|error| error.to_string())?;
        let length = request.secs.map(Duration::from_secs);
        if length.is_some_and(|length| length.is_zero() || length > LONGEST) {
            return Err("a level can be set for 1 second to 7 days".to_owned());
        }
        let until = length.map(|length| {
            let length = SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX);
            Timestamp::now().saturating_add(length)
        });
        let until = until
            .transpose()
            .map_err(|error| format!("the time is not possible: {error}"))?;
        let mut levels = self.lock();
        let before = levels.report().level;
        levels.changes += 1;
        let change = levels.changes;
        levels.by_verb = filter.map(|filter| ByVerb {
            filter,
            user,
            until,
        });
        let report = levels.report();
        let level = &report.level;
        // One of the two filters may suppress the line.
        let is_logged = tracing::enabled!(tracing::Level::INFO);
        let log = || match until {
            Some(until) => tracing::info!(level, before, user, %until, "log level changed"),
            None => tracing::info!(level, before, user, "log level changed"),
        };
        if is_logged {
            log();
        }
        self.apply(&levels);
        if !is_logged {
            log();
        }
        drop(levels);
        if let Some(length) = length.filter(|_| report.source == LogSource::Verb) {
            drop(tokio::spawn(self.clone().expire(length, change)));
        }
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A level without a log, and the filters that were put in force.
    fn level(fixed: Option<(&str, LogSource)>) -> (LogLevel, mpsc::Receiver<String>) {
        let (send, set) = mpsc::channel();
        let parts = Parts {
            levels: Mutex::new(Levels {
                fixed: fixed.map(|(level, source)| (level.to_owned(), source)),
                configured: LogFilter::default(),
                by_verb: None,
                changes: 0,
            }),
            set: Box::new(move |filter| drop(send.send(filter.to_owned()))),
        };
        (LogLevel(Arc::new(parts)), set)
    }

    fn request(level: Option<&str>, secs: Option<u64>) -> LogRequest {
        LogRequest {
            level: level.map(str::to_owned),
            secs,
        }
    }

    fn config(level: &str) -> Log {
        Log {
            level: level.parse().expect("a level"),
            ..Log::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_level_for_a_time_ends_and_a_later_request_is_not_ended_by_an_earlier_one() {
        let (level, set) = level(None);
        let debug = request(Some("debug"), Some(60));
        let report = level.change(&debug, 7).expect("a level");
        assert!(
            report.until.is_some() && report.user == Some(7),
            "{report:?}"
        );
        tokio::time::sleep(Duration::from_secs(59)).await;
        assert_eq!(level.report().level, "debug");
        level
            .change(&request(Some("trace"), None), 8)
            .expect("a level");
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert_eq!(level.report().level, "trace");
        level.change(&debug, 7).expect("a level");
        tokio::time::sleep(Duration::from_secs(61)).await;
        let report = level.report();
        assert_eq!(report.level, "info");
        assert_eq!(report.source, LogSource::Configuration);
        let set: Vec<_> = set.try_iter().collect();
        assert_eq!(set, ["debug", "trace", "debug", "info"]);
    }

    #[tokio::test]
    async fn the_verb_precedes_the_arguments_and_these_precede_the_configuration() {
        let (level, set) = level(Some(("warn", LogSource::Argument)));
        level.configure(&config("debug"));
        assert_eq!(level.report().level, "warn");
        level
            .change(&request(Some("error"), None), 7)
            .expect("a level");
        level.configure(&config("trace"));
        let report = level.report();
        assert_eq!((&*report.level, &*report.configured), ("error", "warn"));
        level.change(&request(None, None), 7).expect("ended");
        assert_eq!(level.report().source, LogSource::Argument);
        let last = set.try_iter().last();
        assert_eq!(last.as_deref(), Some("warn"));
    }

    #[tokio::test]
    async fn invalid_requests_change_nothing() {
        let (level, set) = level(None);
        for (filter, secs) in [("loud", None), ("debug", Some(0)), ("debug", Some(604_801))] {
            level
                .change(&request(Some(filter), secs), 7)
                .expect_err("invalid");
        }
        level
            .change(&request(Some("debug"), Some(u64::MAX)), 7)
            .expect_err("too long");
        assert_eq!(level.report().level, "info");
        assert_eq!(set.try_iter().count(), 0);
    }
}
