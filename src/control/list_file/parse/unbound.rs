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
use crate::policy::condition::{Condition, TypeSet};
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
    zones: Zones,
    /// Those of them without records so far, each with its line.
    empty: HashMap<Box<[u8]>, u32>,
    /// Hashes of names that are blocked by an address, outside such zones.
    blocked: HashSet<u64>,
}

/// The names of zones whose type changes what their records do, as hashes.
#[derive(Default)]
struct Zones {
    hasher: RandomState,
    /// Those of the type `redirect`: the records are for all names of the zone.
    redirects: HashSet<u64>,
    /// Those of the type `typetransparent`: the records are for queries of their types alone.
    typetransparent: HashSet<u64>,
}

/// What a zone does, by its type.
enum ZoneType {
    /// Its names are blocked as the list says.
    Block,
    /// Its names have another effect.
    Effect(EffectAction),
    /// Its names are answered with the records of the zone's name.
    Redirect,
    /// Queries for which its names have no records are resolved as if the list did not have the names above them.
    Typetransparent,
    /// It has no meaning for a list.
    Other,
}

impl Unbound {
    pub(super) fn new() -> Self {
        Self {
            answers: Answers::default(),
            effects: HashMap::new(),
            zones: Zones::default(),
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
        let hash = self.zones.hasher.hash_one(name.wire());
        let action = match zone_type_of(zone_type).ok_or(Bad::ZoneType)? {
            ZoneType::Other => return Err(NotApplicable::Option.into()),
            ZoneType::Block => None,
            ZoneType::Effect(action) => Some(action),
            ZoneType::Typetransparent => {
                self.zones.typetransparent.insert(hash);
                Some(EffectAction::Allow)
            }
            ZoneType::Redirect => {
                self.zones.redirects.insert(hash);
                let is_blocked = self.blocked.contains(&hash);
                if !is_blocked && self.empty.len() < MAX_EMPTY {
                    self.empty.insert(name.wire().into(), number);
                    return Ok(LineTally::default());
                }
                (!is_blocked).then_some(EffectAction::Block(Action::Nodata))
            }
        };
        let effect = action.map(|action| {
            let known = self.effects.entry(action);
            &*known.or_insert_with_key(|action| action.clone().into())
        });
        emit(name, Scope::Subtree, effect);
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
        let hash = self.zones.hasher.hash_one(name.wire());
        let is_redirect = self.zones.redirects.contains(&hash);
        if is_redirect {
            self.empty.remove(name.wire());
        }
        if only_blocks {
            if !is_redirect {
                self.blocked.insert(hash);
            }
            let mut effect = Effect::default();
            let scope = self.zones.adapt(name, &mut effect, &[record.rtype]);
            let is_limited = effect.condition.is_some();
            emit(name, scope, is_limited.then_some(&effect));
            return Ok(LineTally::rule());
        }
        let local = LocalRecord {
            rtype: record.rtype,
            ttl_secs: Some(record.ttl_secs),
            data: record.data.into(),
        };
        match self.answers.add((name, Scope::Exact), number, local)? {
            Some(mut effect) => {
                self.zones.adapt(name, &mut effect, &[record.rtype]);
                emit(name, Scope::Exact, Some(&effect));
                Ok(LineTally::rule())
            }
            None => Ok(LineTally::default()),
        }
    }

    /// Ends the file. A zone of the type `redirect` without records answers NODATA.
    pub(super) fn finish(mut self, tally: &mut Tally, rule: &mut impl FnMut(ParsedRule<'_>)) {
        for name in self.answers.names() {
            self.empty.remove(name);
        }
        let zones = self.zones;
        let adapted = |name: &Name, _, effect: &mut Effect| {
            let types: Vec<_> = match &effect.action {
                EffectAction::Records(records) => records.iter().map(|own| own.rtype).collect(),
                _ => Vec::new(),
            };
            zones.adapt(name, effect, &types)
        };
        self.answers.finish(adapted, tally, rule);
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

impl Zones {
    /// Limits the effect of records of these types to queries for which the zone of their name has them. Returns the scope
    /// of the rule.
    fn adapt(&self, name: &Name, effect: &mut Effect, types: &[u16]) -> Scope {
        let has = |zones: &HashSet<u64>, wire| zones.contains(&self.hasher.hash_one(wire));
        if has(&self.redirects, name.wire()) {
            return Scope::Subtree;
        }
        let is_within = || {
            (0..=name.label_count()).any(|labels| has(&self.typetransparent, name.ancestor(labels)))
        };
        // An alias answers queries of all types.
        let is_alias = types.contains(&rtype::CNAME);
        if !is_alias && !self.typetransparent.is_empty() && is_within() {
            let types = TypeSet::Only(types.into());
            // With records of more types than a condition can list, the others get NODATA.
            effect.condition = Condition::new(Some(types), []).ok().map(Box::new);
        }
        Scope::Exact
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
        b"transparent" | b"inform" | b"always_transparent" | b"nodefault" => {
            ZoneType::Effect(EffectAction::Allow)
        }
        b"typetransparent" => ZoneType::Typetransparent,
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
