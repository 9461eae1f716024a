//! Unbound's settings that do not carry over.

use super::draft::Draft;
use super::unbound_syntax::Attribute;

/// Beginnings of settings that say how the process runs or how it resolves, not what is answered.
const PROCESS: &[&str] = &[
    "verbosity",
    "statistics-",
    "extended-statistics",
    "shm-",
    "directory",
    "chroot",
    "username",
    "pidfile",
    "logfile",
    "log-",
    "use-syslog",
    "so-",
    "prefetch",
    "hide-",
    "outgoing-",
    "edns-buffer-size",
    "minimal-responses",
    "rrset-roundrobin",
    "target-fetch-policy",
    "harden-",
    "use-caps-for-id",
    "caps-",
    "qname-minimisation",
    "aggressive-nsec",
    "num-queries-per-thread",
    "msg-buffer-size",
    "infra-",
    "root-hints",
    "tls-cert-bundle",
    "tls-system-cert",
    "unwanted-reply-threshold",
    "jostle-timeout",
    "key-cache-",
    "neg-cache-size",
    "max-udp-size",
    "incoming-num-tcp",
    "delay-close",
    "deny-any",
    "val-",
    "ede",
    "do-daemonize",
    "ip-",
    "do-not-query-",
    "tcp-",
    "udp-",
    "sock-queue-timeout",
    "msg-cache-slabs",
    "rrset-cache-slabs",
    "max-reuse-tcp-queries",
    "tcp-auth-query-timeout",
    "do-udp",
    "do-tcp",
    "fast-server-",
    "low-rtt",
    "serve-expired-reply-ttl",
    "serve-expired-client-timeout",
    "serve-expired-ttl-reset",
    "pad-",
    "nsid",
    "discard-timeout",
    "unknown-server-time-limit",
    "prefer-ip",
    "iter-scrub",
    "max-query-restarts",
    "do-ip",
    "use-systemd",
    "zonemd-",
    "trust-anchor-signaling",
    "root-key-sentinel",
    "disable-dnssec-lame-check",
    "http-max-streams",
];

/// Settings without a counterpart, and what to do.
const NO_COUNTERPART: &[(&str, &str)] = &[
    (
        "auto-trust-anchor-file",
        "answers are not validated: name upstream servers that validate",
    ),
    (
        "trust-anchor",
        "answers are not validated: name upstream servers that validate",
    ),
    (
        "trusted-keys-file",
        "answers are not validated: name upstream servers that validate",
    ),
    (
        "domain-insecure",
        "answers are not validated: name upstream servers that validate",
    ),
    (
        "private-address",
        "answers with private addresses are not rejected",
    ),
    (
        "private-domain",
        "answers with private addresses are not rejected",
    ),
    ("tls-service-", "clients are not served over TLS yet"),
    ("https-port", "clients are not served over HTTPS yet"),
    ("access-control-view", "one policy holds for all clients"),
    ("access-control-tag", "one policy holds for all clients"),
    ("local-zone-tag", "one policy holds for all clients"),
    ("local-zone-override", "one policy holds for all clients"),
    ("define-tag", "one policy holds for all clients"),
    (
        "response-ip",
        "write a policy zone with a rule on the answer's address (rpz-ip): see docs/rpz.md",
    ),
    (
        "interface-action",
        "the permitted clients are named by their networks in [server] allow",
    ),
    ("ratelimit", "queries are not limited by their zone"),
    (
        "forward-host",
        "upstream servers are addresses: put the address of this name into `servers`",
    ),
    (
        "stub-host",
        "upstream servers are addresses: put the address of this name into `servers`",
    ),
    (
        "ip-ratelimit",
        "clients' queries are limited by waiting-per-client only",
    ),
    (
        "wait-limit",
        "clients' queries are limited by waiting-per-client only",
    ),
    ("dns64-", "addresses are not translated"),
    ("module-config", "there are no modules"),
];

/// Reports a setting that does not carry over, unless it only says how the process runs.
pub(super) fn other_setting(attribute: &Attribute, draft: &mut Draft) {
    let key = attribute.key.as_str();
    if let Some((_, reason)) = NO_COUNTERPART
        .iter()
        .find(|(start, _)| key.starts_with(start))
    {
        return draft.leave(&attribute.line, key, *reason);
    }
    if !PROCESS.iter().any(|start| key.starts_with(start)) {
        draft.leave(&attribute.line, key, "Tapis has no such setting");
    }
}
