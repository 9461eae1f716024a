//! The configuration that an import makes: its settings with the lines that they come from.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ipnet::IpNet;
use toml_edit::{Array, Value};

use super::super::shown::Show;
use crate::names::typed;
use crate::wire::name::Name;

/// A setting that did not carry over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotCarried {
    /// The file, as it was found.
    pub file: PathBuf,
    /// Its line, from 1.
    pub line: u32,
    /// The setting, without secrets.
    pub setting: String,
    /// Why it did not carry over, and what to do instead.
    pub reason: String,
}

/// `path:line: setting: reason`
impl fmt::Display for NotCarried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            setting,
            reason,
        } = self;
        write!(f, "{}:{line}: {setting}: {reason}", file.shown())
    }
}

/// The line that a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SourceLine {
    pub(super) file: Rc<Path>,
    pub(super) number: u32,
}

impl SourceLine {
    pub(super) fn new(file: &Rc<Path>, number: usize) -> Self {
        Self {
            file: file.clone(),
            number: u32::try_from(number).unwrap_or(u32::MAX),
        }
    }
}

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

/// A key of a section that exists once.
pub(super) struct Setting {
    pub(super) section: &'static str,
    pub(super) key: &'static str,
    pub(super) value: Value,
    pub(super) line: SourceLine,
}

/// A section `[[list]]` or `[[feed]]`.
pub(super) struct ListDraft {
    pub(super) section: &'static str,
    pub(super) name: String,
    pub(super) keys: Vec<(&'static str, Value)>,
    pub(super) line: SourceLine,
}

/// A section `[[local]]` of a name.
pub(super) struct LocalDraft {
    pub(super) name: Name,
    pub(super) ttl_secs: Option<u32>,
    pub(super) is_wildcard: bool,
    /// Keys and values of records.
    pub(super) records: Vec<(&'static str, String)>,
    pub(super) line: SourceLine,
}

/// A section `[[forward]]`.
pub(super) struct ForwardDraft {
    pub(super) zone: Name,
    pub(super) servers: Vec<String>,
    pub(super) line: SourceLine,
}

/// The configuration so far.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) settings: Vec<Setting>,
    pub(super) lists: Vec<ListDraft>,
    pub(super) locals: Vec<LocalDraft>,
    /// Zones that are answered from files: the zone, its file.
    pub(super) zones: Vec<(Name, String, SourceLine)>,
    pub(super) forwards: Vec<ForwardDraft>,
    pub(super) files: Vec<(String, String)>,
    pub(super) left: Vec<NotCarried>,
    /// Names that are blocked with all names below, by the program's own rules.
    pub(super) blocked: BTreeSet<Vec<u8>>,
    /// Local names precede all lists, not only the program's own rules.
    pub(super) local_first: bool,
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
        self.settings
            .iter()
            .any(|known| known.section == section && known.key == key)
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

    /// Listens on a port of all addresses.
    pub(super) fn listen_everywhere(&mut self, port: u16, line: &SourceLine) {
        self.push("server", "listen", format!("0.0.0.0:{port}"), line);
        self.push("server", "listen", format!("[::]:{port}"), line);
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
        let plain = match plain.starts_with('.') {
            true => format!("-{plain}"),
            false => plain,
        };
        let is_used = |name: &str| self.files.iter().any(|(known, _)| known == name);
        let numbered = (2..).map(|number| format!("{number}-{plain}"));
        let mut names = std::iter::once(plain.clone()).chain(numbered);
        names.find(|name| !is_used(name)).unwrap_or(plain)
    }

    /// Adds a record of a local name. `*.x` is a wildcard. Values that are names must be valid.
    pub(super) fn record(
        &mut self,
        name: &str,
        key: &'static str,
        value: impl Into<String>,
        ttl_secs: Option<u32>,
        line: &SourceLine,
    ) {
        let (bare, is_wildcard) = match name.strip_prefix("*.") {
            Some(bare) => (bare, true),
            None => (name, false),
        };
        let owner = match typed::one(bare) {
            Ok((owner, None)) if owner.label_count() > 0 => owner,
            Ok(_) => return self.leave(line, name, "not the name of records"),
            Err(error) => return self.leave(line, name, error.to_string()),
        };
        let value = value.into();
        let mut same = self
            .locals
            .iter_mut()
            .filter(|known| known.name == owner && known.is_wildcard == is_wildcard);
        let contradicts = same.any(|known| {
            let mut keys = known.records.iter();
            keys.any(|(other, text)| {
                (*other == "cname") != (key == "cname") || *other == "cname" && *text != value
            })
        });
        if contradicts {
            let reason = "the name has a CNAME record and other records: remove one of them";
            return self.leave(line, format!("{key} of {name}"), reason);
        }
        let known = self.locals.iter_mut().find(|known| {
            (&known.name, known.is_wildcard, known.ttl_secs) == (&owner, is_wildcard, ttl_secs)
        });
        match known {
            Some(known) if known.records.contains(&(key, value.clone())) => {}
            Some(known) => known.records.push((key, value)),
            None => self.locals.push(LocalDraft {
                name: owner,
                ttl_secs,
                is_wildcard,
                records: vec![(key, value)],
                line: line.clone(),
            }),
        }
    }

    /// Adds an address record.
    pub(super) fn address(
        &mut self,
        name: &str,
        address: std::net::IpAddr,
        ttl_secs: Option<u32>,
        line: &SourceLine,
    ) {
        let key = if address.is_ipv4() { "a" } else { "aaaa" };
        self.record(name, key, address.to_string(), ttl_secs, line);
    }

    /// Forwards a zone to a server.
    pub(super) fn forward(&mut self, zone: &str, server: &str, line: &SourceLine) {
        let bare = zone.trim_start_matches("*.").trim_start_matches('.');
        if bare.is_empty() {
            return self.push("upstream", "servers", server, line);
        }
        let zone = match typed::one(bare) {
            Ok((name, _)) => name,
            Err(error) => {
                return self.leave(line, format!("forwarding of {zone}"), error.to_string());
            }
        };
        match self.forwards.iter_mut().find(|known| known.zone == zone) {
            Some(known) if known.servers.iter().any(|known| known == server) => {}
            Some(known) => known.servers.push(server.to_owned()),
            None => self.forwards.push(ForwardDraft {
                zone,
                servers: vec![server.to_owned()],
                line: line.clone(),
            }),
        }
    }

    /// Notes that a name is blocked with all names below.
    pub(super) fn block(&mut self, name: &Name) {
        self.blocked.insert(name.wire().to_vec());
    }

    /// Whether a name, or one above it, is blocked by [`block`](Self::block).
    pub(super) fn is_below_block(&self, name: &Name) -> bool {
        (1..=name.label_count()).any(|labels| self.blocked.contains(name.ancestor(labels)))
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
