//! `tapis check`: reports all problems of the configuration, the lists and the orders at once.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::Args;

use super::failure::Failure;
use super::{list_summary, server};
use crate::config::shown::{Show, counted};
use crate::config::{Config, Content, List, Origin};
use crate::control::admin::client::ClientError;
use crate::control::admin::status::{ListHealth, ListStatus, Status};
use crate::control::guard::acceptance::InForce;
use crate::control::guard::policy::GuardPolicy;
use crate::control::guard::protected::Guarded;
use crate::control::guard::release::Guards;
use crate::control::list_file::file::digest;
use crate::control::local_names::LocalSources;
use crate::control::publish::compose;
use crate::control::sources::lists::load::load_as;
use crate::control::sources::orders::registry::OrderRegistry;
use crate::daemon::{self, Running};
use crate::sys::account::account;
use crate::sys::group::user_name;
use crate::sys::process::user_id;

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Exit with code 0 even if lists have bad lines. (A server skips them.)
    #[arg(long)]
    allow_bad_lines: bool,
    /// Print every rule that guards leave out or warn of, not only the first ten of each list.
    #[arg(long)]
    all: bool,
    /// Check only the files, not whether this user could start the server. Use it if the server will run on another
    /// machine, or as another user.
    #[arg(long)]
    files_only: bool,
}

/// The status of the running server, if one can be asked. Prints notes about the checks that are skipped because of a
/// running server. (The ports and files that the server uses are not free, which is not a problem.)
fn server_status(
    config: &Config,
    out: &mut impl Write,
) -> Result<Result<Status, ClientError>, Failure> {
    let sockets = daemon::control_sockets(config.server.control.as_deref());
    let status = server::get::<Status>(&sockets, "/status")?;
    match &status {
        Ok(status) => {
            let process = status.pid;
            let listen = status.gauges.listen.iter().chain(&status.gauges.metrics);
            let listen: Vec<_> = listen.map(ToString::to_string).collect();
            writeln!(
                out,
                "note: a server runs (process {process}) and uses {}, its control socket, state directory and \
                 journal: whether a restart could use them was not checked",
                listen.join(", ")
            )?;
        }
        Err(ClientError::Absent { .. }) => {
            let dir = config.state.dir.as_ref();
            if let Some(dir) = dir.filter(|dir| dir.join("current").exists()) {
                writeln!(
                    out,
                    "note: lists were not compared with their states in force, as no server runs; a start compares them \
                     with the states in {}",
                    dir.shown()
                )?;
            }
        }
        Err(error) => writeln!(
            out,
            "note: whether a start could use its ports, control socket, state directory and journal was not checked, \
             as a server may use them, and lists were not compared with their states in force: {error}"
        )?,
    }
    Ok(status)
}

/// A warning if the server's user is not the user of this process, and so may have other permissions. If no server
/// could be asked, it is the user that the configuration names for a start by root, or else the owner of the server's folders.
fn other_user(config: &Config, server: &Result<Status, ClientError>) -> Option<String> {
    // An unknown user is among the problems.
    let configured = config.server.process.user.as_deref();
    let configured = configured.and_then(|name| account(name).ok().flatten());
    let configured = configured.map(|account| account.user);
    let (known_by, user) = match server {
        Ok(status) => ("the server's user is".to_owned(), status.gauges.user?),
        Err(ClientError::Untrusted { server, .. }) => ("the server's user is".to_owned(), *server),
        Err(_) if user_id() == 0 && configured.is_some() => {
            ("the user of [process] is".to_owned(), configured?)
        }
        Err(_) => {
            let control = config.server.control.as_deref();
            let control = control.and_then(|path| std::path::absolute(path).ok());
            let folders = [
                config.state.dir.as_deref(),
                control.as_deref().and_then(Path::parent),
            ];
            let (folder, owner) = folders.into_iter().flatten().find_map(owned_by_other)?;
            (format!("{} belongs to", folder.shown()), owner)
        }
    };
    let name = |user| user_name(user).unwrap_or_else(|| user.to_string());
    let (named, this) = (name(user), name(user_id()));
    (user != user_id()).then(|| {
        format!(
            "{known_by} {named}, and this is {this}: whether {named} can read and write the same files was not checked; \
             run check as that user, or with --files-only"
        )
    })
}

/// A warning about files that only root can read, if this process runs as root.
fn readable_by_root_only(config: &Config, registry: &OrderRegistry) -> Option<String> {
    if user_id() != 0 {
        return None;
    }
    let file = match &config.origin {
        Origin::File(path) => Some(path),
        Origin::BuiltIn => None,
    };
    let lists = config.lists.iter().map(|list| &list.source.path);
    let orders = registry.orders().map(|order| &order.path);
    let others = [&config.journal.key, &config.orders.dir];
    let files = file.into_iter().chain(others.into_iter().flatten());
    let is_closed = |path: &&PathBuf| {
        fs::metadata(path).is_ok_and(|meta| meta.uid() == 0 && meta.mode() & 0o044 == 0)
    };
    let mut closed = files.chain(lists).chain(orders).filter(is_closed);
    let first = closed.next()?.shown().to_string();
    let more = match closed.count() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    Some(format!(
        "this is root, and only root can read {first}{more}: a server that runs as another user could not"
    ))
}

/// The folder and its owner. `None` if the owner is this user or root: a server may use a folder of root, whatever user
/// the server runs as.
fn owned_by_other(folder: &Path) -> Option<(&Path, u32)> {
    let owner = fs::metadata(folder).ok()?.uid();
    (owner != user_id() && owner != 0).then_some((folder, owner))
}

