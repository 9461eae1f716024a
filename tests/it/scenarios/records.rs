//! Resource records in the notation of zone files.

use std::str::FromStr;

use hickory_proto::rr::rdata::NULL;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::txt::Parser;

use super::lines::without_comment;

/// The TTL of records that have none.
const TTL: u32 = 3600;

/// The records of a zone file in their order, with `origin` until the file sets another.
pub(super) fn zone(text: &str, origin: &Name) -> Result<Vec<Record>, String> {
    let mut origin = origin.clone();
    let mut owner = String::new();
    let mut records = Vec::new();
    for line in entries(text) {
        let mut words = line.split_whitespace();
        match (words.next(), line.starts_with(char::is_whitespace)) {
            (Some("$ORIGIN"), _) => origin = name(words.next().unwrap_or_default())?,
            (Some("$TTL"), _) => {}
            (Some(_), true) => records.push(record(&format!("{owner} {line}"), &origin)?),
            (Some(first), false) => {
                owner = first.to_owned();
                records.push(record(&line, &origin)?);
            }
            (None, _) => {}
        }
    }
    Ok(records)
}

/// One record. Names that do not end in a dot are below `origin`.
pub(super) fn record(text: &str, origin: &Name) -> Result<Record, String> {
    if let Some(signature) = signature(text) {
        return signature;
    }
    // hickory's parser sorts records, so it gets one at a time: the order of a transfer has a meaning.
    let parser = Parser::new(format!("$TTL {TTL}\n{text}\n"), None, Some(origin.clone()));
    let (_, sets) = parser.parse().map_err(|error| error.to_string())?;
    let mut records = sets
        .values()
        .flat_map(|set| set.records_without_rrsigs().cloned());
    let record = records.next();
    record.ok_or_else(|| format!("not a record: {text}"))
}

/// A signature, written as `OWNER RRSIG TYPE`: only the covered type is known of it. `None` if this is another record.
fn signature(text: &str) -> Option<Result<Record, String>> {
    let [owner, "RRSIG", covered] = text.split_whitespace().collect::<Vec<_>>()[..] else {
        return None;
    };
    let record = || {
        let covered = RecordType::from_str(covered).map_err(|error| error.to_string())?;
        let data = [&u16::from(covered).to_be_bytes()[..], &[0; 22]].concat();
        let data = RData::Unknown {
            code: RecordType::RRSIG,
            rdata: NULL::with(data),
        };
        Ok(Record::from_rdata(name(owner)?, TTL, data))
    };
    Some(record())
}

/// Whether a record is the signature of records of this type.
pub(super) fn signs(record: &Record, covered: RecordType) -> bool {
    let RData::Unknown {
        code: RecordType::RRSIG,
        rdata,
    } = &record.data
    else {
        return false;
    };
    rdata
        .anything
        .starts_with(&u16::from(covered).to_be_bytes())
}

/// A name that ends in a dot, or would end in one.
pub(super) fn name(text: &str) -> Result<Name, String> {
    let mut name = Name::from_ascii(text).map_err(|error| format!("{error}: {text}"))?;
    name.set_fqdn(true);
    Ok(name)
}

/// Lines without comments; lines between parentheses are one.
fn entries(text: &str) -> Vec<String> {
    let mut entries: Vec<String> = Vec::new();
    let mut open = 0;
    for line in text.lines() {
        let line = without_comment(line, &[';']);
        match (open, entries.last_mut()) {
            (1.., Some(entry)) => {
                entry.push(' ');
                entry.push_str(line);
            }
            _ => entries.push(line.to_owned()),
        }
        open += parentheses(line);
    }
    entries
}

/// How many parentheses a line opens, less those that it closes.
fn parentheses(line: &str) -> i32 {
    let mut is_quoted = false;
    let mut open = 0;
    for letter in line.chars() {
        match letter {
            '"' => is_quoted = !is_quoted,
            '(' if !is_quoted => open += 1,
            ')' if !is_quoted => open -= 1,
            _ => {}
        }
    }
    open
}

#[test]
fn a_zone_file_is_read_in_its_order() {
    let text = "; a comment\n\
                $TTL 60\n\
                @ 300 IN SOA ns host ( 1 ; serial\n\
                \t2 3\n\
                \t4 5 )\n\
                \tNS ns.example. ; of the apex\n\
                $ORIGIN sub.rpz.example.\n\
                b TXT \"a;b\"\n\
                a.b. IN CNAME *.\n\
                \t20 IN CNAME c\n";
    let origin = name("rpz.example").expect("a name");
    let records = zone(text, &origin).expect("a zone");
    let lines: Vec<String> = records.iter().map(Record::to_string).collect();
    assert_eq!(
        lines,
        [
            "rpz.example. 300 IN SOA ns.rpz.example. host.rpz.example. 1 2 3 4 5",
            "rpz.example. 3600 IN NS ns.example.",
            "b.sub.rpz.example. 3600 IN TXT a;b",
            "a.b. 3600 IN CNAME *.",
            "a.b. 20 IN CNAME c.sub.rpz.example.",
        ]
    );
}
