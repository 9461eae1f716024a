//! Loads a zone that was transferred, and checks it against the guards.

use std::sync::Arc;

use super::load::{Loaded, LoadedRules, Refusal};
use crate::config::List;
use crate::control::guard::acceptance::{InForce, NewState, check_acceptance, released_before};
use crate::control::guard::policy::GuardPolicy;
use crate::control::guard::reading::Reading;
use crate::control::guard::release::Guards;
use crate::control::guard::transferred::ZoneReading;
use crate::control::list_file::parse::{ParsedRule, ParsedTrigger};
use crate::control::sources::lists::provenance;
use crate::policy::amendment::Amendment;
use crate::policy::builder::Builder;
use crate::policy::effect::Effect;
use crate::policy::image::provenance::ImageSource;
use crate::policy::image::{Image, TooLarge};
use crate::policy::images::Images;
use crate::wire::transfer::Request;

/// What a load needs to know about its list.
pub(super) struct Job {
    pub(super) config: List,
    pub(super) guard_policy: Arc<GuardPolicy>,
    pub(super) before: Vec<InForce>,
    pub(super) released: Guards,
}

/// Loads a whole zone, from messages that each follow two bytes with their length.
pub(super) fn whole(job: &Job, request: &Request, messages: &[u8]) -> Result<LoadedRules, Refusal> {
    let failed = || Refusal::TransferFailed(Box::new(request.zone.clone()));
    let protected_names = job.guard_policy.protected_names();
    let mut reading = ZoneReading::new(request, (&job.config).into());
    let mut rules = Rules::new(ImageSource {
        amendable: true,
        ..ImageSource::named(&job.config.source.name)
    });
    let mut rest = messages;
    while let Some((len, after)) = rest.split_first_chunk::<2>() {
        let message = after.split_at_checked(u16::from_be_bytes(*len).into());
        let (message, after) = message.ok_or_else(failed)?;
        let mut rule = |rule: ParsedRule<'_>| rules.add(rule);
        let read = reading.message(message, protected_names, &mut rule);
        read.map_err(|_| failed())?;
        rest = after;
    }
    if !reading.has_ended() {
        return Err(failed());
    }
    let mut rule = |rule: ParsedRule<'_>| rules.add(rule);
    let reading = reading.finish(protected_names, &mut rule);
    let image = rules.finish(job)?;
    let rules = image.facts().given();
    finish(job, reading, rules, image)
}

/// The rules that result from an amendment of those in force, unless a guard rejects them. `rules` is their number.
pub(super) fn finish_amendment(
    job: &Job,
    reading: Reading,
    rules: u64,
    amendment: &Amendment,
    images: &Images,
) -> Result<LoadedRules, Refusal> {
    let rules = usize::try_from(rules).unwrap_or(usize::MAX);
    let loaded = accepted(job, reading, rules)?;
    let source = provenance::source(&job.config, &loaded);
    let image = amendment.image(images, source);
    let image = image.map_err(|source| Refusal::TooLarge {
        path: job.config.source.path.clone(),
        source,
    })?;
    Ok(LoadedRules {
        loaded,
        image: Arc::new(image),
    })
}

/// The rules that were read, unless a guard rejects them.
pub(super) fn finish(
    job: &Job,
    reading: Reading,
    rules: usize,
    image: Image,
) -> Result<LoadedRules, Refusal> {
    Ok(LoadedRules {
        loaded: accepted(job, reading, rules)?,
        image: Arc::new(image),
    })
}

/// The facts about the rules that were read, unless a guard rejects them.
fn accepted(job: &Job, reading: Reading, rules: usize) -> Result<Loaded, Refusal> {
    let List { source, .. } = &job.config;
    let new = NewState::new(&source.name, &source.path, &reading, Some(rules));
    check_acceptance(&new, &job.before, job.guard_policy.limits(), job.released)?;
    Ok(Loaded {
        rules,
        tally: reading.tally,
        digest: reading.digest.to_string(),
        signature: None,
        at: reading.at,
        took: reading.took,
        protected_names: job.guard_policy.digest(&job.config).into_owned(),
        released: job.released.and(released_before(&job.before, None)),
    })
}

/// Builds an image of one source.
struct Rules {
    builder: Builder,
    default: Effect,
    overfull: Result<(), TooLarge>,
}

impl Rules {
    fn new(source: ImageSource) -> Self {
        let mut builder = Builder::new();
        let overfull = builder.source(source).map(|_| ());
        Self {
            builder,
            default: Effect::default(),
            overfull,
        }
    }

    fn add(&mut self, rule: ParsedRule<'_>) {
        let effect = rule.effect.unwrap_or(&self.default);
        let added = match rule.trigger {
            ParsedTrigger::Name(name, scope) => self.builder.insert_effect(name, 0, scope, effect),
            ParsedTrigger::Network(prefix) => self.builder.insert_prefix(prefix, 0, effect),
            ParsedTrigger::Pattern(pattern) => self.builder.insert_pattern(pattern, 0, effect),
        };
        if self.overfull.is_ok() {
            self.overfull = added;
        }
    }

    fn finish(self, job: &Job) -> Result<Image, Refusal> {
        let image = self.overfull.and_then(|()| self.builder.finish());
        image.map_err(|source| Refusal::TooLarge {
            path: job.config.source.path.clone(),
            source,
        })
    }
}
