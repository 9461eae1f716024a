//! Parses the `hosts` format: an address, then names. Every valid name becomes a rule, except names of the machine
//! itself, such as `localhost`. The address is ignored.

use crate::control::list_file::parse::bad::Bad;
use crate::control::list_file::parse::tally::LineTally;
use crate::names::typed;
use crate::names::typed::Mistyped;
use crate::policy::rule::Scope;
use crate::wire::name::Name;

/// Names that hosts files define for their machine. Lists that were copied from hosts files contain these names, but
/// are not meant to block them.
const LOCAL: [&str; 16] = [
    "localhost",
    "localhost.localdomain",
    "localhost4",
    "localhost4.localdomain4",
    "localhost6",
    "localhost6.localdomain6",
    "local",
    "localdomain",
    "broadcasthost",
    "ip6-localhost",
    "ip6-loopback",
    "ip6-localnet",
    "ip6-mcastprefix",
    "ip6-allnodes",
    "ip6-allrouters",
    "ip6-allhosts",
];

/// Parses a line that is not blank, without its comment and outer whitespace. `name` is a buffer. An invalid name does
/// not affect the others on its line.
pub(super) fn parse_line(
    line: &[u8],
    bare: Scope,
    name: &mut Name,
    mut emit: impl FnMut(&Name, Scope),
) -> Result<LineTally, Bad> {
    let mut fields = line
        .split(u8::is_ascii_whitespace)
        .filter(|field| !field.is_empty());
    if !fields.next().is_some_and(typed::is_address) {
        let is_name = typed::scoped(line, name).is_ok();
        return Err(if is_name {
            Bad::NoAddress
        } else {
            Bad::Unaddressed
        });
    }
    let mut fields = fields.peekable();
    if fields.peek().is_none() {
        return Err(Bad::NoName);
    }
    let mut line_tally = LineTally::default();
    for field in fields {
        match parse_host(field, name) {
            Ok(true) => {
                emit(name, bare);
                line_tally.rules += 1;
            }
            Ok(false) => line_tally.skipped += 1,
            Err(problem) => line_tally.reject(field, problem),
        }
    }
    Ok(line_tally)
}

/// Parses the name in a field. Returns whether it becomes a rule: names of the machine itself and addresses don't.
pub(super) fn parse_host(field: &[u8], name: &mut Name) -> Result<bool, Bad> {
    let absolute = field.strip_suffix(b".").unwrap_or(field);
    if LOCAL
        .iter()
        .any(|local| absolute.eq_ignore_ascii_case(local.as_bytes()))
    {
        return Ok(false);
    }
    match typed::scoped(field, name) {
        Ok(Some(_)) => Err(Bad::Scoped),
        Ok(None) if name.label_count() == 0 => Err(Bad::Root),
        Ok(None) => Ok(true),
        // Some well-known lists have the line `0.0.0.0 0.0.0.0`.
        Err(Mistyped::Address) => Ok(false),
        Err(problem) => Err(problem.into()),
    }
}
