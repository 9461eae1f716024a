//! Owns what no list's rule may cover, and finds out whether a rule does.
//! Refuses to read files, and to decide what becomes of such a rule.

use std::collections::HashSet;
use std::fmt;

use foldhash::HashMap;
use serde::{Deserialize, Serialize};

use super::suppressed::KEPT;
use crate::config::List;
use crate::config::guard::PublicSuffixes;
pub use crate::config::guard::{Protection, Protections};
use crate::names::public_suffix::{Covered, Section, covered};
use crate::policy::rule::{Kind, Scope};
use crate::wire::name::Name;

/// A name that no rule may reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProtectedName {
    /// What it is.
    pub protection: Protection,
    /// Which names it speaks of.
    pub scope: Scope,
    /// Its presentation form: names hold octets that JSON has not.
    pub name: String,
}

/// All that no rule may cover, as one process tells it another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProtectedList {
    /// The names; of several that a rule reaches the first one is told.
    pub names: Vec<ProtectedName>,
    /// Which public suffixes count.
    pub suffixes: PublicSuffixes,
    /// Names whose rules count all the same, in presentation form.
    pub release: Vec<String>,
}

/// How the rules of a list are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guarded {
    /// What they do. All rules of an allow list count.
    pub kind: Kind,
    /// The guards that leave none of them out, and only report it.
    pub warn: Protections,
    /// How many of those that are left out, and of those that are reported, are kept with their text.
    pub kept: usize,
    /// They are of a last line that has no end, so a name may be cut off: those that would be reported are left
    /// out, too, whatever the list.
    pub cut: bool,
}

impl From<Kind> for Guarded {
    fn from(kind: Kind) -> Self {
        Self {
            kind,
            warn: Protections::NONE,
            kept: KEPT,
            cut: false,
        }
    }
}

impl From<&List> for Guarded {
    fn from(list: &List) -> Self {
        Self {
            warn: list.warn,
            ..list.source.kind.into()
        }
    }
}

/// No name.
const NONE: u32 = u32::MAX;

/// What is protected on a name and beneath it: for each the first one in the list.
#[derive(Clone, Copy, Default)]
struct Node {
    exact: Firsts,
    subtree: Firsts,
    below: Firsts,
    beneath: Firsts,
}

/// The protected names that names have, each with the place of its first one.
#[derive(Clone, Copy)]
struct Firsts([u32; NAMED.len()]);

const NAMED: [Protection; 3] = [Protection::Own, Protection::Protected, Protection::Popular];

impl Default for Firsts {
    fn default() -> Self {
        Self([NONE; NAMED.len()])
    }
}

impl Firsts {
    fn note(&mut self, protection: Protection, number: u32) {
        let firsts = NAMED.iter().zip(&mut self.0);
        for (_, first) in firsts.filter(|(named, _)| **named == protection) {
            *first = number.min(*first);
        }
    }

    /// The first one of all but those protected names.
    fn without(self, protected_names: Protections) -> u32 {
        let firsts = NAMED.iter().zip(self.0);
        let counted = firsts.filter(|(protection, _)| !protected_names.has(**protection));
        counted.map(|(_, first)| first).min().unwrap_or(NONE)
    }
}

/// All that no rule may cover, ready to be asked for millions of rules: one look into a table for
/// most of them.
pub struct ProtectedNames {
    list: ProtectedList,
    digest: String,
    /// By the wire form of names that are protected, and of all above them.
    nodes: HashMap<Box<[u8]>, Node>,
    /// A bit for each number of labels that a name with a zone beneath it has.
    zones: u128,
    /// In wire form.
    release: HashSet<Box<[u8]>>,
}

/// What a rule would cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cover<'w> {
    /// Nothing: its name is a number.
    Number,
    /// The top-level domain that it is on.
    TopLevel,
    /// The public suffix that it is on.
    Suffix,
    /// All public suffixes right under its name.
    Suffixes,
    /// This name.
    Name(&'w ProtectedName),
}

impl Cover<'_> {
    /// What kind of name that is.
    pub fn protection(self) -> Protection {
        match self {
            Self::Number => Protection::Number,
            Self::TopLevel => Protection::TopLevel,
            Self::Suffix | Self::Suffixes => Protection::PublicSuffix,
            Self::Name(protected) => protected.protection,
        }
    }

    /// What a rule on `owner` does to it, as the end of a sentence.
    pub fn told(self, owner: &Name) -> String {
        let ProtectedName {
            protection,
            scope,
            name,
        } = match self {
            Self::Number => return "is a number or an address, which no name ends in".to_owned(),
            Self::TopLevel => return format!("covers the top-level domain {owner}"),
            Self::Suffix => return format!("covers the public suffix {owner}"),
            Self::Suffixes => return format!("covers the public suffixes right under {owner}"),
            Self::Name(protected) => protected,
        };
        let sign = scope.sign();
        match protection {
            Protection::Own => format!("covers {name}, a name of this server"),
            Protection::Popular => format!("covers {name}, which is popular"),
            _ => format!("covers {sign}{name}, which is protected"),
        }
    }
}

