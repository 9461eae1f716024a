//! The SOA record, which has a zone's serial and its timers.

use serde::{Deserialize, Serialize};

use super::serial::Serial;
use crate::wire::name::Name;
use crate::wire::read_u32;

/// The data of a SOA record (RFC 1035, section 3.3.13). Times are in seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Soa {
    /// MNAME: the primary.
    pub mname: Name,
    /// RNAME: the mailbox of the person responsible.
    pub rname: Name,
    /// SERIAL.
    pub serial: Serial,
    /// REFRESH: when to ask for the serial again.
    pub refresh: u32,
    /// RETRY: when to try again after a failure.
    pub retry: u32,
    /// EXPIRE: when the zone is out of date without a successful refresh.
    pub expire: u32,
    /// MINIMUM: the TTL of negative answers (RFC 2308).
    pub minimum: u32,
}

impl Soa {
    /// Reads the RDATA from `start` to `end`. `None` if it is malformed.
    pub fn parse(message: &[u8], start: usize, end: usize) -> Option<Self> {
        let (mname, at) = Name::parse_compressed(message, start).ok()?;
        let (rname, at) = Name::parse_compressed(message, at).ok()?;
        if at + 20 != end {
            return None;
        }
        let number = |index: usize| read_u32(message, at + 4 * index);
        Some(Self {
            mname,
            rname,
            serial: Serial(number(0)?),
            refresh: number(1)?,
            retry: number(2)?,
            expire: number(3)?,
            minimum: number(4)?,
        })
    }

    /// Appends the RDATA without compression. Names are in lower case.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.mname.wire());
        out.extend_from_slice(self.rname.wire());
        let times = [self.refresh, self.retry, self.expire, self.minimum];
        for number in [self.serial.0].into_iter().chain(times) {
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
}
