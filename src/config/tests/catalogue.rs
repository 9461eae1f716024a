//! Tests of the catalogue of public lists.

use std::collections::HashSet;
use std::path::Path;

use super::valid;
use crate::config::catalogue::{list, lists};
use crate::config::list_edit::{NewList, with_list};

#[test]
fn each_list_of_the_catalogue_is_a_valid_list_of_a_configuration_with_all_others() {
    let mut text = "[state]\ndir = \"state\"\n".to_owned();
    for list in lists() {
        let new = NewList::from(list);
        text = with_list(&text, Path::new("tapis.toml"), &new)
            .unwrap_or_else(|error| panic!("{}: {error}", list.name));
    }
    let config = valid(&text);
    assert!(config.lists.len() >= 12, "{}", config.lists.len());
    for (list, configured) in lists().iter().zip(&config.lists) {
        assert_eq!(list.name, configured.source.name);
        let download = configured.download.as_ref().expect("a list by URL");
        assert_eq!(download.urls.len(), list.url.len());
        assert!(
            download.urls.iter().all(|url| url.is_https()),
            "{}",
            list.name
        );
        assert_eq!(configured.format.word(), list.format);
    }
}

#[test]
fn the_catalogue_names_each_list_once_and_only_with_links_that_are_encrypted() {
    let names: HashSet<_> = lists().iter().map(|list| &*list.name).collect();
    assert_eq!(names.len(), lists().len());
    for list in lists() {
        let links = list.homepage.iter().chain(&list.license);
        assert!(
            links.into_iter().all(|link| !link.starts_with("http:")),
            "{}",
            list.name
        );
        assert!(list.homepage.is_some(), "{}", list.name);
        assert!(!list.blocks.is_empty() && !list.title.is_empty());
    }
    assert_eq!(list("oisd-big").map(|list| &*list.title), Some("OISD big"));
    assert!(list("none").is_none());
}
