//! Removes the changes of zones that are no longer published from the state directory. Their serials stay: they must not go back
//! if the zones are published again.

use std::path::Path;

use super::history::{HistoryFiles, entries};
use crate::config::Config;
use crate::config::shown::Show;

/// Removes them. What can't be removed only takes space, and the next start tries again.
pub(crate) fn remove(config: &Config) {
    let Some(dir) = &config.state.dir else { return };
    let published = config.publish.iter();
    let published = published.map(|publish| HistoryFiles::of(dir, &publish.zone));
    let published: Vec<_> = published.collect();
    let left = left(dir).into_iter();
    left.filter(|files| !published.contains(files))
        .for_each(|files| files.remove());
}

/// The directories with changes of zones.
fn left(dir: &Path) -> Vec<HistoryFiles> {
    match entries(dir) {
        Ok(all) => all.into_iter().filter_map(HistoryFiles::named).collect(),
        Err(error) => {
            let path = dir.shown();
            tracing::warn!(%path, %error, "changes of zones that are no longer published can't be looked for");
            Vec::new()
        }
    }
}
