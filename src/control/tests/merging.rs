//! Lists that move from the delta into the base. Their plans are compiled in this process.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tempfile::TempDir;

use crate::config::Config;
use crate::control::Control;
use crate::control::compile::job::{Base, Compiled, Job};
use crate::control::compile::queue::{CompileInputs, DeltaLimits};
use crate::control::compile::run::compile;
use crate::control::data_plane::NoHosts;
use crate::control::guard::release::Guards;
use crate::control::list_file::parse::Tally;
use crate::control::persist::store::read_image;
use crate::control::sources::lists::load::{Loaded, LoadedRules};
use crate::control::sources::lists::reading::ReadyList;
use crate::control::sources::wall_clock::Still;
use crate::policy::amendment::Amendment;
use crate::policy::builder::Builder;
use crate::policy::decide::Decision;
use crate::policy::effect::Effect;
use crate::policy::image::Image;
use crate::policy::image::path::Path;
use crate::policy::image::provenance::ImageSource;
use crate::policy::rule::Scope;
use crate::wire::name::Name;

const CONFIG: &str = "[[list]]\nname = \"ads\"\npath = \"ads\"\n\
                      [[feed]]\nname = \"feed\"\nzone = \"rpz.test\"\nprimaries = [\"127.0.0.1\"]\n";

/// The rules of the list `ads`.
const ADS: usize = 5;

/// A control plane whose base has the ten names of a feed, and the names of the list `ads`.
struct Scene {
    control: Control,
    /// The number of loads.
    loads: usize,
    _folder: TempDir,
}

impl Scene {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("ads"), "ads.test\n").expect("written");
        let config = Config::parse(CONFIG, &folder.path().join("tapis.toml")).expect("valid");
        let control = Control::start(config, Arc::new(Still), Arc::new(NoHosts));
        let mut scene = Self {
            control: control.expect("a first generation"),
            loads: 0,
            _folder: folder,
        };
        scene.control.compiler.limits = DeltaLimits {
            rules: 10,
            amended: 1000,
        };
        let names: Vec<_> = (0..10).map(|name| format!("old-{name}.test")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let whole = scene.whole("feed", &names);
        scene.join([whole]).await;
        let job = scene.job();
        assert_eq!(moved(&job).len(), 2);
        scene.compile(job);
        scene.join([]).await;
        assert_eq!(scene.in_delta(), [""; 0]);
        scene.control.compiler.limits = DeltaLimits {
            rules: 100,
            amended: 4,
        };
        scene
    }

    /// A load of all rules of a list.
    fn whole(&mut self, list: &str, names: &[&str]) -> ReadyList {
        let mut builder = Builder::new();
        let source = ImageSource {
            amendable: list == "feed",
            ..ImageSource::named(list)
        };
        let source = builder.source(source).expect("room");
        for name in names {
            let name = Name::from_text(name).expect("a name");
            for scope in [Scope::Exact, Scope::Below] {
                builder.insert(&name, source, scope).expect("room");
            }
        }
        let image = builder.finish().expect("room");
        let rules = image.facts().given();
        self.ready(list, image, rules)
    }

    /// A load of changes of the feed.
    fn changes(&mut self, deleted: &[&str], added: &[&str]) -> ReadyList {
        let mut amendment = Amendment::default();
        let pair = || [Scope::Exact, Scope::Below].map(|scope| (scope, Effect::default()));
        for (names, has_rules) in [(deleted, false), (added, true)] {
            for name in names {
                let path = Path::from(&Name::from_text(name).expect("a name"));
                let rules = pair().into_iter().filter(|_| has_rules).collect();
                amendment.names.insert(path.as_bytes().to_vec(), rules);
            }
        }
        let images = self.control.images_in_force();
        let rules = amendment.rules_after(&images, "feed") as usize;
        let source = ImageSource {
            amendable: true,
            ..ImageSource::named("feed")
        };
        let image = amendment.image(&images, source).expect("room");
        self.ready("feed", image, rules)
    }

    fn ready(&mut self, list: &str, image: Image, rules: usize) -> ReadyList {
        self.loads += 1;
        let ticket = self.control.requests.tickets.next();
        let mut lists = self.control.lists.active.iter_mut();
        let list = lists.find(|known| known.name() == list).expect("a list");
        list.start(ticket);
        let loaded = Loaded {
            rules,
            tally: Tally::default(),
            digest: self.loads.to_string(),
            signature: None,
            at: Timestamp::UNIX_EPOCH,
            took: Duration::ZERO,
            protected_names: String::new(),
            released: Guards::NONE,
        };
        ReadyList {
            ticket,
            config: list.config.clone(),
            rules: LoadedRules {
                loaded,
                image: image.into(),
            },
        }
    }

    /// Puts loads in force, and the base that is ready.
    async fn join(&mut self, ready: impl IntoIterator<Item = ReadyList>) {
        ready
            .into_iter()
            .for_each(|ready| self.control.delta.add(ready));
        self.control.start_joining();
        while self.control.delta.is_joining() {
            let event = self.control.component_event().await;
            self.control.route(event);
        }
        self.control.publish();
    }

    /// The next compilation.
    fn job(&mut self) -> Job {
        let control = &mut self.control;
        let inputs = CompileInputs {
            images: control.publication.images(),
            guard_policy: &control.guard_policy,
            store: &control.persist.store,
            deadline: Duration::from_secs(600),
            epoch: 0,
        };
        control.compiler.job(&control.lists, Vec::new(), &inputs)
    }

    /// Makes the base of a compilation ready.
    fn compile(&mut self, job: Job) {
        let workspace = job.store.workspace(&job.images, false).expect("room");
        let place = workspace.out.clone();
        let outcome = compile(&job.plan(workspace), |_| {}).expect("compiled");
        let image = read_image(&place).expect("an image");
        let base = Base {
            image: Arc::new(image),
            place,
            outcome,
        };
        self.control.finish_compiling(Compiled {
            wanted: job.wanted,
            moved: job.moved,
            result: Ok(base),
        });
    }

    /// The lists of the delta.
    fn in_delta(&self) -> Vec<&str> {
        let delta = self.control.publication.images().delta.as_ref();
        let sources = delta.iter().flat_map(|delta| &delta.provenance().sources);
        sources.map(|source| source.name.as_str()).collect()
    }

    /// The names of the delta that have rules or marks, sorted.
    fn names_in_delta(&self) -> Vec<String> {
        let delta = self.control.publication.images().delta.as_ref();
        let mut names = Vec::new();
        let mut cursor = delta.expect("a delta").cursor();
        while cursor.advance() {
            names.push(Path::of(cursor.path()).to_name().to_string());
        }
        names.sort();
        names
    }

    fn assert_blocked(&self, blocked: &[&str], others: &[&str]) {
        let snapshot = self.control.reader().load();
        for (names, expected) in [(blocked, true), (others, false)] {
            for name in names {
                let name = Name::from_text(name).expect("a name");
                let is_blocked = matches!(snapshot.decide(&name), Decision::Blocked { .. });
                assert_eq!(is_blocked, expected, "{name}");
            }
        }
        let rules = self.control.publication.images().list_rules();
        let feed = self.control.lists.active.iter();
        let loaded = feed.filter_map(|list| list.loaded.as_ref());
        let expected: usize = loaded.map(|loaded| loaded.rules).sum();
        assert_eq!(rules, expected as u64);
    }
}

