//! The section `[log]`, and the filters that say which events are logged.

use std::fmt;
use std::str::FromStr;

use super::findings::Findings;
use super::reader::{At, Reader};
use super::values::choice;

/// The levels, from none to all.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// The maximum length of a filter in bytes.
const FILTER_MAX: usize = 500;

/// How the server logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// The format of the lines.
    pub format: LogFormat,
    /// Which events are logged.
    pub level: LogFilter,
}

/// The format of the log's lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text.
    #[default]
    Text,
    /// A JSON object.
    Json,
}

/// Which events are logged: a level, and others for parts of the program, as in `info,tapis::control=debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(String);

impl LogFilter {
    /// The filter as `tracing_subscriber` reads it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for LogFilter {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogFilterError {
    /// A word in it is no level.
    #[error(
        "`{0}` is not a level: use off, error, warn, info, debug or trace, or a level for a part of the program, too, as in \
         info,tapis::control=debug"
    )]
    Level(String),
    /// A part of the program has no valid name.
    #[error("`{0}` is not a part of the program: write its path, as in tapis::control=debug")]
    Part(String),
    /// A level is given twice.
    #[error("{0} is given twice: keep one")]
    Twice(String),
    /// It is too long.
    #[error("a filter has at most {FILTER_MAX} characters")]
    Long,
}

impl FromStr for LogFilter {
    type Err = LogFilterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > FILTER_MAX {
            return Err(LogFilterError::Long);
        }
        let mut directives: Vec<(&str, String)> = Vec::new();
        for part in text.split(',') {
            let (target, level) = part.split_once('=').unwrap_or(("", part));
            let (target, level) = (target.trim(), level.trim().to_ascii_lowercase());
            if part.contains('=') && !is_path(target) {
                return Err(LogFilterError::Part(target.to_owned()));
            }
            if !LEVELS.contains(&&*level) {
                return Err(LogFilterError::Level(level));
            }
            if directives.iter().any(|(known, _)| *known == target) {
                let twice = if target.is_empty() {
                    "a level for all parts"
                } else {
                    target
                };
                return Err(LogFilterError::Twice(twice.to_owned()));
            }
            directives.push((target, level));
        }
        let directives = directives.iter().map(|(target, level)| match *target {
            "" => level.clone(),
            target => format!("{target}={level}"),
        });
        Ok(Self(directives.collect::<Vec<_>>().join(",")))
    }
}

/// Whether the text can be the path of a module.
fn is_path(text: &str) -> bool {
    let is_name = |name: &str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    text.split("::").all(is_name)
}

/// The section before validation.
#[derive(Default)]
pub(super) struct RawLog {
    format: Option<At<String>>,
    level: Option<At<String>>,
}

impl RawLog {
    pub(super) fn read(table: &mut Reader<'_, '_>) -> Self {
        Self {
            format: table.string("format"),
            level: table.string("level"),
        }
    }
}

/// Validates the section `[log]`.
pub(super) fn validate(raw: RawLog, findings: &mut Findings) -> Log {
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let level = raw.level.map(|given| {
        given.value.parse().unwrap_or_else(|error| {
            findings.report(given.line, format!("level: {error}"));
            LogFilter::default()
        })
    });
    Log {
        format: choice(raw.format, &formats, findings).unwrap_or_default(),
        level: level.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{problems, valid};
    use super::*;

    #[test]
    fn the_log_is_text_at_level_info_unless_the_configuration_says_otherwise() {
        let log = valid("").server.process.log;
        assert_eq!((log.format, log.level.as_str()), (LogFormat::Text, "info"));
        let text = "[log]\nformat = \"json\"\nlevel = \" Warn, tapis::control=DEBUG\"\n";
        let log = valid(text).server.process.log;
        let level = "warn,tapis::control=debug";
        assert_eq!((log.format, log.level.as_str()), (LogFormat::Json, level));
    }

    #[test]
    fn a_mistaken_filter_is_reported_with_the_word_that_is_wrong() {
        for (level, expected) in [
            ("infoo", "`infoo` is not a level"),
            ("", "`` is not a level"),
            ("info,", "`` is not a level"),
            ("info,tapis=loud", "`loud` is not a level"),
            ("tapis::=info", "`tapis::` is not a part"),
            ("=info", "`` is not a part"),
            ("[span]=info", "`[span]` is not a part"),
            ("info,debug", "a level for all parts is given twice"),
            ("tapis=info,tapis=debug", "tapis is given twice"),
        ] {
            let found = problems(&format!("[log]\nlevel = \"{level}\"\n"));
            assert_eq!(found.len(), 1, "{level}: {found:?}");
            assert!(found[0].starts_with("2: level: "), "{found:?}");
            assert!(found[0].contains(expected), "{level}: {found:?}");
        }
        assert_eq!(
            "x".repeat(FILTER_MAX + 1).parse::<LogFilter>(),
            Err(LogFilterError::Long)
        );
        let found = problems("[log]\nformat = \"xml\"\nlevl = \"info\"\n").join("\n");
        assert!(found.contains("xml") && found.contains("levl"), "{found}");
    }
}
