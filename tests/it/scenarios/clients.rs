//! Clients of a scenario on addresses of the loopback.
//!
//! Any program may send from 127.0.0.0/8, but other addresses need their own interface, and so
//! a network namespace, which many systems refuse to ordinary users. The clients of a scenario
//! therefore move to 127.0.0.0/8 together with the rules on clients.

use std::net::{IpAddr, Ipv4Addr};

use regex::{Captures, Regex};

/// A text whose clients are on the loopback.
#[derive(Debug)]
pub(super) struct Moved {
    pub(super) text: String,
    /// The client of a step that names none.
    pub(super) default: Ipv4Addr,
}

/// A client as it was, and as it is.
type Client = (Ipv4Addr, Ipv4Addr);

/// Moves the clients of a scenario.
///
/// # Errors
/// If a rule would then match other clients than before.
pub(super) fn on_loopback(text: &str) -> Result<Moved, String> {
    let steps = Regex::new(r"(?m)^(STEP\s+\d+\s+QUERY\s+ADDRESS\s+)(\S+)").expect("a pattern");
    let mut from = None;
    let mut addresses = Vec::new();
    for step in steps.captures_iter(text) {
        match step[2].parse() {
            Ok(IpAddr::V4(address)) => addresses.push(address),
            _ => return Err(format!("clients must have IPv4 addresses: {}", &step[2])),
        }
    }
    for address in addresses.iter().filter(|address| !address.is_loopback()) {
        let first = address.octets()[0];
        if *from.get_or_insert(first) != first {
            return Err("clients must be in one /8 network".to_owned());
        }
    }
    let Some(from) = from else {
        return Ok(Moved {
            text: text.to_owned(),
            default: Ipv4Addr::LOCALHOST,
        });
    };
    let default = Ipv4Addr::new(127, 255, 255, 254);
    let mut clients: Vec<Client> = vec![(Ipv4Addr::LOCALHOST, default)];
    clients.extend(
        addresses
            .iter()
            .map(|address| (*address, moved(*address, from))),
    );
    let text = steps.replace_all(text, |step: &Captures<'_>| {
        let address: Ipv4Addr = step[2].parse().expect("it was read before");
        format!("{}{}", &step[1], moved(address, from))
    });
    let text = move_rules(&text, from, &clients)?;
    Ok(Moved { text, default })
}

fn moved(address: Ipv4Addr, from: u8) -> Ipv4Addr {
    let [first, second, third, fourth] = address.octets();
    let first = if first == from { 127 } else { first };
    Ipv4Addr::new(first, second, third, fourth)
}

/// Moves the rules, and checks that each still matches the same clients.
fn move_rules(text: &str, from: u8, clients: &[Client]) -> Result<String, String> {
    let rules = Regex::new(r"(?-u)\b(\d+)\.(\d+)\.(\d+)\.(\d+)\.(\d+)(\.rpz-client-ip)")
        .expect("a pattern");
    for rule in rules.captures_iter(text) {
        let number = |group: usize| rule[group].parse::<u8>().unwrap_or_default();
        let network = Ipv4Addr::new(number(5), number(4), number(3), number(2));
        let contains = |network: Ipv4Addr, client: Ipv4Addr| {
            let differ = network.to_bits() ^ client.to_bits();
            differ.leading_zeros() >= u32::from(number(1))
        };
        for (before, after) in clients {
            if contains(network, *before) != contains(moved(network, from), *after) {
                let why = "would match other clients on the loopback";
                return Err(format!("{} {why}: {before}, {after}", &rule[0]));
            }
        }
    }
    let moved = rules.replace_all(text, |rule: &Captures<'_>| {
        let first = match rule[5].parse() == Ok(from) {
            true => "127",
            false => &rule[5],
        };
        let labels = [&rule[1], &rule[2], &rule[3], &rule[4], first].join(".");
        labels + &rule[6]
    });
    Ok(moved.into_owned())
}

#[test]
fn clients_move_to_the_loopback_with_their_rules() {
    let text = "24.0.5.0.192.rpz-client-ip A 192.0.5.1\n\
                32.1.1.0.10.rpz-client-ip.rpz.example. CNAME .\n\
                24.0.5.0.192.rpz-ip CNAME .\n\
                STEP 1 QUERY ADDRESS 192.0.5.1\n\
                STEP 2 QUERY ADDRESS 192.7.5.1\n";
    let moved = on_loopback(text).expect("moved");
    assert_eq!(moved.default, Ipv4Addr::new(127, 255, 255, 254));
    assert_eq!(
        moved.text,
        "24.0.5.0.127.rpz-client-ip A 192.0.5.1\n\
         32.1.1.0.10.rpz-client-ip.rpz.example. CNAME .\n\
         24.0.5.0.192.rpz-ip CNAME .\n\
         STEP 1 QUERY ADDRESS 127.0.5.1\n\
         STEP 2 QUERY ADDRESS 127.7.5.1\n"
    );
}

#[test]
fn clients_on_the_loopback_stay() {
    let text = "32.1.0.0.127.rpz-client-ip CNAME .\nSTEP 1 QUERY ADDRESS 127.0.0.9\n";
    let moved = on_loopback(text).expect("moved");
    assert_eq!(
        (moved.text.as_str(), moved.default),
        (text, Ipv4Addr::LOCALHOST)
    );
}

#[test]
fn clients_do_not_move_into_or_out_of_a_rule() {
    let query = "STEP 1 QUERY ADDRESS 192.0.5.1\n";
    for (text, why) in [
        ("24.0.5.0.127.rpz-client-ip CNAME .\n", "would match other"),
        ("1.0.0.0.128.rpz-client-ip CNAME .\n", "would match other"),
        ("8.0.0.0.127.rpz-client-ip CNAME .\n", "would match other"),
        ("STEP 2 QUERY ADDRESS 10.0.0.1\n", "one /8 network"),
        ("STEP 2 QUERY ADDRESS 2001:db8::1\n", "IPv4"),
    ] {
        let error = on_loopback(&format!("{query}{text}")).expect_err(text);
        assert!(error.contains(why), "{error}");
    }
}
