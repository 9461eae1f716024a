//! Owns the command line: arguments, verbs, exit codes.
//! Refuses to do the work: each verb calls the library.

mod check;
mod compile;
mod configuration;
mod diff;
mod failure;
mod image;
mod journal;
mod list_summary;
mod log;
mod order;
mod order_text;
mod plain;
mod reload;
mod rollback;
mod serve;
mod server;
mod status;
mod usage;
mod why;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::configuration::{Choice, Need};
use self::failure::Failure;
use self::plain::Plain;
use self::server::ControlArgs;

/// What is behind the arguments in `tapis --help`.
const HELP: &str = "\
Environment:
  TAPIS_CONFIG     The configuration file, where --config names none
  RUST_LOG         What `serve` logs, where --log-level does not say
  XDG_RUNTIME_DIR  A folder for the control socket, if /run/tapis can't be used

Exit codes:
  0  Done, and all is well
  1  Failed, or something is not well: the help of each verb says what
  2  The arguments are wrong
  3  Not known: what a name was answered, or what differs
  4  No server could be asked: none runs there, this user may not ask it, or no answer came";

/// The same in `tapis serve --help`.
const SERVE_HELP: &str = "\
Environment:
  TAPIS_CONFIG    The configuration file, where --config names none
  RUST_LOG        What is logged, where --log-level does not say: a level, or a filter
  JOURNAL_STREAM  Set by systemd. If it names standard error, log lines begin with their
                  priority and have no time

Signals:
  SIGTERM, SIGINT   Answer what is under way, for at most 3 s, and end
  SIGHUP            Reload, as `tapis reload` does
  SIGUSR1, SIGUSR2  Ignored

Exit codes:
  0  Ended by SIGTERM or SIGINT
  1  Could not start, or a part of the server failed
  2  The arguments are wrong";

/// A forwarding DNS server that sifts every name through a blocklist.
///
/// Answers blocked names itself and all others from upstream. Lists are files; an edit of one is
/// followed within a second plus the time that reading it takes, with no restart and no query lost. Without a verb it
/// serves. The built-in configuration listens on port 5335 of this machine and blocks the eleven
/// Telegram web names of July 2017 as an example.
#[derive(Debug, Parser)]
#[command(name = "tapis", version, max_term_width = 100, after_long_help = HELP)]
struct Cli {
    /// The configuration file. Without it: the one that the variable TAPIS_CONFIG names; else, for verbs
    /// that examine what a server does, the one of the running server; else /etc/tapis/tapis.toml, if it
    /// exists; else the built-in configuration. Standard error says which one is used.
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one, made once, for the arguments of one run"
)]
enum Verb {
    /// Serve DNS until SIGTERM or SIGINT; SIGHUP reloads.
    #[command(after_long_help = SERVE_HELP)]
    Serve(serve::ServeArgs),
    /// Check the configuration and every list, and report all problems at once.
    ///
    /// Exit code 0 when there is none, 1 when there are. Besides mistakes in the files it finds an
    /// upstream that is this server itself, and local zones to forward that are none. It tries what a start
    /// by this user needs, too: ports, control socket, state directory, journal.
    Check(check::CheckArgs),
    /// Compile all lists of the configuration to one image file.
    ///
    /// All or nothing: when a list can't be read, or looks like an accident, there is no new file.
    Compile(compile::CompileArgs),
    /// Show what is in an image file: sections, counts, and where its rules come from.
    Image(image::ImageArgs),
    /// Print for which names clients get other answers in one generation than in another, or which
    /// rules differ in two image files.
    ///
    /// Generations are compared by the journal: their lists, orders, exceptions and settings. `.x` is a
    /// name with all names below it, `*.x` those alone. Of two images the rules are compared, list by
    /// list. Exit code 0 when nothing differs, 1 when something does, 3 when the rules of a generation
    /// are not known.
    Diff(diff::DiffArgs),
    /// Show, check, write, lift and suspend authorities' orders.
    Order(order::OrderArgs),
    /// Show, verify and export what changed the policy, when, and by whom.
    Journal(journal::JournalArgs),
    /// Explain how a name is answered: the decision and every rule that matches.
    ///
    /// Asks the running server, and reads only the lists that have a matching rule, for its line. With
    /// --offline, or without a server that has the configuration, it reads all lists, and explains what a
    /// server would do that has loaded them as they are.
    Why(why::WhyArgs),
    /// Show the state of a running server: generation, lists, alarms, counters.
    ///
    /// Exit code 1 when something that was configured is not in force, a guard holds a list, or no
    /// upstream server answers: the alarms say what. A changed key that waits for a restart is printed,
    /// with exit code 0. Exit code 4 when no server could be asked.
    Status(status::StatusArgs),
    /// Make a running server read its configuration and changed lists again.
    ///
    /// Returns when that is in force. Exit code 1 when something was not taken; the old state of
    /// it then stays in force, and the reason is printed. What is changed and counts only after a restart is
    /// printed, with exit code 0. Exit code 4 when no server could be asked.
    Reload(reload::ReloadArgs),
    /// Put the lists of an earlier generation in force at once, and hold them.
    ///
    /// Until they are released no newer state of a list counts. Orders and exceptions are not held:
    /// they go on by their files and dates. `status` shows what is held, `journal show` which
    /// generations there were; `keep` in the configuration says how many are kept. Exit code 1 when
    /// that generation is not kept or something could not be restored, 4 when no server could be asked.
    Rollback(rollback::RollbackArgs),
}

impl Verb {
    fn need(&self) -> Need {
        match self {
            Self::Image(_) => Need::Nothing,
            Self::Compile(args) => args.need(),
            Self::Order(args) => args.need(),
            Self::Journal(args) => args.need(),
            Self::Diff(args) => args.need(),
            Self::Serve(_) => Need::Serve,
            Self::Status(_) | Self::Reload(_) | Self::Rollback(_) => Need::Socket,
            Self::Check(_) | Self::Why(_) => Need::Same,
        }
    }

    /// The server that is named.
    fn control(&self) -> ControlArgs {
        match self {
            Self::Why(args) => args.control(),
            Self::Order(args) => args.control(),
            _ => ControlArgs::default(),
        }
    }
}

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
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
    let mut out = Plain(io::stdout().lock());
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
        Verb::Reload(args) => reload::run(config, &args, &mut out),
        Verb::Rollback(args) => rollback::run(config, &args, &mut out),
    };
    let result = result.and_then(|()| out.flush().map_err(Failure::from));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            failure.exit_code()
        }
    }
}

/// The configuration that a verb uses. Names it on standard error, unless the user did.
///
/// Where a server may run that can't be asked, and nothing else names a configuration, there is none: the built-in
/// one would be another server's.
fn choose(verb: &Verb, argument: Option<PathBuf>) -> Result<Choice, Failure> {
    let (need, mut choice) = (verb.need(), Choice::new(argument));
    let mut unasked = None;
    if need == Need::Same {
        (choice, unasked) = choice.or_of_server(&verb.control());
    }
    let is_used = match need {
        // The log of a server names it.
        Need::Nothing | Need::Serve => false,
        // The built-in configuration has no socket of its own.
        Need::Socket => choice.path.is_some(),
        Need::Same => true,
    };
    let mut to = Plain(io::stderr());
    // If standard error is closed, the verb does its work all the same.
    if let Some(error) = unasked {
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
