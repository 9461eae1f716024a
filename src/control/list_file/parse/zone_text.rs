//! The lines of a zone file: directives, and records in presentation form.

use std::str::FromStr;

use domain::base::iana::Rtype;
use domain::base::name::Name as WireName;
use domain::rdata::ZoneRecordData;
use domain::zonefile::inplace::{Entry, Zonefile};

use crate::control::list_file::parse::bad::{Bad, BadEntry};
use crate::names::typed::Mistyped;
use crate::policy::rpz::ZoneRecord;
use crate::wire::name::Name;
use crate::wire::{class, rtype};

/// The TTL of records if the file names none, in seconds.
const USUAL_TTL: u32 = 3600;

/// The words of a SOA record before its times: MNAME, RNAME and SERIAL.
const BEFORE_TIMES: usize = 3;

/// The state of a zone file between two lines.
pub(super) struct ZoneText {
    /// The name that ends relative names, if it is known.
    origin: Option<Origin>,
    /// The owner of the last record.
    owner: Name,
    has_owner: bool,
    /// `$TTL`.
    default_ttl: Option<u32>,
    /// The TTL of the last record that named one.
    last_ttl: Option<u32>,
    class: u16,
    /// Buffers for the target of a CNAME record, a name's text, and RDATA.
    target: Name,
    absolute: Vec<u8>,
    data: Vec<u8>,
}

struct Origin {
    name: Name,
    /// Its text after a dot.
    suffix: Vec<u8>,
}

/// A parsed line.
pub(super) enum Line<'t> {
    Directive,
    Record(ZoneRecord<'t>),
}

impl ZoneText {
    pub(super) fn new(origin: Option<&Name>) -> Self {
        Self {
            origin: origin.cloned().map(Origin::new),
            owner: Name::ROOT,
            has_owner: false,
            default_ttl: None,
            last_ttl: None,
            class: class::IN,
            target: Name::ROOT,
            absolute: Vec::new(),
            data: Vec::new(),
        }
    }

    /// Parses an entry. The record's line is 0.
    pub(super) fn parse(&mut self, entry: &[u8]) -> Result<Line<'_>, Bad> {
        if entry.starts_with(b"$") {
            return self.directive(entry).map(|()| Line::Directive);
        }
        let mut words = Words(entry);
        if !entry[0].is_ascii_whitespace() {
            self.owner(words.next().unwrap_or_default())?;
        } else if !self.has_owner {
            return Err(BadEntry::NoOwner.into());
        }
        let (ttl_secs, rtype) = self.ttl_and_type(&mut words)?;
        match rtype {
            rtype::CNAME => self.cname(words)?,
            _ => self.rdata(rtype, words.0)?,
        }
        Ok(Line::Record(ZoneRecord {
            owner: &self.owner,
            rtype,
            class: self.class,
            ttl_secs,
            data: match rtype {
                rtype::CNAME => self.target.wire(),
                _ => &self.data,
            },
            line: 0,
        }))
    }

    fn directive(&mut self, entry: &[u8]) -> Result<(), Bad> {
        let mut words = Words(entry);
        let directive = words.next().unwrap_or_default();
        if directive.eq_ignore_ascii_case(b"$INCLUDE") {
            return Err(BadEntry::Include.into());
        }
        let value = words.next().ok_or(BadEntry::Directive)?;
        if directive.eq_ignore_ascii_case(b"$TTL") {
            self.default_ttl = Some(ttl(value).ok_or(BadEntry::Ttl)?);
        } else if directive.eq_ignore_ascii_case(b"$ORIGIN") {
            let mut name = Name::ROOT;
            absolute(value, self.origin.as_ref(), &mut self.absolute, &mut name)?;
            self.origin = Some(Origin::new(name));
        } else {
            return Err(BadEntry::Directive.into());
        }
        Ok(())
    }

    fn owner(&mut self, word: &[u8]) -> Result<(), Bad> {
        let read = absolute(
            word,
            self.origin.as_ref(),
            &mut self.absolute,
            &mut self.owner,
        );
        // The following lines without an owner must not get the owner before this one.
        self.has_owner = read.is_ok();
        read
    }

    /// The TTL and the class may precede the type in any order.
    fn ttl_and_type(&mut self, words: &mut Words<'_>) -> Result<(u32, u16), Bad> {
        let mut stated = None;
        loop {
            let word = words.next().ok_or(BadEntry::NoType)?;
            if word[0].is_ascii_digit() {
                stated = Some(ttl(word).ok_or(BadEntry::Ttl)?);
            } else if word.eq_ignore_ascii_case(b"IN") {
                self.class = class::IN;
            } else if word.eq_ignore_ascii_case(b"CH") || word.eq_ignore_ascii_case(b"HS") {
                self.class = class::CH;
            } else {
                self.last_ttl = stated.or(self.last_ttl);
                let ttl_secs = stated.or(self.default_ttl).or(self.last_ttl);
                let ttl_secs = ttl_secs.unwrap_or(USUAL_TTL);
                if word.eq_ignore_ascii_case(b"CNAME") {
                    return Ok((ttl_secs, rtype::CNAME));
                }
                let word = str::from_utf8(word).map_err(|_| BadEntry::UnknownType)?;
                let rtype = Rtype::from_str(word).map_err(|_| BadEntry::UnknownType)?;
                return Ok((ttl_secs, rtype.to_int()));
            }
        }
    }

    fn cname(&mut self, mut words: Words<'_>) -> Result<(), Bad> {
        let word = words.next().ok_or(BadEntry::Unreadable)?;
        if words.next().is_some() {
            return Err(BadEntry::Unreadable.into());
        }
        absolute(
            word,
            self.origin.as_ref(),
            &mut self.absolute,
            &mut self.target,
        )
    }

    /// Reads RDATA of any type. The text of a record without owner, TTL and class is a zone file of its own.
    #[cold]
    fn rdata(&mut self, rtype: u16, text: &[u8]) -> Result<(), Bad> {
        let mut file = Zonefile::with_capacity(text.len() + 32);
        let origin = self
            .origin
            .as_ref()
            .map_or(&[0][..], |origin| origin.name.wire());
        let origin = WireName::from_octets(origin.to_vec().into());
        file.set_origin(origin.map_err(|_| BadEntry::Unreadable)?);
        file.extend_from_slice(format!(". 0 IN {} ", Rtype::from_int(rtype)).as_bytes());
        match rtype {
            // The form of RFC 3597, section 5, has no times.
            rtype::SOA if !text.trim_ascii_start().starts_with(br"\#") => {
                file.extend_from_slice(&in_seconds(text));
            }
            _ => file.extend_from_slice(text),
        }
        file.extend_from_slice(b"\n");
        let Ok(Some(Entry::Record(record))) = file.next_entry() else {
            return Err(BadEntry::Unreadable.into());
        };
        self.data.clear();
        compose(record.data(), &mut self.data).ok_or(BadEntry::Unreadable)?;
        Ok(())
    }
}

