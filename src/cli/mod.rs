//! The command line: parses arguments, calls the library, and prints the results. One file for each verb.

mod answer_text;
mod cache;
mod check;
mod compile;
mod completions;
mod configuration;
mod diff;
mod export;
mod failure;
mod feed;
mod health;
mod image;
mod import;
mod journal;
mod list;
mod list_summary;
mod log;
mod man;
mod order;
mod order_text;
mod pause;
mod plain;
mod progress;
mod publish;
mod query;
mod reload;
mod rollback;
mod serve;
mod server;
mod status;
mod tail;
mod top;
mod upgrade;
mod usage;
mod why;
mod zones;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use self::configuration::{Choice, Need};
use self::failure::Failure;
use self::plain::{Output, Plain};
use self::server::ControlArgs;
use crate::sys::process::ignore_file_size_signal;

/// The end of `tapis --help`.
const HELP: &str = "\
Environment:
  TAPIS_CONFIG     The configuration file, if --config is not given
  RUST_LOG         The log level of `serve`, if --log-level is not given, in place of `level` in [log]
  XDG_RUNTIME_DIR  A directory for the control socket, if /run/tapis can't be used

Exit codes:
  0  Success
  1  Failure, or a problem was found: see the help of each verb
  2  The arguments are invalid
  3  Unknown: how a name was answered, or what differs
  4  No server could be asked: none is running, access was denied, or it did not answer
  5  Standard output could not be written, or its reader closed it (`health`: 3)";

/// The end of `tapis serve --help`.
const SERVE_HELP: &str = "\
Environment:
  TAPIS_CONFIG    The configuration file, if --config is not given
  RUST_LOG        The log level or filter, if --log-level is not given
  JOURNAL_STREAM  Set by systemd. If it names standard error, log lines begin with their
                  priority and have no time

Signals:
  SIGTERM, SIGINT   Answer the queries in progress, for at most 3 s, and exit; a second one exits
                    at once
  SIGHUP            Reload, like `tapis reload`
  SIGUSR1, SIGUSR2  Ignored

Exit codes:
  0  Stopped by SIGTERM or SIGINT
  1  Could not start, or a part of the server failed
  2  The arguments are invalid";

