//! Small lists on their way into the delta, the image that has all of them.
//!
//! ```text
//!           a list is read, a base is compiled,
//!           or all of a pending configuration is read              joined
//!   idle -------------------------------------------> joining ----------------> idle, and the result comes
//!    ^                                                   |                      into force
//!    |   too large, or panicked: what was joined is      |
//!    |   refused                                         |
//!    +<--------------------------------------------------+
//!    |   a rollback came into force meanwhile: dropped   |
//!    +<--------------------------------------------------+
//! ```
//!
//! One join runs at a time, on a thread that may block.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::compose::{self, Fitting};
use crate::control::compile::job::NewBase;
use crate::control::compile::queue::CompileQueue;
use crate::control::sources::lists::ListSources;
use crate::control::sources::lists::large::Wanted;
use crate::control::sources::lists::provenance;
use crate::control::sources::lists::reading::ReadyList;
use crate::control::sources::lists::state::{ListState, has_load};
use crate::control::sources::orders::registry::OrderRegistry;
use crate::control::sources::pending::PendingConfig;
use crate::policy::amendment::rebased;
use crate::policy::image::provenance::ImageSource;
use crate::policy::image::{Image, TooLarge};
use crate::policy::images::Images;

/// Joined lists, or the tickets of a join that panicked.
pub(crate) type Joining = Result<Joined, Vec<u64>>;

/// Small lists on their way into the delta.
pub(crate) struct DeltaJoin {
    /// Lists that were read and wait to be joined.
    ready: Vec<ReadyList>,
    progress: Progress,
    pub(crate) joined: (mpsc::Sender<Joining>, mpsc::Receiver<Joining>),
}

/// The join under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Idle,
    Joining {
        /// The number of rollbacks when it began.
        epoch: u64,
        /// A new configuration is joined with the lists. No other component has it until the join ends, so requests for
        /// a change wait.
        has_configuration: bool,
    },
}

/// Lists that were joined, and the new configuration that some of them belong to, if there is one.
pub(crate) struct Joined {
    pub(crate) ready: Vec<ReadyList>,
    pub(crate) base: Option<NewBase>,
    pub(crate) pending: Option<(PendingConfig, OrderRegistry)>,
    pub(crate) result: Result<Arc<Image>, TooLarge>,
    /// Lists that were read, and that are left out of the result because there is no room for their patterns.
    pub(crate) refused: Vec<(ReadyList, TooLarge)>,
}

/// The state of rollbacks.
#[derive(Clone, Copy)]
pub(crate) struct RollbackState {
    /// A rollback is under way. No pending configuration is joined then.
    pub(crate) is_running: bool,
    /// The number of rollbacks so far.
    pub(crate) epoch: u64,
}

impl DeltaJoin {
    pub(crate) fn new() -> Self {
        Self {
            ready: Vec::new(),
            progress: Progress::Idle,
            joined: mpsc::channel(1),
        }
    }

    /// Whether lists are being joined.
    pub(crate) fn is_joining(&self) -> bool {
        self.progress != Progress::Idle
    }

    /// Whether the lists of a new configuration are being joined. It is neither pending nor in force meanwhile.
    pub(crate) fn has_configuration(&self) -> bool {
        matches!(
            self.progress,
            Progress::Joining {
                has_configuration: true,
                ..
            }
        )
    }

    /// Adds a list that was read.
    pub(crate) fn add(&mut self, ready: ReadyList) {
        self.ready.push(ready);
    }

    /// Drops the lists that wait to be joined. Returns the tickets of their loads.
    pub(crate) fn clear(&mut self) -> Vec<u64> {
        let ready = std::mem::take(&mut self.ready).into_iter();
        ready.map(|ready| ready.ticket).collect()
    }

