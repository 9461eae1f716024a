//! Owns `tapis diff`: which names two images, or two generations, treat differently.
//! Refuses to weigh lists and orders against each other: it compares what each of them says.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::configuration::Need;
use super::{Failure, read_config};
use crate::control::journal::past::{Moment, Past};
use crate::control::orders::book::Book;
use crate::control::store::{read_generation, read_image};
use crate::policy::image::Image;
use crate::policy::image::order::Path;
use crate::policy::image::walk::Lies;
use crate::policy::images::Images;
use crate::policy::rule::Scope;
use crate::wire::name::Name;

#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// The old one: an image's file, or the number of a generation that the state directory has.
    old: String,
    /// The new one.
    new: String,
    /// Print how many names differ, not which.
    #[arg(long)]
    summary: bool,
}

impl DiffArgs {
    /// Files need no configuration.
    pub(super) fn need(&self) -> Need {
        match [&self.old, &self.new].map(|which| generation(which)) {
            [None, None] => Need::Nothing,
            _ => Need::Same,
        }
    }
}

/// The generation that an argument names, unless there is a file of that name.
fn generation(which: &str) -> Option<u64> {
    which
        .parse()
        .ok()
        .filter(|_| !FilePath::new(which).exists())
}

/// What a list says of a name: a bit for each scope.
type Scopes = u8;

/// How many names differ, of one list.
#[derive(Default)]
struct Counts {
    added: usize,
    removed: usize,
    changed: usize,
}

/// Exit code 0 when nothing differs, 1 when something does.
pub(super) fn run(
    config: Option<&PathBuf>,
    args: &DiffArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let old = Side::open(config, &args.old)?;
    let new = Side::open(config, &args.new)?;
    let mut counts = BTreeMap::<String, Counts>::new();
    old.each(|name, list, scopes| {
        let now = new.scopes(name, list);
        if now == scopes {
            return Ok(());
        }
        let count = counts.entry(list.to_owned()).or_default();
        if now == 0 {
            count.removed += 1;
        } else {
            count.changed += 1;
        }
        match (args.summary, now) {
            (true, _) => Ok(()),
            (false, 0) => writeln!(out, "- {} ({list})", Shown(name, scopes)),
            (false, _) => writeln!(
                out,
                "~ {} now {} ({list})",
                Shown(name, scopes),
                Shown(name, now)
            ),
        }
    })?;
    new.each(|name, list, scopes| {
        if old.scopes(name, list) != 0 {
            return Ok(());
        }
        counts.entry(list.to_owned()).or_default().added += 1;
        if args.summary {
            return Ok(());
        }
        writeln!(out, "+ {} ({list})", Shown(name, scopes))
    })?;
    for (list, count) in &counts {
        let Counts {
            added,
            removed,
            changed,
        } = count;
        writeln!(
            out,
            "{list}: {added} added, {removed} removed, {changed} changed"
        )?;
    }
    let differ = match (&old.orders, &new.orders) {
        (Some(old), Some(new)) => orders(old, new, out)?,
        (None, None) => false,
        _ => {
            writeln!(
                out,
                "orders and exceptions are not compared: the journal knows one side alone"
            )?;
            false
        }
    };
    if counts.is_empty() && !differ {
        writeln!(out, "no difference")?;
        return Ok(());
    }
    Err(Failure::Told)
}

/// Tells which rules of orders and exceptions differ. Returns whether any do.
fn orders(
    old: &BTreeSet<(String, String)>,
    new: &BTreeSet<(String, String)>,
    out: &mut impl Write,
) -> std::io::Result<bool> {
    for (source, rule) in old.difference(new) {
        writeln!(out, "- {rule} ({source})")?;
    }
    for (source, rule) in new.difference(old) {
        writeln!(out, "+ {rule} ({source})")?;
    }
    Ok(old != new)
}

