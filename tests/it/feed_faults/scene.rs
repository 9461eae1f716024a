//! A running server with a feed, and a primary that a test makes misbehave.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use tapis::control::sources::feeds::fault::Fault;
use tapis::wire::rtype;

use crate::feeds::{Versions, blocks, config, feed, refresh};
use crate::support::client::until;
use crate::support::clock::Clock;
use crate::support::primary::{Asked, Primary, Script, Step, send};
use crate::support::server::{Server, folder, tapis, text};
use crate::support::signer::SECRET;
use crate::support::tls::Security;
use crate::support::upstream::Upstream;

/// A server that has the first version of a zone in force, and its primary.
pub(super) struct Scene {
    pub(super) server: Server,
    pub(super) clock: Clock,
    pub(super) primary: Primary,
    pub(super) versions: Versions,
    usual: Arc<Script>,
    pub(super) _upstream: Upstream,
}

impl Scene {
    /// The feed has these keys besides the usual ones.
    pub(super) fn start(keys: &str) -> Self {
        let versions = versions();
        let newest = versions.clone();
        let usual = move |asked: &Asked| send(newest.answer(asked));
        Self::start_with(Security::Plain, versions, usual, |upstream, primary| {
            config(upstream, primary, keys)
        })
    }

    /// With a primary that speaks this, and that answers by this script if nothing is wrong.
    pub(super) fn start_with(
        security: Security,
        versions: Versions,
        usual: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static,
        config: impl Fn(&Upstream, &Primary) -> String,
    ) -> Self {
        let usual: Arc<Script> = Arc::new(usual);
        let played = Arc::clone(&usual);
        let primary = Primary::secured(security, move |asked| played(asked));
        let upstream = Upstream::plain();
        let folder = folder(&config(&upstream, &primary), &[("feed.key", SECRET)]);
        let key = folder.path().join("feed.key");
        fs::set_permissions(key, Permissions::from_mode(0o600)).expect("set");
        let mut command = serve(folder.path());
        let clock = Clock::replace(&mut command, folder.path());
        let server = Server::run(command, folder);
        let scene = Self {
            server,
            clock,
            primary,
            versions,
            usual,
            _upstream: upstream,
        };
        blocks(
            &scene.server,
            1,
            &["kept.example", "gone.example"],
            &["new.example"],
        );
        scene
    }

    /// Ends the server and starts it again, with the same clock.
    pub(super) fn restart(&mut self) {
        self.server.signal("TERM");
        self.server.wait();
        let other = tempfile::tempdir().expect("a folder");
        let folder = std::mem::replace(&mut self.server.folder, other);
        let mut command = serve(folder.path());
        self.clock.set(&mut command, folder.path());
        self.server = Server::run(command, folder);
    }

    /// The primary gets a second version, but answers by this script. Asserts that the first version stays in force, and
    /// that this fault is reported.
    pub(super) fn fails(
        &self,
        fault: Fault,
        detail: &str,
        script: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static,
    ) {
        self.next_version();
        self.primary.play(script);
        refresh(&self.server);
        self.reports(fault, detail);
    }

    /// The primary gets a second version.
    pub(super) fn next_version(&self) {
        self.versions.change(&["gone.example"], &["new.example"]);
    }

    /// Waits for this fault. Asserts that the first version is in force, and that all outputs name the fault.
    pub(super) fn reports(&self, fault: Fault, detail: &str) {
        let server = &self.server;
        until(fault.name(), || {
            let feed = feed(server);
            feed["primaries"][0]["fault"] == fault.name() && feed["transfer"].is_null()
        });
        self.keeps_the_first_version();
        let status = server.status();
        let feed = &status["feeds"][0];
        let reported = feed["primaries"][0]["text"].as_str().expect("a text");
        for part in [fault.meaning(), detail, fault.remedy()] {
            assert!(reported.contains(part), "{part:?} is not in: {reported}");
        }
        assert_eq!(feed["primaries"][0]["failures"], 1);
        assert_eq!(count(feed, fault), 1, "{feed}");
        assert_eq!(status["degraded"], true);
        let alarm = format!("feed: {reported}");
        let alarms = status["alarms"].as_array().expect("alarms");
        assert!(alarms.iter().any(|found| *found == *alarm), "{alarms:?}");
        let printed = server.verb(&["status"]);
        assert_eq!(printed.status.code(), Some(1));
        assert!(text(&printed).contains(&format!("ALARM {alarm}")));
        let shown = text(&server.verb(&["feed", "show", "feed"]));
        let count = format!("count      {fault} 1: {}", fault.meaning());
        for part in [
            "in force   serial 1\n",
            &format!("state      {fault}\n"),
            reported,
            &count,
        ] {
            assert!(shown.contains(part), "{part:?} is not in:\n{shown}");
        }
        let listed = text(&server.verb(&["feed", "list"]));
        assert_eq!(listed, format!("feed  rpz.test  serial 1  {fault}\n"));
        let log = server.logged(&format!("fault=\"{fault}\""));
        assert!(log.contains(fault.remedy()), "{log}");
    }

    pub(super) fn keeps_the_first_version(&self) {
        blocks(
            &self.server,
            1,
            &["kept.example", "gone.example"],
            &["new.example"],
        );
    }

    /// Waits for the second version.
    pub(super) fn has_the_second_version(&self) {
        blocks(
            &self.server,
            2,
            &["kept.example", "new.example"],
            &["gone.example"],
        );
    }

    /// How often the primary was asked for the whole zone.
    pub(super) fn whole_transfers(&self) -> usize {
        let types = self.primary.types().into_iter();
        types.filter(|rtype| *rtype == rtype::AXFR).count()
    }

    /// The primary behaves again. Asserts that its second version comes into force, and that the fault is over, but still
    /// counted.
    pub(super) fn recovers(&self, fault: Fault) {
        let usual = Arc::clone(&self.usual);
        self.primary.play(move |asked| usual(asked));
        refresh(&self.server);
        self.has_the_second_version();
        until("the fault is over", || {
            feed(&self.server)["primaries"][0]["fault"].is_null()
        });
        let feed = feed(&self.server);
        assert!(feed["primaries"][0]["text"].is_null(), "{feed}");
        assert_eq!(feed["primaries"][0]["failures"], 0);
        assert_eq!(feed["is_expired"], false);
        assert!(count(&feed, fault) > 0, "{feed}");
        self.server.assert_well();
    }
}

fn serve(folder: &Path) -> Command {
    let mut command = tapis();
    command
        .args(["serve", "--config", "tapis.toml"])
        .current_dir(folder);
    command
}

/// The first version that all scenes have in force.
pub(super) fn versions() -> Versions {
    Versions::new(1, &["kept.example", "gone.example"])
}

/// How often a fault occurred.
pub(super) fn count(feed: &serde_json::Value, fault: Fault) -> u64 {
    let faults = feed["faults"].as_array().expect("an array").iter();
    let mut counts = faults.filter(|found| found[0] == fault.name());
    counts
        .next()
        .map_or(0, |found| found[1].as_u64().expect("a number"))
}
