//! Tests of single values: types, addresses, arrays.

use super::{list, parse, problems, valid};
use crate::config::upstream::ServerAddress;

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
fn servers_and_networks_may_be_bare_addresses() {
    let config = valid(
        "[upstream]\nservers = [\"192.0.2.53\", \"2001:db8::53\", \"[2001:db8::53]:5300\"]\n\
         [server]\nallow = [\"192.0.2.1\", \"2001:db8::1\"]\nlisten = [\"127.0.0.1:0\"]",
    );
    let servers = config.upstream.servers.expect("given");
    let servers: Vec<_> = servers
        .iter()
        .map(|server| server.address.to_string())
        .collect();
    assert_eq!(
        servers,
        ["192.0.2.53:53", "[2001:db8::53]:53", "[2001:db8::53]:5300"]
    );
    let allow: Vec<_> = config
        .server
        .allow
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(allow, ["192.0.2.1/32", "2001:db8::1/128"]);
}

#[test]
fn a_server_may_be_a_table_with_the_form_of_queries_to_it() {
    let config = valid(
        "[upstream]\nservers = [\"192.0.2.1\", { address = \"192.0.2.2:5300\", random-case = false, \
         edns = false }]",
    );
    let servers = config.upstream.servers.expect("given");
    let settings = servers.iter().map(|s| (s.random_case, s.edns));
    assert_eq!(settings.collect::<Vec<_>>(), [(true, true), (false, false)]);
    assert_eq!(servers[1].address.to_string(), "192.0.2.2:5300");
    for (server, problem) in [
        (
            "{ random-case = false }",
            "2: a table of servers has no `address`: add address = \"...\"",
        ),
        (
            "{ address = \"192.0.2.1\", edsn = false }",
            "2: unknown key `edsn` in a table of servers; did you mean `edns`?",
        ),
        (
            "{ address = \"192.0.2.1\", edns = \"no\" }",
            "2: edns is a string (\"no\"), must be true or false: write true or false, without quotes",
        ),
        (
            "{ address = \"192.0.2.0/24\" }",
            "2: servers holds \"192.0.2.0/24\", which is a network: write the address alone, as in \
             \"192.0.2.0\"",
        ),
        (
            "{ address = \"192.0.2\" }",
            "2: servers holds \"192.0.2\", which is not an address: write it as in \"192.0.2.53\", \
             \"192.0.2.53:5300\", \"[2001:db8::53]:5300\" or \"fe80::53%eth0\"",
        ),
        (
            "1",
            "2: servers is a whole number (1), must be a string or a table: put it in quotes",
        ),
    ] {
        let found = problems(&format!("[upstream]\nservers = [{server}]"));
        assert_eq!(found, [problem]);
    }
    let twice = "[upstream]\nservers = [\"192.0.2.1\", { address = \"192.0.2.1:53\" }]";
    let problem = "2: servers holds \"192.0.2.1:53\", which is a duplicate: remove it";
    assert_eq!(problems(twice), [problem]);
}

