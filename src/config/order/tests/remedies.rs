//! Applying the remedy of a message solves the problem.

use super::*;

#[test]
fn the_date_that_is_proposed_for_a_missing_review_can_be_pasted() {
    let review = "review-at = 2018-01-14T00:00:00+07:00\n";
    let start = "effective-from = 2017-07-14T11:30:00+07:00";
    assert!(GOOD.contains(review) && GOOD.contains(start));
    let text = GOOD.replace("expires-at = 2019-01-14T00:00:00+07:00\n", "");
    let now = jiff::Timestamp::now();
    for (from, expected) in [
        (start, None),
        (
            "effective-from = 2090-07-14T11:30:00+07:00",
            Some("2091-01-10T04:30:00Z"),
        ),
        (
            "effective-from = 9999-12-30T00:00:00Z",
            Some("9999-12-30T22:00:00Z"),
        ),
    ] {
        let text = text.replace(start, from);
        let problem = outcome(&text.replace(review, ""));
        let (_, remedy) = problem
            .split_once("has no `review-at`: add ")
            .expect("the remedy");
        let pasted = text.replace(review, &format!("{}\n", remedy.trim()));
        let order = Order::parse(&pasted, Path::new("o.toml"));
        let order = order.unwrap_or_else(|problems| panic!("{remedy}: {problems}"));
        let at = order.dates.review_at;
        assert!(at.at() > now, "{remedy}");
        if let Some(expected) = expected {
            assert_eq!(at.to_string(), expected);
        }
    }
}

#[test]
fn the_remedy_for_an_empty_text_depends_on_whether_it_is_required() {
    for (line, key, remedy) in [
        (
            "name = \"Kementerian Komunikasi dan Informatika\"",
            "name",
            "is empty: fill it in",
        ),
        (
            "legal-basis = [\"Permenkominfo 19/2014\"]",
            "legal-basis",
            "is empty: fill it in",
        ),
        (
            "en = \"content of radicalism\"",
            "reason",
            "is empty: fill it in",
        ),
        (
            "how = \"Write to the ministry\"",
            "how",
            "is empty: fill it in",
        ),
        ("deadline = \"21 days\"", "deadline", "leave it out"),
        ("category = \"terrorism\"", "category", "leave it out"),
    ] {
        let (start, rest) = line.split_once('"').expect("a text");
        let (_, rest) = rest.split_once('"').expect("its end");
        let found = with(line, &format!("{start}\"\"{rest}"));
        assert!(
            found.contains(key) && found.contains(remedy),
            "{line}: {found}"
        );
        assert_eq!(found.lines().count(), 1, "{found}");
    }
}
