//! Orders with many items and many mistakes.

use super::*;

/// The good order with `targets` in place of its own.
fn with_targets(targets: &str) -> String {
    let head = GOOD.split("[[targets]]").next().expect("its head");
    format!("{head}{targets}")
}

#[test]
fn a_mistake_in_every_target_is_reported_for_the_first_and_counted_for_the_rest() {
    for (mistaken, message) in [
        (
            "name = \"a.example\"\nscope = \"exat\"",
            "scope is \"exat\"",
        ),
        ("name = 1\nscope = \"exact\"", "name is a whole number (1)"),
        ("scope = \"exact\"", "the order has no `targets.name`"),
        (
            "name = \"a.example\"\nscope = \"exact\"\nwhy = 1",
            "unknown key `why`",
        ),
    ] {
        let text = with_targets(&format!("[[targets]]\n{mistaken}\n").repeat(20_000));
        let problems = Order::parse(&text, Path::new("o.toml")).expect_err("refused");
        assert_eq!(problems.0.len(), 101, "{mistaken}");
        assert!(problems.0[0].message.starts_with(message), "{problems}");
        let last = problems.0[100].to_string();
        assert_eq!(last, "o.toml: 19900 more problems: correct these first");
    }
}

#[test]
fn an_order_that_excepts_tens_of_thousands_of_names_is_read() {
    let excepts: Vec<_> = (0..60_000)
        .map(|n| format!("\"n{n}.big.example\""))
        .collect();
    let excepts = excepts.join(", ");
    let text = with_targets(&format!(
        "[[targets]]\nname = \"big.example\"\nscope = \"subtree\"\nexcept = [{excepts}]\n"
    ));
    let order = Order::parse(&text, Path::new("o.toml")).expect("valid");
    assert_eq!(order.targets[0].except.len(), 60_000);
    // The same with many other targets, among which each excepted name is looked up.
    let others: String = (0..20_000)
        .map(|n| format!("[[targets]]\nname = \"o{n}.other.example\"\nscope = \"exact\"\n"))
        .collect();
    let order = Order::parse(&format!("{text}{others}"), Path::new("o.toml")).expect("valid");
    assert_eq!(order.targets.len(), 20_001);
}

#[test]
fn an_order_with_too_many_items_is_rejected_with_the_line_of_the_first_excess_item() {
    let targets = "[[targets]]\nname = \"a.example\"\nscope = \"exact\"\n".repeat(100_001);
    let text = with_targets(&targets);
    let line = text.lines().count() - 2;
    assert_eq!(
        outcome(&text),
        format!(
            "o.toml:{line}: the order has 100001 targets, must be at most 100000: split the order"
        )
    );
    let ids: Vec<_> = (0..1001).map(|n| format!("\"o{n}\"")).collect();
    let many = GOOD.replace("[\"id-2017-07-01\"]", &format!("[{}]", ids.join(", ")));
    assert_eq!(
        outcome(&many),
        "o.toml:13: the order has 1001 orders that it supersedes, must be at most 1000: split the order"
    );
}
