//! Makes a deterministic automaton for a few patterns, as a compact table.

use std::cmp::Reverse;
use std::collections::HashMap;

use regex_automata::dfa::{Automaton as _, StartKind, dense};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;
use regex_automata::{Anchored, MatchKind};
use regex_syntax::hir::{Hir, Look, Repetition};

use super::automata::{Automaton, Cell, Row};
use super::pattern::any;
use super::text::TEXT;

/// The maximum number of rows times columns, so that the numbers of rows and cells fit into 16 bits.
const MAX_CELLS: usize = u16::MAX as usize;

/// Limits for the construction, in bytes. The DFA that the rows are made from has at most eight bytes for each row and
/// column.
const NFA_LIMIT: usize = 1 << 20;
const DFA_LIMIT: usize = 8 * MAX_CELLS;
const DETERMINIZE_LIMIT: usize = 2 * DFA_LIMIT;

/// The automaton would be too large.
#[derive(Debug)]
pub(super) struct TooLarge;

impl Automaton {
    /// An automaton for patterns with these indices.
    pub(super) fn new(patterns: &[(u32, Hir)]) -> Result<Self, TooLarge> {
        let patterns = patterns.iter().map(|(index, hir)| (*index, anywhere(hir)));
        let (indices, hirs): (Vec<_>, Vec<_>) = patterns.unzip();
        let dfa = determinize(&hirs)?;
        let rows = Rows::new(&dfa)?;
        Ok(rows.into_automaton(&dfa, &indices))
    }
}

/// Makes a pattern that is matched from the start of a text, but finds the given pattern anywhere in it. Puts a
/// repetition of any bytes before the given pattern, unless the pattern begins with `^`.
fn anywhere(pattern: &Hir) -> Hir {
    let needed = pattern.properties().look_set_prefix();
    match needed.contains(Look::Start) {
        true => pattern.clone(),
        false => Hir::concat(vec![
            Hir::repetition(Repetition {
                min: 0,
                max: None,
                greedy: true,
                sub: Box::new(any()),
            }),
            pattern.clone(),
        ]),
    }
}

fn determinize(patterns: &[Hir]) -> Result<dense::DFA<Vec<u32>>, TooLarge> {
    let config = thompson::Config::new()
        .utf8(false)
        .which_captures(WhichCaptures::None)
        .nfa_size_limit(Some(NFA_LIMIT));
    let mut compiler = thompson::Compiler::new();
    compiler.configure(config);
    let nfa = compiler.build_many_from_hir(patterns);
    let nfa = nfa.map_err(|_| TooLarge)?;
    let config = dense::Config::new()
        .match_kind(MatchKind::All)
        .start_kind(StartKind::Anchored)
        .accelerate(false)
        .dfa_size_limit(Some(DFA_LIMIT))
        .determinize_size_limit(Some(DETERMINIZE_LIMIT));
    let mut builder = dense::Builder::new();
    builder.configure(config);
    builder.build_from_nfa(&nfa).map_err(|_| TooLarge)
}

/// The states of an automaton that texts can reach, in the order of discovery; the dead state is the first.
struct Rows {
    columns: [u8; 128],
    /// The state at the start of a text.
    start: u32,
    states: Vec<StateID>,
    /// For each state and column, the index of the next state in `states`.
    next: Vec<u32>,
    width: usize,
}

impl Rows {
    fn new(dfa: &dense::DFA<Vec<u32>>) -> Result<Self, TooLarge> {
        let (columns, examples) = columns(dfa);
        let width = examples.len() + 1;
        let at_start = start::Config::new().anchored(Anchored::Yes);
        let mut states = vec![DEAD];
        let mut numbers = HashMap::from([(DEAD, 0)]);
        let mut next = Vec::new();
        let mut number = |state: StateID, states: &mut Vec<StateID>| {
            let state = match dfa.is_dead_state(state) {
                true => DEAD,
                false => state,
            };
            *numbers.entry(state).or_insert_with(|| {
                states.push(state);
                states.len() as u32 - 1
            })
        };
        let state = dfa.start_state(&at_start).map_err(|_| TooLarge)?;
        let start = number(state, &mut states);
        let mut at = 0;
        while let Some(&state) = states.get(at) {
            let bytes = examples.iter().map(|byte| dfa.next_state(state, *byte));
            for following in bytes.chain([dfa.next_eoi_state(state)]) {
                next.push(number(following, &mut states));
            }
            if states.len() * width > MAX_CELLS {
                return Err(TooLarge);
            }
            at += 1;
        }
        Ok(Self {
            columns,
            start,
            states,
            next,
            width,
        })
    }

