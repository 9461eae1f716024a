//! `tapis serve`: runs the server. Arguments override values of the configuration.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ipnet::IpNet;

use super::configuration::{Choice, read_config};
use super::failure::Failure;
use crate::config::log::{Log, LogFilter, LogFormat};
use crate::config::upstream::UpstreamServer;
use crate::config::values::{listening, network};
use crate::config::{Config, Overrides};
use crate::daemon::{
    Launcher, LogOutput, LogOverrides, confine, drop_privileges, log_confinement, start_log,
};

/// How long to wait at the end until the last lines of the log are written.
const FLUSH: Duration = Duration::from_secs(1);

#[derive(Debug, Default, Args)]
pub(super) struct ServeArgs {
    /// Listen on this address instead of those of the configuration; may be repeated. The default port is 5335. Clients
    /// on other machines also need --allow, or `allow` in the configuration.
    #[arg(long, value_name = "ADDRESS[:PORT]", value_parser = listen)]
    listen: Vec<SocketAddr>,
    /// Answer clients of this network or address instead of those of the configuration; may be repeated, as in --allow
    /// 127.0.0.0/8 --allow 192.168.0.0/16.
    #[arg(long, value_name = "PREFIX", value_parser = allow)]
    allow: Vec<IpNet>,
    /// Ask this resolver instead of those of the configuration; may be repeated. The default port is 53. A link-local
    /// address needs its interface, as in fe80::53%eth0. DNS over TLS is asked of tls://ADDRESS#NAME, DNS over HTTPS of
    /// https://ADDRESS/PATH#NAME, DNS over QUIC of quic://ADDRESS#NAME, DNS over HTTP/3 of h3://ADDRESS/PATH#NAME, where the
    /// server's certificate must have that name.
    #[arg(long, value_name = "ADDRESS[:PORT]", value_parser = upstream)]
    upstream: Vec<UpstreamServer>,
    /// Create the control socket at this path instead of the configuration's.
    #[arg(long, value_name = "SOCKET")]
    control: Option<PathBuf>,
    /// Get the sockets of the running server, start from its kept state, and end it then. No query is lost. If no server is
    /// running, start as usual.
    #[arg(long)]
    take_over: bool,
    /// Log this level and more severe ones, or by a filter with levels of parts of the program, such as
    /// info,tapis::control=debug. Without this option, the variable RUST_LOG sets the level or filter; if it is not set
    /// either, `level` in `[log]` does. `tapis log level` changes it.
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<LogFilter>,
    /// Log in this format: lines of text, or a JSON object on each line. Without this option, `format` in `[log]` says it.
    #[arg(long, value_enum, value_name = "FORMAT")]
    log_format: Option<Format>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Runs the server. The log goes to standard error.
pub(super) fn run(choice: &Choice, args: &ServeArgs) -> Result<(), Failure> {
    let overrides = Overrides {
        listen: without_duplicates(&args.listen),
        allow: without_duplicates(&args.allow),
        upstream: without_duplicates(&args.upstream),
        control: args.control.clone(),
    };
    let config = read_config(choice.path.as_ref());
    let config = config.map(|config| config.with_overrides(overrides));
    let log = log_settings(choice, &config);
    // This comes before the thread of the log: each thread has privileges and restrictions of its own.
    let ready = config.and_then(|config| {
        let privileges = drop_privileges(&config)?;
        let mut launcher = Launcher::of_this_process();
        confine(&config, || launcher.keep_unrestricted());
        Ok((privileges, launcher, config))
    });
    let is_for_programs = start_log(&log, args.log_overrides());
    tracing::info!("using {choice}");
    let served = ready.and_then(|(privileges, launcher, config)| {
        privileges.log();
        log_confinement();
        Ok(crate::daemon::run(config, args.take_over, launcher)?)
    });
    let ended = match served {
        // Programs that read the log must be able to parse each line.
        Err(failure) if is_for_programs => {
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

/// The settings of the log. Mistakes of a configuration are logged in its format, if that can be read.
fn log_settings(choice: &Choice, config: &Result<Config, Failure>) -> Log {
    let valid_parts = match (config, &choice.path) {
        (Ok(config), _) => return config.server.process.log.clone(),
        (Err(_), Some(path)) => Config::examine(path).0,
        (Err(_), None) => None,
    };
    valid_parts.map_or_else(Log::default, |config| config.server.process.log)
}

impl ServeArgs {
    fn log_overrides(&self) -> LogOverrides {
        LogOverrides {
            level: self.log_level.clone(),
            format: self.log_format.map(|format| match format {
                Format::Text => LogFormat::Text,
                Format::Json => LogFormat::Json,
            }),
        }
    }
}

fn without_duplicates<T: Clone + PartialEq>(addresses: &[T]) -> Vec<T> {
    let mut once = Vec::new();
    for address in addresses {
        if !once.contains(address) {
            once.push(address.clone());
        }
    }
    once
}

fn upstream(text: &str) -> Result<UpstreamServer, String> {
    text.parse::<UpstreamServer>().map_err(reason)
}

fn listen(text: &str) -> Result<SocketAddr, String> {
    listening(text).map_err(reason)
}

fn allow(text: &str) -> Result<IpNet, String> {
    network(text).map_err(reason)
}

/// The message without its `which`, because clap prints the invalid value before the message.
fn reason(error: String) -> String {
    error.trim_start_matches("which ").to_owned()
}
