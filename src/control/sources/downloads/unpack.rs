//! Unpacks files: those that were packed for the transfer (`Content-Encoding`), and those that the publisher packs.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};

use brotli_decompressor::{BrotliDecoderParameter, Decompressor};
use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

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
            // A frame, or one that is to be skipped.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
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
        Packing::Zstd => copy(Frames::new(from), to, most),
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

/// The frames of a zstd file, one after the other. Skippable frames have no contents (RFC 8878, section 3.1.2).
struct Frames<R: BufRead> {
    from: R,
    decoder: FrameDecoder,
    /// Whether a frame has begun.
    is_inside: bool,
    /// The bytes of the frame so far.
    size: u64,
}

impl<R: BufRead> Frames<R> {
    fn new(from: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MAX_WINDOW);
        Self {
            from,
            decoder,
            is_inside: false,
            size: 0,
        }
    }

    /// Begins the next frame. Returns whether there is one.
    fn begin(&mut self) -> io::Result<bool> {
        loop {
            if self.from.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.decoder.reset(&mut self.from) {
                Ok(()) => {
                    (self.is_inside, self.size) = (true, 0);
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    let mut skipped = self.from.by_ref().take(length);
                    if io::copy(&mut skipped, &mut io::sink())? < length {
                        return Err(invalid("a frame that is to be skipped is cut off"));
                    }
                }
                Err(error) => return Err(invalid(&error.to_string())),
            }
        }
    }

    /// Checks a whole frame (RFC 8878, section 3.1.1).
    fn check(&self) -> io::Result<()> {
        let size = self.decoder.content_size();
        if size != 0 && size != self.size {
            return Err(invalid("a frame does not have the size in its header"));
        }
        let expected = self.decoder.get_checksum_from_data();
        match expected.is_some() && expected != self.decoder.get_calculated_checksum() {
            true => Err(invalid("a frame does not have its checksum")),
            false => Ok(()),
        }
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.is_inside && !self.begin()? {
                return Ok(0);
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let block = BlockDecodingStrategy::UptoBlocks(1);
                let decoded = self.decoder.decode_blocks(&mut self.from, block);
                decoded.map_err(|error| invalid(&error.to_string()))?;
            }
            let read = self.decoder.read(buffer)?;
            self.size += read as u64;
            if read > 0 {
                return Ok(read);
            }
            self.check()?;
            self.is_inside = false;
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

    /// A frame with a checksum.
    const CHECKED: &[u8] = b"\x28\xb5\x2f\xfd\x24\x02\x11\x00\x00ab\x61\x4a\xd0\x92";

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
        let skipped = [&b"\x5a\x2a\x4d\x18\x03\0\0\0xyz"[..], ZSTD].concat();
        let between = [ZSTD, &skipped].concat();
        for (file, text) in [(skipped, "abc"), (between, "abcabc")] {
            let unpacked = unpacked(&file, Packing::of_file(&file), 100);
            assert_eq!(unpacked, Ok(text.into()));
        }
        assert_eq!(unpacked(CHECKED, Packing::Zstd, 100), Ok(b"ab".to_vec()));
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
    fn a_brotli_stream_ends_at_the_limit_and_at_the_largest_usual_window() {
        // 4 MiB of zeros.
        let bomb = b"\x9f\xff\xff\x3f\xf8\x27\x00\xe2\xb1\x40\x20\xf7\xfe\x07";
        let mut out = Vec::new();
        let failure = unpack(&file(bomb), Packing::Brotli, &mut out, 1 << 20).expect_err("a bomb");
        assert_eq!(failure.fault, DownloadFault::TooLarge);
        assert!(out.len() <= 1 << 20, "{}", out.len());
        let whole = unpacked(bomb, Packing::Brotli, 4 << 20).expect("within the limit");
        assert_eq!(whole, vec![0; 4 << 20]);
        // A window of 16 MiB, and one of 1 GiB, which only large windows have.
        let windows = [
            (&b"\x8f\x00\x80ab\x03"[..], Ok(b"ab".to_vec())),
            (b"\x11\x1e\x02\x00\x02ab\x03", Err(DownloadFault::Broken)),
        ];
        for (stream, result) in windows {
            assert_eq!(unpacked(stream, Packing::Brotli, 100), result);
        }
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
        let whole = [ZSTD, CHECKED, b"\x50\x2a\x4d\x18\x01\0\0\0x"].concat();
        let ends = [0, 11, 21, 36, whole.len()];
        for cut in 1..whole.len() {
            let is_whole = unpacked(&whole[..cut], Packing::Zstd, 100).is_ok();
            assert_eq!(is_whole, ends.contains(&cut), "{cut}");
        }
        let mut changed = CHECKED.to_vec();
        changed[9] ^= 1;
        assert_eq!(
            unpacked(&changed, Packing::Zstd, 100),
            Err(DownloadFault::Broken)
        );
        // A larger window than the header of the frame may ask for, 16 MiB.
        assert_eq!(
            unpacked(
                b"\x28\xb5\x2f\xfd\x00\x70\x11\x00\x00ab",
                Packing::Zstd,
                100
            ),
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
