//! The networks whose clients are served.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixSet;

/// A set of networks. IPv4-mapped IPv6 addresses count as IPv4.
#[derive(Debug, Default)]
pub struct Clients {
    v4: PrefixSet<Ipv4Net>,
    v6: PrefixSet<Ipv6Net>,
}

impl Clients {
    /// Whether `client` is in one of the networks.
    pub fn contains(&self, client: IpAddr) -> bool {
        match client.to_canonical() {
            IpAddr::V4(v4) => self.v4.get_lpm(&v4.into()).is_some(),
            IpAddr::V6(v6) => self.v6.get_lpm(&v6.into()).is_some(),
        }
    }

    /// An address in one of the networks. `None` if there are none.
    pub fn any(&self) -> Option<IpAddr> {
        let v4 = self.v4.iter().next().map(|network| network.addr().into());
        v4.or_else(|| self.v6.iter().next().map(|network| network.addr().into()))
    }
}

impl<'n> FromIterator<&'n IpNet> for Clients {
    fn from_iter<I: IntoIterator<Item = &'n IpNet>>(networks: I) -> Self {
        let mut clients = Self::default();
        for network in networks {
            match network {
                IpNet::V4(v4) => clients.v4.insert(*v4),
                IpNet::V6(v6) => clients.v6.insert(*v6),
            };
        }
        clients
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_inside_a_network_are_clients() {
        let networks = ["192.0.2.0/24", "2001:db8::/32"].map(|n| n.parse().expect("a network"));
        let clients: Clients = networks.iter().collect();
        let asks = |text: &str| clients.contains(text.parse().expect("an address"));
        assert!(asks("192.0.2.255") && asks("::ffff:192.0.2.1") && asks("2001:db8:1::1"));
        assert!(!asks("192.0.3.0") && !asks("2001:db9::") && !asks("::1"));
        assert!(!Clients::default().contains([127, 0, 0, 1].into()));
        assert!(clients.any().is_some_and(|client| clients.contains(client)));
        assert_eq!(Clients::default().any(), None);
    }
}
