//! Checks that a file is the publisher's, and that it is a list.

use std::fs::File;
use std::io::{Read, Seek};

use data_encoding::HEXLOWER;
use minisign_verify::{Error, PublicKey, Signature};
use sha2::{Digest, Sha256};

use super::fault::{DownloadFault, Failure};
use super::unpack::unwritten;
use crate::config::download::Proof;

/// Bytes that are read at a time.
const PIECE: usize = 64 << 10;
/// Bytes of a file that are looked at to recognise a page.
pub(super) const HEAD: usize = 512;
/// How pages begin, in lower case.
const PAGES: &[&[u8]] = &[b"<!doctype", b"<html", b"<head", b"<body", b"<?xml"];

/// Checks a file as the publisher has it. `signature` is the text of its signature, if the proof is one. Returns the
/// SHA-256 digest in hexadecimal.
pub(super) fn check(
    mut file: &File,
    proof: Option<&Proof>,
    signature: Option<&str>,
) -> Result<String, Failure> {
    let key = match proof {
        Some(Proof::Minisign { key, .. }) => Some(key),
        Some(Proof::Sha256(_)) | None => None,
    };
    let key = key.map(|key| PublicKey::from_base64(key)).transpose();
    let key = key.map_err(|error| unsigned(&error))?;
    let signature = signature.map(Signature::decode).transpose();
    let signature = signature.map_err(|error| unsigned(&error))?;
    let mut verifier = match key.as_ref().zip(signature.as_ref()) {
        Some((key, signature)) => Some(key.verify_stream(signature).map_err(|it| unsigned(&it))?),
        None => None,
    };
    let mut digest = Sha256::new();
    file.rewind().map_err(|error| unwritten(&error))?;
    let mut piece = vec![0; PIECE];
    loop {
        let read = file.read(&mut piece).map_err(|error| unwritten(&error))?;
        if read == 0 {
            break;
        }
        digest.update(&piece[..read]);
        if let Some(verifier) = &mut verifier {
            verifier.update(&piece[..read]);
        }
    }
    if let Some(mut verifier) = verifier {
        verifier.finalize().map_err(|error| unsigned(&error))?;
    }
    let digest = HEXLOWER.encode(&digest.finalize());
    match proof {
        Some(Proof::Sha256(expected)) if *expected != digest => Err(Failure::new(
            DownloadFault::Digest,
            format!("it has {digest}"),
        )),
        _ => Ok(digest),
    }
}

fn unsigned(error: &Error) -> Failure {
    let detail = match error {
        Error::UnexpectedKeyId => "it was made with another key".to_owned(),
        Error::InvalidSignature => "the file was changed after it was signed".to_owned(),
        Error::InvalidEncoding => "the signature is not one of minisign".to_owned(),
        Error::UnsupportedLegacyMode => {
            "it is of the old kind, without a hash; the publisher has to sign with minisign 0.6 or newer"
                .to_owned()
        }
        other => other.to_string(),
    };
    Failure::new(DownloadFault::Signature, detail)
}

/// Refuses a page or an error message by its media type.
pub(super) fn check_type(media_type: &str) -> Result<(), Failure> {
    let is_page = matches!(media_type, "text/html" | "application/xhtml+xml");
    match is_page || media_type == "application/problem+json" {
        true => Err(Failure::new(
            DownloadFault::NotAList,
            format!("its type is {media_type}"),
        )),
        false => Ok(()),
    }
}

/// Refuses a page by its first bytes, and JSON unless it `may_be_json`.
pub(super) fn check_head(head: &[u8], may_be_json: bool) -> Result<(), Failure> {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let text = text.trim_ascii_start();
    let is = |start: &&[u8]| {
        let begin = text.get(..start.len());
        begin.is_some_and(|begin| begin.eq_ignore_ascii_case(start))
    };
    let failed = |detail: &str| Err(Failure::new(DownloadFault::NotAList, detail));
    if PAGES.iter().any(is) {
        return failed("it begins like a web page");
    }
    if !may_be_json && text.starts_with(b"{") {
        return failed("it begins like JSON");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes).expect("written");
        file
    }

    /// From the documentation of minisign-verify: a key, and its signature of "test".
    const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    const SIGNATURE: &str = "untrusted comment: signature from minisign secret key
RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=
trusted comment: timestamp:1556193335\tfile:test
y/rUw2y8/hOUYjZU71eHp/Wo1KZ40fGy2VJEDl34XMJM+TX48Ss/17u3IvIfbVR1FkZZSNCisQbuQY+bHwhEBg==";

    fn fault(bytes: &[u8], proof: &Proof, signature: Option<&str>) -> Option<DownloadFault> {
        let checked = check(&file(bytes), Some(proof), signature);
        checked.err().map(|failure| failure.fault)
    }

    #[test]
    fn a_signature_proves_one_file_and_one_key() {
        let of = |key: &str| Proof::Minisign {
            key: key.to_owned(),
            url: None,
        };
        assert_eq!(fault(b"test", &of(KEY), Some(SIGNATURE)), None);
        let refused = Some(DownloadFault::Signature);
        assert_eq!(fault(b"best", &of(KEY), Some(SIGNATURE)), refused);
        let other = "RWTAPRW7qy49FV7jMuVaOGdbBhwTr1PFkRfCgeJsC7UNWyZUBz6VGCjw";
        assert_eq!(fault(b"test", &of(other), Some(SIGNATURE)), refused);
        assert_eq!(fault(b"test", &of(KEY), Some("404 page")), refused);
    }

    #[test]
    fn a_digest_accepts_one_file() {
        let of = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let proof = Proof::Sha256(of.to_owned());
        assert_eq!(fault(b"test", &proof, None), None);
        assert_eq!(fault(b"best", &proof, None), Some(DownloadFault::Digest));
    }

    #[test]
    fn pages_and_json_are_no_lists() {
        for page in [
            &b"<!DOCTYPE html>"[..],
            b"\xef\xbb\xbf\n <HTML lang=en>",
            b"{\"error\":1}",
        ] {
            check_head(page, false).expect_err("a page");
        }
        for list in [
            &b"! Title\n||x^"[..],
            b"[Adblock Plus]",
            b"0.0.0.0 x.example",
            b"",
        ] {
            check_head(list, false).expect("a list");
        }
        check_head(b"{}", true).expect("a list");
        check_type("text/html").expect_err("a page");
        check_type("text/plain").expect("a list");
    }
}
