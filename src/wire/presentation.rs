//! Types, records and messages in presentation form (RFC 1035, section 5.1): printable ASCII, without newlines.

use std::fmt::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use data_encoding::BASE64;
use domain::base::iana::{Class, Rtype};
use domain::base::name::{ParsedName, ToName};
use domain::base::rdata::ParseAnyRecordData;
use domain::base::zonefile_fmt::{DisplayKind, ZonefileFmt};
use domain::dep::octseq::Parser;
use domain::rdata::AllRecordData;

use super::answer::{Record, records};
use super::edns::{self, Edns, OPTION_EDE, RecordFields};
use super::name::write_text;
use super::{HEADER, read_u16, rtype, skip_name};

/// The mnemonic of a record type, or `TYPE` with its number (RFC 3597, section 5).
#[derive(Clone, Copy, Debug)]
pub struct TypeText(pub u16);

impl fmt::Display for TypeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Rtype::from_int(self.0))
    }
}

/// The number of a record type: a mnemonic, or `TYPE` with the number. `None` if there is no such type.
pub fn type_number(text: &str) -> Option<u16> {
    Some(Rtype::from_str(text).ok()?.to_int())
}

/// The data of a record, to be displayed. Data that does not have the form of its type, and that of types without a known
/// form, is displayed as in RFC 3597.
#[derive(Clone, Copy, Debug)]
pub struct Rdata<'r> {
    rtype: u16,
    /// The bytes up to the end of the data, which may have the names that those in the data point to.
    bytes: &'r [u8],
    /// Where the data begins.
    start: usize,
}

impl<'r> Rdata<'r> {
    /// Data without compressed names.
    pub fn new(rtype: u16, data: &'r [u8]) -> Self {
        Self {
            rtype,
            bytes: data,
            start: 0,
        }
    }

    fn in_message(message: &'r [u8], fields: &RecordFields) -> Self {
        Self {
            rtype: fields.rtype,
            bytes: &message[..fields.end],
            start: fields.data,
        }
    }

    /// The form of the type, if the data has it.
    fn known(&self) -> Option<String> {
        let mut parser = Parser::from_ref(self.bytes);
        parser.advance(self.start).ok()?;
        if matches!(self.rtype, rtype::SVCB | rtype::HTTPS) {
            return service(&mut parser);
        }
        let kind = Rtype::from_int(self.rtype);
        let parsed: AllRecordData<&[u8], ParsedName<&[u8]>> =
            AllRecordData::parse_any_rdata(kind, &mut parser).ok()?;
        if parser.remaining() > 0 || matches!(parsed, AllRecordData::Unknown(_)) {
            return None;
        }
        let mut text = String::new();
        write!(text, "{}", parsed.display_zonefile(DisplayKind::Simple)).ok()?;
        // The library does not escape the characters of all types.
        let is_printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        is_printable.then_some(text)
    }
}

impl fmt::Display for Rdata<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data = &self.bytes[self.start..];
        // Almost all records of lists are of these types.
        match self.rtype {
            rtype::CNAME if self.start == 0 => {
                write_text(data, f)?;
                return f.write_str(if data.len() == 1 { "" } else { "." });
            }
            rtype::A if data.len() == 4 => {
                return Ipv4Addr::from([data[0], data[1], data[2], data[3]]).fmt(f);
            }
            rtype::AAAA => {
                if let Ok(bytes) = <[u8; 16]>::try_from(data) {
                    return Ipv6Addr::from(bytes).fmt(f);
                }
            }
            _ => {}
        }
        if let Some(text) = self.known() {
            return f.write_str(&text);
        }
        write!(f, "\\# {}", data.len())?;
        data.iter().try_for_each(|byte| write!(f, " {byte:02x}"))
    }
}

/// The data of a SVCB or HTTPS record (RFC 9460, section 2.1).
fn service(parser: &mut Parser<'_, [u8]>) -> Option<String> {
    let priority = parser.parse_u16_be().ok()?;
    let target = ParsedName::parse(parser).ok()?;
    let mut text = format!("{priority} {}", target.fmt_with_dot());
    let parameters = parser.peek_all();
    // Parameters have the form of EDNS options.
    edns::options(parameters, |key, value| {
        text += &parameter(key, value).unwrap_or_else(|| format!(" key{key}={}", quoted(value)));
    })
    .then_some(text)
}

