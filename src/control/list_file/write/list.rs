//! Writes all rules of a list that are in force.

use std::io::{self, Write};

use jiff::Timestamp;

use crate::control::list_file::write::format::WrittenFormat;
use crate::control::list_file::write::frame::{footer, header};
use crate::control::list_file::write::meaning::ListSettings;
use crate::control::list_file::write::unwritten::WrittenList;
use crate::control::list_file::write::writer::Writer;
use crate::policy::effect::Effect;
use crate::policy::image::ImageError;
use crate::policy::image::path::Path;
use crate::policy::images::Images;
use crate::policy::rule::Source;
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

/// Writes the rules of a list that are in force, and a comment before and after them. Takes as much memory as the rules with
/// patterns do as text, and some kilobytes.
///
/// # Errors
/// [`WriteError`].
pub fn write_list(
    images: &Images,
    source: &Source,
    format: WrittenFormat,
    now: Timestamp,
    out: &mut impl Write,
) -> Result<WrittenList, WriteError> {
    let list = &*source.name;
    let (patterns, networks) = (patterns(images, list), images.networks(list));
    let rules = on_names(images, list)? + (patterns.len() + networks.len()) as u64;
    header(out, format, (source, source.blocking.action), rules, now)?;
    let mut writer = Writer::new(format, ListSettings::from(source), out);
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
    writer.patterns(&patterns)?;
    writer.networks(&networks)?;
    let written = writer.written;
    footer(out, format, &written)?;
    Ok(written)
}

/// The number of rules that are on names. It is less than the number of rules that were read, if several of them are one rule:
/// addresses of one name, or rules that others cover.
fn on_names(images: &Images, list: &str) -> Result<u64, ImageError> {
    let mut cursor = images.rule_cursor(|one| one == list);
    let mut count = 0;
    while cursor.advance() {
        count += cursor.rules().len() as u64;
    }
    cursor.damage().map_or(Ok(count), Err)
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
