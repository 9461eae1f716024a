//! Restricts by Landlock, as far as the kernel can, which files the process may change.
//!
//! The restriction holds for all threads, for the programs that the process starts, and until they end. The process that takes
//! over in an upgrade is not among them: another process starts it, and it restricts itself by its own configuration. The server
//! may write below the directories of its configuration, and nowhere else. What it reads and connects to is not restricted, because
//! a reload may name any file and any server.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use landlock::{
    ABI, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus,
};

use super::control::control_sockets;
use crate::config::Config;
use crate::config::shown::Show;
use crate::control::gauges::LandlockReport;

/// Why there is no restriction, if the kernel has no Landlock or its first version.
const UNSUPPORTED: &str = "the kernel has no Landlock or too old a one (before Linux 5.19), or a filter of system calls forbids it";

/// The restriction of this process, once it was tried.
static CONFINEMENT: OnceLock<Confinement> = OnceLock::new();

/// Whether the process is restricted.
#[derive(Debug)]
pub(super) enum Confinement {
    /// The configuration turns it off.
    Off,
    /// The kernel can't, or refuses.
    Unavailable(String),
    /// Writes are possible below these directories only.
    Writes(Vec<PathBuf>),
}

/// A path that the server writes to, and the key of the configuration that names it.
struct Written {
    key: &'static str,
    /// A directory, or a file that is no regular one.
    path: PathBuf,
}

/// Restricts this process, if the configuration does not turn it off. Must be called before the process has threads. Calls
/// `before` as the last step before, to start what must not be restricted. If the kernel can't restrict it, or `before`
/// fails, the server runs without the restriction, which [`log_confinement`] logs and `status` shows.
pub fn confine(config: &Config, before: impl FnOnce() -> io::Result<()>) {
    let confinement = match config.server.process.landlock {
        false => Confinement::Off,
        true => restrict(&directories(config), before),
    };
    let _ = CONFINEMENT.set(confinement);
}

/// Logs the restriction.
pub fn log_confinement() {
    match CONFINEMENT.get() {
        None | Some(Confinement::Off) => {}
        Some(Confinement::Unavailable(why)) => {
            tracing::info!(why, "writes are not restricted by Landlock");
        }
        Some(Confinement::Writes(directories)) => {
            tracing::info!(below = %listed(directories), "writes are restricted by Landlock");
        }
    }
}

/// The restriction of this process; `None` if none was tried.
pub(super) fn confinement() -> Option<&'static Confinement> {
    CONFINEMENT.get()
}

impl Confinement {
    pub(super) fn report(&self) -> LandlockReport {
        match self {
            Self::Off => LandlockReport::default(),
            Self::Unavailable(why) => LandlockReport {
                unavailable: Some(why.clone()),
                ..LandlockReport::default()
            },
            Self::Writes(directories) => LandlockReport {
                in_force: true,
                below: directories.clone(),
                unavailable: None,
            },
        }
    }

    /// The files of a new configuration that could not be written, a sentence each.
    pub(super) fn problems(&self, config: &Config) -> Vec<String> {
        let Self::Writes(allowed) = self else {
            return Vec::new();
        };
        let is_outside = |written: &Written| {
            let path = existing(&written.path);
            !allowed.iter().any(|directory| path.starts_with(directory))
        };
        let outside = live(config).into_iter().filter(is_outside);
        let problem = |Written { key, path }: Written| {
            format!(
                "{key}: since its start, Landlock lets this server write only below {}, which {} is not: run `tapis upgrade` or \
                 restart the server, or name a file below one of these",
                listed(allowed),
                path.shown()
            )
        };
        outside.map(problem).collect()
    }
}

fn listed(directories: &[PathBuf]) -> String {
    let shown = directories.iter().map(|path| path.shown().to_string());
    shown.collect::<Vec<_>>().join(", ")
}

