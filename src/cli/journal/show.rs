//! Prints an entry of the journal: its event, and the changes since the previous entry.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};

use crate::config::exception::Exception;
use crate::config::order::State;
use crate::config::paths::{self, is_of_feed, section};
use crate::config::pause::Pause;
use crate::config::shown::{Show, counted, entries, generations};
use crate::control::journal::Entry;
use crate::control::journal::entry::{Cause, Event, ListEntry, Published, Setting, Start};
use crate::control::journal::generations::Skipped;
use crate::control::journal::pauses;

/// Prints an entry, compared with the previous ones.
pub(super) fn print_entry(
    entry: &Entry,
    before: &Before,
    skipped: Option<(u64, u64)>,
    out: &mut impl Write,
) -> io::Result<()> {
    let (number, at) = (entry.number, entry.at);
    write!(out, "{number} {at:.3} generation {}: ", entry.generation)?;
    match &entry.event {
        Event::Start(start) => print_start(start, out),
        Event::Stop => writeln!(out, "server stopped"),
        Event::Order(order) => {
            writeln!(out, "order {}: new text, {}", order.id, order.path.shown())?;
            for warning in &order.warnings {
                writeln!(out, "    warning: {warning}")?;
            }
            Ok(())
        }
        Event::OrderGone { id, path } => {
            writeln!(
                out,
                "order {id}: its file is gone, or its directory is not configured any more: {}",
                path.shown()
            )
        }
        Event::Published(published) => {
            print_published(published, before, out)?;
            if let Some((first, last)) = skipped {
                let which = generations(first, last);
                writeln!(
                    out,
                    "    {which} not recorded: a server could not write the journal then, or had none"
                )?;
            }
            Ok(())
        }
        Event::Refused { what, problems } => {
            writeln!(out, "{what}: rejected")?;
            for problem in problems {
                writeln!(out, "    {problem}")?;
            }
            Ok(())
        }
        Event::Lost { entries } => {
            writeln!(
                out,
                "{} missing before this entry, as memory ran out",
                counted(*entries, "change is", "changes are")
            )
        }
    }
}

fn print_start(start: &Start, out: &mut impl Write) -> io::Result<()> {
    let config = match &start.config {
        Some(path) => path.shown().to_string(),
        None => "the built-in configuration".to_owned(),
    };
    let (version, pid) = (&start.version, start.pid);
    writeln!(out, "tapis {version} started, process {pid}, {config}")?;
    if let Some(damaged) = &start.damaged {
        let kept = damaged.kept.shown();
        writeln!(
            out,
            "    {} damaged, kept in {kept}",
            counted(
                damaged.bytes,
                "byte at the end was",
                "bytes at the end were"
            )
        )?;
    }
    if let Some((first, last)) = start.missing {
        writeln!(out, "    {} gone", entries(first, last, ["was", "were"]))?;
    }
    if let Some(number) = start.continues {
        writeln!(
            out,
            "    entries up to {number} are in the file before this one"
        )?;
    }
    if let Some(ran) = start.ran_until {
        writeln!(
            out,
            "    the previous server did not shut down cleanly; it ran until {ran:.0} at least"
        )?;
    }
    if let Some(since) = start.unwritten_since {
        writeln!(
            out,
            "    changes from {since:.0} until this start are not recorded: the journal could not be written"
        )?;
    }
    if let Some((first, last)) = start.uncovered {
        let which = entries(first, last, ["was", "were"]);
        writeln!(out, "    {which} beyond the head")?;
    }
    if let Some(head) = &start.other_head {
        let (number, hash) = (head.number, &head.hash);
        writeln!(
            out,
            "    entry {number} was not the one that the head named, which has the hash {hash}"
        )?;
    }
    if start.unauthenticated {
        writeln!(out, "    the head was not authenticated")?;
    }
    Ok(())
}

/// The state after the entries so far: only the parts that are compared with the next entry.
#[derive(Default)]
pub(super) struct Before {
    lists: HashMap<String, ListEntry>,
    held: Option<u64>,
    /// Whether any entry so far has settings.
    settings: bool,
    /// Finds missing generations.
    generations: Skipped,
}

impl Before {
    /// The generations that are missing before an entry.
    pub(super) fn skipped(&mut self, entry: &Entry) -> Option<(u64, u64)> {
        self.generations.add(entry)
    }

    /// Updates the state with an entry.
    pub(super) fn apply(&mut self, event: Event) {
        if let Event::Published(published) = event {
            self.held = published.held;
            self.settings |= !published.settings.is_empty();
            let lists = published.lists.into_iter();
            self.lists = lists.map(|list| (list.name.clone(), list)).collect();
        }
    }
}

fn print_published(published: &Published, before: &Before, out: &mut impl Write) -> io::Result<()> {
    let causes: Vec<_> = published.causes.iter().map(cause).collect();
    let held = published.held.map_or_else(String::new, |generation| {
        format!(", lists held as in generation {generation}")
    });
    writeln!(out, "in force, by {}{held}", causes.join("; "))?;
    let changes = changes(published, before);
    for change in &changes {
        writeln!(out, "    {change}")?;
    }
    if changes.is_empty() && held.is_empty() {
        writeln!(out, "    nothing that affects answers changed")?;
    }
    Ok(())
}

