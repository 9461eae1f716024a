//! The state of each list: its rules in force, why a newer state of its file was refused, and the load under way.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::config::paths::section;
use crate::config::{Content, List};
use crate::control::guard::acceptance::{InForce, too_old};
use crate::control::guard::policy::GuardPolicy;
use crate::control::guard::release::{Guard, Guards};
use crate::control::list_file::parse::Notation;
use crate::control::list_file::parse::ZoneFacts;
use crate::control::list_file::signature::Signature;
use crate::control::sources::feeds::repeats::Repeats;
use crate::control::sources::lists::load::{Loaded, Refusal, RefusalKind, forget_refusals};
use crate::control::sources::settling::{FollowedFile, Look, Pauses, ReadEnd};
use crate::control::sources::watch::{Following, OPEN_QUIET, Touched, WatchedPath};
use crate::policy::image::Image;
use crate::policy::rule::Source;
use crate::wire::transfer::Serial;

/// The pauses before another read of a file that changed while it was read.
const CHANGED: Pauses = Pauses {
    first: Duration::from_millis(300),
    last: OPEN_QUIET,
};
/// The pauses before another compilation of a list, if the system refused the last one, for lack of space for example.
const COMPILE_AGAIN: Pauses = Pauses {
    first: Duration::from_secs(5),
    last: Duration::from_secs(300),
};

/// The largest list file, in bytes, that the server reads itself: that takes a few milliseconds per 100 kB.
const SMALL: u64 = 1 << 20;

/// One list.
#[derive(Debug)]
pub(crate) struct ListState {
    pub(crate) config: List,
    pub(crate) source: Arc<Source>,
    /// The rules in force; `None` if there are none, because the list was never read.
    pub(crate) loaded: Option<Loaded>,
    serving: Serving,
    pub(crate) earlier: EarlierStates,
    /// Its rules while its configuration is pending: they are not joined with those of other lists yet.
    pub(crate) rules: Option<Arc<Image>>,
    /// Why the newest state of the file is refused, and when it was first refused for this reason.
    pub(crate) refused: Option<(Refusal, Timestamp)>,
    /// The kinds of refusals of a feed that were logged and recorded.
    pub(crate) reported: Repeats<RefusalKind>,
    /// The load under way.
    pub(crate) loading: Option<Loading>,
    pub(crate) next: NextLoad,
    /// Whether it has been logged that the state in force is too old.
    logged_old: bool,
    path: WatchedPath,
    file: FollowedFile<Signature>,
}

/// How the rules in force relate to the configuration and to the file.
///
/// ```text
///             serve_kept
///   Current -------------> KeptAs
///    ^ |  ^                 |  |
///    | |  +-----------------+  |
///    | |    loaded, restored   |
///    | |                       |
///    | | set_frozen            | set_frozen
///    | +-------> Frozen <------+
///    +-------------+
///      not frozen any more
/// ```
#[derive(Debug)]
enum Serving {
    /// They were read from the file as it is configured.
    Current,
    /// A previous process read them from this other file, or in this other way. They are in force until the list is
    /// read.
    KeptAs(Box<List>),
    /// A rollback restored them. Newer states of the file are refused.
    Frozen,
}

/// Earlier states of a list, for the guards that compare a newer state with them.
#[derive(Debug, Default)]
pub(crate) struct EarlierStates {
    /// For a list of a new configuration: the states that were in force for the list of the same name and kind in the
    /// earlier configuration. Used until the first load.
    pub(crate) before: Vec<InForce>,
    /// The state in force before a rollback that has been released, until a newer state is loaded.
    pub(crate) accepted: Option<InForce>,
}

/// The requests for the next load.
#[derive(Debug, Default)]
pub(crate) struct NextLoad {
    /// Its number, if a client waits for it.
    pub(crate) ticket: Option<u64>,
    /// Guards that the operator releases for this load.
    pub(crate) released: Guards,
}

