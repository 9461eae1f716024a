//! Shows lines of a list's file: their texts, and what each of them became.

use std::ops::RangeInclusive;

use crate::config::{Content, List};
use crate::control::guard::patterns::GuardedPatterns;
use crate::control::guard::policy::GuardPolicy;
use crate::control::guard::protected::Guarded;
use crate::control::guard::suppressed::admits_rule;
use crate::control::list_file::file::{FileError, Pass, read_quiet};
use crate::control::list_file::parse::{
    Detected, LineTexts, ParsedRule, ParsedTrigger, Reader, Tally,
};
use crate::control::list_file::suppressed::SuppressedRules;
use crate::policy::effect::{Effect, EffectAction, Tier};
use crate::policy::prefix::AddressOf;
use crate::policy::rule::{Action, Kind};

/// Some lines of a file.
#[derive(Debug)]
pub struct ListLines {
    /// The lines in their order. Fewer than were asked for if the file ends before.
    pub lines: Vec<ListLine>,
    /// The number of lines in the file.
    pub total: u32,
    /// BLAKE3 digest of the file, in hexadecimal.
    pub digest: String,
    /// The format that was recognised, if the list has `format = "auto"`.
    pub detected: Option<Detected>,
}

/// A line of a file.
#[derive(Debug)]
pub struct ListLine {
    /// Its number; 1 is the first.
    pub number: u32,
    /// Its text without whitespace around it; what can't be printed is escaped.
    pub text: String,
    /// What it became, a sentence for each rule and problem. Empty for blank lines and comments, and for lines that only
    /// say something about others.
    pub became: Vec<String>,
}

/// Reads a list's file and returns these lines of it. The file is read in pieces and not kept in memory, except for the
/// formats that need it whole.
///
/// # Errors
/// [`FileError`]; a feed has no file, so it has no lines.
pub fn list_lines(
    list: &List,
    guard_policy: &GuardPolicy,
    lines: RangeInclusive<u32>,
) -> Result<ListLines, FileError> {
    let mut reader = Reader::new(list.into(), list.apex());
    reader.watch(lines.clone());
    let (mut texts, mut hasher) = (LineTexts::new(lines.clone()), blake3::Hasher::new());
    let mut found = Found::new(list, guard_policy, lines);
    let mut each = |reader: &mut Reader, pass, piece: &[u8]| match pass {
        Pass::Scan => reader.scan(piece),
        Pass::Rules => {
            hasher.update(piece);
            texts.feed(piece);
            reader.feed(piece, &mut |rule| found.add(rule));
        }
    };
    let passes: &[Pass] = match reader.is_scanning() {
        true => &[Pass::Scan, Pass::Rules],
        false => &[Pass::Rules],
    };
    match list.content {
        Content::Embedded(text) => {
            for pass in passes {
                each(&mut reader, *pass, text.as_bytes());
            }
        }
        Content::File | Content::Transferred => {
            read_quiet(&list.source.path, passes, |pass, piece, _| {
                each(&mut reader, pass, piece);
            })?;
        }
    }
    let tally = reader.finish(&mut |rule| found.add(rule));
    let texts = texts.finish();
    let mut became = found.finish();
    became.extend(problems(&tally));
    let line = |(number, text)| ListLine {
        became: became
            .iter()
            .filter(|(line, _)| *line == number)
            .map(|(_, became)| became.clone())
            .collect(),
        number,
        text,
    };
    Ok(ListLines {
        lines: texts.texts.into_iter().map(line).collect(),
        total: texts.total,
        digest: hasher.finalize().to_string(),
        detected: tally.detected,
    })
}

/// What the lines became that are no rules, with their numbers.
fn problems(tally: &Tally) -> Vec<(u32, String)> {
    let watched = tally.watched.iter();
    let problems = watched.flat_map(|watched| {
        let bad = watched.bad.iter();
        let bad = bad.map(|bad| (bad.line, format!("bad: {}: {}", bad.text, bad.problem)));
        let ignored = watched.ignored.iter();
        let ignored = ignored.map(|ignored| (ignored.line, format!("ignored: {}", ignored.reason)));
        let skipped = watched.skipped.iter();
        let why = "skipped: a name that is not meant to be a rule, such as localhost";
        let skipped = skipped.map(move |line| (*line, why.to_owned()));
        bad.chain(ignored).chain(skipped)
    });
    problems.collect()
}

/// The rules of the lines.
struct Found<'l> {
    list: &'l List,
    guard_policy: &'l GuardPolicy,
    lines: RangeInclusive<u32>,
    patterns: GuardedPatterns,
    suppressed: SuppressedRules,
    rules: Vec<(u32, String)>,
}

