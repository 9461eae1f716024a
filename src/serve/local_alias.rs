//! Answers a query with a chain of aliases and the records of the name at its end, which are local, in the cache, or come
//! from upstream. The chain has local CNAME records, and those of answers that lead to names of other pools. Rules apply to the
//! names of the chain and to upstream's records, as in any chain.

use std::iter;
use std::ops::{Deref, Range};
use std::sync::Arc;

use arrayvec::ArrayVec;

use super::alias::Target;
use super::cache::{Entry, Key, KeyRef, STALE_TTL};
use super::context::{AnswerContext, Handoff, Written, is_signed, stale_code};
use super::local;
use super::step::{Ending, Step, Tally};
use crate::policy::decide::Decision;
use crate::policy::local::{LocalAlias, LocalAnswer};
use crate::stats::Count;
use crate::wire::answer::{Answer, Intake, MAX_HOPS};
use crate::wire::edns::{Ede, code};
use crate::wire::name::Name;
use crate::wire::reply::{Owner, Reply};
use crate::wire::{MAX_MESSAGE, Rcode, class};

/// The treatment of an answer that the server has put together: none, as the parts were treated before.
const AS_IT_IS: Intake = Intake {
    min_ttl: 0,
    max_ttl: u32::MAX,
    max_negative_ttl: u32::MAX,
    additional: false,
};

/// A chain of aliases from the queried name.
struct Chain<'l> {
    /// The target and the TTL of each hop; at least one.
    hops: ArrayVec<(Name, u32), MAX_HOPS>,
    /// The answers that hops come from, in order. All other hops are local aliases.
    parts: ArrayVec<Part<'l>, MAX_HOPS>,
    /// Whether it has local aliases. No signature covers them, so none is asked for about the names behind them.
    is_local: bool,
    /// The first part that should be refreshed. The hit does not count for later parts: the next one may refresh them.
    due: Option<Key>,
    end: End<'l>,
    /// The INFO-CODE that it is sent with, if a part of it is stale.
    stale_code: Option<u16>,
    /// How the whole answer is counted.
    count: Count,
}

/// The start of an answer's chain that is used.
struct Part<'l> {
    entry: PartEntry<'l>,
    /// The place of its first hop.
    start: usize,
    hops: usize,
    /// The TTL that it is sent with, if it is stale.
    stale_ttl: Option<u32>,
}

enum PartEntry<'l> {
    Borrowed(&'l Entry),
    Shared(Arc<Entry>),
}

impl Deref for PartEntry<'_> {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        match self {
            Self::Borrowed(entry) => entry,
            Self::Shared(entry) => entry,
        }
    }
}

/// Where a chain ends.
enum End<'l> {
    /// At a local name that is no alias.
    Local(LocalAnswer<'l>),
    /// At a name that is not local.
    Elsewhere,
    /// At a name that was on the chain before, or after too many hops.
    Nowhere,
}

/// The records that follow a chain: upstream's answer, and if it is stale, the TTL that it is sent with.
#[derive(Clone, Copy)]
struct Sent<'e> {
    entry: &'e Entry,
    stale_ttl: Option<u32>,
}

impl Default for Chain<'_> {
    fn default() -> Self {
        Self {
            hops: ArrayVec::new(),
            parts: ArrayVec::new(),
            is_local: false,
            due: None,
            end: End::Nowhere,
            stale_code: None,
            count: Count::Local,
        }
    }
}