#[test]
fn a_link_local_server_has_its_interface_and_no_other_has_one() {
    for (text, shown) in [
        ("fe80::1%eth0", "[fe80::1%eth0]:53"),
        ("[fe80::1%eth0]:53", "[fe80::1%eth0]:53"),
        ("[fe80::1%br-lan.7]:5300", "[fe80::1%br-lan.7]:5300"),
        ("fe80::1%2", "[fe80::1%2]:53"),
        ("[fe80::1%2]", "[fe80::1%2]:53"),
    ] {
        let config = valid(&format!("[upstream]\nservers = [\"{text}\"]"));
        let servers = config.upstream.servers.expect("given");
        assert_eq!(servers[0].address.to_string(), shown);
    }
    for (text, problem) in [
        (
            "fe80::1",
            "which is a different server on each link: add the interface, as in \"fe80::1%eth0\"",
        ),
        (
            "2001:db8::1%eth0",
            "which is not a link-local address, and only those have an interface: write \"2001:db8::1\"",
        ),
        (
            "192.0.2.1%eth0",
            "which is not a link-local address, and only those have an interface: write \"192.0.2.1\"",
        ),
        (
            "fe80::1%",
            "which has no interface's name or index behind the %: write it as in \"fe80::1%eth0\"",
        ),
        (
            "fe80::1%sixteen-letters0",
            "which has no interface's name or index behind the %: write it as in \"fe80::1%eth0\"",
        ),
    ] {
        let found = problems(&format!("[upstream]\nservers = [\"{text}\"]"));
        assert_eq!(found, [format!("2: servers holds \"{text}\", {problem}")]);
    }
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
fn the_index_of_an_interface_is_looked_up_at_each_use() {
    let address: ServerAddress = "[fe80::1%eth0]:5300".parse().expect("an address");
    let indices = [Some(3), Some(7), None].map(|index| {
        let current = address.current(|zone| index.filter(|_| zone == "eth0"));
        current.to_string()
    });
    assert_eq!(
        indices,
        ["[fe80::1%3]:5300", "[fe80::1%7]:5300", "[fe80::1]:5300"]
    );
    let known = ServerAddress {
        socket: address.current(|_| Some(3)),
        ..address
    };
    assert_eq!(
        known.current(|_| None),
        known.socket,
        "the last one that it had"
    );
    let plain: ServerAddress = "192.0.2.1".parse().expect("an address");
    assert_eq!(plain.current(|_| panic!("not looked up")), plain.socket);
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

#[test]
fn servers_that_are_given_by_name_need_bootstrap_servers() {
    let config = valid(
        "[upstream]\nservers = [\"192.0.2.53\", \"Resolver.example\", \"192.0.2.54\", \"resolver.example:5300\"]\n\
         bootstrap = [\"192.0.2.9\", \"[2001:db8::9]:5300\"]",
    );
    let upstream = config.upstream;
    let named: Vec<_> = upstream
        .named
        .iter()
        .map(|of| (of.place, of.to_string()))
        .collect();
    let expected = [(1, "Resolver.example"), (3, "resolver.example:5300")];
    assert_eq!(
        named,
        expected.map(|(place, text)| (place, text.to_owned()))
    );
    let address = |of: usize| {
        let server = upstream.named[of].at([192, 0, 2, 7].into());
        server.address.to_string()
    };
    assert_eq!(
        (address(0), address(1)),
        ("192.0.2.7:53".to_owned(), "192.0.2.7:5300".to_owned())
    );
    assert_eq!(upstream.servers.expect("two").len(), 2);
    assert_eq!(upstream.bootstrap.len(), 2);
    let bootstrap = "bootstrap = [\"192.0.2.9\"]";
    for (text, problem) in [
        (
            "servers = [\"resolver.example\"]".to_owned(),
            "2: servers holds \"resolver.example\", which is a name, and only addresses can be used: write its address, \
             or set `bootstrap` to the addresses of servers that find it",
        ),
        (
            format!("servers = [\"a.example\", \"a.example:53\"]\n{bootstrap}"),
            "2: servers holds \"a.example:53\", which is a duplicate: remove it",
        ),
        (
            format!("servers = [\"resolver\"]\n{bootstrap}"),
            "2: servers holds \"resolver\", which is a name, and only addresses can be used: write its address",
        ),
        (
            "bootstrap = [\"a.example\"]".to_owned(),
            "2: bootstrap holds \"a.example\", which is a name, and only addresses can be used: write its address",
        ),
        (
            format!("{bootstrap}\n[[forward]]\nzone = \"corp.example\"\nservers = [\"a.example\"]"),
            "5: servers holds \"a.example\", which is a name, and only addresses can be used: write its address",
        ),
    ] {
        assert_eq!(problems(&format!("[upstream]\n{text}")), [problem]);
    }
}
