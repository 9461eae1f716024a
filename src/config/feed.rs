//! The section `[[feed]]`: a response policy zone that is transferred from its primaries.

use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;

use crate::wire::name::Name;

use super::blocking::Block;
use super::findings::{Findings, quote};
use super::guard::HOURS_MAX;
use super::primary;
use super::reader::{At, Reader, Strings, WordOrStrings};
use super::tsig;
use super::values::{each, is_plain_name, network, number, plain_name};
use super::zone;

pub use super::primary::{Primary, PrimaryTls};
pub use super::tsig::{Tsig, TsigAlgorithm};

const RECORDS: u64 = 100_000_000;
const RECORDS_MAX: u64 = 1_000_000_000;
const TRANSFER_MIB: u64 = 8192;
const TRANSFER_MIB_MAX: u64 = 1024 * 1024;
const HOUR_SECS: u32 = 60 * 60;
const DAY_SECS: u32 = 24 * HOUR_SECS;
/// The shortest time between two attempts.
const TIMER_MIN_SECS: u32 = 5;

/// A response policy zone that is transferred from its primaries. [`Config::lists`](super::Config::lists) has a list of
/// the same name for the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    /// The name of its list.
    pub name: String,
    /// The name of the zone; no two feeds have the same.
    pub zone: Name,
    /// Servers that have the zone: 1 to 16, no duplicate addresses.
    pub primaries: Vec<Primary>,
    /// The key that signs transfers; `None` means that they are not signed.
    pub tsig: Option<Tsig>,
    /// The networks whose NOTIFY messages are accepted without a signature, by default the addresses of the primaries.
    pub notify_from: Vec<IpNet>,
    /// How many hours after the last successful check the zone expires, in place of any other expire time; at most ten
    /// years, and over `refresh` if that is set. 0 means never, `None` means the other expire time.
    pub max_age_hours: Option<u32>,
    /// Limits of a transfer.
    pub limits: TransferLimits,
    /// Replacements for the timers of the zone's SOA record.
    pub timers: ZoneTimers,
}

/// Limits of a transfer. One that exceeds them is aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferLimits {
    /// Records, 1 to 1,000,000,000.
    pub records: u64,
    /// Bytes of all messages, 1 MiB to 1 TiB.
    pub bytes: u64,
    /// The time from the first query to the last message, 1 second to a day.
    pub time: Duration,
}

/// Replacements for the timers of a zone's SOA record; `None` means the record's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ZoneTimers {
    /// How long after a successful check the primaries are asked again, 5 seconds to a day.
    pub refresh: Option<Duration>,
    /// How long after a failed check they are asked again, 5 seconds to an hour.
    pub retry: Option<Duration>,
    /// How long after the last successful check the zone expires, 1 minute to a year, and over `refresh` if both are
    /// set.
    pub expire: Option<Duration>,
}

impl Feed {
    /// A sentence for each setting that is valid, but probably a mistake. `state_dir` is that of the configuration.
    pub fn warnings(&self, state_dir: Option<&Path>) -> Vec<String> {
        let name = &self.name;
        let weak = self.tsig.as_ref().and_then(Tsig::warning);
        let weak =
            weak.map(|warning| format!("feed {name}: {warning} with the primary's operator"));
        let networks = IpNet::aggregate(&self.notify_from);
        let everything = networks.iter().find(|network| network.prefix_len() == 0);
        let open = everything.map(|network| {
            format!(
                "feed {name}: notify-from has every address ({network}), so strangers can make this server ask the \
                 primaries; name only the networks of the primaries there"
            )
        });
        let forgetful = state_dir.is_none().then(|| {
            format!(
                "feed {name}: each restart transfers the whole zone, and enforces none of its rules until then, as \
                 [state] dir is not set"
            )
        });
        [weak, open, forgetful].into_iter().flatten().collect()
    }
}

/// A section `[[feed]]`, before validation.
pub(super) struct Raw {
    pub(super) line: u32,
    name: Option<At<String>>,
    pub(super) zone: zone::Raw,
    primaries: Option<primary::Raw>,
    tsig: Option<tsig::Raw>,
    notify_from: Option<Strings>,
    max_age_hours: Option<At<i64>>,
    limits: RawLimits,
    timers: RawTimers,
    pub(super) guards: Option<At<WordOrStrings>>,
    pub(super) text: Option<At<String>>,
    /// Only its `ede` may be set.
    pub(super) block: Block,
}

struct RawLimits {
    records: Option<At<i64>>,
    mib: Option<At<i64>>,
    secs: Option<At<i64>>,
}

struct RawTimers {
    refresh_secs: Option<At<i64>>,
    retry_secs: Option<At<i64>>,
    expire_secs: Option<At<i64>>,
}

