//! The known keys of Pi-hole.

use super::keys::Keys;

/// The keys of version 6.
pub(super) const KEYS: Keys = Keys {
    known: &[
        "dns.upstreams",
        "dns.EDNS0ECS",
        "dns.ignoreLocalhost",
        "dns.showDNSSEC",
        "dns.analyzeOnlyAandAAAA",
        "dns.piholePTR",
        "dns.replyWhenBusy",
        "dns.blockTTL",
        "dns.hosts",
        "dns.expandHosts",
        "dns.bogusPriv",
        "dns.hostRecord",
        "dns.listeningMode",
        "dns.queryLogging",
        "dns.cnameRecords",
        "dns.port",
        "dns.localise",
        "dns.revServers",
        "dns.domain",
        "dns.cache.size",
        "dns.cache.optimizer",
        "dns.cache.upstreamBlockedTTL",
        "dns.blocking.active",
        "dns.blocking.mode",
        "dns.blocking.edns",
        "dns.specialDomains.mozillaCanary",
        "dns.specialDomains.iCloudPrivateRelay",
        "dns.specialDomains.designatedResolver",
        "dns.reply.blocking",
        "dns.rateLimit.interval",
        "dhcp",
        "ntp.sync",
        "resolver",
        "database",
        "webserver",
        "files",
        "misc",
        "debug",
    ],
    no_counterpart: &[
        (
            "dns.dnssec",
            "answers are not validated: name upstream servers that validate",
        ),
        (
            "dns.blockESNI",
            "a name below a blocked one is blocked only if a rule covers it",
        ),
        ("dns.domainNeeded", NEEDS_DOMAIN),
        ("dns.domain_needed", NEEDS_DOMAIN),
        (
            "dns.interface",
            "the server listens on addresses: put those of the interface into [server] listen",
        ),
        (
            "dns.reply.host",
            "the names of Pi-hole itself are not answered: write a [[local]] section",
        ),
        ("dhcp.active", "Tapis is no DHCP server"),
        (
            "dns.rateLimit.count",
            "clients' queries are limited by waiting-per-client only",
        ),
        ("ntp.ipv4.active", "Tapis is no time server"),
        ("ntp.ipv6.active", "Tapis is no time server"),
        ("ntp.ipv4.address", "Tapis is no time server"),
        ("ntp.ipv6.address", "Tapis is no time server"),
        (
            "misc.etc_dnsmasq_d",
            "import the files of /etc/dnsmasq.d with `tapis import dnsmasq`",
        ),
    ],
    off: &[(
        "dns.CNAMEdeepInspect",
        "the targets of CNAME records are always checked",
    )],
};

const NEEDS_DOMAIN: &str =
    "names without a dot are forwarded: block them with a list if that matters";

/// Keys of `setupVars.conf` about web pages, installation and the machine.
const V5: &[&str] = &[
    "WEBPASSWORD",
    "WEBTHEME",
    "WEBUIBOXEDLAYOUT",
    "WEBENABLED",
    "TEMPERATUREUNIT",
    "TEMPERATURE_LIMIT",
    "ADMIN_EMAIL",
    "QUERY_LOGGING",
    "INSTALL_WEB_SERVER",
    "INSTALL_WEB_INTERFACE",
    "LIGHTTPD_ENABLED",
    "PIHOLE_INTERFACE",
    "IPV4_ADDRESS",
    "IPV6_ADDRESS",
    "BLOCKING_ENABLED",
    "DNSSEC",
    "DNS_FQDN_REQUIRED",
    "DNS_BOGUS_PRIV",
    "HOSTRECORD",
    "PIHOLE_DOMAIN",
];

/// Whether a key of `setupVars.conf` changes no answer.
pub(super) fn is_known_of_v5(key: &str) -> bool {
    V5.contains(&key) || key.starts_with("DHCP_") || key.starts_with("API_")
}

/// Keys of `pihole-FTL.conf` about logs, databases and the process.
const FTL: &[&str] = &[
    "BLOCK_IPV4",
    "BLOCK_IPV6",
    "BLOCK_ICLOUD_PR",
    "MOZILLA_CANARY",
    "SOCKET_LISTENING",
    "FTLPORT",
    "RESOLVE_IPV6",
    "RESOLVE_IPV4",
    "NAMES_FROM_NETDB",
    "REFRESH_HOSTNAMES",
    "PIHOLE_PTR",
    "MAXDBDAYS",
    "DBINTERVAL",
    "DBFILE",
    "DBIMPORT",
    "DATABASE",
    "GRAVITYDB",
    "MACVENDORDB",
    "MAXLOGAGE",
    "PRIVACYLEVEL",
    "IGNORE_LOCALHOST",
    "ANALYZE_ONLY_A_AND_AAAA",
    "ANALYZE_AAAA",
    "SHOW_DNSSEC",
    "EDNS0_ECS",
    "PARSE_ARP_CACHE",
    "NETWORK_EXPIRE",
    "REPLY_WHEN_BUSY",
    "LOGFILE",
    "PIDFILE",
    "PORTFILE",
    "SOCKETFILE",
    "SETUPVARSFILE",
    "AUDITLISTFILE",
    "NICE",
    "DELAY_STARTUP",
    "ADDR2LINE",
    "CHECK_LOAD",
    "CHECK_SHMEM",
    "CHECK_DISK",
];

/// Whether a key of `pihole-FTL.conf` changes no answer, or belongs to another one.
pub(super) fn is_known_of_ftl(key: &str) -> bool {
    FTL.contains(&key) || key.starts_with("DEBUG_")
}
