//! Chooses and reads the configuration of a verb: the given one, the running server's, the usual file, or the built-in
//! default.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::failure::Failure;
use super::plain::Plain;
use super::server::{self, ControlArgs};
use crate::config::shown::Show;
use crate::config::{Config, Problems, control};
use crate::control::admin::client::ClientError;
use crate::control::admin::status::Status;

/// The environment variable that names the configuration if `--config` does not.
pub(super) const VARIABLE: &str = "TAPIS_CONFIG";
/// The usual path of the configuration.
const USUAL: &str = "/etc/tapis/tapis.toml";

/// The parts of a configuration that a verb needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// None.
    Nothing,
    /// The path of the control socket, to ask a server.
    Socket,
    /// All parts, to start the server.
    Serve,
    /// All parts. If no configuration is given, that of the running server is used.
    AsServer,
}

/// The configuration to use, and how it was chosen.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Choice {
    /// Its file; `None` for the built-in default.
    pub(super) path: Option<PathBuf>,
    by: ChosenBy,
}

#[derive(Debug, PartialEq, Eq)]
enum ChosenBy {
    Argument,
    Environment,
    /// The running server, which has this process number.
    Server(u32),
    /// Neither the arguments, the environment nor a running server: the usual file, or the built-in default.
    Default,
}

impl Choice {
    /// The configuration given by `--config` or the environment, or else the usual one. Does not ask a server.
    pub(super) fn new(argument: Option<PathBuf>) -> Self {
        Self::select(argument, std::env::var_os(VARIABLE), Path::new(USUAL))
    }

    fn select(argument: Option<PathBuf>, environment: Option<OsString>, usual: &Path) -> Self {
        let choice = |path, by| Self { path, by };
        if argument.is_some() {
            return choice(argument, ChosenBy::Argument);
        }
        if let Some(path) = environment.filter(|path| !path.is_empty()) {
            return choice(Some(path.into()), ChosenBy::Environment);
        }
        let usual = match fs::symlink_metadata(usual) {
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                None
            }
            // A file that can't be examined is assumed to exist. The verb that reads it reports why it can't be read.
            _ => Some(usual.to_owned()),
        };
        choice(usual, ChosenBy::Default)
    }

    /// The configuration of the running server, if there is one and no other configuration is given. Also returns the
    /// error if a server may be running, but could not be asked.
    pub(super) fn or_from_server(self, control: &ControlArgs) -> (Self, Option<ClientError>) {
        if self.by != ChosenBy::Default {
            return (self, None);
        }
        // Mistakes in the file are reported when the verb reads it.
        let Ok(sockets) = control.sockets(self.path.as_ref()) else {
            return (self, None);
        };
        let Ok(status) = server::get::<Status>(&sockets, "/status") else {
            return (self, None);
        };
        match status {
            Ok(status) => {
                let (path, by) = (status.config, ChosenBy::Server(status.pid));
                (Self { path, by }, None)
            }
            Err(ClientError::Absent { .. }) => (self, None),
            Err(error) => (self, Some(error)),
        }
    }

    /// Replaces the state directory and the journal by those of the running server. Until a server stops, it keeps the
    /// state directory and the journal that it started with, even if the configuration has changed. Reports differences
    /// on standard error.
    pub(super) fn as_served(
        &self,
        control: &ControlArgs,
        mut config: Config,
    ) -> Result<Config, Failure> {
        if !self.may_be_served() {
            return Ok(config);
        }
        let sockets = control.sockets(self.path.as_ref())?;
        let mut to = Plain(io::stderr());
        // If standard error is closed, the result is the same.
        match server::get::<Status>(&sockets, "/status")? {
            Ok(status) if self.is_used_by(&status) => {
                let used = [
                    (&mut config.state.dir, status.state_dir),
                    (&mut config.journal.path, status.journal),
                ];
                for ((configured, used), what) in
                    used.into_iter().zip(["state directory", "journal"])
                {
                    let ours = configured
                        .as_ref()
                        .and_then(|path| path.canonicalize().ok());
                    // If the server runs in a container, its path may name another directory here, or nothing.
                    let differs = |used: &PathBuf| {
                        let theirs = used.canonicalize();
                        theirs.is_ok_and(|theirs| ours.as_ref() != Some(&theirs))
                    };
                    if let Some(used) = used.filter(differs) {
                        let _ = writeln!(
                            to,
                            "tapis: using the {what} of the running server, {}: the configuration has another one, \
                             for which the server needs a restart",
                            used.shown()
                        );
                        *configured = Some(used);
                    }
                }
            }
            Ok(_) | Err(ClientError::Absent { .. }) => {}
            Err(error) => {
                let _ = writeln!(
                    to,
                    "tapis: {error}; using the journal that the configuration names"
                );
            }
        }
        Ok(config)
    }

    /// Whether a running server may have this configuration. `false` if neither the arguments, the environment nor a
    /// running server named it. In that case, no running server could be asked.
    pub(super) fn may_be_served(&self) -> bool {
        self.by != ChosenBy::Default
    }

    /// Whether a server has this configuration.
    pub(super) fn is_used_by(&self, server: &Status) -> bool {
        match (&self.path, &server.config) {
            (Some(own), Some(theirs)) => match (own.canonicalize(), theirs.canonicalize()) {
                (Ok(own), Ok(theirs)) => own == theirs,
                _ => false,
            },
            (None, None) => true,
            _ => false,
        }
    }

    /// Whether it was given by `--config`.
    pub(super) fn is_given(&self) -> bool {
        self.by == ChosenBy::Argument
    }
}

