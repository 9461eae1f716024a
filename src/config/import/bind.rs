//! Imports the configuration of BIND.

use std::cell::Cell;
use std::path::Path;

use toml_edit::{Array, Value};

use super::bind_acl;
use super::bind_options::{
    Context, forwarder, import_option, is_of_process, is_turned_off, why_left,
};
use super::bind_syntax::{self, Statement, first_line};
use super::draft::{Draft, SourceLine};
use super::error::ImportError;
use super::folder::{Folder, ReadFile, absolute};
use crate::names::typed;

const WEEK_SECS: i64 = 7 * 24 * 60 * 60;

/// How deep files may include each other.
const DEPTH_MAX: usize = 16;

/// Statements that say how the process runs.
const PROCESS_STATEMENTS: &[&str] = &[
    "logging",
    "controls",
    "statistics-channels",
    "lwres",
    "managed-keys",
    "trusted-keys",
    "trust-anchors",
];

/// Imports a configuration.
///
/// # Errors
/// A syntax error in the main file.
pub(super) fn import(
    folder: &Folder,
    main: &ReadFile,
    draft: &mut Draft,
) -> Result<(), ImportError> {
    let statements = bind_syntax::parse(main)?;
    let mut include = |path: &str, line: &SourceLine, depth: usize| {
        let base = line.file.parent().unwrap_or(Path::new("."));
        if depth >= DEPTH_MAX {
            draft.leave(
                line,
                format!("include {path}"),
                "files include each other too deeply, or in a circle",
            );
            return Vec::new();
        }
        let mut all = Vec::new();
        let files = folder.glob(base, path).and_then(|files| {
            files
                .iter()
                .map(|file| folder.read(file))
                .collect::<Result<Vec<_>, _>>()
        });
        let parsed = files.and_then(|files| {
            let parsed = files
                .iter()
                .map(|file| bind_syntax::parse(file).map_err(|error| error.to_string()));
            parsed.collect::<Result<Vec<_>, _>>()
        });
        match parsed {
            Ok(parsed) => all.extend(parsed.into_iter().flatten()),
            Err(why) => draft.leave(line, format!("include {path}"), why),
        }
        all
    };
    let statements = bind_syntax::with_includes(statements, &mut include, 0);
    let first = first_line(&main.path);
    let options = statements
        .iter()
        .filter(|statement| statement.word(0) == "options");
    let options: Vec<_> = options.flat_map(|statement| &statement.block).collect();
    let policies = options
        .iter()
        .filter(|option| option.word(0) == "response-policy");
    let acls = statements
        .iter()
        .filter(|statement| statement.word(0) == "acl");
    let directory = options.iter().find(|option| option.word(0) == "directory");
    let context = Context {
        folder,
        directory: directory.map(|option| option.word(1).to_owned()),
        acls: acls
            .map(|acl| (acl.word(1).to_owned(), acl.clone()))
            .collect(),
        elements: Cell::default(),
        policies: policies.flat_map(|option| policy_zones(option)).collect(),
    };
    for option in &options {
        import_option(option, draft);
    }
    bind_acl::import(&context, &options, draft);
    import_policies(&context, &statements, draft);
    for statement in &statements {
        match statement.word(0) {
            "options" | "acl" => {}
            "zone" => import_zone(&context, statement, draft),
            // The secret is not shown.
            "key" => draft.leave(
                &statement.line,
                format!("key {}", statement.word(1)),
                "write the secret into a separate file: see `tsig` of a [[feed]]",
            ),
            "view" => draft.leave(
                &statement.line,
                format!("view {}", statement.word(1)),
                "one policy holds for all clients: import the statements of one view as a file",
            ),
            "server" | "primaries" | "masters" => draft.leave(
                &statement.line,
                format!("{} {}", statement.word(0), statement.word(1)),
                "write the addresses into the section that uses them",
            ),
            other if PROCESS_STATEMENTS.contains(&other) => {}
            other => draft.leave(&statement.line, other, "Tapis has no such setting"),
        }
    }
    finish(&first, draft);
    Ok(())
}

/// The policy zones of a `response-policy`, each with the options behind the block, which count if it has none of its own.
fn policy_zones(option: &Statement) -> Vec<Statement> {
    let shared = &option.words[1..];
    let zones = option.block.iter().filter(|zone| zone.word(0) == "zone");
    let zones = zones.cloned().map(|mut zone| {
        zone.words.extend_from_slice(shared);
        zone
    });
    zones.collect()
}

