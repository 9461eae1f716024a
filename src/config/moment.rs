//! Times in files: RFC 3339, kept with the offset that they were written with. Local times are invalid, because their
//! time zone is not known.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::fmt::temporal::Pieces;
use jiff::tz::Offset;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The last year with valid times.
const YEAR_MAX: i16 = 9999;

/// A point in time. The offset that it was written with is shown, but ignored by comparisons.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    at: Timestamp,
    offset: Offset,
}

/// The reason why a text is not a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MomentError {
    /// It is neither a time with an offset nor a date.
    #[error(
        "must be a time with its offset, as in 2017-07-14T11:30:00+07:00, or a date, as in 2017-07-14"
    )]
    NoDate,
    /// It is not a time with an offset.
    #[error("must be a time with its offset, as in 2017-07-14T11:30:00+07:00")]
    Form,
    /// It is too late to be represented, such as 9999-12-31 for "never".
    #[error(
        "is after the last instant: write {} at the latest",
        Moment::from(Timestamp::MAX)
    )]
    Beyond,
}

impl Moment {
    /// A time in UTC, with its fraction of a second.
    pub fn exact(at: Timestamp) -> Self {
        Self {
            at,
            offset: Offset::UTC,
        }
    }

    /// The time without its offset.
    pub fn at(self) -> Timestamp {
        self.at
    }
}

/// Parses an argument: a time, or a date. A date means the start of that day in UTC.
///
/// # Errors
/// [`MomentError`].
pub fn time_or_date(text: &str) -> Result<Moment, MomentError> {
    let day = match text.parse::<Date>() {
        Ok(_) if !text.contains(|c: char| !matches!(c, '0'..='9' | '-')) => {
            format!("{text}T00:00:00Z")
        }
        _ => text.to_owned(),
    };
    day.parse().map_err(|why| match why {
        MomentError::Form => MomentError::NoDate,
        other => other,
    })
}

impl From<Timestamp> for Moment {
    /// Truncated to seconds, in UTC.
    fn from(at: Timestamp) -> Self {
        Self {
            at: Timestamp::from_second(at.as_second()).unwrap_or(at),
            offset: Offset::UTC,
        }
    }
}

impl FromStr for Moment {
    type Err = MomentError;

    fn from_str(text: &str) -> Result<Self, MomentError> {
        let pieces = Pieces::parse(text).map_err(|_| MomentError::Form)?;
        let offset = pieces.to_numeric_offset().ok_or(MomentError::Form)?;
        let at = text.parse().map_err(|_| match pieces.time() {
            Some(_) if pieces.date().year() == YEAR_MAX => MomentError::Beyond,
            _ => MomentError::Form,
        })?;
        Ok(Self { at, offset })
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.offset == Offset::UTC {
            return write!(f, "{}", self.at);
        }
        write!(f, "{}", self.at.display_with_offset(self.offset))
    }
}

impl PartialEq for Moment {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Moment {}

impl PartialOrd for Moment {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Moment {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_is_too_late_is_rejected_with_the_last_valid_one() {
        let read = |text: &str| text.parse::<Moment>().map_err(|why| why.to_string());
        for beyond in [
            "9999-12-31T23:59:59Z",
            "9999-12-31T23:59:59+01:00",
            "9999-12-30T22:00:01Z",
        ] {
            let why = read(beyond).expect_err("beyond");
            assert!(why.contains("9999-12-30T22:00:00Z at the latest"), "{why}");
        }
        assert!(read("9999-12-30T22:00:00Z").is_ok());
        let latest = "9999-12-31T05:00:00+07:00";
        assert_eq!(read(latest).expect("the last").to_string(), latest);
    }

    #[test]
    fn a_time_is_shown_as_it_was_written_and_compared_by_the_point_in_time() {
        let read = |text: &str| text.parse::<Moment>();
        let jakarta = read("2017-07-14T11:30:00+07:00").expect("a time");
        let london = read("2017-07-14T04:30:00Z").expect("a time");
        assert_eq!(jakarta, london);
        assert_eq!(jakarta.to_string(), "2017-07-14T11:30:00+07:00");
        assert!(read("2017-07-14T11:30:01+07:00").expect("a time") > london);
        for none in [
            "2017-07-14T11:30:00",
            "2017-07-14",
            "11:30:00+07:00",
            "now",
            "",
        ] {
            assert_eq!(read(none), Err(MomentError::Form), "{none}");
        }
    }
}
