//! Broken files: of each format, what can be read is, the rest is reported, and nothing else comes into force.

use super::formats::{all, bad, with_column};
use super::*;

/// A format, with the line of a name in it, and a line that is bad.
struct Sample {
    notation: Notation,
    head: &'static str,
    good: fn(&str) -> String,
    bad: &'static str,
}

/// The formats with rules on lines.
fn samples() -> Vec<Sample> {
    let sample = |notation, head, good, bad| Sample {
        notation,
        head,
        good,
        bad,
    };
    vec![
        sample(of(Format::Domains), "", |name| name.to_owned(), "a..b"),
        sample(
            of(Format::Hosts),
            "",
            |name| format!("0.0.0.0 {name}"),
            "0.0.0.0 a..b",
        ),
        sample(
            of(Format::Adblock),
            "",
            |name| format!("||{name}^"),
            "||a..b^",
        ),
        sample(
            of(Format::Wildcard),
            "",
            |name| format!("*.{name}"),
            "*.a..b",
        ),
        sample(
            of(Format::Dnsmasq),
            "",
            |name| format!("address=/{name}/#"),
            "address=/a..b/#",
        ),
        sample(
            of(Format::Unbound),
            "server:",
            |name| format!("local-zone: \"{name}\" always_null"),
            "local-zone: \"a..b\" always_null",
        ),
        sample(
            with_column(Format::Csv, "host"),
            "id,host",
            |name| format!("1,{name}"),
            "1,a..b",
        ),
    ]
}

impl Sample {
    /// The text of some lines, with the head of the format.
    fn text(&self, lines: &[&str], end: &str) -> String {
        let head = Some(self.head).filter(|head| !head.is_empty());
        let lines = head.iter().chain(lines);
        lines.map(|line| format!("{line}{end}")).collect()
    }

    /// The number of the first line after the head.
    fn first(&self) -> u32 {
        1 + u32::from(!self.head.is_empty())
    }

    fn read(&self, text: impl AsRef<[u8]>) -> (Vec<String>, Tally) {
        all(text, &self.notation)
    }
}

#[test]
fn any_line_ends_and_a_byte_order_mark_change_no_rule() {
    for sample in samples() {
        let (one, two) = ((sample.good)("a.example"), (sample.good)("b.example"));
        let lines = [&*one, "", &two];
        let (expected, _) = sample.read(sample.text(&lines, "\n"));
        assert_eq!(expected.len(), 2, "{:?}", sample.notation.format);
        for end in ["\r\n", "\r"] {
            let (rules, tally) = sample.read(sample.text(&lines, end));
            assert_eq!(rules, expected, "{end:?}");
            assert_eq!((tally.bad_total(), tally.ended), (0, true));
        }
        let marked = format!("\u{FEFF}{}", sample.text(&lines, "\n"));
        assert_eq!(sample.read(marked).0, expected);
        let open = sample.text(&lines, "\n");
        let (rules, tally) = sample.read(open.trim_end());
        assert_eq!((rules, tally.ended), (expected, false));
    }
}

#[test]
fn a_line_that_is_no_text_is_bad_and_the_others_count() {
    for sample in samples() {
        let format = sample.notation.format;
        let good = (sample.good)("a.example");
        for broken in [
            (sample.good)("b\u{1}.example").replace('\u{1}', "\0"),
            (sample.good)("b\u{1}.example"),
            sample.bad.to_owned(),
        ] {
            let text = sample.text(&[&broken, &good, &broken], "\n");
            let (rules, tally) = sample.read(&text);
            assert_eq!(rules.len(), 1, "{format:?} {broken:?}: {rules:?}");
            let lines: Vec<_> = tally.first.iter().map(|bad| bad.line).collect();
            assert_eq!(
                lines,
                [sample.first(), sample.first() + 2],
                "{format:?} {broken:?}"
            );
            assert!(
                tally
                    .first
                    .iter()
                    .all(|bad| !bad.text.contains(char::is_control))
            );
        }
        let text = sample.text(&["\u{1}", &good], "\n").into_bytes();
        for invalid in [
            &b"\xFF"[..],
            b"\xC3",
            b"\xED\xA0\x80",
            b"\xF8\x88\x80\x80\x80",
        ] {
            let name = (sample.good)("b\u{1}.example").into_bytes();
            let name = replaced(&name, invalid);
            let text = replaced(&text, &name);
            let (rules, tally) = sample.read(&text);
            assert_eq!(
                (rules.len(), tally.bad_total()),
                (1, 1),
                "{format:?} {invalid:?}"
            );
        }
    }
}

/// Bytes in which others are in place of a byte 1.
fn replaced(text: &[u8], with: &[u8]) -> Vec<u8> {
    let at = text.iter().position(|byte| *byte == 1).expect("the mark");
    [&text[..at], with, &text[at + 1..]].concat()
}

#[test]
fn a_line_of_a_mebibyte_is_one_bad_line() {
    for sample in samples() {
        let format = sample.notation.format;
        let (good, long) = (
            (sample.good)("a.example"),
            (sample.good)(&"x".repeat(1 << 20)),
        );
        let (rules, tally) = sample.read(sample.text(&[&good, &long, &good], "\n"));
        assert_eq!(rules.len(), 2, "{format:?}");
        assert_eq!(
            (tally.bad_total(), tally.lines - tally.ignored_total()),
            (1, 3),
            "{format:?}"
        );
        assert_eq!(tally.first[0].line, sample.first() + 1, "{format:?}");
        assert!(tally.first[0].text.chars().count() <= 81);
    }
}

