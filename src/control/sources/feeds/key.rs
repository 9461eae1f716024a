//! Reads the secret of a TSIG key from its file.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use domain::utils::base64;

use crate::config::feed::{Tsig, TsigAlgorithm};
use crate::config::secret::{self, UnreadSecret};
use crate::config::shown::Show;
use crate::wire::name::Name;
use crate::wire::transfer::tsig::{Algorithm, Key};

/// Bytes that are read of the file.
const FILE_MAX: u64 = 4 << 10;
/// The shortest secret, in bytes. Shorter ones can be guessed; tools make one as long as the hash, at least 16 bytes.
const SECRET_MIN: usize = 16;

/// Why a key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// The file can't be read.
    #[error("{path}: the TSIG secret can't be read: {source}; {remedy}", remedy = secret::remedy(.path, .source), path = .path.shown())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Others may read it, or the group may write to it.
    #[error("{path}: users other than the server's can read or change this secret: {}", secret::PROTECT, path = .0.shown())]
    Exposed(PathBuf),
    /// It is not a secret.
    #[error("{path}: {problem}; the file has nothing but the secret in base64, as after `secret` in a key of BIND, Knot DNS or NSD", path = .path.shown())]
    Text {
        /// The file.
        path: PathBuf,
        /// The problem.
        problem: Problem,
    },
}

/// Why a text is not a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// There is none.
    Empty,
    /// Not base64.
    Encoding,
    /// Fewer than 16 bytes.
    TooShort,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the file is empty",
            Self::Encoding => "the secret is not base64",
            Self::TooShort => "the secret has fewer than 16 bytes",
        })
    }
}

/// Reads a key of the configuration.
///
/// # Errors
/// [`SecretFileError`].
pub(crate) fn of(tsig: &Tsig) -> Result<Key, SecretFileError> {
    let algorithm = match tsig.algorithm {
        TsigAlgorithm::HmacSha1 => Algorithm::Sha1,
        TsigAlgorithm::HmacSha256 => Algorithm::Sha256,
        TsigAlgorithm::HmacSha384 => Algorithm::Sha384,
        TsigAlgorithm::HmacSha512 => Algorithm::Sha512,
    };
    read(&tsig.secret_file, &tsig.name, algorithm)
}

/// Reads the key that the primary knows by this name.
///
/// # Errors
/// [`SecretFileError`], also if other users can read the file.
pub fn read(path: &Path, name: &Name, algorithm: Algorithm) -> Result<Key, SecretFileError> {
    let text = secret::read(path, FILE_MAX).map_err(|why| match why {
        UnreadSecret::Io(source) => SecretFileError::Io {
            path: path.to_owned(),
            source,
        },
        UnreadSecret::Exposed => SecretFileError::Exposed(path.to_owned()),
    })?;
    let key = parse(&text).and_then(|secret| {
        let key = Key::new(name, algorithm, &secret);
        key.ok_or(Problem::Encoding)
    });
    key.map_err(|problem| SecretFileError::Text {
        path: path.to_owned(),
        problem,
    })
}

fn parse(text: &str) -> Result<Vec<u8>, Problem> {
    let text: String = text.split_whitespace().collect();
    let secret: Vec<u8> = base64::decode(&text).map_err(|_| Problem::Encoding)?;
    match secret.len() {
        0 => Err(Problem::Empty),
        len if len < SECRET_MIN => Err(Problem::TooShort),
        _ => Ok(secret),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// 32 bytes of 7 in base64.
    const SECRET: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

    fn read_as(text: &str, mode: u32) -> Result<Key, SecretFileError> {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("secret");
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("changed");
        let name = Name::from_text("transfer").expect("a name");
        read(&path, &name, Algorithm::Sha256)
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        for (mode, fits) in [(0o600, true), (0o640, true), (0o644, false), (0o660, false)] {
            let read = read_as(SECRET, mode);
            assert_eq!(read.is_ok(), fits, "{mode:o}");
            if let Err(error) = read {
                assert!(error.to_string().contains("chmod 600"), "{error}");
            }
        }
    }

    #[test]
    fn a_file_without_a_secret_in_base64_is_refused() {
        for (text, problem) in [
            ("", "is empty"),
            ("\n", "is empty"),
            ("key \"a\" { secret \"BwcH\"; };", "not base64"),
            ("BwcH", "fewer than 16 bytes"),
        ] {
            let error = read_as(text, 0o600).expect_err("refused").to_string();
            assert!(error.contains(problem), "{text:?}: {error}");
        }
    }

    #[test]
    fn the_secret_is_never_shown() {
        let key = read_as(&format!("{SECRET}\n"), 0o600).expect("a key");
        assert_eq!(format!("{key:?}"), "Key(transfer hmac-sha256)");
    }
}
