//! The addresses of upstream servers, which records have by their numbers.

use std::collections::HashMap;
use std::num::NonZeroU16;

/// The most addresses that are kept.
const MOST: usize = 1024;

/// Finds the address of the server with a number; `None` if it is not asked any more.
pub(super) type FindServer = Box<dyn Fn(NonZeroU16) -> Option<String> + Send>;

/// The addresses of servers. Those that were found are kept, so that the data plane's locks are rarely taken, and that
/// servers which were removed meanwhile are shown, too.
#[derive(Default)]
pub(super) struct ServerAddresses {
    find: Option<FindServer>,
    known: HashMap<NonZeroU16, String>,
}

impl ServerAddresses {
    pub(super) fn new(find: FindServer) -> Self {
        Self {
            find: Some(find),
            known: HashMap::new(),
        }
    }

    /// The address of the server with this number.
    pub(super) fn of(&mut self, number: NonZeroU16) -> Option<&str> {
        if !self.known.contains_key(&number) {
            let address = self.find.as_ref()?(number)?;
            if self.known.len() >= MOST {
                self.known.clear();
            }
            self.known.insert(number, address);
        }
        self.known.get(&number).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_kept_after_servers_are_removed_and_not_without_bound() {
        let number = |number| NonZeroU16::new(number).expect("not 0");
        let is_there = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
        let now = std::sync::Arc::clone(&is_there);
        let mut servers = ServerAddresses::new(Box::new(move |number| {
            let is_there = now.load(std::sync::atomic::Ordering::Relaxed);
            is_there.then(|| format!("192.0.2.1:{number}"))
        }));
        assert_eq!(servers.of(number(7)), Some("192.0.2.1:7"));
        is_there.store(false, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(servers.of(number(7)), Some("192.0.2.1:7"));
        assert_eq!(servers.of(number(8)), None);
        is_there.store(true, std::sync::atomic::Ordering::Relaxed);
        for other in 1..=u16::MAX {
            assert!(servers.of(number(other)).is_some());
            assert!(servers.known.len() <= MOST);
        }
    }
}