/// The directories that a server with this configuration writes to, without duplicates and links.
fn directories(config: &Config) -> Vec<PathBuf> {
    let of_start = [
        config.state.dir.clone(),
        config.journal.path.as_deref().map(folder_of),
        // Without a state directory, images are written there.
        config.state.dir.is_none().then(std::env::temp_dir),
    ];
    let sockets = control_sockets(config.server.control.as_deref());
    let sockets = sockets.iter().map(|path| folder_of(path));
    let live = live(config).into_iter().map(|written| written.path);
    let all = of_start.into_iter().flatten().chain(sockets).chain(live);
    let mut directories: Vec<PathBuf> = Vec::new();
    for path in all.map(|path| existing(&path)) {
        if !directories.contains(&path) {
            directories.push(path);
        }
    }
    directories
}

/// The paths that a reload may change.
fn live(config: &Config) -> Vec<Written> {
    let query_log = config.server.recording.query_log.file.as_deref();
    let exports = config.publish.iter();
    let exports =
        exports.filter_map(|publish| Some(("[[publish]] export", publish.export.as_deref()?)));
    let all = query_log
        .map(|path| ("[query-log] file", path))
        .into_iter()
        .chain(exports);
    let mut written = Vec::new();
    for (key, path) in all {
        // A device, a pipe or a link is written where it leads to; all others are renamed in their directory.
        let target = path.canonicalize().ok();
        let is_special = |path: &PathBuf| !path.is_file() && !path.is_dir();
        match target {
            Some(target) if is_special(&target) => written.push(Written { key, path: target }),
            Some(target) => {
                for path in [folder_of(path), folder_of(&target)] {
                    written.push(Written { key, path });
                }
            }
            None => written.push(Written {
                key,
                path: folder_of(path),
            }),
        }
    }
    written
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The path without links; if it does not exist, the nearest directory above it that does, where it will be made.
fn existing(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut above = absolute.ancestors();
    let found = above.find_map(|path| path.canonicalize().ok());
    found.unwrap_or_else(|| PathBuf::from("/"))
}

fn restrict(directories: &[PathBuf], before: impl FnOnce() -> io::Result<()>) -> Confinement {
    let restricted = match rules(directories).map(|rules| (before(), rules)) {
        Ok((Ok(()), rules)) => rules.restrict_self(),
        Ok((Err(error), _)) => {
            return Confinement::Unavailable(format!(
                "the process that starts the next one for an upgrade can't be started: {error}"
            ));
        }
        Err(error) => Err(error),
    };
    match restricted {
        Ok(status) if status.ruleset != RulesetStatus::NotEnforced => {
            Confinement::Writes(directories.to_vec())
        }
        Ok(_) => Confinement::Unavailable(UNSUPPORTED.to_owned()),
        Err(RulesetError::HandleAccesses(_) | RulesetError::CreateRuleset(_)) => {
            Confinement::Unavailable(UNSUPPORTED.to_owned())
        }
        Err(error) => Confinement::Unavailable(error.to_string()),
    }
}

/// Rules that permit writes below directories. They are not in force yet.
fn rules(directories: &[PathBuf]) -> Result<RulesetCreated, RulesetError> {
    let writes = AccessFs::from_write(ABI::V3);
    let mut ruleset = ruleset(writes)?.set_compatibility(CompatLevel::BestEffort);
    for directory in directories {
        ruleset = allow(ruleset, directory, writes)?;
    }
    // The compiler writes to /proc/self/oom_score_adj, so that it ends first when memory runs out. Files are opened with
    // O_TRUNC, which is an access of its own.
    let existing = AccessFs::WriteFile | AccessFs::Truncate;
    ruleset = allow(ruleset, Path::new("/proc"), existing)?;
    allow(ruleset, Path::new("/dev/null"), existing)
}

/// Rules that permit nothing yet. Fails if the kernel forbids to move files between directories altogether, as its first
/// version of Landlock did.
fn ruleset(writes: BitFlags<AccessFs>) -> Result<RulesetCreated, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::Refer)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(writes)?
        .create()
}

