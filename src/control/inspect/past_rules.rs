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
use crate::policy::image::provenance::ImageSource;
use crate::policy::images::Images;

/// The rules of a list at a moment.
#[derive(Clone, Debug)]
pub struct PastRules {
    /// The images that have them.
    pub images: Images,
    /// The name that the list had then.
    pub list: Box<str>,
}

impl PastRules {
    /// Rules that are in one image, which has all rules of this source.
    pub(super) fn in_image(image: Arc<Image>, source: u16) -> Self {
        let list = &*image.provenance().sources[usize::from(source)].name;
        Self {
            list: list.into(),
            images: image.into(),
        }
    }
}

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
) -> (Option<PastRules>, bool) {
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
        let rules = PastRules::in_image(Arc::new(image), source);
        return (Some(rules), is_file_unchanged);
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
            let rules = PastRules::in_image(fresh.image, 0);
            return (Some(rules), true);
        }
    }
    let found = images
        .all(config)
        .iter()
        .find_map(|image| in_image(image, entry));
    (found, is_file_unchanged)
}

/// The past rules of a list in these images, in which it is in force.
pub(super) fn find_in(images: &Images, entry: &ListEntry) -> Option<PastRules> {
    let (_, source) = images.find(&entry.name)?;
    is_of(source, entry).then(|| PastRules {
        images: images.clone(),
        list: source.name.as_str().into(),
    })
}

fn in_image(image: &Arc<Image>, entry: &ListEntry) -> Option<PastRules> {
    // The other rules of a list that the image amends are in a base that is not known here.
    let source = source(image, |source| !source.amends && is_of(source, entry))?;
    Some(PastRules::in_image(Arc::clone(image), source))
}

/// Whether a source has the rules of an entry.
fn is_of(source: &ImageSource, entry: &ListEntry) -> bool {
    match entry.content.as_deref() {
        Some(key) => list_notes::content_of(source).as_deref() == Some(key),
        None => {
            let same = source.name == entry.name && source.digest == entry.digest;
            same && source.rules == entry.rules as u64
        }
    }
}
