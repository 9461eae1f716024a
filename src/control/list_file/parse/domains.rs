//! Parses the `domains` format: one name per line, `.x` for a subtree, `*.x` for all names below `x`.

use crate::control::list_file::parse::bad::Bad;
use crate::control::list_file::parse::tally::LineTally;
use crate::names::typed;
use crate::names::typed::Mistyped;
use crate::policy::rule::Scope;
use crate::wire::name::Name;

/// Parses a line that is not blank, without its comment and outer whitespace. `name` is a buffer.
pub(super) fn parse_line(
    line: &[u8],
    bare: Scope,
    name: &mut Name,
    mut emit: impl FnMut(&Name, Scope),
) -> Result<LineTally, Bad> {
    let scope = typed::scoped(line, name).map_err(|problem| match problem {
        Mistyped::Fields if typed::is_address(first_field(line)) => Bad::HostsLine,
        _ => problem.into(),
    })?;
    if name.label_count() == 0 {
        return Err(Bad::Root);
    }
    emit(name, scope.unwrap_or(bare));
    Ok(LineTally::rule())
}

fn first_field(line: &[u8]) -> &[u8] {
    line.split(u8::is_ascii_whitespace).next().unwrap_or(line)
}
