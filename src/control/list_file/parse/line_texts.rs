//! Collects the texts of some lines of a file.

use std::ops::RangeInclusive;

use crate::control::list_file::parse::bad::excerpt_up_to;
use crate::control::list_file::parse::lines::{Cutter, Notation};

/// The most characters of a line's text that are kept.
const TEXT_MAX: usize = 400;

/// Collects the texts of some lines of a file, which arrives in pieces.
pub struct LineTexts {
    cutter: Cutter,
    found: FoundTexts,
}

/// The texts of some lines, and the number of all lines.
#[derive(Debug)]
pub struct FoundTexts {
    lines: RangeInclusive<u32>,
    /// The lines with their numbers, without whitespace around them. Characters that can't be printed are escaped, and more
    /// than 400 characters are cut off.
    pub texts: Vec<(u32, String)>,
    /// The number of lines in the file.
    pub total: u32,
}

impl LineTexts {
    /// Collects the texts of these lines; 1 is the first.
    pub fn new(lines: RangeInclusive<u32>) -> Self {
        Self {
            cutter: Cutter::new(&Notation::default()),
            found: FoundTexts {
                lines,
                texts: Vec::new(),
                total: 0,
            },
        }
    }

    /// Reads the next piece of the file.
    pub fn feed(&mut self, piece: &[u8]) {
        let found = &mut self.found;
        self.cutter
            .feed(piece, |number, line| found.add(number, line));
    }

    /// Ends the file.
    pub fn finish(mut self) -> FoundTexts {
        let found = &mut self.found;
        self.cutter.finish(|number, line| found.add(number, line));
        self.found
    }
}

impl FoundTexts {
    fn add(&mut self, number: u32, line: &[u8]) {
        self.total = number;
        if self.lines.contains(&number) {
            self.texts.push((number, excerpt_up_to(line, TEXT_MAX)));
        }
    }
}
