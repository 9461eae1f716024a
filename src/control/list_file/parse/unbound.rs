//! Parses the `unbound` format: the options `local-zone` and `local-data` of Unbound's configuration. Other options
//! give no rule.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;

use foldhash::fast::RandomState;

use crate::control::list_file::parse::answers::Answers;
use crate::control::list_file::parse::bad::Bad;
use crate::control::list_file::parse::not_applicable::{NotApplicable, Unusable};
use crate::control::list_file::parse::rule::{ParsedRule, ParsedTrigger};
use crate::control::list_file::parse::tally::{LineTally, Tally};
use crate::control::list_file::parse::zone_text::{Line, ZoneText};
use crate::names::typed;
use crate::policy::effect::{Effect, EffectAction};
use crate::policy::record::LocalRecord;
use crate::policy::rule::{Action, Scope};
use crate::wire::name::Name;
use crate::wire::{class, rtype};

/// The number of zones of the type `redirect` whose records are waited for, about 100 bytes each. Further ones have none.
const MAX_EMPTY: usize = 1 << 20;

/// The parser of a file. The records of a zone of the type `redirect` are for all names of the zone, and may stand before
/// it or after it.
pub(super) struct Unbound {
    /// The records of `local-data`, except addresses that only block.
    answers: Answers,
    /// The effects of zones with these actions.
    effects: HashMap<EffectAction, Effect>,
    hasher: RandomState,
    /// Hashes of the names of zones of the type `redirect`.
    redirects: HashSet<u64>,
    /// Those of them without records so far, each with its line.
    empty: HashMap<Box<[u8]>, u32>,
    /// Hashes of names that are blocked by an address, outside such zones.
    blocked: HashSet<u64>,
}

/// What a zone does, by its type.
enum ZoneType {
    /// Its names are blocked as the list says.
    Block,
    /// Its names have another effect.
    Effect(EffectAction),
    /// Its names are answered with the records of the zone's name.
    Redirect,
    /// It has no meaning for a list.
    Other,
}

impl Unbound {
    pub(super) fn new() -> Self {
        Self {
            answers: Answers::default(),
            effects: HashMap::new(),
            hasher: RandomState::default(),
            redirects: HashSet::new(),
            empty: HashMap::new(),
            blocked: HashSet::new(),
        }
    }

