//! Owner names in a policy zone, and the triggers that they stand for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::policy::prefix::{AddressOf, Prefix, PrefixError};
use crate::policy::rule::Scope;
use crate::wire::name::{MAX_NAME, Name};

/// The label under which policy zones keep networks of clients (section 4.1 of the draft).
const CLIENT_IP: &[u8] = b"rpz-client-ip";
/// The label of networks of answers (section 4.3).
const RESPONSE_IP: &[u8] = b"rpz-ip";
/// The label of names of name servers (section 4.4).
const NSDNAME: &[u8] = b"rpz-nsdname";
/// The label of networks of name servers (section 4.5).
const NSIP: &[u8] = b"rpz-nsip";
/// All labels that begin so are reserved for the draft.
pub(super) const RESERVED: &[u8] = b"rpz-";
/// In the owner name of an IPv6 network, the label for the longest sequence of zeros.
const ZEROS: &[u8] = b"zz";

/// The trigger of a rule in a policy zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ZoneTrigger {
    /// A queried name, or a name of the CNAME chain. The scope is exact, or below for a wildcard.
    Name(Scope),
    /// The network of the client, or of an address in the answer.
    Network(Prefix),
}

/// Why the owner of a record is no trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnusableOwner {
    /// It is not in the zone.
    #[error("the owner is not in the zone")]
    OutsideZone,
    /// A name or network of name servers.
    #[error(
        "the trigger is about name servers (rpz-nsdname, rpz-nsip), which a forwarder does not see"
    )]
    NameServers,
    /// An unknown label that begins with `rpz-`.
    #[error("the trigger is unknown; known are names, rpz-client-ip and rpz-ip")]
    UnknownTrigger,
    /// Labels that are not a network.
    #[error("the owner is no network; write 24.0.2.0.192.rpz-ip for 192.0.2.0/24")]
    NoNetwork,
    /// Address bits after the prefix are set.
    #[error("the network has address bits after its prefix")]
    HostBits,
    /// All addresses belong to the network.
    #[error("the network has every address of IPv4 or of IPv6")]
    Everything,
}

impl ZoneTrigger {
    /// The trigger that `owner` stands for in the zone at `apex`. If it is about a name, that name is written to `name`.
    /// `None` if the owner is the apex, whose records describe the zone itself.
    ///
    /// # Errors
    /// [`UnusableOwner`]
    #[inline]
    pub fn parse(
        owner: &Name,
        apex: &Name,
        name: &mut Name,
    ) -> Result<Option<Self>, UnusableOwner> {
        let (labels, above) = (owner.label_count(), apex.label_count());
        if labels < above || owner.ancestor(above) != apex.wire() {
            return Err(UnusableOwner::OutsideZone);
        }
        if labels == above {
            return Ok(None);
        }
        if owner.label_from_root(above).starts_with(RESERVED) {
            return Self::network(owner, above).map(|prefix| Some(Self::Network(prefix)));
        }
        let is_wildcard = owner.label_from_root(labels - 1) == b"*";
        let start = if is_wildcard { 2 } else { 0 };
        let relative = &owner.wire()[start..owner.ancestor_start(above)];
        let mut wire = [0; 256];
        wire[..relative.len()].copy_from_slice(relative);
        let parsed = name.parse_wire(&wire[..=relative.len()], 0);
        debug_assert!(parsed.is_ok(), "a part of a name is a name");
        let scope = if is_wildcard {
            Scope::Below
        } else {
            Scope::Exact
        };
        Ok(Some(Self::Name(scope)))
    }

    /// The network of an owner below `above` labels of the apex.
    #[cold]
    fn network(owner: &Name, above: usize) -> Result<Prefix, UnusableOwner> {
        let of = match owner.label_from_root(above) {
            CLIENT_IP => AddressOf::Client,
            RESPONSE_IP => AddressOf::Answer,
            NSDNAME | NSIP => return Err(UnusableOwner::NameServers),
            _ => return Err(UnusableOwner::UnknownTrigger),
        };
        let labels: Vec<&[u8]> = owner.labels_from_root().skip(above + 1).collect();
        let (len, parts) = labels.split_last().ok_or(UnusableOwner::NoNetwork)?;
        let len = number(len, 10).ok_or(UnusableOwner::NoNetwork)?;
        let address = v4(parts).or_else(|| v6(parts));
        let address = address.ok_or(UnusableOwner::NoNetwork)?;
        let len = u8::try_from(len).map_err(|_| UnusableOwner::NoNetwork)?;
        let network = IpNet::new(address, len).map_err(|_| UnusableOwner::NoNetwork)?;
        Prefix::new(of, network).map_err(|error| match error {
            PrefixError::HostBits(_) => UnusableOwner::HostBits,
            PrefixError::Everything(_) => UnusableOwner::Everything,
        })
    }
}

