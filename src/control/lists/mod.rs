//! Owns the way from a list file's bytes to rules, and the account of what was wrong on the way.
//! Refuses to open files, to keep rules, and to judge whether a list as a whole may be used.

mod bad;
mod domains;
mod hosts;
mod lines;
mod tally;
mod typed;

#[cfg(test)]
mod tests;

use crate::config::Format;
use crate::policy::rule::Scope;
use crate::wire::name::Name;

pub use bad::{Bad, BadLine};
pub use tally::Tally;
pub use typed::one;

/// Octets that a line may have, its comment not counted. Far beyond any name (at most 1,016 octets,
/// if each is written as `\DDD`), so that a file without line ends is one bad line.
const MAX_LINE: usize = 4096;

/// Reads a list and hands each rule to `rule`, in the file's order, with its line (1 is the first).
///
/// A name without a prefix gets the scope `bare`. A bad line gives no rule at all, not even for the
/// good names on it, and stops nothing. Duplicates are handed on as they come. Names of plain ASCII
/// are read without allocating.
pub fn read(
    bytes: &[u8],
    format: Format,
    bare: Scope,
    mut rule: impl FnMut(&Name, Scope, u32),
) -> Tally {
    let mut tally = Tally::default();
    for (number, line) in lines::numbered(bytes) {
        let content = match format {
            Format::Domains => lines::before_spaced_hash(line),
            Format::Hosts => lines::before_hash(line),
        };
        if content.is_empty() {
            tally.comments += u32::from(!line.is_empty());
            continue;
        }
        tally.lines += 1;
        let emit = |name: &Name, scope| rule(name, scope, number);
        let outcome = match format {
            _ if content.len() > MAX_LINE => Err(Bad::LongLine),
            Format::Domains => domains::read(content, bare, emit),
            Format::Hosts => hosts::read(content, bare, emit),
        };
        match outcome {
            Ok(gain) => tally.add(gain),
            Err(problem) => tally.reject(number, content, problem),
        }
    }
    tally
}