impl Chain<'_> {
    /// The last name.
    fn last(&self) -> Option<&Name> {
        self.hops.last().map(|(target, _)| target)
    }

    /// Whether a name is the queried one, `asked`, or on the chain.
    fn has(&self, asked: &Name, name: &Name) -> bool {
        name == asked || self.hops.iter().any(|(before, _)| before == name)
    }

    /// Records that a part of it is stale.
    fn set_stale(&mut self, code: u16) {
        self.stale_code = Some(code);
        if self.count != Count::Local {
            self.count = Count::Stale;
        }
    }

    /// Whether the records of an owner are signed; `None` if it owns none of the chain.
    fn is_signed(&self, asked: &Name, owner: &Name) -> Option<bool> {
        let targets = self.hops.iter().map(|(target, _)| target);
        let mut owners = iter::once(asked).chain(targets).take(self.hops.len());
        let place = owners.position(|name| name == owner)?;
        let is_of = |part: &&Part<'_>| (part.start..part.start + part.hops).contains(&place);
        let part = self.parts.iter().find(is_of);
        Some(part.is_some_and(|part| is_signed(&part.entry.answer, owner)))
    }

    /// Whether upstream validated all of it.
    fn is_authentic(&self) -> bool {
        let mut parts = self.parts.iter();
        !self.is_local && parts.all(|part| part.entry.answer.authentic())
    }

    fn write(&self, now: u32, reply: &mut Reply<'_, '_, '_>) {
        let mut at = 0;
        for part in &self.parts {
            self.write_aliases(at..part.start, reply);
            let (entry, hops) = (&part.entry, part.hops);
            reply.append_chain(&entry.answer, hops, entry.age(now), part.stale_ttl);
            at = part.start + hops;
        }
        self.write_aliases(at..self.hops.len(), reply);
    }

    /// Writes hops that are local aliases.
    fn write_aliases(&self, places: Range<usize>, reply: &mut Reply<'_, '_, '_>) {
        for place in places {
            let before = place.checked_sub(1).map(|before| &self.hops[before].0);
            let (target, ttl) = &self.hops[place];
            reply.cname(before.map_or(Owner::Question, Owner::Name), *ttl, target);
        }
    }

    /// Writes the proofs of its parts, after the records of the answer section.
    fn write_proofs(&self, now: u32, reply: &mut Reply<'_, '_, '_>) {
        for Part {
            entry,
            hops,
            stale_ttl,
            ..
        } in &self.parts
        {
            reply.append_proofs(&entry.answer, *hops, entry.age(now), *stale_ttl);
        }
    }
}