/// A number of at most four digits without leading zeros.
fn number(label: &[u8], radix: u32) -> Option<u16> {
    let text = str::from_utf8(label).ok()?;
    let is_canonical = text == "0" || !text.starts_with('0');
    // `from_str_radix` accepts a sign.
    let is_digits = text.chars().all(|digit| digit.is_digit(radix));
    let fits = is_canonical && is_digits && (1..=4).contains(&text.len());
    fits.then(|| u16::from_str_radix(text, radix).ok())?
}

/// The IPv4 address of four decimal labels, the first byte first.
fn v4(parts: &[&[u8]]) -> Option<IpAddr> {
    let bytes: Option<Vec<u8>> = parts
        .iter()
        .map(|part| u8::try_from(number(part, 10)?).ok())
        .collect();
    let bytes: [u8; 4] = bytes?.try_into().ok()?;
    Some(Ipv4Addr::from(bytes).into())
}

/// The IPv6 address of up to eight hexadecimal labels, the first word first. One label may stand for several zeros.
fn v6(parts: &[&[u8]]) -> Option<IpAddr> {
    let words = |parts: &[&[u8]]| -> Option<Vec<u16>> {
        parts.iter().map(|part| number(part, 16)).collect()
    };
    let words = match parts.iter().position(|part| *part == ZEROS) {
        None => words(parts)?,
        Some(at) => {
            let (mut all, after) = (words(&parts[..at])?, words(&parts[at + 1..])?);
            let zeros = 8_usize.checked_sub(all.len() + after.len())?;
            if zeros == 0 {
                return None;
            }
            all.extend(std::iter::repeat_n(0, zeros));
            all.extend(after);
            all
        }
    };
    let words: [u16; 8] = words.try_into().ok()?;
    Some(Ipv6Addr::from(words).into())
}

/// The owner of a rule on a network, without the labels of the apex. IPv6 addresses are written as BIND expects: the
/// longest sequence of two or more zeros is one label, the first one if there are several.
pub fn network_owner(prefix: &Prefix) -> Name {
    let network = prefix.network();
    let mut labels = vec![network.prefix_len().to_string().into_bytes()];
    match network.addr() {
        IpAddr::V4(v4) => {
            let bytes = v4.octets().into_iter().rev();
            labels.extend(bytes.map(|byte| byte.to_string().into_bytes()));
        }
        IpAddr::V6(v6) => v6_labels(v6, &mut labels),
    }
    labels.push(match prefix.of {
        AddressOf::Client => CLIENT_IP.to_vec(),
        AddressOf::Answer => RESPONSE_IP.to_vec(),
    });
    let labels: Vec<&[u8]> = labels.iter().map(Vec::as_slice).collect();
    name_of(&labels)
}

/// The name of these labels, the first one first.
pub(super) fn name_of(labels: &[&[u8]]) -> Name {
    let mut wire = Vec::with_capacity(MAX_NAME);
    for label in labels {
        wire.push(label.len() as u8);
        wire.extend(*label);
    }
    wire.push(0);
    match Name::parse(&wire, 0) {
        Ok((name, _)) => name,
        Err(error) => unreachable!("few short labels are a name: {error}"),
    }
}

/// Appends the words of an IPv6 address in hexadecimal, the last one first.
fn v6_labels(address: Ipv6Addr, labels: &mut Vec<Vec<u8>>) {
    let words = address.segments();
    let zeros = longest_zeros(&words);
    for (place, word) in words.iter().enumerate().rev() {
        match zeros.contains(&place) {
            true if place + 1 == zeros.end => labels.push(ZEROS.to_vec()),
            true => {}
            false => labels.push(format!("{word:x}").into_bytes()),
        }
    }
}

