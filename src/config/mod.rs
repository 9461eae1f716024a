//! Owns the configuration: TOML text to a mirror of the file to a validated [`Config`].
//! Refuses to be half right: every problem of a file is told at once, and then nothing is returned.
//!
//! To add a key: a field in `raw`, its default and bounds in `validate`, its type here, its
//! documentation in `config/tapis.toml`.

mod blocking;
pub mod comments;
pub mod control;
mod error;
pub mod exception;
mod findings;
pub mod guard;
mod hint;
pub mod moment;
pub mod order;
mod raw;
mod reader;
pub mod regular;
pub mod shown;
mod suggest;
mod syntax;
pub mod upstream;
mod validate;
pub(crate) mod values;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::policy::rule::{Blocking, Scope, Source};
use crate::wire::name::Name;

use comments::Comments;
pub use error::{Problem, Problems};
use exception::Exception;
use findings::Findings;
use guard::{GuardRails, WardSet};
use regular::Unread;
use upstream::{ServerAddress, Upstream, UpstreamServer};

/// A larger file is no configuration.
const SIZE_MAX: u64 = 16 * 1024 * 1024;

/// The orders of the built-in default.
const EMBEDDED_ORDERS: &[(&str, &str)] = &[(
    "blocklists/orders/2017-07-14-telegram-web.toml",
    include_str!("../../blocklists/orders/2017-07-14-telegram-web.toml"),
)];

/// Everything that an operator decides about a server, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where this comes from.
    pub origin: Origin,
    /// Who is served, and where.
    pub server: Server,
    /// Where true answers come from.
    pub upstream: Upstream,
    /// What is remembered, and for how long.
    pub cache: Cache,
    /// Names that are answered without anybody's help.
    pub local: Local,
    /// What is kept on disk.
    pub state: State,
    /// The file of the journal: `journal.jsonl` in the state directory where the configuration does
    /// not say; without either there is no journal.
    pub journal: Option<PathBuf>,
    /// The file of the keys that the journal's head is authenticated with.
    pub journal_key: Option<PathBuf>,
    /// What keeps accidents of lists out.
    pub guard: GuardRails,
    /// The lists in the order of the file, which is the order of their precedence. Their names
    /// differ.
    pub lists: Vec<List>,
    /// Authorities' orders.
    pub orders: Orders,
    /// The operator's exceptions.
    pub exceptions: Exceptions,
    /// What the command line said over the file; in force already.
    pub overrides: Overrides,
}

/// What the command line says over the file, at the start and at each reload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// In place of `[server] listen`, unless empty.
    pub listen: Vec<SocketAddr>,
    /// In place of `[server] allow`, unless empty.
    pub allow: Vec<IpNet>,
    /// In place of `[upstream] servers`, unless empty.
    pub upstream: Vec<ServerAddress>,
    /// In place of `[server] control`.
    pub control: Option<PathBuf>,
}

/// Where a configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The program itself.
    BuiltIn,
    /// A file, as it was named to us.
    File(PathBuf),
}

/// Who is served, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Addresses for UDP and TCP: at least one, none twice. Port 0 lets the system choose.
    pub listen: Vec<SocketAddr>,
    /// UDP worker threads, at most 1024; 0 means one per core.
    pub workers: usize,
    /// Who may ask. Empty means nobody.
    pub allow: Vec<IpNet>,
    /// The control socket; none means the first of the usual places that can be made.
    pub control: Option<PathBuf>,
    /// A group; its members may use the control socket, too.
    pub control_group: Option<String>,
    /// The answer to `version.bind` in class CH, at most 255 octets; none means REFUSED.
    pub version: Option<String>,
    /// The answer to `id.server` in class CH, at most 255 octets; none means REFUSED.
    pub id: Option<String>,
    /// How many TCP connections may be open at once, 1 to 65535.
    pub tcp_connections: usize,
    /// Of them, how many one client may have: at least one, at most `tcp_connections`.
    pub tcp_connections_per_client: usize,
    /// How long a TCP connection may stay silent, 1 second to an hour.
    pub tcp_idle: Duration,
    /// The age of a UDP query at which it is no longer answered, 100 ms to a minute.
    pub discard: Duration,
}

/// What is remembered, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Memory for answers: 1 MiB to 64 GiB.
    pub size_bytes: u64,
    /// Shorter TTLs are raised to this; at most an hour, and at most `max_ttl_secs`.
    pub min_ttl_secs: u32,
    /// Longer TTLs are lowered to this; 1 second to a week.
    pub max_ttl_secs: u32,
    /// Longer TTLs of negative answers are lowered to this; at least `min_ttl_secs`, at most a week.
    pub max_negative_ttl_secs: u32,
    /// How long after its end an answer may still be given when upstream fails (RFC 8767); at most
    /// a week, 0 turns it off.
    pub stale_secs: u32,
    /// Whether addresses of upstream's additional sections are passed on, but for those of blocked
    /// names.
    pub additional: bool,
}

/// Names that are answered without anybody's help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Zones that would be answered here, but go upstream by the operator's wish.
    pub forward: Vec<Name>,
    /// What becomes of `use-application-dns.net`.
    pub use_application_dns: Canary,
}

/// What becomes of the name by which browsers ask whether they may resolve past us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// NXDOMAIN, which asks them not to.
    Nxdomain,
    /// It goes upstream like any other name.
    Forward,
}

/// What is kept on disk, and how long making it may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The directory for compiled lists; none means that nothing is kept.
    pub dir: Option<PathBuf>,
    /// How many images are kept, 1 to 100.
    pub keep: usize,
    /// For how long rules of lists are kept that were replaced.
    pub history: History,
    /// For how long a compiling process may tell nothing, 10 seconds to a day.
    pub deadline: Duration,
}

