//! Owns what is known of each list: its configuration, its last good state, why a newer one was
//! refused, and when its file is to be looked at again.
//! Refuses to read files or to publish.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::config::{Content, List};
use crate::control::guard::acceptance::{InForce, too_old};
use crate::control::guard::policy::GuardPolicy;
use crate::control::guard::release::{Guard, Guards};
use crate::control::sources::lists::load::{Loaded, Refusal};
use crate::control::sources::signature::Signature;
use crate::control::sources::watch::{CLOSED_QUIET, OPEN_QUIET, REQUESTED_QUIET, Touched};
use crate::policy::image::Image;
use crate::policy::rule::Source;

/// When to read a file again that changed while it was read, at first.
const RETRY: Duration = Duration::from_millis(300);
/// When to compile it again if the system did not let it be compiled, at first and at last: for lack of room, say.
const COMPILE_AGAIN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// Bytes of a list's file up to which the server reads it itself: that takes a few milliseconds per 100 kB.
const SMALL: u64 = 1 << 20;

/// One list.
#[derive(Debug)]
pub(crate) struct ListState {
    pub(crate) config: List,
    pub(crate) source: Arc<Source>,
    pub(crate) loaded: Option<Loaded>,
    /// How the rules in force were read, if that is not how the list is configured: they were kept by a server before
    /// this one, and serve until the list is read.
    kept_as: Option<List>,
    /// What is in force of the list of that name, until the first load of its new configuration.
    pub(crate) before: Vec<InForce>,
    /// What was in force before a rollback that has been released, until something newer is loaded.
    pub(crate) accepted: Option<InForce>,
    /// Its rules, while they are in no image with others: it waits for its configuration.
    pub(crate) rules: Option<Image>,
    /// Why the newest state of the file was not taken, and since when it stands so.
    pub(crate) refused: Option<(Refusal, Timestamp)>,
    /// The load that is under way.
    pub(crate) loading: Option<Loading>,
    /// The number that the next load will have, as somebody waits for it already.
    pub(crate) promised: Option<u64>,
    /// It is held as it was: newer states of its file don't count.
    pub(crate) frozen: bool,
    /// Guards that the operator releases for what the next load finds.
    pub(crate) released: Guards,
    /// It was told that the state in force is too old.
    reported_old: bool,
    /// The file's path as the watch tells it: absolute.
    watched: PathBuf,
    /// What that leads to, where it is another path.
    pub(crate) target: Option<PathBuf>,
    /// The file as it was when it was looked at last.
    looked: Option<Signature>,
    /// Why it is to be looked at; and why it is being looked at.
    look: Look,
    looking: Look,
    /// It was looked at, and is to be read now if it changed.
    settled: bool,
    /// The state of the file that was looked at last, taken or refused.
    seen: Option<Signature>,
    /// The state that the last sweep found, if that was a new one.
    last_sweep: Option<Option<Signature>>,
    /// When to read the file, if it changed.
    due: Option<Due>,
    /// How long to wait before a file is read again that changed while it was read.
    retry: Duration,
}

/// A load that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loading {
    /// Its number.
    pub(crate) ticket: u64,
    /// The state of the file when it started.
    pub(crate) of: Option<Signature>,
    /// Guards that the operator releases for what it finds.
    pub(crate) released: Guards,
    /// When it started.
    pub(crate) since: Instant,
}

/// Why a file is looked at; a later reason covers an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Look {
    No,
    Sweep,
    /// Something happened on the way to it.
    Way,
    /// It was not watched so far.
    Unwatched,
    /// It is to be read if it changed.
    Due,
}

#[derive(Clone, Copy, Debug)]
struct Due {
    at: Instant,
    /// Somebody seems to have the file open for writing.
    writer: bool,
}

