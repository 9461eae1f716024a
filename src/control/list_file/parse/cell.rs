//! Parses the names in the fields of tables and of JSON.

use crate::control::list_file::parse::bad::Bad;
use crate::control::list_file::parse::rule::{ParsedRule, ParsedTrigger};
use crate::control::list_file::parse::tally::LineTally;
use crate::names::typed;
use crate::policy::rule::Scope;
use crate::wire::name::Name;

/// Parses a field that has one name, or none. `name` is a buffer.
pub(super) fn parse_cell(
    field: &[u8],
    bare: Scope,
    line: u32,
    name: &mut Name,
    rule: &mut impl FnMut(ParsedRule<'_>),
) -> Result<LineTally, Bad> {
    let field = field.trim_ascii();
    if field.is_empty() {
        return Ok(LineTally::skipped());
    }
    let scope = typed::scoped(field, name)?.unwrap_or(bare);
    if name.label_count() == 0 {
        return Err(Bad::Root);
    }
    rule(ParsedRule {
        trigger: ParsedTrigger::Name(name, scope),
        effect: None,
        line,
    });
    Ok(LineTally::rule())
}