/// A forwarding DNS server that checks every name against blocklists.
///
/// Blocked names are answered by the server itself, all others by its upstream servers. Lists are files, or policy
/// zones that are transferred. A changed file is in force within a second plus the time to load it, without a restart
/// and without a lost query.
/// Without a verb, tapis serves. The built-in configuration listens on port 5335 of this machine and, as an example,
/// blocks the eleven Telegram web names that Indonesia blocked in July 2017.
#[derive(Debug, Parser)]
#[command(name = "tapis", version, max_term_width = 100, after_long_help = HELP)]
struct Cli {
    /// The configuration file. The default is the file that the variable TAPIS_CONFIG names; else, for verbs
    /// that inspect a server, the one of the running server; else /etc/tapis/tapis.toml, if it exists; else
    /// the built-in configuration. The configuration that is used is printed on standard error.
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is only one value, the arguments of this run"
)]
enum Verb {
    /// Run the DNS server until SIGTERM or SIGINT; SIGHUP reloads.
    #[command(after_long_help = SERVE_HELP)]
    Serve(serve::ServeArgs),
    /// Check the configuration and every list, and report all problems at once.
    ///
    /// Also finds an upstream server that is this server itself, and zones in `[special-use] forward` that are not local
    /// zones. Checks whether this user could start the server: ports, control socket, state directory, journal.
    /// Exit code 0 when there are no problems, 1 when there are.
    Check(check::CheckArgs),
    /// Compile all lists of the configuration to one image file.
    ///
    /// Writes no file if a list can't be read, or a guard rejects it.
    Compile(compile::CompileArgs),
    /// Show the contents of an image file: sections, counts, and the sources of its rules.
    Image(image::ImageArgs),
    /// Print the names for which clients get different answers in two generations, or the rules that differ
    /// in two image files.
    ///
    /// Two generations are compared by their lists, orders, exceptions and settings in the journal. `.x` is a name and
    /// all names below it, `*.x` only the names below. A name that is not blocked is answered by the upstream servers.
    /// It is shown as `allowed` if an allow list applies to it, as `excepted` if an exception does, and as `upstream`
    /// if no rule does. The rules of two images are compared list by list. Exit code 0 when nothing differs, 1 when
    /// something does, 3 when the rules of a generation are not known.
    Diff(diff::DiffArgs),
    /// Show, check, create, lift and suspend authorities' orders.
    Order(order::OrderArgs),
    /// Show, verify and export the journal: every change of the policy, its time and its cause.
    Journal(journal::JournalArgs),
    /// Explain how a name is answered: the decision and every rule that matches.
    ///
    /// The running server decides; only lists with a matching rule are read, to find its line. With --offline, or if no
    /// server runs with the configuration, all lists are read, and the explanation is that of a server that has loaded
    /// their present files.
    Why(why::WhyArgs),
    /// Show the state of a running server: generation, lists, alarms, counters.
    ///
    /// Exit code 1 when a part of the configuration is not in force, a guard rejects a list, or no upstream server
    /// answers: see the alarms. Changed keys that wait for a restart are printed, and do not change the exit code. Exit
    /// code 4 when no server could be asked.
    Status(status::StatusArgs),
    /// Print the most frequent names, blocked names, clients and sources of a running server.
    ///
    /// They are those of the last minutes; [top] in the configuration turns them on. Exit code 1 when they are off, 4
    /// when no server could be asked.
    Top(top::TopArgs),
    /// Print the queries of a running server as it finishes them.
    ///
    /// Possible while the query log is on, or with `tail = true` in [query-log]. Clients are shown as its `client` says.
    /// Ends when the server stops. If queries come faster than they can be printed, some are missing; it is printed where,
    /// and how many. Exit code 1 when the server refuses, 4 when no server could be asked.
    Tail(tail::TailArgs),
    /// Show the cache of a running server, and remove answers from it.
    ///
    /// Exit code 4 when no server could be asked.
    Cache(cache::CacheArgs),
    /// Show or change the level of the running server's log.
    Log(log::LogArgs),
    /// Have the running server answer a query, and show the answer and how it came about.
    ///
    /// The query goes the way of a client's: through the policy, the cache and the upstream servers. Shown are the answer, the
    /// rules that match, the server that upstream's answer is from and its age, and the time that it took. The query is neither
    /// counted in `status` nor recorded, but upstream's answer is cached. Exit code 0 when the answer is NOERROR or
    /// NXDOMAIN, 1 when it is another or there is none, 4 when no server could be asked.
    Query(query::QueryArgs),
    /// Print one line about the health of a running server, for monitoring plug-ins.
    ///
    /// The line and the exit codes are those of the plug-ins of Nagios: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN, with
    /// performance data behind `|`. CRITICAL are a server that does not answer in time, or listens on no address; upstream
    /// servers none of which answers; and a list with `required = true` of which no rule is in force. Each option with WARN
    /// and CRIT sets the numbers above which the level is WARNING or CRITICAL; either may be left out. UNKNOWN is a server that
    /// this user may not ask, or standard output that can't be written. Invalid arguments have exit code 2, as for all verbs.
    Health(health::HealthArgs),
    /// Reload the configuration and the changed lists of a running server.
    ///
    /// Returns when the changes are in force. Exit code 1 when something was rejected: its old state stays in force,
    /// and the reason is printed. Changed keys that wait for a restart are printed, and do not change the exit code.
    /// Exit code 4 when no server could be asked.
    Reload(reload::ReloadArgs),
    /// Replace a running server by a new process of the program on the disk, without a lost query.
    ///
    /// The running server starts that program as it was started itself, passes on its sockets, its open TCP connections and its
    /// state, and ends once the new process answers. Checks the configuration first. Exit code 0 when the new process
    /// serves, 1 when the running one goes on, with the reason; 3 when it is of a version that can only be restarted, 4 when no
    /// server could be asked. Only the server's user and root may do this.
    Upgrade(upgrade::UpgradeArgs),
    /// Roll back to the lists of an earlier generation, and hold them.
    ///
    /// Newer states of the lists are not put in force until the lists are released. Orders and exceptions are not
    /// held: they follow their files and dates. `status` shows held lists, `journal show` the generations; `keep` in
    /// the configuration sets how many are kept. Exit code 1 when the generation is not kept or a list could not be
    /// restored, 4 when no server could be asked.
    Rollback(rollback::RollbackArgs),
    /// Pause a list or feed, or all of them, for a while: their rules decide nothing until then.
    ///
    /// For when a list blocks something by mistake. Orders and exceptions stay in force. Lists are loaded, and feeds are
    /// transferred, as usual. The end, the reason and the user are in the journal and in `status`. A pause survives a
    /// restart if the server has a state directory. Exit code 1 when nothing was paused or the pause could not be
    /// stored, 4 when no server could be asked.
    Pause(pause::PauseArgs),
    /// End the pause of a list or feed, or all pauses.
    ///
    /// Exit code 1 when nothing was paused or the end could not be stored, 4 when no server could be asked.
    Resume(pause::ResumeArgs),
    /// Write the rules in force of a list or feed, in the format of another DNS program.
    ///
    /// They are written as they are applied here: without those that guards left out, and without those that are redundant.
    /// If the text is read again in the same format, it gives the same rules. Rules that the format can't express are left
    /// out; they are counted by reason on standard error and at the end of the text. Exit code 0 when all rules were written, 1
    /// when something was left out, 4 when no server could be asked.
    Export(export::ExportArgs),
    /// Show how the zones of feeds are transferred, or ask their primaries now.
    ///
    /// Exit code 4 when no server could be asked.
    Feed(feed::FeedArgs),
    /// Add lists to the configuration and remove them, show them, or ask the servers of lists with a URL now.
    ///
    /// Exit code 4 when no server could be asked.
    List(list::ListArgs),
    /// Show the zones that the policy is published as, and their secondaries.
    ///
    /// Exit code 4 when no server could be asked.
    Publish(publish::PublishArgs),
    /// Turn the configuration of another DNS program into one of this server.
    ///
    /// Prints the configuration, and on standard error each setting that has no counterpart: its file and line, why, and
    /// what to do instead. No password or key of the configuration is printed. docs/coming-from.md says for each program
    /// what carries over. Exit code 0 when everything did, 1 when something did not.
    Import(import::ImportArgs),
    /// Print the completions of a shell: a script that lets it complete verbs and options.
    ///
    /// Packages install them. By hand, for bash: `tapis completions bash > /etc/bash_completion.d/tapis`.
    Completions(completions::CompletionsArgs),
    /// Write the manual pages: one for each verb, and tapis.toml(5) for the configuration.
    Man(man::ManArgs),
}

