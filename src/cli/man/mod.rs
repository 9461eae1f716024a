//! `tapis man`: writes the manual pages, one for each verb and one for the configuration.

mod config_page;
mod extra;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use super::failure::Failure;
use crate::config::shown::{Show, counted};

/// The section of the manual that has the pages of verbs.
const SECTION: &str = "1";

#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// The directory for the pages, which is created if it does not exist.
    dir: PathBuf,
}

pub(super) fn run(command: Command, args: &ManArgs, out: &mut impl Write) -> Result<(), Failure> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let mut pages = vec![("tapis.toml.5".to_owned(), config_page::page().render())];
    add(&command, None, &mut pages)?;
    let failed = |path: &Path| {
        let path = path.shown().to_string();
        move |error: io::Error| Failure::Other(format!("{path}: can't be written: {error}").into())
    };
    fs::create_dir_all(&args.dir).map_err(failed(&args.dir))?;
    for (name, page) in &pages {
        let path = args.dir.join(name);
        fs::write(&path, page).map_err(failed(&path))?;
    }
    let pages = counted(pages.len() as u64, "page", "pages");
    writeln!(out, "{pages} written to {}", args.dir.shown())?;
    Ok(())
}

/// Adds the pages of a command and of its verbs.
fn add(
    command: &Command,
    parent: Option<&str>,
    pages: &mut Vec<(String, String)>,
) -> io::Result<()> {
    let name = name(command);
    let verbs = || command.get_subcommands().filter(|verb| !verb.is_hide_set());
    for verb in verbs() {
        add(verb, Some(&name), pages)?;
    }
    let related = parent
        .map(str::to_owned)
        .into_iter()
        .chain(verbs().map(self::name));
    let related = related.map(|name| format!("{name}({SECTION})"));
    let related: Vec<_> = related.chain(["tapis.toml(5)".to_owned()]).collect();
    pages.push((format!("{name}.{SECTION}"), page(command, &related)?));
    Ok(())
}

/// The name of a command's page, such as `tapis-order-new`.
fn name(command: &Command) -> String {
    let name = command.get_display_name();
    name.unwrap_or_else(|| command.get_name()).to_owned()
}

fn page(command: &Command, related: &[String]) -> io::Result<String> {
    let man = Man::new(command.clone())
        .source(concat!("Tapis ", env!("CARGO_PKG_VERSION")))
        .manual("Tapis");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if command
        .get_arguments()
        .any(|argument| !argument.is_hide_set())
    {
        man.render_options_section(&mut page)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut rest = Roff::new();
    if let Some(text) = command.get_after_long_help() {
        extra::add(&mut rest, &text.to_string());
    }
    rest.control("SH", ["SEE ALSO"]);
    rest.text([roman(related.join(", "))]);
    rest.to_writer(&mut page)?;
    String::from_utf8(page).map_err(io::Error::other)
}
