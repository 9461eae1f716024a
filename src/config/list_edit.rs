//! Edits the lists in the text of a configuration: appends one, or removes one. Comments and layout are kept, and an
//! edit that would make the configuration invalid is rejected.

use std::ops::Range;
use std::path::Path;

use toml_edit::{Array, Document, Item, RawString, Table, Value};

use super::catalogue::CatalogueList;
use super::error::Problems;
use super::load;
use super::shown::Show;
use super::suggest::nearest;
use super::types::{Config, List};

/// A list that is to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewList {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub location: Location,
    /// Its other keys, all of which are text: `format`, `kind`.
    pub keys: Vec<(&'static str, String)>,
}

/// Where a new list is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// At these URLs.
    Urls(Vec<String>),
    /// In this file.
    Path(String),
}

impl From<&CatalogueList> for NewList {
    fn from(list: &CatalogueList) -> Self {
        Self {
            name: list.name.clone(),
            location: Location::Urls(list.url.clone()),
            // Without `allow-scope`, as a list that is added must not allow what the lists before it block.
            keys: vec![("format", list.format.clone())],
        }
    }
}

/// A reason why a configuration is not edited.
#[derive(Debug, thiserror::Error)]
pub enum ListEditError {
    /// It has mistakes already.
    #[error("not changed, as the configuration has mistakes already; correct these first:\n{0}")]
    Before(Problems),
    /// The edit would cause mistakes.
    #[error("not changed, as the configuration would have mistakes then:\n{0}")]
    After(Problems),
    /// A list or feed has the name.
    #[error(
        "not changed: there is a {section} `{name}` already; give the new list another name: --name NAME"
    )]
    Taken {
        /// The name.
        name: String,
        /// `list` or `feed`.
        section: &'static str,
    },
    /// A list has the URL or the file.
    #[error("not changed: the list `{list}` has {location} already")]
    Same {
        /// That list.
        list: String,
        /// The URL or the path.
        location: String,
    },
    /// There is no directory for downloaded lists.
    #[error("not changed: a list by URL needs a directory for its copies; {}", state_dir(*.0))]
    NoStateDir(
        /// The line of the section `[state]`, if there is one.
        Option<usize>,
    ),
    /// There is no such list.
    #[error("not changed: there is no list `{name}`{}", suggested(.nearest.as_deref()))]
    Unknown {
        /// The name.
        name: String,
        /// The list whose name is the nearest one.
        nearest: Option<String>,
    },
    /// The name is that of a feed.
    #[error(
        "not changed: `{0}` is a feed; to remove it, remove its section [[feed]] from the configuration"
    )]
    Feed(String),
    /// Its lists are written in another way.
    #[error(
        "not changed: the configuration has no sections [[list]] that can be edited; edit it by hand"
    )]
    NoSections,
}

/// The remedy for a missing state directory.
fn state_dir(line: Option<usize>) -> String {
    let dir = "dir = \"/var/lib/tapis\"";
    match line {
        Some(line) => {
            format!("add this to the section [state] on line {line}, then try again:\n\n{dir}")
        }
        None => format!("add these lines to the configuration, then try again:\n\n[state]\n{dir}"),
    }
}

fn suggested(nearest: Option<&str>) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean `{nearest}`?"),
        None => "; `tapis status` shows all".to_owned(),
    }
}

/// The text of a configuration's file.
///
/// # Errors
/// The problem, if it can't be read, is not UTF-8, or is too large.
pub fn text(path: &Path) -> Result<String, Problems> {
    load::read(path)
}

/// The text with another list at its end, so that all other lists precede it. `path` is the file of the text.
///
/// # Errors
/// [`ListEditError`]
pub fn with_list(text: &str, path: &Path, new: &NewList) -> Result<String, ListEditError> {
    let before = Config::parse(text, path).map_err(ListEditError::Before)?;
    if let Some(list) = before
        .lists
        .iter()
        .find(|list| list.source.name == new.name)
    {
        let section = if list.is_feed() { "feed" } else { "list" };
        let name = new.name.clone();
        return Err(ListEditError::Taken { name, section });
    }
    if matches!(new.location, Location::Urls(_)) && before.state.dir.is_none() {
        return Err(ListEditError::NoStateDir(line_of_state(text)));
    }
    let edited = format!("{text}{}", section(text, new));
    let after = Config::parse(&edited, path).map_err(ListEditError::After)?;
    let Some((added, others)) = after
        .lists
        .split_last()
        .filter(|_| is_one_more(&before, &after))
    else {
        return Err(ListEditError::NoSections);
    };
    match others.iter().find_map(|other| common(other, added)) {
        Some((list, location)) => Err(ListEditError::Same { list, location }),
        None => Ok(edited),
    }
}

/// The text without a list. Comments directly above its section are removed with it, and those at its end that are
/// keys, if a blank line separates them from the next section. `path` is the file of the text.
///
/// # Errors
/// [`ListEditError`]
pub fn without_list(text: &str, path: &Path, name: &str) -> Result<String, ListEditError> {
    let before = Config::parse(text, path).map_err(ListEditError::Before)?;
    let lists = || before.lists.iter().filter(|list| !list.is_feed());
    if !lists().any(|list| list.source.name == name) {
        if before.feeds.iter().any(|feed| feed.name == name) {
            return Err(ListEditError::Feed(name.to_owned()));
        }
        return Err(ListEditError::Unknown {
            name: name.to_owned(),
            nearest: nearest(name, lists().map(|list| &*list.source.name)).map(str::to_owned),
        });
    }
    let edited = without_section(text, name).ok_or(ListEditError::NoSections)?;
    let after = Config::parse(&edited, path).map_err(ListEditError::After)?;
    let is_removed = after.lists.iter().all(|list| list.source.name != name);
    match is_removed && is_one_more(&after, &before) {
        true => Ok(edited),
        false => Err(ListEditError::NoSections),
    }
}

