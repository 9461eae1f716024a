//! Owns an authority's order as its file has it: who decided what, why, from when, until when.
//! Refuses to know what time it is: what state an order is in follows from its dates elsewhere.
//!
//! The fields are those of the EU's Digital Services Act (Regulation 2022/2065, article 9), of the
//! Lumen database, and of national practice; `docs/orders.md` explains each.

mod contradictions;
mod raw;
mod validate;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::error::Problems;
use super::findings::Findings;
use super::moment::Moment;
use super::syntax;
use crate::config::shown::path_text;
use crate::policy::rule::{Action, Scope};
use crate::wire::name::Name;

/// How long after its beginning an order is reviewed, where this program proposes it.
pub const REVIEW: SignedDuration = SignedDuration::from_hours(24 * 180);

/// Texts by language (BCP 47), at least one.
pub type Texts = BTreeMap<String, String>;

/// An authority's order, checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Order {
    /// What it is called everywhere: 1 to 64 characters of a-z, 0-9, `.`, `_`, `-`.
    pub id: String,
    /// The file.
    #[serde(serialize_with = "path_text")]
    pub path: PathBuf,
    /// Who decided.
    pub authority: Authority,
    /// What was decided, in the authority's own books.
    pub decision: Decision,
    /// The laws that it rests on: at least one.
    pub legal_basis: Vec<String>,
    /// What kind of content it is about.
    pub category: Option<String>,
    /// Why, in the authority's words.
    pub reason: Texts,
    /// What goes along with the answer to whoever meets the block; may be empty.
    pub public_text: Texts,
    /// From when until when.
    pub dates: Dates,
    /// How somebody can object.
    pub redress: Redress,
    /// Who was told of it, and when.
    pub notices: Vec<Notice>,
    /// How its names are answered, where that is not as `[block]` says.
    pub action: Option<Action>,
    /// The sinkhole's addresses, where they are not those of `[block]`.
    pub sinkhole: Option<(Vec<Ipv4Addr>, Vec<Ipv6Addr>)>,
    /// Orders that end when this one begins, by their ids.
    pub supersedes: Vec<String>,
    /// The names: at least one.
    pub targets: Vec<Target>,
}

/// Who decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Authority {
    /// Its name.
    pub name: String,
    /// Two upper-case letters (ISO 3166-1).
    pub country: Option<String>,
    /// Its department.
    pub unit: Option<String>,
    /// How to reach it.
    pub contact: Option<String>,
}

/// What was decided, in the authority's own books.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// Number or title.
    pub reference: Option<String>,
    /// When.
    pub date: Option<Date>,
}

/// All dates that make an order begin, pause and end. They are in order: see `docs/orders.md`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Dates {
    /// When the authority sent it.
    pub issued_at: Option<Moment>,
    /// When it begins; `issued_at` where the file does not say.
    pub effective_from: Moment,
    /// Until when it had to be in force.
    pub comply_by: Option<Moment>,
    /// When somebody has to ask whether it is still needed.
    pub review_at: Moment,
    /// When it ends by itself.
    pub expires_at: Option<Moment>,
    /// While it is not in force, one after the other.
    pub suspended: Vec<Suspension>,
    /// When it was lifted.
    pub lifted_at: Option<Moment>,
    /// Why.
    pub lift_reason: Option<String>,
}

/// A pause of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspension {
    /// Its first instant.
    pub from: Moment,
    /// The first instant after it; nothing while nobody knows.
    pub until: Option<Moment>,
    /// Why.
    pub reason: Option<String>,
}

/// How somebody can object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Redress {
    /// Where, and in which form.
    pub how: String,
    /// Until when.
    pub deadline: Option<String>,
}

/// A message to those whom the order concerns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Notice {
    /// When it was sent.
    pub sent_at: Moment,
    /// How: e-mail, letter, ...
    pub channel: Option<String>,
    /// To whom.
    pub to: Option<String>,
    /// Until when an answer was expected.
    pub reply_due: Option<Moment>,
    /// When one came.
    pub replied_at: Option<Moment>,
}

/// Names that an order blocks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Target {
    /// The name.
    #[serde(serialize_with = "text")]
    pub name: Name,
    /// Whether it is about the name, what is beneath it, or both.
    pub scope: Scope,
    /// What of that it is not about.
    pub except: Vec<Except>,
}

/// Names that an order's target is not about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Except {
    /// The name.
    #[serde(serialize_with = "text")]
    pub name: Name,
    /// Whether it is about the name, what is beneath it, or both.
    pub scope: Scope,
}

fn text<S: serde::Serializer>(name: &Name, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(name)
}

impl Order {
    /// Checks a text. `path` stands in the problems; it is not opened.
    ///
    /// # Errors
    /// All problems of the text.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Problems> {
        let mut findings = Findings::new(path, text.as_bytes());
        let raw = syntax::parse(text, &mut findings, raw::Raw::read);
        let order = validate::validate(raw, path, &mut findings);
        // Without an order there are findings that say why.
        findings
            .conclude(order)
            .map(|order| order.expect("all that is missing was reported"))
    }
}
