//! The clients that BIND answers: lists of networks in which the first match counts, and options that must all permit a
//! client.

use ipnet::IpNet;

use super::bind_options::Context;
use super::bind_syntax::Statement;
use super::draft::{Draft, SourceLine, private_networks};
use super::servers;

/// How deep lists may name each other.
const DEPTH_MAX: usize = 16;

/// How many elements the lists may have, those of named lists counted each time, and how many networks.
const ELEMENTS_MAX: usize = 10_000;

/// The options that a client of the resolver needs. One that is not set has the value of another one that is, or permits
/// everyone who can use the others.
const OPTIONS: &[&str] = &["allow-query", "allow-query-cache", "allow-recursion"];

/// Clients that a list permits.
#[derive(Default)]
struct Clients {
    networks: Vec<IpNet>,
    /// Where everyone is permitted, except the clients of some networks.
    everyone: Option<(SourceLine, Vec<IpNet>)>,
}

impl Clients {
    /// The clients that both permit.
    fn and(self, other: Self) -> Self {
        let pairs = self
            .networks
            .iter()
            .flat_map(|one| other.networks.iter().map(move |two| (*one, *two)));
        // Of two networks, one contains the other, or they have no address in common.
        let common =
            pairs.filter_map(
                |(one, two)| match (one.contains(&two), two.contains(&one)) {
                    (true, _) => Some(two),
                    (_, true) => Some(one),
                    _ => None,
                },
            );
        let mut networks: Vec<_> = common.collect();
        for (listed, everyone) in [(&self, &other), (&other, &self)] {
            if let Some((_, except)) = &everyone.everyone {
                networks.extend(without(&listed.networks, except));
            }
        }
        let everyone = self.everyone.zip(other.everyone);
        Self {
            networks,
            everyone: everyone.map(|((line, one), (_, two))| (line, [one, two].concat())),
        }
    }
}

/// Networks without the addresses of others.
pub(super) fn without(networks: &[IpNet], except: &[IpNet]) -> Vec<IpNet> {
    except.iter().fold(networks.to_vec(), |networks, denied| {
        let parts = networks.into_iter();
        parts.flat_map(|network| minus(network, *denied)).collect()
    })
}

fn minus(network: IpNet, denied: IpNet) -> Vec<IpNet> {
    if denied.contains(&network) {
        return Vec::new();
    }
    if !network.contains(&denied) {
        return vec![network];
    }
    let halves = network.subnets(network.prefix_len() + 1);
    let halves = halves.into_iter().flatten();
    halves.flat_map(|half| minus(half, denied)).collect()
}

/// Permits the clients that all options permit. Without any of them, nothing is set.
pub(super) fn import(context: &Context<'_>, options: &[&Statement], draft: &mut Draft) {
    let mut permitted: Option<Clients> = None;
    let mut last = None;
    for name in OPTIONS {
        let Some(option) = options.iter().rfind(|option| option.word(0) == *name) else {
            continue;
        };
        let clients = list(context, &option.block, 0, draft);
        permitted = Some(match permitted {
            Some(known) => known.and(clients),
            None => clients,
        });
        last = Some(&option.line);
    }
    let (Some(clients), Some(line)) = (permitted, last) else {
        return;
    };
    if context.elements.get() > ELEMENTS_MAX {
        return draft.set("server", "allow", toml_edit::Array::new(), line);
    }
    let mut networks = clients.networks;
    if let Some((any, except)) = clients.everyone {
        let private: Vec<_> = private_networks().collect();
        networks.extend(without(&private, &except));
        let reason = "a resolver that is open to all is abused: [server] allow has all private networks, add others";
        draft.leave(&any, "any", reason);
    }
    if networks.is_empty() {
        draft.set("server", "allow", toml_edit::Array::new(), line);
        let reason = "no network is permitted by all of allow-query, allow-query-cache and allow-recursion: add some to [server] allow";
        draft.leave(line, "clients", reason);
    }
    for network in networks {
        draft.allow(network, line);
    }
}

/// The clients of a list, whose first match counts.
fn list(context: &Context<'_>, items: &[Statement], depth: usize, draft: &mut Draft) -> Clients {
    let (mut clients, mut denied) = (Clients::default(), Vec::new());
    for item in items {
        context.elements.set(context.elements.get() + 1);
        if context.elements.get() > ELEMENTS_MAX {
            // The first element beyond the limit reports it.
            if context.elements.get() == ELEMENTS_MAX + 1 {
                let reason = format!(
                    "the lists of clients have more than {ELEMENTS_MAX} elements, so no client is permitted: add some to \
                     [server] allow"
                );
                draft.leave(&item.line, "acl", reason);
            }
            return Clients::default();
        }
        let is_denied = item.word(0).starts_with('!');
        let words = item.words.iter().map(|word| word.trim_start_matches('!'));
        let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
        let found = element(context, (&words, item), depth, draft);
        match (is_denied, found.everyone) {
            (false, everyone) => {
                clients.networks.extend(without(&found.networks, &denied));
                if let Some((line, except)) = everyone {
                    clients.everyone = Some((line, [&denied[..], &except].concat()));
                }
            }
            // No later item can match.
            (true, Some(_)) => break,
            (true, None) => denied.extend(found.networks),
        }
        let networks = clients.networks.len() + denied.len();
        context
            .elements
            .set(context.elements.get() + networks / 100);
    }
    clients
}

/// The clients of an element: a network, a word, the name of a list, or a list.
fn element(
    context: &Context<'_>,
    (words, item): (&[&str], &Statement),
    depth: usize,
    draft: &mut Draft,
) -> Clients {
    let line = &item.line;
    let of = |networks: Vec<IpNet>| Clients {
        networks,
        everyone: None,
    };
    let named = |word: &str| match servers::network(word) {
        Some(network) => vec![network],
        None => Vec::new(),
    };
    match words {
        _ if depth >= DEPTH_MAX => {
            draft.leave(
                line,
                "acl",
                "lists name each other too deeply, or in a circle",
            );
            Clients::default()
        }
        [] => list(context, &item.block, depth + 1, draft),
        ["none"] => Clients::default(),
        ["any"] => Clients {
            networks: Vec::new(),
            everyone: Some((line.clone(), Vec::new())),
        },
        ["localhost"] => of(["127.0.0.0/8", "::1/128"]
            .into_iter()
            .flat_map(named)
            .collect()),
        ["localnets"] => of(private_networks().collect()),
        [word] => match (context.acls.get(*word), servers::network(word)) {
            (Some(acl), _) => list(context, &acl.block, depth + 1, draft),
            (None, Some(network)) => of(vec![network]),
            (None, None) => {
                let reason = "not a network, and not an acl of this configuration";
                draft.leave(line, format!("allow {word}"), reason);
                Clients::default()
            }
        },
        [word, ..] => {
            let reason = "clients are permitted by their networks only: check [server] allow";
            draft.leave(line, format!("allow {word}"), reason);
            Clients::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_without_a_part_is_the_networks_around_the_part() {
        let net = |text: &str| text.parse::<IpNet>().expect("a network");
        let parts = minus(net("10.0.0.0/8"), net("10.128.0.0/10"));
        assert_eq!(parts, [net("10.0.0.0/9"), net("10.192.0.0/10")]);
        assert_eq!(minus(net("10.0.0.0/8"), net("0.0.0.0/0")), []);
        assert_eq!(minus(net("10.0.0.0/8"), net("::/0")), [net("10.0.0.0/8")]);
    }
}