    /// Parses a line that is not blank, without its comment and outer whitespace. `name` is a buffer.
    pub(super) fn parse_line(
        &mut self,
        number: u32,
        line: &[u8],
        name: &mut Name,
        rule: &mut impl FnMut(ParsedRule<'_>),
    ) -> Result<LineTally, Unusable> {
        let colon = line.iter().position(|byte| *byte == b':');
        let (option, value) = line.split_at(colon.ok_or(Bad::NoOption)?);
        let is_option = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if option.is_empty() || !option.iter().all(is_option) {
            return Err(Bad::NoOption.into());
        }
        let value = value[1..].trim_ascii();
        let mut emit = |name: &Name, scope, effect: Option<&Effect>| {
            rule(ParsedRule {
                trigger: ParsedTrigger::Name(name, scope),
                effect,
                line: number,
            });
        };
        match option {
            b"local-zone" => self.zone(number, value, name, &mut emit),
            b"local-data" => self.data(number, value, &mut emit),
            _ => Err(NotApplicable::Option.into()),
        }
    }

    fn zone(
        &mut self,
        number: u32,
        value: &[u8],
        name: &mut Name,
        emit: &mut impl FnMut(&Name, Scope, Option<&Effect>),
    ) -> Result<LineTally, Unusable> {
        let (zone, rest) = word(value)?;
        let (zone_type, _) = word(rest)?;
        if typed::scoped(zone, name)?.is_some() || name.label_count() == 0 {
            return Err(Bad::Root.into());
        }
        match zone_type_of(zone_type).ok_or(Bad::ZoneType)? {
            ZoneType::Other => return Err(NotApplicable::Option.into()),
            ZoneType::Block => emit(name, Scope::Subtree, None),
            ZoneType::Effect(action) => {
                let effect = self
                    .effects
                    .entry(action)
                    .or_insert_with_key(|action| action.clone().into());
                emit(name, Scope::Subtree, Some(effect));
            }
            ZoneType::Redirect => {
                let hash = self.hasher.hash_one(name.wire());
                self.redirects.insert(hash);
                if self.blocked.contains(&hash) {
                    emit(name, Scope::Subtree, None);
                } else if self.empty.len() < MAX_EMPTY {
                    self.empty.insert(name.wire().into(), number);
                    return Ok(LineTally::default());
                } else {
                    let nodata = EffectAction::Block(Action::Nodata).into();
                    emit(name, Scope::Subtree, Some(&nodata));
                }
            }
        }
        Ok(LineTally::rule())
    }

    fn data(
        &mut self,
        number: u32,
        value: &[u8],
        emit: &mut impl FnMut(&Name, Scope, Option<&Effect>),
    ) -> Result<LineTally, Unusable> {
        let (text, _) = word(value)?;
        if text.is_empty() || text[0].is_ascii_whitespace() {
            return Err(Bad::NoOption.into());
        }
        // Each record is written in full, and none has the TTL of the one before.
        let mut data = ZoneText::new(Some(&Name::ROOT));
        let Line::Record(record) = data.parse(text)? else {
            return Err(Bad::NoOption.into());
        };
        let name = record.owner;
        if name.label_count() == 0 {
            return Err(Bad::Root.into());
        }
        if record.class != class::IN {
            return Err(NotApplicable::Option.into());
        }
        let is_zero = record.data.iter().all(|byte| *byte == 0);
        let only_blocks = is_zero && matches!(record.rtype, rtype::A | rtype::AAAA);
        let hash = self.hasher.hash_one(name.wire());
        let is_redirect = self.redirects.contains(&hash);
        if is_redirect {
            self.empty.remove(name.wire());
        }
        if only_blocks {
            let scope = if is_redirect {
                Scope::Subtree
            } else {
                Scope::Exact
            };
            if !is_redirect {
                self.blocked.insert(hash);
            }
            emit(name, scope, None);
            return Ok(LineTally::rule());
        }
        let local = LocalRecord {
            rtype: record.rtype,
            ttl_secs: Some(record.ttl_secs),
            data: record.data.into(),
        };
        match self.answers.add((name, Scope::Exact), number, local)? {
            Some(effect) => {
                emit(name, Scope::Exact, Some(&effect));
                Ok(LineTally::rule())
            }
            None => Ok(LineTally::default()),
        }
    }

    /// Ends the file. A zone of the type `redirect` without records answers NODATA.
    pub(super) fn finish(mut self, tally: &mut Tally, rule: &mut impl FnMut(ParsedRule<'_>)) {
        let (hasher, redirects) = (self.hasher, self.redirects);
        let widened = |name: &Name, scope| match redirects.contains(&hasher.hash_one(name.wire())) {
            true => Scope::Subtree,
            false => scope,
        };
        for name in self.answers.names() {
            self.empty.remove(name);
        }
        self.answers.finish(widened, tally, rule);
        let nodata = EffectAction::Block(Action::Nodata).into();
        let mut empty: Vec<_> = self.empty.into_iter().collect();
        empty.sort_unstable_by_key(|(_, line)| *line);
        let mut name = Name::ROOT;
        for (wire, line) in empty {
            name.parse_wire(&wire, 0).expect("the wire form of a name");
            tally.rules += 1;
            rule(ParsedRule {
                trigger: ParsedTrigger::Name(&name, Scope::Subtree),
                effect: Some(&nodata),
                line,
            });
        }
    }
}

/// The types of unbound.conf(5).
fn zone_type_of(text: &[u8]) -> Option<ZoneType> {
    let block = |action| ZoneType::Effect(EffectAction::Block(action));
    Some(match text {
        b"always_null" => ZoneType::Block,
        b"static" | b"always_nxdomain" => block(Action::Nxdomain),
        b"always_nodata" => block(Action::Nodata),
        b"refuse" | b"always_refuse" => block(Action::Refused),
        b"deny" | b"inform_deny" | b"always_deny" => block(Action::Drop),
        b"redirect" | b"inform_redirect" => ZoneType::Redirect,
        b"transparent" | b"typetransparent" | b"inform" | b"always_transparent" | b"nodefault" => {
            ZoneType::Effect(EffectAction::Allow)
        }
        b"noview" | b"ipset" => ZoneType::Other,
        _ => return None,
    })
}

/// The first word of a value, which may be in quotes, and the rest.
fn word(value: &[u8]) -> Result<(&[u8], &[u8]), Bad> {
    let (word, rest) = match value {
        [quote @ (b'"' | b'\''), quoted @ ..] => {
            let end = quoted.iter().position(|byte| byte == quote);
            let end = end.ok_or(Bad::Quotes)?;
            (&quoted[..end], &quoted[end + 1..])
        }
        _ => {
            let end = value.iter().position(u8::is_ascii_whitespace);
            value.split_at(end.unwrap_or(value.len()))
        }
    };
    match word {
        b"" => Err(Bad::NoValue),
        _ => Ok((word, rest.trim_ascii_start())),
    }
}