    /// Sorts the rows in which patterns match to the end, and places the cells.
    fn into_automaton(self, dfa: &dense::DFA<Vec<u32>>, indices: &[u32]) -> Automaton {
        let is_match = |row: &usize| dfa.is_match_state(self.states[*row]);
        let (matching, mut order): (Vec<_>, Vec<_>) = (0..self.states.len()).partition(is_match);
        let first_match = order.len();
        order.extend(&matching);
        let mut numbers = vec![0; order.len()];
        for (number, row) in (0..).zip(&order) {
            numbers[*row] = number;
        }
        let rows = order.iter().map(|row| {
            let columns = &self.next[row * self.width..][..self.width];
            let next = columns.iter().map(|next| numbers[*next as usize]);
            next.collect::<Vec<u16>>()
        });
        let (rows, cells) = interleaved(&rows.collect::<Vec<_>>());
        let mut matches = Vec::new();
        let mut ends = Vec::with_capacity(matching.len());
        for row in matching {
            let state = self.states[row];
            let patterns = 0..dfa.match_len(state);
            let from = matches.len();
            matches
                .extend(patterns.map(|which| indices[dfa.match_pattern(state, which).as_usize()]));
            matches[from..].sort_unstable();
            ends.push(matches.len() as u32);
        }
        Automaton {
            columns: self.columns,
            rows,
            cells,
            start: numbers[self.start as usize],
            first_match: first_match as u16,
            end: (self.width - 1) as u8,
            ends,
            matches,
        }
    }
}

/// Places the cells of the rows, given the next row for each row and column.
fn interleaved(next: &[Vec<u16>]) -> (Vec<Row>, Vec<Cell>) {
    let width = next.first().map_or(0, Vec::len);
    let usual = next.iter().map(|columns| most_common(columns));
    let mut rows: Vec<_> = usual.map(|usual| Row { cells: 0, usual }).collect();
    let own: Vec<Vec<_>> = (next.iter().zip(&rows))
        .map(|(columns, row)| {
            let all = columns.iter().copied().enumerate();
            all.filter(|(_, next)| *next != row.usual).collect()
        })
        .collect();
    // Rows with many cells come first: the others fit into the gaps. Row 0 has none.
    let mut order: Vec<_> = (0..next.len()).collect();
    order.sort_by_key(|row| Reverse(own[*row].len()));
    let mut cells = vec![Cell::default(); width];
    let mut full = 0;
    for row in order {
        let Some((first, _)) = own[row].first() else {
            break;
        };
        let is_free = |place: usize| cells.get(place).is_none_or(|cell| cell.of == 0);
        while !is_free(full) {
            full += 1;
        }
        let mut places = full.saturating_sub(*first)..;
        let place = places.find(|place| own[row].iter().all(|(column, _)| is_free(place + column)));
        let place = place.expect("there is room after the last cell");
        cells.resize(cells.len().max(place + width), Cell::default());
        for (column, next) in &own[row] {
            cells[place + column] = Cell {
                of: row as u16,
                next: *next,
            };
        }
        rows[row].cells = place as u16;
    }
    (rows, cells)
}

/// The row that most columns lead to.
fn most_common(columns: &[u16]) -> u16 {
    let mut sorted = columns.to_vec();
    sorted.sort_unstable();
    let alike = sorted.chunk_by(|one, other| one == other);
    alike
        .max_by_key(|alike| alike.len())
        .map_or(0, |alike| alike[0])
}

/// The column of each byte, and a byte for each column.
fn columns(dfa: &dense::DFA<Vec<u32>>) -> ([u8; 128], Vec<u8>) {
    let classes = dfa.byte_classes();
    let mut columns = [0; 128];
    let mut examples: Vec<u8> = Vec::new();
    for byte in TEXT.filter(|byte| !byte.is_ascii_uppercase()) {
        let known = examples
            .iter()
            .position(|other| classes.get(*other) == classes.get(byte));
        let column = known.unwrap_or(examples.len());
        if known.is_none() {
            examples.push(byte);
        }
        columns[usize::from(byte)] = column as u8;
    }
    (columns, examples)
}

/// Stands for all dead states.
const DEAD: StateID = StateID::ZERO;
