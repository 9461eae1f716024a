//! The state of a feed, as `status` shows it.

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::fault::Fault;
use crate::config::shown::counted;
use crate::wire::transfer::Serial;

/// The problem if no primary has a fault, but what they sent was not used: other rules came into force meanwhile.
const INAPPLICABLE: &str = "what was transferred does not fit the rules in force any more; the primaries are asked again \
                            after the retry time, or with: tapis feed refresh";

/// The state of a feed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedReport {
    /// Its name.
    pub name: String,
    /// Its zone.
    pub zone: String,
    /// The serial in force; `None` before the first transfer.
    pub serial: Option<u32>,
    /// When a primary last confirmed that this is the newest version, or sent it.
    pub confirmed: Option<Timestamp>,
    /// Whether the zone has expired: no primary has confirmed it for longer than `max-age-hours`, or than the zone's expire
    /// time.
    pub is_expired: bool,
    /// The transfer under way.
    pub transfer: Option<TransferReport>,
    /// The serial of a version that was transferred, while its rules are being compiled.
    #[serde(default)]
    pub compiling: Option<u32>,
    /// Whether the version in force, or the one that is held, was the newest one when the primaries were last asked; `None`
    /// before the first time.
    #[serde(default)]
    pub is_current: Option<bool>,
    /// Problems of this server that keep the zone from being transferred from all primaries or one.
    #[serde(default)]
    pub local: Vec<LocalReport>,
    /// A version that is not in force, and why.
    pub held: Option<HeldVersion>,
    /// A version that a signed NOTIFY announced, and that no primary has sent although they were asked.
    #[serde(default)]
    pub announced: Option<u32>,
    /// Its primaries, in the order of the configuration.
    pub primaries: Vec<PrimaryReport>,
    /// How often each fault occurred; faults that did not occur are left out.
    pub faults: Vec<(String, u64)>,
    /// The NOTIFY messages for its zone.
    #[serde(default)]
    pub notify: NotifyReport,
    /// The number of the operator's last request whose result is known.
    #[serde(default)]
    pub answered: u64,
}

impl FeedReport {
    /// The most important fact about the feed, in a few words.
    pub fn state(&self) -> String {
        if let Some(serial) = self.compiling {
            return format!("compiling serial {serial}");
        }
        if let Some(transfer) = &self.transfer {
            return transfer.state();
        }
        if let Some(held) = &self.held {
            return format!("serial {} is held", held.serial);
        }
        if self.is_expired {
            return "expired".to_owned();
        }
        let faults = self.faults_now();
        match self.is_current {
            None => "asking the primaries".to_owned(),
            Some(true) if faults.is_empty() => "up to date".to_owned(),
            Some(true) => format!("up to date, but not all primaries work: {faults}"),
            Some(false) if !faults.is_empty() => faults,
            Some(false) => self.announced.map_or_else(
                || INAPPLICABLE.to_owned(),
                |serial| format!("serial {serial} was announced, but not sent"),
            ),
        }
    }

    /// How many primaries failed when they were last asked.
    pub fn failing(&self) -> usize {
        let primaries = self.primaries.iter();
        primaries.filter(|primary| primary.failures > 0).count()
    }

    /// The names of the problems of this server and of the faults of primaries.
    fn faults_now(&self) -> String {
        let local = self.local.iter().map(|local| &*local.problem);
        let primaries = self.primaries.iter();
        let faults = primaries.filter_map(|primary| primary.fault.as_deref());
        local.chain(faults).collect::<Vec<_>>().join(", ")
    }

    /// The problems for the operator, a sentence each. A problem of this server is one even if another primary works.
    pub fn alarms(&self) -> Vec<String> {
        let name = &self.name;
        let expired = self.is_expired.then(|| {
            let fault = Fault::Expired;
            format!("{name}: {fault}: {}; {}", fault.meaning(), fault.remedy())
        });
        let local = self.local_problems().filter(|_| !self.is_behind());
        expired
            .into_iter()
            .chain(local)
            .chain(self.problems())
            .collect()
    }

    /// Why the newest version is not in force, a sentence each. One primary that fails is no problem while another one
    /// works.
    pub fn problems(&self) -> Vec<String> {
        let name = &self.name;
        let held = self.held.iter();
        let held = held.map(|held| {
            format!(
                "{name}: serial {} is not in force: {}",
                held.serial, held.why
            )
        });
        let announced = self.announced.map(|serial| {
            format!(
                "{name}: serial {serial} was announced by a signed NOTIFY, but no primary has sent it; see: tapis feed show \
                 {name}"
            )
        });
        let local = self.local_problems().filter(|_| self.is_behind());
        let faults = self.primaries.iter().filter(|_| self.is_behind());
        let faults = faults.filter_map(|primary| {
            let text = primary.text.as_ref()?;
            Some(format!("{name}: {text}"))
        });
        let problems = held.chain(announced).chain(local).chain(faults);
        let mut problems: Vec<_> = problems.collect();
        if problems.is_empty() && self.is_behind() {
            problems.push(format!("{name}: {INAPPLICABLE}"));
        }
        problems
    }

