//! The differences between the servers that have a reason.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use hickory_proto::rr::RecordType;

use super::ask::{Outcome, Question};
use super::truth;
use super::zones::{Action, Trigger, Zone};

/// A query, and what each server answers under these zones.
pub(super) struct Case<'c> {
    pub(super) version: u32,
    pub(super) zones: &'c [Zone],
    pub(super) question: &'c Question,
    pub(super) tapis: Outcome,
    pub(super) bind: Outcome,
    pub(super) powerdns: Outcome,
}

const TAPIS: &str = "Tapis";
const POWERDNS: &str = "PowerDNS";

/// A difference from BIND, and when it is to be expected.
struct Difference {
    server: &'static str,
    reason: &'static str,
    applies: fn(&Case<'_>, &Outcome) -> bool,
}

const DIFFERENCES: [Difference; 8] = [
    Difference {
        server: TAPIS,
        reason: "a query of type CNAME for a redirected name gets the redirect alone",
        applies: is_redirect_alone,
    },
    Difference {
        server: POWERDNS,
        reason: "a query of type CNAME for a redirected name gets the redirect alone",
        applies: is_redirect_alone,
    },
    Difference {
        server: POWERDNS,
        reason: "a rule on a later name of the chain removes the chain",
        applies: |case, answer| is_without(case, answer, &case.bind),
    },
    Difference {
        server: TAPIS,
        reason: "a rule on the queried name or the client precedes rules of earlier zones on the addresses of the answer",
        applies: |case, _| has_earlier_answer_rule(case),
    },
    Difference {
        server: POWERDNS,
        reason: "a rule on the queried name or the client precedes rules of earlier zones on the addresses of the answer",
        applies: |case, _| has_earlier_answer_rule(case),
    },
    Difference {
        server: POWERDNS,
        reason: "a rule on the client precedes rules of earlier zones on the queried name",
        applies: |case, _| has_later_client_rule(case),
    },
    Difference {
        server: POWERDNS,
        reason: "a wildcard also matches below other names of the zone",
        applies: |case, _| is_hidden(case),
    },
    Difference {
        server: TAPIS,
        reason: "a wildcard also matches below other names of the zone",
        applies: |case, _| is_hidden(case),
    },
];

impl Case<'_> {
    /// The zones with a rule on the client or on this name, and the first such rule of each. Wildcards match as in
    /// DNS.
    fn zones_on(&self, name: &str) -> Vec<(usize, &Action)> {
        let zones = self.zones.iter().enumerate();
        let rules = zones.filter_map(|(at, zone)| {
            let of_client = zone.on_client(self.question.client);
            Some((at, of_client.or_else(|| zone.on(name))?))
        });
        rules.collect()
    }
}

impl Zone {
    /// The rule on a client.
    fn on_client(&self, client: [u8; 4]) -> Option<&Action> {
        let rules = self
            .rules
            .iter()
            .filter_map(|(trigger, action)| match trigger {
                Trigger::Client(network) if network.contains(&IpAddr::from(client)) => {
                    Some((network.prefix_len(), action))
                }
                _ => None,
            });
        rules.max_by_key(|(len, _)| *len).map(|(_, action)| action)
    }

    /// The rule on a name, as wildcards match in DNS.
    fn on(&self, name: &str) -> Option<&Action> {
        let exact = self.rules.get(&Trigger::Exact(name.to_owned()));
        exact.or_else(|| {
            self.rules
                .get(&Trigger::Wildcard(self.encloser(name)?.to_owned()))
        })
    }

    /// The closest encloser of a name (RFC 4592, section 3.3.1).
    fn encloser<'n>(&self, name: &'n str) -> Option<&'n str> {
        let exists = |at: &&str| {
            self.rules.keys().any(|trigger| match trigger {
                Trigger::Exact(owner) | Trigger::Wildcard(owner) => is_below(owner, at),
                Trigger::Client(_) | Trigger::Answer(_) => false,
            })
        };
        let found = [name].into_iter().chain(ancestors(name)).find(exists);
        // The name itself exists; no wildcard matches it.
        found.filter(|encloser| *encloser != name)
    }
}

fn is_redirect_alone(case: &Case<'_>, answer: &Outcome) -> bool {
    let rules = case.zones_on(&case.question.name);
    let is_redirect = matches!(
        rules.first(),
        Some((_, Action::Cname(_) | Action::Garden(_)))
    );
    let (Outcome::Answer(_, alone), Outcome::Answer(_, of_bind)) = (answer, &case.bind) else {
        return false;
    };
    is_redirect
        && case.question.rtype == RecordType::CNAME
        && alone.len() == 1
        && alone.is_subset(of_bind)
}

/// Whether an answer is another one without the records of upstream's chain.
fn is_without(case: &Case<'_>, answer: &Outcome, of_bind: &Outcome) -> bool {
    let (Outcome::Answer(rcode, records), Outcome::Answer(other, more)) = (answer, of_bind) else {
        return false;
    };
    let (names, _) = truth::chain(&case.question.name);
    let links = names
        .windows(2)
        .map(|pair| format!("{}. CNAME {}.", pair[0], pair[1]));
    let links: BTreeSet<_> = links.collect();
    rcode == other
        && records.is_subset(more)
        && more.difference(records).all(|one| links.contains(one))
}

