//! The health of a running server in one word with its reasons, for monitoring and for load balancers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::status::{ListHealth, ListStatus, Status};
use crate::config::order::State;
use crate::config::shown::counted;
use crate::control::guard::release::Guard;

/// The most reasons that a line has. Monitoring systems cut long lines, and `status` has all of them.
const MOST_REASONS: usize = 5;
/// The most items of one reason, such as alarms, that are named.
const MOST_ITEMS: usize = 3;

/// How well the server works, in the words and numbers of the plug-ins of Nagios and its successors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// Nothing needs attention.
    Ok,
    /// Clients are answered, and somebody should look.
    Warning,
    /// Clients are not answered, or a list that must be enforced is not.
    Critical,
    /// The server could not be asked.
    Unknown,
}

impl Level {
    /// The exit code of a plug-in.
    pub fn exit_code(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        })
    }
}

/// The numbers above which a measure is a reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Threshold {
    /// A higher number is a warning.
    pub warning: Option<u64>,
    /// A higher number is critical.
    pub critical: Option<u64>,
}

impl Threshold {
    /// Any number but 0 is a warning.
    pub const ANY: Self = Self {
        warning: Some(0),
        critical: None,
    };

    fn level(self, number: u64) -> Level {
        let exceeds = |bound: Option<u64>| bound.is_some_and(|bound| number > bound);
        match (exceeds(self.critical), exceeds(self.warning)) {
            (true, _) => Level::Critical,
            (false, true) => Level::Warning,
            (false, false) => Level::Ok,
        }
    }
}

/// A threshold that can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be WARN, WARN,CRIT or ,CRIT with whole numbers, as in 0,1000")]
pub struct ThresholdError;

impl FromStr for Threshold {
    type Err = ThresholdError;

    fn from_str(text: &str) -> Result<Self, ThresholdError> {
        let number = |text: &str| match text {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| ThresholdError),
        };
        let (warning, critical) = text.split_once(',').unwrap_or((text, ""));
        let threshold = Self {
            warning: number(warning)?,
            critical: number(critical)?,
        };
        match threshold == Self::default() {
            true => Err(ThresholdError),
            false => Ok(threshold),
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bound: Option<u64>| bound.map(|bound| bound.to_string()).unwrap_or_default();
        f.write_str(&text(self.warning))?;
        match self.critical {
            Some(critical) => write!(f, ",{critical}"),
            None => Ok(()),
        }
    }
}

/// The thresholds of all measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Alarms, as `status` shows them.
    pub alarms: Threshold,
    /// Lists that are older than the bound of their guard.
    pub old_lists: Threshold,
    /// Orders in force whose review is overdue.
    pub reviews: Threshold,
    /// Upstream servers that are down. That all are down is critical in any case.
    pub upstream_down: Threshold,
    /// Packets that the kernel dropped within the last five minutes.
    pub kernel_drops: Threshold,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            alarms: Threshold::ANY,
            old_lists: Threshold::ANY,
            reviews: Threshold::ANY,
            upstream_down: Threshold::ANY,
            kernel_drops: Threshold {
                critical: Some(1000),
                ..Threshold::ANY
            },
        }
    }
}

/// Why the level is not [`Level::Ok`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// The level that it causes.
    pub level: Level,
    /// What is wrong.
    pub text: String,
}

/// A number with its thresholds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measure {
    /// Its name, without spaces.
    pub name: String,
    /// The number.
    pub value: u64,
    /// Whether it only increases while the server runs.
    pub is_counter: bool,
    /// The thresholds; both are `None` if it is never a reason.
    pub threshold: Threshold,
}

/// The health of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The worst level of all reasons.
    pub level: Level,
    /// The state of the server in a phrase.
    pub summary: String,
    /// The reasons, the worst first.
    pub reasons: Vec<Reason>,
    /// The measures.
    pub measures: Vec<Measure>,
}

impl Health {
    /// The health of a server that could not be asked.
    pub fn unreachable(level: Level, why: String) -> Self {
        Self {
            level,
            summary: why,
            reasons: Vec::new(),
            measures: Vec::new(),
        }
    }

