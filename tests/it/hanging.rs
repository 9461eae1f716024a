//! A file system that does not respond: opening a file under a write lease blocks until the lease
//! ends.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::orders::{PAST, order, target};
use crate::state::kept;
use crate::support::client::{is_blocked, until};
use crate::support::server::{Server, folder, list, preamble, refused, tapis, text};
use crate::support::upstream::Upstream;

/// Takes a lease on its argument, and keeps it until standard input ends.
const LEASE: &str = "import fcntl, os, signal, sys\n\
                     signal.signal(signal.SIGIO, signal.SIG_IGN)\n\
                     file = os.open(sys.argv[1], os.O_RDWR)\n\
                     fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)\n\
                     print('held', flush=True)\n\
                     sys.stdin.read()\n";

/// A file that no other process can open. The kernel ends a lease after `lease-break-time`, 45 s by
/// default.
pub(crate) struct Lease(Child);

impl Lease {
    /// Creates a file with this content that hangs from the start.
    fn take(path: &Path, content: &str) -> Self {
        let new = path.with_extension("new");
        fs::write(&new, content).expect("written");
        let lease = Self::on(&new);
        fs::rename(&new, path).expect("renamed");
        lease
    }

    /// Makes a file hang that no process has open.
    pub(crate) fn on(path: &Path) -> Self {
        let child = Command::new("python3")
            .args(["-c", LEASE])
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.expect("python3 runs");
        let mut line = String::new();
        let output = child.stdout.take().expect("piped");
        BufReader::new(output).read_line(&mut line).expect("text");
        assert_eq!(line, "held\n");
        Self(child)
    }

    /// Whether another process waits for the file.
    pub(crate) fn is_awaited(&self) -> bool {
        let locks = fs::read_to_string("/proc/locks").expect("readable");
        let holder = self.0.id().to_string();
        locks.lines().any(|lock| {
            let mut words = lock.split_whitespace();
            words.any(|word| word == "BREAKING") && words.any(|word| word == holder)
        })
    }

    pub(crate) fn release(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().expect("it ended").success());
    }
}

fn alarms(status: &Value) -> String {
    status["alarms"].to_string()
}

/// A server with the list `ads` and a directory of orders.
fn start(files: impl FnOnce(&Path) -> Vec<Lease>) -> (Server, Vec<Lease>, Upstream) {
    let upstream = Upstream::plain();
    let orders = "[orders]\npath = \"orders\"\n";
    let config = preamble(upstream.address) + orders + &list("ads", "") + &list("slow", "");
    let folder = folder(
        &config,
        &[("ads", "ads.example\n"), ("slow", "slow.example\n")],
    );
    fs::create_dir(folder.path().join("orders")).expect("made");
    let text = order("x-0", PAST, &target("old.example", "exact"));
    fs::write(folder.path().join("orders/x-0.toml"), text).expect("written");
    let leases = files(folder.path());
    (Server::start_in(folder), leases, upstream)
}

/// An order that begins, and one that ends, in four seconds: `begins.example` and `ends.example`.
fn dated(server: &Server) {
    let known = || -> u64 {
        let states = &server.status()["orders"]["states"];
        ["scheduled", "in-force", "expired"]
            .map(|state| states[state].as_u64().unwrap_or(0))
            .iter()
            .sum()
    };
    let before = known();
    let at = Timestamp::now() + SignedDuration::from_secs(4);
    for (id, dates) in [
        ("begins", format!("effective-from = {at}")),
        ("ends", format!("{PAST}\nexpires-at = {at}")),
    ] {
        let text = order(id, &dates, &target(&format!("{id}.example"), "exact"));
        server.replace(&format!("orders/{id}.toml"), &text);
    }
    until("the orders are read", || known() == before + 2);
}

#[test]
#[ignore = "needs python3 and a file system with leases"]
fn an_order_whose_file_hangs_delays_no_date_and_applies_once_read() {
    let (server, _, _upstream) = start(|_| Vec::new());
    dated(&server);
    let late = order("x-2", PAST, &target("late.example", "exact"));
    let lease = Lease::take(&server.path("orders/x-2.toml"), &late);
    until("one begins", || {
        is_blocked(server.address, "begins.example")
    });
    until("one ends", || !is_blocked(server.address, "ends.example"));
    let orders = server.path("orders").display().to_string();
    until("an alarm", || {
        let alarms = alarms(&server.status());
        alarms.contains(&orders) && alarms.contains("no answer from the file system")
    });
    assert!(!is_blocked(server.address, "late.example"));
    assert!(is_blocked(server.address, "ads.example"));
    // Verbs wait no longer than a start does.
    let listed = server.verb(&["order", "list"]);
    let report = text(&listed);
    assert!(!listed.status.success(), "{report}");
    assert!(report.contains("x-0: in force"), "{report}");
    assert!(
        report.contains("x-2.toml: no answer from the file system in 10 s"),
        "{report}"
    );
    lease.release();
    until("the order", || is_blocked(server.address, "late.example"));
    until("no alarm", || alarms(&server.status()) == "[]");
}

