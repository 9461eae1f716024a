//! `tapis completions`: prints a script by which a shell completes verbs and options.

use std::io::Write;

use clap::{Args, Command, ValueEnum};
use clap_complete::aot;

use super::failure::Failure;

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub(super) fn run(
    mut command: Command,
    args: &CompletionsArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let shell = match args.shell {
        Shell::Bash => aot::Shell::Bash,
        Shell::Zsh => aot::Shell::Zsh,
        Shell::Fish => aot::Shell::Fish,
    };
    // The generator panics if it can't write, as to a closed pipe.
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    aot::generate(shell, &mut command, name, &mut script);
    Ok(out.write_all(&script)?)
}
