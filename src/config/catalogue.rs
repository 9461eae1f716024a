//! The catalogue of well-known public lists, which is built into the program.

use std::sync::LazyLock;

use jiff::civil::Date;
use serde::Deserialize;

/// The catalogue, in the order of its file.
static CATALOGUE: LazyLock<Vec<CatalogueList>> = LazyLock::new(|| {
    let file: File = toml::from_str(include_str!("../../config/lists.toml"))
        .expect("a test checks that the catalogue is valid");
    file.list
});

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    list: Vec<CatalogueList>,
}

/// A public list. What its publisher does not state is `None`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogueList {
    /// The name that it gets in a configuration.
    pub name: String,
    /// Its publisher's title.
    pub title: String,
    /// The kinds of names that it blocks.
    pub blocks: String,
    /// Where it is downloaded from: the mirrors in their order.
    pub url: Vec<String>,
    /// The `format` of the list.
    pub format: String,
    /// An SPDX identifier, or the publisher's own text, or where that is.
    pub license: Option<String>,
    /// The publisher's page about it.
    pub homepage: Option<String>,
    /// Its size.
    pub entries: Option<Entries>,
}

/// The size of a list on a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entries {
    /// The number of its entries.
    pub count: u64,
    /// When the publisher stated it.
    pub on: Date,
}

/// All lists of the catalogue, in the order of its file.
pub fn lists() -> &'static [CatalogueList] {
    &CATALOGUE
}

/// The list with this name.
pub fn list(name: &str) -> Option<&'static CatalogueList> {
    lists().iter().find(|list| list.name == name)
}
