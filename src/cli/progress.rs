//! The progress of long work on standard error, shown only on a terminal.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often it is drawn.
const PER_SECOND: u8 = 10;

/// A line that is replaced while the work goes on, and removed in the end.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Work of a known size: a bar.
    pub(super) fn bar() -> Self {
        Self::new("{prefix:.bold} [{bar:30}] {percent}% {msg}")
    }

    /// Work of unknown size: a text.
    pub(super) fn text() -> Self {
        let progress = Self::new("{spinner} {prefix:.bold} {msg}");
        if stderr().is_terminal() {
            progress.0.enable_steady_tick(Duration::from_millis(200));
        }
        progress
    }

    fn new(template: &str) -> Self {
        // Draws nothing unless standard error is a terminal.
        let target = ProgressDrawTarget::stderr_with_hz(PER_SECOND);
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template(template);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self(bar)
    }

    /// Shows what is being done, and with what.
    pub(super) fn show(&self, step: &str, what: &str) {
        if self.0.prefix() != step {
            self.0.set_prefix(step.to_owned());
        }
        if self.0.message() != what {
            self.0.set_message(what.to_owned());
        }
    }

    /// Shows how much of the work is done.
    pub(super) fn set(&self, done: u64, of: u64) {
        self.0.set_length(of);
        self.0.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
