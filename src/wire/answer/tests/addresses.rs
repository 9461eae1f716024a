//! Tests: the addresses that an answer leads to.

use super::*;

fn read_as(rtype: u16, records: &[Vec<u8>]) -> Answer {
    let mut wire = message(0x8180, [records, &[], &[]]);
    let type_at = HEADER + name("a.tv").wire().len();
    wire[type_at..type_at + 2].copy_from_slice(&rtype.to_be_bytes());
    Answer::parse(&wire, &name("a.tv"), rtype, 1, INTAKE).expect("an answer")
}

fn addresses(answer: &Answer) -> Vec<String> {
    answer
        .addresses()
        .map(|address| address.to_string())
        .collect()
}

fn hints(answer: &Answer) -> Vec<(String, usize)> {
    let hints = answer.hints();
    hints
        .map(|(address, record)| (address.to_string(), record))
        .collect()
}

#[test]
fn the_addresses_of_an_answer_are_those_behind_its_chain() {
    let cname = record(b"\xC0\x0C", rtype::CNAME, 300, b"\x01b\xC0\x0E");
    let owner = b"\x01b\x02tv\x00";
    let signature = record(owner, rtype::RRSIG, 300, &signature(rtype::A));
    let a = |last| record(owner, rtype::A, 300, &[192, 0, 2, last]);
    let other = record(b"\x01c\x02tv\x00", rtype::A, 300, &[203, 0, 113, 1]);
    let answer = read_as(rtype::A, &[cname, a(1), signature, other, a(2)]);
    assert_eq!(addresses(&answer), ["192.0.2.1", "192.0.2.2"]);
    assert_eq!(hints(&answer), []);
    let aaaa = record(b"\xC0\x0C", rtype::AAAA, 300, &[0x20; 16]);
    assert_eq!(
        addresses(&read_as(rtype::AAAA, &[aaaa])),
        ["2020:2020:2020:2020:2020:2020:2020:2020"]
    );
    let text = record(b"\xC0\x0C", rtype::TXT, 300, b"\x03abc");
    assert_eq!(addresses(&read_as(rtype::TXT, &[text])), [""; 0]);
}

#[test]
fn data_of_another_length_is_no_address() {
    let a = |data| record(b"\xC0\x0C", rtype::A, 300, data);
    let answer = read_as(rtype::A, &[a(&[192, 0, 2]), a(&[192, 0, 2, 1]), a(&[1; 5])]);
    assert_eq!(addresses(&answer), ["192.0.2.1"]);
}

/// An HTTPS record with the target `.` and these parameters.
fn https(params: &[u8]) -> Vec<u8> {
    record(
        b"\xC0\x0C",
        rtype::HTTPS,
        300,
        &[b"\x00\x01\x00", params].concat(),
    )
}

#[test]
fn the_address_hints_of_services_are_found_with_their_records() {
    let alpn = b"\x00\x01\x00\x03\x02h2";
    let v4 = b"\x00\x04\x00\x08\xC0\x00\x02\x01\xC0\x00\x02\x02";
    let v6 = [b"\x00\x06\x00\x10".as_slice(), &[0x20; 16]].concat();
    let all = [&alpn[..], v4, &v6].concat();
    let other = b"\x00\x04\x00\x04\xCB\x00\x71\x01";
    let answer = read_as(rtype::HTTPS, &[https(&all), https(alpn), https(other)]);
    let records: Vec<usize> = answer.records().map(|record| record.fields.data).collect();
    let expected = [
        ("192.0.2.1", records[0]),
        ("192.0.2.2", records[0]),
        ("203.0.113.1", records[2]),
        ("2020:2020:2020:2020:2020:2020:2020:2020", records[0]),
    ];
    assert_eq!(
        hints(&answer),
        expected.map(|(address, record)| (address.to_owned(), record))
    );
    assert_eq!(addresses(&answer), [""; 0]);
}

#[test]
fn hints_after_a_malformed_parameter_do_not_count() {
    for params in [
        &b"\x00\x01\x00\x09\x02h2\x00\x04\x00\x04\xC0\x00\x02\x01"[..],
        b"\x00\x04\x00\x08\xC0\x00\x02\x01",
        b"\x00\x04\x00\x03\xC0\x00\x02",
        b"\x00\x04\x00",
    ] {
        assert_eq!(
            hints(&read_as(rtype::HTTPS, &[https(params)])),
            [],
            "{params:?}"
        );
    }
}
