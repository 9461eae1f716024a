//! Tests of single values: types, addresses, arrays.

use super::{list, parse, problems, valid};

#[test]
fn wrong_types_are_reported_with_a_correction() {
    for (text, problem) in [
        (
            "[server]\nlisten = \"[::1]:53\"",
            "2: listen is a string (\"[::1]:53\"), must be an array of strings: put brackets around \
             it: [\"[::1]:53\"]",
        ),
        (
            "[server]\nallow = [1]",
            "2: allow is a whole number (1), must be a string: put it in quotes",
        ),
        (
            "[server]\ncontrol = [\"x\"]",
            "2: control is an array, must be a string: write one text in quotes",
        ),
        (
            "[block]\nede = 2020-01-01",
            "2: ede is a date or time (2020-01-01), must be a string: put it in quotes",
        ),
        (
            "server = 1",
            "1: server is a whole number (1), must be a section: write it as a section, [server]",
        ),
        (
            "[list]\nname = \"a\"",
            "1: list is a section, must be an array of sections: write each as a section, [[list]]",
        ),
        (
            "list = [1]",
            "1: list is a whole number (1), must be a section: write each as a section, [[list]]",
        ),
        (
            &list("required = \"true\""),
            "4: required is a string (\"true\"), must be true or false: remove the quotes",
        ),
        (
            &list("required = 1"),
            "4: required is a whole number (1), must be true or false: write true or false, \
             without quotes",
        ),
    ] {
        assert_eq!(problems(text), [problem]);
    }
}

#[test]
fn impossible_addresses_are_rejected() {
    for (key, held, problem) in [
        ("listen", "[::1]", "which is not an address with a port"),
        ("listen", "::1", "which has no port: write \"[::1]:53\""),
        (
            "servers",
            "192.0.2.53:0",
            "which has port 0: write \"192.0.2.53\" for port 53",
        ),
        (
            "servers",
            "0.0.0.0",
            "which is not the address of a single server",
        ),
        (
            "servers",
            "[::]:53",
            "which is not the address of a single server",
        ),
        (
            "servers",
            "224.0.0.251",
            "which is not the address of a single server",
        ),
        (
            "servers",
            "ff02::fb",
            "which is not the address of a single server",
        ),
        (
            "listen",
            "localhost",
            "which is a name: write \"127.0.0.1:53\"",
        ),
        (
            "listen",
            "eth0:53",
            "which is a name, and only addresses can be listened on: write an address of this machine, as in \"127.0.0.1:53\"",
        ),
        ("listen", "ns.example", "only addresses can be listened on"),
        (
            "listen",
            "tls://192.0.2.1",
            "which is DNS over TLS, which is not supported: write the address for plain DNS, as in \"127.0.0.1:53\"",
        ),
        (
            "servers",
            "localhost",
            "which is a name: write \"127.0.0.1\"",
        ),
        (
            "servers",
            "dns.example",
            "which is a name, and only addresses can be used",
        ),
        (
            "allow",
            "2001:db8::1/32",
            "write \"2001:db8::/32\" for the network",
        ),
        (
            "allow",
            "192.0.2.0/33",
            "which is neither network nor address",
        ),
        (
            "allow",
            "::ffff:0:0/96",
            "which is an IPv4 network in IPv6 form: write \"0.0.0.0/0\"",
        ),
        ("allow", "::ffff:192.0.2.0/120", "write \"192.0.2.0/24\""),
        ("allow", "::ffff:192.0.2.1", "write \"192.0.2.1\""),
        ("allow", "::ffff:192.0.2.1/120", "write \"192.0.2.0/24\""),
        ("listen", "[::ffff:127.0.0.1]:53", "write \"127.0.0.1:53\""),
        ("servers", "::ffff:192.0.2.53", "write \"192.0.2.53:53\""),
        ("sinkhole", "0.0.0.0:80", "which is not an address"),
        (
            "forward",
            "10..arpa",
            "which is not a domain name (a label is empty)",
        ),
    ] {
        let section = match key {
            "servers" => "upstream",
            "sinkhole" => "block",
            "forward" => "special-use",
            _ => "server",
        };
        let found = problems(&format!("[{section}]\n{key} = [\n\"{held}\"]"));
        assert_eq!(found.len(), 1, "{held}: {found:?}");
        assert!(
            found[0].starts_with(&format!("3: {key} holds \"{held}\", ")),
            "{found:?}"
        );
        assert!(found[0].contains(problem), "{found:?}");
    }
}

#[test]
fn arrays_have_no_duplicates_and_arrays_of_servers_are_not_empty() {
    for (section, key, item) in [
        ("server", "listen", "127.0.0.1:53"),
        ("server", "allow", "192.0.2.0/24"),
        ("upstream", "servers", "192.0.2.53"),
        ("block", "sinkhole", "::"),
        ("special-use", "forward", "10.in-addr.arpa"),
    ] {
        assert_eq!(
            problems(&format!("[{section}]\n{key} = [\n\"{item}\",\n\"{item}\"]")),
            [format!(
                "4: {key} holds \"{item}\", which is a duplicate: remove it"
            )]
        );
        let refused = matches!(key, "listen" | "servers");
        assert_eq!(
            parse(&format!("[{section}]\n{key} = []")).is_err(),
            refused,
            "{key}"
        );
    }
    let equal = problems("[upstream]\nservers = [\"192.0.2.53\", \"192.0.2.53:53\"]");
    assert_eq!(equal.len(), 1, "the port is 53 where none is given");
}

#[test]
fn an_empty_path_is_reported_with_the_expected_kind_of_file() {
    assert_eq!(
        problems("[server]\ncontrol = \"\"\n[state]\ndir = \"\""),
        [
            "2: control is empty, must be the path of a file",
            "4: dir is empty, must be the path of a directory",
        ]
    );
}

#[test]
fn ports_are_a_range_that_is_wide_enough() {
    let config = valid("[upstream]\nports = \"20000-21023\"");
    assert_eq!(config.upstream.ports, 20_000..=21_023);
    for refused in [
        "20000-21022",
        "1023-65535",
        "2000",
        "65535-1024",
        "1024-65536",
        "",
    ] {
        let found = problems(&format!("[upstream]\nports = \"{refused}\""));
        let problem = format!(
            "2: ports is \"{refused}\", must be a range of at least 1024 ports from 1024 to 65535: \
             write it as in \"1024-65535\""
        );
        assert_eq!(found, [problem]);
    }
}

#[test]
fn a_wildcard_address_excludes_others_with_its_port() {
    for (listen, is_twice) in [
        (r#"["127.0.0.1:53", "0.0.0.0:53"]"#, true),
        (r#"["[::]:53", "[2001:db8::1]:53"]"#, true),
        (r#"["0.0.0.0:53", "[::]:53"]"#, false),
        (r#"["0.0.0.0:53", "127.0.0.1:5353"]"#, false),
        (r#"["0.0.0.0:0", "127.0.0.1:0"]"#, false),
    ] {
        let found = problems(&format!("[server]\nlisten = {listen}\n"));
        let is_reported = found.iter().any(|problem| {
            problem.starts_with("2: listen holds") && problem.ends_with("remove one of the two")
        });
        assert_eq!(
            (is_reported, found.len()),
            (is_twice, usize::from(is_twice)),
            "{found:?}"
        );
    }
}
