//! A compilation of large lists, which runs in another process, and the base that results.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::List;
use crate::config::paths;
use crate::control::compile::child::{ChildError, Compiler};
use crate::control::compile::plan::{Event, Outcome, Plan, PlanList};
use crate::control::guard::policy::GuardPolicy;
use crate::control::guard::release::Guards;
use crate::control::persist::image_store::{CompileWorkspace, ImageStore};
use crate::control::persist::store::{ImageFileError, StoreError, read_image};
use crate::control::sources::feeds::spool::SpooledTransfer;
use crate::control::sources::lists::large::Wanted;
use crate::control::sources::lists::load::Loaded;
use crate::control::sources::lists::provenance;
use crate::policy::image::Image;
use crate::policy::image::provenance::ImageSource;
use crate::policy::images::Images;

/// A compilation that ended.
pub(crate) struct Compiled {
    pub(crate) wanted: Vec<Wanted>,
    pub(crate) moved: Vec<ImageSource>,
    pub(crate) result: Result<Base, CompileError>,
}

/// The new base that a compilation made.
pub(crate) struct Base {
    pub(crate) image: Arc<Image>,
    /// Its file, which still has a temporary name.
    pub(crate) place: PathBuf,
    pub(crate) outcome: Outcome,
}

/// Why a compilation failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompileError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Child(#[from] ChildError),
    #[error(transparent)]
    Image(#[from] ImageFileError),
    #[error("the compiler could not be started, as the path of this program is unknown: {0}")]
    Program(#[from] std::io::Error),
    #[error("the compilation gave way to those of other lists")]
    GaveWay,
    #[error("compiling failed inside tapis, which is a bug; please report it")]
    Broken,
}

impl CompileError {
    /// Whether the same compilation may succeed later.
    pub(crate) fn passes(&self) -> bool {
        match self {
            Self::Store(_) | Self::Image(_) | Self::Program(_) => true,
            Self::Child(error) => error.is_of_system(),
            Self::GaveWay | Self::Broken => false,
        }
    }
}

/// A compilation that is to be run, with its inputs.
pub(crate) struct Job {
    pub(crate) store: ImageStore,
    pub(crate) patience: Duration,
    /// The images in force; the delta only if lists of it move into the base.
    pub(crate) images: Images,
    /// The lists of the new base, in their order; those that are not wanted are carried over.
    pub(crate) lists: Vec<List>,
    pub(crate) wanted: Vec<Wanted>,
    /// The policy that the wanted lists are checked against.
    pub(crate) guard_policy: Arc<GuardPolicy>,
    /// The provenance of the lists that move from the delta into the base.
    pub(crate) moved: Vec<ImageSource>,
}

impl Job {
    pub(crate) async fn run(self) -> Compiled {
        let result = self.compile().await;
        if let Err(error) = &result {
            // The cause may be the file of the base that rules were to be carried over from.
            let store = self.store.clone();
            let _ = tokio::task::spawn_blocking(move || store.forget_base_files()).await;
            if !self.has_failed_transfer() {
                tracing::error!(%error, "compilation failed; the rules in force stay");
            }
        }
        Compiled {
            wanted: self.wanted,
            moved: self.moved,
            result,
        }
    }

    async fn compile(&self) -> Result<Base, CompileError> {
        let workspace = self.workspace(false).await?;
        let is_elsewhere = workspace.is_elsewhere;
        match self.compile_at(workspace).await {
            // The state directory's disk may be full.
            Err(CompileError::Child(error))
                if error.is_of_system() && !is_elsewhere && !self.has_failed_transfer() =>
            {
                tracing::warn!(%error, "the compiler uses a temporary directory");
                let workspace = self.workspace(true).await?;
                self.compile_at(workspace).await
            }
            ended => ended,
        }
    }

    /// Whether there is nothing to compile any more, as the transfer of the zone has failed. Its feed reports that.
    fn has_failed_transfer(&self) -> bool {
        let mut transfers = self
            .wanted
            .iter()
            .filter_map(|wanted| wanted.transfer.as_ref());
        transfers.any(|transfer| transfer.failed_zone().is_some())
    }

    async fn workspace(&self, elsewhere: bool) -> Result<CompileWorkspace, CompileError> {
        let (store, images) = (self.store.clone(), self.images.clone());
        let workspace = tokio::task::spawn_blocking(move || store.workspace(&images, elsewhere));
        Ok(workspace.await.map_err(|_| CompileError::Broken)??)
    }

    async fn compile_at(&self, workspace: CompileWorkspace) -> Result<Base, CompileError> {
        let compiler = Compiler::own(self.patience)?;
        let (place, delta) = (workspace.out.clone(), workspace.delta.clone());
        let plan = self.plan(workspace);
        let mut last = String::new();
        let progress = |event: Event| {
            if let Event::Reading { list, .. } = event
                && list != last
            {
                let mut feeds = self.lists.iter().filter(|list| list.is_feed());
                match feeds.any(|feed| feed.source.name == list) {
                    true => tracing::info!(feed = list, "compiling"),
                    false => tracing::info!(list, "compiling"),
                }
                last = list;
            }
        };
        let transfers = self
            .wanted
            .iter()
            .filter_map(|wanted| wanted.transfer.as_ref());
        let arrivals = transfers.map(|transfer| transfer.arrival.clone()).collect();
        let outcome = compiler.compile(&plan, arrivals, progress).await;
        if let Some(delta) = delta {
            // If it can't be removed, the next compilation tries again.
            let _ = tokio::task::spawn_blocking(|| std::fs::remove_file(delta)).await;
        }
        let outcome = outcome?;
        let file = place.clone();
        let reading = tokio::task::spawn_blocking(move || read_image(&file));
        let image = reading.await.map_err(|_| CompileError::Broken)??;
        // An image without rules is not logged: there was nothing to compile, or the lists are refused, which is logged
        // elsewhere.
        if outcome.rules > 0 {
            tracing::info!(
                bytes = outcome.bytes,
                rules = outcome.rules,
                seconds = outcome.seconds,
                peak_bytes = outcome.peak,
                "compiled"
            );
        }
        let image = Arc::new(image);
        Ok(Base {
            image,
            place,
            outcome,
        })
    }

    pub(crate) fn plan(&self, workspace: CompileWorkspace) -> Plan {
        let list = |list: &List| {
            let wanted = self
                .wanted
                .iter()
                .find(|wanted| wanted.config.source.name == list.source.name);
            let mut plan = PlanList::read(list);
            plan.read = wanted.is_some();
            plan.released = wanted.map_or(Guards::NONE, |wanted| wanted.released);
            plan.before = wanted.map_or(Vec::new(), |wanted| wanted.before.clone());
            let transfer = wanted.and_then(|wanted| wanted.transfer.as_ref());
            plan.transfer = transfer.map(SpooledTransfer::plan);
            if !plan.read {
                // The path is only recorded in the image, as JSON.
                plan.path = paths::recorded(&plan.path);
            }
            plan
        };
        Plan {
            base: workspace.base,
            delta: workspace.delta,
            ..Plan::new(
                workspace.out,
                self.lists.iter().map(list).collect(),
                &self.guard_policy,
            )
        }
    }
}

/// A base that waits to come into force.
pub(crate) struct NewBase {
    pub(crate) wanted: Vec<Wanted>,
    /// The provenance of the lists that have moved from the delta into this base, as the delta had it.
    pub(crate) moved: Vec<ImageSource>,
    pub(crate) for_pending: bool,
    pub(crate) base: Base,
}

impl NewBase {
    /// Whether it has a list as the delta had it when the compilation began.
    pub(crate) fn has_moved(&self, list: &str) -> bool {
        self.moved.iter().any(|source| source.name == list)
    }

    /// The facts about the lists that were read for it.
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