/// The state in force of a list, to compare it with the file; `None` if there is nothing to compare, for example
/// because the file has the same content.
fn in_force(list: &List, status: &Status) -> Option<InForce> {
    let is_same =
        |known: &&ListStatus| known.name == list.source.name && known.kind == list.source.kind;
    let known = status.lists.iter().find(is_same)?;
    let is_loaded = || {
        let digest = digest(&list.source.path, list.content.embedded()).ok();
        digest.is_some() && digest == known.digest && known.scope == list.scope
    };
    // A list that is held by a rollback is not compared: the server compares it with the state before the rollback.
    let is_rolled_back = known.state == ListHealth::Held && known.guards.is_empty();
    if known.state == ListHealth::Missing || is_rolled_back || is_loaded() {
        return None;
    }
    Some(InForce {
        rules: known.rules,
        signature: None,
        ended: known.ended,
        format: known.detected.map(|detected| detected.format),
        released: Guards::NONE,
    })
}

pub(super) fn run(
    config: Option<&PathBuf>,
    args: &CheckArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let (config, mistakes) = match config {
        Some(path) => Config::examine(path),
        None => (Some(Config::built_in()), None),
    };
    let mut good = mistakes.is_none();
    if let Some(mistakes) = mistakes {
        writeln!(out, "{mistakes}")?;
    }
    let Some(config) = config else {
        return Err(Failure::Reported);
    };
    let registry = OrderRegistry::read(&config);
    let mut server = None;
    // If the file has mistakes, `config` has defaults in their place, which are not worth a check.
    if good {
        let mut problems = compose::problems(&config);
        if let Err(problem) = daemon::check_upstreams(&config) {
            problems.push(problem.to_string());
        }
        let mut warnings = compose::warnings(&config);
        if !args.files_only {
            let asked = server_status(&config, out)?;
            let running = asked.as_ref().ok().map(|status| Running {
                process: status.pid,
                listen: [&*status.gauges.listen, &*status.gauges.metrics].concat(),
            });
            if matches!(asked, Ok(_) | Err(ClientError::Absent { .. })) {
                problems.extend(daemon::problems(&config, running.as_ref()));
                problems.extend(daemon::file_problems(&config));
            }
            warnings = daemon::warnings(&config, running.as_ref());
            let other = other_user(&config, &asked);
            warnings.extend(other.or_else(|| match &asked {
                Ok(_) => None,
                Err(_) => readable_by_root_only(&config, &registry),
            }));
            server = asked.ok();
        }
        for problem in &problems {
            writeln!(out, "{problem}")?;
        }
        good = problems.is_empty();
        for warning in warnings {
            writeln!(out, "note: {warning}")?;
        }
    }
    let problems = registry.problems();
    for problem in &problems {
        writeln!(out, "{problem}")?;
    }
    good &= problems.is_empty();
    for warning in registry.warnings(config.lists.iter().map(|list| &*list.source.name)) {
        writeln!(out, "note: {warning}")?;
    }
    let guard_policy = GuardPolicy::read(&config);
    for problem in guard_policy.problems() {
        good = false;
        writeln!(out, "{problem}")?;
    }
    for problem in LocalSources::read(&config).problems() {
        good = false;
        writeln!(out, "{problem}")?;
    }
    for order in registry.orders() {
        for finding in guard_policy.findings(order) {
            writeln!(out, "warning: order {}: {finding}", order.id)?;
        }
    }
    let mut released = Vec::new();
    let most = if args.all {
        usize::MAX
    } else {
        list_summary::SHOWN
    };
    for list in &config.lists {
        let (name, path) = (&list.source.name, &list.source.path);
        if list.content == Content::Transferred {
            writeln!(
                out,
                "note: {name}: a running server transfers its zone; its rules were not checked"
            )?;
            continue;
        }
        if list.download.is_some() && !path.exists() {
            writeln!(
                out,
                "note: {name}: a running server downloads it; its rules were not checked"
            )?;
            continue;
        }
        let guarded = Guarded {
            kept: most,
            ..list.into()
        };
        let before = server.as_ref().and_then(|status| in_force(list, status));
        let loaded = match load_as(
            list,
            guarded,
            &guard_policy,
            before.as_slice(),
            Guards::NONE,
        ) {
            Ok(fresh) => fresh.loaded,
            Err(refusal) => {
                good = false;
                let refusal = match server.is_none() && list.required {
                    true => refusal.without_server(),
                    false => refusal.to_string(),
                };
                writeln!(out, "{name}: {refusal}")?;
                continue;
            }
        };
        let tally = &loaded.tally;
        good &= tally.bad_total() == 0 || args.allow_bad_lines;
        list_summary::print_list(name, path, loaded.rules as u64, tally, most, out)?;
        released.extend_from_slice(&tally.guarded.released);
    }
    for name in guard_policy.vain_releases(&released, registry.orders()) {
        writeln!(
            out,
            "note: [guard] release: no rule on {name} needs it, so it has no effect"
        )?;
    }
    if good {
        let lists = counted(config.lists.len(), "list", "lists");
        let orders = match registry.orders().count() {
            0 => String::new(),
            count => format!(", {}", counted(count, "order", "orders")),
        };
        writeln!(out, "good: {lists}{orders}")?;
        return Ok(());
    }
    Err(Failure::Reported)
}
