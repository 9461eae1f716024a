//! Writes a policy zone as a zone file (RFC 1035, section 5), which BIND, Knot Resolver and Tapis read.

use std::fmt::{self, Write as _};
use std::io::{self, BufWriter, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use domain::base::UnknownRecordData;
use domain::base::iana::Rtype;
use domain::base::name::ParsedName;
use domain::base::rdata::ParseAnyRecordData;
use domain::base::zonefile_fmt::{DisplayKind, ZonefileFmt};
use domain::dep::octseq::Parser;
use domain::rdata::AllRecordData;

use crate::control::persist::durable::{Access, DurableError, NewFile};
use crate::policy::image::ImageError;
use crate::policy::served_zones::ZoneVersion;
use crate::wire::name::{Name, write_text};
use crate::wire::rtype;

/// The size of the buffer between the text and the file.
const BUFFER: usize = 1 << 16;

/// Why a zone was not written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The file can't be written.
    #[error(transparent)]
    File(#[from] DurableError),
    /// The text can't be written.
    #[error("the zone can't be written: {0}; check the disk")]
    Io(#[from] io::Error),
    /// The rules can't be read.
    #[error("the policy in force can't be read: {0}; restart the server to compile it again")]
    Damaged(#[from] ImageError),
    /// The version is one of an earlier process.
    #[error("the records have not been read yet; try again in a few seconds")]
    Unread,
    /// It was interrupted.
    #[error("interrupted")]
    Interrupted,
}

/// Writes a version to a file, in place of any other one. `goes_on` is asked now and then.
///
/// # Errors
/// [`ExportError`]. The file is unchanged then.
pub(super) fn write_file(
    path: &Path,
    zone: &Name,
    version: &ZoneVersion,
    goes_on: impl Fn() -> bool,
) -> Result<(), ExportError> {
    replace_file(path, |file| {
        let mut out = BufWriter::with_capacity(BUFFER, file);
        write(zone, version, &mut out, goes_on)?;
        Ok(out.flush()?)
    })
}

/// Writes a file whose contents `write` writes, in place of any other one.
///
/// # Errors
/// That of `write`, or of the file, which is unchanged then.
pub fn replace_file<E: From<DurableError>>(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
) -> Result<(), E> {
    // Servers of other users read it.
    let new = NewFile::create(path, Access::Umask)?;
    write(&mut new.file())?;
    Ok(new.commit()?)
}

/// Writes a version as text.
///
/// # Errors
/// [`ExportError`].
pub fn write(
    zone: &Name,
    version: &ZoneVersion,
    out: &mut impl Write,
    goes_on: impl Fn() -> bool,
) -> Result<(), ExportError> {
    let (ttl, soa) = (version.ttl_secs, &version.soa);
    writeln!(out, "$ORIGIN {}\n$TTL {ttl}", Absolute(zone.wire()))?;
    let times = [soa.refresh, soa.retry, soa.expire, soa.minimum];
    let times = times.map(|time| time.to_string()).join(" ");
    let (mname, rname) = (Absolute(soa.mname.wire()), Absolute(soa.rname.wire()));
    writeln!(out, "@ SOA {mname} {rname} {} {times}", soa.serial)?;
    writeln!(out, "@ NS {}", Absolute(version.name_server.wire()))?;
    let contents = version.contents.as_ref().ok_or(ExportError::Unread)?;
    let mut records = contents.records();
    let mut line = String::with_capacity(512);
    while let Some(record) = records.next() {
        line.clear();
        // Writing to a string does not fail.
        let _ = match record.owner.label_count() {
            0 => line.write_char('@'),
            _ => write_text(record.owner.wire(), &mut line),
        };
        let (kind, ttl) = (Rtype::from_int(record.rtype), record.ttl_secs);
        let data = Data(record.rtype, record.data);
        let _ = writeln!(line, " {ttl} {kind} {data}");
        out.write_all(line.as_bytes())?;
        if !goes_on() {
            return Err(ExportError::Interrupted);
        }
    }
    match records.damage() {
        Some(damage) => Err(damage.into()),
        None => Ok(()),
    }
}

/// A name in wire form, with its final dot.
struct Absolute<'n>(&'n [u8]);

impl fmt::Display for Absolute<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_text(self.0, f)?;
        match self.0.len() {
            1 => Ok(()),
            _ => f.write_char('.'),
        }
    }
}

/// The type and RDATA of a record.
struct Data<'r>(u16, &'r [u8]);

impl fmt::Display for Data<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(kind, data) = *self;
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
        let text = |rtype, data: &[u8]| Data(rtype, data).to_string();
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
