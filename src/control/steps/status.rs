//! The answers to requests for the status and for the orders, from the components' states.

use jiff::Timestamp;

use crate::config::order::State;
use crate::config::paths;
use crate::config::shown::{Show, first, more_warnings};
use crate::config::{Config, Content, Origin};
use crate::control::Control;
use crate::control::admin::status::{
    BadCount, BadLine, IgnoredCount, IgnoredLine, ImageStatus, KnownOrder, KnownOrders,
    LeftOutCount, ListHealth, ListStatus, OrdersStatus, PauseStatus, Status,
};
use crate::control::gauges::Gauges;
use crate::control::guard::acceptance::aged;
use crate::control::guard::policy::GuardPolicy;
use crate::control::guard::release::Guard;
use crate::control::list_file::parse::{self, NotApplicable};
use crate::control::publish::compose;
use crate::control::rollback::record::RollbackRecord;

use crate::control::sources::feeds::report::FeedReport;
use crate::control::sources::lists::state::ListState;
use crate::control::sources::orders::problems::MOST_REPORTED;
use crate::control::sources::orders::registry::Known;
use crate::control::zones::report::ZoneReport;
use crate::policy::image::Image;
use crate::policy::rule::Source;

/// Reading a small list for more than this number of seconds is an alarm.
const HANGS_SECS: u64 = 30;

pub(crate) fn status(control: &Control, gauges: Gauges) -> Status {
    let list_of = |state: &ListState| {
        let hits = control.hits.of(
            &state.source.hits_name(),
            &gauges,
            &control.publication.slots,
        );
        let rollback = control
            .rollback
            .record
            .as_ref()
            .filter(|_| state.is_frozen());
        ListStatus {
            held_as: rollback.map(|rollback| rollback.generation),
            download: control.downloads.report(state.name()),
            paused: pause_status(control, &gauges, state),
            ..list_status(state, hits, &control.guard_policy)
        }
    };
    let lists: Vec<_> = control.lists.active.iter().map(list_of).collect();
    let alarms = alarms(control, &gauges);
    let degraded = !alarms.is_empty();
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started_at: control.configuration.started_at,
        config: match &control.configuration.current.origin {
            Origin::BuiltIn => None,
            Origin::File(path) => Some(paths::recorded(path)),
        },
        state_dir: control
            .configuration
            .boot
            .state
            .dir
            .as_deref()
            .map(paths::recorded),
        journal: control
            .configuration
            .boot
            .journal
            .path
            .as_deref()
            .map(paths::recorded),
        generation: control.generation(),
        published_at: control.publication.published_at(),
        images: [
            &control.publication.images().base,
            &control.publication.images().delta,
            &control.publication.images().orders,
        ]
        .into_iter()
        .flatten()
        .map(|image| image_status(image))
        .collect(),
        degraded,
        alarms: alarms
            .into_iter()
            .chain(control.files.unwatched.iter().cloned())
            .collect(),
        restart: needs_restart(
            &control.configuration.boot,
            &control.configuration.current,
            control.publication.plane.restart(),
        ),
        lists,
        feeds: control.feeds.reports(),
        published: control.zones.reports(),
        orders: orders(control, &gauges),
        gauges,
    }
}

/// The problems of the control plane and those in `gauges`, a sentence each.
pub(crate) fn alarms(control: &Control, gauges: &Gauges) -> Vec<String> {
    let lists = control.lists.active.iter();
    let pending = control.lists.pending.iter();
    let pending = pending.flat_map(|pending| &pending.lists);
    let has_rollback = control.rollback.record.is_some();
    lists
        .clone()
        // A rollback is one alarm, not one for each list that it holds.
        .filter(|list| !(has_rollback && list.is_frozen()))
        .filter_map(|list| {
            let alarm = list_alarm(list, &control.guard_policy)?;
            Some(format!("{}: {alarm}", list.name()))
        })
        .chain(
            lists
                .clone()
                .flat_map(|list| download_problems(control, list)),
        )
        .chain(control.feeds.reports().iter().flat_map(FeedReport::alarms))
        .chain(control.zones.reports().iter().flat_map(ZoneReport::alarms))
        .chain(control.configuration.problems.iter().cloned())
        .chain(control.configuration.socket_problem.clone())
        .chain(control.guard_policy.problems().iter().cloned())
        .chain(control.configuration.local.problems().cloned())
        .chain(control.scheduler.problems())
        .chain(control.late_files())
        .chain(lists.chain(pending).filter_map(hangs))
        .chain(
            control
                .persist
                .store
                .problem()
                .map(|problem| format!("the state directory is not up to date: {problem}")),
        )
        .chain(control.lists.pauses.problem())
        .chain(control.hits.problem())
        .chain(control.record.journal.problem())
        .chain(control.record.journal.losses())
        .chain(control.rollback.record.as_ref().map(RollbackRecord::alarm))
        .chain(
            control
                .rollback
                .record
                .iter()
                .flat_map(|rollback| rollback.unrestored.clone()),
        )
        .chain(control.rollback.lost.clone())
        .chain(
            control
                .compiler
                .overfull
                .iter()
                .map(|(_, problem)| problem.clone()),
        )
        .chain(compose::problems(&control.configuration.current))
        .chain(gauges.problems.iter().cloned())
        .collect()
}

