//! Receives a file, unpacks and checks it.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes};
use tokio::task::block_in_place;
use tokio::time::Instant;

use super::client::{Answer, explain};
use super::copy::{Copies, NewCopy, Which};
use super::fault::{DownloadFault, Failure};
use super::pace::Pace;
use super::proof::{HEAD, check, check_head};
use super::unpack::{Packing, unpack, unwritten};
use crate::config::download::{DownloadLimits, Proof};
use crate::control::persist::durable::{Access, DurableError, NewFile};

/// Bytes that are collected before they are written.
const PIECE: usize = 256 << 10;

/// A file that has arrived, and how to check it.
pub(super) struct Arrived {
    pub(super) file: NewFile,
    /// How it is packed for the transfer.
    pub(super) packing: Packing,
    pub(super) proof: Option<Proof>,
    /// The text of its signature, if the proof is one.
    pub(super) signature: Option<String>,
    /// Whether a list in JSON is expected.
    pub(super) may_be_json: bool,
    /// The versions that are here.
    pub(super) known: Option<Copies>,
    pub(super) limits: DownloadLimits,
    /// Where the copy is.
    pub(super) path: PathBuf,
}

/// Writes the body of a response to a new file beside `path`, up to the permitted size.
pub(super) async fn receive(
    answer: &mut Answer,
    path: &Path,
    limits: DownloadLimits,
    pace: &mut Pace,
) -> Result<NewFile, Failure> {
    let new = block_in_place(|| NewFile::create(path, Access::Umask)).map_err(failed)?;
    let mut pending = Vec::with_capacity(PIECE);
    let write = |pending: &mut Vec<u8>| -> Result<(), Failure> {
        let written = block_in_place(|| new.file().write_all(pending));
        pending.clear();
        written.map_err(|error| unwritten(&error))
    };
    let mut take = |part: &[u8]| {
        pending.extend_from_slice(part);
        match pending.len() >= PIECE {
            true => write(&mut pending),
            false => Ok(()),
        }
    };
    each_part(answer, limits.bytes, pace, &mut take).await?;
    write(&mut pending)?;
    Ok(new)
}

/// Receives a small body.
pub(super) async fn receive_text(
    answer: &mut Answer,
    most: u64,
    pace: &mut Pace,
) -> Result<String, Failure> {
    let mut text = Vec::new();
    let mut take = |part: &[u8]| {
        text.extend_from_slice(part);
        Ok(())
    };
    each_part(answer, most, pace, &mut take).await?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

async fn each_part(
    answer: &mut Answer,
    most: u64,
    pace: &mut Pace,
    take: &mut impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let too_large = || {
        let detail = match most >> 20 {
            0 => format!("it has more than {most} bytes"),
            mib => format!("it has more than {mib} MiB as it is transferred"),
        };
        Failure::new(DownloadFault::TooLarge, detail)
    };
    let body = answer.response.body_mut();
    if body.size_hint().lower() > most {
        return Err(too_large());
    }
    pace.begin(Instant::now());
    let mut total = 0;
    loop {
        let size = |frame: &Option<Result<Bytes, _>>| match frame {
            Some(Ok(part)) => part.len(),
            _ => 0,
        };
        let next = async {
            let frame = body.frame().await?;
            Some(frame.map(|frame| frame.into_data().unwrap_or_default()))
        };
        match pace.next(next, size).await? {
            None => return Ok(()),
            Some(Ok(part)) => {
                total += part.len() as u64;
                if total > most {
                    return Err(too_large());
                }
                take(&part)?;
            }
            Some(Err(error)) => {
                let fault = match error.is_incomplete_message() || error.is_body_write_aborted() {
                    true => DownloadFault::Truncated,
                    false => of_broken_body(&error),
                };
                return Err(Failure::new(fault, explain(&error)));
            }
        }
    }
}

/// A body that ends too early is reported as an error of the connection.
fn of_broken_body(error: &hyper::Error) -> DownloadFault {
    match error.is_parse() {
        true => DownloadFault::Protocol,
        false => DownloadFault::Truncated,
    }
}

/// A file that was checked.
pub(super) enum Checked {
    /// It has the bytes of a version that is here.
    Known(Which),
    /// Another version, unpacked.
    New(NewCopy),
}

/// Unpacks and checks a file. Returns it with its digest.
pub(super) fn check_arrived(arrived: Arrived) -> Result<(Checked, String), Failure> {
    let Arrived {
        file, path, limits, ..
    } = arrived;
    let published = unpacked(file, arrived.packing, &path, limits)?;
    let (proof, signature) = (arrived.proof.as_ref(), arrived.signature.as_deref());
    let digest = check(published.file(), proof, signature)?;
    let known = arrived.known.as_ref();
    if let Some(which) = known.and_then(|known| known.with_digest(&digest)) {
        return Ok((Checked::Known(which), digest));
    }
    let packing = Packing::of_file(&head(published.file())?);
    let list = unpacked(published, packing, &path, limits)?;
    let head = head(list.file())?;
    if head.is_empty() {
        return Err(Failure::new(DownloadFault::Empty, "it has no bytes"));
    }
    check_head(&head, arrived.may_be_json)?;
    let new = NewCopy {
        digest: blake3_of(list.file())?,
        file: list,
    };
    Ok((Checked::New(new), digest))
}

/// The file without this packing.
fn unpacked(
    file: NewFile,
    packing: Packing,
    path: &Path,
    limits: DownloadLimits,
) -> Result<NewFile, Failure> {
    if packing == Packing::None {
        return Ok(file);
    }
    let new = NewFile::create(path, Access::Umask).map_err(failed)?;
    file.file().rewind().map_err(|error| unwritten(&error))?;
    unpack(file.file(), packing, &mut new.file(), limits.unpacked)?;
    Ok(new)
}

/// BLAKE3 of a file in hexadecimal.
fn blake3_of(mut file: &File) -> Result<String, Failure> {
    let mut hasher = blake3::Hasher::new();
    file.rewind().map_err(|error| unwritten(&error))?;
    hasher
        .update_reader(file)
        .map_err(|error| unwritten(&error))?;
    Ok(hasher.finalize().to_string())
}

/// The first bytes of a file.
fn head(mut file: &File) -> Result<Vec<u8>, Failure> {
    let mut head = Vec::new();
    file.rewind().map_err(|error| unwritten(&error))?;
    let read = file.take(HEAD as u64).read_to_end(&mut head);
    read.map_err(|error| unwritten(&error))?;
    Ok(head)
}

/// An error of the system without the name of the file, which differs each time: equal errors are logged once.
pub(super) fn failed(error: DurableError) -> Failure {
    unwritten(&error.source)
}
