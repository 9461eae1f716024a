//! Writes all rules of a list that are in force.

use std::io::{self, Write};

use jiff::Timestamp;

use crate::config::shown::{Shown, counted};
use crate::control::list_file::write::format::WrittenFormat;
use crate::control::list_file::write::meaning::ListSettings;
use crate::control::list_file::write::unwritten::{Reason, Unwritten};
use crate::control::list_file::write::writer::Writer;
use crate::policy::effect::Effect;
use crate::policy::image::ImageError;
use crate::policy::image::path::Path;
use crate::policy::images::Images;
use crate::wire::name::Name;

/// Why a list was not written to its end.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The text can't be passed on.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The rules can't be read.
    #[error("the policy in force can't be read: {0}; restart the server to compile it again")]
    Damaged(#[from] ImageError),
}

/// What was written of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WrittenList {
    /// The number of rules that the text has.
    pub rules: u64,
    /// Those that it does not have.
    pub unwritten: Unwritten,
}

impl WrittenList {
    /// Says which rules the text does not have. `None` if it has all.
    pub fn left_out(&self, format: WrittenFormat) -> Option<String> {
        let Self { rules, unwritten } = self;
        let (left, format) = (unwritten.total(), format.format().word());
        let all = counted(rules + left, "rule", "rules");
        (left > 0).then(|| format!("{left} of {all} can't be written as {format}: {unwritten}"))
    }
}

/// Writes the rules of a list that are in force, and a comment before and after them. Takes as much memory as the rules with
/// patterns do as text, and some kilobytes.
///
/// # Errors
/// [`WriteError`].
pub fn write_list(
    images: &Images,
    (list, settings): (&str, ListSettings),
    format: WrittenFormat,
    now: Timestamp,
    out: &mut impl Write,
) -> Result<WrittenList, WriteError> {
    let comment = format.comment();
    for line in header(images, (list, settings), format, now) {
        writeln!(out, "{comment}{line}")?;
    }
    out.write_all(format.opening().as_bytes())?;
    let mut writer = Writer::new(format, settings, out);
    let mut cursor = images.rule_cursor(|one| one == list);
    let mut name = Name::ROOT;
    while cursor.advance() {
        Path::of(cursor.path()).write_name(&mut name);
        let rules = cursor.rules().iter();
        writer.name(&name, rules.map(|rule| (rule.scope, rule.effect)))?;
    }
    if let Some(damage) = cursor.damage() {
        return Err(damage.into());
    }
    writer.patterns(&patterns(images, list))?;
    let networks = images.networks(list).len() as u64;
    writer.unwritten.add(Reason::Network, networks);
    let written = WrittenList {
        rules: writer.written,
        unwritten: writer.unwritten,
    };
    let rules = counted(written.rules, "rule is", "rules are");
    writeln!(out, "{comment}The end: {rules} above.")?;
    if let Some(left_out) = written.left_out(format) {
        writeln!(out, "{comment}{left_out}")?;
    }
    Ok(written)
}

/// The comment before the rules.
fn header(
    images: &Images,
    (list, settings): (&str, ListSettings),
    format: WrittenFormat,
    now: Timestamp,
) -> [String; 2] {
    let rules = images.find(list).map_or(0, |(_, source)| source.rules);
    let rules = counted(rules, "rule", "rules");
    let kind = if settings.allows { "allows" } else { "blocks" };
    let version = env!("CARGO_PKG_VERSION");
    let list = Shown::new(list);
    let format = format.format().word();
    let does = match settings.allows {
        true => "kind = \"allow\"".to_owned(),
        false => format!("action = \"{}\"", settings.action.word()),
    };
    [
        format!(
            "The list {list}, which {kind} names: {rules} in force at {now:.0} (Tapis {version})"
        ),
        format!("Keys of a list with this file: format = \"{format}\", {does}"),
    ]
}

/// The rules of a list that have patterns, in the order of the image.
fn patterns<'i>(images: &'i Images, list: &str) -> Vec<(&'i str, &'i Effect)> {
    let Some((image, _)) = images.find(list) else {
        return Vec::new();
    };
    let clauses = image.clauses();
    let sources = &image.provenance().sources;
    let is_own = |clause: u32| sources[usize::from(clauses.get(clause).source)].name == list;
    let groups = image.pattern_groups().iter();
    let rules = groups.flat_map(|group| &group.rules);
    let own = rules.filter(|(_, clause)| is_own(*clause));
    own.map(|(pattern, clause)| (pattern.as_str(), clauses.effect(*clause)))
        .collect()
}
