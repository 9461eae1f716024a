//! The form in which clients are recorded.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use crate::config::recording::{ClientForm, QueryLog};
use crate::config::secret;
use crate::config::shown::Show;

/// The shortest secret in bytes.
const SECRET_MIN: usize = 32;
/// The largest file of a secret in bytes.
const SECRET_MAX: u64 = 64 * 1024;
/// What the secret is used for, so that it yields other keys elsewhere.
const PURPOSE: &str = "tapis 2026 addresses of clients in records";
/// The bytes of a hash that are shown.
const HASH_LEN: usize = 8;

/// Shows clients in the configured form.
#[derive(Clone)]
pub(super) struct ClientText {
    form: ClientForm,
    key: [u8; blake3::KEY_LEN],
}

/// The secret for hashed clients can't be used.
#[derive(Debug, thiserror::Error)]
#[error("the secret {} of [query-log] client-key: {why}; meanwhile clients are left out", .path.shown())]
pub(super) struct SecretError {
    path: PathBuf,
    why: String,
}

/// Why clients can't be shown as configured, if they can't.
pub fn problem(log: &QueryLog) -> Option<String> {
    let text = ClientText::new(log.client, log.client_key.as_deref());
    text.err().map(|error| error.to_string())
}

impl ClientText {
    /// Shows clients in this form. A hash has a random key if there is no file of a secret.
    ///
    /// # Errors
    /// The secret can't be read, or is too short.
    pub(super) fn new(form: ClientForm, secret: Option<&Path>) -> Result<Self, SecretError> {
        let key = match secret.filter(|_| form == ClientForm::Hashed) {
            None => rand::random(),
            Some(path) => key(path).map_err(|why| SecretError {
                path: path.to_owned(),
                why,
            })?,
        };
        Ok(Self { form, key })
    }

    /// Shows no clients.
    pub(super) fn hidden() -> Self {
        Self {
            form: ClientForm::None,
            key: [0; blake3::KEY_LEN],
        }
    }

    /// The form; [`ClientForm::None`] if clients are hidden.
    pub(super) fn form(&self) -> ClientForm {
        self.form
    }

    /// Whether all clients look the same in both.
    pub(super) fn shows_like(&self, other: &Self) -> bool {
        self.form == other.form && (self.form != ClientForm::Hashed || self.key == other.key)
    }

    /// The address that is shown of a client; `None` if none is.
    pub(super) fn address(&self, client: IpAddr) -> Option<IpAddr> {
        let client = client.to_canonical();
        match self.form {
            ClientForm::Whole => Some(client),
            ClientForm::Truncated => Some(truncated(client)),
            ClientForm::Hashed | ClientForm::None => None,
        }
    }

    /// Replaces `text` by a client. Returns false if clients are not shown.
    pub(super) fn write(&self, client: IpAddr, text: &mut String) -> bool {
        text.clear();
        let client = client.to_canonical();
        let written = match self.form {
            ClientForm::None => return false,
            ClientForm::Whole => write!(text, "{client}"),
            ClientForm::Truncated => write!(text, "{}", truncated(client)),
            ClientForm::Hashed => {
                let bytes = match client {
                    IpAddr::V4(client) => client.to_ipv6_mapped().octets(),
                    IpAddr::V6(client) => client.octets(),
                };
                let hash = blake3::keyed_hash(&self.key, &bytes);
                let hex = data_encoding::HEXLOWER.encode(&hash.as_bytes()[..HASH_LEN]);
                write!(text, "{hex}")
            }
        };
        written.is_ok()
    }
}

/// The first address of a client's network: a /24 or a /56.
pub(super) fn truncated(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(client) => Ipv4Addr::from_bits(client.to_bits() & (u32::MAX << 8)).into(),
        IpAddr::V6(client) => Ipv6Addr::from_bits(client.to_bits() & (u128::MAX << 72)).into(),
    }
}

fn key(path: &Path) -> Result<[u8; blake3::KEY_LEN], String> {
    let text = secret::read(path, SECRET_MAX).map_err(|error| match &error {
        secret::UnreadSecret::Io(source) => format!("{error}; {}", secret::remedy(path, source)),
        secret::UnreadSecret::Exposed => format!("{error}; {}", secret::PROTECT),
    })?;
    let text = text.trim();
    if text.len() < SECRET_MIN {
        let found = text.len();
        return Err(format!(
            "it has {found} bytes, must have at least {SECRET_MIN}: `openssl rand -base64 32` makes one"
        ));
    }
    Ok(blake3::derive_key(PURPOSE, text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn shown(clients: &ClientText, client: &str) -> Option<String> {
        let mut text = "before".to_owned();
        let is_shown = clients.write(client.parse().expect("an address"), &mut text);
        is_shown.then_some(text)
    }

    #[test]
    fn clients_are_shown_in_each_form() {
        let of = |form| ClientText::new(form, None).expect("no file is read");
        let whole = of(ClientForm::Whole);
        assert_eq!(shown(&whole, "2001:db8::1").as_deref(), Some("2001:db8::1"));
        assert_eq!(
            shown(&whole, "::ffff:192.0.2.7").as_deref(),
            Some("192.0.2.7")
        );
        let truncated = of(ClientForm::Truncated);
        assert_eq!(shown(&truncated, "192.0.2.7").as_deref(), Some("192.0.2.0"));
        let six = shown(&truncated, "2001:db8:1:2ff:3::4");
        assert_eq!(six.as_deref(), Some("2001:db8:1:200::"));
        assert_eq!(shown(&of(ClientForm::None), "192.0.2.7"), None);
        let hashed = of(ClientForm::Hashed);
        let one = shown(&hashed, "192.0.2.7").expect("a hash");
        assert_eq!(one.len(), 2 * HASH_LEN);
        assert_eq!(shown(&hashed, "192.0.2.7").as_ref(), Some(&one));
        assert_ne!(shown(&hashed, "192.0.2.8").as_ref(), Some(&one));
        assert_ne!(
            shown(&of(ClientForm::Hashed), "192.0.2.7"),
            Some(one),
            "another key"
        );
    }

    #[test]
    fn the_same_secret_gives_the_same_hashes_and_a_bad_secret_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        let write = |text: &str, mode| {
            std::fs::write(&path, text).expect("written");
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&path, mode).expect("permitted");
            ClientText::new(ClientForm::Hashed, Some(&path))
        };
        let secret = "0123456789abcdef0123456789abcdef\n";
        let [one, other] = [(); 2].map(|()| write(secret, 0o600).expect("a secret"));
        assert_eq!(shown(&one, "192.0.2.7"), shown(&other, "192.0.2.7"));
        let refused = |text, mode| write(text, mode).err().expect("refused").to_string();
        assert!(refused("short", 0o600).contains("at least 32"));
        assert!(refused(secret, 0o644).contains("other than the server's"));
        std::fs::remove_file(&path).expect("removed");
        let absent = ClientText::new(ClientForm::Hashed, Some(&path));
        assert!(
            absent
                .err()
                .expect("absent")
                .to_string()
                .contains("No such file")
        );
    }
}
