//! A server with a list by URL, the web server that has it, and the upstream that knows the names of web servers.

use std::fs;
use std::path::PathBuf;

use hickory_proto::op::ResponseCode;
use serde_json::Value;

use crate::support::client::{is_blocked, until};
use crate::support::server::{Server, preamble, text};
use crate::support::tls::{Security, web_authority};
use crate::support::upstream::{Upstream, address_of, answer, name};
use crate::support::web::{Web, page};

/// The list that the web server has at first.
pub(crate) const FIRST: &str = "first.example\nkept.example\n";
/// A newer version of it.
pub(crate) const SECOND: &str = "kept.example\nsecond.example\n";

pub(crate) struct Scene {
    pub(crate) server: Server,
    pub(crate) web: Web,
    pub(crate) upstream: Upstream,
}

/// An upstream that knows the hosts of web servers on this machine; all other names are at 192.0.2.1.
pub(crate) fn upstream() -> Upstream {
    Upstream::start(|asked| {
        Some(match &*name(asked) {
            "lists.example" | "mirror.example" | "wrong.example" => {
                address_of(asked, [127, 0, 0, 1])
            }
            "missing.example" => answer(asked, ResponseCode::NXDomain),
            _ => address_of(asked, [192, 0, 2, 1]),
        })
    })
}

/// A configuration with these lists. Web servers on this machine are permitted.
pub(crate) fn config(upstream: &Upstream, downloads: &str, lists: &str) -> String {
    let authority = web_authority();
    format!(
        "{}[state]\ndir = \"state\"\n[download]\nauthorities = {authority:?}\n{downloads}\n{lists}",
        preamble(upstream.address)
    )
}

/// A section `[[list]]`.
pub(crate) fn list(name: &str, url: &str, keys: &str) -> String {
    format!("[[list]]\nname = \"{name}\"\nurl = \"{url}\"\n{keys}\n")
}

/// The setting that permits the test's web server.
pub(crate) const PERMIT: &str = "allow-private = [\"lists.example\", \"mirror.example\"]\n";

/// Removes the stored images.
pub(crate) fn remove_images(server: &Server) {
    for entry in fs::read_dir(server.path("state")).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            fs::remove_file(path).expect("removed");
        }
    }
}

/// The files of copies with this end of their names.
pub(crate) fn copies(server: &Server, end: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(server.path("state/downloads")).expect("a directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let is_it = |path: &PathBuf| path.extension().is_some_and(|it| it == end);
    paths.filter(is_it).collect()
}

impl Scene {
    /// The list `ads` is in force with its first version. It has these keys, and `[download]` those.
    pub(crate) fn start(keys: &str, downloads: &str) -> Self {
        let scene = Self::begin(Security::web(), page(FIRST), keys, downloads);
        scene.has(FIRST);
        scene
    }

    /// The same with any first answer.
    pub(crate) fn begin(security: Security, first: Vec<u8>, keys: &str, downloads: &str) -> Self {
        let (web, upstream) = (Web::start(security, |_, _| {}), upstream());
        web.serve(first);
        let list = list("ads", &web.url("/ads.txt"), keys);
        let downloads = format!("{PERMIT}{downloads}");
        let server = Server::start(&config(&upstream, &downloads, &list), &[]);
        Self {
            server,
            web,
            upstream,
        }
    }

    /// Stops the server, changes its files, and starts it again without network.
    pub(crate) fn restart_alone(self, change: impl FnOnce(&Server)) -> Server {
        let Self {
            mut server,
            web,
            upstream,
        } = self;
        server.signal("TERM");
        server.wait();
        web.play(|_, _| {});
        drop(upstream);
        change(&server);
        server.again()
    }

    /// `tapis list refresh`; returns the exit code and the output.
    pub(crate) fn refresh(&self) -> (Option<i32>, String) {
        let output = self.server.verb(&["list", "refresh"]);
        (output.status.code(), text(&output))
    }

    /// The list in `status`.
    pub(crate) fn list(&self) -> Value {
        self.server.status()["lists"][0].clone()
    }

    /// Waits until the list has exactly the names of this version.
    pub(crate) fn has(&self, version: &str) {
        let all = [FIRST, SECOND].concat();
        until(&format!("the list {version:?}"), || {
            all.lines().all(|name| {
                let is_in = version.lines().any(|line| line == name);
                is_blocked(self.server.address, name) == is_in
            })
        });
    }

    /// Refreshes. Asserts that this fault is reported everywhere, and that the first version stays in force.
    pub(crate) fn fails(&self, fault: &str, detail: &str) {
        let (code, printed) = self.refresh();
        assert_eq!(code, Some(1), "{fault}: {printed}");
        let start = format!(
            "ads: {}: {fault}: ",
            self.list()["download"]["mirrors"][0]["url"]
                .as_str()
                .expect("a URL")
        );
        assert!(printed.starts_with(&start), "{fault}: {printed}");
        assert!(printed.contains(detail), "{detail:?} is not in: {printed}");
        assert!(printed.contains("; "), "no remedy: {printed}");
        let status = self.server.status();
        let alarms = status["alarms"].as_array().expect("alarms");
        assert!(
            alarms
                .iter()
                .any(|alarm| printed.contains(alarm.as_str().expect("text"))),
            "{alarms:?}"
        );
        let counts = status["lists"][0]["download"]["faults"].to_string();
        assert!(
            counts.contains(&format!("[\"{fault}\",")),
            "{fault}: {counts}"
        );
        assert!(
            self.server
                .logged(&format!("fault=\"{fault}\""))
                .contains("ads")
        );
        self.has(FIRST);
    }
}
