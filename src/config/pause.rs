//! A pause: until a time, the rules of a list or feed decide nothing, because the operator said so.

use std::fmt;

use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};
use serde::{Deserialize, Serialize};

use super::values::is_placeholder;
use crate::wire::text::steers;

/// The longest pause. What is to last longer belongs into the configuration.
pub const LONGEST: SignedDuration = SignedDuration::from_hours(7 * 24);
/// The shortest pause.
const SHORTEST: SignedDuration = SignedDuration::from_secs(1);
/// The maximum length of the reason, in characters.
const REASON_MAX: usize = 200;
/// How far the clock may go back without the end of a pause that has just begun, as it is corrected by small steps all
/// the time.
const SLIP: SignedDuration = SignedDuration::from_secs(1);

/// The pause of a list or feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// When it began.
    pub since: Timestamp,
    /// When it ends.
    pub until: Timestamp,
    /// The reason, which is public.
    pub reason: String,
    /// The user who asked for it.
    pub user: u32,
}

/// Why a pause is not possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PauseError {
    /// Its length is not a time.
    #[error("must be a time with its unit, as in 90s, 5m, 1h30m or 2d")]
    Length,
    /// It is too short or too long.
    #[error(
        "must be 1 second to 7 days; to disable a list for longer, remove it from the configuration"
    )]
    Bounds,
    /// It has no reason.
    #[error("the reason is empty: say why, for those who find it in the journal")]
    NoReason,
    /// The reason is too long.
    #[error("the reason has more than {REASON_MAX} characters: shorten it")]
    LongReason,
    /// The reason is not one line of text.
    #[error("the reason must be one line: remove control and format characters")]
    Lines,
}

impl Pause {
    /// A pause that begins at `now`.
    ///
    /// # Errors
    /// [`PauseError`]
    pub fn new(
        now: Timestamp,
        length: SignedDuration,
        reason: &str,
        user: u32,
    ) -> Result<Self, PauseError> {
        let until = now.checked_add(bounded(length)?);
        Ok(Self {
            since: now,
            until: until.map_err(|_| PauseError::Bounds)?,
            reason: checked_reason(reason)?,
            user,
        })
    }

    /// Whether it is in force. If the clock is set back to a time before its beginning, it is over: otherwise it would
    /// last longer than the operator wanted.
    pub fn is_in_force(&self, at: Timestamp) -> bool {
        at.duration_since(self.since) >= -SLIP && at < self.until
    }
}

/// Its end, reason and user, after the word `paused`.
impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            until,
            reason,
            user,
            ..
        } = self;
        write!(f, "until {until:.0} ({reason}, by user {user})")
    }
}

/// Reads the length of a pause, such as `5m`.
///
/// # Errors
/// [`PauseError`]
pub fn length(text: &str) -> Result<SignedDuration, PauseError> {
    let span: Span = text.parse().map_err(|_| PauseError::Length)?;
    let length = span.to_duration(SpanRelativeTo::days_are_24_hours());
    bounded(length.map_err(|_| PauseError::Length)?)
}

fn bounded(length: SignedDuration) -> Result<SignedDuration, PauseError> {
    match (SHORTEST..=LONGEST).contains(&length) {
        true => Ok(length),
        false => Err(PauseError::Bounds),
    }
}

/// Reads the reason of a pause.
///
/// # Errors
/// [`PauseError`]
pub fn checked_reason(text: &str) -> Result<String, PauseError> {
    let text = text.trim();
    if text.is_empty() || is_placeholder(text) {
        return Err(PauseError::NoReason);
    }
    if text.chars().count() > REASON_MAX {
        return Err(PauseError::LongReason);
    }
    match text.contains(steers) {
        true => Err(PauseError::Lines),
        false => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn the_length_is_a_number_with_a_unit_within_bounds() {
        for (text, seconds) in [
            ("1s", 1),
            ("90s", 90),
            ("5m", 300),
            ("1h30m", 5400),
            ("2d", 172_800),
            ("7d", 604_800),
            ("168h", 604_800),
        ] {
            let read = length(text).map(|length| length.as_secs());
            assert_eq!(read, Ok(seconds), "{text}");
        }
        for text in ["", "5", "m", "5x", "5 apples", "1mo", "1y", "5m 5"] {
            assert_eq!(length(text), Err(PauseError::Length), "{text}");
        }
        for text in ["0s", "500ms", "7d1s", "8d", "169h", "-5m", "5m ago"] {
            assert_eq!(length(text), Err(PauseError::Bounds), "{text}");
        }
    }

    #[test]
    fn the_reason_is_one_line_of_at_most_200_characters() {
        assert_eq!(checked_reason(" ü "), Ok("ü".to_owned()));
        assert!(checked_reason(&"ü".repeat(200)).is_ok());
        assert_eq!(
            checked_reason(&"x".repeat(201)),
            Err(PauseError::LongReason)
        );
        for text in ["", " ", "..."] {
            assert_eq!(checked_reason(text), Err(PauseError::NoReason), "{text:?}");
        }
        for text in ["a\nb", "a\u{1b}[31m", "a\u{202e}b"] {
            assert_eq!(checked_reason(text), Err(PauseError::Lines), "{text:?}");
        }
    }

    #[test]
    fn a_pause_is_in_force_from_its_beginning_to_before_its_end() {
        let (since, length) = (time("2026-11-28T12:00:00Z"), SignedDuration::from_mins(5));
        let pause = Pause::new(since, length, "broken", 7).expect("valid");
        for (at, expected) in [
            ("2026-11-28T12:00:00Z", true),
            ("2026-11-28T12:04:59.999Z", true),
            ("2026-11-28T12:05:00Z", false),
            // The clock was corrected by a small step, and set back.
            ("2026-11-28T11:59:59.5Z", true),
            ("2026-11-28T11:59:58Z", false),
        ] {
            assert_eq!(pause.is_in_force(time(at)), expected, "{at}");
        }
        let shown = "until 2026-11-28T12:05:00Z (broken, by user 7)";
        assert_eq!(pause.to_string(), shown);
    }
}
