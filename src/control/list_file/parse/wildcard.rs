//! Parses the `wildcard` format, the lists of dnscrypt-proxy: `*.x` and `x` are x with all names below it, `=x` is x alone.

use crate::control::list_file::parse::bad::Bad;
use crate::control::list_file::parse::tally::LineTally;
use crate::names::typed;
use crate::policy::rule::Scope;
use crate::wire::name::Name;

/// Parses a line that is not blank, without its comment and outer whitespace. `name` is a buffer.
pub(super) fn parse_line(
    line: &[u8],
    name: &mut Name,
    mut emit: impl FnMut(&Name, Scope),
) -> Result<LineTally, Bad> {
    let (text, scope) = match line {
        [b'=', text @ ..] => (text, Scope::Exact),
        [b'*', b'.', text @ ..] | [b'.', text @ ..] | text => (text, Scope::Subtree),
    };
    if typed::scoped(text, name)?.is_some() {
        return Err(Bad::TwoScopes);
    }
    if name.label_count() == 0 {
        return Err(Bad::Root);
    }
    emit(name, scope);
    Ok(LineTally::rule())
}
