//! Writes answers with upstream's data. An answer that leads to a blocked name, as the target of a CNAME, SVCB or HTTPS
//! record, is blocked instead.

use std::sync::Arc;

use smallvec::SmallVec;

use super::cache::{Entry, Failure, STALE_TTL};
use super::step::{Ending, Tally};
use super::synthesized::{self, BlockedAt};
use crate::policy::decide::{AddressRulesOf, Decision, LaterRules, Matched, PolicyView};
use crate::policy::rule::EffectAnswer;
use crate::stats::Count;
use crate::wire::Rcode;
use crate::wire::answer::Answer;
use crate::wire::edns::{Ede, code};
use crate::wire::name::Name;
use crate::wire::query::Query;
use crate::wire::reply::Reply;

/// The result of writing an answer with upstream's data.
pub(super) enum Written<'w> {
    /// The query ends.
    Whole(Ending),
    /// The answer is written; its data should be refreshed.
    Due(Tally),
    /// Nothing is written: upstream must be asked. There may be a stale answer.
    Missing(Option<Arc<Entry>>),
    /// Nothing is written: a rule puts another name in place of the one at this place.
    Alias(Matched<'w>, BlockedAt<'w>),
}

impl From<Ending> for Written<'_> {
    fn from(ending: Ending) -> Self {
        Self::Whole(ending)
    }
}

/// The INFO-CODE of a stale answer.
pub(super) fn stale_code(entry: &Entry) -> u16 {
    match entry.answer.rcode() == Rcode::NxDomain as u16 {
        true => code::STALE_NXDOMAIN,
        false => code::STALE_ANSWER,
    }
}

/// Everything that an answer with upstream's data depends on.
pub(super) struct AnswerContext<'a, 'p> {
    pub(super) now: u32,
    pub(super) query: &'a Query<'p>,
    pub(super) policy: PolicyView<'a>,
    /// What follows from the decision about the queried name for what its answer leads to.
    pub(super) later: LaterRules,
    /// The most bytes that the answer may have.
    pub(super) limit: usize,
}

impl AnswerContext<'_, '_> {
    /// An answer from the cache; `due` if it should be refreshed.
    pub(super) fn hit<'w>(&'w self, entry: &'w Entry, due: bool, out: &mut Vec<u8>) -> Written<'w> {
        match self.fresh(entry, Count::CacheHits, out) {
            Written::Whole(Ending::Reply(tally)) if due && tally.count == Count::CacheHits => {
                Written::Due(tally)
            }
            written => written,
        }
    }