impl ListState {
    pub(crate) fn new(config: List) -> Self {
        let path = &config.source.path;
        Self {
            source: Arc::new(config.source.clone()),
            // Without a working directory the path stays as it is, and sweeps find its changes.
            watched: std::path::absolute(path).unwrap_or_else(|_| path.clone()),
            config,
            loaded: None,
            kept_as: None,
            before: Vec::new(),
            accepted: None,
            rules: None,
            refused: None,
            loading: None,
            promised: None,
            frozen: false,
            released: Guards::NONE,
            reported_old: false,
            retry: RETRY,
            target: None,
            looked: None,
            look: Look::No,
            looking: Look::No,
            settled: false,
            seen: None,
            last_sweep: None,
            due: None,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.source.name
    }

    /// The file's absolute path.
    pub(crate) fn path(&self) -> &Path {
        &self.watched
    }

    /// Whether `config` describes the same rules: the same file, read in the same way.
    pub(crate) fn reads_as(&self, config: &List) -> bool {
        self.config.source.path == config.source.path
            && self.config.format == config.format
            && self.config.scope == config.scope
            && self.config.comments == config.comments
            && self.config.content == config.content
            // What an allow list allows, no guard minds.
            && self.config.source.blocks() == config.source.blocks()
    }

    /// Takes over a new configuration that describes the same rules.
    pub(crate) fn reconfigure(&mut self, config: List) {
        self.source = Arc::new(config.source.clone());
        self.config = config;
    }

    /// The same when its rules are in an image with others.
    pub(crate) fn without_rules(mut self) -> Self {
        self.rules = None;
        self
    }

    /// Takes what a look at the file found.
    pub(crate) fn set_look(&mut self, file: Option<Signature>) {
        self.looked = file;
    }

    /// Whether it is read by a process of its own.
    pub(crate) fn is_large(&self) -> bool {
        is_large_file(self.looked)
    }

    /// The file as it was when it was looked at last; `None` when it could not be.
    pub(crate) fn looked(&self) -> Option<Signature> {
        self.looked
    }

    /// Takes what a look at all files found.
    pub(crate) fn set_looked(&mut self, files: &HashMap<PathBuf, Option<Signature>>) {
        if let Some(file) = files.get(&self.source.path) {
            self.looked = *file;
        }
    }

    /// Whether the file is another one than was read or refused last. One that can't be looked at is:
    /// reading it will tell why.
    pub(crate) fn changed(&self) -> bool {
        self.looked != self.seen
    }

    /// Something happened in a watched directory. Each event starts the quiet time anew, and the
    /// last one says how long it is. Returns whether it was this file.
    pub(crate) fn touch(&mut self, touched: &Touched, now: Instant) -> bool {
        if touched.path != self.watched && self.target.as_ref() != Some(&touched.path) {
            return false;
        }
        let writer = touched.quiet == OPEN_QUIET;
        let asked_for = self.promised.is_some() && !writer;
        let quiet = if asked_for {
            REQUESTED_QUIET
        } else {
            touched.quiet
        };
        let at = now + quiet;
        self.due = Some(Due { at, writer });
        true
    }

    /// Has the file looked at: something happened on the way to it.
    pub(crate) fn want_look(&mut self) {
        self.look = self.look.max(Look::Way);
    }

    /// Has the file looked at: nobody watched it so far.
    pub(crate) fn want_first_look(&mut self) {
        self.look = self.look.max(Look::Unwatched);
    }

    /// Has the file looked at as part of a sweep.
    pub(crate) fn want_sweep(&mut self) {
        self.look = self.look.max(Look::Sweep);
    }

    /// Whether the file is to be looked at.
    pub(crate) fn wants_look(&self) -> bool {
        self.look != Look::No && matches!(self.config.content, Content::File)
    }

    /// Whether the file is looked at, or is to be, before it is read.
    pub(crate) fn is_looked_for(&self) -> bool {
        self.look == Look::Due || self.looking == Look::Due
    }

    /// The file is looked at from now on.
    pub(crate) fn start_look(&mut self) {
        self.looking = self
            .looking
            .max(std::mem::replace(&mut self.look, Look::No));
    }

    /// Takes what a look found.
    pub(crate) fn finish_look(&mut self, file: Option<Signature>, now: Instant) {
        self.looked = file;
        match std::mem::replace(&mut self.looking, Look::No) {
            Look::No => {}
            Look::Sweep => self.sweep(now),
            look @ (Look::Way | Look::Unwatched) => {
                if self.due.is_none() && self.loading.is_none() && self.changed() {
                    let closed = Due {
                        at: now + CLOSED_QUIET,
                        writer: false,
                    };
                    let written = self.written_unwatched(now);
                    let written = written.filter(|_| look == Look::Unwatched);
                    self.due = Some(written.unwrap_or(closed));
                }
            }
            Look::Due => self.settled = true,
        }
    }

    /// Whether the file was looked at to be read; asked once.
    pub(crate) fn take_settled(&mut self) -> bool {
        std::mem::take(&mut self.settled)
    }

    /// A sweep looked at the file: a new state is read when two sweeps found the same one.
    fn sweep(&mut self, now: Instant) {
        if self.due.is_some() || self.loading.is_some() {
            return;
        }
        let found = self.looked;
        if found == self.seen {
            self.last_sweep = None;
        } else if self.last_sweep.replace(found) == Some(found) {
            self.due = Some(Due {
                at: now,
                writer: false,
            });
        }
    }

    /// Somebody wants the newest state, and waits for the load `ticket`. A file that is being
    /// written is left until it is quiet all the same.
    pub(crate) fn request(&mut self, ticket: u64, released: Guards, now: Instant) -> u64 {
        self.released = self.released.and(released);
        let promised = *self.promised.get_or_insert(ticket);
        match self.due {
            Some(due) if due.writer => {}
            // A moment for what the system has to tell of a writer.
            _ => {
                self.due = Some(Due {
                    at: now + REQUESTED_QUIET,
                    writer: false,
                });
            }
        }
        promised
    }

    /// The same for a list that was not watched so far.
    pub(crate) fn request_unwatched(&mut self, ticket: u64, released: Guards, now: Instant) {
        self.request(ticket, released, now);
        self.due = self.written_unwatched(now).or(self.due);
    }

    /// When to read a file that was written a moment ago, before it was watched: it may be in its writer's
    /// hands.
    fn written_unwatched(&self, now: Instant) -> Option<Due> {
        let modified = self.looked.and_then(|file| file.modified());
        let age = modified.map(|at| Timestamp::now().duration_since(at));
        let age = age.and_then(|age| Duration::try_from(age).ok());
        let left = age.and_then(|age| OPEN_QUIET.checked_sub(age))?;
        Some(Due {
            at: now + left,
            writer: true,
        })
    }

    /// What its newest state is judged against: what is in force of it, and what was before a rollback.
    pub(crate) fn in_force(&self) -> Vec<InForce> {
        match &self.loaded {
            Some(loaded) => {
                let in_force = InForce {
                    released: Guards::NONE,
                    ..loaded.in_force()
                };
                [in_force].into_iter().chain(self.accepted).collect()
            }
            None => self.before.clone(),
        }
    }

    /// Whether its rules were held against other protected names, and nothing else keeps it from being read again.
    pub(crate) fn is_outdated(&self, guard_policy: &GuardPolicy) -> bool {
        let other = |loaded: &Loaded| loaded.protected_names != guard_policy.digest(&self.config);
        let idle = self.loading.is_none() && self.refused.is_none();
        idle && self.loaded.as_ref().is_some_and(other)
    }

    /// Whether the load under way reads what is in force again: only a guard is a reason for that.
    pub(crate) fn is_reread(&self) -> bool {
        let of = self.loading.and_then(|loading| loading.of);
        let loaded = self.loaded.as_ref();
        of.is_some() && of == loaded.and_then(|loaded| loaded.signature)
    }

    /// Has it read again at once where it is outdated, unless somebody sees to that. While its file is
    /// looked at, which takes long if the file system does not answer, it is not due again.
    pub(crate) fn follow(&mut self, guard_policy: &GuardPolicy, now: Instant) {
        let is_due = self.due.is_some() || self.settled || self.is_looked_for();
        if !is_due && self.is_outdated(guard_policy) {
            self.due = Some(Due {
                at: now,
                writer: false,
            });
        }
    }

    /// When the file in force was written, if that is too long ago and nobody released it.
    pub(crate) fn aged(&self, guard_policy: &GuardPolicy, at: Timestamp) -> Option<Timestamp> {
        let loaded = self.loaded.as_ref();
        let loaded = loaded.filter(|loaded| !loaded.released.has(Guard::Old))?;
        too_old(loaded.signature, guard_policy.limits(), at)
    }

    /// Whether its newest state is in force, and no guard says anything against it.
    pub(crate) fn is_free_of_guards(&self, guard_policy: &GuardPolicy) -> bool {
        let idle = self.loading.is_none() && self.refused.is_none() && !self.changed();
        idle && self.loaded.is_some() && self.aged(guard_policy, Timestamp::now()).is_none()
    }

    /// The same for whoever tells it once.
    pub(crate) fn ages(&mut self, guard_policy: &GuardPolicy) -> Option<Timestamp> {
        let since = self.aged(guard_policy, Timestamp::now());
        let known = std::mem::replace(&mut self.reported_old, since.is_some());
        since.filter(|_| !known)
    }

    /// When to act on it, unless a load is under way.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
            .filter(|_| self.loading.is_none())
            .map(|due| due.at)
    }

