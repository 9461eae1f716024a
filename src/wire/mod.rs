//! Reads and writes DNS messages; decides nothing and does no I/O.

pub mod answer;
pub mod ask;
pub mod edns;
pub mod name;
pub mod presentation;
pub mod query;
pub mod reply;
pub(crate) mod sections;
pub mod service;
pub mod text;
pub mod transfer;

/// The size of a message's header (RFC 1035, section 4.1.1).
pub const HEADER: usize = 12;

/// The UDP payload size that is announced and never exceeded, to avoid fragmentation (RFC 9715, section 3.1).
pub const UDP_PAYLOAD: u16 = 1232;

/// The largest UDP message without EDNS (RFC 1035, section 2.3.4).
pub const PLAIN_UDP: u16 = 512;

/// The largest message over TCP (RFC 1035, section 4.2.2).
pub const MAX_MESSAGE: usize = 65_535;

/// Flags in the second 16-bit word of the header.
pub mod flag {
    /// The message is a response.
    pub const QR: u16 = 0x8000;
    /// The answer is authoritative.
    pub const AA: u16 = 0x0400;
    /// The answer is truncated.
    pub const TC: u16 = 0x0200;
    /// Recursion is desired.
    pub const RD: u16 = 0x0100;
    /// Recursion is available.
    pub const RA: u16 = 0x0080;
    /// The data is authentic (RFC 4035, section 3.2.3).
    pub const AD: u16 = 0x0020;
    /// Checking is disabled (RFC 4035, section 3.2.2).
    pub const CD: u16 = 0x0010;
}

/// Response codes of answers that the server makes itself (RFC 1035, section 4.1.1; RFC 6891, section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Rcode {
    /// No error.
    NoError = 0,
    /// The query is malformed.
    FormErr = 1,
    /// No answer could be obtained.
    ServFail = 2,
    /// The name and all names below it do not exist.
    NxDomain = 3,
    /// This kind of query is not implemented.
    NotImp = 4,
    /// The server refuses to answer.
    Refused = 5,
    /// A name that results from a rewrite is too long (RFC 6672, section 2.2).
    YxDomain = 6,
    /// The server is not responsible for the zone (RFC 1996, section 3.10), or does not accept the signature (RFC 8945,
    /// section 5.2).
    NotAuth = 9,
    /// The EDNS version is not implemented.
    BadVers = 16,
}

/// Numbers of the record types that the server handles specially.
pub mod rtype {
    /// IPv4 address.
    pub const A: u16 = 1;
    /// Name server.
    pub const NS: u16 = 2;
    /// Canonical name.
    pub const CNAME: u16 = 5;
    /// Start of authority.
    pub const SOA: u16 = 6;
    /// The name of an address.
    pub const PTR: u16 = 12;
    /// Host information; here the answer to ANY (RFC 8482).
    pub const HINFO: u16 = 13;
    /// Mail exchange.
    pub const MX: u16 = 15;
    /// Text.
    pub const TXT: u16 = 16;
    /// IPv6 address.
    pub const AAAA: u16 = 28;
    /// Service location (RFC 2782).
    pub const SRV: u16 = 33;
    /// Redirection of a subtree (RFC 6672).
    pub const DNAME: u16 = 39;
    /// EDNS pseudo-record (RFC 6891).
    pub const OPT: u16 = 41;
    /// Delegation signer (RFC 4034, section 5).
    pub const DS: u16 = 43;
    /// Signature (RFC 4034, section 3).
    pub const RRSIG: u16 = 46;
    /// Denial of existence (RFC 4034, section 4).
    pub const NSEC: u16 = 47;
    /// Zone key (RFC 4034, section 2).
    pub const DNSKEY: u16 = 48;
    /// Hashed denial of existence (RFC 5155).
    pub const NSEC3: u16 = 50;
    /// Parameters of hashed denial of existence (RFC 5155, section 4).
    pub const NSEC3PARAM: u16 = 51;
    /// Service binding (RFC 9460).
    pub const SVCB: u16 = 64;
    /// Service binding of HTTPS (RFC 9460).
    pub const HTTPS: u16 = 65;
    /// The first of the QTYPEs and meta-TYPEs (RFC 6895, section 3.1).
    pub const FIRST_META: u16 = 128;
    /// Incremental zone transfer (RFC 1995).
    pub const IXFR: u16 = 251;
    /// Zone transfer (RFC 5936).
    pub const AXFR: u16 = 252;
    /// All types.
    pub const ANY: u16 = 255;

    /// Whether records of this type belong to the signatures of a zone (RFC 4035, section 2; RFC 5155).
    pub const fn is_signature(rtype: u16) -> bool {
        matches!(rtype, RRSIG | NSEC | NSEC3 | DNSKEY | NSEC3PARAM)
    }
}

/// Class numbers.
pub mod class {
    /// Internet.
    pub const IN: u16 = 1;
    /// Chaosnet, used by `version.bind`.
    pub const CH: u16 = 3;
}

/// Reads a 16-bit number at an offset. `None` if the message ends before the end of the number.
pub(crate) fn read_u16(message: &[u8], at: usize) -> Option<u16> {
    let bytes = message.get(at..at + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// Reads a 32-bit number at an offset. `None` if the message ends before the end of the number.
pub(crate) fn read_u32(message: &[u8], at: usize) -> Option<u32> {
    let bytes = message.get(at..at + 4)?;
    Some(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// The offset after a name, which may be compressed; pointers are not followed. `None` if the name is
/// malformed.
pub(crate) fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            size @ 1..=63 => at += 1 + usize::from(size),
            0xC0.. => return (at + 1 < message.len()).then_some(at + 2),
            _ => return None,
        }
    }
}
