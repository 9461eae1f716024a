//! The names that are answered locally: made from the configuration and the files of its zones, which are read at the start
//! and at each reload.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use crate::config::local::LocalContent;
use crate::config::shown::Show;
use crate::config::special_use::Canary;
use crate::config::{Config, regular};
use crate::control::list_file::parse::zone::local::{self, ZoneRecords};
use crate::policy::local::{ForwardedZone, LocalBuilder, LocalNames};
use crate::wire::name::Name;

/// The largest file of a zone in bytes.
const FILE_MAX: u64 = 64 << 20;

/// The local names of one configuration.
#[derive(Clone, Debug)]
pub struct LocalSources {
    names: Arc<LocalNames>,
    zones: Vec<LoadedZone>,
    /// A sentence for each problem of a file whose last good state stays.
    held: Vec<String>,
    /// A sentence for each problem of a file that was never read completely.
    missing: Vec<String>,
}

/// A zone and the records of its file.
#[derive(Clone, Debug)]
struct LoadedZone {
    apex: Name,
    records: Arc<ZoneRecords>,
}

impl LocalSources {
    /// Reads the files of the configuration's zones.
    pub fn read(config: &Config) -> Self {
        Self::read_after(None, config)
    }

    /// Reads the files again. A zone whose file has problems keeps the records of this state.
    pub(crate) fn read_again(&self, config: &Config) -> Self {
        Self::read_after(Some(self), config)
    }

    /// Only the names that need no file, as the files can't be read.
    pub(crate) fn without_files(config: &Config, why: impl Display) -> Self {
        let zones = config.local.sections.iter();
        let files = zones.filter_map(|section| match &section.content {
            LocalContent::Zone { file, .. } => Some(format!("[[local]] {}: {why}", file.shown())),
            LocalContent::Records(_) => None,
        });
        let missing = files.collect();
        Self {
            names: Arc::new(compose(config, &[])),
            zones: Vec::new(),
            held: Vec::new(),
            missing,
        }
    }

    fn read_after(before: Option<&Self>, config: &Config) -> Self {
        let (mut zones, mut held, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        for section in &config.local.sections {
            let LocalContent::Zone { zone, file } = &section.content else {
                continue;
            };
            let known = before.and_then(|before| before.zone(zone));
            let records = match read_zone(file, zone) {
                Ok(records) => Arc::new(records),
                Err(problems) => {
                    let problems = problems.into_iter();
                    let Some(known) = known else {
                        missing.extend(problems.map(|problem| format!("[[local]] {problem}")));
                        continue;
                    };
                    let kept = "; the zone's last good records stay";
                    held.extend(problems.map(|problem| format!("[[local]] {problem}{kept}")));
                    Arc::clone(&known.records)
                }
            };
            zones.push(LoadedZone {
                apex: Name::clone(zone),
                records,
            });
        }
        Self {
            names: Arc::new(compose(config, &zones)),
            zones,
            held,
            missing,
        }
    }

    /// The local names.
    pub fn names(&self) -> &Arc<LocalNames> {
        &self.names
    }

    /// A sentence for each problem of a file, whether its zone has an earlier state or not.
    pub fn problems(&self) -> impl Iterator<Item = &String> {
        self.missing.iter().chain(&self.held)
    }

    /// A sentence for each problem of a file that was never read completely. Names of its zone would be sent upstream.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// Logs the problems with the files.
    pub(crate) fn log_problems(&self) {
        for problem in self.problems() {
            tracing::error!(problem, "problem with the file of a local zone");
        }
    }

    /// Whether the zones have the same records.
    pub(crate) fn has_records_of(&self, other: &Self) -> bool {
        let of = |zones: &[LoadedZone]| {
            let mut records: Vec<_> = zones
                .iter()
                .flat_map(|zone| zone.records.iter())
                .map(|(owner, records)| (owner.wire().to_vec(), records.clone()))
                .collect();
            records.sort_unstable();
            records
        };
        of(&self.zones) == of(&other.zones)
    }

    fn zone(&self, apex: &Name) -> Option<&LoadedZone> {
        self.zones.iter().find(|zone| zone.apex == *apex)
    }
}

fn read_zone(path: &Path, apex: &Name) -> Result<ZoneRecords, Vec<String>> {
    let shown = path.shown();
    let bytes = regular::read(path, FILE_MAX).map_err(|why| {
        let remedy = match &why {
            regular::Unread::Io(error) => regular::remedy(path, error),
            regular::Unread::NotRegular => "name a regular file".to_owned(),
            regular::Unread::TooLarge(_) => "name the file of a smaller zone".to_owned(),
        };
        vec![format!("{shown}: can't be read: {why}; {remedy}")]
    })?;
    let records = local::read(&bytes, apex);
    records.map_err(|problems| {
        let problems = problems.iter();
        problems
            .map(|problem| format!("{shown}:{problem}"))
            .collect()
    })
}

fn compose(config: &Config, zones: &[LoadedZone]) -> LocalNames {
    let special_use = &config.local.special_use;
    let canary = special_use.use_application_dns == Canary::Nxdomain;
    let mut builder = LocalBuilder::new(&special_use.forward, canary);
    for section in &config.local.sections {
        let line = section.line;
        match &section.content {
            LocalContent::Records(records) => {
                for owned in records {
                    builder.add_record(&owned.owner, owned.record.clone(), line);
                }
            }
            LocalContent::Zone { zone: apex, .. } => {
                let Some(zone) = zones.iter().find(|zone| zone.apex == **apex) else {
                    continue;
                };
                builder.add_zone(apex, line);
                for (owner, records) in zone.records.iter() {
                    for record in records {
                        builder.add_record(owner, record.clone(), line);
                    }
                }
            }
        }
    }
    for forward in &config.local.forwards {
        let servers = forward.servers.iter();
        let servers: Vec<_> = servers.map(|server| server.address.to_string()).collect();
        let servers: Arc<str> = servers.join(", ").into();
        for zone in &forward.zones {
            builder.add_forwarded(
                zone,
                ForwardedZone {
                    servers: Arc::clone(&servers),
                    line: forward.line,
                },
            );
        }
    }
    builder.finish()
}
