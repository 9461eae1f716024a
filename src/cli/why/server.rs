//! An explanation by the running server: what it has in force, with the lines of the files that it read.

use std::io::{self, Write};

use jiff::Timestamp;

use super::{Explanation, Rule, WhyArgs, conclude, matching};
use crate::cli::configuration::Choice;
use crate::cli::plain::Plain;
use crate::cli::{Failure, runtime};
use crate::config::shown::Show;
use crate::config::{Config, Content, List};
use crate::control::admin::client::{ClientError, call};
use crate::control::admin::status::{ListStatus, Status};
use crate::control::admin::verdict::{MatchingRule, Verdict};
use crate::control::guard::policy::Rails;
use crate::control::sources::lists::load::digest;
use crate::control::sources::orders::registry::Book;
use crate::sys::process::user_id;

/// What a server says about the name and about its lists.
pub(super) struct Server {
    status: Status,
    verdict: Verdict,
}

impl Server {
    /// Asks the server of a configuration; `None` without one. Standard error says why one is not asked.
    pub(super) fn ask(choice: &Choice, args: &WhyArgs) -> Result<Option<Self>, Failure> {
        if !choice.may_be_served() {
            return Ok(None);
        }
        let places = args.control.places(choice.path.as_ref())?;
        let (user, runtime) = (user_id(), runtime()?);
        let asked = runtime.block_on(async {
            let status: Status = call(&places, user, "/status", None::<&()>).await?;
            if !choice.is_of(&status) {
                return Ok(Err(status));
            }
            let verdict = call(&places, user, "/why", Some(&args.question())).await?;
            Ok(Ok(Self { status, verdict }))
        });
        let unasked = match asked {
            Ok(Ok(server)) => return Ok(Some(server)),
            Ok(Err(Status {
                config: Some(other),
                ..
            })) => format!(
                "the running server has another configuration, {}",
                other.shown()
            ),
            Ok(Err(_)) => "the running server has the built-in configuration".to_owned(),
            Err(ClientError::Absent { .. }) => return Ok(None),
            Err(error) => error.to_string(),
        };
        // If standard error is closed, the explanation is the same.
        let _ = writeln!(
            Plain(io::stderr()),
            "tapis: {unasked}; explaining by the files as they are"
        );
        Ok(None)
    }

    /// Finds the lines of the rules, and the texts of orders and exceptions.
    pub(super) fn explain(self, config: &Config, args: &WhyArgs) -> Explanation {
        let Self { status, verdict } = self;
        let rails = Rails::read(config);
        let book = Book::read(config);
        let mut left_out = book.problems();
        left_out.extend_from_slice(rails.problems());
        let (mut rules, mut notes) = (Vec::new(), Vec::new());
        for (source, of_source) in by_source(&verdict.rules) {
            let in_force = || of_source.iter().map(|rule| unplaced(rule));
            match find(config, &status, source) {
                None => rules.extend(in_force()),
                Some((list, state)) => {
                    let mut found = matching(list, &rails, &args.name, &mut left_out);
                    if !is_as_loaded(list, state) {
                        let of_file = std::mem::replace(&mut found, in_force().collect());
                        for rule in &mut found {
                            let same = of_file.iter().find(|other| other.rule == rule.rule);
                            rule.line = same.and_then(|same| same.line);
                        }
                    }
                    rules.extend(found);
                }
            }
        }
        for state in &status.lists {
            let name = &state.name;
            if let Some(alarm) = &state.alarm {
                notes.push(format!("list {name}: {alarm}"));
            }
            let is_silent = verdict.rules.iter().all(|rule| rule.source != *name);
            if let Some((list, _)) = find(config, &status, name)
                && is_silent
                && state.left_out.iter().any(|left| left.count > 0)
            {
                // Only for what the guard rails leave out of it.
                matching(list, &rails, &args.name, &mut left_out);
            }
        }
        let generation = Some(verdict.generation);
        let at = Timestamp::now();
        Explanation {
            generation,
            notes,
            ..conclude(args, &book, at, verdict, rules, left_out)
        }
    }
}

/// The rules of each source, the best source first.
fn by_source(rules: &[MatchingRule]) -> Vec<(&str, Vec<&MatchingRule>)> {
    let mut sources: Vec<(&str, Vec<_>)> = Vec::new();
    for rule in rules {
        match sources.iter_mut().find(|(name, _)| *name == rule.source) {
            Some((_, of_source)) => of_source.push(rule),
            None => sources.push((&rule.source, vec![rule])),
        }
    }
    sources
}

/// A list in the configuration, and how the server has it.
fn find<'f>(
    config: &'f Config,
    status: &'f Status,
    name: &str,
) -> Option<(&'f List, &'f ListStatus)> {
    let list = config.lists.iter().find(|list| list.source.name == name)?;
    let state = status.lists.iter().find(|state| state.name == name)?;
    Some((list, state))
}

/// Whether the file still holds what the server has in force.
fn is_as_loaded(list: &List, state: &ListStatus) -> bool {
    let text = match list.content {
        Content::Embedded(text) => Some(text),
        Content::File => None,
    };
    let now = digest(&list.source.path, text).ok();
    now.is_some() && now == state.digest && list.scope == state.scope
}

/// A rule in force on an unknown line.
fn unplaced(rule: &MatchingRule) -> Rule {
    Rule {
        source: rule.source.clone(),
        kind: rule.kind,
        rule: rule.text(),
        scope: rule.scope,
        path: rule.path.clone(),
        line: None,
    }
}