#[test]
#[ignore = "needs python3 and a file system with leases"]
fn queries_of_operators_are_answered_while_a_list_hangs() {
    let (server, _, _upstream) = start(|_| Vec::new());
    let lease = Lease::take(&server.path("slow"), "new.example\n");
    until("an alarm", || {
        alarms(&server.status()).contains("slow: not read in")
    });
    let blocked = text(&server.verb(&["query", "ads.example"]));
    assert!(blocked.contains(", blocked by list ads\n"), "{blocked}");
    let other = text(&server.verb(&["query", "other.example"]));
    assert!(other.contains(", from upstream\n"), "{other}");
    lease.release();
    until("the list", || is_blocked(server.address, "new.example"));
}

#[test]
#[ignore = "needs python3 and a file system with leases; takes 10 s"]
fn an_exception_whose_file_hangs_delays_no_order() {
    let (server, _, _upstream) = start(|folder| {
        let config = folder.join("tapis.toml");
        let text = fs::read_to_string(&config).expect("there");
        let more = "[exceptions]\npath = \"exceptions\"\n";
        fs::write(config, text + more).expect("written");
        fs::create_dir(folder.join("exceptions")).expect("made");
        Vec::new()
    });
    let lease = Lease::take(&server.path("exceptions/e.toml"), "");
    let late = || alarms(&server.status()).contains("e.toml: no answer from the file system");
    while !late() {
        assert!(is_blocked(server.address, "old.example"));
    }
    for id in ["x-1", "x-2"] {
        let name = format!("{id}.example");
        let dates = PAST;
        let text = order(id, dates, &target(&name, "exact"));
        server.replace(&format!("orders/{id}.toml"), &text);
        until("the order", || is_blocked(server.address, &name));
    }
    assert!(late(), "it still hangs");
    lease.release();
    until("no alarm", || alarms(&server.status()) == "[]");
}

#[test]
#[ignore = "needs python3 and a file system with leases; takes 10 s"]
fn a_reload_applies_a_new_configuration_although_an_orders_file_hangs() {
    let (server, _, _upstream) = start(|_| Vec::new());
    let late = order("x-2", PAST, &target("late.example", "exact"));
    let lease = Lease::take(&server.path("orders/x-2.toml"), &late);
    let config = fs::read_to_string(server.path("tapis.toml")).expect("there");
    let config = config.replace("workers = 2\n", "workers = 2\nid = \"other\"\n");
    server.replace(
        "tapis.toml",
        &config.replace("path = \"slow\"", "path = \"slow\"\naction = \"nxdomain\""),
    );
    let reloaded = text(&server.verb(&["reload"]));
    let report = "x-2.toml: no answer from the file system in 10 s";
    assert!(reloaded.contains(report), "{reloaded}");
    assert_eq!(
        server.status()["lists"][1]["action"],
        "nxdomain",
        "it is in force"
    );
    server.replace("ads", "other.example\n");
    until("a list", || is_blocked(server.address, "other.example"));
    assert!(
        !is_blocked(server.address, "late.example"),
        "it still hangs"
    );
    lease.release();
    until("the order", || is_blocked(server.address, "late.example"));
    until("no alarm", || alarms(&server.status()) == "[]");
}

#[test]
#[ignore = "needs python3 and a file system with leases; takes 30 s"]
fn a_list_whose_file_hangs_stays_unchanged_until_it_is_read() {
    let (server, _, _upstream) = start(|_| Vec::new());
    let lease = Lease::take(&server.path("slow"), "new.example\n");
    dated(&server);
    until("one begins", || {
        is_blocked(server.address, "begins.example")
    });
    until("one ends", || !is_blocked(server.address, "ends.example"));
    // Another list is loaded before the list that hangs.
    server.replace("ads", "other.example\n");
    until("the other list", || {
        is_blocked(server.address, "other.example")
    });
    assert!(is_blocked(server.address, "slow.example"));
    let late = || alarms(&server.status()).contains("slow: not read in");
    while !late() {
        assert!(!is_blocked(server.address, "new.example"), "too late");
    }
    lease.release();
    until("the list", || is_blocked(server.address, "new.example"));
    until("no alarm", || alarms(&server.status()) == "[]");
}

