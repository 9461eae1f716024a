//! Owns the joining of sorted rules: those that were read, those of the images that they are put
//! into, and what of the latter does not count any more.
//! Refuses to know why it does not.

use std::cmp::Ordering;
use std::io;

use super::batch::{Rank, SLACK, compare, rank};
use super::sort::Run;
use crate::policy::image::cursor::Cursor as ImageCursor;
use crate::policy::image::order::Key;
use crate::policy::image::values::{ImageRule, flag};
use crate::policy::image::{ImageError, WriteError};

/// Why rules could not be joined.
#[derive(Debug, thiserror::Error)]
pub(super) enum MergeError {
    /// What was sorted can't be read back.
    #[error(transparent)]
    Run(#[from] io::Error),
    /// An image holds what it can't.
    #[error(transparent)]
    Image(ImageError),
    /// Whoever takes the rules does not.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// The rules of an image in the order of their paths.
pub(super) trait Cursor {
    /// Goes to the next name that has rules. Returns whether there is one.
    fn advance(&mut self) -> Result<bool, ImageError>;
    /// Its path.
    fn path(&self) -> &[u8];
    /// Appends its rules.
    fn rules(&self, into: &mut Vec<ImageRule>);
}

impl Cursor for ImageCursor<'_> {
    fn advance(&mut self) -> Result<bool, ImageError> {
        let some = ImageCursor::advance(self);
        self.damage().map_or(Ok(some), Err)
    }

    fn path(&self) -> &[u8] {
        ImageCursor::path(self)
    }

    fn rules(&self, into: &mut Vec<ImageRule>) {
        into.extend(ImageCursor::rules(self));
    }
}

/// An image whose rules are carried over.
pub(super) struct Carried<C> {
    /// Its rules.
    pub(super) cursor: C,
    /// What each of its sources is called now; nothing where its rules do not count.
    pub(super) sources: Vec<Option<u16>>,
    /// Its rules stand over those of another image: lifted ones take those away.
    pub(super) delta: bool,
}

/// Joins rules.
pub(super) struct Merge<'m, C> {
    key: &'m Key,
    inputs: Vec<Input<'m, C>>,
    /// A tournament's losers, by match; the winner of all comes first.
    tree: Vec<usize>,
    /// By source: what was read of it does not count.
    left_out: &'m [bool],
}

enum Input<'m, C> {
    Run(Run<'m>),
    Image(Carry<C>),
    /// It has ended.
    Ended,
}

struct Carry<C> {
    carried: Carried<C>,
    /// The path, with what its rank is read from behind it.
    path: Vec<u8>,
    size: usize,
    rank: Rank,
}

impl<C: Cursor> Carry<C> {
    fn advance(&mut self, key: &Key) -> Result<bool, ImageError> {
        let some = self.carried.cursor.advance()?;
        let path = self.carried.cursor.path();
        self.size = path.len();
        self.path.clear();
        self.path.extend(path);
        self.path.extend([0; SLACK]);
        self.rank = rank(key, &self.path, 0, self.size);
        Ok(some)
    }
}

/// The rules of one name on their way together.
#[derive(Default)]
struct Name {
    path: Vec<u8>,
    rank: Rank,
    /// What was read.
    read: Vec<u32>,
    /// What is carried over from below any delta, and from a delta.
    base: Vec<u32>,
    delta: Vec<u32>,
    lifted: Vec<u32>,
    scratch: Vec<ImageRule>,
}

impl<'m, C: Cursor> Merge<'m, C> {
    /// Joins runs and images that are sorted by that key.
    ///
    /// # Errors
    /// When one can't be read.
    pub(super) fn new(
        key: &'m Key,
        runs: Vec<Run<'m>>,
        images: Vec<Carried<C>>,
        left_out: &'m [bool],
    ) -> Result<Self, MergeError> {
        let runs = runs.into_iter().map(Input::Run);
        let images = images.into_iter().map(|carried| {
            Input::Image(Carry {
                carried,
                path: Vec::new(),
                size: 0,
                rank: (0, 0),
            })
        });
        let mut merge = Self {
            key,
            inputs: runs.chain(images).collect(),
            tree: Vec::new(),
            left_out,
        };
        for at in 0..merge.inputs.len() {
            merge.advance(at)?;
        }
        merge.play_all();
        Ok(merge)
    }

