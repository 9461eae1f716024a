//! Feeds that get another name: their rules stay in force under the old name until the new one has a version of the zone.

use super::provenance;
use super::state::ListState;
use crate::config::List;
use crate::policy::images::Images;

/// Whether these are feeds of one zone.
pub(crate) fn are_of_one_zone(one: &List, other: &List) -> bool {
    one.is_feed() && other.is_feed() && one.apex() == other.apex()
}

/// Moves the feeds that only have another name now from the lists that left the configuration to the `lists` in force, each
/// before its new name. Returns the lists that are gone, and a sentence for each feed that stays.
pub(crate) fn keep(
    lists: &mut Vec<ListState>,
    gone: Vec<ListState>,
) -> (Vec<ListState>, Vec<String>) {
    let (mut left, mut kept) = (Vec::new(), Vec::new());
    for old in gone {
        match successor(&old.config, lists).filter(|_| old.loaded.is_some()) {
            Some(at) => {
                kept.push(format!(
                    "the rules of feed {} stay in force until feed {} has a version of the zone",
                    old.name(),
                    lists[at].name()
                ));
                lists.insert(at, old);
            }
            None => left.push(old),
        }
    }
    (left, kept)
}

/// Adds the feeds in `images` that have another name in the configuration of `lists`, each before its new name.
pub(crate) fn restore(lists: &mut Vec<ListState>, images: &Images) {
    for name in images.source_names() {
        let found = images.find(name);
        let found = found.filter(|_| lists.iter().all(|list| list.name() != name));
        let Some((_, source)) = found else {
            continue;
        };
        let is_new = |list: &ListState| {
            list.config.is_feed() && list.loaded.is_none() && list.source.path == source.path
        };
        let Some(at) = lists.iter().position(is_new) else {
            continue;
        };
        let mut config = lists[at].config.clone();
        name.clone_into(&mut config.source.name);
        if let Some(loaded) = provenance::loaded(source, &config) {
            let mut old = ListState::new(config);
            old.restore(Some(loaded));
            lists.insert(at, old);
        }
    }
}

/// The place of the feed that has the zone of another one, but no version of it yet.
fn successor(old: &List, lists: &[ListState]) -> Option<usize> {
    let is_successor =
        |list: &ListState| are_of_one_zone(&list.config, old) && list.loaded.is_none();
    lists.iter().position(is_successor)
}

/// Drops the old names of feeds whose new names have a version; `is_known` are the names that stay in any case. Returns the
/// numbers of their loads.
pub(crate) fn drop_old(
    lists: &mut Vec<ListState>,
    is_known: impl Fn(&ListState) -> bool,
) -> Vec<u64> {
    let is_over = |list: &&ListState| {
        list.config.is_feed() && !is_known(list) && successor(&list.config, lists).is_none()
    };
    let over = lists.iter().filter(is_over);
    let over: Vec<_> = over.map(|list| list.name().to_owned()).collect();
    let mut tickets = Vec::new();
    lists.retain(|list| {
        let stays = over.iter().all(|name| name != list.name());
        if !stays {
            let loading = list.loading.map(|loading| loading.ticket);
            tickets.extend(loading.into_iter().chain(list.next.ticket));
        }
        stays
    });
    tickets
}
