//! Reads all rules of an image, in the order of their paths.

use std::ops::{Deref, Range};

use super::bucket::{Bucket, ChildRef, Node};
use super::directory::BucketSlot;
use super::error::ImageError;
use super::layout::Section;
use super::loaded::Image;
use super::path::{Path, labels};
use super::text::Decoder;
use super::values::{ImageRule, Value};
use crate::wire::name::{MAX_LABELS, Name};

/// Iterates over the names with rules, in the order of [`Key::compare`](super::path::Key::compare). `I` is a reference to
/// the image, or an `Arc` of it.
pub struct Cursor<I> {
    image: I,
    decoder: Decoder,
    /// The nodes of the current path with unread children.
    open: Vec<OpenNode>,
    path: Path,
    value: u32,
    started: bool,
    damage: Option<ImageError>,
}

/// A node whose children are being read.
struct OpenNode {
    /// The length of the node's path.
    path: usize,
    /// The length of the path of its last child that was read.
    last: usize,
    /// The first group of the directory, and the range of buckets still to be read.
    group: u32,
    buckets: Range<u32>,
    /// The offset of the current bucket, and its children that are still to be read.
    bucket: Option<(u32, Range<usize>)>,
}

impl Image {
    /// A cursor before the first rule.
    pub fn cursor(&self) -> Cursor<&Self> {
        Cursor::new(self)
    }
}

impl<I: Deref<Target = Image>> Cursor<I> {
    /// A cursor before the first rule.
    pub fn new(image: I) -> Self {
        Self {
            decoder: Decoder::new(&image.text),
            open: Vec::new(),
            path: Path::ROOT,
            value: image.root_value,
            started: false,
            damage: None,
            image,
        }
    }

    /// Restarts the iteration: it then has only the given name and those below it. Takes about as long as a lookup of the
    /// name.
    pub fn seek(&mut self, name: &Name) {
        let top = Path::from(name);
        self.open.clear();
        self.path = Path::ROOT;
        self.value = self.image.root_value;
        self.damage = None;
        self.started = name.label_count() > 0;
        let mut children = self.started.then_some(self.image.root_children);
        while let Some(next) = children {
            children = self.step_towards(top.as_bytes(), next);
        }
    }

    /// Advances to the next name with rules. Returns whether there is one.
    pub fn advance(&mut self) -> bool {
        while self.next_node() {
            if self.rules().next().is_some() {
                return true;
            }
        }
        false
    }

