//! Loads the zone of a feed that was transferred: all of it, or its changes.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::amendment::amended;
use super::load::{Loaded, LoadedRules, Refusal};
use super::reading::{FinishedLoad, broken};
use super::state::{ListState, Loading};
use crate::config::List;
use crate::control::guard::acceptance::{InForce, NewState, check_acceptance, released_before};
use crate::control::guard::policy::GuardPolicy;
use crate::control::guard::reading::Reading;
use crate::control::guard::release::Guards;
use crate::control::guard::transferred::ZoneReading;
use crate::control::list_file::parse::{ParsedRule, ParsedTrigger};
use crate::control::sources::feeds::delivery::ZoneChange;
use crate::policy::builder::Builder;
use crate::policy::effect::Effect;
use crate::policy::image::Image;
use crate::policy::image::provenance::ImageSource;
use crate::policy::images::Images;
use crate::wire::transfer::{Request, Soa};

/// What a load needs to know about its list.
pub(super) struct Job {
    pub(super) config: List,
    pub(super) guard_policy: Arc<GuardPolicy>,
    pub(super) before: Vec<InForce>,
    pub(super) released: Guards,
}

/// Starts to load a small zone from the messages of its transfer. Returns the number of the load.
pub(crate) fn start_small(
    list: &mut ListState,
    guard_policy: &Arc<GuardPolicy>,
    ticket: u64,
    (request, messages): (Box<Request>, Vec<u8>),
    done: &mpsc::Sender<FinishedLoad>,
) -> u64 {
    start(list, guard_policy, ticket, done, move |job| {
        whole(&job, &request, &messages)
    })
}

/// Starts to apply changes to the rules in force, which are in `images`. Returns the number of the load.
pub(crate) fn start_changes(
    list: &mut ListState,
    guard_policy: &Arc<GuardPolicy>,
    ticket: u64,
    (soa, changes): (Box<Soa>, Vec<ZoneChange>),
    images: Images,
    done: &mpsc::Sender<FinishedLoad>,
) -> u64 {
    let before = list
        .loaded
        .as_ref()
        .map(|loaded| (loaded.tally.clone(), loaded.digest.clone()));
    start(list, guard_policy, ticket, done, move |job| {
        let zone = job.config.apex().cloned().unwrap_or_default();
        let (tally, digest) = before.ok_or(Refusal::BrokenChanges(zone))?;
        amended(&job, (&soa, &changes), (tally, &digest), &images)
    })
}

fn start(
    list: &mut ListState,
    guard_policy: &Arc<GuardPolicy>,
    ticket: u64,
    done: &mpsc::Sender<FinishedLoad>,
    load: impl FnOnce(Job) -> Result<LoadedRules, Refusal> + Send + 'static,
) -> u64 {
    let Loading {
        ticket, released, ..
    } = list.start(ticket);
    let job = Job {
        config: list.config.clone(),
        guard_policy: Arc::clone(guard_policy),
        before: list.in_force(),
        released,
    };
    let loading = tokio::task::spawn_blocking(move || load(job));
    let (broken, done) = (broken(list), done.clone());
    tokio::spawn(async move {
        let result = loading.await.unwrap_or(Err(broken));
        // The receiver is gone when the server ends.
        let _ = done.send(FinishedLoad { ticket, result }).await;
    });
    ticket
}

/// Loads a whole zone.
fn whole(job: &Job, request: &Request, messages: &[u8]) -> Result<LoadedRules, Refusal> {
    let failed = || Refusal::TransferFailed(request.zone.clone());
    let protected_names = job.guard_policy.protected_names();
    let mut reading = ZoneReading::new(request, protected_names, (&job.config).into());
    let mut rules = Rules::new(ImageSource {
        amendable: true,
        ..ImageSource::named(&job.config.source.name)
    });
    let mut rest = messages;
    while let Some((len, after)) = rest.split_first_chunk::<2>() {
        let message = after.split_at_checked(u16::from_be_bytes(*len).into());
        let (message, after) = message.ok_or_else(failed)?;
        let read = reading.message(message, &mut |rule: ParsedRule<'_>| rules.add(rule));
        read.map_err(|_| failed())?;
        rest = after;
    }
    if !reading.has_ended() {
        return Err(failed());
    }
    let reading = reading.finish(&mut |rule: ParsedRule<'_>| rules.add(rule));
    let image = rules.finish(job)?;
    let rules = image.facts().given();
    finish(job, reading, rules, image)
}

/// The rules that were read, unless a guard rejects them.
pub(super) fn finish(
    job: &Job,
    reading: Reading,
    rules: usize,
    image: Image,
) -> Result<LoadedRules, Refusal> {
    let List { source, .. } = &job.config;
    let new = NewState::new(&source.name, &source.path, &reading, Some(rules));
    check_acceptance(&new, &job.before, job.guard_policy.limits(), job.released)?;
    let loaded = Loaded {
        rules,
        tally: reading.tally,
        digest: reading.digest.to_string(),
        signature: None,
        at: reading.at,
        took: reading.took,
        protected_names: job.guard_policy.digest(&job.config).into_owned(),
        released: job.released.and(released_before(&job.before, None)),
    };
    Ok(LoadedRules { loaded, image })
}

/// Builds an image of one source.
pub(super) struct Rules {
    pub(super) builder: Builder,
    default: Effect,
    overfull: Result<(), crate::policy::image::TooLarge>,
}

impl Rules {
    pub(super) fn new(source: ImageSource) -> Self {
        let mut builder = Builder::new();
        let overfull = builder.source(source).map(|_| ());
        Self {
            builder,
            default: Effect::default(),
            overfull,
        }
    }

    pub(super) fn add(&mut self, rule: ParsedRule<'_>) {
        let effect = rule.effect.unwrap_or(&self.default);
        let added = match rule.trigger {
            ParsedTrigger::Name(name, scope) => self.builder.insert_effect(name, 0, scope, effect),
            ParsedTrigger::Network(prefix) => self.builder.insert_prefix(prefix, 0, effect),
        };
        if self.overfull.is_ok() {
            self.overfull = added;
        }
    }

    pub(super) fn finish(self, job: &Job) -> Result<Image, Refusal> {
        let image = self.overfull.and_then(|()| self.builder.finish());
        image.map_err(|source| Refusal::TooLarge {
            path: job.config.source.path.clone(),
            source,
        })
    }
}

/// The reading of changes, which took from `start` until now.
pub(super) fn reading_of_changes(
    tally: crate::control::list_file::parse::Tally,
    digest: blake3::Hash,
    start: Instant,
) -> Reading {
    Reading {
        tally,
        digest,
        signature: None,
        at: Timestamp::now(),
        took: start.elapsed(),
    }
}
