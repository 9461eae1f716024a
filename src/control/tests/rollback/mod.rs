//! Rollbacks and releases in a running control plane.

mod failures;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::control::Control;
use crate::control::admin::preparing::QueuedRequest;
use crate::control::admin::requests::Request;
use crate::control::admin::status::{
    ListHealth, OrdersRequest, ReloadReport, ReloadRequest, RollbackRequest, Status,
};
use crate::control::data_plane::NoHosts;
use crate::control::event::Event;
use crate::control::gauges::Gauges;
use crate::control::guard::release::Guards;
use crate::control::journal::entry::Cause;
use crate::control::persist::durable::faults;
use crate::control::persist::image_store::ImageStore;
use crate::control::persist::store::{Store, StoreError, write_as_older};
use crate::control::rollback::record::{FILE, RollbackRecord, held, sample as sample_record};
use crate::control::sources::lists::reading::start_load;
use crate::control::sources::wall_clock::Still;
use crate::policy::current::Reader;
use crate::policy::decide::Decision;
use crate::wire::name::Name;

const USER: u32 = 1000;

const ORDER: &str = "id = \"x-1\"\nlegal-basis = [\"law\"]\nissued-at = 2020-01-01T00:00:00Z\n\
                     effective-from = 2020-01-01T00:00:00Z\nreview-at = 2090-01-01T00:00:00Z\n\
                     [authority]\nname = \"A\"\n[reason]\nen = \"r\"\n\
                     [redress]\nhow = \"write\"\n\
                     [[targets]]\nname = \"order.example\"\nscope = \"exact\"\n";

/// A running control plane with the list `ads` and a state directory.
struct Running {
    requests: mpsc::Sender<Request>,
    reader: Reader,
    store: ImageStore,
    stop: CancellationToken,
    task: JoinHandle<()>,
    dir: PathBuf,
}

