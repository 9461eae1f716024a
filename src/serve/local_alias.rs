//! Answers a query with a chain of aliases and the records of the name at its end, which are local, in the cache, or come
//! from upstream. The chain is that of local CNAME records, or that of an answer that leaves a forwarded zone. Rules apply to
//! the names of the chain and to upstream's records, as in any chain.

use std::iter;

use arrayvec::ArrayVec;

use super::alias::Target;
use super::cache::{Entry, KeyRef, STALE_TTL};
use super::context::{AnswerContext, Written, stale_code};
use super::local;
use super::step::{Ending, Step};
use crate::policy::decide::Decision;
use crate::policy::local::LocalAnswer;
use crate::policy::record::LocalRecord;
use crate::stats::Count;
use crate::wire::answer::{Answer, Intake, MAX_HOPS};
use crate::wire::edns::Ede;
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

/// The records that follow a chain: upstream's answer. If it is stale, also the TTL and the INFO-CODE that it is sent
/// with.
#[derive(Clone, Copy)]
struct Sent<'e> {
    entry: &'e Entry,
    stale_ttl: Option<u32>,
    extra: Option<u16>,
}

impl Chain<'_> {
    /// The last name.
    fn last(&self) -> Option<&Name> {
        self.hops.last().map(|(target, _)| target)
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
        record: &'a LocalRecord,
        lookup: impl Fn(KeyRef<'_>, bool) -> Option<Target>,
        out: &mut Vec<u8>,
    ) -> Option<Step> {
        self.with_target(&self.follow(record), lookup, out)
    }

    /// Answers with the chain of an answer and the records of the name at its end, about which the answer says nothing.
    /// `lookup` is that of [`local_alias`](Self::local_alias).
    #[cold]
    pub(super) fn complete(
        &self,
        entry: &Entry,
        lookup: impl Fn(KeyRef<'_>, bool) -> Option<Target>,
        out: &mut Vec<u8>,
    ) -> Option<Step> {
        let age = entry.age(self.now);
        let hops = entry.answer.chain();
        let hops: ArrayVec<_, MAX_HOPS> = hops
            .map(|(target, ttl)| (target, ttl.saturating_sub(age)))
            .collect();
        let last = hops.last();
        let local =
            last.and_then(|(target, _)| self.policy.local().lookup(target, self.query.rtype));
        let chain = Chain {
            hops,
            end: local.map_or(End::Elsewhere, End::Local),
        };
        self.with_target(&chain, lookup, out)
    }

    fn with_target(
        &self,
        chain: &Chain<'_>,
        lookup: impl Fn(KeyRef<'_>, bool) -> Option<Target>,
        out: &mut Vec<u8>,
    ) -> Option<Step> {
        if self.is_blocked(chain) {
            return self.composed(chain, None, lookup, out);
        }
        let target = match (&chain.end, chain.last()) {
            (End::Elsewhere, Some(target)) if self.query.recursion_desired() => target,
            _ => return Some(self.write_local(chain, out)),
        };
        let key = KeyRef::of_alias(self.query, target);
        let stale = |entry| Sent {
            entry,
            stale_ttl: Some(STALE_TTL),
            extra: Some(stale_code(entry)),
        };
        let refresh = |step: Step| match step {
            Step::Reply(tally) => Step::Refresh(key.to_key(), tally),
            step => step,
        };
        match lookup(key, false)? {
            Target::Answered(entry, due) => {
                let sent = Sent {
                    entry: &entry,
                    stale_ttl: None,
                    extra: None,
                };
                let step = self.composed(chain, Some(sent), lookup, out)?;
                Some(if due { refresh(step) } else { step })
            }
            Target::Missing(stale) => Some(Step::Resolve(key.to_key(), stale)),
            Target::Failed(_, Some(entry), _) => {
                self.composed(chain, Some(stale(&entry)), lookup, out)
            }
            Target::Stale(entry) => {
                let step = self.composed(chain, Some(stale(&entry)), lookup, out)?;
                Some(refresh(step))
            }
            Target::Failed(failure, None, remembered) => {
                Some(self.target_failed(failure.as_deref(), remembered, out))
            }
            Target::Unknown => Some(self.write_local(chain, out)),
        }
    }

    /// Follows the local aliases from the queried name.
    fn follow(&self, record: &'a LocalRecord) -> Chain<'a> {
        let mut chain = Chain {
            hops: ArrayVec::new(),
            end: End::Nowhere,
        };
        let mut next = Some(record);
        while let Some(record) = next.take() {
            let Some(target) = record.cname_target() else {
                break;
            };
            let mut before = chain.hops.iter().map(|(before, _)| before);
            let is_loop = target == *self.query.name || before.any(|before| *before == target);
            let found = self.policy.local().lookup(&target, self.query.rtype);
            let ttl = record.ttl_secs.unwrap_or(0);
            if chain.hops.try_push((target, ttl)).is_err() || is_loop {
                break;
            }
            match found {
                None => chain.end = End::Elsewhere,
                Some(found) => match found.alias(self.query.rtype) {
                    Some(record) => next = Some(record),
                    None => chain.end = End::Local(found),
                },
            }
        }
        chain
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
        reply.finish(&[], None);
        Step::Reply(Count::Local.into())
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
        let extra = sent.and_then(|sent| sent.extra);
        match self.copy(&entry, Count::Local, None, extra, out) {
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
        let mut why: ArrayVec<Ede<'_>, 6> = ArrayVec::new();
        if let Some(sent) = sent {
            let answer = &sent.entry.answer;
            reply.append(answer, sent.entry.age(self.now), sent.stale_ttl);
            let errors = answer.errors().iter().map(|error| Ede {
                code: error.code,
                text: &error.text,
            });
            why.extend(errors.take(why.capacity()));
        }
        reply.finish(&why, None);
        let parsed = Answer::parse(&message, query.name, query.rtype, class::IN, AS_IT_IS);
        let answer = parsed.ok().filter(|answer| !answer.truncated());
        Some(Entry::new(answer?, self.now))
    }
}
