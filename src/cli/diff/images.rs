//! Which rules of which lists are in one of two images and not in the other.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use super::Counts;
use crate::cli::failure::Failure;
use crate::policy::image::Image;
use crate::policy::image::order::Path;
use crate::policy::image::walk::Lies;
use crate::policy::images::Images;
use crate::policy::rule::Scope;
use crate::wire::name::Name;

/// What a list says of a name: a bit for each scope.
type Scopes = u8;

/// Compares list by list. Returns whether anything differs.
pub(super) fn compare(
    old: Images,
    new: Images,
    summary: bool,
    out: &mut impl Write,
) -> Result<bool, Failure> {
    let (old, new) = (Side { images: old }, Side { images: new });
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
        match (summary, now) {
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
        if summary {
            return Ok(());
        }
        writeln!(out, "+ {} ({list})", Shown(name, scopes))
    })?;
    super::summarise(&counts, out)?;
    Ok(!counts.is_empty())
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
}

impl Side {
    /// What a list says of exactly that name.
    fn scopes(&self, name: &Name, list: &str) -> Scopes {
        if self.images.gone.contains(list) {
            return 0;
        }
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
