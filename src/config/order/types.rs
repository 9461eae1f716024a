//! The types of an order's fields.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use jiff::SignedDuration;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::super::moment::Moment;
use crate::config::shown::path_text;
use crate::policy::rule::{Action, Scope};
use crate::wire::name::Name;

/// The time from the start of an order to the review date that this program proposes.
pub const REVIEW: SignedDuration = SignedDuration::from_hours(24 * 180);

/// Texts by language (BCP 47), at least one.
pub type Texts = BTreeMap<String, String>;

/// A validated order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Order {
    /// Its identifier: 1 to 64 characters of a-z, 0-9, `.`, `_`, `-`.
    pub id: String,
    /// The file.
    #[serde(serialize_with = "path_text")]
    pub path: PathBuf,
    /// The authority that decided.
    pub authority: Authority,
    /// The decision in the authority's records.
    pub decision: Decision,
    /// The laws that it is based on: at least one.
    pub legal_basis: Vec<String>,
    /// The category of the content.
    pub category: Option<String>,
    /// The reason, in the authority's words.
    pub reason: Texts,
    /// The text sent to clients with a blocked answer; may be empty.
    pub public_text: Texts,
    /// Its dates.
    pub dates: Dates,
    /// How to object.
    pub redress: Redress,
    /// Messages about it that were sent.
    pub notices: Vec<Notice>,
    /// The action for its names; `None` means that of `[block]`.
    pub action: Option<Action>,
    /// The sinkhole's addresses; `None` means those of `[block]`.
    pub sinkhole: Option<(Vec<Ipv4Addr>, Vec<Ipv6Addr>)>,
    /// The identifiers of orders that end when this one begins.
    pub supersedes: Vec<String>,
    /// The blocked names: at least one.
    pub targets: Vec<Target>,
}

/// An authority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Authority {
    /// Its name.
    pub name: String,
    /// The country code: two upper-case letters (ISO 3166-1).
    pub country: Option<String>,
    /// The department.
    pub unit: Option<String>,
    /// An address, telephone number, ...
    pub contact: Option<String>,
}

/// A decision in the authority's records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// Number or title.
    pub reference: Option<String>,
    /// Its date.
    pub date: Option<Date>,
}

/// The dates when an order begins, pauses and ends. Validation reports dates in a wrong sequence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Dates {
    /// When the authority sent it.
    pub issued_at: Option<Moment>,
    /// When it begins; `issued_at` if the file has no such date.
    pub effective_from: Moment,
    /// The deadline by which it had to be in force.
    pub comply_by: Option<Moment>,
    /// When to check whether it is still needed.
    pub review_at: Moment,
    /// When it expires.
    pub expires_at: Option<Moment>,
    /// Its suspensions, in order, without overlaps.
    pub suspended: Vec<Suspension>,
    /// When it was lifted.
    pub lifted_at: Option<Moment>,
    /// The reason of the lift.
    pub lift_reason: Option<String>,
}

/// A time during which an order is not in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspension {
    /// Its start.
    pub from: Moment,
    /// Its end; `None` if that is not known.
    pub until: Option<Moment>,
    /// The reason.
    pub reason: Option<String>,
}

/// How to object to an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Redress {
    /// Where, and in which form.
    pub how: String,
    /// The deadline.
    pub deadline: Option<String>,
}

/// A message about an order to a party concerned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Notice {
    /// When it was sent.
    pub sent_at: Moment,
    /// The channel: e-mail, letter, ...
    pub channel: Option<String>,
    /// The recipient.
    pub to: Option<String>,
    /// When a reply was due.
    pub reply_due: Option<Moment>,
    /// When a reply arrived.
    pub replied_at: Option<Moment>,
}

/// Names that an order blocks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Target {
    /// The name.
    #[serde(serialize_with = "text")]
    pub name: Name,
    /// Whether the name, the names below it, or both are blocked.
    pub scope: Scope,
    /// Names within that scope that are not blocked.
    pub except: Vec<Except>,
}

/// Names that a target does not block although they are within its scope.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Except {
    /// The name.
    #[serde(serialize_with = "text")]
    pub name: Name,
    /// Whether the name, the names below it, or both are excepted.
    pub scope: Scope,
}

fn text<S: serde::Serializer>(name: &Name, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(name)
}
