//! The failure of a verb: its exit code, and its message on standard error.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use super::plain::Plain;
use crate::config::Problems;
use crate::control::admin::client::ClientError;

/// The exit code if the answer is not known. (Clap exits with 2 if the arguments are invalid.)
const UNKNOWN: u8 = 3;

/// The exit code if no server could be asked.
const NO_SERVER: u8 = 4;

/// The exit code if standard output could not be written.
const NO_OUTPUT: u8 = 5;

/// The failure of a verb.
#[derive(Debug)]
pub(super) enum Failure {
    /// The configuration has problems.
    Config(Problems),
    /// Standard output could not be written, or was closed by its reader.
    Output(io::Error),
    /// Any other error.
    Other(Box<dyn std::error::Error>),
    /// Everything was already printed.
    Reported,
    /// Everything was already printed; the answer is not known.
    Unknown,
    /// Everything was already printed; the exit code is part of the answer.
    Code(u8),
}

impl Failure {
    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Unknown => ExitCode::from(UNKNOWN),
            Self::Code(code) => ExitCode::from(*code),
            Self::Output(_) => ExitCode::from(NO_OUTPUT),
            Self::Other(error) => match error.downcast_ref() {
                // `Said`: a server was asked, and answered with an error. `None`: the error is not about a server.
                None | Some(ClientError::Said { .. } | ClientError::Ending { .. }) => {
                    ExitCode::FAILURE
                }
                Some(_) => ExitCode::from(NO_SERVER),
            },
            Self::Config(_) | Self::Reported => ExitCode::FAILURE,
        }
    }

    /// Prints it on standard error, unless it was printed already or standard output was closed by its reader.
    pub(super) fn report(&self) {
        let is_silent = match self {
            Self::Output(error) => error.kind() == io::ErrorKind::BrokenPipe,
            Self::Config(_) | Self::Other(_) => false,
            Self::Reported | Self::Unknown | Self::Code(_) => true,
        };
        if !is_silent {
            // If standard error is closed, the exit code is the same.
            let _ = writeln!(Plain(io::stderr()), "{self}");
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(problems) => write!(f, "{problems}"),
            Self::Output(error) => {
                write!(f, "tapis: standard output can't be written: {error}")
            }
            Self::Other(error) => write!(f, "tapis: {error}"),
            Self::Reported | Self::Unknown | Self::Code(_) => Ok(()),
        }
    }
}

impl<E: std::error::Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(Box::new(error))
    }
}