/// Appends RDATA without compressed names. `None` if it is longer than a record's data can be.
fn compose<O, N>(data: &ZoneRecordData<O, N>, out: &mut Vec<u8>) -> Option<()>
where
    O: AsRef<[u8]>,
    N: domain::base::ToName,
    ZoneRecordData<O, N>: domain::base::rdata::ComposeRecordData,
{
    use domain::base::rdata::ComposeRecordData;
    data.compose_rdata(out).ok()?;
    (out.len() <= usize::from(u16::MAX)).then_some(())
}

impl Origin {
    fn new(name: Name) -> Self {
        let suffix = match name.label_count() {
            0 => Vec::new(),
            _ => format!(".{name}").into_bytes(),
        };
        Self { name, suffix }
    }
}

/// Reads a name, which is relative to the origin if there is no dot at its end.
fn absolute(
    word: &[u8],
    origin: Option<&Origin>,
    buffer: &mut Vec<u8>,
    name: &mut Name,
) -> Result<(), Bad> {
    let bad = |error| Bad::Typed(Mistyped::Name(error));
    if is_absolute(word) {
        return name.parse_text(word).map_err(bad);
    }
    let origin = origin.ok_or(BadEntry::NoOrigin)?;
    if word == b"@" {
        name.clone_from(&origin.name);
        return Ok(());
    }
    buffer.clear();
    buffer.extend_from_slice(word);
    buffer.extend_from_slice(&origin.suffix);
    name.parse_text(buffer).map_err(bad)
}

/// Whether a name ends in a dot that is not escaped.
fn is_absolute(word: &[u8]) -> bool {
    let Some(rest) = word.strip_suffix(b".") else {
        return false;
    };
    let backslashes = rest.iter().rev().take_while(|byte| **byte == b'\\');
    backslashes.count().is_multiple_of(2)
}

/// A TTL in seconds, or with the units of BIND: `1h30m`. `None` if it is no such number.
fn ttl(word: &[u8]) -> Option<u32> {
    let (mut total, mut number, mut has_digits) = (0_u32, 0_u32, false);
    for &byte in word {
        if byte.is_ascii_digit() {
            number = number
                .checked_mul(10)?
                .checked_add(u32::from(byte - b'0'))?;
            has_digits = true;
            continue;
        }
        let unit = match byte.to_ascii_lowercase() {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return None,
        };
        if !has_digits {
            return None;
        }
        total = total.checked_add(number.checked_mul(unit)?)?;
        (number, has_digits) = (0, false);
    }
    total.checked_add(number)
}

/// The text of a SOA record with its times in seconds: BIND allows the units of TTLs.
fn in_seconds(text: &[u8]) -> Vec<u8> {
    let mut seconds = Vec::with_capacity(text.len());
    for (place, word) in Words(text).enumerate() {
        match ttl(word).filter(|_| place >= BEFORE_TIMES) {
            Some(number) => seconds.extend(number.to_string().into_bytes()),
            None => seconds.extend(word),
        }
        seconds.push(b' ');
    }
    seconds
}

