//! Public suffixes: names directly below which the public can register names (publicsuffix.org).

use std::iter::once;

use psl::{List, Psl, Type};

use crate::wire::name::Name;

/// A label that no entry of the list has. It matches only wildcard entries.
const ANY: &[u8] = b"\0";

/// The public suffixes that a rule covers. The rule matches a name and all names below that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Covered {
    /// The name is a top-level domain, on the list or not.
    TopLevel,
    /// The name is a public suffix.
    Itself,
    /// All names one label below the name are public suffixes.
    Children,
}

/// The section of the Public Suffix List that a suffix is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Delegated by ICANN or a country.
    Icann,
    /// Offered by the owner of a domain, such as a web host.
    Private,
}

/// The public suffixes that a rule covers; the rule matches `name` and all names below it. `None` if there are none,
/// or if `name` is the root. Never allocates.
pub fn covered(name: &Name) -> Option<(Covered, Section)> {
    let labels = name.label_count();
    match labels {
        0 => return None,
        1 => return Some((Covered::TopLevel, Section::Icann)),
        _ => {}
    }
    let (len, section) = suffix_of_any_label(name, labels)?;
    // The length as text: without the length byte of the first label, and without the root.
    let size = name.wire().len() - 2;
    if len == size + ANY.len() + 1 {
        return Some((Covered::Children, section));
    }
    if len != size {
        return None;
    }
    // A name that is a suffix only by a wildcard does not count. By the entry `*.compute-1.amazonaws.com`, for example,
    // each name directly below `compute-1.amazonaws.com` is a suffix, but it belongs to a single host.
    let above = name.ancestor(labels - 1).len() - 2;
    match suffix_of_any_label(name, labels - 1) {
        Some((len, _)) if len == above + ANY.len() + 1 => None,
        _ => Some((Covered::Itself, section)),
    }
}

/// Prepends [`ANY`] to the last `labels` labels of a name. Returns the length of the public suffix of the result, and
/// the section of the list that has it; `None` if no entry of the list matches.
fn suffix_of_any_label(name: &Name, labels: usize) -> Option<(usize, Section)> {
    let labels = name.labels_from_root().take(labels);
    let found = List.find(labels.chain(once(ANY)));
    let section = match found.typ? {
        Type::Icann => Section::Icann,
        Type::Private => Section::Private,
    };
    Some((found.len, section))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_covers_suffixes_by_itself_or_by_a_wildcard_but_not_single_hosts() {
        for (text, expected) in [
            (".", None),
            ("com", Some((Covered::TopLevel, Section::Icann))),
            ("no-such-tld", Some((Covered::TopLevel, Section::Icann))),
            ("co.id", Some((Covered::Itself, Section::Icann))),
            ("duckdns.org", Some((Covered::Itself, Section::Private))),
            (
                "compute-1.amazonaws.com",
                Some((Covered::Children, Section::Private)),
            ),
            ("host.compute-1.amazonaws.com", None),
            ("example.com", None),
            ("www.example.co.id", None),
        ] {
            let name = Name::from_text(text).expect("a name");
            assert_eq!(covered(&name), expected, "{text}");
        }
    }
}
