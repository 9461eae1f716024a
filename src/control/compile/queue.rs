//! Large lists that wait for the compiler, and the base that it made of them.

use tokio::sync::mpsc;

use super::job::{Base, Compiled};
use crate::config::List;
use crate::control::guard::acceptance::InForce;
use crate::control::guard::release::Guards;
use crate::control::publish::provenance;
use crate::control::sources::lists::load::Loaded;
use crate::control::sources::lists::state::ListState;
use crate::policy::image::provenance::ImageSource;

/// A large list that is to be read.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The number of the load.
    pub(crate) ticket: u64,
    pub(crate) config: List,
    pub(crate) released: Guards,
    pub(crate) before: Vec<InForce>,
    /// It belongs to a configuration that is not in force.
    pub(crate) staged: bool,
}

/// Large lists on their way through the compiler.
pub(crate) struct CompileQueue {
    /// Large lists that wait for it.
    pub(crate) wanted: Vec<Wanted>,
    /// Whether it is to move lists of the delta into the base.
    pub(crate) delta_is_full: bool,
    /// How many rules the delta had when that failed, and why.
    pub(crate) overfull: Option<(u64, String)>,
    /// Whether it runs.
    pub(crate) compiling: bool,
    /// The rollbacks that had ended when it started.
    pub(crate) compiling_since: u64,
    pub(crate) compiled: (mpsc::Sender<Compiled>, mpsc::Receiver<Compiled>),
    /// The base that it made, until that is in force.
    pub(crate) base: Option<NewBase>,
}

impl CompileQueue {
    pub(crate) fn new() -> Self {
        Self {
            wanted: Vec::new(),
            delta_is_full: false,
            overfull: None,
            compiling: false,
            compiling_since: 0,
            compiled: mpsc::channel(1),
            base: None,
        }
    }
}

/// A base that waits to come into force.
pub(crate) struct NewBase {
    pub(crate) wanted: Vec<Wanted>,
    /// What the delta said of lists that are in the base now.
    pub(crate) moved: Vec<ImageSource>,
    pub(crate) staged: bool,
    pub(crate) base: Base,
}

impl NewBase {
    /// What is known of the lists that were read for it.
    pub(crate) fn loaded(&self) -> impl Iterator<Item = (&Wanted, Loaded)> {
        let sources = &self.base.image.provenance().sources;
        self.wanted.iter().filter_map(|wanted| {
            let name = &wanted.config.source.name;
            let outcome = self
                .base
                .outcome
                .lists
                .iter()
                .find(|list| list.name == *name)?;
            let source = sources.iter().find(|source| source.name == *name)?;
            let loaded =
                provenance::loaded(source, &wanted.config).filter(|_| outcome.refused.is_none())?;
            Some((wanted, loaded))
        })
    }
}

/// A wish for a list as load number `ticket`, unless another number was promised.
pub(crate) fn want(list: &mut ListState, ticket: u64, staged: bool) -> Wanted {
    let loading = list.start(ticket);
    Wanted {
        ticket: loading.ticket,
        config: list.config.clone(),
        released: loading.released,
        before: list.in_force(),
        staged,
    }
}
