//! Unpacks files: those that were packed for the transfer (`Content-Encoding`), and those that the publisher packs.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};

use brotli_decompressor::{BrotliDecoderParameter, Decompressor};
use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use super::fault::{DownloadFault, Failure};

/// Bytes that are read at a time.
const PIECE: usize = 64 << 10;

/// How a file is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    None,
    Gzip,
    Zstd,
    Brotli,
}

impl Packing {
    /// That of a value of `Content-Encoding`.
    pub(super) fn of_transfer(coding: Option<&str>) -> Result<Self, Failure> {
        match coding
            .map(|coding| coding.trim().to_ascii_lowercase())
            .as_deref()
        {
            None | Some("" | "identity") => Ok(Self::None),
            Some("gzip" | "x-gzip") => Ok(Self::Gzip),
            Some("zstd") => Ok(Self::Zstd),
            Some("br") => Ok(Self::Brotli),
            Some(_) => Err(Failure::new(
                DownloadFault::Broken,
                "the server uses a Content-Encoding that was not offered to it",
            )),
        }
    }

    /// That of a file that begins with these bytes.
    pub(super) fn of_file(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// The largest window of a zstd frame, in bytes, which is in memory (RFC 9659, section 3).
const MAX_WINDOW: u64 = 8 << 20;

/// Unpacks `from` into `to`, up to `most` bytes.
pub(super) fn unpack(
    from: &File,
    packing: Packing,
    to: &mut impl Write,
    most: u64,
) -> Result<(), Failure> {
    let from = BufReader::with_capacity(PIECE, from);
    match packing {
        Packing::None => copy(from, to, most),
        Packing::Gzip => copy(MultiGzDecoder::new(from), to, most),
        Packing::Zstd => copy(Frames::Between(from), to, most),
        Packing::Brotli => {
            let mut decompressor = Decompressor::new(from, PIECE);
            // A large window would take up to 1 GiB of memory. The usual ones have at most 16 MiB (RFC 7932, section 9.1).
            let large = BrotliDecoderParameter::BROTLI_DECODER_PARAM_LARGE_WINDOW;
            decompressor.set_parameter(large, 0);
            copy(decompressor, to, most)
        }
    }
}

fn copy(mut from: impl Read, to: &mut impl Write, most: u64) -> Result<(), Failure> {
    let mut piece = vec![0; PIECE];
    let mut total = 0;
    loop {
        let read = from.read(&mut piece);
        let read = read.map_err(|error| Failure::new(DownloadFault::Broken, error.to_string()))?;
        if read == 0 {
            return Ok(());
        }
        total += read as u64;
        if total > most {
            let detail = format!("it has more than {} MiB when it is unpacked", most >> 20);
            return Err(Failure::new(DownloadFault::TooLarge, detail));
        }
        to.write_all(&piece[..read])
            .map_err(|error| unwritten(&error))?;
    }
}

/// A file that can't be written.
pub(super) fn unwritten(error: &io::Error) -> Failure {
    Failure::new(DownloadFault::NotWritten, error.to_string())
}

/// The frames of a zstd file, one after the other.
enum Frames<R: BufRead> {
    Between(R),
    Inside(Box<StreamingDecoder<R, FrameDecoder>>),
    Failed,
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match std::mem::replace(self, Self::Failed) {
                Self::Between(mut from) => {
                    if from.fill_buf()?.is_empty() {
                        *self = Self::Between(from);
                        return Ok(0);
                    }
                    let decoder = StreamingDecoder::new_with_max_window_size(from, MAX_WINDOW);
                    let decoder = decoder.map_err(|error| invalid(&error.to_string()))?;
                    *self = Self::Inside(Box::new(decoder));
                }
                Self::Inside(mut decoder) => match decoder.read(buffer)? {
                    0 => *self = Self::Between(decoder.into_inner()),
                    read => {
                        *self = Self::Inside(decoder);
                        return Ok(read);
                    }
                },
                Self::Failed => return Err(invalid("the file is broken")),
            }
        }
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use std::io::Seek;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes).expect("written");
        file.rewind().expect("a file");
        file
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).expect("packed");
        encoder.finish().expect("packed")
    }

    fn unpacked(bytes: &[u8], packing: Packing, most: u64) -> Result<Vec<u8>, DownloadFault> {
        let mut out = Vec::new();
        let result = unpack(&file(bytes), packing, &mut out, most);
        result.map(|()| out).map_err(|failure| failure.fault)
    }

    /// Two frames, each of one raw block.
    const ZSTD: &[u8] =
        b"\x28\xb5\x2f\xfd\x20\x02\x11\x00\x00ab\x28\xb5\x2f\xfd\x20\x01\x09\x00\x00c";

    #[test]
    fn packed_files_are_unpacked_member_by_member() {
        let two = [gzip(b"a.example\n"), gzip(b"b.example\n")].concat();
        assert_eq!(
            unpacked(&two, Packing::of_file(&two), 100),
            Ok(b"a.example\nb.example\n".to_vec())
        );
        assert_eq!(
            unpacked(ZSTD, Packing::of_file(ZSTD), 100),
            Ok(b"abc".to_vec())
        );
        assert_eq!(
            unpacked(b"plain", Packing::of_file(b"plain"), 100),
            Ok(b"plain".to_vec())
        );
        // An uncompressed meta-block "ab", and the last, empty one.
        let brotli = b"\x10\x00\x10ab\x03";
        let packing = Packing::of_transfer(Some("br")).expect("known");
        assert_eq!(unpacked(brotli, packing, 100), Ok(b"ab".to_vec()));
    }

    #[test]
    fn a_file_that_unpacks_to_more_than_permitted_ends_at_the_limit() {
        let bomb = gzip(&vec![0; 4 << 20]);
        assert!(bomb.len() < 8192);
        let mut out = Vec::new();
        let failure = unpack(&file(&bomb), Packing::Gzip, &mut out, 1 << 20).expect_err("a bomb");
        assert_eq!(failure.fault, DownloadFault::TooLarge);
        assert!(out.len() <= 1 << 20, "{}", out.len());
    }

    #[test]
    fn a_file_that_was_cut_or_changed_is_broken() {
        let whole = gzip(b"a.example\n");
        for cut in 1..whole.len() {
            assert_eq!(
                unpacked(&whole[..cut], Packing::Gzip, 100),
                Err(DownloadFault::Broken),
                "{cut}"
            );
        }
        assert_eq!(
            unpacked(&ZSTD[..10], Packing::Zstd, 100),
            Err(DownloadFault::Broken)
        );
        assert_eq!(
            unpacked(b"\x28\xb5\x2f\xfdxxxx", Packing::Zstd, 100),
            Err(DownloadFault::Broken)
        );
        assert_eq!(
            unpacked(b"\x91\x19\xd9\xad", Packing::Brotli, 100),
            Err(DownloadFault::Broken)
        );
    }
}
