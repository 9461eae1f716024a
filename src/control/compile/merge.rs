//! Owns the joining of sorted rules: those that were read, those of the images that they are put
//! into, and what of the latter does not count any more.
//! Refuses to know why it does not.

use std::cmp::Ordering;
use std::io;

use super::batch::{Place, Rank, SLACK, rank};
use super::sort::Run;
use crate::policy::image::cursor::Cursor as ImageCursor;
use crate::policy::image::path::Key;
use crate::policy::image::values::ImageRule;
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
}

/// Marks the bits of a rule that comes from a delta and not from a list, among those that were
/// sorted.
const CHANGE: u32 = 0x80;

/// The bits of a delta's rule on its way through the sorting.
pub(super) fn change(rule: ImageRule) -> u32 {
    rule.to_bits() | CHANGE
}

/// Joins rules.
pub(super) struct Merge<'m, C> {
    key: &'m Key,
    inputs: Vec<Input<'m, C>>,
    /// A tournament's losers, by match; the winner of all comes first.
    tree: Vec<Player>,
    /// By source: what was read of it does not count, but what images hold of it does.
    left_out: &'m [bool],
}

enum Input<'m, C> {
    Run(Run<'m>),
    Image(Carry<C>),
}

/// An input and where it is.
#[derive(Clone, Copy)]
struct Player {
    /// Nothing when it has ended.
    rank: Option<Rank>,
    input: usize,
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
    /// What was sorted: rules of lists, and of a delta.
    sorted: Vec<u32>,
    /// What is carried over from the base.
    base: Vec<u32>,
    scratch: Vec<ImageRule>,
}

impl<'m, C: Cursor> Merge<'m, C> {
    /// Joins runs and a base that are sorted by that key.
    ///
    /// # Errors
    /// When one can't be read.
    pub(super) fn new(
        key: &'m Key,
        runs: Vec<Run<'m>>,
        base: Option<Carried<C>>,
        left_out: &'m [bool],
    ) -> Result<Self, MergeError> {
        let runs = runs.into_iter().map(Input::Run);
        let base = base.into_iter().map(|carried| {
            Input::Image(Carry {
                carried,
                path: Vec::new(),
                size: 0,
                rank: (0, 0),
            })
        });
        let mut merge = Self {
            key,
            inputs: runs.chain(base).collect(),
            tree: Vec::new(),
            left_out,
        };
        merge.play_all()?;
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
        while let Some(&Player {
            rank: Some(rank),
            input,
        }) = self.tree.first()
        {
            let place = self.inputs[input].place();
            if rank != name.rank || place.path() != name.path {
                name.hand_on(self.left_out, &mut counts, &mut each)?;
                name.rank = rank;
                name.path.clear();
                name.path.extend(place.path());
            }
            name.take(&self.inputs[input]);
            let player = self.advance(input)?;
            self.play(player);
        }
        name.hand_on(self.left_out, &mut counts, &mut each)?;
        Ok(counts)
    }

    fn advance(&mut self, input: usize) -> Result<Player, MergeError> {
        let some = match &mut self.inputs[input] {
            Input::Run(run) => run.advance()?,
            Input::Image(carry) => carry.advance(self.key).map_err(MergeError::Image)?,
        };
        let rank = some.then(|| self.inputs[input].place().rank);
        Ok(Player { rank, input })
    }

    /// Whether a player's path comes first. One that has ended comes last.
    #[inline]
    fn beats(&self, one: Player, other: Player) -> bool {
        let (Some(rank), Some(other_rank)) = (one.rank, other.rank) else {
            return one.rank.is_some();
        };
        if rank.0 != other_rank.0 {
            return rank.0 < other_rank.0;
        }
        let (one, other) = (&self.inputs[one.input], &self.inputs[other.input]);
        one.place().compare(other.place(), self.key) == Ordering::Less
    }

    fn play_all(&mut self) -> Result<(), MergeError> {
        let count = self.inputs.len();
        let mut tree = vec![None; count];
        for input in 0..count {
            let mut winner = self.advance(input)?;
            let mut at = (count + input) / 2;
            // Whoever comes first at a match waits there for the other one.
            while at > 0
                && let Some(other) = &mut tree[at]
            {
                if self.beats(*other, winner) {
                    std::mem::swap(other, &mut winner);
                }
                at /= 2;
            }
            tree[at] = Some(winner);
        }
        self.tree = tree.into_iter().flatten().collect();
        Ok(())
    }

    /// Plays the matches of the winner, which has moved on.
    #[inline]
    fn play(&mut self, mut winner: Player) {
        let mut at = (self.inputs.len() + winner.input) / 2;
        while at > 0 {
            let other = self.tree[at];
            if self.beats(other, winner) {
                self.tree[at] = winner;
                winner = other;
            }
            at /= 2;
        }
        self.tree[0] = winner;
    }
}

impl<C: Cursor> Input<'_, C> {
    #[inline]
    fn place(&self) -> Place<'_> {
        match self {
            Self::Run(run) => run.place(),
            Self::Image(carry) => Place {
                rank: carry.rank,
                octets: &carry.path,
                size: carry.size,
            },
        }
    }
}

impl Name {
    #[inline]
    fn take<C: Cursor>(&mut self, input: &Input<'_, C>) {
        match input {
            Input::Run(run) => self.sorted.push(run.rule()),
            Input::Image(carry) => self.carry(&carry.carried),
        }
    }

    fn carry<C: Cursor>(&mut self, carried: &Carried<C>) {
        self.scratch.clear();
        carried.cursor.rules(&mut self.scratch);
        for rule in &self.scratch {
            let source = carried.sources.get(usize::from(rule.source));
            if let Some(&Some(source)) = source {
                self.base.push(ImageRule { source, ..*rule }.to_bits());
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
        let rules = &mut self.sorted;
        if rules.len() > 1 {
            rules.sort_unstable();
            rules.dedup();
        }
        for &rule in &*rules {
            counts[source(rule)] += u64::from(rule & CHANGE == 0);
        }
        // Of a list that was read its file counts, of any other one what images hold.
        rules.retain(|&rule| left_out[source(rule)] == (rule & CHANGE != 0));
        if !self.base.is_empty() || rules.iter().any(|rule| rule & CHANGE != 0) {
            self.join();
        }
        if !self.sorted.is_empty() {
            each(&self.path, &self.sorted)?;
            self.sorted.clear();
        }
        Ok(())
    }

    /// Joins what was sorted with what is carried over.
    #[cold]
    fn join(&mut self) {
        let rules = &mut self.sorted;
        for rule in &mut *rules {
            *rule &= !CHANGE;
        }
        rules.append(&mut self.base);
        rules.sort_unstable();
        rules.dedup();
    }
}

fn source(rule: u32) -> usize {
    (rule >> 16) as usize
}
