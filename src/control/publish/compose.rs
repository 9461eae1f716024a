//! Makes snapshots from a configuration and images, and joins images of single lists. Reads no files.

use std::collections::HashMap;
use std::sync::Arc;

use ipnet::IpNet;

use crate::config::Config;
use crate::config::publish::Publish;
use crate::policy::builder::Builder;
use crate::policy::image::provenance::ImageSource;
use crate::policy::image::triggers::PatternGroup;
use crate::policy::image::{Image, TooLarge};
use crate::policy::images::Images;
use crate::policy::local::{LocalNames, is_special_use};
use crate::policy::patterns::SearchCost;
use crate::policy::rule::Source;
use crate::policy::snapshot::Snapshot;

/// A sentence for each zone of `[special-use] forward` that has no effect, because it is not a special-use zone.
pub fn problems(config: &Config) -> Vec<String> {
    let zones = config.local.special_use.forward.iter();
    let ineffective = zones.filter(|zone| !is_special_use(zone));
    ineffective
        .map(|zone| {
            format!(
                "[special-use] forward: `{zone}` has no effect, because it is not a zone that is answered locally; \
                 name a whole zone, such as 10.in-addr.arpa or home.arpa"
            )
        })
        .collect()
}

/// A sentence for each setting that is valid, but probably a mistake.
pub fn warnings(config: &Config) -> Vec<String> {
    let state_dir = config.state.dir.as_deref();
    let feeds = config.feeds.iter();
    let feeds = feeds.flat_map(|feed| feed.warnings(state_dir));
    let published = config.publish.iter().flat_map(Publish::warnings);
    let clients = client_warnings(config).into_iter();
    clients.chain(feeds).chain(published).collect()
}

/// A sentence for an `allow` that refuses or admits too many clients.
fn client_warnings(config: &Config) -> Vec<String> {
    let allow = &config.server.allow;
    if allow.is_empty() {
        let warning = "every client is refused, as [server] allow is empty: name the networks of the clients there, or \
                       with --allow PREFIX";
        return vec![warning.to_owned()];
    }
    let mut listen = config.server.listen.iter();
    let Some(address) = listen.find(|address| !address.ip().is_loopback()) else {
        return Vec::new();
    };
    if allow.iter().all(is_this_machine) {
        return vec![format!(
            "other machines are refused, although {address} is listened on: [server] allow has only this machine; name \
             the networks of the clients there, or with --allow PREFIX"
        )];
    }
    let networks = IpNet::aggregate(allow);
    let everything = networks.iter().find(|network| network.prefix_len() == 0);
    let open = everything.map(|network| {
        format!(
            "this is an open resolver: [server] allow has every address ({network}), so strangers can use it for amplification \
             attacks on others; name the networks of your own clients there, or with --allow PREFIX"
        )
    });
    open.into_iter().collect()
}

/// Whether the network is within the loopback addresses.
fn is_this_machine(network: &IpNet) -> bool {
    let least = match network {
        IpNet::V4(_) => 8,
        IpNet::V6(_) => 128,
    };
    network.addr().is_loopback() && network.prefix_len() >= least
}

/// A snapshot of a configuration and its local names, with `sources` in the order of precedence and `images` that have their rules.
pub fn snapshot(
    config: &Config,
    local: &Arc<LocalNames>,
    sources: Vec<Arc<Source>>,
    images: Images,
    generation: u64,
) -> Snapshot {
    let mut snapshot = Snapshot::default().with_rules(sources, images);
    snapshot.generation = generation;
    snapshot.clients = config.server.allow.iter().collect();
    snapshot.local = Arc::clone(local);
    snapshot.version.clone_from(&config.server.version);
    snapshot.id.clone_from(&config.server.id);
    snapshot
}