/// Whether the queried name has addresses to which an earlier zone has a rule than that with the rule on the name.
fn has_earlier_answer_rule(case: &Case<'_>) -> bool {
    let (names, addresses) = truth::chain(&case.question.name);
    let is_asked = |address: &IpAddr| match case.question.rtype {
        RecordType::A => address.is_ipv4(),
        RecordType::AAAA => address.is_ipv6(),
        _ => false,
    };
    let has_rule = |zone: &Zone| {
        let addresses = addresses.iter().filter(|address| is_asked(address));
        let mut all =
            addresses.flat_map(|address| zone.rules.keys().map(move |rule| (rule, address)));
        all.any(
            |(rule, address)| matches!(rule, Trigger::Answer(network) if network.contains(address)),
        )
    };
    let first = case.zones_on(&names[0]).first().map(|(at, _)| *at);
    names.len() == 1 && first.is_some_and(|first| case.zones[..first].iter().any(has_rule))
}

/// Whether a zone has a rule on the client, and an earlier one has a rule on the queried name.
fn has_later_client_rule(case: &Case<'_>) -> bool {
    let Question { name, client, .. } = case.question;
    let mut rest = case
        .zones
        .iter()
        .skip_while(|zone| zone.on(name).is_none())
        .skip(1);
    rest.any(|zone| zone.on_client(*client).is_some())
}

/// Whether a wildcard above a name of the chain does not match it, because it is not that of its closest encloser (RFC
/// 4592, section 3.3.1).
fn is_hidden(case: &Case<'_>) -> bool {
    let (names, _) = truth::chain(&case.question.name);
    let hides = |zone: &Zone, name: &str| {
        let is_rule = |trigger: &Trigger| zone.rules.contains_key(trigger);
        if is_rule(&Trigger::Exact(name.to_owned())) {
            return false;
        }
        let above = ancestors(name).find(|above| is_rule(&Trigger::Wildcard((*above).to_owned())));
        above.is_some() && above != zone.encloser(name)
    };
    let mut all = case
        .zones
        .iter()
        .flat_map(|zone| names.iter().map(move |name| (zone, name)));
    all.any(|(zone, name)| hides(zone, name))
}

/// The names above a name, from the nearest one.
fn ancestors(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(name.split_once('.'), |(_, above)| above.split_once('.'))
        .map(|(_, above)| above)
}

/// Counts the differences.
#[derive(Default)]
pub(super) struct Table {
    cases: usize,
    counts: [usize; DIFFERENCES.len()],
    unexplained: Vec<(String, String)>,
}

impl Table {
    pub(super) fn compare(&mut self, case: &Case<'_>) {
        self.cases += 1;
        for (server, outcome) in [(TAPIS, &case.tapis), (POWERDNS, &case.powerdns)] {
            if *outcome == case.bind {
                continue;
            }
            let known = DIFFERENCES.iter().position(|difference| {
                difference.server == server && (difference.applies)(case, outcome)
            });
            match known {
                Some(at) => self.counts[at] += 1,
                None => {
                    let sig = |outcome: &Outcome| match outcome {
                        Outcome::Dropped => "drop".to_owned(),
                        Outcome::Truncated => "tc".to_owned(),
                        Outcome::Answer(rcode, records) => format!(
                            "{rcode} {:?}",
                            records
                                .iter()
                                .map(|text| text.split(' ').nth(1).expect("type"))
                                .collect::<std::collections::BTreeSet<_>>()
                        ),
                    };
                    let signature = format!("{server} {} BIND {}", sig(outcome), sig(&case.bind));
                    self.unexplained
                        .push((signature, described(case, server, outcome)));
                }
            }
        }
    }

    pub(super) fn assert_explained(&self) {
        println!("{} queries", self.cases);
        for (difference, count) in DIFFERENCES.iter().zip(self.counts) {
            println!("{count:8} {}: {}", difference.server, difference.reason);
        }
        let mut shown: std::collections::HashMap<String, usize> = std::collections::HashMap::new();
        for (signature, text) in &self.unexplained {
            let n = shown.entry(signature.clone()).or_default();
            *n += 1;
            if *n <= 2 {
                println!("{text}");
            }
        }
        println!("SIGS {shown:#?}");
        assert_eq!(self.unexplained.len(), 0, "differences without a reason");
    }
}

fn described(case: &Case<'_>, server: &str, outcome: &Outcome) -> String {
    let Question {
        name,
        rtype,
        client,
    } = case.question;
    let mut text = format!(
        "{server}, set {}: {name} {rtype} from {client:?}\n  {outcome:?}\n  BIND {:?}\n",
        case.version, case.bind
    );
    let (names, addresses) = truth::chain(name);
    let _ = writeln!(text, "  upstream {names:?} {addresses:?}");
    for (zone, number) in case.zones.iter().zip(1..) {
        for (trigger, action) in &zone.rules {
            let is_near = match trigger {
                Trigger::Exact(owner) | Trigger::Wildcard(owner) => names
                    .iter()
                    .any(|name| is_below(name, owner) || is_below(owner, name)),
                Trigger::Client(network) => network.contains(&IpAddr::from(*client)),
                Trigger::Answer(network) => {
                    addresses.iter().any(|address| network.contains(address))
                }
            };
            if is_near {
                let _ = writeln!(text, "    z{number} {trigger} {action:?}");
            }
        }
    }
    text
}

/// Whether a name is another one, or below it.
fn is_below(name: &str, other: &str) -> bool {
    name.strip_suffix(other)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}
