//! Writes answers with upstream's data. An answer that leads to a blocked name, as the target of a CNAME, SVCB or HTTPS
//! record, is blocked instead.

use std::sync::Arc;

use smallvec::SmallVec;

use super::cache::{Entry, Failure, STALE_TTL};
use super::step::{Ending, Tally};
use super::synthesized::{self, BlockedAt};
use crate::policy::answer::{AddressRulesOf, AnswerRules};
use crate::policy::decide::{Decision, LaterRules, Matched, PolicyView};
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
    /// Nothing is written: this CNAME rule applies to the name at this place of the chain.
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

/// The maximum number of owners in the additional section that are checked. Records of further owners are left out.
const MAX_ADDITIONAL_OWNERS: usize = 64;

/// Everything that an answer with upstream's data depends on.
pub(super) struct AnswerContext<'a, 'p> {
    pub(super) now: u32,
    pub(super) query: &'a Query<'p>,
    pub(super) policy: PolicyView<'a>,
    /// The rules that apply to the names and addresses that the answer leads to, after the decision on the queried
    /// name.
    pub(super) later: LaterRules,
    /// The most bytes that the answer may have.
    pub(super) limit: usize,
}

impl<'a> AnswerContext<'a, '_> {
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
        // The failure may be that of another name, which was the target of a rule that is no longer in force.
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
        entry.answer.is_about(self.query.name, self.query.rtype)
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
        let rules = self.policy.answer_rules(self.query.name);
        if !self.later.is_final() {
            let place = |hops, service| BlockedAt::Target {
                answer,
                hops,
                service,
                age,
                stale_ttl,
            };
            let chain = answer.chain().map(|(name, _)| name);
            // Addresses that will be truncated anyway are not checked.
            let addresses = answer.addresses().take(if fits { usize::MAX } else { 0 });
            let found = rules.decide(later, chain, addresses);
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
                && let Some(service) = self.blocked_services(answer, &rules, later, &mut left_out)
            {
                // If all services are blocked, the rule of the last one decides the answer. A rule that demands TCP
                // truncates the whole message.
                let BlockedService { by, nxdomain, .. } = service;
                let is_whole = left_out.len() == answer.services();
                if is_whole || demands_tcp(&by) {
                    let place = place(answer.chain().count(), !service.by_hint);
                    let is_alias =
                        matches!(by.blocking.effect_answer, Some(EffectAnswer::Cname { .. }));
                    return match is_alias && service.by_hint {
                        true => Written::Alias(by, place),
                        false => self.block(by, nxdomain, &place, out).into(),
                    };
                }
            }
        }
        let mut reply = Reply::new(self.query, Rcode::NoError, self.limit, out);
        let additional_at = if !fits || left_out.is_empty() && !has_additional {
            reply.copy(answer, age, stale_ttl);
            answer.additional_at()
        } else {
            let last = last_name(answer, self.query.name);
            let mut additional =
                Additional::new(answer, &rules, &last, later, self.policy.has_answer_rules());
            let keeps = |is_additional, owner, data| match is_additional {
                true => has_additional && additional.passes(owner, data),
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

    /// Adds to `left_out` the SVCB and HTTPS records that have a blocked target or address hint. Returns the last of
    /// them, or one for which a rule demands TCP.
    fn blocked_services(
        &self,
        answer: &Answer,
        rules: &AnswerRules<'a, '_>,
        later: LaterRules,
        left_out: &mut SmallVec<[usize; 4]>,
    ) -> Option<BlockedService<'a>> {
        let mut blocked: Option<BlockedService<'_>> = None;
        // A service's target counts as one more name of the chain (RFC 9460, section 2.5).
        for (target, record) in answer.service_targets() {
            if let Some(by) = rules.blocks(later, &target) {
                left_out.push(record);
                let service = BlockedService {
                    by,
                    // Even if the rule denies the target, the owner of the record exists.
                    nxdomain: false,
                    record,
                    by_hint: false,
                };
                if demands_tcp(&by) {
                    return Some(service);
                }
                blocked = Some(service);
            }
        }
        if self.policy.has_answer_rules() {
            let last = last_name(answer, self.query.name);
            let rules = rules.on_addresses(&last, later);
            for (address, record) in answer.hints() {
                if !left_out.contains(&record)
                    && let Some((by, nxdomain)) = rules.blocks(address)
                {
                    left_out.push(record);
                    let service = BlockedService {
                        by,
                        nxdomain,
                        record,
                        by_hint: true,
                    };
                    if demands_tcp(&by) {
                        return Some(service);
                    }
                    let is_last = |last: &BlockedService<'_>| last.record <= record;
                    if blocked.as_ref().is_none_or(is_last) {
                        blocked = Some(service);
                    }
                }
            }
        }
        blocked
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

/// An SVCB or HTTPS record that is left out of an answer.
struct BlockedService<'s> {
    /// The rule that blocks its target or one of its address hints.
    by: Matched<'s>,
    /// Whether the rule's action is NXDOMAIN and may be sent for the owner of the record.
    nxdomain: bool,
    /// The offset of the record's data.
    record: usize,
    /// Whether the rule is on an address hint. It then counts as a rule on an address of the owner.
    by_hint: bool,
}

/// Whether the rule blocks only until the client asks over a stream.
fn demands_tcp(by: &Matched<'_>) -> bool {
    matches!(by.blocking.effect_answer, Some(EffectAnswer::TcpOnly))
}

/// Decides which records of the additional section are kept.
struct Additional<'a, 's, 'l> {
    answer: &'a Answer,
    rules: &'l AnswerRules<'s, 'l>,
    /// `None` if there are no rules on addresses.
    on_addresses: Option<AddressRulesOf<'s, 'l>>,
    later: LaterRules,
    /// The last owner, and whether it is blocked: servers send the addresses of a name one after the other.
    owner: Option<(Name, bool)>,
    /// The number of owners that were checked.
    decided: usize,
}

impl<'a, 's, 'l> Additional<'a, 's, 'l> {
    fn new(
        answer: &'a Answer,
        rules: &'l AnswerRules<'s, 'l>,
        last: &'l Name,
        later: LaterRules,
        has_answer_rules: bool,
    ) -> Self {
        Self {
            answer,
            rules,
            on_addresses: has_answer_rules.then(|| rules.on_addresses(last, later)),
            later,
            owner: None,
            decided: 0,
        }
    }

    /// Whether a record is kept, given the offsets of its owner and its data: neither the owner nor the address is
    /// blocked.
    fn passes(&mut self, owner: usize, data: usize) -> bool {
        if self.later.is_final() {
            return true;
        }
        let Some(owner) = self.answer.name_at(owner) else {
            return false;
        };
        let is_blocked = match &self.owner {
            Some((last, is_blocked)) if *last == owner => *is_blocked,
            _ if self.decided == MAX_ADDITIONAL_OWNERS => return false,
            _ => {
                self.decided += 1;
                let is_blocked = self.rules.blocks(self.later, &owner).is_some();
                self.owner = Some((owner, is_blocked));
                is_blocked
            }
        };
        let address = || self.answer.address_at(data);
        let on_addresses = self.on_addresses.as_ref();
        !is_blocked
            && on_addresses
                .is_none_or(|rules| address().is_none_or(|it| rules.blocks(it).is_none()))
    }
}

/// The last name of the chain of an answer to a query for `asked`.
fn last_name(answer: &Answer, asked: &Name) -> Name {
    let last = answer.chain().last();
    last.map_or_else(|| asked.clone(), |(name, _)| name)
}
