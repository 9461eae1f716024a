//! Decides when a file that others write is read: once its writer is done with it, as far as that can be seen.
//!
//! Each list, order and file of exceptions has one [`FollowedFile`]. It makes no system call and reads no clock.
//!
//! ```text
//!               due, and `at` has passed               looked
//!      Idle -----------------------------> Checking ------------> Settled
//!       ^ ^                                                        |   |
//!       | |                      not read, as it is unchanged      |   |
//!       | +--------------------------------------------------------+   | started
//!       |                                                              v
//!       +----------------------------------------------------------- Reading
//!                 finished, and due again if the same read may succeed later
//! ```
//!
//! These events make a file due in any state, since a writer does not wait for its reader. A file that is due is
//! looked at in `Idle` only:
//!
//! | event | due |
//! |---|---|
//! | `touched`: the file was written, closed, replaced or removed | after the quiet time of that event, from now on |
//! | `requested`: a client waits for the newest state | after 20 ms, but not before the quiet time of a file that is being written |
//! | `swept`: two sweeps in a row found the same new state | now |
//! | `looked`: the file changed before it was watched, or its path leads to another file | after the quiet time of a closed file; if it was not watched by the running server and was written a moment ago, after the quiet time of an open file, counted from that write |
//! | `finished`: it changed while it was read, for example | after a pause, which doubles |
//!
//! A list passes through all states, as looking at its file and reading it are tasks. A directory of orders looks at
//! its files and reads them without tasks: they stay in `Idle`, where `take_due`, `swept` and `finished` suffice.

use std::time::Duration;

use tokio::time::Instant;

use super::watch::{CLOSED_QUIET, OPEN_QUIET, REQUESTED_QUIET};

/// A file that is read when it changes. `S` is the part of its metadata that differs between two states of the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FollowedFile<S> {
    state: ReadState<S>,
    due: Option<Due>,
    /// A look that is to be made for another reason than to read the file.
    look: Option<Look>,
    /// A look that is under way for another reason than to read the file.
    looking: Option<Look>,
    /// The state found by the last look; `None` if there was none, or if the file can't be looked at.
    looked: Option<S>,
    /// The state that was read or refused last; `None` if there was none, or if the same state may be read again.
    seen: Option<S>,
    /// The state found by the last sweep, if it differs from `seen` and has not made the file due.
    last_sweep: Option<Option<S>>,
    /// The length of the next pause, before it is limited to the range of [`Pauses`].
    pause: Duration,
}

/// The progress of reading a file.
#[derive(Clone, Copy, Debug, PartialEq)]
enum ReadState<S> {
    /// Nothing is under way. The file may be due.
    Idle,
    /// It has been quiet, and is looked at before it is read.
    Checking { looking: bool },
    /// That look has ended: the file is read now, if it changed.
    Settled,
    /// It is being read. `of` is its state when that started.
    Reading { of: Option<S> },
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Due {
    at: Instant,
    /// A process seems to have the file open for writing.
    writer: bool,
}

/// Why to look at a file, other than to read it. Each reason includes those above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Look {
    /// All files are looked at regularly, as events may be lost.
    Sweep,
    /// A directory or link on its path changed.
    Path,
    /// It has not been watched before.
    Unwatched,
}

/// How reading a file ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum ReadEnd<S> {
    /// Its content in this state is known, good or bad: it is read again after a change.
    Known(Option<S>),
    /// It is refused in the state that it had when reading started, and is read again after a change.
    Refused,
    /// Nothing is known, as the system failed: sweeps have it read again.
    Failed,
    /// Nothing is known: it is read again after a pause.
    Again(Pauses),
}

/// The pauses before a file is read again. Each is twice the one before, within this range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pauses {
    pub(crate) first: Duration,
    pub(crate) last: Duration,
}

impl<S> Default for FollowedFile<S> {
    fn default() -> Self {
        Self {
            state: ReadState::Idle,
            due: None,
            look: None,
            looking: None,
            looked: None,
            seen: None,
            last_sweep: None,
            pause: Duration::ZERO,
        }
    }
}

