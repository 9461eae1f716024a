//! Surplus, oddly spelled and oddly ordered records of upstream servers. Clients get the records that belong to the
//! answer, and no record of a blocked name.

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType::{self, A, CNAME, DS, HTTPS, MX, SRV};

use crate::support::client::{PATIENCE, Stream, exchange};
use crate::support::client::{ask, data, query, rcode};
use crate::support::server::{Server, list, preamble, text};
use crate::support::upstream::{Asked, Upstream, name};

/// A record: owner, type, TTL and data.
struct Raw(Vec<u8>, u16, u32, Vec<u8>);

/// A name in wire form, letter case unchanged.
fn wire(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut wire: Vec<u8> = labels
        .flat_map(|label| [&[label.len() as u8][..], label.as_bytes()].concat())
        .collect();
    wire.push(0);
    wire
}

fn record(owner: &str, rtype: RecordType, data: Vec<u8>) -> Raw {
    Raw(wire(owner), rtype.into(), 300, data)
}

fn a(owner: &str, last: u8) -> Raw {
    record(owner, A, vec![192, 0, 2, last])
}

fn cname(owner: &str, target: &str) -> Raw {
    record(owner, CNAME, wire(target))
}

/// The asked name as our query spelled it.
fn spelled(asked: &Asked) -> String {
    asked.message.queries[0].name().to_ascii()
}

/// An answer with these sections, nothing compressed.
fn message(asked: &Asked, sections: [&[Raw]; 3]) -> Vec<u8> {
    let mut message = asked.message.metadata.id.to_be_bytes().to_vec();
    message.extend([0x81, 0x80, 0, 1]);
    for section in sections {
        message.extend((section.len() as u16).to_be_bytes());
    }
    message.extend(wire(&spelled(asked)));
    message.extend(u16::from(asked.message.queries[0].query_type()).to_be_bytes());
    message.extend([0, 1]);
    for Raw(owner, rtype, ttl, data) in sections.into_iter().flatten() {
        message.extend(owner);
        message.extend(rtype.to_be_bytes());
        message.extend([0, 1]);
        message.extend(ttl.to_be_bytes());
        message.extend((data.len() as u16).to_be_bytes());
        message.extend(data);
    }
    message
}

fn server(upstreams: &[&Upstream], rules: &str) -> Server {
    let all: Vec<_> = upstreams.iter().map(|u| u.address.to_string()).collect();
    let config = preamble(upstreams[0].address);
    let config = config.replace(&format!("{:?}", &all[..1]), &format!("{all:?}"));
    Server::start(&(config + &list("ads", "")), &[("ads", rules)])
}

/// A server whose upstream answers each query with the result of `make`.
fn answering(
    rules: &str,
    make: impl Fn(&Asked) -> [Vec<Raw>; 3] + Send + Sync + 'static,
) -> (Server, Upstream) {
    let upstream = Upstream::start_raw(move |asked| {
        let sections = make(asked);
        vec![message(asked, sections.each_ref().map(Vec::as_slice))]
    });
    (server(&[&upstream], rules), upstream)
}

#[test]
fn the_case_of_our_own_queries_reaches_no_client() {
    let make = |asked: &Asked| {
        let asked = spelled(asked);
        let first = asked.split('.').next().expect("a label");
        let target = format!("edge.{asked}");
        // `renamed` is what a DNAME would make of the asked name, and `target` ends in the asked name.
        let renamed = format!("{first}.Cdn.test");
        let answers = vec![
            cname(&asked, &target),
            cname(&target, &renamed),
            a(&renamed, 1),
        ];
        [answers, Vec::new(), Vec::new()]
    };
    let (server, upstream) = answering("", make);
    for asked in [
        "aLongName.In-Mixed-Case.Example",
        "alongname.in-mixed-case.example",
    ] {
        let answer = ask(server.address, asked, A);
        let names = answer.answers.iter().map(|record| record.name.to_ascii());
        let first = asked.split('.').next().expect("a label").to_lowercase();
        let expected = [
            format!("{asked}."),
            format!("edge.{asked}."),
            format!("{first}.Cdn.test."),
        ];
        assert_eq!(names.collect::<Vec<_>>(), expected);
        let expected = [&expected[1..], &["192.0.2.1".to_owned()]].concat();
        assert_eq!(data(&answer), expected);
    }
    assert_eq!(
        upstream.asked().len(),
        1,
        "the second was answered from the cache"
    );
}

