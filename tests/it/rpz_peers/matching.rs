//! The rules of a zone that match names, clients and addresses.

use std::cmp::Reverse;
use std::net::IpAddr;

use super::zones::{Action, Trigger, Zone};

impl Zone {
    /// The rule on a client.
    pub(super) fn on_client(&self, client: [u8; 4]) -> Option<&Action> {
        let rules = self
            .rules
            .iter()
            .filter_map(|(trigger, action)| match trigger {
                Trigger::Client(network) if network.contains(&IpAddr::from(client)) => {
                    Some((network.prefix_len(), action))
                }
                _ => None,
            });
        rules.max_by_key(|(len, _)| *len).map(|(_, action)| action)
    }

    /// The rule on a name, as wildcards match in DNS.
    pub(super) fn on(&self, name: &str) -> Option<&Action> {
        let exact = self.rules.get(&Trigger::Exact(name.to_owned()));
        exact.or_else(|| {
            self.rules
                .get(&Trigger::Wildcard(self.encloser(name)?.to_owned()))
        })
    }

    /// The closest encloser of a name (RFC 4592, section 3.3.1).
    pub(super) fn encloser<'n>(&self, name: &'n str) -> Option<&'n str> {
        let exists = |at: &&str| {
            self.rules.keys().any(|trigger| match trigger {
                Trigger::Exact(owner) | Trigger::Wildcard(owner) => is_below(owner, at),
                Trigger::Client(_) | Trigger::Answer(_) => false,
            })
        };
        let found = [name].into_iter().chain(ancestors(name)).find(exists);
        // The name itself exists; no wildcard matches it.
        found.filter(|encloser| *encloser != name)
    }

    /// The first of the rules on these addresses, all of which are of one family: that of the longest prefix, then that of the
    /// smallest address.
    pub(super) fn on_addresses(&self, addresses: &[IpAddr]) -> Option<&Action> {
        let rules = self
            .rules
            .iter()
            .filter_map(|(trigger, action)| match trigger {
                Trigger::Answer(network) => Some((network, action)),
                _ => None,
            });
        let matching =
            rules.filter(|(network, _)| addresses.iter().any(|address| network.contains(address)));
        let first =
            matching.min_by_key(|(network, _)| (Reverse(network.prefix_len()), network.network()));
        first.map(|(_, action)| action)
    }
}

/// Whether a name is another one, or below it.
pub(super) fn is_below(name: &str, other: &str) -> bool {
    name.strip_suffix(other)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The names above a name, from the nearest one.
pub(super) fn ancestors(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(name.split_once('.'), |(_, above)| above.split_once('.'))
        .map(|(_, above)| above)
}
