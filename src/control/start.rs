//! Owns the first reading of all lists, before anybody is served.
//! Refuses to follow them: that is `reload`'s.

use std::io;

use tokio::time::Instant;

use super::compose;
use super::load::{Refusal, load};
use super::reload::Control;
use super::report;
use super::state::{ListState, Loading};
use super::watch::OPEN_QUIET;
use crate::config::Config;
use crate::policy::image::TooLarge;

/// How often a required list is read at the start that changes while it is read.
const START_TRIES: u32 = 10;

/// Why there is no first generation.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A list that must be there is not.
    #[error("list `{name}` is required, but {source}")]
    RequiredListMissing {
        /// The list.
        name: String,
        /// Why not.
        source: Refusal,
    },
    /// All lists together are too many rules.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

impl Control {
    /// Reads all lists, on a thread each, and puts the first generation in force. Blocks until
    /// they are read. Lists that can't be read are left out, and `status` says so.
    ///
    /// # Errors
    /// [`StartError`] when one of those is required, or all together are too much.
    pub fn start(config: Config) -> Result<Self, StartError> {
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
        let mut images = Vec::new();
        for (index, end) in ends.into_iter().enumerate() {
            let list = &mut control.lists[index];
            match end.unwrap_or_else(|_| Err(broken(list))) {
                Err(source) if list.config.required => {
                    let name = list.name().to_owned();
                    return Err(StartError::RequiredListMissing { name, source });
                }
                Err(refusal) => {
                    report::log_load(list, Err(&refusal));
                    list.settle(Err(refusal), Instant::now());
                }
                Ok(fresh) => {
                    report::log_load(list, Ok(&fresh.loaded));
                    list.settle(Ok(fresh.loaded), Instant::now());
                    images.push(fresh.image);
                }
            }
        }
        let delta = compose::join(None, |_| true, &images)?;
        control.images.delta = Some(delta.into());
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
