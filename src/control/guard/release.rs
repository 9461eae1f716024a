//! The guards of whole lists, and the notation `LIST:GUARD` that releases one.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A guard that keeps the last good state of a list in force. Images and the control socket contain its name as
/// [`word`](Self::word) gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guard {
    /// The file is empty.
    Empty,
    /// Too many of its lines are bad.
    Bad,
    /// It has too few rules compared with those in force.
    Shrunk,
    /// It has too many rules compared with those in force.
    Grown,
    /// It was written too long ago.
    Old,
    /// Another format is recognised than that of the state in force.
    Format,
}

impl Guard {
    /// All guards.
    pub const ALL: [Self; 6] = [
        Self::Empty,
        Self::Bad,
        Self::Shrunk,
        Self::Grown,
        Self::Old,
        Self::Format,
    ];

    /// Its name in a release.
    pub fn word(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Bad => "bad",
            Self::Shrunk => "shrunk",
            Self::Grown => "grown",
            Self::Old => "old",
            Self::Format => "format",
        }
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A set of guards: those that are released, for example, or those that reject an update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Vec<Guard>", into = "Vec<Guard>")]
pub struct Guards(u8);

impl Guards {
    /// No guards.
    pub const NONE: Self = Self(0);
    /// All guards.
    pub const ALL: Self = Self(0b11_1111);

    /// The union.
    pub fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Whether `guard` is in the set.
    pub fn has(self, guard: Guard) -> bool {
        self.0 & Self::from(guard).0 != 0
    }

    /// Whether all of `others` are in the set.
    pub fn cover(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The guards in the set.
    pub fn iter(self) -> impl Iterator<Item = Guard> {
        Guard::ALL.into_iter().filter(move |guard| self.has(*guard))
    }
}

impl From<Guard> for Guards {
    fn from(guard: Guard) -> Self {
        Self(1 << guard as u8)
    }
}

impl From<Vec<Guard>> for Guards {
    fn from(guards: Vec<Guard>) -> Self {
        guards.into_iter().collect()
    }
}

impl From<Guards> for Vec<Guard> {
    fn from(guards: Guards) -> Self {
        guards.iter().collect()
    }
}

impl FromIterator<Guard> for Guards {
    fn from_iter<I: IntoIterator<Item = Guard>>(guards: I) -> Self {
        let each = guards.into_iter().map(Self::from);
        each.fold(Self::NONE, Self::and)
    }
}

/// Why a text is not a release.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRelease {
    /// It has no guard.
    #[error(
        "--accept {0} names no guard: write {0}:GUARD, with one of empty, bad, shrunk, grown, old"
    )]
    Unnamed(String),
    /// There is no such guard.
    #[error(
        "--accept {list}:{word}: no guard is called `{word}`, only empty, bad, shrunk, grown, old"
    )]
    Unknown {
        /// The list.
        list: String,
        /// The word in place of a guard.
        word: String,
    },
}

/// Reads `LIST:GUARD`.
///
/// # Errors
/// [`NoRelease`] if the text is malformed or has no such guard.
pub fn read(text: &str) -> Result<(&str, Guard), NoRelease> {
    // Names of lists have no colon, so the text before the last colon is meant as a name.
    let Some((list, word)) = text.rsplit_once(':') else {
        return Err(NoRelease::Unnamed(text.to_owned()));
    };
    let guard = Guard::ALL.into_iter().find(|guard| guard.word() == word);
    let guard = guard.ok_or_else(|| NoRelease::Unknown {
        list: list.to_owned(),
        word: word.to_owned(),
    })?;
    Ok((list, guard))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_names_a_list_and_one_of_the_five_guards() {
        for guard in Guard::ALL {
            let text = format!("ads.v2:{guard}");
            assert_eq!(read(&text), Ok(("ads.v2", guard)));
        }
        assert_eq!(read("a:b:old"), Ok(("a:b", Guard::Old)));
        assert_eq!(read("ads"), Err(NoRelease::Unnamed("ads".to_owned())));
        for text in ["ads:", "ads:shrnk", "ads:Old", "old:ads"] {
            let error = read(text).expect_err("no release").to_string();
            let all = "only empty, bad, shrunk, grown, old";
            assert!(error.contains(text) && error.ends_with(all), "{error}");
        }
    }

    #[test]
    fn a_set_of_guards_is_an_array_of_their_names_in_json() {
        let two: Guards = [Guard::Old, Guard::Bad, Guard::Old].into_iter().collect();
        assert_eq!(two.iter().collect::<Vec<_>>(), [Guard::Bad, Guard::Old]);
        let json = serde_json::to_string(&two).expect("JSON");
        assert_eq!(json, r#"["bad","old"]"#);
        assert_eq!(
            serde_json::from_str::<Guards>(&json).expect("the same"),
            two
        );
        assert!(Guards::ALL.cover(two) && two.cover(Guard::Bad.into()) && two.cover(Guards::NONE));
        assert!(!two.cover(Guard::Empty.into()) && !two.has(Guard::Shrunk));
        assert_eq!(Guard::ALL.into_iter().collect::<Guards>(), Guards::ALL);
    }
}
