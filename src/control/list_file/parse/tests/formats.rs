//! Files in the formats of other programs.

use super::*;
use crate::policy::effect::{Effect, EffectAction};
use crate::policy::record::LocalRecord;
use crate::policy::rule::Action;
use crate::wire::rtype;

/// A rule as `line notation effect`.
pub(super) fn shown(rule: ParsedRule<'_>) -> String {
    let trigger = match rule.trigger {
        ParsedTrigger::Name(name, scope) => scope.notation(name),
        ParsedTrigger::Pattern(pattern) => format!("/{pattern}/"),
        ParsedTrigger::Network(prefix) => prefix.network().to_string(),
    };
    let condition = rule.effect.and_then(|effect| effect.condition.as_ref());
    let types = condition.and_then(|condition| condition.types());
    let types = types.map_or_else(String::new, |types| format!(" {types:?}"));
    let effect = match rule.effect.map(|effect| &effect.action) {
        None | Some(EffectAction::Source) => "block".to_owned(),
        Some(EffectAction::Allow) => "allow".to_owned(),
        Some(EffectAction::Block(action)) => format!("{action:?}").to_lowercase(),
        Some(EffectAction::Records(records)) => {
            let records: Vec<_> = records.iter().map(LocalRecord::to_string).collect();
            records.join("; ")
        }
        Some(other) => format!("{other:?}"),
    };
    format!("{} {trigger} {effect}{types}", rule.line)
}