    /// One line in the form of the plug-ins: the level, the reasons, and behind `|` the measures.
    pub fn line(&self) -> String {
        let first = self.reasons.iter().take(MOST_REASONS);
        let mut texts: Vec<_> = first.map(|reason| reason.text.clone()).collect();
        let more = self.reasons.len().saturating_sub(MOST_REASONS);
        if more > 0 {
            texts.push(format!("{more} more, see `tapis status`"));
        }
        if texts.is_empty() {
            texts.push(self.summary.clone());
        }
        // The bar separates the measures, and a line break would end the line.
        let text = texts
            .join("; ")
            .replace('|', "/")
            .replace(['\n', '\r'], " ");
        let measures: Vec<_> = self.measures.iter().map(performance).collect();
        match measures.is_empty() {
            true => format!("TAPIS {} - {text}", self.level),
            false => format!("TAPIS {} - {text} | {}", self.level, measures.join(" ")),
        }
    }
}

/// A measure as performance data: `name=value[c];warning;critical;minimum`.
fn performance(measure: &Measure) -> String {
    let bound = |bound: Option<u64>| bound.map(|bound| bound.to_string()).unwrap_or_default();
    let unit = if measure.is_counter { "c" } else { "" };
    let (warning, critical) = (
        bound(measure.threshold.warning),
        bound(measure.threshold.critical),
    );
    let (name, value) = (&measure.name, measure.value);
    format!("{name}={value}{unit};{warning};{critical};0")
}

/// The health of a server with this status.
pub fn health(status: &Status, thresholds: &Thresholds) -> Health {
    let mut reasons = hard(status);
    let mut measures = Vec::new();
    let mut check = |name: &str, threshold: Threshold, value: u64, text: String| {
        measures.push(Measure {
            name: name.to_owned(),
            value,
            is_counter: false,
            threshold,
        });
        let level = threshold.level(value);
        if level > Level::Ok {
            reasons.push(Reason { level, text });
        }
    };
    let gauges = &status.gauges;
    let is_old = |list: &&ListStatus| list.guards.contains(&Guard::Old);
    let old: Vec<_> = status.lists.iter().filter(is_old).collect();
    let names: Vec<_> = old.iter().map(|list| &*list.name).collect();
    let text = format!(
        "{} too old: {}",
        counted(old.len(), "list is", "lists are"),
        first(&names, ", ")
    );
    check("old_lists", thresholds.old_lists, old.len() as u64, text);
    let overdue = &status.orders.overdue_reviews;
    let text = format!(
        "{} overdue: {}",
        counted(overdue.len(), "review is", "reviews are"),
        first(overdue, ", ")
    );
    check(
        "overdue_reviews",
        thresholds.reviews,
        overdue.len() as u64,
        text,
    );
    let down: Vec<_> = gauges
        .upstream
        .iter()
        .filter(|server| server.down)
        .collect();
    let addresses: Vec<_> = down
        .iter()
        .map(|server| server.address.to_string())
        .collect();
    let text = format!(
        "{} down: {}",
        counted(down.len(), "upstream server is", "upstream servers are"),
        first(&addresses, ", ")
    );
    check(
        "upstream_down",
        thresholds.upstream_down,
        down.len() as u64,
        text,
    );
    let dropped = gauges.kernel_drops_recent;
    let text = format!(
        "the kernel dropped {} within five minutes",
        counted(dropped, "packet", "packets")
    );
    check(
        "kernel_drops_recent",
        thresholds.kernel_drops,
        dropped,
        text,
    );
    // Alarms come last: the more specific reasons above may be among them.
    let alarms = status.alarms.len();
    let text = format!(
        "{}: {}",
        counted(alarms, "alarm", "alarms"),
        first(&status.alarms, "; ")
    );
    check("alarms", thresholds.alarms, alarms as u64, text);
    // The sort keeps the order of equal levels.
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.level));
    measures.extend(uncritical(status));
    Health {
        level: reasons.first().map_or(Level::Ok, |reason| reason.level),
        summary: summary(status),
        reasons,
        measures,
    }
}

/// The first items, and how many others there are.
fn first<T: AsRef<str>>(items: &[T], separator: &str) -> String {
    let mut shown: Vec<_> = items
        .iter()
        .take(MOST_ITEMS)
        .map(|item| item.as_ref().to_owned())
        .collect();
    let more = items.len().saturating_sub(MOST_ITEMS);
    if more > 0 {
        shown.push(format!("and {more} more"));
    }
    shown.join(separator)
}

