//! Characters that control a terminal or a log instead of being visible.

/// Whether a character moves the cursor, starts an escape sequence, starts a line, changes the direction of
/// text or is invisible. The zero-width joiner and non-joiner are exempt, because Persian and Hindi need them.
pub fn steers(c: char) -> bool {
    c.is_control() || (is_format(c) && !matches!(c, '\u{200C}' | '\u{200D}'))
}

/// Whether a character changes the direction of text or is invisible: most of Unicode's general category Cf,
/// and the line separators. Visible characters of that category, such as Arabic number signs, are exempt.
pub(super) fn is_format(c: char) -> bool {
    matches!(c,
        '\u{AD}' | '\u{61C}' | '\u{180E}'
        | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}'
        | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}')
}
