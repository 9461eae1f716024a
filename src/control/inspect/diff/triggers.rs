//! Finds the rules on networks and with patterns that differ between two pairs of images, source by source.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Change;
use crate::policy::effect::Effect;
use crate::policy::image::Image;
use crate::policy::images::Images;
use crate::policy::prefix::AddressOf;

/// A network or a pattern on which a source has different rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TriggerDifference {
    /// Whether the source has a rule on it only in the new policy, only in the old one, or in both with another effect.
    pub change: Change,
    /// The trigger, as docs/policy.md writes it.
    pub trigger: String,
    /// The source.
    pub source: String,
}

/// By source and trigger: the effects of the rules.
type Effects<'i> = BTreeMap<(&'i str, String), BTreeSet<&'i Effect>>;

/// Compares the rules of all sources. The order of the sources, and the views, are not compared.
pub fn compare(old: &Images, new: &Images) -> Vec<TriggerDifference> {
    let (old, new) = (effects(old), effects(new));
    let all: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let differences = all.into_iter().filter_map(|key| {
        let change = match (old.get(key), new.get(key)) {
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
            (old, new) if old != new => Change::Changed,
            _ => return None,
        };
        Some(TriggerDifference {
            change,
            trigger: key.1.clone(),
            source: key.0.to_owned(),
        })
    });
    differences.collect()
}

/// Whether some rules are on networks or have patterns.
pub fn has_any(images: &Images) -> bool {
    let all = [&images.base, &images.delta, &images.orders];
    let mut all = all.into_iter().flatten();
    all.any(|image| !image.triggers().is_empty())
}

fn effects(images: &Images) -> Effects<'_> {
    let mut effects = Effects::new();
    let lists = [&images.base, &images.delta].into_iter().flatten();
    for image in lists {
        add(image, |source| images.is_in(image, source), &mut effects);
    }
    if let Some(orders) = &images.orders {
        add(orders, |_| true, &mut effects);
    }
    effects
}

/// Adds the rules of an image to `effects`, but only those of sources for which `counts` returns true.
fn add<'i>(image: &'i Arc<Image>, counts: impl Fn(&str) -> bool, effects: &mut Effects<'i>) {
    let of = |clause: u32| {
        let source = usize::from(image.clauses().get(clause).source);
        let source = &*image.provenance().sources[source].name;
        counts(source).then_some((source, image.clauses().effect(clause)))
    };
    let networks = image.triggers().prefixes().iter().map(|(prefix, clause)| {
        let of = match prefix.of {
            AddressOf::Client => "client",
            AddressOf::Answer => "answer",
        };
        (format!("{of} {}", prefix.network()), *clause)
    });
    let patterns = image.pattern_groups().iter().flat_map(|group| &group.rules);
    let patterns = patterns.map(|(pattern, clause)| (format!("/{pattern}/"), *clause));
    for (trigger, clause) in networks.chain(patterns) {
        if let Some((source, effect)) = of(clause) {
            let key = (source, trigger);
            effects.entry(key).or_default().insert(effect);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::builder::Builder;
    use crate::policy::effect::EffectAction;
    use crate::policy::image::provenance::ImageSource;
    use crate::policy::prefix::Prefix;

    fn images(rules: &[(&str, bool)]) -> Images {
        let mut builder = Builder::new();
        let source = builder.source(ImageSource::named("ads")).expect("few");
        for (text, allows) in rules {
            let effect = match allows {
                true => Effect {
                    action: EffectAction::Allow,
                    ..Effect::default()
                },
                false => Effect::default(),
            };
            let added = match text.parse() {
                Ok(network) => {
                    let prefix = Prefix::new(AddressOf::Answer, network).expect("valid");
                    builder.insert_prefix(prefix, source, &effect)
                }
                Err(_) => builder.insert_pattern(text, source, &effect),
            };
            added.expect("room");
        }
        Arc::new(builder.finish().expect("good patterns")).into()
    }

    #[test]
    fn networks_and_patterns_that_differ_are_found() {
        let old = images(&[
            ("192.0.2.0/24", false),
            ("198.51.100.0/24", false),
            ("ads[0-9]", false),
            ("trk[0-9]", false),
        ]);
        let new = images(&[
            ("192.0.2.0/24", true),
            ("ads[0-9]", false),
            ("ads[0-9]", true),
            ("pix[0-9]", false),
            ("trk[0-9]", false),
        ]);
        let found = compare(&old, &new).into_iter();
        let found: Vec<_> = found.map(|found| (found.change, found.trigger)).collect();
        let expected = [
            (Change::Changed, "/ads[0-9]/"),
            (Change::Added, "/pix[0-9]/"),
            (Change::Changed, "answer 192.0.2.0/24"),
            (Change::Removed, "answer 198.51.100.0/24"),
        ];
        assert_eq!(
            found,
            expected.map(|(change, text)| (change, text.to_owned()))
        );
        assert!(compare(&new, &new).is_empty());
        let gone = new.clone().with_lists(|_| false);
        assert_eq!(
            compare(&new, &gone).len(),
            4,
            "the rules of a removed list do not count"
        );
        assert!(has_any(&new));
    }
}
