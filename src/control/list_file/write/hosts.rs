//! Writes the `hosts` format. Other programs understand no escapes in it, so names that need some are left out.

use crate::control::list_file::write::names::push_plain;
use crate::control::list_file::write::reason::Reason;
use crate::control::list_file::write::rule::Rule;
use crate::policy::rule::Scope;

/// Appends the line of a rule.
pub(super) fn write(rule: &Rule<'_>, text: &mut String) -> Result<(), Reason> {
    rule.does_as_list()?;
    let (name, scope) = rule.name()?;
    match scope {
        Scope::Exact if name.is_plain() => {}
        Scope::Exact => return Err(Reason::Name),
        Scope::Subtree => return Err(Reason::Subtree),
        Scope::Below => return Err(Reason::Below),
    }
    text.push_str("0.0.0.0 ");
    push_plain(name, text);
    text.push('\n');
    Ok(())
}