    /// Has the file looked at before it is read, if it is time to read it. An embedded list has no file
    /// to look at, and is to be read.
    pub(crate) fn look_if_due(&mut self, now: Instant) {
        if self.take_due(now) {
            match self.config.content {
                Content::File => self.look = Look::Due,
                Content::Embedded(_) => self.settled = true,
            }
        }
    }

    /// Whether it is time to read the file; asked once.
    pub(crate) fn take_due(&mut self, now: Instant) -> bool {
        let due = self.due().is_some_and(|at| at <= now);
        if due {
            self.due = None;
        }
        due
    }

    /// A load starts, as number `ticket` unless another one was promised.
    pub(crate) fn start(&mut self, ticket: u64) -> Loading {
        let loading = Loading {
            ticket: self.promised.take().unwrap_or(ticket),
            of: self.looked,
            released: std::mem::take(&mut self.released),
            since: Instant::now(),
        };
        self.loading = Some(loading);
        self.due = None;
        self.last_sweep = None;
        loading
    }

    /// What an image that was kept says of it.
    pub(crate) fn restore(&mut self, loaded: Option<Loaded>) {
        self.seen = loaded.as_ref().and_then(|loaded| loaded.signature);
        self.loaded = loaded;
        self.kept_as = None;
        self.accepted = None;
    }