/// Events.
impl<S: Copy + PartialEq> FollowedFile<S> {
    /// The watch reports an event of the file. The newest event decides how long the file must be quiet from now on.
    /// If a client waits (`is_requested`), a closed file needs less.
    pub(crate) fn touched(&mut self, quiet: Duration, is_requested: bool, now: Instant) {
        let writer = quiet == OPEN_QUIET;
        let quiet = match is_requested && !writer {
            true => REQUESTED_QUIET,
            false => quiet,
        };
        let at = now + quiet;
        self.due = Some(Due { at, writer });
    }

    /// A client waits for the newest state. That does not shorten the quiet time of a file that is being written.
    pub(crate) fn requested(&mut self, now: Instant) {
        if self.due.is_none_or(|due| !due.writer) {
            // The event of a writer may still be on its way.
            self.set_due(now + REQUESTED_QUIET);
        }
    }

    /// Like [`requested`](Self::requested), for a file that was not watched so far and was last written `age` ago.
    pub(crate) fn requested_unwatched(&mut self, age: Option<Duration>, now: Instant) {
        self.requested(now);
        self.due = written_unwatched(age, now).or(self.due);
    }

    /// A sweep found this state. A new state makes the file due when two sweeps in a row find it.
    pub(crate) fn swept(&mut self, found: Option<S>, now: Instant) {
        self.looked = found;
        if self.due.is_some() || self.is_reading() {
            return;
        }
        if found == self.seen {
            self.last_sweep = None;
        } else if self.last_sweep.replace(found) == Some(found) {
            self.set_due(now);
        }
    }

    /// A look is to be made for this reason.
    pub(crate) fn want_look(&mut self, look: Look) {
        self.look = self.look.max(Some(look));
    }

    /// The look that is to be made starts.
    pub(crate) fn look_started(&mut self) {
        self.looking = self.looking.max(self.look.take());
        if let ReadState::Checking { looking } = &mut self.state {
            *looking = true;
        }
    }

    /// A look found this state, which was last written `age` ago.
    pub(crate) fn looked(&mut self, found: Option<S>, age: Option<Duration>, now: Instant) {
        self.looked = found;
        let look = self.looking.take();
        if self.state == (ReadState::Checking { looking: true }) {
            self.state = ReadState::Settled;
            return;
        }
        let look = match look {
            None => return,
            Some(Look::Sweep) => return self.swept(found, now),
            Some(look) => look,
        };
        if self.due.is_none() && !self.is_reading() && self.changed() {
            self.set_due(now + CLOSED_QUIET);
            if look == Look::Unwatched {
                self.due = written_unwatched(age, now).or(self.due);
            }
        }
    }

    /// The file is to be read again for another reason than an event.
    pub(crate) fn set_due(&mut self, at: Instant) {
        self.due = Some(Due { at, writer: false });
    }

    /// If the file is due, requests the look before it is read.
    pub(crate) fn check_if_due(&mut self, now: Instant) {
        if self.take_due(now) {
            self.state = ReadState::Checking { looking: false };
        }
    }

    /// Like [`check_if_due`](Self::check_if_due), for built-in content, which needs no look.
    pub(crate) fn settle_if_due(&mut self, now: Instant) {
        if self.take_due(now) {
            self.state = ReadState::Settled;
        }
    }

    /// Whether it is time to look at the file and to read it; `true` once.
    pub(crate) fn take_due(&mut self, now: Instant) -> bool {
        let is_due = self.due().is_some_and(|at| at <= now);
        if is_due {
            self.due = None;
        }
        is_due
    }

    /// Whether the look before reading has ended, so that the file is read now if it changed; `true` once.
    pub(crate) fn take_settled(&mut self) -> bool {
        let is_settled = self.state == ReadState::Settled;
        if is_settled {
            self.state = ReadState::Idle;
        }
        is_settled
    }

    /// Reading starts. It covers all earlier events.
    pub(crate) fn started(&mut self) {
        self.state = ReadState::Reading { of: self.looked };
        self.due = None;
        self.last_sweep = None;
    }

    /// The result of the read under way is not used.
    pub(crate) fn abandoned(&mut self) {
        if self.is_reading() {
            self.state = ReadState::Idle;
        }
    }

