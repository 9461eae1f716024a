//! The configurations of other DNS programs: what all tests need of them, and what one test adds.

use std::fmt::Write;

use super::Program;

/// Sections of Knot DNS: the key that permits transfers, with `ALGORITHM` and `SECRET`.
pub(crate) const KNOT_KEY: &str = "\
key:
  - id: transfer.key
    algorithm: ALGORITHM
    secret: SECRET
acl:
  - id: transfer
    key: transfer.key
    action: transfer
";

/// A policy zone `feed.test` for the file of a primary. It blocks this number of names, each with its `*.`.
pub(crate) fn policy_zone(serial: u32, names: usize) -> String {
    let mut text = format!(
        "$ORIGIN feed.test.\n$TTL 60\n@ SOA localhost. admin.localhost. {serial} 900 60 86400 60\n@ NS localhost.\n"
    );
    for at in 0..names {
        writeln!(text, "site{at}.example CNAME .\n*.site{at}.example CNAME .").expect("memory");
    }
    text
}

/// A program, and its configuration. `PORT` and `DIR` stand for its port and its directory.
#[derive(Clone)]
pub(crate) struct Peer {
    command: &'static [&'static str],
    pub(crate) file: &'static str,
    pub(crate) config: String,
}

impl Peer {
    /// BIND, with more options and sections.
    pub(crate) fn bind(options: &str, sections: &str) -> Self {
        Self {
            command: &["named", "-f", "-c", "DIR/named.conf"],
            file: "named.conf",
            config: format!(
                "\
options {{
  directory \"DIR\";
  pid-file none;
  session-keyfile none;
  listen-on port PORT {{ 127.0.0.1; }};
  listen-on-v6 {{ none; }};
  dnssec-validation no;
{options}}};
controls {{ }};
{sections}"
            ),
        }
    }

    /// BIND as a resolver that asks `UPSTREAM`, with more options and sections.
    pub(crate) fn bind_resolver(options: &str, sections: &str) -> Self {
        let resolver = "\
  allow-query { any; };
  allow-recursion { any; };
  max-cache-size 64m;
  empty-zones-enable no;
  notify no;
  forward only;
  forwarders { 127.0.0.1 port UPSTREAM; };
";
        Self::bind(&[resolver, options].concat(), sections)
    }

    /// Knot DNS, with more sections.
    pub(crate) fn knot(sections: &str) -> Self {
        Self {
            command: &["knotd", "-c", "DIR/config"],
            file: "config",
            config: format!(
                "\
server:
  listen: 127.0.0.1@PORT
  rundir: DIR
database:
  storage: DIR
{sections}"
            ),
        }
    }

    /// NSD, with more options and sections.
    pub(crate) fn nsd(options: &str, sections: &str) -> Self {
        Self {
            command: &["nsd", "-d", "-c", "DIR/config"],
            file: "config",
            config: format!(
                "\
server:
  ip-address: 127.0.0.1@PORT
  username: \"\"
  zonesdir: \"DIR\"
  database: \"\"
  pidfile: \"DIR/pid\"
  xfrdfile: \"DIR/xfrd\"
  zonelistfile: \"DIR/zones\"
{options}remote-control:
  control-enable: no
{sections}"
            ),
        }
    }

    /// Unbound, which asks `UPSTREAM`, with more options and sections.
    pub(crate) fn unbound(options: &str, sections: &str) -> Self {
        Self {
            command: &["unbound", "-d", "-c", "DIR/config"],
            file: "config",
            config: format!(
                "\
server:
  interface: 127.0.0.1@PORT
  username: \"\"
  chroot: \"\"
  directory: \"DIR\"
  pidfile: \"DIR/pid\"
  use-syslog: no
  do-not-query-localhost: no
{options}forward-zone:
  name: \".\"
  forward-addr: 127.0.0.1@UPSTREAM
remote-control:
  control-enable: no
{sections}"
            ),
        }
    }

    /// dnsmasq, which asks `UPSTREAM`, with more options.
    pub(crate) fn dnsmasq(options: &str) -> Self {
        Self {
            command: &["dnsmasq", "--keep-in-foreground", "-C", "DIR/dnsmasq.conf"],
            file: "dnsmasq.conf",
            config: format!(
                "\
port=PORT
listen-address=127.0.0.1
bind-interfaces
user=
pid-file
no-resolv
no-hosts
server=127.0.0.1#UPSTREAM
{options}"
            ),
        }
    }

    /// PowerDNS Recursor, which asks `UPSTREAM`, with more options.
    pub(crate) fn powerdns(options: &str) -> Self {
        Self {
            command: &["pdns_recursor", "--config-dir=DIR"],
            file: "recursor.conf",
            config: format!(
                "\
local-address=127.0.0.1
local-port=PORT
socket-dir=DIR
daemon=no
write-pid=no
dnssec=off
hint-file=no
forward-zones-recurse=.=127.0.0.1:UPSTREAM
{options}"
            ),
        }
    }

    /// PowerDNS Recursor, which applies the policy zones of the file `zones.lua`, and infers nothing from NXDOMAIN.
    pub(crate) fn powerdns_with_zones(options: &str) -> Self {
        let policy = "\
disable-packetcache=yes
root-nx-trust=no
nothing-below-nxdomain=no
lua-config-file=DIR/zones.lua
";
        Self::powerdns(&[policy, options].concat())
    }

    /// Knot Resolver, with more settings.
    pub(crate) fn knot_resolver(settings: &str) -> Self {
        Self {
            command: &["kresd", "-n", "-c", "DIR/config", "DIR"],
            file: "config",
            config: format!(
                "\
net.listen('127.0.0.1', PORT, {{ kind = 'dns' }})
cache.open(10 * MB, 'lmdb://DIR/cache')
trust_anchors.remove('.')
{settings}"
            ),
        }
    }

    /// Replaces words of the configuration.
    pub(crate) fn with(mut self, words: &[(&str, &str)]) -> Self {
        for (word, text) in words {
            self.config = self.config.replace(word, text);
        }
        self
    }

    /// Starts it with its configuration and these files.
    pub(crate) fn start(&self, files: &[(&str, &str)]) -> Program {
        let files = [&[(self.file, &*self.config)], files].concat();
        Program::start(self.command, &files)
    }
}
