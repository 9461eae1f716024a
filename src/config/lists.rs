//! Validates the sections `[[list]]` and `[[feed]]`, whose order in the file is the precedence of their rules.

use std::collections::HashMap;
use std::path::Path;

use crate::policy::rule::{Against, Blocking, Kind, Scope, Source};
use crate::wire::name::Name;

use super::blocking::blocking;
use super::comments::{self, Comments};
use super::download::{self, Downloads};
use super::feed::{self, Feed};
use super::findings::{Findings, quote};
use super::format;
use super::guard;
use super::paths;
use super::raw;
use super::reader::At;
use super::types::{Content, Format, List};
use super::values::{choice, file, plain_name, public_text};
use super::zone::{self, PolicyZone};

const KINDS: &[(&str, Kind)] = &[("block", Kind::Block), ("allow", Kind::Allow)];
/// The meanings of a bare name. `below` can only be written out, as `*.x`.
const SCOPES: &[(&str, Scope)] = &[("exact", Scope::Exact), ("subtree", Scope::Subtree)];

/// Whether rules that allow names count for all lists.
const ALLOW_SCOPES: &[(&str, bool)] = &[("list", false), ("all-lists", true)];

/// A section, and its first line.
enum Section {
    List(Box<raw::List>),
    Feed(Box<feed::Raw>),
}