/// A parameter behind a space. `None` if its key is not known, or its value needs the form of unknown keys.
fn parameter(key: u16, value: &[u8]) -> Option<String> {
    let listed = |name: &str, size: usize, show: &dyn Fn(&[u8]) -> Option<String>| {
        let is_list = !value.is_empty() && value.len().is_multiple_of(size);
        let items: Option<Vec<_>> = value.chunks_exact(size).map(show).collect();
        items
            .filter(|_| is_list)
            .map(|items| format!(" {name}={}", items.join(",")))
    };
    match key {
        0 => listed("mandatory", 2, &|key| {
            let number = read_u16(key, 0)?;
            let names = [
                "mandatory",
                "alpn",
                "no-default-alpn",
                "port",
                "ipv4hint",
                "ech",
            ];
            let names = names.iter().chain(&["ipv6hint", "dohpath"]);
            let known = names.copied().nth(number.into()).map(str::to_owned);
            Some(known.unwrap_or_else(|| format!("key{number}")))
        }),
        1 => {
            let (mut ids, mut rest) = (Vec::new(), value);
            while let [size, tail @ ..] = rest {
                let (id, tail) = tail.split_at_checked((*size).into())?;
                let is_plain = |b: &u8| b.is_ascii_alphanumeric() || b"-./_:".contains(b);
                let id = str::from_utf8(id).ok()?;
                ids.push(Some(id).filter(|id| !id.is_empty() && id.bytes().all(|b| is_plain(&b)))?);
                rest = tail;
            }
            (!ids.is_empty()).then(|| format!(" alpn={}", ids.join(",")))
        }
        2 => value.is_empty().then(|| " no-default-alpn".to_owned()),
        3 => Some(format!(
            " port={}",
            read_u16(value, 0).filter(|_| value.len() == 2)?
        )),
        4 => listed("ipv4hint", 4, &|ip| {
            Some(Ipv4Addr::from(<[u8; 4]>::try_from(ip).ok()?).to_string())
        }),
        5 => (!value.is_empty()).then(|| format!(" ech={}", BASE64.encode(value))),
        6 => listed("ipv6hint", 16, &|ip| {
            Some(Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?).to_string())
        }),
        7 => Some(format!(" dohpath={}", quoted(value))),
        _ => None,
    }
}

/// A character string in quotation marks (RFC 1035, section 5.1).
fn quoted(bytes: &[u8]) -> String {
    let mut text = "\"".to_owned();
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(byte)]),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => text += &format!("\\{byte:03}"),
        }
    }
    text + "\""
}

/// The parts of a message as text.
#[derive(Debug)]
pub struct MessageText {
    /// The flags of the header.
    pub flags: u16,
    /// The response code with its upper bits.
    pub rcode: u16,
    /// The records of the answer, authority and additional sections, without OPT.
    pub sections: [Vec<String>; 3],
    /// The codes and texts of the Extended DNS Errors.
    pub errors: Vec<(u16, String)>,
}

impl MessageText {
    /// Reads a message. `None` if it is malformed outside of the data of records.
    pub fn read(message: &[u8]) -> Option<Self> {
        let flags = read_u16(message, 2)?;
        let mut at = HEADER;
        for _ in 0..read_u16(message, 4)? {
            at = skip_name(message, at)? + 4;
        }
        let counts = [6, 8, 10].map(|at| read_u16(message, at).unwrap_or_default());
        let (mut sections, mut errors) = ([const { Vec::new() }; 3], Vec::new());
        let (mut edns, mut found) = (None, 0_u32);
        for record in records(message, at, counts) {
            found += 1;
            let RecordFields {
                class,
                ttl,
                data,
                end,
                ..
            } = record.fields;
            if record.fields.rtype != rtype::OPT {
                sections[record.section].push(text(message, &record)?);
                continue;
            }
            edns = Some(Edns::from_fields(class, ttl));
            edns::options(&message[data..end], |option, data| {
                if let (OPTION_EDE, Some(code)) = (option, read_u16(data, 0)) {
                    errors.push((code, String::from_utf8_lossy(&data[2..]).into_owned()));
                }
            });
        }
        (found == counts.into_iter().map(u32::from).sum::<u32>()).then_some(Self {
            flags,
            rcode: edns::full_rcode(flags, edns),
            sections,
            errors,
        })
    }
}

