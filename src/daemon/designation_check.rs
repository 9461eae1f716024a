//! Asks a server in clear for the encrypted servers that it designates, and verifies them (RFC 9462, section 4.2).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::bootstrap::Means;
use super::hosts;
use super::target::{DEFAULT_PLACE, target};
use crate::config::encryption::{Encryption, Protocol};
use crate::config::upstream::{ServerAddress, UpstreamServer};
use crate::serve::cache::Key;
use crate::serve::upstream::pools::Pools;
use crate::serve::upstream::server::{Server, Target};
use crate::serve::upstream::{Pool, Unanswered};
use crate::tls::client::Authorities;
use crate::wire::answer::Intake;
use crate::wire::name::Name;
use crate::wire::rtype;
use crate::wire::service::Service;

/// The name that a server is asked for (RFC 9462, section 4).
const QUERIED: &str = "_dns.resolver.arpa";
/// The most records of an answer that are used, addresses of each, and servers that are tried in all.
const MOST_SERVICES: usize = 8;
const MOST_ADDRESSES: usize = 4;
const MOST_TRIED: usize = 16;
/// How long a query may take at least, whatever `timeout-ms`: longer than a handshake may take, so that its problem is known.
const PATIENCE: Duration = Duration::from_secs(7);
/// How long all queries about one server may take.
const WHOLE: Duration = Duration::from_secs(30);
/// The end of a URI template that has the query as a parameter (RFC 8484, section 4.1). Queries are sent by POST instead.
const TEMPLATE: &str = "{?dns}";
/// Port 53 is for DNS in clear (RFC 7858, section 3.1).
const DNS_PORT: u16 = 53;

/// How servers are asked and verified.
#[derive(Clone)]
pub(super) struct Check {
    pub(super) means: Means,
    /// The addresses of this server, which must not be used as upstream.
    pub(super) listen: Arc<[SocketAddr]>,
    /// How long a query for a client may take.
    pub(super) timeout: Duration,
}

/// An encrypted server that was verified.
#[derive(Clone, Debug)]
pub(super) struct Verified {
    pub(super) target: Target,
    /// The server, as a configuration would name it.
    pub(super) shown: String,
}

/// The outcome of a check.
#[derive(Debug)]
pub(super) struct Finding {
    /// The server to use in place of the one in clear.
    pub(super) verified: Option<Verified>,
    /// Why there is none, or why it can't be confirmed.
    pub(super) why: Option<String>,
    /// For how many seconds this holds; `None` if the server gave no usable answer.
    pub(super) ttl: Option<u32>,
}

impl Finding {
    /// The finding if the queries for it took too long.
    fn late() -> Self {
        Self {
            verified: None,
            why: Some("the encrypted servers that it designates do not answer in time".to_owned()),
            ttl: None,
        }
    }
}

impl Check {
    /// Asks `plain`, and verifies the servers that it designates. `used` is the one that is used now.
    pub(super) async fn run(self, plain: Target, used: Option<Verified>) -> Finding {
        let found = tokio::time::timeout(WHOLE, self.find(&plain, used)).await;
        found.unwrap_or_else(|_| Finding::late())
    }

