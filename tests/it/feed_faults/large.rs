//! A large version of a zone, whose transfer stalls.

use std::fs;
use std::path::PathBuf;

use tapis::wire::rtype;

use super::guards::numbered;
use super::scene::Scene;
use crate::feeds::{Versions, feed, refresh};
use crate::support::client::until;
use crate::support::primary::{Asked, Gate, Step};
use crate::support::server::{Server, folder, tapis};

/// A zone that is compiled while it arrives.
pub(super) fn large(versions: &Versions) {
    versions.replace(|zone| {
        zone.records = numbered(60_000);
        zone.per_message = 500;
    });
}

/// A server with this configuration, but without a state directory, and the directory of temporary files in which it writes
/// large transfers, which does not exist.
pub(super) fn without_state_dir(config: &str) -> (Server, PathBuf) {
    let folder = folder(&config.replace("[state]\ndir = \"state\"\n", ""), &[]);
    let temporary = folder.path().join("temporary");
    let mut command = tapis();
    command
        .args(["serve", "--config", "tapis.toml"])
        .current_dir(folder.path())
        .env("TMPDIR", &temporary);
    (Server::run(command, folder), temporary)
}

/// Sends the newest version, but waits at the first gate after three quarters of it, and at the second one before the
/// last message.
pub(super) fn stalling(
    versions: &Versions,
    [first, second]: [&Gate; 2],
) -> impl Fn(&Asked) -> Vec<Step> + use<> {
    let (versions, gates) = (versions.clone(), [first.clone(), second.clone()]);
    move |asked| {
        let messages = versions.answer(asked);
        let [at, last] = [messages.len() * 3 / 4, messages.len().saturating_sub(1)];
        let mut steps = Vec::new();
        for (index, message) in messages.into_iter().enumerate() {
            if asked.rtype != rtype::SOA {
                let gates = [(at, &gates[0]), (last, &gates[1])];
                let here = gates.into_iter().filter(|(at, _)| *at == index);
                steps.extend(here.map(|(_, gate)| Step::Wait(gate.clone())));
            }
            steps.push(Step::Send(message));
        }
        steps
    }
}

/// The files of transfers in the state directory.
pub(super) fn spools(server: &Server) -> usize {
    let entries = fs::read_dir(server.path("state")).expect("readable");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let spools = names.filter(|name| name.to_string_lossy().starts_with("transfer.tmp-"));
    spools.count()
}

/// The process ID of the compiler, if the server runs one.
pub(super) fn compiler(server: &Server) -> Option<String> {
    let threads = fs::read_dir(format!("/proc/{}/task", server.id())).expect("readable");
    threads.flatten().find_map(|thread| {
        // The thread may have ended.
        let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        let is_compiler = |child: &&str| {
            let line = fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap_or_default();
            line.split('\0').nth(1) == Some("compile")
        };
        children
            .split_whitespace()
            .find(is_compiler)
            .map(ToOwned::to_owned)
    })
}

/// The feed's primary sends a part of a large version, and then stalls until the gate is open.
pub(super) fn stalls(scene: &Scene) -> Gate {
    large(&scene.versions);
    let gate = Gate::default();
    scene
        .primary
        .play(stalling(&scene.versions, [&gate, &gate]));
    refresh(&scene.server);
    arrives(&scene.server);
    gate
}

/// A part of a large version of the feed arrives.
pub(super) fn arrives(server: &Server) {
    until("most of it has arrived", || {
        feed(server)["transfer"]["records"].as_u64() >= Some(44_000)
    });
    until("it is written to a file", || spools(server) == 1);
}
