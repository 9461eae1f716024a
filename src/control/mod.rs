//! The control plane: it reads lists and orders, and puts policies in force. It passes them to the data plane only
//! through [`policy::current`](crate::policy::current).

pub mod admin;
pub mod compile;
mod configuration;
pub mod control_loop;
pub mod data_plane;
mod event;
pub mod figures;
mod file_tasks;
pub mod gauges;
pub mod guard;
pub mod inspect;
pub mod journal;
pub mod list_file;
pub mod local_names;
pub mod persist;
pub mod publish;
pub mod recording;
pub mod rollback;
pub mod sources;
pub mod start;
mod steps;
#[cfg(test)]
mod tests;
pub mod vitals;
pub mod zones;

use std::sync::Arc;

use tokio::sync::mpsc;

use self::admin::hits::Hits;
use self::admin::requests::Requests;
use self::compile::queue::CompileQueue;
use self::configuration::Configuration;
use self::figures::FiguresPublisher;
use self::guard::policy::GuardPolicy;
use self::local_names::LocalSources;
use self::persist::image_store::ImageStore;
use self::persist::persistence::Persistence;
use self::publish::delta::DeltaJoin;
use self::publish::publishing::Publication;
use self::publish::record::Record;
use self::sources::downloads::running::Downloads;
use self::sources::feeds::notified::{Keys, Notified};
use self::sources::feeds::running::Feeds;
use self::sources::files::WatchedFiles;
use self::sources::lists::ListSources;
use self::sources::scheduler::Scheduler;
use self::vitals::Vitals;
use self::zones::running::Zones;
use crate::config::Config;
use crate::control::data_plane::Hosts;
use crate::control::rollback::state::Rollback;
use crate::policy::current::Reader;
use crate::policy::served_zones::ServedZones;

/// The control plane: its components, between which [`run`](Self::run) routes events.
pub struct Control {
    pub(crate) configuration: Configuration,
    /// The policy that lists are checked against.
    pub(crate) guard_policy: Arc<GuardPolicy>,
    pub(crate) lists: ListSources,
    pub(crate) downloads: Downloads,
    pub(crate) feeds: Feeds,
    pub(crate) scheduler: Scheduler,
    pub(crate) files: WatchedFiles,
    pub(crate) requests: Requests,
    pub(crate) compiler: CompileQueue,
    pub(crate) delta: DeltaJoin,
    pub(crate) publication: Publication,
    pub(crate) zones: Zones,
    pub(crate) persist: Persistence,
    pub(crate) rollback: Rollback,
    pub(crate) record: Record,
    /// The numbers of hits of lists and orders.
    pub(crate) hits: Hits,
    pub(crate) figures: FiguresPublisher,
    vitals: Arc<Vitals>,
}

impl Control {
    /// A control plane that has read nothing yet. All clients are refused until the first generation.
    pub(crate) fn empty(
        config: Config,
        store: ImageStore,
        (guard_policy, local): (Arc<GuardPolicy>, LocalSources),
        scheduler: Scheduler,
        hosts: Arc<dyn Hosts>,
    ) -> Self {
        let hits = Hits::read(config.state.dir.as_deref());
        let mut control = Self {
            lists: ListSources::new(&config),
            downloads: Downloads::new(hosts),
            feeds: Feeds::new(),
            configuration: Configuration::new(config, local),
            guard_policy,
            scheduler,
            files: WatchedFiles::start(),
            requests: Requests::new(),
            compiler: CompileQueue::new(),
            delta: DeltaJoin::new(),
            publication: Publication::new(),
            zones: Zones::default(),
            persist: Persistence::new(store),
            rollback: Rollback::new(),
            record: Record::default(),
            hits,
            figures: FiguresPublisher::default(),
            vitals: Arc::default(),
        };
        let now = control.scheduler.now();
        let labels = control.lists.labels();
        control.lists.pauses.restore(now, &labels);
        control.start_following();
        control
    }

    /// A reader of the snapshot in force.
    pub fn reader(&self) -> Reader {
        self.publication.publisher.reader()
    }

    /// The zones that the policy is published as.
    pub fn zones(&self) -> ServedZones {
        self.zones.served()
    }

    /// Where the data plane sends the NOTIFY messages for feeds, and the keys with which it checks them.
    pub fn notified(&self) -> (mpsc::Sender<Notified>, Keys) {
        let sender = self.feeds.notified.0.clone();
        (sender, Keys::clone(&self.feeds.keys))
    }

    /// Its signs of life.
    pub fn vitals(&self) -> Arc<Vitals> {
        Arc::clone(&self.vitals)
    }

    /// The generation in force.
    pub fn generation(&self) -> u64 {
        self.publication.publisher.current().generation
    }
}