fn finish(first: &SourceLine, draft: &mut Draft) {
    if draft.listen.is_empty() {
        draft.listen_everywhere(53, first);
    }
    if !draft.has("server", "allow") {
        draft.allow_private(first);
        let reason = "BIND answers the networks of its interfaces (localnets): [server] allow has all private ones, add others";
        draft.leave(first, "allow-query", reason);
    }
    if !draft.has("upstream", "servers") {
        let reason = "BIND resolves from the root servers, Tapis forwards: name recursive servers in [upstream] servers; BIND itself, on \
                      another port, can be one";
        draft.leave(first, "recursion", reason);
    }
}

/// The path of a zone's file.
fn path(context: &Context<'_>, file: &str, line: &SourceLine) -> String {
    let base = line.file.parent().unwrap_or(Path::new("."));
    let base = context
        .directory
        .as_deref()
        .map_or(base.to_owned(), |directory| base.join(directory));
    match context.folder.find(&base, file) {
        Ok(path) => absolute(&path),
        Err(_) => base.join(file).to_string_lossy().into_owned(),
    }
}

fn is_zone(statement: &Statement, name: &str) -> bool {
    statement.word(0) == "zone"
        && statement
            .word(1)
            .trim_end_matches('.')
            .eq_ignore_ascii_case(name)
}

/// The items of a list, each with the list, whose settings hold for it.
fn items(list: &Statement) -> impl Iterator<Item = (&Statement, &Statement)> {
    list.block.iter().map(move |item| (list, item))
}

/// The servers that a zone is transferred from.
fn primaries(zone: &Statement, draft: &mut Draft) -> Vec<String> {
    let lists = ["primaries", "masters"]
        .into_iter()
        .filter_map(|keyword| zone.get(keyword));
    let mut found = Vec::new();
    for (list, item) in lists.flat_map(items) {
        match forwarder(item, list) {
            Ok(server) => found.push(server),
            Err(why) => draft.leave(&item.line, format!("primary {}", item.word(0)), why),
        }
        if item.after("key").is_some() {
            let reason =
                "write the key's secret into a file, and name it with `tsig` in the [[feed]]";
            draft.leave(&item.line, "key of a primary", reason);
        }
    }
    found
}

/// The options of a policy zone, or, behind the block of `response-policy`, of all.
fn policy_options(policy: &Statement, keys: &mut Vec<(&str, Value)>, draft: &mut Draft) {
    if let Some(text) = policy.after("max-policy-ttl") {
        match text.parse::<i64>() {
            Ok(secs) => keys.push(("max-policy-ttl-secs", secs.clamp(1, WEEK_SECS).into())),
            Err(_) => draft.leave(
                &policy.line,
                format!("max-policy-ttl {text}"),
                "not a number of seconds",
            ),
        }
    }
    for option in ["nsip-enable", "nsdname-enable", "recursive-only"] {
        if policy.after(option) == Some("no") {
            let reason = "rules of all kinds hold, for all queries that are answered";
            draft.leave(&policy.line, format!("{option} no"), reason);
        }
    }
    for (option, key) in [("break-dnssec", "break-dnssec"), ("add-soa", "soa")] {
        if let Some(word) = policy.after(option) {
            keys.push((key, (word == "yes").into()));
        }
    }
}

