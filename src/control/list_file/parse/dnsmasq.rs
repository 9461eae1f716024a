//! Parses the `dnsmasq` format: the options `address`, `local` and `server` of dnsmasq's configuration, each about names
//! with all names below them. Other options give no rule.

use std::net::IpAddr;
use std::str::from_utf8;

use crate::control::list_file::parse::answers::Answers;
use crate::control::list_file::parse::bad::Bad;
use crate::control::list_file::parse::not_applicable::{NotApplicable, Unusable};
use crate::control::list_file::parse::pattern_rules::PatternRules;
use crate::control::list_file::parse::rule::{ParsedRule, ParsedTrigger};
use crate::control::list_file::parse::tally::{LineTally, Tally};
use crate::names::public_suffix::{Section, covered};
use crate::names::typed;
use crate::policy::effect::{Effect, EffectAction};
use crate::policy::record::LocalRecord;
use crate::policy::rule::{Action, Scope};
use crate::wire::name::Name;

/// The parser of a file.
pub(super) struct Dnsmasq {
    /// The addresses that names are answered with.
    answers: Answers,
    nxdomain: Effect,
    allow: Effect,
}

/// The meaning of an option for its names.
enum Meaning {
    /// They are blocked as the list says.
    Block,
    /// They do not exist.
    Nxdomain,
    /// They are resolved as if the list did not have the names above them.
    Allow,
    /// The same, by another server, which is no matter of a list.
    Forward,
    /// They are answered with an address.
    Address(IpAddr),
}

impl Dnsmasq {
    pub(super) fn new() -> Self {
        Self {
            answers: Answers::default(),
            nxdomain: EffectAction::Block(Action::Nxdomain).into(),
            allow: EffectAction::Allow.into(),
        }
    }

    /// Parses a line that is not blank, without its comment and outer whitespace. `name` is a buffer. An invalid name does
    /// not affect the others on its line.
    pub(super) fn parse_line(
        &mut self,
        number: u32,
        line: &[u8],
        name: &mut Name,
        patterns: &mut PatternRules,
        rule: &mut impl FnMut(ParsedRule<'_>),
    ) -> Result<LineTally, Unusable> {
        let (option, value) = option(line).ok_or(Bad::NoOption)?;
        let is_about_names = matches!(option, b"address" | b"local" | b"server");
        let Some(value) = value.strip_prefix(b"/").filter(|_| is_about_names) else {
            return Err(NotApplicable::Option.into());
        };
        let end = value.iter().rposition(|byte| *byte == b'/');
        let end = end.ok_or(Bad::NamesWithoutEnd)?;
        let meaning = meaning(option, &value[end + 1..])?;
        let forwards = matches!(meaning, Meaning::Forward);
        let mut line_tally = LineTally {
            ignored: forwards.then_some(NotApplicable::Forward),
            ..LineTally::default()
        };
        for text in value[..end].split(|byte| *byte == b'/') {
            let Self {
                answers,
                nxdomain,
                allow,
            } = self;
            let pattern = pattern(text);
            let parsed = match pattern {
                None => parse_name(text, name),
                Some(_) => Ok(Scope::Subtree),
            };
            let scope = match parsed {
                Ok(scope) => scope,
                // Queries for all names, or for names without a dot, may be forwarded.
                Err(_) if forwards && matches!(text, b"" | b"#") => continue,
                Err(problem) => {
                    line_tally.reject(text, problem);
                    continue;
                }
            };
            if forwards && pattern.is_none() && is_public(name, scope) {
                continue;
            }
            let alone;
            let effect = match &meaning {
                Meaning::Block => None,
                Meaning::Nxdomain => Some(&*nxdomain),
                Meaning::Allow | Meaning::Forward => Some(&*allow),
                Meaning::Address(address) => {
                    let record = LocalRecord::address(*address);
                    let added = match pattern {
                        None => answers.add((name, scope), number, record),
                        Some(_) => Ok(Some(EffectAction::Records(vec![record]).into())),
                    };
                    alone = match added {
                        Ok(Some(effect)) => effect,
                        Ok(None) => continue,
                        Err(problem) => {
                            line_tally.reject(text, problem);
                            continue;
                        }
                    };
                    Some(&alone)
                }
            };
            if let Some(pattern) = pattern {
                if let Err(problem) = patterns.add(pattern, effect, number, line) {
                    line_tally.reject(text, Bad::Rule(problem));
                }
                continue;
            }
            line_tally.rules += 1;
            rule(ParsedRule {
                trigger: ParsedTrigger::Name(name, scope),
                effect,
                line: number,
            });
        }
        Ok(line_tally)
    }

    /// Ends the file.
    pub(super) fn finish(self, tally: &mut Tally, rule: &mut impl FnMut(ParsedRule<'_>)) {
        self.answers.finish(|_, scope, _| scope, tally, rule);
    }
}

/// Whether a rule covers a top-level domain or another suffix of a registry. To forward queries for all names below does not
/// mean that none of them is to be blocked.
fn is_public(name: &Name, scope: Scope) -> bool {
    let is_registry = |(_, section)| section == Section::Icann;
    scope != Scope::Exact && covered(name).is_some_and(is_registry)
}

/// The name and the value of an option; `None` if the line is none. Options may have the two dashes of the command line.
fn option(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = line.strip_prefix(b"--").unwrap_or(line);
    let end = line.iter().position(|byte| *byte == b'=');
    let (option, value) = line.split_at(end.unwrap_or(line.len()));
    let option = option.trim_ascii_end();
    let is_option = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    let value = value
        .strip_prefix(b"=")
        .unwrap_or_default()
        .trim_ascii_start();
    (!option.is_empty() && option.iter().all(is_option)).then_some((option, value))
}

/// The meaning of the part after the names.
fn meaning(option: &[u8], target: &[u8]) -> Result<Meaning, Unusable> {
    let is_address = option == b"address";
    Ok(match (target, is_address) {
        (b"", _) => Meaning::Nxdomain,
        (b"#", true) => Meaning::Block,
        (b"#", false) => Meaning::Allow,
        (_, false) => Meaning::Forward,
        (_, true) => {
            let text = from_utf8(target).map_err(|_| Bad::Target)?;
            let address: IpAddr = text.parse().map_err(|_| Bad::Target)?;
            match address.is_unspecified() {
                true => Meaning::Block,
                false => Meaning::Address(address),
            }
        }
    })
}

/// The regular expression of `*x`, which are all names that end with x.
fn pattern(text: &[u8]) -> Option<String> {
    let end = text
        .strip_prefix(b"*")
        .filter(|end| !end.starts_with(b"."))?;
    let end = from_utf8(end).ok().filter(|_| typed::is_ending(end))?;
    Some(end.to_ascii_lowercase().replace('.', r"\.") + "$")
}

/// Parses one of the names of an option. dnsmasq applies an option to all names below as well.
fn parse_name(text: &[u8], name: &mut Name) -> Result<Scope, Bad> {
    if text == b"#" {
        return Err(Bad::Root);
    }
    let scope = typed::scoped(text, name)?;
    match name.label_count() {
        0 => Err(Bad::Root),
        _ => Ok(scope.unwrap_or(Scope::Subtree)),
    }
}
