//! Pauses of lists and feeds in the journal. They are recorded as settings, although no configuration has them.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::settings::Settings;
use crate::config::List;
use crate::config::paths::section;
use crate::config::pause::Pause;
use crate::policy::rule::Source;

/// The end of the keys of pauses.
const KEY: &str = ".paused";

/// The pauses of these sources, as settings. `pauses` has them by section and name, as in `list ads`.
pub(crate) fn settings<'s>(
    sources: impl Iterator<Item = &'s Source>,
    pauses: &BTreeMap<String, Pause>,
) -> Settings {
    let paused = sources.filter_map(|source| {
        let pause = pauses.get(&format!("{} {}", section(&source.path), source.name))?;
        let value = serde_json::to_value(pause).expect("texts and times have a JSON form");
        Some((key(source), value))
    });
    paused.collect()
}

/// The recorded pause of a list or feed.
pub fn pause(settings: &Settings, source: &Source) -> Option<Pause> {
    Pause::deserialize(settings.get(&key(source))?).ok()
}

/// The list, marked as paused if it is.
pub(crate) fn marked(mut list: List, settings: &Settings) -> List {
    list.source.paused = pause(settings, &list.source).is_some();
    list
}

/// The section and the name of the list or feed whose pause has this key; `None` if it is the key of another setting.
pub fn source_of(key: &str) -> Option<(&str, &str)> {
    let (section, rest) = key.split_once('.')?;
    let name = rest.strip_suffix(KEY)?;
    let is_list = ["list", "feed"].contains(&section);
    is_list.then_some((section, name))
}

fn key(source: &Source) -> String {
    format!("{}.{}{KEY}", section(&source.path), source.name)
}
