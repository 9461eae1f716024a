//! The rules of lists that were in force, in `past/` of the state directory, for as long as is configured.
//!
//! Each file is an image named by the key of its rules, see `content_of`. A small list has its own image. The file
//! of a large list is a hard link to the newest image that has it, which takes no more space.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::file::read_image;
use super::manifest::Manifest;
use crate::config::{History, regular};
use crate::control::persist::durable::{self, Access, NewFile, TEMPORARY};
use crate::control::persist::list_notes::content_of;
use crate::policy::builder::Builder;
use crate::policy::image::Image;
use crate::policy::image::provenance::ImageSource;
use crate::policy::images::Images;

/// The name of the directory.
const PAST: &str = "past";
/// The file that records when the rules in each of the other files were replaced.
const INDEX: &str = "index";
/// The largest index that is read, in bytes: a hundred thousand entries take some 7 MiB.
const INDEX_MAX: u64 = 64 << 20;
/// A list with more rules is not copied into an image of its own: that would take memory that the server needs.
const SMALL: u64 = 200_000;
/// How many rules are copied at a time.
const BATCH: u64 = 500_000;

/// When rules were replaced, by their keys; `None` if they are in force.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Index(BTreeMap<String, Option<Timestamp>>);

/// Rules of a list in an image.
#[derive(Clone, Debug)]
pub struct Rules<I> {
    /// The image.
    pub image: I,
    /// The number of the source in it.
    pub source: u16,
}

fn file(key: &str) -> String {
    format!("{key}.image")
}

/// Archives the rules of all lists in force. Removes those that were replaced too long ago, and the oldest if all take
/// too much space. `base` and `delta` are the files of the images.
pub(crate) fn archive(
    dir: &Path,
    images: &Images,
    base: &Path,
    delta: Option<&Path>,
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
    durable::create_directory(&past)?;
    let in_force = in_force(images);
    let mut index = Index::read(&past);
    // Old rules are removed first: they may have filled the disk.
    index.tidy(&past, &in_force, history, now)?;
    // If both images have a list, its file is linked to the base, which is kept longer.
    let files = [(&images.delta, delta), (&images.base, Some(base))].into_iter();
    let files = files.filter_map(|(image, file)| Some((image.as_ref()?, file?)));
    let large: BTreeMap<String, &Path> = files
        .flat_map(|(image, file)| {
            let sources = image.provenance().sources.iter();
            let large = sources.filter(|source| source.rules > SMALL && !source.amends);
            large.filter_map(move |source| Some((content_of(source)?, file)))
        })
        .collect();
    for (key, image) in large {
        let path = past.join(file(&key));
        if in_force.contains_key(&key) || path.exists() {
            link(image, &path)?;
        }
    }
    let missing = in_force
        .iter()
        .filter(|(key, _)| !past.join(file(key)).exists());
    for batch in batches(missing) {
        copy(&past, images, &batch)?;
    }
    index.tidy(&past, &in_force, history, now)
}

/// A list in force: the image with the newest state of its rules, and its provenance there.
type ListInForce<'i> = (&'i Image, &'i ImageSource);

/// The lists in force, by the keys of their rules. Large lists that are amended are left out: their rules are in two images,
/// and would have to be copied after each amendment.
fn in_force(images: &Images) -> BTreeMap<String, ListInForce<'_>> {
    let mut found = BTreeMap::new();
    for image in [&images.delta, &images.base].into_iter().flatten() {
        for source in &image.provenance().sources {
            let is_left_out = source.amends && source.rules > SMALL;
            if is_left_out || !images.is_in(image, &source.name) {
                continue;
            }
            if let Some(key) = content_of(source) {
                found.entry(key).or_insert((&**image, source));
            }
        }
    }
    found
}

/// Makes `to` another name of the file `from`. A link to an older image with the same rules is replaced: otherwise that
/// link alone could keep the older image on the disk.
fn link(from: &Path, to: &Path) -> Result<(), StoreError> {
    let inode = |path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    let there = inode(to);
    if there.is_some() && there == inode(from) {
        return Ok(());
    }
    let mut beside = to.as_os_str().to_owned();
    beside.push(format!("{TEMPORARY}{}", std::process::id()));
    let beside = PathBuf::from(beside);
    match fs::hard_link(from, &beside) {
        Ok(()) => Ok(durable::rename(&beside, to)?),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Err(StoreError::io(to, "made")(error))
        }
        // Not all file systems have hard links. A copy is made only once.
        Err(_) if there.is_some() => Ok(()),
        Err(_) => copy_file(from, to),
    }
}

