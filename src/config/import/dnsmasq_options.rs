//! dnsmasq's options that do not become settings.

/// Options that say how the process runs, not what is answered.
pub(super) const PROCESS: &[&str] = &[
    "user",
    "group",
    "pid-file",
    "log-facility",
    "log-queries",
    "log-async",
    "log-debug",
    "strict-order",
    "all-servers",
    "bind-interfaces",
    "bind-dynamic",
    "edns-packet-max",
    "dns-forward-max",
    "no-poll",
    "clear-on-reload",
    "keep-in-foreground",
    "no-daemon",
    "dns-loop-detect",
    "query-port",
    "min-port",
    "max-port",
    "conntrack",
    "enable-dbus",
    "enable-ubus",
    "no-round-robin",
    "quiet-dhcp",
    "quiet-dhcp6",
    "quiet-ra",
    "quiet-tftp",
    "fast-dns-retry",
    "max-tcp-connections",
    "cache-rr",
    "port-limit",
    "proxy-dnssec",
    "except-interface",
    "no-dhcp-interface",
    "localise-queries",
    "no-ident",
];

/// Beginnings of options for DHCP and TFTP.
pub(super) const DHCP: &[&str] = &[
    "dhcp-",
    "tftp-",
    "enable-tftp",
    "enable-ra",
    "ra-param",
    "pxe-",
    "bootp-",
    "read-ethers",
    "script-",
    "shared-network",
];

/// Options without a counterpart, and what to do.
pub(super) const NO_COUNTERPART: &[(&str, &str)] = &[
    (
        "domain-needed",
        "names without a dot are forwarded: block them with a list if that matters",
    ),
    (
        "dnssec",
        "answers are not validated: name upstream servers that validate",
    ),
    (
        "trust-anchor",
        "answers are not validated: name upstream servers that validate",
    ),
    (
        "dnssec-check-unsigned",
        "answers are not validated: name upstream servers that validate",
    ),
    (
        "dnssec-no-timecheck",
        "answers are not validated: name upstream servers that validate",
    ),
    (
        "stop-dns-rebind",
        "answers with private addresses are not rejected",
    ),
    (
        "rebind-localhost-ok",
        "answers with private addresses are not rejected",
    ),
    (
        "rebind-domain-ok",
        "answers with private addresses are not rejected",
    ),
    ("filter-AAAA", "answers are not filtered by their type"),
    ("filter-A", "answers are not filtered by their type"),
    ("filterwin2k", "answers are not filtered by their type"),
    (
        "interface",
        "the server listens on addresses: put those of the interface into [server] listen",
    ),
    (
        "auth-server",
        "zones are not served to other name servers: use a name server for that",
    ),
    (
        "auth-zone",
        "zones are not served to other name servers: use a name server for that",
    ),
    (
        "neg-ttl",
        "negative answers have the TTL of upstream's answer",
    ),
    (
        "max-ttl",
        "use [cache] max-ttl-secs, which applies to the cache as well",
    ),
    ("no-negcache", "negative answers are always cached"),
    (
        "bogus-nxdomain",
        "write a policy zone with a rule on the answer's address (rpz-ip): see docs/rpz.md",
    ),
    (
        "ignore-address",
        "write a policy zone with a rule on the answer's address (rpz-ip): see docs/rpz.md",
    ),
    ("alias", "addresses in answers are not changed"),
    ("ipset", "no firewall sets are filled"),
    ("nftset", "no firewall sets are filled"),
    ("add-subnet", "clients' addresses are not sent upstream"),
    ("add-mac", "clients' addresses are not sent upstream"),
    (
        "synth-domain",
        "names are not made of addresses: write [[local]] sections",
    ),
    (
        "dynamic-host",
        "addresses of interfaces are not followed: write a [[local]] section",
    ),
    (
        "interface-name",
        "addresses of interfaces are not followed: write a [[local]] section",
    ),
    (
        "naptr-record",
        "[[local]] has no NAPTR records: use a zone file",
    ),
    (
        "caa-record",
        "[[local]] has no CAA records: use a zone file",
    ),
    (
        "dns-rr",
        "[[local]] has no records of this type: use a zone file",
    ),
];
