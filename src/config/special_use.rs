//! The section `[special-use]`: the zones that are answered locally by default.

use super::findings::Findings;
use super::reader::{At, Reader, Strings};
use super::values::{choice, each, zone};
use crate::wire::name::Name;

const CANARIES: &[(&str, Canary)] = &[("nxdomain", Canary::Nxdomain), ("forward", Canary::Forward)];

/// Changes to the zones that are answered locally by default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecialUse {
    /// Zones that are sent upstream although they are answered locally by default.
    pub forward: Vec<Name>,
    /// The answer for `use-application-dns.net`.
    pub use_application_dns: Canary,
}

/// The answer for `use-application-dns.net`, with which browsers find out whether they may use another resolver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// NXDOMAIN: browsers should keep using this server.
    Nxdomain,
    /// The name is forwarded like any other.
    Forward,
}

#[derive(Default)]
pub(super) struct Raw {
    forward: Option<Strings>,
    use_application_dns: Option<At<String>>,
}

impl Raw {
    pub(super) fn read(table: &mut Reader<'_, '_>) -> Self {
        Self {
            forward: table.strings("forward"),
            use_application_dns: table.string("use-application-dns"),
        }
    }
}

pub(super) fn validate(raw: Raw, findings: &mut Findings) -> SpecialUse {
    SpecialUse {
        forward: each(raw.forward, findings, zone).unwrap_or_default(),
        use_application_dns: choice(raw.use_application_dns, CANARIES, findings)
            .unwrap_or(Canary::Nxdomain),
    }
}