    /// Whether no primary had the newest version when they were last asked.
    fn is_behind(&self) -> bool {
        self.is_current == Some(false)
    }

    fn local_problems(&self) -> impl Iterator<Item = String> {
        let local = self.local.iter();
        local.map(|LocalReport { problem, text }| format!("{}: {problem}: {text}", self.name))
    }
}

/// A problem of this server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalReport {
    /// Its name.
    pub problem: String,
    /// The problem as a sentence, with the remedy.
    pub text: String,
}

/// What a feed does at the moment.
pub(super) enum Activity {
    /// It waits, or asks for a serial.
    None,
    Transferring(TransferReport),
    /// A version has arrived, and its rules are being compiled.
    Compiling(Serial),
}

/// A transfer under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferReport {
    /// The primary.
    pub primary: SocketAddr,
    /// When it was asked.
    pub since: Timestamp,
    /// Records so far.
    pub records: u64,
    /// Bytes so far.
    pub bytes: u64,
}

impl TransferReport {
    fn state(&self) -> String {
        match self.records {
            0 => format!("asking {}", self.primary),
            records => {
                let records = counted(records, "record", "records");
                let mib = self.bytes as f64 / f64::from(1 << 20);
                let seconds = Timestamp::now().duration_since(self.since).as_secs();
                let primary = self.primary;
                format!("transferring {records} from {primary}, {mib:.1} MiB, {seconds} s")
            }
        }
    }
}

/// A version that was transferred, but is not in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldVersion {
    /// Its serial.
    pub serial: u32,
    /// Why, as a sentence.
    pub why: String,
}

/// The NOTIFY messages for a zone since the feed started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifyReport {
    /// How many were accepted.
    pub accepted: u64,
    /// The last one of these.
    pub last: Option<NotifyEvent>,
    /// How many were not accepted. Under a flood, the last ones are counted with the next one after it.
    pub refused: u64,
    /// The last one of these.
    pub last_refused: Option<NotifyEvent>,
}

/// A NOTIFY message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifyEvent {
    /// When it arrived.
    pub at: Timestamp,
    /// Its sender.
    pub from: IpAddr,
    /// Why it was not accepted.
    pub why: Option<String>,
}

impl NotifyReport {
    /// Counts messages, which were not accepted if there is a reason. `from` has sent the last one.
    pub(crate) fn add(&mut self, from: IpAddr, messages: u64, why: Option<String>) {
        let (count, last) = match &why {
            None => (&mut self.accepted, &mut self.last),
            Some(_) => (&mut self.refused, &mut self.last_refused),
        };
        *count += messages;
        let at = Timestamp::now();
        *last = Some(NotifyEvent { at, from, why });
    }
}

/// The state of one primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrimaryReport {
    /// Its address.
    pub address: SocketAddr,
    /// The fault of the last attempt; `None` if it succeeded, or if there was none.
    pub fault: Option<String>,
    /// The fault as a sentence, with the remedy.
    pub text: Option<String>,
    /// Failures in a row.
    pub failures: u32,
    /// When its certificate ends, as of the last connection by TLS.
    #[serde(default)]
    pub certificate_end: Option<Timestamp>,
    /// The usual time to its first answer, in milliseconds.
    pub latency_ms: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_is_not_used_although_no_primary_has_a_fault_is_a_problem() {
        let mut report = FeedReport {
            name: "feed".to_owned(),
            is_current: Some(true),
            ..FeedReport::default()
        };
        assert_eq!((report.problems(), report.alarms()), (vec![], vec![]));
        assert_eq!(report.state(), "up to date");
        report.is_current = Some(false);
        assert_eq!(report.state(), INAPPLICABLE);
        let problem = format!("feed: {INAPPLICABLE}");
        assert_eq!(report.problems(), [&*problem]);
        assert_eq!(report.alarms(), [problem]);
        report.announced = Some(7);
        let [problem] = &report.problems()[..] else {
            panic!("one problem");
        };
        assert!(problem.contains("serial 7 was announced"), "{problem}");
    }
}