    /// Starts to join the lists that are ready, unless some are being joined. `version` is that of the orders in force.
    /// Returns the tickets of loads that are not needed any more.
    pub(crate) fn start(
        &mut self,
        lists: &mut ListSources,
        compiler: &mut CompileQueue,
        images: &Images,
        version: u64,
        rollback: RollbackState,
    ) -> Vec<u64> {
        let is_whole = |pending: &PendingConfig| !rollback.is_running && pending.is_whole(version);
        let has_pending = lists.pending.as_ref().is_some_and(is_whole);
        let is_based = compiler.base.as_ref().is_some_and(|base| !base.for_pending);
        if self.is_joining() || (!has_pending && !is_based && self.ready.is_empty()) {
            return Vec::new();
        }
        self.progress = Progress::Joining {
            epoch: rollback.epoch,
            has_configuration: has_pending,
        };
        let mut pending = lists.pending.take_if(|pending| is_whole(pending));
        let registry = pending.as_mut().and_then(PendingConfig::take_orders);
        let base = compiler
            .base
            .take_if(|base| !base.for_pending || pending.is_some());
        let parts = Parts::new(
            std::mem::take(&mut self.ready),
            &lists.active,
            images,
            pending.as_ref(),
            base.as_ref(),
        );
        let Parts {
            mut ready,
            kept,
            outdated,
            gone,
        } = parts;
        let delta = images.delta.clone();
        let send = self.joined.0.clone();
        let based = base.iter().flat_map(|base| &base.wanted);
        let based = based.map(|wanted| wanted.ticket);
        let tickets: Vec<_> = ready
            .iter()
            .map(|ready| ready.ticket)
            .chain(based)
            .collect();
        let joining = tokio::task::spawn_blocking(move || {
            let stays = |name: &str| kept.iter().any(|kept| kept == name);
            let rebased = rebase(&ready, &outdated, delta.as_deref(), base.as_ref());
            let is_ready = |name: &str| ready.iter().any(|ready| ready.is_of(name));
            let fitting = rebased.map(|rebased| {
                let fresh = fresh(&ready, pending.as_ref(), &rebased);
                compose::join_fitting(delta.as_deref(), stays, fresh, is_ready)
            });
            let (result, left_out) = match fitting {
                Ok(Fitting { joined, left_out }) => (joined, left_out),
                Err(error) => (Err(error), Vec::new()),
            };
            let mut refused = Vec::new();
            for (name, error) in left_out {
                let at = ready.iter().position(|ready| ready.is_of(&name));
                refused.extend(at.map(|at| (ready.remove(at), error)));
            }
            Joined {
                ready,
                base,
                pending: pending.zip(registry),
                result,
                refused,
            }
        });
        tokio::spawn(async move {
            let joined = joining.await.map_err(|_| tickets);
            // At shutdown there is no receiver.
            let _ = send.send(joined).await;
        });
        gone
    }

    /// Ends a join. Returns whether its result is to be used: not if a rollback came into force meanwhile. An unused
    /// result never has a new configuration: no rollback starts while one is being joined. And no request waits for an
    /// unused result: the rollback has dismissed or refused its loads.
    pub(crate) fn finish(&mut self, epoch: u64) -> bool {
        let ended = std::mem::replace(&mut self.progress, Progress::Idle);
        matches!(ended, Progress::Joining { epoch: began, .. } if began == epoch)
    }
}

/// The provenance of a list that was read.
fn source(ready: &ReadyList) -> ImageSource {
    provenance::source(&ready.config, &ready.rules.loaded)
}

/// The images of the lists that were read, and of those of a new configuration. Some are replaced by those that are
/// `rebased`.
fn fresh<'i>(
    ready: &'i [ReadyList],
    pending: Option<&'i PendingConfig>,
    rebased: &'i [(Arc<Image>, ImageSource)],
) -> Vec<(&'i Arc<Image>, ImageSource)> {
    let is_rebased = |name: &str| rebased.iter().any(|(_, source)| source.name == name);
    let ready = ready.iter();
    let ready = ready.filter(|ready| !is_rebased(&ready.config.source.name));
    let ready = ready.map(|ready| (&ready.rules.image, source(ready)));
    let new = pending.iter().flat_map(|pending| &pending.lists);
    let new = new.filter_map(|list| {
        let source = provenance::source(&list.config, list.loaded.as_ref()?);
        Some((list.rules.as_ref()?, source))
    });
    let rebased = rebased
        .iter()
        .map(|(image, source)| (image, source.clone()));
    ready.chain(new).chain(rebased).collect()
}

