//! Owns holding all lists as they were in a generation: until somebody releases them, no newer state of them counts.
//! Refuses to hold orders and exceptions: an authority's word goes on.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::errands::{Errand, Landed};
use super::guard::release::Guards;
use super::journal::entry::Cause;
use super::keep::Keeper;
use super::load::{Loaded, Refusal};
use super::notes;
use super::preparing::Prepared;
use super::reload::{Control, carries};
use super::status::{ReloadReport, ReloadRequest, RollbackRequest};
use super::wishes::Waiting;
use crate::config::shown::Show;
use crate::config::{List, regular};
use crate::policy::images::Images;

/// The file in the state directory that makes it outlive the server.
const FILE: &str = "held";
/// A larger file is something else.
const SIZE_MAX: u64 = 16 << 20;

/// What is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hold {
    /// The generation whose lists are in force.
    pub(super) generation: u64,
    /// Since when.
    pub(super) since: Timestamp,
    /// The generation that put them in force: images of that or a later one are what is held.
    pub(super) first: u64,
    /// The lists: of others that generation had nothing.
    pub(super) lists: Vec<String>,
}

impl Hold {
    /// What a state directory tells; nothing if no lists are held.
    fn read(dir: &Path) -> Result<Option<Self>, String> {
        let path = dir.join(FILE);
        let bad = |error: &dyn std::fmt::Display| {
            let path = path.shown();
            format!(
                "{path}: can't be read, so no list is held: {error}; roll back again, or remove it"
            )
        };
        match regular::read(&path, SIZE_MAX).map_err(io::Error::from) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| bad(&error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(bad(&error)),
        }
    }

    /// Writes it, given how a directory is synced. What is reported as failed must not count after a
    /// restart, so on an error the file is put back as it was.
    fn write(&self, dir: &Path, sync: Sync) -> Result<(), String> {
        let text = serde_json::to_string(&self).expect("numbers and times have a JSON form");
        let path = dir.join(FILE);
        let before = regular::read(&path, SIZE_MAX).ok();
        let failed = |error| format!("{}: can't be written: {error}", path.shown());
        put(dir, text.as_bytes()).map_err(failed)?;
        let Err(error) = sync(dir) else { return Ok(()) };
        let undone = match before {
            Some(before) => put(dir, &before),
            None => fs::remove_file(&path),
        };
        Err(match undone {
            Ok(()) => failed(error),
            Err(undoing) => format!(
                "{}, and can't be put back as it was: {undoing}; this rollback may count after a restart: \
                 check the disk, then roll back again",
                failed(error)
            ),
        })
    }

    /// As an alarm.
    pub(super) fn told(&self) -> String {
        let (generation, since) = (self.generation, self.since);
        format!(
            "lists are held as they were in generation {generation}, since {since:.0}; to follow \
             their files again: tapis rollback --release"
        )
    }
}

/// The images of a rollback whose hold is on the disk.
pub(super) struct Held {
    images: Images,
    hold: Hold,
}

/// A rollback or a release whose files are being read and written.
pub(super) struct Rolling {
    waiting: Waiting,
    /// What a release needs of the files of lists.
    prepared: Option<Prepared>,
}

/// How a directory is synced.
type Sync = fn(&Path) -> io::Result<()>;

/// Makes what was renamed or removed in a directory outlive a power cut.
fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Puts the file in its place, whole or not at all.
fn put(dir: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    io::Write::write_all(&mut file, content)?;
    file.as_file().sync_all()?;
    file.persist(dir.join(FILE)).map_err(io::Error::from)?;
    Ok(())
}

