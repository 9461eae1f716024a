//! Owns `tapis serve`: arguments over configuration, and the log.
//! Refuses to start threads itself.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;

use super::configuration::{Choice, read_config};
use super::failure::Failure;
use super::log::{self, LogArgs};
use crate::config::Overrides;
use crate::config::upstream::ServerAddress;
use crate::config::values::{listening, network};
use crate::daemon::LogOutput;

/// How long the last lines of the log may take at the end.
const FLUSH: Duration = Duration::from_secs(1);

#[derive(Debug, Default, Args)]
pub(super) struct ServeArgs {
    /// Listen here instead of where the configuration says; may be repeated. Port 5335 if none is
    /// given. Clients on other machines also need --allow, or `allow` in the configuration.
    #[arg(long, value_name = "ADDRESS[:PORT]", value_parser = listen)]
    listen: Vec<SocketAddr>,
    /// Answer clients of this network or address, instead of those that the configuration allows; may
    /// be repeated, as in --allow 127.0.0.0/8 --allow 192.168.0.0/16.
    #[arg(long, value_name = "PREFIX", value_parser = allow)]
    allow: Vec<IpNet>,
    /// Ask this resolver instead of those of the configuration; may be repeated. Port 53 if none
    /// is given. A link-local one has its interface behind it, as in fe80::53%eth0.
    #[arg(long, value_name = "ADDRESS[:PORT]", value_parser = upstream)]
    upstream: Vec<ServerAddress>,
    /// Put the control socket here instead of where the configuration says.
    #[arg(long, value_name = "SOCKET")]
    control: Option<PathBuf>,
    #[command(flatten)]
    log: LogArgs,
}

/// Serves. The log goes to standard error.
pub(super) fn run(choice: &Choice, args: &ServeArgs) -> Result<(), Failure> {
    log::start(&args.log);
    let served = serve(choice, args);
    let ended = match served {
        // What reads the log shall understand each line of it.
        Err(failure) if args.log.is_for_programs() => {
            for line in failure.to_string().lines() {
                tracing::error!("{line}");
            }
            Err(Failure::Reported)
        }
        served => served,
    };
    LogOutput::flush(FLUSH);
    ended
}

fn serve(choice: &Choice, args: &ServeArgs) -> Result<(), Failure> {
    let overrides = Overrides {
        listen: once_each(&args.listen),
        allow: once_each(&args.allow),
        upstream: once_each(&args.upstream),
        control: args.control.clone(),
    };
    tracing::info!("using {choice}");
    let config = read_config(choice.path.as_ref())?.with_overrides(overrides);
    Ok(crate::daemon::run(config)?)
}

fn once_each<T: Clone + PartialEq>(addresses: &[T]) -> Vec<T> {
    let mut once = Vec::new();
    for address in addresses {
        if !once.contains(address) {
            once.push(address.clone());
        }
    }
    once
}

fn upstream(text: &str) -> Result<ServerAddress, String> {
    text.parse::<ServerAddress>().map_err(reason)
}

fn listen(text: &str) -> Result<SocketAddr, String> {
    listening(text).map_err(reason)
}

fn allow(text: &str) -> Result<IpNet, String> {
    network(text).map_err(reason)
}

/// The reason of a refusal follows clap's own words, which name the text.
fn reason(refusal: String) -> String {
    refusal.trim_start_matches("which ").to_owned()
}