/// A transfer of a feed's zone that is to be requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NextTransfer {
    pub(crate) feed: String,
    /// Whether the whole zone is needed, whatever its serial.
    pub(crate) whole: bool,
}

/// A load that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loading {
    /// Its number.
    pub(crate) ticket: u64,
    /// Guards that the operator releases for this load.
    pub(crate) released: Guards,
    /// When it started.
    pub(crate) since: Instant,
}

impl ListState {
    pub(crate) fn new(config: List) -> Self {
        Self {
            source: Arc::new(config.source.clone()),
            path: WatchedPath::new(&config.source.path),
            config,
            loaded: None,
            serving: Serving::Current,
            earlier: EarlierStates::default(),
            rules: None,
            refused: None,
            reported: Repeats::default(),
            loading: None,
            next: NextLoad::default(),
            logged_old: false,
            file: FollowedFile::default(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.source.name
    }

    /// How it is shown: `list NAME` or `feed NAME`.
    pub(crate) fn label(&self) -> String {
        format!("{} {}", section(&self.source.path), self.name())
    }

    /// The file's absolute path.
    pub(crate) fn path(&self) -> &Path {
        self.path.absolute()
    }

    /// Sets the path to which symbolic links lead from the file's path, if that is another path.
    pub(crate) fn set_target(&mut self, target: Option<PathBuf>) {
        self.path.set_target(target);
    }

    /// Whether `config` describes the same rules: the same file, read in the same way.
    pub(crate) fn reads_as(&self, config: &List) -> bool {
        self.config.source.path == config.source.path
            && Notation::from(&self.config) == Notation::from(config)
            && self.config.content == config.content
            // Only a transfer could read a feed again, so its rules stay in force if its settings change.
            && (self.config.zone == config.zone || self.config.content == Content::Transferred)
            // The guards do not check the rules of an allow list.
            && self.config.source.blocks() == config.source.blocks()
    }

    /// Adopts a new configuration that describes the same rules.
    pub(crate) fn reconfigure(&mut self, config: List) {
        self.source = Arc::new(config.source.clone());
        self.config = config;
        self.update_soa();
    }

    /// Sets the SOA record of a policy zone to that of the rules in force.
    fn update_soa(&mut self) {
        if !self.config.zone.as_ref().is_some_and(|zone| zone.soa) {
            return;
        }
        let facts = self
            .loaded
            .as_ref()
            .and_then(|loaded| loaded.tally.zone.as_ref());
        let mut source = self.config.source.clone();
        if let Some(zone) = &mut source.zone {
            zone.soa = facts.and_then(ZoneFacts::record);
        }
        self.source = Arc::new(source);
    }

    /// The same list without its rules, once they are in an image with others.
    pub(crate) fn without_rules(mut self) -> Self {
        self.rules = None;
        self
    }

    /// Sets the result of a look at the file.
    pub(crate) fn set_look(&mut self, file: Option<Signature>) {
        self.file.set_looked(file);
    }

    /// Sets the result of a look at all files.
    pub(crate) fn set_looked(&mut self, files: &HashMap<PathBuf, Option<Signature>>) {
        if let Some(file) = files.get(&self.source.path) {
            self.file.set_looked(*file);
        }
    }

    /// Whether the compiler process reads it, as its file is large.
    pub(crate) fn is_large(&self) -> bool {
        is_large_file(self.looked())
    }

    /// The file as the last look found it; `None` if that failed.
    pub(crate) fn looked(&self) -> Option<Signature> {
        self.file.last_look()
    }

    /// Whether the file differs from the state that was read or refused last. A file that can't be looked at any more
    /// has changed as well: reading it reports the reason.
    pub(crate) fn changed(&self) -> bool {
        self.file.changed()
    }

    /// Takes an event of a watched directory. Returns whether it concerns this file.
    pub(crate) fn touch(&mut self, touched: &Touched, now: Instant) -> bool {
        let is_own = self.path.is(&touched.path);
        if is_own {
            let is_requested = self.next.ticket.is_some();
            self.file.touched(touched.quiet, is_requested, now);
        }
        is_own
    }

    /// Requests a look at the file: a directory or link on its path changed.
    pub(crate) fn want_look(&mut self) {
        self.file.want_look(Look::Path);
    }

    /// Requests a look at the file if it was not watched before. At the start of the server, a file that was written a
    /// moment ago counts as whole: otherwise a change that was in force before a restart would be missing for two
    /// seconds.
    pub(crate) fn want_look_of(&mut self, following: &Following) {
        match (following.fresh, following.first) {
            (true, true) => self.file.want_look(Look::Path),
            (true, false) => self.file.want_look(Look::Unwatched),
            (false, _) => {}
        }
    }

    /// Requests a look at the file as part of a sweep.
    pub(crate) fn want_sweep(&mut self) {
        self.file.want_look(Look::Sweep);
    }

    /// Whether a look at the file is to be started.
    pub(crate) fn wants_look(&self) -> bool {
        self.file.wants_look() && matches!(self.config.content, Content::File)
    }

    /// Whether the look before reading is wanted, under way, or has just ended.
    pub(crate) fn is_looked_for(&self) -> bool {
        self.file.is_checking()
    }

    /// A look at the file starts.
    pub(crate) fn start_look(&mut self) {
        self.file.look_started();
    }

    /// Takes the result of a look.
    pub(crate) fn finish_look(&mut self, file: Option<Signature>, now: Instant) {
        self.file.looked(file, age(file), now);
    }

    /// Whether the look before reading has ended; `true` once.
    pub(crate) fn take_settled(&mut self) -> bool {
        self.file.take_settled()
    }

    /// Requests a load of the newest state for a client. It gets the number `ticket`, unless it was requested before
    /// with another one. Returns its number. A file that is being written is read when it is quiet, not earlier.
    pub(crate) fn request(&mut self, ticket: u64, released: Guards, now: Instant) -> u64 {
        self.file.requested(now);
        self.promise(ticket, released)
    }

    /// Like [`request`](Self::request), for a list that was not watched before.
    pub(crate) fn request_unwatched(&mut self, ticket: u64, released: Guards, now: Instant) {
        self.file.requested_unwatched(age(self.looked()), now);
        self.promise(ticket, released);
    }

    fn promise(&mut self, ticket: u64, released: Guards) -> u64 {
        self.next.released = self.next.released.and(released);
        *self.next.ticket.get_or_insert(ticket)
    }

    /// The states that its newest one is compared with: the state in force, and the one before a rollback.
    pub(crate) fn in_force(&self) -> Vec<InForce> {
        match &self.loaded {
            Some(loaded) => {
                let in_force = InForce {
                    released: Guards::NONE,
                    ..loaded.in_force()
                };
                [in_force]
                    .into_iter()
                    .chain(self.earlier.accepted)
                    .collect()
            }
            None => self.earlier.before.clone(),
        }
    }

    /// The serial of the zone in force.
    pub(crate) fn serial(&self) -> Option<Serial> {
        let zone = self.loaded.as_ref()?.tally.zone.as_ref()?;
        Some(Serial(zone.serial))
    }

    /// Whether its file is to be read again, because its rules were checked against other protected names. `false` while a
    /// load is under way, or while the newest state of the list is refused.
    pub(crate) fn is_outdated(&self, guard_policy: &GuardPolicy) -> bool {
        self.config.content != Content::Transferred
            && self.loading.is_none()
            && self.refused.is_none()
            && self.other_names(guard_policy).is_some()
    }

    /// Identifies the protected names that the rules of a feed must be checked against; `None` if they were, or while a
    /// rollback holds them. Only a transfer of the whole zone can check them, which the feed makes.
    pub(crate) fn unchecked<'p>(&self, guard_policy: &'p GuardPolicy) -> Option<Cow<'p, str>> {
        let is_held = self.is_frozen() || !guard_policy.is_complete();
        self.other_names(guard_policy).filter(|_| !is_held)
    }