/// Joins rules into one image: the rules of `kept` whose sources have names that `keeps` selects, and all rules of the
/// images in `fresh`. Each of these images has a single list, and amends it in the result if it is an amendment. An image
/// that has the whole result is not copied.
///
/// # Errors
/// If an image can't hold all rules.
pub fn join<'i>(
    kept: Option<&Image>,
    keeps: impl Fn(&str) -> bool,
    fresh: impl IntoIterator<Item = (&'i Arc<Image>, ImageSource)>,
) -> Result<Arc<Image>, TooLarge> {
    let fresh: Vec<_> = fresh
        .into_iter()
        .map(|(image, source)| (image, like(image, source)))
        .collect();
    let mut sources = kept.iter().flat_map(|image| &image.provenance().sources);
    let is_kept = sources.any(|source| keeps(&source.name));
    if let [(image, source)] = &*fresh
        && !is_kept
        && image.provenance().sources == [source.clone()]
    {
        return Ok(Arc::clone(image));
    }
    let kept = kept.filter(|_| is_kept);
    let key = kept.or(fresh.first().map(|(image, _)| &***image));
    let mut builder = key.map_or_else(Builder::new, |image| Builder::keyed(image.key().clone()));
    if let Some(image) = kept {
        let mut numbers = Vec::new();
        for source in &image.provenance().sources {
            let number = keeps(&source.name).then(|| builder.source(source.clone()));
            numbers.push(number.transpose()?);
        }
        builder.add_image(image, |source| {
            numbers.get(usize::from(source)).copied().flatten()
        })?;
    }
    for (image, source) in fresh {
        let number = builder.source(source)?;
        builder.add_image(image, |_| Some(number))?;
    }
    builder.finish().map(Arc::new)
}

/// The outcome of [`join_fitting`].
pub struct Fitting {
    /// The joined image.
    pub joined: Result<Arc<Image>, TooLarge>,
    /// The lists that were left out, with the reasons.
    pub left_out: Vec<(String, TooLarge)>,
}

/// Like [`join`], but leaves out lists of `fresh` whose patterns do not fit beside those of `kept` and of the lists before
/// them, if `is_optional` permits that. What `kept` has of such a list stays.
pub fn join_fitting(
    kept: Option<&Image>,
    keeps: impl Fn(&str) -> bool,
    mut fresh: Vec<(&Arc<Image>, ImageSource)>,
    is_optional: impl Fn(&str) -> bool,
) -> Fitting {
    let mut left_out: Vec<(String, TooLarge)> = Vec::new();
    loop {
        let stays = |name: &str| keeps(name) || left_out.iter().any(|(list, _)| list == name);
        let joined = join(kept, stays, fresh.iter().cloned());
        let list = joined.as_ref().err().and_then(TooLarge::list);
        let list = list.filter(|list| is_optional(list));
        let at = fresh
            .iter()
            .position(|(_, source)| Some(&*source.name) == list);
        let (Err(error), Some(at)) = (&joined, at) else {
            return Fitting { joined, left_out };
        };
        let (_, source) = fresh.remove(at);
        left_out.push((source.name, error.clone()));
        if let TooLarge::PatternWork { .. } = error {
            let stays = |name: &str| keeps(name) || left_out.iter().any(|(list, _)| list == name);
            let beyond = beyond(kept, stays, &fresh, &is_optional);
            fresh.retain(|(_, source)| beyond.iter().all(|(list, _)| *list != source.name));
            left_out.extend(beyond);
        }
    }
}