/// As in "using the configuration /etc/tapis/tapis.toml".
impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "the configuration {}", path.shown())?,
            None => f.write_str("the built-in configuration")?,
        }
        match &self.by {
            ChosenBy::Argument => Ok(()),
            ChosenBy::Environment => write!(f, ", which {VARIABLE} names"),
            ChosenBy::Server(process) => {
                write!(f, ", which the running server has (process {process})")
            }
            ChosenBy::Default => match self.path {
                Some(_) => Ok(()),
                None => write!(
                    f,
                    ": neither --config nor {VARIABLE} names one, and there is no {USUAL}"
                ),
            },
        }
    }
}

/// The configuration in this file, or the built-in default.
pub(super) fn read_config(path: Option<&PathBuf>) -> Result<Config, Failure> {
    match path {
        Some(path) => Config::load(path).map_err(Failure::Config),
        None => Ok(Config::built_in()),
    }
}

/// The configuration in this file, or the built-in default. Mistakes in sections other than `needed` (the most
/// important section first) are only reported on standard error, because they don't matter for the verb.
pub(super) fn read_needed(path: Option<&PathBuf>, needed: &[&str]) -> Result<Config, Failure> {
    let Some(path) = path else {
        return Ok(Config::built_in());
    };
    let (config, problems) = control::load_needed(path, needed).map_err(Failure::Config)?;
    if let Some(problems) = problems {
        report_others(&problems);
    }
    Ok(config)
}

/// Reports mistakes that don't concern the verb.
pub(super) fn report_others(problems: &Problems) {
    let note = "these mistakes are in sections that this verb does not need, so it continues";
    // If standard error is closed, the result is the same.
    let _ = writeln!(Plain(io::stderr()), "{problems}\ntapis: {note}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_file_is_used_before_the_variable_before_the_usual_file_before_the_default() {
        let folder = tempfile::tempdir().expect("a folder");
        let usual = folder.path().join("tapis.toml");
        let choose = |argument: Option<&str>, environment: Option<&str>| {
            let argument = argument.map(PathBuf::from);
            Choice::select(argument, environment.map(OsString::from), &usual)
        };
        assert_eq!(choose(None, None).path, None);
        fs::write(&usual, "").expect("written");
        let of = |argument, environment| choose(argument, environment).path.expect("a file");
        assert_eq!(of(Some("a"), Some("e")), Path::new("a"));
        assert_eq!(of(None, Some("e")), Path::new("e"));
        assert_eq!(of(None, Some("")), usual);
        assert_eq!(of(None, None), usual);
        assert!(choose(Some("a"), None).is_given());
        assert!(!choose(None, Some("e")).is_given());
    }

    #[test]
    fn a_usual_file_that_can_not_be_read_is_used_nevertheless() {
        let folder = tempfile::tempdir().expect("a folder");
        let usual = folder.path().join("tapis.toml");
        std::os::unix::fs::symlink("gone", &usual).expect("linked");
        assert_eq!(Choice::select(None, None, &usual).path, Some(usual.clone()));
        let below = usual.join("no").join("such");
        assert_eq!(Choice::select(None, None, &below).path, None);
    }

    #[test]
    fn a_configuration_is_shown_with_how_it_was_chosen() {
        let shown = |environment: Option<&str>| {
            let environment = environment.map(OsString::from);
            let choice = Choice::select(None, environment, Path::new("/nowhere/tapis.toml"));
            choice.to_string()
        };
        assert_eq!(
            shown(Some("x.toml")),
            "the configuration x.toml, which TAPIS_CONFIG names"
        );
        assert!(
            shown(None).starts_with("the built-in configuration: neither --config nor"),
            "{}",
            shown(None)
        );
    }
}
