//! Queries assembled from bytes, so that malformed ones can be built.

use hickory_proto::rr::RecordType;
use tapis::wire::flag;

/// The ID of all queries.
pub(super) const ID: u16 = 0xBEEF;

/// A query; by default RD is set and there is no EDNS.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask<'n> {
    pub(super) name: &'n str,
    pub(super) rtype: u16,
    class: u16,
    flags: u16,
    opt: Option<(u16, u32)>,
}

/// A query for `name` in this letter case.
pub(super) fn ask(name: &str, rtype: RecordType) -> Ask<'_> {
    Ask {
        name,
        rtype: rtype.into(),
        class: 1,
        flags: flag::RD,
        opt: None,
    }
}

impl Ask<'_> {
    /// Sets all flags of the header.
    pub(super) fn flags(mut self, flags: u16) -> Self {
        self.flags = flags;
        self
    }

    pub(super) fn class(mut self, class: u16) -> Self {
        self.class = class;
        self
    }

    /// With EDNS and this UDP payload size.
    pub(super) fn edns(mut self, size: u16) -> Self {
        self.opt = Some((size, 0));
        self
    }

    /// With EDNS, a payload size of 1232 and the DO bit.
    pub(super) fn dnssec_ok(mut self) -> Self {
        self.opt = Some((1232, 0x8000));
        self
    }

    /// With this version of EDNS.
    pub(super) fn version(mut self, version: u8) -> Self {
        self.opt = Some((1232, u32::from(version) << 16));
        self
    }

    /// The question section.
    pub(super) fn question(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for label in self.name.split('.').filter(|label| !label.is_empty()) {
            bytes.push(u8::try_from(label.len()).expect("labels here are short"));
            bytes.extend_from_slice(label.as_bytes());
        }
        bytes.push(0);
        bytes.extend_from_slice(&self.rtype.to_be_bytes());
        bytes.extend_from_slice(&self.class.to_be_bytes());
        bytes
    }

    /// The OPT record; empty without EDNS.
    pub(super) fn opt(&self) -> Vec<u8> {
        let Some((size, ttl)) = self.opt else {
            return Vec::new();
        };
        let mut bytes = vec![0, 0, 41];
        bytes.extend_from_slice(&size.to_be_bytes());
        bytes.extend_from_slice(&ttl.to_be_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes
    }

    /// The whole message.
    pub(super) fn packet(&self) -> Vec<u8> {
        let counts = [1, 0, 0, u16::from(self.opt.is_some())];
        message(self.flags, counts, &[&self.question(), &self.opt()])
    }
}

/// A message of any kind: a header with these flags and counts, then the parts unchanged.
pub(super) fn message(flags: u16, counts: [u16; 4], parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = ID.to_be_bytes().to_vec();
    bytes.extend_from_slice(&flags.to_be_bytes());
    for count in counts {
        bytes.extend_from_slice(&count.to_be_bytes());
    }
    bytes.extend(parts.concat());
    bytes
}