    /// Identifies the protected names, if the rules in force were checked against others.
    fn other_names<'p>(&self, guard_policy: &'p GuardPolicy) -> Option<Cow<'p, str>> {
        let loaded = self.loaded.as_ref()?;
        let digest = guard_policy.digest(&self.config);
        (loaded.protected_names != digest).then_some(digest)
    }

    /// The transfer that a feed needs, which is to be requested now: of the whole zone if its guards are released, or of
    /// the version that was not accepted if it may be accepted now.
    pub(crate) fn next_transfer(&self) -> Option<NextTransfer> {
        let may_pass = |refusal: &Refusal| {
            let is_of_system = refusal.waits_for_room() || refusal.passing();
            is_of_system || refusal.is_rollback() || !refusal.guards().is_empty()
        };
        let refused = self.refused.as_ref().map(|(refusal, _)| refusal);
        let whole = !self.next.released.is_empty();
        (whole || refused.is_some_and(may_pass)).then(|| NextTransfer {
            feed: self.name().to_owned(),
            whole,
        })
    }

    /// Whether the load under way reads the state in force again, which happens only because of the guards.
    pub(crate) fn is_reread(&self) -> bool {
        let of = self.file.reading_of();
        let loaded = self.loaded.as_ref();
        of.is_some() && of == loaded.and_then(|loaded| loaded.signature)
    }

    /// The load under way, if it started with the state that the last look found.
    pub(crate) fn load_of_newest(&self) -> Option<Loading> {
        self.loading.filter(|_| self.file.is_reading_newest())
    }

    /// Makes the list due if it is outdated, unless it is to be read anyway. A look at its file may take long;
    /// meanwhile the list is not made due again.
    pub(crate) fn follow(&mut self, guard_policy: &GuardPolicy, now: Instant) {
        if !self.file.is_to_be_read() && self.is_outdated(guard_policy) {
            self.file.set_due(now);
        }
    }

    /// When the file in force was written, if that is too long ago and the operator has not released the guard.
    pub(crate) fn aged(&self, guard_policy: &GuardPolicy, at: Timestamp) -> Option<Timestamp> {
        let loaded = self.loaded.as_ref();
        let loaded = loaded.filter(|loaded| !loaded.released.has(Guard::Old))?;
        too_old(loaded.signature, guard_policy.limits(), at)
    }

    /// Whether its newest state is in force, and no guard has a finding about it.
    pub(crate) fn is_free_of_guards(&self, guard_policy: &GuardPolicy) -> bool {
        let idle = self.loading.is_none() && self.refused.is_none() && !self.changed();
        idle && self.loaded.is_some() && self.aged(guard_policy, Timestamp::now()).is_none()
    }

    /// Like [`aged`](Self::aged), but only once, for the log.
    pub(crate) fn ages(&mut self, guard_policy: &GuardPolicy) -> Option<Timestamp> {
        let since = self.aged(guard_policy, Timestamp::now());
        let known = std::mem::replace(&mut self.logged_old, since.is_some());
        since.filter(|_| !known)
    }

    /// When to look at it and to read it; `None` while that is under way.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.file.due()
    }

    /// If the list is due, requests the look before reading. A list without a file settles at once.
    pub(crate) fn look_if_due(&mut self, now: Instant) {
        match self.config.content {
            Content::File => self.file.check_if_due(now),
            Content::Embedded(_) | Content::Transferred => self.file.settle_if_due(now),
        }
    }

    /// Whether it is time to read the file; `true` once.
    pub(crate) fn take_due(&mut self, now: Instant) -> bool {
        self.file.take_due(now)
    }

    /// Starts a load, as number `ticket` unless it was requested with another one.
    pub(crate) fn start(&mut self, ticket: u64) -> Loading {
        let next = std::mem::take(&mut self.next);
        let loading = Loading {
            ticket: next.ticket.unwrap_or(ticket),
            released: next.released,
            since: Instant::now(),
        };
        self.loading = Some(loading);
        self.file.started();
        loading
    }

    /// Drops the load under way: its result will not be used.
    pub(crate) fn abandon_load(&mut self) -> Option<Loading> {
        self.file.abandoned();
        self.loading.take()
    }

    /// Sets the state in force to that of a stored image.
    pub(crate) fn restore(&mut self, loaded: Option<Loaded>) {
        let signature = loaded.as_ref().and_then(|loaded| loaded.signature);
        self.file.set_seen(signature);
        self.loaded = loaded;
        self.update_soa();
        self.end_kept();
        self.earlier.accepted = None;
    }

    /// Puts rules in force that a previous process read under another configuration of the list, until the list is
    /// read.
    pub(crate) fn serve_kept(&mut self, (read, loaded): (List, Loaded)) {
        self.loaded = Some(loaded);
        self.update_soa();
        self.serving = Serving::KeptAs(Box::new(read));
    }

    fn end_kept(&mut self) {
        if self.is_kept_otherwise() {
            self.serving = Serving::Current;
        }
    }

    /// Whether the rules in force were read from another file than is configured, or in another way.
    pub(crate) fn is_kept_otherwise(&self) -> bool {
        matches!(self.serving, Serving::KeptAs(_))
    }

    /// The list as its rules in force were read.
    pub(crate) fn as_read(&self) -> &List {
        match &self.serving {
            Serving::KeptAs(list) => list,
            Serving::Current | Serving::Frozen => &self.config,
        }
    }

    /// Whether a rollback restored it, so that newer states of its file are refused.
    pub(crate) fn is_frozen(&self) -> bool {
        matches!(self.serving, Serving::Frozen)
    }

    /// Sets whether a rollback has restored it.
    pub(crate) fn set_frozen(&mut self, is_frozen: bool) {
        match is_frozen {
            true => self.serving = Serving::Frozen,
            false if self.is_frozen() => self.serving = Serving::Current,
            false => {}
        }
    }

    /// Whether it is already refused for the same reason.
    pub(crate) fn is_refused_alike(&self, refusal: &Refusal) -> bool {
        let before = self.refused.as_ref();
        before.is_some_and(|(before, _)| {
            // The texts differ in the name of the temporary file.
            let wait = before.waits_for_room() && refusal.waits_for_room();
            wait || before.to_string() == refusal.to_string()
        })
    }

    /// Takes the result of a load: the new state in force, or the reason why the last good one stays.
    pub(crate) fn finish_load(&mut self, result: Result<Loaded, Refusal>, now: Instant) {
        let loading = self.loading.take();
        let refusal = match result {
            Ok(loaded) => {
                self.file.finished(ReadEnd::Known(loaded.signature), now);
                self.loaded = Some(loaded);
                self.update_soa();
                self.end_kept();
                self.earlier.accepted = None;
                self.refused = None;
                forget_refusals(&self.source.name, &mut self.reported);
                self.logged_old = false;
                return;
            }
            Err(refusal) => refusal,
        };
        let is_transferred = self.config.content == Content::Transferred;
        let end = match &refusal {
            refusal if refusal.waits_for_room() => ReadEnd::Again(COMPILE_AGAIN),
            // No event would cause another transfer of the same version.
            refusal if refusal.passing() && is_transferred => ReadEnd::Again(COMPILE_AGAIN),
            refusal if refusal.transient() => ReadEnd::Again(CHANGED),
            refusal if refusal.passing() => ReadEnd::Failed,
            _ => ReadEnd::Refused,
        };
        if let ReadEnd::Again(_) = end {
            let released = loading.map_or(Guards::NONE, |loading| loading.released);
            self.next.released = self.next.released.and(released);
        }
        self.file.finished(end, now);
        let is_alike = self.is_refused_alike(&refusal);
        let before = self.refused.take().filter(|_| is_alike);
        let since = before.map_or_else(Timestamp::now, |(_, since)| since);
        self.refused = Some((refusal, since));
    }
}

