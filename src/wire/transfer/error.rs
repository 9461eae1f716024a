//! Why the messages of a primary are not a transfer of the zone.

use super::serial::Serial;

/// Why a message is not the part of a transfer that it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// The message is shorter than its counts or lengths claim, or longer, or has an impossible name.
    #[error("a message is malformed: {0}")]
    Malformed(&'static str),
    /// It is not a response to the query: another ID, another question, or no response at all.
    #[error("a message does not answer the query: {0}")]
    Foreign(&'static str),
    /// The response code is not NOERROR.
    #[error("the response code is {}", rcode_name(*.0))]
    Rcode(u16),
    /// The first record is not the SOA of the zone: an empty answer, or a referral.
    #[error("the answer does not begin with the zone's SOA record")]
    NoSoa,
    /// A record has an owner outside the zone, or another class than IN.
    #[error("a record is outside the zone")]
    OutsideZone,
    /// The primary has an older version of the zone than the secondary (RFC 1982).
    #[error("the primary's serial {theirs} is older than {ours}, which was transferred before")]
    SerialGoneBack {
        /// The primary's serial.
        theirs: Serial,
        /// The serial that was transferred before.
        ours: Serial,
    },
    /// The serials of an incremental transfer do not lead from the old version to the new one.
    #[error("the changes do not lead from serial {from} to {to}: one begins or ends at {found}")]
    BrokenChain {
        /// The serial at which a change must begin.
        from: Serial,
        /// The serial of the new version.
        to: Serial,
        /// The serial that was found instead.
        found: Serial,
    },
    /// The last SOA record is not equal to the first one: the zone changed during the transfer, or messages of two
    /// transfers are mixed.
    #[error("the transfer ends with another SOA record than it began with")]
    OtherSoa,
    /// The message goes on after the last SOA record, or another message follows.
    #[error("there are records after the end of the transfer")]
    AfterEnd,
    /// There are more records than permitted.
    #[error("the transfer has more than {0} records")]
    TooManyRecords(u64),
}

/// The name of a response code (RFC 6895, section 2.3), or its number.
pub(super) fn rcode_name(code: u16) -> String {
    let name = match code {
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        9 => "NOTAUTH",
        16 => "BADVERS",
        _ => return code.to_string(),
    };
    name.to_owned()
}
