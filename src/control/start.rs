//! Owns the first reading of all lists, before anybody is served.
//! Refuses to follow them: that is `reload`'s.

use std::io;

use tokio::time::Instant;

use super::load::{Refusal, load};
use super::reload::Control;
use super::report;
use super::state::{ListState, Loading};
use super::watch::OPEN_QUIET;
use crate::config::Config;

/// How often a required list is read at the start that changes while it is read.
const START_TRIES: u32 = 10;

/// A list that must be there is not.
#[derive(Debug, thiserror::Error)]
#[error("list `{name}` is required, but {source}")]
pub struct RequiredListMissing {
    name: String,
    source: Refusal,
}

impl Control {
    /// Reads all lists, on a thread each, and puts the first generation in force. Blocks until
    /// they are read. Lists that can't be read are left out, and `status` says so.
    ///
    /// # Errors
    /// [`RequiredListMissing`] when one of those is required.
    pub fn start(config: Config) -> Result<Self, RequiredListMissing> {
        // It watches them already: a change while they are read is noticed.
        let mut control = Self::empty(config);
        let ends: Vec<_> = std::thread::scope(|scope| {
            let start = |list: &mut ListState| {
                let of = list.look();
                list.start(Loading {
                    ticket: 0,
                    of,
                    accept: false,
                });
                let config = list.config.clone();
                scope.spawn(move || {
                    let tries = if config.required { START_TRIES } else { 1 };
                    let mut result = load(&config, None, false);
                    for _ in 1..tries {
                        if !matches!(&result, Err(refusal) if refusal.transient()) {
                            break;
                        }
                        std::thread::sleep(OPEN_QUIET / START_TRIES);
                        result = load(&config, None, false);
                    }
                    result
                })
            };
            let threads: Vec<_> = control.lists.iter_mut().map(start).collect();
            threads.into_iter().map(|thread| thread.join()).collect()
        });
        for (index, end) in ends.into_iter().enumerate() {
            let list = &control.lists[index];
            match end.unwrap_or_else(|_| Err(broken(list))) {
                Err(source) if list.config.required => {
                    let name = list.name().to_owned();
                    return Err(RequiredListMissing { name, source });
                }
                result => {
                    report::log_load(list, &result);
                    control.lists[index].settle(result, Instant::now());
                }
            }
        }
        control.publish();
        Ok(control)
    }
}

/// Why a load that panicked made nothing.
pub(super) fn broken(list: &ListState) -> Refusal {
    Refusal::Unreadable {
        path: list.source.path.clone(),
        source: io::Error::other(
            "reading it broke off inside tapis, which is a bug; please report it",
        ),
    }
}