impl Verb {
    fn need(&self) -> Need {
        match self {
            Self::Image(_) | Self::Import(_) | Self::Completions(_) | Self::Man(_) => Need::Nothing,
            Self::Compile(args) => args.need(),
            Self::Order(args) => args.need(),
            Self::Journal(args) => args.need(),
            Self::Diff(args) => args.need(),
            Self::List(args) => args.need(),
            Self::Serve(_) => Need::Serve,
            Self::Status(_)
            | Self::Top(_)
            | Self::Tail(_)
            | Self::Reload(_)
            | Self::Rollback(_)
            | Self::Pause(_)
            | Self::Resume(_)
            | Self::Export(_)
            | Self::Feed(_)
            | Self::Cache(_)
            | Self::Log(_)
            | Self::Health(_)
            | Self::Query(_)
            | Self::Publish(_) => Need::Socket,
            Self::Check(_) | Self::Why(_) | Self::Upgrade(_) => Need::AsServer,
        }
    }

    /// The control socket in the arguments.
    fn control(&self) -> ControlArgs {
        match self {
            Self::Why(args) => args.control(),
            Self::Order(args) => args.control(),
            Self::List(args) => args.control(),
            Self::Upgrade(args) => args.control(),
            _ => ControlArgs::default(),
        }
    }
}

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    ignore_file_size_signal();
    let cli = Cli::try_parse().unwrap_or_else(|error| usage::with_tip(error).exit());
    let verb = cli.verb.unwrap_or(Verb::Serve(serve::ServeArgs::default()));
    let choice = match choose(&verb, cli.config) {
        Ok(choice) => choice,
        Err(failure) => {
            failure.report();
            return ExitCode::FAILURE;
        }
    };
    let config = choice.path.as_ref();
    let is_health = matches!(verb, Verb::Health(_));
    let mut out = Plain(Output::new(io::stdout().lock()));
    let result = match verb {
        Verb::Serve(args) => serve::run(&choice, &args),
        Verb::Check(args) => check::run(config, &args, &mut out),
        Verb::Compile(args) => compile::run(config, &args, &mut out),
        Verb::Image(args) => image::run(&args, &mut out),
        Verb::Diff(args) => diff::run(&choice, &args, &mut out),
        Verb::Order(args) => order::run(config, &args, &mut out),
        Verb::Journal(args) => journal::run(&choice, &args, &mut out),
        Verb::Why(args) => why::run(&choice, &args, &mut out),
        Verb::Status(args) => status::run(config, &args, &mut out),
        Verb::Top(args) => top::run(config, &args, &mut out),
        Verb::Tail(args) => tail::run(config, &args, &mut out),
        Verb::Cache(args) => cache::run(config, &args, &mut out),
        Verb::Log(args) => log::run(config, &args, &mut out),
        Verb::Query(args) => query::run(config, &args, &mut out),
        Verb::Health(args) => health::run(config, &args, &mut out),
        Verb::Reload(args) => reload::run(config, &args, &mut out),
        Verb::Upgrade(args) => upgrade::run(config, &args, &mut out),
        Verb::Rollback(args) => rollback::run(config, &args, &mut out),
        Verb::Pause(args) => pause::pause(config, &args, &mut out),
        Verb::Resume(args) => pause::resume(config, &args, &mut out),
        Verb::Export(args) => export::run(config, &args, &mut out),
        Verb::Feed(args) => feed::run(config, &args, &mut out),
        Verb::List(args) => list::run(&choice, &args, &mut out),
        Verb::Publish(args) => publish::run(config, &args, &mut out),
        Verb::Import(args) => import::run(&args, &mut out),
        Verb::Completions(args) => completions::run(Cli::command(), &args, &mut out),
        Verb::Man(args) => man::run(Cli::command(), &args, &mut out),
    };
    let result = result.and_then(|()| out.flush().map_err(Failure::from));
    let result = match out.0.error {
        Some(error) => Err(Failure::Output(error)),
        None => result,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Monitoring systems know no other code, and 1 is WARNING.
        Err(failure @ Failure::Output(_)) if is_health => {
            failure.report();
            Failure::Unknown.exit_code()
        }
        Err(failure) => {
            failure.report();
            failure.exit_code()
        }
    }
}

/// Chooses the configuration of a verb, and prints its path on standard error unless `--config` gave it.
///
/// Fails if no configuration was found, and a server may be running but can't be asked: it may have another
/// configuration than the built-in one.
fn choose(verb: &Verb, argument: Option<PathBuf>) -> Result<Choice, Failure> {
    let (need, mut choice) = (verb.need(), Choice::new(argument));
    let mut server_error = None;
    if need == Need::AsServer {
        (choice, server_error) = choice.or_from_server(&verb.control());
    }
    let is_used = match need {
        // The server logs it.
        Need::Nothing | Need::Serve => false,
        // The built-in configuration has no path of a socket.
        Need::Socket => choice.path.is_some(),
        Need::AsServer => true,
    };
    let mut to = Plain(io::stderr());
    // If standard error is closed, the result is the same.
    if let Some(error) = server_error {
        if choice.path.is_none() {
            let why = format!("{error}; or name the server's configuration with --config");
            return Err(Failure::Other(why.into()));
        }
        let _ = writeln!(to, "tapis: {error}");
    }
    if is_used && !choice.is_given() {
        let _ = writeln!(to, "tapis: using {choice}");
    }
    Ok(choice)
}