#[test]
fn the_case_of_our_own_queries_is_in_no_negative_answer() {
    let make = |asked: &Asked| {
        let spelled = spelled(asked);
        let (_, zone) = spelled.split_once('.').expect("two labels");
        let soa = [wire(&format!("ns.{zone}")), wire(zone), vec![0; 20]].concat();
        let soa = record(zone, RecordType::SOA, soa);
        [Vec::new(), vec![soa], Vec::new()]
    };
    let (server, _upstream) = answering("", make);
    let answer = ask(server.address, "x.Some-Long-Zone.example", A);
    let soa = answer.authorities[0].to_string();
    assert!(soa.starts_with("Some-Long-Zone.example. "), "{soa}");
    assert!(
        soa.contains(" ns.Some-Long-Zone.example. Some-Long-Zone.example. "),
        "{soa}"
    );
}

#[test]
fn the_chain_comes_before_the_address_that_it_leads_to() {
    let make = |asked: &Asked| {
        let asked = spelled(asked);
        let answers = vec![
            a("c.example", 1),
            cname("b.example", "c.example"),
            cname(&asked, "b.example"),
        ];
        [answers, Vec::new(), Vec::new()]
    };
    let (server, _upstream) = answering("", make);
    for _ in 0..2 {
        let answer = ask(server.address, "a.example", A);
        assert_eq!(data(&answer), ["b.example.", "c.example.", "192.0.2.1"]);
    }
}

#[test]
fn a_cname_that_leads_to_itself_is_returned_and_not_followed() {
    let make = |asked: &Asked| {
        let other = match name(asked).as_str() {
            "one.example" => "two.example".to_owned(),
            _ => spelled(asked),
        };
        let back = cname("two.example", "one.example");
        [
            vec![cname(&spelled(asked), &other), back],
            Vec::new(),
            Vec::new(),
        ]
    };
    let (server, _upstream) = answering("", make);
    for asked in ["loop.example", "one.example"] {
        let report = ask(server.address, asked, CNAME);
        assert_eq!(
            (rcode(&report), report.answers.len()),
            (ResponseCode::NoError, 1),
            "{asked}"
        );
        let followed = ask(server.address, asked, A);
        assert_eq!(rcode(&followed), ResponseCode::ServFail, "{asked}");
    }
}

#[test]
fn a_ttl_with_the_top_bit_is_a_long_one() {
    for ttl in [1 << 31, u32::MAX] {
        let make = move |asked: &Asked| {
            let mut record = a(&spelled(asked), 1);
            record.2 = ttl;
            [vec![record], Vec::new(), Vec::new()]
        };
        let (server, upstream) = answering("", make);
        for _ in 0..2 {
            let answer = ask(server.address, "a.example", A);
            assert_eq!(answer.answers[0].ttl, 86_400);
        }
        assert_eq!(upstream.asked().len(), 1, "it is cached");
    }
}

#[test]
fn a_server_that_answers_with_referrals_is_skipped() {
    let ns = |zone: &str| record(zone, RecordType::NS, wire("ns.elsewhere.test"));
    for zone in ["com", "a.example.com", ""] {
        let refers = Upstream::start_raw(move |asked| {
            let answers = match name(asked).starts_with("alias") {
                true => vec![cname(&spelled(asked), "b.example.com")],
                false => Vec::new(),
            };
            vec![message(asked, [&answers, &[ns(zone)], &[]])]
        });
        let recurses =
            Upstream::start_raw(|asked| vec![message(asked, [&[a(&spelled(asked), 7)], &[], &[]])]);
        for servers in [[&refers, &recurses], [&recurses, &refers]] {
            let server = server(&servers, "");
            for n in 0..4 {
                for kind in ["a", "alias"] {
                    let asked = format!("{kind}{n}.example.com");
                    assert_eq!(
                        data(&ask(server.address, &asked, A)),
                        ["192.0.2.7"],
                        "{zone:?}"
                    );
                }
            }
        }
        let alone = server(&[&refers], "");
        let answer = ask(alone.address, "a.example.com", A);
        assert_eq!(rcode(&answer), ResponseCode::ServFail);
        let status = alone.status();
        assert!(status["upstream"][0]["referrals"].as_u64() >= Some(1));
        assert!(alone.count("upstream_referrals") >= 1);
        let text = text(&alone.verb(&["status"]));
        assert!(text.contains("it does not recurse"), "{text}");
    }
}

/// The last byte of the address that no client may get.
const BAD: u8 = 66;

