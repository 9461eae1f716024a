//! Answers a query for an alias: with the CNAME record of the rule, and with upstream's records of the target. These are of
//! several pools if the target's chain leads to names of other pools. No rule applies to the target, nor to the names that it
//! leads to.

use std::sync::Arc;

use arrayvec::ArrayVec;

use super::cache::{Entry, Failure, Key, KeyRef, Lookup, STALE_TTL};
use super::context::{AnswerContext, stale_code};
use super::local;
use super::step::{Resolution, Step, Tally};
use super::synthesized::{self, BlockedAt};
use crate::policy::decide::Matched;
use crate::policy::rule::EffectAnswer;
use crate::stats::Count;
use crate::wire::answer::MAX_HOPS;
use crate::wire::edns::{Ede, code};
use crate::wire::name::{MAX_NAME, Name};
use crate::wire::reply::{Owner, Reply};
use crate::wire::{Rcode, rtype};

/// The result of a lookup or of a resolution for the target of an alias.
pub(super) enum Target {
    /// An answer within its TTL.
    Answered(Arc<Entry>),
    /// Upstream did not answer. The failure is `None` if upstream was not asked for the target. There may be a stale
    /// answer. The last field is true if the failure comes from the cache.
    Failed(Option<Arc<Failure>>, Option<Arc<Entry>>, bool),
    /// Upstream must be asked; there may be a stale answer.
    Missing(Option<Arc<Entry>>),
    /// An answer past its TTL that is sent at once, after which upstream should be asked.
    Stale(Arc<Entry>),
    /// Nothing, and upstream can't be asked.
    Unknown,
}

impl Target {
    /// The result of a lookup in the cache. If the chain up to the alias is stale, the client has waited long enough,
    /// so a stale answer about the target is sent at once.
    pub(super) fn of(lookup: Lookup, is_chain_stale: bool) -> Self {
        match lookup {
            Lookup::Miss(Some(stale)) if is_chain_stale => Self::Stale(stale),
            lookup => lookup.into(),
        }
    }

    /// The target with this key, after a resolution. If that is about another name, or not known, `lookup` is called to
    /// find the target. After the last attempt, or if the answer that leads to the target is not kept in the cache,
    /// upstream can't be asked for the target. `None` if the lookup would have to wait for another thread and this is
    /// not the last attempt.
    pub(super) fn after(
        resolution: Option<&Resolution>,
        key: KeyRef<'_>,
        lookup: impl FnOnce() -> Option<Lookup>,
        is_last: bool,
        is_kept: bool,
    ) -> Option<Self> {
        if let Some(target) = resolution.and_then(|it| Self::of_resolution(it, key)) {
            return Some(target);
        }
        match lookup() {
            Some(Lookup::Miss(Some(stale))) if is_last => {
                Some(Self::Failed(None, Some(stale), false))
            }
            None | Some(Lookup::Miss(None)) if is_last => Some(Self::Unknown),
            Some(Lookup::Miss(_)) if !is_kept => Some(Self::Unknown),
            found => Some(found?.into()),
        }
    }

    /// The result of a resolution for the target with this key. `None` if it is about another name.
    fn of_resolution(resolution: &Resolution, key: KeyRef<'_>) -> Option<Self> {
        let usable =
            |stale: &Option<Arc<Entry>>| stale.as_ref().is_none_or(|entry| key.is_of(entry));
        match resolution {
            Resolution::Answered(entry) if key.is_of(entry) => {
                Some(Self::Answered(Arc::clone(entry)))
            }
            Resolution::Failed(failure, stale) if usable(stale) => {
                let failure = Some(Arc::clone(failure));
                Some(Self::Failed(failure, stale.clone(), false))
            }
            Resolution::Overloaded(stale) if usable(stale) => {
                Some(Self::Failed(None, stale.clone(), false))
            }
            _ => None,
        }
    }
}

impl From<Lookup> for Target {
    fn from(lookup: Lookup) -> Self {
        match lookup {
            Lookup::Fresh(entry) => Self::Answered(entry),
            Lookup::Failed(failure, stale) => Self::Failed(Some(failure), stale, true),
            Lookup::Miss(stale) => Self::Missing(stale),
        }
    }
}

/// An answer from upstream to be sent. If it is stale, also the TTL and the INFO-CODE that it is sent with.
struct Sent {
    entry: Arc<Entry>,
    stale_ttl: Option<u32>,
    extra: Option<u16>,
}

/// The answers of which the records of a rule's target consist. Each but the last ends at a name that another pool is asked for.
struct TargetAnswers {
    parts: ArrayVec<Sent, MAX_HOPS>,
    /// The first part that should be refreshed. The hit does not count for later parts: the next one may refresh them.
    due: Option<Key>,
    /// The name that no part is about; `None` if the answer is complete.
    open: Option<Name>,
}

impl Sent {
    fn fresh(entry: Arc<Entry>) -> Self {
        Self {
            entry,
            stale_ttl: None,
            extra: None,
        }
    }

