//! The differences between the servers that have a reason.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use hickory_proto::rr::RecordType;
use ipnet::IpNet;

use super::ask::{Outcome, Question};
use super::documented::{Policy, outcome_at};
use super::matching::{ancestors, is_below};
use super::truth;
use super::zones::{Action, Trigger, Zone};

/// A query, and what each server answers under these zones.
pub(super) struct Case<'c> {
    pub(super) version: u32,
    pub(super) zones: &'c [Zone],
    pub(super) question: &'c Question,
    /// Whether rules do not change signed answers to clients that ask for signatures.
    pub(super) spares_signed: bool,
    pub(super) tapis: Outcome,
    pub(super) bind: Outcome,
    pub(super) powerdns: Outcome,
}

const TAPIS: &str = "Tapis";
const POWERDNS: &str = "PowerDNS";

/// So many queries have every difference.
const MANY: usize = 50_000;
/// The cases without a reason that are shown.
const SHOWN: usize = 40;

/// A difference from BIND, and when it is to be expected. Tapis's own answer is always compared with the documented one,
/// so its differences only say why BIND's answer may be another one.
struct Difference {
    server: &'static str,
    reason: &'static str,
    applies: fn(&Case<'_>, &Outcome) -> bool,
}

static DIFFERENCES: [Difference; 13] = [
    Difference {
        server: TAPIS,
        reason: "a query of type CNAME for a redirected name gets the redirect alone",
        applies: |case, answer| is_redirect_alone(case, answer, &case.bind),
    },
    Difference {
        server: POWERDNS,
        reason: "a query of type CNAME for a redirected name gets the redirect alone",
        // If the rule is on the client, PowerDNS follows the redirect, and BIND does not.
        applies: |case, answer| {
            is_redirect_alone(case, answer, &case.bind)
                || is_redirect_alone(case, &case.bind, answer)
        },
    },
    Difference {
        server: POWERDNS,
        reason: "a rule on a later name of the chain removes the chain",
        applies: |case, answer| is_without(case, answer, &case.bind),
    },
    Difference {
        server: TAPIS,
        reason: "a rule on the queried name or the client precedes rules of earlier zones on the addresses of the answer",
        applies: |case, _| case.bind == case.policy(true).answer(case.question),
    },
    Difference {
        server: POWERDNS,
        reason: "a rule on a name or the client precedes rules of earlier zones on the addresses of the answer",
        applies: |case, _| {
            let (names, _) = truth::chain(&case.question.name);
            has_earlier_answer_rule(case, names.last().expect("one"))
        },
    },
    Difference {
        server: POWERDNS,
        reason: "a rule on the client precedes rules of earlier zones on the queried name",
        applies: |case, _| has_later_client_rule(case),
    },
    Difference {
        server: TAPIS,
        reason: "a redirect that leads back to its chain is not followed",
        applies: |case, _| is_circular(&case.bind),
    },
    Difference {
        server: POWERDNS,
        reason: "a redirect that leads back to its chain is not followed",
        applies: |case, _| is_loop(case),
    },
    Difference {
        server: TAPIS,
        reason: "of equally long prefixes, that of the earlier zone precedes, then that of the smallest address",
        applies: |case, _| has_equal_prefixes(case) && is_by_address(case),
    },
    Difference {
        server: POWERDNS,
        reason: "the first address in the answer with a rule decides",
        applies: |case, _| case.answer_rules().len() > 1,
    },
    Difference {
        server: POWERDNS,
        reason: "PASSTHRU does not end the evaluation of earlier zones",
        applies: |case, _| has_later_passthru(case),
    },
    Difference {
        server: POWERDNS,
        reason: "a rule on an address at the end of a chain, without records of the queried type, changes nothing",
        applies: |case, _| is_chain_to_other_type(case),
    },
    Difference {
        server: POWERDNS,
        reason: "a wildcard also matches below other names of the zone",
        applies: |case, _| is_hidden(case),
    },
];

/// A difference of servers that do not change signed answers.
static SPARING: Difference = Difference {
    server: TAPIS,
    reason: "a rule on the client is about the first name of a chain, also if only later ones are not signed",
    applies: |case, _| is_sparing_client(case),
};

impl Case<'_> {
    /// What Tapis must answer.
    fn documented(&self) -> Outcome {
        self.policy(false).answer(self.question)
    }

