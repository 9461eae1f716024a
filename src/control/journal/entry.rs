//! The fields of the journal's entries. They are an interface: entries of all older versions must stay readable.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::Format;
use crate::config::comments::Comments;
use crate::config::exception::Exception;
use crate::config::order::State;
use crate::policy::rule::{Action, Kind, Scope};

/// An event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A server opened the journal.
    Start(Start),
    /// A server shut down: nothing is in force any more.
    Stop,
    /// An order is new, or its text changed.
    Order(OrderText),
    /// An order's file was removed.
    OrderGone {
        /// The order.
        id: String,
        /// The file.
        path: PathBuf,
    },
    /// A generation came into force.
    Published(Published),
    /// A list, an order's file or a configuration was refused. Its version in force stays.
    Refused {
        /// Its name.
        what: String,
        /// The reasons, a sentence each.
        problems: Vec<String>,
    },
    /// Entries were dropped, as the journal could not be written and too many waited.
    Lost {
        /// Their number.
        entries: u64,
    },
}

/// The state of the journal when a server opened it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// The program's version.
    pub version: String,
    /// The server's process.
    pub pid: u32,
    /// The configuration's file; `None` for the built-in one.
    pub config: Option<PathBuf>,
    /// The bytes that followed the last whole entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damaged: Option<Damaged>,
    /// The first and the last number of entries that the head covers and that are missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<(u64, u64)>,
    /// The first and the last number of entries that the head does not cover: written just before a crash, or by another
    /// program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncovered: Option<(u64, u64)>,
    /// The number and the hash in the head, if the journal's entry with that number has another hash or is missing: the
    /// entries up to it were replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_head: Option<OtherHead>,
    /// The file was moved away while the server ran: entries up to this number are in that file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continues: Option<u64>,
    /// The last time at which the previous server is known to have run, if it did not shut down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ran_until: Option<Timestamp>,
    /// The time since which changes by earlier servers are not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unwritten_since: Option<Timestamp>,
    /// Keys are configured, and none of them authenticated the head.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unauthenticated: bool,
}

/// The entry that the head names, and that the journal does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherHead {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: String,
}

/// The damaged end of a journal, which was moved to another file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Damaged {
    /// Its length in bytes.
    #[serde(rename = "octets")]
    pub bytes: u64,
    /// The file.
    pub kept: PathBuf,
}

/// An order's whole text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrderText {
    /// The order.
    pub id: String,
    /// The file.
    pub path: PathBuf,
    /// The file's text.
    pub text: String,
    /// The warnings about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A generation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// Why it was made.
    pub causes: Vec<Cause>,
    /// All lists in force, in their order.
    pub lists: Vec<ListEntry>,
    /// Orders whose state changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<StateChange>,
    /// New exceptions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<Exception>,
    /// Exceptions that were removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exceptions_gone: Vec<Exception>,
    /// Exceptions that ended by their date, and are still in their files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exceptions_ended: Vec<Exception>,
    /// Exceptions that had ended and are in force again, as the clock was set back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exceptions_resumed: Vec<Exception>,
    /// Settings whose value changed; older entries have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<Setting>,
    /// The generation that is rolled back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<u64>,
}

/// Why a generation was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Cause {
    /// The server started.
    Start,
    /// A file changed.
    File {
        /// The file.
        path: PathBuf,
    },
    /// A signal was received.
    Signal {
        /// Its name.
        signal: String,
    },
    /// A user ran a verb.
    Verb {
        /// The verb with its arguments.
        verb: String,
        /// The user's ID.
        user: u32,
    },
    /// The protected names changed, so lists were read again.
    Guard,
    /// An order or an exception began or ended.
    Date,
    /// Pauses ended by the clock.
    PauseEnd {
        /// The lists and feeds, as in `list ads`.
        sources: Vec<String>,
    },
    /// The clock was set back.
    ClockSetBack {
        /// Its time before.
        from: Timestamp,
    },
    /// The zone of a feed was transferred.
    Transfer {
        /// The primary.
        primary: SocketAddr,
        /// The serial of the version.
        serial: u32,
    },
    /// A list was downloaded.
    Download {
        /// The URL, without user and password.
        url: String,
    },
    /// The delta was merged into the base: the rules are the same.
    Merge,
}

/// A list in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListEntry {
    /// Its name.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// Whether its rules block or allow.
    pub kind: Kind,
    /// Its format; `None` in older entries.
    #[serde(default)]
    pub format: Option<Format>,
    /// The scope of a bare name in it.
    pub scope: Scope,
    /// The characters that begin a comment line of it.
    #[serde(default, skip_serializing_if = "Comments::is_default")]
    pub comments: Comments,
    /// The column of it that has the names, if it is a table or JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<Arc<str>>,
    /// How blocked names are answered.
    pub action: Action,
    /// BLAKE3 of the file, in hexadecimal.
    pub digest: String,
    /// The number of distinct rules.
    pub rules: usize,
    /// The number of bad lines.
    pub bad: u32,
    /// The number of rules that guards suppressed.
    #[serde(default)]
    pub left_out: u32,
    /// The key of its rules in the state directory's archive. The same file has another key if other names are
    /// protected. `None` in older entries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

/// A change of a setting that answers depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// Its section and key, for example `orders.language` or `list.ads.action`.
    pub key: String,
    /// The value before; `None` if it had none, or it was not recorded.
    pub was: Option<Value>,
    /// The value now; `None` if it has none.
    pub now: Option<Value>,
}

/// A change of an order's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateChange {
    /// The order's ID.
    pub order: String,
    /// The state before; `None` if it was not known.
    pub was: Option<State>,
    /// The state now; `None` if the order was removed.
    pub now: Option<State>,
}
