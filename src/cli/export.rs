//! `tapis export`: writes the rules of a list or a feed in the formats of other programs.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal, LineWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::failure::Failure;
use super::plain::Plain;
use super::server::{self, ControlArgs};
use super::zones;
use crate::config::Format;
use crate::config::shown::{Show, Shown};
use crate::config::suggest::nearest;
use crate::control::admin::client::ClientError;
use crate::control::admin::status::{ExportRequest, LEFT_OUT};
use crate::control::persist::durable::{self, Access, DurableError, NewFile};

/// The formats that rules can be written in.
const FORMATS: [Format; 6] = [
    Format::Adblock,
    Format::Dnsmasq,
    Format::Domains,
    Format::Hosts,
    Format::Rpz,
    Format::Unbound,
];

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    control: ControlArgs,
    /// The name of the list or feed.
    source: String,
    /// The format of the text, as in the key `format` of a list.
    #[arg(long, value_parser = format())]
    format: Format,
    /// The file, which is replaced in one step and keeps its owner and mode; a device or a pipe is written to. The default is
    /// standard output.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

fn format() -> impl TypedValueParser<Value = Format> {
    let words = PossibleValuesParser::new(FORMATS.map(Format::word));
    words.try_map(|word| {
        let mut formats = FORMATS.into_iter();
        formats
            .find(|format| format.word() == word)
            .ok_or("not a format")
    })
}

pub(super) fn run(
    config: Option<&PathBuf>,
    args: &ExportArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let sockets = args.control.sockets(config)?;
    let request = ExportRequest {
        source: args.source.clone(),
        format: args.format,
    };
    let mut left_out = None;
    let mut write = |out: &mut dyn Write| -> Result<(), Failure> {
        let mut unwritten = None;
        let take = |part: &[u8]| {
            out.write_all(part)
                .inspect_err(|error| unwritten = Some(error.kind()))
        };
        let trailers = server::download(&sockets, "/export", &request, take);
        if let Some(kind) = unwritten {
            // The server has answered, so this is no failure to ask it.
            let error = io::Error::from(kind);
            return Err(match &args.output {
                Some(path) => Failure::Other(format!("{}: {error}", path.shown()).into()),
                None => Failure::Output(error),
            });
        }
        left_out = trailers??.get(LEFT_OUT).cloned();
        Ok(())
    };
    let written = match &args.output {
        Some(path) => to_file(path, write),
        None if io::stdout().is_terminal() => {
            // Characters are escaped in whole lines, as the parts that arrive may end within one.
            let mut lines = LineWriter::new(out);
            write(&mut lines).and_then(|()| Ok(lines.flush()?))
        }
        None => write(&mut io::stdout().lock()),
    };
    written.map_err(|failure| explained(failure, &sockets, &args.source))?;
    let Some(left_out) = left_out else {
        return Ok(());
    };
    let left_out = String::from_utf8_lossy(left_out.as_bytes());
    let (source, left_out) = (Shown::new(&*args.source), Shown::new(left_out));
    // If standard error is closed, the result is the same.
    let _ = writeln!(Plain(io::stderr()), "tapis: {source}: {left_out}");
    Err(Failure::Reported)
}

/// Writes to a file. A regular file is replaced; any other one, such as a device, is written to.
fn to_file(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), Failure>,
) -> Result<(), Failure> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() && !found.is_dir() => {
            let failed = |error| {
                let text = format!("{}: can't be opened: {error}", path.shown());
                Failure::Other(text.into())
            };
            let file = OpenOptions::new().write(true).open(path);
            write(&mut file.map_err(failed)?)
        }
        _ => {
            // If it is a symbolic link, its target is replaced, not the link.
            let target = durable::target_of(path)
                .map_err(|error| Failure::Other(format!("{}: {error}", path.shown()).into()))?;
            let new = new_file(&target)?;
            write(&mut new.file())?;
            Ok(new.commit()?)
        }
    }
}

/// A new file. It has the owner, group and mode of the one that it replaces, if there is one and this user may give them.
fn new_file(path: &Path) -> Result<NewFile, DurableError> {
    match NewFile::create(path, Access::Inherit) {
        Err(error)
            if matches!(
                error.source.kind(),
                ErrorKind::NotFound | ErrorKind::PermissionDenied
            ) =>
        {
            // Servers of other users read it.
            NewFile::create(path, Access::Umask)
        }
        created => created,
    }
}

/// The failure. If the server rejected the request as it has no such rules in force, the reason is that of its status.
fn explained(failure: Failure, sockets: &[PathBuf], source: &str) -> Failure {
    let is_rejected = match &failure {
        Failure::Other(error) => matches!(
            error.downcast_ref(),
            Some(ClientError::Said { .. } | ClientError::Ending { .. })
        ),
        _ => false,
    };
    let Some(status) = is_rejected.then(|| zones::status(sockets).ok()).flatten() else {
        return failure;
    };
    let mut lists = status.lists.iter();
    let text = match lists.find(|list| list.name == source) {
        Some(list) if list.loaded_at.is_none() => {
            format!("`{source}` has no version yet; see: tapis status")
        }
        Some(_) => return failure,
        None => match nearest(source, status.lists.iter().map(|list| &*list.name)) {
            Some(nearest) => {
                format!("there is no list or feed `{source}`; did you mean `{nearest}`?")
            }
            None => return failure,
        },
    };
    Failure::Other(text.into())
}