/// Permits access below a path. A missing path is skipped: nothing can be written there.
fn allow(
    ruleset: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    match PathFd::new(path) {
        Ok(file) => ruleset.add_rule(PathBeneath::new(file, access)),
        Err(_) => Ok(ruleset),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::thread;

    use super::*;

    fn config(text: &str) -> Config {
        let listen = "[server]\ncontrol = \"run/s\"\n[state]\ndir = \"state\"\n";
        Config::parse(&format!("{listen}{text}"), Path::new("/nowhere/tapis.toml")).expect("valid")
    }

    #[test]
    fn a_thread_can_write_and_move_files_below_its_directories_only() {
        let (inside, outside) = (tempfile::tempdir(), tempfile::tempdir());
        let (inside, outside) = (inside.expect("a folder"), outside.expect("a folder"));
        fs::write(outside.path().join("old"), "").expect("written");
        let folder = inside.path().to_owned();
        // Only this thread is restricted.
        let body = move || {
            let confinement = restrict(std::slice::from_ref(&folder), || Ok(()));
            if let Confinement::Unavailable(why) = confinement {
                assert_eq!(why, UNSUPPORTED);
                eprintln!("skipped: {why}");
                return;
            }
            fs::create_dir(folder.join("below")).expect("made");
            fs::write(folder.join("file"), "text").expect("written");
            fs::rename(folder.join("file"), folder.join("below/file")).expect("moved");
            fs::remove_file(folder.join("below/file")).expect("removed");
            tempfile::tempfile_in(&folder).expect("made");
            let old = outside.path().join("old");
            fs::write(&old, "text").expect_err("an existing file elsewhere");
            fs::remove_file(&old).expect_err("an existing file elsewhere");
            fs::write(outside.path().join("new"), "").expect_err("a new file elsewhere");
            assert_eq!(fs::read_to_string(&old).expect("read"), "");
            let score = "/proc/self/oom_score_adj";
            let now = fs::read_to_string(score).expect("read");
            fs::write(score, now.trim()).expect("written");
            fs::write("/dev/null", "text").expect("written");
        };
        thread::spawn(body).join().expect("no panic");
    }

    #[test]
    fn without_the_process_that_must_not_be_restricted_there_is_no_restriction() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new");
        // If it were restricted, it would be only this thread.
        let body = move || {
            let confinement = restrict(&[], || Err(io::Error::other("no room")));
            let Confinement::Unavailable(why) = confinement else {
                panic!("{confinement:?}");
            };
            assert!(why.ends_with(": no room") || why == UNSUPPORTED, "{why}");
            fs::write(path, "").expect("written");
        };
        thread::spawn(body).join().expect("no panic");
    }

    #[test]
    fn a_new_configuration_must_stay_below_the_directories_of_the_start() {
        let confinement =
            Confinement::Writes(vec![PathBuf::from("/nowhere"), "/var/log/tapis".into()]);
        // What does not exist is judged by the nearest directory that does.
        let problems = confinement.problems(&config("[query-log]\nfile = \"/nowhere/queries\"\n"));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(
            problems[0].starts_with("[query-log] file: since its start, Landlock"),
            "{problems:?}"
        );
        assert!(
            problems[0].contains("below /nowhere, /var/log/tapis, which /nowhere is not"),
            "{problems:?}"
        );
        let root = Confinement::Writes(vec![PathBuf::from("/")]);
        let everywhere = config("[query-log]\nfile = \"/nowhere/queries\"\n");
        assert!(root.problems(&everywhere).is_empty());
        assert!(Confinement::Off.problems(&everywhere).is_empty());
        assert!(confinement.problems(&config("")).is_empty());
        let device = Confinement::Writes(vec![PathBuf::from("/dev/null")]);
        assert!(
            device
                .problems(&config("[query-log]\nfile = \"/dev/null\"\n"))
                .is_empty()
        );
    }
}
