//! The configuration that an import makes: its settings with the lines that they come from.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use toml_edit::{Array, Value};

use super::draft_parts::{ForwardDraft, ListDraft, LocalDraft, NameIndex, Setting};
use super::source::NotCarried;
use crate::policy::local::special_use::private_reverse_zones;
use crate::wire::name::Name;

pub(super) use super::source::SourceLine;

/// Why a list or rule that exists, but does nothing, does not carry over.
pub(super) const TURNED_OFF: &str =
    "it is turned off, so it is not in the result: add it if it shall hold";

/// The networks of this machine.
pub(super) const LOOPBACK: &[&str] = &["127.0.0.0/8", "::1/128"];

/// The networks of clients at home: loopback, private and link-local addresses.
const PRIVATE: &[&str] = &[
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
];

/// The networks of clients at home.
pub(super) fn private_networks() -> impl Iterator<Item = IpNet> {
    PRIVATE.iter().filter_map(|network| network.parse().ok())
}

/// The most bytes of a file's name, without a number before it. File systems permit 255.
const FILE_NAME_MAX: usize = 200;

/// The configuration so far.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) settings: Vec<Setting>,
    pub(super) lists: Vec<ListDraft>,
    pub(super) locals: Vec<LocalDraft>,
    /// Zones that are answered from files: the zone, its file.
    pub(super) zones: Vec<(Name, String, SourceLine)>,
    /// The addresses to listen on.
    pub(super) listen: Vec<(SocketAddr, SourceLine)>,
    pub(super) forwards: Vec<ForwardDraft>,
    pub(super) files: Vec<(String, String)>,
    pub(super) left: Vec<NotCarried>,
    /// Names that are blocked with all names below, by the program's own rules.
    pub(super) blocked: BTreeSet<Vec<u8>>,
    /// Texts of which the program's own rules block all names that end with them.
    pub(super) blocked_ends: Vec<String>,
    /// Local names precede all lists, not only the program's own rules.
    pub(super) local_first: bool,
    pub(super) index: NameIndex,
    /// The program blocks nothing, whatever lists and rules it has.
    pub(super) is_blocking_off: bool,
}

impl Draft {
    /// Reports a setting that does not carry over.
    pub(super) fn leave(
        &mut self,
        line: &SourceLine,
        setting: impl Into<String>,
        reason: impl Into<String>,
    ) {
        self.left.push(NotCarried {
            file: line.file.to_path_buf(),
            line: line.number,
            setting: setting.into(),
            reason: reason.into(),
        });
    }

    /// Reports that the program blocks nothing at present, so that its lists and rules are left out.
    pub(super) fn turn_blocking_off(&mut self, line: &SourceLine, setting: &str) {
        self.is_blocking_off = true;
        let reason = "blocking is turned off, so no list and no rule is in the result: turn it on and import again to get them";
        self.leave(line, setting, reason);
    }

    /// Sets a key. The last value counts.
    pub(super) fn set(
        &mut self,
        section: &'static str,
        key: &'static str,
        value: impl Into<Value>,
        line: &SourceLine,
    ) {
        let same = |known: &Setting| known.section == section && known.key == key;
        self.settings.retain(|known| !same(known));
        self.settings.push(Setting {
            section,
            key,
            value: value.into(),
            line: line.clone(),
        });
    }

    /// Sets a number, and reports it if it is not within its bounds.
    pub(super) fn number(
        &mut self,
        (section, key): (&'static str, &'static str),
        value: i64,
        bounds: std::ops::RangeInclusive<i64>,
        line: &SourceLine,
    ) {
        let used = value.clamp(*bounds.start(), *bounds.end());
        if used != value {
            let (low, high) = (bounds.start(), bounds.end());
            let reason = format!("{key} must be {low} to {high}: {used} is used");
            self.leave(line, format!("{section}.{key} = {value}"), reason);
        }
        self.set(section, key, used, line);
    }

    /// Adds a text to an array.
    pub(super) fn push(
        &mut self,
        section: &'static str,
        key: &'static str,
        value: impl Into<String>,
        line: &SourceLine,
    ) {
        let value = value.into();
        let same = |known: &&mut Setting| known.section == section && known.key == key;
        let Some(known) = self.settings.iter_mut().find(same) else {
            let array: Array = std::iter::once(value).collect();
            return self.set(section, key, array, line);
        };
        if let Some(array) = known.value.as_array_mut()
            && !array.iter().any(|item| item.as_str() == Some(&value))
        {
            array.push(value);
        }
    }

