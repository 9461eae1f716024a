//! Divides the files that the process may open between connections of clients and sockets to upstream.

use std::thread;

use crate::config::Config;

/// The maximum number of open files that the process requests. Linux allows no more by default.
pub(super) const OPEN_FILES: usize = 1 << 20;

/// Files for everything else: lists, configuration, control socket and its clients, the log, the runtime, scrapes of
/// metrics, secondaries of published zones of which only the key is known, and the shared TCP connections to upstream, one
/// or two for each server.
const RESERVE: usize = 160;
/// The maximum number of sockets for queries to upstream.
const MOST_UPSTREAM: usize = 8192;

/// The maximum number of sockets to upstream of one worker; each serves some dozen queries.
const MOST_PORTS: usize = 1024;

/// The number of UDP workers of a configuration on this machine.
pub(super) fn workers(config: &Config) -> usize {
    match config.server.workers {
        0 => thread::available_parallelism().map_or(1, usize::from),
        count => count,
    }
}

/// How many threads run the tasks of queries that wait for upstream, of TCP clients and of the control plane. Half as many
/// as processors: such a query passes several tasks, and each that is on an idle thread has to wake it.
pub(super) fn async_threads() -> usize {
    thread::available_parallelism().map_or(1, |processors| processors.get().div_ceil(2))
}

/// The numbers that determine how many listening sockets there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listening {
    /// Addresses.
    pub(super) addresses: usize,
    /// UDP workers.
    pub(super) workers: usize,
}

/// The number of files that may be open at once for each purpose, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    /// TCP connections of clients.
    pub(super) connections: usize,
    /// Sockets to upstream of the async side, one per query.
    pub(super) upstream: usize,
    /// Ports to upstream of each worker.
    pub(super) ports: usize,
}

/// Divides `files`: clients get up to `wanted` connections, but at least half of the free files are for upstream,
/// because queries can't be forwarded without them.
pub(super) fn budget(files: usize, listening: Listening, wanted: usize) -> Budget {
    let (workers, free) = (listening.workers, free_files(files, listening));
    let connections = wanted.min(free / 2).max(1);
    let upstream = free.saturating_sub(connections);
    Budget {
        connections,
        upstream: (upstream / 2).clamp(1, MOST_UPSTREAM),
        ports: (upstream / 2 / workers.max(1)).clamp(1, MOST_PORTS),
    }
}

/// The number of client connections, at most `wanted`, if the sockets to upstream stay as in `budget`.
pub(super) fn connections_beside(
    files: usize,
    listening: Listening,
    budget: Budget,
    wanted: usize,
) -> usize {
    let upstream = budget.upstream + listening.workers * budget.ports;
    wanted
        .min(free_files(files, listening).saturating_sub(upstream))
        .max(1)
}

/// The files that remain for connections of clients and sockets to upstream.
fn free_files(files: usize, listening: Listening) -> usize {
    let Listening { addresses, workers } = listening;
    // For each address, two files for TCP and one for UDP of each worker; for each worker, its shutdown
    // listener and its epoll descriptor.
    let reserved = addresses * (workers + 2) + 2 * workers;
    files.saturating_sub(RESERVE + reserved)
}

/// The maximum number of TCP connections of one client. It is lower than configured if there are not enough files for
/// the connections of all clients.
pub(super) fn connections_per_client(config: &Config, budget: Budget) -> usize {
    let configured = config.server.tcp_connections_per_client;
    match budget.connections < config.server.tcp_connections {
        true => configured.min((budget.connections / 4).max(1)),
        false => configured,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: Listening = Listening {
        addresses: 2,
        workers: 2,
    };

    #[test]
    fn with_enough_files_clients_get_the_configured_connections() {
        let budget = budget(1 << 20, TWO, 65_535);
        assert_eq!(budget.connections, 65_535);
        assert_eq!((budget.upstream, budget.ports), (MOST_UPSTREAM, MOST_PORTS));
    }

    #[test]
    fn with_few_files_clients_leave_half_for_upstream() {
        // 1024 less 160, less 8 for sockets, 2 shutdown listeners and 2 epoll descriptors.
        let both = budget(1024, TWO, 1024);
        assert_eq!(
            (both.connections, both.upstream, both.ports),
            (426, 213, 106)
        );
        let few = budget(1024, TWO, 100);
        assert_eq!((few.connections, few.upstream, few.ports), (100, 376, 188));
    }

    #[test]
    fn more_connections_while_serving_do_not_reduce_upstreams_share() {
        let start = budget(1024, TWO, 100);
        let beside = |wanted| connections_beside(1024, TWO, start, wanted);
        assert_eq!((beside(50), beside(100)), (50, 100));
        // 852 files are free. Upstream has 376 of them for the async side, and 188 for each of the two workers.
        assert_eq!(beside(1024), 100);
        assert_eq!(connections_beside(1 << 20, TWO, start, 65_535), 65_535);
    }

    #[test]
    fn the_parts_never_exceed_the_limit_and_are_never_zero() {
        for files in 0..5000 {
            let budget = budget(files, TWO, 1024);
            let Budget {
                connections,
                upstream,
                ports,
            } = budget;
            assert!(connections >= 1 && upstream >= 1 && ports >= 1);
            let spent = RESERVE + 12 + connections + upstream + 2 * ports;
            assert!(spent <= files.max(RESERVE + 18), "{files}: {budget:?}");
        }
    }
}
