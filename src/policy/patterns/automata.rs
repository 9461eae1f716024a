//! The automata of a set, with joined tables.
//!
//! Tables of their own would lie scattered between the memory that their construction frees, so that the allocator could
//! not return it to the system: with 5,000 patterns, that is 30 MB.

/// Automata that report which of their patterns match. A row is a state, and a column is a class of bytes; the last column
/// is for the end of the text. Row 0 is the state in which nothing can match any more.
///
/// Most columns of a row lead to one row. Only the others have a cell. The cells of all rows of an automaton are
/// interleaved, so that few places are empty.
#[derive(Debug)]
pub(super) struct Automata {
    heads: Box<[Head]>,
    /// The rows of one automaton after those of another, like all tables.
    rows: Box<[Row]>,
    cells: Box<[Cell]>,
    /// For each row in which patterns match, where they end in `matches`.
    ends: Box<[u32]>,
    /// Indices of patterns in the set, ascending for each row.
    matches: Box<[u32]>,
}

/// One of them.
#[derive(Debug)]
struct Head {
    /// The column of each byte. Texts have no byte above 127.
    columns: [u8; 128],
    /// Where its parts of the tables begin.
    rows: u32,
    cells: u32,
    ends: u32,
    /// The row at the start of a text.
    start: u16,
    /// The first of the rows in which patterns match; they are at the end.
    first_match: u16,
    /// The column for the end of the text.
    end: u8,
    /// The lowest index of a pattern.
    lowest: u32,
}

/// A state. Numbers of rows and places of cells are those in the automaton.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// The place of the cell of the first column.
    pub(super) cells: u16,
    /// The next row in all columns without a cell.
    pub(super) usual: u16,
}

/// An empty cell belongs to row 0, and leads to it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cell {
    /// The row that it belongs to.
    pub(super) of: u16,
    pub(super) next: u16,
}

/// An automaton before its tables are joined with those of others.
#[derive(Debug)]
pub(super) struct Automaton {
    /// The column of each byte. Texts have no byte above 127.
    pub(super) columns: [u8; 128],
    pub(super) rows: Vec<Row>,
    pub(super) cells: Vec<Cell>,
    /// The row at the start of a text.
    pub(super) start: u16,
    /// The first of the rows in which patterns match; they are at the end.
    pub(super) first_match: u16,
    /// The column for the end of the text.
    pub(super) end: u8,
    /// For each row from `first_match` on, where its patterns end in `matches`.
    pub(super) ends: Vec<u32>,
    /// Indices of patterns in the set, ascending for each row.
    pub(super) matches: Vec<u32>,
}

impl Automaton {
    /// The memory that it takes among others, in bytes.
    pub(super) fn memory(&self) -> usize {
        size_of::<Head>()
            + size_of_val(&*self.rows)
            + size_of_val(&*self.cells)
            + size_of_val(&*self.ends)
            + size_of_val(&*self.matches)
    }
}

impl Automata {
    /// Joins the tables of automata.
    pub(super) fn new(all: &[Automaton]) -> Self {
        let mut heads = Vec::with_capacity(all.len());
        let mut rows = Vec::with_capacity(all.iter().map(|one| one.rows.len()).sum());
        let mut cells = Vec::with_capacity(all.iter().map(|one| one.cells.len()).sum());
        let mut ends = Vec::with_capacity(all.iter().map(|one| one.ends.len()).sum());
        let mut matches = Vec::with_capacity(all.iter().map(|one| one.matches.len()).sum());
        for one in all {
            heads.push(Head {
                columns: one.columns,
                rows: rows.len() as u32,
                cells: cells.len() as u32,
                ends: ends.len() as u32,
                start: one.start,
                first_match: one.first_match,
                end: one.end,
                lowest: one.matches.iter().copied().min().unwrap_or(u32::MAX),
            });
            rows.extend(&one.rows);
            cells.extend(&one.cells);
            let before = matches.len() as u32;
            ends.extend(one.ends.iter().map(|end| before + end));
            matches.extend(&one.matches);
        }
        Self {
            heads: heads.into(),
            rows: rows.into(),
            cells: cells.into(),
            ends: ends.into(),
            matches: matches.into(),
        }
    }

    /// The number of automata.
    pub(super) fn len(&self) -> usize {
        self.heads.len()
    }

    /// The memory that they take, in bytes.
    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.heads)
            + size_of_val(&*self.rows)
            + size_of_val(&*self.cells)
            + size_of_val(&*self.ends)
            + size_of_val(&*self.matches)
    }

    /// The patterns of an automaton that match some text, ascending.
    pub(super) fn patterns(&self, which: usize) -> Vec<u32> {
        let next = self.heads.get(which + 1);
        let ends = next.map_or(self.ends.len(), |next| next.ends as usize);
        let first = self.matches_end(self.heads[which].ends as usize);
        let mut patterns = self.matches[first..self.matches_end(ends)].to_vec();
        patterns.sort_unstable();
        patterns.dedup();
        patterns
    }

    /// The lowest index of a pattern of an automaton.
    pub(super) fn lowest(&self, which: usize) -> u32 {
        self.heads[which].lowest
    }

    /// Runs an automaton over a text. Calls `each` with the index of every pattern that matches, possibly several times.
    /// `each` returns from which index on further matches do not matter. Returns the number of steps.
    #[inline]
    pub(super) fn run(&self, which: usize, text: &[u8], mut each: impl FnMut(u32) -> u32) -> usize {
        let head = &self.heads[which];
        let rows = &self.rows[head.rows as usize..];
        let cells = &self.cells[head.cells as usize..];
        let next = |row: u16, column: u8| {
            let Row { cells: at, usual } = rows[usize::from(row)];
            let cell = cells[usize::from(at) + usize::from(column)];
            if cell.of == row { cell.next } else { usual }
        };
        let mut row = head.start;
        for (steps, byte) in text.iter().enumerate() {
            row = next(row, head.columns[usize::from(byte & 127)]);
            if row == 0 {
                return steps + 1;
            }
            if row >= head.first_match && self.report(head, row, &mut each) {
                return steps + 1;
            }
        }
        row = next(row, head.end);
        if row >= head.first_match {
            self.report(head, row, &mut each);
        }
        text.len() + 1
    }

    /// Reports the patterns of a row. Returns whether no other match matters.
    #[cold]
    fn report(&self, head: &Head, row: u16, each: &mut impl FnMut(u32) -> u32) -> bool {
        let which = head.ends as usize + usize::from(row - head.first_match);
        let mut bound = u32::MAX;
        for &pattern in &self.matches[self.matches_end(which)..self.matches_end(which + 1)] {
            bound = each(pattern);
        }
        bound <= head.lowest
    }

    /// Where the patterns of this many rows end in `matches`.
    fn matches_end(&self, rows: usize) -> usize {
        rows.checked_sub(1)
            .map_or(0, |last| self.ends[last] as usize)
    }
}