/// The lists of `fresh` whose patterns do not fit beside those of `kept` that stay, and of the lists before them. To join the
/// images without each of them takes long, so the patterns alone are counted.
fn beyond(
    kept: Option<&Image>,
    stays: impl Fn(&str) -> bool,
    fresh: &[(&Arc<Image>, ImageSource)],
    is_optional: impl Fn(&str) -> bool,
) -> Vec<(String, TooLarge)> {
    let fresh = fresh.iter();
    let with_patterns = fresh.filter(|(image, _)| !image.pattern_groups().is_empty());
    let (optional, required): (Vec<_>, Vec<_>) =
        with_patterns.partition(|(_, source)| is_optional(&source.name));
    let mut beyond: Vec<(String, TooLarge)> = Vec::new();
    'count: loop {
        let is_beyond = |name: &str| beyond.iter().any(|(list, _)| list == name);
        let mut cost = SearchCost::default();
        let stays = |name: &str| stays(name) || is_beyond(name);
        add_kept_cost(kept, stays, &mut cost);
        for (image, _) in &required {
            add_pattern_cost(image, |_| true, &mut cost);
        }
        let left: Vec<_> = (optional.iter())
            .filter(|(_, source)| !is_beyond(&source.name))
            .collect();
        for (image, source) in left {
            let mut more = cost.clone();
            add_pattern_cost(image, |_| true, &mut more);
            let Err(why) = more.check() else {
                cost = more;
                continue;
            };
            let list = source.name.as_str().into();
            beyond.push((source.name.clone(), TooLarge::PatternWork { list, why }));
            if add_kept_cost(kept, |list| list == source.name, &mut cost) {
                // What is kept of it takes room from the lists before it.
                continue 'count;
            }
        }
        return beyond;
    }
}

/// Adds the work of patterns that are kept. Returns whether there are any.
fn add_kept_cost(
    kept: Option<&Image>,
    counts: impl Fn(&str) -> bool,
    cost: &mut SearchCost,
) -> bool {
    kept.is_some_and(|kept| add_pattern_cost(kept, counts, cost))
}

/// Adds the work that patterns of an image can cause, of the lists that `counts` selects. Returns whether there are any.
fn add_pattern_cost(image: &Image, counts: impl Fn(&str) -> bool, cost: &mut SearchCost) -> bool {
    let sources = &image.provenance().sources;
    let of = |group: &&PatternGroup| {
        let (_, clause) = group.rules[0];
        let source = image.clauses().get(clause).source;
        counts(&sources[usize::from(source)].name)
    };
    let mut groups = image.pattern_groups().iter().filter(of).peekable();
    let has_any = groups.peek().is_some();
    groups.for_each(|group| group.set.add_cost(cost));
    has_any
}

/// The provenance of a list, with what only its image tells.
fn like(image: &Image, source: ImageSource) -> ImageSource {
    let own = image.provenance().sources.first();
    ImageSource {
        amends: own.is_some_and(|own| own.amends),
        amendable: own.is_some_and(|own| own.amendable),
        ..source
    }
}

/// A list whose rules are joined into a new delta.
#[derive(Clone, Copy)]
pub struct Collected<'i> {
    /// The images that have its rules.
    pub images: &'i Images,
    /// Its provenance in them.
    pub source: &'i ImageSource,
    /// Whether only the changes of the delta are wanted, because the base of these images stays.
    pub amends: bool,
}

/// By list: its number in the new delta, and whether only the changes are wanted.
type Numbers<'i> = HashMap<&'i str, (u16, bool)>;

