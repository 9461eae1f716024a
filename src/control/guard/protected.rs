//! The names that no rule of a list may cover, and the check whether a rule covers one.

use std::collections::HashSet;
use std::fmt;

use foldhash::HashMap;
use serde::{Deserialize, Serialize};

use crate::config::List;
use crate::config::guard::PublicSuffixes;
pub use crate::config::guard::{Protection, Protections};
use crate::control::guard::below::SortedNames;
use crate::names::public_suffix::{Covered, Section, covered};
use crate::policy::condition::Condition;
use crate::policy::effect::{Effect, EffectAction};
use crate::policy::rule::{Kind, Scope};
use crate::wire::name::Name;

/// How many suppressed rules of a list are kept with their text in images and for `status`. The others are only
/// counted.
const KEPT: usize = 1000;

/// A name that no rule may reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProtectedName {
    /// Why it is protected.
    pub protection: Protection,
    /// Which names are protected, relative to `name`.
    pub scope: Scope,
    /// The presentation form, because names may have bytes that JSON can't represent.
    pub name: String,
}

/// All protected names, in the form that the compiler process gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProtectedList {
    /// The names. If a rule covers several, the first one is reported.
    pub names: Vec<ProtectedName>,
    /// Which public suffixes are protected.
    pub suffixes: PublicSuffixes,
    /// Names whose rules apply although they cover a protected name, in presentation form.
    pub release: Vec<String>,
}

/// How the rules of a list are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guarded {
    /// The effect of the rules. No rule of an allow list is suppressed, except as [`cut`](Self::cut) says.
    pub kind: Kind,
    /// The protections that only report a rule and do not suppress it.
    pub warn: Protections,
    /// How many suppressed and how many reported rules are kept with their text.
    pub kept: usize,
    /// Whether the rules are in a last line without a line end, so that a name may be cut off. Rules that would be
    /// reported are then suppressed, in lists of any kind.
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

impl Guarded {
    /// The same for a rule with this effect. A rule that allows names is checked like one of an allow list.
    pub(super) fn with_effect(self, effect: Option<&Effect>) -> Self {
        let allows = effect.is_some_and(|effect| effect.action == EffectAction::Allow);
        let kind = if allows { Kind::Allow } else { self.kind };
        Self { kind, ..self }
    }
}

/// The value of an index if there is no such name.
const NONE: u32 = u32::MAX;

/// The index entry of one name. For each scope, it has the first protected name that is equal to this name and has that
/// scope. It also has the first protected name below this name.
#[derive(Clone, Copy, Default)]
struct Node {
    exact: Firsts,
    subtree: Firsts,
    below: Firsts,
    /// Protected names below this one, on other nodes.
    descendants: Firsts,
}

/// The index of the first protected name, for each protection in [`NAMED`].
#[derive(Clone, Copy)]
struct Firsts([u32; NAMED.len()]);

const NAMED: [Protection; 3] = [Protection::Own, Protection::Protected, Protection::Popular];

impl Default for Firsts {
    fn default() -> Self {
        Self([NONE; NAMED.len()])
    }
}

impl Firsts {
    fn add(&mut self, protection: Protection, number: u32) {
        let firsts = NAMED.iter().zip(&mut self.0);
        for (_, first) in firsts.filter(|(named, _)| **named == protection) {
            *first = number.min(*first);
        }
    }

    /// The first one whose protection is not in `excluded`.
    fn without(self, excluded: Protections) -> u32 {
        let firsts = NAMED.iter().zip(self.0);
        let counted = firsts.filter(|(protection, _)| !excluded.has(**protection));
        counted.map(|(_, first)| first).min().unwrap_or(NONE)
    }
}

/// All protected names, indexed: most rules need only one lookup in a hash table.
pub struct ProtectedNames {
    list: ProtectedList,
    digest: String,
    /// By the wire form of protected names and of their ancestors.
    nodes: HashMap<Box<[u8]>, Node>,
    /// Bit n is set if a protected name of n labels has the scope `subtree` or `below`.
    zones: u128,
    /// The protected names of each protection in [`NAMED`], for rules that leave out some names.
    sorted: [SortedNames; NAMED.len()],
    /// Released names in wire form.
    release: HashSet<Box<[u8]>>,
}