impl Raw {
    pub(super) fn read(table: &mut Reader<'_, '_>) -> Self {
        Self {
            line: table.line(),
            name: table.string("name"),
            zone: zone::Raw::read_of_feed(table),
            primaries: primary::read(table),
            tsig: tsig::read(table),
            notify_from: table.strings("notify-from"),
            max_age_hours: table.integer("max-age-hours"),
            limits: RawLimits {
                records: table.integer("max-records"),
                mib: table.integer("max-transfer-mib"),
                secs: table.integer("max-transfer-secs"),
            },
            timers: RawTimers {
                refresh_secs: table.integer("refresh-secs"),
                retry_secs: table.integer("retry-secs"),
                expire_secs: table.integer("expire-secs"),
            },
            guards: table.word_or_strings("guards"),
            text: table.string("text"),
            block: Block {
                ede: table.string("ede"),
                ..Block::default()
            },
        }
    }

    /// The name of the feed's list, which is by default the name of its zone; and where it is set. `None` if it is
    /// invalid, which is reported, or if the zone is.
    pub(super) fn name(
        &mut self,
        zone: Option<&At<Name>>,
        findings: &mut Findings,
    ) -> Option<At<String>> {
        if let Some(given) = self.name.take() {
            let (key, line) = (given.key, given.line);
            let value = plain_name(Some(given), findings)?;
            return Some(At { key, line, value });
        }
        let At { key, line, value } = zone?;
        let value = value.to_string();
        if is_plain_name(&value) {
            return Some(At {
                key,
                line: *line,
                value,
            });
        }
        let is_elsewhere = findings.mistyped.contains(&(self.line, "name"))
            || findings.damaged.contains(&self.line);
        if is_elsewhere {
            return None;
        }
        let message = format!(
            "[[feed]] has no `name`, and the zone's, {}, can't be one: add name = \"...\"",
            quote(&value)
        );
        findings.report(self.line, message);
        None
    }

    /// Validates the settings of the transfer of this zone; `None` if its name or zone is invalid, or if it has no
    /// valid primary.
    pub(super) fn transfer(
        self,
        name: Option<String>,
        zone: Option<Name>,
        findings: &mut Findings,
    ) -> Option<Feed> {
        let primaries = self
            .primaries
            .map(|given| primary::validate(given, findings))
            .filter(|primaries| !primaries.is_empty());
        let tsig = self.tsig.and_then(|given| tsig::validate(given, findings));
        let notify_from = each(self.notify_from, findings, network);
        let limits = limits(self.limits, findings);
        let (timers, max_age_hours) = timers(self.timers, self.max_age_hours, findings);
        let primaries = primaries?;
        Some(Feed {
            name: name?,
            zone: zone?,
            notify_from: notify_from.unwrap_or_else(|| primary::addresses(&primaries)),
            primaries,
            tsig,
            max_age_hours,
            limits,
            timers,
        })
    }
}

fn limits(raw: RawLimits, findings: &mut Findings) -> TransferLimits {
    let records = number(raw.records, 1..=RECORDS_MAX, findings);
    let mib = number(raw.mib, 1..=TRANSFER_MIB_MAX, findings);
    let secs = number(raw.secs, 1..=DAY_SECS, findings);
    TransferLimits {
        records: records.unwrap_or(RECORDS),
        bytes: mib.unwrap_or(TRANSFER_MIB) * 1024 * 1024,
        time: Duration::from_secs(secs.unwrap_or(HOUR_SECS).into()),
    }
}

/// The timers, and `max-age-hours`.
fn timers(
    raw: RawTimers,
    max_age: Option<At<i64>>,
    findings: &mut Findings,
) -> (ZoneTimers, Option<u32>) {
    let line = |given: &Option<At<i64>>| given.as_ref().map(|at| at.line);
    let (expire_line, max_age_line) = (line(&raw.expire_secs), line(&max_age));
    let refresh = number(raw.refresh_secs, TIMER_MIN_SECS..=DAY_SECS, findings);
    let retry = number(raw.retry_secs, TIMER_MIN_SECS..=HOUR_SECS, findings);
    let expire = number(raw.expire_secs, 60..=365 * DAY_SECS, findings);
    let max_age_hours = number(max_age, 0..=HOURS_MAX, findings);
    let max_age = max_age_hours.filter(|hours| *hours > 0);
    for (key, secs, line) in [
        ("expire-secs", expire, expire_line),
        (
            "max-age-hours, in seconds,",
            max_age.map(|hours| hours * HOUR_SECS),
            max_age_line,
        ),
    ] {
        if let (Some(refresh), Some(secs), Some(line)) = (refresh, secs, line)
            && secs <= refresh
        {
            let message = format!(
                "{key} is {secs}, must be over refresh-secs, which is {refresh}: raise the one or lower the other"
            );
            findings.report(line, message);
        }
    }
    let duration = |secs: u32| Duration::from_secs(secs.into());
    let timers = ZoneTimers {
        refresh: refresh.map(duration),
        retry: retry.map(duration),
        expire: expire.map(duration),
    };
    (timers, max_age_hours)
}
