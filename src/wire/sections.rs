//! Changes the records of a message in place.

use super::edns::{self, OPTION_CLIENT_SUBNET, RecordFields};
use super::{HEADER, read_u16, rtype, skip_name};

/// The bytes of a Client Subnet option before its address (RFC 7871, section 6).
const SUBNET_HEAD: usize = 4;

/// Calls `change` with the message and each of its records. Returns the offset after the last record, or that from which on
/// the message can't be read.
fn each_record(message: &mut [u8], mut change: impl FnMut(&mut [u8], RecordFields)) -> usize {
    let count = |message: &[u8], at| read_u16(message, at).unwrap_or_default();
    let mut at = HEADER.min(message.len());
    for _ in 0..count(message, 4) {
        match skip_name(message, at) {
            Some(end) if end + 4 <= message.len() => at = end + 4,
            _ => return at,
        }
    }
    let records: u32 = [6, 8, 10]
        .map(|at| u32::from(count(message, at)))
        .iter()
        .sum();
    for _ in 0..records {
        let fields = skip_name(message, at).and_then(|end| edns::fields(message, end));
        let Some(fields) = fields else {
            return at;
        };
        change(message, fields);
        at = fields.end;
    }
    at
}

/// Subtracts seconds from the TTLs. A TTL becomes 0 if it is smaller, or not valid (RFC 2181, section 8).
pub(crate) fn lower_ttls(message: &mut [u8], seconds: u32) {
    each_record(message, |message, fields| {
        // In an OPT record, other data take the place of the TTL.
        if fields.rtype != rtype::OPT {
            let ttl = match i32::try_from(fields.ttl) {
                Ok(_) => fields.ttl.saturating_sub(seconds),
                Err(_) => 0,
            };
            message[fields.ttl_at..fields.data - 2].copy_from_slice(&ttl.to_be_bytes());
        }
    });
}

/// Replaces the addresses of Client Subnet options by zeros, and all bytes that can't be read, in which there might be one.
pub(crate) fn blank_subnets(message: &mut [u8]) {
    let end = each_record(message, |message, fields| {
        if fields.rtype == rtype::OPT {
            blank_in_options(&mut message[fields.data..fields.end]);
        }
    });
    message[end..].fill(0);
}

fn blank_in_options(options: &mut [u8]) {
    let mut at = 0;
    while at < options.len() {
        let (code, size) = (read_u16(options, at), read_u16(options, at + 2));
        let end = size.map(|size| at + 4 + usize::from(size));
        let Some(end) = end.filter(|end| *end <= options.len()) else {
            return options[at..].fill(0);
        };
        if code == Some(OPTION_CLIENT_SUBNET) {
            let address = end.min(at + 4 + SUBNET_HEAD);
            options[address..end].fill(0);
        }
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A query for a.example with an OPT record with these options.
    fn query(options: &[u8]) -> Vec<u8> {
        let mut query =
            b"\xAB\xCD\x01\0\0\x01\0\0\0\0\0\x01\x01a\x07example\0\0\x01\0\x01".to_vec();
        query.extend(b"\0\0\x29\x04\xD0\x80\0\0\0");
        query.extend((options.len() as u16).to_be_bytes());
        query.extend(options);
        query
    }

    /// The message with its addresses replaced.
    fn blanked(mut message: Vec<u8>) -> Vec<u8> {
        blank_subnets(&mut message);
        message
    }

    #[test]
    fn addresses_of_client_subnets_become_zeros_and_nothing_else_changes() {
        let v4 = b"\0\x08\0\x08\0\x01\x20\0\xC0\0\x02\x01";
        let v6 = b"\0\x08\0\x0B\0\x02\x38\0\x20\x01\x0D\xB8\x01\x02\x03";
        let cookie = b"\0\x0A\0\x08\xC0\0\x02\x01\xC0\0\x02\x01";
        let given = query(&[&cookie[..], v4, v6, cookie].concat());
        let (no_v4, no_v6) = (
            b"\0\x08\0\x08\0\x01\x20\0\0\0\0\0",
            b"\0\x08\0\x0B\0\x02\x38\0\0\0\0\0\0\0\0",
        );
        let expected = query(&[&cookie[..], no_v4, no_v6, cookie].concat());
        assert_eq!(blanked(given), expected);
        for options in [
            &b""[..],
            cookie,
            b"\0\x08\0\x04\0\x01\0\0",
            b"\0\x08\0\x02\0\x01",
        ] {
            assert_eq!(blanked(query(options)), query(options), "{options:?}");
        }
    }

    #[test]
    fn no_address_is_left_in_a_message_that_is_cut_or_longer_than_its_records() {
        let address = b"\xC0\x55\x66\x77";
        let options = [&b"\0\x08\0\x08\0\x01\x20\0"[..], address].concat();
        let has_address = |message: &[u8]| message.windows(4).any(|bytes| bytes == address);
        let whole = query(&options);
        assert!(has_address(&whole));
        let mut messages: Vec<_> = (0..=whole.len()).map(|end| whole[..end].to_vec()).collect();
        for (at, value) in [(4, 0), (4, 9), (5, 0), (5, 2), (11, 0), (11, 2), (12, 0x80)] {
            let mut message = whole.clone();
            message[at] = value;
            messages.push(message);
        }
        // The option is longer, and shorter, than its record.
        for size in [7, 9, 0xFF] {
            let mut message = whole.clone();
            let at = whole.len() - 9;
            assert_eq!(message[at], 8);
            message[at] = size;
            messages.push(message);
        }
        messages.push([&whole[..], address].concat());
        messages.push(Vec::new());
        for message in messages {
            let length = message.len();
            let blank = blanked(message);
            assert!(!has_address(&blank), "{blank:?}");
            assert_eq!(blank.len(), length);
        }
    }

    #[test]
    fn ttls_become_lower_down_to_zero_except_in_opt() {
        let record =
            |ttl: u32| [&b"\xC0\x0C\0\x01\0\x01"[..], &ttl.to_be_bytes(), b"\0\x01x"].concat();
        let message = |ttls: [u32; 4]| {
            let mut message = b"\0\0\x81\x80\0\x01\0\x02\0\x01\0\x02\x01a\0\0\x01\0\x01".to_vec();
            for ttl in ttls {
                message.extend(record(ttl));
            }
            message.extend(b"\0\0\x29\x04\xD0\0\0\x80\0\0\0");
            message
        };
        let lowered = |ttls, seconds| {
            let mut message = message(ttls);
            lower_ttls(&mut message, seconds);
            message
        };
        let ttls = [300, 60, 59, 1 << 31];
        assert_eq!(lowered(ttls, 60), message([240, 0, 0, 0]));
        assert_eq!(lowered(ttls, u32::MAX), message([0; 4]));
        let mut cut = message(ttls);
        cut.truncate(30);
        lower_ttls(&mut cut, 60);
        assert_eq!(cut.len(), 30);
    }
}
