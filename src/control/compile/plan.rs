//! Owns the words between whoever wants an image and the compiler: the plan, what is told on the
//! way, and the outcome.
//! Refuses to carry anything out.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::comments::Comments;
use crate::config::guard::{Limits, Protections};
use crate::config::{Content, Format, List};
use crate::control::guard::acceptance::InForce;
use crate::control::guard::policy::GuardPolicy;
use crate::control::guard::protected::{Guarded, ProtectedList};
use crate::control::guard::release::Guards;
use crate::control::sources::lists::load::Refusal;
use crate::control::sources::lists::parse::{Notation, Tally};
use crate::control::sources::signature::Signature;
use crate::policy::image::provenance::ImageSource;
use crate::policy::rule::{Kind, Scope};

/// What to compile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Where the image goes.
    pub out: PathBuf,
    /// The lists; rules name them by their place here.
    pub lists: Vec<PlanList>,
    /// The image that rules of lists which are not read come from.
    pub base: Option<PathBuf>,
    /// An image of changes to that one.
    pub delta: Option<PathBuf>,
    /// A refused list is a reason to write nothing.
    #[serde(default)]
    pub strict: bool,
    /// What the lists are judged by.
    #[serde(default)]
    pub limits: Limits,
    /// What no rule of a guarded list may cover.
    #[serde(default)]
    pub protected_names: ProtectedList,
}

/// A list to compile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanList {
    /// The name that the operator gave it.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// How that is written.
    pub format: Format,
    /// What a bare name means.
    pub scope: Scope,
    /// The characters that begin a comment line.
    #[serde(default)]
    pub comments: Comments,
    /// What to read instead of the file.
    #[serde(default)]
    pub text: Option<String>,
    /// Read it. Otherwise its rules are those that the base and the delta have for its name.
    pub read: bool,
    /// What its rules do: those of a block list are left out where guards say so.
    pub kind: Kind,
    /// Guards that only warn of its rules.
    #[serde(default)]
    pub warn: Protections,
    /// Guards that the operator releases.
    #[serde(default)]
    pub released: Guards,
    /// What its newest state is judged against, see `judge`.
    #[serde(default)]
    pub before: Vec<InForce>,
}

impl Plan {
    /// A plan for these lists, to be judged as `rails` say, that carries nothing over.
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
    /// How it is written.
    pub(super) fn notation(&self) -> Notation {
        Notation {
            format: self.format,
            bare: self.scope,
            comments: self.comments,
        }
    }

    /// A list of the configuration that is to be read.
    pub fn read(list: &List) -> Self {
        Self {
            name: list.source.name.clone(),
            path: list.source.path.clone(),
            format: list.format,
            scope: list.scope,
            comments: list.comments,
            text: match list.content {
                Content::Embedded(text) => Some(text.to_owned()),
                Content::File => None,
            },
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

/// What the compiler tells, one a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A list is being read.
    Reading {
        /// Its name.
        list: String,
        /// Octets that are read.
        octets: u64,
        /// Octets of the file.
        of: u64,
    },
    /// The image is being written.
    Writing {
        /// Names that are written.
        names: u64,
        /// As many at most.
        of: u64,
    },
    /// It is there.
    Done(Outcome),
}

/// What a compilation came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// What became of each list, in the plan's order.
    pub lists: Vec<ListOutcome>,
    /// Octets of the image.
    pub octets: u64,
    /// Rules on the lines of all lists that were read, and rules carried over.
    pub given: u64,
    /// Rules that are in the image.
    pub rules: u64,
    /// Rules that are not, as others of the same list cover them.
    pub pruned: u64,
    /// How long it took.
    pub seconds: f64,
    /// The most memory that it took for itself, in octets; 0 where the system does not tell.
    pub peak: u64,
}

/// What became of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListOutcome {
    /// Its name.
    pub name: String,
    /// Different rules of it that count now, with those that others of it cover.
    pub rules: u64,
    /// What was read; nothing if it was not.
    pub notes: Option<ListNotes>,
    /// Why what was read does not count. If it has rules, they are carried over.
    pub refused: Option<Refused>,
}

/// A [`Refusal`] in another process.
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
}

impl From<&Refusal> for Refused {
    fn from(refusal: &Refusal) -> Self {
        Self {
            text: refusal.to_string(),
            passing: refusal.passing(),
            transient: refusal.transient(),
            guards: refusal.guards(),
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
        } = refused;
        Self::Told {
            text,
            passing,
            transient,
            guards,
        }
    }
}

/// What an image keeps of the reading of a list, so that it can be told after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListNotes {
    /// How it was written.
    pub format: Format,
    /// What a bare name meant.
    pub scope: Scope,
    /// The characters that began a comment line.
    #[serde(default)]
    pub comments: Comments,
    /// What its rules did; images of older versions don't say.
    #[serde(default)]
    pub kind: Option<Kind>,
    /// What stood in it.
    pub tally: Tally,
    /// The file as it was; nothing for content that is built in.
    pub signature: Option<Signature>,
    /// How long reading took, in milliseconds.
    pub took_ms: u64,
    /// What tells the protected names that its rules were held against; nothing if there were none.
    #[serde(default, rename = "wards")]
    pub protected_names: String,
    /// Guards that were released for it.
    #[serde(default)]
    pub released: Guards,
}

impl ListNotes {
    /// The notes of a source; nothing if there are none, or another version wrote them otherwise.
    pub fn of(source: &ImageSource) -> Option<Self> {
        serde_json::from_value(source.notes.clone()).ok()
    }

    /// As a source keeps them.
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("strings and numbers have a JSON form")
    }
}
