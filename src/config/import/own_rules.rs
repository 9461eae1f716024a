//! The rules that a program has in its own configuration, as the text of a list.

use std::fmt::Write;

use toml_edit::Value;

use super::draft::{Draft, SourceLine};
use crate::names::typed;
use crate::policy::patterns::PatternSet;
use crate::wire::name::Name;

/// Rules of one kind, block or allow.
#[derive(Default)]
pub(super) struct OwnRules {
    names: Vec<OwnName>,
    /// Regular expressions.
    patterns: Vec<String>,
    first: Option<SourceLine>,
}

struct OwnName {
    name: Name,
    is_subtree: bool,
}

impl OwnRules {
    /// Adds a name, with all names below it if `is_subtree`.
    pub(super) fn name(
        &mut self,
        text: &str,
        is_subtree: bool,
        line: &SourceLine,
        draft: &mut Draft,
    ) {
        match typed::one(text) {
            Ok((name, None)) if name.label_count() > 0 => {
                self.first.get_or_insert_with(|| line.clone());
                self.names.push(OwnName { name, is_subtree });
            }
            Ok(_) => draft.leave(line, text, "not a name of this rule's kind"),
            Err(error) => draft.leave(line, text, error.to_string()),
        }
    }

    /// Adds a regular expression, without slashes around it.
    pub(super) fn pattern(&mut self, text: &str, line: &SourceLine, draft: &mut Draft) {
        match PatternSet::new([text]) {
            Ok(_) => {
                self.first.get_or_insert_with(|| line.clone());
                self.patterns.push(text.to_owned());
            }
            Err(error) => {
                let reason = format!(
                    "not a regular expression that a list can have: {}",
                    error.problem
                );
                draft.leave(line, format!("/{text}/"), reason);
            }
        }
    }

    /// Adds the rules as a list to the draft. Without patterns it has the format `domains`.
    pub(super) fn finish(self, title: &str, is_allow: bool, draft: &mut Draft) {
        let Some(line) = self.first else {
            return;
        };
        let has_patterns = !self.patterns.is_empty();
        let mut text = String::new();
        for OwnName { name, is_subtree } in &self.names {
            // Writing to memory does not fail.
            let _ = match (has_patterns, is_subtree) {
                (false, false) => writeln!(text, "{name}"),
                (false, true) => writeln!(text, ".{name}"),
                (true, false) => writeln!(text, "|{name}^"),
                (true, true) => writeln!(text, "||{name}^"),
            };
        }
        for pattern in &self.patterns {
            let _ = writeln!(text, "/{pattern}/");
        }
        let mut keys: Vec<(&str, Value)> = Vec::new();
        if has_patterns {
            keys.push(("format", "adblock".into()));
        }
        match is_allow {
            true => keys.push(("kind", "allow".into())),
            false => keys.push(("guards", "warn".into())),
        }
        draft.file_list(title, (format!("{title}.txt"), text), keys, &line);
    }
}