    async fn find(&self, plain: &Target, used: Option<Verified>) -> Finding {
        let pools = Pools::new(self.pool(plain.clone()));
        let answer = pools.default_pool().ask(&key(), None, None).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(unanswered) => return self.unconfirmed(used, described(&unanswered)).await,
        };
        let refused = |why: String| Finding {
            verified: None,
            why: Some(why),
            // Without one, the server states no time: then it has nothing to designate.
            ttl: Some(answer.ttl().unwrap_or(u32::MAX)),
        };
        let services = match answer.services_described() {
            Ok(services) => services,
            Err(malformed) => {
                return refused(format!("its designation can't be used: {malformed}"));
            }
        };
        if answer.services() == 0 {
            return refused("it designates no encrypted server".to_owned());
        }
        let (servers, mut problems) = candidates(&pools, plain, &services).await;
        let listen = Arc::clone(&self.listen);
        // This reads the certificates of the authorities.
        let targets = tokio::task::spawn_blocking(move || {
            let mut authorities = Authorities::default();
            let servers = servers.into_iter();
            let targets = servers.map(|server| {
                let target = target(&server, &listen, DEFAULT_PLACE, &mut authorities);
                (server.to_string(), target)
            });
            targets.collect::<Vec<_>>()
        });
        // This fails only when the runtime ends.
        for (shown, target) in targets.await.unwrap_or_default() {
            let problem = match target {
                Err(problem) => problem.to_string(),
                Ok(target) => match self.verify(&target).await {
                    Err(why) => why,
                    Ok(()) => {
                        return Finding {
                            verified: Some(Verified { target, shown }),
                            why: None,
                            ttl: Some(answer.ttl().unwrap_or(0)),
                        };
                    }
                },
            };
            problems.push(format!("{shown}: {problem}"));
        }
        if problems.is_empty() {
            problems.push("it designates no encrypted server that is supported".to_owned());
        }
        refused(problems.join("; "))
    }

    /// The finding if the server in clear gives no usable answer: the encrypted one stays in use while it works.
    async fn unconfirmed(&self, used: Option<Verified>, why: String) -> Finding {
        let (verified, why) = match used {
            None => (None, why),
            Some(used) => match self.verify(&used.target).await {
                Ok(()) => (Some(used), why),
                Err(problem) => (None, format!("{why}; {}: {problem}", used.shown)),
            },
        };
        Finding {
            verified,
            why: Some(why),
            ttl: None,
        }
    }

    /// Opens a connection to a server, whose certificate must prove that it was designated, and asks a query that each
    /// resolver can answer.
    async fn verify(&self, target: &Target) -> Result<(), String> {
        let pool = self.pool(target.clone());
        match pool.ask(&Key::root_servers(), None, None).await {
            Ok(_) => Ok(()),
            Err(_) => {
                let mut servers = pool.state().into_iter();
                let problem = servers.find_map(|server| server.problem);
                Err(problem.unwrap_or_else(|| "it gives no usable answer".to_owned()))
            }
        }
    }

    /// A pool of one server, apart from that of the clients' queries.
    fn pool(&self, target: Target) -> Arc<Pool> {
        let Means {
            network,
            ports,
            counters,
        } = &self.means;
        let intake = Intake {
            min_ttl: 0,
            max_ttl: u32::MAX,
            max_negative_ttl: u32::MAX,
            additional: false,
        };
        Arc::new(Pool::new(
            vec![Server::of(target)],
            Arc::clone(network) as _,
            self.timeout.max(PATIENCE),
            intake,
            Arc::clone(ports),
            Arc::clone(counters),
        ))
    }
}

fn key() -> Key {
    let name = Name::from_text(QUERIED).unwrap_or(Name::ROOT);
    Key::of(&name, rtype::SVCB)
}

fn described(unanswered: &Unanswered) -> String {
    match &unanswered.said {
        Some(answer) => format!(
            "it answers the query for encrypted servers with the response code {}",
            answer.rcode()
        ),
        None => "it gives no usable answer to the query for encrypted servers".to_owned(),
    }
}

/// The encrypted servers that the services describe, the preferred ones first, and problems of those that are left out.
/// The server in clear is asked for addresses that the records do not have.
async fn candidates(
    pools: &Pools,
    plain: &Target,
    services: &[Service],
) -> (Vec<UpstreamServer>, Vec<String>) {
    let (mut servers, mut problems) = (Vec::new(), Vec::new());
    for service in services.iter().take(MOST_SERVICES) {
        let offers = match offers(service) {
            Ok(offers) => offers,
            Err(problem) => {
                problems.push(format!("{}: {problem}", service.target));
                continue;
            }
        };
        let mut addresses = service.hints.clone();
        if addresses.is_empty() {
            match hosts::addresses(pools, &service.target).await {
                Ok((found, _)) => addresses = found,
                Err(why) => {
                    problems.push(format!("the address of {}: {why}", service.target));
                    continue;
                }
            }
        }
        // This machine may have no route to addresses of the other family.
        let is_v4 = plain.address.socket.is_ipv4();
        addresses.sort_by_key(|ip| ip.is_ipv4() != is_v4);
        addresses.truncate(MOST_ADDRESSES);
        for (protocol, port) in offers {
            let all = addresses.iter();
            servers.extend(all.map(|ip| server(plain, &service.target, &protocol, (*ip, port))));
        }
    }
    servers.truncate(MOST_TRIED);
    (servers, problems)
}

