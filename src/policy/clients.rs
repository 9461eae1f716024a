//! The networks whose clients are served.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A set of networks. IPv4-mapped IPv6 addresses count as IPv4.
#[derive(Debug, Default)]
pub struct Clients {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
}

/// The first and the last number of ranges of addresses. The ranges do not overlap, and are in ascending order.
#[derive(Debug, Default)]
struct Ranges<A>(Box<[(A, A)]>);

impl<A: Ord> Ranges<A> {
    fn contains(&self, address: &A) -> bool {
        let after = self.0.partition_point(|(first, _)| first <= address);
        after > 0 && self.0[after - 1].1 >= *address
    }
}

impl Clients {
    /// Whether `client` is in one of the networks.
    pub fn contains(&self, client: IpAddr) -> bool {
        match client.to_canonical() {
            IpAddr::V4(v4) => self.v4.contains(&v4.to_bits()),
            IpAddr::V6(v6) => self.v6.contains(&v6.to_bits()),
        }
    }

    /// An address in one of the networks. `None` if there are none.
    pub fn any(&self) -> Option<IpAddr> {
        let v4 = self.v4.0.first().map(|(first, _)| (*first).into());
        let v6 = self.v6.0.first().map(|(first, _)| (*first).into());
        v4.map(IpAddr::V4).or(v6.map(IpAddr::V6))
    }
}

impl<'n> FromIterator<&'n IpNet> for Clients {
    fn from_iter<I: IntoIterator<Item = &'n IpNet>>(networks: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match network {
                IpNet::V4(network) => v4.push(*network),
                IpNet::V6(network) => v6.push(*network),
            }
        }
        // The aggregated networks are sorted, and none of them contains another.
        let v4 = Ipv4Net::aggregate(&v4).into_iter();
        let v4 = v4.map(|network| (network.network().to_bits(), network.broadcast().to_bits()));
        let v6 = Ipv6Net::aggregate(&v6).into_iter();
        let v6 = v6.map(|network| (network.network().to_bits(), network.broadcast().to_bits()));
        Self {
            v4: Ranges(v4.collect()),
            v6: Ranges(v6.collect()),
        }
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
        assert!(!asks("192.0.1.255") && !asks("2001:db7:ffff::"));
        assert!(!Clients::default().contains([127, 0, 0, 1].into()));
        assert!(clients.any().is_some_and(|client| clients.contains(client)));
        assert_eq!(Clients::default().any(), None);
    }

    #[test]
    fn a_client_is_in_the_set_if_it_is_in_any_of_the_networks() {
        let networks = [
            "10.0.0.0/8",
            "10.1.0.0/16",
            "10.1.2.3/32",
            "11.0.0.0/9",
            "0.0.0.0/32",
            "255.255.255.255/32",
            "192.0.2.128/25",
            "192.0.2.0/26",
            "::/127",
            "fe80::/10",
            "fd00::/8",
            "fd00:1::/32",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128",
        ];
        let networks = networks.map(|network| network.parse::<IpNet>().expect("a network"));
        let clients: Clients = networks.iter().collect();
        let edges = networks
            .iter()
            .flat_map(|network| [network.network(), network.broadcast()]);
        let around = edges.flat_map(|edge| match edge {
            IpAddr::V4(v4) => {
                [-1, 0, 1].map(|by| IpAddr::V4(v4.to_bits().wrapping_add_signed(by).into()))
            }
            IpAddr::V6(v6) => {
                [-1, 0, 1].map(|by| IpAddr::V6(v6.to_bits().wrapping_add_signed(by).into()))
            }
        });
        for client in around {
            let expected = networks.iter().any(|network| network.contains(&client));
            assert_eq!(clients.contains(client), expected, "{client}");
        }
    }

    #[test]
    fn all_addresses_of_a_family_are_clients_if_it_is_permitted_as_a_whole() {
        let is_client = |networks: &[&str], client: &str| {
            let networks = networks.iter().map(|n| n.parse().expect("a network"));
            let networks: Vec<IpNet> = networks.collect();
            let clients: Clients = networks.iter().collect();
            clients.contains(client.parse().expect("an address"))
        };
        let v4 = ["0.0.0.0", "127.255.255.255", "128.0.0.0", "255.255.255.255"];
        let v6 = [
            "::",
            "2001:db8::1",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ];
        for all in [
            &["0.0.0.0/0"][..],
            &["128.0.0.0/1", "0.0.0.0/1", "0.0.0.0/1"],
        ] {
            assert!(v4.iter().all(|client| is_client(all, client)));
            assert!(is_client(all, "::ffff:192.0.2.1"));
            assert!(!v6.iter().any(|client| is_client(all, client)));
        }
        for all in [&["::/0"][..], &["8000::/1", "::/1"]] {
            assert!(v6.iter().all(|client| is_client(all, client)));
            assert!(!v4.iter().any(|client| is_client(all, client)));
            assert!(!is_client(all, "::ffff:192.0.2.1"));
        }
        assert!(!is_client(&["255.255.255.254/32"], "255.255.255.255"));
        let last_but_one = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/128";
        assert!(!is_client(&[last_but_one], v6[2]));
    }
}
