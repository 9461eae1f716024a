//! Rollbacks and releases that fail, that are interrupted, or during which lists change.

use super::*;
use crate::policy::images::Images;

#[tokio::test(flavor = "multi_thread")]
async fn no_image_is_stored_while_a_written_rollback_is_not_in_force() {
    let folder = folder();
    two_generations(folder.path()).await.end().await;
    let mut control = control(folder.path());
    control.persist_images();
    let is_saved = control.persist.written.1.recv().await.expect("a result");
    control.persist.finish(is_saved);
    start_rolling(&mut control, Some(1)).await;
    // An order's date publishes a generation with the lists still in force.
    control.persist.mark_dirty();
    control.publish();
    control.persist_images();
    assert!(
        !control.persist.is_writing(),
        "it would be mistaken for the held lists"
    );
    // Another rollback waits for this one.
    let (reply, mut other) = oneshot::channel();
    let request = RollbackRequest { generation: None };
    control
        .requests
        .push(QueuedRequest::Rollback(request, Cause::Start, reply));
    control.next_request();
    assert!(!control.requests.queue.tasks.is_running(&()));
    end_rolling(&mut control).await;
    let record = RollbackRecord::read(&folder.path().join("state")).expect("readable");
    assert_eq!(record, control.rollback.record);
    assert!(record.is_some_and(|record| record.first <= control.generation()));
    control.publish();
    control.persist_images();
    assert!(control.persist.is_writing() && other.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_waits_for_no_file_that_a_reload_reads() {
    let folder = folder();
    two_generations(folder.path()).await.end().await;
    let mut control = control(folder.path());
    // The files of a reload can't be read, as the file system does not answer. The reload's caller has its report
    // already.
    control.requests.queue.tasks.hang((), "/net".to_owned());
    let (reply, _) = oneshot::channel();
    let request = RollbackRequest {
        generation: Some(1),
    };
    control
        .requests
        .push(QueuedRequest::Rollback(request, Cause::Start, reply));
    control.next_request();
    assert!(control.rollback.is_running());
    end_rolling(&mut control).await;
    assert_eq!(
        control.rollback.record.map(|record| record.generation),
        Some(1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_that_can_not_be_written_changes_nothing() {
    let folder = folder();
    let running = two_generations(folder.path()).await;
    fs::create_dir(running.dir.join(FILE)).expect("made");
    let report = running.roll_back(Some(1)).await;
    assert_eq!(report.problems.len(), 1, "{report:?}");
    assert!(
        report.problems[0].contains("held: can't be written"),
        "{report:?}"
    );
    assert_eq!(
        (running.blocked(), report.generation),
        (vec!["two.example"], 2)
    );
    // The list is still loaded from its file.
    let report = running.replace("three.example\n").await;
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!(running.blocked(), ["three.example"]);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_to_a_generation_that_is_not_stored_fails() {
    let folder = folder();
    let running = two_generations(folder.path()).await;
    let report = running.roll_back(Some(9)).await;
    assert_eq!(report.problems.len(), 1, "{report:?}");
    assert_eq!(
        (running.blocked(), report.generation),
        (vec!["two.example"], 2)
    );
    assert_eq!(RollbackRecord::read(&running.dir), Ok(None));
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_rollback_replaces_the_first() {
    let folder = folder();
    let running = two_generations(folder.path()).await;
    for (generation, name) in [(1, "one.example"), (2, "two.example")] {
        let report = running.roll_back(Some(generation)).await;
        assert_eq!(report.problems, Vec::<String>::new());
        assert_eq!(running.blocked(), [name]);
        assert_eq!(held(&running.dir), Some(generation));
        running.kept().await;
    }
    running.end().await;
    let running = Running::start(folder.path());
    assert_eq!(running.blocked(), ["two.example"]);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_serves_the_held_lists_whether_their_images_were_stored_or_not() {
    // `first` is the generation that the rollback published. If it is 3, the stored images are older; if it is 2, they
    // are not.
    for first in [3, 2] {
        let folder = folder();
        let running = two_generations(folder.path()).await;
        let dir = running.dir.clone();
        running.end().await;
        sample_record(1, first).write(&dir).expect("written");
        let running = Running::start(folder.path());
        let expected = match first {
            3 => "one.example",
            // Generation 2 counts as the one that the rollback published.
            _ => "two.example",
        };
        assert_eq!(running.blocked(), [expected], "first {first}");
        let report = running.replace("three.example\n").await;
        assert_eq!(report.problems.len(), 1, "{report:?}");
        assert_eq!(running.blocked(), [expected], "it is held");
        assert_eq!(held(&dir), Some(1));
        running.end().await;
    }
}

/// Starts a server whose state directory has a rollback to a generation that is not stored.
async fn restart_with_a_broken_record(folder: &Path) -> Running {
    let dir = folder.join("state");
    sample_record(9, 10).write(&dir).expect("written");
    let running = Running::start(folder);
    assert_eq!(running.blocked(), ["two.example"]);
    let alarms = running.status().await.alarms;
    let reported = "lists were to be held as in generation 9, which can't be read";
    let alarm = alarms.iter().any(|alarm| alarm.starts_with(reported));
    assert!(alarm, "{alarms:?}");
    assert!(dir.join("held.damaged").exists() && held(&dir).is_none());
    running
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_that_can_not_be_restored_is_reported_and_not_tried_again() {
    let folder = folder();
    two_generations(folder.path()).await.end().await;
    restart_with_a_broken_record(folder.path())
        .await
        .end()
        .await;
    let running = Running::start(folder.path());
    assert_eq!(running.blocked(), ["two.example"]);
    assert!(!running.status().await.degraded);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successful_rollback_ends_the_alarm_of_a_failed_one() {
    let folder = folder();
    two_generations(folder.path()).await.end().await;
    let running = restart_with_a_broken_record(folder.path()).await;
    let report = running.roll_back(Some(1)).await;
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!(running.blocked(), ["one.example"]);
    let alarms = running.status().await.alarms;
    let reported = "lists were to be held";
    let stays = alarms.iter().any(|alarm| alarm.starts_with(reported));
    assert!(!stays, "{alarms:?}");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_succeeds_without_the_file_of_the_rollback() {
    let folder = folder();
    let running = two_generations(folder.path()).await;
    running.roll_back(Some(1)).await;
    fs::remove_file(running.dir.join(FILE)).expect("removed");
    let report = running.roll_back(None).await;
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!(running.blocked(), ["two.example"]);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_can_not_be_written_keeps_the_lists_held() {
    let folder = folder();
    let running = two_generations(folder.path()).await;
    running.roll_back(Some(1)).await;
    let file = running.dir.join(FILE);
    fs::remove_file(&file).expect("removed");
    fs::create_dir(&file).expect("made");
    let report = running.roll_back(None).await;
    assert_eq!(report.problems.len(), 1, "{report:?}");
    assert_eq!(running.blocked(), ["one.example"]);
    let alarms = running.status().await.alarms;
    let stays = alarms
        .iter()
        .any(|alarm| alarm.starts_with("lists are held"));
    assert!(stays, "{alarms:?}");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_being_joined_during_a_rollback_is_dropped() {
    let folder = folder();
    two_generations(folder.path()).await.end().await;
    let mut control = control(folder.path());
    fs::write(folder.path().join("ads"), "three.example\n").expect("written");
    let (guard_policy, done) = (
        Arc::clone(&control.guard_policy),
        control.lists.done.0.clone(),
    );
    let ticket = control.requests.tickets.next();
    start_load(&mut control.lists.active[0], &guard_policy, ticket, &done);
    let done = control.lists.done.1.recv().await.expect("it ends");
    let result = control.lists.finish_load(done);
    control.finish_load(result);
    control.start_joining();
    assert!(control.delta.is_joining(), "it is being joined");
    start_rolling(&mut control, Some(1)).await;
    end_rolling(&mut control).await;
    let joined = control.delta.joined.1.recv().await.expect("it ends");
    control.finish_joining(joined);
    control.publish();
    let snapshot = control.reader().load();
    let blocks = |name: &str| {
        let name = Name::from_text(name).expect("a name");
        matches!(snapshot.decide(&name), Decision::Blocked { .. })
    };
    assert!(blocks("one.example") && !blocks("three.example"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_the_rollback_did_not_hold_follows_its_file_after_a_restart() {
    let folder = folder();
    two_generations(folder.path()).await.end().await;
    let others = RollbackRecord {
        lists: vec!["other".to_owned()],
        ..sample_record(1, 2)
    };
    others.write(&folder.path().join("state")).expect("written");
    let running = Running::start(folder.path());
    let report = running.replace("three.example\n").await;
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!(running.blocked(), ["three.example"]);
    running.end().await;
}

/// Adds the list `more` to the configuration, which makes a third generation. Then removes the file of that list.
async fn add_more(running: &Running) {
    let folder = running.dir.parent().expect("it lies in one");
    let path = folder.join("tapis.toml");
    let config = fs::read_to_string(&path).expect("readable");
    let more = "[[list]]\nname = \"more\"\npath = \"more\"\n";
    fs::write(path, config + more).expect("written");
    fs::write(folder.join("more"), "three.example\n").expect("written");
    let request = ReloadRequest::default();
    let report = running
        .ask(|reply| Request::Reload(request, USER, reply))
        .await;
    assert_eq!((report.generation, report.problems.len()), (3, 0));
    running.kept().await;
    fs::remove_file(folder.join("more")).expect("removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_interrupted_by_a_crash_keeps_the_rules_of_lists_that_it_does_not_have() {
    let folder = folder();
    let running = two_generations(folder.path()).await;
    add_more(&running).await;
    let dir = running.dir.clone();
    running.end().await;
    sample_record(1, 4).write(&dir).expect("written");
    for _ in 0..2 {
        let running = Running::start(folder.path());
        assert_eq!(running.blocked(), ["one.example", "three.example"]);
        running.kept().await;
        running.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_changes_during_a_rollback_keeps_its_newest_rules() {
    let folder = folder();
    let running = two_generations(folder.path()).await;
    add_more(&running).await;
    running.end().await;
    fs::write(folder.path().join("more"), "three.example\n").expect("written");
    let mut control = control(folder.path());
    let store = control.persist.store.clone();
    let stalled = store.stall();
    start_rolling(&mut control, Some(1)).await;
    // Meanwhile another version of the list is joined with the others.
    fs::write(folder.path().join("more"), "order.example\n").expect("written");
    let index = control
        .lists
        .active
        .iter()
        .position(|list| list.name() == "more");
    let index = index.expect("it is configured");
    let guard_policy = Arc::clone(&control.guard_policy);
    let list = &mut control.lists.active[index];
    list.start(900);
    let fresh =
        crate::control::sources::lists::load::load(&list.config, &guard_policy, &[], Guards::ALL);
    control
        .delta
        .add(crate::control::sources::lists::reading::ReadyList {
            ticket: 900,
            config: control.lists.active[index].config.clone(),
            rules: fresh.expect("a list"),
        });
    control.start_joining();
    assert!(
        control.delta.is_joining(),
        "a rollback that waits for its disk delays no list"
    );
    let joined = control.delta.joined.1.recv().await.expect("it ends");
    control.finish_joining(joined);
    drop(stalled);
    end_rolling(&mut control).await;
    control.publish();
    let reader = control.reader();
    let snapshot = reader.load();
    let blocked = |name: &str| {
        let name = Name::from_text(name).expect("a name");
        matches!(snapshot.decide(&name), Decision::Blocked { .. })
    };
    assert!(blocked("one.example") && !blocked("two.example"));
    assert!(blocked("order.example") && !blocked("three.example"));
    let record = RollbackRecord::read(&folder.path().join("state")).expect("readable");
    assert_eq!(record, control.rollback.record);
    assert!(record.is_some_and(|record| record.first <= control.generation()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_that_fails_after_lists_changed_leaves_the_disk_as_it_was() {
    for before in [None, Some(sample_record(2, 1))] {
        let folder = folder();
        two_generations(folder.path()).await.end().await;
        let dir = folder.path().join("state");
        if let Some(before) = &before {
            before.write(&dir).expect("written");
        }
        let mut control = control(folder.path());
        assert_eq!(control.rollback.record, before);
        start_rolling(&mut control, Some(1)).await;
        let files = loop {
            match control.component_event().await {
                Event::RollbackFiles(files) => break files,
                event => control.route(event),
            }
        };
        assert_eq!(held(&dir), Some(1), "it is written");
        // Lists change, and the generation can't be read a second time.
        let images = control.publication.images().clone();
        control.publication.set_images(Images {
            delta: None,
            ..images
        });
        fs::remove_file(dir.join("current")).expect("removed");
        control.finish_rollback_files(files);
        end_rolling(&mut control).await;
        let problems = &control
            .requests
            .carried_out()
            .last()
            .expect("it is answered")
            .report
            .problems;
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(RollbackRecord::read(&dir), Ok(before));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_whose_directory_can_not_be_synced_is_not_reported_as_done() {
    let folder = folder();
    let running = two_generations(folder.path()).await;
    let before = running.blocked();
    let broken = faults::broken(&running.dir);
    let report = running.roll_back(Some(1)).await;
    assert_eq!(report.problems.len(), 1, "{report:?}");
    let problem = &report.problems[0];
    assert!(problem.contains("held: can't be written: "), "{problem}");
    assert_eq!(running.blocked(), before);
    assert_eq!(held(&running.dir), None);
    drop(broken);
    let report = running.roll_back(Some(1)).await;
    assert_eq!(report.problems, [""; 0]);
    let broken = faults::broken(&running.dir);
    let report = running.roll_back(None).await;
    assert_eq!(report.problems.len(), 1, "{report:?}");
    assert_eq!(held(&running.dir), Some(1));
    drop(broken);
    running.end().await;
}
