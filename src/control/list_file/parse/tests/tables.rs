//! Tables and JSON, of which a column or a key has the names.

use super::formats::{all, bad, with_column};
use super::*;

#[test]
fn a_column_of_a_table_has_names() {
    let text = "# a feed\n\
                id,\"Domain\",seen\n\
                1,a.example,2026\n\
                2,\"b.example\",\"several\nlines\"\n\
                3,*.c.example\n\
                \n\
                4,,2026\r\n\
                5\n\
                6,d..example,2026";
    let (rules, tally) = all(text, &with_column(Format::Csv, "domain"));
    assert_eq!(
        rules,
        [
            "3 a.example block",
            "5 b.example block",
            "6 *.c.example block"
        ]
    );
    assert_eq!((tally.lines, tally.skipped, tally.ended), (6, 1, false));
    let label = Bad::Typed(Mistyped::Name(NameError::EmptyLabel));
    assert_eq!(bad(&tally), [(9, Bad::ShortRow), (10, label)]);
    let numbered = all("1;a.example\n2;b.example\n", &with_column(Format::Csv, "2"));
    assert_eq!(numbered.0, ["1 a.example block", "2 b.example block"]);
    let missing = all("id,name\n1,a.example\n", &with_column(Format::Csv, "host"));
    assert_eq!(
        (missing.0, bad(&missing.1)),
        (vec![], vec![(1, Bad::NoColumn)])
    );
    assert!(missing.1.is_bad_over(50));
}

#[test]
fn values_of_a_key_in_json_are_names_at_any_depth() {
    let text = "{\"generated\": \"today.example\",\n\
                \"data\": [\n\
                {\"host\": \"a.example\", \"by\": [\"x.example\"]},\n\
                {\"host\": [\"b.example\", \"\\u0063.example\"], \"more\": {\"host\": \"*.d.example\"}},\n\
                {\"host\": \"e..example\"}, {\"host\": 5}, {\"host\": \"\"}\n\
                ]}\n";
    let (rules, tally) = all(text, &with_column(Format::Json, "host"));
    assert_eq!(
        rules,
        [
            "3 a.example block",
            "4 b.example block",
            "4 c.example block",
            "4 *.d.example block",
        ]
    );
    let label = Bad::Typed(Mistyped::Name(NameError::EmptyLabel));
    assert_eq!((bad(&tally), tally.skipped), (vec![(5, label)], 1));
    let lines = "{\"host\": \"a.example\"}\n{\"host\": \"b.example\"}\n";
    let lines = all(lines, &with_column(Format::Json, "host"));
    assert_eq!(lines.0, ["1 a.example block", "2 b.example block"]);
    let repeated = all(
        "{\"host\": \"a.example\", \"host\": \"b..example\"}",
        &with_column(Format::Json, "host"),
    );
    assert_eq!(repeated.0, ["1 a.example block"]);
    assert_eq!(bad(&repeated.1), [(1, label)]);
    let plain = all("[\"a.example\",\n\"b.example\"]", &of(Format::Json));
    assert_eq!(plain.0, ["1 a.example block", "2 b.example block"]);
}

#[test]
fn json_that_is_cut_off_gives_no_rule() {
    for text in [
        "[\"a.example\",\n\"b.exam",
        "[\"a.example\"",
        "[\"a.example\"]]",
        "nothing",
    ] {
        let (rules, tally) = all(text, &of(Format::Json));
        assert_eq!(rules, [""; 0], "{text}");
        assert_eq!(tally.first[0].problem, Bad::Json, "{text}");
        assert!(tally.is_bad_over(50));
    }
    let deep = "[".repeat(40) + "\"a.example\"" + &"]".repeat(40);
    let (rules, tally) = all(&deep, &of(Format::Json));
    assert_eq!((rules.len(), bad(&tally)), (0, vec![(1, Bad::Nested)]));
}
