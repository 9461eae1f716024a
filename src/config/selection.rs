//! The keys that say which upstream server answers a query: the order in which servers are asked, and the treatment of
//! answers by which a server says that it blocks the name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::findings::Findings;
use super::reader::{At, Reader, Strings};
use super::values::{choice, each, network, number};

const STRATEGIES: &[(&str, Strategy)] = &[
    ("fastest", Strategy::Fastest),
    ("parallel", Strategy::Parallel),
    ("strict", Strategy::Strict),
];
const ON_BLOCK: &[(&str, OnUpstreamBlock)] = &[
    ("pass", OnUpstreamBlock::Pass),
    ("alarm", OnUpstreamBlock::Alarm),
    ("next", OnUpstreamBlock::Next),
];
/// How many servers are asked at once with [`Strategy::Parallel`].
const PARALLEL_SERVERS: usize = 2;

/// The order in which the servers of a pool are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// The server with the shortest response time first. The others are asked now and then, so that their times stay
    /// known.
    #[default]
    Fastest,
    /// Several servers at once: the first usable answer counts.
    Parallel,
    /// In the order of the configuration: a later server only if the earlier ones give no usable answer.
    Strict,
}

/// The treatment of an answer by which an upstream server says that it blocks the name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUpstreamBlock {
    /// It is passed on.
    #[default]
    Pass,
    /// It is passed on, and `status` shows an alarm.
    Alarm,
    /// Other servers are asked. If they give no other answer, it is passed on.
    Next,
}

/// Which server's answer is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The order of the servers.
    pub strategy: Strategy,
    /// How many servers are asked at once with [`Strategy::Parallel`], 2 to 16.
    pub parallel_servers: usize,
    /// The treatment of blocks by upstream.
    pub on_upstream_block: OnUpstreamBlock,
    /// An answer with addresses all of which are in these networks counts as a block by upstream.
    pub landing_addresses: Vec<IpNet>,
}

impl Default for Selection {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            parallel_servers: PARALLEL_SERVERS,
            on_upstream_block: OnUpstreamBlock::default(),
            landing_addresses: vec![
                IpNet::from(IpAddr::from(Ipv4Addr::UNSPECIFIED)),
                IpNet::from(IpAddr::from(Ipv6Addr::UNSPECIFIED)),
            ],
        }
    }
}

#[derive(Default)]
pub(super) struct Raw {
    strategy: Option<At<String>>,
    parallel_servers: Option<At<i64>>,
    on_upstream_block: Option<At<String>>,
    landing_addresses: Option<Strings>,
}

impl Raw {
    pub(super) fn read(table: &mut Reader<'_, '_>) -> Self {
        Self {
            strategy: table.string("strategy"),
            parallel_servers: table.integer("parallel-servers"),
            on_upstream_block: table.string("on-upstream-block"),
            landing_addresses: table.strings("landing-addresses"),
        }
    }
}

pub(super) fn validate(raw: Raw, findings: &mut Findings) -> Selection {
    let default = Selection::default();
    let parallel_servers = number(raw.parallel_servers, 2..=16, findings);
    let on_upstream_block = choice(raw.on_upstream_block, ON_BLOCK, findings);
    let landing_addresses = each(raw.landing_addresses, findings, network);
    Selection {
        strategy: strategy(raw.strategy, findings).unwrap_or_default(),
        parallel_servers: parallel_servers.unwrap_or(default.parallel_servers),
        on_upstream_block: on_upstream_block.unwrap_or_default(),
        landing_addresses: landing_addresses.unwrap_or(default.landing_addresses),
    }
}

/// The order of the servers; `None` if the key is omitted.
pub(super) fn strategy(given: Option<At<String>>, findings: &mut Findings) -> Option<Strategy> {
    choice(given, STRATEGIES, findings)
}
