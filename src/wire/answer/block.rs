//! Signs by which an upstream server says that it blocks the queried name: an Extended DNS Error, or addresses that lead to
//! a page about the block, or nowhere.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::wire::{Rcode, edns};

/// Why an answer counts as blocked by upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockSign {
    /// It has an Extended DNS Error with this INFO-CODE.
    Error(u16),
    /// All its addresses are landing addresses. This is the first one.
    Landing(IpAddr),
}

/// A block by an upstream server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamBlock {
    /// The server, as it is shown.
    pub server: Arc<str>,
    /// The sign.
    pub sign: BlockSign,
}

/// The INFO-CODEs of blocked names (RFC 8914, sections 4.16 to 4.19).
const BLOCKS: [u16; 4] = [
    edns::code::BLOCKED,
    edns::code::CENSORED,
    edns::code::FILTERED,
    edns::code::PROHIBITED,
];

/// The sign that upstream blocks the name, if there is one, in an answer with this response code, the INFO-CODEs `codes`, and
/// these addresses.
///
/// REFUSED with code 18 is none: by that, a server says that it does not serve this client at all (RFC 8914, section 4.19).
pub(super) fn sign(
    rcode: u16,
    mut codes: impl Iterator<Item = u16>,
    mut addresses: impl Iterator<Item = IpAddr>,
    is_landing: impl Fn(IpAddr) -> bool,
) -> Option<BlockSign> {
    const REFUSED: u16 = Rcode::Refused as u16;
    let is_block =
        |code: &u16| BLOCKS.contains(code) && (*code != edns::code::PROHIBITED || rcode != REFUSED);
    if let Some(code) = codes.find(is_block) {
        return Some(BlockSign::Error(code));
    }
    let first = addresses.next().filter(|first| is_landing(*first))?;
    addresses
        .all(is_landing)
        .then_some(BlockSign::Landing(first))
}

impl fmt::Display for BlockSign {
    /// What the answer has.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(code) => write!(f, "Extended DNS Error {code}"),
            Self::Landing(address) => write!(f, "landing address {address}"),
        }
    }
}
