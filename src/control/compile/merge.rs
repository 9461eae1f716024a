//! Merges sorted rules: those read from lists, and those carried over from a base and a delta.

use std::cmp::Ordering;
use std::io;

use super::batch::{Rank, RankedPath, SLACK, rank};
use super::sort::Run;
use crate::policy::image::cursor::Cursor as ImageCursor;
use crate::policy::image::path::Key;
use crate::policy::image::values::ImageRule;
use crate::policy::image::{Image, ImageError, WriteError};

/// Why rules could not be merged.
#[derive(Debug, thiserror::Error)]
pub(super) enum MergeError {
    /// A sorted run can't be read back.
    #[error(transparent)]
    Run(#[from] io::Error),
    /// An image is damaged.
    #[error(transparent)]
    Image(ImageError),
    /// The merged rules can't be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// The rules of an image in the order of their paths.
pub(super) trait Cursor {
    /// Moves to the next name that has rules. Returns whether there is one.
    fn advance(&mut self) -> Result<bool, ImageError>;
    /// Its path.
    fn path(&self) -> &[u8];
    /// Appends its rules.
    fn rules(&self, into: &mut Vec<ImageRule>);
}

impl Cursor for ImageCursor<&Image> {
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
    /// The new number of each of its clauses; `None` for those whose source is not carried over.
    pub(super) clauses: Vec<Option<u32>>,
}

/// Marks a sorted rule that comes from a delta and not from a list.
const CHANGE: u32 = 1 << 2;
const _: () = assert!(CHANGE & ImageRule::SCOPE == 0 && CHANGE < 1 << ImageRule::CLAUSE_SHIFT);

/// The bits of a delta's rule while it is sorted.
pub(super) fn change(rule: ImageRule) -> u32 {
    rule.to_bits() | CHANGE
}

/// The bits of a delta's mark while it is sorted: the rules that the base has of the source of this clause on the name are
/// void. They have all bits of the scope, which no rule has.
pub(super) fn void(clause: u32) -> u32 {
    clause << ImageRule::CLAUSE_SHIFT | VOID
}

const VOID: u32 = CHANGE | ImageRule::SCOPE;

/// A merge of sorted inputs.
pub(super) struct Merge<'m, C> {
    key: &'m Key,
    inputs: Vec<Input<'m, C>>,
    /// A loser tree: the loser of each match, and the winner of all at index 0.
    tree: Vec<Player>,
    /// The source of each clause.
    sources: &'m [u16],
    /// By source: whether its rules from images apply instead of those that were read.
    left_out: &'m [bool],
}

enum Input<'m, C> {
    Run(Run<'m>),
    Image(Carry<C>),
}

/// An input, with the rank of its current path.
#[derive(Clone, Copy)]
struct Player {
    /// `None` at its end.
    rank: Option<Rank>,
    input: usize,
}

struct Carry<C> {
    carried: Carried<C>,
    /// The current path, and [`SLACK`].
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

/// The rules of one name, collected from all inputs.
#[derive(Default)]
struct Name {
    path: Vec<u8>,
    rank: Rank,
    /// Sorted rules: of lists, and of a delta.
    sorted: Vec<u32>,
    /// Rules carried over from the base.
    base: Vec<u32>,
    /// Sources whose rules in the base are void.
    voided: Vec<usize>,
    scratch: Vec<ImageRule>,
}

impl<'m, C: Cursor> Merge<'m, C> {
    /// Merges runs and a base that are sorted by `key`.
    ///
    /// # Errors
    /// If one can't be read.
    pub(super) fn new(
        key: &'m Key,
        runs: Vec<Run<'m>>,
        base: Option<Carried<C>>,
        sources: &'m [u16],
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
            sources,
            left_out,
        };
        merge.play_all()?;
        Ok(merge)
    }

    /// Calls `each` once for every name that has rules, in order, with the path of the name and its distinct rules,
    /// sorted. Marks of the delta are applied. Returns the number of distinct rules that were read of each source, whether they apply or not.
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
            let current = self.inputs[input].current();
            if rank != name.rank || current.path() != name.path {
                name.emit(self.sources, self.left_out, &mut counts, &mut each)?;
                name.rank = rank;
                name.path.clear();
                name.path.extend(current.path());
            }
            name.take(&self.inputs[input]);
            let player = self.advance(input)?;
            self.play(player);
        }
        name.emit(self.sources, self.left_out, &mut counts, &mut each)?;
        Ok(counts)
    }

    fn advance(&mut self, input: usize) -> Result<Player, MergeError> {
        let some = match &mut self.inputs[input] {
            Input::Run(run) => run.advance()?,
            Input::Image(carry) => carry.advance(self.key).map_err(MergeError::Image)?,
        };
        let rank = some.then(|| self.inputs[input].current().rank);
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
        one.current().compare(other.current(), self.key) == Ordering::Less
    }

    fn play_all(&mut self) -> Result<(), MergeError> {
        let count = self.inputs.len();
        let mut tree = vec![None; count];
        for input in 0..count {
            let mut winner = self.advance(input)?;
            let mut at = (count + input) / 2;
            // The first player at a match waits there for the second one.
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

    /// Plays the matches of the last winner again, after it has advanced.
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
    fn current(&self) -> RankedPath<'_> {
        match self {
            Self::Run(run) => run.current(),
            Self::Image(carry) => RankedPath {
                rank: carry.rank,
                bytes: &carry.path,
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
            let clause = carried.clauses.get(rule.clause as usize);
            if let Some(&Some(clause)) = clause {
                self.base.push(ImageRule { clause, ..*rule }.to_bits());
            }
        }
    }

    /// Calls `each` with the rules of the name, and clears them.
    #[inline]
    fn emit(
        &mut self,
        sources: &[u16],
        left_out: &[bool],
        counts: &mut [u64],
        each: &mut impl FnMut(&[u8], &[u32]) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        let source = |rule: u32| usize::from(sources[(rule >> ImageRule::CLAUSE_SHIFT) as usize]);
        let rules = &mut self.sorted;
        if rules.len() > 1 {
            rules.sort_unstable();
            rules.dedup();
        }
        let voided = &mut self.voided;
        voided.clear();
        rules.retain_mut(|rule| {
            let (source, is_change) = (source(*rule), *rule & CHANGE != 0);
            if *rule & VOID == VOID {
                voided.push(source);
                return false;
            }
            counts[source] += u64::from(!is_change);
            *rule &= !CHANGE;
            // The rules of a list that was read come from its file, those of any other list from the images.
            left_out[source] == is_change
        });
        if !self.base.is_empty() {
            self.base.retain(|rule| !voided.contains(&source(*rule)));
            rules.append(&mut self.base);
            rules.sort_unstable();
            // A delta that amends a list may repeat rules of the base.
            rules.dedup();
        }
        if !self.sorted.is_empty() {
            each(&self.path, &self.sorted)?;
            self.sorted.clear();
        }
        Ok(())
    }
}
