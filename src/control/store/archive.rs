//! The rules of lists that were in force, in `past/` of the state directory, for as long as is configured.
//!
//! Each file is an image named by the key of the rules in it, see `notes::content`. Small lists have one of their
//! own. A large list's file is another link to the base image that has it, which takes no more room than that image.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::disk;
use super::error::StoreError;
use super::file::read_image;
use super::manifest::Manifest;
use super::names::temporary;
use crate::config::{History, regular};
use crate::control::notes::content_of;
use crate::policy::builder::Builder;
use crate::policy::image::Image;
use crate::policy::image::provenance::ImageSource;
use crate::policy::image::values::ImageRule;
use crate::policy::images::Images;

/// The directory.
const PAST: &str = "past";
/// Since when which of its files are not in force.
const INDEX: &str = "index";
/// A larger index is something else: a hundred thousand entries take some 7 MiB.
const INDEX_MAX: u64 = 64 << 20;
/// A list with more rules has no image of its own: making one would take memory that the server needs.
const SMALL: u64 = 200_000;
/// Rules that are copied at a time.
const BATCH: u64 = 500_000;

/// When rules that are kept were replaced, by their keys; those in force have no instant.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Index(BTreeMap<String, Option<Timestamp>>);

/// Rules of a list in an image.
#[derive(Clone, Debug)]
pub struct Rules<I> {
    /// The image.
    pub image: I,
    /// Which of its sources.
    pub source: u16,
}

fn file(key: &str) -> String {
    format!("{key}.image")
}

/// Keeps the rules of all lists in force, and removes those that were replaced too long ago, or before others
/// where all take too much room. `base` is the file of the base image.
pub(in crate::control) fn keep(
    dir: &Path,
    images: &Images,
    base: &Path,
    history: History,
    now: Timestamp,
) -> Result<(), StoreError> {
    let past = dir.join(PAST);
    if history.days == 0 {
        return match fs::remove_dir_all(&past) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(StoreError::io(&past, "removed")(error))
            }
            _ => Ok(()),
        };
    }
    disk::make_directory(&past)?;
    let in_force = in_force(images);
    // What is old goes first: it may be what has filled the disk.
    let mut index = Index::read(&past);
    index.turn(&past, |key| in_force.contains_key(key), now)?;
    index.remove_old(&past, history, now)?;
    index.write(&past)?;
    for (key, rules) in &in_force {
        let path = past.join(file(key));
        let source = &rules.image.provenance().sources[usize::from(rules.source)];
        let is_base = images
            .base
            .as_deref()
            .is_some_and(|base| std::ptr::eq(base, rules.image));
        if is_base && source.rules > SMALL && !path.exists() {
            link(base, &path)?;
        }
    }
    let missing = in_force
        .iter()
        .filter(|(key, _)| !past.join(file(key)).exists());
    copy(&past, missing)
}

/// The rules that count of each list, by their keys.
fn in_force(images: &Images) -> BTreeMap<String, Rules<&Image>> {
    let mut found = BTreeMap::new();
    for image in [&images.delta, &images.base].into_iter().flatten() {
        let is_base = images
            .base
            .as_ref()
            .is_some_and(|base| std::sync::Arc::ptr_eq(base, image));
        for (source, number) in image.provenance().sources.iter().zip(0..) {
            if is_base && images.is_in_delta(&source.name) {
                continue;
            }
            if let Some(key) = content_of(source) {
                let rules = Rules {
                    image: &**image,
                    source: number,
                };
                found.entry(key).or_insert(rules);
            }
        }
    }
    found
}

fn link(from: &Path, to: &Path) -> Result<(), StoreError> {
    // Not all file systems have links.
    let linked = fs::hard_link(from, to).or_else(|_| {
        let mut temporary_path = to.as_os_str().to_owned();
        temporary_path.push(temporary("", std::process::id()));
        let temporary_path = PathBuf::from(temporary_path);
        fs::copy(from, &temporary_path).and_then(|_| fs::rename(&temporary_path, to))
    });
    linked.map_err(StoreError::io(to, "made"))
}

/// Writes an image for each of these.
fn copy<'i>(
    past: &Path,
    missing: impl Iterator<Item = (&'i String, &'i Rules<&'i Image>)>,
) -> Result<(), StoreError> {
    let mut batch = Vec::new();
    let mut rules = 0;
    for (key, from) in missing {
        rules += from.image.provenance().sources[usize::from(from.source)].rules;
        batch.push((key, from));
        if rules >= BATCH {
            copy_batch(past, &std::mem::take(&mut batch))?;
            rules = 0;
        }
    }
    copy_batch(past, &batch)
}

