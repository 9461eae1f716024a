//! Shows lines of a list's file: their texts, and what each of them became.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::config::List;
use crate::control::guard::patterns::GuardedPatterns;
use crate::control::guard::policy::GuardPolicy;
use crate::control::guard::protected::Guarded;
use crate::control::guard::suppressed::admits_rule;
use crate::control::list_file::file::{FileError, Pass, read_passes};
use crate::control::list_file::parse::{
    Detected, LineTexts, ParsedRule, ParsedTrigger, Reader, Tally,
};
use crate::control::list_file::suppressed::SuppressedRules;
use crate::policy::effect::{Effect, EffectAction, Tier};
use crate::policy::prefix::AddressOf;
use crate::policy::record::LocalRecord;
use crate::policy::rule::{Action, Kind};

/// The most rules and problems of one line that are shown: a line may be a whole list.
const SHOWN: usize = 100;

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
    /// Its text without whitespace around it; characters that can't be printed are escaped.
    pub text: String,
    /// Its rules and problems, a sentence for each of the first ones, and the number of the others. Empty for blank lines and
    /// comments, and for lines that only say something about others.
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
    let mut found = LineRules::new(list, guard_policy, lines);
    let (is_scanned, text) = (reader.is_scanning(), list.content.embedded());
    let each = |pass, piece: &[u8], _| match pass {
        Pass::Scan => reader.scan(piece),
        Pass::Rules => {
            hasher.update(piece);
            texts.feed(piece);
            reader.feed(piece, &mut |rule| found.add(None, rule));
        }
    };
    read_passes(&list.source.path, text, is_scanned, each)?;
    let open_line = reader.open_line();
    let tally = reader.finish(&mut |rule| found.add(open_line, rule));
    let texts = texts.finish();
    let mut became = found.finish(open_line);
    for (line, problem) in problems(&tally) {
        became.entry(line).or_default().add(|| problem);
    }
    let line = |(number, text)| ListLine {
        became: became.remove(&number).unwrap_or_default().finish(),
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

/// The problems of the lines that are no rules, with their numbers.
fn problems(tally: &Tally) -> impl Iterator<Item = (u32, String)> {
    tally.watched.iter().flat_map(|watched| {
        let bad = watched.bad.iter();
        let bad = bad.map(|bad| (bad.line, format!("bad: {}: {}", bad.text, bad.problem)));
        let ignored = watched.ignored.iter();
        let ignored = ignored.map(|ignored| (ignored.line, format!("ignored: {}", ignored.reason)));
        let skipped = watched.skipped.iter();
        let why = "skipped: a name that is not meant to be a rule, such as localhost";
        let skipped = skipped.map(move |line| (*line, why.to_owned()));
        bad.chain(ignored).chain(skipped)
    })
}

/// The first sentences on a line, and the number of the others.
#[derive(Default)]
struct Sentences {
    first: Vec<String>,
    more: u64,
}

impl Sentences {
    fn add(&mut self, sentence: impl FnOnce() -> String) {
        match self.first.len() < SHOWN {
            true => self.first.push(sentence()),
            false => self.more += 1,
        }
    }

    fn finish(mut self) -> Vec<String> {
        if self.more > 0 {
            self.first.push(format!("and {} more", self.more));
        }
        self.first
    }
}

/// The rules of the lines.
struct LineRules<'l> {
    list: &'l List,
    guard_policy: &'l GuardPolicy,
    lines: RangeInclusive<u32>,
    patterns: GuardedPatterns,
    suppressed: SuppressedRules,
    sentences: BTreeMap<u32, Sentences>,
}

impl<'l> LineRules<'l> {
    fn new(list: &'l List, guard_policy: &'l GuardPolicy, lines: RangeInclusive<u32>) -> Self {
        Self {
            list,
            guard_policy,
            lines,
            patterns: GuardedPatterns::default(),
            suppressed: SuppressedRules::default(),
            sentences: BTreeMap::new(),
        }
    }

    /// All rules that guards leave out are kept with their text.
    fn guarded(&self) -> Guarded {
        Guarded {
            kept: usize::MAX,
            ..Guarded::from(self.list)
        }
    }

    /// Adds a rule. `open_line` is the number of a last line without a line end.
    fn add(&mut self, open_line: Option<u32>, rule: ParsedRule<'_>) {
        if !self.lines.contains(&rule.line) {
            return;
        }
        let guarded = Guarded {
            cut: open_line == Some(rule.line),
            ..self.guarded()
        };
        let names = self.guard_policy.protected_names();
        if let ParsedTrigger::Pattern(pattern) = rule.trigger {
            self.patterns.add(pattern, rule.effect, rule.line);
        } else if admits_rule(&mut self.suppressed, names, guarded, rule) {
            let sentences = self.sentences.entry(rule.line).or_default();
            sentences.add(|| rule_text(self.list, rule));
        }
    }