/// Where a name is given: the kind of section, and the line.
type Place = (&'static str, u32);

/// Validates the sections. The lists are in the order of the file; each feed has one. A list without a valid name, path
/// or format is left out, and so is a feed without a valid name, zone or primary.
pub(super) fn validate(
    (lists, feeds): (Vec<raw::List>, Vec<feed::Raw>),
    block: &Blocking,
    (state_dir, downloads): (Option<&Path>, &Downloads),
    findings: &mut Findings,
) -> (Vec<List>, Vec<Feed>) {
    let lists = lists
        .into_iter()
        .map(|raw| (raw.line, Section::List(Box::new(raw))));
    let feeds = feeds
        .into_iter()
        .map(|raw| (raw.line, Section::Feed(Box::new(raw))));
    let mut sections: Vec<_> = lists.chain(feeds).collect();
    sections.sort_by_key(|(line, _)| *line);
    let (mut lists, mut feeds) = (Vec::new(), Vec::new());
    let (mut names, mut zones) = (HashMap::new(), HashMap::new());
    for (_, section) in sections {
        match section {
            Section::List(raw) => {
                report_duplicate(&mut names, raw.name.as_ref(), "list", findings);
                lists.extend(list(*raw, block, (state_dir, downloads), findings));
            }
            Section::Feed(raw) => {
                let found = feed(*raw, block, (&mut names, &mut zones), findings);
                if let Some((list, feed)) = found {
                    lists.push(list);
                    feeds.push(feed);
                }
            }
        }
    }
    (lists, feeds)
}

/// Reports a name that an earlier list or feed has.
fn report_duplicate(
    names: &mut HashMap<String, Place>,
    name: Option<&At<String>>,
    section: &'static str,
    findings: &mut Findings,
) {
    if let Some(At { key, line, value }) = name
        && let Some((first, at)) = names.insert(value.clone(), (section, *line))
    {
        let shown = quote(value);
        let remedy = match *key {
            "zone" => "add another name to the feed, as in name = \"...\"",
            _ => "rename one",
        };
        let message =
            format!("{key} is {shown}, but the {first} on line {at} has the same name: {remedy}");
        findings.report(*line, message);
    }
}

/// Validates a list; `None` if its name, path, URL or format is invalid, or the name or path is missing.
fn list(
    mut raw: raw::List,
    block: &Blocking,
    (state_dir, downloads): (Option<&Path>, &Downloads),
    findings: &mut Findings,
) -> Option<List> {
    let format = format::validate(raw.format.take(), findings);
    if let Some(format) = format {
        format::report_unused(format, &raw, findings);
    }
    let zone = match format {
        Some(Format::Rpz) => {
            report_unused(&raw, findings);
            Some(zone::validate(raw.zone, findings))
        }
        Some(_) => {
            raw.zone.report_unused(findings);
            None
        }
        // The format may be meant as "rpz", so only values are validated.
        None => {
            zone::validate(raw.zone, findings);
            None
        }
    };
    let name = plain_name(raw.name, findings);
    let has_path = raw.path.is_some();
    let mut path = file(raw.path, findings);
    let mut download = None;
    match raw.download.is_given() {
        true => {
            let may_be_json = matches!(format, Some(Format::Json | Format::Auto));
            download =
                raw.download
                    .validate((state_dir, has_path), may_be_json, downloads, findings);
            path = name.as_ref().zip(download.as_ref()).zip(state_dir).map(
                |((name, download), dir)| {
                    dir.join(download::DIRECTORY).join(download.file_name(name))
                },
            );
        }
        false => raw.download.report_unused(findings),
    }
    let public = public_text(raw.text, findings);
    let kind = choice(raw.kind, KINDS, findings).unwrap_or(Kind::Block);
    let allows_across = allows_across(raw.allow_scope, format, kind, findings);
    let comments = comments::validate(raw.comments, findings).unwrap_or_default();
    let scope = choice(raw.scope, SCOPES, findings).unwrap_or(Scope::Exact);
    let warn = guard::only_warning(raw.guards, findings).unwrap_or_default();
    let mut blocking = blocking(raw.block, block, findings);
    if let Some(zone) = &zone {
        blocking = zone.blocking(blocking);
    }
    let name = name?;
    blocking.extra_text = extra_text(&name, public);
    Some(List {
        format: format?,
        comments,
        scope,
        column: raw.column.map(|at| at.value.into()),
        required: raw.required.is_some_and(|at| at.value),
        warn,
        content: Content::File,
        download: download.map(Box::new),
        source: Source {
            name,
            path: path?,
            kind,
            blocking,
            against: Against::All,
            allows_across,
            zone: zone.as_ref().map(PolicyZone::of_source),
            paused: false,
        },
        zone,
    })
}

/// Validates a feed: its list, and how it is transferred. `None` if its name or zone is invalid, or if it has no valid
/// primary.
fn feed(
    mut raw: feed::Raw,
    block: &Blocking,
    (names, zones): (&mut HashMap<String, Place>, &mut HashMap<Name, u32>),
    findings: &mut Findings,
) -> Option<(List, Feed)> {
    let position = raw.zone.position();
    let zone = zone::validate(std::mem::take(&mut raw.zone), findings);
    let apex = zone.apex.clone().zip(position);
    let apex = apex.map(|(value, (key, line))| At { key, line, value });
    let name = raw.name(apex.as_ref(), findings);
    report_duplicate(names, name.as_ref(), "feed", findings);
    if let Some(At { key, line, value }) = &apex
        && let Some(first) = zones.insert(value.clone(), *line)
    {
        let message = format!(
            "{key} is {}, but the feed on line {first} has the same zone: remove one of the two, and name all \
             primaries in the other",
            quote(&value.to_string())
        );
        findings.report(*line, message);
    }
    let public = public_text(raw.text.take(), findings);
    let warn = guard::only_warning(raw.guards.take(), findings).unwrap_or_default();
    let blocking = blocking(std::mem::take(&mut raw.block), block, findings);
    let feed = raw.transfer(name.map(|at| at.value), apex.map(|at| at.value), findings)?;
    let mut blocking = zone.blocking(blocking);
    blocking.extra_text = extra_text(&feed.name, public);
    let list = List {
        format: Format::Rpz,
        comments: Comments::default(),
        scope: Scope::Exact,
        column: None,
        required: false,
        warn,
        content: Content::Transferred,
        download: None,
        source: Source {
            name: feed.name.clone(),
            path: paths::of_feed(&feed.zone),
            kind: Kind::Block,
            blocking,
            against: Against::All,
            allows_across: false,
            zone: Some(zone.of_source()),
            paused: false,
        },
        zone: Some(zone),
    };
    Some((list, feed))
}

/// Validates the key that says whether the rules that allow names count for all lists.
fn allows_across(
    given: Option<At<String>>,
    format: Option<Format>,
    kind: Kind,
    findings: &mut Findings,
) -> bool {
    let Some(given) = given else {
        return false;
    };
    let why = match format {
        Some(format) if !format.has_allow_rules() => {
            Some("only rules with `@@` in adblock lists can count for all lists")
        }
        _ if kind == Kind::Allow => Some("an allow list counts for all lists"),
        _ => None,
    };
    if let Some(why) = why {
        let message = format!("{} has no meaning here, as {why}: remove it", given.key);
        findings.report(given.line, message);
        return false;
    }
    choice(Some(given), ALLOW_SCOPES, findings).unwrap_or(false)
}

/// Reports the keys that a response policy zone can't have, because its records say the same.
fn report_unused(raw: &raw::List, findings: &mut Findings) {
    let allow = raw.kind.as_ref().filter(|kind| kind.value == "allow");
    let text = |given: &Option<At<String>>| given.as_ref().map(|at| (at.key, at.line));
    let block = &raw.block;
    let unused = [
        (
            allow.map(|at| (at.key, at.line)),
            "its records say which names are allowed: remove it, or set policy = \"passthru\"",
        ),
        (
            text(&raw.scope),
            "its records on x and on *.x are separate rules: remove it",
        ),
        (
            text(&raw.comments),
            "comments in zone files begin with `;`: remove it",
        ),
        (text(&raw.column), "it has no columns: remove it"),
        (
            text(&block.action),
            "its records have actions: remove it, or set `policy`",
        ),
        (
            block.sinkhole.as_ref().map(|at| (at.key, at.line)),
            "its records have addresses: remove it, or set policy = \"cname\" and `cname`",
        ),
        (
            block.ttl_secs.as_ref().map(|at| (at.key, at.line)),
            "its records have TTLs: remove it, or set max-policy-ttl-secs",
        ),
    ];
    for (key, why) in unused {
        if let Some((key, line)) = key {
            let value = if key == "kind" { " \"allow\"" } else { "" };
            findings.report(
                line,
                format!("{key}{value} has no meaning for a response policy zone, as {why}"),
            );
        }
    }
}

/// The text that is sent to clients: the list's name, and its public text if it has one.
fn extra_text(name: &str, public: Option<String>) -> String {
    match public {
        Some(text) => format!("{name}: {text}"),
        None => name.to_owned(),
    }
}
