//! The keys that authenticate the journal's head: HMAC-SHA-256 over the number and the hash of the last entry.

use std::io;
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::chain::{Hash, hex};
use crate::config::secret::{self, UnreadSecret};
use crate::config::shown::Show;

/// The start of every authenticated text, so that a MAC made for another purpose is not valid for a head.
const CONTEXT: &str = "tapis journal head 1";
/// The shortest secret, in bytes: as long as the MAC (RFC 2104, section 3).
const SECRET_MIN: usize = 32;
/// The longest ID, in characters.
const ID_MAX: usize = 32;
/// Bytes that are read of a file of keys.
const FILE_MAX: u64 = 64 << 10;

/// Why keys can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file can't be read.
    #[error("{path}: the journal's key can't be read: {source}; {remedy}", remedy = secret::remedy(.path, .source), path = .path.shown())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Others may read it, or the group may write to it.
    #[error(
        "{path}: users other than the server's can read or change this key: {}", secret::PROTECT, path = .0.shown())]
    Exposed(PathBuf),
    /// A line is not a key.
    #[error(
        "{path}: line {line}: {problem}; a key is ID SECRET, the secret at least 64 hexadecimal digits", path = .path.shown())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The problem.
        problem: &'static str,
    },
    /// It has no key.
    #[error(
        "{path}: has no key; a key is a line ID SECRET, the secret at least 64 hexadecimal digits", path = .0.shown())]
    Empty(PathBuf),
}

/// The keys of a file. The first one signs; all of them verify.
pub struct Keys(Vec<Key>);

struct Key {
    id: String,
    secret: Vec<u8>,
}

/// The MAC of a head, and the ID of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) key: String,
    /// In hexadecimal.
    pub(super) code: String,
}

/// Whether a holder of a key wrote a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Authenticity {
    Authentic,
    /// It has no tag.
    Untagged,
    /// No key has the ID of its tag.
    UnknownKey,
    /// Its MAC does not match the head and the key.
    Forged,
}

impl Keys {
    /// Reads a file of keys: one per line, the newest first. Blank lines and those that start with `#` are ignored.
    ///
    /// # Errors
    /// [`KeyError`], also if other users can read the file.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let unreadable = |source| KeyError::Io {
            path: path.to_owned(),
            source,
        };
        let text = secret::read(path, FILE_MAX).map_err(|why| match why {
            UnreadSecret::Io(source) => unreadable(source),
            UnreadSecret::Exposed => KeyError::Exposed(path.to_owned()),
        })?;
        let mut keys = Vec::<Key>::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = parse_key(line).and_then(|key| {
                let known = keys.iter().any(|known| known.id == key.id);
                (!known)
                    .then_some(key)
                    .ok_or("its ID is that of another key")
            });
            keys.push(key.map_err(|problem| KeyError::Line {
                path: path.to_owned(),
                line: number + 1,
                problem,
            })?);
        }
        match keys.is_empty() {
            true => Err(KeyError::Empty(path.to_owned())),
            false => Ok(Self(keys)),
        }
    }

    /// Makes the tag of a head with the newest key.
    pub(super) fn sign(&self, number: u64, hash: &Hash) -> Option<Tag> {
        let newest = self.0.first()?;
        let code = newest.mac(number, hash)?.finalize().into_bytes();
        Some(Tag {
            key: newest.id.clone(),
            code: hex(&code),
        })
    }

    /// Checks the tag of a head.
    pub(super) fn verify(&self, number: u64, hash: &Hash, tag: Option<&Tag>) -> Authenticity {
        let Some(tag) = tag else {
            return Authenticity::Untagged;
        };
        let Some(key) = self.0.iter().find(|key| key.id == tag.key) else {
            return Authenticity::UnknownKey;
        };
        let mac = key.mac(number, hash).zip(unhex(&tag.code));
        // In constant time.
        match mac.is_some_and(|(mac, code)| mac.verify_slice(&code).is_ok()) {
            true => Authenticity::Authentic,
            false => Authenticity::Forged,
        }
    }
}

impl Key {
    /// Never `None`: HMAC takes keys of any length.
    fn mac(&self, number: u64, hash: &Hash) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).ok()?;
        mac.update(format!("{CONTEXT}\n{number} {hash}").as_bytes());
        Some(mac)
    }
}

