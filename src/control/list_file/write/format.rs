//! The formats that rules are written in.

use crate::config::Format;
use crate::control::list_file::write::reason::Reason;
use crate::control::list_file::write::rule::{Rule, Trigger};
use crate::control::list_file::write::{adblock, dnsmasq, domains, hosts, unbound};

/// A format that the rules of a list can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrittenFormat {
    /// [`Format::Adblock`].
    Adblock,
    /// [`Format::Dnsmasq`].
    Dnsmasq,
    /// [`Format::Domains`].
    Domains,
    /// [`Format::Hosts`].
    Hosts,
    /// [`Format::Unbound`].
    Unbound,
}

impl WrittenFormat {
    /// `None` if lists can't be written in this format. Policy zones are written by `zones::text`.
    pub fn new(format: Format) -> Option<Self> {
        Some(match format {
            Format::Adblock => Self::Adblock,
            Format::Dnsmasq => Self::Dnsmasq,
            Format::Domains => Self::Domains,
            Format::Hosts => Self::Hosts,
            Format::Unbound => Self::Unbound,
            Format::Auto | Format::Csv | Format::Json | Format::Rpz | Format::Wildcard => {
                return None;
            }
        })
    }

    /// The format in which the text is read.
    pub fn format(self) -> Format {
        match self {
            Self::Adblock => Format::Adblock,
            Self::Dnsmasq => Format::Dnsmasq,
            Self::Domains => Format::Domains,
            Self::Hosts => Format::Hosts,
            Self::Unbound => Format::Unbound,
        }
    }

    /// The text with which a comment line begins.
    pub(super) fn comment(self) -> &'static str {
        match self {
            Self::Adblock => "! ",
            Self::Dnsmasq | Self::Domains | Self::Hosts | Self::Unbound => "# ",
        }
    }

    /// Whether records have TTLs. No format has TTLs of answers without records.
    pub(super) fn has_ttls(self) -> bool {
        match self {
            Self::Unbound => true,
            Self::Adblock | Self::Dnsmasq | Self::Domains | Self::Hosts => false,
        }
    }

    /// The line that other programs need before the rules.
    pub(super) fn opening(self) -> &'static str {
        match self {
            Self::Unbound => "server:\n",
            Self::Adblock | Self::Dnsmasq | Self::Domains | Self::Hosts => "",
        }
    }

    /// Appends the lines of a rule. After an error, the text may have a part of them.
    pub(super) fn write(self, rule: &Rule<'_>, text: &mut String) -> Result<(), Reason> {
        if let (Trigger::Network(_), false) = (rule.trigger, self == Self::Adblock) {
            return Err(Reason::Network);
        }
        match self {
            Self::Adblock => adblock::write(rule, text),
            Self::Dnsmasq => dnsmasq::write(rule, text),
            Self::Domains => domains::write(rule, text),
            Self::Hosts => hosts::write(rule, text),
            Self::Unbound => unbound::write(rule, text),
        }
    }
}
