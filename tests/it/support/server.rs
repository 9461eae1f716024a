//! The server under test as a process in a separate directory.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tempfile::TempDir;

use super::client::until;

/// A running `tapis serve`. It ends with the test.
pub(crate) struct Server {
    child: Child,
    pub(crate) folder: TempDir,
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<String>>,
}

/// The log says this and the address when the server serves.
const SERVING: &str = "serving address=";
const NOWHERE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

/// The program under test.
pub(crate) fn tapis() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tapis"));
    command.env_remove("RUST_LOG").env_remove("TAPIS_CONFIG");
    command
}

/// A configuration that equals the built-in default. Without one, verbs would ask a server of this
/// machine, if one runs.
pub(crate) const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/tapis.toml");

/// Whether verbs can use the built-in default without a configuration: not on a machine where
/// another server runs.
pub(crate) fn may_be_built_in() -> bool {
    let usual = ["/etc/tapis/tapis.toml", "/run/tapis"];
    !usual.iter().any(|path| Path::new(path).exists())
}

/// The `[server]` section of a test: a free port, and a socket in the directory.
pub(crate) fn preamble(upstream: SocketAddr) -> String {
    format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\nworkers = 2\ncontrol = \"control.sock\"\n\
         [upstream]\nservers = [\"{upstream}\"]\n"
    )
}

/// A `[[list]]` whose file is `name` in the directory.
pub(crate) fn list(name: &str, more: &str) -> String {
    format!("[[list]]\nname = \"{name}\"\npath = \"{name}\"\n{more}\n")
}

/// A directory with this configuration and these files.
pub(crate) fn folder(config: &str, files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, content) in [("tapis.toml", config)].iter().chain(files) {
        std::fs::write(folder.path().join(name), content).expect("written");
    }
    folder
}

/// Runs a verb with the configuration of a directory.
pub(crate) fn verb(folder: &Path, arguments: &[&str]) -> Output {
    let config = folder.join("tapis.toml");
    let mut command = tapis();
    command.args(arguments).arg("--config").arg(config);
    command.output().expect("it ran")
}

impl Server {
    /// Starts with this configuration and these files.
    pub(crate) fn start(config: &str, files: &[(&str, &str)]) -> Self {
        Self::start_with(config, files, &[])
    }

    /// The same with more arguments.
    pub(crate) fn start_with(config: &str, files: &[(&str, &str)], arguments: &[&str]) -> Self {
        let folder = folder(config, files);
        let config = folder.path().join("tapis.toml");
        let mut command = tapis();
        command
            .arg("serve")
            .arg("--config")
            .arg(config)
            .args(arguments);
        Self::run(command, folder)
    }

    /// Starts in an existing directory with its `tapis.toml`, by relative paths.
    pub(crate) fn start_in(folder: TempDir) -> Self {
        let mut command = tapis();
        command
            .args(["serve", "--config", "tapis.toml"])
            .current_dir(folder.path());
        Self::run(command, folder)
    }

    /// Starts the server by another program, in an existing directory.
    pub(crate) fn start_by(program: &str, arguments: &[&str], folder: TempDir) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(folder.path());
        Self::run(command, folder)
    }

    /// Starts a new server in the directory of this one, which has ended.
    pub(crate) fn again(mut self) -> Self {
        let other = tempfile::tempdir().expect("a folder");
        Self::start_in(std::mem::replace(&mut self.folder, other))
    }

    /// The peak of its memory in KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()));
        let status = status.expect("a running process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
        number.expect("a size").parse().expect("a number")
    }

    /// The process ID.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Starts the server, and waits until it serves.
    pub(crate) fn run(command: Command, folder: TempDir) -> Self {
        Self::run_until(command, folder, SERVING)
    }

    /// Starts the server, and waits until it logs a text. Its address is known only if it serves then.
    pub(crate) fn run_until(mut command: Command, folder: TempDir, first: &str) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("started");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let mut head = String::new();
        let address = loop {
            let line = lines
                .next()
                .unwrap_or_else(|| panic!("it ended at once:\n{head}"));
            let line = line.expect("text");
            head.push_str(&line);
            head.push('\n');
            if let Some((_, rest)) = line.split_once(first) {
                let text = rest.split(' ').next().filter(|_| first == SERVING);
                break text.map_or(NOWHERE, |text| text.parse().expect("an address"));
            }
        };
        let log = Arc::new(Mutex::new(head));
        let rest = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut log = rest.lock().expect("not poisoned");
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self {
            child,
            folder,
            address,
            log,
        }
    }

    /// The path of a file in its directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces a file in one step.
    pub(crate) fn replace(&self, name: &str, content: &str) {
        let new = self.path("new-file");
        std::fs::write(&new, content).expect("written");
        std::fs::rename(new, self.path(name)).expect("renamed");
    }

    /// Runs a verb with the server's configuration.
    pub(crate) fn verb(&self, arguments: &[&str]) -> Output {
        verb(self.folder.path(), arguments)
    }

    /// Asserts that `status` reports no problem. A slow disk is an alarm that ends by itself.
    pub(crate) fn assert_well(&self) {
        let alarms = || self.status()["alarms"].to_string();
        until("the journal", || !alarms().contains("the disk is slow"));
        assert_eq!(alarms(), "[]");
    }

    /// `tapis status --json`.
    pub(crate) fn status(&self) -> Value {
        let output = self.verb(&["status", "--json"]);
        let status: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}\n{}", text(&output)));
        let degraded = status["degraded"] == true;
        assert_eq!(output.status.code(), Some(i32::from(degraded)));
        status
    }

    /// A counter of `status`.
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.status()["counters"][name].as_u64().expect("a counter")
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("not poisoned").clone()
    }

    /// Waits until a text is logged, as the log is written after the event. Returns the log up to
    /// then.
    pub(crate) fn logged(&self, text: &str) -> String {
        until(text, || self.log().contains(text));
        self.log()
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill")
            .args(["-s", signal, &id])
            .status()
            .expect("kill ran");
        assert!(sent.success());
    }

    /// Waits for its end; returns the exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.child.wait().expect("it ended").code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Standard output and standard error of a verb.
pub(crate) fn text(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// Runs `serve` with this configuration, which must fail; returns its output.
pub(crate) fn refused(folder: &Path, config: &str, arguments: &[&str]) -> String {
    let path = folder.join("tapis.toml");
    std::fs::write(&path, config).expect("written");
    let output = tapis()
        .arg("serve")
        .arg("--config")
        .arg(path)
        .args(arguments)
        .output()
        .expect("it ran");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    text(&output)
}