    fn stale(entry: Arc<Entry>) -> Self {
        Self {
            stale_ttl: Some(STALE_TTL),
            extra: Some(stale_code(&entry)),
            entry,
        }
    }

    /// The names of its chain that are used.
    fn names(&self) -> impl Iterator<Item = Name> {
        let hops = self.entry.handoff().unwrap_or(MAX_HOPS);
        self.entry.answer.chain().take(hops).map(|(name, _)| name)
    }

    /// Appends its records, which are about `target`. If another pool must be asked for a name of its chain, the rest does
    /// not count, and the chain up to that name is appended.
    fn append(&self, target: &Name, now: u32, reply: &mut Reply<'_, '_, '_>) {
        let (answer, age) = (&self.entry.answer, self.entry.age(now));
        let Some(hops) = self.entry.handoff() else {
            // No signature covers the CNAME record of the rule.
            return reply.append(answer, age, self.stale_ttl, false);
        };
        let mut owner = target.clone();
        for (next, ttl) in answer.chain().take(hops) {
            let ttl = self.stale_ttl.unwrap_or(ttl.saturating_sub(age));
            reply.cname(Owner::Name(&owner), ttl, &next);
            owner = next;
        }
    }
}

/// Why there is no answer about the target of a rule.
enum TargetStep {
    /// Upstream must be asked for this; there may be a stale answer.
    Resolve(Key, Option<Arc<Entry>>),
    /// Upstream did not answer: see [`Target::Failed`].
    Failed(Option<Arc<Failure>>, bool),
}