/// The rules of a list, and its tally.
pub(super) fn all(text: impl AsRef<[u8]>, notation: &Notation) -> (Vec<String>, Tally) {
    let bytes = text.as_ref();
    let mut whole = Vec::new();
    let tally = read(bytes, notation.clone(), None, |rule| {
        whole.push(shown(rule));
    });
    // The same in pieces.
    for size in [1, 7] {
        let mut cut = Vec::new();
        let mut reader = Reader::new(notation.clone(), None);
        if reader.is_scanning() {
            let pieces = bytes.chunks(size);
            pieces.for_each(|piece| reader.scan(piece));
        }
        for piece in bytes.chunks(size) {
            reader.feed(piece, &mut |rule: ParsedRule<'_>| cut.push(shown(rule)));
        }
        let of_pieces = reader.finish(&mut |rule: ParsedRule<'_>| cut.push(shown(rule)));
        assert_eq!((&cut, &of_pieces), (&whole, &tally), "pieces of {size}");
    }
    assert_eq!(tally.rules as usize, whole.len());
    (whole, tally)
}

pub(super) fn with_column(format: Format, column: &str) -> Notation {
    Notation {
        column: Some(column.into()),
        ..of(format)
    }
}

/// The lines and the problems of the bad lines.
pub(super) fn bad(tally: &Tally) -> Vec<(u32, Bad)> {
    tally
        .first
        .iter()
        .map(|bad| (bad.line, bad.problem))
        .collect()
}

#[test]
fn options_of_dnsmasq_are_about_names_and_all_names_below() {
    let text = "# dnsmasq\n\
                port=53\n\
                no-resolv\n\
                address=/a.example/#\n\
                address=/b.example/0.0.0.0\n\
                address=/b.example/::\n\
                --address=/c.example/d.example/192.0.2.1 # a comment\n\
                address = /c.example/2001:db8::1\n\
                address=/e.example/\n\
                local=/f.example/\n\
                server=/g.example/\n\
                server=/ok.a.example/#\n\
                server=/h.example/192.0.2.53\n\
                server=192.0.2.53\n\
                local=/.i.example/*.j.example/\n\
                address=/*ads.k.example/192.0.2.1\n\
                address=/*ads.k.example/192.0.2.2\n\
                local=/*-ads.l.example/\n";
    let (rules, tally) = all(text, &of(Format::Dnsmasq));
    assert_eq!(
        rules,
        [
            "4 .a.example block",
            "5 .b.example block",
            "6 .b.example block",
            "9 .e.example nxdomain",
            "10 .f.example nxdomain",
            "11 .g.example nxdomain",
            "12 .ok.a.example allow",
            "13 .h.example allow",
            "15 .i.example nxdomain",
            "15 *.j.example nxdomain",
            r"16 /ads\.k\.example$/ 0 A 192.0.2.1; 0 A 192.0.2.2",
            r"18 /-ads\.l\.example$/ nxdomain",
            "7 .c.example 0 A 192.0.2.1; 0 AAAA 2001:db8::1",
            "7 .d.example 0 A 192.0.2.1",
        ]
    );
    assert_eq!((tally.lines, tally.comments, tally.skipped), (17, 1, 0));
    assert_eq!(
        tally.ignored,
        [(NotApplicable::Option, 3), (NotApplicable::Forward, 1)]
    );
    assert_eq!(tally.bad_total(), 0);
}

#[test]
fn bad_options_of_dnsmasq_are_named_and_the_other_names_of_the_line_count() {
    let text = "address=/#/192.0.2.1\n\
                address=/a.example\n\
                address=/b.example/c..example/192.0.2.1\n\
                address=/d.example/elsewhere\n\
                ||e.example^\n\
                address=//192.0.2.1\n";
    let (rules, tally) = all(text, &of(Format::Dnsmasq));
    assert_eq!(rules, ["3 .b.example 0 A 192.0.2.1"]);
    assert_eq!(
        bad(&tally),
        [
            (1, Bad::Root),
            (2, Bad::NamesWithoutEnd),
            (3, Bad::Typed(Mistyped::Name(NameError::EmptyLabel))),
            (4, Bad::Target),
            (5, Bad::Foreign(Foreign::Adblock)),
            (6, Bad::Typed(Mistyped::Name(NameError::EmptyLabel))),
        ]
    );
}

#[test]
fn zones_of_unbound_are_about_names_and_all_names_below() {
    let text = "server:\n\
                \tlocal-zone: \"a.example.\" always_null\n\
                local-zone: b.example always_nxdomain\n\
                local-zone: 'c.example' static\n\
                local-zone: \"d.example\" always_nodata # a comment\n\
                local-zone: \"e.example\" refuse\n\
                local-zone: \"f.example\" inform_deny\n\
                local-zone: \"ok.a.example\" transparent\n\
                local-zone: \"g.example\" noview\n\
                verbosity: 1\n";
    let (rules, tally) = all(text, &of(Format::Unbound));
    assert_eq!(
        rules,
        [
            "2 .a.example block",
            "3 .b.example nxdomain",
            "4 .c.example nxdomain",
            "5 .d.example nodata",
            "6 .e.example refused",
            "7 .f.example drop",
            "8 .ok.a.example allow",
        ]
    );
    assert_eq!((tally.lines, tally.skipped, tally.bad_total()), (10, 0, 0));
    assert_eq!(tally.ignored, [(NotApplicable::Option, 3)]);
}

#[test]
fn records_of_a_redirect_zone_of_unbound_are_for_all_names_of_the_zone() {
    let text = "local-zone: \"a.example\" redirect\n\
                local-data: \"a.example A 192.0.2.1\"\n\
                local-data: \"a.example 60 IN AAAA 2001:db8::1\"\n\
                local-zone: \"b.example\" redirect\n\
                local-data: \"b.example A 0.0.0.0\"\n\
                local-data: \"c.example A 0.0.0.0\"\n\
                local-zone: \"c.example\" redirect\n\
                local-data: 'd.example TXT \"a text\"'\n\
                local-data: \"e.example A 192.0.2.5\"\n\
                local-zone: \"e.example\" redirect\n\
                local-zone: \"f.example\" redirect\n";
    let (rules, tally) = all(text, &of(Format::Unbound));
    assert_eq!(
        rules,
        [
            "5 .b.example block",
            "6 c.example block",
            "7 .c.example block",
            "2 .a.example 3600 A 192.0.2.1; 60 AAAA 2001:db8::1",
            "8 d.example 3600 TXT \"a text\"",
            "9 .e.example 3600 A 192.0.2.5",
            "11 .f.example nodata",
        ]
    );
    assert_eq!(tally.bad_total(), 0);
}

#[test]
fn bad_options_of_unbound_are_named() {
    let text = "local-zone: \"a.example\" always_gone\n\
                local-zone: \"b.example\n\
                local-zone:\n\
                local-zone: \".\" static\n\
                local-data: \"c.example A 300.0.2.1\"\n\
                local-data: \"d.example CNAME e.example.\"\n\
                local-data: \"d.example A 192.0.2.1\"\n\
                0.0.0.0 f.example\n\
                f.example\n";
    let (rules, tally) = all(text, &of(Format::Unbound));
    assert_eq!(rules, [""; 0]);
    assert_eq!(
        bad(&tally),
        [
            (1, Bad::ZoneType),
            (2, Bad::Quotes),
            (3, Bad::NoValue),
            (4, Bad::Root),
            (5, Bad::Entry(BadEntry::Unreadable)),
            (6, Bad::Records),
            (8, Bad::NoOption),
            (9, Bad::NoOption),
        ]
    );
}

#[test]
fn wildcards_are_names_with_all_names_below() {
    let text = "*.a.example\nb.example # a comment\n=c.example\n.d.example\nads.*\n*tracker*\n\
                banner[0-9]?.*.example\nf.example @work\n*.\n*.g!.example\n";
    let (rules, tally) = all(text, &of(Format::Wildcard));
    assert_eq!(
        rules,
        [
            "1 .a.example block",
            "2 .b.example block",
            "3 c.example block",
            "4 .d.example block",
            r"5 /^ads\..*$/ block",
            "6 /^.*tracker.*$/ block",
            r"7 /^banner[0-9].\..*\.example$/ block",
        ]
    );
    assert_eq!(tally.ignored, [(NotApplicable::Schedule, 1)]);
    let character = Bad::Typed(Mistyped::Character);
    let label = Bad::Typed(Mistyped::Name(NameError::EmptyLabel));
    assert_eq!(bad(&tally), [(9, label), (10, character)]);
}

#[test]
fn a_format_is_recognised_by_the_start_of_the_file() {
    for (text, format, rules) in [
        (
            "# a\n0.0.0.0 a.example\n127.0.0.1 b.example\n",
            Format::Hosts,
            2,
        ),
        ("a.example\n.b.example\n*.c.example\n", Format::Domains, 3),
        ("*.a.example\nb.example\n", Format::Wildcard, 2),
        (
            "port=53\naddress=/a.example/#\nlocal=/b.example/\n",
            Format::Dnsmasq,
            2,
        ),
        (
            "server:\nlocal-zone: \"a.example\" always_null\n",
            Format::Unbound,
            1,
        ),
        (" [\"a.example\"]", Format::Json, 1),
        (
            "[Adblock Plus 2.0]\n! a\n||a.example^\nb.example\n0.0.0.0 c.example\n",
            Format::Adblock,
            3,
        ),
        ("# only a comment\n", Format::Domains, 0),
        ("", Format::Domains, 0),
        (
            "$TTL 300\n@ SOA . . 1 2 3 4 5\na.example CNAME .\n",
            Format::Domains,
            0,
        ),
        ("id,host\n1,a.example\n", Format::Domains, 0),
    ] {
        let (found, tally) = all(text, &of(Format::Auto));
        assert_eq!(
            tally.detected.map(|detected| detected.format),
            Some(format),
            "{text}"
        );
        assert_eq!(found.len(), rules, "{text}");
    }
    let table = all(
        "id,host\n1,a.example\n2,b.example\n",
        &with_column(Format::Auto, "host"),
    );
    assert_eq!(table.0, ["2 a.example block", "3 b.example block"]);
    let detected = table.1.detected.expect("recognised");
    assert_eq!(detected.to_string(), "csv, like 2 of the first 3 lines");
}

#[test]
fn the_start_of_a_long_file_decides_about_its_format() {
    let text = "0.0.0.0 a.example\n".repeat(10_000) + &"b.example\n".repeat(20_000);
    let mut rules = 0;
    let tally = read(text.as_bytes(), of(Format::Auto), None, |_| rules += 1);
    assert_eq!(
        tally.detected.map(|detected| detected.format),
        Some(Format::Hosts)
    );
    assert_eq!((rules, tally.bad_total()), (10_000, 20_000));
    let detected = tally.detected.expect("recognised");
    assert_eq!(
        detected.like, detected.of,
        "the line that is cut does not count"
    );
}

#[test]
fn no_line_of_the_new_formats_is_an_effect_that_no_answer_can_carry() {
    let long = "x".repeat(255);
    let mut text = String::new();
    for number in 0..400 {
        text += &format!("local-data: 'a.example TXT \"{number}{}\"'\n", &long[..250]);
    }
    let (rules, tally) = all(&text, &of(Format::Unbound));
    assert_eq!((rules.len(), bad(&tally)), (0, vec![(1, Bad::Records)]));
    let effect = Effect::from(EffectAction::Block(Action::Nodata));
    assert_eq!(effect.check(), Ok(()));
    assert_eq!(rtype::A, 1);
}

#[test]
fn the_records_of_one_name_are_limited() {
    let addresses = 0..1030_u32;
    let lines = addresses.map(|number| {
        let address = std::net::Ipv4Addr::from_bits(0xC000_0000 + number);
        format!("address=/x.example/{address}\n")
    });
    let text: String = lines.collect();
    let mut records = 0;
    let tally = read(text.as_bytes(), of(Format::Dnsmasq), None, |rule| {
        if let Some(EffectAction::Records(found)) = rule.effect.map(|effect| &effect.action) {
            records = found.len();
        }
    });
    assert_eq!((tally.rules, records), (1, 1024));
    assert_eq!(tally.bad, [(Bad::Records, 6)]);
}