impl<'l> Found<'l> {
    fn new(list: &'l List, guard_policy: &'l GuardPolicy, lines: RangeInclusive<u32>) -> Self {
        Self {
            list,
            guard_policy,
            lines,
            patterns: GuardedPatterns::default(),
            suppressed: SuppressedRules::default(),
            rules: Vec::new(),
        }
    }

    /// All rules that guards leave out are kept with their text.
    fn guarded(&self) -> Guarded {
        Guarded {
            kept: usize::MAX,
            ..Guarded::from(self.list)
        }
    }

    fn add(&mut self, rule: ParsedRule<'_>) {
        if !self.lines.contains(&rule.line) {
            return;
        }
        let (guarded, names) = (self.guarded(), self.guard_policy.protected_names());
        if let ParsedTrigger::Pattern(pattern) = rule.trigger {
            self.patterns.add(pattern, rule.effect, rule.line);
        } else if admits_rule(&mut self.suppressed, names, guarded, rule) {
            self.rules.push((rule.line, rule_text(self.list, rule)));
        }
    }

    /// The rules, and those that guards leave out or warn of, with their lines.
    fn finish(mut self) -> Vec<(u32, String)> {
        let (guarded, names) = (self.guarded(), self.guard_policy.protected_names());
        let (list, rules) = (self.list, &mut self.rules);
        self.patterns
            .finish(&mut self.suppressed, (names, guarded), &mut |rule| {
                rules.push((rule.line, rule_text(list, rule)));
            });
        let left_out = self.suppressed.first.iter();
        let left_out = left_out.map(|left| {
            (
                left.line,
                format!("left out by a guard: {}: it {}", left.rule, left.why),
            )
        });
        let warned = self.suppressed.first_warned.iter();
        let warned = warned.map(|left| {
            (
                left.line,
                format!("warning: {}: it {}", left.rule, left.why),
            )
        });
        let others: Vec<_> = left_out.chain(warned).collect();
        self.rules.extend(others);
        self.rules
    }
}

/// A rule, and what it does.
fn rule_text(list: &List, rule: ParsedRule<'_>) -> String {
    let trigger = match rule.trigger {
        ParsedTrigger::Name(name, scope) => scope.notation(name),
        ParsedTrigger::Pattern(pattern) => format!("/{pattern}/"),
        ParsedTrigger::Network(prefix) => match prefix.of {
            AddressOf::Client => format!("client {}", prefix.network()),
            AddressOf::Answer => format!("answer {}", prefix.network()),
        },
    };
    format!("rule: {trigger}: {}", does(list, rule.effect))
}

/// What a rule with this effect does.
fn does(list: &List, effect: Option<&Effect>) -> String {
    let of_list = || match list.source.kind {
        Kind::Allow => "allowed".to_owned(),
        _ => blocked(list.source.blocking.action),
    };
    let Some(effect) = effect else {
        return of_list();
    };
    let mut text = match &effect.action {
        EffectAction::Source => of_list(),
        EffectAction::Block(action) => blocked(*action),
        EffectAction::Cname { target, prepend } => {
            let prepended = if *prepend { "*." } else { "" };
            format!("an alias of {prepended}{target}")
        }
        EffectAction::Addresses(v4, v6) => {
            let v4 = v4.iter().map(ToString::to_string);
            let all: Vec<_> = v4.chain(v6.iter().map(ToString::to_string)).collect();
            format!("answered with {}", all.join(", "))
        }
        EffectAction::Records(records) => {
            let records: Vec<_> = records.iter().map(ToString::to_string).collect();
            format!("answered with {}", records.join("; "))
        }
        EffectAction::TcpOnly => "answered over TCP only".to_owned(),
        EffectAction::Allow | EffectAction::Void => "allowed".to_owned(),
    };
    text.push_str(match effect.tier {
        Tier::Usual => "",
        Tier::First => ", before all other rules of the list",
        Tier::Important | Tier::ImportantFirst => ", as an important rule",
        Tier::Rewrite => ", as a rewrite",
    });
    if let Some(condition) = &effect.condition {
        text.push_str(&format!(", {condition}"));
    }
    text
}

fn blocked(action: Action) -> String {
    let word = match action {
        Action::Nxdomain => "nxdomain",
        Action::Nodata => "nodata",
        Action::Sinkhole => "sinkhole",
        Action::Refused => "refused",
        Action::Drop => "drop",
    };
    format!("blocked ({word})")
}
