//! The files that a reload or a rollback needs, which are read before it is carried out.
//!
//! ```text
//!   waiting ------> under way ------> prepared ------> carried out
//!      |    first       |      files are      |
//!      |    in line     |      read           | another configuration came into force meanwhile:
//!      |                |                     | the files are read again
//!      |                +<--------------------+
//!      |                |
//!      |                +-- not read in 30 s, or reading panicked --> answered with the problem
//!      +-- a rollback to a generation needs no files --> carried out at once
//! ```

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::config::shown::Show;
use crate::config::{Config, Content, Origin, Overrides, Problems};
use crate::control::admin::status::{ReloadReport, ReloadRequest, RollbackRequest};
use crate::control::configuration::Configuration;
use crate::control::data_plane::{Change, DataPlane};
use crate::control::file_tasks::FileTasks;
use crate::control::guard::policy::GuardPolicy;
use crate::control::journal::entry::Cause;
use crate::control::local_names::LocalSources;
use crate::control::sources::files::{Files, look_at_files};
use crate::control::sources::orders::registry::OrderRegistry;

/// Reloads and rollbacks that may wait.
const WAITING_MAX: usize = 64;

/// How long a request waits for the files that it needs.
const PATIENCE: Duration = Duration::from_secs(30);

/// A reload or a rollback whose files are not read yet.
pub(crate) enum QueuedRequest {
    Reload(ReloadRequest, Cause, Option<oneshot::Sender<ReloadReport>>),
    Rollback(RollbackRequest, Cause, oneshot::Sender<ReloadReport>),
}

impl QueuedRequest {
    /// The reload that SIGHUP requests.
    pub(crate) fn hang_up() -> Self {
        let signal = "SIGHUP".to_owned();
        Self::Reload(ReloadRequest::default(), Cause::Signal { signal }, None)
    }
}

/// A request that can be carried out.
pub(crate) enum PreparedRequest {
    Reload(
        ReloadRequest,
        Cause,
        Option<oneshot::Sender<ReloadReport>>,
        Box<Prepared>,
    ),
    /// `None` if the rollback needs no files.
    Rollback(
        RollbackRequest,
        Cause,
        oneshot::Sender<ReloadReport>,
        Option<Box<Prepared>>,
    ),
}

/// Reloads and rollbacks in the order of their arrival.
pub(crate) struct RequestQueue {
    waiting: VecDeque<QueuedRequest>,
    pub(super) under_way: Option<QueuedRequest>,
    /// The files that were read for it.
    prepared: Option<Box<Prepared>>,
    /// Reads them.
    pub(crate) tasks: FileTasks<(), Box<Prepared>>,
}

impl RequestQueue {
    pub(crate) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            under_way: None,
            prepared: None,
            tasks: FileTasks::new(),
        }
    }

    /// Whether it has a reload.
    pub(super) fn has_reload(&self) -> bool {
        let mut requests = self.waiting.iter().chain(&self.under_way);
        requests.any(|request| matches!(request, QueuedRequest::Reload(..)))
    }

    /// Appends a request. Returns it if the queue is full.
    pub(super) fn push(&mut self, request: QueuedRequest) -> Result<(), QueuedRequest> {
        if self.waiting.len() == WAITING_MAX {
            return Err(request);
        }
        self.waiting.push_back(request);
        Ok(())
    }

    /// The request whose files have been read, if they were read for the configuration in force.
    pub(crate) fn take_prepared(&mut self, in_force: &Config) -> Option<PreparedRequest> {
        let prepared = self.prepared.take()?;
        let request = self.under_way.take()?;
        if prepared.config != *in_force {
            // The files were read while an older configuration was in force.
            self.waiting.push_front(request);
            return None;
        }
        Some(match request {
            QueuedRequest::Reload(request, cause, reply) => {
                PreparedRequest::Reload(request, cause, reply, prepared)
            }
            QueuedRequest::Rollback(request, cause, reply) => {
                PreparedRequest::Rollback(request, cause, reply, Some(prepared))
            }
        })
    }

    /// The next request, if it is a rollback to a generation. Such a rollback needs no file outside of the state
    /// directory, and may be the only remedy while other files can't be read.
    pub(crate) fn take_without_files(&mut self) -> Option<PreparedRequest> {
        let is_next = |next: &QueuedRequest| matches!(next, QueuedRequest::Rollback(request, ..) if request.generation.is_some());
        if self.under_way.is_some() || !self.waiting.front().is_some_and(is_next) {
            return None;
        }
        match self.waiting.pop_front()? {
            QueuedRequest::Rollback(request, cause, reply) => {
                Some(PreparedRequest::Rollback(request, cause, reply, None))
            }
            QueuedRequest::Reload(..) => None,
        }
    }

    /// Starts to read the files of the next request, unless others are being read.
    pub(crate) fn start_preparing(
        &mut self,
        configuration: &Configuration,
        guard_policy: &Arc<GuardPolicy>,
        has_pending: bool,
        plane: Option<Arc<dyn DataPlane>>,
    ) {
        if self.under_way.is_some() || self.tasks.is_running(&()) {
            return;
        }
        self.under_way = self.waiting.pop_front();
        if self.under_way.is_none() {
            return;
        }
        let mut places = vec!["the configuration and the files that it names".to_owned()];
        if let Origin::File(path) = &configuration.current.origin {
            places.insert(0, path.shown().to_string());
        }
        let preparation = Preparation {
            current: configuration.current.clone(),
            overrides: configuration.boot.overrides.clone(),
            guard_policy: Arc::clone(guard_policy),
            local: configuration.local.clone(),
            has_pending,
            plane,
        };
        let work = move || Box::new(preparation.read());
        self.tasks.start((), places.join(", "), work);
    }

    /// Takes the files that were read. Returns those of lists, unless the request has been answered because reading
    /// took too long.
    pub(super) fn finish_preparing(&mut self, prepared: Box<Prepared>) -> Option<&Files> {
        self.under_way.as_ref()?;
        Some(&self.prepared.insert(prepared).files)
    }

    /// Removes all requests if reading files takes too long. A rollback that has started is not removed, as its record
    /// may be on the disk already; `rollback` is its age.
    pub(super) fn give_up_late(&mut self, rollback: Option<Duration>) -> Vec<QueuedRequest> {
        let ages = [self.tasks.age(&()), rollback];
        if ages.into_iter().flatten().all(|age| age < PATIENCE) {
            return Vec::new();
        }
        let under_way = self.under_way.take();
        under_way
            .into_iter()
            .chain(self.waiting.drain(..))
            .collect()
    }

    /// Whether the files of a request have been read.
    #[cfg(test)]
    pub(crate) fn is_prepared(&self) -> bool {
        self.prepared.is_some()
    }

    /// Whether the files of a request are being read.
    #[cfg(test)]
    pub(crate) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }
}

