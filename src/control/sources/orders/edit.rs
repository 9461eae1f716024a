//! Edits the file of an order for a verb of the command line, by one atomic replacement. Comments and layout of the
//! file are kept, and an edit that would make the order invalid is rejected.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use toml_edit::{
    Array, Datetime, DocumentMut, InlineTable, Item, Table, TableLike, TomlError, Value,
};

use crate::config::Problems;
use crate::config::moment::Moment;
use crate::config::order::{Order, Suspension};
use crate::config::shown::Show;
use crate::control::persist::durable::{self, Access, DurableError};
use crate::control::persist::lock::lock_directory;

/// A change of an order.
#[derive(Clone, Copy, Debug)]
pub enum Change<'r> {
    /// Ends the order.
    Lift {
        /// When it ends.
        at: Moment,
        /// The reason to record.
        reason: &'r str,
    },
    /// Pauses the order.
    Suspend {
        /// When the pause begins.
        from: Moment,
        /// When it ends.
        until: Moment,
        /// The reason to record.
        reason: &'r str,
    },
}

/// A reason why a file was not changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The file can't be read or written.
    #[error("{path}: {source}; let this user write to it and its directory", path = path.shown())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It can't be replaced.
    #[error("{0}")]
    Unwritten(DurableError),
    /// It was changed, and neither made permanent nor changed back.
    #[error(
        "{path}: changed, but can't be made permanent: {source}; a power cut may undo the change: check its disk, then \
         look at the file again", path = .0.path.shown(), source = .0.source)]
    Unsynced(DurableError),
    /// Another program holds the lock of the directory for too long.
    #[error("{path}: another program holds a lock on its directory (see lslocks): try again", path = path.shown())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The file is not TOML.
    #[error("{path}: {source}", path = path.shown())]
    Toml {
        /// The file.
        path: PathBuf,
        /// The syntax error.
        source: TomlError,
    },
    /// The order was lifted before.
    #[error(
        "{path}: the order was lifted already, at {at}: to correct that, change `lifted-at` in the file",
        path = path.shown()
    )]
    Lifted {
        /// The file.
        path: PathBuf,
        /// When it was lifted.
        at: Moment,
    },
    /// The order will end at that moment or earlier anyway.
    #[error(
        "{path}: the order will {end} at {at} already: to correct that, change `{key}` in the file",
        path = path.shown()
    )]
    EndsBefore {
        /// The file.
        path: PathBuf,
        /// `be lifted` or `expire`.
        end: &'static str,
        /// When it will end.
        at: Moment,
        /// The key with this date.
        key: &'static str,
    },
    /// The order expired before.
    #[error("{path}: the order expired already, at {at}: to correct that, change `expires-at` in the file", path = path.shown())]
    Expired {
        /// The file.
        path: PathBuf,
        /// When it expired.
        at: Moment,
    },
    /// The order has a suspension that overlaps with the new one.
    #[error(
        "{path}: the order has a suspension already, from {from} until {until}; to begin or end that at another \
         time, change `from` or `until` of that suspension in the file",
        path = path.shown(),
        until = until.map_or("further notice".to_owned(), |at| at.to_string())
    )]
    Suspended {
        /// The file.
        path: PathBuf,
        /// When that begins.
        from: Moment,
        /// When it ends; `None` if it has no end.
        until: Option<Moment>,
    },
    /// The file can't be read as text.
    #[error("{0}")]
    Unreadable(Problems),
    /// The changed order would be invalid.
    #[error("the file was not changed, as the order would be invalid:\n{0}")]
    Order(Problems),
}

/// Changes an order's file atomically, and returns the changed order. Waits up to 10 s for another verb that edits a
/// file in the same directory.
///
/// # Errors
/// [`EditError`]; the file is unchanged then, except after [`EditError::Unsynced`].
pub fn apply(path: &Path, change: &Change<'_>) -> Result<Order, EditError> {
    let io = |source| EditError::Io {
        path: path.to_owned(),
        source,
    };
    // If it is a symbolic link, its target is replaced, not the link.
    let path = fs::canonicalize(path).map_err(io)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    // Without a lock, two verbs at a time could overwrite each other's change.
    let lock = lock_directory(folder).map_err(io)?;
    let _lock = lock.ok_or_else(|| EditError::Locked { path: path.clone() })?;
    let before = super::text(&path).map_err(EditError::Unreadable)?;
    let text = edit_text(&before, &path, change, Timestamp::now())?;
    let order = Order::parse(&text, &path).map_err(EditError::Order)?;
    let (new, before) = (text.as_bytes(), Some(before.as_bytes()));
    // The server must still be able to read the file. The temporary file's name does not end in `.toml`, so the server
    // ignores it.
    durable::replace_locked(&path, new, before, Access::Inherit).map_err(|error| {
        match error.is_in_place {
            true => EditError::Unsynced(error),
            false => EditError::Unwritten(error),
        }
    })?;
    Ok(order)
}

