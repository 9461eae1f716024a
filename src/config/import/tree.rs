//! A configuration file as a tree of values with their lines, from YAML, TOML or JSON.

use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle};
use toml::de::{DeTable, DeValue};

use super::draft::SourceLine;
use super::error::ImportError;
use super::folder::ReadFile;

/// How deep values may be nested.
const DEPTH_MAX: usize = 64;
/// The maximum number of values of a file, so that its tree has a bounded size.
const NODES_MAX: usize = 2_000_000;

/// A value.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) line: SourceLine,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Text(String),
    List(Vec<Node>),
    /// Keys and values, in the order of the file.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// The value of a key, or of a key in the value of a key, and so on.
    pub(super) fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |node, key| {
            let mut entries = node.entries().iter();
            entries
                .find(|(known, _)| known == key)
                .map(|(_, node)| node)
        })
    }

    /// The text of a scalar. That of null is `None`, as is an empty one.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// The lines of a text of several lines, which begins behind its own line.
    pub(super) fn lines(&self) -> impl Iterator<Item = (SourceLine, &str)> {
        let lines = self.text().unwrap_or_default().lines();
        lines.zip(1_u32..).map(|(text, offset)| {
            let line = SourceLine {
                number: self.line.number.saturating_add(offset),
                ..self.line.clone()
            };
            (line, text)
        })
    }

    /// The text of a key's value.
    pub(super) fn text_at(&self, path: &[&str]) -> Option<&str> {
        self.at(path)?.text()
    }

    /// Whether a key is true.
    pub(super) fn is_true(&self, path: &[&str]) -> bool {
        matches!(self.text_at(path), Some("true" | "yes" | "on"))
    }

    /// The items of a list. A scalar is its only item.
    pub(super) fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            Value::Text(text) if !text.is_empty() => std::slice::from_ref(self),
            _ => &[],
        }
    }

    /// The items of a key's list.
    pub(super) fn items_at(&self, path: &[&str]) -> &[Self] {
        self.at(path).map_or(&[], Self::items)
    }

    /// The entries of a map.
    pub(super) fn entries(&self) -> &[(String, Self)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The entries of a key's map.
    pub(super) fn entries_at(&self, path: &[&str]) -> &[(String, Self)] {
        self.at(path).map_or(&[], Self::entries)
    }

    /// Whether it says nothing: null, false, zero, or without any value in it.
    pub(super) fn is_off(&self) -> bool {
        match &self.value {
            Value::Null => true,
            Value::Text(text) => matches!(
                text.as_str(),
                "" | "false" | "no" | "off" | "0" | "0s" | "null" | "~"
            ),
            Value::List(items) => items.is_empty(),
            Value::Map(entries) => match entries
                .iter()
                .find(|(key, _)| key == "enabled" || key == "enable")
            {
                Some((_, enabled)) => enabled.is_off(),
                None => entries.iter().all(|(_, node)| node.is_off()),
            },
        }
    }
}

fn syntax(file: &ReadFile, line: usize, message: impl Into<String>) -> ImportError {
    ImportError::Syntax {
        path: file.path.to_path_buf(),
        line: u32::try_from(line).unwrap_or(u32::MAX),
        message: message.into(),
    }
}

