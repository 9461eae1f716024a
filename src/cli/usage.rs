//! Adds tips to errors about arguments: for verbs of other programs, and for a file without `--config`.

use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Verbs of other programs, each with a tip that names the equivalent here.
const TIPS: [(&[&str], &str); 9] = [
    (
        &["unblock", "allow", "except", "whitelist"],
        "to unblock a name, write an [[exception]] into the configuration; to end an order: 'tapis order lift ID'",
    ),
    (
        &["block", "add", "deny", "blacklist"],
        "to block a name, write it into the file of a [[list]], or write an order: 'tapis order new ID --name NAME'",
    ),
    (
        &["lift", "remove", "delete"],
        "to end an order: 'tapis order lift ID'; to unblock a name of a list, remove it from the list's file",
    ),
    (
        &["disable"],
        "to pause lists for a while: 'tapis pause [LIST] --for 5m --reason TEXT'",
    ),
    (&["enable"], "to end pauses of lists: 'tapis resume [LIST]'"),
    (&["version"], "'tapis --version'"),
    (&["start", "run"], "to start a server: 'tapis serve'"),
    (
        &["stop", "shutdown"],
        "to stop a server, send it SIGTERM, as 'systemctl stop' does",
    ),
    (
        &["restart"],
        "new lists and most settings need no restart: 'tapis reload'; to restart a server: 'systemctl restart'",
    ),
];

/// The error with a tip, if there is one for the argument.
pub(super) fn with_tip(mut error: clap::Error) -> clap::Error {
    let kind = match error.kind() {
        ErrorKind::InvalidSubcommand => ContextKind::InvalidSubcommand,
        ErrorKind::UnknownArgument => ContextKind::InvalidArg,
        _ => return error,
    };
    let Some(ContextValue::String(word)) = error.get(kind) else {
        return error;
    };
    let is_verb = kind == ContextKind::InvalidSubcommand;
    let mut tips = TIPS.iter().filter(|_| is_verb);
    let found = tips.find(|(verbs, _)| verbs.contains(&word.as_str()));
    let is_file = !word.starts_with('-') && (word.ends_with(".toml") || Path::new(word).is_file());
    let tip = match found {
        Some((_, tip)) => (*tip).to_owned(),
        None if is_file => format!(
            "to name the configuration: '{} --config {word}'",
            verb(&error)
        ),
        None => return error,
    };
    // The tip replaces clap's suggestion of a similar verb, which would be misleading.
    error.remove(ContextKind::SuggestedSubcommand);
    error.insert(
        ContextKind::Suggested,
        ContextValue::StyledStrs(vec![tip.into()]),
    );
    error
}

/// The program and the verb, from the usage line.
fn verb(error: &clap::Error) -> String {
    let usage = error.get(ContextKind::Usage).map(ToString::to_string);
    let usage = usage.unwrap_or_default();
    let words = usage.split_whitespace().skip_while(|word| *word != "tapis");
    let verb: Vec<_> = words
        .take_while(|word| !word.starts_with(['[', '<', '-']))
        .collect();
    verb.join(" ")
}
