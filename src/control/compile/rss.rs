//! Measures the anonymous memory of the process. Pages of files do not count: the system frees them when it needs memory.

use std::fs;

use super::plan::Event;

/// The highest of all measurements.
#[derive(Default)]
pub(super) struct Peak(u64);

impl Peak {
    /// Measures the memory now, and keeps the value if it is the highest so far.
    pub(super) fn measure(&mut self) {
        self.0 = self.0.max(now().unwrap_or(0));
    }

    /// In bytes; 0 if the system does not report it.
    pub(super) fn bytes(&self) -> u64 {
        self.0
    }
}

/// Reports the progress, and measures memory at each report.
pub(super) struct Reporter<P> {
    pub(super) progress: P,
    pub(super) peak: Peak,
}

impl<P: FnMut(Event)> Reporter<P> {
    pub(super) fn report(&mut self, event: Event) {
        self.peak.measure();
        (self.progress)(event);
    }
}

fn now() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}
