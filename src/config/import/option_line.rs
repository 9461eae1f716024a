//! Splits lines of the form `option=value`.

/// A line without its comment: from a `#` at its start or behind whitespace, outside of quotes.
pub(super) fn without_comment(line: &str) -> &str {
    let (mut quote, mut before) = (None, ' ');
    for (at, c) in line.char_indices() {
        match c {
            '"' | '\'' if quote.is_none() && (c == '"' || before.is_whitespace()) => {
                quote = Some(c);
            }
            _ if quote == Some(c) => quote = None,
            '#' if quote.is_none() && before.is_whitespace() => return line[..at].trim(),
            _ => {}
        }
        before = c;
    }
    line.trim()
}

/// The option of a line and its value, which is empty if the option has none; `None` if the line is blank.
pub(super) fn option(line: &str) -> Option<(&str, &str)> {
    let line = without_comment(line);
    let (option, value) = line.split_once('=').unwrap_or((line, ""));
    let option = option.trim();
    (!option.is_empty()).then_some((option, unquoted(value)))
}

/// A value without quotes around it.
pub(super) fn unquoted(value: &str) -> &str {
    let value = value.trim();
    let inner = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'));
    inner.unwrap_or(value)
}