fn text(message: &[u8], record: &Record) -> Option<String> {
    let mut parser = Parser::from_ref(message);
    parser.advance(record.owner).ok()?;
    let owner = ParsedName::parse(&mut parser).ok()?;
    let (owner, fields) = (owner.fmt_with_dot(), &record.fields);
    let (ttl, class) = (fields.ttl, Class::from_int(fields.class));
    let (kind, data) = (TypeText(fields.rtype), Rdata::in_message(message, fields));
    Some(format!("{owner} {ttl} {class} {kind} {data}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(rtype: u16, data: &[u8]) -> String {
        Rdata::new(rtype, data).to_string()
    }

    #[test]
    fn rdata_is_written_in_the_form_of_zone_files() {
        assert_eq!(shown(rtype::CNAME, &[0]), ".");
        assert_eq!(shown(rtype::CNAME, b"\x01*\0"), "*.");
        assert_eq!(shown(rtype::CNAME, b"\x0crpz-passthru\0"), "rpz-passthru.");
        assert_eq!(shown(rtype::A, &[192, 0, 2, 1]), "192.0.2.1");
        assert_eq!(shown(rtype::AAAA, &[0; 16]), "::");
        assert_eq!(shown(rtype::TXT, b"\x05a \"b;"), "\"a \\\"b;\"");
        assert_eq!(shown(15, b"\0\x0a\x04mail\x04test\0"), "10 mail.test.");
        assert_eq!(shown(65_280, b"\x01\xff"), "\\# 2 01 ff");
        assert_eq!(shown(rtype::A, b"\x01"), "\\# 1 01", "malformed");
        assert_eq!(shown(rtype::HINFO, b"\x09cpu"), "\\# 4 09 63 70 75", "cut");
        assert_eq!(shown(rtype::HINFO, b""), "\\# 0");
        assert_eq!(shown(15, b"\0\x0a\0\x07"), "\\# 4 00 0a 00 07", "too long");
    }

    #[test]
    fn parameters_of_services_are_written_as_in_rfc_9460() {
        let data =
            b"\0\x01\x04host\x04test\0\0\0\0\x02\0\x03\0\x01\0\x06\x02h2\x02h3\0\x03\0\x02\x01\xbb\
            \0\x04\0\x04\xc0\0\x02\x01\0\x07\0\x05/q\"\\{\xff\x00\0\x01\n";
        let text = "1 host.test. mandatory=port alpn=h2,h3 port=443 ipv4hint=192.0.2.1 dohpath=\"/q\\\"\\\\{\" \
                    key65280=\"\\010\"";
        assert_eq!(shown(rtype::HTTPS, data), text);
        let forged = b"\0\x01\0\0\x01\0\x03\x02a\n";
        assert_eq!(shown(rtype::SVCB, forged), "1 . key1=\"\\002a\\010\"");
        let empty_list = b"\0\x01\0\0\0\0\0";
        assert_eq!(shown(rtype::SVCB, empty_list), "1 . key0=\"\"");
        let part_of_address = b"\0\x01\0\0\x04\0\x05abcde";
        assert_eq!(shown(rtype::SVCB, part_of_address), "1 . key4=\"abcde\"");
        assert_eq!(
            shown(rtype::SVCB, b"\0\x01\0\0\x01\0\x09"),
            "\\# 7 00 01 00 00 01 00 09"
        );
    }

    #[test]
    fn any_data_of_any_type_is_one_printable_line() {
        let is_printable = |text: &str| text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        let mut state = 1_u64;
        for round in 0..40_000_u32 {
            let mut data = [0_u8; 24];
            for byte in &mut data {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                // Small numbers make lengths and labels that fit.
                *byte = (state >> 56) as u8 >> (round % 6);
            }
            let (rtype, length) = ((round % 270) as u16, (state >> 40) as usize % 24);
            if rtype != rtype::CNAME {
                let text = shown(rtype, &data[..length]);
                assert!(is_printable(&text), "{rtype} {data:?}: {text}");
            }
        }
        let forged = b"\x0a\"\n  rule x";
        assert_eq!(shown(rtype::TXT, forged), "\"\\\"\\010  rule x\"");
        assert_eq!(shown(257, b"\0\x05issuea\n.b"), "0 issue \"a\\010.b\"");
    }

    #[test]
    fn types_have_their_mnemonics_or_numbers() {
        let types = [(1, "A"), (29, "LOC"), (256, "URI"), (65_280, "TYPE65280")];
        for (number, text) in types {
            assert_eq!(TypeText(number).to_string(), text);
            assert_eq!(type_number(text), Some(number));
        }
        assert_eq!(type_number("TYPE65536"), None);
        assert_eq!(type_number("NONE-SUCH"), None);
    }
}
