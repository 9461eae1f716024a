//! Owns the `domains` format: one name a line, `.x` for a subtree, `*.x` for all below.
//! Refuses lines that hold more than a name, whatever other format they may be of.

use super::bad::Bad;
use super::tally::Gain;
use crate::names::typed;
use crate::names::typed::Mistyped;
use crate::policy::rule::Scope;
use crate::wire::name::Name;

/// Reads a line that holds something, its comment and outer whitespace cut off. What `name` is
/// does not matter.
pub(super) fn read(
    line: &[u8],
    bare: Scope,
    name: &mut Name,
    mut emit: impl FnMut(&Name, Scope),
) -> Result<Gain, Bad> {
    let scope = typed::scoped(line, name).map_err(|problem| match problem {
        Mistyped::Fields if typed::is_address(first_field(line)) => Bad::HostsLine,
        _ => problem.into(),
    })?;
    if name.label_count() == 0 {
        return Err(Bad::Root);
    }
    emit(name, scope.unwrap_or(bare));
    Ok(Gain {
        rules: 1,
        ..Gain::default()
    })
}

fn first_field(line: &[u8]) -> &[u8] {
    line.split(u8::is_ascii_whitespace).next().unwrap_or(line)
}
