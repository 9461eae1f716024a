//! The reverse zones of networks.

use std::net::IpAddr;

use ipnet::IpNet;

/// The name of the reverse zone of a network, if its length is that of a zone; else those of the networks that it
/// consists of, at most 256.
pub(super) fn reverse_zones(network: IpNet) -> Vec<String> {
    let (bits, bytes): (u8, Vec<u8>) = match network.trunc().network() {
        IpAddr::V4(address) => (8, address.octets().to_vec()),
        IpAddr::V6(address) => {
            let nibbles = address
                .octets()
                .into_iter()
                .flat_map(|byte| [byte >> 4, byte & 0xf]);
            (4, nibbles.collect())
        }
    };
    let suffix = if bits == 8 {
        "in-addr.arpa"
    } else {
        "ip6.arpa"
    };
    let len = network.prefix_len();
    let labels = usize::from(len.div_ceil(bits));
    let free = labels as u32 * u32::from(bits) - u32::from(len);
    let mut zones = Vec::new();
    for offset in 0..1_u16 << free {
        let mut parts = bytes[..labels].to_vec();
        if let Some(last) = parts.last_mut() {
            *last = last.wrapping_add(offset as u8);
        }
        let text = parts.iter().rev().map(|part| match bits {
            8 => format!("{part}."),
            _ => format!("{part:x}."),
        });
        zones.push(text.collect::<String>() + suffix);
    }
    zones
}

/// The name of the PTR record of an address.
pub(super) fn reverse_name(address: IpAddr) -> String {
    reverse_zones(address.into()).swap_remove(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_the_reverse_zones_that_cover_it() {
        let zones = |text: &str| reverse_zones(text.parse().expect("a network"));
        assert_eq!(zones("192.168.1.0/24"), ["1.168.192.in-addr.arpa"]);
        assert_eq!(zones("10.0.0.0/8"), ["10.in-addr.arpa"]);
        assert_eq!(
            zones("192.168.2.0/23"),
            ["2.168.192.in-addr.arpa", "3.168.192.in-addr.arpa"]
        );
        assert_eq!(zones("fd00::/8"), ["d.f.ip6.arpa"]);
        assert_eq!(
            reverse_name("192.0.2.5".parse().expect("an address")),
            "5.2.0.192.in-addr.arpa"
        );
    }
}