fn copy_batch(past: &Path, batch: &[(&String, &Rules<&Image>)]) -> Result<(), StoreError> {
    let mut images: Vec<&Image> = batch.iter().map(|(_, from)| from.image).collect();
    images.dedup_by(|one, other| std::ptr::eq(*one, *other));
    for image in images {
        let of = batch
            .iter()
            .filter(|(_, from)| std::ptr::eq(from.image, image));
        let of: HashMap<u16, &String> = of.map(|(key, from)| (from.source, *key)).collect();
        let mut builders = HashMap::new();
        for number in of.keys() {
            let source = &image.provenance().sources[usize::from(*number)];
            let mut builder = Builder::new();
            let full = |_| too_large(past);
            builder
                .source(ImageSource {
                    whole: true,
                    ..source.clone()
                })
                .map_err(full)?;
            builders.insert(*number, builder);
        }
        let mut cursor = image.cursor();
        while cursor.advance() {
            for rule in cursor.rules() {
                if let Some(builder) = builders.get_mut(&rule.source) {
                    let rule = ImageRule { source: 0, ..rule };
                    let inserted = builder.insert_path(cursor.path(), rule);
                    inserted.map_err(|_| too_large(past))?;
                }
            }
        }
        for (number, builder) in builders {
            let key = of[&number];
            let made = builder.finish().map_err(|_| too_large(past))?;
            let name = file(key);
            let temporary = past.join(temporary(&name, std::process::id()));
            disk::write(&past.join(name), &temporary, made.octets())?;
        }
    }
    Ok(())
}

/// Rules that fit one image fit another.
fn too_large(past: &Path) -> StoreError {
    StoreError::io(past, "used")(io::Error::other("a list has too many rules to be copied"))
}

impl Index {
    /// What is not known is found again in the directory.
    fn read(past: &Path) -> Self {
        let text = regular::read(&past.join(INDEX), INDEX_MAX).ok();
        let index = text.and_then(|text| serde_json::from_slice(&text).ok());
        index.unwrap_or_default()
    }

    fn write(&self, past: &Path) -> Result<(), StoreError> {
        let text = serde_json::to_vec(self).expect("texts and times have a JSON form");
        let temporary = past.join(temporary(INDEX, std::process::id()));
        disk::write(&past.join(INDEX), &temporary, &text)
    }

    /// Takes in what is there and what is in force now.
    fn turn(
        &mut self,
        past: &Path,
        in_force: impl Fn(&str) -> bool,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let entries = fs::read_dir(past).map_err(StoreError::io(past, "read"))?;
        let mut there = HashSet::new();
        for entry in entries.flatten() {
            let name = entry.file_name();
            match name
                .to_str()
                .map(|name| (name, name.strip_suffix(".image")))
            {
                Some((_, Some(key))) => {
                    there.insert(key.to_owned());
                }
                Some((INDEX, None)) | None => {}
                // Half-written: there is one process that writes here.
                Some(_) => {
                    let _ = fs::remove_file(entry.path());
                }
            }
        }
        self.0.retain(|key, _| there.contains(key));
        for key in there {
            let replaced = self.0.entry(key.clone()).or_default();
            match in_force(&key) {
                true => *replaced = None,
                false => *replaced = replaced.or(Some(now)),
            }
        }
        Ok(())
    }

    fn remove_old(
        &mut self,
        past: &Path,
        history: History,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let age = SignedDuration::from_hours(24 * i64::from(history.days));
        let mut replaced: Vec<_> = self
            .0
            .iter()
            .filter_map(|(key, at)| Some(((*at)?, key.clone())))
            .collect();
        replaced.sort();
        for (at, (since, key)) in replaced.iter().enumerate() {
            let is_old = now.duration_since(*since) > age;
            if !is_old && self.room(past, &replaced[at..]) <= history.bytes {
                break;
            }
            let path = past.join(file(key));
            fs::remove_file(&path).map_err(StoreError::io(&path, "removed"))?;
            self.0.remove(key);
        }
        Ok(())
    }

    /// The room that removing all these would free.
    fn room(&self, past: &Path, replaced: &[(Timestamp, String)]) -> u64 {
        let meta = |key: &str| fs::metadata(past.join(file(key))).ok();
        let in_force = self.0.iter().filter(|(_, replaced)| replaced.is_none());
        let mut counted: HashSet<u64> = in_force
            .filter_map(|(key, _)| Some(meta(key)?.ino()))
            .collect();
        let new = replaced.iter().filter_map(|(_, key)| {
            let meta = meta(key)?;
            counted.insert(meta.ino()).then_some(meta.len())
        });
        new.sum()
    }
}

/// Rules that are kept in the state directory `dir`, by their key. `None` if they are not there, or damaged.
pub fn read_past(dir: &Path, key: &str) -> Option<Rules<Image>> {
    let image = read_image(&dir.join(PAST).join(file(key))).ok()?;
    let source = source(&image, |source| content_of(source).as_deref() == Some(key))?;
    Some(Rules { image, source })
}