fn copy_file(from: &Path, to: &Path) -> Result<(), StoreError> {
    let new = NewFile::create(to, Access::Umask)?;
    let copied = fs::File::open(from).and_then(|mut from| io::copy(&mut from, &mut new.file()));
    copied.map_err(StoreError::io(to, "made"))?;
    Ok(new.commit()?)
}

/// Lists of one image that are copied together: their keys by their names.
struct Batch<'i> {
    image: &'i Image,
    lists: HashMap<&'i str, (&'i String, &'i ImageSource)>,
}

/// Divides lists into batches, so that the rules of a batch fit into memory. Each batch needs one walk through an
/// image.
fn batches<'i>(missing: impl Iterator<Item = (&'i String, &'i ListInForce<'i>)>) -> Vec<Batch<'i>> {
    let mut missing: Vec<_> = missing.collect();
    // Groups them by image.
    missing.sort_by_key(|(_, (image, _))| std::ptr::from_ref(*image).addr());
    let mut batches: Vec<Batch<'i>> = Vec::new();
    let mut copied = 0;
    for (key, (image, source)) in missing {
        let rules = source.rules;
        match batches.last_mut() {
            Some(last) if copied < BATCH && std::ptr::eq(last.image, *image) => {
                copied += rules;
                last.lists.insert(&source.name, (key, *source));
            }
            _ => {
                copied = rules;
                let lists = HashMap::from([(&*source.name, (key, *source))]);
                batches.push(Batch { image, lists });
            }
        }
    }
    batches
}

/// Writes an image for each list of a batch.
fn copy(
    past: &Path,
    images: &Images,
    Batch { image, lists }: &Batch<'_>,
) -> Result<(), StoreError> {
    let full = |_| too_large(past);
    let mut builders = HashMap::new();
    for (list, (_, source)) in lists {
        let mut builder = Builder::new();
        let source = ImageSource {
            amends: false,
            ..(*source).clone()
        };
        builder.source(source).map_err(full)?;
        builders.insert(*list, builder);
    }
    let mut cursor = images.rule_cursor(|list| lists.contains_key(list));
    while cursor.advance() {
        for rule in cursor.rules() {
            if let Some(builder) = builders.get_mut(rule.list) {
                builder
                    .insert_path(cursor.path(), 0, rule.scope, rule.effect)
                    .map_err(full)?;
            }
        }
    }
    let sources = &image.provenance().sources;
    for (list, mut builder) in builders {
        let of_list = |source: u16| (sources[usize::from(source)].name == list).then_some(0);
        builder.add_triggers(image, of_list).map_err(full)?;
        let made = builder.finish().map_err(full)?;
        let path = past.join(file(lists[list].0));
        durable::replace(&path, made.bytes(), Access::Umask)?;
    }
    Ok(())
}

/// Never happens: rules that fit into one image fit into another.
fn too_large(past: &Path) -> StoreError {
    StoreError::io(past, "used")(io::Error::other("a list has too many rules to be copied"))
}

impl Index {
    /// A missing or damaged index is empty, and rebuilt from the files in the directory.
    fn read(past: &Path) -> Self {
        let text = regular::read(&past.join(INDEX), INDEX_MAX).ok();
        let index = text.and_then(|text| serde_json::from_slice(&text).ok());
        index.unwrap_or_default()
    }

    fn write(&self, past: &Path) -> Result<(), StoreError> {
        let text = serde_json::to_vec(self).expect("texts and times have a JSON form");
        Ok(durable::replace(&past.join(INDEX), &text, Access::Umask)?)
    }

    /// Updates the index, removes old rules, and writes the index.
    fn tidy(
        &mut self,
        past: &Path,
        in_force: &BTreeMap<String, ListInForce<'_>>,
        history: History,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.update(past, in_force, now)?;
        self.remove_old(past, history, now)?;
        self.write(past)
    }

