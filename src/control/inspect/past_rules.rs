//! Finds the past rules of a list: in its file, if that has not changed, or in the state directory.

use std::sync::Arc;

use crate::config::{Config, Content, List};
use crate::control::guard::policy::GuardPolicy;
use crate::control::guard::release::Guards;
use crate::control::journal::entry::ListEntry;
use crate::control::list_file::file::digest;
use crate::control::persist::list_notes;
use crate::control::persist::store::{Rules, read_past, source, stored_images};
use crate::control::sources::lists::load::load;
use crate::control::sources::lists::provenance;
use crate::policy::image::Image;
use crate::policy::images::Images;

/// The images that the state directory keeps, read when they are first needed.
#[derive(Default)]
pub(super) struct KeptImages(Option<Vec<Arc<Image>>>);

impl KeptImages {
    fn all(&mut self, config: &Config) -> &[Arc<Image>] {
        self.0.get_or_insert_with(|| {
            let kept = config.state.dir.iter().flat_map(|dir| stored_images(dir));
            kept.map(Arc::new).collect()
        })
    }
}

/// The past rules of a list, `None` if they are not found; and whether its file still has the same content.
pub(super) fn find(
    config: &Config,
    guard_policy: &GuardPolicy,
    entry: &ListEntry,
    list: &List,
    images: &mut KeptImages,
) -> (Option<Rules<Arc<Image>>>, bool) {
    let is_file_unchanged = match list.content {
        Content::Transferred => false,
        Content::File | Content::Embedded(_) => {
            let now = digest(&list.source.path, list.content.embedded());
            now.is_ok_and(|now| now == entry.digest)
        }
    };
    let dir = config.state.dir.as_deref();
    let key = entry.content.as_deref();
    if let Some(Rules { image, source }) = dir.zip(key).and_then(|(dir, key)| read_past(dir, key)) {
        let image = Arc::new(image);
        return (Some(Rules { image, source }), is_file_unchanged);
    }
    let fresh = is_file_unchanged
        .then(|| load(list, guard_policy, &[], Guards::ALL).ok())
        .flatten();
    if let Some(fresh) = fresh {
        // The guards may have changed since. Then other rules are left out today.
        let same = match key {
            Some(key) => provenance::content(list, &fresh.loaded) == key,
            None => fresh.loaded.rules == entry.rules,
        };
        if same {
            let image = Arc::new(fresh.image);
            return (Some(Rules { image, source: 0 }), true);
        }
    }
    let found = images
        .all(config)
        .iter()
        .find_map(|image| in_image(image, entry));
    (found, is_file_unchanged)
}

/// The past rules of a list in these images: from the delta if it has the list, otherwise from the base.
pub(super) fn find_in(images: &Images, entry: &ListEntry) -> Option<Rules<Arc<Image>>> {
    let image = match images.is_in_delta(&entry.name) {
        true => &images.delta,
        false => &images.base,
    };
    in_image(image.as_ref()?, entry).filter(|rules| {
        let source = &rules.image.provenance().sources[usize::from(rules.source)];
        source.name == entry.name
    })
}

fn in_image(image: &Arc<Image>, entry: &ListEntry) -> Option<Rules<Arc<Image>>> {
    let source = source(image, |source| match entry.content.as_deref() {
        Some(key) => list_notes::content_of(source).as_deref() == Some(key),
        None => {
            let same = source.name == entry.name && source.digest == entry.digest;
            same && source.rules == entry.rules as u64
        }
    })?;
    let image = Arc::clone(image);
    Some(Rules { image, source })
}