/// Names as lists write them.
struct Shown<'n>(&'n Name, Scopes);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut first = true;
        for (scope, sign) in [
            (Scope::Exact, ""),
            (Scope::Subtree, "."),
            (Scope::Below, "*."),
        ] {
            if self.1 & bit(scope) != 0 {
                let space = if std::mem::take(&mut first) { "" } else { " " };
                write!(f, "{space}{sign}{}", self.0)?;
            }
        }
        Ok(())
    }
}

fn bit(scope: Scope) -> Scopes {
    match scope {
        Scope::Exact => 1,
        Scope::Below => 2,
        Scope::Subtree => 4,
    }
}

/// The rules of one side.
struct Side {
    images: Images,
    /// Rules of orders and exceptions in force, with what they belong to; nothing where they are not
    /// known.
    orders: Option<BTreeSet<(String, String)>>,
}

impl Side {
    fn open(config: Option<&PathBuf>, which: &str) -> Result<Self, Failure> {
        let Some(generation) = generation(which) else {
            let base = Some(Arc::new(read_image(FilePath::new(which))?));
            return Ok(Self {
                images: Images {
                    base,
                    ..Images::default()
                },
                orders: None,
            });
        };
        let config = read_config(config)?;
        let Some(dir) = &config.state.dir else {
            return Err(Failure::Other(
                "there are no generations without a `dir` in [state]; name two files".into(),
            ));
        };
        let kept = read_generation(dir, config.journal.as_deref(), generation)?;
        let past = match &config.journal {
            Some(journal) => Past::read(journal, Moment::Generation(generation))?,
            None => None,
        };
        let orders = past.map(|past| {
            let since = past.since;
            let book = Book::of_past(&config, past.orders, past.exceptions);
            let rules = book.rules_at(since).into_iter();
            rules
                .map(|(source, name, scope)| (source, format!("{}{name}", scope.sign())))
                .collect()
        });
        Ok(Self {
            images: Images {
                base: Some(Arc::new(kept.base)),
                delta: kept.delta.map(Arc::new),
                orders: None,
            },
            orders,
        })
    }

    /// What a list says of exactly that name.
    fn scopes(&self, name: &Name, list: &str) -> Scopes {
        let (mut said, mut whole) = (0, false);
        if let Some(delta) = &self.images.delta {
            let sources = &delta.provenance().sources;
            whole = sources
                .iter()
                .any(|source| source.name == list && source.whole);
            said = on(delta, name, list);
        }
        match &self.images.base {
            Some(base) if !whole => said | on(base, name, list),
            _ => said,
        }
    }

    /// Calls `each` with every name that a list says something of, once.
    fn each(
        &self,
        mut each: impl FnMut(&Name, &str, Scopes) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        for image in [&self.images.base, &self.images.delta]
            .into_iter()
            .flatten()
        {
            let first = self
                .images
                .base
                .as_ref()
                .filter(|base| !Arc::ptr_eq(base, image));
            let mut cursor = image.cursor();
            while cursor.advance() {
                let name = Path::of(cursor.path()).to_name();
                let mut last = None;
                for rule in cursor
                    .rules()
                    .filter(|rule| last.replace(rule.source) != Some(rule.source))
                {
                    let sources = &image.provenance().sources;
                    let Some(source) = sources.get(usize::from(rule.source)) else {
                        continue;
                    };
                    // What the base has, too, was told.
                    let told = first.is_some_and(|base| on(base, &name, &source.name) != 0);
                    let scopes = self.scopes(&name, &source.name);
                    if scopes != 0 && !told {
                        each(&name, &source.name, scopes)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The scopes of a list's rules on exactly that name in an image.
fn on(image: &Image, name: &Name, list: &str) -> Scopes {
    let mut found = None;
    image.walk(&[name], |_, lies, _, value| {
        if lies == Lies::At {
            found = Some(value);
        }
    });
    let mut said = 0;
    let sources = &image.provenance().sources;
    for rule in found.iter().flat_map(|value| image.value(*value).rules()) {
        let source = sources.get(usize::from(rule.source));
        if source.is_some_and(|source| source.name == list) {
            said |= bit(rule.scope);
        }
    }
    said
}
