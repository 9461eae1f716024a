use std::sync::Arc;

use tokio::time::Instant;

use crate::config::Config;
use crate::control::Control;
use crate::control::admin::status::ListHealth;
use crate::control::gauges::Gauges;
use crate::control::guard::release::Guards;
use crate::control::sources::files::Files;
use crate::control::sources::lists::load::load;
use crate::control::sources::pending::PendingConfig;
use crate::control::sources::wall_clock::Still;
use crate::control::steps::status::status;

const FEED: &str = "[[feed]]\nzone = \"rpz.example\"\nprimaries = [\"127.0.0.1\"]\n";

fn start(text: &str) -> Result<Control, String> {
    let config = Config::parse(text, "/tapis.toml".as_ref()).expect("valid");
    Control::start(config, Arc::new(Still)).map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_without_a_transfer_is_a_missing_list_and_no_file_is_read_for_it() {
    let mut control = start(FEED).expect("a first generation");
    let found = status(&control, Gauges::default());
    let [list] = &found.lists[..] else {
        panic!("one list");
    };
    assert_eq!(list.state, ListHealth::Missing);
    assert_eq!(
        list.alarm.as_deref(),
        Some("zone:rpz.example: no transfer yet; its rules come into force after the first one")
    );
    assert!(control.lists.files().is_empty(), "nothing to watch");
    let list = &mut control.lists.active[0];
    list.want_sweep();
    assert!(!list.wants_look());
    list.request(1, Guards::NONE, Instant::now());
    let due = list.due().expect("it is requested");
    list.look_if_due(due);
    assert!(!list.wants_look() && list.take_settled());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_of_a_feed_stay_if_its_settings_change_but_not_if_its_zone_does() {
    let control = start(FEED).expect("a first generation");
    let changed = |from: &str, to: &str| {
        let config = Config::parse(&FEED.replace(from, to), "/tapis.toml".as_ref());
        let config = config.expect("valid");
        let guard_policy = Arc::clone(&control.guard_policy);
        let active = &control.lists.active;
        let pending = PendingConfig::new(
            config,
            (guard_policy, control.configuration.local.clone()),
            None,
            active,
            &Files::new(),
        );
        pending.lists.len()
    };
    assert_eq!(changed("[\"127.0.0.1\"]", "[\"127.0.0.2\"]"), 0);
    assert_eq!(changed("primaries", "policy = \"drop\"\nprimaries"), 0);
    assert_eq!(
        changed("zone = ", "name = \"rpz.example\"\nzone = \"x\" #"),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transferred_state_stays_until_the_transfer_that_checks_it_against_other_protected_names()
{
    let mut control = start(FEED).expect("a first generation");
    let guard_policy = Arc::clone(&control.guard_policy);
    let built_in = Config::built_in();
    let read = load(&built_in.lists[0], &guard_policy, &[], Guards::NONE);
    let mut loaded = read.unwrap_or_else(|refusal| panic!("{refusal}")).loaded;
    loaded.protected_names = "others".to_owned();
    let list = &mut control.lists.active[0];
    list.restore(Some(loaded));
    list.refused = None;
    list.request(7, Guards::NONE, Instant::now());
    let due = list.due().expect("it is requested");
    list.look_if_due(due);
    let loads = control
        .lists
        .start_loads(&guard_policy, &mut control.requests.tickets);
    assert_eq!(loads.unneeded, [7], "nobody waits for a primary");
    assert_eq!(loads.transfers, [], "the feed makes it");
    let list = &mut control.lists.active[0];
    assert!(list.loading.is_none() && list.loaded.is_some());
    list.follow(&guard_policy, Instant::now());
    assert_eq!(list.due(), None, "there is no file");
    let digest = guard_policy.digest(&list.config);
    assert_eq!(list.unchecked(&guard_policy), Some(digest));
    list.set_frozen(true);
    assert_eq!(list.unchecked(&guard_policy), None, "a rollback holds it");
}
