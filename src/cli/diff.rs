//! `tapis diff`: prints the names for which clients get different answers in two generations, or the rules that differ
//! in two images.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use clap::Args;

use super::configuration::{Choice, Need, read_config};
use super::failure::Failure;
use super::journal::PastArgs;
use super::server::ControlArgs;
use crate::config::Config;
use crate::control::inspect::diff::answers::{self, Answer, AnswerDifference};
use crate::control::inspect::diff::rules::{self, RuleDifference, Scopes};
use crate::control::inspect::diff::triggers::{self, TriggerDifference};
use crate::control::inspect::diff::{Change, Counts, CountsBySource, Generations, kept_lists};
use crate::control::inspect::policy_at::PolicyAt;
use crate::control::persist::store::read_image;
use crate::policy::images::Images;
use crate::policy::rule::Action;
use crate::wire::name::Name;
use crate::wire::presentation::TypeText;
use crate::wire::rtype;

#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// The old image file, or the number of the old generation.
    old: String,
    /// The new image file, or the number of the new generation.
    new: String,
    /// Print only how many names differ.
    #[arg(long)]
    summary: bool,
    #[command(flatten)]
    past: PastArgs,
}

impl DiffArgs {
    /// Files need no configuration.
    pub(super) fn need(&self) -> Need {
        match [&self.old, &self.new].map(|which| Side::parse(which)) {
            [Side::File(_), Side::File(_)] => Need::Nothing,
            _ => Need::AsServer,
        }
    }
}

/// An image or a generation to compare.
enum Side<'a> {
    File(&'a Path),
    Generation(u64),
}

impl<'a> Side<'a> {
    fn parse(which: &'a str) -> Self {
        let file = Path::new(which);
        match which.parse() {
            Ok(generation) if !file.exists() => Self::Generation(generation),
            _ => Self::File(file),
        }
    }

    fn images(&self, choice: &Choice) -> Result<Images, Failure> {
        match self {
            Self::File(file) => Ok(Arc::new(read_image(file)?).into()),
            Self::Generation(generation) => Ok(kept_lists(&configuration(choice)?, *generation)?),
        }
    }
}

/// Prints the differences. Exit code 0 if there are none, 1 if there are some, 3 if that is not known.
pub(super) fn run(choice: &Choice, args: &DiffArgs, out: &mut impl Write) -> Result<(), Failure> {
    let (old, new) = (Side::parse(&args.old), Side::parse(&args.new));
    let journal = args.past.files()?;
    let differs = match (&old, &new) {
        (Side::Generation(old), Side::Generation(new)) => {
            let config = configuration(choice)?;
            match Generations::read(&config, journal, [*old, *new])? {
                Generations::Recorded(policies) => {
                    let [was, now] = &*policies;
                    report_unknown(&[(*old, was), (*new, now)], out)?;
                    print_answers(was, now, args.summary, out)?
                }
                Generations::Kept([old, new]) => {
                    writeln!(
                        out,
                        "only rules of lists are compared, not answers, orders and exceptions: the journal does not have \
                         both generations"
                    )?;
                    print_rules(old, new, args.summary, out)?
                }
            }
        }
        _ if !journal.is_empty() => {
            let why =
                "--journal is for two generations: leave it out, as an image file has no journal";
            return Err(Failure::Other(why.into()));
        }
        _ => {
            let (old, new) = (old.images(choice)?, new.images(choice)?);
            print_rules(old, new, args.summary, out)?
        }
    };
    if differs {
        return Err(Failure::Reported);
    }
    writeln!(out, "no difference")?;
    Ok(())
}

/// The configuration, with the state directory and the journal that the running server uses.
fn configuration(choice: &Choice) -> Result<Config, Failure> {
    choice.as_served(&ControlArgs::default(), read_config(choice.path.as_ref())?)
}

/// Prints the notes about both policies. Fails if the rules of a list are not known: the differences are not known
/// then.
fn report_unknown(sides: &[(u64, &PolicyAt); 2], out: &mut impl Write) -> Result<(), Failure> {
    for (generation, policy) in sides {
        for note in &policy.notes {
            writeln!(out, "generation {generation}: {note}")?;
        }
    }
    match sides.iter().any(|(_, policy)| policy.has_unknown_rules()) {
        true => Err(Failure::Unknown),
        false => Ok(()),
    }
}

/// Prints the differences in answers. Returns whether there are any.
fn print_answers(
    old: &PolicyAt,
    new: &PolicyAt,
    summary: bool,
    out: &mut impl Write,
) -> Result<bool, Failure> {
    let differences = answers::compare(old, new, |difference| match summary {
        true => Ok(()),
        false => print_answer(difference, out).map_err(Failure::from),
    })?;
    if !summary {
        print_triggers(&differences.triggers, out)?;
    }
    print_counts(&differences.counts, out)?;
    for change in &differences.settings {
        let shown = |value: &Option<serde_json::Value>| {
            value
                .as_ref()
                .map_or_else(|| "none".to_owned(), ToString::to_string)
        };
        let (key, was, now) = (&change.key, shown(&change.was), shown(&change.now));
        writeln!(out, "~ {key}: {was} -> {now}")?;
    }
    Ok(!differences.is_empty())
}

