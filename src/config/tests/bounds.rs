//! Tests of bounds: numbers, lengths, counts.

use super::{list, problems, valid};

#[test]
fn every_number_is_bounded_on_both_sides() {
    for (section, key, low, high) in [
        ("server", "workers", 0_i64, 1024),
        ("server", "tcp-connections", 1, 65535),
        // The upper bound is the default of tcp-connections.
        ("server", "tcp-connections-per-client", 1, 1024),
        ("server", "tcp-idle-secs", 1, 3600),
        ("server", "discard-ms", 100, 60_000),
        ("upstream", "timeout-ms", 100, 30_000),
        ("upstream", "waiting", 16, 65_535),
        ("upstream", "parallel-servers", 2, 16),
        // The upper bound is the default of waiting.
        ("upstream", "waiting-per-client", 1, 8192),
        ("cache", "size-mib", 1, 65_536),
        ("cache", "min-ttl-secs", 0, 3600),
        ("cache", "max-ttl-secs", 1, 604_800),
        ("cache", "max-negative-ttl-secs", 1, 604_800),
        ("cache", "stale-secs", 0, 604_800),
        ("block", "ttl-secs", 1, 3600),
        ("state", "keep", 1, 100),
        ("state", "compile-secs", 10, 86_400),
        ("guard", "shrink-percent", 0, 100),
        ("guard", "grow-percent", 0, 1_000_000),
        ("guard", "max-age-hours", 0, 87_600),
        ("guard", "bad-percent", 0, 100),
        ("guard", "popular-first", 1, 100_000),
    ] {
        for value in [low, high] {
            valid(&format!("[{section}]\n{key} = {value}"));
        }
        for value in [low - 1, high + 1] {
            let found = problems(&format!("[{section}]\n{key} = {value}"));
            let expected = format!("2: {key} is {value}, must be {low} to {high}");
            assert_eq!(found, [expected]);
        }
    }
}

#[test]
fn numbers_may_be_written_in_any_way_of_toml_that_fits_64_bits() {
    assert_eq!(valid("[server]\nworkers = 0x10").server.workers, 16);
    assert_eq!(valid("[server]\nworkers = 1_0").server.workers, 10);
    assert_eq!(
        problems("[server]\nworkers = 99999999999999999999"),
        [
            "2: workers is a whole number (99999999999999999999), must be a whole number: write a \
             number that fits 64 bits"
        ]
    );
}

#[test]
fn the_shortest_ttl_is_not_over_the_longest() {
    let found = problems("[cache]\nmax-ttl-secs = 300\nmin-ttl-secs = 301");
    let problem = "min-ttl-secs is 301, must be at most max-ttl-secs, which is 300: lower the one or \
                raise the other";
    assert_eq!(found, [format!("3: {problem}")]);
    let found = problems("[cache]\nmin-ttl-secs = 301\nmax-negative-ttl-secs = 300");
    let problem = "max-negative-ttl-secs is 300, must be at least min-ttl-secs, which is 301: raise the one \
                or lower the other";
    assert_eq!(found, [format!("3: {problem}")]);
    valid("[cache]\nmax-ttl-secs = 300\nmin-ttl-secs = 300");
}

#[test]
fn texts_are_bounded_in_bytes() {
    for key in ["version", "id"] {
        let given = |text: &str| format!("[server]\n{key} = \"{text}\"");
        valid(&given(&"x".repeat(255)));
        assert_eq!(
            problems(&given(&"é".repeat(128))),
            [format!(
                "2: {key} is 256 bytes long, must be 0 to 255: shorten it"
            )]
        );
    }
    let given = |text: &str| list(&format!("text = \"{text}\""));
    valid(&given(&"x".repeat(160)));
    for (text, problem) in [
        (
            "x".repeat(161),
            "text is 161 bytes long, must be 1 to 160: shorten it",
        ),
        (
            String::new(),
            "text is 0 bytes long, must be 1 to 160: leave it out",
        ),
        (
            "a\\u001bb".to_owned(),
            "text is \"a\\u{1b}b\", must be without control and format characters: remove them",
        ),
    ] {
        assert_eq!(problems(&given(&text)), [format!("4: {problem}")]);
    }
}

#[test]
fn a_sinkhole_has_at_most_eight_addresses_and_may_have_none() {
    let given = |count: u8| {
        let items: Vec<_> = (0..count).map(|n| format!("\"192.0.2.{n}\"")).collect();
        format!("[block]\nsinkhole = [{}]", items.join(", "))
    };
    valid(&given(0));
    valid(&given(8));
    let problem = "2: sinkhole holds 9 addresses, must be at most 8";
    assert_eq!(problems(&given(9)), [problem]);
}

#[test]
fn a_client_may_have_a_quarter_of_all_connections_and_at_least_one() {
    for (all, quarter) in [(1, 1), (2, 1), (3, 1), (4, 1), (7, 1), (8, 2), (1024, 256)] {
        let server = valid(&format!("[server]\ntcp-connections = {all}")).server;
        assert_eq!(
            (server.tcp_connections, server.tcp_connections_per_client),
            (all, quarter)
        );
    }
}