    pub(super) fn has(&self, section: &str, key: &str) -> bool {
        self.setting(section, key).is_some()
    }

    /// A key that is set.
    pub(super) fn setting(&self, section: &str, key: &str) -> Option<&Setting> {
        let mut settings = self.settings.iter();
        settings.find(|known| known.section == section && known.key == key)
    }

    /// Permits the clients of a network.
    pub(super) fn allow(&mut self, network: IpNet, line: &SourceLine) {
        let network = network.trunc();
        self.push("server", "allow", network.to_string(), line);
    }

    /// Permits clients with private addresses, for a program that answers all clients, or those of its links.
    pub(super) fn allow_private(&mut self, line: &SourceLine) {
        for network in PRIVATE {
            self.push("server", "allow", *network, line);
        }
    }

    /// Listens on an address, or on several.
    pub(super) fn listen(
        &mut self,
        sockets: impl IntoIterator<Item = SocketAddr>,
        line: &SourceLine,
    ) {
        let sockets = sockets.into_iter().map(|socket| (socket, line.clone()));
        self.listen.extend(sockets);
    }

    /// Listens on a port of all addresses.
    pub(super) fn listen_everywhere(&mut self, port: u16, line: &SourceLine) {
        let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        self.listen([v4, v6], line);
    }

    /// Forwards the reverse zones of the private networks, which are answered locally by default.
    pub(super) fn forward_private_reverse(&mut self, line: &SourceLine) {
        for zone in private_reverse_zones() {
            self.push("special-use", "forward", zone, line);
        }
    }

    /// Adds a list. Its name is made of `title`.
    pub(super) fn list(
        &mut self,
        title: &str,
        keys: Vec<(&'static str, Value)>,
        line: &SourceLine,
    ) {
        self.section("list", title, keys, line);
    }

    /// Adds a section `[[list]]` or `[[feed]]`.
    pub(super) fn section(
        &mut self,
        section: &'static str,
        title: &str,
        keys: Vec<(&'static str, Value)>,
        line: &SourceLine,
    ) {
        let name = self.unused_name(title);
        self.lists.push(ListDraft {
            section,
            name,
            keys,
            line: line.clone(),
        });
    }

    /// Adds a file beside the configuration, with a list that reads it.
    pub(super) fn file_list(
        &mut self,
        title: &str,
        (file, text): (String, String),
        mut keys: Vec<(&'static str, Value)>,
        line: &SourceLine,
    ) {
        let file = self.unused_file(&file);
        keys.insert(0, ("path", file.clone().into()));
        self.files.push((file, text));
        self.list(title, keys, line);
    }

    /// A file name like this one that no other file has. Titles are from the configuration, so they may be paths.
    fn unused_file(&self, wanted: &str) -> String {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let plain = wanted.replace(|c| !is_plain(c), "-");
        // The end has the kind of file.
        let plain = &plain[plain.len().saturating_sub(FILE_NAME_MAX)..];
        let plain = match plain.starts_with('.') {
            true => format!("-{plain}"),
            false => plain.to_owned(),
        };
        let is_used = |name: &str| self.files.iter().any(|(known, _)| known == name);
        let numbered = (2..).map(|number| format!("{number}-{plain}"));
        let mut names = std::iter::once(plain.clone()).chain(numbered);
        names.find(|name| !is_used(name)).unwrap_or(plain)
    }

    fn unused_name(&self, title: &str) -> String {
        let fits =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
        let lower = title.to_ascii_lowercase();
        let words = lower.split(|c| !fits(c)).filter(|word| !word.is_empty());
        let mut base = words.collect::<Vec<_>>().join("-");
        base.truncate(56);
        if base.is_empty() {
            base.push_str("list");
        }
        let is_used = |name: &str| self.lists.iter().any(|list| list.name == name);
        if !is_used(&base) {
            return base;
        }
        let mut names = (2_u32..).map(|number| format!("{base}-{number}"));
        names.find(|name| !is_used(name)).unwrap_or(base)
    }
}
