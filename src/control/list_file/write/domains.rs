//! Writes the `domains` format: `x`, `.x` and `*.x`.

use crate::control::list_file::write::names::push_escaped;
use crate::control::list_file::write::reason::Reason;
use crate::control::list_file::write::rule::Rule;
use crate::policy::rule::Scope;

/// Appends the line of a rule.
pub(super) fn write(rule: &Rule<'_>, text: &mut String) -> Result<(), Reason> {
    rule.does_as_list()?;
    let (name, scope) = rule.name()?;
    text.push_str(match scope {
        Scope::Exact => "",
        Scope::Subtree => ".",
        Scope::Below => "*.",
    });
    push_escaped(name, text);
    text.push('\n');
    Ok(())
}