impl Default for ProtectedNames {
    fn default() -> Self {
        Self::new(ProtectedList::default())
    }
}

impl fmt::Debug for ProtectedNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ProtectedNames({} names, {})",
            self.list.names.len(),
            self.digest
        )
    }
}

impl ProtectedNames {
    /// Of a list of names.
    pub fn new(list: ProtectedList) -> Self {
        let json = serde_json::to_vec(&list).expect("strings have a JSON form");
        let mut protected_names = Self {
            digest: blake3::hash(&json).to_string(),
            list: ProtectedList::default(),
            nodes: HashMap::default(),
            zones: 0,
            // Whoever makes a list takes texts of names, and nobody else is listened to.
            release: list.release.iter().filter_map(|text| wire(text)).collect(),
        };
        for (number, protected) in list.names.iter().enumerate() {
            if let Ok(name) = Name::from_text(&protected.name) {
                protected_names.insert(&name, protected, number as u32);
            }
        }
        protected_names.list = list;
        protected_names
    }

    fn insert(&mut self, name: &Name, protected: &ProtectedName, number: u32) {
        let ProtectedName {
            protection, scope, ..
        } = *protected;
        for labels in 0..name.label_count() {
            let node = self.nodes.entry(name.ancestor(labels).into()).or_default();
            node.beneath.note(protection, number);
        }
        let node = self.nodes.entry(name.wire().into()).or_default();
        let first = match scope {
            Scope::Exact => &mut node.exact,
            Scope::Subtree => &mut node.subtree,
            Scope::Below => &mut node.below,
        };
        first.note(protection, number);
        if scope != Scope::Exact {
            self.zones |= 1 << name.label_count().min(127);
        }
    }

    /// Identifies what allow lists are checked against: which public suffixes, and the releases.
    pub fn allow_digest(&self) -> String {
        let ProtectedList {
            suffixes, release, ..
        } = &self.list;
        let json = serde_json::to_vec(&("allow", suffixes, release));
        let json = json.expect("strings have a JSON form");
        blake3::hash(&json).to_string()
    }

    /// What they were made of.
    pub fn list(&self) -> &ProtectedList {
        &self.list
    }

    /// What tells them from others.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Whether rules on that name count, whatever they cover.
    pub fn releases(&self, name: &Name) -> bool {
        self.release.contains(name.wire())
    }

    /// What a rule of a list of that kind covers and should not, and whether it counts all the same:
    /// all rules of an allow list do, and those that are only reported. Never allocates.
    pub fn check(
        &self,
        name: &Name,
        scope: Scope,
        list: impl Into<Guarded>,
    ) -> Option<(Cover<'_>, bool)> {
        let Guarded { kind, warn, .. } = list.into();
        let suffix = self.covered_suffix(name, scope);
        let held = |warn| match kind {
            Kind::Allow => None,
            _ => self.held(name, scope, suffix, warn),
        };
        if let Some(cover) = held(warn) {
            return Some((cover, false));
        }
        let warned = || held(Protections::NONE).filter(|_| !warn.is_empty());
        Some((warned().or_else(|| self.reported(kind, suffix))?, true))
    }

    fn held(
        &self,
        name: &Name,
        scope: Scope,
        suffix: Option<(Cover<'static>, Section)>,
        warn: Protections,
    ) -> Option<Cover<'_>> {
        if name.label_count() == 0 {
            return None;
        }
        let is_number = || name.label_from_root(0).iter().all(u8::is_ascii_digit);
        if !warn.has(Protection::Number) && is_number() {
            return Some(Cover::Number);
        }
        if let Some((cover, owner)) = suffix
            && (owner == Section::Icann || self.list.suffixes == PublicSuffixes::All)
            && !warn.has(cover.protection())
        {
            return Some(cover);
        }
        let first = self.first(name, scope, warn) as usize;
        self.list.names.get(first).map(Cover::Name)
    }