#[test]
#[ignore = "needs python3 and a file system with leases"]
fn a_rollback_whose_images_hang_delays_no_date_and_completes_once_they_are_read() {
    let upstream = Upstream::plain();
    let more = "[orders]\npath = \"orders\"\n[state]\ndir = \"state\"\nkeep = 10\n";
    let config = preamble(upstream.address) + more + &list("ads", "");
    let folder = folder(&config, &[("ads", "one.example\n")]);
    fs::create_dir(folder.path().join("orders")).expect("made");
    let server = Server::start_in(folder);
    kept(&server);
    server.replace("ads", "two.example\n");
    assert!(server.verb(&["reload"]).status.success());
    kept(&server);
    let entries = fs::read_dir(server.path("state")).expect("listed");
    let files = entries.map(|entry| entry.expect("an entry").path());
    let images = files.filter(|file| file.extension().is_some_and(|kind| kind == "image"));
    let leases: Vec<_> = images.map(|image| Lease::on(&image)).collect();
    let mut rollback = tapis()
        .args(["rollback", "1", "--config"])
        .arg(server.path("tapis.toml"))
        .stdout(Stdio::null())
        .spawn()
        .expect("it runs");
    dated(&server);
    until("one begins", || {
        is_blocked(server.address, "begins.example")
    });
    until("one ends", || !is_blocked(server.address, "ends.example"));
    until("an alarm", || {
        let alarms = alarms(&server.status());
        alarms.contains("state") && alarms.contains("no answer from the file system")
    });
    assert!(rollback.try_wait().expect("known").is_none());
    assert!(is_blocked(server.address, "two.example"));
    leases.into_iter().for_each(Lease::release);
    assert!(rollback.wait().expect("it ended").success());
    assert!(is_blocked(server.address, "one.example"));
    assert!(!is_blocked(server.address, "two.example"));
}

#[test]
#[ignore = "needs python3 and a file system with leases"]
fn a_start_skips_files_that_hang_and_loads_them_once_read() {
    let (server, leases, _upstream) = start(|folder| {
        let text = order("x-2", PAST, &target("late.example", "exact"));
        vec![
            Lease::take(&folder.join("slow"), "slow.example\n"),
            Lease::take(&folder.join("orders/x-2.toml"), &text),
        ]
    });
    assert!(is_blocked(server.address, "ads.example"));
    assert!(is_blocked(server.address, "old.example"), "another order");
    assert!(!is_blocked(server.address, "slow.example"));
    let report = alarms(&server.status());
    for start in [
        "slow: reading it takes longer than 10 s",
        "orders/x-2.toml: no answer from the file system",
    ] {
        assert!(report.contains(start), "{start}: {report}");
    }
    leases.into_iter().for_each(Lease::release);
    until("the list", || is_blocked(server.address, "slow.example"));
    until("the order", || is_blocked(server.address, "late.example"));
    until("no alarm", || alarms(&server.status()) == "[]");
}

#[test]
#[ignore = "needs python3 and a file system with leases"]
fn a_required_list_that_hangs_ends_the_start_with_an_error() {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address) + &list("slow", "required = true");
    let folder = folder(&config, &[]);
    let lease = Lease::take(&folder.path().join("slow"), "slow.example\n");
    let report = refused(folder.path(), &config, &[]);
    assert!(report.contains("list `slow` is required, but "), "{report}");
    assert!(
        report.contains("slow: reading it takes longer than 10 s"),
        "{report}"
    );
    lease.release();
}

#[test]
fn a_pipe_is_rejected_as_a_list_and_as_an_order_without_waiting() {
    let pipe = |path: &Path| {
        let made = Command::new("mkfifo").arg(path).status();
        assert!(made.expect("mkfifo runs").success());
    };
    let (server, _, _upstream) = start(|folder| {
        fs::remove_file(folder.join("slow")).expect("removed");
        pipe(&folder.join("slow"));
        pipe(&folder.join("orders/x-1.toml"));
        Vec::new()
    });
    let report = alarms(&server.status());
    assert!(report.contains("slow: not a regular file"), "{report}");
    assert!(
        report.contains("x-1.toml: is not a regular file"),
        "{report}"
    );
    assert!(!report.contains("no answer"), "{report}");
    assert!(is_blocked(server.address, "old.example"));
    // The same while the server runs.
    fs::remove_file(server.path("ads")).expect("removed");
    pipe(&server.path("ads"));
    let reloaded = server.verb(&["reload"]);
    assert!(
        text(&reloaded).contains("ads: not a regular file"),
        "{}",
        text(&reloaded)
    );
    assert!(is_blocked(server.address, "ads.example"));
}
