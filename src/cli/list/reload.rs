//! Makes the running server read the configuration again after a verb has changed its file.

use std::io::Write;
use std::path::PathBuf;

use crate::cli::configuration::Choice;
use crate::cli::failure::Failure;
use crate::cli::reload::print_report;
use crate::cli::server::{self, ControlArgs};
use crate::config::shown::Show;
use crate::control::admin::client::ClientError;
use crate::control::admin::status::{ReloadReport, ReloadRequest, Status};

/// Reloads the server that has this configuration, and prints the result. Returns its sockets; `None` if no server has the
/// configuration.
pub(super) fn reload(
    choice: &Choice,
    control: &ControlArgs,
    out: &mut impl Write,
) -> Result<Option<Vec<PathBuf>>, Failure> {
    let sockets = control.sockets(choice.path.as_ref())?;
    let status = match server::get::<Status>(&sockets, "/status")? {
        Ok(status) => status,
        Err(ClientError::Absent { .. }) => {
            writeln!(out, "no server is running: in force at its next start")?;
            return Ok(None);
        }
        Err(error) => return not_reloaded(error.into(), out),
    };
    if !choice.is_used_by(&status) {
        let other = status.config.map_or_else(
            || "the built-in one".to_owned(),
            |path| path.shown().to_string(),
        );
        writeln!(
            out,
            "the running server (process {}) has another configuration, {other}: not reloaded",
            status.pid
        )?;
        return Ok(None);
    }
    let request = ReloadRequest::default();
    let report: ReloadReport = match server::post(&sockets, "/reload", &request)? {
        Ok(report) => report,
        Err(error) => return not_reloaded(error.into(), out),
    };
    match print_report(&report, out) {
        Ok(()) => Ok(Some(sockets)),
        Err(failure) => not_reloaded(failure, out),
    }
}

/// Says that the file is changed although the server did not take everything.
fn not_reloaded(failure: Failure, out: &mut impl Write) -> Result<Option<Vec<PathBuf>>, Failure> {
    writeln!(
        out,
        "the file is changed all the same: correct what is reported, then: tapis reload"
    )?;
    Err(failure)
}
