//! Compares the orders that a running server has with their files.

use std::path::{Path, PathBuf};

use crate::cli::failure::Failure;
use crate::cli::server;
use crate::config::order::Dates;
use crate::config::order::State;
use crate::config::shown::Show;
use crate::control::admin::client::ClientError;
use crate::control::admin::status::{KnownOrder, KnownOrders, OrdersRequest, ReloadReport};
use crate::control::sources::orders::registry::OrderRegistry;

/// The orders of the running server; `None` if no server watches the directory of `registry`. In that case, also
/// returns the reason if a server is or may be running.
pub(super) fn known(
    registry: &OrderRegistry,
    sockets: &[PathBuf],
) -> Result<(Option<KnownOrders>, Option<String>), Failure> {
    Ok(match server::get::<KnownOrders>(sockets, "/orders")? {
        Ok(known) if follows(&known, registry) => (Some(known), None),
        Ok(known) => (None, Some(other_directory(&known))),
        Err(ClientError::Absent { .. }) => (None, None),
        Err(error) => (None, Some(error.to_string())),
    })
}

/// Whether the server watches the same directory.
fn follows(known: &KnownOrders, registry: &OrderRegistry) -> bool {
    let real = |dir: &Path| dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    known.dir.as_deref().map(real) == registry.orders_dir().map(real)
}

fn other_directory(known: &KnownOrders) -> String {
    match &known.dir {
        Some(dir) => format!(
            "the running server has other orders, those of {}",
            dir.shown()
        ),
        None => "the running server has no directory of orders".to_owned(),
    }
}

/// The state of an order in the server after a change of its file.
pub(super) enum Outcome {
    /// The server has read the order. Contains the generation in force, and the problems of other files.
    Followed(u64, Vec<String>),
    /// No server watches the directory, for this reason.
    NotFollowed(String),
    /// The server has another state of the order, or does not have it, for this reason.
    Rejected(String),
    /// The server did not answer.
    Unknown(ClientError),
}

/// Makes the server read a file, and compares the order's dates in the server with those in the file.
pub(super) fn notify(
    registry: &OrderRegistry,
    sockets: &[PathBuf],
    request: &OrdersRequest,
    id: &str,
    dates: &Dates,
) -> Result<Outcome, Failure> {
    let report = server::post::<_, ReloadReport>(sockets, "/orders", request)?;
    let asked = match report {
        Ok(report) => server::get(sockets, "/orders")?.map(|known: KnownOrders| (report, known)),
        Err(error) => Err(error),
    };
    let (report, known) = match asked {
        Ok(asked) => asked,
        Err(ClientError::Absent { .. }) => {
            let why =
                "no server is running; the next one that watches the directory will read the file";
            return Ok(Outcome::NotFollowed(why.to_owned()));
        }
        Err(error) => return Ok(Outcome::Unknown(error)),
    };
    let has = known.orders.get(id);
    if has.is_some_and(|order| order.dates == *dates) {
        return Ok(Outcome::Followed(report.generation, report.problems));
    }
    if has.is_none() && !follows(&known, registry) {
        let why = format!("{}: it does not follow this file", other_directory(&known));
        return Ok(Outcome::NotFollowed(why));
    }
    let has = has.map_or("does not have it".to_owned(), |order| {
        describe_state(order.state)
    });
    let name = request.path.file_name().unwrap_or_default();
    let name = format!("/{}", Path::new(name).shown());
    let about = report
        .problems
        .iter()
        .filter(|problem| problem.contains(&name));
    let why: Vec<_> = about.map(String::as_str).collect();
    let why = match why.is_empty() {
        false => format!("{}: correct that", why.join("; ")),
        true if follows(&known, registry) => "see the alarms of `tapis status`".to_owned(),
        true => other_directory(&known),
    };
    Ok(Outcome::Rejected(format!(
        "{has}: {why}, then: tapis reload"
    )))
}

fn describe_state(state: State) -> String {
    match state {
        State::InForce => "has it in force".to_owned(),
        other => format!("has it as {other}"),
    }
}

/// A sentence on the difference between an order in the server and its file; `None` if there is none.
pub(super) fn difference(
    known: Option<&KnownOrder>,
    state: State,
    dates: &Dates,
) -> Option<String> {
    let difference = match known {
        None => "does not have it, or not yet".to_owned(),
        Some(order) if order.state != state => describe_state(order.state),
        Some(order) if order.dates != *dates => {
            format!("{}, with other dates", describe_state(order.state))
        }
        Some(_) => return None,
    };
    Some(format!(
        "  the server {difference}: see the alarms of `tapis status`"
    ))
}