/// The amendments of lists that have moved into the new base, without those that the base has: of the lists that were read,
/// and of those that are `outdated` in the base.
fn rebase(
    ready: &[ReadyList],
    outdated: &[ImageSource],
    delta: Option<&Image>,
    base: Option<&NewBase>,
) -> Result<Vec<(Arc<Image>, ImageSource)>, TooLarge> {
    let Some(base) = base else {
        return Ok(Vec::new());
    };
    let amends = |ready: &&ReadyList| {
        let image = &ready.rules.image;
        base.has_moved(&ready.config.source.name) && image.provenance().amends()
    };
    let ready = ready.iter().filter(amends);
    let ready = ready.map(|ready| (&*ready.rules.image, source(ready)));
    let kept = outdated.iter();
    let kept = kept.filter_map(|source| Some((delta?, source.clone())));
    let rebased = ready.chain(kept).map(|(image, source)| {
        let rebased = rebased(image, &source.name, &base.base.image)?;
        Ok((Arc::new(rebased), source))
    });
    rebased.collect()
}

/// The parts of the next delta.
struct Parts {
    /// The lists that are read and needed.
    ready: Vec<ReadyList>,
    /// The names of those that stay as they are.
    kept: Vec<String>,
    /// Those that the delta amended further after they had moved into the base, as the delta has them.
    outdated: Vec<ImageSource>,
    /// Tickets of lists that a new configuration replaces.
    gone: Vec<u64>,
}

impl Parts {
    fn new(
        ready: Vec<ReadyList>,
        active: &[ListState],
        images: &Images,
        pending: Option<&PendingConfig>,
        base: Option<&NewBase>,
    ) -> Self {
        // The compiled rules of a list are not used if its configuration changed meanwhile.
        let counts = |wanted: &Wanted| {
            wanted.for_pending || active.iter().any(|list| has_load(list, wanted.ticket))
        };
        let based = base.iter().flat_map(|base| base.loaded());
        let based = based.filter(|(wanted, _)| counts(wanted));
        let based = based.map(|(wanted, _)| wanted.config.source.name.clone());
        // A list that has changed since it moved into the base stays in the delta, which takes precedence over the
        // base. Of a list that is amended, only the later changes do.
        let moved = base.iter().flat_map(|base| &base.moved);
        let moved = moved.filter(|source| images.in_delta(&source.name) == Some(source));
        let based: Vec<_> = based
            .chain(moved.map(|source| source.name.clone()))
            .collect();
        let is_based = |name: &str| based.iter().any(|based| based == name);
        let is_replaced = |name: &str| {
            let mut fresh = pending.iter().flat_map(|pending| &pending.lists);
            fresh.any(|list| list.name() == name)
        };
        let (gone, ready) = ready
            .into_iter()
            .partition::<Vec<_>, _>(|ready| is_replaced(&ready.config.source.name));
        let is_ready = |name: &str| ready.iter().any(|ready| ready.config.source.name == name);
        let is_new = |name: &str| is_ready(name) || is_replaced(name) || is_based(name);
        let names = active.iter().map(ListState::name);
        let kept = names.filter(|name| !is_new(name));
        let (mut outdated, mut others) = (Vec::new(), Vec::new());
        for name in kept {
            let has_moved = base.is_some_and(|base| base.has_moved(name));
            let amended = images.in_delta(name);
            match amended.filter(|source| has_moved && source.amends) {
                Some(source) => outdated.push(source.clone()),
                None => others.push(name.to_owned()),
            }
        }
        Self {
            kept: others,
            outdated,
            ready,
            gone: gone.into_iter().map(|ready| ready.ticket).collect(),
        }
    }
}