    /// Lets rules that were kept serve until the list is read as it is configured now.
    pub(crate) fn serve_kept(&mut self, (read, loaded): (List, Loaded)) {
        self.loaded = Some(loaded);
        self.kept_as = Some(read);
    }

    /// Whether the rules in force were read from another file than is configured, or in another way.
    pub(crate) fn is_kept_otherwise(&self) -> bool {
        self.kept_as.is_some()
    }

    /// The list as its rules in force were read.
    pub(crate) fn as_read(&self) -> &List {
        self.kept_as.as_ref().unwrap_or(&self.config)
    }

    /// Whether it is refused for the same reason already.
    pub(crate) fn is_refused_alike(&self, refusal: &Refusal) -> bool {
        let before = self.refused.as_ref();
        before.is_some_and(|(before, _)| {
            // What was to be written had another name then.
            let wait = before.waits_for_room() && refusal.waits_for_room();
            wait || before.to_string() == refusal.to_string()
        })
    }

    /// A load ended: keeps what it made, or why it made nothing. Returns whether the rules changed.
    pub(crate) fn settle(&mut self, result: Result<Loaded, Refusal>, now: Instant) -> bool {
        let loading = self.loading.take();
        let of = loading.and_then(|loading| loading.of);
        match result {
            Ok(loaded) => {
                self.seen = loaded.signature;
                self.loaded = Some(loaded);
                self.kept_as = None;
                self.accepted = None;
                self.refused = None;
                self.reported_old = false;
                self.retry = RETRY;
                true
            }
            Err(refusal) => {
                self.seen = of;
                if refusal.passing() {
                    // Sweeps find it changed, and try again.
                    self.seen = None;
                }
                let again = match refusal.waits_for_room() {
                    true => Some(COMPILE_AGAIN),
                    false => refusal.transient().then_some((RETRY, OPEN_QUIET)),
                };
                if let Some((first, last)) = again {
                    self.seen = None;
                    let released = loading.map_or(Guards::NONE, |loading| loading.released);
                    self.released = self.released.and(released);
                    let pause = self.retry.clamp(first, last);
                    let at = now + pause;
                    // A writer's own time goes on.
                    if self.due.is_none_or(|due| due.at < at) {
                        self.due = Some(Due { at, writer: false });
                    }
                    self.retry = pause * 2;
                }
                let alike = self.is_refused_alike(&refusal);
                let before = self.refused.take().filter(|_| alike);
                let since = before.map_or_else(Timestamp::now, |(_, since)| since);
                self.refused = Some((refusal, since));
                false
            }
        }
    }
}

/// Numbers for loads that requests may wait for. No two are equal.
#[derive(Debug, Default)]
pub(crate) struct Tickets(u64);