/// Answers of upstream, each with a description and the queried type. The queried name is not blocked, and each answer
/// contains an address of `x.blocked.example`.
fn leaking_answers() -> Vec<(&'static str, RecordType, [Vec<Raw>; 3])> {
    let bad = || a("x.blocked.example", BAD);
    let free = "www.free.example";
    let https = |owner: &str, target: &str| {
        let is_bad = owner.contains("blocked") || target.contains("blocked");
        let hint = [0, 4, 0, 4, 192, 0, 2, if is_bad { BAD } else { 1 }];
        record(owner, HTTPS, [&[0, 1][..], &wire(target), &hint].concat())
    };
    let mx = record(free, MX, [&[0, 5][..], &wire("x.blocked.example")].concat());
    let srv = record(
        free,
        SRV,
        [&[0; 6][..], &wire("x.blocked.example")].concat(),
    );
    let dname = || record("free.example", RecordType::DNAME, wire("blocked.example"));
    let none = Vec::new;
    vec![
        ("MX's glue", MX, [vec![mx], none(), vec![bad()]]),
        ("SRV's glue", SRV, [vec![srv], none(), vec![bad()]]),
        ("A's company", A, [vec![a(free, 1)], none(), vec![bad()]]),
        (
            "HTTPS's company",
            HTTPS,
            [
                vec![https(free, "")],
                none(),
                vec![https("x.blocked.example", "")],
            ],
        ),
        (
            "a service elsewhere",
            HTTPS,
            [vec![https(free, "x.blocked.example")], none(), none()],
        ),
        (
            "a service in alias mode",
            HTTPS,
            [
                vec![
                    record(
                        free,
                        HTTPS,
                        [&[0, 0][..], &wire("x.blocked.example")].concat(),
                    ),
                    bad(),
                ],
                none(),
                vec![bad()],
            ],
        ),
        (
            "CNAME's target",
            CNAME,
            [
                vec![cname(free, "x.blocked.example"), bad()],
                none(),
                none(),
            ],
        ),
        (
            "a DNAME alone",
            A,
            [vec![dname(), a("www.blocked.example", BAD)], none(), none()],
        ),
        (
            "two CNAMEs",
            A,
            [
                vec![
                    cname(free, "b.free.example"),
                    cname(free, "x.blocked.example"),
                    bad(),
                ],
                none(),
                none(),
            ],
        ),
        (
            "two CNAMEs further on",
            A,
            [
                vec![
                    cname(free, "b.free.example"),
                    cname("b.free.example", "c.free.example"),
                    cname("b.free.example", "x.blocked.example"),
                    bad(),
                    a("c.free.example", 1),
                ],
                none(),
                none(),
            ],
        ),
        ("another name's record", A, [vec![bad()], none(), none()]),
        (
            "a record in the authority section",
            A,
            [vec![a(free, 1)], vec![bad()], none()],
        ),
        (
            "a type beside the asked one",
            MX,
            [vec![a(free, 1), bad()], none(), none()],
        ),
    ]
}

#[test]
fn no_address_of_a_blocked_name_accompanies_an_unblocked_answer() {
    for (what, rtype, _) in leaking_answers() {
        let upstream = Upstream::start_raw(move |asked| {
            let found = leaking_answers()
                .into_iter()
                .find(|(other, ..)| *other == what);
            let (_, _, sections) = found.expect("it is there");
            vec![message(asked, sections.each_ref().map(Vec::as_slice))]
        });
        let server = server(&[&upstream], ".blocked.example\n");
        let asked = query("www.free.example", rtype);
        for _ in 0..2 {
            let by_udp = exchange(server.address, &asked, PATIENCE).expect("an answer");
            let mut stream = Stream::open(server.address);
            stream.send(&asked);
            let by_tcp = stream.receive().expect("an answer");
            for answer in [by_udp, by_tcp] {
                let bytes = answer.to_vec().expect("a message");
                let leaks = bytes.windows(4).any(|part| part == [192, 0, 2, BAD]);
                assert!(!leaks, "{what}: {answer}");
            }
        }
    }
}

#[test]
fn allowed_records_pass_beside_dropped_ones() {
    let make = |asked: &Asked| {
        let free = spelled(asked);
        let bad = a("x.blocked.example", BAD);
        [vec![a(&free, 1), bad], Vec::new(), Vec::new()]
    };
    let (server, _upstream) = answering(".blocked.example\n", make);
    let answer = ask(server.address, "www.free.example", A);
    assert_eq!(data(&answer), ["192.0.2.1"]);
}

#[test]
fn the_keys_of_a_zone_are_answered_where_names_below_it_are_free() {
    let make = |asked: &Asked| {
        let rtype = asked.message.queries[0].query_type();
        let ds = record(&spelled(asked), rtype, vec![0, 1, 13, 2, 9, 9, 9, 9]);
        [vec![ds], Vec::new(), Vec::new()]
    };
    let (server, _upstream) = answering("exact.example\n.all.example\n", make);
    let answers = |name: &str, rtype: RecordType| -> Message { ask(server.address, name, rtype) };
    for rtype in [DS, RecordType::DNSKEY] {
        assert_eq!(answers("exact.example", rtype).answers.len(), 1);
        assert_eq!(answers("all.example", rtype).answers.len(), 0);
        assert_eq!(answers("www.all.example", rtype).answers.len(), 0);
    }
    assert_eq!(data(&answers("exact.example", A)), ["0.0.0.0"]);
}
