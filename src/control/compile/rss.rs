//! Owns the measure of what memory the process takes for itself.
//! Refuses to count pages of files, which the system takes back when it needs them.

use std::fs;

/// The most that was taken at the moments when it was looked at.
#[derive(Default)]
pub(super) struct Peak(u64);

impl Peak {
    /// Looks.
    pub(super) fn look(&mut self) {
        self.0 = self.0.max(now().unwrap_or(0));
    }

    /// In octets; 0 where the system does not tell.
    pub(super) fn octets(&self) -> u64 {
        self.0
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
