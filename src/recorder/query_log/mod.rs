//! The query log: a line of JSON for each recorded query.

mod file;
mod line;
mod opening;
mod writer;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use self::file::LogFile;
pub(super) use self::line::LineRoom;
use self::writer::Writer;
use super::figures::{Figures, Sink};
use super::overflow::{Overflow, Turn};
use crate::config::recording::QueryLog;
use crate::config::shown::Show;

/// The size at which lines are handed over before the pass ends, in bytes.
const BUFFER: usize = 256 * 1024;

/// Collects lines for the thread that writes them.
pub(super) struct QueryLogSink {
    config: QueryLog,
    path: String,
    figures: Arc<Figures>,
    /// The error if the thread can't be started.
    writer: Result<Writer, String>,
    /// Lines that are not handed over yet, and their number.
    lines: Vec<u8>,
    count: u64,
    overflow: Overflow,
}

impl QueryLogSink {
    /// The query log of this configuration; `None` if it has no file.
    pub(super) fn new(config: &QueryLog, figures: &Arc<Figures>) -> Option<Self> {
        let path = config.file.clone()?;
        let shown = path.shown().to_string();
        let file = LogFile::new(path, config.rotate_bytes, config.keep);
        let writer = Writer::start(file, Arc::clone(figures));
        Some(Self {
            config: config.clone(),
            path: shown,
            figures: Arc::clone(figures),
            writer: writer.map_err(|error| error.to_string()),
            lines: Vec::new(),
            count: 0,
            overflow: Overflow::default(),
        })
    }

    pub(super) fn config(&self) -> &QueryLog {
        &self.config
    }

    /// Opens the file again before the next line.
    pub(super) fn reopen(&mut self) {
        if let Ok(writer) = &self.writer {
            writer.reopen();
        }
    }

    /// Adds a line.
    pub(super) fn record(&mut self, line: &[u8]) {
        self.lines.extend_from_slice(line);
        self.count += 1;
        if self.lines.len() >= BUFFER {
            self.hand_over();
        }
    }

    /// Hands over the lines so far.
    pub(super) fn flush(&mut self, now: Instant) {
        self.hand_over();
        let path = &self.path;
        match self.overflow.look(now) {
            Some(Turn::Began) => {
                tracing::error!(%path, "the query log is written too slowly; lines are lost");
            }
            Some(Turn::Ended(lost)) => {
                tracing::info!(%path, lost, "the query log is written fast enough again");
            }
            None => {}
        }
        self.figures.of(Sink::QueryLog).set_problem(self.problem());
    }

    fn problem(&self) -> Option<String> {
        let path = &self.path;
        let writer = match &self.writer {
            Ok(writer) => writer,
            Err(why) => {
                return Some(format!(
                    "query log: {path} is not written, as a thread can't be started: {why}; lines are lost: let the \
                     system have more threads, and restart"
                ));
            }
        };
        let slow = self.overflow.lost().map(|lost| {
            format!(
                "query log: {path} is written too slowly; {lost} lines are lost so far, and queries are answered \
                 nevertheless: see that its disk answers, or record less with `only` or `sample`"
            )
        });
        writer.problem().or(slow)
    }

    fn hand_over(&mut self) {
        let count = std::mem::take(&mut self.count);
        if count == 0 {
            return;
        }
        let is_taken = match &self.writer {
            Ok(writer) => writer.write(&mut self.lines, count),
            Err(_) => false,
        };
        if !is_taken {
            self.lines.clear();
            self.overflow.add(count);
            let lost = &self.figures.of(Sink::QueryLog).lost;
            lost.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Waits until everything is written, for a second at most.
    pub(super) fn finish(mut self) {
        self.hand_over();
        let is_written = self.writer.is_ok_and(Writer::finish);
        if !is_written {
            let path = &self.path;
            tracing::error!(%path, "the last lines of the query log are not written yet, or lost: its disk does not answer");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_disk_that_does_not_answer_costs_a_bounded_queue_and_is_a_problem() {
        let config = QueryLog {
            file: Some("/dev/null".into()),
            ..QueryLog::default()
        };
        let figures = Arc::<Figures>::default();
        let mut sink = QueryLogSink::new(&config, &figures).expect("a file");
        let (writer, held) = Writer::hung();
        sink.writer = Ok(writer);
        let (line, now) = ([b'x'; 1000], Instant::now());
        let lost = || figures.of(Sink::QueryLog).lost.load(Ordering::Relaxed);
        let mut taken = 0;
        while lost() == 0 {
            sink.record(&line);
            taken += 1;
            assert!(taken * line.len() < 9 << 20, "bounded");
        }
        sink.flush(now);
        let problem = sink.problem().expect("a problem");
        let expected = format!("/dev/null is written too slowly; {} lines are lost", lost());
        assert!(problem.contains(&expected), "{problem}");
        sink.flush(now + Duration::from_secs(11));
        assert_eq!(sink.problem(), None);
        let start = Instant::now();
        sink.finish();
        assert!(start.elapsed() >= Duration::from_secs(1), "it has waited");
        drop(held);
    }
}
