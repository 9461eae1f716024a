//! Durations as programs in Go write them.

use super::draft::Draft;
use super::tree::Node;

/// A duration as Go writes it, such as `1h30m`, or a number of minutes.
pub(super) fn seconds(node: &Node, draft: &mut Draft) -> Option<i64> {
    let text = node.text()?;
    let found = text
        .parse::<i64>()
        .ok()
        .and_then(|minutes| minutes.checked_mul(60))
        .or_else(|| duration(text));
    if found.is_none() {
        draft.leave(&node.line, text, "not a duration");
    }
    found
}

/// The seconds of numbers with units, such as `1h30m`.
fn duration(text: &str) -> Option<i64> {
    let (mut total, mut rest) = (0_i64, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = rest[..digits].parse().ok()?;
        let unit = rest[digits..]
            .find(|c: char| c.is_ascii_digit())
            .map_or(rest.len(), |end| digits + end);
        let factor = match &rest[digits..unit] {
            "h" => 3600,
            "m" => 60,
            "s" => 1,
            // Less than a second.
            "ms" => 0,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(factor)?)?;
        rest = &rest[unit..];
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn a_duration_is_the_sum_of_its_units() {
        for (text, secs) in [
            ("6h", Some(21_600)),
            ("1h30m5s", Some(5405)),
            ("500ms", Some(0)),
            ("5", None),
            ("5d", None),
            ("é", None),
            ("99999999999999999h", None),
        ] {
            assert_eq!(duration(text), secs, "{text}");
        }
    }
}
