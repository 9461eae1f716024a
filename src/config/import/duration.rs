//! Durations as programs in Go write them.

use super::draft::Draft;
use super::tree::Node;

const NANOS_PER_MILLI: i128 = 1_000_000;
const NANOS_PER_SEC: i128 = 1000 * NANOS_PER_MILLI;
const NANOS_PER_MINUTE: i128 = 60 * NANOS_PER_SEC;
/// The units, with their nanoseconds. Those of microseconds are with the letter and with the sign.
const UNITS: &[(&str, i128)] = &[
    ("h", 60 * NANOS_PER_MINUTE),
    ("m", NANOS_PER_MINUTE),
    ("s", NANOS_PER_SEC),
    ("ms", NANOS_PER_MILLI),
    ("us", 1000),
    ("\u{b5}s", 1000),
    ("\u{3bc}s", 1000),
    ("ns", 1),
];

/// The whole seconds of a duration as Go writes it, such as `1h30m`, or of a number of minutes.
pub(super) fn seconds(node: &Node, draft: &mut Draft) -> Option<i64> {
    in_units(node, NANOS_PER_SEC, draft)
}

/// Like [`seconds`], but the milliseconds.
pub(super) fn millis(node: &Node, draft: &mut Draft) -> Option<i64> {
    in_units(node, NANOS_PER_MILLI, draft)
}

fn in_units(node: &Node, nanos_per_unit: i128, draft: &mut Draft) -> Option<i64> {
    let text = node.text()?;
    let minutes = text.parse::<i64>().ok();
    let nanos = minutes.map(|minutes| i128::from(minutes) * NANOS_PER_MINUTE);
    let found = nanos.or_else(|| duration(text));
    let found = found.and_then(|nanos| i64::try_from(nanos / nanos_per_unit).ok());
    if found.is_none() {
        draft.leave(&node.line, text, "not a duration");
    }
    found
}

/// The nanoseconds of numbers with units, such as `1h30m` and `-1.5s`.
fn duration(text: &str) -> Option<i128> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest.is_empty() {
        return None;
    }
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let mut total = 0_i128;
    while !rest.is_empty() {
        let (number, behind) = rest.split_at(rest.find(|c| !is_number(c))?);
        let (unit, behind) = behind.split_at(behind.find(is_number).unwrap_or(behind.len()));
        let (_, nanos) = UNITS.iter().find(|(known, _)| *known == unit)?;
        total = total.checked_add(product(number, *nanos)?)?;
        rest = behind;
    }
    Some(sign * total)
}

/// A decimal number, such as `1.5`, times a unit. Fractions of a nanosecond are dropped.
fn product(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole = match whole {
        "" => 0,
        digits => i128::from(digits.parse::<i64>().ok()?),
    };
    let (mut part, mut digit_unit) = (0, unit);
    for digit in fraction.bytes() {
        digit_unit /= 10;
        part += i128::from(digit - b'0') * digit_unit;
    }
    Some(whole * unit + part)
}

#[cfg(test)]
mod tests {
    use super::{NANOS_PER_MILLI, duration};

    #[test]
    fn a_duration_is_the_sum_of_its_units() {
        for (text, millis) in [
            ("6h", Some(21_600_000)),
            ("1h30m5s", Some(5_405_000)),
            ("500ms", Some(500)),
            ("1s500ms", Some(1500)),
            ("0.5s", Some(500)),
            ("1.5h", Some(5_400_000)),
            (".25m", Some(15_000)),
            ("1.s", Some(1000)),
            ("-1.5s", Some(-1500)),
            ("2000\u{b5}s3000us", Some(5)),
            ("5", None),
            ("5d", None),
            (".s", None),
            ("1..5s", None),
            ("-", None),
            ("\u{e9}", None),
            ("99999999999999999999h", None),
        ] {
            let expected = millis.map(|millis| millis * NANOS_PER_MILLI);
            assert_eq!(duration(text), expected, "{text}");
        }
    }
}
