//! The OPT pseudo-record and Extended DNS Errors.

use super::{flag, read_u16, read_u32};

/// The option code of Extended DNS Errors (RFC 8914, section 2).
pub const OPTION_EDE: u16 = 15;
/// The option code of Client Subnet (RFC 7871).
pub const OPTION_CLIENT_SUBNET: u16 = 8;
/// The option code of Padding (RFC 7830).
pub const OPTION_PADDING: u16 = 12;

/// The DO bit in the low half of the OPT record's TTL (RFC 3225, section 3).
pub const DO_BIT: u32 = 0x8000;

/// INFO-CODEs of errors that the server reports (RFC 8914, section 4), besides those of blocked answers.
pub mod code {
    /// 3: the answer is older than its TTL (RFC 8767).
    pub const STALE_ANSWER: u16 = 3;
    /// 13: the failure is cached (RFC 9520).
    pub const CACHED_ERROR: u16 = 13;
    /// 15: the operator of the server blocks the name.
    pub const BLOCKED: u16 = 15;
    /// 16: an authority had the name blocked.
    pub const CENSORED: u16 = 16;
    /// 17: the client asked to have the name blocked.
    pub const FILTERED: u16 = 17;
    /// 18: the client is not authorized.
    pub const PROHIBITED: u16 = 18;
    /// 19: the NXDOMAIN is older than its TTL.
    pub const STALE_NXDOMAIN: u16 = 19;
    /// 20: the query needs recursion, which was not desired.
    pub const NOT_AUTHORITATIVE: u16 = 20;
    /// 22: no upstream answered.
    pub const NO_REACHABLE_AUTHORITY: u16 = 22;
    /// 23: a network error prevented reaching an upstream.
    pub const NETWORK_ERROR: u16 = 23;
}

/// An Extended DNS Error of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ede<'t> {
    /// INFO-CODE.
    pub code: u16,
    /// EXTRA-TEXT, UTF-8; may be empty. Omitted if the answer would get too long.
    pub text: &'t str,
}

/// The fixed fields of an OPT record (RFC 6891, section 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// The sender's UDP payload size in bytes, as sent.
    pub udp_size: u16,
    /// The upper eight bits of the response code.
    pub extended_rcode: u8,
    /// The EDNS version; only 0 exists.
    pub version: u8,
    /// Whether DNSSEC records are wanted.
    pub dnssec_ok: bool,
}

impl Edns {
    /// The fields encoded in an OPT record's class and TTL.
    pub fn from_fields(class: u16, ttl: u32) -> Self {
        let [extended_rcode, version, ..] = ttl.to_be_bytes();
        Self {
            udp_size: class,
            extended_rcode,
            version,
            dnssec_ok: ttl & DO_BIT != 0,
        }
    }
}

/// Calls `each` with the code and the data of every option in an OPT record's RDATA. Returns false if an
/// option overruns the RDATA.
pub fn options<'m>(rdata: &'m [u8], mut each: impl FnMut(u16, &'m [u8])) -> bool {
    let mut rest = rdata;
    while !rest.is_empty() {
        let (Some(code), Some(size)) = (read_u16(rest, 0), read_u16(rest, 2)) else {
            return false;
        };
        let end = 4 + usize::from(size);
        let Some(data) = rest.get(4..end) else {
            return false;
        };
        each(code, data);
        rest = &rest[end..];
    }
    true
}

/// The fields of a resource record after its owner.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordFields {
    pub(crate) rtype: u16,
    pub(crate) class: u16,
    pub(crate) ttl: u32,
    /// Offset of the TTL field.
    pub(crate) ttl_at: usize,
    /// Offset of the RDATA.
    pub(crate) data: usize,
    /// Offset after the record.
    pub(crate) end: usize,
}

/// Reads the fields after an owner. `None` if the message ends before the end of the record.
pub(crate) fn fields(message: &[u8], at: usize) -> Option<RecordFields> {
    let data = at + 10;
    let end = data + usize::from(read_u16(message, at + 8)?);
    (end <= message.len()).then_some(RecordFields {
        rtype: read_u16(message, at)?,
        class: read_u16(message, at + 2)?,
        ttl: read_u32(message, at + 4)?,
        ttl_at: at + 4,
        data,
        end,
    })
}

/// The full response code: four bits of the header, and eight upper bits of the OPT record.
pub(crate) fn full_rcode(flags: u16, edns: Option<Edns>) -> u16 {
    let low = flags & 0x000F;
    edns.map_or(low, |e| u16::from(e.extended_rcode) << 4 | low)
}

/// The flags of an answer to a query with these flags: QR and RA set, RD and CD copied, all others zero. AA
/// is zero because a forwarder is not authoritative.
pub(crate) fn answer_flags(query_flags: u16) -> u16 {
    flag::QR | flag::RA | (query_flags & (flag::RD | flag::CD))
}
