//! Reads the modifiers of an adblock rule, which follow `$`.

use std::borrow::Cow;
use std::str::FromStr;

use domain::base::iana::Rtype;

use crate::control::list_file::parse::adblock::rewrite::Rewrite;
use crate::control::list_file::parse::bad_rule::BadRule;
use crate::control::list_file::parse::not_applicable::{NotApplicable, Unusable};
use crate::names::typed;
use crate::policy::condition::TypeSet;
use crate::wire::name::Name;

/// The modifiers of a rule.
#[derive(Debug, Default)]
pub(super) struct Modifiers {
    pub(super) is_important: bool,
    /// Whether the rule takes back the rule with the same text apart from this modifier.
    pub(super) is_badfilter: bool,
    pub(super) types: Option<TypeSet>,
    /// The names that `$denyallow` leaves out.
    pub(super) except: Vec<Name>,
    /// `Some(None)` if `$dnsrewrite` has no value.
    pub(super) rewrite: Option<Option<Rewrite>>,
}

impl Modifiers {
    /// Reads the text behind `$`.
    pub(super) fn read(text: &[u8]) -> Result<Self, Unusable> {
        let mut modifiers = Self::default();
        let mut problem: Option<Unusable> = None;
        for modifier in split(text) {
            let at = modifier.iter().position(|byte| *byte == b'=');
            let (name, value) = modifier.split_at(at.unwrap_or(modifier.len()));
            let value = value.get(1..).unwrap_or_default();
            match modifiers.add(name, value) {
                Ok(()) => {}
                // A rule for browsers may have any values.
                Err(reason @ Unusable::Ignored(NotApplicable::Modifier)) => return Err(reason),
                Err(reason) => problem = problem.or(Some(reason)),
            }
        }
        problem.map_or(Ok(modifiers), Err)
    }

    fn add(&mut self, name: &[u8], value: &[u8]) -> Result<(), Unusable> {
        match name {
            b"important" => self.is_important = true,
            b"badfilter" => self.is_badfilter = true,
            b"dnstype" => self.types = Some(types(value).ok_or(BadRule::DnsType)?),
            b"denyallow" => self.except = names(value).ok_or(BadRule::DenyAllow)?,
            b"dnsrewrite" => self.rewrite = Some(Rewrite::read(value)?),
            b"client" | b"ctag" => return Err(NotApplicable::Client.into()),
            _ => return Err(NotApplicable::Modifier.into()),
        }
        Ok(())
    }
}

/// The modifiers in a text, without those that are empty. `\,` is no separator.
pub(super) fn split(text: &[u8]) -> impl Iterator<Item = Cow<'_, [u8]>> {
    let mut rest = text;
    let all = std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let is_separator = |at: &usize| rest[*at] == b',' && (*at == 0 || rest[*at - 1] != b'\\');
        let end = (0..rest.len()).find(is_separator).unwrap_or(rest.len());
        let modifier = &rest[..end];
        rest = rest.get(end + 1..).unwrap_or_default();
        Some(unescaped(modifier))
    });
    all.filter(|modifier| !modifier.is_empty())
}

fn unescaped(modifier: &[u8]) -> Cow<'_, [u8]> {
    if !modifier.windows(2).any(|pair| pair == br"\,") {
        return Cow::Borrowed(modifier);
    }
    let mut plain = Vec::with_capacity(modifier.len());
    for (at, byte) in modifier.iter().enumerate() {
        let escapes = *byte == b'\\' && modifier.get(at + 1) == Some(&b',');
        if !escapes {
            plain.push(*byte);
        }
    }
    Cow::Owned(plain)
}

/// The types of `$dnstype`. Types that are listed take precedence over those that are left out.
fn types(value: &[u8]) -> Option<TypeSet> {
    let (mut only, mut all_but) = (Vec::new(), Vec::new());
    for text in value.split(|byte| *byte == b'|') {
        let excluded = text.strip_prefix(b"~");
        let text = std::str::from_utf8(excluded.unwrap_or(text)).ok()?;
        let rtype = Rtype::from_str(text).ok()?.to_int();
        match excluded {
            Some(_) => all_but.push(rtype),
            None => only.push(rtype),
        }
    }
    Some(match only.is_empty() {
        true => TypeSet::AllBut(all_but.into()),
        false => TypeSet::Only(only.into()),
    })
}

/// The names of `$denyallow`.
fn names(value: &[u8]) -> Option<Vec<Name>> {
    let name = |text: &[u8]| {
        let mut name = Name::ROOT;
        let scope = typed::scoped(text, &mut name).ok()?;
        (scope.is_none() && name.label_count() > 0).then_some(name)
    };
    value.split(|byte| *byte == b'|').map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Modifiers, Unusable> {
        Modifiers::read(text.as_bytes())
    }

    #[test]
    fn modifiers_may_be_in_any_order_and_empty_ones_are_skipped() {
        for text in ["important,dnstype=a|AAAA", "dnstype=A|aaaa,,important,"] {
            let modifiers = read(text).expect("valid");
            assert!(modifiers.is_important && !modifiers.is_badfilter);
            let types = TypeSet::Only([1, 28].into());
            assert_eq!(modifiers.types, Some(types), "{text}");
        }
        let text = r"client=~'Mary\'s\, John\'s',dnstype=A";
        let parts: Vec<_> = split(text.as_bytes()).collect();
        assert_eq!(parts.len(), 2);
        assert_eq!(&*parts[0], br"client=~'Mary\'s, John\'s'");
    }

    #[test]
    fn types_that_are_listed_take_precedence_over_those_that_are_left_out() {
        let of = |text: &str| read(text).expect("valid").types.expect("types");
        assert_eq!(of("dnstype=~A|AAAA"), TypeSet::Only([28].into()));
        assert_eq!(of("dnstype=~A|~CNAME"), TypeSet::AllBut([1, 5].into()));
    }

    #[test]
    fn an_unknown_modifier_matters_more_than_bad_values() {
        let reason = |text: &str| read(text).err();
        let ignored = |reason| Some(Unusable::Ignored(reason));
        let bad = |problem: BadRule| Some(Unusable::from(problem));
        for text in [
            "third-party",
            "dnstype=x,script",
            "client=a,domain=x.test",
            "all",
            "~image",
        ] {
            assert_eq!(reason(text), ignored(NotApplicable::Modifier), "{text}");
        }
        assert_eq!(reason("client=a,important"), ignored(NotApplicable::Client));
        assert_eq!(reason("ctag=device_pc"), ignored(NotApplicable::Client));
        for text in ["dnstype=", "dnstype", "dnstype=x", "dnstype=A||B"] {
            assert_eq!(reason(text), bad(BadRule::DnsType), "{text}");
        }
        for text in [
            "denyallow=",
            "denyallow=~a.test",
            "denyallow=a.*",
            "denyallow=a b",
        ] {
            assert_eq!(reason(text), bad(BadRule::DenyAllow), "{text}");
        }
    }
}