/// For how long rules of lists are kept that were replaced, so that what was in force can be found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// Days; 0 keeps none.
    pub days: u32,
    /// The most room that they take, in bytes.
    pub bytes: u64,
}

/// Where authorities' orders are, and how their names are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orders {
    /// The directory of their files; none means that there are no orders.
    pub dir: Option<PathBuf>,
    /// Orders that are built into the program: where each one's file was, and its text.
    pub embedded: &'static [(&'static str, &'static str)],
    /// The language of the text for those who meet a block (BCP 47, lower case).
    pub language: String,
    /// The answer, where an order says nothing else.
    pub blocking: Blocking,
}

/// What the operator does not block, whatever says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exceptions {
    /// A directory of files with more of them.
    pub dir: Option<PathBuf>,
    /// Those of the configuration's own file.
    pub own: Vec<Exception>,
}

/// A list: where its rules are, how to read them, and what they do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// How the file is written.
    pub format: Format,
    /// The characters that begin a comment line of it.
    pub comments: Comments,
    /// What a bare name means; [`Scope::Exact`] or [`Scope::Subtree`], never [`Scope::Below`].
    pub scope: Scope,
    /// Without this list the server does not start.
    pub required: bool,
    /// The guards of single rules that leave none of this list out, and only report it.
    pub warn: WardSet,
    /// Where the text is.
    pub content: Content,
    /// The list as decisions see it. Its path is cleaned, and relative to where we run unless the
    /// configuration's own path is absolute.
    pub source: Source,
}

/// How a list's file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// A name a line.
    Domains,
    /// An address and its names a line, as in `/etc/hosts`.
    Hosts,
}

/// Where a list's text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// In the file at the source's path.
    File,
    /// In the program; the source's path only says where it was when that was built.
    Embedded(&'static str),
}

impl Config {
    /// Whether the journal of `other` is another one for another reason than that its state directory is.
    pub fn moves_journal(&self, other: &Self) -> bool {
        let is_default = |config: &Self| config.journal == validate::journal_in(&config.state);
        self.journal != other.journal && !(is_default(self) && is_default(other))
    }

    /// Reads and checks a file. Whether its lists can be read is not asked.
    ///
    /// # Errors
    /// All problems of the file, or the one that it cannot be read, is no UTF-8 or over 16 MiB.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        Self::parse(&read(path)?, path)
    }

    /// The same, with what could be understood of a faulty file beside its problems: its lists can
    /// be looked at, those left out whose name, path or format is not known. The rest of it holds
    /// defaults where something was refused; it is not to be served.
    pub fn examine(path: &Path) -> (Option<Self>, Option<Problems>) {
        let text = match read(path) {
            Ok(text) => text,
            Err(problems) => return (None, Some(problems)),
        };
        let (config, findings) = Self::understand(&text, path, Origin::File(path.to_owned()));
        (Some(config), findings.conclude(()).err())
    }

    /// Checks a text. `path` stands in the problems, and its directory is what relative paths in
    /// the text are relative to; it is not opened.
    ///
    /// # Errors
    /// All problems of the text.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Problems> {
        Self::parse_from(text, path, Origin::File(path.to_owned()))
    }

    /// The shipped `config/tapis.toml` and its list, for a server without any file.
    pub fn built_in() -> Self {
        let text = include_str!("../../config/tapis.toml");
        let path = Path::new("config/tapis.toml");
        let mut config = Self::parse_from(text, path, Origin::BuiltIn)
            .expect("a test holds that the shipped configuration is valid");
        (config.orders.dir, config.orders.embedded) = (None, EMBEDDED_ORDERS);
        for list in &mut config.lists {
            list.content =
                Content::Embedded(include_str!("../../blocklists/telegram-web-2017.txt"));
        }
        config
    }

    /// The same with `overrides` in force.
    pub fn with_overrides(mut self, overrides: Overrides) -> Self {
        if !overrides.listen.is_empty() {
            self.server.listen.clone_from(&overrides.listen);
        }
        if !overrides.allow.is_empty() {
            self.server.allow.clone_from(&overrides.allow);
        }
        if !overrides.upstream.is_empty() {
            let servers = overrides.upstream.iter().cloned();
            self.upstream.servers = Some(servers.map(UpstreamServer::from).collect());
        }
        if overrides.control.is_some() {
            self.server.control.clone_from(&overrides.control);
        }
        self.overrides = overrides;
        self
    }

    fn parse_from(text: &str, path: &Path, origin: Origin) -> Result<Self, Problems> {
        let (config, findings) = Self::understand(text, path, origin);
        findings.conclude(config)
    }

    fn understand(text: &str, path: &Path, origin: Origin) -> (Self, Findings) {
        let mut findings = Findings::new(path, text.as_bytes());
        let raw = syntax::parse(text, &mut findings, raw::Raw::read);
        let config = validate::validate(raw, origin, &mut findings);
        (config, findings)
    }
}

/// A file's text.
fn read(path: &Path) -> Result<String, Problems> {
    let refuse = |line, message| {
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
                "is over 16 MiB, which is no configuration: names belong in the \
                                    file of a [[list]]"
                    .to_owned()
            }
            Unread::Io(error) => {
                let remedy = regular::remedy(path, &error);
                format!("cannot be read: {error}; {remedy}")
            }
        };
        refuse(None, message)
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = Findings::new(path, error.as_bytes()).line_at(at);
        let message = "is not UTF-8 text: save the file as UTF-8";
        refuse(Some(line), message.to_owned())
    })
}
