//! SVCB records by which a resolver designates encrypted ones (RFC 9460, 9461, 9462).

use std::net::IpAddr;

use super::answer::Answer;
use super::name::Name;
use super::{read_u16, rtype};

/// The keys of parameters (RFC 9460, section 14.3.2; RFC 9461, section 5).
mod key {
    pub(super) const MANDATORY: u16 = 0;
    pub(super) const ALPN: u16 = 1;
    pub(super) const NO_DEFAULT_ALPN: u16 = 2;
    pub(super) const PORT: u16 = 3;
    pub(super) const IPV4HINT: u16 = 4;
    pub(super) const IPV6HINT: u16 = 6;
    pub(super) const DOHPATH: u16 = 7;
}

/// Keys that a record may declare as mandatory: all others are not supported.
const SUPPORTED: [u16; 6] = [
    key::ALPN,
    key::NO_DEFAULT_ALPN,
    key::PORT,
    key::IPV4HINT,
    key::IPV6HINT,
    key::DOHPATH,
];

/// A service that a record in ServiceMode describes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Records with a lower priority are preferred.
    pub priority: u16,
    /// The name of the server.
    pub target: Name,
    /// The names of its protocols in the TLS handshake (RFC 7301).
    pub protocols: Vec<Vec<u8>>,
    /// Its port; `None` means the usual one of the protocol.
    pub port: Option<u16>,
    /// The URI template of DNS over HTTPS, which is relative to the server.
    pub path: Option<String>,
    /// Its addresses, without a query for them.
    pub hints: Vec<IpAddr>,
}

/// A record is malformed. Then no record of its set may be used (RFC 9460, section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an SVCB record is malformed")]
pub struct MalformedService;

impl Answer {
    /// The services that the SVCB records of the answer describe, the preferred ones first. Left out are records in
    /// AliasMode, and those with a mandatory parameter that is not supported (RFC 9460, section 8).
    ///
    /// # Errors
    /// [`MalformedService`] if any record is malformed.
    pub fn services_described(&self) -> Result<Vec<Service>, MalformedService> {
        let is_service = |record: &super::answer::Record| {
            record.section == 0 && record.fields.rtype == rtype::SVCB
        };
        let records = self.records().filter(is_service);
        let services = records.map(|record| {
            let data = self.wire().get(record.fields.data..record.fields.end);
            Service::parse(data.unwrap_or_default())
        });
        let services: Vec<_> = services.collect::<Result<_, _>>()?;
        let mut services: Vec<_> = services.into_iter().flatten().collect();
        services.sort_by_key(|service| service.priority);
        Ok(services)
    }
}

impl Service {
    /// Reads the data of a record. `None` if it must be ignored.
    ///
    /// # Errors
    /// [`MalformedService`].
    pub fn parse(data: &[u8]) -> Result<Option<Self>, MalformedService> {
        let priority = read_u16(data, 0).ok_or(MalformedService)?;
        let (target, mut at) = Name::parse(data, 2).map_err(|_| MalformedService)?;
        // In AliasMode, parameters are ignored (RFC 9460, section 2.4.2).
        if priority == 0 {
            return Ok(None);
        }
        let mut service = Self {
            priority,
            target,
            protocols: Vec::new(),
            port: None,
            path: None,
            hints: Vec::new(),
        };
        let (mut keys, mut mandatory) = (Vec::new(), Vec::new());
        while at < data.len() {
            let (key, len) = read_u16(data, at)
                .zip(read_u16(data, at + 2))
                .ok_or(MalformedService)?;
            let end = at + 4 + usize::from(len);
            let value = data.get(at + 4..end).ok_or(MalformedService)?;
            at = end;
            // Each key is greater than the one before (section 2.2).
            if keys.last().is_some_and(|last| *last >= key) {
                return Err(MalformedService);
            }
            keys.push(key);
            if key == key::MANDATORY {
                mandatory = mandatory_keys(value)?;
            } else {
                service.take(key, value)?;
            }
        }
        let has = |key: &u16| keys.binary_search(key).is_ok();
        // Section 8 for mandatory keys, section 7.1.1 for the protocols.
        if !mandatory.iter().all(has) || has(&key::NO_DEFAULT_ALPN) && !has(&key::ALPN) {
            return Err(MalformedService);
        }
        let is_supported = mandatory.iter().all(|key| SUPPORTED.contains(key));
        Ok(is_supported.then_some(service))
    }

    fn take(&mut self, key: u16, value: &[u8]) -> Result<(), MalformedService> {
        match key {
            key::ALPN => self.protocols = protocols(value)?,
            key::NO_DEFAULT_ALPN if !value.is_empty() => return Err(MalformedService),
            key::PORT => {
                let port: [u8; 2] = value.try_into().map_err(|_| MalformedService)?;
                self.port = Some(u16::from_be_bytes(port));
            }
            key::IPV4HINT => self.hints.extend(addresses::<4>(value)?),
            key::IPV6HINT => self.hints.extend(addresses::<16>(value)?),
            key::DOHPATH => {
                let path = std::str::from_utf8(value).map_err(|_| MalformedService)?;
                self.path = Some(path.to_owned());
            }
            _ => {}
        }
        Ok(())
    }
}

/// The keys in the value of `mandatory`: ascending, and not `mandatory` itself.
fn mandatory_keys(value: &[u8]) -> Result<Vec<u16>, MalformedService> {
    let (pairs, []) = value.as_chunks::<2>() else {
        return Err(MalformedService);
    };
    let keys: Vec<_> = pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
    let is_valid =
        !keys.is_empty() && !keys.contains(&key::MANDATORY) && keys.is_sorted_by(|a, b| a < b);
    is_valid.then_some(keys).ok_or(MalformedService)
}

