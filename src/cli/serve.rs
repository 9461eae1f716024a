//! Owns `tapis serve`: arguments over configuration, and the log.
//! Refuses to start threads itself.

use std::io::IsTerminal;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use tracing_subscriber::EnvFilter;

use super::{Failure, read_config};
use crate::config::Overrides;

/// Crates that log each packet: whoever sends those must not be able to write our log.
const QUIET: [&str; 2] = ["hickory_net=error", "hickory_proto=error"];

#[derive(Debug, Default, Args)]
pub(super) struct ServeArgs {
    /// Listen here instead of where the configuration says; may be repeated.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Vec<SocketAddr>,
    /// Ask this resolver instead of those of the configuration; may be repeated. Port 53 if none
    /// is given.
    #[arg(long, value_name = "ADDRESS[:PORT]", value_parser = upstream)]
    upstream: Vec<SocketAddr>,
    /// Put the control socket here instead of where the configuration says.
    #[arg(long, value_name = "SOCKET")]
    control: Option<PathBuf>,
}

/// Serves. The log goes to standard error, at level `info` unless RUST_LOG says otherwise.
pub(super) fn run(config: Option<&PathBuf>, args: &ServeArgs) -> Result<(), Failure> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let filter = QUIET.iter().fold(filter, |filter, quiet| {
        filter.add_directive(quiet.parse().expect("a directive"))
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
    let overrides = Overrides {
        listen: once_each(&args.listen),
        upstream: once_each(&args.upstream),
        control: args.control.clone(),
    };
    let config = read_config(config)?.with_overrides(overrides);
    Ok(crate::daemon::run(config)?)
}

fn once_each(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut once = Vec::new();
    for address in addresses {
        if !once.contains(address) {
            once.push(*address);
        }
    }
    once
}

fn upstream(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse().or_else(|_| {
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        bare.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53))
    });
    match address {
        Ok(address) if address.ip().is_unspecified() || address.port() == 0 => {
            Err("not an address that can be asked".to_owned())
        }
        Ok(address) => Ok(address),
        Err(_) => Err(
            "must be an address such as 192.0.2.53, 192.0.2.53:5300 or [2001:db8::53]:53"
                .to_owned(),
        ),
    }
}