/// Removes the file. What is reported as failed must not count after a restart either, so on an error it
/// is put back.
fn remove(dir: &Path, sync: Sync) -> Result<(), String> {
    let path = dir.join(FILE);
    let failed = |error| {
        let path = path.shown();
        format!("{path}: can't be removed: {error}; the lists stay held, after a restart too")
    };
    let before = match regular::read(&path, SIZE_MAX).map_err(io::Error::from) {
        Ok(before) => before,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    fs::remove_file(&path).map_err(failed)?;
    let Err(error) = sync(dir) else { return Ok(()) };
    put(dir, &before).map_err(|_| {
        let path = path.shown();
        format!(
            "{path}: its removal can't be made permanent: {error}; the lists stay held until a restart, and may \
             be held after it: check the disk, then release them again"
        )
    })?;
    Err(failed(error))
}

/// The generation whose lists the server with that state directory holds, if it can be told.
pub fn held(dir: &Path) -> Option<u64> {
    let hold = Hold::read(dir).ok()?;
    hold.map(|hold| hold.generation)
}

impl Control {
    /// What is to be in force at a start: `newest`, which is of that generation, or what is held. A
    /// rollback may have ended before what it put in force was kept.
    pub(super) fn restore_held(&mut self, newest: Option<(Images, u64)>) -> Option<Images> {
        let dir = self.config.state.dir.clone()?;
        let hold = match Hold::read(&dir) {
            Ok(hold) => hold,
            Err(problem) => {
                self.hold_nothing(&dir, problem);
                None
            }
        };
        let Some(hold) = hold else {
            return newest.map(|(images, _)| images);
        };
        if let Some((images, _)) = newest.as_ref().filter(|(_, of)| *of >= hold.first) {
            self.held = Some(hold);
            return Some(images.clone());
        }
        let journal = self.config.journal.clone();
        let read = self
            .keeper
            .read_generation(&dir, journal.as_deref(), hold.generation);
        match read {
            Ok((images, pair)) => {
                self.keeper.adopt(&images, pair);
                self.held = Some(hold);
                Some(images)
            }
            Err(error) => {
                let generation = hold.generation;
                let problem = format!(
                    "lists were to be held as in generation {generation}, which can't be read, so \
                     they follow their files: {error}"
                );
                self.hold_nothing(&dir, problem);
                newest.map(|(images, _)| images)
            }
        }
    }

    /// A hold that can't be kept up must not come back later, when other images are in force.
    fn hold_nothing(&mut self, dir: &Path, problem: String) {
        tracing::error!(problem, "nothing is held");
        self.unheld = Some(problem);
        let path = dir.join(FILE);
        if let Err(error) = fs::rename(&path, path.with_extension("damaged")) {
            tracing::error!(path = %path.shown(), %error, "it can't be moved away");
        }
    }

    /// Puts the lists of an earlier generation in force and holds them, or releases them. The files of
    /// the state directory are read and written by an errand; requests that arrive meanwhile wait.
    pub(super) fn roll_back(
        &mut self,
        wish: RollbackRequest,
        cause: Cause,
        reply: oneshot::Sender<ReloadReport>,
        prepared: Option<Prepared>,
    ) {
        let mut waiting = Waiting::new(cause, Some(reply));
        let started = match wish.generation {
            Some(generation) => self.start_hold(generation),
            None => self.start_release(),
        };
        if let Err(problem) = started {
            waiting.report.problems.push(problem);
            self.waiting.push(waiting);
            return;
        }
        self.rolling = Some(Rolling { waiting, prepared });
    }

    fn state_dir(&self) -> Result<PathBuf, String> {
        let dir = self.boot.state.dir.clone();
        dir.ok_or_else(|| "no generation is kept without a `dir` in [state]".to_owned())
    }

    fn start_hold(&mut self, generation: u64) -> Result<(), String> {
        let dir = self.state_dir()?;
        let (keeper, journal) = (self.keeper.clone(), self.boot.journal.clone());
        // Orders may publish generations until this one lands. Their images are not kept meanwhile, so
        // kept images of `first` or later are still those of the rollback.
        let first = self.next_generation();
        let lists: Vec<_> = self.lists.iter().map(|list| list.config.clone()).collect();
        let places = [Some(&dir), journal.as_ref()].into_iter().flatten();
        let places: Vec<_> = places.map(|path| path.shown().to_string()).collect();
        let work = move || {
            let held = hold(&keeper, &dir, journal.as_deref(), generation, first, &lists);
            Landed::Held(held.map(Box::new))
        };
        self.errands
            .start(Errand::Rollback, places.join(", "), work);
        Ok(())
    }

    fn start_release(&mut self) -> Result<(), String> {
        if self.held.is_none() {
            return Err("no lists are held".to_owned());
        }
        let dir = self.state_dir()?;
        let places = dir.join(FILE).shown().to_string();
        let work = move || Landed::Released(remove(&dir, sync));
        self.errands.start(Errand::Rollback, places, work);
        Ok(())
    }

    /// Finishes a rollback or a release whose files have been read and written; `None` if that panicked.
    pub(super) fn land_rollback(&mut self, landed: Option<Landed>) {
        let Some(Rolling {
            mut waiting,
            prepared,
        }) = self.rolling.take()
        else {
            return;
        };
        match landed {
            Some(Landed::Held(Ok(held))) => self.take_held(*held, &mut waiting),
            Some(Landed::Released(Ok(()))) => {
                if let Some(prepared) = prepared {
                    self.release(&mut waiting, prepared);
                }
            }
            Some(Landed::Held(Err(problem)) | Landed::Released(Err(problem))) => {
                waiting.report.problems.push(problem);
            }
            _ => waiting.report.problems.push(
                "not rolled back, but it may count after a restart: reading or writing its files \
                 failed inside tapis, which is a bug; please report it"
                    .to_owned(),
            ),
        }
        self.waiting.push(waiting);
    }

    fn take_held(&mut self, held: Held, waiting: &mut Waiting) {
        let Held { images, hold } = held;
        let generation = hold.generation;
        self.drop_the_newer(&hold);
        self.held = Some(hold);
        self.unheld = None;
        self.put_back(images);
        self.refuse_the_held();
        self.follow_the_others(generation, waiting);
        self.unkept = true;
        self.change(waiting.cause.clone());
        tracing::warn!(generation, "lists are held");
    }

    /// Leaves what is on its way into force; what joins or compiles now is dropped when it ends.
    fn drop_the_newer(&mut self, hold: &Hold) {
        self.epoch += 1;
        if self.stage.take().is_some() {
            self.leave_stage(vec![format!("configuration not taken: {}", hold.told())]);
        }
        let wanted = std::mem::take(&mut self.wanted).into_iter();
        let based = self.base.take().into_iter().flat_map(|base| base.wanted);
        let ready = std::mem::take(&mut self.ready).into_iter();
        let tickets: Vec<_> = wanted
            .chain(based)
            .map(|wanted| wanted.ticket)
            .chain(ready.map(|ready| ready.ticket))
            .collect();
        // Those of lists that are held are refused, which tells why.
        let carried = |ticket: &u64| self.lists.iter().any(|list| carries(list, *ticket));
        let gone: Vec<_> = tickets
            .into_iter()
            .filter(|ticket| !carried(ticket))
            .collect();
        for ticket in gone {
            self.no_longer_awaited(ticket);
        }
        // Its file belongs to a base that is not in force any more.
        self.base_file = None;
        self.delta_is_full = false;
    }

    /// Has lists read that the generation has nothing of: what is not there can't be held.
    fn follow_the_others(&mut self, generation: u64, waiting: &mut Waiting) {
        let now = Instant::now();
        let mut gone = Vec::new();
        for list in self.lists.iter_mut().filter(|list| !list.frozen) {
            gone.extend(list.loading.take().map(|loading| loading.ticket));
            let ticket = list.request(self.tickets.next(), Guards::NONE, now);
            waiting.tickets.insert(ticket);
            waiting.report.problems.push(format!(
                "{}: generation {generation} has nothing of it as it is configured now, so it is \
                 not held: it follows its file",
                list.name()
            ));
        }
        for ticket in gone {
            self.no_longer_awaited(ticket);
        }
    }

    /// Takes images that were kept, and what they tell of the lists.
    pub(super) fn put_back(&mut self, images: Images) {
        let held = self.held.as_ref().map_or(&[][..], |hold| &hold.lists);
        for list in &mut self.lists {
            let loaded = loaded(&images, &list.config);
            list.frozen = loaded.is_some() && held.iter().any(|name| name == list.name());
            list.restore(loaded);
        }
        self.images = images;
    }

    /// Lists whose files are newer than what is held: that is told of each, and nobody waits for them.
    pub(super) fn refuse_the_held(&mut self) {
        let Some(generation) = self.held.as_ref().map(|hold| hold.generation) else {
            return;
        };
        let now = Instant::now();
        let mut refused = Vec::new();
        for list in self.lists.iter_mut().filter(|list| list.frozen) {
            let rests = list.take_at_rest();
            let due = list.take_due(now) || rests || list.loading.is_some();
            if due || list.changed() {
                let loading = match list.loading {
                    Some(loading) => loading,
                    None => list.start(self.tickets.next()),
                };
                refused.push(loading.ticket);
            }
        }
        for ticket in refused {
            self.refuse(ticket, Refusal::RolledBack { generation });
        }
    }

    fn release(&mut self, waiting: &mut Waiting, prepared: Prepared) {
        let generation = self.held.take().map(|hold| hold.generation);
        tracing::info!(generation, "lists follow their files again");
        let now = Instant::now();
        for list in &mut self.lists {
            list.frozen = false;
            if list.refused.is_some() || list.changed() || list.is_outdated(&self.rails) {
                let ticket = list.request(self.tickets.next(), Guards::NONE, now);
                waiting.tickets.insert(ticket);
            }
        }
        self.change(waiting.cause.clone());
        // A new configuration was not taken meanwhile.
        let Prepared { newest, files, .. } = prepared;
        self.reconfigure(&ReloadRequest::default(), waiting, newest, &files);
    }
}

/// Reads a generation and writes to the disk that its lists are held, before they are in force.
fn hold(
    keeper: &Keeper,
    dir: &Path,
    journal: Option<&Path>,
    generation: u64,
    first: u64,
    lists: &[List],
) -> Result<Held, String> {
    let (images, pair) = keeper.read_generation(dir, journal, generation)?;
    let known = lists.iter().filter(|list| loaded(&images, list).is_some());
    let hold = Hold {
        generation,
        since: Timestamp::now(),
        first,
        lists: known.map(|list| list.source.name.clone()).collect(),
    };
    hold.write(dir, sync)?;
    keeper.adopt(&images, pair);
    Ok(Held { images, hold })
}

/// What images tell of a list.
fn loaded(images: &Images, list: &List) -> Option<Loaded> {
    let name = &list.source.name;
    let image = match images.is_in_delta(name) {
        true => &images.delta,
        false => &images.base,
    };
    let mut sources = image.iter().flat_map(|image| &image.provenance().sources);
    let source = sources.find(|source| source.name == *name)?;
    notes::loaded(source, list)
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;
    use tokio::task::JoinHandle;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::config::Config;
    use crate::control::landing::start_load;
    use crate::control::preparing::Wish;
    use crate::control::status::{ListHealth, OrdersRequest, Status};
    use crate::control::store::{Store, StoreError};
    use crate::control::wall::Still;
    use crate::control::wishes::Request;
    use crate::policy::current::Reader;
    use crate::policy::snapshot::Decision;
    use crate::wire::name::Name;

    const USER: u32 = 1000;

    const ORDER: &str = "id = \"x-1\"\nlegal-basis = [\"law\"]\nissued-at = 2020-01-01T00:00:00Z\n\
                         effective-from = 2020-01-01T00:00:00Z\nreview-at = 2090-01-01T00:00:00Z\n\
                         [authority]\nname = \"A\"\n[reason]\nen = \"r\"\n\
                         [redress]\nhow = \"write\"\n\
                         [[targets]]\nname = \"order.example\"\nscope = \"exact\"\n";

    /// A running control plane with the list `ads` and a state directory.
    struct Running {
        requests: mpsc::Sender<Request>,
        reader: Reader,
        keeper: Keeper,
        stop: CancellationToken,
        task: JoinHandle<()>,
        dir: PathBuf,
    }

    impl Running {
        fn start(folder: &Path) -> Self {
            let config = Config::load(&folder.join("tapis.toml")).expect("a configuration");
            let control = Control::start(config, std::sync::Arc::new(Still));
            let control = control.expect("a first generation");
            let (requests, wishes) = mpsc::channel(1);
            let (_, hangups) = mpsc::channel(1);
            let (reader, stop) = (control.reader(), CancellationToken::new());
            let keeper = control.keeper.clone();
            let probe = std::sync::Arc::new(crate::control::status::Gauges::default);
            let running = control.run(wishes, hangups, probe, stop.clone());
            Self {
                requests,
                reader,
                keeper,
                stop,
                task: tokio::spawn(running),
                dir: folder.join("state"),
            }
        }

        async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> T {
            let (reply, answer) = oneshot::channel();
            let sent = self.requests.send(request(reply)).await;
            sent.expect("it runs");
            answer.await.expect("it answers")
        }

        async fn roll_back(&self, generation: Option<u64>) -> ReloadReport {
            let wish = RollbackRequest { generation };
            self.ask(|reply| Request::Rollback(wish, USER, reply)).await
        }

        /// Writes an order against `order.example` and has it read.
        async fn order(&self) -> ReloadReport {
            let path = self.dir.with_file_name("orders").join("x-1.toml");
            fs::write(&path, ORDER).expect("written");
            let wish = OrdersRequest {
                path,
                verb: "order add".to_owned(),
            };
            self.ask(|reply| Request::Orders(wish, USER, reply)).await
        }

        /// Replaces the list's file and reloads.
        async fn replace(&self, content: &str) -> ReloadReport {
            let folder = self.dir.parent().expect("it lies in one");
            fs::write(folder.join("new"), content).expect("written");
            fs::rename(folder.join("new"), folder.join("ads")).expect("renamed");
            let wish = ReloadRequest::default();
            self.ask(|reply| Request::Reload(wish, USER, reply)).await
        }

        async fn status(&self) -> Status {
            self.ask(Request::Status).await
        }

        /// Waits until the images in force are stored.
        async fn kept(&self) {
            let generation = format!("\"generation\":{},", self.reader.load().generation);
            let file = self.dir.join("current");
            loop {
                let text = fs::read_to_string(&file).unwrap_or_default();
                let text: String = text.split_whitespace().collect();
                if text.contains(&generation) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        }

        async fn end(self) {
            self.stop.cancel();
            self.task.await.expect("it ended well");
            drop(self.keeper);
            // A store operation in progress may keep the directory locked a moment longer.
            while let Err(StoreError::InUse { .. }) = Store::open(&self.dir, 10) {
                tokio::task::yield_now().await;
            }
        }

        /// The names of the list's three versions, and of the order, that are blocked.
        fn blocked(&self) -> Vec<&'static str> {
            let snapshot = self.reader.load();
            let blocked = |name: &str| {
                let name = Name::from_text(name).expect("a name");
                matches!(snapshot.decide(&name), Decision::Blocked { .. })
            };
            let names = [
                "one.example",
                "two.example",
                "three.example",
                "order.example",
            ];
            names.into_iter().filter(|name| blocked(name)).collect()
        }
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("orders")).expect("made");
        let config = "[state]\ndir = \"state\"\nkeep = 10\n[orders]\npath = \"orders\"\n\
                      [[list]]\nname = \"ads\"\npath = \"ads\"\n";
        for (name, text) in [("tapis.toml", config), ("ads", "one.example\n")] {
            fs::write(folder.path().join(name), text).expect("written");
        }
        folder
    }

    /// A control plane with two stored generations, whose list names `one.example`, then `two.example`.
    async fn two_generations(folder: &Path) -> Running {
        let running = Running::start(folder);
        running.kept().await;
        let report = running.replace("two.example\n").await;
        assert_eq!((report.generation, report.problems.len()), (2, 0));
        running.kept().await;
        running
    }

    fn hold(generation: u64, first: u64) -> Hold {
        Hold {
            generation,
            since: "2026-01-01T00:00:00Z".parse().expect("a time"),
            first,
            lists: vec!["ads".to_owned()],
        }
    }

    #[test]
    fn what_is_held_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(Hold::read(folder.path()), Ok(None));
        assert_eq!(held(folder.path()), None);
        for generation in [7, 8] {
            let hold = hold(generation, 9);
            hold.write(folder.path(), sync).expect("written");
            assert_eq!(Hold::read(folder.path()), Ok(Some(hold)));
            assert_eq!(held(folder.path()), Some(generation));
        }
        let files = fs::read_dir(folder.path()).expect("readable").count();
        assert_eq!(files, 1, "nothing else is left over");
    }

    /// A disk that fails.
    fn broken(_: &Path) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(libc::EIO))
    }

    #[test]
    fn a_rollback_that_is_reported_as_failed_leaves_the_disk_as_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let told = hold(7, 9)
            .write(folder.path(), broken)
            .expect_err("not synced");
        assert!(told.contains("held: can't be written"), "{told}");
        assert_eq!(Hold::read(folder.path()), Ok(None));
        // What was held before stays held.
        hold(7, 9).write(folder.path(), sync).expect("written");
        hold(8, 10)
            .write(folder.path(), broken)
            .expect_err("not synced");
        assert_eq!(Hold::read(folder.path()), Ok(Some(hold(7, 9))));
        let files = fs::read_dir(folder.path()).expect("readable").count();
        assert_eq!(files, 1, "nothing else is left over");
    }

    #[test]
    fn a_release_that_is_reported_as_failed_leaves_the_lists_held_after_a_restart_too() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(remove(folder.path(), broken), Ok(()), "nothing is held");
        hold(7, 9).write(folder.path(), sync).expect("written");
        let told = remove(folder.path(), broken).expect_err("not synced");
        assert!(
            told.ends_with("; the lists stay held, after a restart too"),
            "{told}"
        );
        assert_eq!(held(folder.path()), Some(7));
        assert_eq!(remove(folder.path(), sync), Ok(()));
        assert_eq!(held(folder.path()), None);
        // A file that can't be removed.
        fs::create_dir(folder.path().join(FILE)).expect("made");
        let told = remove(folder.path(), sync).expect_err("a directory");
        assert!(
            told.ends_with("; the lists stay held, after a restart too"),
            "{told}"
        );
    }

    #[test]
    fn a_hold_that_can_not_be_read_is_an_error_with_a_remedy() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(FILE);
        for damage in ["", "{", "{\"generation\":1}", "\0\0\0\0"] {
            fs::write(&path, damage).expect("written");
            let told = Hold::read(folder.path()).expect_err("damaged");
            let start = format!("{}: can't be read", path.display());
            assert!(told.starts_with(&start), "{told}");
            assert!(told.ends_with("roll back again, or remove it"), "{told}");
            assert_eq!(held(folder.path()), None);
        }
        // What is there and can't be read is not the same as nothing.
        fs::remove_file(&path).expect("removed");
        fs::create_dir(&path).expect("made");
        let told = Hold::read(folder.path()).expect_err("no file");
        assert!(told.contains("can't be read, so no list is held"), "{told}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_rollback_is_on_the_disk_before_it_is_reported_and_gone_after_its_release() {
        let folder = folder();
        let running = two_generations(folder.path()).await;
        assert_eq!(running.blocked(), ["two.example"]);
        let report = running.roll_back(Some(1)).await;
        assert_eq!((report.generation, report.problems), (3, Vec::new()));
        assert_eq!(running.blocked(), ["one.example"]);
        let hold = Hold::read(&running.dir).expect("readable").expect("held");
        assert_eq!((hold.generation, hold.first), (1, 3));
        assert_eq!(hold.lists, ["ads"]);

        // The file's current version is refused at once, and so is its next one.
        let list = running.status().await.lists.remove(0);
        assert_eq!(list.state, ListHealth::Held);
        let alarm = list.alarm.expect("it says why");
        assert!(alarm.contains("held as it was in generation 1"), "{alarm}");
        let report = running.replace("three.example\n").await;
        assert_eq!(report.problems.len(), 1, "{report:?}");
        assert!(report.problems[0].contains("held as it was in generation 1"));
        assert_eq!(running.blocked(), ["one.example"]);
        let status = running.status().await;
        assert!(status.degraded);
        let start = "lists are held as they were in generation 1, since 2";
        let mut alarms = status.alarms.iter();
        let alarm = alarms.find(|alarm| alarm.starts_with(start));
        let remedy = "to follow their files again: tapis rollback --release";
        assert!(
            alarm.is_some_and(|alarm| alarm.ends_with(remedy)),
            "{:?}",
            status.alarms
        );

        let report = running.roll_back(None).await;
        assert_eq!(report.problems, Vec::<String>::new());
        assert_eq!(running.blocked(), ["three.example"]);
        assert_eq!(Hold::read(&running.dir), Ok(None));
        assert!(!running.status().await.degraded);
        let again = running.roll_back(None).await;
        assert_eq!(again.problems, ["no lists are held"]);
        running.end().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_rollback_whose_disk_does_not_answer_stops_neither_status_nor_orders() {
        let folder = folder();
        let running = two_generations(folder.path()).await;
        let keeper = running.keeper.clone();
        let stalled = keeper.stall();
        let (reply, rolled_back) = oneshot::channel();
        let wish = RollbackRequest {
            generation: Some(1),
        };
        let sent = running.requests.send(Request::Rollback(wish, USER, reply));
        sent.await.expect("it runs");
        let place = running.dir.display().to_string();
        let late = |status: Status| {
            let mut alarms = status.alarms.into_iter();
            alarms.any(|alarm| alarm.starts_with(&place) && alarm.contains("no answer"))
        };
        while !late(running.status().await) {
            tokio::task::yield_now().await;
        }
        let report = running.order().await;
        assert_eq!((report.generation, report.problems), (3, Vec::new()));
        assert_eq!(running.blocked(), ["two.example", "order.example"]);
        drop(stalled);
        drop(keeper);
        let report = rolled_back.await.expect("it answers");
        assert_eq!((report.generation, report.problems), (4, Vec::new()));
        assert_eq!(running.blocked(), ["one.example", "order.example"]);
        assert!(!late(running.status().await));
        running.end().await;
        let running = Running::start(folder.path());
        assert_eq!(running.blocked(), ["one.example", "order.example"]);
        running.end().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_release_whose_disk_does_not_answer_leaves_the_lists_held_until_it_does() {
        let folder = folder();
        two_generations(folder.path()).await.end().await;
        let mut control = control(folder.path());
        hold(1, 2)
            .write(&folder.path().join("state"), sync)
            .expect("written");
        control.held = Some(hold(1, 2));
        start_rolling(&mut control, None).await;
        assert!(control.held.is_some() && control.waiting.is_empty());
        end_rolling(&mut control).await;
        assert!(control.held.is_none() && control.waiting.len() == 1);
        assert_eq!(held(&folder.path().join("state")), None);
    }

    fn control(folder: &Path) -> Control {
        let config = Config::load(&folder.join("tapis.toml")).expect("a configuration");
        let control = Control::start(config, std::sync::Arc::new(Still));
        control.expect("a first generation")
    }

    /// Asks for a rollback, or a release, and reads the files that it needs first.
    async fn start_rolling(control: &mut Control, generation: Option<u64>) {
        let (reply, _) = oneshot::channel();
        let cause = Cause::Start;
        let wish = RollbackRequest { generation };
        control.wish(Wish::Rollback(wish, cause, reply));
        control.prepare();
        while control.rolling.is_none() {
            let (errand, landed) = control.errands.next().await.expect("it ends");
            control.land_errand(&errand, landed);
            control.prepare();
        }
    }

    async fn end_rolling(control: &mut Control) {
        while control.rolling.is_some() {
            let (errand, landed) = control.errands.next().await.expect("it ends");
            control.land_errand(&errand, landed);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn no_image_is_kept_between_a_hold_on_the_disk_and_its_lists_in_force() {
        let folder = folder();
        two_generations(folder.path()).await.end().await;
        let mut control = control(folder.path());
        control.unkept = false;
        start_rolling(&mut control, Some(1)).await;
        // An order's date publishes a generation of the lists that are in force still.
        control.unkept = true;
        control.publish();
        control.start_keeping();
        assert!(!control.keeping, "it would be taken for what is held");
        // Another rollback waits for this one.
        let (reply, mut other) = oneshot::channel();
        let wish = RollbackRequest { generation: None };
        control.wish(Wish::Rollback(wish, Cause::Start, reply));
        control.prepare();
        assert!(!control.errands.is_running(&Errand::Prepare));
        end_rolling(&mut control).await;
        let hold = Hold::read(&folder.path().join("state")).expect("readable");
        assert_eq!(hold, control.held);
        assert!(hold.is_some_and(|hold| hold.first <= control.generation()));
        control.publish();
        control.start_keeping();
        assert!(control.keeping && other.try_recv().is_err());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_rollback_waits_for_no_file_that_a_reload_reads() {
        let folder = folder();
        two_generations(folder.path()).await.end().await;
        let mut control = control(folder.path());
        // The files of a reload do not answer, and its caller has been answered.
        control.errands.note(Errand::Prepare, "/net".to_owned());
        let (reply, _) = oneshot::channel();
        let wish = RollbackRequest {
            generation: Some(1),
        };
        control.wish(Wish::Rollback(wish, Cause::Start, reply));
        control.prepare();
        assert!(control.rolling.is_some());
        end_rolling(&mut control).await;
        assert_eq!(control.held.map(|hold| hold.generation), Some(1));
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
    async fn a_generation_that_is_not_kept_can_not_be_held() {
        let folder = folder();
        let running = two_generations(folder.path()).await;
        let report = running.roll_back(Some(9)).await;
        assert_eq!(report.problems.len(), 1, "{report:?}");
        assert_eq!(
            (running.blocked(), report.generation),
            (vec!["two.example"], 2)
        );
        assert_eq!(Hold::read(&running.dir), Ok(None));
        running.end().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn another_rollback_takes_the_place_of_the_first() {
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
    async fn a_restart_serves_what_is_held_whether_it_was_kept_or_not() {
        // `first` is the generation that the rollback published: the stored images are older, or not.
        for first in [3, 2] {
            let folder = folder();
            let running = two_generations(folder.path()).await;
            let dir = running.dir.clone();
            running.end().await;
            hold(1, first).write(&dir, sync).expect("written");
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

    /// Starts with a hold of a generation that is not stored.
    async fn restart_with_a_broken_hold(folder: &Path) -> Running {
        let dir = folder.join("state");
        hold(9, 10).write(&dir, sync).expect("written");
        let running = Running::start(folder);
        assert_eq!(running.blocked(), ["two.example"]);
        let alarms = running.status().await.alarms;
        let told = "lists were to be held as in generation 9, which can't be read";
        let alarm = alarms.iter().any(|alarm| alarm.starts_with(told));
        assert!(alarm, "{alarms:?}");
        assert!(dir.join("held.damaged").exists() && held(&dir).is_none());
        running
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_hold_that_can_not_be_kept_up_is_told_and_does_not_come_back() {
        let folder = folder();
        two_generations(folder.path()).await.end().await;
        restart_with_a_broken_hold(folder.path()).await.end().await;
        let running = Running::start(folder.path());
        assert_eq!(running.blocked(), ["two.example"]);
        assert!(!running.status().await.degraded);
        running.end().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_rollback_that_works_ends_the_alarm_of_one_that_did_not() {
        let folder = folder();
        two_generations(folder.path()).await.end().await;
        let running = restart_with_a_broken_hold(folder.path()).await;
        let report = running.roll_back(Some(1)).await;
        assert_eq!(report.problems, Vec::<String>::new());
        assert_eq!(running.blocked(), ["one.example"]);
        let alarms = running.status().await.alarms;
        let told = "lists were to be held";
        let stays = alarms.iter().any(|alarm| alarm.starts_with(told));
        assert!(!stays, "{alarms:?}");
        running.end().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_release_works_though_somebody_removed_the_file() {
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
    async fn a_list_that_joins_while_a_rollback_lands_does_not_count() {
        let folder = folder();
        two_generations(folder.path()).await.end().await;
        let mut control = control(folder.path());
        fs::write(folder.path().join("ads"), "three.example\n").expect("written");
        let (rails, done) = (
            std::sync::Arc::clone(&control.rails),
            control.done.0.clone(),
        );
        let ticket = control.tickets.next();
        start_load(&mut control.lists[0], &rails, ticket, &done);
        let done = control.done.1.recv().await.expect("it ends");
        control.land(done);
        control.start_joining();
        assert!(control.joining, "it is on its way");
        start_rolling(&mut control, Some(1)).await;
        end_rolling(&mut control).await;
        let joined = control.joined.1.recv().await.expect("it ends");
        control.land_joined(joined);
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
        let others = Hold {
            lists: vec!["other".to_owned()],
            ..hold(1, 2)
        };
        others
            .write(&folder.path().join("state"), sync)
            .expect("written");
        let running = Running::start(folder.path());
        let report = running.replace("three.example\n").await;
        assert_eq!(report.problems, Vec::<String>::new());
        assert_eq!(running.blocked(), ["three.example"]);
        running.end().await;
    }
}
