//! Gets the verdict of the running server on a query, and its status.

use std::io::{self, Write};

use crate::cli::configuration::Choice;
use crate::cli::failure::Failure;
use crate::cli::plain::Plain;
use crate::cli::server::{self, ControlArgs};
use crate::config::shown::Show;
use crate::control::admin::client::ClientError;
use crate::control::admin::status::Status;
use crate::control::admin::verdict::QueryVerdict;
use crate::control::inspect::explain::Query;

/// The running server's status, and its verdict on a query.
pub(super) struct Served {
    pub(super) status: Status,
    pub(super) verdict: QueryVerdict,
}

impl Served {
    /// Asks the running server; `None` if no server runs with this configuration. If a server with another
    /// configuration is or may be running, that is reported on standard error.
    pub(super) fn get(
        choice: &Choice,
        control: &ControlArgs,
        query: &Query,
    ) -> Result<Option<Self>, Failure> {
        if !choice.may_be_served() {
            return Ok(None);
        }
        let sockets = control.sockets(choice.path.as_ref())?;
        let other = match server::get::<Status>(&sockets, "/status")? {
            Ok(status) if choice.is_used_by(&status) => {
                match server::post_short(&sockets, "/why", &query.to_request())? {
                    Ok(verdict) => return Ok(Some(Self { status, verdict })),
                    Err(error) => Err(error),
                }
            }
            Ok(status) => Ok(status.config),
            Err(error) => Err(error),
        };
        let unasked = match other {
            Ok(Some(path)) => format!(
                "the running server has another configuration, {}",
                path.shown()
            ),
            Ok(None) => "the running server has the built-in configuration".to_owned(),
            Err(ClientError::Absent { .. }) => return Ok(None),
            Err(error) => error.to_string(),
        };
        // If standard error is closed, the explanation is the same.
        let _ = writeln!(
            Plain(io::stderr()),
            "tapis: {unasked}; explaining by the present files"
        );
        Ok(None)
    }
}
