//! `tapis list available`: prints the catalogue of public lists.

use std::io::Write;

use super::change::unknown;
use crate::cli::failure::Failure;
use crate::config::catalogue::{self, CatalogueList};

pub(super) fn run(name: Option<&str>, out: &mut impl Write) -> Result<(), Failure> {
    match name {
        None => table(out),
        Some(name) => match catalogue::list(name) {
            Some(list) => facts(list, out),
            None => Err(unknown(name)),
        },
    }
}

fn table(out: &mut impl Write) -> Result<(), Failure> {
    let lists = catalogue::lists();
    let width = lists.iter().map(|list| list.name.len()).max().unwrap_or(0);
    writeln!(out, "{:width$}  {:>9}  blocks", "name", "entries")?;
    for list in lists {
        let entries = list.entries.map(|entries| entries.count.to_string());
        let (name, entries) = (&list.name, entries.unwrap_or_else(|| "-".to_owned()));
        writeln!(out, "{name:width$}  {entries:>9}  {}", list.blocks)?;
    }
    Ok(())
}

fn facts(list: &CatalogueList, out: &mut impl Write) -> Result<(), Failure> {
    writeln!(out, "{}: {}", list.name, list.title)?;
    writeln!(out, "  blocks: {}", list.blocks)?;
    for url in &list.url {
        writeln!(out, "  url: {url}")?;
    }
    writeln!(out, "  format: {}", list.format)?;
    if let Some(license) = &list.license {
        writeln!(out, "  license: {license}")?;
    }
    if let Some(homepage) = &list.homepage {
        writeln!(out, "  homepage: {homepage}")?;
    }
    if let Some(entries) = list.entries {
        writeln!(out, "  entries: {} on {}", entries.count, entries.on)?;
    }
    Ok(())
}