    /// The path of the name: its labels from the root down, each after its length byte.
    pub fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }

    /// The rules on the name, sorted by clause.
    pub fn rules(&self) -> impl Iterator<Item = ImageRule> + use<'_, I> {
        self.value().rules()
    }

    /// The number of the name's value.
    pub fn number(&self) -> u32 {
        self.value
    }

    /// The name's value.
    pub fn value(&self) -> Value<'_> {
        self.image.value(self.value)
    }

    /// The error that ended the iteration early.
    pub fn damage(&self) -> Option<ImageError> {
        self.damage
    }

    /// Steps from the current node, whose children are given, towards the node at `top`. Returns the children to continue from
    /// if the next node is above `top`. If it is at `top` or below, the iteration is set to start with it.
    fn step_towards(&mut self, top: &[u8], children: ChildRef) -> Option<ChildRef> {
        let above = self.path.as_bytes().len();
        let at = match children.as_range() {
            None => children.as_bucket()?,
            Some((start, count)) => {
                let label = labels(&top[above..]).next()?;
                let slot = BucketSlot::wanted(start, count, self.image.key.hash(label));
                self.image.directory().bucket(slot)?
            }
        };
        let mut found: Option<(usize, ChildRef)> = None;
        for place in 0..self.bucket(at)?.len() {
            let is_only_child = self.bucket(at)?.tag(place).is_none();
            let start = match (is_only_child, found) {
                (false, None) => above,
                (true, Some((len, _))) => len,
                (false, Some(_)) => break,
                (true, None) => continue,
            };
            self.path.truncate(start);
            let (node, has_only_child) = self.read_child(at, place)?;
            let path = self.path.as_bytes();
            if path.starts_with(top) {
                self.open.push(OpenNode {
                    path: start,
                    last: start,
                    group: 0,
                    buckets: 0..0,
                    bucket: Some((at, place..place + 1 + usize::from(has_only_child))),
                });
                return None;
            }
            found = match top.starts_with(path) {
                true => Some((path.len(), node.children)),
                false if is_only_child => return None,
                false => None,
            };
        }
        Some(found?.1)
    }

    /// Advances to the next node, in the order of paths; the root comes first.
    fn next_node(&mut self) -> bool {
        if !std::mem::replace(&mut self.started, true) {
            self.descend(self.image.root_children);
            return true;
        }
        while let Some(open) = self.open.last_mut() {
            let Some((at, places)) = &mut open.bucket else {
                match open.buckets.next() {
                    None => {
                        self.open.pop();
                    }
                    Some(next) => {
                        let directory = self.image.directory();
                        let mut bucket = directory.range(open.group, next..next + 1);
                        let bucket = bucket.next().flatten();
                        open.bucket = bucket.map(|at| (at, places_of(&self.image, at)));
                    }
                }
                continue;
            };
            let (at, Some(place)) = (*at, places.next()) else {
                open.bucket = None;
                continue;
            };
            let bucket = Bucket::at(self.image.section(Section::Buckets), at);
            // An only child follows its parent.
            let above = match bucket.and_then(|bucket| bucket.tag(place)) {
                Some(_) => open.path,
                None => open.last,
            };
            self.path.truncate(above);
            // At most one level per label.
            let deep = self.open.len() > MAX_LABELS;
            let child = self.read_child(at, place).filter(|_| !deep);
            let Some((node, _)) = child else {
                self.damage = Some(ImageError::Invalid("text"));
                self.open.clear();
                return false;
            };
            let len = self.path.as_bytes().len();
            if let Some(open) = self.open.last_mut() {
                open.last = len;
            }
            self.value = node.value;
            self.descend(node.children);
            return true;
        }
        false
    }

    fn bucket(&self, at: u32) -> Option<Bucket<'_>> {
        Bucket::at(self.image.section(Section::Buckets), at)
    }

    /// Reads a child and appends its labels to the path. Returns the child, and whether its only child follows. `None` if it
    /// has no labels, or if they do not fit.
    fn read_child(&mut self, at: u32, place: usize) -> Option<(Node, bool)> {
        let bucket = self.bucket(at)?;
        let child = bucket.child(place);
        let has_only_child = bucket.has_only_child(place);
        let (start, size) = (
            bucket.section_bit(child.start),
            child.text_end.checked_sub(child.start),
        );
        let appended = self.append_edge(start, size);
        appended.then_some((child.node, has_only_child))
    }

    fn descend(&mut self, children: ChildRef) {
        let ((group, count), bucket) = match (children.as_bucket(), children.as_range()) {
            (Some(at), _) => ((0, 0), Some((at, places_of(&self.image, at)))),
            (None, Some(range)) => (range, None),
            (None, None) => return,
        };
        self.open.push(OpenNode {
            path: self.path.as_bytes().len(),
            last: self.path.as_bytes().len(),
            group,
            buckets: 0..count,
            bucket,
        });
    }

    /// Appends the labels of an edge to the path. False if it has none, or if they do not fit.
    fn append_edge(&mut self, start: u64, size: Option<u64>) -> bool {
        let Some(size) = size.and_then(|size| u32::try_from(size).ok()) else {
            return false;
        };
        let buckets = self.image.section(Section::Buckets);
        let mut label = [0; 64];
        let (mut len, mut fits, mut some) = (0, true, false);
        let path = &mut self.path;
        let whole = self
            .decoder
            .decode(buckets, start, size, |byte| match byte {
                Some(byte) => {
                    label[len % 64] = byte;
                    len += 1;
                    fits &= len < 64;
                }
                None => {
                    fits &= fits && path.try_push(&label[..len % 64]);
                    len = 0;
                    some = true;
                }
            });
        whole && fits && some
    }
}

/// The places of the children of a bucket.
fn places_of(image: &Image, at: u32) -> Range<usize> {
    let bucket = Bucket::at(image.section(Section::Buckets), at);
    0..bucket.map_or(0, |bucket| bucket.len())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::policy::builder::Builder;
    use crate::policy::image::provenance::ImageSource;
    use crate::policy::rule::Scope;

    fn read(cursor: &mut Cursor<&Image>) -> Vec<Vec<u8>> {
        let mut paths = Vec::new();
        while cursor.advance() {
            paths.push(cursor.path().to_vec());
        }
        assert_eq!(cursor.damage(), None);
        paths
    }

    #[test]
    fn a_cursor_that_seeks_a_name_reads_that_name_and_those_below() {
        // Single buckets, a directory, only children, and edges of several labels.
        let mut texts = vec![
            "c.b.a".to_owned(),
            "only.child".to_owned(),
            "www.only.child".to_owned(),
        ];
        texts.extend((0..400).map(|number| format!("n{number}.com")));
        texts.extend((0..50).map(|number| format!("www.n{number}.com")));
        texts.extend((0..50).map(|number| format!("x.y.n{number}.com")));
        texts.extend((0..10).map(|number| format!("m{number}.deep.long.edge.org")));
        let mut builder = Builder::new();
        let source = builder.source(ImageSource::named("list")).expect("room");
        let mut tops = BTreeSet::from([Name::ROOT]);
        for text in &texts {
            let name = Name::from_text(text).expect("a name");
            builder.insert(&name, source, Scope::Exact).expect("room");
            for other in ["zz", "www"] {
                tops.extend(Name::from_text(&format!("{other}.{text}")));
            }
            for labels in 1..=name.label_count() {
                tops.extend(Name::parse(name.ancestor(labels), 0).map(|(name, _)| name));
            }
        }
        let image = builder.finish().expect("room");
        let all = read(&mut image.cursor());
        assert_eq!(all.len(), texts.len());
        let mut cursor = image.cursor();
        for top in &tops {
            let path = Path::from(top);
            let below = all
                .iter()
                .filter(|found| found.starts_with(path.as_bytes()));
            let below: Vec<_> = below.cloned().collect();
            cursor.seek(top);
            assert_eq!(read(&mut cursor), below, "{top}");
        }
    }
}