/// How long ago a file was written; `None` if that is not known, or in the future.
fn age(file: Option<Signature>) -> Option<Duration> {
    let age = Timestamp::now().duration_since(file?.modified()?);
    Duration::try_from(age).ok()
}

/// Numbers for loads that clients may wait for. No two are equal.
#[derive(Debug, Default)]
pub(crate) struct Tickets(u64);

impl Tickets {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

/// Whether the compiler process reads a list with such a file.
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
    use crate::control::list_file::file::FileError;
    use crate::control::sources::watch::REQUESTED_QUIET;

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
    fn a_relative_path_is_known_by_the_absolute_one_that_the_watch_reports() {
        let mut list = list("Cargo.toml");
        let absolute = std::env::current_dir()
            .expect("a directory")
            .join("Cargo.toml");
        let now = Instant::now();
        list.touch(&touched(&absolute, CLOSED), now);
        assert_eq!(list.due(), Some(now + CLOSED));
    }

    #[test]
    fn a_request_shortens_the_quiet_time_of_a_closed_file_only() {
        let mut list = list("Cargo.toml");
        let path = list.path().to_owned();
        let now = Instant::now();
        assert_eq!(list.request(7, Guards::NONE, now), 7);
        assert_eq!(list.due(), Some(now + REQUESTED_QUIET));
        list.touch(&touched(&path, OPEN_QUIET), now);
        assert_eq!(
            list.request(8, Guards::NONE, now),
            7,
            "the first client has the number"
        );
        assert_eq!(list.due(), Some(now + OPEN_QUIET));
        list.touch(&touched(&path, CLOSED), now);
        assert_eq!(list.due(), Some(now + REQUESTED_QUIET));
    }