    fn policy(&self, asks_for_blocked: bool) -> Policy<'_> {
        Policy {
            zones: self.zones,
            spares_signed: self.spares_signed,
            asks_for_blocked,
        }
    }

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

    /// The rules on the addresses in upstream's answer, with the numbers of their zones.
    fn answer_rules(&self) -> Vec<(usize, IpNet)> {
        let (_, addresses) = truth::chain(&self.question.name);
        let is_asked = |address: &IpAddr| match self.question.rtype {
            RecordType::A => address.is_ipv4(),
            RecordType::AAAA => address.is_ipv6(),
            _ => false,
        };
        let mut found = Vec::new();
        for (at, zone) in self.zones.iter().enumerate() {
            for trigger in zone.rules.keys() {
                if let Trigger::Answer(network) = trigger
                    && addresses
                        .iter()
                        .any(|address| is_asked(address) && network.contains(address))
                {
                    found.push((at, *network));
                }
            }
        }
        found
    }
}

/// Whether the queried name is redirected, and the first answer has only that record of the other one.
fn is_redirect_alone(case: &Case<'_>, answer: &Outcome, other: &Outcome) -> bool {
    let rules = case.zones_on(&case.question.name);
    let is_redirect = matches!(
        rules.first(),
        Some((_, Action::Cname(_) | Action::Garden(_)))
    );
    let (Outcome::Answer(_, alone), Outcome::Answer(_, of_other)) = (answer, other) else {
        return false;
    };
    is_redirect
        && case.question.rtype == RecordType::CNAME
        && alone.len() == 1
        && alone.is_subset(of_other)
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

/// Whether this name has a rule, and its addresses have one in an earlier zone.
fn has_earlier_answer_rule(case: &Case<'_>, name: &str) -> bool {
    let first = case.zones_on(name).first().map(|(at, _)| *at);
    let mut answer_rules = case.answer_rules().into_iter();
    first.is_some_and(|first| answer_rules.any(|(at, _)| at < first))
}

/// Whether a rule redirects a name of the chain to a name that leads back to the chain.
fn is_loop(case: &Case<'_>) -> bool {
    let (names, _) = truth::chain(&case.question.name);
    let on_names = names
        .iter()
        .filter_map(|name| Some(case.zones_on(name).first()?.1));
    let on_addresses = case.answer_rules().into_iter();
    let on_addresses = on_addresses
        .filter_map(|(at, network)| case.zones[at].rules.get(&Trigger::Answer(network)));
    on_names.chain(on_addresses).any(|action| match action {
        Action::Cname(target) => {
            let (targets, _) = truth::chain(target);
            targets.iter().any(|target| names.contains(target))
        }
        _ => false,
    })
}

/// Whether the only rule on the addresses at the end of a chain has no records of the queried type.
fn is_chain_to_other_type(case: &Case<'_>) -> bool {
    let (names, _) = truth::chain(&case.question.name);
    let rules = case.answer_rules();
    let [(at, network)] = &*rules else {
        return false;
    };
    let rtype = case.question.rtype.to_string();
    let action = case.zones[*at].rules.get(&Trigger::Answer(*network));
    let is_other = |records: &[(&str, String)]| records.iter().all(|(of, _)| *of != rtype);
    names.len() > 1 && matches!(action, Some(Action::Records(records)) if is_other(records))
}

/// Whether two prefixes of equal length in one zone, or the same prefix in two zones, contain addresses of the answer.
fn has_equal_prefixes(case: &Case<'_>) -> bool {
    let rules = case.answer_rules();
    let mut pairs = rules
        .iter()
        .flat_map(|one| rules.iter().map(move |other| (one, other)));
    pairs.any(|((at, network), (of, other))| {
        let is_tie = network != other && network.prefix_len() == other.prefix_len();
        // Of a prefix that two zones have, BIND may use the later one.
        (at == of && is_tie) || (at != of && network == other)
    })
}

/// Whether the first rule on a name of the chain is PASSTHRU, and there are earlier zones.
fn has_later_passthru(case: &Case<'_>) -> bool {
    let (names, _) = truth::chain(&case.question.name);
    names.iter().any(|name| {
        let rules = case.zones_on(name);
        matches!(rules.first(), Some((1.., Action::Passthru)))
    })
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

/// Whether BIND's answer is that of a rule on an address of upstream's answer.
fn is_by_address(case: &Case<'_>) -> bool {
    let (names, _) = truth::chain(&case.question.name);
    let rules = case.answer_rules().into_iter();
    let mut actions =
        rules.filter_map(|(at, network)| case.zones[at].rules.get(&Trigger::Answer(network)));
    actions.any(|action| case.bind == outcome_at(names.len() - 1, action, case.question))
}

/// Whether the CNAME records of an answer form a loop.
fn is_circular(answer: &Outcome) -> bool {
    let Outcome::Answer(_, records) = answer else {
        return false;
    };
    let links = records.iter().filter_map(|one| one.split_once(" CNAME "));
    let links: Vec<_> = links.collect();
    let next = |at: &&str| {
        let link = links.iter().find(|(owner, _)| owner == at);
        link.map(|(_, target)| *target)
    };
    links.iter().any(|(owner, target)| {
        let mut chain = std::iter::successors(Some(*target), next).take(links.len());
        chain.any(|at| at == *owner)
    })
}

/// Whether BIND's answer is that of a rule on the client, applied to the first name of the chain whose records are not
/// signed.
fn is_sparing_client(case: &Case<'_>) -> bool {
    let Question { name, client, .. } = case.question;
    let (names, _) = truth::chain(name);
    let Some(hops) = names.iter().position(|name| !truth::is_signed(name)) else {
        return false;
    };
    let mut actions = case.zones.iter().filter_map(|zone| zone.on_client(*client));
    case.question.dnssec
        && hops > 0
        && actions.any(|action| case.bind == outcome_at(hops, action, case.question))
}

/// Counts the differences.
pub(super) struct Table {
    differences: Vec<&'static Difference>,
    cases: usize,
    counts: Vec<usize>,
    unexplained: usize,
}

impl Table {
    /// The table of servers that change signed answers.
    pub(super) fn breaking() -> Self {
        Self::new(DIFFERENCES.iter().collect())
    }

    /// The table of Tapis and BIND if they do not change signed answers.
    pub(super) fn sparing() -> Self {
        let all = DIFFERENCES.iter().chain([&SPARING]);
        Self::new(all.filter(|of| of.server == TAPIS).collect())
    }

    fn new(differences: Vec<&'static Difference>) -> Self {
        Self {
            cases: 0,
            counts: vec![0; differences.len()],
            unexplained: 0,
            differences,
        }
    }

    /// Counts a case. If a difference has no reason, or Tapis's answer is not the documented one, returns false, and counts
    /// nothing.
    pub(super) fn explain(&mut self, case: &Case<'_>) -> bool {
        let mut found = Vec::new();
        for (server, outcome) in [(TAPIS, &case.tapis), (POWERDNS, &case.powerdns)] {
            if *outcome != case.bind {
                found.push(self.differences.iter().position(|difference| {
                    difference.server == server && (difference.applies)(case, outcome)
                }));
            }
        }
        let is_explained = case.tapis == case.documented() && found.iter().all(Option::is_some);
        if is_explained {
            self.cases += 1;
            for at in found.into_iter().flatten() {
                self.counts[at] += 1;
            }
        }
        is_explained
    }

    /// Reports a case that has no reason.
    pub(super) fn report(&mut self, case: &Case<'_>) {
        self.unexplained += 1;
        if self.unexplained <= SHOWN {
            eprintln!("{}", described(case));
        }
    }

    /// Asserts that there was no difference without a reason, and no reason without a difference.
    pub(super) fn assert_explained(&self) {
        eprintln!("{} queries", self.cases);
        for (difference, count) in self.differences.iter().zip(&self.counts) {
            eprintln!("{count:8} {}: {}", difference.server, difference.reason);
        }
        assert_eq!(self.unexplained, 0, "differences without a reason");
        // Some are rare.
        let is_used = self.cases < MANY || !self.counts.contains(&0);
        assert!(is_used, "a reason is out of date");
    }
}

fn described(case: &Case<'_>) -> String {
    let Question {
        name,
        rtype,
        client,
        dnssec,
    } = case.question;
    let mut text = format!(
        "zones of version {}: {name} {rtype} from {client:?}, DO={dnssec}\n  documented {:?}\n  Tapis {:?}\n  BIND {:?}\n  PowerDNS {:?}\n",
        case.version,
        case.documented(),
        case.tapis,
        case.bind,
        case.powerdns
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
