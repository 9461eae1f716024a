//! Triggers by address: networks of clients, and networks of the addresses in answers.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The top 96 bits of an IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2). IPv4 addresses are stored as such
/// addresses.
const MAPPED: u128 = 0xFFFF << 32;
/// The bits of a mapped address before those of the IPv4 address.
const MAPPED_BITS: u8 = 96;

/// The kind of address that a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressOf {
    /// The client's address.
    Client,
    /// An address in upstream's answer: in an A or AAAA record, or a hint in an SVCB or HTTPS record.
    Answer,
}

/// A network as the trigger of a rule. Networks sort by their first address, larger ones first; so a network follows those
/// that contain it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// The kind of address that is compared with the network.
    pub of: AddressOf,
    /// The first address. IPv4 addresses are mapped to IPv6.
    pub(super) first: u128,
    /// The number of leading bits that all addresses share, 1 to 128. IPv4 prefixes are longer by 96 than in their
    /// usual notation.
    pub(super) len: u8,
}

/// A reason why a network can't be a trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// Bits after the prefix are set.
    #[error("`{0}` has address bits after the first {len}; write `{net}`", len = .0.prefix_len(), net = .0.trunc())]
    HostBits(IpNet),
    /// All IPv4 addresses or all IPv6 addresses belong to the network.
    #[error(
        "`{0}` has every address of IPv4 or of IPv6, so the rule would decide about everything; write smaller networks"
    )]
    Everything(IpNet),
}

impl Prefix {
    /// A trigger that matches all addresses of a network. A network of IPv4-mapped addresses is one of IPv4.
    ///
    /// # Errors
    /// [`PrefixError`]
    pub fn new(of: AddressOf, network: IpNet) -> Result<Self, PrefixError> {
        if network.trunc() != network {
            return Err(PrefixError::HostBits(network));
        }
        let len = match network {
            IpNet::V4(_) => network.prefix_len() + MAPPED_BITS,
            IpNet::V6(_) => network.prefix_len(),
        };
        let prefix = Self {
            of,
            first: address_bits(network.addr()),
            len,
        };
        let all_v4 = prefix.contains(MAPPED) && len <= MAPPED_BITS;
        match all_v4 || len == 0 {
            true => Err(PrefixError::Everything(network)),
            false => Ok(prefix),
        }
    }

    /// The trigger with this first address and length, if it is one.
    pub(super) fn from_bits(of: AddressOf, first: u128, len: u8) -> Option<Self> {
        let network = Ipv6Net::new(Ipv6Addr::from(first), len).ok()?;
        Self::new(of, network.into()).ok()
    }

    /// The network.
    pub fn network(&self) -> IpNet {
        let address = Ipv6Addr::from(self.first);
        let network = match address.to_canonical() {
            IpAddr::V4(v4) if self.len >= MAPPED_BITS => {
                Ipv4Net::new(v4, self.len - MAPPED_BITS).map(IpNet::V4)
            }
            _ => Ipv6Net::new(address, self.len).map(IpNet::V6),
        };
        network.expect("at most 128 bits, and at most 32 of an IPv4 address")
    }

    /// Whether an address belongs to the network.
    pub(super) fn contains(&self, address: u128) -> bool {
        // A shift by 128 bits would overflow.
        let differing = (address ^ self.first).leading_zeros();
        differing >= u32::from(self.len)
    }

    /// The last address.
    pub(super) fn last(&self) -> u128 {
        self.first | u128::MAX.checked_shr(self.len.into()).unwrap_or(0)
    }
}

/// An address in the space of IPv6 addresses. IPv4-mapped addresses are IPv4.
pub(super) fn address_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => MAPPED | u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The IPv4 address, if the bits are a mapped one.
pub(super) fn as_v4(bits: u128) -> Option<u32> {
    (bits >> 32 == MAPPED >> 32).then_some(bits as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Result<Prefix, PrefixError> {
        Prefix::new(AddressOf::Answer, text.parse().expect("a network"))
    }

    #[test]
    fn a_prefix_is_the_network_that_it_was_made_of() {
        for (text, network) in [
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("192.0.2.1/32", "192.0.2.1/32"),
            ("128.0.0.0/1", "128.0.0.0/1"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::1/128", "::1/128"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
            ("8000::/1", "8000::/1"),
        ] {
            let prefix = prefix(text).expect("valid");
            assert_eq!(prefix.network().to_string(), network);
            let again = Prefix::from_bits(prefix.of, prefix.first, prefix.len);
            assert_eq!(again, Some(prefix));
        }
    }

    #[test]
    fn networks_with_host_bits_or_with_every_address_are_refused() {
        let error = |text| prefix(text).expect_err("refused").to_string();
        assert_eq!(
            error("192.0.2.1/24"),
            "`192.0.2.1/24` has address bits after the first 24; write `192.0.2.0/24`"
        );
        for everything in ["0.0.0.0/0", "::/0", "::ffff:0.0.0.0/96", "::/1", "::/80"] {
            assert!(
                error(everything).contains("has every address"),
                "{everything}"
            );
        }
        assert!(prefix("::/96").is_ok(), "it has no IPv4-mapped address");
    }

    #[test]
    fn the_last_address_is_the_last_that_a_prefix_contains() {
        for text in [
            "192.0.2.0/24",
            "192.0.2.1/32",
            "2001:db8::/32",
            "::1/128",
            "8000::/1",
        ] {
            let prefix = prefix(text).expect("valid");
            assert!(prefix.contains(prefix.first) && prefix.contains(prefix.last()));
            assert!(!prefix.contains(prefix.first.wrapping_sub(1)), "{text}");
            assert!(!prefix.contains(prefix.last().wrapping_add(1)), "{text}");
        }
    }
}