/// The reasons that have no threshold, as clients are not answered, or not as they must be.
fn hard(status: &Status) -> Vec<Reason> {
    let gauges = &status.gauges;
    let mut texts = Vec::new();
    if gauges.listen.is_empty() {
        texts.push("not serving: it listens on no address".to_owned());
    }
    let mut default = gauges
        .upstream
        .iter()
        .filter(|server| server.zones.is_empty());
    let has_default = gauges.upstream.iter().any(|server| server.zones.is_empty());
    if let Some(since) = gauges.outage_since {
        texts.push(format!(
            "no upstream server gives usable answers since {since:.0}"
        ));
    } else if has_default && default.all(|server| server.down) {
        texts.push("all upstream servers are down".to_owned());
    }
    let missing = |list: &&ListStatus| list.whole && list.state == ListHealth::Missing;
    for list in status.lists.iter().filter(missing) {
        texts.push(format!(
            "list {} must be enforced, and none of its rules is in force",
            list.name
        ));
    }
    let critical = |text| Reason {
        level: Level::Critical,
        text,
    };
    texts.into_iter().map(critical).collect()
}

/// Numbers for graphs, which are never a reason.
fn uncritical(status: &Status) -> impl Iterator<Item = Measure> {
    let gauges = &status.gauges;
    let count = |name: &str| {
        let count = gauges.counters.get(name).and_then(|value| value.as_u64());
        count.unwrap_or(0)
    };
    let queries = count("udp_queries") + count("tcp_queries");
    let blocked = count("blocked") + count("blocked_cname_target") + count("blocked_dropped");
    let numbers = [
        ("queries", queries, true),
        ("blocked", blocked, true),
        ("failed", count("failed"), true),
        ("waiting", gauges.waiting as u64, false),
        ("cache_bytes", gauges.cache_octets, false),
        ("generation", status.generation, false),
    ];
    numbers
        .map(|(name, value, is_counter)| Measure {
            name: name.to_owned(),
            value,
            is_counter,
            threshold: Threshold::default(),
        })
        .into_iter()
}

fn summary(status: &Status) -> String {
    let upstream = &status.gauges.upstream;
    let up = upstream.iter().filter(|server| !server.down).count();
    let in_force = status.orders.states.get(&State::InForce);
    format!(
        "generation {}, {}, {} in force, {up} of {}",
        status.generation,
        counted(status.lists.len(), "list", "lists"),
        counted(in_force.copied().unwrap_or(0), "order", "orders"),
        counted(upstream.len(), "upstream server up", "upstream servers up"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_one_or_two_numbers() {
        let threshold = |warning, critical| Threshold { warning, critical };
        for (text, expected) in [
            ("0", threshold(Some(0), None)),
            ("5,20", threshold(Some(5), Some(20))),
            (",3", threshold(None, Some(3))),
        ] {
            let read: Threshold = text.parse().expect(text);
            assert_eq!((read, read.to_string()), (expected, text.to_owned()));
        }
        for text in ["", ",", "-1", "1,x", "1,2,3", "1:2", "0.5"] {
            let error = text.parse::<Threshold>().expect_err(text);
            assert!(error.to_string().contains("as in 0,1000"), "{error}");
        }
    }

    #[test]
    fn a_number_must_exceed_its_threshold() {
        let threshold: Threshold = "2,4".parse().expect("a threshold");
        let levels = [2, 3, 4, 5].map(|number| threshold.level(number));
        let [ok, warning, critical] = [Level::Ok, Level::Warning, Level::Critical];
        assert_eq!(levels, [ok, warning, warning, critical]);
        let [only, never]: [Threshold; 2] = [",0".parse().expect("valid"), Threshold::default()];
        assert_eq!((only.level(0), only.level(1)), (ok, critical));
        assert_eq!(never.level(u64::MAX), ok);
    }

    #[test]
    fn a_line_is_one_line_whatever_the_reasons_say_and_names_the_first_ones() {
        let reasons = (0..7).map(|number| Reason {
            level: Level::Warning,
            text: format!("reason {number} | with\na break"),
        });
        let health = Health {
            level: Level::Warning,
            summary: "not shown".to_owned(),
            reasons: reasons.collect(),
            measures: vec![Measure {
                name: "alarms".to_owned(),
                value: 7,
                is_counter: false,
                threshold: Threshold::ANY,
            }],
        };
        let line = health.line();
        assert!(line.starts_with("TAPIS WARNING - reason 0 / with a break; reason 1"));
        assert!(
            line.ends_with("; 2 more, see `tapis status` | alarms=7;0;;0"),
            "{line}"
        );
        assert!(!line.contains('\n') && !line.contains("reason 5") && !line.contains("not shown"));
    }
}
