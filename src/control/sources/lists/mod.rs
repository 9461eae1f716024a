//! Lists: from a file that changed to rules that are ready.

pub(crate) mod landing;
pub mod load;
pub mod parse;
pub(crate) mod state;

use tokio::sync::mpsc;

use self::landing::Done;
use self::state::ListState;
use crate::config::Config;

/// The lists of the configuration in force.
pub(crate) struct ListSources {
    pub(crate) active: Vec<ListState>,
    /// Loads that ended.
    pub(crate) done: (mpsc::Sender<Done>, mpsc::Receiver<Done>),
}

impl ListSources {
    pub(crate) fn new(config: &Config) -> Self {
        let lists = config.lists.iter().cloned();
        Self {
            active: lists.map(ListState::new).collect(),
            done: mpsc::channel(256),
        }
    }
}