    /// Makes the index agree with the files in the directory, and records which rules are no longer in force.
    fn update(
        &mut self,
        past: &Path,
        in_force: &BTreeMap<String, ListInForce<'_>>,
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
                // Half-written by an earlier process: only this one writes here.
                Some(_) => {
                    let _ = fs::remove_file(entry.path());
                }
            }
        }
        self.0.retain(|key, _| there.contains(key));
        for key in there {
            let replaced = self.0.entry(key.clone()).or_default();
            match in_force.contains_key(&key) {
                true => *replaced = None,
                false => *replaced = replaced.or(Some(now)),
            }
        }
        Ok(())
    }

    /// Removes rules that are too old, and the oldest while all take too much space. For lack of space, a file is
    /// removed only if its removal frees space. A link to an image that the state directory keeps frees none.
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
        let mut usage = Usage::of(self.0.keys().map(|key| past.join(file(key))));
        for (since, key) in replaced {
            let path = past.join(file(&key));
            let is_old = now.duration_since(since) > age;
            if is_old || (usage.bytes > history.bytes && usage.has(&path)) {
                usage.remove(&path);
                // Not synced one by one: the index is written next, which syncs the directory.
                fs::remove_file(&path).map_err(StoreError::io(&path, "removed"))?;
                self.0.remove(&key);
            }
        }
        Ok(())
    }
}

/// The space that only the archive takes. A link to an image that the state directory keeps takes none.
#[derive(Default)]
struct Usage {
    bytes: u64,
    inodes: HashMap<PathBuf, Inode>,
    files: HashMap<Inode, File>,
}

type Inode = (u64, u64);

struct File {
    bytes: u64,
    /// The number of its hard links in the archive.
    names: u64,
    /// The number of all its hard links.
    links: u64,
}

impl Usage {
    fn of(paths: impl Iterator<Item = PathBuf>) -> Self {
        let mut usage = Self::default();
        for path in paths {
            let Ok(meta) = fs::metadata(&path) else {
                continue;
            };
            let inode = (meta.dev(), meta.ino());
            let file = usage.files.entry(inode).or_insert(File {
                bytes: meta.len(),
                names: 0,
                links: meta.nlink(),
            });
            file.names += 1;
            usage.inodes.insert(path, inode);
        }
        usage.files.retain(|_, file| file.names == file.links);
        usage.bytes = usage.files.values().map(|file| file.bytes).sum();
        usage
    }

    fn has(&self, path: &Path) -> bool {
        let inode = self.inodes.get(path);
        inode.is_some_and(|inode| self.files.contains_key(inode))
    }

    fn remove(&mut self, path: &Path) {
        let inode = self.inodes.remove(path);
        if let Some(file) = inode.and_then(|inode| self.files.get_mut(&inode)) {
            file.names -= 1;
            if file.names == 0 {
                self.bytes -= std::mem::take(&mut file.bytes);
            }
        }
    }
}

/// Reads archived rules from the state directory `dir`, by their key. `None` if they are missing or damaged.
pub fn read_past(dir: &Path, key: &str) -> Option<Rules<Image>> {
    let image = read_image(&dir.join(PAST).join(file(key))).ok()?;
    let source = source(&image, |source| content_of(source).as_deref() == Some(key))?;
    Some(Rules { image, source })
}

