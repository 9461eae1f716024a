//! The comments before and after the rules of a list.

use std::io::{self, Write};

use jiff::Timestamp;

use crate::config::Format;
use crate::config::blocking::default_blocking;
use crate::config::shown::{Shown, counted};
use crate::control::list_file::write::format::WrittenFormat;
use crate::control::list_file::write::unwritten::WrittenList;
use crate::policy::rule::{Action, Kind, Source};

/// Writes the name of the list, and the keys of a list that reads the text. `rules` is the number of rules in force, `action` is
/// that of the rules that name none.
pub(super) fn header(
    out: &mut impl Write,
    format: WrittenFormat,
    (source, action): (&Source, Action),
    rules: u64,
    now: Timestamp,
) -> io::Result<()> {
    let rules = counted(rules, "rule", "rules");
    let kind = match source.kind {
        Kind::Allow => "allows",
        _ => "blocks",
    };
    let version = env!("CARGO_PKG_VERSION");
    let list = Shown::new(&*source.name);
    let keys = keys(format, source, action).join(", ");
    for line in [
        format!(
            "The list {list}, which {kind} names: {rules} in force at {now:.0} (Tapis {version})"
        ),
        format!("Keys of a list with this file: {keys}"),
    ] {
        writeln!(out, "{}{line}", format.comment())?;
    }
    out.write_all(format.opening().as_bytes())
}

/// The keys of a list that does the same with the text. Those for the answer are left out if they have the default values.
fn keys(format: WrittenFormat, source: &Source, action: Action) -> Vec<String> {
    let format = format.format();
    let mut keys = vec![format!("format = \"{}\"", format.word())];
    if source.kind == Kind::Allow {
        keys.push("kind = \"allow\"".to_owned());
        return keys;
    }
    keys.push(format!("action = \"{}\"", action.word()));
    if source.allows_across && format == Format::Adblock {
        keys.push("allow-scope = \"all-lists\"".to_owned());
    }
    let (own, default) = (&source.blocking, default_blocking());
    if (&own.sinkhole_v4, &own.sinkhole_v6) != (&default.sinkhole_v4, &default.sinkhole_v6) {
        let v4 = own.sinkhole_v4.iter().map(ToString::to_string);
        let all = v4.chain(own.sinkhole_v6.iter().map(ToString::to_string));
        let all: Vec<_> = all.map(|address| format!("\"{address}\"")).collect();
        keys.push(format!("sinkhole = [{}]", all.join(", ")));
    }
    if own.ttl_secs != default.ttl_secs {
        keys.push(format!("ttl-secs = {}", own.ttl_secs));
    }
    if own.ede != default.ede {
        keys.push(format!("ede = \"{}\"", own.ede.word()));
    }
    keys
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