/// The text with the change. A lift replaces an end that is planned for a later time. A suspension that overlaps with
/// an existing one extends the existing one.
fn edit_text(
    text: &str,
    path: &Path,
    change: &Change<'_>,
    now: Timestamp,
) -> Result<String, EditError> {
    let mut document: DocumentMut = text.parse().map_err(|source| EditError::Toml {
        path: path.to_owned(),
        source,
    })?;
    match *change {
        Change::Lift { at, reason } => {
            check_ends_later(&document, path, at, now)?;
            set_value(&mut document, "lifted-at", datetime(at));
            set_value(&mut document, "lift-reason", reason.into());
        }
        Change::Suspend {
            from,
            until,
            reason,
        } => {
            let order = Order::parse(text, path).ok();
            let found = order
                .as_ref()
                .and_then(|order| overlapping(order, from, until));
            let mut from = from;
            if let Some((_, before)) = found {
                // A suspension may only become longer, and its beginning may not change once it is past.
                let (begins_earlier, begun) = (from < before.from, before.from.at() <= now);
                let is_longer = before.until.is_some_and(|end| end < until)
                    || (begins_earlier && before.until == Some(until));
                if !is_longer || (begins_earlier && begun) {
                    return Err(EditError::Suspended {
                        path: path.to_owned(),
                        from: before.from,
                        until: before.until,
                    });
                }
                from = from.min(before.from);
            }
            let fields = [
                ("from", datetime(from)),
                ("until", datetime(until)),
                ("reason", reason.into()),
            ];
            let pauses = document.get_mut("suspended");
            if let Some((number, _)) = found {
                if let Some(pause) = pauses.and_then(|pauses| suspension_mut(pauses, number)) {
                    for (key, value) in fields {
                        pause.insert(key, Item::Value(value));
                    }
                }
                return Ok(document.to_string());
            }
            match pauses {
                Some(Item::ArrayOfTables(pauses)) => {
                    let fields = fields.map(|(key, value)| (key, Item::Value(value)));
                    pauses.push(Table::from_iter(fields));
                }
                Some(Item::Value(Value::Array(pauses))) => {
                    pauses.push(InlineTable::from_iter(fields));
                }
                _ => {
                    let pauses = Array::from_iter([InlineTable::from_iter(fields)]);
                    document.insert("suspended", pauses.into());
                }
            }
        }
    }
    Ok(document.to_string())
}

/// Checks that the order does not end at `at` or earlier anyway.
fn check_ends_later(
    document: &DocumentMut,
    path: &Path,
    at: Moment,
    now: Timestamp,
) -> Result<(), EditError> {
    let path = path.to_owned();
    let instant = |key: &str| -> Option<Moment> {
        let written = document.get(key)?.as_datetime()?.to_string();
        written.parse().ok()
    };
    let ends_before = |end, at, key| EditError::EndsBefore {
        path: path.clone(),
        end,
        at,
        key,
    };
    let lifted = instant("lifted-at").filter(|lifted| *lifted <= at || lifted.at() <= now);
    let expires = instant("expires-at").filter(|expires| *expires <= at);
    match (lifted, expires) {
        (Some(at), _) if at.at() <= now => Err(EditError::Lifted { path, at }),
        (Some(at), _) => Err(ends_before("be lifted", at, "lifted-at")),
        (None, Some(at)) if at.at() <= now => Err(EditError::Expired { path, at }),
        (None, Some(at)) => Err(ends_before("expire", at, "expires-at")),
        (None, None) => Ok(()),
    }
}

