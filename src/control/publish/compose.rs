//! Owns the making of a snapshot from a configuration and its lists' rules.
//! Refuses to read files: the rules come read.

use std::sync::Arc;

use ipnet::IpNet;

use crate::config::{Canary, Config};
use crate::policy::builder::Builder;
use crate::policy::image::provenance::ImageSource;
use crate::policy::image::{Image, TooLarge};
use crate::policy::images::Images;
use crate::policy::local::LocalZones;
use crate::policy::rule::Source;
use crate::policy::snapshot::Snapshot;

/// What a configuration says in vain: zones to forward that would go upstream anyway.
pub fn problems(config: &Config) -> Vec<String> {
    let zones = config.local.forward.iter();
    let vain = zones.filter(|zone| !LocalZones::is_zone(zone));
    vain.map(|zone| {
        format!(
            "[local] forward: `{zone}` is no zone that is answered here, so it changes nothing; \
             name a whole zone, such as 10.in-addr.arpa or home.arpa"
        )
    })
    .collect()
}

/// What is right and most likely not meant, a sentence each.
pub fn warnings(config: &Config) -> Vec<String> {
    let allow = &config.server.allow;
    if allow.is_empty() {
        let told = "every client is refused, as [server] allow is empty: name the networks of the clients there, or with \
                    --allow PREFIX";
        return vec![told.to_owned()];
    }
    let mut listen = config.server.listen.iter();
    let Some(address) = listen.find(|address| !address.ip().is_loopback()) else {
        return Vec::new();
    };
    if allow.iter().all(is_this_machine) {
        return vec![format!(
            "other machines are refused, although {address} is listened on: [server] allow has this machine alone; name \
             the networks of the clients there, or with --allow PREFIX"
        )];
    }
    let whole = IpNet::aggregate(allow);
    let whole = whole.iter().find(|network| network.prefix_len() == 0);
    let open = whole.map(|network| {
        format!(
            "this is an open resolver: [server] allow has every address ({network}), so strangers can use it for amplification \
             attacks on others; name the networks of your own clients there, or with --allow PREFIX"
        )
    });
    open.into_iter().collect()
}

/// Whether only this machine has addresses of the network.
fn is_this_machine(network: &IpNet) -> bool {
    let least = match network {
        IpNet::V4(_) => 8,
        IpNet::V6(_) => 128,
    };
    network.addr().is_loopback() && network.prefix_len() >= least
}

/// The policy that `config` and the rules of `sources` (in the configuration's order) make, as
/// `generation`.
pub fn snapshot(
    config: &Config,
    sources: Vec<Arc<Source>>,
    images: Images,
    generation: u64,
) -> Snapshot {
    let canary = config.local.use_application_dns == Canary::Nxdomain;
    let mut snapshot = Snapshot::default().with_rules(sources, images);
    snapshot.generation = generation;
    snapshot.clients = config.server.allow.iter().collect();
    snapshot.local = LocalZones::new(&config.local.forward, canary);
    snapshot.version.clone_from(&config.server.version);
    snapshot.id.clone_from(&config.server.id);
    snapshot
}

/// One image of the rules of several: of `kept` those of the sources that `stays` says, and those
/// of each image in `fresh`, which is of one list, with what is to be told of it. All count as
/// whole lists.
///
/// # Errors
/// When they are too many.
pub fn join<'i>(
    kept: Option<&Image>,
    stays: impl Fn(&str) -> bool,
    fresh: impl IntoIterator<Item = (&'i Image, ImageSource)>,
) -> Result<Image, TooLarge> {
    let mut builder = Builder::new();
    if let Some(image) = kept {
        let mut numbers = Vec::new();
        for source in &image.provenance().sources {
            let number = stays(&source.name).then(|| builder.source(source.clone()));
            numbers.push(number.transpose()?);
        }
        builder.add_image(image, |source| {
            numbers.get(usize::from(source)).copied().flatten()
        })?;
    }
    for (image, source) in fresh {
        let whole = ImageSource {
            whole: true,
            ..source
        };
        let number = builder.source(whole)?;
        builder.add_image(image, |_| Some(number))?;
    }
    builder.finish()
}

/// One image of the rules of these sources, each in its image. All count as whole lists.
///
/// # Errors
/// When they are too many.
pub fn collect(wanted: &[(&Arc<Image>, &ImageSource)]) -> Result<Image, TooLarge> {
    let mut builder = Builder::new();
    let mut images: Vec<&Arc<Image>> = Vec::new();
    for (image, _) in wanted {
        if !images.iter().any(|known| Arc::ptr_eq(known, image)) {
            images.push(image);
        }
    }
    for image in images {
        let mut numbers = Vec::new();
        for source in &image.provenance().sources {
            let is = |(of, named): &&(&Arc<Image>, &ImageSource)| {
                Arc::ptr_eq(of, image) && named.name == source.name
            };
            let whole = wanted.iter().find(is).map(|(_, source)| ImageSource {
                whole: true,
                ..(*source).clone()
            });
            numbers.push(whole.map(|whole| builder.source(whole)).transpose()?);
        }
        builder.add_image(image, |source| {
            numbers.get(usize::from(source)).copied().flatten()
        })?;
    }
    builder.finish()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn warned(listen: &str, allow: &str) -> Vec<String> {
        let text = format!("[server]\nlisten = [\"{listen}\"]\nallow = [{allow}]\n");
        warnings(&Config::parse(&text, Path::new("/tapis.toml")).expect("valid"))
    }

    #[test]
    fn a_resolver_that_is_open_to_the_world_is_warned_of_however_that_is_written() {
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
}
