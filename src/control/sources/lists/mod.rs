//! Lists: from a file that changed to rules that are ready.

pub(crate) mod landing;
pub mod load;
pub mod parse;
pub(crate) mod state;

use std::path::PathBuf;

use tokio::sync::mpsc;

use self::landing::Done;
use self::state::ListState;
use super::files::Files;
use crate::config::Config;
use crate::control::file_tasks::FileTasks;

/// The lists of the configuration in force.
pub(crate) struct ListSources {
    pub(crate) active: Vec<ListState>,
    /// Loads that ended.
    /// Looks at their files, by directory.
    pub(crate) looks: FileTasks<PathBuf, Files>,
    pub(crate) done: (mpsc::Sender<Done>, mpsc::Receiver<Done>),
}

impl ListSources {
    pub(crate) fn new(config: &Config) -> Self {
        let lists = config.lists.iter().cloned();
        Self {
            active: lists.map(ListState::new).collect(),
            looks: FileTasks::new(),
            done: mpsc::channel(256),
        }
    }
}
