//! The rules and marks of a delta that amends a list.

use std::sync::Arc;

use super::compare::decided;
use super::snapshots::snapshot;
use crate::policy::amendment::Amendment;
use crate::policy::builder::Builder;
use crate::policy::effect::Effect;
use crate::policy::image::Image;
use crate::policy::image::path::Path;
use crate::policy::image::provenance::ImageSource;
use crate::policy::images::Images;
use crate::policy::rule::Scope;
use crate::wire::name::Name;

/// Images of a base with rules of `zone` and `ads`, and a delta that amends `zone`: its rules on the names of `changed` are
/// those of `left`.
fn amended(base: &[(&str, Scope)], changed: &[&str], left: &[(&str, Scope)]) -> Images {
    let name = |text: &str| Name::from_text(text).expect("a name");
    let add = |builder: &mut Builder, rules: &[(&str, Scope)], source| {
        for (text, scope) in rules {
            builder.insert(&name(text), source, *scope).expect("room");
        }
    };
    let source = |amends| ImageSource {
        amends,
        amendable: true,
        ..ImageSource::named("zone")
    };
    let mut old = Builder::new();
    let zone = old.source(source(false)).expect("room");
    add(&mut old, base, zone);
    let ads = old.source(ImageSource::named("ads")).expect("room");
    add(&mut old, &[("ads.test", Scope::Exact)], ads);
    let mut delta = Builder::new();
    let zone = delta.source(source(true)).expect("room");
    for text in changed {
        let path = Path::from(&name(text));
        delta.amend(path.as_bytes(), zone).expect("room");
    }
    add(&mut delta, left, zone);
    Images {
        base: Some(Arc::new(old.finish().expect("room"))),
        delta: Some(Arc::new(delta.finish().expect("room"))),
        ..Images::default()
    }
}

#[test]
fn a_name_whose_rules_an_amendment_removes_is_decided_by_the_other_rules() {
    let base = [
        ("x.test", Scope::Subtree),
        ("a.x.test", Scope::Exact),
        ("y.test", Scope::Subtree),
    ];
    let images = amended(
        &base,
        &["a.x.test", "y.test"],
        &[("b.y.test", Scope::Exact)],
    );
    let snapshot = snapshot(images, &[]);
    let decide = |text: &str| {
        let name = Name::from_text(text).expect("a name");
        let (kind, _, nxdomain, _) = decided(snapshot.decide(&name));
        (kind, nxdomain)
    };
    // NODATA in place of a true NXDOMAIN is permitted: other names of the zone were below.
    assert_eq!(decide("x.test"), ("blocked", false));
    assert_eq!(decide("a.x.test").0, "blocked", "by the rule above");
    assert_eq!(decide("y.test"), ("pass", false));
    assert_eq!(decide("b.y.test"), ("blocked", false));
}

#[test]
fn an_amended_list_is_in_both_images_and_its_newest_state_in_the_delta() {
    let images = amended(&[("x.test", Scope::Exact)], &["x.test"], &[]);
    assert!(images.is_in_base("zone") && images.is_in_delta("zone"));
    assert!(images.is_amended("zone") && !images.is_amended("ads"));
    let [base, delta] = [&images.base, &images.delta].map(|image| image.as_ref().expect("there"));
    assert!(images.is_in(delta, "zone") && !images.is_in(base, "zone"));
    assert!(images.is_in(base, "ads"));
    let found = images.find("zone").expect("in force");
    assert!(Arc::ptr_eq(found.0, delta) && found.1.amends);
    // If the delta replaces the list, the base does not count.
    let mut replaced = Builder::new();
    replaced.source(ImageSource::named("zone")).expect("room");
    let images = Images {
        delta: Some(Arc::new(replaced.finish().expect("room"))),
        ..images
    };
    assert!(!images.is_in_base("zone") && !images.is_amended("zone"));
    let name = Name::from_text("x.test").expect("a name");
    assert_eq!(images.rules_on(&name, "zone"), []);
    let gone = images.clone().with_lists(|list| list != "ads");
    let ads = Name::from_text("ads.test").expect("a name");
    assert_eq!(images.rules_on(&ads, "ads").len(), 1);
    assert_eq!(gone.rules_on(&ads, "ads"), []);
    assert!(!gone.rule_cursor(|_| true).advance());
}

/// An amendment that leaves no rules on these names.
fn removal(names: &[&str]) -> Amendment {
    let path = |text: &&str| {
        let name = Name::from_text(text).expect("a name");
        (Path::from(&name).as_bytes().to_vec(), Vec::new())
    };
    Amendment {
        names: names.iter().map(path).collect(),
        networks: None,
    }
}

/// The names of a delta with their rules and marks, sorted.
pub(super) fn in_delta(delta: &Image) -> Vec<String> {
    let mut cursor = delta.cursor();
    let mut found = Vec::new();
    while cursor.advance() {
        for rule in cursor.rules() {
            let mark = match delta.clauses().is_void(rule.clause) {
                true => "-",
                false => "",
            };
            let name = Path::of(cursor.path()).to_name();
            found.push(format!("{mark}{:?} {name}", rule.scope));
        }
    }
    found.sort();
    found
}

#[test]
fn a_removed_name_that_was_alone_below_its_top_level_domain_leaves_a_mark_on_itself_only() {
    let base = [("only.zip", Scope::Subtree), ("x.test", Scope::Subtree)];
    let images = Images {
        delta: None,
        ..amended(&base, &[], &[])
    };
    let source = ImageSource {
        amendable: true,
        ..ImageSource::named("zone")
    };
    let delta = removal(&["only.zip"]).image(&images, source);
    assert_eq!(in_delta(&delta.expect("room")), ["-Exact only.zip"]);
}

#[test]
fn names_between_a_wildcard_and_removed_names_are_marked_whichever_of_them_changes_first() {
    let base = [("c.b.test", Scope::Exact), ("d.b.test", Scope::Exact)];
    let wildcard = ("test", Scope::Below);
    let marked = ["-Below b.test", "-Exact c.b.test", "-Exact d.b.test"];
    let source = || ImageSource {
        amendable: true,
        ..ImageSource::named("zone")
    };
    let images = Images {
        delta: None,
        ..amended(&[base[0], base[1], wildcard], &[], &[])
    };
    let delta = removal(&["c.b.test"]).image(&images, source());
    let images = Images {
        delta: Some(Arc::new(delta.expect("room"))),
        ..images
    };
    let delta = removal(&["d.b.test"]).image(&images, source());
    assert_eq!(in_delta(&delta.expect("room")), marked);
    let images = Images {
        delta: None,
        ..amended(&base, &[], &[])
    };
    let delta = removal(&["c.b.test", "d.b.test"]).image(&images, source());
    let delta = Arc::new(delta.expect("room"));
    assert_eq!(in_delta(&delta), marked[1..]);
    let images = Images {
        delta: Some(delta),
        ..images
    };
    let mut later = removal(&[]);
    let test = Path::from(&Name::from_text("test").expect("a name"));
    let rule = (wildcard.1, Effect::default());
    later.names.insert(test.as_bytes().to_vec(), vec![rule]);
    let delta = later.image(&images, source()).expect("room");
    let all = [&marked[..], &["-Exact test", "Below test"]].concat();
    assert_eq!(in_delta(&delta), all);
}