impl Tickets {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

/// Whether a list with such a file is read by a process of its own.
pub(crate) fn is_large_file(file: Option<Signature>) -> bool {
    file.is_some_and(|file| file.size() > SMALL)
}

/// Whether this load of the list is under way.
pub(crate) fn has_load(list: &ListState, ticket: u64) -> bool {
    list.loading.is_some_and(|loading| loading.ticket == ticket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::control::sources::lists::file::FileError;

    fn list(path: &str) -> ListState {
        let text = format!("[[list]]\nname = \"l\"\npath = {path:?}\n");
        let config = Config::parse(&text, Path::new("tapis.toml")).expect("a configuration");
        ListState::new(config.lists.into_iter().next().expect("its list"))
    }

    fn touched(path: &Path, quiet: Duration) -> Touched {
        Touched {
            path: path.to_owned(),
            quiet,
        }
    }

    const CLOSED: Duration = Duration::from_millis(100);

    #[test]
    fn a_relative_path_is_known_by_the_absolute_one_that_the_watch_tells() {
        let mut list = list("Cargo.toml");
        let absolute = std::env::current_dir()
            .expect("a folder")
            .join("Cargo.toml");
        let now = Instant::now();
        list.touch(&touched(&absolute, CLOSED), now);
        assert_eq!(list.due(), Some(now + CLOSED));
    }

    #[test]
    fn a_request_hurries_a_closed_file_and_never_an_open_one() {
        let mut list = list("Cargo.toml");
        let path = list.path().to_owned();
        let now = Instant::now();
        assert_eq!(list.request(7, Guards::NONE, now), 7);
        assert_eq!(list.due(), Some(now + REQUESTED_QUIET));
        list.touch(&touched(&path, OPEN_QUIET), now);
        assert_eq!(
            list.request(8, Guards::NONE, now),
            7,
            "who asked first has the number"
        );
        assert_eq!(list.due(), Some(now + OPEN_QUIET));
        list.touch(&touched(&path, CLOSED), now);
        assert_eq!(list.due(), Some(now + REQUESTED_QUIET));
    }

    #[test]
    fn the_same_refusal_again_stands_since_the_first_time() {
        let mut list = list("Cargo.toml");
        let now = Instant::now();
        let refused = |code| {
            Refusal::File(FileError::Unreadable {
                path: "Cargo.toml".into(),
                source: std::io::Error::from_raw_os_error(code),
            })
        };
        list.settle(Err(refused(libc::EIO)), now);
        let (_, since) = list.refused.as_ref().expect("refused");
        let since = *since;
        assert!(list.is_refused_alike(&refused(libc::EIO)));
        list.settle(Err(refused(libc::EIO)), now);
        assert_eq!(list.refused.as_ref().expect("refused").1, since);
        assert!(!list.is_refused_alike(&refused(libc::ELOOP)));
    }

    #[test]
    fn a_sweep_believes_a_new_state_when_it_finds_it_twice() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("list");
        std::fs::write(&file, "a.example\n").expect("written");
        let mut list = list(&file.display().to_string());
        let now = Instant::now();
        let sweep = |list: &mut ListState| {
            list.want_sweep();
            list.start_look();
            let file = Signature::of(&file).ok();
            list.finish_look(file, now);
        };
        sweep(&mut list);
        assert_eq!(list.due(), None);
        std::fs::write(&file, "a.example\nb.example\n").expect("written");
        sweep(&mut list);
        assert_eq!(list.due(), None, "it goes on changing");
        sweep(&mut list);
        assert_eq!(list.due(), Some(now));
    }

    #[test]
    fn a_file_that_was_written_just_before_it_was_watched_may_not_be_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("list");
        std::fs::write(&file, "a.example\nhalf.exam").expect("written");
        let mut list = list(&file.display().to_string());
        let now = Instant::now();
        list.want_first_look();
        list.start_look();
        list.finish_look(Signature::of(&file).ok(), now);
        let due = list.due().expect("it changed");
        assert!(due > now + OPEN_QUIET / 2, "its writer may not be done");
        list.touch(&touched(&file, CLOSED), now);
        assert_eq!(list.due(), Some(now + CLOSED), "its writer closed it");
    }

    #[test]
    fn a_list_whose_file_is_being_looked_at_is_not_due_again_because_of_its_guard() {
        let config = Config::built_in();
        let guard_policy = GuardPolicy::read(&config);
        let mut list = list("Cargo.toml");
        let loaded = crate::control::sources::lists::load::load(
            &config.lists[0],
            &guard_policy,
            &[],
            Guards::NONE,
        );
        let mut loaded = loaded.unwrap_or_else(|refusal| panic!("{refusal}")).loaded;
        loaded.protected_names = "others".to_owned();
        list.restore(Some(loaded));
        assert!(list.is_outdated(&guard_policy));
        let now = Instant::now();
        list.follow(&guard_policy, now);
        assert_eq!(list.due(), Some(now));
        list.look_if_due(now);
        list.follow(&guard_policy, now);
        assert_eq!(list.due(), None, "it is to be looked at");
        list.start_look();
        list.follow(&guard_policy, now);
        assert_eq!(list.due(), None, "its file system may not answer");
        list.finish_look(None, now);
        list.follow(&guard_policy, now);
        assert_eq!(list.due(), None, "it is to be read");
    }
}
