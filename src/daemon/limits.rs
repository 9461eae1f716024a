//! Owns the budget of open files: how many of them clients and upstream may take.
//! Refuses to ask the system: it only divides.

/// Files for all else: lists, configuration, control socket and its clients, the log, the runtime.
const RESERVE: usize = 128;
/// Most sockets for questions under way to upstream.
const MOST_UPSTREAM: usize = 8192;

/// What listens from the start on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listening {
    /// Addresses.
    pub(super) addresses: usize,
    /// UDP workers.
    pub(super) workers: usize,
}

/// How many files each side may have open at once, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    /// TCP connections of clients.
    pub(super) connections: usize,
    /// Sockets to upstream.
    pub(super) upstream: usize,
}

/// Divides `files`: clients get as many connections as are `wanted`, but leave half of what is
/// free for upstream, without which no question could be answered.
pub(super) fn budget(files: usize, listening: Listening, wanted: usize) -> Budget {
    let Listening { addresses, workers } = listening;
    // A TCP socket for each address, one for UDP for each worker too, and each worker's ear.
    let taken = addresses * (workers + 1) + workers;
    let free = files.saturating_sub(RESERVE + taken);
    let connections = wanted.min(free / 2).max(1);
    Budget {
        connections,
        upstream: free.saturating_sub(connections).clamp(1, MOST_UPSTREAM),
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
    fn with_files_enough_clients_get_what_is_configured() {
        let budget = budget(1 << 20, TWO, 65_535);
        assert_eq!(budget.connections, 65_535);
        assert_eq!(budget.upstream, MOST_UPSTREAM);
    }

    #[test]
    fn with_few_files_clients_leave_half_for_upstream() {
        // 1024 less 128, less 6 sockets and 2 ears.
        let both = budget(1024, TWO, 1024);
        assert_eq!((both.connections, both.upstream), (444, 444));
        let few = budget(1024, TWO, 100);
        assert_eq!((few.connections, few.upstream), (100, 788));
    }

    #[test]
    fn the_parts_never_exceed_the_whole_nor_vanish() {
        for files in 0..5000 {
            let budget = budget(files, TWO, 1024);
            let Budget {
                connections,
                upstream,
            } = budget;
            assert!(connections >= 1 && upstream >= 1);
            let spent = RESERVE + 8 + connections + upstream;
            assert!(spent <= files.max(RESERVE + 10), "{files}: {budget:?}");
        }
    }
}