/// The changes since the previous entry, one on each line.
fn changes(published: &Published, before: &Before) -> Vec<String> {
    let mut changes = Vec::new();
    if before.held.is_some() && published.held.is_none() {
        changes.push("lists follow their files again".to_owned());
    }
    for turn in &published.states {
        let word = |state: Option<State>| match state {
            Some(state) => state.to_string(),
            None => "none".to_owned(),
        };
        let (order, was, now) = (&turn.order, word(turn.was), word(turn.now));
        changes.push(format!("order {order}: {was} -> {now}"));
    }
    let exception = |exception: &Exception| {
        let name = exception.scope.notation(&exception.name);
        let (author, reason) = (&exception.author, &exception.reason);
        format!("exception {name}, {author}: {reason}")
    };
    let until = |exception: &Exception| {
        exception
            .until
            .map_or_else(String::new, |until| format!(" (until {until})"))
    };
    for one in &published.exceptions {
        changes.push(format!("+ {}{}", exception(one), until(one)));
    }
    for one in &published.exceptions_gone {
        changes.push(format!("- {}", exception(one)));
    }
    for one in &published.exceptions_ended {
        changes.push(format!("- {}: over{}", exception(one), until(one)));
    }
    for one in &published.exceptions_resumed {
        let until = until(one);
        changes.push(format!("+ {}: in force again{until}", exception(one)));
    }
    settings(published, before, &mut changes);
    lists(published, before, &mut changes);
    changes
}

fn settings(published: &Published, before: &Before, changes: &mut Vec<String>) {
    let all = &published.settings;
    if !before.settings && !all.is_empty() {
        changes.push(format!(
            "{} recorded for the first time: `tapis journal export` has them",
            counted(all.len() as u64, "setting", "settings")
        ));
        return;
    }
    let is_new = |name: &str| !before.lists.contains_key(name);
    let (come, gone): (Vec<_>, Vec<_>) = published
        .lists
        .iter()
        .map(|list| list.name.as_str())
        .chain(before.lists.keys().map(String::as_str))
        .filter(|name| is_new(name) || published.lists.iter().all(|list| list.name != *name))
        .partition(|name| is_new(name));
    let of_list = |key: &str, name: &str| {
        let rest = ["list.", "feed."]
            .iter()
            .find_map(|start| key.strip_prefix(start));
        rest.and_then(|rest| rest.strip_prefix(name))
            .is_some_and(|rest| rest.starts_with('.'))
    };
    for Setting { key, was, now } in all {
        // `lists` reports lists that are new or gone.
        let mut new_and_gone = come.iter().chain(&gone);
        if new_and_gone.any(|name| of_list(key, name)) {
            continue;
        }
        if let Some((section, name)) = pauses::source_of(key) {
            let pause = now.clone().map(serde_json::from_value::<Pause>);
            changes.push(match pause {
                Some(Ok(pause)) => format!("{section} {name}: paused {pause}"),
                _ => format!("{section} {name}: no longer paused"),
            });
            continue;
        }
        let shown = |value: &Option<serde_json::Value>| match value {
            Some(value) => value.to_string(),
            None => "none".to_owned(),
        };
        changes.push(format!("{key}: {} -> {}", shown(was), shown(now)));
    }
}

fn lists(published: &Published, before: &Before, changes: &mut Vec<String>) {
    let recorded: HashSet<&str> = published.settings.iter().map(|one| &*one.key).collect();
    for list in &published.lists {
        let ListEntry {
            name,
            rules,
            left_out,
            bad,
            ..
        } = list;
        let was = before.lists.get(name);
        let is_feed = is_of_feed(&list.path);
        if let Some(was) = was.filter(|_| !is_feed) {
            // Older entries have no settings.
            let settings = [
                (
                    "path",
                    was.path.shown().to_string(),
                    list.path.shown().to_string(),
                ),
                ("kind", word(was.kind), word(list.kind)),
                ("scope", word(was.scope), word(list.scope)),
                ("action", word(was.action), word(list.action)),
            ];
            for (key, was, now) in settings {
                let key = format!("list.{name}.{key}");
                if was != now && !recorded.contains(&*key) {
                    changes.push(format!("{key}: {was} -> {now}"));
                }
            }
        }
        let content = |list: &ListEntry| {
            let counts = (list.rules, list.bad, list.left_out);
            (list.digest.clone(), counts, list.content.clone())
        };
        if was.map(content) == Some(content(list)) {
            continue;
        }
        let digest = list.digest.get(..16).unwrap_or(&list.digest);
        let new = match was {
            Some(_) => String::new(),
            None => {
                let (kind, action) = (word(list.kind), word(list.action));
                format!(", {kind}, {action}, {}", list.path.shown())
            }
        };
        changes.push(format!(
            "{}: {}, {left_out} left out, {}, BLAKE3 {digest}...{new}",
            label(list),
            counted(*rules as u64, "rule", "rules"),
            paths::bad(&list.path, *bad)
        ));
    }
    let all = before.lists.values();
    let gone = all.filter(|was| published.lists.iter().all(|list| list.name != was.name));
    let mut gone: Vec<_> = gone.map(label).collect();
    gone.sort();
    changes.extend(gone.into_iter().map(|label| format!("{label}: gone")));
}

/// A list or feed, as it is shown.
fn label(list: &ListEntry) -> String {
    format!("{} {}", section(&list.path), list.name)
}

/// The word for a value in the configuration.
fn word(value: impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

fn cause(cause: &Cause) -> String {
    match cause {
        Cause::Start => "the server's start".to_owned(),
        Cause::File { path } => path.shown().to_string(),
        Cause::Signal { signal } => signal.clone(),
        Cause::Verb { verb, user } => format!("`tapis {verb}` of user {user}"),
        Cause::Guard => "a change of [guard] or its files".to_owned(),
        Cause::Date => "a date".to_owned(),
        Cause::PauseEnd { sources } => format!("the end of the pause of {}", sources.join(", ")),
        Cause::ClockSetBack { from } => format!("the clock, set back from {from}"),
        Cause::Transfer { primary, serial } => format!("serial {serial} from {primary}"),
        Cause::Download { url } => url.clone(),
        Cause::Merge => "merging small lists".to_owned(),
    }
}
