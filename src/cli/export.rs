//! `tapis export`: writes the rules of a list or a feed in the formats of other programs.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::failure::Failure;
use super::plain::Plain;
use super::server::{self, ControlArgs};
use crate::config::Format;
use crate::config::shown::Shown;
use crate::control::admin::status::{ExportRequest, LEFT_OUT};
use crate::control::zones::text;

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
    /// The file, which is replaced in one step. The default is standard output.
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
        let take = |part: &[u8]| out.write_all(part);
        let trailers = server::download(&sockets, "/export", &request, take)??;
        left_out = trailers.get(LEFT_OUT).cloned();
        Ok(())
    };
    match &args.output {
        Some(path) => text::replace_file(path, write)?,
        None => write(out)?,
    }
    let Some(left_out) = left_out else {
        return Ok(());
    };
    let left_out = String::from_utf8_lossy(left_out.as_bytes());
    let (source, left_out) = (Shown::new(&*args.source), Shown::new(left_out));
    // If standard error is closed, the result is the same.
    let _ = writeln!(Plain(io::stderr()), "tapis: {source}: {left_out}");
    Err(Failure::Reported)
}