/// The names that a rule covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cover<'w> {
    /// No name, as the rule's last label is a number.
    Number,
    /// The rule's own name, a top-level domain; or all of them, if it is the root.
    TopLevel,
    /// The rule's own name, a public suffix.
    Suffix,
    /// All public suffixes directly below the rule's name.
    Suffixes,
    /// This protected name.
    Name(&'w ProtectedName),
}

impl Cover<'_> {
    /// The kind of name.
    pub fn protection(self) -> Protection {
        match self {
            Self::Number => Protection::Number,
            Self::TopLevel => Protection::TopLevel,
            Self::Suffix | Self::Suffixes => Protection::PublicSuffix,
            Self::Name(protected) => protected.protection,
        }
    }

    /// Describes what a rule on `owner` covers, in words that follow the rule in a sentence.
    pub fn described(self, owner: &Name) -> String {
        let ProtectedName {
            protection,
            scope,
            name,
        } = match self {
            Self::Number => return "is a number or an address, which no name ends in".to_owned(),
            Self::TopLevel if owner.label_count() == 0 => return "covers every name".to_owned(),
            Self::TopLevel => return format!("covers the top-level domain {owner}"),
            Self::Suffix => return format!("covers the public suffix {owner}"),
            Self::Suffixes => return format!("covers the public suffixes right under {owner}"),
            Self::Name(protected) => protected,
        };
        match protection {
            Protection::Own => format!("covers {name}, a name of this server"),
            Protection::Popular => format!("covers {name}, which is popular"),
            _ => format!("covers {}, which is protected", scope.notation(name)),
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
    /// Indexes a list of names.
    pub fn new(list: ProtectedList) -> Self {
        let json = serde_json::to_vec(&list).expect("strings have a JSON form");
        let mut protected_names = Self {
            digest: blake3::hash(&json).to_string(),
            list: ProtectedList::default(),
            nodes: HashMap::default(),
            zones: 0,
            sorted: Default::default(),
            // The texts were made from names, so all are valid.
            release: list.release.iter().filter_map(|text| wire(text)).collect(),
        };
        let mut of_each = NAMED.map(|_| Vec::new());
        for (number, protected) in list.names.iter().enumerate() {
            if let Ok(name) = Name::from_text(&protected.name) {
                let number = number as u32;
                protected_names.insert(&name, protected, number);
                let named = NAMED.iter().zip(&mut of_each);
                let mut named = named.filter(|(named, _)| **named == protected.protection);
                if let Some((_, names)) = named.next() {
                    names.push((name, number));
                }
            }
        }
        protected_names.sorted = of_each.map(|names| SortedNames::new(names.into_iter()));
        protected_names.list = list;
        protected_names
    }

    fn insert(&mut self, name: &Name, protected: &ProtectedName, number: u32) {
        let ProtectedName {
            protection, scope, ..
        } = *protected;
        for labels in 0..name.label_count() {
            let node = self.nodes.entry(name.ancestor(labels).into()).or_default();
            node.descendants.add(protection, number);
        }
        let node = self.nodes.entry(name.wire().into()).or_default();
        let first = match scope {
            Scope::Exact => &mut node.exact,
            Scope::Subtree => &mut node.subtree,
            Scope::Below => &mut node.below,
        };
        first.add(protection, number);
        if scope != Scope::Exact {
            self.zones |= 1 << name.label_count().min(127);
        }
    }

    /// Identifies what allow lists are checked against: public suffixes and releases.
    pub fn allow_digest(&self) -> String {
        let ProtectedList {
            suffixes, release, ..
        } = &self.list;
        let json = serde_json::to_vec(&("allow", suffixes, release));
        let json = json.expect("strings have a JSON form");
        blake3::hash(&json).to_string()
    }

    /// The list that was indexed.
    pub fn list(&self) -> &ProtectedList {
        &self.list
    }

    /// Identifies the list.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Whether rules on that name apply, whatever they cover.
    pub fn releases(&self, name: &Name) -> bool {
        self.release.contains(name.wire())
    }

    /// Returns the protected name or suffix that a rule covers, and whether the rule applies nevertheless. Rules of
    /// allow lists apply, and so do rules that are only reported. `None` if the rule covers none. Never allocates.
    pub fn check(
        &self,
        name: &Name,
        scope: Scope,
        list: impl Into<Guarded>,
    ) -> Option<(Cover<'_>, bool)> {
        self.check_where(name, scope, list, None)
    }

    /// The same for a rule with a condition. A rule covers no names that its condition leaves out.
    pub fn check_where(
        &self,
        name: &Name,
        scope: Scope,
        list: impl Into<Guarded>,
        condition: Option<&Condition>,
    ) -> Option<(Cover<'_>, bool)> {
        let Guarded { kind, warn, .. } = list.into();
        let condition = condition.filter(|condition| !condition.except().is_empty());
        if condition.is_some_and(|condition| condition.left_out_by(name).is_some()) {
            return None;
        }
        let suffix = self.covered_suffix(name, scope);
        let suppressing = |warn| match kind {
            Kind::Allow => None,
            _ => self.suppressing((name, scope, condition), suffix, warn),
        };
        if let Some(cover) = suppressing(warn) {
            return Some((cover, false));
        }
        let warned = || suppressing(Protections::NONE).filter(|_| !warn.is_empty());
        Some((warned().or_else(|| self.reported(kind, suffix))?, true))
    }

    /// Like [`check`](Self::check) for a rule that covers all names below a public suffix.
    pub(super) fn check_suffix(
        &self,
        suffix: &Name,
        list: Guarded,
    ) -> Option<(Cover<'static>, bool)> {
        let (cover, _) = self.suffix(suffix)?;
        let counts = list.kind == Kind::Allow || list.warn.has(cover.protection());
        Some((cover, counts))
    }

    fn suppressing(
        &self,
        (name, scope, condition): (&Name, Scope, Option<&Condition>),
        suffix: Option<(Cover<'static>, Section)>,
        warn: Protections,
    ) -> Option<Cover<'_>> {
        let is_root = name.label_count() == 0;
        let is_number = || !is_root && name.label_from_root(0).iter().all(u8::is_ascii_digit);
        if !warn.has(Protection::Number) && is_number() {
            return Some(Cover::Number);
        }
        if let Some((cover, owner)) = suffix
            && (owner == Section::Icann || self.list.suffixes == PublicSuffixes::All)
            && !warn.has(cover.protection())
        {
            return Some(cover);
        }
        let first = self.first((name, scope, condition), warn) as usize;
        self.list.names.get(first).map(Cover::Name)
    }

    /// The suffix, if a rule that covers it applies but is reported. A rule of an allow list that allows everything
    /// below a public suffix is always reported.
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
        match (scope, name.label_count()) {
            (Scope::Exact, _) => None,
            (_, 0) => Some((Cover::TopLevel, Section::Icann)),
            _ => self.suffix(name),
        }
    }

    /// The protected public suffixes that a rule covers, and their section of the Public Suffix List.
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

    /// The index of the first name that a rule covers and whose protection is not in `excluded`.
    fn first(
        &self,
        (name, scope, condition): (&Name, Scope, Option<&Condition>),
        excluded: Protections,
    ) -> u32 {
        let mut first = NONE;
        if let Some(node) = self.nodes.get(name.wire()) {
            let at = node.subtree.without(excluded);
            let on = node.exact.without(excluded);
            let under = || {
                let descendants = match condition {
                    None => node.descendants.without(excluded),
                    Some(condition) => self.first_below(name, condition, excluded),
                };
                node.below.without(excluded).min(descendants)
            };
            first = match scope {
                Scope::Exact => at.min(on),
                Scope::Subtree => at.min(on).min(under()),
                Scope::Below => at.min(under()),
            };
        }
        let mut above = self.zones & ((1 << name.label_count().min(127)) - 1);
        while above != 0 {
            let labels = above.trailing_zeros() as usize;
            above &= above - 1;
            if let Some(node) = self.nodes.get(name.ancestor(labels)) {
                let zones = [node.subtree, node.below].map(|zone| zone.without(excluded));
                first = zones.into_iter().fold(first, u32::min);
            }
        }
        first
    }

    /// The index of a name below `parent` that the condition does not leave out, and whose protection is not in `excluded`.
    fn first_below(&self, parent: &Name, condition: &Condition, excluded: Protections) -> u32 {
        let named = NAMED.iter().zip(&self.sorted);
        let named = named.filter(|(protection, _)| !excluded.has(**protection));
        let found = named.filter_map(|(_, names)| names.below(parent, condition));
        found.min().unwrap_or(NONE)
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

    /// The reason why a rule of a block list is suppressed.
    fn find<'w>(
        protected_names: &'w ProtectedNames,
        name: &Name,
        scope: Scope,
    ) -> Option<Cover<'w>> {
        let found = protected_names.check(name, scope, Kind::Block);
        found.filter(|(_, counts)| !counts).map(|(cover, _)| cover)
    }

    fn described(protected_names: &ProtectedNames, text: &str) -> Option<String> {
        let (name, scope) = rule(text);
        find(protected_names, &name, scope).map(|cover| cover.described(&name))
    }

    #[test]
    fn a_rule_on_the_root_that_covers_names_below_it_is_suppressed() {
        for suffixes in [PublicSuffixes::Icann, PublicSuffixes::None] {
            let protected_names = protected_names(&[], suffixes);
            let described = |scope| {
                let found = find(&protected_names, &Name::ROOT, scope);
                found.map(|cover| cover.described(&Name::ROOT))
            };
            let every = Some("covers every name".to_owned());
            assert_eq!(described(Scope::Below), every);
            assert_eq!(described(Scope::Subtree), every);
            assert_eq!(described(Scope::Exact), None);
        }
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
            assert_eq!(described(&protected_names, text), None, "{text}");
        }
    }

    #[test]
    fn a_rule_on_a_top_level_domain_or_public_suffix_may_block_only_that_name() {
        let protected_names = ProtectedNames::default();
        for (text, expected) in [
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
                let found = described(&protected_names, &format!("{sign}{text}"));
                assert_eq!(found.as_deref(), Some(expected), "{sign}{text}");
            }
            assert_eq!(described(&protected_names, text), None, "{text}");
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
            assert_eq!(described(&protected_names, text), None, "{text}");
        }
    }

    #[test]
    fn the_configuration_selects_the_public_suffixes_that_are_protected() {
        let icann = protected_names(&[], PublicSuffixes::Icann);
        assert!(described(&icann, ".co.id").is_some() && described(&icann, ".github.io").is_none());
        let all = protected_names(&[], PublicSuffixes::All);
        assert!(described(&all, ".co.id").is_some() && described(&all, ".github.io").is_some());
        let none = protected_names(&[], PublicSuffixes::None);
        assert!(described(&none, ".co.id").is_none() && described(&none, ".id").is_some());
    }

    #[test]
    fn a_suffix_from_a_wildcard_never_suppresses_a_rule() {
        let all = protected_names(&[], PublicSuffixes::All);
        for text in [
            ".ec2-192-0-2-1.compute-1.amazonaws.com",
            "*.host.compute.estate",
            ".anything.ck",
            ".any.kawasaki.jp",
        ] {
            let (name, scope) = rule(text);
            assert_eq!(described(&all, text), None, "{text}");
            assert_eq!(all.check(&name, scope, Kind::Block), None, "{text}");
        }
    }

    #[test]
    fn rules_that_apply_although_they_cover_a_public_suffix_are_reported() {
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
    fn a_rule_that_reaches_a_protected_name_is_found_with_the_name() {
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
            assert_eq!(
                described(&protected_names, text).as_deref(),
                expected,
                "{text}"
            );
        }
        // Its top-level domain is checked first.
        assert_eq!(
            described(&protected_names, ".example").as_deref(),
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
    fn names_of_any_bytes_and_of_the_most_labels_can_be_protected() {
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
                protected_names.first((&top, Scope::Below, None), Protections::NONE) == 0,
                "{text}"
            );
        }
    }

    /// A simple model: whether two rules concern a common name, found by trying all names.
    fn meet(one: (&Name, Scope), other: (&Name, Scope)) -> bool {
        let child = |name: &Name| {
            let wire = [&b"\x01x"[..], name.wire()].concat();
            Name::parse(&wire, 0).expect("a short name").0
        };
        let names = [one.0, other.0].into_iter();
        let mut all = names.flat_map(|name| [name.clone(), child(name)]);
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
        fn the_index_finds_the_same_name_as_a_loop_over_all_names(
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