/// The names in the value of `alpn`: at least one, none of them empty.
fn protocols(mut value: &[u8]) -> Result<Vec<Vec<u8>>, MalformedService> {
    let mut protocols = Vec::new();
    while let Some((len, rest)) = value.split_first() {
        let protocol = rest.split_at_checked(usize::from(*len));
        let (protocol, rest) = protocol.ok_or(MalformedService)?;
        if protocol.is_empty() {
            return Err(MalformedService);
        }
        protocols.push(protocol.to_vec());
        value = rest;
    }
    match protocols.is_empty() {
        true => Err(MalformedService),
        false => Ok(protocols),
    }
}

/// The addresses in the value of a hint: at least one.
fn addresses<const SIZE: usize>(
    value: &[u8],
) -> Result<impl Iterator<Item = IpAddr>, MalformedService>
where
    IpAddr: From<[u8; SIZE]>,
{
    let (addresses, rest) = value.as_chunks::<SIZE>();
    if addresses.is_empty() || !rest.is_empty() {
        return Err(MalformedService);
    }
    Ok(addresses.iter().copied().map(IpAddr::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key and its value.
    type Param<'p> = (u16, &'p [u8]);

    /// The data of a record with the target `dns.example`.
    fn data(priority: u16, params: &[Param<'_>]) -> Vec<u8> {
        let mut data = priority.to_be_bytes().to_vec();
        data.extend_from_slice(b"\x03dns\x07example\0");
        for (key, value) in params {
            data.extend_from_slice(&key.to_be_bytes());
            data.extend_from_slice(&(value.len() as u16).to_be_bytes());
            data.extend_from_slice(value);
        }
        data
    }

    const V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

    #[test]
    fn a_record_is_read_with_its_parameters() {
        let data = data(
            7,
            &[
                (0, &[0, 1, 0, 7]),
                (1, b"\x02h2\x03dot"),
                (3, &[0x20, 0xfb]),
                (4, &[192, 0, 2, 1, 192, 0, 2, 2]),
                (5, b"ech"),
                (6, &V6),
                (7, b"/q{?dns}"),
                (65_000, b"anything"),
            ],
        );
        let expected = Service {
            priority: 7,
            target: Name::from_text("dns.example").expect("a name"),
            protocols: vec![b"h2".to_vec(), b"dot".to_vec()],
            port: Some(8443),
            path: Some("/q{?dns}".to_owned()),
            hints: [[192, 0, 2, 1], [192, 0, 2, 2]]
                .map(IpAddr::from)
                .into_iter()
                .chain([IpAddr::from(V6)])
                .collect(),
        };
        assert_eq!(Service::parse(&data), Ok(Some(expected)));
        // Cut, it is valid only without parameters, and with all mandatory ones.
        let is_valid = |len: &usize| matches!(Service::parse(&data[..*len]), Ok(Some(_)));
        let valid: Vec<_> = (0..data.len()).filter(is_valid).collect();
        assert_eq!(valid, [15, data.len() - 12]);
    }

    #[test]
    fn a_record_with_an_unknown_mandatory_parameter_or_in_alias_mode_is_ignored() {
        let dot: Param<'_> = (1, b"\x03dot");
        assert!(matches!(Service::parse(&data(1, &[dot])), Ok(Some(_))));
        for ignored in [
            data(0, &[]),
            data(0, &[dot]),
            data(1, &[(0, &[0, 5]), dot, (5, b"ech")]),
            data(1, &[(0, &[0, 1, 0xfd, 0xe8]), dot, (65_000, b"")]),
        ] {
            assert_eq!(Service::parse(&ignored), Ok(None));
        }
    }

    #[test]
    fn malformed_records_are_rejected() {
        let dot: Param<'_> = (1, b"\x03dot");
        let cases: [(&str, &[Param<'_>]); 16] = [
            ("a key twice", &[dot, dot]),
            ("keys that descend", &[(3, &[0, 1]), dot]),
            ("a mandatory key that is missing", &[(0, &[0, 3]), dot]),
            ("mandatory itself", &[(0, &[0, 0, 0, 1]), dot]),
            ("a mandatory key twice", &[(0, &[0, 1, 0, 1]), dot]),
            ("no mandatory key", &[(0, &[]), dot]),
            ("half a mandatory key", &[(0, &[0, 1, 0]), dot]),
            ("no protocol", &[(1, b"")]),
            ("an empty protocol", &[(1, b"\x03dot\0")]),
            ("a protocol that is cut", &[(1, b"\x04dot")]),
            ("no default protocol, and no other", &[(2, b"")]),
            ("a value where there is none", &[dot, (2, b"x")]),
            ("a long port", &[dot, (3, &[0, 0, 1])]),
            ("half an address", &[dot, (4, &[192, 0])]),
            ("no address", &[dot, (6, &[])]),
            ("no UTF-8", &[dot, (7, &[0xff])]),
        ];
        for (case, params) in cases {
            assert_eq!(
                Service::parse(&data(1, params)),
                Err(MalformedService),
                "{case}"
            );
        }
        let whole = data(1, &[dot]);
        assert_eq!(
            Service::parse(&whole[..whole.len() - 1]),
            Err(MalformedService)
        );
        assert_eq!(Service::parse(&[0, 1]), Err(MalformedService));
    }
}
