//! The records of a section `[[local]]`, from the texts of its keys.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::findings::{Findings, quote};
use super::reader::{At, WordOrStrings};
use crate::names::typed;
use crate::policy::record::LocalRecord;
use crate::wire::name::Name;
use crate::wire::rtype;

/// The keys of records, with their types.
pub(super) const RECORDS: &[(&str, u16)] = &[
    ("a", rtype::A),
    ("aaaa", rtype::AAAA),
    ("cname", rtype::CNAME),
    ("ptr", rtype::PTR),
    ("txt", rtype::TXT),
    ("mx", rtype::MX),
    ("srv", rtype::SRV),
];

/// The longest text of a TXT record in bytes. A text of more than 255 bytes becomes several strings.
const TEXT_MAX: usize = 4096;
/// The longest string of a TXT record in bytes (RFC 1035, section 3.3).
const STRING_MAX: usize = 255;

/// The value of such a key.
pub(super) type Values = At<WordOrStrings>;

/// The records of one key. Invalid ones are left out.
pub(super) fn records(
    rtype: u16,
    given: Values,
    ttl_secs: u32,
    findings: &mut Findings,
) -> Vec<LocalRecord> {
    let At { key, line, value } = given;
    let values = match value {
        WordOrStrings::Word(value) => vec![At { key, line, value }],
        WordOrStrings::Strings(values) => values,
    };
    if values.is_empty() {
        let message =
            format!("{key} is empty, must have at least one record: add one or leave {key} out");
        findings.report(line, message);
    }
    let mut records: Vec<LocalRecord> = Vec::new();
    for At { line, value, .. } in values {
        let refusal = match data(rtype, &value) {
            Ok(data) if records.iter().any(|known| *known.data == *data) => {
                "which is a duplicate: remove it".to_owned()
            }
            Ok(data) => {
                records.push(LocalRecord {
                    rtype,
                    ttl_secs: Some(ttl_secs),
                    data: data.into(),
                });
                continue;
            }
            Err(refusal) => refusal,
        };
        findings.report(line, format!("{key} holds {}, {refusal}", quote(&value)));
    }
    records
}

/// The RDATA of a text.
///
/// # Errors
/// Why the type has no such record.
pub(super) fn data(rtype: u16, text: &str) -> Result<Vec<u8>, String> {
    match rtype {
        rtype::A => match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => Ok(address.octets().to_vec()),
            Ok(IpAddr::V6(_)) => Err("which is an IPv6 address: write it in aaaa".to_owned()),
            Err(_) => Err(format!(
                "which is no IPv4 address: write it as in \"{}\"",
                Ipv4Addr::new(192, 0, 2, 1)
            )),
        },
        rtype::AAAA => match text.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => Ok(address.octets().to_vec()),
            Ok(IpAddr::V4(_)) => Err("which is an IPv4 address: write it in a".to_owned()),
            Err(_) => Err(format!(
                "which is no IPv6 address: write it as in \"{}\"",
                Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)
            )),
        },
        rtype::TXT => strings(text),
        rtype::MX => numbered::<1>(text, "10 mail.example."),
        rtype::SRV => numbered::<3>(text, "0 5 5060 sip.example."),
        _ => host(text).map(|name| name.wire().to_vec()),
    }
}

/// A text as the strings of a TXT record.
fn strings(text: &str) -> Result<Vec<u8>, String> {
    let len = text.len();
    if !(1..=TEXT_MAX).contains(&len) {
        return Err(format!("which has {len} bytes, must have 1 to {TEXT_MAX}"));
    }
    let strings = text.as_bytes().chunks(STRING_MAX);
    Ok(strings
        .flat_map(|string| std::iter::once(string.len() as u8).chain(string.iter().copied()))
        .collect())
}

/// `N` numbers of 16 bits, and a name.
fn numbered<const N: usize>(text: &str, example: &str) -> Result<Vec<u8>, String> {
    let words: Vec<_> = text.split_whitespace().collect();
    let form = || format!("must be written as in \"{example}\"");
    let Some((target, numbers)) = words.split_last().filter(|(_, numbers)| numbers.len() == N)
    else {
        return Err(form());
    };
    let mut data = Vec::new();
    for number in numbers {
        let number: u16 = number
            .parse()
            .map_err(|_| format!("{}, with numbers of 0 to 65535", form()))?;
        data.extend(number.to_be_bytes());
    }
    // The root means that there is no such service (RFC 2782; RFC 7505).
    let target = match *target {
        "." => Name::ROOT,
        target => host(target)?,
    };
    data.extend(target.wire());
    Ok(data)
}

/// The name of a host or an alias.
fn host(text: &str) -> Result<Name, String> {
    match typed::one(text) {
        Ok((name, None)) if name.label_count() > 0 => Ok(name),
        Ok(_) => {
            Err("which is not the name of one host: write it as in \"host.example\"".to_owned())
        }
        Err(why) => Err(format!(
            "which has {why}: write a name, as in \"host.example\""
        )),
    }
}
