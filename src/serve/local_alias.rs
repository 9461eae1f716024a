//! Answers a query with a chain of aliases and the records of the name at its end, which are local, in the cache, or come
//! from upstream. The chain has local CNAME records, and those of answers that lead to names of other pools. Rules apply to the
//! names of the chain and to upstream's records, as in any chain.

use std::iter;

use arrayvec::ArrayVec;

use super::alias::Target;
use super::cache::{Entry, KeyRef, STALE_TTL};
use super::context::{AnswerContext, Handoff, Written, stale_code};
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
    end: End<'l>,
    /// The INFO-CODE that it is sent with, if a part of it is stale.
    stale_code: Option<u16>,
    /// How the whole answer is counted.
    count: Count,
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

    fn write(&self, reply: &mut Reply<'_, '_, '_>) {
        let mut owner = Owner::Question;
        for (target, ttl) in &self.hops {
            reply.cname(owner, *ttl, target);
            owner = Owner::Name(target);
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
        self.follow(&mut chain, alias.target.clone(), alias.ttl_secs);
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
            ..Chain::default()
        };
        context.extend(&mut chain, handoff.entry, handoff.hops, handoff.is_stale);
        context.with_target(chain, lookup, out)
    }

    fn with_target(
        &self,
        mut chain: Chain<'a>,
        lookup: impl Fn(KeyRef<'_>, bool) -> Option<Target>,
        out: &mut Vec<u8>,
    ) -> Option<Step> {
        loop {
            if self.is_blocked(&chain) {
                return self.composed(&chain, None, lookup, out);
            }
            let target = match (&chain.end, chain.last()) {
                (End::Elsewhere, Some(target)) if self.query.recursion_desired() => target.clone(),
                _ => return Some(self.write_local(&chain, out)),
            };
            let key = KeyRef::of_alias(self.query, &target);
            let refresh = |step: Step| match step {
                Step::Reply(tally) => Step::Refresh(key.to_key(), tally),
                step => step,
            };
            let (entry, is_stale, is_due) = match lookup(key, chain.stale_code.is_some())? {
                Target::Answered(entry, due) => (entry, false, due),
                Target::Stale(entry) => (entry, true, true),
                Target::Failed(_, Some(entry), _) => (entry, true, false),
                Target::Missing(stale) => return Some(Step::Resolve(key.to_key(), stale)),
                Target::Failed(failure, None, remembered) => {
                    return Some(self.target_failed(failure.as_deref(), remembered, out));
                }
                Target::Unknown => return Some(self.write_local(&chain, out)),
            };
            if let Some(hops) = entry.handoff() {
                self.extend(&mut chain, &entry, hops, is_stale);
                continue;
            }
            if is_stale {
                chain.set_stale(stale_code(&entry));
            }
            let sent = Sent {
                entry: &entry,
                stale_ttl: is_stale.then_some(STALE_TTL),
            };
            let step = match self.appended(&chain, sent, out) {
                Some(step) => step,
                None => self.composed(&chain, Some(sent), lookup, out)?,
            };
            return Some(if is_due { refresh(step) } else { step });
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
                Some(alias) => self.follow(chain, alias.target.clone(), alias.ttl_secs),
                None => chain.end = End::Local(found),
            },
        }
    }

    /// Extends a chain by the first hops of an answer about its last name, and by the local aliases that follow. A local name
    /// ends the answer's part.
    fn extend(&self, chain: &mut Chain<'a>, entry: &Entry, hops: usize, is_stale: bool) {
        if is_stale {
            chain.set_stale(code::STALE_ANSWER);
        }
        let age = entry.age(self.now);
        let mut hops = entry.answer.chain().take(hops);
        chain.end = End::Elsewhere;
        while matches!(chain.end, End::Elsewhere)
            && let Some((target, ttl)) = hops.next()
        {
            let ttl = match is_stale {
                true => STALE_TTL,
                false => ttl.saturating_sub(age),
            };
            self.follow(chain, target, ttl);
        }
    }

    /// Whether a rule blocks a name of the chain.
    fn is_blocked(&self, chain: &Chain<'_>) -> bool {
        if self.later.is_final() {
            return false;
        }
        let names = chain.hops.iter().map(|(target, _)| target.clone());
        let rules = self.policy.answer_rules(self.query.name);
        let found = rules.decide(self.later, names, iter::empty());
        matches!(found.decision, Decision::Blocked { .. })
    }

    /// Writes the chain, and the records of the name at its end if it is local.
    fn write_local(&self, chain: &Chain<'_>, out: &mut Vec<u8>) -> Step {
        let query = self.query;
        let mut reply = Reply::new(query, Rcode::NoError, self.limit, out);
        chain.write(&mut reply);
        if let (End::Local(found), Some(target)) = (&chain.end, chain.last()) {
            local::records(&mut reply, query.rtype, Some(target), target, *found);
        }
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
            // No signature covers the chain, and the answer was asked for without signatures.
            let is_signed = |_: &Name| false;
            let rules = self.policy.answer_rules(query.name);
            let rules = rules.with_signatures(&is_signed);
            let found = rules.decide(self.later, before.chain(names()), answer.addresses());
            if matches!(found.decision, Decision::Blocked { .. }) {
                return None;
            }
            logged = found.logged.map(|by| by.hit);
        }
        let mut reply = Reply::new(query, Rcode::NoError, self.limit, out);
        chain.write(&mut reply);
        reply.append(answer, sent.entry.age(self.now), sent.stale_ttl);
        reply.finish(&errors(chain, Some(sent)), None);
        Some(Step::Reply(Tally {
            logged,
            ..chain.count.into()
        }))
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
        chain.write(&mut reply);
        if let Some(sent) = sent {
            let age = sent.entry.age(self.now);
            reply.append(&sent.entry.answer, age, sent.stale_ttl);
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
