//! Tests of the servers that are given in the configuration: addresses, tables, interfaces, names.

use super::{problems, valid};
use crate::config::upstream::ServerAddress;

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