    /// Upstream's answer within its TTL.
    pub(super) fn fresh<'w>(
        &'w self,
        entry: &'w Entry,
        count: Count,
        out: &mut Vec<u8>,
    ) -> Written<'w> {
        self.copy(entry, count, None, None, out)
    }

    /// The answer to a query that upstream did not answer: a stale answer if the cache has one (RFC 8767), otherwise
    /// upstream's error, otherwise SERVFAIL. `remembered`: the failure comes from the cache.
    pub(super) fn failed<'w>(
        &'w self,
        failure: Option<&'w Failure>,
        stale: Option<&'w Entry>,
        remembered: bool,
        out: &mut Vec<u8>,
    ) -> Written<'w> {
        if let Some(entry) = stale {
            let code = stale_code(entry);
            return self.copy(entry, Count::Stale, Some(STALE_TTL), Some(code), out);
        }
        let Some(failure) = failure else {
            synthesized::bare(self.query, Rcode::ServFail, &[], self.limit, out);
            return Ending::Reply(Count::Overloaded.into()).into();
        };
        let extra = remembered.then_some(code::CACHED_ERROR);
        // A rule that is no longer in force may have sent another query upstream.
        if let Some(said) = failure.said.as_ref().filter(|said| self.is_about(said)) {
            return self.copy(said, Count::Failed, None, extra, out);
        }
        let why = [Some(failure.code), extra].map(|code| Ede {
            code: code.unwrap_or_default(),
            text: "",
        });
        let why = &why[..1 + usize::from(remembered)];
        synthesized::bare(self.query, Rcode::ServFail, why, self.limit, out);
        Ending::Reply(Count::Failed.into()).into()
    }

    /// Whether an entry answers the query.
    pub(super) fn is_about(&self, entry: &Entry) -> bool {
        entry.answer.is_about(&self.query.name, self.query.rtype)
    }

    /// Upstream's answer, unless a name that it leads to is blocked.
    fn copy<'w>(
        &'w self,
        entry: &'w Entry,
        count: Count,
        stale_ttl: Option<u32>,
        extra: Option<u16>,
        out: &mut Vec<u8>,
    ) -> Written<'w> {
        let answer = &entry.answer;
        let age = entry.age(self.now);
        let mut left_out: SmallVec<[usize; 4]> = SmallVec::new();
        // Records that will be truncated anyway are not examined.
        let fits = answer.additional_at() <= self.limit;
        let has_additional = answer.has_additional() && answer.message_len() <= self.limit;
        let mut later = self.later;
        if !self.later.is_final() {
            let place = |hops, service| BlockedAt::Target {
                answer,
                hops,
                service,
                age,
                stale_ttl,
            };
            let chain = answer.chain().map(|(name, _)| name);
            // Addresses that will be truncated anyway lead nowhere.
            let addresses = answer.addresses().take(if fits { usize::MAX } else { 0 });
            let found = self
                .policy
                .decide_answer(&self.query.name, self.later, chain, addresses);
            later = found.later;
            if let Decision::Blocked { by, nxdomain, .. } = found.decision {
                let place = place(found.hops, false);
                if matches!(by.blocking.effect_answer, Some(EffectAnswer::Cname { .. })) {
                    return Written::Alias(by, place);
                }
                return self.block(by, nxdomain, &place, out).into();
            }
            if fits
                && answer.services() > 0
                && let Some((by, nxdomain)) = self.blocked_services(answer, later, &mut left_out)
            {
                // If all services are blocked, the rule of the last one decides the answer. A rule that demands TCP decides
                // about the whole message, as in other places.
                let is_whole = left_out.len() == answer.services();
                if is_whole || demands_tcp(&by) {
                    let hops = answer.chain().count();
                    return self.block(by, nxdomain, &place(hops, true), out).into();
                }
            }
        }
        let mut reply = Reply::new(self.query, Rcode::NoError, self.limit, out);
        let additional_at = if !fits || left_out.is_empty() && !has_additional {
            reply.copy(answer, age, stale_ttl);
            answer.additional_at()
        } else {
            let last = last_name(answer, &self.query.name);
            let rules = || self.policy.on_addresses([&self.query.name, &last], later);
            let rules = self.policy.has_answer_rules().then(rules);
            let keeps = |additional, owner, data| match additional {
                true => has_additional && self.passes(answer, later, rules.as_ref(), (owner, data)),
                false => !left_out.contains(&data),
            };
            reply.copy_some(answer, age, stale_ttl, keeps)
        };
        let mut why = [Ede { code: 0, text: "" }; 6];
        let held = answer.errors().iter().map(|e| Ede {
            code: e.code,
            text: &e.text,
        });
        let extra = extra.map(|code| Ede { code, text: "" });
        let mut count_of_errors = 0;
        for (place, error) in why.iter_mut().zip(extra.into_iter().chain(held)) {
            *place = error;
            count_of_errors += 1;
        }
        reply.finish(&why[..count_of_errors], Some(additional_at));
        Ending::Reply(count.into()).into()
    }

    /// Adds the SVCB and HTTPS records to `left_out` whose target is blocked, or one of their address hints. Returns the rule
    /// that blocks the last of them, or the first that demands TCP; and whether it denies the name that owns these records.
    fn blocked_services(
        &self,
        answer: &Answer,
        later: LaterRules,
        left_out: &mut SmallVec<[usize; 4]>,
    ) -> Option<(Matched<'_>, bool)> {
        let mut blocked = None;
        for (target, record) in answer.service_targets() {
            if let Some(by) = self.blocks(later, target) {
                left_out.push(record);
                // The target of a service may be denied. The owner exists.
                blocked = Some((by, false));
                if demands_tcp(&by) {
                    return blocked;
                }
            }
        }
        if self.policy.has_answer_rules() {
            let last = last_name(answer, &self.query.name);
            let rules = self.policy.on_addresses([&self.query.name, &last], later);
            for (address, record) in answer.hints() {
                if !left_out.contains(&record)
                    && let Some((by, nxdomain)) = rules.blocks(address)
                {
                    left_out.push(record);
                    blocked = Some((by, nxdomain));
                    if demands_tcp(&by) {
                        return blocked;
                    }
                }
            }
        }
        blocked
    }

    /// The rule that blocks a name to which the answer leads, if any. A service's target counts as one more name of
    /// the chain (RFC 9460, section 2.5).
    fn blocks(&self, later: LaterRules, name: Name) -> Option<Matched<'_>> {
        let (name, addresses) = (std::iter::once(name), std::iter::empty());
        let found = self
            .policy
            .decide_answer(&self.query.name, later, name, addresses);
        match found.decision {
            Decision::Blocked { by, .. } => Some(by),
            _ => None,
        }
    }

    /// Whether a record of the additional section is kept: neither its owner nor its address is blocked.
    fn passes(
        &self,
        answer: &Answer,
        later: LaterRules,
        rules: Option<&AddressRulesOf<'_, '_>>,
        (owner, data): (usize, usize),
    ) -> bool {
        let owner = answer.name_at(owner);
        let is_owner_blocked = owner.is_none_or(|owner| self.blocks(later, owner).is_some());
        let address = rules.zip(answer.address_at(data));
        !is_owner_blocked && address.is_none_or(|(rules, address)| rules.blocks(address).is_none())
    }

    /// The answer for a blocked name that the queried one leads to.
    fn block(
        &self,
        by: Matched<'_>,
        nxdomain: bool,
        place: &BlockedAt<'_>,
        out: &mut Vec<u8>,
    ) -> Ending {
        let serial = self.policy.generation() as u32;
        let rule = Some(by.hit);
        let tally = |count| Tally { count, rule };
        match synthesized::blocked(self.query, by, nxdomain, place, serial, self.limit, out) {
            true => Ending::Reply(tally(Count::BlockedTarget)),
            false => Ending::Drop(tally(Count::BlockedDrop)),
        }
    }
}

/// Whether the rule blocks only until the client asks over a stream.
fn demands_tcp(by: &Matched<'_>) -> bool {
    matches!(by.blocking.effect_answer, Some(EffectAnswer::TcpOnly))
}

/// The last name of the chain of an answer to a query for `asked`.
fn last_name(answer: &Answer, asked: &Name) -> Name {
    let last = answer.chain().last();
    last.map_or_else(|| asked.clone(), |(name, _)| name)
}