fn parse_key(line: &str) -> Result<Key, &'static str> {
    let (id, secret) = line.split_once(char::is_whitespace).ok_or("no secret")?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if id.len() > ID_MAX || !id.bytes().all(fits) {
        return Err("an ID has at most 32 letters, digits, `-`, `_` and `.`");
    }
    let secret = unhex(secret.trim()).ok_or("the secret is not hexadecimal")?;
    if secret.len() < SECRET_MIN {
        return Err("the secret is too short");
    }
    let id = id.to_owned();
    Ok(Key { id, secret })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let pairs = text.as_bytes().chunks(2);
    let bytes = pairs.map(|pair| Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8));
    bytes.collect()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("key");
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("changed");
        (dir, path)
    }

    fn keys(text: &str) -> Keys {
        let (_dir, path) = file(text, 0o600);
        Keys::read(&path).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn the_first_key_signs_and_all_of_them_verify() {
        let (one, two) = ("ab".repeat(32), "cd".repeat(40));
        let hash = "0".repeat(64);
        let old = keys(&format!("2026 {one}\n"));
        let rotated = keys(&format!("# the new one\n2027 {two}\n\n2026\t{one}\n"));
        let new = keys(&format!("2027 {two}\n"));
        let tag = old.sign(7, &hash).expect("a tag");
        assert_eq!(tag.key, "2026");
        assert_eq!(
            rotated.verify(7, &hash, Some(&tag)),
            Authenticity::Authentic
        );
        assert_eq!(new.verify(7, &hash, Some(&tag)), Authenticity::UnknownKey);
        assert_eq!(old.verify(8, &hash, Some(&tag)), Authenticity::Forged);
        assert_eq!(
            old.verify(7, &"1".repeat(64), Some(&tag)),
            Authenticity::Forged
        );
        assert_eq!(old.verify(7, &hash, None), Authenticity::Untagged);
        let tag = rotated.sign(7, &hash).expect("a tag");
        assert_eq!(tag.key, "2027");
        assert_eq!(new.verify(7, &hash, Some(&tag)), Authenticity::Authentic);
        let same_id = keys(&format!("2027 {one}"));
        assert_eq!(same_id.verify(7, &hash, Some(&tag)), Authenticity::Forged);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let text = format!("a {}", "ab".repeat(32));
        for (mode, fits) in [
            (0o600, true),
            (0o400, true),
            (0o640, true),
            (0o644, false),
            (0o660, false),
            (0o601, false),
        ] {
            let (_dir, path) = file(&text, mode);
            let read = Keys::read(&path);
            assert_eq!(read.is_ok(), fits, "{mode:o}");
        }
    }

    #[test]
    fn the_remedy_for_an_unreadable_key_is_to_give_it_to_the_servers_group() {
        let text = format!("a {}", "ab".repeat(32));
        let (_dir, path) = file(&text, 0o600);
        let unreadable = KeyError::Io {
            path: path.clone(),
            source: io::Error::from(io::ErrorKind::PermissionDenied),
        };
        let (_dir, exposed) = file(&text, 0o644);
        let exposed = Keys::read(&exposed).err().expect("refused");
        for error in [unreadable.to_string(), exposed.to_string()] {
            assert!(error.contains("that user's group"), "{error}");
            assert!(error.contains("chmod 640"), "{error}");
        }
        let missing = Keys::read(&path.with_extension("none"))
            .err()
            .expect("missing");
        assert!(
            missing.to_string().ends_with("; name a file that exists"),
            "{missing}"
        );
    }

    #[test]
    fn a_line_that_is_no_key_is_refused_with_its_number() {
        for (text, problem) in [
            ("", "has no key"),
            ("# none\n", "has no key"),
            ("a", "line 1: no secret"),
            ("\na abcd", "line 2: the secret is too short"),
            ("a xy", "line 1: the secret is not hexadecimal"),
            ("a/b abcd", "line 1: an ID has"),
        ] {
            let (_dir, path) = file(text, 0o600);
            let error = Keys::read(&path).err().map(|error| error.to_string());
            let error = error.unwrap_or_default();
            assert!(error.contains(problem), "{text:?}: {error}");
        }
        let secret = "ab".repeat(32);
        let (_dir, path) = file(&format!("a {secret}\na {secret}"), 0o600);
        assert!(Keys::read(&path).is_err(), "two keys with one ID");
        assert!(Keys::read(_dir.path()).is_err(), "a folder");
    }
}
