//! The settings that the journal does not record, and how they differ between two configurations.

use crate::config::Config;
use crate::config::feed::Feed;

/// The differing keys that the journal does not record, or not fully, as answers don't depend on them.
pub(super) fn unrecorded(was: &Config, now: &Config) -> impl Iterator<Item = &'static str> {
    let (server, next_server) = (&was.server, &now.server);
    let (upstream, next_upstream) = (&was.upstream, &now.upstream);
    let (selection, next_selection) = (&upstream.selection, &next_upstream.selection);
    let (state, next_state) = (&was.state, &now.state);
    let (guard, next_guard) = (&was.guard, &now.guard);
    let (limits, next_limits) = (&guard.limits, &next_guard.limits);
    let (log, next_log) = (
        &server.recording.query_log,
        &next_server.recording.query_log,
    );
    let (tap, next_tap) = (&server.recording.dnstap, &next_server.recording.dnstap);
    let (top, next_top) = (&server.recording.top, &next_server.recording.top);
    // An exception's line changes with any edit above it.
    let exceptions = |config: &Config| {
        let mut own = config.exceptions.own.clone();
        own.iter_mut().for_each(|own| own.line = 0);
        own
    };
    let names = |config: &Config| {
        let mut sections = config.local.sections.clone();
        sections.iter_mut().for_each(|section| section.line = 0);
        sections
    };
    let forwards = |config: &Config| {
        let mut forwards = config.local.forwards.clone();
        forwards.iter_mut().for_each(|forward| forward.line = 0);
        forwards
    };
    let private = |config: &Config| {
        let downloads = &config.downloads;
        (
            downloads.private_hosts.clone(),
            downloads.private_networks.clone(),
        )
    };
    macro_rules! differing {
        ($($key:literal: $was:expr, $now:expr;)*) => { [$(($key, $was != $now)),*] };
    }
    let keys = differing! {
        "publish": was.publish, now.publish;
        "server.listen": server.listen, next_server.listen;
        "server.workers": server.workers, next_server.workers;
        "server.control": server.control, next_server.control;
        "server.control-group": server.control_group, next_server.control_group;
        "server.tcp-connections": server.tcp_connections, next_server.tcp_connections;
        "server.tcp-connections-per-client":
            server.tcp_connections_per_client, next_server.tcp_connections_per_client;
        "server.tcp-idle-secs": server.tcp_idle, next_server.tcp_idle;
        "server.discard-ms": server.discard, next_server.discard;
        "upstream.servers":
            (&upstream.servers, &upstream.named), (&next_upstream.servers, &next_upstream.named);
        "upstream.bootstrap": upstream.bootstrap, next_upstream.bootstrap;
        "upstream.discover": upstream.discover, next_upstream.discover;
        "upstream.resolv-conf": upstream.resolv_conf, next_upstream.resolv_conf;
        "upstream.ports": upstream.ports, next_upstream.ports;
        "upstream.timeout-ms": upstream.timeout, next_upstream.timeout;
        "upstream.waiting": upstream.waiting, next_upstream.waiting;
        "upstream.waiting-per-client": upstream.waiting_per_client, next_upstream.waiting_per_client;
        "upstream.strategy": selection.strategy, next_selection.strategy;
        "upstream.parallel-servers": selection.parallel_servers, next_selection.parallel_servers;
        "upstream.on-upstream-block": selection.on_upstream_block, next_selection.on_upstream_block;
        "upstream.landing-addresses": selection.landing_addresses, next_selection.landing_addresses;
        "cache.size-mib": was.cache.size_bytes, now.cache.size_bytes;
        "state.dir": state.dir, next_state.dir;
        "state.keep": state.keep, next_state.keep;
        "state.history-days": state.history.days, next_state.history.days;
        "state.history-mib": state.history.bytes, next_state.history.bytes;
        "state.compile-secs": state.deadline, next_state.deadline;
        "download.proxy": was.downloads.proxy, now.downloads.proxy;
        "download.authorities": was.downloads.authorities, now.downloads.authorities;
        "download.allow-http": was.downloads.allow_http, now.downloads.allow_http;
        "download.allow-private": private(was), private(now);
        "download.max-mib": was.downloads.limits.bytes, now.downloads.limits.bytes;
        "download.max-unpacked-mib": was.downloads.limits.unpacked, now.downloads.limits.unpacked;
        "download.timeout-secs": was.downloads.limits.time, now.downloads.limits.time;
        "download.stall-secs": was.downloads.limits.stall, now.downloads.limits.stall;
        "journal.path": was.moves_journal(now), false;
        "journal.key": was.journal.key, now.journal.key;
        "process.user": server.process.user, next_server.process.user;
        "process.group": server.process.group, next_server.process.group;
        "process.landlock": server.process.landlock, next_server.process.landlock;
        "log.format": server.process.log.format, next_server.process.log.format;
        "log.level": server.process.log.level, next_server.process.log.level;
        "metrics.listen": server.metrics.listen, next_server.metrics.listen;
        "metrics.allow": server.metrics.allow, next_server.metrics.allow;
        "query-log.file": log.file, next_log.file;
        "query-log.only": log.only_blocked, next_log.only_blocked;
        "query-log.sample": log.sample, next_log.sample;
        "query-log.client": log.client, next_log.client;
        "query-log.client-key": log.client_key, next_log.client_key;
        "query-log.rotate-mib": log.rotate_bytes, next_log.rotate_bytes;
        "query-log.keep": log.keep, next_log.keep;
        "query-log.tail": log.tail, next_log.tail;
        "dnstap.socket": tap.socket(), next_tap.socket();
        "dnstap.address": tap.address(), next_tap.address();
        "dnstap.messages": (tap.queries, tap.responses), (next_tap.queries, next_tap.responses);
        "dnstap.identity": tap.identity, next_tap.identity;
        "dnstap.version": tap.version, next_tap.version;
        "dnstap.client": tap.client, next_tap.client;
        "dnstap.sample": tap.sample, next_tap.sample;
        "top.enabled": top.enabled, next_top.enabled;
        "top.interval-secs": top.interval, next_top.interval;
        "guard.shrink-percent": limits.shrink_percent, next_limits.shrink_percent;
        "guard.grow-percent": limits.grow_percent, next_limits.grow_percent;
        "guard.max-age-hours": limits.max_age_hours, next_limits.max_age_hours;
        "guard.bad-percent": limits.bad_percent, next_limits.bad_percent;
        "guard.public-suffixes": guard.public_suffixes, next_guard.public_suffixes;
        "guard.protect": guard.protect, next_guard.protect;
        "guard.popular": guard.popular, next_guard.popular;
        "guard.popular-first": guard.popular_first, next_guard.popular_first;
        "guard.release": guard.release, next_guard.release;
        "orders.path": was.orders.dir, now.orders.dir;
        "exceptions.path": was.exceptions.dir, now.exceptions.dir;
        "[[exception]]": exceptions(was), exceptions(now);
        "[[local]]": names(was), names(now);
        "[[forward]]": forwards(was), forwards(now);
    };
    let differing = keys.into_iter().filter(|(_, differs)| *differs);
    differing.map(|(key, _)| key)
}

/// The differing keys of a feed that the journal does not record: how its zone is transferred.
pub(super) fn unrecorded_of_feed(was: &Feed, now: &Feed) -> impl Iterator<Item = &'static str> {
    let (limits, next_limits) = (&was.limits, &now.limits);
    let (timers, next_timers) = (&was.timers, &now.timers);
    let keys = [
        ("primaries", was.primaries != now.primaries),
        ("tsig", was.tsig != now.tsig),
        ("notify-from", was.notify_from != now.notify_from),
        ("max-age-hours", was.max_age_hours != now.max_age_hours),
        ("max-records", limits.records != next_limits.records),
        ("max-transfer-mib", limits.bytes != next_limits.bytes),
        ("max-transfer-secs", limits.time != next_limits.time),
        ("refresh-secs", timers.refresh != next_timers.refresh),
        ("retry-secs", timers.retry != next_timers.retry),
        ("expire-secs", timers.expire != next_timers.expire),
    ];
    let differing = keys.into_iter().filter(|(_, differs)| *differs);
    differing.map(|(key, _)| key)
}
