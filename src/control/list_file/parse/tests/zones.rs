//! Tests with zone files of response policy zones.

use super::*;
use crate::policy::rpz::RecordProblem;

/// The rules as text with their lines: trigger and action.
fn zone_rules(text: &str, apex: Option<&str>) -> (Vec<(u32, String)>, Tally) {
    let apex = apex.map(|apex| Name::from_text(apex).expect("a name"));
    let mut rules = Vec::new();
    let tally = read(text.as_bytes(), of(Format::Rpz), apex.as_ref(), |rule| {
        let trigger = match rule.trigger {
            ParsedTrigger::Name(name, scope) => scope.notation(name),
            ParsedTrigger::Network(prefix) => format!("{:?} {}", prefix.of, prefix.network()),
            ParsedTrigger::Pattern(pattern) => panic!("{pattern}"),
        };
        let effect = rule.effect.expect("an effect");
        let action = serde_json::to_value(&effect.action).expect("JSON");
        rules.push((rule.line, format!("{trigger} {action}")));
    });
    (rules, tally)
}

#[test]
fn the_records_of_a_zone_file_are_rules() {
    let text = "\
$TTL 300
@ SOA localhost. root.localhost. (
      2026112701 ; serial
      3600 600 86400 60 )
  NS localhost.
ads.test CNAME .
*.ads.test CNAME .
ok.test CNAME rpz-passthru.
local.test A 192.0.2.1
           A 192.0.2.2
           TXT \"a; b\" c
24.0.2.0.192.rpz-ip CNAME *.
last.test CNAME *.garden.test.";
    let (rules, tally) = zone_rules(text, Some("rpz.example"));
    let rules: Vec<_> = rules.iter().map(|(line, rule)| (*line, &**rule)).collect();
    assert_eq!(
        rules,
        [
            (6, r#"ads.test {"block":"nxdomain"}"#),
            (7, r#"*.ads.test {"block":"nxdomain"}"#),
            (8, r#"ok.test "allow""#),
            (
                9,
                r#"local.test {"records":[{"data":"c0000201","rtype":1,"ttl_secs":300},{"data":"c0000202","rtype":1,"ttl_secs":300},{"data":"04613b20620163","rtype":16,"ttl_secs":300}]}"#
            ),
            (12, r#"Answer 192.0.2.0/24 {"block":"nodata"}"#),
            (
                13,
                r#"last.test {"cname":{"prepend":true,"target":"garden.test"}}"#
            ),
        ]
    );
    assert_eq!((tally.lines, tally.rules, tally.bad_total()), (11, 6, 0));
    assert!(!tally.ended, "the last line has no end");
    let zone = tally.zone.expect("an SOA record");
    assert_eq!(
        (zone.apex.to_string(), zone.serial),
        ("rpz.example".to_owned(), 2_026_112_701)
    );
    assert_eq!(zone.ttl_secs, 300);
}

#[test]
fn the_times_of_an_soa_record_may_have_units_and_a_repeated_record_is_one() {
    let zone = "rpz.example. 1h SOA 1h.example. 2d ( 7 1h 15M 4w1d 300 )\n\
                a.rpz.example. CNAME .\na.rpz.example. 60 CNAME .\n";
    let (rules, tally) = zone_rules(&format!("$ORIGIN example.\n{zone}"), None);
    assert_eq!(rules, [(3, r#"a {"block":"nxdomain"}"#.to_owned())]);
    assert_eq!((tally.lines, tally.bad_total()), (4, 0), "{:?}", tally.bad);
    let zone = tally.zone.expect("an SOA record");
    let times = zone.data[zone.data.len() - 20..].chunks(4);
    let times = times.map(|time| u32::from_be_bytes(time.try_into().expect("four bytes")));
    assert_eq!(times.collect::<Vec<_>>(), [7, 3600, 900, 2_505_600, 300]);
    assert_eq!(zone.serial, 7);
    let generic = r"rpz.example. SOA \# 22 00 00 00000007 00000e10 00000384 00002400 0000012c";
    let (_, tally) = zone_rules(&format!("{generic}\na.rpz.example. CNAME .\n"), None);
    let zone = tally.zone.expect("an SOA record");
    assert_eq!(
        zone.data[2..],
        [
            0, 0, 0, 7, 0, 0, 14, 16, 0, 0, 3, 132, 0, 0, 36, 0, 0, 0, 1, 44
        ]
    );
}

#[test]
fn without_a_configured_name_the_zone_is_that_of_its_soa_record() {
    let soa = "rpz.example. SOA . . 1 2 3 4 5\n";
    let (rules, tally) = zone_rules(&format!("{soa}a.rpz.example. CNAME .\n"), None);
    assert_eq!(rules, [(2, r#"a {"block":"nxdomain"}"#.to_owned())]);
    assert_eq!(tally.bad_total(), 0);
    let (rules, tally) = zone_rules(&format!("a.rpz.example. CNAME .\n{soa}"), None);
    assert_eq!(rules, []);
    assert_eq!(tally.bad, [(Bad::Entry(BadEntry::NoZone), 1)]);
}

#[test]
fn bad_records_and_lines_are_counted_and_the_others_are_used() {
    let text = "\
a.test CNAME .
a.test CNAME *.
b.other.example. CNAME .
ns.test.rpz-nsdname CNAME .
c.test DNAME d.test.
$INCLUDE more
c.test A 192.0.2
c.test RRSIG A 8 2 60 20261127000000 20261120000000 1 x. AAAA
d.test CH A 192.0.2.1
e.test A 192.0.2.1
";
    let (rules, tally) = zone_rules(text, Some("rpz.example"));
    let lines: Vec<_> = rules.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [1]);
    let bad: Vec<_> = tally
        .first
        .iter()
        .map(|bad| (bad.line, bad.problem))
        .collect();
    use crate::policy::rpz::UnusableOwner::{NameServers, OutsideZone};
    assert_eq!(
        bad,
        [
            (2, Bad::Record(RecordProblem::CnameWithOthers)),
            (3, Bad::Record(RecordProblem::Owner(OutsideZone))),
            (4, Bad::Record(RecordProblem::Owner(NameServers))),
            (5, Bad::Record(RecordProblem::Type)),
            (6, Bad::Entry(BadEntry::Include)),
            (7, Bad::Entry(BadEntry::Unreadable)),
            (9, Bad::Record(RecordProblem::Class)),
            (10, Bad::Record(RecordProblem::Class)),
        ],
        "a class holds until another one is written"
    );
    assert_eq!((tally.lines, tally.skipped, tally.bad_total()), (10, 1, 8));
}

#[test]
fn problems_are_read_from_images_as_they_were_written() {
    let problems = [
        Bad::Entry(BadEntry::Include),
        Bad::Entry(BadEntry::Ttl),
        Bad::Record(RecordProblem::Class),
        Bad::Record(RecordProblem::Owner(
            crate::policy::rpz::UnusableOwner::HostBits,
        )),
        Bad::Record(RecordProblem::Data(
            crate::policy::rpz::UnusableData::Malformed,
        )),
    ];
    for problem in problems {
        let text = serde_json::to_string(&problem).expect("JSON");
        let read: Bad = serde_json::from_str(&text).expect("a problem");
        assert_eq!(read, problem, "{text}");
    }
}
