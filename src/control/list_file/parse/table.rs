//! Parses the `csv` format: a table of which one column has names (RFC 4180). Fields are separated by commas, semicolons,
//! tabs or vertical bars: by those of which the first row has the most.

use std::ops::RangeInclusive;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

use crate::control::list_file::parse::bad::Bad;
use crate::control::list_file::parse::cell::parse_cell;
use crate::control::list_file::parse::row_cutter::{Cut, MAX_ROW, RowCutter};
use crate::control::list_file::parse::rule::ParsedRule;
use crate::control::list_file::parse::tally::Tally;
use crate::policy::rule::Scope;
use crate::wire::name::Name;

/// The fields of a row. Rows with more are bad.
const MAX_FIELDS: usize = 1024;

/// The parser of a file.
pub(super) struct Table {
    cutter: RowCutter,
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

/// The fields of a row.
struct Row {
    /// `None` until the first row has shown the separator.
    reader: Option<Box<Reader>>,
    /// Their text, without separators and quotes.
    text: Box<[u8]>,
    /// Where each ends in the text.
    ends: Box<[usize]>,
    fields: usize,
    /// Whether there is no room for all of them.
    is_long: bool,
}

impl Table {
    /// A parser of a table. `column` is the title of the column that has the names, or its number; 1 is the first. With a
    /// number, the first row has names, too.
    pub(super) fn new(column: &str, bare: Scope) -> Self {
        let number = column.parse::<usize>().ok();
        let place = number.and_then(|number| number.checked_sub(1));
        Self {
            cutter: RowCutter::default(),
            rows: Rows {
                column: place.map_or_else(|| Column::Titled(column.into()), Column::At),
                bare,
                row: Row {
                    reader: None,
                    text: vec![0; MAX_ROW].into(),
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
        self.cutter.feed(piece, |part| self.rows.add(part, rule));
    }

    /// The line of a last row that is not complete.
    pub(super) fn open_line(&self) -> Option<u32> {
        (!self.rows.tally.ended).then(|| self.cutter.last_line())
    }

    /// Ends the file.
    pub(super) fn finish(mut self, rule: &mut impl FnMut(ParsedRule<'_>)) -> Tally {
        self.cutter.finish(|part| self.rows.add(part, rule));
        self.rows.tally
    }
}

impl Rows {
    fn add(&mut self, part: Cut<'_>, rule: &mut impl FnMut(ParsedRule<'_>)) {
        let (line, text, problem) = match part {
            // Nothing is known about the rows, and the first one was bad.
            _ if matches!(self.column, Column::Missing) => return,
            Cut::Comment => {
                self.tally.comments += 1;
                return;
            }
            Cut::Row(line, row, separator) => {
                self.row.read(row, separator);
                return self.take(line, row, rule);
            }
            Cut::OpenQuote(line, text) => (line, text, Bad::Quotes),
            Cut::Long(line, text) => (line, text, Bad::LongRow),
        };
        self.tally.lines += 1;
        self.tally.reject(line, text, problem);
    }

    /// Takes the row that was read last, which ends in this line. `text` is the whole row.
    fn take(&mut self, line: u32, text: &[u8], rule: &mut impl FnMut(ParsedRule<'_>)) {
        let row = &self.row;
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
    /// Divides a row into its fields.
    fn read(&mut self, row: &[u8], separator: u8) {
        let reader = self.reader.get_or_insert_with(|| {
            let reader = ReaderBuilder::new().delimiter(separator).build();
            Box::new(reader)
        });
        reader.reset();
        let (mut written, mut input) = (0, row);
        (self.fields, self.is_long) = (0, false);
        loop {
            let (text, ends) = (&mut self.text[written..], &mut self.ends[self.fields..]);
            let (result, read, more, ended) = reader.read_record(input, text, ends);
            input = &input[read..];
            written += more;
            self.fields += ended;
            match result {
                // No input ends the row.
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::Record | ReadRecordResult::End => return,
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                    self.is_long = true;
                    return;
                }
            }
        }
    }

    fn field(&self, place: usize) -> Option<&[u8]> {
        let end = *self.ends[..self.fields].get(place)?;
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.text.get(start..end)
    }
}