impl Running {
    fn start(folder: &Path) -> Self {
        let config = Config::load(&folder.join("tapis.toml")).expect("a configuration");
        let control = Control::start(config, Arc::new(Still), Arc::new(NoHosts));
        let control = control.expect("a first generation");
        let (requests, queued) = mpsc::channel(1);
        let (_, hangups) = mpsc::channel(1);
        let (reader, stop) = (control.reader(), CancellationToken::new());
        let store = control.persist.store.clone();
        let probe = Arc::new(Gauges::default);
        let running = control.run(queued, hangups, probe, stop.clone());
        Self {
            requests,
            reader,
            store,
            stop,
            task: tokio::spawn(running),
            dir: folder.join("state"),
        }
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> T {
        let (reply, answer) = oneshot::channel();
        let sent = self.requests.send(request(reply)).await;
        sent.expect("it runs");
        answer.await.expect("it answers")
    }

    async fn roll_back(&self, generation: Option<u64>) -> ReloadReport {
        let request = RollbackRequest { generation };
        self.ask(|reply| Request::Rollback(request, USER, reply))
            .await
    }

    /// Writes an order against `order.example` and has it read.
    async fn order(&self) -> ReloadReport {
        let path = self.dir.with_file_name("orders").join("x-1.toml");
        fs::write(&path, ORDER).expect("written");
        let request = OrdersRequest {
            path,
            verb: "order add".to_owned(),
        };
        self.ask(|reply| Request::Orders(request, USER, reply))
            .await
    }

    /// Replaces the list's file and reloads.
    async fn replace(&self, content: &str) -> ReloadReport {
        let folder = self.dir.parent().expect("it lies in one");
        fs::write(folder.join("new"), content).expect("written");
        fs::rename(folder.join("new"), folder.join("ads")).expect("renamed");
        let request = ReloadRequest::default();
        self.ask(|reply| Request::Reload(request, USER, reply))
            .await
    }

    async fn status(&self) -> Status {
        self.ask(Request::Status).await
    }

    /// Waits until the images in force are stored.
    async fn kept(&self) {
        let generation = self.reader.load().generation;
        // The file names this generation as the first one that has these lists, or as the last one.
        let records = [
            format!("\"generation\":{generation},"),
            format!(",{generation}]]"),
        ];
        let file = self.dir.join("current");
        loop {
            let text = fs::read_to_string(&file).unwrap_or_default();
            let text: String = text.split_whitespace().collect();
            if records.iter().any(|record| text.contains(record)) {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.expect("it ended well");
        drop(self.store);
        // A store operation in progress may keep the directory locked a moment longer.
        while let Err(StoreError::InUse { .. }) = Store::open(&self.dir, 10) {
            tokio::task::yield_now().await;
        }
    }

    /// The blocked names, of those in the list's three versions and in the order.
    fn blocked(&self) -> Vec<&'static str> {
        let snapshot = self.reader.load();
        let blocked = |name: &str| {
            let name = Name::from_text(name).expect("a name");
            matches!(snapshot.decide(&name), Decision::Blocked { .. })
        };
        let names = [
            "one.example",
            "two.example",
            "three.example",
            "order.example",
        ];
        names.into_iter().filter(|name| blocked(name)).collect()
    }
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("orders")).expect("made");
    let config = "[state]\ndir = \"state\"\nkeep = 10\n[orders]\npath = \"orders\"\n\
                  [[list]]\nname = \"ads\"\npath = \"ads\"\n";
    for (name, text) in [("tapis.toml", config), ("ads", "one.example\n")] {
        fs::write(folder.path().join(name), text).expect("written");
    }
    folder
}

/// A control plane with two stored generations, whose list names `one.example`, then `two.example`.
async fn two_generations(folder: &Path) -> Running {
    let running = Running::start(folder);
    running.kept().await;
    let report = running.replace("two.example\n").await;
    assert_eq!((report.generation, report.problems.len()), (2, 0));
    running.kept().await;
    running
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_is_on_the_disk_before_it_is_reported_and_gone_after_its_release() {
    let folder = folder();
    let running = two_generations(folder.path()).await;
    assert_eq!(running.blocked(), ["two.example"]);
    let report = running.roll_back(Some(1)).await;
    assert_eq!((report.generation, report.problems), (3, Vec::new()));
    assert_eq!(running.blocked(), ["one.example"]);
    let record = RollbackRecord::read(&running.dir)
        .expect("readable")
        .expect("held");
    assert_eq!((record.generation, record.first), (1, 3));
    assert_eq!(record.lists, ["ads"]);

    // The file's current version is refused at once, and so is its next one.
    let list = running.status().await.lists.remove(0);
    assert_eq!(list.state, ListHealth::Held);
    let alarm = list.alarm.expect("it says why");
    assert!(alarm.contains("held as it was in generation 1"), "{alarm}");
    let report = running.replace("three.example\n").await;
    assert_eq!(report.problems.len(), 1, "{report:?}");
    assert!(report.problems[0].contains("held as it was in generation 1"));
    assert_eq!(running.blocked(), ["one.example"]);
    let status = running.status().await;
    assert!(status.degraded);
    let start = "lists are held as they were in generation 1, since 2";
    let mut alarms = status.alarms.iter();
    let alarm = alarms.find(|alarm| alarm.starts_with(start));
    let remedy = "to follow their files again: tapis rollback --release";
    assert!(
        alarm.is_some_and(|alarm| alarm.ends_with(remedy)),
        "{:?}",
        status.alarms
    );

    let report = running.roll_back(None).await;
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!(running.blocked(), ["three.example"]);
    assert_eq!(RollbackRecord::read(&running.dir), Ok(None));
    assert!(!running.status().await.degraded);
    let again = running.roll_back(None).await;
    assert_eq!(again.problems, ["no lists are held"]);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_knows_which_lists_were_in_force_in_generations_that_older_versions_recorded() {
    let folder = folder();
    let config = fs::read_to_string(folder.path().join("tapis.toml")).expect("readable");
    let with = config.clone() + "[[list]]\nname = \"more\"\npath = \"more\"\n";
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text);
    write("tapis.toml", &with).expect("written");
    write("more", "two.example\n").expect("written");
    let running = Running::start(folder.path());
    running.kept().await;
    write("tapis.toml", &config).expect("written");
    let reload = || {
        let request = ReloadRequest::default();
        running.ask(|reply| Request::Reload(request, USER, reply))
    };
    let report = reload().await;
    assert_eq!((report.generation, report.problems.len()), (2, 0));
    running.kept().await;
    running.end().await;

    write_as_older(&folder.path().join("state"));
    write("tapis.toml", &with).expect("written");
    write("more", "three.example\n").expect("written");
    let running = Running::start(folder.path());
    let request = ReloadRequest::default();
    let report = running
        .ask(|reply| Request::Reload(request, USER, reply))
        .await;
    assert_eq!(report.problems, [""; 0]);
    assert_eq!(running.blocked(), ["one.example", "three.example"]);
    let problems = running.roll_back(Some(2)).await.problems;
    let reported =
        "more: generation 2 does not have it as it is configured now; its rules in force stay";
    assert!(
        problems.len() == 1 && problems[0].starts_with(reported),
        "{problems:?}"
    );
    assert_eq!(running.blocked(), ["one.example", "three.example"]);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_accepted_before_a_rollback_is_accepted_again_after_its_release() {
    let many: String = (0..10).map(|at| format!("n{at}.example\n")).collect();
    let first = format!("one.example\n{many}");
    // The content and guards that are accepted, the file's content at the release if it differs, and the number of
    // rollbacks before the release.
    let bad = "two.example\n/\n/\n";
    for (accepted, guards, newest, rollbacks) in [
        ("two.example\n", &["ads:shrunk"][..], None, 1),
        (
            "two.example\n",
            &["ads:shrunk"],
            Some("two.example\nthree.example\n"),
            1,
        ),
        (bad, &["ads:shrunk", "ads:bad"], None, 1),
        ("two.example\n", &["ads:shrunk"], None, 2),
        ("two.example\n", &["ads:shrunk"], Some(&*first), 1),
    ] {
        let folder = folder();
        fs::write(folder.path().join("ads"), &first).expect("written");
        let running = Running::start(folder.path());
        running.kept().await;
        let report = running.replace(accepted).await;
        assert_eq!(report.problems.len(), 1, "it is held: {report:?}");
        let accept = guards.iter().map(|&guard| guard.to_owned()).collect();
        let request = ReloadRequest { accept };
        let report = running
            .ask(|reply| Request::Reload(request, USER, reply))
            .await;
        assert_eq!(report.problems, [""; 0]);
        running.kept().await;
        for _ in 0..rollbacks {
            let report = running.roll_back(Some(1)).await;
            assert_eq!(report.problems, [""; 0]);
        }
        assert_eq!(running.blocked(), ["one.example"]);
        running.kept().await;
        running.end().await;
        // The rollback and the accepted state survive a restart.
        let running = Running::start(folder.path());
        if let Some(newest) = newest {
            running.replace(newest).await;
        }
        let report = running.roll_back(None).await;
        assert_eq!(report.problems, [""; 0], "{accepted:?} {newest:?}");
        let expected = match newest {
            Some(newest) if newest == first => vec!["one.example"],
            Some(_) => vec!["two.example", "three.example"],
            None => vec!["two.example"],
        };
        assert_eq!(running.blocked(), expected);
        running.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_whose_disk_does_not_answer_stops_neither_status_nor_orders() {
    let folder = folder();
    let running = two_generations(folder.path()).await;
    let store = running.store.clone();
    let stalled = store.stall();
    let (reply, rolled_back) = oneshot::channel();
    let request = RollbackRequest {
        generation: Some(1),
    };
    let sent = running
        .requests
        .send(Request::Rollback(request, USER, reply));
    sent.await.expect("it runs");
    let place = running.dir.display().to_string();
    let late = |status: Status| {
        let mut alarms = status.alarms.into_iter();
        alarms.any(|alarm| alarm.starts_with(&place) && alarm.contains("no answer"))
    };
    while !late(running.status().await) {
        tokio::task::yield_now().await;
    }
    let report = running.order().await;
    assert_eq!((report.generation, report.problems), (3, Vec::new()));
    assert_eq!(running.blocked(), ["two.example", "order.example"]);
    drop(stalled);
    drop(store);
    let report = rolled_back.await.expect("it answers");
    assert_eq!((report.generation, report.problems), (4, Vec::new()));
    assert_eq!(running.blocked(), ["one.example", "order.example"]);
    assert!(!late(running.status().await));
    running.end().await;
    let running = Running::start(folder.path());
    assert_eq!(running.blocked(), ["one.example", "order.example"]);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_whose_disk_does_not_answer_leaves_the_lists_held_until_it_does() {
    let folder = folder();
    two_generations(folder.path()).await.end().await;
    let mut control = control(folder.path());
    sample_record(1, 2)
        .write(&folder.path().join("state"))
        .expect("written");
    control.rollback.record = Some(sample_record(1, 2));
    start_rolling(&mut control, None).await;
    assert!(control.rollback.record.is_some() && control.requests.carried_out().is_empty());
    end_rolling(&mut control).await;
    assert!(control.rollback.record.is_none() && control.requests.carried_out().len() == 1);
    assert_eq!(held(&folder.path().join("state")), None);
}

fn control(folder: &Path) -> Control {
    let config = Config::load(&folder.join("tapis.toml")).expect("a configuration");
    let control = Control::start(config, Arc::new(Still), Arc::new(NoHosts));
    control.expect("a first generation")
}

/// Asks for a rollback, or a release, and reads the files that it needs first.
async fn start_rolling(control: &mut Control, generation: Option<u64>) {
    let (reply, _) = oneshot::channel();
    let cause = Cause::Start;
    let request = RollbackRequest { generation };
    control
        .requests
        .push(QueuedRequest::Rollback(request, cause, reply));
    control.next_request();
    while !control.rollback.is_running() {
        let (_, prepared) = control.requests.queue.tasks.next().await;
        control.route(Event::Prepared(prepared));
        control.next_request();
    }
}

async fn end_rolling(control: &mut Control) {
    while control.rollback.is_running() {
        let (_, files) = control.rollback.tasks.next().await;
        control.route(Event::RollbackFiles(files));
    }
}
