//! Owns where lines end and where comments begin.
//! Refuses to know what a line means.

/// The lines of a file, trimmed of whitespace, each with its number (1 is the first).
///
/// LF, CRLF and a lone CR end a line, the last one needs no end, and a UTF-8 byte order mark at the
/// file's start belongs to no line.
pub(super) fn numbered(bytes: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    let mut rest = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let mut number = 0_u32;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest
            .iter()
            .position(|&octet| matches!(octet, b'\n' | b'\r'));
        let line = &rest[..end.unwrap_or(rest.len())];
        rest = match &rest[line.len()..] {
            [b'\r', b'\n', tail @ ..] | [_, tail @ ..] => tail,
            [] => &[],
        };
        number = number.saturating_add(1);
        Some((number, line.trim_ascii()))
    })
}

/// What stands before a comment that starts at any `#`, as hosts(5) has it.
pub(super) fn before_hash(line: &[u8]) -> &[u8] {
    let end = line.iter().position(|&octet| octet == b'#');
    line[..end.unwrap_or(line.len())].trim_ascii_end()
}

/// What stands before a comment that starts at a `#` at the line's start or after whitespace. A `#`
/// within a word is part of it: cutting there would make a rule of a name that nobody wrote.
pub(super) fn before_spaced_hash(line: &[u8]) -> &[u8] {
    let mut after_space = true;
    let end = line.iter().position(|&octet| {
        let found = octet == b'#' && after_space;
        after_space = octet.is_ascii_whitespace();
        found
    });
    line[..end.unwrap_or(line.len())].trim_ascii_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<(u32, &str)> {
        numbered(text.as_bytes())
            .map(|(number, line)| (number, std::str::from_utf8(line).expect("UTF-8")))
            .collect()
    }

    #[test]
    fn lf_crlf_lone_cr_and_the_end_of_the_file_end_a_line() {
        let expected = [(1, "a"), (2, "b"), (3, "c"), (4, ""), (5, "d")];
        assert_eq!(lines("a\nb\r\nc\r\rd"), expected);
        assert_eq!(lines("a\nb\r\nc\r\rd\n"), expected);
        assert_eq!(lines(""), []);
        assert_eq!(lines("\n"), [(1, "")]);
    }

    #[test]
    fn a_byte_order_mark_and_whitespace_around_a_line_vanish() {
        assert_eq!(lines("\u{FEFF} a\t\n\tb c \n"), [(1, "a"), (2, "b c")]);
        assert_eq!(lines("\u{FEFF}"), []);
    }

    #[test]
    fn comments_are_cut_where_their_format_says() {
        for (line, spaced, any) in [
            ("# a", "", ""),
            ("a # b # c", "a", "a"),
            ("a\t#b", "a", "a"),
            ("a#b", "a#b", "a"),
            ("a#b #c", "a#b", "a"),
            ("", "", ""),
        ] {
            assert_eq!(
                before_spaced_hash(line.as_bytes()),
                spaced.as_bytes(),
                "{line:?}"
            );
            assert_eq!(before_hash(line.as_bytes()), any.as_bytes(), "{line:?}");
        }
    }
}
