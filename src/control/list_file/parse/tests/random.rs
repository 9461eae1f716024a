//! Tests with random bytes: a list in pieces is parsed like its complete lines, and every line is counted.

use super::*;

/// Text that is close enough to a list to reach every branch.
fn list_like() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        "[ -~]{0,8}",
        "[.*#\\\\ \t\r\n:0-9]{0,4}",
        "[!%$/|^,;]{0,3}",
        "[a-z0-9_-]{1,5}(\\.[a-z]{1,4}){0,3}\\.?[ \n]",
        Just("0.0.0.0 ".to_owned()),
        Just("localhost ".to_owned()),
        "\\PC{0,4}",
    ];
    let piece = prop_oneof![
        8 => piece.prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// A simple model of [`Cutter`]: byte by byte over the whole input.
fn numbered(bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let text = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let mut lines = Vec::new();
    let mut line = Vec::new();
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'\r' if text.get(at + 1) == Some(&b'\n') => {}
            b'\r' | b'\n' => lines.push(std::mem::take(&mut line)),
            byte => line.push(byte),
        }
        at += 1;
    }
    lines.extend((!line.is_empty()).then_some(line));
    let lines = lines.into_iter().map(|line| line.trim_ascii().to_vec());
    (1..).zip(lines).collect()
}

fn lines_of(reader: Reader) -> Lines {
    match reader.0 {
        Parser::Lines(lines) => *lines,
        Parser::Adblock(_) | Parser::Zone(_) => panic!("rules of several lines"),
    }
}

/// The result of parsing the model's lines one by one, each as a whole.
fn rules_of_whole_lines(bytes: &[u8], notation: Notation) -> (Vec<(String, Scope, u32)>, Tally) {
    let mut rules = Vec::new();
    let mut lines = lines_of(Reader::new(notation, None)).parser;
    for (number, line) in numbered(bytes) {
        lines.parse(number, &line, &mut |rule: ParsedRule<'_>| {
            rules.push(on_name(rule));
        });
    }
    let end = bytes.last();
    lines.tally.ended = end.is_none_or(|end| matches!(end, b'\n' | b'\r'));
    (rules, lines.tally)
}

/// Long runs of bytes that change the meaning of a long line, each about as long as the buffer.
fn long_lines() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        3 => (prop::sample::select(b" \tax#\xEF\n\r".to_vec()), 1..3 * MAX_LINE)
            .prop_map(|(byte, count)| vec![byte; count.min(if byte < 14 { 2 } else { count })]),
        1 => (prop::sample::select(b" \tax".to_vec()), MAX_LINE - 2..5 * MAX_LINE)
            .prop_map(|(byte, count)| vec![byte; count]),
        2 => list_like(),
        1 => prop::sample::select(vec!["a.example", " # ", "#", "\u{FEFF}", "\r\n", "\r", "\n"])
            .prop_map(|text| text.as_bytes().to_vec()),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn pieces_cut_anywhere_are_parsed_like_complete_lines(
        bytes in prop_oneof![list_like(), long_lines()],
        marked in any::<bool>(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        even in prop::option::of(1_usize..9),
    ) {
        let mark = if marked { &b"\xEF\xBB\xBF"[..] } else { &[] };
        let bytes = [mark, &bytes].concat();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        if let Some(even) = even.filter(|_| bytes.len() < 2000) {
            cuts = (0..bytes.len()).step_by(even).collect();
        }
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        for (format, comments) in [
            (Format::Domains, "#"),
            (Format::Hosts, "#"),
            (Format::Domains, "#!\"%"),
            (Format::Hosts, "$!/"),
        ] {
            let comments = comments.to_owned().try_into().expect("characters");
            let notation = Notation { comments, ..of(format) };
            let mut found = Vec::new();
            let mut rule = |rule: ParsedRule<'_>| found.push(on_name(rule));
            let mut reader = Reader::new(notation, None);
            for cut in cuts.windows(2) {
                reader.feed(&bytes[cut[0]..cut[1]], &mut rule);
                if let Parser::Lines(lines) = &reader.0 {
                    prop_assert!(lines.cutter.buffer.capacity() <= 4 * lines::BUFFER_MAX);
                }
            }
            let tally = reader.finish(&mut rule);
            let (expected, expected_tally) = rules_of_whole_lines(&bytes, notation);
            prop_assert_eq!(&found, &expected);
            prop_assert_eq!(&tally, &expected_tally);
            if comments.is_default() {
                prop_assert_eq!((found, tally), rules(&bytes, format));
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_every_line_is_counted(bytes in list_like()) {
        for format in [Format::Domains, Format::Hosts] {
            let mut last_line = 0;
            let mut cutter = Cutter::new(of(format));
            let mut count = |number, _: &[u8]| last_line = number;
            cutter.feed(&bytes, &mut count);
            cutter.finish(&mut count);
            let mut seen = Vec::new();
            let tally = read(&bytes, of(format), None, |rule| {
                assert_ne!(on_name(rule).0, ".");
                seen.push(rule.line);
            });
            prop_assert_eq!(tally.rules as usize, seen.len());
            prop_assert!(seen.is_sorted() && seen.iter().all(|line| (1..=last_line).contains(line)));
            seen.dedup();
            let good = tally.lines - tally.bad_total();
            prop_assert!(good <= tally.rules + tally.skipped);
            prop_assert!(tally.mostly_good <= tally.bad_total());
            if format == Format::Domains {
                prop_assert_eq!(seen.len() as u32, good);
            }
            prop_assert!(tally.lines + tally.comments <= last_line);
            prop_assert_eq!(tally.first.len() as u32, tally.bad_total().min(10));
            if format == Format::Domains {
                prop_assert_eq!((good, 0), (tally.rules, tally.skipped));
            }
        }
    }

    #[test]
    fn a_printed_name_is_parsed_to_the_same_name(bytes in prop::collection::vec(any::<u8>(), 1..6)) {
        let mut wire = vec![bytes.len() as u8];
        wire.extend(&bytes);
        wire.extend(b"\x07example\x00");
        let (name, _) = Name::parse(&wire, 0).expect("a label of at most 5 bytes");
        let typed = name.to_string();
        if let Ok((read, scope)) = typed::one(&typed) {
            prop_assert!(read == name && scope.is_none() || typed.starts_with("*."));
        }
    }
}
