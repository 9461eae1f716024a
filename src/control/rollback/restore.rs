//! Composes the images that a rollback puts in force, and lists what it does not restore.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use crate::config::List;
use crate::control::journal::past::{Moment, Past};
use crate::control::persist::image_store::ImageStore;
use crate::control::persist::store::Pair;
use crate::control::publish::compose::{self, Collected};
use crate::control::rollback::stored::read_generation;
use crate::control::sources::lists::load::Loaded;
use crate::control::sources::lists::provenance;
use crate::policy::image::provenance::ImageSource;
use crate::policy::image::{Image, TooLarge};
use crate::policy::images::Images;
use crate::policy::rule::Kind;

/// The load of a list from the images; `None` if they don't have the list as it is configured now.
pub(crate) fn loaded(images: &Images, list: &List) -> Option<Loaded> {
    provenance::loaded(images.find(&list.source.name)?.1, list)
}

/// As [`loaded`], but also if the list was read from another file or in another format; also returns the list as it
/// was configured then.
pub(crate) fn last_loaded(images: &Images, list: &List) -> Option<(List, Loaded)> {
    provenance::kept(images.find(&list.source.name)?.1, list)
}

/// The images of a generation. A list keeps the rules that are in force if the generation does not have it as it is
/// configured now: a rollback removes no list.
///
/// The base is that of the generation or the one in force, whichever needs fewer rules copied into the delta. So a list
/// of millions of names that was renamed since then is not copied.
///
/// # Errors
/// If an image can't have as many rules as are to be copied.
pub(crate) fn compose(
    generation: &Images,
    in_force: &Images,
    lists: &[List],
) -> Result<Images, TooLarge> {
    let restored = |list: &List| loaded(generation, list).is_some();
    let stays = |list: &List| !restored(list) && last_loaded(in_force, list).is_some();
    if !lists.iter().any(stays) {
        return Ok(generation.clone());
    }
    let wanted = lists.iter().filter_map(|list| {
        let images = if restored(list) { generation } else { in_force };
        let (_, source) = images.find(&list.source.name)?;
        (restored(list) || stays(list)).then_some((images, source))
    });
    let wanted: Vec<_> = wanted.collect();
    let bases = [&generation.base, &in_force.base];
    let beside = bases.map(|base| {
        let copied = |(images, source)| beside(base.as_deref(), images, source);
        wanted
            .iter()
            .copied()
            .filter_map(copied)
            .collect::<Vec<_>>()
    });
    let rules = beside
        .each_ref()
        .map(|lists| lists.iter().map(copied_rules).sum::<u64>());
    let chosen = usize::from(rules[1] < rules[0]);
    let images = Images {
        base: bases[chosen].clone(),
        delta: Some(Arc::new(compose::collect(&beside[chosen])?)),
        ..Images::default()
    };
    let names: HashSet<_> = wanted.iter().map(|(_, source)| &*source.name).collect();
    Ok(images.with_lists(|name| names.contains(name)))
}

/// The part of a list's rules that is copied into the delta over this base; `None` if the base has them all. `source` is
/// the provenance of the list in `images`.
fn beside<'i>(
    base: Option<&Image>,
    images: &'i Images,
    source: &'i ImageSource,
) -> Option<Collected<'i>> {
    let in_base = base.and_then(|base| base.provenance().source(&source.name));
    let has = |wanted: &ImageSource| in_base.is_some_and(|known| has_same_rules(known, wanted));
    // If the base has the rules that the list had before it was amended, the changes are enough.
    let amended = images.base.as_deref().filter(|_| source.amends);
    let amended = amended.and_then(|base| base.provenance().source(&source.name));
    let collected = Collected {
        images,
        source,
        amends: amended.is_some_and(has),
    };
    (!has(source)).then_some(collected)
}

/// Whether two sources have the same rules, in one image or in two.
fn has_same_rules(one: &ImageSource, other: &ImageSource) -> bool {
    let amends = other.amends;
    ImageSource {
        amends,
        ..one.clone()
    } == *other
}

/// The number of rules that have to be copied, at most.
fn copied_rules(list: &Collected<'_>) -> u64 {
    match (&list.images.delta, list.amends) {
        (Some(delta), true) => delta.facts().rules,
        _ => list.source.rules,
    }
}

