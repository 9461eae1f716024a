//! Resolves the hosts of URLs, and of upstream servers, past the policy and the cache.

use std::net::IpAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::control::data_plane::Hosts;
use crate::serve::cache::Key;
use crate::serve::upstream::pools::Pools;
use crate::wire::answer::Answer;
use crate::wire::name::Name;
use crate::wire::rtype;

/// The most aliases that are followed if an answer ends with one.
const ALIASES: usize = 8;

/// The upstream servers.
pub(super) struct UpstreamHosts(pub(super) Arc<Pools>);

impl Hosts for UpstreamHosts {
    fn addresses(&self, host: &Name) -> BoxFuture<'static, Result<Vec<IpAddr>, String>> {
        let (pools, host) = (Arc::clone(&self.0), host.clone());
        Box::pin(async move {
            let (found, _) = addresses(&pools, &host).await?;
            Ok(found)
        })
    }
}

/// The addresses of a host, and for how many seconds they may be used.
pub(super) async fn addresses(pools: &Pools, host: &Name) -> Result<(Vec<IpAddr>, u32), String> {
    // One family may work while the other does not.
    let (v4, v6) = tokio::join!(
        resolve(pools, host, rtype::A),
        resolve(pools, host, rtype::AAAA)
    );
    let found = [&v4, &v6].into_iter().flatten();
    let found = found.filter(|(addresses, _)| !addresses.is_empty());
    let ttl = found.clone().map(|(_, ttl)| *ttl).min();
    let found = found.flat_map(|(addresses, _)| addresses.iter().copied());
    let found: Vec<_> = found.collect();
    match (ttl, v4.and(v6)) {
        (Some(ttl), _) => Ok((found, ttl)),
        (None, Err(why)) => Err(why),
        (None, Ok(_)) => Err("the name does not exist, or has no address".to_owned()),
    }
}

/// The addresses of one family, at the end of the chain of aliases, and their TTL.
async fn resolve(pools: &Pools, host: &Name, rtype: u16) -> Result<(Vec<IpAddr>, u32), String> {
    let mut name = host.clone();
    let mut ttl = u32::MAX;
    for _ in 0..ALIASES {
        let key = Key::of(&name, rtype);
        let pool = pools.of(&key);
        let answer = pool.ask(&key, None, None).await;
        let answer = answer.map_err(|_| "no upstream server answers for it".to_owned())?;
        ttl = ttl.min(answer.ttl().unwrap_or(0));
        // What the servers of one zone say about names of another one does not count.
        if let Some(target) = pools.handed_off(&answer, pool.id()) {
            name = target;
            continue;
        }
        let addresses: Vec<_> = answer.addresses().collect();
        match last_target(&answer) {
            Some(target) if addresses.is_empty() && target != name => name = target,
            _ => return Ok((addresses, ttl)),
        }
    }
    Err(format!("it has more than {ALIASES} aliases"))
}

fn last_target(answer: &Answer) -> Option<Name> {
    let (target, _) = answer.chain().last()?;
    Some(target)
}
