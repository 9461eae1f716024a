//! The end of a help text, such as environment, signals and exit codes, as sections of a manual page.

use clap_mangen::roff::{Roff, bold, roman};

/// Adds a text of headings (`Signals:`), and below each an indented table of terms and their meanings.
pub(super) fn add(page: &mut Roff, text: &str) {
    for line in text.lines() {
        let content = line.trim();
        match line.len() - line.trim_start().len() {
            _ if content.is_empty() => {}
            0 => match content.strip_suffix(':') {
                Some(heading) => {
                    page.control("SH", [heading.to_uppercase().as_str()]);
                }
                None => {
                    page.control("PP", []);
                    page.text([roman(content)]);
                }
            },
            2 => {
                let (term, meaning) = content.split_once("  ").unwrap_or((content, ""));
                page.control("TP", []);
                page.text([bold(term)]);
                page.text([roman(meaning.trim_start())]);
            }
            // The continuation of a meaning.
            _ => {
                page.text([roman(content)]);
            }
        }
    }
}
