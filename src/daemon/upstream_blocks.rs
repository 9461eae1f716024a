//! The alarms about upstream servers that block names, if the configuration asks for them.

use std::collections::HashSet;

use jiff::Timestamp;

use crate::config::selection::OnUpstreamBlock;
use crate::config::shown::counted;
use crate::serve::upstream::pools::Pools;
use crate::serve::upstream::state::ServerState;
use crate::serve::upstream::{Pool, RecentBlocks};

/// An alarm for each server that has blocked names within the last hour.
pub(super) fn alarms(pools: &Pools) -> Vec<String> {
    let forwarding = pools.forwarding();
    let mut seen = HashSet::new();
    let forwarded = forwarding.pools().iter().map(|forward| &forward.pool);
    let pools = [pools.default_pool()].into_iter().chain(forwarded);
    let pools = pools.filter(|pool| seen.insert(pool.id()));
    pools.flat_map(|pool| of_pool(pool)).collect()
}

fn of_pool(pool: &Pool) -> Vec<String> {
    if pool.on_block() != OnUpstreamBlock::Alarm {
        return Vec::new();
    }
    let now = Timestamp::now();
    let alarm = |server: &ServerState| Some(alarm(server, server.blocks.recent?, now));
    pool.state().iter().filter_map(alarm).collect()
}

fn alarm(server: &ServerState, recent: RecentBlocks, now: Timestamp) -> String {
    let since = now.checked_sub(recent.began).unwrap_or(now);
    let answers = counted(recent.count, "answer", "answers");
    format!(
        "upstream {}: it has blocked names itself in {answers} since {since:.0}: ask its operator, replace it in `servers`, \
         or set on-upstream-block = \"next\" in [upstream] so that other servers are asked",
        server.address
    )
}
