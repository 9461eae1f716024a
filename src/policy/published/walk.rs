//! Walks over the names of trees.

use std::sync::Arc;

use super::tree::Tree;
use crate::policy::image::cursor::Cursor;
use crate::policy::image::path::{Path, labels};
use crate::policy::image::{Image, ImageError};
use crate::wire::name::Name;

/// A part of the tree that is walked: a name, all names above it, and perhaps all names below it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Region {
    /// The bytes of the [`Path`] of the name.
    pub(super) path: Box<[u8]>,
    /// Whether the names below belong to it.
    pub(super) is_subtree: bool,
}

impl Region {
    /// All names.
    pub(super) fn everything() -> Self {
        Self {
            path: Box::default(),
            is_subtree: true,
        }
    }
}

/// Iterates over the names of some trees in some regions, each name once; those above a name come before it. Names of regions, and
/// those above them, need not be in a tree.
pub(super) struct Walk {
    trees: Vec<Tree>,
    regions: std::vec::IntoIter<Region>,
    /// The last region.
    region: Option<Region>,
    /// Names that were reached in the path of the last region.
    on_region: Steps,
    /// The number of the tree that is read below the region, and where it is read.
    tree: usize,
    below: Option<(Cursor<Arc<Image>>, Steps)>,
    damage: Option<ImageError>,
}

/// What a step of a walk leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The next name.
    Name,
    /// No name yet: the names of an image that were read are in no tree.
    Pause,
    /// There are no more names.
    End,
}

/// Names of an image that are read in one step, which takes less than a millisecond.
const STEP: usize = 1024;

/// The names on the way to one name. Each step is one label further.
struct Steps {
    path: Path,
    /// The bytes of the path up to the last step; `None` before the root.
    done: Option<usize>,
}

impl Steps {
    /// Steps that start at the root.
    fn new() -> Self {
        Self {
            path: Path::ROOT,
            done: None,
        }
    }

    /// Goes on to another name, from the last step that is above both.
    fn go_to(&mut self, path: &[u8]) {
        let ours = labels(self.path.as_bytes());
        let same = ours
            .zip(labels(path))
            .take_while(|(one, other)| one == other);
        let common = same.map(|(label, _)| 1 + label.len()).sum::<usize>();
        self.done = self.done.map(|done| done.min(common));
        self.path = Path::of(path);
    }

    /// The next name on the way.
    fn next(&mut self, name: &mut Name) -> bool {
        let path = self.path.as_bytes();
        let end = match self.done {
            None => 0,
            Some(done) if done == path.len() => return false,
            Some(done) => done + 1 + usize::from(path[done]),
        };
        self.done = Some(end);
        Path::of(&path[..end]).write_name(name);
        true
    }
}

impl Walk {
    /// A walk before the first name. The regions are sorted.
    pub(super) fn new(trees: Vec<Tree>, regions: Vec<Region>) -> Self {
        Self {
            trees,
            regions: regions.into_iter(),
            region: None,
            on_region: Steps::new(),
            tree: 0,
            below: None,
            damage: None,
        }
    }

    /// Sets `name` to the next name, if it is found soon.
    pub(super) fn next(&mut self, name: &mut Name) -> Step {
        loop {
            if self.on_region.next(name) {
                return Step::Name;
            }
            match self.next_below(name) {
                Step::End => {}
                step => return step,
            }
            let Some(region) = self.regions.next() else {
                return Step::End;
            };
            let is_done = self
                .region
                .as_ref()
                .is_some_and(|last| last.is_subtree && region.path.starts_with(&last.path));
            if !is_done {
                self.on_region.go_to(&region.path);
                (self.tree, self.below) = (0, None);
                self.region = Some(region);
            }
        }
    }

    /// The error that ended the walk over an image early.
    pub(super) fn damage(&self) -> Option<ImageError> {
        self.damage
    }

    /// The next name of the trees below the region.
    fn next_below(&mut self, name: &mut Name) -> Step {
        let Some(region) = self.region.as_ref().filter(|region| region.is_subtree) else {
            return Step::End;
        };
        let mut read = 0;
        while let Some(tree) = self.trees.get(self.tree) {
            let (cursor, steps) = self.below.get_or_insert_with(|| {
                let mut cursor = Cursor::new(tree.image.clone());
                cursor.seek(&Path::of(&region.path).to_name());
                let steps = Steps {
                    path: Path::of(&region.path),
                    done: Some(region.path.len()),
                };
                (cursor, steps)
            });
            loop {
                let earlier = &self.trees[..self.tree];
                while steps.next(name) {
                    if !earlier.iter().any(|earlier| earlier.contains(name)) {
                        return Step::Name;
                    }
                }
                if read == STEP {
                    return Step::Pause;
                }
                if !cursor.advance() {
                    break;
                }
                read += 1;
                if cursor.rules().any(|rule| tree.has(rule)) {
                    steps.go_to(cursor.path());
                }
            }
            self.damage = self.damage.or(cursor.damage());
            self.tree += 1;
            self.below = None;
        }
        Step::End
    }
}
