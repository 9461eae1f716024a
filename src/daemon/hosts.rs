//! Resolves the hosts of URLs by the upstream servers, past the policy and the cache.

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
            // One family may work while the other does not.
            let (v4, v6) = tokio::join!(
                resolve(&pools, &host, rtype::A),
                resolve(&pools, &host, rtype::AAAA)
            );
            let found = [&v4, &v6].into_iter().flatten().flatten();
            let found: Vec<_> = found.copied().collect();
            match (found.is_empty(), v4.and(v6)) {
                (false, _) => Ok(found),
                (true, Err(why)) => Err(why),
                (true, Ok(_)) => Err("the name does not exist, or has no address".to_owned()),
            }
        })
    }
}

/// The addresses of one family, at the end of the chain of aliases.
async fn resolve(pools: &Pools, host: &Name, rtype: u16) -> Result<Vec<IpAddr>, String> {
    let mut name = host.clone();
    for _ in 0..ALIASES {
        let key = Key::of(&name, rtype);
        let pool = pools.of(&key);
        let answer = pool.ask(&key, None, None).await;
        let answer = answer.map_err(|_| "no upstream server answers for it".to_owned())?;
        // What the servers of one zone say about names of another one does not count.
        if let Some(target) = pools.handed_off(&answer, pool.id()) {
            name = target;
            continue;
        }
        let addresses: Vec<_> = answer.addresses().collect();
        match last_target(&answer) {
            Some(target) if addresses.is_empty() && target != name => name = target,
            _ => return Ok(addresses),
        }
    }
    Err(format!("it has more than {ALIASES} aliases"))
}

fn last_target(answer: &Answer) -> Option<Name> {
    let (target, _) = answer.chain().last()?;
    Some(target)
}