/// Replaces the value of a key and keeps its comment, or appends the key.
fn set_value(document: &mut DocumentMut, key: &str, mut value: Value) {
    match document.get_mut(key).and_then(Item::as_value_mut) {
        Some(before) => {
            value.decor_mut().clone_from(before.decor());
            *before = value;
        }
        None => _ = document.insert(key, value.into()),
    }
}

/// The suspension with this index, in an array of tables or of inline tables.
fn suspension_mut(pauses: &mut Item, number: usize) -> Option<&mut dyn TableLike> {
    match pauses {
        Item::ArrayOfTables(pauses) => Some(pauses.get_mut(number)?),
        Item::Value(Value::Array(pauses)) => Some(pauses.get_mut(number)?.as_inline_table_mut()?),
        _ => None,
    }
}

/// The first suspension of an order that overlaps with this time, with its index.
fn overlapping(order: &Order, from: Moment, until: Moment) -> Option<(usize, &Suspension)> {
    let overlaps = |(_, before): &(usize, &Suspension)| {
        before.from < until && before.until.is_none_or(|before| from < before)
    };
    order.dates.suspended.iter().enumerate().find(overlaps)
}

fn datetime(moment: Moment) -> Value {
    let written = moment.to_string();
    let time: Datetime = written.parse().expect("RFC 3339 is TOML");
    time.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::thread;

    use super::*;
    use crate::control::persist::durable::faults;

    const ORDER: &str = r#"# By courier, 9:14.
id = "x-1"
legal-basis = ["Law 1"] # of 2014
review-at = 2100-01-01T00:00:00Z
effective-from = 2020-01-01T00:00:00+07:00

[authority] # as it signs
name = "The Authority"
[reason]
en = "It says so"
[redress]
how = "Write to it"

[[targets]]
name = "a.example" # the shop
scope = "exact"
"#;

    fn moment(text: &str) -> Moment {
        text.parse().expect("a time")
    }

    fn changed(text: &str, path: &Path, change: &Change<'_>) -> Result<String, EditError> {
        let now = moment("2026-11-23T00:00:00Z").at();
        edit_text(text, path, change, now)
    }

    fn lift(at: &str) -> Change<'static> {
        Change::Lift {
            at: moment(at),
            reason: "a court's word",
        }
    }

    #[test]
    fn a_lift_adds_two_lines_and_leaves_the_rest_as_it_is() {
        let text = changed(ORDER, Path::new("x"), &lift("2026-11-22T10:00:00+07:00")).expect("ok");
        let added: Vec<_> = text.lines().filter(|line| !ORDER.contains(line)).collect();
        assert_eq!(
            added,
            [
                "lifted-at = 2026-11-22T10:00:00+07:00",
                "lift-reason = \"a court's word\"",
            ]
        );
        assert!(ORDER.lines().all(|line| text.contains(line)));
        let again = changed(&text, Path::new("x"), &lift("2026-11-23T10:00:00+07:00"));
        let error = again.expect_err("lifted").to_string();
        assert_eq!(
            error,
            "x: the order was lifted already, at 2026-11-22T10:00:00+07:00: to correct that, change `lifted-at` \
             in the file"
        );
    }

    #[test]
    fn a_planned_lift_is_replaced_only_by_an_earlier_one() {
        let text = changed(ORDER, Path::new("x"), &lift("2026-12-31T00:00:00Z")).expect("ok");
        let text = text.replace("31T00:00:00Z", "31T00:00:00Z # new year's eve");
        for later in ["2026-12-31T00:00:00Z", "2027-01-01T00:00:00Z"] {
            let problem = changed(&text, Path::new("x"), &lift(later)).expect_err("later");
            assert_eq!(
                problem.to_string(),
                "x: the order will be lifted at 2026-12-31T00:00:00Z already: to correct that, \
                 change `lifted-at` in the file"
            );
        }
        for earlier in ["2026-12-30T00:00:00Z", "2026-11-22T00:00:00Z"] {
            let text = changed(&text, Path::new("x"), &lift(earlier)).expect("earlier");
            assert!(
                text.contains(&format!("lifted-at = {earlier} # new year's eve\n")),
                "{text}"
            );
            assert_eq!(text.matches("lift").count(), 2, "{text}");
        }
    }

    #[test]
    fn an_order_that_expires_can_only_be_lifted_before_that() {
        for (expires, at, problem) in [
            (
                "2026-11-22T00:00:00Z",
                "2026-11-23T00:00:00Z",
                Some("expired already, at"),
            ),
            (
                "2026-12-31T00:00:00Z",
                "2027-01-01T00:00:00Z",
                Some("will expire at"),
            ),
            ("2026-12-31T00:00:00Z", "2026-11-23T00:00:00Z", None),
        ] {
            let text = format!("expires-at = {expires}\n{ORDER}");
            let lifted = changed(&text, Path::new("x"), &lift(at));
            match problem {
                None => assert!(lifted.expect("ok").contains("lifted-at")),
                Some(problem) => {
                    let shown = lifted.expect_err("it ends before").to_string();
                    assert!(shown.contains(&format!("{problem} {expires}")), "{shown}");
                    assert!(shown.contains("change `expires-at`"), "{shown}");
                }
            }
        }
    }

    #[test]
    fn a_suspension_becomes_longer_but_not_shorter_and_begins_earlier_if_it_has_not_begun() {
        let suspend = |from: &str, until: &str| Change::Suspend {
            from: moment(&format!("{from}T00:00:00Z")),
            until: moment(&format!("{until}T00:00:00Z")),
            reason: "more talks",
        };
        let begun = ("2026-11-01", "2026-12-01");
        let to_come = ("2026-12-10", "2026-12-20");
        for (before, new, expected) in [
            (
                begun,
                ("2026-11-23", "2027-01-01"),
                Some(("2026-11-01", "2027-01-01")),
            ),
            (begun, ("2026-11-23", "2026-11-30"), None),
            (begun, ("2026-10-01", "2026-12-01"), None),
            (
                to_come,
                ("2026-11-23", "2026-12-20"),
                Some(("2026-11-23", "2026-12-20")),
            ),
            (
                to_come,
                ("2026-11-23", "2027-01-01"),
                Some(("2026-11-23", "2027-01-01")),
            ),
            (to_come, ("2026-11-23", "2026-12-15"), None),
        ] {
            let inline = changed(ORDER, Path::new("x"), &suspend(before.0, before.1)).expect("ok");
            let table = format!(
                "{ORDER}[[suspended]]\nfrom = {}T00:00:00Z\nuntil = {}T00:00:00Z\n",
                before.0, before.1
            );
            for text in [inline, table] {
                let text = changed(&text, Path::new("x"), &suspend(new.0, new.1));
                let Some((from, until)) = expected else {
                    text.expect_err("it would shrink");
                    continue;
                };
                let order = Order::parse(&text.expect("ok"), Path::new("x")).expect("valid");
                let [pause] = &*order.dates.suspended else {
                    panic!("{:?}", order.dates);
                };
                assert_eq!(pause.from, moment(&format!("{from}T00:00:00Z")));
                assert_eq!(pause.until, Some(moment(&format!("{until}T00:00:00Z"))));
                assert_eq!(pause.reason.as_deref(), Some("more talks"));
            }
        }
    }

    #[test]
    fn a_suspension_is_added_to_existing_ones_in_either_notation() {
        let suspend = |from: &str, until: &str| Change::Suspend {
            from: moment(from),
            until: moment(until),
            reason: "talks",
        };
        let first = suspend("2021-01-01T00:00:00Z", "2021-01-02T00:00:00Z");
        let second = suspend("2022-01-01T00:00:00Z", "2022-01-02T00:00:00Z");
        let once = changed(ORDER, Path::new("x"), &first).expect("ok");
        let twice = changed(&once, Path::new("x"), &second).expect("ok");
        let tables = format!(
            "{ORDER}[[suspended]]\nfrom = 2021-01-01T00:00:00Z\nuntil = 2021-01-02T00:00:00Z\n"
        );
        let beside = changed(&tables, Path::new("x"), &second).expect("ok");
        for text in [twice, beside] {
            let order = Order::parse(&text, Path::new("x")).expect("valid");
            let starts: Vec<_> = order
                .dates
                .suspended
                .iter()
                .map(|s| s.from.to_string())
                .collect();
            assert_eq!(starts, ["2021-01-01T00:00:00Z", "2022-01-01T00:00:00Z"]);
        }
    }

    #[test]
    fn an_overlap_with_a_suspension_is_reported_with_its_end_and_the_remedy() {
        let suspend = |from: &str, until: &str| Change::Suspend {
            from: moment(from),
            until: moment(until),
            reason: "talks",
        };
        let first = suspend("2021-01-02T00:00:00Z", "2021-01-04T00:00:00Z");
        let once = changed(ORDER, Path::new("x"), &first).expect("ok");
        let open = format!("{ORDER}[[suspended]]\nfrom = 2021-01-02T00:00:00Z\n");
        let remedy = "; to begin or end that at another time, change `from` or `until` of that suspension in the file";
        for (text, until) in [(once, "2021-01-04T00:00:00Z"), (open, "further notice")] {
            for (from, to) in [("01", "03"), ("03", "04"), ("02", "04"), ("01", "05")] {
                let day = |day: &str| format!("2021-01-{day}T00:00:00Z");
                let again = changed(&text, Path::new("x"), &suspend(&day(from), &day(to)));
                let before = format!(
                    "x: the order has a suspension already, from 2021-01-02T00:00:00Z until {until}"
                );
                let problem = again.expect_err("overlaps").to_string();
                assert_eq!(problem, format!("{before}{remedy}"));
            }
            let before = suspend("2021-01-01T00:00:00Z", "2021-01-02T00:00:00Z");
            changed(&text, Path::new("x"), &before).expect("they touch");
        }
    }

    #[test]
    fn concurrent_changes_are_all_in_the_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x.toml");
        fs::write(&path, ORDER).expect("written");
        thread::scope(|scope| {
            for year in 2021..2033 {
                let path = &path;
                scope.spawn(move || {
                    let change = Change::Suspend {
                        from: moment(&format!("{year}-01-01T00:00:00Z")),
                        until: moment(&format!("{year}-01-02T00:00:00Z")),
                        reason: "talks",
                    };
                    apply(path, &change).expect("changed");
                });
            }
        });
        let text = fs::read_to_string(&path).expect("there");
        let order = Order::parse(&text, &path).expect("valid");
        assert_eq!(order.dates.suspended.len(), 12, "{text}");
    }

    #[test]
    fn one_of_several_concurrent_lifts_succeeds_and_is_in_the_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x.toml");
        fs::write(&path, ORDER).expect("written");
        let lifted: Vec<_> = thread::scope(|scope| {
            let path = &path;
            let lifts: Vec<_> = (10..20)
                .map(|hour| {
                    let at = format!("2026-11-22T{hour}:00:00Z");
                    scope.spawn(move || apply(path, &lift(&at)).map(|_| at))
                })
                .collect();
            let ends = lifts.into_iter().map(|lift| lift.join().expect("ended"));
            ends.filter_map(Result::ok).collect()
        });
        assert_eq!(lifted.len(), 1, "{lifted:?}");
        let text = fs::read_to_string(&path).expect("there");
        assert!(
            text.contains(&format!("lifted-at = {}", lifted[0])),
            "{text}"
        );
    }

    #[test]
    fn a_lift_whose_directory_can_not_be_synced_is_not_reported_as_done() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x.toml");
        fs::write(&path, ORDER).expect("written");
        let broken = faults::broken(dir.path());
        let change = lift("2026-11-22T10:00:00+07:00");
        let error = apply(&path, &change).expect_err("not synced");
        let text = error.to_string();
        assert!(matches!(error, EditError::Unwritten(_)), "{text}");
        assert!(text.contains("x.toml: can't be written: "), "{text}");
        assert_eq!(fs::read_to_string(&path).expect("there"), ORDER);
        drop(broken);
        apply(&path, &change).expect("changed");
    }

    #[test]
    fn a_file_that_a_verb_changes_keeps_its_owner_and_mode() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x.toml");
        fs::write(&path, ORDER).expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o640);
        fs::set_permissions(&path, mode).expect("changed");
        // Only root can give files away.
        let given = std::os::unix::fs::chown(&path, Some(4242), Some(4243)).is_ok();
        apply(&path, &lift("2026-11-22T10:00:00+07:00")).expect("changed");
        let meta = fs::metadata(&path).expect("there");
        assert_eq!(meta.mode() & 0o777, 0o640);
        assert!(!given || (meta.uid(), meta.gid()) == (4242, 4243));
        assert!(
            fs::read_to_string(&path)
                .expect("there")
                .contains("lifted-at")
        );
    }
}
