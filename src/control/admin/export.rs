//! Sends the rules in force of a source as a zone file, as long as the client reads it.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::sync::mpsc;

use super::status::ExportRequest;
use crate::control::zones::source::zone_of;
use crate::control::zones::text;
use crate::policy::current::Reader;

/// The size of the parts that are sent, in bytes.
const PART: usize = 1 << 16;
/// Parts that are ready to be sent.
const READY: usize = 4;

/// A part of the text, or the error that ends it.
type Part = Result<Vec<u8>, io::Error>;

/// Answers a request. The text is written by another thread while it is sent.
pub(super) fn export(reader: &Reader, request: &ExportRequest) -> Response {
    let snapshot = Arc::clone(&reader.load());
    let mut sources = snapshot.sources().iter();
    if sources.any(|source| source.name == request.source && source.paused) {
        let problem = format!(
            "`{0}` is paused, so none of its rules is in force; to end the pause: tapis resume {0}",
            request.source
        );
        return (StatusCode::CONFLICT, problem).into_response();
    }
    let Some((apex, version)) = zone_of(&snapshot, &request.source) else {
        let problem = format!("there is no list or feed `{}`", request.source);
        return (StatusCode::BAD_REQUEST, problem).into_response();
    };
    drop(snapshot);
    let (sender, receiver) = mpsc::channel::<Part>(READY);
    tokio::task::spawn_blocking(move || {
        let mut out = BufWriter::with_capacity(PART, Parts(&sender));
        let written = text::write(&apex, &version, &mut out, || true);
        let written = written.and_then(|()| Ok(out.flush()?));
        if let Err(error) = written {
            // The client sees that the text is not complete, unless it is the one who ended it.
            let _ = sender.blocking_send(Err(io::Error::other(error)));
        }
    });
    let next = |mut receiver: mpsc::Receiver<Part>| async move {
        let part = receiver.recv().await?;
        Some((part, receiver))
    };
    Body::from_stream(stream::unfold(receiver, next)).into_response()
}

/// Passes on what is written to it, and waits if the client is slower.
struct Parts<'p>(&'p mpsc::Sender<Part>);

impl Write for Parts<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(bytes.to_vec()));
        sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