/// Why the newest version of a downloaded list is not here. Why it is rejected is an alarm of the list itself.
fn download_problems(control: &Control, list: &ListState) -> Vec<String> {
    let download = control.downloads.report(list.name());
    download.map_or_else(Vec::new, |download| download.alarms(list.name()))
}

/// Why the newest version of a list is not in force, or that the version in force is too old.
pub(crate) fn list_alarm(state: &ListState, guard_policy: &GuardPolicy) -> Option<String> {
    let refused = state.refused.as_ref();
    refused
        .map(|(refusal, _)| refusal.to_string())
        .or_else(|| age_alarm(state, guard_policy))
}

/// The alarm about a version in force that is too old.
fn age_alarm(state: &ListState, guard_policy: &GuardPolicy) -> Option<String> {
    let since = state.aged(guard_policy, Timestamp::now())?;
    let (name, path) = (&state.source.name, &state.source.path);
    Some(aged(name, path, guard_policy.limits(), since).to_string())
}

/// The pause of a list, if it is paused.
fn pause_status(control: &Control, gauges: &Gauges, list: &ListState) -> Option<PauseStatus> {
    let pause = control.lists.pauses.in_force().get(&list.label())?;
    let name = Source {
        paused: true,
        ..Source::clone(&list.source)
    };
    let slots = &control.publication.slots;
    let hits = control.hits.of(&name.hits_name(), gauges, slots);
    Some(PauseStatus {
        pause: pause.clone(),
        would_have_blocked: hits.unwrap_or(0),
    })
}

/// The alarm about a small list that has been read for too long.
fn hangs(list: &ListState) -> Option<String> {
    // A transfer has its own limits.
    let is_file = list.config.content != Content::Transferred;
    let loading = list.loading.filter(|_| is_file && !list.is_large())?;
    let (path, seconds) = (list.source.path.shown(), loading.since.elapsed().as_secs());
    (seconds >= HANGS_SECS).then(|| {
        format!("{path}: not read in {seconds} s: check the disk or the network mount; the last good state stays in force")
    })
}

fn orders(control: &Control, gauges: &Gauges) -> OrdersStatus {
    let (registry, now) = (&control.scheduler.registry, control.scheduler.now());
    let mut status = OrdersStatus {
        next_change: registry.next(now),
        warnings: registry.warnings(control.lists.active.iter().map(ListState::name)),
        hits_since: Some(control.hits.since()),
        ..OrdersStatus::default()
    };
    for known in registry.known() {
        let (order, state) = (known.order, known.schedule.state(now));
        *status.states.entry(state).or_default() += 1;
        if state == State::InForce && order.dates.review_at.at() <= now {
            status.overdue_reviews.push(order.id.clone());
        }
        let hits = control.hits.of(
            &format!("{}{}", Source::ORDER, order.id),
            gauges,
            &control.publication.slots,
        );
        if let Some(hits) = hits.filter(|hits| *hits > 0) {
            status.hits.insert(order.id.clone(), hits);
        }
    }
    let counts = |known: &Known<'_>| {
        let state = known.schedule.state(now);
        matches!(state, State::Scheduled | State::InForce | State::Suspended)
    };
    let found = registry.known().filter(counts).flat_map(|known| {
        let found = registry.findings(known.order).iter();
        found.map(move |finding| format!("order {}: {finding}", known.order.id))
    });
    let (found, more) = first(MOST_REPORTED, found);
    status.warnings.extend(found);
    status
        .warnings
        .extend(more.map(|more| format!("orders: {}", more_warnings(more))));
    for exception in registry.exceptions() {
        match exception.until.is_some_and(|until| until.at() <= now) {
            true => status.exceptions_over += 1,
            false => status.exceptions += 1,
        }
    }
    status
}

