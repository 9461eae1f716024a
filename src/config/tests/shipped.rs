//! Tests of the shipped configurations.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use crate::policy::rule::{Blocking, Ede};

use super::super::*;
use super::{list, problems, valid};

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/tapis.toml");

#[test]
fn the_shipped_file_sets_the_defaults() {
    let mut shipped = Config::load(Path::new(SHIPPED)).expect("valid");
    let orders = shipped
        .orders
        .dir
        .take()
        .expect("the directory of the example orders");
    assert!(orders.ends_with("blocklists/orders"));
    let empty = Config::parse("", Path::new(SHIPPED)).expect("valid");
    assert_eq!(
        Config {
            lists: Vec::new(),
            ..shipped.clone()
        },
        empty
    );

    let [telegram] = &shipped.lists[..] else {
        panic!("one list");
    };
    let block = &valid(&list("")).lists[0].source.blocking;
    let expected = Blocking {
        ede: Ede::Censored,
        extra_text: telegram.source.blocking.extra_text.clone(),
        ..block.clone()
    };
    assert_eq!(telegram.source.blocking, expected);
}

#[test]
fn the_shipped_file_documents_every_key() {
    let mut sections = Vec::new();
    for section in [
        "[server]",
        "[upstream]",
        "[cache]",
        "[special-use]",
        "[block]",
        "[state]",
        "[process]",
        "[log]",
        "[metrics]",
        "[query-log]",
        "[dnstap]",
        "[guard]",
        "[[list]]",
        "[[feed]]",
        "[[publish]]",
    ] {
        sections.push(format!("{section}\nno-such-key-at-all = 1\n"));
    }
    let text = fs::read_to_string(SHIPPED).expect("readable");
    let mut keys = 0;
    for problem in problems(&sections.concat()) {
        let Some((_, known)) = problem.split_once("valid keys are ") else {
            continue;
        };
        for key in known.split(", ") {
            let set = format!("{key} = ");
            let spoken_of = text
                .lines()
                .any(|line| line.trim_start_matches("# ").starts_with(&set));
            // Any section may document the key: `ttl-secs` and `sinkhole` are keys of [[list]], too, but only [block]
            // documents them.
            assert!(spoken_of, "{key} is not in {SHIPPED}");
            keys += 1;
        }
    }
    assert!(keys > 25, "the messages name the keys");
}

#[test]
fn the_built_in_configuration_is_the_shipped_one_with_its_list_embedded() {
    let mut built_in = Config::built_in();
    let mut shipped = Config::load(Path::new(SHIPPED)).expect("valid");
    assert_eq!(built_in.origin, Origin::BuiltIn);
    assert_eq!(built_in.lists.len(), 1, "there is one embedded text");
    assert_eq!(
        built_in.lists[0].source.path,
        Path::new("blocklists/telegram-web-2017.txt")
    );
    let Content::Embedded(text) = built_in.lists[0].content else {
        panic!("embedded");
    };
    let file = fs::read_to_string(&shipped.lists[0].source.path).expect("readable");
    assert_eq!(text, file);

    let orders = fs::read_dir(shipped.orders.dir.take().expect("its orders")).expect("listed");
    let mut orders: Vec<_> = orders.map(|order| order.expect("a file").path()).collect();
    orders.sort();
    for (path, (name, text)) in orders.iter().zip(built_in.orders.embedded) {
        assert!(path.ends_with(name), "{name}");
        assert_eq!(fs::read_to_string(path).expect("readable"), *text);
    }
    assert_eq!(orders.len(), built_in.orders.embedded.len());
    built_in.orders.embedded = &[];

    shipped.origin = Origin::BuiltIn;
    for (ours, theirs) in built_in.lists.iter_mut().zip(&mut shipped.lists) {
        ours.content = Content::File;
        ours.source.path.clone_from(&theirs.source.path);
    }
    assert_eq!(built_in, shipped);
}

#[test]
fn the_example_for_a_provider_is_valid() {
    let path = Path::new(SHIPPED).with_file_name("isp.toml");
    let config = Config::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.cache.max_ttl_secs, 300);
    assert_eq!(
        config.state.dir.as_deref(),
        Some(Path::new("/var/lib/tapis"))
    );
    let kinds: HashSet<_> = config.lists.iter().map(|list| list.source.kind).collect();
    assert_eq!(kinds.len(), 2, "block and allow");
    let formats: Vec<_> = config.lists.iter().map(|list| list.format).collect();
    assert!(formats.contains(&Format::Hosts) && formats.contains(&Format::Domains));
}
