//! The keys that response policy zones have in `[[list]]` and in `[[feed]]`.

use crate::names::typed;
use crate::policy::rpz::settings::{SourceZone, ZonePolicy, ZoneSettings};
use crate::policy::rule::{Action, Blocking, Scope};
use crate::wire::name::Name;

use super::findings::{Findings, quote};
use super::reader::{At, Reader};
use super::values::{choice, number};

/// The default of `max-policy-ttl-secs`, which is also that of BIND.
const MAX_TTL_SECS: u32 = 5;
const WEEK_SECS: u32 = 7 * 24 * 60 * 60;

/// How the rules of a response policy zone are applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyZone {
    /// The name of the zone; `None` means the owner of the SOA record in the file. Always `Some` for a feed.
    pub apex: Option<Name>,
    /// The settings that the policy needs.
    pub settings: ZoneSettings,
    /// Whether its SOA record is added to the additional section of answers that it changes.
    pub soa: bool,
}

/// A [`ZonePolicy`] without its value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Given,
    Disabled,
    Nxdomain,
    Nodata,
    Passthru,
    Drop,
    TcpOnly,
    Cname,
}

const WORDS: &[(&str, Word)] = &[
    ("given", Word::Given),
    ("disabled", Word::Disabled),
    ("nxdomain", Word::Nxdomain),
    ("nodata", Word::Nodata),
    ("passthru", Word::Passthru),
    ("drop", Word::Drop),
    ("tcp-only", Word::TcpOnly),
    ("cname", Word::Cname),
];

impl Default for PolicyZone {
    fn default() -> Self {
        Self {
            apex: None,
            settings: ZoneSettings {
                policy: ZonePolicy::Given,
                max_ttl_secs: MAX_TTL_SECS,
                // A signed zone would otherwise evade every rule for clients that validate. An order to block has no
                // exception for signed names.
                break_dnssec: true,
            },
            soa: true,
        }
    }
}

impl PolicyZone {
    /// The zone of the list's source, before its SOA record is known.
    pub(crate) fn of_source(&self) -> Box<SourceZone> {
        Box::new(self.settings.clone().into())
    }

    /// The answer of the zone's source, given the one that its other keys describe. It only counts for rules without an
    /// action of their own.
    pub(crate) fn blocking(&self, given: Blocking) -> Blocking {
        Blocking {
            action: match self.settings.policy {
                ZonePolicy::Nodata => Action::Nodata,
                ZonePolicy::Drop => Action::Drop,
                _ => Action::Nxdomain,
            },
            sinkhole_v4: Vec::new(),
            sinkhole_v6: Vec::new(),
            ttl_secs: self.settings.max_ttl_secs,
            ..given
        }
    }
}

/// The policy with this word. `target` is that of [`ZonePolicy::Cname`]. `None` if there is no such policy, or no target.
pub(crate) fn policy_with_word(word: &str, target: Option<Name>) -> Option<ZonePolicy> {
    let (_, word) = WORDS.iter().find(|(known, _)| *known == word)?;
    word.with(target)
}

impl Word {
    fn with(self, target: Option<Name>) -> Option<ZonePolicy> {
        Some(match self {
            Self::Given => ZonePolicy::Given,
            Self::Disabled => ZonePolicy::Disabled,
            Self::Nxdomain => ZonePolicy::Nxdomain,
            Self::Nodata => ZonePolicy::Nodata,
            Self::Passthru => ZonePolicy::Passthru,
            Self::Drop => ZonePolicy::Drop,
            Self::TcpOnly => ZonePolicy::TcpOnly,
            Self::Cname => ZonePolicy::Cname(Box::new(target?)),
        })
    }
}

/// The keys that `[[list]]` and `[[feed]]` have in common, before validation.
#[derive(Default)]
pub(super) struct Raw {
    zone: Option<At<String>>,
    policy: Option<At<String>>,
    cname: Option<At<String>>,
    max_policy_ttl_secs: Option<At<i64>>,
    break_dnssec: Option<At<bool>>,
    soa: Option<At<bool>>,
}

impl Raw {
    /// Reads the keys of a `[[list]]`.
    pub(super) fn read(table: &mut Reader<'_, '_>) -> Self {
        let zone = table.string("zone");
        Self::read_with(zone, table)
    }

    /// Reads the keys of a `[[feed]]`, which has no file whose SOA record could name the zone.
    pub(super) fn read_of_feed(table: &mut Reader<'_, '_>) -> Self {
        let zone = table.required_string("zone");
        Self::read_with(zone, table)
    }

    fn read_with(zone: Option<At<String>>, table: &mut Reader<'_, '_>) -> Self {
        Self {
            zone,
            policy: table.string("policy"),
            cname: table.string("cname"),
            max_policy_ttl_secs: table.integer("max-policy-ttl-secs"),
            break_dnssec: table.boolean("break-dnssec"),
            soa: table.boolean("soa"),
        }
    }

