//! Reads the configuration file.

use std::path::Path;

use super::error::{Problem, Problems};
use super::findings::Findings;
use super::regular::{self, Unread};
use super::types::{Config, Content, Origin};
use super::{raw, syntax, validate};

/// The maximum size of a configuration file, in bytes.
pub(super) const SIZE_MAX: u64 = 16 * 1024 * 1024;

/// The orders of the built-in default.
const EMBEDDED_ORDERS: &[(&str, &str)] = &[(
    "blocklists/orders/2017-07-14-telegram-web.toml",
    include_str!("../../blocklists/orders/2017-07-14-telegram-web.toml"),
)];

impl Config {
    /// The text of the shipped `config/tapis.toml`, which explains every key.
    pub const BUILT_IN: &str = include_str!("../../config/tapis.toml");

    /// Reads and validates a configuration file. Its lists are not opened.
    ///
    /// # Errors
    /// All problems of the file; a single one if it can't be read, is not UTF-8, or has more than 16 MiB.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        Self::parse(&read(path)?, path)
    }

    /// Reads a file that may have mistakes, and returns its valid parts and its problems, so that its lists can be
    /// checked, too. Lists without a valid name, path or format are left out. Other invalid values are replaced by
    /// defaults, so a server must not use the result.
    pub fn examine(path: &Path) -> (Option<Self>, Option<Problems>) {
        let text = match read(path) {
            Ok(text) => text,
            Err(problems) => return (None, Some(problems)),
        };
        let (config, findings) =
            Self::parse_valid_parts(&text, path, Origin::File(path.to_owned()));
        (Some(config), findings.conclude(()).err())
    }

    /// Parses and validates a text. `path` is used in messages, and its directory is the base of relative paths in the
    /// text; the file is not opened.
    ///
    /// # Errors
    /// All problems of the text.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Problems> {
        Self::parse_from(text, path, Origin::File(path.to_owned()))
    }

    /// The shipped `config/tapis.toml` with its list and order, for a server without a configuration file.
    pub fn built_in() -> Self {
        let path = Path::new("config/tapis.toml");
        let mut config = Self::parse_from(Self::BUILT_IN, path, Origin::BuiltIn)
            .expect("a test checks that the shipped configuration is valid");
        (config.orders.dir, config.orders.embedded) = (None, EMBEDDED_ORDERS);
        for list in &mut config.lists {
            list.content =
                Content::Embedded(include_str!("../../blocklists/telegram-web-2017.txt"));
        }
        config
    }

    fn parse_from(text: &str, path: &Path, origin: Origin) -> Result<Self, Problems> {
        let (config, findings) = Self::parse_valid_parts(text, path, origin);
        findings.conclude(config)
    }

    /// Parses and validates a text. With findings, the result has defaults in place of invalid values.
    pub(super) fn parse_valid_parts(text: &str, path: &Path, origin: Origin) -> (Self, Findings) {
        let mut findings = Findings::new(path, text.as_bytes());
        let raw = syntax::parse(text, &mut findings, raw::Raw::read);
        let config = validate::validate(raw, origin, &mut findings);
        (config, findings)
    }
}

/// Reads the text of a configuration file.
pub(super) fn read(path: &Path) -> Result<String, Problems> {
    let problem = |line, message| {
        Problems(vec![Problem {
            path: path.to_owned(),
            line,
            message,
        }])
    };
    let bytes = regular::read(path, SIZE_MAX).map_err(|why| {
        let message = match why {
            Unread::NotRegular if path.is_dir() => {
                "cannot be read: it is a directory; name a file in it".to_owned()
            }
            Unread::NotRegular => {
                "cannot be read: not a regular file; write the configuration to one".to_owned()
            }
            Unread::TooLarge(_) => {
                "is over 16 MiB, too large for a configuration: put names into the \
                                    file of a [[list]]"
                    .to_owned()
            }
            Unread::Io(error) => {
                let remedy = regular::remedy(path, &error);
                format!("cannot be read: {error}; {remedy}")
            }
        };
        problem(None, message)
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = Findings::new(path, error.as_bytes()).line_at(at);
        let message = "is not UTF-8 text: save the file as UTF-8";
        problem(Some(line), message.to_owned())
    })
}
