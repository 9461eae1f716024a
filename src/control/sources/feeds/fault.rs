//! The faults of a feed: each has a name, a text, a remedy and a counter. None of them changes what is in force.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::wire::Rcode;
use crate::wire::name::Name;
use crate::wire::transfer::TransferError;
use crate::wire::transfer::tsig::TsigError;

/// A fault of a feed or of one of its primaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// No connection to the primary.
    Unreachable,
    /// The primary's TLS certificate is not valid for its name, or TLS failed otherwise.
    TlsFailed,
    /// The primary refuses the transfer, usually because it does not know our address.
    Refused,
    /// The primary has the zone, but has not loaded it.
    NotLoaded,
    /// The primary does not have the zone.
    NotServed,
    /// The zone has only SOA and NS records.
    EmptyZone,
    /// The primary's version of the zone is older than ours.
    SerialGoneBack,
    /// The primary sent the whole zone in place of the changes. This is legal, and the transfer is used.
    WholeZone,
    /// The changes do not lead from our version to the newest one.
    BrokenChanges,
    /// The transfer took longer than permitted.
    TooLong,
    /// The transfer has more records or bytes than permitted, or its rules need too much memory.
    TooLarge,
    /// The primary sent nothing, or too little, for too long.
    TooSlow,
    /// The primary closed the connection before the end of the transfer.
    Cut,
    /// A message is malformed, or is not part of the transfer.
    Malformed,
    /// A record is not in the zone.
    OutsideZone,
    /// A signature is wrong or missing.
    TsigWrong,
    /// The time of a signature is too far from the time here.
    TsigLate,
    /// No primary has confirmed the zone for longer than it is valid.
    Expired,
}

impl Fault {
    /// All faults, in the order in which they are shown.
    pub const ALL: [Self; 18] = [
        Self::Unreachable,
        Self::TlsFailed,
        Self::Refused,
        Self::NotLoaded,
        Self::NotServed,
        Self::EmptyZone,
        Self::SerialGoneBack,
        Self::WholeZone,
        Self::BrokenChanges,
        Self::TooLong,
        Self::TooLarge,
        Self::TooSlow,
        Self::Cut,
        Self::Malformed,
        Self::OutsideZone,
        Self::TsigWrong,
        Self::TsigLate,
        Self::Expired,
    ];