    /// The rules, and those that guards leave out or warn of, with their lines.
    fn finish(mut self, open_line: Option<u32>) -> BTreeMap<u32, Sentences> {
        let (guarded, names) = (self.guarded(), self.guard_policy.protected_names());
        let (list, sentences) = (self.list, &mut self.sentences);
        let mut add = |rule: ParsedRule<'_>| {
            let of_line = sentences.entry(rule.line).or_default();
            of_line.add(|| rule_text(list, rule));
        };
        let guard = (names, guarded);
        self.patterns
            .finish(&mut self.suppressed, guard, open_line, &mut add);
        for left in &self.suppressed.first {
            let of_line = sentences.entry(left.line).or_default();
            of_line.add(|| format!("left out by a guard: {}: it {}", left.rule, left.why));
        }
        for warned in &self.suppressed.first_warned {
            let of_line = sentences.entry(warned.line).or_default();
            of_line.add(|| format!("warning: {}: it {}", warned.rule, warned.why));
        }
        self.sentences
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
            let records: Vec<_> = records.iter().map(record_text).collect();
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

/// A record; without a TTL if it has none of its own.
fn record_text(record: &LocalRecord) -> String {
    let text = record.to_string();
    match (record.ttl_secs, text.split_once(' ')) {
        (None, Some((_, without))) => without.to_owned(),
        _ => text,
    }
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::Config;

    /// What each line of a list became; the list has these keys.
    fn became(text: &str, keys: &str) -> Vec<Vec<String>> {
        let folder = tempfile::tempdir().expect("a directory");
        fs::write(folder.path().join("list"), text).expect("written");
        let config = format!("[[list]]\nname = \"l\"\npath = \"list\"\n{keys}\n");
        let config = Config::parse(&config, &folder.path().join("tapis.toml")).expect("valid");
        let guard_policy = GuardPolicy::read(&config);
        let found = list_lines(&config.lists[0], &guard_policy, 1..=100).expect("read");
        assert_eq!(found.total as usize, found.lines.len());
        assert_eq!(found.digest, blake3::hash(text.as_bytes()).to_string());
        found.lines.into_iter().map(|line| line.became).collect()
    }

    #[test]
    fn each_line_of_a_filter_list_has_its_rules_or_why_it_has_none() {
        let text = "! Title\n||ads.example^\n@@||good.example^$important\n||x.example^$dnstype=A|TXT,denyallow=y.x.example\n\
                    example.com##.ad\n||y.example^$badfilter\n||y.example^\n0.0.0.0 h.example localhost\n\
                    ||bad..example^\n/^track[0-9]/\n||co.uk^\n||r.example^$dnsrewrite=192.0.2.1\n";
        let expected: [&[&str]; 12] = [
            &[],
            &["rule: .ads.example: blocked (sinkhole)"],
            &["rule: .good.example: allowed, as an important rule"],
            &[
                "rule: .x.example: blocked (sinkhole), for queries of type A, TXT, but not for .y.x.example",
            ],
            &["ignored: a rule on elements of web pages"],
            &["ignored: takes other rules of the list back"],
            &["ignored: a rule that another line takes back"],
            &[
                "rule: h.example: blocked (sinkhole)",
                "skipped: a name that is not meant to be a rule, such as localhost",
            ],
            &["bad: ||bad..example^: "],
            &["rule: /^track[0-9]/: blocked (sinkhole)"],
            &["left out by a guard: .co.uk: it covers the public suffix co.uk"],
            &["rule: .r.example: answered with A 192.0.2.1, as a rewrite"],
        ];
        let found = became(text, "format = \"adblock\"");
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!(found.len(), expected.len(), "{found:?}");
            let mut pairs = found.iter().zip(expected);
            assert!(
                pairs.all(|(found, expected)| found.starts_with(expected)),
                "{found:?}"
            );
        }
    }

    #[test]
    fn bad_lines_of_every_format_have_their_problems_however_many_precede_them() {
        for (keys, bad, line) in [
            ("format = \"domains\"", "bad name", 20),
            ("format = \"hosts\"", "0.0.0.0", 20),
            ("format = \"wildcard\"", "a..x", 20),
            ("format = \"dnsmasq\"", "address=/x", 20),
            ("format = \"unbound\"", "local-zone: \"x\" bogus", 20),
            ("format = \"rpz\"\nzone = \"rpz.example\"", "x BOGUS .", 20),
            ("format = \"csv\"\ncolumn = \"1\"", "bad name", 20),
            ("format = \"adblock\"", "||bad..x^", 20),
        ] {
            let text = format!("{bad}\n").repeat(line);
            let found = became(&text, keys);
            let last = &found[line - 1];
            assert!(
                last.len() == 1 && last[0].starts_with("bad: "),
                "{keys}: {last:?}"
            );
        }
    }

    #[test]
    fn of_a_line_with_many_rules_and_problems_the_first_hundred_are_shown() {
        let names: Vec<_> = (0..300).map(|n| format!("\"n{n}.example\"")).collect();
        let text = format!("[{}]\n", names.join(","));
        let found = became(&text, "format = \"json\"");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].len(), 101);
        assert!(found[0][99].starts_with("rule: n99.example"), "{found:?}");
        assert_eq!(found[0][100], "and 200 more");
    }

    #[test]
    fn control_characters_and_long_lines_are_safe_to_print() {
        let folder = tempfile::tempdir().expect("a directory");
        let text = format!("\u{1b}]0;x\u{7}\u{202e}\n{}\n", "a".repeat(100_000));
        fs::write(folder.path().join("list"), text).expect("written");
        let config = "[[list]]\nname = \"l\"\npath = \"list\"\n";
        let config = Config::parse(config, &folder.path().join("tapis.toml")).expect("valid");
        let guard_policy = GuardPolicy::read(&config);
        let found = list_lines(&config.lists[0], &guard_policy, 1..=2).expect("read");
        let [first, second] = &found.lines[..] else {
            panic!("{found:?}");
        };
        assert_eq!(first.text, "\\u{1b}]0;x\\u{7}\\u{202e}");
        assert!(second.text.len() < 1000 && second.text.ends_with('…'));
        assert!(
            second.became[0].contains("longer than 4096 bytes"),
            "{second:?}"
        );
    }
}