impl AnswerContext<'_, '_> {
    /// Answers by a CNAME rule that matches the queried name, or the name at `place` in the chain. `lookup` finds the
    /// answer about the rule's target. Its second argument is whether the chain up to `place` is stale. If `lookup`
    /// would have to wait for another thread, it returns `None`, and this function also returns `None`.
    pub(super) fn alias(
        &self,
        by: Matched<'_>,
        place: &BlockedAt<'_>,
        lookup: impl Fn(KeyRef<'_>, bool) -> Option<Target>,
        out: &mut Vec<u8>,
    ) -> Option<Step> {
        let count = match place {
            BlockedAt::Question => Count::Blocked,
            BlockedAt::Target { .. } => Count::BlockedTarget,
        };
        let tally = Tally::blocked(count, by.hit);
        let Some(target) = target_of(&by, &place.name(self.query.name)) else {
            synthesized::too_long(self.query, by.blocking, self.limit, out);
            return Some(Step::Reply(tally));
        };
        // A query of type CNAME or ANY is answered by the CNAME record itself (RFC 1034, section 3.6.2).
        let is_whole = matches!(self.query.rtype, rtype::CNAME | rtype::ANY);
        let mut found = TargetAnswers {
            parts: ArrayVec::new(),
            due: None,
            open: Some(target.clone()),
        };
        if !is_whole
            && self.query.recursion_desired()
            && let Err(step) = self.find_target(place, &target, &mut found, lookup)?
        {
            return Some(match step {
                TargetStep::Resolve(key, stale) => Step::Resolve(key, stale),
                TargetStep::Failed(failure, remembered) => {
                    self.target_failed(failure.as_deref(), remembered, out)
                }
            });
        }
        self.write_alias(by, place, &target, &found, out);
        Some(match found.due {
            Some(key) => Step::Refresh(key, tally),
            None => Step::Reply(tally),
        })
    }

    /// Finds the answers about the target of a rule, up to a local name, or until the chain would be too long. The outer
    /// `None` means that `lookup` would have to wait.
    ///
    /// # Errors
    /// Why there is no answer about the target.
    fn find_target(
        &self,
        place: &BlockedAt<'_>,
        target: &Name,
        found: &mut TargetAnswers,
        lookup: impl Fn(KeyRef<'_>, bool) -> Option<Target>,
    ) -> Option<Result<(), TargetStep>> {
        let mut is_stale = place.stale_code().is_some();
        // The chain up to the alias, and the alias.
        let mut hops = place.hops() + 1;
        while let Some(name) = &found.open {
            let is_local = self.policy.local().lookup(name, self.query.rtype).is_some();
            if is_local {
                break;
            }
            let key = KeyRef::of_alias(self.query, name);
            let (sent, is_due) = match lookup(key, is_stale)? {
                Target::Answered(entry) => {
                    let is_due = found.due.is_none() && entry.is_due(self.now);
                    (Sent::fresh(entry), is_due)
                }
                Target::Failed(_, Some(stale), _) => (Sent::stale(stale), false),
                Target::Stale(stale) => (Sent::stale(stale), true),
                Target::Missing(stale) => {
                    return Some(Err(TargetStep::Resolve(key.to_key(), stale)));
                }
                Target::Failed(failure, None, remembered) => {
                    return Some(Err(TargetStep::Failed(failure, remembered)));
                }
                Target::Unknown => break,
            };
            if is_due && found.due.is_none() {
                found.due = Some(key.to_key());
            }
            hops += sent.names().count();
            if hops > MAX_HOPS || self.leads_back(place, target, found, &sent) {
                break;
            }
            is_stale |= sent.stale_ttl.is_some();
            found.open = sent.entry.handed_off();
            // Each part but the last has a hop, so there is room.
            let _ = found.parts.try_push(sent);
        }
        Some(Ok(()))
    }

    /// Answers with SERVFAIL, because upstream did not answer for the target of an alias.
    pub(super) fn target_failed(
        &self,
        failure: Option<&Failure>,
        remembered: bool,
        out: &mut Vec<u8>,
    ) -> Step {
        let code = failure.map(|failure| failure.code);
        let cached = remembered.then_some(code::CACHED_ERROR);
        let codes = code.into_iter().chain(cached);
        let why: ArrayVec<_, 2> = codes.map(|code| Ede { code, text: "" }).collect();
        synthesized::bare(self.query, Rcode::ServFail, &why, self.limit, out);
        let count = match failure {
            Some(_) => Count::Failed,
            None => Count::Overloaded,
        };
        Step::Reply(count.into())
    }

    /// Whether the target, or a name that a part of its answers leads to, is the queried name or a name of the chain up to the
    /// alias, or was in an earlier part. The CNAME records of such an answer would form a loop.
    fn leads_back(
        &self,
        place: &BlockedAt<'_>,
        target: &Name,
        found: &TargetAnswers,
        sent: &Sent,
    ) -> bool {
        let is_earlier = |name: &Name| {
            let mut earlier = found.parts.iter().flat_map(Sent::names);
            name == target || self.is_before(place, name) || earlier.any(|before| before == *name)
        };
        self.is_before(place, target) || sent.names().any(|name| is_earlier(&name))
    }

    /// Whether this is the queried name or a name of the chain up to the alias.
    fn is_before(&self, place: &BlockedAt<'_>, name: &Name) -> bool {
        let is_on_chain = match place {
            BlockedAt::Question => false,
            BlockedAt::Target { answer, hops, .. } => {
                let mut chain = answer.chain().take(*hops);
                chain.any(|(before, _)| before == *name)
            }
        };
        name == self.query.name || is_on_chain
    }

    /// Writes the chain up to the alias, the CNAME record, and the target's records.
    fn write_alias(
        &self,
        by: Matched<'_>,
        place: &BlockedAt<'_>,
        target: &Name,
        found: &TargetAnswers,
        out: &mut Vec<u8>,
    ) {
        let query = self.query;
        let mut reply = Reply::new(query, Rcode::NoError, self.limit, out);
        let at = place.chain(&mut reply, by.blocking);
        let owner = at.as_ref().map_or(Owner::Question, Owner::Name);
        let Some(EffectAnswer::Cname { ttl_secs, .. }) = &by.blocking.effect_answer else {
            return;
        };
        reply.cname(owner, *ttl_secs, target);
        let mut why = [Ede { code: 0, text: "" }; 6];
        let mut count_of_errors = 0;
        let reason = synthesized::reason(by.blocking).into_iter();
        let extra = found.parts.iter().find_map(|sent| sent.extra);
        let stale = place.stale_code().filter(|code| extra != Some(*code));
        let extra = stale.into_iter().chain(extra);
        let extra = extra.map(|code| Ede { code, text: "" });
        let parts = found.parts.iter();
        let said = parts.flat_map(|sent| sent.entry.answer.errors());
        let said = said.map(|error| Ede {
            code: error.code,
            text: &error.text,
        });
        for (place, error) in why.iter_mut().zip(reason.chain(extra).chain(said)) {
            *place = error;
            count_of_errors += 1;
        }
        let follows =
            !matches!(query.rtype, rtype::CNAME | rtype::ANY) && !self.is_before(place, target);
        let mut at = target.clone();
        for sent in &found.parts {
            sent.append(&at, self.now, &mut reply);
            at = sent.entry.handed_off().unwrap_or(at);
        }
        if follows
            && let Some(open) = &found.open
            && let Some(found) = self.policy.local().lookup(open, query.rtype)
        {
            local::records(&mut reply, query.rtype, Some(open), open, found);
        }
        let body_end = synthesized::zone_soa(&mut reply, by);
        reply.finish(&why[..count_of_errors], body_end);
    }
}

/// The target of a CNAME rule for a name; `None` if it is too long to be a name.
pub(super) fn target_of(by: &Matched<'_>, name: &Name) -> Option<Name> {
    match &by.blocking.effect_answer {
        Some(EffectAnswer::Cname {
            target,
            prepend: true,
            ..
        }) => {
            let mut wire: ArrayVec<u8, { 2 * MAX_NAME }> = ArrayVec::new();
            wire.extend(name.wire()[..name.ancestor_start(0)].iter().copied());
            wire.extend(target.wire().iter().copied());
            let (target, _) = Name::parse(&wire, 0).ok()?;
            Some(target)
        }
        Some(EffectAnswer::Cname { target, .. }) => Some((**target).clone()),
        _ => None,
    }
}