fn is_one_more(one: &Config, more: &Config) -> bool {
    one.lists.len() + 1 == more.lists.len()
}

/// The name of a list, and the URL or file that it shares with another list.
fn common(list: &List, other: &List) -> Option<(String, String)> {
    let location = match (&list.download, &other.download) {
        (Some(one), Some(other)) => {
            let mut urls = one.urls.iter();
            urls.find(|url| other.urls.contains(url))?.to_string()
        }
        (None, None) if list.source.path == other.source.path => {
            list.source.path.shown().to_string()
        }
        _ => return None,
    };
    Some((list.source.name.clone(), location))
}

/// The section of a list, as it is appended to a text.
fn section(text: &str, new: &NewList) -> String {
    let mut lines = Vec::new();
    if !text.is_empty() {
        lines.extend((!text.ends_with('\n')).then(String::new));
        lines.push(String::new());
    }
    lines.push("[[list]]".to_owned());
    // This adds quotes and escapes.
    let mut key = |key: &str, value: Value| lines.push(format!("{key} = {value}"));
    key("name", new.name.as_str().into());
    match &new.location {
        Location::Path(path) => key("path", path.as_str().into()),
        Location::Urls(urls) => match &urls[..] {
            [url] => key("url", url.as_str().into()),
            urls => key("url", urls.iter().collect::<Array>().into()),
        },
    }
    for (name, value) in &new.keys {
        key(name, value.as_str().into());
    }
    lines.push(String::new());
    let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    lines.join(end)
}

/// The text without the section of this list; all else stays byte for byte. `None` if it has no such section.
fn without_section(text: &str, name: &str) -> Option<String> {
    let document = Document::parse(text).ok()?;
    let lists = document.get("list")?.as_array_of_tables()?;
    let is_it = |table: &&Table| table.get("name").and_then(Item::as_str) == Some(name);
    let removed = lists.iter().find(is_it)?;
    let above = span_above(removed)?;
    let mut next: Option<Range<usize>> = None;
    each_table(document.as_table(), &mut |table| {
        let span = span_above(table).filter(|span| span.start > above.start);
        if let Some(span) = span
            && next.as_ref().is_none_or(|next| span.start < next.start)
        {
            next = Some(span);
        }
    });
    let next = next.or_else(|| document.trailing().span());
    let below = text.get(next.map_or(text.len(), |next| next.start)..)?;
    let kept = above_own_comment(text.get(above.clone())?);
    let before = text.get(..above.start)?;
    Some(format!("{before}{kept}{}", below_own_comment(below)))
}

/// The place of the comments and blank lines above a section. It is empty if there are none.
fn span_above(table: &Table) -> Option<Range<usize>> {
    let prefix = table.decor().prefix().and_then(RawString::span);
    prefix.or_else(|| table.span().map(|header| header.start..header.start))
}

/// The line of the section `[state]`.
fn line_of_state(text: &str) -> Option<usize> {
    let document = Document::parse(text).ok()?;
    let start = document.get("state")?.as_table()?.span()?.start;
    Some(text.get(..start)?.matches('\n').count() + 1)
}

/// Calls `each` with all tables below this one.
fn each_table(table: &Table, each: &mut impl FnMut(&Table)) {
    for (_, item) in table.iter() {
        match item {
            Item::Table(table) => {
                each(table);
                each_table(table, each);
            }
            Item::ArrayOfTables(tables) => {
                for table in tables.iter() {
                    each(table);
                    each_table(table, each);
                }
            }
            Item::None | Item::Value(_) => {}
        }
    }
}

/// The text above a section without the comment that belongs to it: the lines after the last blank one.
fn above_own_comment(above: &str) -> &str {
    let mut end = 0;
    let mut at = 0;
    for line in above.split_inclusive('\n') {
        if line.trim().is_empty() {
            end = at;
        }
        at += line.len();
    }
    &above[..end]
}

/// The text below a section without the comments that belong to it: keys in the lines before the first blank one, if there
/// is one. If other comments stay, so does a blank line before them.
fn below_own_comment(below: &str) -> String {
    let lines: Vec<_> = below.split_inclusive('\n').collect();
    let is_comment = |line: &&&str| line.trim_start().starts_with('#');
    let comments = lines.iter().take_while(is_comment).count();
    if lines
        .get(comments)
        .is_none_or(|line| !line.trim().is_empty())
    {
        return below.to_owned();
    }
    let (own, rest) = lines.split_at(comments);
    let kept: String = own.iter().copied().filter(|line| !is_key(line)).collect();
    let gap = match (kept.is_empty(), rest.first()) {
        (false, Some(blank)) => blank,
        _ => "",
    };
    format!("{gap}{kept}{}", rest.concat())
}

/// Whether a comment is a key: `# format = "hosts"`.
fn is_key(comment: &str) -> bool {
    let text = comment.trim_start().trim_start_matches('#');
    let is_word = |word: &str| {
        let mut letters = word.bytes();
        !word.is_empty()
            && letters.all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    text.split_once('=')
        .is_some_and(|(key, _)| is_word(key.trim()))
}