fn print_answer(difference: &AnswerDifference<'_>, out: &mut impl Write) -> io::Result<()> {
    let AnswerDifference {
        change,
        name,
        scope,
        source,
        qtype,
        old,
        new,
    } = difference;
    let (mark, name) = (mark(*change), scope.notation(name));
    let source = source.map_or_else(String::new, |source| format!(" ({source})"));
    let of_type = match *qtype {
        rtype::A => String::new(),
        other => format!(", {}", TypeText(other)),
    };
    let shows_details = match (old, new) {
        (Answer::Blocked { action: old, .. }, Answer::Blocked { action: new, .. }) => old == new,
        _ => false,
    };
    let (old, new) = (
        ShownAnswer(old, shows_details),
        ShownAnswer(new, shows_details),
    );
    writeln!(out, "{mark} {name}{source}{of_type}: {old} -> {new}")
}

/// Prints the differences in rules of lists. Returns whether there are any.
fn print_rules(
    old: Images,
    new: Images,
    summary: bool,
    out: &mut impl Write,
) -> Result<bool, Failure> {
    let triggers = triggers::compare(&old, &new);
    let mut counts = rules::compare(old, new, |difference| match summary {
        true => Ok(()),
        false => print_rule(difference, out),
    })?;
    for difference in &triggers {
        let count = counts.entry(difference.source.clone()).or_default();
        count.add(difference.change);
    }
    if !summary {
        print_triggers(&triggers, out)?;
    }
    print_counts(&counts, out)?;
    Ok(!counts.is_empty())
}

fn print_rule(difference: &RuleDifference<'_>, out: &mut impl Write) -> io::Result<()> {
    let RuleDifference {
        change,
        name,
        list,
        old,
        new,
    } = difference;
    let (mark, old, new) = (
        mark(*change),
        ShownRules(name, *old),
        ShownRules(name, *new),
    );
    match change {
        Change::Added => writeln!(out, "{mark} {new} ({list})"),
        Change::Removed => writeln!(out, "{mark} {old} ({list})"),
        Change::Changed if difference.old == difference.new => {
            writeln!(out, "{mark} {old} with another effect ({list})")
        }
        Change::Changed => writeln!(out, "{mark} {old} now {new} ({list})"),
    }
}

fn print_triggers(differences: &[TriggerDifference], out: &mut impl Write) -> io::Result<()> {
    for TriggerDifference {
        change,
        trigger,
        source,
    } in differences
    {
        let note = match change {
            Change::Changed => " with another effect",
            Change::Added | Change::Removed => "",
        };
        writeln!(out, "{} {trigger}{note} ({source})", mark(*change))?;
    }
    Ok(())
}

fn mark(change: Change) -> char {
    match change {
        Change::Added => '+',
        Change::Removed => '-',
        Change::Changed => '~',
    }
}

fn print_counts(counts: &CountsBySource, out: &mut impl Write) -> io::Result<()> {
    for (source, count) in counts {
        let Counts {
            added,
            removed,
            changed,
        } = count;
        writeln!(
            out,
            "{source}: {added} added, {removed} removed, {changed} changed"
        )?;
    }
    Ok(())
}

/// An answer to print. The `bool` is true if the two answers that are compared have the same action. Then TTL,
/// addresses and EDE are printed, too.
struct ShownAnswer<'a>(&'a Answer<'a>, bool);

impl fmt::Display for ShownAnswer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Answer::Blocked {
            action,
            own,
            sinkhole_v4,
            sinkhole_v6,
            ttl_secs,
            ede,
            extra_text,
        } = self.0
        else {
            return f.write_str(match self.0 {
                Answer::Allowed => "allowed",
                Answer::Excepted => "excepted",
                _ => "upstream",
            });
        };
        match (own, action) {
            (Some(own), _) => write!(f, "{own}")?,
            (None, Action::Nxdomain) => f.write_str("nxdomain")?,
            (None, Action::Nodata) => f.write_str("nodata")?,
            (None, Action::Sinkhole) => f.write_str("sinkhole")?,
            (None, Action::Refused) => f.write_str("refused")?,
            (None, Action::Drop) => f.write_str("drop")?,
        }
        if !self.1 {
            return Ok(());
        }
        if *action == Action::Sinkhole {
            let v4 = sinkhole_v4.iter().map(ToString::to_string);
            let v6 = sinkhole_v6.iter().map(ToString::to_string);
            for address in v4.chain(v6) {
                write!(f, " {address}")?;
            }
        }
        write!(f, ", TTL {ttl_secs}")?;
        match ede.code() {
            Some(code) => write!(f, ", EDE {code} {extra_text:?}"),
            None => Ok(()),
        }
    }
}

/// Rules on a name in the notation of lists.
struct ShownRules<'n>(&'n Name, Scopes);

impl fmt::Display for ShownRules<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, scope) in self.1.iter().enumerate() {
            let space = if number == 0 { "" } else { " " };
            write!(f, "{space}{}", scope.notation(self.0))?;
        }
        Ok(())
    }
}