    /// Reading ended.
    pub(crate) fn finished(&mut self, end: ReadEnd<S>, now: Instant) {
        let of = match std::mem::replace(&mut self.state, ReadState::Idle) {
            ReadState::Reading { of } => of,
            _ => None,
        };
        self.last_sweep = None;
        self.seen = match end {
            ReadEnd::Known(state) => state,
            ReadEnd::Refused => of,
            ReadEnd::Failed | ReadEnd::Again(_) => None,
        };
        match end {
            ReadEnd::Known(_) => self.pause = Duration::ZERO,
            ReadEnd::Again(Pauses { first, last }) => {
                let pause = self.pause.clamp(first, last);
                self.pause = pause * 2;
                let at = now + pause;
                // The quiet time of a writer is not shortened.
                if self.due.is_none_or(|due| due.at < at) {
                    self.set_due(at);
                }
            }
            ReadEnd::Refused | ReadEnd::Failed => {}
        }
    }

    /// A look that no event caused found this state.
    pub(crate) fn set_looked(&mut self, found: Option<S>) {
        self.looked = found;
    }

    /// The content in this state is known without reading the file.
    pub(crate) fn set_seen(&mut self, seen: Option<S>) {
        self.seen = seen;
    }
}

/// State.
impl<S: Copy + PartialEq> FollowedFile<S> {
    /// When to look at the file and to read it; `None` while that is under way.
    pub(crate) fn due(&self) -> Option<Instant> {
        let due = self.due.filter(|_| self.state == ReadState::Idle);
        due.map(|due| due.at)
    }

    /// Whether the file is due, or was due and is looked at before it is read.
    pub(crate) fn is_to_be_read(&self) -> bool {
        self.due.is_some() || self.is_checking()
    }

    /// Whether the file was due, and the look before reading has not started yet, is under way, or has just ended.
    pub(crate) fn is_checking(&self) -> bool {
        matches!(self.state, ReadState::Checking { .. } | ReadState::Settled)
    }

    pub(crate) fn is_reading(&self) -> bool {
        matches!(self.state, ReadState::Reading { .. })
    }

    /// Whether the read that is under way started with the state that the last look found.
    pub(crate) fn is_reading_newest(&self) -> bool {
        self.state == (ReadState::Reading { of: self.looked })
    }

    /// The state when the read that is under way started.
    pub(crate) fn reading_of(&self) -> Option<S> {
        match self.state {
            ReadState::Reading { of } => of,
            _ => None,
        }
    }

    /// Whether a look is to be started.
    pub(crate) fn wants_look(&self) -> bool {
        self.look.is_some() || self.state == (ReadState::Checking { looking: false })
    }

    /// The state found by the last look; `None` if the file can't be looked at.
    pub(crate) fn last_look(&self) -> Option<S> {
        self.looked
    }

    /// Whether the last look found another state than was read or refused last.
    pub(crate) fn changed(&self) -> bool {
        self.looked != self.seen
    }

    /// The state that was read or refused last; `None` if the same state may be read again.
    pub(crate) fn seen(&self) -> Option<S> {
        self.seen
    }
}

