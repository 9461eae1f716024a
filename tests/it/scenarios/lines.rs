//! The lines of a scenario without comments, and messages that name a line.

use std::iter::Peekable;
use std::str;

/// The lines that remain to be read.
pub(super) struct Lines<'t> {
    rest: Peekable<std::iter::Enumerate<str::Lines<'t>>>,
}

/// A line with its number.
#[derive(Clone, Copy)]
pub(super) struct Line<'t> {
    pub(super) number: usize,
    /// Without a comment, and without whitespace around it.
    pub(super) text: &'t str,
}

impl<'t> Lines<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        Self {
            rest: text.lines().enumerate().peekable(),
        }
    }

    /// The next line that has more than a comment. A comment begins with one of `marks`.
    pub(super) fn next(&mut self, marks: &[char]) -> Result<Line<'t>, String> {
        loop {
            let (index, line) = self.rest.next().ok_or("the file ends too early")?;
            let text = without_comment(line, marks).trim();
            if !text.is_empty() {
                let number = index + 1;
                return Ok(Line { number, text });
            }
        }
    }

    /// All lines before one that is `end`, as they are written.
    pub(super) fn until(&mut self, end: &str) -> Result<String, String> {
        let mut text = String::new();
        loop {
            let (_, line) = self.rest.next().ok_or("the file ends too early")?;
            if line.trim() == end {
                return Ok(text);
            }
            text.push_str(line);
            text.push('\n');
        }
    }
}

impl<'t> Line<'t> {
    /// The first word, and the others.
    pub(super) fn split(self) -> (&'t str, Vec<&'t str>) {
        let mut words = self.text.split_whitespace();
        (words.next().unwrap_or_default(), words.collect())
    }

    /// An error at this line.
    pub(super) fn error(self, why: impl std::fmt::Display) -> String {
        format!("line {}: {why}: {}", self.number, self.text)
    }
}

/// The part of a line before a comment. Quoted text has no comments.
pub(super) fn without_comment<'t>(line: &'t str, marks: &[char]) -> &'t str {
    let mut is_quoted = false;
    let mut is_escaped = false;
    let comment = line.find(|letter: char| {
        let is_plain = !std::mem::take(&mut is_escaped);
        match letter {
            '\\' => is_escaped = is_plain,
            '"' => is_quoted ^= is_plain,
            _ => return is_plain && !is_quoted && marks.contains(&letter),
        }
        false
    });
    &line[..comment.unwrap_or(line.len())]
}