/// Reads the images that the state directory keeps, the newest first; those of a pair together.
pub fn stored_images(dir: &Path) -> impl Iterator<Item = Image> {
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

/// The first source of an image for which `is` returns true.
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
    use crate::control::guard::release::Guards;
    use crate::control::list_file::parse::Tally;
    use crate::control::persist::list_notes::ListNotes;
    use crate::policy::rule::{Kind, Scope};
    use crate::wire::name::Name;

    const MIB: u64 = 1 << 20;

    /// An image of one list with these names, whose file has that digest; and the key of its rules.
    fn image(digest: &str, names: &[&str]) -> (Arc<Image>, String) {
        let notes = ListNotes {
            format: Format::Domains,
            comments: Comments::default(),
            scope: Scope::Exact,
            column: None,
            kind: Some(Kind::Block),
            tally: Tally::default(),
            signature: None,
            took_ms: 0,
            protected_names: String::new(),
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
        archive(dir, &images, &dir.join("base"), None, history, at(day)).expect("kept");
    }

    /// An image without rules whose lists are recorded as having these numbers of rules, and the keys of the lists.
    fn recorded(lists: &[(&str, u64)]) -> (Arc<Image>, Vec<String>) {
        let mut builder = Builder::new();
        let mut keys = Vec::new();
        for (digest, rules) in lists {
            let (one, key) = image(digest, &[]);
            let source = ImageSource {
                rules: *rules,
                name: (*digest).to_owned(),
                ..one.provenance().sources[0].clone()
            };
            builder.source(source).expect("room");
            keys.push(key);
        }
        (Arc::new(builder.finish().expect("room")), keys)
    }

    #[test]
    fn rules_are_kept_for_the_configured_days_after_others_replaced_them() {
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
        // A damaged index does not cause rules to be removed.
        fs::write(dir.join(PAST).join(INDEX), "{").expect("written");
        put(dir, &two, history, 110);
        put(dir, &two, history, 140);
        assert!(read_past(dir, &first).is_some());
        put(dir, &two, history, 141);
        assert!(read_past(dir, &first).is_none());
        assert!(read_past(dir, &second).is_some(), "in force");
        // Rules that come back are in force again.
        put(dir, &one, history, 142);
        put(dir, &two, history, 143);
        put(dir, &one, history, 144);
        put(dir, &one, history, 300);
        assert!(read_past(dir, &first).is_some() && read_past(dir, &second).is_none());
        put(dir, &one, History { days: 0, ..history }, 301);
        assert!(!dir.join(PAST).exists());
    }

    #[test]
    fn the_oldest_rules_are_removed_first_when_space_is_short() {
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
        let bytes = 2 * lists[0].0.bytes().len() as u64 + 100;
        put(dir, &lists[2].0, History { days, bytes }, 3);
        assert_eq!(there(), [false, true, true]);
        put(dir, &lists[2].0, History { days, bytes: 1 }, 4);
        assert_eq!(there(), [false, false, true], "rules in force stay");
    }

    #[test]
    fn an_amended_list_is_archived_with_all_its_rules_unless_it_is_large() {
        let history = History {
            days: 30,
            bytes: MIB,
        };
        for (rules, is_kept) in [(2, true), (SMALL + 1, false)] {
            let dir = tempfile::tempdir().expect("a folder");
            let dir = dir.path();
            let (base, _) = image("1", &["a.example", "b.example"]);
            let source = ImageSource {
                digest: "2".to_owned(),
                rules,
                amends: true,
                ..base.provenance().sources[0].clone()
            };
            let key = content_of(&source).expect("notes");
            let mut delta = Builder::new();
            delta.source(source).expect("room");
            delta.amend(b"\x07example\x01a", 0).expect("room");
            let c = Name::from_text("c.example").expect("a name");
            delta.insert(&c, 0, Scope::Exact).expect("room");
            let delta = delta.finish().expect("room");
            let file = dir.join("delta");
            fs::write(&file, delta.bytes()).expect("written");
            let images = Images {
                base: Some(base),
                delta: Some(Arc::new(delta)),
                ..Images::default()
            };
            archive(dir, &images, &dir.join("base"), Some(&file), history, at(0)).expect("kept");
            let past = read_past(dir, &key);
            assert_eq!(past.is_some(), is_kept);
            let Some(Rules { image, .. }) = past else {
                continue;
            };
            assert!(!image.provenance().sources[0].amends);
            let mut names = Vec::new();
            let mut cursor = image.cursor();
            while cursor.advance() {
                let path = crate::policy::image::path::Path::of(cursor.path());
                names.push(path.to_name().to_string());
            }
            names.sort();
            assert_eq!(names, ["b.example", "c.example"]);
        }
    }

    #[test]
    fn each_image_is_walked_once_for_all_its_lists_that_fit_in_memory() {
        let numbers: Vec<String> = (0..20).map(|number| number.to_string()).collect();
        for (rules, walks) in [(9, 2), (BATCH / 10, 2), (BATCH / 5, 4)] {
            let lists: Vec<_> = numbers.iter().map(|name| (&**name, rules)).collect();
            let (delta, base) = lists.split_at(10);
            let images = Images {
                base: Some(recorded(base).0),
                delta: Some(recorded(delta).0),
                ..Images::default()
            };
            let in_force = in_force(&images);
            let batches = batches(in_force.iter());
            assert_eq!(batches.len(), walks, "{rules} rules each");
            let copied: usize = batches.iter().map(|batch| batch.lists.len()).sum();
            assert_eq!(copied, 20);
            let of = |batch: &Batch<'_>| batch.lists.keys().map(|_| rules).sum::<u64>();
            assert!(batches.iter().all(|batch| of(batch) < BATCH + SMALL));
        }
    }

    /// Puts images of large lists in force, and like the state directory keeps only the last `kept` bases.
    struct Large<'d> {
        dir: &'d Path,
        bytes: u64,
        kept: usize,
        bases: Vec<PathBuf>,
    }

    impl<'d> Large<'d> {
        fn put(&mut self, base: &Arc<Image>, delta: Option<&Arc<Image>>) {
            let day = self.bases.len() as i64;
            let file = self.dir.join(format!("base-{day}"));
            fs::write(&file, base.bytes()).expect("written");
            self.bases.push(file.clone());
            if let Some(old) = self.bases.len().checked_sub(self.kept + 1) {
                fs::remove_file(&self.bases[old]).expect("removed");
            }
            let delta_file = self.dir.join("delta");
            if let Some(delta) = delta {
                let _ = fs::remove_file(&delta_file);
                fs::write(&delta_file, delta.bytes()).expect("written");
            }
            let images = Images {
                base: Some(Arc::clone(base)),
                delta: delta.cloned(),
                ..Images::default()
            };
            let (days, bytes) = (3000, self.bytes);
            let history = History { days, bytes };
            let delta = delta.map(|_| &*delta_file);
            archive(self.dir, &images, &file, delta, history, at(day)).expect("kept");
        }

        fn links(&self, base: usize) -> u64 {
            fs::metadata(&self.bases[base]).expect("there").nlink()
        }

        fn new(dir: &'d Path) -> Self {
            Self {
                dir,
                bytes: MIB,
                kept: 5,
                bases: Vec::new(),
            }
        }

        fn has(&self, key: &str) -> bool {
            self.dir.join(PAST).join(file(key)).exists()
        }
    }

    #[test]
    fn the_rules_of_a_large_list_that_stays_are_those_of_the_newest_base() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut large = Large::new(dir.path());
        let (one, keys) = recorded(&[("stays", SMALL + 1), ("1", SMALL + 1)]);
        large.put(&one, None);
        assert_eq!(large.links(0), 3);
        let (two, _) = recorded(&[("stays", SMALL + 1), ("2", SMALL + 1)]);
        large.put(&two, None);
        assert_eq!((large.links(0), large.links(1)), (2, 3), "of `1` alone");
        // The delta has newer rules of `stays`, and the next base still has the old ones.
        let (newer, _) = recorded(&[("newer", 1)]);
        let mut builder = Builder::new();
        let source = ImageSource {
            name: "stays".to_owned(),
            ..newer.provenance().sources[0].clone()
        };
        builder.source(source).expect("room");
        let newer = Arc::new(builder.finish().expect("room"));
        let (three, _) = recorded(&[("stays", SMALL + 1), ("3", SMALL + 1)]);
        large.put(&three, Some(&newer));
        assert_eq!((large.links(1), large.links(2)), (2, 3), "of `2` alone");
        assert!(large.has(&keys[0]) && large.has(&keys[1]));
    }

    #[test]
    fn a_large_list_in_the_delta_is_not_copied() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut large = Large::new(dir.path());
        let (base, _) = recorded(&[("base", 1)]);
        let (delta, keys) = recorded(&[("large", SMALL + 1)]);
        large.put(&base, Some(&delta));
        let meta = |path: &Path| fs::metadata(path).expect("there");
        let archived = meta(&dir.path().join(PAST).join(file(&keys[0])));
        assert_eq!(archived.ino(), meta(&dir.path().join("delta")).ino());
    }

    #[test]
    fn the_space_of_images_that_only_the_archive_keeps_is_limited() {
        let dir = tempfile::tempdir().expect("a folder");
        let sizes = ["1", "2", "3", "4", "5"].map(|digest| {
            let list = recorded(&[(digest, SMALL + 1), ("stays", SMALL + 1)]);
            (list.0.bytes().len() as u64, list)
        });
        let mut large = Large {
            dir: dir.path(),
            bytes: sizes[0].0 + 100,
            kept: 2,
            bases: Vec::new(),
        };
        let mut there = Vec::new();
        for (_, (base, _)) in &sizes {
            large.put(base, None);
            let keys = sizes.iter().map(|(_, (_, keys))| &keys[0]);
            there.push(keys.filter(|key| large.has(key)).count());
        }
        // Two bases are kept anyway, and there is room for another one.
        assert_eq!(there, [1, 2, 3, 3, 3]);
        assert!(large.has(&sizes[4].1.1[1]), "in force");
    }
}
