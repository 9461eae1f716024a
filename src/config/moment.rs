//! Owns instants as files have them: RFC 3339, with the offset that they were written with.
//! Refuses local times: nobody can say when they are.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::fmt::temporal::Pieces;
use jiff::tz::Offset;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The year of the last instant.
const YEAR_MAX: i16 = 9999;

/// An instant. Equal and ordered by when it is; shown as it was written.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    at: Timestamp,
    offset: Offset,
}

/// A text is not an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoMoment {
    /// It is something else, or has no offset, and may not be a date alone either.
    #[error(
        "must be a time with its offset, as in 2017-07-14T11:30:00+07:00, or a date, as in 2017-07-14"
    )]
    NoDate,
    /// It is something else, or has no offset.
    #[error("must be a time with its offset, as in 2017-07-14T11:30:00+07:00")]
    Form,
    /// It is one that can't be represented, as a date that stands for never.
    #[error(
        "is after the last instant: write {} at the latest",
        Moment::from(Timestamp::MAX)
    )]
    Beyond,
}

impl Moment {
    /// An instant in UTC, with its fraction of a second.
    pub fn exact(at: Timestamp) -> Self {
        Self {
            at,
            offset: Offset::UTC,
        }
    }

    /// The instant itself.
    pub fn at(self) -> Timestamp {
        self.at
    }
}

/// An instant as an argument has it: a date alone is its first instant in UTC.
///
/// # Errors
/// [`NoMoment`].
pub fn or_date(text: &str) -> Result<Moment, NoMoment> {
    let day = match text.parse::<Date>() {
        Ok(_) if !text.contains(|c: char| !matches!(c, '0'..='9' | '-')) => {
            format!("{text}T00:00:00Z")
        }
        _ => text.to_owned(),
    };
    day.parse().map_err(|why| match why {
        NoMoment::Form => NoMoment::NoDate,
        other => other,
    })
}

impl From<Timestamp> for Moment {
    /// To the second, in UTC.
    fn from(at: Timestamp) -> Self {
        Self {
            at: Timestamp::from_second(at.as_second()).unwrap_or(at),
            offset: Offset::UTC,
        }
    }
}

impl FromStr for Moment {
    type Err = NoMoment;

    fn from_str(text: &str) -> Result<Self, NoMoment> {
        let pieces = Pieces::parse(text).map_err(|_| NoMoment::Form)?;
        let offset = pieces.to_numeric_offset().ok_or(NoMoment::Form)?;
        let at = text.parse().map_err(|_| match pieces.time() {
            Some(_) if pieces.date().year() == YEAR_MAX => NoMoment::Beyond,
            _ => NoMoment::Form,
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
    fn an_instant_beyond_the_last_one_is_refused_as_that() {
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
    fn an_instant_is_shown_as_it_was_written_and_compared_by_when_it_is() {
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
            assert_eq!(read(none), Err(NoMoment::Form), "{none}");
        }
    }
}
