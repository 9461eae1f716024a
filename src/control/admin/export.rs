//! Sends the rules in force of a source as text, as long as the client reads it.

use std::error::Error;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http_body_util::StreamBody;
use hyper::body::Frame;
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::status::{ExportRequest, LEFT_OUT};
use crate::config::Format;
use crate::control::list_file::write::{WrittenFormat, write_list, write_zone};
use crate::control::zones::report::inexpressible;
use crate::control::zones::source::zone_of;
use crate::control::zones::text;
use crate::policy::current::Reader;
use crate::policy::images::Images;
use crate::policy::published::{PublishedZone, Selection};
use crate::policy::rule::Source;
use crate::policy::served_zones::ZoneVersion;
use crate::policy::snapshot::Snapshot;
use crate::wire::name::Name;

/// The size of the parts that are sent, in bytes.
const PART: usize = 1 << 16;
/// Parts that are ready to be sent.
const READY: usize = 4;

/// A part of the text or the trailers, or the error that ends it.
type Part = Result<Frame<Bytes>, io::Error>;

/// The rules that are to be sent.
enum Rules {
    /// As a policy zone with this name.
    Zone(Box<Name>, Box<ZoneVersion>),
    List {
        images: Images,
        source: Arc<Source>,
        format: WrittenFormat,
        /// The rules, if it is a policy zone.
        zone: Option<PublishedZone>,
    },
}

/// Answers a request. The text is written by another thread while it is sent.
pub(super) fn export(reader: &Reader, request: &ExportRequest) -> Response {
    let snapshot = Arc::clone(&reader.load());
    let rules = match Rules::of(&snapshot, request) {
        Ok(rules) => rules,
        Err((status, problem)) => return (status, problem).into_response(),
    };
    drop(snapshot);
    let (sender, receiver) = mpsc::channel::<Part>(READY);
    tokio::task::spawn_blocking(move || {
        let mut out = BufWriter::with_capacity(PART, Parts(&sender));
        let written = rules.write(&mut out);
        let written = written.and_then(|left_out| {
            out.flush()?;
            Ok(left_out)
        });
        // An error means that the client is gone.
        let _ = match written {
            Ok(Some(left_out)) => sender.blocking_send(trailer(&left_out)),
            Ok(None) => Ok(()),
            // The client sees that the text is not complete.
            Err(error) => sender.blocking_send(Err(io::Error::other(error))),
        };
    });
    let next = |mut receiver: mpsc::Receiver<Part>| async move {
        let part = receiver.recv().await?;
        Some((part, receiver))
    };
    let body = Body::new(StreamBody::new(stream::unfold(receiver, next)));
    ([(header::TRAILER, LEFT_OUT)], body).into_response()
}

/// The trailer with what was left out.
fn trailer(left_out: &str) -> Part {
    let value = HeaderValue::from_str(left_out).map_err(io::Error::other)?;
    let trailers = HeaderMap::from_iter([(header::HeaderName::from_static(LEFT_OUT), value)]);
    Ok(Frame::trailers(trailers))
}

impl Rules {
    fn of(
        snapshot: &Arc<Snapshot>,
        ExportRequest { source, format }: &ExportRequest,
    ) -> Result<Self, (StatusCode, String)> {
        let refused = |problem: String| (StatusCode::BAD_REQUEST, problem);
        let mut sources = snapshot.sources().iter();
        let found = sources.find(|found| found.name == *source);
        let found = found.ok_or_else(|| {
            refused(format!(
                "there is no list or feed `{source}`; `tapis status` shows all"
            ))
        })?;
        if found.paused {
            let problem = format!(
                "`{source}` is paused, so none of its rules is in force; to end the pause: tapis resume {source}"
            );
            return Err((StatusCode::CONFLICT, problem));
        }
        if found.is_disabled() {
            let problem = format!(
                "`{source}` is disabled in the configuration, so none of its rules is in force; to apply them, remove \
                 policy = \"disabled\""
            );
            return Err((StatusCode::CONFLICT, problem));
        }
        let as_zone = zone_of(snapshot, source).filter(|_| *format == Format::Rpz);
        if let Some((apex, version)) = as_zone {
            return Ok(Self::Zone(Box::new(apex), Box::new(version)));
        }
        let word = format.word();
        let format = WrittenFormat::new(*format).filter(|_| found.kind.is_list());
        let format =
            format.ok_or_else(|| refused(format!("`{source}` can't be written as {word}")))?;
        let zone = found.zone.is_some().then(|| {
            let selection = Selection::Named(vec![source.clone()]);
            PublishedZone::new(snapshot, &selection, &Name::ROOT)
        });
        Ok(Self::List {
            zone,
            images: snapshot.images(),
            source: Arc::clone(found),
            format,
        })
    }

    /// Writes them. Returns what the text does not have.
    fn write(self, out: &mut impl Write) -> Result<Option<String>, Box<dyn Error + Send + Sync>> {
        match self {
            Self::Zone(apex, version) => {
                let counts = inexpressible(&text::write(&apex, &version, out, || true)?);
                if counts.is_empty() {
                    return Ok(None);
                }
                let counts = counts
                    .iter()
                    .map(|(reason, count)| format!("{count} {reason}"));
                let counts = counts.collect::<Vec<_>>().join(", ");
                let left_out = format!("not all can be written as rpz: {counts}");
                writeln!(out, "; {left_out}")?;
                Ok(Some(left_out))
            }
            Self::List {
                images,
                source,
                format,
                zone,
            } => {
                let now = Timestamp::now();
                let written = match zone {
                    Some(zone) => {
                        let rules = images.find(&source.name);
                        let rules = rules.map_or(0, |(_, source)| source.rules);
                        write_zone(&zone, (&source, rules), format, now, out)?
                    }
                    None => write_list(&images, &source, format, now, out)?,
                };
                Ok(written.left_out(format))
            }
        }
    }
}

/// Passes on what is written to it, and waits if the client is slower.
struct Parts<'p>(&'p mpsc::Sender<Part>);

impl Write for Parts<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let part = Frame::data(Bytes::copy_from_slice(bytes));
        let sent = self.0.blocking_send(Ok(part));
        sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