pub(crate) fn known_orders(control: &Control) -> KnownOrders {
    let (registry, now) = (&control.scheduler.registry, control.scheduler.now());
    let order = |Known { order, schedule }: Known<'_>| {
        let known = KnownOrder {
            path: order.path.clone(),
            state: schedule.state(now),
            dates: order.dates.clone(),
        };
        (order.id.clone(), known)
    };
    KnownOrders {
        dir: registry.orders_dir().map(paths::recorded),
        orders: registry.known().map(order).collect(),
    }
}

fn image_status(image: &Image) -> ImageStatus {
    let facts = image.facts();
    ImageStatus {
        rules: facts.rules,
        pruned: image.pruned(),
        bytes: image.size(),
        made_at: image.provenance().made_at,
    }
}

fn list_status(state: &ListState, hits: Option<u64>, guard_policy: &GuardPolicy) -> ListStatus {
    let source = &state.source;
    let loaded = state.loaded.as_ref();
    let tally = loaded.map(|loaded| &loaded.tally);
    let refused = state.refused.as_ref();
    let is_aged = state.aged(guard_policy, Timestamp::now()).is_some();
    ListStatus {
        name: source.name.clone(),
        path: source.path.clone(),
        kind: source.kind,
        action: source.blocking.action,
        scope: state.as_read().scope,
        state: match (loaded, &state.refused) {
            (None, _) => ListHealth::Missing,
            (Some(_), Some(_)) => ListHealth::Held,
            (Some(_), None) => ListHealth::Current,
        },
        guards: match refused {
            Some((refusal, _)) => refusal.guards().into(),
            None if is_aged => vec![Guard::Old],
            None => Vec::new(),
        },
        held_as: None,
        download: None,
        paused: None,
        alarm: list_alarm(state, guard_policy),
        alarm_since: refused.map(|(_, since)| *since),
        rules: loaded.map_or(0, |loaded| loaded.rules),
        hits,
        disabled: source.is_disabled(),
        loaded_at: loaded.map(|loaded| loaded.at),
        took_ms: loaded.map_or(0, |loaded| loaded.took.as_millis() as u64),
        digest: loaded.map(|loaded| loaded.digest.clone()),
        ended: loaded.is_some_and(|loaded| loaded.tally.ended),
        detected: tally.and_then(|tally| tally.detected),
        lines: tally.map_or(0, |tally| tally.lines),
        skipped: tally.map_or(0, |tally| tally.skipped),
        whole: state.config.required || !state.config.warn.is_empty(),
        bad: tally.map_or_else(Vec::new, |tally| {
            let count = |(problem, count): &(parse::Bad, u32)| BadCount {
                problem: problem.to_string(),
                count: *count,
            };
            tally.bad.iter().map(count).collect()
        }),
        first_bad: tally.map_or_else(Vec::new, |tally| {
            let line = |bad: &parse::BadLine| BadLine {
                line: bad.line,
                text: bad.text.clone(),
                problem: bad.problem.to_string(),
            };
            tally.first.iter().map(line).collect()
        }),
        ignored: tally.map_or_else(Vec::new, |tally| {
            let all = tally.ignored.iter();
            let count = |(reason, count): &(NotApplicable, u32)| IgnoredCount {
                reason: reason.to_string(),
                count: *count,
            };
            all.map(count).collect()
        }),
        first_ignored: tally.map_or_else(Vec::new, |tally| {
            let line = |ignored: &parse::IgnoredLine| IgnoredLine {
                line: ignored.line,
                text: ignored.text.clone(),
                reason: ignored.reason.to_string(),
            };
            tally.first_ignored.iter().map(line).collect()
        }),
        left_out: tally.map_or_else(Vec::new, |tally| {
            let all = tally.guarded.left_out.iter();
            all.map(|&(protection, count)| LeftOutCount { protection, count })
                .collect()
        }),
        first_left_out: tally.map_or_else(Vec::new, |tally| tally.guarded.first.clone()),
        warned: tally.map_or(0, |tally| tally.guarded.warned),
        first_warned: tally.map_or_else(Vec::new, |tally| tally.guarded.first_warned.clone()),
    }
}

