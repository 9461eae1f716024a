//! A kind of source is added by registering it: its lists come into and go out of force like those of the
//! configuration.

use std::fs;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tapis::config::{Config, List};
use tapis::control::Control;
use tapis::control::admin::requests::Request;
use tapis::control::admin::status::{ReloadReport, ReloadRequest, Status};
use tapis::control::data_plane::NoHosts;
use tapis::control::gauges::Gauges;
use tapis::control::sources::kinds::{SourceKind, Update};
use tapis::control::sources::wall_clock::{Wait, WallClock};
use tapis::policy::current::Reader;
use tapis::policy::decide::Decision;
use tapis::policy::rule::Action;
use tapis::wire::name::Name;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A kind of source that fetches nothing: the test sends each update as a message.
struct Messages(mpsc::Receiver<Update>);

impl SourceKind for Messages {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Update> + Send + '_>> {
        Box::pin(async {
            match self.0.recv().await {
                Some(update) => update,
                None => std::future::pending().await,
            }
        })
    }
}

/// A clock that never reaches a date.
#[derive(Debug)]
struct NoDates;

impl WallClock for NoDates {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn until(&self, _: Timestamp) -> Wait<'_> {
        Box::pin(std::future::pending())
    }
}

/// A control plane with one more kind of source, without a data plane.
struct Running {
    updates: mpsc::Sender<Update>,
    requests: mpsc::Sender<Request>,
    reader: Reader,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start(config: &Path) -> Self {
        let config = Config::load(config).expect("a valid configuration");
        let control = tokio::task::block_in_place(|| {
            Control::start(config, Arc::new(NoDates), Arc::new(NoHosts))
        });
        let mut control = control.expect("a first generation");
        let (updates, received) = mpsc::channel(1);
        control.register(Box::new(Messages(received)));
        let reader = control.reader();
        let (requests, received) = mpsc::channel(1);
        let (_, hangups) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let plane = Arc::new(Gauges::default);
        let task = tokio::spawn(control.run(received, hangups, plane, stop.clone()));
        Self {
            updates,
            requests,
            reader,
            stop,
            task,
        }
    }

    async fn send(&self, update: Update) {
        self.updates.send(update).await.expect("it runs");
    }

    async fn reload(&self) -> ReloadReport {
        let (reply, report) = oneshot::channel();
        let request = Request::Reload(ReloadRequest::default(), 1000, reply);
        self.requests.send(request).await.expect("it runs");
        report.await.expect("an answer")
    }

    async fn status(&self) -> Status {
        let (reply, status) = oneshot::channel();
        let request = Request::Status(reply);
        self.requests.send(request).await.expect("it runs");
        status.await.expect("an answer")
    }

    fn blocks(&self, name: &str) -> bool {
        let name = Name::from_text(name).expect("a name");
        matches!(self.reader.load().decide(&name), Decision::Blocked { .. })
    }

    /// Waits until a name is blocked, or no longer is.
    async fn until(&self, name: &str, is_blocked: bool) {
        let reached = async {
            while self.blocks(name) != is_blocked {
                // Answers come from the control loop, so this does not spin.
                self.status().await;
            }
        };
        // Only a failing test waits so long.
        let reached = tokio::time::timeout(Duration::from_secs(60), reached).await;
        reached.unwrap_or_else(|_| panic!("{name}: is it blocked? Expected {is_blocked}"));
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.expect("it ends well");
    }
}

/// A list that is described like one of a configuration.
fn list(folder: &Path, name: &str) -> Update {
    list_with(folder, name, &format!("path = \"{name}.fetched\""))
}

fn list_with(folder: &Path, name: &str, keys: &str) -> Update {
    let text = format!("[[list]]\nname = \"{name}\"\n{keys}\n");
    let config = Config::parse(&text, &folder.join("fetched.toml")).expect("valid");
    let list: List = config.lists[0].clone();
    Update::Changed(Box::new(list))
}

/// Puts a file in its place at once, as a fetch does.
fn fetch(folder: &Path, name: &str, text: &str) {
    let temporary = folder.join("temporary");
    fs::write(&temporary, text).expect("written");
    let path = folder.join(format!("{name}.fetched"));
    fs::rename(temporary, path).expect("renamed");
}