/// When to read a file that was last written `age` ago, while it was not watched: its writer may still have it open.
fn written_unwatched(age: Option<Duration>, now: Instant) -> Option<Due> {
    let left = age.and_then(|age| OPEN_QUIET.checked_sub(age))?;
    let at = now + left;
    Some(Due { at, writer: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: ReadEnd<u8> = ReadEnd::Known(Some(1));
    const AGAIN: ReadEnd<u8> = ReadEnd::Again(Pauses {
        first: Duration::from_millis(300),
        last: OPEN_QUIET,
    });

    /// An event, or a step of a reader. States of the file are numbers, and times milliseconds.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Open,
        Closed,
        Requested,
        /// A sweep finds this state.
        Swept(u8),
        /// A look for this reason finds this state, which was written this long ago.
        Looked(Look, u8, u64),
        /// This much time passes.
        Wait(u64),
        Check,
        LookStarted,
        /// The look before reading finds this state.
        Found(u8),
        Started,
        Finished(ReadEnd<u8>),
        /// The file has not changed: it is not read.
        Left,
    }

    /// Takes these steps with a file whose content in state 1 is known. Returns the file, and in how many milliseconds
    /// it is due.
    fn after(steps: &[Step]) -> (FollowedFile<u8>, Option<u128>) {
        let mut file = FollowedFile::default();
        file.set_looked(Some(1));
        file.set_seen(Some(1));
        let mut now = Instant::now();
        for step in steps {
            match *step {
                Step::Open => file.touched(OPEN_QUIET, false, now),
                Step::Closed => file.touched(CLOSED_QUIET, false, now),
                Step::Requested => file.requested(now),
                Step::Swept(found) => file.swept(Some(found), now),
                Step::Looked(look, found, age) => {
                    file.want_look(look);
                    file.look_started();
                    file.looked(Some(found), Some(Duration::from_millis(age)), now);
                }
                Step::Wait(time) => now += Duration::from_millis(time),
                Step::Check => file.check_if_due(now),
                Step::LookStarted => file.look_started(),
                Step::Found(found) => file.looked(Some(found), None, now),
                Step::Started => file.started(),
                Step::Finished(end) => file.finished(end, now),
                Step::Left => assert!(file.take_settled()),
            }
        }
        let due = file.due().map(|at| (at - now).as_millis());
        (file, due)
    }

    #[test]
    fn a_file_is_due_when_its_writer_seems_to_be_done() {
        use Step::*;
        let due = |steps: &[Step], expected| assert_eq!(after(steps).1, expected, "{steps:?}");
        due(&[], None);
        due(&[Closed], Some(100));
        due(&[Open], Some(2000));
        // The newest event decides, and starts the time again.
        due(&[Open, Wait(50), Closed], Some(100));
        due(&[Closed, Wait(50), Open], Some(2000));
        due(&[Open, Wait(1500), Open], Some(2000));
        // A client that waits shortens the quiet time of a file that no process has open, and not that of one being
        // written.
        due(&[Requested], Some(20));
        due(&[Closed, Requested], Some(20));
        due(&[Open, Wait(500), Requested], Some(1500));
        // A file whose path leads elsewhere counts as whole. A file that was not watched may not be whole if it is new.
        due(&[Looked(Look::Path, 2, 10)], Some(100));
        due(&[Looked(Look::Unwatched, 2, 5000)], Some(100));
        due(&[Looked(Look::Unwatched, 2, 500)], Some(1500));
        due(&[Looked(Look::Unwatched, 2, 500), Requested], Some(1500));
        due(&[Looked(Look::Unwatched, 2, 500), Closed], Some(100));
        due(&[Looked(Look::Unwatched, 1, 500)], None);
        due(&[Open, Looked(Look::Path, 2, 10)], Some(2000));
    }

    #[test]
    fn a_client_that_waits_shortens_the_quiet_time_of_a_closed_file_only() {
        let now = Instant::now();
        let mut file = FollowedFile::<u8>::default();
        file.touched(CLOSED_QUIET, true, now);
        assert_eq!(file.due(), Some(now + REQUESTED_QUIET));
        file.touched(OPEN_QUIET, true, now);
        assert_eq!(file.due(), Some(now + OPEN_QUIET));
        let mut file = FollowedFile::<u8>::default();
        file.requested_unwatched(Some(OPEN_QUIET / 4), now);
        assert_eq!(
            file.due(),
            Some(now + OPEN_QUIET * 3 / 4),
            "written just now"
        );
        file.requested_unwatched(None, now);
        assert_eq!(file.due(), Some(now + OPEN_QUIET * 3 / 4), "it may be open");
    }

    #[test]
    fn a_file_is_due_when_two_sweeps_find_the_same_new_state() {
        use Step::*;
        let due = |steps: &[Step], expected| assert_eq!(after(steps).1, expected, "{steps:?}");
        due(&[Swept(1), Swept(1)], None);
        due(&[Swept(2)], None);
        due(&[Swept(2), Swept(2)], Some(0));
        due(&[Swept(2), Swept(3)], None);
        due(&[Swept(2), Swept(3), Swept(3)], Some(0));
        due(&[Swept(2), Swept(1), Swept(2)], None);
        // Events and reads take precedence over sweeps.
        due(&[Open, Swept(2), Swept(2)], Some(2000));
        due(&[Started, Swept(2), Swept(2), Finished(READ)], None);
        due(&[Swept(2), Started, Finished(READ), Swept(2)], None);
        due(
            &[Looked(Look::Sweep, 2, 9), Looked(Look::Sweep, 2, 9)],
            Some(0),
        );
    }

    #[test]
    fn a_file_that_is_due_is_looked_at_and_then_read_or_left() {
        use Step::*;
        let state = |steps: &[Step]| after(steps).0.state;
        let early = [Closed, Wait(99), Check];
        let due = [Closed, Wait(100), Check];
        let with = |more: &[Step]| [&due, more].concat();
        assert_eq!(state(&early), ReadState::Idle);
        assert_eq!(state(&due), ReadState::Checking { looking: false });
        assert!(after(&due).0.wants_look());
        assert_eq!(
            state(&with(&[LookStarted])),
            ReadState::Checking { looking: true }
        );
        assert!(!after(&with(&[LookStarted])).0.wants_look());
        // A look that has started before it was due may have found an older state.
        assert_eq!(
            state(&with(&[Found(2)])),
            ReadState::Checking { looking: false }
        );
        assert_eq!(state(&with(&[LookStarted, Found(2)])), ReadState::Settled);
        assert_eq!(
            state(&with(&[LookStarted, Found(1), Left])),
            ReadState::Idle
        );
        let read = with(&[LookStarted, Found(2), Started]);
        assert_eq!(state(&read), ReadState::Reading { of: Some(2) });
        let ended = after(&[&read[..], &[Finished(ReadEnd::Known(Some(2)))]].concat());
        assert_eq!(
            (ended.0.state, ended.0.changed(), ended.1),
            (ReadState::Idle, false, None)
        );
    }

    #[test]
    fn events_while_a_file_is_looked_at_or_read_count_afterwards() {
        use Step::*;
        let check = [Closed, Wait(100), Check, LookStarted, Closed];
        let (file, due) = after(&check);
        assert_eq!((due, file.is_to_be_read()), (None, true));
        let left = [&check[..], &[Found(1), Left]].concat();
        assert_eq!(
            after(&left).1,
            Some(100),
            "it may have changed after the look"
        );
        let read = [&check[..], &[Found(2), Started]].concat();
        assert!(
            !after(&read).0.is_to_be_read(),
            "reading starts after that event"
        );
        let during = [&read[..], &[Open, Wait(500)]].concat();
        assert_eq!(after(&during).1, None);
        let ended = [&during[..], &[Finished(READ)]].concat();
        assert_eq!(after(&ended).1, Some(1500));
    }

    #[test]
    fn the_end_of_a_read_decides_whether_the_same_state_is_read_again() {
        use Step::*;
        let end = |end| after(&[Swept(2), Started, Swept(3), Finished(end)]);
        let seen = |of| (end(of).0.seen, end(of).1);
        assert_eq!(seen(ReadEnd::Known(Some(3))), (Some(3), None));
        assert_eq!(
            seen(ReadEnd::Refused),
            (Some(2), None),
            "as it was at first"
        );
        assert_eq!(
            seen(ReadEnd::Failed),
            (None, None),
            "for the next two sweeps"
        );
        assert_eq!(seen(AGAIN), (None, Some(300)));
        let mut abandoned = after(&[Swept(2), Started]).0;
        abandoned.abandoned();
        assert_eq!(
            (abandoned.state, abandoned.seen),
            (ReadState::Idle, Some(1))
        );
    }

    #[test]
    fn pauses_double_up_to_the_last_and_cut_no_quiet_time() {
        use Step::*;
        let mut steps = Vec::new();
        for pause in [300, 600, 1200, 2000, 2000] {
            steps.extend([Started, Finished(AGAIN)]);
            assert_eq!(after(&steps).1, Some(pause));
        }
        steps.extend([Started, Finished(READ), Started, Finished(AGAIN)]);
        assert_eq!(after(&steps).1, Some(300), "the first one again");
        let open = [Started, Open, Finished(AGAIN)];
        assert_eq!(after(&open).1, Some(2000));
    }

    #[test]
    fn a_look_covers_the_reasons_for_which_it_is_made() {
        let now = Instant::now();
        let mut file = FollowedFile::default();
        file.want_look(Look::Unwatched);
        file.want_look(Look::Sweep);
        file.look_started();
        assert!(!file.wants_look());
        file.want_look(Look::Path);
        file.looked(Some(1), None, now);
        assert_eq!(
            file.due(),
            Some(now + CLOSED_QUIET),
            "not only in the next sweep"
        );
        assert!(file.wants_look(), "a link may have changed after the look");
    }
}
