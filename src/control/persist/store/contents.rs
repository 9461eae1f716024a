//! Fingerprints of images: those with the same rules are recognized without reading them.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::control::persist::list_notes::rules_of;
use crate::policy::image::Image;
use crate::policy::image::provenance::ImageSource;
use crate::policy::images::Images;

/// The lists of a pair, as the record has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// The number of rules of all of them.
    pub rules: u64,
    /// Those that have rules in the images and are not in force.
    pub gone: BTreeSet<String>,
    /// The fingerprints; `None` if these lists don't count as equal to any others.
    pub contents: Option<Contents>,
}

/// Fingerprints of rules. They don't depend on when the lists were read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// Of the base.
    pub base: String,
    /// Of the rules in force of all lists.
    pub lists: String,
}

impl Lists {
    /// The lists of these images.
    pub fn of(images: &Images) -> Self {
        let (base, delta) = (sources(&images.base), sources(&images.delta));
        let base_in_force = base.iter().filter(|it| !images.is_in_delta(&it.name));
        let in_force = base_in_force.chain(delta);
        let in_force = in_force.filter(|it| !images.gone.contains(&it.name));
        Self {
            rules: images.list_rules(),
            gone: BTreeSet::clone(&images.gone),
            contents: Some(Contents {
                base: fingerprint(base),
                lists: fingerprint(in_force),
            }),
        }
    }
}

fn sources(image: &Option<Arc<Image>>) -> &[ImageSource] {
    let sources = image.as_ref().map(|image| &*image.provenance().sources);
    sources.unwrap_or_default()
}

fn fingerprint<'s>(sources: impl IntoIterator<Item = &'s ImageSource>) -> String {
    let mut rules: Vec<_> = sources.into_iter().map(rules_of).collect();
    rules.sort_unstable();
    let rules = serde_json::to_vec(&rules).expect("texts have a JSON form");
    blake3::hash(&rules).to_hex().to_string()
}
