use std::fs;
use std::path::{Path, PathBuf};
use std::slice::from_ref;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::Instant;

use crate::config::Config;
use crate::control::Control;
use crate::control::admin::status::{OrdersRequest, ReloadReport};
use crate::control::data_plane::NoHosts;
use crate::control::event::Event;
use crate::control::journal::entry::Cause;
use crate::control::sources::wall_clock::Still;
use crate::control::sources::watch::{OPEN_QUIET, Touched};

fn control(folder: &Path) -> Control {
    fs::create_dir(folder.join("orders")).expect("made");
    let config = Config::parse("[orders]\npath = \"orders\"\n", &folder.join("tapis.toml"));
    let control = Control::start(config.expect("valid"), Arc::new(Still), Arc::new(NoHosts));
    control.expect("a first generation")
}

/// Writes an order's file that will be refused. Such a file counts as a change, too.
fn write(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join("orders").join(name);
    fs::write(&path, "no order").expect("written");
    path
}

fn lift(control: &mut Control, path: &Path, user: u32) -> oneshot::Receiver<ReloadReport> {
    let (reply, answer) = oneshot::channel();
    let request = OrdersRequest {
        verb: "order lift".to_owned(),
        path: path.to_owned(),
    };
    control.read_order(request, user, reply);
    answer
}

fn lifted(user: u32) -> Cause {
    let verb = "order lift".to_owned();
    Cause::Verb { verb, user }
}

/// Reads the requested files, and answers.
async fn read(control: &mut Control) {
    control.start_reading_orders();
    while control.scheduler.tasks.is_running(&()) {
        let event = control.component_event().await;
        control.route(event);
    }
    control.answer_requests();
}

fn touched(path: &Path, quiet: Duration) -> Touched {
    let path = path.to_owned();
    Touched { path, quiet }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_change_of_an_order_has_its_own_cause() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut control = control(folder.path());
    control.publication.take_causes();
    let [a, b, c] = ["a.toml", "b.toml", "c.toml"].map(|name| write(folder.path(), name));
    let first = lift(&mut control, &a, 1000);
    let second = lift(&mut control, &b, 1001);
    control.touch(&[touched(&c, Duration::ZERO)]);
    read(&mut control).await;
    let expected = [lifted(1000), lifted(1001), Cause::File { path: c }];
    let causes = control.publication.take_causes();
    let has = |cause: &Cause| causes.contains(cause);
    assert!(expected.iter().all(has), "{causes:?}");
    assert_eq!(causes.len(), 3);
    for mut answer in [first, second] {
        assert!(answer.try_recv().is_ok(), "answered");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_a_client_names_by_another_path_has_that_client_as_cause() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut control = control(folder.path());
    control.publication.take_causes();
    let alias = folder.path().join("alias");
    std::os::unix::fs::symlink("orders", &alias).expect("linked");
    write(folder.path(), "a.toml");
    let hand = write(folder.path(), "b.toml");
    let mut answer = lift(&mut control, &alias.join("a.toml"), 1000);
    read(&mut control).await;
    let causes = control.publication.take_causes();
    assert_eq!(causes.len(), 2, "{causes:?}");
    assert!(causes.contains(&lifted(1000)));
    assert!(causes.contains(&Cause::File { path: hand }));
    assert!(answer.try_recv().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_while_it_is_read_is_read_again_before_its_writer_is_answered() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut control = control(folder.path());
    let path = write(folder.path(), "a.toml");
    let mut answer = lift(&mut control, &path, 1000);
    control.start_reading_orders();
    while control.scheduler.tasks.is_running(&()) {
        let mut event = control.component_event().await;
        if let Event::OrdersRead(Some(read)) = &mut event {
            read.registry
                .touch(&touched(&path, OPEN_QUIET), Instant::now());
        }
        control.route(event);
    }
    control.answer_requests();
    assert_eq!(answer.try_recv().err(), Some(TryRecvError::Empty));
    assert_eq!(control.scheduler.asked.requested.len(), 1);
    control.scheduler.asked.requested[0].at = Instant::now();
    read(&mut control).await;
    assert!(answer.try_recv().is_ok(), "answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_event_does_not_delay_the_file_of_a_verb() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut control = control(folder.path());
    let [a, b] = ["a.toml", "b.toml"].map(|name| write(folder.path(), name));
    let mut answer = lift(&mut control, &a, 1000);
    assert_eq!(answer.try_recv().err(), Some(TryRecvError::Empty));
    control.touch(&[touched(&a, OPEN_QUIET), touched(&b, Duration::ZERO)]);
    read(&mut control).await;
    let report = answer.try_recv().expect("answered");
    let reported = |path: &PathBuf| {
        let path = path.display().to_string();
        report
            .problems
            .iter()
            .any(|problem| problem.contains(&path))
    };
    assert!(
        from_ref(&a).iter().chain([&b]).all(reported),
        "{:?}",
        report.problems
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verb_is_answered_if_reading_orders_panics() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut control = control(folder.path());
    let path = write(folder.path(), "a.toml");
    let mut answer = lift(&mut control, &path, 1000);
    control.start_reading_orders();
    loop {
        match control.component_event().await {
            Event::OrdersRead(_) => break control.route(Event::OrdersRead(None)),
            event => control.route(event),
        }
    }
    control.answer_requests();
    let problems = answer.try_recv().expect("answered").problems;
    assert!(problems[0].contains("which is a bug"), "{problems:?}");
}
