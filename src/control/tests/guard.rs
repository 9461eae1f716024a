use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::control::Control;
use crate::control::admin::requests::Request;
use crate::control::admin::status::{ReloadReport, ReloadRequest};
use crate::control::data_plane::NoHosts;
use crate::control::gauges::Gauges;
use crate::control::sources::wall_clock::Still;

/// The report of a reload of the built-in configuration. If `renamed`, the server's own name has changed before.
async fn reload(renamed: bool, accept: Vec<String>) -> ReloadReport {
    let config = Config::built_in();
    let control =
        tokio::task::block_in_place(|| Control::start(config, Arc::new(Still), Arc::new(NoHosts)));
    let mut control = control.expect("a first generation");
    if renamed {
        control.configuration.current.server.id = Some("r1.resolver.example".to_owned());
    }
    let (requests, queued) = mpsc::channel(1);
    let (_hang_up, hangups) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let probe = Arc::new(Gauges::default);
    let task = tokio::spawn(control.run(queued, hangups, probe, stop.clone()));
    let (reply, answer) = oneshot::channel();
    let request = ReloadRequest { accept };
    let sent = requests.send(Request::Reload(request, 1000, reply)).await;
    sent.expect("it runs");
    // Only a failing test waits so long.
    let answer = tokio::time::timeout(Duration::from_secs(60), answer).await;
    stop.cancel();
    task.await.expect("it ended well");
    answer.expect("it answers").expect("it answers")
}

#[tokio::test(flavor = "multi_thread")]
async fn built_in_lists_are_read_again_when_this_server_has_another_name() {
    let report = reload(true, Vec::new()).await;
    let all: Vec<_> = Config::built_in().lists;
    assert_eq!(report.loaded.len(), all.len(), "{report:?}");
    assert_eq!(report.problems, [""; 0]);
    assert_eq!(reload(false, Vec::new()).await.loaded, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_accepts_a_built_in_list_is_answered() {
    let list = Config::built_in().lists[0].source.name.clone();
    for renamed in [false, true] {
        let report = reload(renamed, vec![format!("{list}:bad")]).await;
        assert!(report.loaded.contains(&list), "{report:?}");
    }
}