/// The longest sequence of at least two zeros, the first one if there are several.
fn longest_zeros(words: &[u16; 8]) -> std::ops::Range<usize> {
    let (mut longest, mut start) = (0..0, 0);
    for end in 1..=words.len() {
        if words[end - 1] != 0 {
            start = end;
        } else if end - start > longest.len().max(1) {
            longest = start..end;
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_text(text).expect("a name")
    }

    fn parsed(owner: &str) -> Result<String, UnusableOwner> {
        let mut at = Name::default();
        let trigger = ZoneTrigger::parse(&name(owner), &name("rpz.example"), &mut at)?;
        Ok(match trigger {
            None => "apex".to_owned(),
            Some(ZoneTrigger::Name(scope)) => scope.notation(&at),
            Some(ZoneTrigger::Network(prefix)) => format!("{:?} {}", prefix.of, prefix.network()),
        })
    }

    #[test]
    fn owners_stand_for_names_and_networks() {
        for (owner, trigger) in [
            ("rpz.example", "apex"),
            ("ads.test.rpz.example", "ads.test"),
            ("*.ads.test.RPZ.example", "*.ads.test"),
            ("*.rpz.example", "*."),
            ("a.*.test.rpz.example", "a.*.test"),
            (r"a\.b.test.rpz.example", r"a\.b.test"),
            (r"\000.test.rpz.example", r"\000.test"),
            ("rpz.example.rpz.example", "rpz.example"),
            ("24.0.2.0.192.rpz-ip.rpz.example", "Answer 192.0.2.0/24"),
            (
                "32.1.2.0.192.RPZ-client-IP.rpz.example",
                "Client 192.0.2.1/32",
            ),
            ("48.zz.db8.2001.rpz-ip.rpz.example", "Answer 2001:db8::/48"),
            (
                "128.1.0.0.0.0.0.db8.2001.rpz-ip.rpz.example",
                "Answer 2001:db8::1/128",
            ),
            ("128.1.zz.rpz-client-ip.rpz.example", "Client ::1/128"),
            ("128.zz.1.rpz-client-ip.rpz.example", "Client 1::/128"),
        ] {
            assert_eq!(parsed(owner), Ok(trigger.to_owned()), "{owner}");
        }
    }

    #[test]
    fn other_owners_are_errors_that_say_why() {
        use UnusableOwner::{
            Everything, HostBits, NameServers, NoNetwork, OutsideZone, UnknownTrigger,
        };
        for (owner, error) in [
            ("example", OutsideZone),
            ("ads.test", OutsideZone),
            ("xrpz.example", OutsideZone),
            ("ns.test.rpz-nsdname.rpz.example", NameServers),
            ("32.1.2.0.192.rpz-nsip.rpz.example", NameServers),
            ("a.rpz-other.rpz.example", UnknownTrigger),
            ("rpz-ip.rpz.example", NoNetwork),
            ("24.rpz-ip.rpz.example", NoNetwork),
            ("24.2.0.192.rpz-ip.rpz.example", NoNetwork),
            ("33.1.2.0.192.rpz-ip.rpz.example", NoNetwork),
            ("129.1.zz.rpz-ip.rpz.example", NoNetwork),
            ("024.0.2.0.192.rpz-ip.rpz.example", NoNetwork),
            ("24.0.2.0.256.rpz-ip.rpz.example", NoNetwork),
            ("128.zz.1.zz.rpz-ip.rpz.example", NoNetwork),
            ("128.1.zz.2.3.4.5.6.7.8.rpz-ip.rpz.example", NoNetwork),
            ("128.fffff.zz.rpz-ip.rpz.example", NoNetwork),
            ("128.+1.zz.rpz-ip.rpz.example", NoNetwork),
            ("24.1.2.0.192.rpz-ip.rpz.example", HostBits),
            ("0.0.0.0.0.rpz-ip.rpz.example", Everything),
            ("0.zz.rpz-client-ip.rpz.example", Everything),
        ] {
            assert_eq!(parsed(owner), Err(error), "{owner}");
        }
    }

    #[test]
    fn the_owner_of_a_network_is_read_as_that_network() {
        for (network, owner) in [
            ("192.0.2.0/24", "24.0.2.0.192.rpz-client-ip"),
            ("192.0.2.1/32", "32.1.2.0.192.rpz-client-ip"),
            ("2001:db8::/48", "48.zz.db8.2001.rpz-client-ip"),
            ("::1/128", "128.1.zz.rpz-client-ip"),
            ("1::/128", "128.zz.1.rpz-client-ip"),
            ("1:0:0:2:0:0:0:3/128", "128.3.zz.2.0.0.1.rpz-client-ip"),
            ("1:0:0:2:0:0:3:4/128", "128.4.3.0.0.2.zz.1.rpz-client-ip"),
            ("1:0:2:3:4:5:6:7/128", "128.7.6.5.4.3.2.0.1.rpz-client-ip"),
        ] {
            let parsed = network.parse().expect("a network");
            for of in [AddressOf::Client, AddressOf::Answer] {
                let prefix = Prefix::new(of, parsed).expect("valid");
                let written = network_owner(&prefix);
                let mut unused = Name::ROOT;
                let read = ZoneTrigger::parse(&written, &Name::ROOT, &mut unused);
                assert_eq!(read, Ok(Some(ZoneTrigger::Network(prefix))), "{network}");
                if of == AddressOf::Client {
                    assert_eq!(written.to_string(), owner);
                }
            }
        }
    }
}
