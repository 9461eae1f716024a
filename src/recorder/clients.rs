//! The form of clients in the query log, in top lists and in live queries, with the secret that hashes need.

use std::time::{Duration, Instant};

use super::client_text::ClientText;
use crate::config::recording::QueryLog;

/// The pause before a secret that can't be used is read again.
const SECRET_PAUSE: Duration = Duration::from_secs(10);

/// How clients are shown at present.
pub(super) struct Clients {
    config: QueryLog,
    text: ClientText,
    /// Why clients are left out although they should be shown, and when to try again.
    unread: Option<(String, Instant)>,
}

impl Clients {
    /// Shows no clients.
    pub(super) fn hidden() -> Self {
        Self {
            config: QueryLog::default(),
            text: ClientText::hidden(),
            unread: None,
        }
    }

    /// Shows clients as configured.
    pub(super) fn new(config: &QueryLog, now: Instant) -> Self {
        let mut clients = Self {
            config: config.clone(),
            ..Self::hidden()
        };
        clients.read(now);
        clients
    }

    /// Shows clients as this configuration says. Without a secret, hashes stay the same until the form changes.
    pub(super) fn follow(&mut self, config: &QueryLog, now: Instant) {
        let (own, next) = (&self.config, config);
        let is_same = (own.client, &own.client_key) == (next.client, &next.client_key);
        if !is_same || self.text.form() != next.client {
            *self = Self::new(config, now);
        }
    }

    pub(super) fn text(&self) -> &ClientText {
        &self.text
    }

    /// Why clients are left out although they should be shown.
    pub(super) fn problem(&self) -> Option<String> {
        self.unread.as_ref().map(|(why, _)| why.clone())
    }

    /// Tries again to read a secret that could not be used.
    pub(super) fn look(&mut self, now: Instant) {
        if self.unread.as_ref().is_some_and(|(_, at)| now >= *at) {
            self.read(now);
        }
    }

    fn read(&mut self, now: Instant) {
        match ClientText::new(self.config.client, self.config.client_key.as_deref()) {
            Ok(text) => (self.text, self.unread) = (text, None),
            Err(error) => {
                let why = error.to_string();
                if self.unread.is_none() {
                    tracing::error!("{why}");
                }
                self.unread = Some((why, now + SECRET_PAUSE));
            }
        }
    }
}