    /// Where the zone's name is set.
    pub(super) fn position(&self) -> Option<(&'static str, u32)> {
        self.zone.as_ref().map(|at| (at.key, at.line))
    }

    /// The keys that are set, with their lines.
    fn given(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let position = |given: &Option<At<String>>| given.as_ref().map(|at| (at.key, at.line));
        let texts = [
            self.position(),
            position(&self.policy),
            position(&self.cname),
        ];
        let number = self.max_policy_ttl_secs.as_ref();
        let number = number.map(|at| (at.key, at.line));
        let flags = [&self.break_dnssec, &self.soa];
        let flags = flags.map(|given| given.as_ref().map(|at| (at.key, at.line)));
        texts.into_iter().chain([number]).chain(flags).flatten()
    }

    /// Reports the keys that are set, for a list that is not a policy zone.
    pub(super) fn report_unused(&self, findings: &mut Findings) {
        for (key, line) in self.given() {
            let message = format!(
                "{key} is a key of response policy zones only: remove it, or set format = \"rpz\""
            );
            findings.report(line, message);
        }
    }
}

pub(super) fn validate(raw: Raw, findings: &mut Findings) -> PolicyZone {
    let PolicyZone {
        settings: default,
        soa,
        ..
    } = PolicyZone::default();
    let max_ttl_secs = number(raw.max_policy_ttl_secs, 1..=WEEK_SECS, findings);
    PolicyZone {
        apex: apex(raw.zone, findings),
        settings: ZoneSettings {
            policy: policy(raw.policy, raw.cname, findings).unwrap_or(default.policy),
            max_ttl_secs: max_ttl_secs.unwrap_or(default.max_ttl_secs),
            break_dnssec: raw.break_dnssec.map_or(default.break_dnssec, |at| at.value),
        },
        soa: raw.soa.map_or(soa, |at| at.value),
    }
}

/// The name of a zone.
fn apex(given: Option<At<String>>, findings: &mut Findings) -> Option<Name> {
    let At { key, line, value } = given?;
    let why = match typed::one(&value) {
        Ok((name, None)) if name.label_count() > 0 => return Some(name),
        Ok((_, None)) => "the root, which can't be a policy zone".to_owned(),
        Ok((_, Some(_))) => "more than the name of a zone".to_owned(),
        Err(why) => why.to_string(),
    };
    let shown = quote(&value);
    findings.report(
        line,
        format!("{key} is {shown}, {why}: write the zone's name, as in \"rpz.example\""),
    );
    None
}

/// The override of all actions; `None` if it is not given, or invalid.
fn policy(
    word: Option<At<String>>,
    target: Option<At<String>>,
    findings: &mut Findings,
) -> Option<ZonePolicy> {
    let [word_line, target_line] = [&word, &target].map(|given| given.as_ref().map(|at| at.line));
    let word = choice(word, WORDS, findings);
    let target = self::target(target, findings);
    let problem = match (word, word_line, target_line) {
        (Some(Word::Cname), line, None) => {
            let message =
                "policy is \"cname\", but cname is missing: add cname = \"walled.garden.example\"";
            line.map(|line| (line, message))
        }
        // An invalid word is reported already, and may be meant as "cname".
        (None, Some(_), _) | (Some(Word::Cname), _, Some(_)) => None,
        (_, _, line) => {
            let message = "cname is set, but policy is not \"cname\": remove cname, or set policy = \"cname\"";
            line.map(|line| (line, message))
        }
    };
    if let Some((line, message)) = problem {
        findings.report(line, message.to_owned());
    }
    word?.with(target)
}

/// The target of a CNAME record. Targets by which policy zones express other actions are refused.
fn target(given: Option<At<String>>, findings: &mut Findings) -> Option<Name> {
    let At { key, line, value } = given?;
    let why = match typed::one(&value) {
        Ok((name, scope)) => match (name.to_string().as_str(), scope) {
            (".", None) => another("nxdomain"),
            (".", Some(_)) => another("nodata"),
            ("rpz-passthru", None) => another("passthru"),
            ("rpz-drop", None) => another("drop"),
            ("rpz-tcp-only", None) => another("tcp-only"),
            (_, None) => return Some(name),
            (_, Some(Scope::Below)) => match Name::from_text(&format!("*.{name}")) {
                Ok(name) => return Some(name),
                Err(why) => format!("not a domain name: {why}"),
            },
            (_, Some(_)) => "a name with a scope: write the name alone".to_owned(),
        },
        Err(why) => format!("{why}: write a name as in \"walled.garden.example\""),
    };
    findings.report(line, format!("{key} is {}, {why}", quote(&value)));
    None
}

/// The problem and the remedy for a target that stands for the action of another policy.
fn another(policy: &str) -> String {
    format!("which stands for another action: remove it, and set policy = \"{policy}\"")
}
