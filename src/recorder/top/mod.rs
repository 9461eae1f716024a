//! The most frequent names, blocked names, clients and sources of the last minutes.

mod sketch;

use std::time::{Duration, Instant};

use self::sketch::Sketch;
use super::client_text::ClientText;
use super::figures::Figures;
use super::record::Record;
use crate::config::top::Top;
use crate::control::recording::{TopEntry, TopList, TopReport};
use crate::wire::name::write_text;

/// The texts that a sketch counts at a time.
const COUNTED: usize = 4096;
/// The texts of a list.
const SHOWN: usize = 100;
/// The interval between two reports of the lists.
const REPORT: Duration = Duration::from_secs(1);

/// Counts records. Two windows of half the interval each follow each other, and lists are made of both.
pub(super) struct TopSink {
    config: Top,
    current: Window,
    previous: Option<Window>,
    reported: Option<Instant>,
    /// Queries that did not get here so far.
    dropped: u64,
    text: String,
}

/// Half of an interval.
struct Window {
    began: Instant,
    queries: u64,
    /// The queries that did not get here meanwhile.
    missing: u64,
    names: Sketch,
    blocked: Sketch,
    clients: Sketch,
    sources: Sketch,
}

impl Window {
    fn new(began: Instant) -> Self {
        let [names, blocked, clients, sources] = [(); 4].map(|()| Sketch::new(COUNTED));
        Self {
            began,
            queries: 0,
            missing: 0,
            names,
            blocked,
            clients,
            sources,
        }
    }
}

impl TopSink {
    /// The sink of this configuration; `None` if it is off. `dropped` is the number of queries that did not get here before.
    pub(super) fn new(config: &Top, dropped: u64, now: Instant) -> Option<Self> {
        config.enabled.then(|| Self {
            config: config.clone(),
            current: Window::new(now),
            previous: None,
            reported: None,
            dropped,
            text: String::new(),
        })
    }

    pub(super) fn config(&self) -> &Top {
        &self.config
    }

    /// Forgets all clients, because they are shown in another form from now on. They are in no list from here on.
    pub(super) fn forget_clients(&mut self, now: Instant, figures: &Figures) {
        let previous = self.previous.as_mut();
        for window in previous.into_iter().chain([&mut self.current]) {
            window.clients = Sketch::new(COUNTED);
        }
        figures.set_top(Some(self.report(now)));
    }

    /// Counts a record.
    pub(super) fn record(&mut self, record: &Record<'_>, clients: &ClientText) {
        let Window {
            queries,
            names,
            blocked,
            clients: counted,
            sources,
            ..
        } = &mut self.current;
        *queries += 1;
        let is_blocked = record.is_blocked();
        if let Some((name, _)) = record.question() {
            names.add(name.wire());
            if is_blocked {
                blocked.add(name.wire());
            }
        }
        if is_blocked {
            sources.add(record.source);
        }
        if clients.write(record.head.address, &mut self.text) {
            counted.add(self.text.as_bytes());
        }
    }

    /// Makes the lists again and begins the next window, if that is due. `dropped` queries did not get here so far.
    pub(super) fn flush(&mut self, now: Instant, dropped: u64, figures: &Figures) {
        self.current.missing += dropped - std::mem::replace(&mut self.dropped, dropped);
        let is_due = |before| now.saturating_duration_since(before) >= REPORT;
        if !self.reported.is_none_or(is_due) {
            return;
        }
        self.reported = Some(now);
        figures.set_top(Some(self.report(now)));
        if now.saturating_duration_since(self.current.began) >= self.config.interval / 2 {
            self.previous = Some(std::mem::replace(&mut self.current, Window::new(now)));
        }
    }

    fn report(&self, now: Instant) -> TopReport {
        let previous = self.previous.as_ref();
        let list = |sketch: fn(&Window) -> &Sketch, text: fn(&[u8]) -> String| {
            let (top, error) = sketch(&self.current).top(previous.map(sketch), SHOWN);
            let entry = |(bytes, count): (&[u8], u64)| TopEntry {
                text: text(bytes),
                count,
            };
            TopList {
                entries: top.into_iter().map(entry).collect(),
                error,
            }
        };
        let plain = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let name = |wire: &[u8]| {
            let mut text = String::new();
            // Writing to a string can't fail.
            let _ = write_text(wire, &mut text);
            text
        };
        let began = previous.map_or(self.current.began, |window| window.began);
        TopReport {
            seconds: now.saturating_duration_since(began).as_secs(),
            queries: self.current.queries + previous.map_or(0, |window| window.queries),
            missing: self.current.missing + previous.map_or(0, |window| window.missing),
            names: list(|window| &window.names, name),
            blocked_names: list(|window| &window.blocked, name),
            clients: list(|window| &window.clients, plain),
            sources: list(|window| &window.sources, plain),
        }
    }
}
