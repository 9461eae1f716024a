//! Parses the `csv` format: a table of which one column has names (RFC 4180). Fields are separated by commas, semicolons,
//! tabs or vertical bars: by those of which the first row has the most.

use std::ops::RangeInclusive;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use memchr::memchr;

use crate::control::list_file::parse::bad::Bad;
use crate::control::list_file::parse::cell::parse_cell;
use crate::control::list_file::parse::rule::ParsedRule;
use crate::control::list_file::parse::tally::Tally;
use crate::policy::rule::Scope;
use crate::wire::name::Name;

/// The bytes of a row without separators and quotes. Longer rows are bad.
const MAX_ROW: usize = 256 << 10;
/// The fields of a row. Rows with more are bad.
const MAX_FIELDS: usize = 1024;

const SEPARATORS: [u8; 4] = *b",;\t|";

/// The parser of a file.
pub(super) struct Table {
    /// `None` until the first row has shown the separator.
    reader: Option<Box<Reader>>,
    /// The start of the file, until the first row is complete.
    start: Vec<u8>,
    rows: Rows,
}

/// The rows, and their names.
struct Rows {
    column: Column,
    bare: Scope,
    row: Row,
    tally: Tally,
    /// A buffer.
    name: Name,
}

/// The column that has the names.
enum Column {
    /// The one with this title in the first row.
    Titled(Box<str>),
    /// The one at this place; 0 is the first.
    At(usize),
    /// None, as no column has the title.
    Missing,
}

/// The row that is being read.
struct Row {
    /// Its fields without separators and quotes.
    text: Box<[u8]>,
    len: usize,
    /// Where each field ends in `text`.
    ends: Box<[usize]>,
    fields: usize,
    /// Whether there is no room for all of it.
    is_long: bool,
}

impl Table {
    /// A parser of a table. `column` is the title of the column that has the names, or its number; 1 is the first. With a
    /// number, the first row has names, too.
    pub(super) fn new(column: &str, bare: Scope) -> Self {
        let number = column.parse::<usize>().ok();
        let place = number.and_then(|number| number.checked_sub(1));
        Self {
            reader: None,
            start: Vec::new(),
            rows: Rows {
                column: place.map_or_else(|| Column::Titled(column.into()), Column::At),
                bare,
                row: Row {
                    text: vec![0; MAX_ROW].into(),
                    len: 0,
                    ends: vec![0; MAX_FIELDS].into(),
                    fields: 0,
                    is_long: false,
                },
                tally: Tally {
                    ended: true,
                    ..Tally::default()
                },
                name: Name::ROOT,
            },
        }
    }

    /// Watches these lines.
    pub(super) fn watch(&mut self, lines: RangeInclusive<u32>) {
        self.rows.tally.watch(lines);
    }

    /// Parses the next piece of the file.
    pub(super) fn feed(&mut self, piece: &[u8], rule: &mut impl FnMut(ParsedRule<'_>)) {
        if let Some(last) = piece.last() {
            self.rows.tally.ended = matches!(last, b'\n' | b'\r');
        }
        match &mut self.reader {
            Some(reader) => self.rows.read(reader, piece, rule),
            None => {
                self.start.extend(piece);
                if self.start.len() > MAX_ROW || first_row(&self.start).is_some() {
                    self.begin(rule);
                }
            }
        }
    }

    /// Whether the last row is complete.
    pub(super) fn is_ended(&self) -> bool {
        self.rows.tally.ended
    }

    /// Ends the file.
    pub(super) fn finish(mut self, rule: &mut impl FnMut(ParsedRule<'_>)) -> Tally {
        if self.reader.is_none() {
            self.begin(rule);
        }
        if let Some(reader) = &mut self.reader {
            // No input ends the file.
            self.rows.read(reader, &[], rule);
        }
        self.rows.tally
    }

    /// Reads the start of the file, which shows the separator.
    fn begin(&mut self, rule: &mut impl FnMut(ParsedRule<'_>)) {
        let start = std::mem::take(&mut self.start);
        let start = start.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&start);
        let row = first_row(start).unwrap_or(start);
        let count = |separator: &u8| row.iter().filter(|byte| *byte == separator).count();
        // Of equal counts, `max_by_key` returns the last, so the comma comes last.
        let separator = SEPARATORS.into_iter().rev().max_by_key(count);
        let mut reader = ReaderBuilder::new();
        reader
            .delimiter(separator.unwrap_or(b','))
            .comment(Some(b'#'));
        let reader = self.reader.insert(Box::new(reader.build()));
        if !start.is_empty() {
            self.rows.read(reader, start, rule);
        }
    }
}

/// The first row that is no comment, if it is complete.
fn first_row(text: &[u8]) -> Option<&[u8]> {
    let mut rest = text;
    while let Some(end) = memchr(b'\n', rest) {
        let row = rest[..end].trim_ascii();
        if !row.is_empty() && row[0] != b'#' {
            return Some(row);
        }
        rest = &rest[end + 1..];
    }
    None
}

impl Rows {
    /// Reads all rows that are complete in the input. An empty input ends the file.
    fn read(
        &mut self,
        reader: &mut Reader,
        mut input: &[u8],
        rule: &mut impl FnMut(ParsedRule<'_>),
    ) {
        loop {
            let Row {
                text,
                len,
                ends,
                fields,
                ..
            } = &mut self.row;
            let (result, read, written, ended) =
                reader.read_record(input, &mut text[*len..], &mut ends[*fields..]);
            let line = reader.line() - u64::from(input[..read].ends_with(b"\n"));
            input = &input[read..];
            *len += written;
            *fields += ended;
            match result {
                ReadRecordResult::InputEmpty if input.is_empty() => return,
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::End => return,
                ReadRecordResult::OutputFull => {
                    self.row.is_long = true;
                    self.row.len = 0;
                }
                ReadRecordResult::OutputEndsFull => {
                    self.row.is_long = true;
                    self.row.fields = 0;
                }
                ReadRecordResult::Record => {
                    self.take(u32::try_from(line).unwrap_or(u32::MAX), rule);
                    (self.row.len, self.row.fields, self.row.is_long) = (0, 0, false);
                }
            }
        }
    }

    /// Takes a complete row that ends in this line.
    fn take(&mut self, line: u32, rule: &mut impl FnMut(ParsedRule<'_>)) {
        let row = &self.row;
        let text = &row.text[..row.len];
        let place = match &self.column {
            Column::Missing => return,
            Column::At(place) => *place,
            Column::Titled(title) => {
                let is_title =
                    |field: &[u8]| field.trim_ascii().eq_ignore_ascii_case(title.as_bytes());
                let place = (0..row.fields).find(|place| row.field(*place).is_some_and(is_title));
                self.column = place.map_or(Column::Missing, Column::At);
                self.tally.comments += 1;
                if place.is_none() {
                    self.tally.lines += 1;
                    self.tally.reject(line, text, Bad::NoColumn);
                }
                return;
            }
        };
        self.tally.lines += 1;
        let field = match row.field(place) {
            _ if row.is_long => Err(Bad::LongRow),
            field => field.ok_or(Bad::ShortRow),
        };
        let found =
            field.and_then(|field| parse_cell(field, self.bare, line, &mut self.name, rule));
        match found {
            Ok(line_tally) => self.tally.add(line, text, &line_tally),
            Err(problem) => self.tally.reject(line, text, problem),
        }
    }
}

impl Row {
    fn field(&self, place: usize) -> Option<&[u8]> {
        let end = *self.ends[..self.fields].get(place)?;
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.text.get(start..end)
    }
}