/// The lists that a compilation moves into the base.
fn moved(job: &Job) -> Vec<&str> {
    let moved = job.moved.iter().map(|source| source.name.as_str());
    moved.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_amendments_of_a_feed_move_into_the_base_and_small_lists_stay_in_the_delta() {
    let mut scene = Scene::new().await;
    let ads: Vec<_> = (0..ADS).map(|ad| format!("ad-{ad}.test")).collect();
    let ads: Vec<_> = ads.iter().map(String::as_str).collect();
    let list = scene.whole("ads", &ads);
    let few = scene.changes(&["old-0.test"], &["new-0.test"]);
    scene.join([list, few]).await;
    assert_eq!(moved(&scene.job()), [""; 0], "two marks and a rule");
    let more = scene.changes(&[], &["new-1.test"]);
    scene.join([more]).await;
    let job = scene.job();
    assert_eq!(moved(&job), ["feed"]);
    scene.compile(job);
    scene.join([]).await;
    assert_eq!(scene.in_delta(), ["ads"]);
    let blocked = ["old-1.test", "new-0.test", "x.new-1.test", "ad-1.test"];
    scene.assert_blocked(&blocked, &["old-0.test"]);
    let list = scene.whole("ads", &ads);
    scene.join([list]).await;
    assert_eq!(moved(&scene.job()), [""; 0], "nothing is merged twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_come_while_amendments_are_merged_are_all_that_stays_in_the_delta() {
    let mut scene = Scene::new().await;
    let first = scene.changes(&["old-0.test", "old-1.test"], &["new-0.test"]);
    scene.join([first]).await;
    let job = scene.job();
    assert_eq!(moved(&job), ["feed"]);
    let second = scene.changes(&["old-2.test"], &["old-0.test"]);
    scene.join([second]).await;
    scene.compile(job);
    scene.join([]).await;
    let blocked = ["old-0.test", "old-3.test", "new-0.test"];
    scene.assert_blocked(&blocked, &["old-1.test", "old-2.test"]);
    assert_eq!(scene.names_in_delta(), ["old-0.test", "old-2.test"]);
    let third = scene.changes(&[], &["old-2.test"]);
    scene.join([third]).await;
    scene.assert_blocked(&["old-0.test", "old-2.test"], &["old-1.test"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_were_applied_to_the_old_base_come_into_force_with_the_new_one() {
    let mut scene = Scene::new().await;
    let first = scene.changes(&["old-0.test", "old-1.test"], &["new-0.test"]);
    scene.join([first]).await;
    let job = scene.job();
    let second = scene.changes(&["new-0.test"], &["new-1.test"]);
    scene.compile(job);
    scene.join([second]).await;
    let blocked = ["old-2.test", "new-1.test"];
    scene.assert_blocked(&blocked, &["old-0.test", "old-1.test", "new-0.test"]);
    assert_eq!(scene.names_in_delta(), ["new-0.test", "new-1.test"]);
    // Changes that come into force later still do.
    let third = scene.changes(&["old-2.test"], &[]);
    scene.join([third]).await;
    let job = scene.job();
    assert_eq!(moved(&job), ["feed"]);
    let fourth = scene.changes(&[], &["old-1.test"]);
    scene.compile(job);
    scene.join([]).await;
    assert_eq!(scene.names_in_delta(), [""; 0]);
    scene.join([fourth]).await;
    let blocked = ["old-1.test", "old-3.test", "new-1.test"];
    scene.assert_blocked(&blocked, &["old-0.test", "old-2.test", "new-0.test"]);
}
