//! The state directory as a whole: what a start reads after normal use, crashes and damage.

mod commits;
mod damage;
mod places;

use std::fs;
use std::io::Cursor;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use tempfile::TempDir;

use super::*;
use crate::policy::image::clauses::ClausesBuilder;
use crate::policy::image::path::{Key, Path as NamePath};
use crate::policy::image::provenance::Provenance;
use crate::policy::image::text::PairHistogram;
use crate::policy::image::values::ImageRule;
use crate::policy::image::writer::Writer;
use crate::policy::image::{ImageError, layout};
use crate::policy::rule::Scope;
use crate::wire::name::Name;

/// An image of this number of names.
fn image(names: usize) -> Vec<u8> {
    let key = Key::new(7);
    let name = |n| Name::from_text(&format!("n{n}.example.com")).expect("a name");
    let mut paths: Vec<_> = (0..names).map(|n| NamePath::from(&name(n))).collect();
    paths.sort_by(|one, other| key.compare(one.as_bytes(), other.as_bytes()));
    let rule = ImageRule {
        clause: 0,
        scope: Scope::Exact,
    };
    let to = Cursor::new(Vec::new());
    let mut writer = Writer::new(
        to,
        key,
        PairHistogram::default(),
        ClausesBuilder::of_sources(1),
    )
    .expect("memory");
    for path in paths {
        writer
            .push(path.as_bytes(), &[rule.to_bits()])
            .expect("memory");
    }
    let (to, _) = writer.finish(&Provenance::numbered(1)).expect("memory");
    to.into_inner()
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn store(folder: &TempDir) -> Store {
    Store::open(folder.path(), 3).expect("ours")
}

/// Installs a base of this number of names.
fn adopt(store: &mut Store, names: usize) -> Base {
    let place = store.create_base_file().expect("a place");
    fs::write(&place, image(names)).expect("written");
    store.install_base(&place).expect("adopted")
}

/// Commits a base of this number of names, without a delta.
fn publish(store: &mut Store, names: usize) -> Pair {
    let pair = Pair {
        base: adopt(store, names),
        delta: None,
    };
    store
        .commit(pair, names as u64, Lists::default())
        .expect("committed");
    pair
}

/// Commits a delta of this number of names, with a base.
fn change(store: &mut Store, base: Base, names: usize) -> Pair {
    let delta = store.write_delta(&image(names)).expect("written");
    let delta = Some(delta);
    let pair = Pair { base, delta };
    store
        .commit(pair, names as u64, Lists::default())
        .expect("committed");
    pair
}

/// The numbers of rules in the base and the delta that were found.
fn rules(loaded: &Loaded) -> Option<(u64, Option<u64>)> {
    let found = loaded.found.as_ref()?;
    let delta = found.delta.as_ref().map(|delta| delta.facts().rules);
    Some((found.base.facts().rules, delta))
}

fn reasons(loaded: &Loaded) -> Vec<String> {
    loaded.refused.iter().map(ToString::to_string).collect()
}

/// The files in the folder whose names begin with `start`.
fn files(folder: impl AsRef<Path>, start: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("readable");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = names.map(|name| name.display().to_string()).collect();
    names.retain(|name| name.starts_with(start));
    names.sort();
    names
}

/// A function that damages a file, and a part of the error that is reported then.
type Damage = (fn(&Path), &'static str);

fn flip(path: &Path, at: impl Fn(usize) -> usize) {
    let mut bytes = fs::read(path).expect("readable");
    let at = at(bytes.len());
    bytes[at] ^= 1;
    fs::write(path, bytes).expect("written");
}
