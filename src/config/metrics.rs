//! The section `[metrics]`.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::findings::Findings;
use super::reader::{Reader, Strings};
use super::values::{each, network, sockets};

/// Where the metrics are served, and to whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// The addresses, no duplicates; if there are none, metrics are not served. Port 0 lets the system choose.
    pub listen: Vec<SocketAddr>,
    /// The networks that may connect; `None` means all.
    pub allow: Option<Vec<IpNet>>,
}

impl Metrics {
    /// Whether a client with this address may connect.
    pub fn permits(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        let permits = |allow: &Vec<IpNet>| allow.iter().any(|network| network.contains(&client));
        self.allow.as_ref().is_none_or(permits)
    }
}

/// The section `[metrics]` before validation.
#[derive(Default)]
pub(super) struct RawMetrics {
    listen: Option<Strings>,
    allow: Option<Strings>,
}

impl RawMetrics {
    pub(super) fn read(table: &mut Reader<'_, '_>) -> Self {
        Self {
            listen: table.strings("listen"),
            allow: table.strings("allow"),
        }
    }
}

/// Validates the section `[metrics]`. Clients are answered at the addresses `answering`, by TCP as well.
pub(super) fn validate(
    raw: RawMetrics,
    answering: &[SocketAddr],
    findings: &mut Findings,
) -> Metrics {
    let line = raw.listen.as_ref().map(|given| given.line);
    let listen = sockets(raw.listen, findings).unwrap_or_default();
    for address in listen.iter().filter(|address| address.port() != 0) {
        let overlaps = |other: &&SocketAddr| {
            let is_any = address.ip().is_unspecified() || other.ip().is_unspecified();
            let is_same = address.ip() == other.ip();
            let is_of_family = address.is_ipv4() == other.is_ipv4();
            address.port() == other.port() && is_of_family && (is_any || is_same)
        };
        if let (Some(other), Some(line)) = (answering.iter().find(overlaps), line) {
            let message = format!(
                "listen holds \"{address}\", where DNS clients are answered ([server] listen holds \"{other}\"): choose \
                 another port"
            );
            findings.report(line, message);
        }
    }
    Metrics {
        listen,
        allow: each(raw.allow, findings, network),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{problems, valid};
    use super::*;

    #[test]
    fn metrics_are_off_unless_an_address_is_given() {
        assert_eq!(valid("").server.metrics, Metrics::default());
        let given = valid("[metrics]\nlisten = [\"127.0.0.1:9253\", \"[::1]:0\"]\n")
            .server
            .metrics;
        assert_eq!(given.listen.len(), 2);
        assert!(given.permits(IpAddr::from([192, 0, 2, 1])));
    }

    #[test]
    fn only_permitted_networks_may_connect() {
        let given = valid("[metrics]\nallow = [\"192.0.2.0/24\", \"2001:db8::1\"]\n")
            .server
            .metrics;
        let permits = |text: &str| given.permits(text.parse().expect("an address"));
        assert!(permits("192.0.2.9") && permits("2001:db8::1") && permits("::ffff:192.0.2.9"));
        assert!(!permits("192.0.3.1") && !permits("2001:db8::2"));
        let none = valid("[metrics]\nallow = []\n").server.metrics;
        assert!(!none.permits(IpAddr::from([127, 0, 0, 1])));
    }

    #[test]
    fn all_mistakes_are_reported() {
        let text = "[metrics]\nlisten = [\"127.0.0.1\"]\nallow = [\"nowhere\"]\nlissten = 1\n";
        let found = problems(text).join("\n");
        for part in ["listen holds", "allow holds", "lissten"] {
            assert!(found.contains(part), "{found}");
        }
    }

    #[test]
    fn an_address_at_which_clients_are_answered_is_refused() {
        let of = |listen: &str| {
            let text = format!(
                "[server]\nlisten = [\"192.0.2.1:53\", \"127.0.0.1:0\"]\n[metrics]\nlisten = [\"{listen}\"]\n"
            );
            problems(&text).join("\n")
        };
        for listen in ["192.0.2.1:53", "0.0.0.0:53"] {
            assert!(of(listen).contains("choose another port"), "{listen}");
        }
        for listen in ["192.0.2.2:53", "192.0.2.1:54", "127.0.0.1:0", "[::]:53"] {
            assert_eq!(of(listen), "", "{listen}");
        }
    }
}
