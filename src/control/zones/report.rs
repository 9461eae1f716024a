//! The state of a published zone, as `status` shows it.

use std::net::{IpAddr, SocketAddr};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::policy::published::Inexpressible;

/// How long a transfer that was refused because of others is an alarm.
const BUSY: SignedDuration = SignedDuration::from_hours(1);

/// The counts that are not 0, with their reasons.
pub fn inexpressible(counts: &Inexpressible) -> Vec<(String, u64)> {
    let counts = [
        ("patterns left out", counts.patterns),
        (
            "effects with conditions, whose rules are left out",
            counts.conditions,
        ),
        ("effects replaced", counts.effects),
        ("too long names left out", counts.long_owners),
        (
            "names with another meaning left out",
            counts.reserved_owners,
        ),
        ("networks of clients left out", counts.networks),
        (
            "networks that apply to other queries",
            counts.inexact_networks,
        ),
    ];
    let counts = counts.into_iter().filter(|(_, count)| *count > 0);
    counts
        .map(|(reason, count)| (reason.to_owned(), count))
        .collect()
}

/// The state of a published zone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneReport {
    /// Its name.
    pub zone: String,
    /// The serial of the newest version; `None` before the first.
    pub serial: Option<u32>,
    /// The generation of the policy that it has.
    pub generation: u64,
    /// The number of its records, without SOA and NS.
    pub records: u64,
    /// When its serial last changed.
    pub changed_at: Option<Timestamp>,
    /// The serials from which changes are known.
    pub history: Vec<u32>,
    /// How many rules can't be expressed as records of a policy zone, by the reason; reasons that do not occur are left out.
    /// For a large zone, as of its first version.
    pub inexpressible: Vec<(String, u64)>,
    /// The servers that are sent NOTIFY messages.
    pub notify: Vec<NotifiedReport>,
    /// Transfers of the whole zone that were completed.
    pub whole_transfers: u64,
    /// Transfers of changes that were completed.
    pub incremental_transfers: u64,
    /// Queries of secondaries that were not permitted.
    pub refused: u64,
    /// Transfers that did not begin, because too many others ran for too long.
    pub busy: u64,
    /// The secondary of the last such transfer, and when it was refused.
    pub last_busy: Option<(IpAddr, Timestamp)>,
    /// The last transfer of each secondary.
    pub secondaries: Vec<SecondaryReport>,
    /// The file that it is written to.
    pub export: Option<ExportReport>,
    /// Why the newest version is not up to date, as a sentence.
    pub problem: Option<String>,
    /// Why the newest version is not in the state directory, as a sentence.
    pub store_problem: Option<String>,
    /// Why the key can't be used, as a sentence.
    pub key_problem: Option<String>,
}

impl ZoneReport {
    /// The problems for the operator, a sentence each. A secondary that does not answer is one only after some messages: it
    /// may be restarting.
    pub fn alarms(&self) -> Vec<String> {
        let zone = &self.zone;
        let unanswered = self.notify.iter().filter(|notified| notified.is_failing());
        let unanswered = unanswered.map(|notified| {
            let to = notified.address;
            match &notified.answer {
                Some(answer) => format!(
                    "publish {zone}: {to} answers NOTIFY with {answer}: permit this server there, or remove it from `notify`"
                ),
                None => format!(
                    "publish {zone}: {to} has not answered {} NOTIFY messages{}: check that it runs, or remove it from `notify`",
                    notified.sent,
                    notified.error.iter().map(|error| format!(" ({error})")).collect::<String>(),
                ),
            }
        });
        let export = self
            .export
            .iter()
            .filter_map(|export| export.problem.as_ref());
        let now = Timestamp::now();
        let last_busy = self
            .last_busy
            .filter(|(_, at)| now.duration_since(*at) < BUSY);
        let busy = last_busy.map(|(secondary, at)| {
            format!(
                "publish {zone}: a transfer to {secondary} was refused at {at:.0}, because too many others ran: find secondaries that \
                 read slowly, or that ask too often"
            )
        });
        let unanswered = busy.into_iter().chain(unanswered);
        let problems = [&self.problem, &self.store_problem, &self.key_problem];
        let problems = problems.into_iter().flatten().chain(export);
        let problems = problems.map(|problem| format!("publish {zone}: {problem}"));
        problems.chain(unanswered).collect()
    }
}

/// A server that is sent NOTIFY messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifiedReport {
    /// Its address.
    pub address: SocketAddr,
    /// The serial that the last message was about.
    pub serial: Option<u32>,
    /// The number of messages about it.
    pub sent: u32,
    /// Whether the server has answered.
    pub is_answered: bool,
    /// The response code, unless it is NOERROR.
    pub answer: Option<String>,
    /// Why the last message could not be sent or answered, if the network or the system said so.
    pub error: Option<String>,
}

impl NotifiedReport {
    /// A server that was sent nothing yet.
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            serial: None,
            sent: 0,
            is_answered: false,
            answer: None,
            error: None,
        }
    }

    fn is_failing(&self) -> bool {
        self.answer.is_some() || !self.is_answered && self.sent > 3
    }
}

/// A server that has transferred the zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecondaryReport {
    /// Its address.
    pub address: IpAddr,
    /// When its last transfer ended.
    pub at: Timestamp,
    /// The serial that it has since.
    pub serial: u32,
    /// Whether that transfer was of the whole zone.
    pub is_whole: bool,
}

/// The file that a zone is written to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportReport {
    /// Its path.
    pub path: String,
    /// The serial that it has; `None` if it was not written by this process.
    pub serial: Option<u32>,
    /// Why the newest version was not written, as a sentence.
    pub problem: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secondary_that_does_not_answer_or_refuses_is_an_alarm() {
        let report = |sent, is_answered, answer: Option<&str>| ZoneReport {
            zone: "rpz.test".to_owned(),
            notify: vec![NotifiedReport {
                address: ([192, 0, 2, 1], 53).into(),
                serial: Some(1),
                sent,
                is_answered,
                answer: answer.map(str::to_owned),
                error: None,
            }],
            ..ZoneReport::default()
        };
        assert!(report(3, false, None).alarms().is_empty());
        assert!(report(9, true, None).alarms().is_empty());
        assert!(report(4, false, None).alarms()[0].contains("has not answered 4"));
        assert!(report(1, true, Some("REFUSED")).alarms()[0].contains("with REFUSED"));
    }
}
