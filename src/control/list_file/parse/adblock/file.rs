//! Reads the lines of an adblock list, and makes rules of them.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::control::list_file::parse::adblock::line::{self, Line, Rule};
use crate::control::list_file::parse::adblock::mask::{self, MIN_PATTERN, Mask};
use crate::control::list_file::parse::adblock::modifiers::Modifiers;
use crate::control::list_file::parse::adblock::parts::{Names, Part};
use crate::control::list_file::parse::adblock::taken_back::{Scan, TakenBack};
use crate::control::list_file::parse::bad::Bad;
use crate::control::list_file::parse::bad_rule::{BadRule, MAX_PARTS};
use crate::control::list_file::parse::hosts;
use crate::control::list_file::parse::lines::{self, Cutter, MAX_LINE, Notation};
use crate::control::list_file::parse::not_applicable::{NotApplicable, Unusable};
use crate::control::list_file::parse::pattern_rules::PatternRules;
use crate::control::list_file::parse::rule::{ParsedRule, ParsedTrigger};
use crate::control::list_file::parse::tally::{LineTally, Tally};
use crate::names::typed;
use crate::policy::condition::{Condition, TypeSet};
use crate::policy::effect::{Effect, EffectAction, Tier};
use crate::policy::prefix::{AddressOf, Prefix};
use crate::policy::record::LocalRecord;
use crate::policy::rule::Scope;
use crate::wire::name::Name;

/// Parses an adblock list from pieces, which may be cut anywhere.
pub(crate) struct AdblockFile {
    cutter: Cutter,
    scan: Option<Scan>,
    rules: AdblockRules,
}

struct AdblockRules {
    notation: Notation,
    taken_back: TakenBack,
    /// The further parts into which exceptions may divide rewrites.
    room_for_parts: usize,
    patterns: PatternRules,
    tally: Tally,
    /// A buffer for the current name.
    name: Name,
}

impl AdblockFile {
    pub(crate) fn new(notation: Notation) -> Self {
        Self {
            cutter: Cutter::new(&notation),
            scan: None,
            rules: AdblockRules {
                notation,
                taken_back: TakenBack::default(),
                room_for_parts: MAX_PARTS,
                patterns: PatternRules::default(),
                tally: Tally::default(),
                name: Name::ROOT,
            },
        }
    }

    /// Watches these lines.
    pub(crate) fn watch(&mut self, lines: RangeInclusive<u32>) {
        self.rules.tally.watch(lines);
    }

    /// Looks for lines that take other lines back. The whole file must be scanned before its first piece is parsed.
    pub(crate) fn scan(&mut self, piece: &[u8]) {
        self.scan.get_or_insert_default().feed(piece);
    }

