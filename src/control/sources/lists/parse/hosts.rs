//! Owns the `hosts` format: an address, then the names that a hosts file would give it.
//! The address does not matter. Every valid name is a rule, except those of the machine itself.

use super::bad::Bad;
use super::tally::Gain;
use crate::names::typed;
use crate::names::typed::Mistyped;
use crate::policy::rule::Scope;
use crate::wire::name::Name;

/// Names that hosts files define for the machine they lie on; no list means to block them.
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

/// Reads a line that holds something, its comment and outer whitespace cut off. What `name` is
/// does not matter. An invalid name does not affect the others on its line.
pub(super) fn read(
    line: &[u8],
    bare: Scope,
    name: &mut Name,
    mut emit: impl FnMut(&Name, Scope),
) -> Result<Gain, Bad> {
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
    let mut gain = Gain::default();
    for field in fields {
        match host(field, name) {
            Ok(true) => {
                emit(name, bare);
                gain.rules += 1;
            }
            Ok(false) => gain.skipped += 1,
            Err(problem) => gain.reject(field, problem),
        }
    }
    Ok(gain)
}

/// Reads the name in a field. Returns whether there is one: not where hosts files put a name that
/// is no target.
fn host(field: &[u8], name: &mut Name) -> Result<bool, Bad> {
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
        // Known lists hold `0.0.0.0 0.0.0.0`.
        Err(Mistyped::Address) => Ok(false),
        Err(problem) => Err(problem.into()),
    }
}
