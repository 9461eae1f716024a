//! The data of a record in presentation form (RFC 1035, section 5.1).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use domain::base::UnknownRecordData;
use domain::base::iana::Rtype;
use domain::base::name::ParsedName;
use domain::base::rdata::ParseAnyRecordData;
use domain::base::zonefile_fmt::{DisplayKind, ZonefileFmt};
use domain::dep::octseq::Parser;
use domain::rdata::AllRecordData;

use crate::control::list_file::write::names::Absolute;
use crate::policy::record::LocalRecord;
use crate::wire::rtype;

/// The data of a record, to be displayed. Data of an unknown form is displayed as in RFC 3597.
#[derive(Clone, Copy, Debug)]
pub struct Rdata<'r> {
    /// TYPE.
    pub rtype: u16,
    /// RDATA without compressed names.
    pub data: &'r [u8],
}

impl<'r> Rdata<'r> {
    /// The data of a rule's record.
    pub fn of(record: &'r LocalRecord) -> Self {
        Self {
            rtype: record.rtype,
            data: &record.data,
        }
    }
}

impl fmt::Display for Rdata<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rtype: kind, data } = *self;
        // Almost all records are of these types.
        match kind {
            rtype::CNAME => return Absolute(data).fmt(f),
            rtype::A if data.len() == 4 => {
                return Ipv4Addr::from([data[0], data[1], data[2], data[3]]).fmt(f);
            }
            rtype::AAAA => {
                if let Ok(bytes) = <[u8; 16]>::try_from(data) {
                    return Ipv6Addr::from(bytes).fmt(f);
                }
            }
            _ => {}
        }
        let kind = Rtype::from_int(kind);
        let mut parser = Parser::from_ref(data);
        let parsed: Result<AllRecordData<&[u8], ParsedName<&[u8]>>, _> =
            AllRecordData::parse_any_rdata(kind, &mut parser);
        match parsed {
            Ok(parsed) if parser.remaining() == 0 => {
                parsed.display_zonefile(DisplayKind::Simple).fmt(f)
            }
            // As for types without a known form (RFC 3597, section 5).
            _ => match UnknownRecordData::from_octets(kind, data) {
                Ok(unknown) => unknown.display_zonefile(DisplayKind::Simple).fmt(f),
                Err(_) => Err(fmt::Error),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rdata_is_written_in_the_form_of_zone_files() {
        let text = |rtype, data: &[u8]| Rdata { rtype, data }.to_string();
        assert_eq!(text(rtype::CNAME, &[0]), ".");
        assert_eq!(text(rtype::CNAME, b"\x01*\0"), "*.");
        assert_eq!(text(rtype::CNAME, b"\x0crpz-passthru\0"), "rpz-passthru.");
        assert_eq!(text(rtype::A, &[192, 0, 2, 1]), "192.0.2.1");
        assert_eq!(text(rtype::AAAA, &[0; 16]), "::");
        assert_eq!(text(rtype::TXT, b"\x05a \"b;"), "\"a \\\"b;\"");
        assert_eq!(text(15, b"\0\x0a\x04mail\x04test\0"), "10 mail.test.");
        assert_eq!(text(65_280, b"\x01\xff"), "\\# 2 01 ff");
        assert_eq!(text(rtype::A, b"\x01"), "\\# 1 01", "malformed");
    }
}
