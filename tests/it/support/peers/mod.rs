//! Other DNS programs as peers of the server under test.

mod config;

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

pub(crate) use self::config::{KNOT_KEY, Peer, policy_zone};
use super::client::{PATIENCE, exchange, query, until};
use super::port::free_port;

/// A process of another DNS program. It ends with the test.
pub(crate) struct Program {
    child: Child,
    command: Vec<String>,
    pub(crate) address: SocketAddr,
    pub(crate) folder: TempDir,
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(command: &[String]) -> Child {
    let mut program = Command::new(&command[0]);
    program.args(&command[1..]);
    let silent = program.stderr(Stdio::null()).stdout(Stdio::null());
    silent.spawn().expect("the program is installed")
}

impl Program {
    /// Starts a program with these files in a separate directory; `PORT` and `DIR` are replaced in
    /// the files, and `DIR` in the command.
    fn start(command: &[&str], files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let path = folder.path().display().to_string();
        for (name, content) in files {
            let content = content
                .replace("PORT", &port.to_string())
                .replace("DIR", &path);
            fs::write(folder.path().join(name), content).expect("written");
        }
        let command = command.iter().map(|word| word.replace("DIR", &path));
        let command: Vec<_> = command.collect();
        let peer = Self {
            child: run(&command),
            command,
            address: ([127, 0, 0, 1], port).into(),
            folder,
        };
        peer.answers();
        peer
    }

    /// Waits until it answers.
    fn answers(&self) {
        let hello = query("hello.example", hickory_proto::rr::RecordType::A);
        until("the program", || {
            exchange(self.address, &hello, PATIENCE / 50).is_some()
        });
    }

    /// Ends it, as SIGTERM does.
    pub(crate) fn stop(&mut self) {
        self.signal("TERM");
        self.child.wait().expect("it ended");
    }

    /// Starts it again with its files, after [`stop`](Self::stop).
    pub(crate) fn start_again(&mut self) {
        self.child = run(&self.command);
        self.answers();
    }

    /// Makes it read its files again, if that is what SIGHUP means to it.
    pub(crate) fn hang_up(&self) {
        self.signal("HUP");
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &id]).status();
        assert!(sent.expect("kill ran").success());
    }
}