/// The configuration's file as it is now.
pub(crate) struct Newest {
    pub(crate) config: Config,
    /// Why it is rejected, if it differs from the one in force.
    pub(crate) problems: Vec<String>,
    /// Its guard policy, if it differs from the configuration in force, or if a new configuration is pending.
    pub(crate) guard_policy: Option<GuardPolicy>,
    /// Its local names, in the same cases.
    pub(crate) local: Option<LocalSources>,
    /// The prepared change of the data plane.
    pub(crate) change: Option<Change>,
    /// Files of the data plane that changed while the configuration is the one in force, and problems with them.
    pub(crate) files: Result<Vec<String>, Vec<String>>,
}

/// The files that a reload needs.
pub(crate) struct Prepared {
    /// The configuration in force while they were read.
    pub(crate) config: Config,
    /// `None` for the built-in configuration.
    pub(crate) newest: Option<Result<Newest, Problems>>,
    /// The guard policy of the configuration in force, from files that were read again.
    pub(crate) guard_policy: GuardPolicy,
    /// The local names of the configuration in force, from files that were read again.
    pub(crate) local: LocalSources,
    /// The files of all lists, including those of the new configuration.
    pub(crate) files: Files,
}

/// The inputs for reading the files on another thread.
struct Preparation {
    current: Config,
    overrides: Overrides,
    guard_policy: Arc<GuardPolicy>,
    local: LocalSources,
    /// A new configuration is pending.
    has_pending: bool,
    plane: Option<Arc<dyn DataPlane>>,
}

impl Preparation {
    fn read(self) -> Prepared {
        let newest = match &self.current.origin {
            Origin::BuiltIn => None,
            Origin::File(path) => Some(Config::load(path).map(|config| {
                let config = config.with_overrides(self.overrides.clone());
                self.prepare(path, config)
            })),
        };
        let new = newest.iter().flatten();
        let new = new.flat_map(|newest| &newest.config.lists);
        let lists = self.current.lists.iter().chain(new);
        let lists = lists.filter(|list| matches!(list.content, Content::File));
        let files = look_at_files(lists.map(|list| list.source.path.clone()));
        Prepared {
            newest,
            guard_policy: self.guard_policy.read_again(&self.current),
            local: self.local.read_again(&self.current),
            files,
            config: self.current,
        }
    }

    fn prepare(&self, path: &Path, config: Config) -> Newest {
        let is_other = config != self.current;
        let mut problems = OrderRegistry::unlisted(&config);
        let defaults = Config::parse("", path);
        let defaults = defaults.map(|defaults| defaults.with_overrides(self.overrides.clone()));
        // A file that is being written in place may be empty, and so may one that was written to a full disk.
        if is_other && defaults.is_ok_and(|defaults| config == defaults) {
            problems.push(format!(
                "configuration rejected: {} holds nothing that differs from the defaults, and may be cut off: \
                 write it again; to serve without lists and orders, restart with it",
                path.shown()
            ));
        }
        let is_needed = self.has_pending || is_other;
        let local = is_needed.then(|| self.local.read_again(&config));
        let missing = local.iter().flat_map(LocalSources::missing);
        problems.extend(missing.map(|problem| format!("configuration rejected: {problem}")));
        let plane = self.plane.as_ref();
        let files = match plane {
            Some(plane) if !is_other => plane.read_again(),
            _ => Ok(Vec::new()),
        };
        let plane = plane.filter(|_| is_other && problems.is_empty());
        let change = plane.map(|plane| plane.prepare(&config)).transpose();
        let change = change.unwrap_or_else(|why| {
            let why = why.into_iter();
            problems.extend(why.map(|why| format!("configuration rejected: {why}")));
            None
        });
        Newest {
            problems,
            local,
            change,
            files,
            guard_policy: is_needed.then(|| self.guard_policy.read_again(&config)),
            config,
        }
    }
}