/// The keys that differ between two configurations and take effect only after a restart, and the keys in `plane`, which
/// the data plane can't apply without a restart.
pub(crate) fn needs_restart(boot: &Config, now: &Config, plane: &[String]) -> Vec<String> {
    let (server, next) = (&boot.server, &now.server);
    let (state, next_state) = (&boot.state, &now.state);
    let differing = [
        ("[server] workers", server.workers != next.workers),
        ("[server] control", server.control != next.control),
        (
            "[server] control-group",
            server.control_group != next.control_group,
        ),
        ("[process] user", server.process.user != next.process.user),
        (
            "[process] group",
            server.process.group != next.process.group,
        ),
        (
            "[process] landlock",
            server.process.landlock != next.process.landlock,
        ),
        (
            "[log] format",
            server.process.log.format != next.process.log.format,
        ),
        ("[state] dir", state.dir != next_state.dir),
        ("[state] keep", state.keep != next_state.keep),
        (
            "[state] history-days",
            state.history.days != next_state.history.days,
        ),
        (
            "[state] history-mib",
            state.history.bytes != next_state.history.bytes,
        ),
        (
            "[state] compile-secs",
            state.deadline != next_state.deadline,
        ),
        ("[journal] path", boot.moves_journal(now)),
        ("[journal] key", boot.journal.key != now.journal.key),
    ];
    let changed = differing.into_iter().filter(|(_, differs)| *differs);
    let changed = changed.map(|(key, _)| key.to_owned());
    changed.chain(plane.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::control::data_plane::NoHosts;
    use crate::control::sources::files::Files;
    use crate::control::sources::pending::PendingConfig;
    use crate::control::sources::wall_clock::Still;

    #[test]
    fn settings_that_need_a_restart_are_named_by_their_keys() {
        let config = |text: &str| Config::parse(text, Path::new("tapis.toml")).expect("valid");
        let boot = config("[state]\ndir = \"a\"");
        for (now, keys) in [
            ("", &["[state] dir"][..]),
            ("[state]\ndir = \"b\"", &["[state] dir"]),
            ("[state]\ndir = \"a\"\nkeep = 4", &["[state] keep"]),
            (
                "[state]\ndir = \"a\"\ncompile-secs = 60\n[journal]\npath = \"j\"\nkey = \"k\"",
                &["[state] compile-secs", "[journal] path", "[journal] key"],
            ),
            (
                "[server]\nworkers = 3\ncontrol = \"c\"\n[state]\ndir = \"a\"",
                &["[server] workers", "[server] control"],
            ),
        ] {
            assert_eq!(needs_restart(&boot, &config(now), &[]), keys, "{now}");
        }
        assert!(needs_restart(&boot, &boot, &[]).is_empty());
        let both = &["[state] dir", "[journal] path"][..];
        let journal = "[journal]\npath = ";
        for (boot, now, keys) in [
            ("\"one\"", "\"two\"", both),
            ("\"one\"", "", both),
            ("", "\"two\"", both),
            ("\"one\"", "\"one\"", &both[..1]),
            ("", "", &both[..1]),
            ("\"a/journal.jsonl\"", "", &both[..1]),
            ("", "\"a/journal.jsonl\"", &[]),
        ] {
            let text = |dir: &str, path: &str| match path {
                "" => format!("[state]\ndir = \"{dir}\"\n"),
                path => format!("[state]\ndir = \"{dir}\"\n{journal}{path}\n"),
            };
            let next = if keys.is_empty() { "a" } else { "b" };
            let (boot, now) = (text("a", boot), text(next, now));
            let (was, is) = (config(&boot), config(&now));
            assert_eq!(needs_restart(&was, &is, &[]), keys, "{boot} to {now}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_new_list_that_is_read_for_too_long_is_an_alarm() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = |text: &str| Config::parse(text, &folder.path().join("tapis.toml"));
        let text = "[[list]]\nname = \"slow\"\npath = \"slow\"\n";
        let (old, new) = (config("").expect("valid"), config(text).expect("valid"));
        let control = Control::start(old, Arc::new(Still), Arc::new(NoHosts));
        let mut control = control.expect("a first generation");
        let guard_policy = Arc::clone(&control.guard_policy);
        let pending = PendingConfig::new(
            new,
            (guard_policy, control.configuration.local.clone()),
            None,
            &control.lists.active,
            &Files::new(),
        );
        control.lists.pending.insert(pending).lists[0].start(1);
        let alarms = |control: &Control| status(control, Gauges::default()).alarms.join("; ");
        assert!(!alarms(&control).contains("slow"));
        let pending = control.lists.pending.as_mut().expect("it waits");
        let loading = pending.lists[0].loading.as_mut().expect("it is read");
        let since = loading.since.checked_sub(Duration::from_secs(HANGS_SECS));
        loading.since = since.expect("the machine has run for longer");
        let alarms = alarms(&control);
        assert!(
            alarms.contains("slow: not read in 30 s: check the disk"),
            "{alarms}"
        );
    }
}