/// The words of an entry. A word ends at a blank that is not escaped.
struct Words<'e>(&'e [u8]);

impl<'e> Iterator for Words<'e> {
    type Item = &'e [u8];

    fn next(&mut self) -> Option<&'e [u8]> {
        let rest = self.0.trim_ascii_start();
        let mut end = 0;
        while end < rest.len() && !rest[end].is_ascii_whitespace() {
            end += if rest[end] == b'\\' { 2 } else { 1 };
        }
        let (word, after) = rest.split_at(end.min(rest.len()));
        self.0 = after;
        (!word.is_empty()).then_some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &mut ZoneText, entry: &str) -> Result<String, Bad> {
        Ok(match text.parse(entry.as_bytes())? {
            Line::Directive => "directive".to_owned(),
            Line::Record(record) => {
                let ZoneRecord {
                    owner,
                    rtype,
                    ttl_secs,
                    class,
                    data,
                    ..
                } = record;
                format!("{owner} {ttl_secs} {class} {rtype} {data:?}")
            }
        })
    }

    fn all(entries: &[(&str, Result<&str, Bad>)]) {
        let origin = Name::from_text("z.test").expect("a name");
        let mut text = ZoneText::new(Some(&origin));
        for (entry, expected) in entries {
            let expected = expected.map(str::to_owned);
            assert_eq!(shown(&mut text, entry), expected, "{entry}");
        }
    }

    #[test]
    fn owner_ttl_and_class_may_be_left_out() {
        all(&[
            ("a A 192.0.2.1", Ok("a.z.test 3600 1 1 [192, 0, 2, 1]")),
            (" 60 IN A 192.0.2.2", Ok("a.z.test 60 1 1 [192, 0, 2, 2]")),
            ("b. in 1m A 192.0.2.3", Ok("b 60 1 1 [192, 0, 2, 3]")),
            ("@\tCNAME\t.", Ok("z.test 60 1 5 [0]")),
            ("$TTL 1h30m", Ok("directive")),
            (
                r"a\.b cname *",
                Ok(r"a\.b.z.test 5400 1 5 [1, 42, 1, 122, 4, 116, 101, 115, 116, 0]"),
            ),
            ("$ORIGIN y", Ok("directive")),
            (
                "a CNAME @",
                Ok("a.y.z.test 5400 1 5 [1, 121, 1, 122, 4, 116, 101, 115, 116, 0]"),
            ),
            ("$origin .", Ok("directive")),
            (
                "a TXT \"x y\" z",
                Ok("a 5400 1 16 [3, 120, 32, 121, 1, 122]"),
            ),
            (r"a TYPE1234 \# 2 01 ab", Ok("a 5400 1 1234 [1, 171]")),
            ("a CH A 192.0.2.1", Ok("a 5400 3 1 [192, 0, 2, 1]")),
        ]);
    }

    #[test]
    fn names_in_data_are_relative_to_the_origin() {
        all(&[(
            "@ MX 10 m",
            Ok("z.test 3600 1 15 [0, 10, 1, 109, 1, 122, 4, 116, 101, 115, 116, 0]"),
        )]);
    }

    #[test]
    fn a_bad_line_has_its_reason() {
        let label = "x".repeat(64);
        let long = format!("{label} A 192.0.2.1");
        let too_long = Bad::Typed(Mistyped::Name(crate::wire::name::NameError::LabelTooLong));
        all(&[
            (" A 192.0.2.1", Err(BadEntry::NoOwner.into())),
            ("a", Err(BadEntry::NoType.into())),
            ("a 60", Err(BadEntry::NoType.into())),
            ("a 60x A 192.0.2.1", Err(BadEntry::Ttl.into())),
            ("a 99999999999 A 192.0.2.1", Err(BadEntry::Ttl.into())),
            ("a AA 192.0.2.1", Err(BadEntry::UnknownType.into())),
            ("a A 192.0.2.256", Err(BadEntry::Unreadable.into())),
            ("a A 192.0.2.1 192.0.2.2", Err(BadEntry::Unreadable.into())),
            ("a CNAME", Err(BadEntry::Unreadable.into())),
            ("a CNAME b c", Err(BadEntry::Unreadable.into())),
            ("$INCLUDE /etc/passwd", Err(BadEntry::Include.into())),
            (
                "$GENERATE 1-9 a A 192.0.2.$",
                Err(BadEntry::Directive.into()),
            ),
            ("$TTL", Err(BadEntry::Directive.into())),
            (&long, Err(too_long)),
            (" A 192.0.2.1", Err(BadEntry::NoOwner.into())),
        ]);
        let mut text = ZoneText::new(None);
        let found = shown(&mut text, "a A 192.0.2.1");
        assert_eq!(found, Err(BadEntry::NoOrigin.into()));
    }
}
