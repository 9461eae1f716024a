//! Reads all rules of an image, in the order of their paths.

use super::bucket::{Bucket, ChildRef};
use super::error::ImageError;
use super::layout::Section;
use super::loaded::Image;
use super::path::Path;
use super::text::Decoder;
use super::values::{ImageRule, Value};
use crate::wire::name::MAX_LABELS;

/// Iterates over the names with rules, in the order of [`Key::compare`](super::path::Key::compare).
pub struct Cursor<'i> {
    image: &'i Image,
    decoder: Decoder,
    /// The nodes of the current path with unread children.
    open: Vec<OpenNode>,
    path: Path,
    place: usize,
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
    buckets: std::ops::Range<u32>,
    /// The offset of the current bucket and the next child in it.
    bucket: Option<(u32, usize)>,
}

impl Image {
    /// A cursor before the first rule.
    pub fn cursor(&self) -> Cursor<'_> {
        Cursor {
            image: self,
            decoder: Decoder::new(&self.text),
            open: Vec::new(),
            path: Path::ROOT,
            place: 0,
            value: self.root_value,
            started: false,
            damage: None,
        }
    }
}

impl<'i> Cursor<'i> {
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
    pub fn rules(&self) -> impl Iterator<Item = ImageRule> + use<'i> {
        self.value().rules()
    }

    /// The number of the name's value.
    pub fn number(&self) -> u32 {
        self.value
    }

    /// The name's value.
    pub fn value(&self) -> Value<'i> {
        self.image.value(self.value)
    }

    /// A number of the name's node that no other node has, less than the number of bytes of the image. That of the root
    /// has no meaning.
    pub fn place(&self) -> usize {
        self.place
    }

    /// The error that ended the iteration early.
    pub fn damage(&self) -> Option<ImageError> {
        self.damage
    }

    /// Advances to the next node, in the order of paths; the root comes first.
    fn next_node(&mut self) -> bool {
        if !std::mem::replace(&mut self.started, true) {
            self.descend(self.image.root_children);
            return true;
        }
        let buckets = self.image.section(Section::Buckets);
        let directory = self.image.directory();
        while let Some(open) = self.open.last_mut() {
            let Some((at, place)) = open.bucket else {
                match open.buckets.next() {
                    None => {
                        self.open.pop();
                    }
                    Some(next) => {
                        let mut bucket = directory.range(open.group, next..next + 1);
                        open.bucket = bucket.next().flatten().map(|at| (at, 0));
                    }
                }
                continue;
            };
            let bucket = Bucket::at(buckets, at).filter(|bucket| place < bucket.len());
            let Some(bucket) = bucket else {
                open.bucket = None;
                continue;
            };
            open.bucket = Some((at, place + 1));
            let child = bucket.child(place);
            // An only child follows its parent.
            let above = if bucket.tag(place).is_some() {
                open.path
            } else {
                open.last
            };
            self.path.truncate(above);
            // At most one level per label.
            let deep = self.open.len() > MAX_LABELS;
            if deep
                || !self.append_edge(
                    bucket.section_bit(child.start),
                    child.text_end.checked_sub(child.start),
                )
            {
                self.damage = Some(ImageError::Invalid("text"));
                self.open.clear();
                return false;
            }
            let len = self.path.as_bytes().len();
            if let Some(open) = self.open.last_mut() {
                open.last = len;
            }
            self.place = at as usize + place;
            self.value = child.node.value;
            self.descend(child.node.children);
            return true;
        }
        false
    }

    fn descend(&mut self, children: ChildRef) {
        let ((group, count), bucket) = match (children.as_bucket(), children.as_range()) {
            (Some(at), _) => ((0, 0), Some((at, 0))),
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