/// Joins the rules of these lists into one image.
///
/// # Errors
/// If an image can't hold all rules.
pub fn collect(wanted: &[Collected<'_>]) -> Result<Image, TooLarge> {
    let mut builder = Builder::new();
    let mut all: Vec<(&Images, Numbers<'_>)> = Vec::new();
    for list in wanted {
        let number = builder.source(ImageSource {
            amends: list.amends,
            ..list.source.clone()
        })?;
        let place = all
            .iter()
            .position(|(images, _)| std::ptr::eq(*images, list.images));
        let place = place.unwrap_or_else(|| {
            all.push((list.images, Numbers::new()));
            all.len() - 1
        });
        all[place]
            .1
            .insert(&list.source.name, (number, list.amends));
    }
    for (images, numbers) in &all {
        let number = |list: &str, amends: bool| {
            let (number, of) = numbers.get(list)?;
            (*of == amends).then_some(*number)
        };
        let mut cursor = images.rule_cursor(|list| number(list, false).is_some());
        while cursor.advance() {
            for rule in cursor.rules() {
                if let Some(number) = number(rule.list, false) {
                    builder.insert_path(cursor.path(), number, rule.scope, rule.effect)?;
                }
            }
        }
        for image in [&images.base, &images.delta].into_iter().flatten() {
            let sources = &image.provenance().sources;
            let in_image = |source: u16, amends| {
                let list = &*sources[usize::from(source)].name;
                number(list, amends).filter(|_| images.is_in(image, list))
            };
            builder.add_triggers(image, |source| in_image(source, false))?;
            builder.add_image(image, |source| in_image(source, true))?;
        }
    }
    builder.finish()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::policy::effect::{Effect, Tier};

    fn warned(listen: &str, allow: &str) -> Vec<String> {
        let text = format!("[server]\nlisten = [\"{listen}\"]\nallow = [{allow}]\n");
        warnings(&Config::parse(&text, Path::new("/tapis.toml")).expect("valid"))
    }

    #[test]
    fn an_open_resolver_is_warned_of_in_every_notation() {
        for (allow, network) in [
            ("\"0.0.0.0/0\"", "0.0.0.0/0"),
            ("\"::/0\"", "::/0"),
            ("\"192.168.0.0/16\", \"::/0\"", "::/0"),
            (
                "\"128.0.0.0/1\", \"127.0.0.0/8\", \"0.0.0.0/1\"",
                "0.0.0.0/0",
            ),
            (
                "\"0.0.0.0/2\", \"64.0.0.0/2\", \"128.0.0.0/1\"",
                "0.0.0.0/0",
            ),
            ("\"8000::/1\", \"::/1\"", "::/0"),
        ] {
            let warned = warned("0.0.0.0:53", allow);
            assert_eq!(warned.len(), 1, "{allow}: {warned:?}");
            assert!(warned[0].contains("open resolver"), "{warned:?}");
            assert!(warned[0].contains(&format!("({network})")), "{warned:?}");
        }
        for (listen, allow) in [
            ("127.0.0.1:53", "\"0.0.0.0/0\""),
            ("0.0.0.0:53", "\"0.0.0.0/1\""),
            ("[::]:53", "\"10.0.0.0/8\", \"2000::/3\""),
        ] {
            assert_eq!(warned(listen, allow), [""; 0], "{listen} {allow}");
        }
    }

    #[test]
    fn of_lists_whose_patterns_do_not_fit_together_the_last_is_left_out() {
        let image = |list: &str| {
            let mut builder = Builder::new();
            let number = builder.source(ImageSource::named(list)).expect("few");
            let added = builder.insert_pattern("ads[0-9]", number, &Effect::default());
            added.expect("room");
            Arc::new(builder.finish().expect("it fits alone"))
        };
        // There is room for 128 sets of patterns.
        let images: Vec<_> = (0..130).map(|list| image(&format!("list{list}"))).collect();
        let fresh = |of: &[usize]| {
            let images = of.iter().map(|at| &images[*at]);
            let fresh = images.map(|image| (image, image.provenance().sources[0].clone()));
            fresh.collect::<Vec<_>>()
        };
        let names = |image: &Image| {
            let sources = image.provenance().sources.iter();
            sources
                .map(|source| source.name.clone())
                .collect::<Vec<_>>()
        };
        let every: Vec<_> = (0..130).collect();
        let fitting = join_fitting(None, |_| true, fresh(&every), |_| true);
        let joined = fitting.joined.expect("the others fit");
        let left_out: Vec<_> = fitting.left_out.iter().map(|(list, _)| &**list).collect();
        assert_eq!(left_out, ["list128", "list129"]);
        assert!(
            fitting
                .left_out
                .iter()
                .all(|(list, why)| why.list() == Some(list))
        );
        let kept = names(&joined);
        assert_eq!(kept.len(), 128);
        // A list that is read again takes its own place, and one that is new leaves the others in force.
        let again = join_fitting(Some(&joined), |name| name != "list0", fresh(&[0]), |_| true);
        assert!(again.left_out.is_empty() && again.joined.is_ok());
        let added = join_fitting(Some(&joined), |_| true, fresh(&[128]), |_| true);
        assert_eq!(names(&added.joined.expect("the old ones")), kept);
        assert_eq!(added.left_out.len(), 1);
        let required = join_fitting(Some(&joined), |_| true, fresh(&[128]), |_| false);
        assert!(required.joined.is_err() && required.left_out.is_empty());
    }

    #[test]
    fn a_list_without_patterns_fits_whatever_the_old_rules_of_others_need() {
        // Each tier of a list with patterns is one set. There is room for 128 sets of patterns.
        let tiers = [
            Tier::Usual,
            Tier::First,
            Tier::Important,
            Tier::ImportantFirst,
            Tier::Rewrite,
        ];
        let image = |list: &str, sets: usize| {
            let mut builder = Builder::new();
            let number = builder.source(ImageSource::named(list)).expect("few");
            for tier in &tiers[..sets] {
                let effect = Effect {
                    tier: *tier,
                    ..Effect::default()
                };
                let added = builder.insert_pattern("ads[0-9]", number, &effect);
                added.expect("room");
            }
            Arc::new(builder.finish().expect("it fits alone"))
        };
        fn fresh(image: &Arc<Image>) -> (&Arc<Image>, ImageSource) {
            (image, image.provenance().sources[0].clone())
        }
        let others: Vec<_> = (0..119)
            .map(|list| image(&format!("list{list}"), 1))
            .collect();
        let old = [image("a", 5), image("b", 4)];
        let first = join_fitting(
            None,
            |_| true,
            others.iter().chain(&old).map(fresh).collect(),
            |_| true,
        );
        let first = first.joined.expect("exactly all sets");
        // The new `b` fits only without the old `a`, which stays because the new one does not fit.
        let new = [
            image("b", 5),
            image("added", 5),
            image("a", 5),
            image("c", 0),
        ];
        let is_new = |name: &str| ["a", "b", "c"].contains(&name);
        let fitting = join_fitting(
            Some(&first),
            |name| !is_new(name),
            new.iter().map(fresh).collect(),
            |_| true,
        );
        let left_out: Vec<_> = fitting.left_out.iter().map(|(list, _)| &**list).collect();
        assert_eq!(left_out, ["added", "a", "b"]);
        let joined = fitting.joined.expect("the old ones fit");
        let sources = joined.provenance().sources.iter();
        assert!(sources.into_iter().any(|source| source.name == "c"));
    }

    #[test]
    fn an_image_that_is_the_whole_delta_is_not_copied() {
        let image = |list: &str| {
            let mut builder = Builder::new();
            builder.list(list, []).expect("room");
            Arc::new(builder.finish().expect("few"))
        };
        let (old, new) = (image("old"), image("new"));
        let source = new.provenance().sources[0].clone();
        let joined = |keeps: &str, source: &ImageSource| {
            let fresh = [(&new, source.clone())];
            let joined = join(Some(&old), |name| name == keeps, fresh).expect("few");
            let names = joined.provenance().sources.iter();
            let names: Vec<_> = names.map(|source| source.name.clone()).collect();
            (Arc::ptr_eq(&joined, &new), names)
        };
        assert_eq!(joined("other", &source), (true, vec!["new".to_owned()]));
        let both = vec!["old".to_owned(), "new".to_owned()];
        assert_eq!(joined("old", &source), (false, both));
        let read_later = ImageSource {
            rules: 1,
            ..source.clone()
        };
        let alone = (false, vec!["new".to_owned()]);
        assert_eq!(joined("other", &read_later), alone);
    }
}
