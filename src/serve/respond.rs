//! Answers a query. The input is a packet, its client and the time; the output is an answer or the next step. This
//! module uses neither sockets nor a clock, so that each rule of the protocol can be tested without them.

use std::sync::Arc;

use super::alias::Target;
use super::asked::{Asked, read_one};
use super::cache::{Cache, Entry, Failure, Key, KeyRef, Lookup};
use super::client::Client;
use super::context::{AnswerContext, Handoff, Written};
use super::local;
use super::step::{Attempt, Ending, Resolution, Step, Tally};
use super::synthesized::{self, BlockedAt};
use super::worker_cache::{Location, WorkerCache};
use crate::policy::decide::{Decision, LaterRules, Matched, PolicyView};
use crate::policy::local::LocalAlias;
use crate::policy::rule::EffectAnswer;
use crate::policy::snapshot::Snapshot;
use crate::stats::Count;
use crate::wire::edns::{Ede, code};
use crate::wire::name::Name;
use crate::wire::{Rcode, rtype};

/// Answers one packet at `now` (seconds of the server's clock), or returns the next step. Overwrites `out`. May wait
/// for another thread that writes to the cache.
///
/// Allocates nothing if `out` has room for the answer, with five exceptions: [`Step::Resolve`] and [`Step::Refresh`];
/// an answer of more than sixteen records that has an additional section or blocked services; an answer with more than
/// four blocked services; a name to which more than four exceptions apply, not counting exceptions against all sources;
/// an answer with a chain of several pools or of local aliases to upstream, if a rule blocks a part of it or it has services.
pub fn respond(
    now: u32,
    client: &Client,
    packet: &[u8],
    snapshot: &Snapshot,
    cache: &Cache,
    out: &mut Vec<u8>,
) -> Step {
    let mut name = Name::default();
    match read_one(client, packet, &mut name, snapshot, out) {
        Ok(asked) => {
            let policy = asked.policy(snapshot);
            let decision = policy.decide(asked.query.name);
            answer(now, &asked, policy, &decision, (cache, Attempt::First), out)
        }
        Err(ending) => ending.into(),
    }
}

/// The data with which a query is concluded.
#[derive(Clone, Copy)]
pub struct Known<'k> {
    /// How asking upstream ended.
    pub resolution: &'k Resolution,
    /// The cache. If an answer about another name than that of `resolution` is needed, the cache may have it.
    pub cache: &'k Cache,
    /// Whether the answer must be written with what is known.
    pub is_last: bool,
}

/// Answers the same packet with the outcome of asking upstream, under the snapshot that is in force now: a block
/// that came in the meantime applies at once. Never waits.
///
/// Returns [`Step::Resolve`] if upstream must be asked for yet another name: a rule puts it in place of a name in
/// upstream's answer, or the policy has changed. Returns `None` if it would have to wait for a thread that writes to
/// the cache. Neither happens if `known.is_last`.
pub fn conclude(
    now: u32,
    client: &Client,
    packet: &[u8],
    snapshot: &Snapshot,
    known: Known<'_>,
    out: &mut Vec<u8>,
) -> Option<Step> {
    let mut name = Name::default();
    match read_one(client, packet, &mut name, snapshot, out) {
        Ok(asked) => conclude_read(now, &asked, snapshot, known, out),
        Err(ending) => Some(ending.into()),
    }
}

/// The second half of [`respond`], after the policy has decided on the name. `attempt` says how often the message was
/// dispatched before.
pub(super) fn answer<'a>(
    now: u32,
    asked: &'a Asked<'_>,
    policy: PolicyView<'a>,
    decision: &Decision<'a>,
    (cache, attempt): (&Cache, Attempt),
    out: &mut Vec<u8>,
) -> Step {
    let target = |key: KeyRef<'_>, is_chain_stale| {
        let lookup = cache.lookup_key(key, now);
        Some(Target::of(lookup, is_chain_stale))
    };
    let step = match synthesize(now, asked, policy, decision, out) {
        Synthesis::Ended(ending) => return ending.into(),
        Synthesis::Forward(context) => {
            let lookup = cache.lookup(context.query, now);
            let written = written(&context, &lookup, attempt, out);
            finish(&context, written, target, out)
        }
        Synthesis::Alias(context, by) => context.alias(by, &BlockedAt::Question, target, out),
        Synthesis::LocalAlias(context, record) => context.local_alias(record, target, out),
    };
    step.expect("the lookups above wait, so they have a result")
}

