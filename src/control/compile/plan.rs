//! The protocol of the compiler process: the plan that it gets, and the events and the outcome that it reports, as JSON.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::comments::Comments;
use crate::config::guard::{Limits, Protections};
use crate::config::{Format, List};
use crate::control::guard::acceptance::InForce;
use crate::control::guard::policy::GuardPolicy;
use crate::control::guard::protected::{Guarded, ProtectedList};
use crate::control::guard::release::Guards;
use crate::control::list_file::parse::Notation;
use crate::control::persist::list_notes::ListNotes;
use crate::control::sources::feeds::spool::TransferPlan;
use crate::control::sources::lists::load::Refusal;
use crate::policy::rule::{Kind, Scope};
use crate::wire::name::Name;

/// The input of a compilation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The path of the image to write.
    pub out: PathBuf,
    /// The lists; rules refer to them by their index.
    pub lists: Vec<PlanList>,
    /// The image that has the rules of lists which are not read.
    pub base: Option<PathBuf>,
    /// An image of changes to the base.
    pub delta: Option<PathBuf>,
    /// Whether a refused list fails the compilation.
    #[serde(default)]
    pub strict: bool,
    /// The limits that the lists are checked against.
    #[serde(default)]
    pub limits: Limits,
    /// The names that no rule of a block list may cover.
    #[serde(default)]
    pub protected_names: ProtectedList,
}

/// A list to compile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanList {
    /// Its name in the configuration.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// The format of the file.
    pub format: Format,
    /// The scope of a name without a prefix.
    pub scope: Scope,
    /// The characters that begin a comment line.
    #[serde(default)]
    pub comments: Comments,
    /// The column of a table that has the names, or the key of JSON.
    #[serde(default)]
    pub column: Option<Arc<str>>,
    /// The name of its policy zone, if that is configured.
    #[serde(default)]
    pub apex: Option<Name>,
    /// The transfer to read instead of a file.
    #[serde(default)]
    pub transfer: Option<TransferPlan>,
    /// Whether the file is the copy of a downloaded list.
    #[serde(default)]
    pub is_copy: bool,
    /// The text to read instead of the file.
    #[serde(default)]
    pub text: Option<String>,
    /// Whether to read it. Otherwise the rules that the base and the delta have for its name are carried over.
    pub read: bool,
    /// The effect of its rules. Guards suppress rules of block lists only.
    pub kind: Kind,
    /// Protections that only warn about its rules.
    #[serde(default)]
    pub warn: Protections,
    /// Guards that the operator releases.
    #[serde(default)]
    pub released: Guards,
    /// The states that the newest state of the list is checked against; see `acceptance::check_acceptance`.
    #[serde(default)]
    pub before: Vec<InForce>,
}

impl Plan {
    /// A plan for these lists under this guard policy. It carries nothing over.
    pub fn new(out: PathBuf, lists: Vec<PlanList>, guard_policy: &GuardPolicy) -> Self {
        Self {
            out,
            lists,
            base: None,
            delta: None,
            strict: false,
            limits: *guard_policy.limits(),
            protected_names: guard_policy.protected_names().list().clone(),
        }
    }
}

impl PlanList {
    /// Its notation.
    pub(super) fn notation(&self) -> Notation {
        Notation {
            format: self.format,
            bare: self.scope,
            comments: self.comments,
            column: self.column.clone(),
            allows: self.kind == Kind::Allow,
        }
    }

    /// A list of the configuration, to be read.
    pub fn read(list: &List) -> Self {
        Self {
            name: list.source.name.clone(),
            path: list.source.path.clone(),
            format: list.format,
            scope: list.scope,
            comments: list.comments,
            column: list.column.clone(),
            apex: list.apex().cloned(),
            transfer: None,
            is_copy: list.download.is_some(),
            text: list.content.embedded().map(str::to_owned),
            read: true,
            kind: list.source.kind,
            warn: list.warn,
            released: Guards::NONE,
            before: Vec::new(),
        }
    }
}

impl From<&PlanList> for Guarded {
    fn from(list: &PlanList) -> Self {
        Self {
            warn: list.warn,
            ..list.kind.into()
        }
    }
}

/// A report of the compiler, one JSON object on each line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A list is being read.
    Reading {
        /// Its name.
        list: String,
        /// Bytes read so far.
        #[serde(rename = "octets")]
        bytes: u64,
        /// Bytes of the file.
        of: u64,
    },
    /// The image is being written.
    Writing {
        /// Names written so far.
        names: u64,
        /// The largest number of names that there can be.
        of: u64,
    },
    /// The image is complete.
    Done(Outcome),
}

/// The result of a compilation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The result for each list, in the order of the plan.
    pub lists: Vec<ListOutcome>,
    /// Bytes of the image.
    #[serde(rename = "octets")]
    pub bytes: u64,
    /// Rules read from all lists, and rules carried over.
    pub given: u64,
    /// Rules in the image.
    pub rules: u64,
    /// Rules left out because others of the same list cover them.
    pub pruned: u64,
    /// The duration in seconds.
    pub seconds: f64,
    /// The peak of anonymous memory in bytes; 0 if the system does not report it.
    pub peak: u64,
}

/// The result for one list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListOutcome {
    /// Its name.
    pub name: String,
    /// Its distinct rules that apply now, including those that other rules of the list cover.
    pub rules: u64,
    /// Facts about its reading; `None` if it was not read, or was refused.
    pub notes: Option<ListNotes>,
    /// Why it was refused. Then `rules` are carried over.
    pub refused: Option<Refused>,
}

/// A [`Refusal`] as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct Refused {
    /// The reason, as a sentence.
    pub text: String,
    /// See [`Refusal::passing`].
    pub passing: bool,
    /// See [`Refusal::transient`].
    pub transient: bool,
    /// See [`Refusal::guards`].
    #[serde(default)]
    pub guards: Guards,
    /// See [`Refusal::is_too_large`].
    #[serde(default)]
    pub is_too_large: bool,
    /// See [`Refusal::may_be_damaged`].
    #[serde(default)]
    pub may_be_damaged: bool,
}

impl From<&Refusal> for Refused {
    fn from(refusal: &Refusal) -> Self {
        Self {
            text: refusal.to_string(),
            passing: refusal.passing(),
            transient: refusal.transient(),
            guards: refusal.guards(),
            is_too_large: refusal.is_too_large(),
            may_be_damaged: refusal.may_be_damaged(),
        }
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        let Refused {
            text,
            passing,
            transient,
            guards,
            is_too_large,
            may_be_damaged,
        } = refused;
        Self::FromCompiler {
            text,
            passing,
            transient,
            guards,
            is_too_large,
            may_be_damaged,
        }
    }
}
