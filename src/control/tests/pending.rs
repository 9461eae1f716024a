use std::fs;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::config::Config;
use crate::control::Control;
use crate::control::admin::requests::OpenRequest;
use crate::control::data_plane::{Change, NoHosts};
use crate::control::journal::entry::Cause;
use crate::control::sources::files::Files;
use crate::control::sources::orders::registry::OrderRegistry;
use crate::control::sources::pending::PendingConfig;
use crate::control::sources::wall_clock::Still;

/// A control plane that has read all lists of a new configuration, for which a client waits.
fn with_pending(
    folder: &Path,
) -> (
    Control,
    oneshot::Receiver<crate::control::admin::status::ReloadReport>,
) {
    fs::create_dir_all(folder.join("orders")).expect("made");
    let config = |more: &str| {
        let text = format!("[orders]\npath = \"orders\"\n{more}");
        Config::parse(&text, &folder.join("tapis.toml")).expect("valid")
    };
    let control = Control::start(config(""), Arc::new(Still), Arc::new(NoHosts));
    let mut control = control.expect("a first generation");
    let guard_policy = Arc::clone(&control.guard_policy);
    let new = config("[server]\nid = \"other.example\"\n");
    let pending = PendingConfig::new(
        new,
        (guard_policy, control.configuration.local.clone()),
        None,
        &control.lists.active,
        &Files::new(),
    );
    control.lists.pending = Some(pending);
    let (reply, answer) = oneshot::channel();
    let mut waiting = OpenRequest::new(Cause::Start, Some(reply));
    waiting.awaits_pending = true;
    control.requests.add(waiting);
    (control, answer)
}

/// The steps of a turn of the control loop that concern a new configuration.
fn turn(control: &mut Control) {
    control.finish_pending();
    control.start_reading_new_orders();
    control.start_joining();
    control.answer_requests();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_configuration_whose_orders_are_never_read_is_rejected_and_blocks_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut control, mut answer) = with_pending(folder.path());
    let hung = vec![folder.path().join("orders")];
    control.configuration.orders.hang(hung, "orders".to_owned());
    turn(&mut control);
    assert!(
        !control.delta.is_joining() && !control.delta.has_configuration(),
        "other requests are handled"
    );
    let pending = control.lists.pending.as_mut().expect("it waits");
    let since = Instant::now().checked_sub(Duration::from_secs(31));
    pending.backdate_orders(since.expect("the machine has run for longer"));
    turn(&mut control);
    let report = answer.try_recv().expect("it is answered");
    let [problem] = &report.problems[..] else {
        panic!("{:?}", report.problems);
    };
    assert!(problem.contains("orders: not read in 31 s"), "{problem}");
    assert!(control.configuration.current.server.id.is_none());
}

/// A change of the data plane, and for each of its two parts the generation that was in force when it was applied.
fn change(control: &Control) -> (Change, mpsc::Receiver<(&'static str, u64)>) {
    let (sender, applied) = mpsc::channel();
    let note = |part: &'static str| {
        let (sender, reader) = (sender.clone(), control.reader());
        move || {
            sender
                .send((part, reader.load().generation))
                .expect("the test runs");
        }
    };
    let change = Change {
        restart: Vec::new(),
        precede: Box::new(note("precede")),
        apply: Box::new(note("apply")),
    };
    (change, applied)
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_for_forwarded_zones_are_routed_before_the_policy_of_a_configuration_is_in_force() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut control, _answer) = with_pending(folder.path());
    let before = control.generation();
    let (change, applied) = change(&control);
    control.publication.plane.take(change);
    control.publish();
    control.publication.plane.follow();
    let applied: Vec<_> = applied.try_iter().collect();
    assert_eq!(applied, [("precede", before), ("apply", before + 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_changed_while_those_of_a_new_configuration_were_read_are_read_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut control, _answer) = with_pending(folder.path());
    turn(&mut control);
    let mut newer = OrderRegistry::clone(&control.scheduler.registry);
    let order = folder.path().join("orders/a.toml");
    fs::write(&order, "no order").expect("written");
    assert_eq!(newer.refresh(), [order]);
    control.scheduler.registry = Arc::new(newer);
    while !control.delta.is_joining() {
        let event = control.component_event().await;
        control.route(event);
        turn(&mut control);
    }
    let joined = control.delta.joined.1.recv().await.expect("it ends");
    control.finish_joining(joined);
    assert_eq!(
        control.configuration.current.server.id.as_deref(),
        Some("other.example")
    );
    assert_eq!(
        control.scheduler.registry.problems().len(),
        1,
        "of the newer file"
    );
}
