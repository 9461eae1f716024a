//! Parses a TOML text, and continues after syntax errors.

use std::ops::Range;

use toml::de::{DeTable, DeValue, Error};

use super::findings::Findings;

/// The maximum number of syntax errors that are reported. Each costs another parse, and a file with more is probably
/// not TOML.
const LIMIT: usize = 20;

/// Parses `text`, reports each syntax error, and passes the table to `read`. `findings` must be created from the same
/// text.
///
/// The parser continues after an error, but an array without an end includes the rest of the file, and a key without a
/// value ends parsing. Therefore only the first error is reported, its lines are replaced by spaces, and the text is
/// parsed again, until there are no errors. Thus, errors that only follow from others are not reported.
pub(super) fn parse<T>(
    text: &str,
    findings: &mut Findings,
    read: impl FnOnce(DeTable<'_>, &mut Findings) -> T,
) -> T {
    let mut text = text.to_owned();
    for _ in 0..LIMIT {
        let (table, errors) = DeTable::parse_recoverable(&text);
        let table = table.into_inner();
        let Some(first) = errors
            .iter()
            .filter(|e| !is_duplicate(e))
            .min_by_key(|e| start(e))
        else {
            for error in &errors {
                let key = &text[error.span().unwrap_or_default()];
                findings.report(
                    findings.line_at(start(error)),
                    format!("duplicate key `{key}`: keep one of the two"),
                );
            }
            return read(table, findings);
        };
        let damage = Damage::new(start(first), &table, &errors, &text, findings);
        let message = damage.message.unwrap_or(first.message());
        findings.report(damage.line, format!("not TOML: {message}"));
        let header = (1..=damage.lost.start)
            .rev()
            .find(|&line| is_header(&text, line, findings));
        // Without a header, the error is at the top level, which starts on line 1.
        findings.damaged.push(header.unwrap_or(1));
        text = blank(&text, damage.lost, findings);
    }
    read(DeTable::new(), findings)
}

/// The line to report an error on, and the lines that are discarded because of it.
struct Damage<'a> {
    line: u32,
    lost: Range<u32>,
    /// A better explanation than the error's own.
    message: Option<&'a str>,
}

impl<'a> Damage<'a> {
    /// The damage of the error at `at`, the first of `errors`.
    fn new(
        at: usize,
        table: &DeTable<'_>,
        errors: &'a [Error],
        text: &str,
        findings: &Findings,
    ) -> Self {
        let line = findings.line_at(at);
        let plain = |lost| Self {
            line,
            lost,
            message: None,
        };
        let Some(value) = enclosing(table, at) else {
            // If the header of a section is invalid, all lines of the section are discarded. Otherwise its keys would
            // belong to the previous section.
            let mut next = line + 1;
            if is_header(text, line, findings) {
                let last = findings.line_at(text.len());
                while next <= last && !is_header(text, next, findings) {
                    next += 1;
                }
            }
            return plain(line..next);
        };
        let (top, end) = (findings.line_at(value.start), findings.line_at(value.end));
        let mut messages = errors.iter().map(Error::message);
        match messages.find(|message| message.starts_with("unclosed array,")) {
            // An unclosed array extends to the end of the file. Its lines are lost up to the first item with an error.
            Some(unclosed) if value.end >= text.trim_end().len() => Self {
                line: top,
                lost: top..line.max(top + 1),
                message: Some(unclosed),
            },
            _ => plain(top..end + 1),
        }
    }
}

fn is_header(text: &str, line: u32, findings: &Findings) -> bool {
    text[findings.line_span(line)].trim_start().starts_with('[')
}

/// The range of the innermost key and value around an offset.
fn enclosing(table: &DeTable<'_>, at: usize) -> Option<Range<usize>> {
    let mut tables = vec![table];
    while let Some(table) = tables.pop() {
        for (key, value) in table {
            match value.get_ref() {
                DeValue::Table(inner) => tables.push(inner),
                DeValue::Array(items) if items.iter().any(|item| item.get_ref().is_table()) => {
                    tables.extend(items.iter().filter_map(|item| item.get_ref().as_table()));
                }
                _ => {
                    let extent = key.span().start..value.span().end;
                    if extent.start <= at && at <= extent.end {
                        return Some(extent);
                    }
                }
            }
        }
    }
    None
}

/// Replaces lines by spaces, so that all offsets and line numbers stay the same.
fn blank(text: &str, lines: Range<u32>, findings: &Findings) -> String {
    let mut blanked = String::with_capacity(text.len());
    for line in lines {
        let span = findings.line_span(line);
        blanked.push_str(&text[blanked.len()..span.start]);
        blanked.extend(std::iter::repeat_n(' ', span.len()));
    }
    blanked.push_str(&text[blanked.len()..]);
    blanked
}

fn is_duplicate(error: &Error) -> bool {
    error.message() == "duplicate key"
}

fn start(error: &Error) -> usize {
    error.span().unwrap_or_default().start
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The parsed keys, and the problems.
    fn found(text: &str) -> (Vec<String>, Vec<(u32, String)>) {
        let mut findings = Findings::new(Path::new("x"), text.as_bytes());
        let keys = parse(text, &mut findings, |table, _| {
            table.keys().map(|key| key.get_ref().to_string()).collect()
        });
        let problems = findings.conclude(()).map_or_else(|p| p.0, |()| Vec::new());
        let problems = problems
            .into_iter()
            .map(|p| (p.line.unwrap_or(0), p.message));
        (keys, problems.collect())
    }

    #[test]
    fn each_syntax_error_is_reported_once_on_its_line_and_the_rest_is_kept() {
        for (text, lines, kept) in [
            ("a = 1\nb 2\nc = 3\n", &[2][..], &["a", "c"][..]),
            ("a = \"x\nb = 2\n", &[1], &["b"]),
            ("a = yes\nb = 2\nc = 1 2", &[1, 3], &["b"]),
            ("a = [\"x\", \"y\"\nb = 2\n[c]\nd = 3\n", &[1], &["b", "c"]),
            ("a = [\n  \"x\",\n\n[c]\nd = 3\n", &[1], &["c"]),
            ("a = [\n  \"x\"\n  \"y\",\n]\nb = 2\n", &[3], &["b"]),
            ("a = [\"x\"", &[1], &[]),
            ("[a\nb = 2\n[c]\nd = 3\n", &[1], &["c"]),
            ("[[a]\nb = 2\n[[a]]\nb = 3\n", &[1], &["a"]),
            ("a = 1\na = 2\nb =\nb = 3\n", &[2, 3], &["a", "b"]),
            ("a = { b = 1, c }\nd = 1\n", &[1], &["d"]),
            ("a = \"\"\"\nb = 1\n", &[2], &[]),
        ] {
            let (keys, problems) = found(text);
            let at: Vec<_> = problems.iter().map(|(line, _)| *line).collect();
            assert_eq!(at, lines, "{text:?}: {problems:?}");
            assert_eq!(keys, kept, "{text:?}");
        }
    }

    #[test]
    fn parsing_a_file_that_is_not_toml_ends_after_a_few_errors() {
        let (keys, problems) = found(&"]=[\n".repeat(1000));
        assert!(keys.is_empty());
        assert_eq!(problems.len(), LIMIT);
    }
}