/// Like [`answer`], for a worker. Its worker cache has the answer, if at all, at the given location. Never waits:
/// `None` if another thread writes to the cache where the answer would be.
#[inline]
pub(super) fn try_answer<'a>(
    now: u32,
    asked: &'a Asked<'_>,
    policy: PolicyView<'a>,
    decision: &Decision<'a>,
    cache: &Cache,
    (worker_cache, location): (&mut WorkerCache, Location),
    out: &mut Vec<u8>,
) -> Option<Step> {
    let target = |key: KeyRef<'_>, is_chain_stale| {
        let lookup = cache.try_lookup_key(key, now)?;
        Some(Target::of(lookup, is_chain_stale))
    };
    let context = match synthesize(now, asked, policy, decision, out) {
        Synthesis::Ended(ending) => return Some(ending.into()),
        Synthesis::Forward(context) => context,
        Synthesis::Alias(context, by) => {
            return context.alias(by, &BlockedAt::Question, target, out);
        }
        Synthesis::LocalAlias(context, record) => return context.local_alias(record, target, out),
    };
    if let Some(entry) = worker_cache.get(location, context.query, now) {
        let written = context.hit(entry, entry.is_due(now), out);
        return finish(&context, written, target, out);
    }
    let lookup = cache.try_lookup(context.query, now)?;
    if let Lookup::Fresh(entry) = &lookup {
        worker_cache.insert(location, context.query, entry, now);
    }
    let written = written(&context, &lookup, Attempt::First, out);
    finish(&context, written, target, out)
}

/// The second half of [`conclude`], after the packet was read.
pub(super) fn conclude_read(
    now: u32,
    asked: &Asked<'_>,
    snapshot: &Snapshot,
    known: Known<'_>,
    out: &mut Vec<u8>,
) -> Option<Step> {
    let Known {
        resolution,
        cache,
        is_last,
    } = known;
    let policy = asked.policy(snapshot);
    let decision = policy.decide(asked.query.name);
    // The routes may have changed since a pool was asked. What it said then counts as if it were about another name.
    let is_outdated = match resolution {
        Resolution::Answered(entry) => !cache.is_current(entry),
        Resolution::Failed(_, stale) | Resolution::Overloaded(stale) => {
            stale.as_ref().is_some_and(|stale| !cache.is_current(stale))
        }
        Resolution::Outdated => true,
    };
    let target = |key: KeyRef<'_>, is_kept| {
        let known = Some(resolution).filter(|_| !is_outdated);
        let lookup = || cache.try_lookup_key(key, now);
        Target::after(known, key, lookup, is_last, is_kept)
    };
    let kept_target = |key: KeyRef<'_>, _| target(key, true);
    let context = match synthesize(now, asked, policy, &decision, out) {
        Synthesis::Ended(ending) => return Some(ending.into()),
        Synthesis::Forward(context) => context,
        Synthesis::Alias(context, by) => {
            return context.alias(by, &BlockedAt::Question, kept_target, out);
        }
        Synthesis::LocalAlias(context, record) => {
            return context.local_alias(record, kept_target, out);
        }
    };
    let is_usable = |stale: &Option<Arc<Entry>>| {
        let mut stale = stale.iter();
        !is_outdated && stale.all(|stale| context.is_about(stale))
    };
    let found;
    let written = match resolution {
        Resolution::Answered(entry) if context.is_about(entry) && !is_outdated => {
            let written = context.fresh(entry, Count::Resolved, out);
            return finish(
                &context,
                written,
                |key, _| target(key, entry.is_kept()),
                out,
            );
        }
        Resolution::Failed(failure, stale) if is_usable(stale) => {
            context.failed(Some(failure), stale.as_deref(), false, out)
        }
        Resolution::Overloaded(stale) if is_usable(stale) => {
            context.failed(None, stale.as_deref(), false, out)
        }
        // The resolution is about another name, or outdated.
        _ => match cache.try_lookup(context.query, now) {
            None if is_last => context.failed(Some(&UNKNOWN), None, false, out),
            lookup => {
                found = lookup?;
                match &found {
                    Lookup::Miss(stale) if is_last => {
                        context.failed(Some(&UNKNOWN), stale.as_deref(), false, out)
                    }
                    found => written(&context, found, Attempt::Second, out),
                }
            }
        },
    };
    finish(&context, written, kept_target, out)
}

/// The failure of a query if, at its last attempt, upstream was asked for another name, and no fresh answer about the
/// queried name is known.
const UNKNOWN: Failure = Failure {
    code: code::NO_REACHABLE_AUTHORITY,
    said: None,
};

/// Answers with the result of a cache lookup.
///
/// After the first attempt, a stale answer that leads to an alias, or to a name of another pool, is used at once. Upstream did
/// not answer in time about the queried name. If it were asked for that name again, no attempt would be left to ask for the
/// name that the answer leads to. Therefore that is asked for now.
fn written<'w>(
    context: &'w AnswerContext<'_, '_>,
    lookup: &'w Lookup,
    attempt: Attempt,
    out: &mut Vec<u8>,
) -> Written<'w> {
    match lookup {
        Lookup::Fresh(entry) => match context.hit(entry, entry.is_due(context.now), out) {
            // Upstream was asked for a name that the answer leads to.
            Written::Unfinished(handoff) if attempt != Attempt::First => {
                let count = Count::Resolved;
                Written::Unfinished(Handoff { count, ..handoff })
            }
            written => written,
        },
        Lookup::Failed(failure, stale) => {
            context.failed(Some(failure), stale.as_deref(), true, out)
        }
        Lookup::Miss(Some(stale)) if attempt != Attempt::First => {
            match context.failed(None, Some(stale), false, out) {
                chain @ (Written::Alias(..) | Written::Unfinished(_)) => chain,
                _ => Written::Missing(Some(Arc::clone(stale))),
            }
        }
        Lookup::Miss(stale) => Written::Missing(stale.clone()),
    }
}

