//! Owns what the journal's entries tell: their fields are an interface, and old ones are read for ever.
//! Refuses to know how they are chained and where they are kept.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::Format;
use crate::config::comments::Comments;
use crate::config::exception::Exception;
use crate::control::sources::orders::schedule::State;
use crate::policy::rule::{Action, Kind, Scope};

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A server started to write.
    Start(Start),
    /// A server ended as it should: what was in force is not any more.
    Stop,
    /// A new text of an order is known.
    Order(OrderText),
    /// An order's file is gone, and with it the order.
    OrderGone {
        /// The order.
        id: String,
        /// The file.
        path: PathBuf,
    },
    /// A generation goes in force.
    Published(Published),
    /// Something is not taken in: a list by a guard or because it can't be read, an order's file, a
    /// configuration. What was in force of it stays.
    Refused {
        /// What.
        what: String,
        /// Why, a sentence each.
        problems: Vec<String>,
    },
    /// Entries were lost, as they could not be written for so long that memory ran out.
    Lost {
        /// How many.
        entries: u64,
    },
}

/// How a server found the journal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// The program's version.
    pub version: String,
    /// The server's process.
    pub pid: u32,
    /// The configuration; without one, the built-in.
    pub config: Option<PathBuf>,
    /// What stood behind the last whole entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damaged: Option<Damaged>,
    /// The first and last number of entries that were written once and are gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<(u64, u64)>,
    /// The first and last number of entries that were there and that the head did not cover: written
    /// just before a crash, or by somebody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncovered: Option<(u64, u64)>,
    /// The head, if the journal did not have the entry that it names: the entries before were replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_head: Option<OtherHead>,
    /// The file was moved away while the server ran: entries up to this number are in the file before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continues: Option<u64>,
    /// Until when the server before is known to have run, if it did not end as it should.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ran_until: Option<Timestamp>,
    /// Since when servers before made changes that they could not write until they ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unwritten_since: Option<Timestamp>,
    /// A key is configured, and the head was not authenticated by it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unauthenticated: bool,
}

/// An entry that the head named and the journal did not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherHead {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: String,
}

/// A tail that was no entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Damaged {
    /// Its octets.
    pub octets: u64,
    /// Where they are kept.
    pub kept: PathBuf,
}

/// An order's whole text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrderText {
    /// The order.
    pub id: String,
    /// The file.
    pub path: PathBuf,
    /// What stands in it.
    pub text: String,
    /// What the operator was told of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A generation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// What made it.
    pub causes: Vec<Cause>,
    /// All lists in force, in their order.
    pub lists: Vec<ListEntry>,
    /// Orders whose state is another one than in the generation before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<Turn>,
    /// Exceptions that came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<Exception>,
    /// Exceptions that went.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exceptions_gone: Vec<Exception>,
    /// Exceptions that ended by their date: they are still there and don't count any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exceptions_ended: Vec<Exception>,
    /// Exceptions that had ended and count again, as the clock was set back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exceptions_resumed: Vec<Exception>,
    /// Settings with another value than in the generation before; older entries have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<Setting>,
    /// The generation of these lists, which is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<u64>,
}

/// What made a new generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Cause {
    /// The server started.
    Start,
    /// A file changed.
    File {
        /// Which.
        path: PathBuf,
    },
    /// A signal asked for it.
    Signal {
        /// Its name.
        signal: String,
    },
    /// Somebody asked for it.
    Verb {
        /// With which words.
        verb: String,
        /// The user's number.
        user: u32,
    },
    /// Rules are held against other names: lists are read again.
    Guard,
    /// A date came.
    Date,
    /// The clock was set back.
    ClockSetBack {
        /// What it showed.
        from: Timestamp,
    },
    /// Small lists were merged into the base: nothing else is in force than before.
    Merge,
}

/// A list in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListEntry {
    /// Its name.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// What its rules do.
    pub kind: Kind,
    /// How it is written; old entries don't tell.
    #[serde(default)]
    pub format: Option<Format>,
    /// What a bare name in it means.
    pub scope: Scope,
    /// The characters that begin a comment line of it.
    #[serde(default, skip_serializing_if = "Comments::is_default")]
    pub comments: Comments,
    /// How its names are answered.
    pub action: Action,
    /// BLAKE3 of the file as it was read, in hexadecimal.
    pub digest: String,
    /// Different rules.
    pub rules: usize,
    /// Bad lines.
    pub bad: u32,
    /// Rules that guards left out.
    #[serde(default)]
    pub left_out: u32,
    /// What its rules were made of: the key of their image in the state directory. It differs where the same file
    /// makes other rules, as other names are protected. Older entries have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

/// A setting that answers depend on has another value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// Its section and key, as in `orders.language` or `list.ads.action`.
    pub key: String,
    /// What it was; `None` if it had no value, or none was recorded.
    pub was: Option<Value>,
    /// What it is; `None` if it has no value.
    pub now: Option<Value>,
}

/// An order's state changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// The order.
    pub order: String,
    /// What it was, if it was known.
    pub was: Option<State>,
    /// What it is; nothing if it is gone.
    pub now: Option<State>,
}