/// The policy zones, in the order of `response-policy`.
fn import_policies(context: &Context<'_>, statements: &[Statement], draft: &mut Draft) {
    for policy in &context.policies {
        let name = policy.word(1).trim_end_matches('.');
        let mut keys: Vec<(&str, Value)> = vec![("zone", name.into())];
        match policy.after("policy") {
            None | Some("given") => {}
            Some("cname") => {
                keys.push(("policy", "cname".into()));
                let target = policy
                    .after("cname")
                    .unwrap_or_default()
                    .trim_end_matches('.');
                keys.push(("cname", target.into()));
            }
            // The old word for it.
            Some("no-op") => keys.push(("policy", "passthru".into())),
            Some(word) => keys.push(("policy", word.into())),
        }
        policy_options(policy, &mut keys, draft);
        let zone = statements.iter().find(|statement| is_zone(statement, name));
        let Some(zone) = zone else {
            draft.leave(
                &policy.line,
                format!("response-policy {name}"),
                "the configuration has no such zone",
            );
            continue;
        };
        let primaries = primaries(zone, draft);
        if !primaries.is_empty() {
            keys.push(("primaries", primaries.into_iter().collect::<Array>().into()));
            draft.section("feed", name, keys, &policy.line);
        } else if let Some(file) = zone.get("file") {
            keys.insert(0, ("path", path(context, file.word(1), &file.line).into()));
            keys.insert(1, ("format", "rpz".into()));
            draft.list(name, keys, &policy.line);
        } else {
            draft.leave(
                &zone.line,
                format!("zone {name}"),
                "has neither a file nor primaries",
            );
        }
    }
}

/// Whether an option of a zone is read, or changes no answer.
fn is_known_of_zone(option: &Statement) -> bool {
    let is_read = matches!(
        option.word(0),
        "type" | "file" | "forwarders" | "primaries" | "masters" | "server-addresses"
    );
    let is_format = matches!(
        option.word(0),
        "check-names" | "masterfile-format" | "journal"
    );
    let is_closed = option.word(0) == "allow-query"
        && !matches!(&option.block[..], [only] if only.word(0) == "any");
    let is_process = is_of_process(option.word(0)) && !is_closed;
    is_read || is_format || is_turned_off(option) || is_process
}

fn import_zone(context: &Context<'_>, zone: &Statement, draft: &mut Draft) {
    let (line, name) = (&zone.line, zone.word(1).trim_end_matches('.'));
    let shown = format!("zone {name}");
    if context.policies.iter().any(|policy| {
        policy
            .word(1)
            .trim_end_matches('.')
            .eq_ignore_ascii_case(name)
    }) {
        return;
    }
    let kind = zone.get("type").map_or("", |kind| kind.word(1));
    for option in zone.block.iter().filter(|option| !is_known_of_zone(option)) {
        let key = option.word(0);
        draft.leave(&option.line, format!("{shown}: {key}"), why_left(key));
    }
    match kind {
        "hint" => {}
        // This server answers these zones itself.
        "master" | "primary"
            if matches!(
                name,
                "localhost" | "127.in-addr.arpa" | "0.in-addr.arpa" | "255.in-addr.arpa"
            ) => {}
        "master" | "primary" => match (typed::one(name), zone.get("file")) {
            (Ok((apex, None)), Some(file)) if apex.label_count() > 0 => {
                draft
                    .zones
                    .push((apex, path(context, file.word(1), &file.line), line.clone()));
            }
            _ => draft.leave(line, shown, "has no file, or is the root"),
        },
        "forward" | "static-stub" | "stub" | "slave" | "secondary" | "mirror" => {
            let keyword = match kind {
                "forward" => vec!["forwarders"],
                "static-stub" => vec!["server-addresses"],
                _ => vec!["primaries", "masters"],
            };
            let lists = keyword.into_iter().filter_map(|keyword| zone.get(keyword));
            for (list, item) in lists.flat_map(items) {
                match forwarder(item, list) {
                    Ok(server) => {
                        draft.forward(if name.is_empty() { "." } else { name }, &server, line);
                    }
                    Err(why) => draft.leave(&item.line, &shown, why),
                }
            }
            draft.note_zone(name, line);
            // Without forwarders, the zone is resolved like all others.
            let is_general = zone
                .get("forwarders")
                .is_some_and(|list| list.block.is_empty());
            if let (true, Ok((name, None))) = (kind == "forward" && is_general, typed::one(name))
                && name.label_count() > 0
            {
                draft.forward_generally(&name, false, line);
            }
            if matches!(kind, "stub" | "static-stub") {
                let reason = "its servers are asked as resolvers: names that they delegate to other servers are not found";
                draft.leave(line, &shown, reason);
            }
            if matches!(kind, "slave" | "secondary" | "mirror") {
                draft.leave(
                    line,
                    shown,
                    "the zone is not transferred: queries for its names go to its primaries",
                );
            }
        }
        _ => draft.leave(
            line,
            format!("{shown} of type {kind}"),
            "not a type of zones that carries over",
        ),
    }
}
