//! Owns changes of an order's file by a verb: what people wrote around it stays.
//! Refuses to write what would be no valid order, and to leave half a file.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use toml_edit::{Array, Datetime, DocumentMut, InlineTable, Item, Table, TomlError, Value};

use crate::config::Problems;
use crate::config::moment::Moment;
use crate::config::order::{Order, Suspension};
use crate::config::shown::Show;

/// How long to wait for another verb that changes an order of the same directory.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long between two tries.
const PAUSE: Duration = Duration::from_millis(5);

/// What is to become of an order.
#[derive(Clone, Copy, Debug)]
pub enum Change<'r> {
    /// It ends.
    Lift {
        /// When.
        at: Moment,
        /// Why.
        reason: &'r str,
    },
    /// It pauses.
    Suspend {
        /// From when.
        from: Moment,
        /// Until when.
        until: Moment,
        /// Why.
        reason: &'r str,
    },
}

/// Why a file stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// It can't be read or written.
    #[error("{path}: {source}; let this user write to it and its directory", path = path.shown())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another program has locked its directory for too long.
    #[error("{path}: another program holds a lock on its directory (see lslocks): try again", path = path.shown())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// It is no TOML any more.
    #[error("{path}: {source}", path = path.shown())]
    Toml {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: TomlError,
    },
    /// The order is lifted already.
    #[error("{path}: the order is lifted already, at {at}", path = path.shown())]
    Lifted {
        /// The file.
        path: PathBuf,
        /// When.
        at: String,
    },
    /// The order is suspended at that time already.
    #[error(
        "{path}: the order is suspended already, from {from} until {until}; to end that earlier or later, change \
         `until` of that suspension in the file",
        path = path.shown(),
        until = until.map_or("further notice".to_owned(), |at| at.to_string())
    )]
    Suspended {
        /// The file.
        path: PathBuf,
        /// From when.
        from: Moment,
        /// Until when.
        until: Option<Moment>,
    },
    /// It can't be read as text.
    #[error("{0}")]
    Unreadable(Problems),
    /// It would be no valid order.
    #[error("it was not changed, as it would be no valid order:\n{0}")]
    Order(Problems),
}

/// Changes a file in one step. Returns the order that it holds then.
///
/// # Errors
/// [`EditError`]; then it is as it was.
pub fn apply(path: &Path, change: &Change<'_>) -> Result<Order, EditError> {
    let io = |source| EditError::Io {
        path: path.to_owned(),
        source,
    };
    // What a link leads to is changed, not the link.
    let path = fs::canonicalize(path).map_err(io)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    // Of two verbs at a time one would write over what the other wrote.
    let lock = lock(folder).map_err(io)?;
    let _lock = lock.ok_or_else(|| EditError::Locked { path: path.clone() })?;
    let text = changed(
        &super::text(&path).map_err(EditError::Unreadable)?,
        &path,
        change,
    )?;
    let order = Order::parse(&text, &path).map_err(EditError::Order)?;
    // Its name does not end in .toml: whoever watches the directory leaves it alone.
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(io)?;
    file.write_all(text.as_bytes()).map_err(io)?;
    // Whoever could read it still can: the server most of all.
    let before = fs::metadata(&path).map_err(io)?;
    let (user, group) = (Some(before.uid()), Some(before.gid()));
    fchown(file.as_file(), user, group).map_err(io)?;
    file.as_file()
        .set_permissions(before.permissions())
        .map_err(io)?;
    file.as_file().sync_all().map_err(io)?;
    file.persist(&path).map_err(|error| io(error.error))?;
    Ok(order)
}

/// Keeps other verbs from changing a file of the directory until it is dropped. `None` if another program
/// holds the lock for too long.
fn lock(folder: &Path) -> io::Result<Option<File>> {
    let directory = File::open(folder)?;
    let until = Instant::now() + PATIENCE;
    loop {
        match directory.try_lock() {
            Ok(()) => return Ok(Some(directory)),
            Err(TryLockError::WouldBlock) if Instant::now() < until => thread::sleep(PAUSE),
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// The text with the change in it.
fn changed(text: &str, path: &Path, change: &Change<'_>) -> Result<String, EditError> {
    let mut document: DocumentMut = text.parse().map_err(|source| EditError::Toml {
        path: path.to_owned(),
        source,
    })?;
    match *change {
        Change::Lift { at, reason } => {
            if let Some(before) = document.get("lifted-at") {
                return Err(EditError::Lifted {
                    path: path.to_owned(),
                    at: before.to_string().trim().to_owned(),
                });
            }
            document.insert("lifted-at", time(at).into());
            document.insert("lift-reason", Item::from(reason));
        }
        Change::Suspend {
            from,
            until,
            reason,
        } => {
            if let Ok(order) = Order::parse(text, path)
                && let Some(before) = overlapping(&order, from, until)
            {
                return Err(EditError::Suspended {
                    path: path.to_owned(),
                    from: before.from,
                    until: before.until,
                });
            }
            let fields = [
                ("from", time(from)),
                ("until", time(until)),
                ("reason", reason.into()),
            ];
            match document.get_mut("suspended") {
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

/// The suspension of an order that falls into that time.
fn overlapping(order: &Order, from: Moment, until: Moment) -> Option<&Suspension> {
    let overlaps = |before: &&Suspension| {
        before.from < until && before.until.is_none_or(|before| from < before)
    };
    order.dates.suspended.iter().find(overlaps)
}

fn time(moment: Moment) -> Value {
    let written = moment.to_string();
    let time: Datetime = written.parse().expect("RFC 3339 is TOML");
    time.into()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let told = again.expect_err("lifted").to_string();
        assert_eq!(
            told,
            "x: the order is lifted already, at 2026-11-22T10:00:00+07:00"
        );
    }

    #[test]
    fn suspensions_are_added_to_those_that_are_there_however_they_are_written() {
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
    fn an_order_that_is_suspended_already_is_named_as_that_with_its_end_and_what_to_do() {
        let suspend = |from: &str, until: &str| Change::Suspend {
            from: moment(from),
            until: moment(until),
            reason: "talks",
        };
        let first = suspend("2021-01-02T00:00:00Z", "2021-01-04T00:00:00Z");
        let once = changed(ORDER, Path::new("x"), &first).expect("ok");
        let open = format!("{ORDER}[[suspended]]\nfrom = 2021-01-02T00:00:00Z\n");
        let remedy =
            "; to end that earlier or later, change `until` of that suspension in the file";
        for (text, until) in [(once, "2021-01-04T00:00:00Z"), (open, "further notice")] {
            for (from, to) in [("01", "03"), ("03", "05"), ("02", "04"), ("01", "05")] {
                let day = |day: &str| format!("2021-01-{day}T00:00:00Z");
                let again = changed(&text, Path::new("x"), &suspend(&day(from), &day(to)));
                let before = format!(
                    "x: the order is suspended already, from 2021-01-02T00:00:00Z until {until}"
                );
                let problem = again.expect_err("overlaps").to_string();
                assert_eq!(problem, format!("{before}{remedy}"));
            }
            let before = suspend("2021-01-01T00:00:00Z", "2021-01-02T00:00:00Z");
            changed(&text, Path::new("x"), &before).expect("they touch");
        }
    }

    #[test]
    fn of_many_changes_at_a_time_each_stands_in_the_file() {
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
    fn of_many_lifts_at_a_time_one_succeeds_and_stands_in_the_file() {
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
    fn a_file_that_a_verb_changes_keeps_its_owner_and_who_may_read_it() {
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
