//! Writes a policy zone as a zone file (RFC 1035, section 5), which BIND, Knot Resolver and Tapis read.

use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use domain::base::iana::Rtype;

use crate::control::list_file::write::Absolute;
use crate::control::persist::durable::{Access, DurableError, NewFile};
use crate::policy::image::ImageError;
use crate::policy::published::Inexpressible;
use crate::policy::served_zones::ZoneVersion;
use crate::wire::name::{Name, write_text};
use crate::wire::presentation::Rdata;

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
    // Servers of other users read it.
    let new = NewFile::create(path, Access::Umask)?;
    let mut out = BufWriter::with_capacity(BUFFER, new.file());
    // What it does not have is counted when the version is made.
    write(zone, version, &mut out, goes_on)?;
    out.flush()?;
    drop(out);
    Ok(new.commit()?)
}

/// Writes a version as text. Returns what it does not have.
///
/// # Errors
/// [`ExportError`].
pub fn write(
    zone: &Name,
    version: &ZoneVersion,
    out: &mut impl Write,
    goes_on: impl Fn() -> bool,
) -> Result<Inexpressible, ExportError> {
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
        let data = Rdata::new(record.rtype, record.data);
        let _ = writeln!(line, " {ttl} {kind} {data}");
        out.write_all(line.as_bytes())?;
        if !goes_on() {
            return Err(ExportError::Interrupted);
        }
    }
    match records.damage() {
        Some(damage) => Err(damage.into()),
        None => Ok(*records.inexpressible()),
    }
}