    /// The name in `status`, in metrics and in the log.
    pub fn name(self) -> &'static str {
        self.texts().0
    }

    /// What happened, without a subject.
    pub fn meaning(self) -> &'static str {
        self.texts().1
    }

    /// What the operator can do.
    pub fn remedy(self) -> &'static str {
        self.texts().2
    }

    /// Whether the transfer failed. All faults but [`WholeZone`](Self::WholeZone) are failures.
    pub fn is_failure(self) -> bool {
        self != Self::WholeZone
    }

    /// Name, meaning and remedy.
    fn texts(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Unreachable => (
                "unreachable",
                "there is no connection",
                "check address and port, and that no firewall drops TCP to them",
            ),
            Self::TlsFailed => (
                "tls-failed",
                "TLS failed",
                "check the TLS name of the primary, its certificate, and that this port serves zone transfers over TLS",
            ),
            Self::Refused => (
                "refused",
                "the transfer is refused",
                "check the zone's name, and whether a TSIG key is needed; then ask the primary's operator to permit the \
                 address of this server; if it is permitted, the primary may not have loaded the zone yet",
            ),
            Self::NotLoaded => (
                "not-loaded",
                "the primary can't serve the zone now",
                "wait, as it may be loading the zone; if this lasts, ask its operator",
            ),
            Self::NotServed => (
                "not-served",
                "the primary does not have the zone",
                "check the zone's name, and that this address is a primary of it",
            ),
            Self::EmptyZone => (
                "empty-zone",
                "the zone has only SOA and NS records",
                "ask the primary's operator whether the address of this server is approved: some primaries send an \
                 empty zone to others",
            ),
            Self::SerialGoneBack => (
                "serial-gone-back",
                "the primary has an older version of the zone",
                "wait until the primary is up to date; if its operator has reset the serial, transfer the whole zone: tapis feed refresh --whole",
            ),
            Self::WholeZone => (
                "whole-zone",
                "the whole zone was sent in place of its changes",
                "nothing needs to be done; each refresh costs a transfer of the whole zone",
            ),
            Self::BrokenChanges => (
                "broken-changes",
                "the changes do not lead to the newest version",
                "nothing needs to be done if the next transfer, of the whole zone, succeeds; report it to the \
                 primary's operator",
            ),
            Self::TooLong => (
                "too-long",
                "the transfer took longer than permitted",
                "check the connection to the primary, or raise max-transfer-secs",
            ),
            Self::TooLarge => (
                "too-large",
                "the transfer is larger than permitted",
                "check the size of the zone; if it is right, raise max-records or max-transfer-mib, if one of them is \
                 exceeded",
            ),
            Self::TooSlow => (
                "too-slow",
                "the primary sent nothing, or too little, for too long",
                "check the connection to the primary, and its load",
            ),
            Self::Cut => (
                "cut",
                "the connection was closed before the end of the transfer",
                "check the log of the primary; some primaries close connections of addresses that they do not permit; if \
                 this port is for TLS, set tls",
            ),
            Self::Malformed => (
                "malformed",
                "the transfer is malformed",
                "report it to the primary's operator; a middlebox may also have changed the data",
            ),
            Self::OutsideZone => (
                "outside-zone",
                "a record is outside the zone",
                "report it to the primary's operator",
            ),
            Self::TsigWrong => (
                "tsig-wrong",
                "a TSIG signature is wrong or missing",
                "compare name, algorithm and secret of the key with those of the primary",
            ),
            Self::TsigLate => (
                "tsig-late",
                "the time of a TSIG signature is wrong",
                "synchronize the clocks of this server and of the primary",
            ),
            Self::Expired => (
                "expired",
                "no primary has confirmed the zone for too long",
                "see the faults of the primaries; the last version stays in force",
            ),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<TransferError> for Fault {
    fn from(error: TransferError) -> Self {
        const SERVFAIL: u16 = Rcode::ServFail as u16;
        const REFUSED: u16 = Rcode::Refused as u16;
        match error {
            TransferError::Rcode(SERVFAIL) => Self::NotLoaded,
            TransferError::Rcode(REFUSED) => Self::Refused,
            TransferError::Rcode(_) | TransferError::NoSoa => Self::NotServed,
            TransferError::Malformed(_)
            | TransferError::Foreign(_)
            | TransferError::OtherSoa
            | TransferError::AfterEnd => Self::Malformed,
            TransferError::OutsideZone => Self::OutsideZone,
            TransferError::SerialGoneBack { .. } => Self::SerialGoneBack,
            TransferError::BrokenChain { .. } => Self::BrokenChanges,
            TransferError::TooManyRecords(_) => Self::TooLarge,
        }
    }
}

impl From<TsigError> for Fault {
    fn from(error: TsigError) -> Self {
        match error {
            TsigError::Wrong | TsigError::Unsigned | TsigError::Rejected => Self::TsigWrong,
            TsigError::Late => Self::TsigLate,
            TsigError::Malformed => Self::Malformed,
        }
    }
}

/// A fault of one primary, with all that an operator needs to know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("zone {zone} from {primary}: {}: {detail}; {}", fault.meaning(), fault.remedy())]
pub struct PrimaryFault {
    /// The fault.
    pub fault: Fault,
    /// The zone.
    pub zone: Box<Name>,
    /// The primary.
    pub primary: SocketAddr,
    /// What was found, without text from the network.
    pub detail: String,
}

/// How often each fault occurred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts([u64; Fault::ALL.len()]);

impl FaultCounts {
    /// Those that a feed has reported, by name.
    pub fn reported(faults: &[(String, u64)]) -> Self {
        let count = |fault: Fault| {
            let mut of_fault = faults.iter().filter(|(name, _)| name == fault.name());
            of_fault.next().map_or(0, |(_, count)| *count)
        };
        Self(Fault::ALL.map(count))
    }

    /// Counts a fault.
    pub fn add(&mut self, fault: Fault) {
        // The order of the variants is that of `ALL`.
        if let Some(count) = self.0.get_mut(fault as usize) {
            *count += 1;
        }
    }

    /// How often the fault occurred.
    pub fn of(&self, fault: Fault) -> u64 {
        self.0.get(fault as usize).copied().unwrap_or_default()
    }

    /// All faults with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (Fault, u64)> {
        Fault::ALL.into_iter().zip(self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_fault_has_its_own_name_text_remedy_and_counter() {
        let mut counts = FaultCounts::default();
        let mut seen = HashSet::new();
        for (index, fault) in Fault::ALL.into_iter().enumerate() {
            assert!(seen.insert(fault.name()) && seen.insert(fault.meaning()));
            assert!(!fault.remedy().is_empty());
            let name = serde_json::to_string(&fault).expect("JSON");
            assert_eq!(name, format!("\"{fault}\""), "one name everywhere");
            for _ in 0..index {
                counts.add(fault);
            }
        }
        for (index, (fault, count)) in counts.iter().enumerate() {
            assert_eq!((count, counts.of(fault)), (index as u64, index as u64));
        }
        let reported = counts
            .iter()
            .map(|(fault, count)| (fault.to_string(), count));
        let reported: Vec<_> = reported.collect();
        assert_eq!(FaultCounts::reported(&reported), counts);
    }

    #[test]
    fn a_fault_says_what_happened_where_and_what_to_do() {
        let fault = PrimaryFault {
            fault: TransferError::Rcode(5).into(),
            zone: Box::new(Name::from_text("feed.test").expect("a name")),
            primary: ([192, 0, 2, 1], 53).into(),
            detail: TransferError::Rcode(5).to_string(),
        };
        let text = fault.to_string();
        let start = "zone feed.test from 192.0.2.1:53: the transfer is refused: the response code is REFUSED; check ";
        assert!(text.starts_with(start), "{text}");
    }
}
