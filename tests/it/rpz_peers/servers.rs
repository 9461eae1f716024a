//! The three servers, which apply the same zones to the answers of the same upstream.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use super::ask::{Outcome, Question, ask};
use super::zones::{Zone, marker};
use crate::support::client::{PATIENCE, until};
use crate::support::peers::{Peer, Program};
use crate::support::server::{Server, list, preamble};

/// The names of the zones, in the order of precedence.
pub(super) const ZONES: [&str; 3] = ["z1", "z2", "z3"];

/// A client that no rule is about.
const OBSERVER: [u8; 4] = [127, 9, 9, 9];

const BIND_OPTIONS: &str = "\
  check-integrity no;
  response-policy { zone \"z1\"; zone \"z2\"; zone \"z3\"; }
    break-dnssec BREAK recursive-only yes qname-wait-recurse no nsip-enable no nsdname-enable no
    min-update-interval 0 max-policy-ttl 5;
";

const BIND_SECTIONS: &str = "\
logging { category default { null; }; };
zone \"z1\" { type primary; file \"z1\"; };
zone \"z2\" { type primary; file \"z2\"; };
zone \"z3\" { type primary; file \"z3\"; };
";

/// Without throttling: after one lost datagram, the server would answer SERVFAIL for a minute.
const POWERDNS_OPTIONS: &str = "\
dont-throttle-netmasks=127.0.0.0/8
server-down-max-fails=0
";

const POWERDNS_ZONES: &str = "\
rpzFile(\"DIR/z1\", {policyName=\"z1\"})
rpzFile(\"DIR/z2\", {policyName=\"z2\"})
rpzFile(\"DIR/z3\", {policyName=\"z3\"})
";

/// All servers of the comparison.
pub(super) struct Servers {
    tapis: Server,
    bind: Program,
    powerdns: Program,
}

impl Servers {
    /// Starts them with empty zones. Rules change signed answers if `breaks_dnssec`.
    pub(super) fn start(upstream: SocketAddr, breaks_dnssec: bool) -> Self {
        let empty = ZONES.map(|apex| Zone::default().text(apex, 0));
        let zones = || ZONES.into_iter().zip(empty.iter().map(String::as_str));
        let port = upstream.port().to_string();
        let upstream_port = [("UPSTREAM", &*port)];
        let files: Vec<_> = zones().collect();
        let bind = Peer::bind_resolver(BIND_OPTIONS, BIND_SECTIONS);
        let breaks = if breaks_dnssec { "yes" } else { "no" };
        let of_bind = [("UPSTREAM", &*port), ("BREAK", breaks)];
        let bind = bind.with(&of_bind).start(&files);
        let powerdns = Peer::powerdns_with_zones(POWERDNS_OPTIONS).with(&upstream_port);
        let with_zones: Vec<_> = zones().chain([("zones.lua", POWERDNS_ZONES)]).collect();
        let powerdns = powerdns.start(&with_zones);
        let mut config = preamble(upstream)
            + "[guard]\nshrink-percent = 100\ngrow-percent = 0\npublic-suffixes = \"none\"\n";
        for apex in ZONES {
            let more = format!(
                "format = \"rpz\"\nzone = \"{apex}\"\nguards = \"warn\"\nbreak-dnssec = {breaks_dnssec}\n"
            );
            config += &list(apex, &more);
        }
        let tapis = Server::start(&config, &files);
        Self {
            tapis,
            bind,
            powerdns,
        }
    }

    /// Their addresses: Tapis, BIND, PowerDNS Recursor.
    pub(super) fn addresses(&self) -> [SocketAddr; 3] {
        [self.tapis.address, self.bind.address, self.powerdns.address]
    }

    /// Replaces all zones, and waits until all servers apply them.
    pub(super) fn replace(&self, zones: &[Zone], version: u32) {
        let texts = ZONES.iter().enumerate().map(|(at, apex)| {
            let zone = zones.get(at).cloned().unwrap_or_default();
            (apex, zone.text(apex, version))
        });
        for (apex, text) in texts {
            for folder in [&self.bind.folder, &self.powerdns.folder] {
                replace(folder.path(), apex, &text);
            }
            self.tapis.replace(apex, &text);
        }
        self.bind.hang_up();
        let reloaded = Command::new("rec_control")
            .arg(format!(
                "--socket-dir={}",
                self.powerdns.folder.path().display()
            ))
            .args(["reload-lua-config"])
            .output()
            .expect("rec_control is installed");
        assert!(reloaded.status.success(), "{reloaded:?}");
        for (server, program) in self
            .addresses()
            .into_iter()
            .zip(["tapis", "bind", "powerdns"])
        {
            for apex in ZONES {
                let question = Question {
                    name: marker(apex, version),
                    rtype: RecordType::TXT,
                    client: OBSERVER,
                    dnssec: false,
                };
                let record = format!("{}. TXT {version}", question.name);
                let expected = Outcome::Answer(ResponseCode::NoError, [record].into());
                until(&format!("{program} applies {apex}"), || {
                    let outcomes = ask(server, &[(0, &question)], PATIENCE);
                    outcomes.get(&0) == Some(&expected)
                });
            }
        }
    }
}

fn replace(folder: &Path, name: &str, text: &str) {
    let new = folder.join("new-file");
    fs::write(&new, text).expect("written");
    fs::rename(new, folder.join(name)).expect("renamed");
}