/// The supported protocols of a service, the cheapest first, and their ports.
fn offers(service: &Service) -> Result<Vec<(Protocol, u16)>, &'static str> {
    // The target must be a name here, and `.` is none (RFC 9462, section 4).
    if service.target.label_count() == 0 || !service.target.is_plain() {
        return Err("is not the name of a host");
    }
    let has = |protocol: &[u8]| service.protocols.iter().any(|known| known == protocol);
    let path = service.path.as_deref().and_then(path);
    let of_http = |name: &[u8], protocol: fn(String) -> Protocol| {
        let path = path.clone().filter(|_| has(name))?;
        Some((protocol(path), 443))
    };
    let offers = [
        has(b"dot").then_some((Protocol::Tls, 853)),
        has(b"doq").then_some((Protocol::Quic, 853)),
        of_http(b"h2", |path| Protocol::Https { path }),
        of_http(b"h3", |path| Protocol::H3 { path }),
    ];
    let offers = offers.into_iter().flatten();
    let offers = offers.map(|(protocol, usual)| (protocol, service.port.unwrap_or(usual)));
    let offers: Vec<_> = offers
        .filter(|(_, port)| ![0, DNS_PORT].contains(port))
        .collect();
    match offers.is_empty() {
        true => {
            Err("offers no protocol that is supported, with the path and the port that it needs")
        }
        false => Ok(offers),
    }
}

/// The path of a URI template that differs from it only by the parameter `dns`. `None` if it can't be used.
fn path(template: &str) -> Option<String> {
    let path = template.strip_suffix(TEMPLATE)?;
    let is_of_path =
        |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%/".contains(&byte);
    (path.starts_with('/') && path.bytes().all(is_of_path)).then(|| path.to_owned())
}

fn server(
    plain: &Target,
    name: &Name,
    protocol: &Protocol,
    address: (IpAddr, u16),
) -> UpstreamServer {
    UpstreamServer {
        address: ServerAddress::from(SocketAddr::from(address)),
        encryption: Some(Encryption {
            protocol: protocol.clone(),
            name: Some(name.to_string()),
            authorities: None,
            pins: Vec::new(),
            designated_by: Some(plain.address.socket.ip().to_canonical()),
        }),
        random_case: plain.permitted.random_case,
        edns: plain.permitted.edns,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(protocols: &[&str], port: Option<u16>, path: Option<&str>) -> Service {
        Service {
            priority: 1,
            target: Name::from_text("dns.example").expect("a name"),
            protocols: protocols.iter().map(|of| of.as_bytes().to_vec()).collect(),
            port,
            path: path.map(str::to_owned),
            hints: vec![IpAddr::from([192, 0, 2, 9])],
        }
    }

    fn offered(service: &Service) -> Vec<String> {
        let plain = SocketAddr::from(([192, 0, 2, 1], 53));
        let plain = Target::plain(plain, crate::wire::ask::Dialect::FULL);
        let offers = offers(service).unwrap_or_default().into_iter();
        let servers = offers.map(|(protocol, port)| {
            let server = server(&plain, &service.target, &protocol, (service.hints[0], port));
            let by = server.encryption.as_ref().expect("encrypted").designated_by;
            assert_eq!(by, Some(plain.address.socket.ip()));
            server.to_string()
        });
        servers.collect()
    }

    #[test]
    fn supported_protocols_become_servers_with_the_usual_or_the_given_port() {
        let all = ["h3", "h2", "doq", "dot", "http/1.1"];
        assert_eq!(
            offered(&service(&all, None, Some("/q{?dns}"))),
            [
                "tls://192.0.2.9:853#dns.example",
                "quic://192.0.2.9:853#dns.example",
                "https://192.0.2.9:443/q#dns.example",
                "h3://192.0.2.9:443/q#dns.example",
            ]
        );
        assert_eq!(
            offered(&service(&["dot"], Some(8853), None)),
            ["tls://192.0.2.9:8853#dns.example"]
        );
    }

    #[test]
    fn services_without_a_usable_protocol_path_port_or_name_give_no_server() {
        for path in [
            None,
            Some("q{?dns}"),
            Some("/q"),
            Some("/q{&dns}"),
            Some("/\n{?dns}"),
            Some("/{x}{?dns}"),
        ] {
            assert!(
                offered(&service(&["h2", "h3"], None, path)).is_empty(),
                "{path:?}"
            );
        }
        for port in [0, 53] {
            assert!(offered(&service(&["dot"], Some(port), None)).is_empty());
        }
        assert!(offered(&service(&["http/1.1"], None, Some("/q{?dns}"))).is_empty());
        let mut root = service(&["dot"], None, None);
        root.target = Name::ROOT;
        assert!(offered(&root).is_empty());
    }
}
