use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use crate::config::Config;
use crate::control::Control;
use crate::control::admin::preparing::QueuedRequest;
use crate::control::admin::status::ReloadRequest;
use crate::control::data_plane::NoHosts;
use crate::control::journal::entry::Cause;
use crate::control::sources::wall_clock::Still;

#[tokio::test(flavor = "multi_thread")]
async fn a_request_prepared_for_an_outdated_configuration_is_prepared_again() {
    let control = Control::start(Config::built_in(), Arc::new(Still), Arc::new(NoHosts));
    let mut control = control.expect("a first generation");
    let (reply, mut answer) = oneshot::channel();
    let cause = Cause::Start;
    control.requests.push(QueuedRequest::Reload(
        ReloadRequest::default(),
        cause,
        Some(reply),
    ));
    control.next_request();
    while !control.requests.queue.is_prepared() {
        let event = control.component_event().await;
        control.route(event);
    }
    control.configuration.current.server.id = Some("another.example".to_owned());
    control.next_request();
    assert_eq!(answer.try_recv().err(), Some(TryRecvError::Empty));
    assert!(
        control.requests.queue.is_under_way(),
        "it is prepared again"
    );
    while !control.requests.queue.is_prepared() {
        let event = control.component_event().await;
        control.route(event);
    }
    control.next_request();
    assert!(!control.requests.queue.is_under_way(), "it is carried out");
}
