//! The requests about the cache of the running server.

use std::sync::Arc;

use super::answers::answer;
use super::explain::{ExplainError, question};
use super::live::Live;
use crate::control::admin::caching::{
    CacheControl, CacheShown, CacheStats, CachedAnswer, FlushReport, FlushRequest, FlushScope,
    ShowRequest,
};
use crate::control::admin::verdict::Answer;
use crate::serve::cache::{Entry, Names};
use crate::stats::Count;
use crate::wire::Rcode;
use crate::wire::answer::Answer as UpstreamAnswer;
use crate::wire::edns::Ede;
use crate::wire::name::Name;
use crate::wire::presentation::{MessageText, TypeText};
use crate::wire::query::Query;
use crate::wire::reply::Reply;

/// The most answers about one name that are shown.
const MOST: usize = 100;

impl CacheControl for Live {
    fn stats(&self) -> CacheStats {
        let parts = &self.0;
        let (entries, bytes) = parts.cache.size();
        let count = |count| parts.counters().map(|of| of.read(count)).sum();
        CacheStats {
            entries,
            bytes,
            limit: parts.cache.capacity(),
            failures: parts.cache.failure_count(),
            hits: count(Count::CacheHits),
            misses: count(Count::CacheMisses),
            stale: count(Count::Stale),
            prefetched: count(Count::Prefetched),
            evictions: parts.cache.evictions(),
            not_kept: count(Count::Unkept),
        }
    }

    fn show(&self, request: &ShowRequest) -> Result<CacheShown, String> {
        let name = parsed(&request.name)?;
        let cache = &self.0.cache;
        let now = self.0.streams.shared.clock.now();
        let found = cache.answers_with(&name, request.rtype);
        let more = found.len().saturating_sub(MOST) as u64;
        let shown = found.iter().take(MOST);
        let answers = shown.map(|(entry, dnssec_ok, checking_disabled)| {
            Ok(CachedAnswer {
                dnssec_ok: *dnssec_ok,
                checking_disabled: *checking_disabled,
                ..self.cached(entry, now)?
            })
        });
        let answers: Result<_, String> = answers.collect();
        Ok(CacheShown {
            answers: answers?,
            more,
        })
    }

    fn flush(&self, request: &FlushRequest) -> Result<FlushReport, String> {
        let parts = &self.0;
        let names = match &request.scope {
            FlushScope::Name(name) => Names::Exact(parsed(name)?),
            FlushScope::Zone(zone) => Names::Subtree(parsed(zone)?),
            FlushScope::All => Names::All,
        };
        let now = parts.streams.shared.clock.now();
        let before = parts.resolver.inflight().started();
        let flushed = parts.cache.flush(names, request.rtype, before, now);
        let (answers, failures) = flushed.map_err(|error| error.to_string())?;
        Ok(FlushReport { answers, failures })
    }
}

impl Live {
    /// The upstream server that sent an answer; `None` if that is not asked any more.
    pub(super) fn server_of(&self, answer: &UpstreamAnswer) -> Option<String> {
        let server = self.0.resolver.pools().server(answer.server()?)?;
        Some(server.address().to_string())
    }

    pub(super) fn cached(&self, entry: &Arc<Entry>, now: u32) -> Result<CachedAnswer, String> {
        let (asked, rtype) = entry.answer.question();
        let (name, _) = Name::parse(asked, 0).expect("the name of an answer is valid");
        let forwarding = self.0.resolver.pools().forwarding();
        let mut pools = forwarding.pools().iter();
        let forward = pools.find(|forward| forward.pool.id() == entry.pool());
        let zones = forward.map(|forward| forward.zones.iter().map(ToString::to_string).collect());
        let ttl_secs = entry.remaining(now);
        let block = entry.answer.upstream_block();
        Ok(CachedAnswer {
            answer: text(entry, &name, rtype, now).map_err(|error| error.to_string())?,
            name: name.to_string(),
            rtype: TypeText(rtype).to_string(),
            dnssec_ok: false,
            checking_disabled: false,
            age_secs: entry.age(now),
            ttl_secs,
            stale_secs: (ttl_secs == 0).then(|| entry.past(now)),
            popular: entry.is_popular(),
            authentic: entry.answer.authentic(),
            server: self.server_of(&entry.answer),
            upstream_block: block.map(|block| block.sign.to_string()),
            zones: zones.unwrap_or_default(),
            bytes: entry.answer.footprint(),
        })
    }
}

pub(super) fn parsed(name: &str) -> Result<Name, String> {
    Name::from_text(name).map_err(|error| format!("{name:?} is not a domain name: {error}"))
}

/// The answer as a client would get it without a policy.
fn text(entry: &Entry, name: &Name, rtype: u16, now: u32) -> Result<Answer, ExplainError> {
    let (packet, mut room, mut out) = (
        question(name, rtype)?.to_vec()?,
        Name::default(),
        Vec::new(),
    );
    let query = Query::parse(&packet, &mut room).expect("the query was just written");
    let stale_ttl = (entry.remaining(now) == 0).then_some(0);
    let errors: Vec<_> = entry.answer.errors().iter().collect();
    let errors: Vec<_> = errors
        .iter()
        .map(|error| Ede {
            code: error.code,
            text: &error.text,
        })
        .collect();
    let mut reply = Reply::new(&query, Rcode::NoError, usize::from(u16::MAX), &mut out);
    reply.copy(&entry.answer, entry.age(now), stale_ttl);
    reply.finish(&errors, None);
    Ok(answer(
        &MessageText::read(&out).ok_or(ExplainError::Unreadable)?,
    ))
}
