//! Collects the problems of a file, with their lines, while it is parsed and validated.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::error::{Problem, Problems};
use super::shown::counted;

/// The number of characters after which a value in a message is truncated.
const SHOWN: usize = 60;
/// The maximum number of problems reported for one file. A generated file that repeats one mistake in 100,000
/// sections would otherwise write megabytes to the log, to `status` and to the journal.
const PROBLEMS_MAX: usize = 100;

/// The problems of one file so far.
pub(super) struct Findings {
    path: PathBuf,
    /// The byte offset of each line except the first.
    starts: Vec<usize>,
    /// The length of the text.
    end: usize,
    problems: Vec<Problem>,
    /// Problems beyond [`PROBLEMS_MAX`].
    more: usize,
    /// The header lines of sections with syntax errors. Missing keys are not reported there, as they may be in the
    /// lines with the error.
    pub(super) damaged: Vec<u32>,
    /// Keys that are misspelt or have a value of the wrong type, each with the line of its table. They are not also
    /// reported as missing.
    pub(super) mistyped: HashSet<(u32, &'static str)>,
    /// The lines of unknown keys, with the known key that each resembles.
    pub(super) unknown: Vec<(u32, Option<&'static str>)>,
}

impl Findings {
    pub(super) fn new(path: &Path, text: &[u8]) -> Self {
        Self {
            path: path.to_owned(),
            starts: (1..=text.len())
                .filter(|&next| text[next - 1] == b'\n')
                .collect(),
            end: text.len(),
            problems: Vec::new(),
            damaged: Vec::new(),
            more: 0,
            mistyped: HashSet::new(),
            unknown: Vec::new(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The line of an offset, from 1. The end of the text belongs to its last line, even if that ends with a
    /// newline.
    pub(super) fn line_at(&self, offset: usize) -> u32 {
        let offset = offset.min(self.end.saturating_sub(1));
        let before = self.starts.partition_point(|&start| start <= offset);
        u32::try_from(before + 1).unwrap_or(u32::MAX)
    }

    /// The byte range of a line, without its newline.
    pub(super) fn line_span(&self, line: u32) -> std::ops::Range<usize> {
        let index = line as usize - 1;
        let start = index.checked_sub(1).map_or(0, |i| self.starts[i]);
        let end = self
            .starts
            .get(index)
            .map_or(self.end, |next| next.saturating_sub(1));
        start..end
    }

    pub(super) fn report(&mut self, line: u32, message: String) {
        if self.problems.len() == PROBLEMS_MAX {
            self.more += 1;
            return;
        }
        self.problems.push(Problem {
            path: self.path.clone(),
            line: Some(line),
            message,
        });
    }

    /// `result` if there are no problems, otherwise all problems by line.
    pub(super) fn conclude<T>(mut self, result: T) -> Result<T, Problems> {
        if self.problems.is_empty() {
            return Ok(result);
        }
        self.problems.sort_by_key(|problem| problem.line);
        if self.more > 0 {
            self.problems.push(Problem {
                path: self.path,
                line: None,
                message: format!(
                    "{}: correct these first",
                    counted(self.more, "more problem", "more problems")
                ),
            });
        }
        Err(Problems(self.problems))
    }
}

/// A text from the file for messages: quoted, escaped, truncated if long, and without what may be secret in a URL.
pub(super) fn quote(text: &str) -> String {
    let text = &*without_secrets(text);
    match text.char_indices().nth(SHOWN) {
        None => format!("{text:?}"),
        Some((cut, _)) => format!("{:?}...", &text[..cut]),
    }
}

/// A text without user, password and query, if it is meant as a URL. It may be malformed, so that what is the password is
/// not certain: all up to the last `@` goes.
fn without_secrets(text: &str) -> Cow<'_, str> {
    let scheme = text.find("://").map_or(0, |at| at + "://".len());
    let is_url = scheme > 0;
    let login = text[scheme..].rfind('@').map(|at| scheme + at);
    // Without a scheme, only a colon distinguishes a password from the name in a mail address.
    let login = login.filter(|at| is_url || text[..*at].contains(':'));
    let shown = login.map_or(scheme, |at| at);
    let query = text[shown..]
        .find('?')
        .filter(|_| is_url || login.is_some());
    let end = query.map_or(text.len(), |at| shown + at + 1);
    if login.is_none() && query.is_none() {
        return Cow::Borrowed(text);
    }
    let hidden = if login.is_some() { "..." } else { "" };
    let more = if query.is_some() { "..." } else { "" };
    format!("{}{hidden}{}{more}", &text[..scheme], &text[shown..end]).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_have_lines() {
        let findings = Findings::new(Path::new("x"), b"a\nbc\n\nd\n");
        let lines: Vec<_> = (0..=8).map(|at| findings.line_at(at)).collect();
        assert_eq!(lines, [1, 1, 2, 2, 2, 3, 4, 4, 4]);
        assert_eq!(findings.line_span(1), 0..1);
        assert_eq!(findings.line_span(2), 2..4);
        assert_eq!(findings.line_span(3), 5..5);
        assert_eq!(findings.line_span(4), 6..7);
        assert_eq!(Findings::new(Path::new("x"), b"").line_at(0), 1);
    }

    #[test]
    fn the_first_of_many_problems_are_reported_and_the_rest_counted() {
        let reported = |count| {
            let mut findings = Findings::new(Path::new("x"), b"");
            (1..=count).for_each(|line| findings.report(line, "is wrong".to_owned()));
            findings.conclude(()).expect_err("problems").0
        };
        assert_eq!(reported(100).len(), 100);
        let all = reported(100_000);
        assert_eq!(all.len(), 101);
        assert_eq!(all[99].to_string(), "x:100: is wrong");
        assert_eq!(
            all[100].to_string(),
            "x: 99900 more problems: correct these first"
        );
    }

    #[test]
    fn what_may_be_secret_in_a_url_is_not_shown() {
        for (text, shown) in [
            (
                "https://lists.example/ads.txt",
                "https://lists.example/ads.txt",
            ),
            ("https://me:pw@lists.example/", "https://...@lists.example/"),
            (
                "https://me:p/w?@x@lists.example",
                "https://...@lists.example",
            ),
            ("htps://me@lists.example", "htps://...@lists.example"),
            ("me:pw@lists.example", "...@lists.example"),
            (
                "https://lists.example/a?token=x",
                "https://lists.example/a?...",
            ),
            ("https://me:pw@x/a?b=c@d", "https://...@d"),
            ("legal@isp.example", "legal@isp.example"),
            ("192.0.2.1@53", "192.0.2.1@53"),
            ("why?", "why?"),
            ("é@", "é@"),
        ] {
            assert_eq!(quote(text), format!("{shown:?}"));
        }
    }

    #[test]
    fn long_and_strange_values_are_shown_short_and_escaped() {
        assert_eq!(quote("a\u{1b}[m"), r#""a\u{1b}[m""#);
        assert_eq!(quote(&"é".repeat(61)), format!("{:?}...", "é".repeat(60)));
    }
}
