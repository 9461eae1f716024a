//! The query log: a line of JSON for each recorded query.

mod file;
mod line;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use self::file::LogFile;
use self::line::write_line;
use super::client_text::ClientText;
use super::figures::SinkFigures;
use super::record::Record;
use super::wall_clock::WallClock;
use crate::config::recording::QueryLog;

/// The pause before the secret for hashed clients is read again.
const SECRET_PAUSE: Duration = Duration::from_secs(10);
/// The size at which lines are written before the pass ends, in bytes.
const BUFFER: usize = 256 * 1024;

/// Writes the query log.
pub(super) struct QueryLogSink {
    config: QueryLog,
    file: LogFile,
    clients: ClientText,
    /// Why clients are left out although they should be shown, and when to try again.
    secret: Option<(String, Instant)>,
    /// Lines that are not written yet, and their number.
    lines: Vec<u8>,
    count: u64,
    text: String,
}

impl QueryLogSink {
    /// The query log of this configuration; `None` if it has no file. Opens the file when it is first written.
    pub(super) fn new(config: &QueryLog) -> Option<Self> {
        let path = config.file.clone()?;
        let mut sink = Self {
            file: LogFile::new(path, config.rotate_bytes, config.keep),
            config: config.clone(),
            clients: ClientText::hidden(),
            secret: None,
            lines: Vec::new(),
            count: 0,
            text: String::new(),
        };
        sink.read_secret(Instant::now());
        Some(sink)
    }

    pub(super) fn config(&self) -> &QueryLog {
        &self.config
    }

    /// Opens the file anew before the next line.
    pub(super) fn reopen(&mut self) {
        self.file.close();
    }

    /// Adds a line.
    pub(super) fn record(&mut self, record: &Record<'_>, clock: &WallClock, figures: &SinkFigures) {
        write_line(
            record,
            clock.at(record.head.received),
            &self.clients,
            &mut self.text,
            &mut self.lines,
        );
        self.count += 1;
        if self.lines.len() >= BUFFER {
            self.write(Instant::now(), figures);
        }
    }

    /// Writes the lines so far, and looks after the file.
    pub(super) fn flush(&mut self, now: Instant, figures: &SinkFigures) {
        if self.secret.as_ref().is_some_and(|(_, at)| now >= *at) {
            self.read_secret(now);
        }
        self.file.look(now);
        self.write(now, figures);
        let secret = self.secret.as_ref().map(|(why, _)| why.clone());
        figures.set_problem(self.file.problem().or(secret));
    }

    fn write(&mut self, now: Instant, figures: &SinkFigures) {
        if self.count == 0 && !self.file.wants_attempt(now) {
            return;
        }
        let errors = self.file.errors();
        let counter = match self.file.write(&self.lines, self.count, now) {
            true => &figures.recorded,
            false => &figures.lost,
        };
        counter.fetch_add(self.count, Ordering::Relaxed);
        let errors = self.file.errors() - errors;
        figures.errors.fetch_add(errors, Ordering::Relaxed);
        self.lines.clear();
        self.count = 0;
    }

    fn read_secret(&mut self, now: Instant) {
        let (form, secret) = (self.config.client, self.config.client_key.as_deref());
        match ClientText::new(form, secret) {
            Ok(clients) => (self.clients, self.secret) = (clients, None),
            Err(error) => {
                let why = format!("query log: {error}");
                if self.secret.is_none() {
                    tracing::error!("{why}");
                }
                self.secret = Some((why, now + SECRET_PAUSE));
            }
        }
    }
}