/// A sentence for each thing that a rollback does not restore: lists that are no longer configured, actions, the
/// sequence of the held lists. `past` is the generation as the journal has it; without it, only lists are reported.
pub(crate) fn unrestored(
    generation: u64,
    past: Option<&Past>,
    images: &Images,
    lists: &[List],
    is_held: impl Fn(&List) -> bool,
) -> Vec<String> {
    let configured = |name: &str| lists.iter().find(|list| list.source.name == name);
    let gone = |name: &str| {
        format!(
            "{name}: in force in generation {generation}, and no longer in the configuration: it is not \
             restored; to have it back, write it into the configuration again"
        )
    };
    let Some(past) = past else {
        let all = [&images.delta, &images.base].into_iter().flatten();
        let names = all.flat_map(|image| &image.provenance().sources);
        let mut names: Vec<_> = names
            .map(|source| &*source.name)
            .filter(|name| configured(name).is_none() && !images.gone.contains(*name))
            .collect();
        names.sort_unstable();
        names.dedup();
        return names.into_iter().map(gone).collect();
    };
    let mut missing = Vec::new();
    let mut order_then = Vec::new();
    for entry in &past.lists {
        let Some(list) = configured(&entry.name) else {
            missing.push(gone(&entry.name));
            continue;
        };
        if !is_held(list) {
            // `not_held` reports it.
            continue;
        }
        order_then.push(&*entry.name);
        let (was, is) = (entry.action, list.source.blocking.action);
        if list.source.kind != Kind::Allow && was != is {
            missing.push(format!(
                "{}: its action in generation {generation} is {}, and now {}: the action is not restored",
                entry.name,
                was.word(),
                is.word()
            ));
        }
    }
    let order = lists.iter().map(|list| &*list.source.name);
    let order: Vec<_> = order.filter(|name| order_then.contains(name)).collect();
    if order != order_then {
        missing.push(format!(
            "lists: their order in generation {generation} is {}, and now {}: the order is not restored",
            order_then.join(", "),
            order.join(", ")
        ));
    }
    missing
}

/// The images that a rollback puts in force.
pub(crate) struct RestoredLists {
    pub(crate) images: Images,
    /// The numbers of the generation's images, if its base is that of `images`. That base needs no new file.
    pub(crate) base_file: Option<Pair>,
    /// The names of the lists that are held.
    pub(crate) lists: Vec<String>,
    pub(crate) unrestored: Vec<String>,
}

/// Reads a generation from the state directory and the journal, and composes it with the images in force.
pub(crate) fn read_and_compose(
    store: &ImageStore,
    (dir, journal): (&Path, Option<&Path>),
    generation: u64,
    in_force: &Images,
    lists: &[List],
) -> Result<RestoredLists, String> {
    let stored = store.while_unchanged(|| read_generation(dir, journal, generation));
    let stored = stored.map_err(|error| error.to_string())?;
    let pair = stored.pair;
    let stored = stored.into_images();
    let images = compose(&stored, in_force, lists).map_err(|error| error.to_string())?;
    // Without the journal's entry, fewer differences are known.
    let past = journal.and_then(|path| Past::read(path, Moment::Generation(generation)).ok());
    let is_known = |list: &List| loaded(&stored, list).is_some();
    let (known, others): (Vec<_>, Vec<_>) = lists.iter().partition(|list| is_known(list));
    let mut missing = unrestored(
        generation,
        past.flatten().as_ref(),
        &stored,
        lists,
        is_known,
    );
    let others = others.into_iter();
    missing.extend(others.map(|list| not_held(generation, list, in_force)));
    let known = known.into_iter();
    Ok(RestoredLists {
        lists: known.map(|list| list.source.name.clone()).collect(),
        unrestored: missing,
        base_file: is_same(&images.base, &stored.base).then_some(pair),
        images,
    })
}

/// Whether these are the same images.
pub(crate) fn are_same(one: &Images, other: &Images) -> bool {
    is_same(&one.base, &other.base) && is_same(&one.delta, &other.delta) && one.gone == other.gone
}