#[test]
fn an_empty_file_and_one_of_comments_have_no_line() {
    for sample in samples() {
        let tally = sample.read("").1;
        assert_eq!((tally.lines, tally.comments, tally.bad_total()), (0, 0, 0));
        let tally = sample.read("\n\r\n  \n\t\n").1;
        assert_eq!(
            (tally.rules, tally.bad_total()),
            (0, 0),
            "{:?}",
            sample.notation.format
        );
        let tally = sample.read("# lifted\n# until 2027\n").1;
        let format = sample.notation.format;
        assert_eq!((tally.lines, tally.comments), (0, 2), "{format:?}");
        assert!(!tally.is_bad_over(0), "{format:?}");
    }
    for (text, problems) in [("", 0), ("# lifted\n", 1), ("[]", 0), ("{}\n{}\n", 0)] {
        let tally = all(text, &of(Format::Json)).1;
        assert_eq!((tally.rules, tally.bad_total()), (0, problems), "{text}");
    }
}

#[test]
fn a_page_with_an_error_has_no_rule_in_any_format() {
    let page = "<!DOCTYPE html>\n<html lang=en>\n<head><title>404 Not Found</title>\n\
                <link rel=stylesheet href=\"https://cdn.example/a.css\"></head>\n<body>\n\
                <h1>Not Found</h1>\n<p>The list has moved, see <a href=/>our site</a>.</p>\n</body>\n</html>\n";
    let mut notations: Vec<_> = samples()
        .into_iter()
        .map(|sample| sample.notation)
        .collect();
    notations.extend([
        of(Format::Json),
        of(Format::Auto),
        with_column(Format::Auto, "host"),
    ]);
    for notation in notations {
        let (rules, tally) = all(page, &notation);
        assert_eq!(rules, [""; 0], "{:?}", notation.format);
        assert!(tally.is_bad_over(50), "{:?}: {tally:?}", notation.format);
    }
}

#[test]
fn utf_16_has_no_rule_in_any_format() {
    for sample in samples() {
        let text = sample.text(
            &[&(sample.good)("a.example"), &(sample.good)("b.example")],
            "\n",
        );
        for mark in ["", "\u{FEFF}"] {
            let units = format!("{mark}{text}");
            for to_bytes in [u16::to_le_bytes, u16::to_be_bytes] {
                let bytes: Vec<_> = units.encode_utf16().flat_map(to_bytes).collect();
                let (rules, tally) = sample.read(bytes);
                assert_eq!(rules, [""; 0], "{:?}", sample.notation.format);
                assert!(tally.is_bad_over(50), "{tally:?}");
            }
        }
    }
}

#[test]
fn a_packed_file_has_no_rule_in_any_format() {
    // The start of a file of gzip, of zstd and of xz, with some bytes.
    let bytes: Vec<u8> = (0..4000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    for magic in [
        &b"\x1F\x8B\x08\0\0\0\0\0"[..],
        b"\x28\xB5\x2F\xFD",
        b"\xFD7zXZ\0",
    ] {
        let file = [magic, &bytes].concat();
        for sample in samples() {
            let (rules, tally) = sample.read(&file);
            assert_eq!(rules, [""; 0], "{:?}", sample.notation.format);
            let is_known = tally.is_bad_over(50) || tally.ignored_total() == tally.lines;
            assert!(is_known, "{:?}: {tally:?}", sample.notation.format);
        }
    }
}

#[test]
fn json_may_have_a_byte_order_mark_and_any_line_ends_and_is_nothing_if_it_is_broken() {
    let hosts = with_column(Format::Json, "host");
    for text in [
        "\u{FEFF}[{\"host\": \"a.example\"},\n{\"host\": \"b.example\"}]\n",
        "{\"host\": \"a.example\"}\r\n{\"host\": \"b.example\"}\r\n",
        "{\"host\": [\"a.example\", \"b.example\"]}",
    ] {
        let (rules, tally) = all(text, &hosts);
        assert_eq!((rules.len(), tally.bad_total()), (2, 0), "{text}");
    }
    let good = b"[{\"host\": \"a.example\"},\n{\"host\": \"b\x01.example\"}]";
    let escape = Bad::Typed(Mistyped::Utf8);
    let (rules, tally) = all(replaced(good, b"\\ud800"), &hosts);
    assert_eq!((rules.len(), bad(&tally)), (1, vec![(2, escape)]));
    let (rules, tally) = all("[{\"\\udfff\": 1}, {\"host\": \"a.example\"}]", &hosts);
    assert_eq!((rules.len(), bad(&tally)), (1, vec![(1, escape)]));
    for invalid in [&b"\xFF"[..], b"\0", b"\"", b"\\x"] {
        let (rules, tally) = all(replaced(good, invalid), &hosts);
        assert_eq!(rules, [""; 0], "{invalid:?}");
        assert_eq!(bad(&tally).len(), 1, "{invalid:?}");
        assert!(tally.is_bad_over(50));
    }
    for depth in [33, 1000, 500_000] {
        for (open, close) in [("[", "]"), ("{\"host\":", "}")] {
            let text = open.repeat(depth) + "\"a.example\"" + &close.repeat(depth);
            let (rules, tally) = all(&text, &hosts);
            assert_eq!((rules.len(), tally.bad_total()), (0, 1), "{depth} {open}");
        }
    }
    let long = format!("{{\"host\": [\"{}\", \"a.example\"]}}", "x".repeat(1 << 20));
    let (rules, tally) = all(long, &hosts);
    assert_eq!((rules.len(), tally.bad_total()), (1, 1));
}