    #[test]
    fn a_repeated_refusal_keeps_the_time_of_the_first_one() {
        let mut list = list("Cargo.toml");
        let now = Instant::now();
        let refused = |code| {
            Refusal::File(FileError::Unreadable {
                path: "Cargo.toml".into(),
                source: std::io::Error::from_raw_os_error(code),
            })
        };
        list.finish_load(Err(refused(libc::EIO)), now);
        let (_, since) = list.refused.as_ref().expect("refused");
        let since = *since;
        assert!(list.is_refused_alike(&refused(libc::EIO)));
        list.finish_load(Err(refused(libc::EIO)), now);
        assert_eq!(list.refused.as_ref().expect("refused").1, since);
        assert!(!list.is_refused_alike(&refused(libc::ELOOP)));
    }

    #[test]
    fn a_file_that_was_written_just_before_it_was_watched_may_not_be_whole_except_at_the_start() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("list");
        std::fs::write(&file, "a.example\nhalf.exam").expect("written");
        let mut list = list(&file.display().to_string());
        let now = Instant::now();
        let mut following = Following {
            fresh: true,
            ..Following::default()
        };
        list.want_look_of(&following);
        list.start_look();
        list.finish_look(Signature::of(&file).ok(), now);
        let due = list.due().expect("it changed");
        assert!(due > now + OPEN_QUIET / 2, "its writer may not be done");
        list.touch(&touched(&file, CLOSED), now);
        assert_eq!(list.due(), Some(now + CLOSED), "its writer closed it");
        following.first = true;
        let mut list = self::list(&file.display().to_string());
        list.want_look_of(&following);
        list.start_look();
        list.finish_look(Signature::of(&file).ok(), now);
        assert_eq!(list.due(), Some(now + CLOSED), "the server starts");
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
