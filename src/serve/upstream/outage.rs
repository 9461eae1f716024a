//! Finds out whether the upstream servers are silent, all of them.

use super::Pool;
use crate::serve::cache::Key;

impl Pool {
    /// Whether none of the servers answers. Takes as long as a query.
    ///
    /// Servers that left some queries without a word may do so for a few broken zones only, and where
    /// no client asks, nobody learns that they are back. So they are asked for the name servers of the
    /// root, which a resolver always knows.
    pub async fn is_out(&self) -> bool {
        if !self.is_silent() {
            return false;
        }
        // What counts is whether any server says anything, not what.
        let _ = self.ask(&Key::root_servers(), None, None).await;
        self.is_silent()
    }

    fn is_silent(&self) -> bool {
        let servers = self.lock();
        !servers.health.is_empty() && servers.health.iter().all(|health| health.is_silent())
    }
}
