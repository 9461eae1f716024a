//! What the verbs of feeds and of published zones have in common.

use std::io::{self, Write};
use std::path::PathBuf;

use super::failure::Failure;
use super::server;
use crate::control::admin::status::Status;

/// The status of the running server.
pub(super) fn status(sockets: &[PathBuf]) -> Result<Status, Failure> {
    Ok(server::get(sockets, "/status")??)
}

/// Prints the words of each zone in a line; or `none`, if there is no zone.
pub(super) fn print_list<const WORDS: usize>(
    zones: impl Iterator<Item = [String; WORDS]>,
    none: &str,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut zones = zones.peekable();
    if zones.peek().is_none() {
        return writeln!(out, "{none}");
    }
    zones.try_for_each(|words| writeln!(out, "{}", words.join("  ")))
}

/// The serial of a zone in words.
pub(super) fn serial(serial: Option<u32>) -> String {
    serial.map_or_else(
        || "no version yet".to_owned(),
        |serial| format!("serial {serial}"),
    )
}
