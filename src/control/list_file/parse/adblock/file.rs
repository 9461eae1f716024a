//! Reads the lines of an adblock list, and makes rules of them.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::control::list_file::parse::adblock::line::{Line, Rule};
use crate::control::list_file::parse::adblock::mask::{self, MIN_PATTERN, Mask};
use crate::control::list_file::parse::adblock::modifiers::Modifiers;
use crate::control::list_file::parse::adblock::rewrite::Rewrite;
use crate::control::list_file::parse::adblock::taken_back::{Left, Scan, TakenBack};
use crate::control::list_file::parse::bad::Bad;
use crate::control::list_file::parse::bad_rule::BadRule;
use crate::control::list_file::parse::hosts;
use crate::control::list_file::parse::lines::{self, Cutter, MAX_LINE, Notation};
use crate::control::list_file::parse::not_applicable::{NotApplicable, Unusable};
use crate::control::list_file::parse::pattern_rules::PatternRules;
use crate::control::list_file::parse::rule::{ParsedRule, ParsedTrigger};
use crate::control::list_file::parse::tally::{LineTally, Tally};
use crate::names::typed;
use crate::policy::condition::Condition;
use crate::policy::effect::{Effect, EffectAction, Tier};
use crate::policy::patterns::PatternSet;
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

    /// Whether the last line is complete.
    pub(crate) fn is_ended(&self) -> bool {
        self.cutter.is_ended()
    }

    /// Ends the file. Calls `rule` with the rules of a last line that has no line end, and with those that have patterns.
    pub(crate) fn finish(self, rule: &mut impl FnMut(ParsedRule<'_>)) -> Tally {
        let Self {
            mut cutter,
            mut rules,
            ..
        } = self;
        rules.tally.ended = cutter.is_ended();
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
                false => self.not_taken_back(found),
            });
        }
        let mask = mask::read(found.pattern, &mut self.name)?;
        let is_limited = modifiers.types.is_some() || !modifiers.except.is_empty();
        let is_wide = mask == Mask::Everything || found.pattern.len() < MIN_PATTERN;
        if is_wide && !is_limited {
            return Err(BadRule::TooWide.into());
        }
        let effect = self.effect(&mask, found.allows, modifiers)?;
        let effect = (!effect.is_default()).then_some(effect);
        let scope = match mask {
            Mask::Name(scope) => scope,
            Mask::Everything => {
                self.name = Name::ROOT;
                Scope::Subtree
            }
            Mask::Regex(regex) => {
                // It is counted when it has been checked.
                self.patterns.add(regex, effect.as_ref(), number, content)?;
                return Ok(LineTally::default());
            }
        };
        if let Some(effect) = &effect {
            let check = effect.check_trigger(|| self.name.clone(), scope);
            check.map_err(|_| BadRule::RewriteToItself)?;
        }
        rule(ParsedRule {
            trigger: ParsedTrigger::Name(&self.name, scope),
            effect: effect.as_ref(),
            line: number,
        });
        Ok(LineTally::rule())
    }

    /// Why a rule that is to take others back was not kept.
    fn not_taken_back(&mut self, found: Rule<'_>) -> Unusable {
        match mask::read(found.pattern, &mut self.name) {
            Ok(Mask::Everything) => BadRule::TooWide.into(),
            Ok(Mask::Regex(regex)) => match PatternSet::new([regex]) {
                Err(error) => BadRule::from(&error.problem).into(),
                Ok(_) => BadRule::TooManyTakenBack.into(),
            },
            Ok(Mask::Name(_)) => BadRule::TooManyTakenBack.into(),
            Err(reason) => reason,
        }
    }

    /// The effect of a rule on the names of a mask, whose name is in the buffer.
    fn effect(&self, mask: &Mask, allows: bool, modifiers: Modifiers) -> Result<Effect, Unusable> {
        let Modifiers {
            is_important,
            types,
            mut except,
            rewrite,
            ..
        } = modifiers;
        let rewrite = rewrite.map(|rewrite| rewrite.ok_or(BadRule::DnsRewrite));
        let rewrite = rewrite.transpose()?;
        let (action, tier) = match (&rewrite, allows, is_important) {
            (Some(_), ..) if self.notation.allows => return Err(NotApplicable::Rewrite.into()),
            (Some(rewrite), ..) => {
                except.extend(self.left_of(mask, (rewrite, is_important))?);
                (rewrite.action(), Tier::Rewrite)
            }
            (None, true, true) => (EffectAction::Allow, Tier::ImportantFirst),
            (None, true, false) => (EffectAction::Allow, Tier::First),
            (None, false, true) => (EffectAction::Source, Tier::Important),
            (None, false, false) => (EffectAction::Source, Tier::Usual),
        };
        let condition = match types.is_none() && except.is_empty() {
            true => None,
            false => {
                let condition = Condition::new(types, except);
                Some(Box::new(condition.map_err(|_| BadRule::TooManyValues)?))
            }
        };
        let effect = Effect {
            action,
            tier,
            condition,
            ..Effect::default()
        };
        effect.check().map_err(|_| BadRule::TooManyValues)?;
        Ok(effect)
    }

    /// The names that exceptions leave out of a rewrite.
    fn left_of(&self, mask: &Mask, rewrite: (&Rewrite, bool)) -> Result<Vec<Name>, Unusable> {
        match self.taken_back.left_of(mask, &self.name, rewrite) {
            Left::Nothing => Err(NotApplicable::TakenBack.into()),
            Left::AllBut(except) => Ok(except),
        }
    }
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