/// The images that the state directory keeps to fall back on, the newest first; those of a pair together.
pub fn kept_images(dir: &Path) -> impl Iterator<Item = Image> {
    let history = Manifest::read(dir).unwrap_or_default().0;
    let mut seen = HashSet::new();
    let mut paths = Vec::new();
    for published in history {
        let pair = published.pair;
        let names = pair.delta.map(|delta| delta.to_string());
        paths.extend(names.into_iter().chain([pair.base.to_string()]));
    }
    paths.retain(|path| seen.insert(path.clone()));
    let dir = dir.to_owned();
    let images = paths.into_iter();
    images.filter_map(move |name| read_image(&dir.join(name)).ok())
}

/// The first source of an image that `is` says.
pub fn source(image: &Image, is: impl Fn(&ImageSource) -> bool) -> Option<u16> {
    let sources = &image.provenance().sources;
    sources.iter().position(is).map(|number| number as u16)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::Format;
    use crate::config::comments::Comments;
    use crate::control::compile::plan::ListNotes;
    use crate::control::guard::release::Guards;
    use crate::control::lists::Tally;
    use crate::policy::rule::{Kind, Scope};
    use crate::wire::name::Name;

    const MIB: u64 = 1 << 20;

    /// An image of one list with these names, whose file has that digest; and the key of its rules.
    fn image(digest: &str, names: &[&str]) -> (Arc<Image>, String) {
        let notes = ListNotes {
            format: Format::Domains,
            comments: Comments::default(),
            scope: Scope::Exact,
            kind: Some(Kind::Block),
            tally: Tally::default(),
            signature: None,
            took_ms: 0,
            wards: String::new(),
            released: Guards::NONE,
        };
        let source = ImageSource {
            digest: digest.to_owned(),
            rules: names.len() as u64,
            notes: notes.to_value(),
            ..ImageSource::named("l")
        };
        let key = content_of(&source).expect("notes");
        let mut builder = Builder::new();
        let number = builder.source(source).expect("room");
        for name in names {
            let name = Name::from_text(name).expect("a name");
            builder.insert(&name, number, Scope::Exact).expect("room");
        }
        (Arc::new(builder.finish().expect("room")), key)
    }

    fn at(day: i64) -> Timestamp {
        Timestamp::from_second(day * 86_400).expect("a time")
    }

    fn put(dir: &Path, image: &Arc<Image>, history: History, day: i64) {
        let images = Images::from(Arc::clone(image));
        keep(dir, &images, &dir.join("base"), history, at(day)).expect("kept");
    }

    #[test]
    fn rules_are_kept_for_so_many_days_after_others_replaced_them() {
        let dir = tempfile::tempdir().expect("a folder");
        let dir = dir.path();
        let history = History {
            days: 30,
            bytes: MIB,
        };
        let (one, first) = image("1", &["a.example", "b.example"]);
        let (two, second) = image("2", &["c.example"]);
        put(dir, &one, history, 0);
        put(dir, &two, history, 100);
        let rules = read_past(dir, &first).expect("kept");
        assert_eq!(rules.image.facts().rules, 2);
        assert!(read_past(dir, &second).is_some());
        // A damaged index forgets nothing.
        fs::write(dir.join(PAST).join(INDEX), "{").expect("written");
        put(dir, &two, history, 110);
        put(dir, &two, history, 140);
        assert!(read_past(dir, &first).is_some());
        put(dir, &two, history, 141);
        assert!(read_past(dir, &first).is_none());
        assert!(read_past(dir, &second).is_some(), "in force");
        // What comes back is in force again.
        put(dir, &one, history, 142);
        put(dir, &two, history, 143);
        put(dir, &one, history, 144);
        put(dir, &one, history, 300);
        assert!(read_past(dir, &first).is_some() && read_past(dir, &second).is_none());
        put(dir, &one, History { days: 0, ..history }, 301);
        assert!(!dir.join(PAST).exists());
    }

    #[test]
    fn the_oldest_go_first_when_there_is_no_room() {
        let dir = tempfile::tempdir().expect("a folder");
        let dir = dir.path();
        let days = 30;
        let large = History { days, bytes: MIB };
        let digests = ["1", "2", "3"];
        let lists = digests.map(|digest| image(digest, &["a.example"]));
        for (day, (image, _)) in lists.iter().enumerate() {
            put(dir, image, large, day as i64);
        }
        let there = || {
            lists
                .each_ref()
                .map(|(_, key)| read_past(dir, key).is_some())
        };
        assert_eq!(there(), [true; 3]);
        let bytes = lists[0].0.octets().len() as u64 + 100;
        put(dir, &lists[2].0, History { days, bytes }, 3);
        assert_eq!(there(), [false, true, true]);
        put(dir, &lists[2].0, History { days, bytes: 1 }, 4);
        assert_eq!(there(), [false, false, true], "what is in force stays");
    }
}