    /// The suffix, if a rule that covers it counts and is reported. An allow list that frees
    /// everything below one is reported in any case.
    fn reported(
        &self,
        kind: Kind,
        suffix: Option<(Cover<'static>, Section)>,
    ) -> Option<Cover<'static>> {
        let (cover, owner) = suffix?;
        let reported = match kind {
            Kind::Allow => true,
            _ => owner == Section::Private && self.list.suffixes == PublicSuffixes::Icann,
        };
        reported.then_some(cover)
    }

    fn covered_suffix(&self, name: &Name, scope: Scope) -> Option<(Cover<'static>, Section)> {
        let covers = scope != Scope::Exact && name.label_count() > 0;
        covers.then(|| self.suffix(name)).flatten()
    }

    /// The public suffixes that a rule covers, as far as they count, and their section of the list.
    fn suffix(&self, name: &Name) -> Option<(Cover<'static>, Section)> {
        if self.list.suffixes == PublicSuffixes::None && name.label_count() > 1 {
            return None;
        }
        let (found, section) = covered(name)?;
        let cover = match found {
            Covered::TopLevel => Cover::TopLevel,
            Covered::Itself => Cover::Suffix,
            Covered::Children => Cover::Suffixes,
        };
        Some((cover, section))
    }

    /// The first name of the list that a rule reaches, of all but those protected names.
    fn first(&self, name: &Name, scope: Scope, but: Protections) -> u32 {
        let mut first = NONE;
        if let Some(node) = self.nodes.get(name.wire()) {
            let at = node.subtree.without(but);
            let on = node.exact.without(but);
            let under = node.below.without(but).min(node.beneath.without(but));
            first = match scope {
                Scope::Exact => at.min(on),
                Scope::Subtree => at.min(on).min(under),
                Scope::Below => at.min(under),
            };
        }
        let mut above = self.zones & ((1 << name.label_count().min(127)) - 1);
        while above != 0 {
            let labels = above.trailing_zeros() as usize;
            above &= above - 1;
            if let Some(node) = self.nodes.get(name.ancestor(labels)) {
                let zones = [node.subtree, node.below].map(|zone| zone.without(but));
                first = zones.into_iter().fold(first, u32::min);
            }
        }
        first
    }
}

