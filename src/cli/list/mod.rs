//! `tapis list`: changes the lists of the configuration, and shows and refreshes them. One file for each verb.

mod available;
mod change;
mod refresh;
mod reload;
mod show;
mod stats;

use std::io::Write;

use clap::{Args, Subcommand};

use super::configuration::{Choice, Need};
use super::failure::Failure;
use super::server::ControlArgs;
use crate::control::admin::status::DownloadRequest;

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(subcommand)]
    verb: ListVerb,
}

#[derive(Debug, Subcommand)]
enum ListVerb {
    /// Show the well-known public lists that `tapis list add` knows by their names.
    ///
    /// With a name, all facts about this list. Sizes are those that the publishers stated on the day that is shown.
    Available {
        /// The name of a list.
        list: Option<String>,
    },
    /// Add a list to the end of the configuration, and make the running server load it.
    ///
    /// All other lists and feeds of the configuration precede it; an allow list precedes the ordinary rules of all block
    /// lists, wherever it is. The file is replaced only if the new configuration is
    /// valid; comments and layout stay. A list by URL is waited for. Exit code 1 if the file was not changed, the server
    /// rejects something, or the download failed; 4 if no server could be asked although one may be running.
    Add(change::AddArgs),
    /// Remove a list from the configuration, and make the running server forget it.
    ///
    /// Comments directly above its section are removed with it. The list's own file is not touched. Exit codes are those of
    /// `tapis list add`.
    Remove(change::RemoveArgs),
    /// Compare the lists in force: rules, those that other lists have as well, those that no other list covers, hits, age.
    ///
    /// `shared` counts the rules on a name that another list has with the same scope. `alone` counts the rules that block
    /// a name that no rule of another block list covers. Only rules on names are compared; below the table, each list has
    /// the number of its other rules. Exit code 4 if no server could be asked.
    Stats(stats::StatsArgs),
    /// Show the facts of a list; with --line or --lines, lines of its file and what they became.
    ///
    /// Lines are read from the file as it is now, which works without a server: each has its rules, or why it has none.
    /// Exit code 1 if there is no such list or line; 4 if no server could be asked for the facts.
    Show(show::ShowArgs),
    /// Ask the servers of a list, or of all lists with a URL, for a newer version now, and wait for the result.
    ///
    /// The exit code is 1 if the newest version of a list is not in force in the end.
    Refresh {
        #[command(flatten)]
        control: ControlArgs,
        /// The name of the list. The default is all lists with a URL.
        list: Option<String>,
    },
}

impl ListArgs {
    pub(super) fn need(&self) -> Need {
        match &self.verb {
            ListVerb::Available { .. } => Need::Nothing,
            ListVerb::Add(_) | ListVerb::Remove(_) => Need::AsServer,
            ListVerb::Show(args) => args.need(),
            ListVerb::Refresh { .. } | ListVerb::Stats(_) => Need::Socket,
        }
    }

    pub(super) fn control(&self) -> ControlArgs {
        match &self.verb {
            ListVerb::Add(args) => args.control.clone(),
            ListVerb::Remove(args) => args.control.clone(),
            ListVerb::Show(args) => args.control.clone(),
            ListVerb::Available { .. } | ListVerb::Refresh { .. } | ListVerb::Stats(_) => {
                ControlArgs::default()
            }
        }
    }
}

pub(super) fn run(choice: &Choice, args: &ListArgs, out: &mut impl Write) -> Result<(), Failure> {
    match &args.verb {
        ListVerb::Available { list } => available::run(list.as_deref(), out),
        ListVerb::Add(args) => change::add(choice, args, out),
        ListVerb::Remove(args) => change::remove(choice, args, out),
        ListVerb::Stats(args) => stats::run(choice.path.as_ref(), args, out),
        ListVerb::Show(args) => show::run(choice, args, out),
        ListVerb::Refresh { control, list } => {
            let request = DownloadRequest { list: list.clone() };
            refresh::refresh(&control.sockets(choice.path.as_ref())?, &request, out)
        }
    }
}
