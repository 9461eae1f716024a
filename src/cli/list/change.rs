//! `tapis list add` and `tapis list remove`: change the lists in the configuration's file.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::{refresh, reload};
use crate::cli::configuration::Choice;
use crate::cli::failure::Failure;
use crate::cli::server::ControlArgs;
use crate::config::catalogue;
use crate::config::list_edit::{Location, NewList};
use crate::config::regular;
use crate::config::shown::Show;
use crate::config::suggest::nearest;
use crate::control::admin::status::DownloadRequest;
use crate::control::sources::lists::edit;

/// The kind of a list whose rules allow names.
const ALLOW: &str = "allow";

#[derive(Debug, Args)]
pub(super) struct AddArgs {
    #[command(flatten)]
    pub(super) control: ControlArgs,
    /// A list of `tapis list available`.
    #[arg(required_unless_present_any = ["url", "path"], conflicts_with_all = ["url", "path", "format"])]
    list: Option<String>,
    /// The URL of another list; may be repeated, for mirrors.
    #[arg(long, requires = "name", conflicts_with = "path")]
    url: Vec<String>,
    /// The file of another list.
    #[arg(long, value_name = "FILE", requires = "name")]
    path: Option<PathBuf>,
    /// The name that it gets. The default is that of the catalogue.
    #[arg(long)]
    name: Option<String>,
    /// Its format. The default is `domains`; with `auto`, the start of the file shows it.
    #[arg(long)]
    format: Option<String>,
    /// Whether it blocks, which is the default, or allows.
    #[arg(long, value_parser = PossibleValuesParser::new(["block", ALLOW]))]
    kind: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct RemoveArgs {
    #[command(flatten)]
    pub(super) control: ControlArgs,
    /// The name of the list.
    list: String,
}

pub(super) fn add(choice: &Choice, args: &AddArgs, out: &mut impl Write) -> Result<(), Failure> {
    let path = file(choice)?;
    let new = args.list()?;
    edit::add(path, &new)?;
    let name = &new.name;
    let place = match args.kind.as_deref() {
        Some(ALLOW) => "as an allow list, which precedes the ordinary rules of all block lists",
        _ => "behind all other lists, which precede it",
    };
    writeln!(out, "{name}: added to {}, {place}", path.shown())?;
    let known = args.list.as_ref().and_then(|name| catalogue::list(name));
    if let Some(license) = known.and_then(|list| list.license.as_ref()) {
        writeln!(out, "{name}: its license is {license}")?;
    }
    let Some(sockets) = reload::reload(choice, &args.control, out)? else {
        return Ok(());
    };
    match new.location {
        Location::Path(_) => Ok(()),
        Location::Urls(_) => {
            let list = Some(new.name);
            refresh::refresh(&sockets, &DownloadRequest { list }, out)
        }
    }
}

pub(super) fn remove(
    choice: &Choice,
    args: &RemoveArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let path = file(choice)?;
    edit::remove(path, &args.list)?;
    writeln!(out, "{}: removed from {}", args.list, path.shown())?;
    reload::reload(choice, &args.control, out)?;
    Ok(())
}

impl AddArgs {
    /// The list that is to be added.
    fn list(&self) -> Result<NewList, Failure> {
        if let Some(name) = &self.list {
            let list = catalogue::list(name).ok_or_else(|| unknown(name))?;
            let mut new = NewList::from(list);
            let kind = self.kind.clone().map(|kind| ("kind", kind));
            new.keys.extend(kind);
            new.name = self.name.clone().unwrap_or(new.name);
            return Ok(new);
        }
        let location = match &self.path {
            Some(path) => Location::Path(readable(path)?),
            None => Location::Urls(self.url.clone()),
        };
        let keys = [("format", &self.format), ("kind", &self.kind)].into_iter();
        let keys = keys.filter_map(|(key, value)| Some((key, value.clone()?)));
        Ok(NewList {
            name: self.name.clone().unwrap_or_default(),
            location,
            keys: keys.collect(),
        })
    }
}

/// The absolute path of a list's file, which must be readable.
fn readable(path: &Path) -> Result<String, Failure> {
    let failed = |why: &dyn std::fmt::Display| {
        let text = format!("not changed: {}: {why}", path.shown());
        Failure::Other(text.into())
    };
    regular::open(path).map_err(|why| match why {
        regular::Unread::NotRegular => failed(&"not a regular file"),
        other => {
            let error = std::io::Error::from(other);
            failed(&format!(
                "can't be read: {error}; {}",
                regular::remedy(path, &error)
            ))
        }
    })?;
    let absolute = std::path::absolute(path)?;
    let text = absolute.to_str().map(str::to_owned);
    text.ok_or_else(|| failed(&"the path is not UTF-8, and a configuration is; rename the file"))
}

/// The file of the configuration.
fn file(choice: &Choice) -> Result<&Path, Failure> {
    let path = choice.path.as_deref();
    path.ok_or_else(|| {
        let why = "the built-in configuration can't be changed; make a file, and name it with --config:\n\n  \
                   printf '[state]\\ndir = \"/var/lib/tapis\"\\n' > tapis.toml\n  \
                   tapis list add -c tapis.toml ...\n  tapis serve -c tapis.toml";
        Failure::Other(why.into())
    })
}

/// The failure for a list that is not in the catalogue.
pub(super) fn unknown(name: &str) -> Failure {
    let names = catalogue::lists().iter().map(|list| &*list.name);
    let suggestion = match nearest(name, names) {
        Some(nearest) => format!("did you mean `{nearest}`? "),
        None => String::new(),
    };
    let text = format!(
        "`{name}` is not in the catalogue of lists: {suggestion}`tapis list available` shows it; to add another \
         list: tapis list add --url URL --name NAME"
    );
    Failure::Other(text.into())
}