fn is_same(one: &Option<Arc<Image>>, other: &Option<Arc<Image>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

/// The sentence for a list that the generation does not have, so that the rollback does not hold it.
pub(crate) fn not_held(generation: u64, list: &List, in_force: &Images) -> String {
    let what = match last_loaded(in_force, list).is_some() {
        true => "its rules in force stay",
        false => "nothing of it was in force",
    };
    let followed = match list.is_feed() {
        true => "its primaries",
        false => "its file",
    };
    format!(
        "{}: generation {generation} does not have it as it is configured now; {what}, and it follows {followed}",
        list.source.name
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::config::Config;
    use crate::control::guard::release::Guards;
    use crate::control::list_file::parse::Tally;
    use crate::policy::builder::Builder;
    use crate::policy::rule::Scope;
    use crate::wire::name::Name;

    /// The lists of a configuration, each given as its name, or as its name and another path.
    fn lists(names: &[&str]) -> Vec<List> {
        let text = names.iter().map(|name| {
            let (name, path) = name.split_once('@').unwrap_or((name, name));
            format!("[[list]]\nname = \"{name}\"\npath = \"{path}\"\n")
        });
        let text: String = text.collect();
        let config = Config::parse(&text, Path::new("tapis.toml"));
        config.expect("a configuration").lists
    }

    /// An image of lists, each given as in [`lists`] with its version and how many names it has.
    fn image(all: &[(&str, u32, usize)]) -> Option<Arc<Image>> {
        let mut builder = Builder::new();
        for (name, version, count) in all {
            let list = &lists(&[name])[0];
            let loaded = Loaded {
                rules: *count,
                tally: Tally::default(),
                digest: version.to_string(),
                signature: None,
                at: Timestamp::UNIX_EPOCH,
                took: Duration::ZERO,
                protected_names: "protected_names".to_owned(),
                released: Guards::NONE,
            };
            let number = builder
                .source(provenance::source(list, &loaded))
                .expect("room");
            for at in 0..*count {
                let name = format!("v{version}.n{at}.{}.example", list.source.name);
                let name = Name::from_text(&name).expect("a name");
                builder.insert(&name, number, Scope::Exact).expect("room");
            }
        }
        Some(Arc::new(builder.finish().expect("room")))
    }

    fn images(base: &[(&str, u32, usize)], delta: &[(&str, u32, usize)]) -> Images {
        Images {
            base: image(base),
            delta: image(delta),
            ..Images::default()
        }
    }

    /// The lists, each with the version and the number of its rules in force.
    fn rules(images: &Images, lists: &[List]) -> Vec<(String, String, u64)> {
        let known = lists.iter().filter_map(|list| {
            loaded(images, list)?;
            let (image, source) = images.find(&list.source.name)?;
            let number = image
                .provenance()
                .sources
                .iter()
                .position(|it| it == source);
            let mut cursor = image.cursor();
            let mut count = 0;
            while cursor.advance() {
                let rules = cursor.rules();
                count += rules
                    .filter(|rule| Some(usize::from(image.source_of(*rule))) == number)
                    .count();
            }
            assert_eq!(count as u64, source.rules, "all its rules are there");
            Some((source.name.clone(), source.digest.clone(), source.rules))
        });
        known.collect()
    }

    fn delta(images: &Images) -> Vec<&str> {
        let delta = images.delta.as_ref().expect("there is one");
        let sources = delta.provenance().sources.iter();
        sources.map(|source| &*source.name).collect()
    }

    #[test]
    fn every_list_has_the_rules_of_the_generation_or_those_in_force() {
        let then = images(
            &[("big", 1, 50), ("gone", 1, 2)],
            &[("ads", 1, 3), ("moved", 1, 1)],
        );
        let now = images(
            &[("big", 2, 60), ("huge", 2, 9)],
            &[("ads", 2, 4), ("moved@there", 2, 5), ("huge", 3, 8)],
        );
        let lists = lists(&["huge", "ads", "moved@there", "big", "missing"]);
        let composed = compose(&then, &now, &lists).expect("room");
        let expected = [
            ("huge", "3", 8),
            ("ads", "1", 3),
            ("moved", "2", 5),
            ("big", "1", 50),
        ];
        let expected =
            expected.map(|(name, version, count)| (name.to_owned(), version.to_owned(), count));
        assert_eq!(rules(&composed, &lists), expected);
    }

    #[test]
    fn the_base_that_needs_fewer_rules_copied_is_used() {
        let small = images(&[("big", 1, 5), ("also", 1, 3)], &[]);
        let renamed = images(&[("huge", 1, 90), ("also", 1, 3)], &[("ads", 1, 1)]);
        let lists = lists(&["big", "huge", "also", "ads"]);
        // The same base is used, whichever of the two is in force.
        for (then, now) in [(&small, &renamed), (&renamed, &small)] {
            let composed = compose(then, now, &lists).expect("room");
            let base = composed.base.as_ref().expect("a base");
            assert!(Arc::ptr_eq(base, renamed.base.as_ref().expect("a base")));
            let mut copied = delta(&composed);
            copied.sort_unstable();
            assert_eq!(copied, ["ads", "big"]);
        }
    }

    #[test]
    fn a_generation_that_has_all_lists_comes_back_as_it_was() {
        let then = images(&[("big", 1, 5)], &[("ads", 1, 1)]);
        let now = images(&[("big", 2, 5), ("gone", 2, 1)], &[]);
        let composed = compose(&then, &now, &lists(&["big", "ads"])).expect("room");
        assert!(Arc::ptr_eq(
            composed.delta.as_ref().expect("a delta"),
            then.delta.as_ref().expect("a delta")
        ));
    }

    /// Images in which a delta amends the list `big` of a base: it changes a rule, and the list has this version then.
    fn amended(base: &Images, version: u32) -> Images {
        let big = lists(&["big"]);
        let (_, source) = base.find("big").expect("there");
        let mut builder = Builder::new();
        let source = ImageSource {
            digest: version.to_string(),
            amends: true,
            ..source.clone()
        };
        let number = builder.source(source).expect("room");
        let old = Name::from_text("v1.n0.big.example").expect("a name");
        let path = crate::policy::image::path::Path::from(&old);
        builder.amend(path.as_bytes(), number).expect("room");
        let new = Name::from_text(&format!("v{version}.n0.big.example")).expect("a name");
        builder.insert(&new, number, Scope::Exact).expect("room");
        let images = Images {
            base: base.base.clone(),
            delta: Some(Arc::new(builder.finish().expect("room"))),
            ..Images::default()
        };
        assert!(loaded(&images, &big[0]).is_some());
        images
    }

    /// The number of rules that `list` has, and whether it has one on this name.
    fn count(images: &Images, list: &str, name: &str) -> (usize, bool) {
        let mut cursor = images.rule_cursor(|one| one == list);
        let mut count = 0;
        while cursor.advance() {
            count += cursor.rules().len();
        }
        let name = Name::from_text(name).expect("a name");
        (count, !images.rules_on(&name, list).is_empty())
    }

    #[test]
    fn of_an_amended_list_only_the_amendments_are_copied_if_its_base_is_used() {
        let start = images(&[("big", 1, 50)], &[]);
        let then = amended(&start, 2);
        // The list `new` stays, because the generation does not have it.
        let beside = images(&[("big", 1, 50), ("new", 1, 3)], &[]);
        let now = amended(&beside, 3);
        let all = lists(&["big", "new"]);
        let composed = compose(&then, &now, &all).expect("room");
        let base = composed.base.as_ref().expect("a base");
        assert!(Arc::ptr_eq(base, beside.base.as_ref().expect("a base")));
        assert_eq!(delta(&composed), ["big"]);
        assert!(composed.is_amended("big"));
        assert_eq!(composed.delta.as_ref().map(|it| it.facts().rules), Some(2));
        assert_eq!(count(&composed, "big", "v2.n0.big.example"), (50, true));
        assert_eq!(count(&composed, "big", "v3.n0.big.example"), (50, false));
        // Over another base, all its rules are copied.
        let other = images(&[("big", 4, 60), ("new", 1, 300)], &[]);
        let composed = compose(&then, &other, &all).expect("room");
        let base = composed.base.as_ref().expect("a base");
        assert!(Arc::ptr_eq(base, other.base.as_ref().expect("a base")));
        assert!(!composed.is_amended("big"));
        assert_eq!(count(&composed, "big", "v2.n0.big.example"), (50, true));
        assert_eq!(count(&composed, "new", "v1.n0.new.example"), (300, true));
        // A base into which the amendments were merged has all rules.
        let mut merged = Builder::new();
        let (_, source) = then.find("big").expect("there");
        let source = ImageSource {
            amends: false,
            ..source.clone()
        };
        merged.source(source).expect("room");
        let kept = beside.base.as_ref().expect("a base").provenance();
        let new = kept.source("new").expect("there").clone();
        merged.source(new).expect("room");
        let merged = Images::from(Arc::new(merged.finish().expect("room")));
        let composed = compose(&then, &merged, &all).expect("room");
        assert_eq!(delta(&composed), [""; 0]);
    }

    #[test]
    fn a_feed_that_is_not_held_follows_its_primaries_and_a_list_its_file() {
        let text = "[[list]]\nname = \"l\"\npath = \"l\"\n[[feed]]\nname = \"f\"\nzone = \"f.test\"\n\
                    primaries = [\"192.0.2.1\"]\n";
        let config = Config::parse(text, Path::new("tapis.toml")).expect("a configuration");
        let texts = config.lists.iter();
        let texts = texts.map(|list| (list.is_feed(), not_held(7, list, &Images::default())));
        for (is_feed, text) in texts {
            let followed = match is_feed {
                true => "it follows its primaries",
                false => "it follows its file",
            };
            assert!(text.ends_with(followed), "{text}");
        }
    }
}