    /// Hands on each name that has rules, once, in order, with its rules: sorted, each once. Returns
    /// for each source how many different rules were read of it, whether they count or not.
    pub(super) fn each(
        mut self,
        mut each: impl FnMut(&[u8], &[u32]) -> Result<(), WriteError>,
    ) -> Result<Vec<u64>, MergeError> {
        let mut counts = vec![0; self.left_out.len()];
        let mut name = Name::default();
        loop {
            let winner = self.tree.first().copied().unwrap_or(0);
            let ended = matches!(self.inputs.get(winner), Some(Input::Ended) | None);
            if ended || !self.is_at(winner, &name) {
                name.hand_on(self.left_out, &mut counts, &mut each)?;
                if ended {
                    return Ok(counts);
                }
                let (rank, path) = self.inputs[winner].place();
                name.rank = rank;
                name.path.clear();
                name.path.extend(path);
            }
            name.take(&self.inputs[winner]);
            self.advance(winner)?;
            self.play(winner);
        }
    }

    fn is_at(&self, at: usize, name: &Name) -> bool {
        let (rank, path) = self.inputs[at].place();
        rank == name.rank && path == name.path
    }

    fn advance(&mut self, at: usize) -> Result<(), MergeError> {
        let some = match &mut self.inputs[at] {
            Input::Run(run) => run.advance()?,
            Input::Image(carry) => carry.advance(self.key).map_err(MergeError::Image)?,
            Input::Ended => false,
        };
        if !some {
            self.inputs[at] = Input::Ended;
        }
        Ok(())
    }

    /// Whether an input's path comes first. One that has ended comes last.
    #[inline]
    fn beats(&self, one: usize, other: usize) -> bool {
        match (&self.inputs[one], &self.inputs[other]) {
            (Input::Ended, _) => false,
            (_, Input::Ended) => true,
            (a, b) => compare(self.key, a.place(), b.place()) == Ordering::Less,
        }
    }

    fn play_all(&mut self) {
        const NOBODY: usize = usize::MAX;
        let count = self.inputs.len();
        self.tree = vec![NOBODY; count];
        for input in 0..count {
            let mut winner = input;
            let mut at = (count + input) / 2;
            // Whoever comes first at a match waits there for the other one.
            while at > 0 && self.tree[at] != NOBODY {
                if self.beats(self.tree[at], winner) {
                    std::mem::swap(&mut self.tree[at], &mut winner);
                }
                at /= 2;
            }
            self.tree[at] = winner;
        }
    }

    /// Plays the matches of an input that has changed and was the winner.
    #[inline]
    fn play(&mut self, input: usize) {
        let mut winner = input;
        let mut at = (self.inputs.len() + input) / 2;
        while at > 0 {
            if self.beats(self.tree[at], winner) {
                std::mem::swap(&mut self.tree[at], &mut winner);
            }
            at /= 2;
        }
        self.tree[0] = winner;
    }
}

impl<C: Cursor> Input<'_, C> {
    #[inline]
    fn place(&self) -> (Rank, &[u8]) {
        match self {
            Self::Run(run) => (run.rank(), run.path()),
            Self::Image(carry) => (carry.rank, &carry.path[..carry.size]),
            Self::Ended => ((0, 0), &[]),
        }
    }
}

impl Name {
    #[inline]
    fn take<C: Cursor>(&mut self, input: &Input<'_, C>) {
        match input {
            Input::Run(run) => self.read.push(run.rule()),
            Input::Image(carry) => self.carry(&carry.carried),
            Input::Ended => {}
        }
    }

    fn carry<C: Cursor>(&mut self, carried: &Carried<C>) {
        self.scratch.clear();
        carried.cursor.rules(&mut self.scratch);
        for rule in &self.scratch {
            let source = carried.sources.get(usize::from(rule.source));
            let Some(&Some(source)) = source else {
                continue;
            };
            let lifted = rule.flags & flag::LIFTED != 0;
            let flags = rule.flags & !flag::LIFTED;
            let bits = ImageRule {
                source,
                flags,
                ..*rule
            }
            .to_bits();
            match (carried.delta, lifted) {
                (true, true) => self.lifted.push(bits),
                (true, false) => self.delta.push(bits),
                (false, _) => self.base.push(bits),
            }
        }
    }

    /// Hands on what the name has, and forgets it.
    #[inline]
    fn hand_on(
        &mut self,
        left_out: &[bool],
        counts: &mut [u64],
        each: &mut impl FnMut(&[u8], &[u32]) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        let source = |rule: u32| (rule >> 16) as usize;
        let rules = &mut self.read;
        if rules.len() > 1 {
            rules.sort_unstable();
            rules.dedup();
        }
        for &rule in &*rules {
            counts[source(rule)] += 1;
        }
        rules.retain(|rule| !left_out[source(*rule)]);
        if !self.base.is_empty() || !self.delta.is_empty() {
            let lifted = &self.lifted;
            rules.extend(self.base.iter().filter(|rule| !lifted.contains(rule)));
            rules.extend(&self.delta);
            rules.sort_unstable();
            rules.dedup();
            self.base.clear();
            self.delta.clear();
        }
        self.lifted.clear();
        if !rules.is_empty() {
            each(&self.path, rules)?;
            rules.clear();
        }
        Ok(())
    }
}