fn wire(text: &str) -> Option<Box<[u8]>> {
    Name::from_text(text).ok().map(|name| name.wire().into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Name {
        crate::names::typed::one(text).expect("a name").0
    }

    fn rule(text: &str) -> (Name, Scope) {
        let (name, scope) = crate::names::typed::one(text).expect("a name");
        (name, scope.unwrap_or(Scope::Exact))
    }

    fn protected_names(names: &[(Protection, &str)], suffixes: PublicSuffixes) -> ProtectedNames {
        let protected = |&(protection, text): &(Protection, &str)| {
            let (name, scope) = rule(text);
            ProtectedName {
                protection,
                scope,
                name: name.to_string(),
            }
        };
        ProtectedNames::new(ProtectedList {
            names: names.iter().map(protected).collect(),
            suffixes,
            release: Vec::new(),
        })
    }

    /// What a rule of a block list covers because of which it is left out.
    fn find<'w>(
        protected_names: &'w ProtectedNames,
        name: &Name,
        scope: Scope,
    ) -> Option<Cover<'w>> {
        let found = protected_names.check(name, scope, Kind::Block);
        found.filter(|(_, counts)| !counts).map(|(cover, _)| cover)
    }

    fn told(protected_names: &ProtectedNames, text: &str) -> Option<String> {
        let (name, scope) = rule(text);
        find(protected_names, &name, scope).map(|cover| cover.told(&name))
    }

    #[test]
    fn a_number_is_no_name_whatever_its_scope() {
        let protected_names = ProtectedNames::default();
        for text in ["999.1.1.1", ".1.2.3.4.5", "*.10.0", "7", "a.example.0"] {
            let (name, scope) = rule(text);
            assert_eq!(
                find(&protected_names, &name, scope),
                Some(Cover::Number),
                "{text}"
            );
        }
        for text in ["1.example", "a.b2", "4.3.2.1.in-addr.arpa"] {
            assert_eq!(told(&protected_names, text), None, "{text}");
        }
    }

    #[test]
    fn top_level_domains_and_public_suffixes_may_be_blocked_only_by_themselves() {
        let protected_names = ProtectedNames::default();
        for (text, told_of) in [
            ("com", "covers the top-level domain com"),
            ("no-such-tld", "covers the top-level domain no-such-tld"),
            ("co.id", "covers the public suffix co.id"),
            (
                "kawasaki.jp",
                "covers the public suffixes right under kawasaki.jp",
            ),
            ("公司.cn", "covers the public suffix xn--55qx5d.cn"),
            ("中国", "covers the top-level domain xn--fiqs8s"),
        ] {
            for sign in [".", "*."] {
                let found = told(&protected_names, &format!("{sign}{text}"));
                assert_eq!(found.as_deref(), Some(told_of), "{sign}{text}");
            }
            assert_eq!(told(&protected_names, text), None, "{text}");
        }
        for text in [
            ".example.co.id",
            ".www.ck",
            ".github.io",
            ".anything.ck",
            ".any.kawasaki.jp",
            ".ec2-192-0-2-1.compute-1.amazonaws.com",
            ".city.kawasaki.jp",
            ".me.github.io",
            ".example.no-such-tld",
            ".x.com",
        ] {
            assert_eq!(told(&protected_names, text), None, "{text}");
        }
    }

    #[test]
    fn which_public_suffixes_count_can_be_said() {
        let icann = protected_names(&[], PublicSuffixes::Icann);
        assert!(told(&icann, ".co.id").is_some() && told(&icann, ".github.io").is_none());
        let all = protected_names(&[], PublicSuffixes::All);
        assert!(told(&all, ".co.id").is_some() && told(&all, ".github.io").is_some());
        let none = protected_names(&[], PublicSuffixes::None);
        assert!(told(&none, ".co.id").is_none() && told(&none, ".id").is_some());
    }

    #[test]
    fn a_suffix_of_a_wildcard_never_leaves_a_rule_out() {
        let all = protected_names(&[], PublicSuffixes::All);
        for text in [
            ".ec2-192-0-2-1.compute-1.amazonaws.com",
            "*.host.compute.estate",
            ".anything.ck",
            ".any.kawasaki.jp",
        ] {
            let (name, scope) = rule(text);
            assert_eq!(told(&all, text), None, "{text}");
            assert_eq!(all.check(&name, scope, Kind::Block), None, "{text}");
        }
    }

    #[test]
    fn rules_that_count_although_they_cover_a_public_suffix_are_reported() {
        let warned = |protected_names: &ProtectedNames, text, kind| {
            let (name, scope) = rule(text);
            matches!(protected_names.check(&name, scope, kind), Some((_, true)))
        };
        let (block, allow) = (Kind::Block, Kind::Allow);
        for (suffixes, text, of_block, of_allow) in [
            (PublicSuffixes::Icann, ".duckdns.org", true, true),
            (PublicSuffixes::Icann, "*.web.app", true, true),
            (PublicSuffixes::Icann, ".net.id", false, true),
            (PublicSuffixes::Icann, ".id", false, true),
            (PublicSuffixes::Icann, "r2.dev", false, false),
            (PublicSuffixes::Icann, ".me.duckdns.org", false, false),
            (PublicSuffixes::All, ".r2.dev", false, true),
            (PublicSuffixes::None, ".r2.dev", false, false),
            (PublicSuffixes::None, ".net", false, true),
        ] {
            let protected_names = protected_names(&[], suffixes);
            assert_eq!(
                warned(&protected_names, text, block),
                of_block,
                "{text} blocked"
            );
            assert_eq!(
                warned(&protected_names, text, allow),
                of_allow,
                "{text} allowed"
            );
        }
    }

    #[test]
    fn a_rule_that_reaches_a_warded_name_is_found_with_the_name() {
        let protected_names = protected_names(
            &[
                (Protection::Own, "ns1.isp.example"),
                (Protection::Protected, ".bank.example"),
                (Protection::Protected, "*.gov.example"),
                (Protection::Popular, "www.big.example"),
            ],
            PublicSuffixes::All,
        );
        let own = "covers ns1.isp.example, a name of this server";
        let bank = "covers .bank.example, which is protected";
        let gov = "covers *.gov.example, which is protected";
        let big = "covers www.big.example, which is popular";
        for (text, expected) in [
            ("ns1.isp.example", Some(own)),
            (".isp.example", Some(own)),
            ("*.isp.example", Some(own)),
            ("isp.example", None),
            ("*.ns1.isp.example", None),
            ("a.ns1.isp.example", None),
            ("bank.example", Some(bank)),
            ("deep.in.bank.example", Some(bank)),
            ("*.in.bank.example", Some(bank)),
            ("*.bank.example", Some(bank)),
            ("rebank.example", None),
            ("gov.example", None),
            (".gov.example", Some(gov)),
            ("*.gov.example", Some(gov)),
            ("tax.gov.example", Some(gov)),
            (".big.example", Some(big)),
            ("www.big.example", Some(big)),
            ("ads.big.example", None),
        ] {
            assert_eq!(told(&protected_names, text).as_deref(), expected, "{text}");
        }
        // On the way to a protected name lies its top-level domain, which is told first.
        assert_eq!(
            told(&protected_names, ".example").as_deref(),
            Some("covers the top-level domain example")
        );
    }

    #[test]
    fn released_names_are_known_and_change_the_digest() {
        let list = ProtectedList {
            release: vec!["co.id".to_owned(), "a\\.b.example".to_owned()],
            ..ProtectedList::default()
        };
        let json = serde_json::to_string(&list).expect("JSON");
        let protected_names = ProtectedNames::new(serde_json::from_str(&json).expect("the same"));
        assert_eq!(*protected_names.list(), list);
        assert!(
            protected_names.releases(&name("CO.id"))
                && protected_names.releases(&name("a\\.b.example"))
        );
        assert!(
            !protected_names.releases(&name("id")) && !protected_names.releases(&name("x.co.id"))
        );
        assert_ne!(protected_names.digest(), ProtectedNames::default().digest());
        assert_eq!(protected_names.digest(), ProtectedNames::new(list).digest());
    }

    #[test]
    fn names_of_any_octets_and_of_the_most_labels_can_be_warded() {
        let deep = "a.".repeat(126) + "z";
        for text in ["a\\.b.\\000\\255.example", &deep] {
            let deepest = Name::from_text(text).expect("a name");
            let above = |labels| {
                let (name, _) = Name::parse(deepest.ancestor(labels), 0).expect("a name");
                name
            };
            let (owner, top) = (above(deepest.label_count() - 1), above(1));
            let protected_names = ProtectedNames::new(ProtectedList {
                names: vec![ProtectedName {
                    protection: Protection::Protected,
                    scope: Scope::Subtree,
                    name: owner.to_string(),
                }],
                ..ProtectedList::default()
            });
            for name in [&deepest, &owner] {
                assert!(
                    find(&protected_names, name, Scope::Exact).is_some(),
                    "{name}"
                );
            }
            assert_eq!(find(&protected_names, &top, Scope::Exact), None, "{text}");
            assert!(
                protected_names.first(&top, Scope::Below, Protections::NONE) == 0,
                "{text}"
            );
        }
    }

    /// A simple model: whether two rules concern a common name, found by trying all names.
    fn meet(one: (&Name, Scope), other: (&Name, Scope)) -> bool {
        let beneath = |name: &Name| {
            let wire = [&b"\x01x"[..], name.wire()].concat();
            Name::parse(&wire, 0).expect("a short name").0
        };
        let names = [one.0, other.0].into_iter();
        let mut all = names.flat_map(|name| [name.clone(), beneath(name)]);
        all.any(|name| one.1.reaches(one.0, &name) && other.1.reaches(other.0, &name))
    }

    fn rules() -> impl Strategy<Value = (Name, Scope)> {
        let label = prop::sample::select(vec!["a", "b", "c", "x"]);
        let scope = prop::sample::select(vec![Scope::Exact, Scope::Subtree, Scope::Below]);
        let labels = prop::collection::vec(label, 1..5);
        (labels, scope).prop_map(|(labels, scope)| (name(&(labels.join(".") + ".example")), scope))
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_a_loop_over_all_names_finds(
            protected in prop::collection::vec(rules(), 0..12),
            kinds in prop::collection::vec(prop::sample::select(NAMED.to_vec()), 12),
            warn in prop::collection::vec(prop::sample::select(NAMED.to_vec()), 0..3),
            asked in prop::collection::vec(rules(), 1..12),
        ) {
            let names = protected.iter().zip(kinds).map(|((name, scope), protection)| ProtectedName {
                protection,
                scope: *scope,
                name: name.to_string(),
            });
            let list = Guarded { warn: warn.into_iter().collect(), ..Kind::Block.into() };
            let protected_names = ProtectedNames::new(ProtectedList {
                names: names.collect(),
                suffixes: PublicSuffixes::None,
                release: Vec::new(),
            });
            for (name, scope) in &asked {
                let by_model = protected.iter().zip(&protected_names.list.names);
                let met = by_model.filter(|((owner, kind), _)| meet((owner, *kind), (name, *scope)));
                let met: Vec<_> = met.map(|(_, protected)| protected).collect();
                let strict = met.iter().find(|protected| !list.warn.has(protected.protection));
                let expected = strict.map(|protected| (Cover::Name(protected), false));
                let warned = met.first().map(|protected| (Cover::Name(protected), true));
                prop_assert_eq!(protected_names.check(name, *scope, list), expected.or(warned));
            }
        }
    }
}