/// Parses YAML. Only the first document counts.
///
/// # Errors
/// A syntax error, an alias, or a tree that is too large.
pub(super) fn yaml(file: &ReadFile) -> Result<Node, ImportError> {
    let mut open: Vec<(Node, Option<Key>)> = Vec::new();
    let mut count = 0;
    for event in Parser::new_from_str(&file.text) {
        let (event, span) = event.map_err(|error| {
            syntax(
                file,
                error.marker().line(),
                format!("not YAML: {}", error.info()),
            )
        })?;
        let number = span.start.line();
        let node = |value| Node {
            value,
            line: SourceLine::new(&file.path, number),
        };
        count += 1;
        if count > NODES_MAX || open.len() > DEPTH_MAX {
            return Err(syntax(
                file,
                number,
                "too many values, or nested too deeply",
            ));
        }
        let complete = match event {
            Event::Scalar(text, style, _, _) => match (&*text, style) {
                ("" | "~" | "null", ScalarStyle::Plain) => node(Value::Null),
                // The parser reports the first line of its text, which is behind that of the `|`.
                (_, ScalarStyle::Literal | ScalarStyle::Folded) => Node {
                    value: Value::Text(text.into_owned()),
                    line: SourceLine::new(&file.path, number.saturating_sub(1)),
                },
                _ => node(Value::Text(text.into_owned())),
            },
            Event::SequenceStart(..) => {
                open.push((node(Value::List(Vec::new())), None));
                continue;
            }
            Event::MappingStart(..) => {
                open.push((node(Value::Map(Vec::new())), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some((node, _)) => node,
                None => continue,
            },
            Event::Alias(_) => {
                return Err(syntax(
                    file,
                    number,
                    "aliases (`*name`) are not read: write the value itself",
                ));
            }
            Event::DocumentEnd => break,
            _ => continue,
        };
        match open.last_mut() {
            None => return Ok(complete),
            Some((outer, key)) => add(outer, key, complete),
        }
    }
    Ok(Node {
        value: Value::Null,
        line: SourceLine::new(&file.path, 1),
    })
}

/// A key of a map whose value is not complete.
struct Key {
    text: String,
    line: SourceLine,
}

/// Adds a value to a list or a map. In a map, every other value is a key, and values have the lines of their keys.
fn add(outer: &mut Node, key: &mut Option<Key>, node: Node) {
    match &mut outer.value {
        Value::List(items) => items.push(node),
        Value::Map(entries) => match key.take() {
            Some(Key { text, line }) => entries.push((text, Node { line, ..node })),
            None => {
                *key = Some(Key {
                    text: node.text().unwrap_or_default().to_owned(),
                    line: node.line,
                });
            }
        },
        Value::Null | Value::Text(_) => {}
    }
}

/// Parses TOML.
///
/// # Errors
/// A syntax error.
pub(super) fn toml(file: &ReadFile) -> Result<Node, ImportError> {
    let line_at = |offset: usize| {
        let before = file.text.get(..offset).unwrap_or(&file.text);
        before.bytes().filter(|byte| *byte == b'\n').count() + 1
    };
    let table = DeTable::parse(&file.text).map_err(|error| {
        let line = line_at(error.span().unwrap_or_default().start);
        syntax(file, line, format!("not TOML: {}", error.message()))
    })?;
    let starts = Lines::new(file);
    Ok(starts.table(table.get_ref(), 0))
}

/// The offsets of a file's lines.
struct Lines<'f> {
    file: &'f ReadFile,
    starts: Vec<usize>,
}

impl<'f> Lines<'f> {
    fn new(file: &'f ReadFile) -> Self {
        let breaks = file
            .text
            .bytes()
            .enumerate()
            .filter(|(_, byte)| *byte == b'\n');
        let starts = std::iter::once(0).chain(breaks.map(|(at, _)| at + 1));
        Self {
            file,
            starts: starts.collect(),
        }
    }

    fn at(&self, offset: usize) -> SourceLine {
        SourceLine::new(
            &self.file.path,
            self.starts.partition_point(|start| *start <= offset),
        )
    }

    fn table(&self, table: &DeTable<'_>, offset: usize) -> Node {
        let mut entries: Vec<_> = table
            .iter()
            .map(|(key, value)| {
                let offset = key.span().start;
                (
                    offset,
                    key.get_ref().to_string(),
                    self.value(value.get_ref(), offset),
                )
            })
            .collect();
        entries.sort_by_key(|(offset, _, _)| *offset);
        let entries = entries.into_iter().map(|(_, key, node)| (key, node));
        Node {
            value: Value::Map(entries.collect()),
            line: self.at(offset),
        }
    }

    fn value(&self, value: &DeValue<'_>, offset: usize) -> Node {
        let value = match value {
            DeValue::Table(table) => return self.table(table, offset),
            DeValue::Array(items) => {
                let items = items
                    .iter()
                    .map(|item| self.value(item.get_ref(), item.span().start));
                Value::List(items.collect())
            }
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(number) => Value::Text(number.to_string()),
            DeValue::Float(number) => Value::Text(number.to_string()),
            DeValue::Boolean(is_true) => Value::Text(is_true.to_string()),
            DeValue::Datetime(time) => Value::Text(time.to_string()),
        };
        Node {
            value,
            line: self.at(offset),
        }
    }
}

/// Parses JSON. All values have the first line.
///
/// # Errors
/// The error, for the list of settings that did not carry over.
pub(super) fn json(file: &ReadFile) -> Result<Node, String> {
    let value = serde_json::from_str(&file.text)
        .map_err(|error| format!("not JSON: line {}", error.line()))?;
    Ok(from_json(value, &Rc::new(SourceLine::new(&file.path, 1))))
}

fn from_json(value: serde_json::Value, line: &Rc<SourceLine>) -> Node {
    let value = match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(is_true) => Value::Text(is_true.to_string()),
        serde_json::Value::Number(number) => Value::Text(number.to_string()),
        serde_json::Value::String(text) => Value::Text(text),
        serde_json::Value::Array(items) => Value::List(
            items
                .into_iter()
                .map(|item| from_json(item, line))
                .collect(),
        ),
        serde_json::Value::Object(entries) => {
            let entries = entries
                .into_iter()
                .map(|(key, value)| (key, from_json(value, line)));
            Value::Map(entries.collect())
        }
    };
    Node {
        value,
        line: SourceLine::clone(line),
    }
}