/// The step that follows from writing an answer. `target` looks up the answer about the target of an alias.
#[inline(always)]
fn finish(
    context: &AnswerContext<'_, '_>,
    written: Written<'_>,
    target: impl Fn(KeyRef<'_>, bool) -> Option<Target>,
    out: &mut Vec<u8>,
) -> Option<Step> {
    match written {
        Written::Whole(ending) => Some(ending.into()),
        Written::Due(tally) => Some(Step::Refresh(Key::new(context.query), tally)),
        Written::Missing(stale) => Some(Step::Resolve(Key::new(context.query), stale)),
        Written::Alias(by, place) => context.alias(by, &place, target, out),
        Written::Unfinished(handoff) => context.complete(&handoff, target, out),
    }
}

/// The data that a query needs after the policy has decided on its name.
enum Synthesis<'a, 'p> {
    /// Nothing: `out` holds the answer, if there is one.
    Ended(Ending),
    /// Upstream's answer.
    Forward(AnswerContext<'a, 'p>),
    /// Upstream's answer about another name, by this CNAME rule.
    Alias(AnswerContext<'a, 'p>, Matched<'a>),
    /// The answer about another name, by this CNAME record of a local name.
    LocalAlias(AnswerContext<'a, 'p>, &'a LocalAlias),
}

/// Answers queries that need no upstream data; for all others, returns the context of their answers.
#[inline(always)]
fn synthesize<'a, 'p>(
    now: u32,
    asked: &'a Asked<'p>,
    policy: PolicyView<'a>,
    decision: &Decision<'a>,
    out: &mut Vec<u8>,
) -> Synthesis<'a, 'p> {
    let Asked { query, limit, .. } = asked;
    let limit = *limit;
    let serial = policy.generation() as u32;
    let context = |later| AnswerContext {
        now,
        query,
        policy,
        later,
        unless_signed: None,
        limit,
    };
    let found_locally = || policy.local().lookup(query.name, query.rtype);
    let later = match *decision {
        // Validators need the DS and DNSKEY RRsets of a blocked name to validate the names under it (RFC 4035,
        // section 5).
        Decision::Blocked { closed: false, .. }
            if matches!(query.rtype, rtype::DS | rtype::DNSKEY) =>
        {
            decision.later_rules()
        }
        // Policy zones are about recursive queries only (section 2 of the draft); others are refused below, unless the name
        // is a local one, which a block precedes.
        Decision::Blocked { by, .. }
            if by.source.zone.is_some()
                && !query.recursion_desired()
                && found_locally().is_none() =>
        {
            decision.later_rules()
        }
        // Only upstream's answer tells whether it is signed. The answers below are never signed.
        Decision::Blocked { by, .. }
            if policy.spares_signed(&by)
                && query.rtype != rtype::ANY
                && found_locally().is_none() =>
        {
            return Synthesis::Forward(AnswerContext {
                unless_signed: Some(*decision),
                ..context(decision.later_rules())
            });
        }
        Decision::Blocked { by, nxdomain, .. } => {
            if matches!(by.blocking.effect_answer, Some(EffectAnswer::Cname { .. })) {
                return Synthesis::Alias(context(LaterRules::FINAL), by);
            }
            let tally = |count| Tally::blocked(count, by.hit);
            let at = &BlockedAt::Question;
            let is_answered = synthesized::blocked(query, by, nxdomain, at, serial, limit, out);
            return Synthesis::Ended(match is_answered {
                true => Ending::Reply(tally(Count::Blocked)),
                false => Ending::Drop(tally(Count::BlockedDrop)),
            });
        }
        Decision::Allowed(_) | Decision::Excepted(_) | Decision::Pass => decision.later_rules(),
    };
    if let Some(found) = found_locally() {
        if let Some(alias) = found.alias(query.rtype) {
            return Synthesis::LocalAlias(context(later), alias);
        }
        local::answer(query, found, limit, out);
        return Synthesis::Ended(Ending::Reply(Count::Local.into()));
    }
    if !query.recursion_desired() {
        let why = [Ede {
            code: code::NOT_AUTHORITATIVE,
            text: "",
        }];
        synthesized::bare(query, Rcode::Refused, &why, limit, out);
        return Synthesis::Ended(Ending::Reply(Count::NoRecursion.into()));
    }
    if query.rtype == rtype::ANY {
        synthesized::any(query, limit, out);
        return Synthesis::Ended(Ending::Reply(Count::Any.into()));
    }
    Synthesis::Forward(context(later))
}