    /// Parses the next piece of the file.
    pub(crate) fn feed(&mut self, piece: &[u8], rule: &mut impl FnMut(ParsedRule<'_>)) {
        let Self {
            cutter,
            scan,
            rules,
        } = self;
        if let Some(scan) = scan.take() {
            rules.taken_back = scan.finish();
        }
        cutter.feed(piece, |number, line| rules.line(number, line, rule));
    }

    /// The number of a last line that is not complete. A regular expression ends with its slash.
    pub(crate) fn open_line(&self) -> Option<u32> {
        let text = line::content(self.cutter.open_text());
        let is_whole = text.ends_with(b"/")
            && matches!(Line::new(text), Line::Rule(rule) if line::is_regex(rule.pattern));
        self.cutter.open_line().filter(|_| !is_whole)
    }

    /// Ends the file. Calls `rule` with the rules of a last line that has no line end, and with those that have patterns.
    pub(crate) fn finish(self, rule: &mut impl FnMut(ParsedRule<'_>)) -> Tally {
        let Self {
            mut cutter,
            mut rules,
            ..
        } = self;
        rules.tally.ended = cutter.open_line().is_none();
        cutter.finish(|number, line| rules.line(number, line, rule));
        rules.patterns.finish(&mut rules.tally, rule);
        rules.tally
    }
}

impl AdblockRules {
    #[inline]
    fn line(&mut self, number: u32, line: &[u8], rule: &mut impl FnMut(ParsedRule<'_>)) {
        if !self.usual(number, line, rule) {
            self.unusual(number, line, rule);
        }
    }

    /// Reads a line of the form `||name^`, as most lines are. Returns whether it is one.
    #[inline]
    fn usual(&mut self, number: u32, line: &[u8], rule: &mut impl FnMut(ParsedRule<'_>)) -> bool {
        let [b'|', b'|', body @ .., last, b'^'] = line else {
            return false;
        };
        // A name that ends in a digit may be an address, and none ends in a dot.
        if last.is_ascii_digit() || *last == b'.' || !self.taken_back.voids_none() {
            return false;
        }
        let name = &line[2..body.len() + 3];
        let is_usual = self.name.parse_text(name).is_ok()
            && self.name.is_plain()
            && self.name.label_count() > 0;
        if is_usual {
            self.tally.lines += 1;
            self.tally.rules += 1;
            rule(ParsedRule {
                trigger: ParsedTrigger::Name(&self.name, Scope::Subtree),
                effect: None,
                line: number,
            });
        }
        is_usual
    }

    fn unusual(&mut self, number: u32, line: &[u8], rule: &mut impl FnMut(ParsedRule<'_>)) {
        let content = lines::content(line, &self.notation);
        if content.is_empty() {
            self.tally.comments += u32::from(!line.is_empty());
            return;
        }
        self.tally.lines += 1;
        let kind = Line::new(content);
        let read = match kind {
            Line::Cosmetic => Err(NotApplicable::Cosmetic.into()),
            _ if content.len() > MAX_LINE => Err(long(&kind)),
            _ if self.taken_back.voids(&kind) => Err(self.voided(&kind)),
            Line::Hosts { address, names } => Ok(self.hosts(number, (address, names), rule)),
            Line::Name(text) => self.name(number, text, rule),
            Line::Rule(found) => self.rule(number, content, (&kind, found), rule),
        };
        match read {
            Ok(line_tally) => self.tally.add(number, content, &line_tally),
            Err(Unusable::Ignored(reason)) => self.tally.ignore(number, content, reason),
            Err(Unusable::Bad(problem)) => {
                self.tally.reject(number, content, problem);
            }
        }
    }

    /// Why a rule that `$badfilter` voids, or a rule with it, gives no rule.
    fn voided(&self, line: &Line<'_>) -> Unusable {
        let modifiers = match line {
            Line::Rule(rule) => Modifiers::read(rule.modifiers).ok(),
            _ => None,
        };
        match modifiers.is_some_and(|modifiers| modifiers.is_badfilter) {
            true => NotApplicable::TakesBack.into(),
            false => NotApplicable::TakenBack.into(),
        }
    }

    /// The names of a hosts line. They are blocked if the address is that of this host or none, else they have the address.
    fn hosts(
        &mut self,
        number: u32,
        (address, names): (&[u8], &[u8]),
        rule: &mut impl FnMut(ParsedRule<'_>),
    ) -> LineTally {
        let effect = match self.notation.allows {
            true => None,
            false => address_effect(address),
        };
        let mut line_tally = LineTally::default();
        let names = names.split(u8::is_ascii_whitespace);
        for text in names.filter(|name| !name.is_empty()) {
            match hosts::parse_host(text, &mut self.name) {
                Ok(true) => {
                    line_tally.rules += 1;
                    rule(ParsedRule {
                        trigger: ParsedTrigger::Name(&self.name, Scope::Exact),
                        effect: effect.as_ref(),
                        line: number,
                    });
                }
                Ok(false) => line_tally.skipped += 1,
                Err(problem) => line_tally.reject(text, problem),
            }
        }
        line_tally
    }

    fn name(
        &mut self,
        number: u32,
        text: &[u8],
        rule: &mut impl FnMut(ParsedRule<'_>),
    ) -> Result<LineTally, Unusable> {
        typed::scoped(text, &mut self.name)?;
        rule(ParsedRule {
            trigger: ParsedTrigger::Name(&self.name, Scope::Exact),
            effect: None,
            line: number,
        });
        Ok(LineTally::rule())
    }

    fn rule(
        &mut self,
        number: u32,
        content: &[u8],
        (line, found): (&Line<'_>, Rule<'_>),
        rule: &mut impl FnMut(ParsedRule<'_>),
    ) -> Result<LineTally, Unusable> {
        let modifiers = Modifiers::read(found.modifiers)?;
        let takes_back = modifiers.is_badfilter || found.allows && modifiers.rewrite.is_some();
        if takes_back {
            return Err(match self.taken_back.has(line, modifiers.is_badfilter) {
                true => NotApplicable::TakesBack.into(),
                false => self.not_taken_back(line, found),
            });
        }
        let mask = mask::read(found.pattern, &mut self.name)?;
        let is_limited = modifiers.types.is_some() || !modifiers.except.is_empty();
        let is_wide = mask == Mask::Everything || found.pattern.len() < MIN_PATTERN;
        if is_wide && !is_limited {
            return Err(BadRule::TooWide.into());
        }
        let effect = self.effect(found.allows, &modifiers)?;
        if modifiers.rewrite.is_some() {
            return self.rewrite(number, content, (&mask, effect, modifiers), rule);
        }
        let effect = Effect {
            condition: condition(modifiers.types, modifiers.except)?,
            ..effect
        };
        effect.check().map_err(|_| BadRule::TooManyValues)?;
        let trigger = match &mask {
            Mask::Name(scope) => ParsedTrigger::Name(&self.name, *scope),
            Mask::Everything => ParsedTrigger::Name(&Name::ROOT, Scope::Subtree),
            Mask::Address(address) => ParsedTrigger::Network(answers_with(*address)),
            Mask::Regex(regex) => ParsedTrigger::Pattern(regex),
        };
        let line_tally = emit(
            &mut self.patterns,
            (number, content),
            (trigger, &effect),
            rule,
        )?;
        Ok(line_tally)
    }

    /// Reads a rewrite: a rule for each of its parts that exceptions leave.
    fn rewrite(
        &mut self,
        number: u32,
        content: &[u8],
        (mask, effect, modifiers): (&Mask, Effect, Modifiers),
        rule: &mut impl FnMut(ParsedRule<'_>),
    ) -> Result<LineTally, Unusable> {
        let names = Names::new(mask, &self.name).ok_or(NotApplicable::RewriteOfAddress)?;
        let rewrite = modifiers.rewrite.flatten().ok_or(BadRule::DnsRewrite)?;
        let whole = Part::new(names, modifiers.types, modifiers.except);
        let rewrite = (&rewrite, modifiers.is_important);
        effect.check().map_err(|_| BadRule::TooManyValues)?;
        condition(whole.types.clone(), whole.except.clone())?;
        let parts = (self.taken_back).left_of(whole, rewrite, &mut self.room_for_parts)?;
        if parts.is_empty() {
            return Err(NotApplicable::TakenBack.into());
        }
        // A part that can't be a rule does not affect the others.
        let (mut rules, mut problem) = (Vec::with_capacity(parts.len()), None);
        for part in parts {
            let Ok(condition) = condition(part.types, part.except) else {
                problem = Some(BadRule::PartLeavesOutTooMuch);
                continue;
            };
            let effect = Effect {
                condition,
                ..effect.clone()
            };
            let check = match &part.names {
                Names::Of(name, scope) => effect.check_trigger(|| (**name).clone(), *scope),
                Names::Regex(_) => Ok(()),
            };
            rules.extend(check.is_ok().then_some((part.names, effect)));
        }
        if rules.is_empty() {
            return Err(problem.unwrap_or(BadRule::RewriteToItself).into());
        }
        let mut all = LineTally::default();
        for (names, effect) in &rules {
            let trigger = match names {
                Names::Of(name, scope) => ParsedTrigger::Name(name, *scope),
                Names::Regex(regex) => ParsedTrigger::Pattern(regex),
            };
            let one = emit(
                &mut self.patterns,
                (number, content),
                (trigger, effect),
                rule,
            );
            match one {
                Ok(one) => all.rules += one.rules,
                Err(bad) => problem = Some(bad),
            }
        }
        if let Some(problem) = problem {
            all.reject(content, problem.into());
        }
        Ok(all)
    }

    /// Why a rule that is to take others back was not kept.
    fn not_taken_back(&mut self, line: &Line<'_>, found: Rule<'_>) -> Unusable {
        match mask::read(found.pattern, &mut self.name) {
            Ok(Mask::Everything) => BadRule::TooWide.into(),
            Ok(Mask::Regex(_)) => self.taken_back.problem(line).into(),
            Ok(Mask::Name(_)) => BadRule::TooManyTakenBack.into(),
            Ok(Mask::Address(_)) => NotApplicable::RewriteOfAddress.into(),
            Err(reason) => reason,
        }
    }

    /// The effect of a rule, without its condition.
    fn effect(&self, allows: bool, modifiers: &Modifiers) -> Result<Effect, Unusable> {
        let rewrite = modifiers.rewrite.as_ref();
        let rewrite = rewrite.map(|rewrite| rewrite.as_ref().ok_or(BadRule::DnsRewrite));
        let (action, tier) = match (rewrite.transpose()?, allows, modifiers.is_important) {
            (Some(_), ..) if self.notation.allows => return Err(NotApplicable::Rewrite.into()),
            (Some(rewrite), ..) => (rewrite.action(), Tier::Rewrite),
            (None, true, true) => (EffectAction::Allow, Tier::ImportantFirst),
            (None, true, false) => (EffectAction::Allow, Tier::First),
            (None, false, true) => (EffectAction::Source, Tier::Important),
            (None, false, false) => (EffectAction::Source, Tier::Usual),
        };
        Ok(Effect {
            action,
            tier,
            ..Effect::default()
        })
    }
}

/// Calls `rule` with a rule, or keeps it if it has a pattern.
fn emit(
    patterns: &mut PatternRules,
    (line, content): (u32, &[u8]),
    (trigger, effect): (ParsedTrigger<'_>, &Effect),
    rule: &mut impl FnMut(ParsedRule<'_>),
) -> Result<LineTally, BadRule> {
    let effect = Some(effect).filter(|effect| !effect.is_default());
    if let ParsedTrigger::Pattern(pattern) = trigger {
        // It is counted when it has been checked.
        patterns.add(pattern.to_owned(), effect, line, content)?;
        return Ok(LineTally::default());
    }
    rule(ParsedRule {
        trigger,
        effect,
        line,
    });
    Ok(LineTally::rule())
}

/// The condition of a rule on these types, without these names.
fn condition(types: Option<TypeSet>, except: Vec<Name>) -> Result<Option<Box<Condition>>, BadRule> {
    if types.is_none() && except.is_empty() {
        return Ok(None);
    }
    let condition = Condition::new(types, except).map_err(|_| BadRule::TooManyValues)?;
    Ok(Some(Box::new(condition)))
}

fn answers_with(address: IpAddr) -> Prefix {
    Prefix::new(AddressOf::Answer, address.into()).expect("an address is no network of all")
}

/// Why a line that is too long gives no rule. Rules for browsers may have thousands of domains.
fn long(line: &Line<'_>) -> Unusable {
    if let Line::Rule(rule) = line
        && let Err(reason @ Unusable::Ignored(_)) = Modifiers::read(rule.modifiers)
    {
        return reason;
    }
    Bad::LongLine.into()
}

/// The effect of the address of a hosts line; `None` if it only blocks.
fn address_effect(address: &[u8]) -> Option<Effect> {
    let text = std::str::from_utf8(address).ok()?;
    // An address with a zone, which is one of this link, is not parsed.
    let address: IpAddr = text.parse().ok()?;
    let only_blocks = address.is_unspecified() || address.is_loopback();
    (!only_blocks).then(|| EffectAction::Records(vec![LocalRecord::address(address)]).into())
}