impl<'a> AnswerContext<'a, '_> {
    /// Answers by the CNAME record of the queried name. `lookup` finds the answer about a name that is not local; see
    /// [`alias`](Self::alias).
    pub(super) fn local_alias(
        &self,
        alias: &'a LocalAlias,
        lookup: impl Fn(KeyRef<'_>, bool) -> Option<Target>,
        out: &mut Vec<u8>,
    ) -> Option<Step> {
        let mut chain = Chain::default();
        self.follow_local(&mut chain, alias);
        self.with_target(chain, lookup, out)
    }

    /// Answers with the start of the chain of an answer, and what another pool says about the name that it leads to.
    /// `lookup` is that of [`local_alias`](Self::local_alias).
    #[cold]
    pub(super) fn complete(
        &self,
        handoff: &Handoff<'_>,
        lookup: impl Fn(KeyRef<'_>, bool) -> Option<Target>,
        out: &mut Vec<u8>,
    ) -> Option<Step> {
        let context = AnswerContext {
            later: handoff.later,
            unless_signed: None,
            ..*self
        };
        let mut chain = Chain {
            count: handoff.count,
            due: handoff.is_due.then(|| Key::new(self.query)),
            ..Chain::default()
        };
        let entry = PartEntry::Borrowed(handoff.entry);
        context.extend(&mut chain, entry, handoff.hops, handoff.is_stale);
        context.with_target(chain, lookup, out)
    }

    fn with_target(
        &self,
        mut chain: Chain<'a>,
        lookup: impl Fn(KeyRef<'_>, bool) -> Option<Target>,
        out: &mut Vec<u8>,
    ) -> Option<Step> {
        let step = self.completed(&mut chain, lookup, out)?;
        Some(match (step, chain.due) {
            (Step::Reply(tally), Some(key)) => Step::Refresh(key, tally),
            (step, _) => step,
        })
    }

    fn completed(
        &self,
        chain: &mut Chain<'a>,
        lookup: impl Fn(KeyRef<'_>, bool) -> Option<Target>,
        out: &mut Vec<u8>,
    ) -> Option<Step> {
        loop {
            if self.is_blocked(chain) {
                return self.composed(chain, None, lookup, out);
            }
            let target = match (&chain.end, chain.last()) {
                (End::Elsewhere, Some(target)) if self.query.recursion_desired() => target.clone(),
                _ => return Some(self.write_local(chain, out)),
            };
            let key = match chain.is_local {
                true => KeyRef::of_alias(self.query, &target),
                false => KeyRef::of_target(self.query, &target),
            };
            let (entry, is_stale, is_due) = match lookup(key, chain.stale_code.is_some())? {
                Target::Answered(entry) => {
                    let is_due = chain.due.is_none() && entry.is_due(self.now);
                    (entry, false, is_due)
                }
                Target::Stale(entry) => (entry, true, true),
                Target::Failed(_, Some(entry), _) => (entry, true, false),
                Target::Missing(stale) => return Some(Step::Resolve(key.to_key(), stale)),
                Target::Failed(failure, None, remembered) => {
                    return Some(self.target_failed(failure.as_deref(), remembered, out));
                }
                Target::Unknown => return Some(self.write_local(chain, out)),
            };
            if is_due && chain.due.is_none() {
                chain.due = Some(key.to_key());
            }
            if let Some(hops) = entry.handoff() {
                self.extend(chain, PartEntry::Shared(entry), hops, is_stale);
                continue;
            }
            if is_stale {
                chain.set_stale(stale_code(&entry));
            }
            let sent = Sent {
                entry: &entry,
                stale_ttl: is_stale.then_some(STALE_TTL),
            };
            return match self.appended(chain, sent, out) {
                Some(step) => Some(step),
                None => self.composed(chain, Some(sent), lookup, out),
            };
        }
    }

    /// Extends a chain by an alias to `target`, and by the local aliases that follow.
    fn follow(&self, chain: &mut Chain<'a>, target: Name, ttl_secs: u32) {
        let is_loop = chain.has(self.query.name, &target);
        let found = self.policy.local().lookup(&target, self.query.rtype);
        chain.end = End::Nowhere;
        if chain.hops.try_push((target, ttl_secs)).is_err() || is_loop {
            return;
        }
        match found {
            None => chain.end = End::Elsewhere,
            Some(found) => match found.alias(self.query.rtype) {
                Some(alias) => self.follow_local(chain, alias),
                None => chain.end = End::Local(found),
            },
        }
    }

    /// Extends a chain by a local alias, and by those that follow.
    fn follow_local(&self, chain: &mut Chain<'a>, alias: &'a LocalAlias) {
        chain.is_local = true;
        self.follow(chain, alias.target.clone(), alias.ttl_secs);
    }

    /// Extends a chain by the first hops of an answer about its last name, and by the local aliases that follow. A local name
    /// ends the answer's part.
    fn extend(&self, chain: &mut Chain<'a>, entry: PartEntry<'a>, hops: usize, is_stale: bool) {
        if is_stale {
            chain.set_stale(code::STALE_ANSWER);
        }
        let stale_ttl = is_stale.then_some(STALE_TTL);
        let (age, start) = (entry.age(self.now), chain.hops.len());
        chain.end = End::Elsewhere;
        let mut used = 0;
        for (target, ttl) in entry.answer.chain().take(hops) {
            let room = chain.hops.remaining_capacity();
            let is_target_local = self.policy.local().lookup(&target, self.query.rtype);
            self.follow(chain, target, stale_ttl.unwrap_or(ttl.saturating_sub(age)));
            used += usize::from(room > 0);
            if is_target_local.is_some() || !matches!(chain.end, End::Elsewhere) {
                break;
            }
        }
        // There is no more than one part for each hop.
        let _ = chain.parts.try_push(Part {
            entry,
            start,
            hops: used,
            stale_ttl,
        });
    }

    /// Whether a rule blocks a name of the chain.
    fn is_blocked(&self, chain: &Chain<'_>) -> bool {
        if self.later.is_final() {
            return false;
        }
        let names = chain.hops.iter().map(|(target, _)| target.clone());
        // What is not known yet may be signed.
        let is_signed = |owner: &Name| {
            let of_chain = chain.is_signed(self.query.name, owner);
            of_chain.unwrap_or(!chain.is_local && self.query.dnssec_ok())
        };
        let rules = self.policy.answer_rules(self.query.name);
        let rules = rules.with_signatures(&is_signed);
        let found = rules.decide(self.later, names, iter::empty());
        matches!(found.decision, Decision::Blocked { .. })
    }

    /// Writes the chain, and the records of the name at its end if it is local.
    fn write_local(&self, chain: &Chain<'_>, out: &mut Vec<u8>) -> Step {
        let query = self.query;
        let mut reply = Reply::new(query, Rcode::NoError, self.limit, out);
        chain.write(self.now, &mut reply);
        if let (End::Local(found), Some(target)) = (&chain.end, chain.last()) {
            local::records(&mut reply, query.rtype, Some(target), target, *found);
        }
        chain.write_proofs(self.now, &mut reply);
        reply.finish(&errors(chain, None), None);
        Step::Reply(chain.count.into())
    }

    /// Writes the chain and upstream's answer about its last name, without allocating. `None` if a rule blocks a part of it or
    /// may block one, or if the answer leads back to the chain.
    fn appended(&self, chain: &Chain<'_>, sent: Sent<'_>, out: &mut Vec<u8>) -> Option<Step> {
        let (query, answer) = (self.query, &sent.entry.answer);
        let names = || answer.chain().map(|(name, _)| name);
        let is_long = chain.hops.len() + names().count() > MAX_HOPS;
        let leads_back = names().any(|name| chain.has(query.name, &name));
        if is_long || leads_back || answer.services() > 0 || answer.message_len() > self.limit {
            return None;
        }
        let mut logged = None;
        if !self.later.is_final() {
            let before = chain.hops.iter().map(|(target, _)| target.clone());
            let is_signed = |owner: &Name| {
                let of_chain = chain.is_signed(query.name, owner);
                of_chain.unwrap_or_else(|| is_signed(answer, owner))
            };
            let rules = self.policy.answer_rules(query.name);
            let rules = rules.with_signatures(&is_signed);
            let found = rules.decide(self.later, before.chain(names()), answer.addresses());
            if matches!(found.decision, Decision::Blocked { .. }) {
                return None;
            }
            logged = found.logged.map(|by| by.hit);
        }
        let mut reply = Reply::new(query, Rcode::NoError, self.limit, out);
        self.write_all(chain, sent, &mut reply);
        reply.finish(&errors(chain, Some(sent)), None);
        Some(Step::Reply(Tally {
            logged,
            ..chain.count.into()
        }))
    }

    /// Writes the chain and upstream's answer about its last name.
    fn write_all(&self, chain: &Chain<'_>, sent: Sent<'_>, reply: &mut Reply<'_, '_, '_>) {
        let (answer, now) = (&sent.entry.answer, self.now);
        let is_signed = self.query.dnssec_ok() && !chain.is_local;
        chain.write(now, reply);
        reply.append(answer, sent.entry.age(now), sent.stale_ttl, is_signed);
        chain.write_proofs(now, reply);
        if chain.is_authentic() && answer.authentic() {
            reply.authenticate();
        }
    }

    /// Puts the chain and upstream's answer about its last name together, and sends the whole like an answer of upstream,
    /// so that all rules on chains apply to it. If upstream's answer leads back to the chain, only the chain is sent.
    fn composed(
        &self,
        chain: &Chain<'_>,
        sent: Option<Sent<'_>>,
        lookup: impl Fn(KeyRef<'_>, bool) -> Option<Target>,
        out: &mut Vec<u8>,
    ) -> Option<Step> {
        let Some(entry) = self.compose(chain, sent) else {
            return Some(self.write_local(chain, out));
        };
        match self.copy(&entry, chain.count, None, None, out) {
            Written::Whole(Ending::Reply(tally)) | Written::Due(tally) => Some(Step::Reply(tally)),
            Written::Whole(Ending::Drop(tally)) => Some(Step::Drop(tally)),
            Written::Alias(by, place) => self.alias(by, &place, lookup, out),
            Written::Missing(_) | Written::Unfinished(_) => Some(self.write_local(chain, out)),
        }
    }

    fn compose(&self, chain: &Chain<'_>, sent: Option<Sent<'_>>) -> Option<Entry> {
        let query = self.query;
        let mut message = Vec::with_capacity(512);
        let mut reply = Reply::new(query, Rcode::NoError, MAX_MESSAGE, &mut message);
        match sent {
            Some(sent) => self.write_all(chain, sent, &mut reply),
            None => chain.write(self.now, &mut reply),
        }
        reply.finish(&errors(chain, sent), None);
        let parsed = Answer::parse(&message, query.name, query.rtype, class::IN, AS_IT_IS);
        let answer = parsed.ok().filter(|answer| !answer.truncated());
        Some(Entry::new(answer?, self.now))
    }
}

/// The Extended DNS Errors of an answer: that it is stale, and those of upstream's answer.
fn errors<'e>(chain: &Chain<'_>, sent: Option<Sent<'e>>) -> ArrayVec<Ede<'e>, 6> {
    let stale = chain.stale_code.map(|code| Ede { code, text: "" });
    let of_upstream = sent.into_iter().flat_map(|sent| sent.entry.answer.errors());
    let of_upstream = of_upstream.map(|error| Ede {
        code: error.code,
        text: &error.text,
    });
    stale.into_iter().chain(of_upstream).take(6).collect()
}
