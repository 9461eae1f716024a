//! Malformed packets, and clients without permission.

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;

use super::server;
use crate::support::client::{Port, data, query, rcode};
use crate::support::upstream::Upstream;

/// A query for a blocked name; its last eleven bytes are OPT.
fn blocked_query() -> Vec<u8> {
    query("blocked.example", RecordType::A)
        .to_vec()
        .expect("a message")
}

/// Packets that are too long, and whether each is a response.
fn oversized() -> impl Iterator<Item = (Vec<u8>, bool)> {
    [2000, 60_000].into_iter().flat_map(|len| {
        [false, true].map(|is_response| {
            let mut packet = blocked_query();
            packet[2] |= if is_response { 0x80 } else { 0 };
            packet.resize(len, 0);
            (packet, is_response)
        })
    })
}

#[test]
fn oversized_packets_get_a_header_and_responses_nothing() {
    let upstream = Upstream::plain();
    let server = server(&upstream, "", "");
    let client = Port::open(server.address);
    for (packet, is_response) in oversized() {
        client.0.send(&packet).expect("sent");
        if !is_response {
            let refused = client.bytes();
            assert_eq!(refused.len(), 12);
            assert_eq!((&refused[..2], refused[3] & 15), (&packet[..2], 1));
        }
        client.send(&query("blocked.example", RecordType::A));
        assert_eq!(data(&client.receive()), ["0.0.0.0"], "the next is served");
    }
    assert_eq!(server.count("malformed_oversized"), 4);
}

/// Malformed packets with their counter and the response code of their answer.
fn malformed() -> Vec<(Vec<u8>, &'static str, Option<ResponseCode>)> {
    let edit = |at: usize, value: u8| {
        let mut packet = blocked_query();
        packet[at] = value;
        packet
    };
    let version = blocked_query().len() - 5;
    let twice = {
        let mut packet = edit(11, 2);
        packet.extend_from_within(packet.len() - 11..);
        packet
    };
    let format = Some(ResponseCode::FormErr);
    vec![
        (Vec::new(), "malformed_short", None),
        (blocked_query()[..11].to_vec(), "malformed_short", None),
        (edit(2, 0x81), "malformed_response", None),
        (
            edit(2, 0x29),
            "malformed_opcode",
            Some(ResponseCode::NotImp),
        ),
        (edit(5, 0), "malformed_question_count", format),
        (edit(5, 2), "malformed_question_count", format),
        (edit(12, 0xC0), "malformed_question", format),
        (blocked_query()[..20].to_vec(), "malformed_question", format),
        (edit(7, 1), "malformed_records", format),
        (edit(11, 2), "malformed_records", format),
        (blocked_query()[..40].to_vec(), "malformed_records", format),
        (twice, "malformed_edns", format),
        (
            edit(version, 1),
            "malformed_edns_version",
            Some(ResponseCode::BADVERS),
        ),
    ]
}

#[test]
fn malformed_packets_are_counted_by_kind_and_the_next_query_is_served() {
    let upstream = Upstream::plain();
    let server = server(&upstream, "", "");
    let client = Port::open(server.address);
    for (packet, counter, expected) in malformed() {
        let before = server.count(counter);
        client.0.send(&packet).expect("sent");
        if let Some(expected) = expected {
            let bytes = client.bytes();
            assert!(bytes.len() <= packet.len().max(12), "{counter}");
            let answer = Message::from_vec(&bytes).expect("a message");
            // Code 16 has two names.
            let codes = [rcode(&answer), expected].map(u16::from);
            assert_eq!(codes[0], codes[1], "{counter}");
        }
        client.send(&query("blocked.example", RecordType::A));
        assert_eq!(data(&client.receive()), ["0.0.0.0"], "after {counter}");
        assert_eq!(server.count(counter), before + 1, "{counter}");
    }
    assert!(upstream.asked().is_empty());
}

#[test]
fn clients_without_permission_get_minimal_answers() {
    let upstream = Upstream::plain();
    let server = server(&upstream, "allow = [\"127.0.0.3/32\"]", "");
    let client = Port::open_at([127, 0, 0, 2], server.address);
    let mut plain = query("cached.example", RecordType::A);
    plain.edns = None;
    let mut after = |packet: &[u8]| {
        client.0.send(packet).expect("sent");
        client.send(&plain);
        // The packet got no answer: the answer that arrives first belongs to the plain query.
        let refused = client.bytes();
        assert_eq!(refused.len(), plain.to_vec().expect("a message").len());
        let refused = Message::from_vec(&refused).expect("a message");
        assert_eq!(
            (rcode(&refused), refused.metadata.id),
            (ResponseCode::Refused, plain.metadata.id)
        );
        plain.metadata.id ^= 1;
    };
    let all = malformed();
    let (last, bad) = all.split_last().expect("some");
    for (packet, ..) in bad {
        after(packet);
    }
    for (packet, _) in oversized() {
        after(&packet);
    }
    let counters = ["refused_client", "malformed_from_refused_client"];
    assert_eq!(counters.map(|name| server.count(name)), [16, 13]);
    // With EDNS the reason takes six bytes.
    client.0.send(&last.0).expect("sent");
    assert!(client.bytes().len() <= last.0.len() + 6);
    let welcome = Port::open_at([127, 0, 0, 3], server.address);
    welcome.send(&plain);
    assert_eq!(data(&welcome.receive()), ["192.0.2.1"]);
}
