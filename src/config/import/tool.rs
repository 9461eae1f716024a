//! The programs whose configurations can be imported.

/// A program whose configuration can be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Pi-hole 5 or 6.
    Pihole,
    /// AdGuard Home.
    Adguard,
    /// blocky.
    Blocky,
    /// dnsmasq.
    Dnsmasq,
    /// Unbound.
    Unbound,
    /// dnscrypt-proxy 2.
    DnscryptProxy,
    /// BIND 9.
    Bind,
}

impl Tool {
    /// All programs.
    pub const ALL: [Self; 7] = [
        Self::Pihole,
        Self::Adguard,
        Self::Blocky,
        Self::Dnsmasq,
        Self::Unbound,
        Self::DnscryptProxy,
        Self::Bind,
    ];

    /// Its name on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pihole => "pihole",
            Self::Adguard => "adguard",
            Self::Blocky => "blocky",
            Self::Dnsmasq => "dnsmasq",
            Self::Unbound => "unbound",
            Self::DnscryptProxy => "dnscrypt-proxy",
            Self::Bind => "bind",
        }
    }

    /// Its name in sentences.
    pub fn title(self) -> &'static str {
        match self {
            Self::Pihole => "Pi-hole",
            Self::Adguard => "AdGuard Home",
            Self::Blocky => "blocky",
            Self::Dnsmasq => "dnsmasq",
            Self::Unbound => "Unbound",
            Self::DnscryptProxy => "dnscrypt-proxy",
            Self::Bind => "BIND",
        }
    }

    /// The program with a name of the command line.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tool| tool.word() == word)
    }

    /// The usual names of its main file, the preferred one first.
    pub(super) fn main_files(self) -> &'static [&'static str] {
        match self {
            Self::Pihole => &[
                "pihole.toml",
                "etc/pihole/pihole.toml",
                "setupVars.conf",
                "etc/pihole/setupVars.conf",
                "pihole/setupVars.conf",
            ],
            Self::Adguard => &["AdGuardHome.yaml"],
            Self::Blocky => &["config.yml", "config.yaml"],
            Self::Dnsmasq => &["dnsmasq.conf"],
            Self::Unbound => &["unbound.conf"],
            Self::DnscryptProxy => &["dnscrypt-proxy.toml"],
            Self::Bind => &["named.conf"],
        }
    }
}
