//! Writes answers with upstream's data. An answer that leads to a blocked name, as the target of a CNAME, SVCB or HTTPS
//! record, is blocked instead.

use std::sync::Arc;

use smallvec::SmallVec;

use super::cache::{Entry, Failure, STALE_TTL};
use super::step::{Ending, Tally};
use super::synthesized::{self, BlockedAt};
use crate::policy::answer::{AddressRulesOf, AnswerRules};
use crate::policy::decide::{Decision, LaterRules, Matched, PolicyView};
use crate::policy::ranking::Hit;
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
    /// Nothing is written: the answer has a chain to a name that another pool is asked for.
    Unfinished(Handoff<'w>),
    /// Nothing is written: this CNAME rule applies to the name at this place of the chain.
    Alias(Matched<'w>, BlockedAt<'w>),
}

/// An answer of which only the start of its chain is used.
pub(super) struct Handoff<'w> {
    pub(super) entry: &'w Entry,
    /// The number of hops that are used.
    pub(super) hops: usize,
    /// Whether the answer is past its TTL.
    pub(super) is_stale: bool,
    /// How the whole answer is counted, unless its rest is stale.
    pub(super) count: Count,
    /// Whether the answer should be refreshed.
    pub(super) is_due: bool,
    /// The rules that apply to the names of the chain and to all that follows.
    pub(super) later: LaterRules,
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
#[derive(Clone, Copy)]
pub(super) struct AnswerContext<'a, 'p> {
    pub(super) now: u32,
    pub(super) query: &'a Query<'p>,
    pub(super) policy: PolicyView<'a>,
    /// The rules that apply to the names and addresses that the answer leads to, after the decision on the queried
    /// name.
    pub(super) later: LaterRules,
    /// The decision about the queried name, if it only holds for an answer that is not signed. `later` is then unused.
    pub(super) unless_signed: Option<Decision<'a>>,
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
            Written::Unfinished(handoff) => Written::Unfinished(Handoff {
                is_due: due,
                ..handoff
            }),
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
        match entry.handoff() {
            Some(hops) => self.hand_off(entry, hops, count, out),
            None => self.copy(entry, count, None, None, out),
        }
    }

    /// Has the answer completed by another pool, unless the queried name is blocked.
    #[cold]
    fn hand_off<'w>(
        &'w self,
        entry: &'w Entry,
        hops: usize,
        count: Count,
        out: &mut Vec<u8>,
    ) -> Written<'w> {
        let later = match self.unless_signed {
            None => self.later,
            Some(decision) => match self.settle(decision, Some(&entry.answer), out) {
                Ok(later) => later,
                Err(written) => return written,
            },
        };
        Written::Unfinished(Handoff {
            entry,
            hops,
            is_stale: count == Count::Stale,
            count,
            is_due: false,
            later,
        })
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
            if let Some(hops) = entry.handoff() {
                return self.hand_off(entry, hops, Count::Stale, out);
            }
            let code = stale_code(entry);
            return self.copy(entry, Count::Stale, Some(STALE_TTL), Some(code), out);
        }
        if let Some(decision) = self.unless_signed
            && let Err(written) = self.settle(decision, None, out)
        {
            return written;
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
    pub(super) fn copy<'w>(
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
        let mut later = match self.unless_signed {
            None => self.later,
            Some(decision) => match self.settle(decision, Some(answer), out) {
                Ok(later) => later,
                Err(written) => return written,
            },
        };
        let is_signed = |owner: &Name| is_signed(answer, owner);
        let rules = self.policy.answer_rules(self.query.name);
        let rules = rules.with_signatures(&is_signed);
        let mut logged = None;
        if !later.is_final() {
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
            logged = found.logged.map(|by| by.hit);
            if let Decision::Blocked { by, nxdomain, .. } = found.decision {
                let place = place(found.hops, false);
                if matches!(by.blocking.effect_answer, Some(EffectAnswer::Cname { .. })) {
                    return Written::Alias(by, place);
                }
                return self.block(by, nxdomain, (&place, logged), out).into();
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
                        false => self.block(by, nxdomain, (&place, logged), out).into(),
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
        let tally = Tally {
            logged,
            ..count.into()
        };
        Ending::Reply(tally).into()
    }

    /// Decides about the queried name if that depends on whether the answer is signed. `unsigned` is the decision if it is not,
    /// and `answer` is `None` if upstream did not answer. Returns the rules that apply to the rest of the answer.
    ///
    /// # Errors
    /// The answer, if the name is blocked.
    #[cold]
    fn settle<'w>(
        &'w self,
        unsigned: Decision<'a>,
        answer: Option<&Answer>,
        out: &mut Vec<u8>,
    ) -> Result<LaterRules, Written<'w>> {
        let is_signed = answer.is_none_or(|answer| is_signed(answer, self.query.name));
        let decision = match is_signed {
            true => self.policy.decide_signed(self.query.name, unsigned),
            false => unsigned,
        };
        match decision {
            Decision::Blocked { by, .. }
                if matches!(by.blocking.effect_answer, Some(EffectAnswer::Cname { .. })) =>
            {
                Err(Written::Alias(by, BlockedAt::Question))
            }
            Decision::Blocked { by, nxdomain, .. } => {
                let place = (&BlockedAt::Question, None);
                Err(self.block(by, nxdomain, place, out).into())
            }
            decision => Ok(decision.later_rules()),
        }
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
        let last = last_name(answer, self.query.name);
        // A service's target counts as one more name of the chain (RFC 9460, section 2.5).
        for (target, record) in answer.service_targets() {
            if let Some(by) = rules.blocks(later, &target, &last) {
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
            let rules = rules.on_addresses(&last, later);
            for (address, record) in answer.hints() {
                if !left_out.contains(&record)
                    && let Some((by, nxdomain)) = rules.blocks(address, &last)
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

    /// The answer if the queried name, or one that it leads to, is blocked.
    fn block(
        &self,
        by: Matched<'_>,
        nxdomain: bool,
        (place, logged): (&BlockedAt<'_>, Option<Hit>),
        out: &mut Vec<u8>,
    ) -> Ending {
        let serial = self.policy.generation() as u32;
        let tally = |count| Tally {
            logged,
            ..Tally::blocked(count, by.hit)
        };
        let count = match place {
            BlockedAt::Question => Count::Blocked,
            BlockedAt::Target { .. } => Count::BlockedTarget,
        };
        match synthesized::blocked(self.query, by, nxdomain, place, serial, self.limit, out) {
            true => Ending::Reply(tally(count)),
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
                let by = self.rules.blocks(self.later, &owner, &owner);
                self.owner = Some((owner.clone(), by.is_some()));
                by.is_some()
            }
        };
        let address = || self.answer.address_at(data);
        let on_addresses = self.on_addresses.as_ref();
        !is_blocked
            && on_addresses
                .is_none_or(|rules| address().is_none_or(|it| rules.blocks(it, &owner).is_none()))
    }
}

/// Whether an answer is not changed by rules that spare signed answers, as far as it is about `owner`. A failure has nothing
/// that a rule could change.
pub(super) fn is_signed(answer: &Answer, owner: &Name) -> bool {
    const NOERROR: u16 = Rcode::NoError as u16;
    const NXDOMAIN: u16 = Rcode::NxDomain as u16;
    !matches!(answer.rcode(), NOERROR | NXDOMAIN) || answer.is_signed(owner)
}

/// The last name of the chain of an answer to a query for `asked`.
fn last_name(answer: &Answer, asked: &Name) -> Name {
    let last = answer.chain().last();
    last.map_or_else(|| asked.clone(), |(name, _)| name)
}
