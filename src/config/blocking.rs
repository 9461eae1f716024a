//! Validates the keys of `[block]`, lists and orders that set how blocked names are answered.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::policy::rule::{Action, Blocking, Ede};

use super::findings::Findings;
use super::reader::{At, Reader, Strings};
use super::values::{address, choice, each, number};

/// The maximum number of addresses of a sinkhole. More would not fit into an answer of 512 bytes with the longest
/// names.
const SINKHOLE_MAX: usize = 8;

pub(super) const ACTIONS: &[(&str, Action)] = &[
    ("nxdomain", Action::Nxdomain),
    ("nodata", Action::Nodata),
    ("sinkhole", Action::Sinkhole),
    ("refused", Action::Refused),
    ("drop", Action::Drop),
];
const EDES: &[(&str, Ede)] = &[
    ("censored", Ede::Censored),
    ("blocked", Ede::Blocked),
    ("filtered", Ede::Filtered),
    ("prohibited", Ede::Prohibited),
    ("none", Ede::None),
];

/// Keys that both `[block]` and `[[list]]` have.
#[derive(Default)]
pub(super) struct Block {
    pub(super) action: Option<At<String>>,
    pub(super) sinkhole: Option<Strings>,
    pub(super) ttl_secs: Option<At<i64>>,
    pub(super) ede: Option<At<String>>,
}

impl Block {
    pub(super) fn read(table: &mut Reader<'_, '_>) -> Self {
        Self {
            action: table.string("action"),
            sinkhole: table.strings("sinkhole"),
            ttl_secs: table.integer("ttl-secs"),
            ede: table.string("ede"),
        }
    }
}

/// The answer without any key.
pub(crate) fn default_blocking() -> Blocking {
    Blocking {
        action: Action::Sinkhole,
        effect_answer: None,
        as_written: false,
        sinkhole_v4: vec![Ipv4Addr::UNSPECIFIED],
        sinkhole_v6: vec![Ipv6Addr::UNSPECIFIED],
        ttl_secs: 60,
        ede: Ede::Blocked,
        extra_text: String::new(),
    }
}

/// Validates the keys. Missing ones have the values of `default`.
pub(super) fn blocking(raw: Block, default: &Blocking, findings: &mut Findings) -> Blocking {
    let (sinkhole_v4, sinkhole_v6) = sinkhole(raw.sinkhole, findings)
        .unwrap_or_else(|| (default.sinkhole_v4.clone(), default.sinkhole_v6.clone()));
    Blocking {
        action: choice(raw.action, ACTIONS, findings).unwrap_or(default.action),
        effect_answer: None,
        as_written: false,
        sinkhole_v4,
        sinkhole_v6,
        ttl_secs: number(raw.ttl_secs, 1..=3600, findings).unwrap_or(default.ttl_secs),
        ede: choice(raw.ede, EDES, findings).unwrap_or(default.ede),
        extra_text: default.extra_text.clone(),
    }
}

pub(super) fn sinkhole(
    given: Option<Strings>,
    findings: &mut Findings,
) -> Option<(Vec<Ipv4Addr>, Vec<Ipv6Addr>)> {
    let given = given?;
    let (key, line, count) = (given.key, given.line, given.value.len());
    if count > SINKHOLE_MAX {
        let message = format!("{key} holds {count} addresses, must be at most {SINKHOLE_MAX}");
        findings.report(line, message);
    }
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for ip in each(Some(given), findings, address)? {
        match ip {
            IpAddr::V4(ip) => v4.push(ip),
            IpAddr::V6(ip) => v6.push(ip),
        }
    }
    Some((v4, v6))
}
