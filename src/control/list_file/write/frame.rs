//! The comments before and after the rules of a list.

use std::io::{self, Write};

use jiff::Timestamp;

use crate::config::shown::{Shown, counted};
use crate::control::list_file::write::format::WrittenFormat;
use crate::control::list_file::write::meaning::ListSettings;
use crate::control::list_file::write::unwritten::WrittenList;

/// Writes what the text is, and how it is read again. `rules` is the number of rules in force.
pub(super) fn header(
    out: &mut impl Write,
    format: WrittenFormat,
    (list, settings): (&str, &ListSettings),
    rules: u64,
    now: Timestamp,
) -> io::Result<()> {
    let rules = counted(rules, "rule", "rules");
    let kind = if settings.allows { "allows" } else { "blocks" };
    let version = env!("CARGO_PKG_VERSION");
    let list = Shown::new(list);
    let word = format.format().word();
    let does = match settings.allows {
        true => "kind = \"allow\"".to_owned(),
        false => format!("action = \"{}\"", settings.action.word()),
    };
    for line in [
        format!(
            "The list {list}, which {kind} names: {rules} in force at {now:.0} (Tapis {version})"
        ),
        format!("Keys of a list with this file: format = \"{word}\", {does}"),
    ] {
        writeln!(out, "{}{line}", format.comment())?;
    }
    out.write_all(format.opening().as_bytes())
}

/// Writes how many rules the text has, so that one that was cut off shows, and what it does not have.
pub(super) fn footer(
    out: &mut impl Write,
    format: WrittenFormat,
    written: &WrittenList,
) -> io::Result<()> {
    let rules = counted(written.rules, "rule is", "rules are");
    let comment = format.comment();
    writeln!(out, "{comment}The end: {rules} above.")?;
    match written.left_out(format) {
        Some(left_out) => writeln!(out, "{comment}{left_out}"),
        None => Ok(()),
    }
}