fn configured(folder: &Path) -> std::path::PathBuf {
    let file = folder.join("tapis.toml");
    fs::write(
        &file,
        "[[list]]\nname = \"own\"\npath = \"own\"\n[state]\ndir = \"state\"\n",
    )
    .expect("written");
    fs::write(folder.join("own"), "own.example\n").expect("written");
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_of_source_is_registered_and_its_lists_are_in_force_until_it_removes_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let running = Running::start(&configured(folder));
    assert!(running.blocks("own.example") && !running.blocks("one.example"));

    fetch(folder, "feed", "one.example\n");
    running.send(list(folder, "feed")).await;
    running.until("one.example", true).await;
    let status = running.status().await;
    let names: Vec<_> = status.lists.iter().map(|list| &*list.name).collect();
    assert_eq!(names, ["own", "feed"]);

    fetch(folder, "feed", "two.example\n");
    running.send(list(folder, "feed")).await;
    running.until("two.example", true).await;
    assert!(!running.blocks("one.example"));

    running.send(Update::Removed("feed".to_owned())).await;
    running.until("two.example", false).await;
    assert!(running.blocks("own.example"));
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lists_of_a_kind_pass_the_guards_and_outlive_a_reload() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let file = configured(folder);
    let running = Running::start(&file);
    fetch(folder, "feed", "one.example\n.com\n");
    running.send(list(folder, "feed")).await;
    running.until("one.example", true).await;
    assert!(
        !running.blocks("com"),
        "no list may block a top-level domain"
    );

    fs::write(folder.join("more"), "more.example\n").expect("written");
    let mut text = fs::read_to_string(&file).expect("readable");
    text.push_str("[[list]]\nname = \"more\"\npath = \"more\"\n");
    fs::write(&file, text).expect("written");
    let report = running.reload().await;
    assert_eq!(report.problems, [""; 0]);
    assert!(running.blocks("more.example") && running.blocks("one.example"));
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_can_not_replace_a_list_of_the_configuration() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let running = Running::start(&configured(folder));
    fetch(folder, "own", "other.example\n");
    running.send(list(folder, "own")).await;
    running.send(Update::Removed("own".to_owned())).await;
    fetch(folder, "feed", "one.example\n");
    running.send(list(folder, "feed")).await;
    running.until("one.example", true).await;
    assert!(running.blocks("own.example") && !running.blocks("other.example"));
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_a_reload_configures_is_no_longer_the_kinds() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let file = configured(folder);
    let running = Running::start(&file);
    fetch(folder, "feed", "one.example\n");
    running.send(list(folder, "feed")).await;
    running.until("one.example", true).await;

    fs::write(folder.join("feed"), "two.example\n").expect("written");
    let mut text = fs::read_to_string(&file).expect("readable");
    text.push_str("[[list]]\nname = \"feed\"\npath = \"feed\"\n");
    fs::write(&file, text).expect("written");
    assert_eq!(running.reload().await.problems, [""; 0]);
    assert!(running.blocks("two.example") && !running.blocks("one.example"));

    running.send(list(folder, "feed")).await;
    running.send(Update::Removed("feed".to_owned())).await;
    fetch(folder, "other", "three.example\n");
    running.send(list(folder, "other")).await;
    running.until("three.example", true).await;
    assert!(running.blocks("two.example") && !running.blocks("one.example"));
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_action_of_a_list_is_in_force_at_once_and_another_file_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let running = Running::start(&configured(folder));
    fetch(folder, "feed", "one.example\n");
    running.send(list(folder, "feed")).await;
    running.until("one.example", true).await;
    let before = running.reader.load().generation;

    let refused = "path = \"feed.fetched\"\naction = \"refused\"";
    running.send(list_with(folder, "feed", refused)).await;
    let is_refused = || {
        let name = Name::from_text("one.example").expect("a name");
        let snapshot = running.reader.load();
        match snapshot.decide(&name) {
            Decision::Blocked { by, .. } => by.source.blocking.action == Action::Refused,
            _ => false,
        }
    };
    for _ in 0..1000 {
        if is_refused() {
            break;
        }
        running.status().await;
    }
    assert!(is_refused() && running.reader.load().generation > before);

    fs::write(folder.join("elsewhere"), "two.example\n").expect("written");
    running
        .send(list_with(folder, "feed", "path = \"elsewhere\""))
        .await;
    fetch(folder, "other", "three.example\n");
    running.send(list(folder, "other")).await;
    running.until("three.example", true).await;
    assert!(running.blocks("one.example") && !running.blocks("two.example"));
    running.end().await;
}
