//! Parses the `json` format: one JSON document, or one on each line, of which the values of one key are names.

use std::fmt;
use std::ops::RangeInclusive;

use memchr::memchr_iter;
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::Deserializer;
use serde_json::value::RawValue;

use crate::control::list_file::parse::bad::Bad;
use crate::control::list_file::parse::cell::parse_cell;
use crate::control::list_file::parse::rule::ParsedRule;
use crate::control::list_file::parse::tally::Tally;
use crate::names::typed::Mistyped;
use crate::policy::rule::Scope;
use crate::wire::name::Name;

/// The largest file, in bytes: the whole text is in memory.
const MAX_TEXT: usize = 256 << 20;
/// The depth of arrays and objects in each other.
const MAX_DEPTH: usize = 32;

/// The parser of a file.
pub(super) struct Json {
    column: Option<Box<str>>,
    bare: Scope,
    text: Vec<u8>,
    is_long: bool,
    watched: Option<RangeInclusive<u32>>,
}

impl Json {
    /// A parser of JSON. `column` is the key whose values are names, in objects at any depth. Without it, all strings in
    /// arrays are names.
    pub(super) fn new(column: Option<&str>, bare: Scope) -> Self {
        Self {
            column: column.map(Into::into),
            bare,
            text: Vec::new(),
            is_long: false,
            watched: None,
        }
    }

    /// Watches these lines.
    pub(super) fn watch(&mut self, lines: RangeInclusive<u32>) {
        self.watched = Some(lines);
    }

    /// Takes the next piece of the file.
    pub(super) fn feed(&mut self, piece: &[u8]) {
        self.is_long |= self.text.len() + piece.len() > MAX_TEXT;
        if self.is_long {
            self.text = Vec::new();
        } else {
            self.text.extend(piece);
        }
    }

    /// Parses the file.
    pub(super) fn finish(self, rule: &mut impl FnMut(ParsedRule<'_>)) -> Tally {
        let mut reading = Reading {
            text: &self.text,
            column: self.column.as_deref(),
            bare: self.bare,
            counted: (0, 0),
            // A document that is cut is not valid, so the end of its last line has no meaning.
            tally: Tally {
                ended: true,
                ..Tally::default()
            },
            name: Name::ROOT,
            rule,
        };
        if let Some(lines) = self.watched {
            reading.tally.watch(lines);
        }
        if self.is_long {
            reading.tally.lines += 1;
            reading.tally.reject(1, b"", Bad::LongJson);
            return reading.tally;
        }
        let text = self
            .text
            .strip_prefix(b"\xEF\xBB\xBF")
            .unwrap_or(&self.text);
        let documents = || Deserializer::from_slice(text).into_iter::<&RawValue>();
        // All is checked first: a file that was cut off must not be half in force.
        let checked = documents().try_for_each(|document| document.map(|_| ()));
        if let Err(error) = checked {
            reading.tally.lines += 1;
            let line = u32::try_from(error.line()).unwrap_or(u32::MAX);
            reading.tally.reject(line, b"", Bad::Json);
            return reading.tally;
        }
        for document in documents().map_while(Result::ok) {
            reading.value(document, false, 0);
        }
        reading.tally
    }
}

/// The fields of an object in their order. A key may be repeated.
struct Fields<'t>(Vec<(String, &'t RawValue)>);

impl<'t> Deserialize<'t> for Fields<'t> {
    fn deserialize<D: serde::Deserializer<'t>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'t> Visitor<'t> for FieldsVisitor {
    type Value = Fields<'t>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Fields(fields))
    }
}

/// The reading of a valid text.
struct Reading<'t, R> {
    text: &'t [u8],
    column: Option<&'t str>,
    bare: Scope,
    /// The place up to which line ends were counted, and their number.
    counted: (usize, u32),
    tally: Tally,
    /// A buffer.
    name: Name,
    rule: &'t mut R,
}

impl<'t, R: FnMut(ParsedRule<'_>)> Reading<'t, R> {
    /// Reads a value. `is_named` says whether its strings are names.
    fn value(&mut self, value: &'t RawValue, is_named: bool, depth: usize) {
        let text = value.get();
        if depth > MAX_DEPTH {
            self.tally.lines += 1;
            let line = self.line(text);
            return self.tally.reject(line, text.as_bytes(), Bad::Nested);
        }
        // The text is valid JSON, so these conversions only fail because of an escape that is no character.
        match text.as_bytes().first() {
            Some(b'[') => {
                let items: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
                for item in items {
                    self.value(item, is_named || self.column.is_none(), depth + 1);
                }
            }
            Some(b'{') => {
                let Ok(Fields(fields)) = serde_json::from_str(text) else {
                    return self.reject_escape(text);
                };
                for (key, value) in fields {
                    self.value(value, self.column == Some(&key), depth + 1);
                }
            }
            Some(b'"') if is_named => self.string(text),
            _ => {}
        }
    }

    /// Reads a string that is a name.
    fn string(&mut self, text: &'t str) {
        let Ok(string) = serde_json::from_str::<String>(text) else {
            return self.reject_escape(text);
        };
        let line = self.line(text);
        self.tally.lines += 1;
        let field = string.as_bytes();
        match parse_cell(field, self.bare, line, &mut self.name, self.rule) {
            Ok(line_tally) => self.tally.add(line, field, &line_tally),
            Err(problem) => self.tally.reject(line, field, problem),
        }
    }

    fn reject_escape(&mut self, text: &'t str) {
        self.tally.lines += 1;
        let line = self.line(text);
        let problem = Bad::Typed(Mistyped::Utf8);
        self.tally.reject(line, text.as_bytes(), problem);
    }

    /// The line of a part of the text. Parts are given in their order.
    fn line(&mut self, part: &str) -> u32 {
        let place = part.as_ptr() as usize - self.text.as_ptr() as usize;
        let (counted, ends) = &mut self.counted;
        if let Some(between) = self.text.get(*counted..place) {
            *ends += memchr_iter(b'\n', between).count() as u32;
            *counted = place;
        }
        *ends + 1
    }
}
