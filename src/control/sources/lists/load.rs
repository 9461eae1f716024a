//! Reads a list's file into an image of its rules, or refuses it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::config::shown::Show;
use crate::config::{Content, Format, List};
use crate::control::guard::acceptance::{
    HeldUpdate, InForce, NewState, RELEASE, check_acceptance, released_before,
};
use crate::control::guard::policy::GuardPolicy;
use crate::control::guard::protected::Guarded;
use crate::control::guard::reading::{Reading, read_list};
use crate::control::guard::release::{Guard, Guards};
use crate::control::list_file::file::FileError;
use crate::control::list_file::parse::{ParsedRule, ParsedTrigger, Tally};
use crate::control::list_file::signature::Signature;
use crate::control::sources::deadline::DEADLINE;
use crate::control::sources::downloads::copy;
use crate::control::sources::feeds::fault::Fault;
use crate::control::sources::feeds::repeats::Repeats;
use crate::policy::builder::Builder;
use crate::policy::effect::Effect;
use crate::policy::image::provenance::ImageSource;
use crate::policy::image::{Image, TooLarge};
use crate::wire::name::Name;

/// The rules of a list that was read to its end, and the facts about them.
#[derive(Debug)]
pub struct LoadedRules {
    /// The facts.
    pub loaded: Loaded,
    /// The rules.
    pub image: Arc<Image>,
}

/// The facts about a list that was read to its end.
#[derive(Debug)]
pub struct Loaded {
    /// The number of distinct rules.
    pub rules: usize,
    /// Counts of its lines, and the first bad ones.
    pub tally: Tally,
    /// BLAKE3 of the file's bytes, in hexadecimal.
    pub digest: String,
    /// The file when it was read; `None` for built-in content.
    pub signature: Option<Signature>,
    /// When it was read.
    pub at: Timestamp,
    /// How long that took.
    pub took: Duration,
    /// Identifies the protected names that its rules were checked against; empty if there were none.
    pub protected_names: String,
    /// Guards that were released for it.
    pub released: Guards,
}

impl Loaded {
    /// The facts that guards compare a newer state with.
    pub fn in_force(&self) -> InForce {
        InForce {
            rules: self.rules,
            signature: self.signature,
            released: self.released,
            ended: self.tally.ended,
            format: self.tally.detected.map(|detected| detected.format),
        }
    }
}

/// Why a list's file is refused. The last good state, if there is one, stays in force.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Its file can't be read, or is no list.
    #[error(transparent)]
    File(#[from] FileError),
    /// It was not read in time. The file system may be slow, or its rules take long to compile.
    #[error(
        "{path}: reading it takes longer than {limit} s; unless it has many patterns, check the disk or the network \
         mount; it is read in the background", limit = DEADLINE.as_secs(), path = .0.shown())]
    Unanswered(PathBuf),
    /// It has the rules of a feed, and no state of the zone has been transferred.
    #[error("{}: no transfer yet; its rules come into force after the first one", .0.shown())]
    NoTransfer(PathBuf),
    /// It is downloaded, and there is no copy of it.
    #[error("not downloaded yet; its rules come into force after the first download")]
    NotDownloaded,
    /// It is downloaded, and its copy is damaged.
    #[error("{path}: damaged: it has other bytes than were downloaded; it is downloaded again", path = .0.shown())]
    Damaged(PathBuf),
    /// The transfer of a feed's zone failed after its compilation had begun.
    #[error("{0}: the transfer of the zone failed")]
    TransferFailed(Box<Name>),
    /// The changes of a zone do not fit the rules in force.
    #[error("{0}: the changes do not fit the version in force; the whole zone is transferred")]
    BrokenChanges(Box<Name>),
    /// It has more rules than an image can hold.
    #[error("{path}: {source}", path = .path.shown())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit that is exceeded.
        source: TooLarge,
    },
    /// Guards reject it.
    #[error(transparent)]
    Held(#[from] HeldUpdate),
    /// The compiler, which reads large lists, refuses it.
    #[error("{text}")]
    FromCompiler {
        /// The reason, as a sentence.
        text: String,
        /// See [`passing`](Self::passing).
        passing: bool,
        /// See [`transient`](Self::transient).
        transient: bool,
        /// See [`guards`](Self::guards).
        guards: Guards,
        /// See [`is_too_large`](Self::is_too_large).
        is_too_large: bool,
        /// See [`may_be_damaged`](Self::may_be_damaged).
        may_be_damaged: bool,
    },
    /// A rollback holds the list.
    #[error(
        "held as it was in generation {generation}; to use newer versions again: tapis rollback --release"
    )]
    RolledBack {
        /// The generation.
        generation: u64,
    },
    /// Compiling it failed.
    #[error(
        "{path}: not compiled: {text}; it is {again} {after}when {what} changes, and with: tapis reload",
        again = if *.is_transferred { "transferred again" } else { "tried again" },
        after = if *.passes { "after a while, " } else { "" },
        what = if *.is_transferred { "the serial" } else { "the file" }, path = .path.shown())]
    NotCompiled {
        /// The file.
        path: PathBuf,
        /// Why, as a sentence.
        text: String,
        /// Whether compiling the same file again may succeed later. A zone is always transferred again: its contents are
        /// not the reason.
        passes: bool,
        /// Whether it is the zone of a feed.
        is_transferred: bool,
    },
}

/// A kind of refusals: those with the same cause.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RefusalKind {
    guards: Guards,
    /// Whether the whole zone may be accepted, as only its changes are refused.
    is_of_changes: bool,
    /// The reason without what differs each time; empty if guards reject the version.
    cause: String,
}

/// Forgets the refusals of versions of a feed, as one was accepted, and logs how many of them were not reported.
pub(crate) fn forget_refusals(feed: &str, reported: &mut Repeats<RefusalKind>) {
    // The whole zone that follows changes which do not fit says nothing about the next changes.
    let unreported = reported.forget(|kind| !kind.is_of_changes);
    if unreported > 0 {
        tracing::info!(feed, unreported, "version accepted after rejected ones");
    }
}

impl Refusal {
    /// Whether another attempt may succeed although the file did not change.
    pub fn passing(&self) -> bool {
        match self {
            Self::FromCompiler { passing, .. } => *passing,
            Self::Unanswered(_) => true,
            Self::File(error) => error.passing(),
            _ => false,
        }
    }

    /// The guards that reject it, if there is no other reason.
    pub fn guards(&self) -> Guards {
        match self {
            Self::Held(held) => held.guards(),
            Self::FromCompiler { guards, .. } => *guards,
            _ => Guards::NONE,
        }
    }

    /// Whether the data of its rules is too large.
    pub fn is_too_large(&self) -> bool {
        match self {
            Self::TooLarge { source, .. } => *source == TooLarge::Data,
            Self::FromCompiler { is_too_large, .. } => *is_too_large,
            _ => false,
        }
    }

    /// Whether its file may be damaged: it has other bytes than were downloaded, or the system can't read it.
    pub fn may_be_damaged(&self) -> bool {
        match self {
            Self::Damaged(_) => true,
            Self::File(error) => error.passing(),
            Self::FromCompiler { may_be_damaged, .. } => *may_be_damaged,
            _ => false,
        }
    }

    /// The fault of the primary that sent the zone, if it is one.
    pub(crate) fn fault(&self) -> Option<Fault> {
        match self {
            Self::BrokenChanges(_) => Some(Fault::BrokenChanges),
            _ => self.is_too_large().then_some(Fault::TooLarge),
        }
    }

    /// The kind of this refusal, for limits of reports.
    pub(crate) fn kind(&self) -> RefusalKind {
        let guards = self.guards();
        let cause = match guards == Guards::NONE {
            true => cause(&self.to_string()),
            false => String::new(),
        };
        RefusalKind {
            guards,
            is_of_changes: matches!(self, Self::BrokenChanges(_)),
            cause,
        }
    }

    /// The message if the server can't start because of this. It does not suggest to release a guard or to wait until
    /// the file is read again: that needs a running server.
    pub fn without_server(&self) -> String {
        let text = self.to_string();
        if let Some((found, _)) = text.split_once(RELEASE) {
            let remedy = match self.guards().has(Guard::Empty) {
                true => "if it is to be empty, put a comment line into it",
                false => "correct or remove the bad lines, or raise `bad-percent` in [guard]",
            };
            return format!("{found}. No server runs that could accept it: {remedy}");
        }
        let later = [
            "; it is read ",
            "; it is tried again ",
            "; it is downloaded again",
        ];
        let found = later.iter().find_map(|later| text.split_once(later));
        found.map_or_else(|| text.clone(), |(found, _)| found.to_owned())
    }

    /// Whether the list has no rules yet, as nothing was transferred or downloaded.
    pub(crate) fn is_first(&self) -> bool {
        matches!(self, Self::NoTransfer(_) | Self::NotDownloaded)
    }

    /// Whether a rollback holds the list.
    pub(crate) fn is_rollback(&self) -> bool {
        matches!(self, Self::RolledBack { .. })
    }

    /// Whether to compile it again after a while.
    pub(crate) fn waits_for_room(&self) -> bool {
        matches!(self, Self::NotCompiled { passes: true, .. })
    }

    /// Whether the file is read again without an event.
    pub fn transient(&self) -> bool {
        matches!(
            self,
            Self::File(FileError::Changing(_))
                | Self::FromCompiler {
                    transient: true,
                    ..
                }
        )
    }
}

/// A reason without its paths and digits: names of temporary files and numbers differ each time.
fn cause(reason: &str) -> String {
    let words = reason.split_whitespace();
    let words = words.filter(|word| !word.contains('/'));
    let words = words.map(|word| word.replace(|c: char| c.is_ascii_digit(), ""));
    words.collect::<Vec<_>>().join(" ")
}

/// Reads a list without the rules that guards suppress, and checks it against its states in force (`before`). Guards
/// that the operator has `released` are not checked.
///
/// # Errors
/// [`Refusal`] if the file can't be read, or must not replace the state in force.
pub fn load(
    list: &List,
    guard_policy: &GuardPolicy,
    before: &[InForce],
    released: Guards,
) -> Result<LoadedRules, Refusal> {
    load_as(list, list.into(), guard_policy, before, released)
}

/// The same as [`load`], with its rules checked as `guarded` says.
///
/// # Errors
/// See [`load`].
pub fn load_as(
    list: &List,
    guarded: Guarded,
    guard_policy: &GuardPolicy,
    before: &[InForce],
    released: Guards,
) -> Result<LoadedRules, Refusal> {
    let start = Instant::now();
    let path = &list.source.path;
    if list.content == Content::Transferred {
        return Err(Refusal::NoTransfer(path.clone()));
    }
    if list.download.is_some() && !path.exists() {
        return Err(Refusal::NotDownloaded);
    }
    let mut builder = Builder::new();
    let mut overfull = None;
    let text = list.content.embedded();
    let default = Effect::default();
    let rule = |rule: ParsedRule<'_>| {
        let effect = rule.effect.unwrap_or(&default);
        let added = match rule.trigger {
            ParsedTrigger::Name(name, scope) => builder.insert_effect(name, 0, scope, effect),
            ParsedTrigger::Network(prefix) => builder.insert_prefix(prefix, 0, effect),
            ParsedTrigger::Pattern(pattern) => builder.insert_pattern(pattern, 0, effect),
        };
        if let Err(error) = added {
            overfull.get_or_insert(error);
        }
    };
    let protected_names = Some((guard_policy.protected_names(), guarded));
    let notation = (list.into(), list.apex());
    let reading = read_list(path, text, notation, protected_names, rule, |_, _| {})?;
    check_copy(list.download.is_some(), path, &reading)?;
    let source = builder.source(ImageSource {
        amendable: list.format == Format::Rpz,
        ..ImageSource::named(&list.source.name)
    });
    let overfull = overfull.or(source.err());
    let image = overfull.map_or_else(|| builder.finish(), Err);
    let image = image.map_err(|source| Refusal::TooLarge {
        path: path.clone(),
        source,
    })?;
    let rules = image.facts().given();
    let new = NewState::new(&list.source.name, path, &reading, Some(rules));
    check_acceptance(&new, before, guard_policy.limits(), released)?;
    let loaded = Loaded {
        rules,
        tally: reading.tally,
        digest: reading.digest.to_string(),
        signature: reading.signature,
        at: reading.at,
        took: start.elapsed(),
        protected_names: guard_policy.digest(list).into_owned(),
        released: released.and(released_before(before, reading.signature)),
    };
    Ok(LoadedRules {
        loaded,
        image: Arc::new(image),
    })
}

/// Refuses the copy of a downloaded list if it was damaged before it was read.
pub(crate) fn check_copy(is_copy: bool, path: &Path, reading: &Reading) -> Result<(), Refusal> {
    let Some(file) = reading.signature.as_ref().filter(|_| is_copy) else {
        return Ok(());
    };
    match copy::is_damaged(path, file, &reading.digest.to_string()) {
        true => Err(Refusal::Damaged(path.to_owned())),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;
    use crate::config::Config;
    use crate::config::guard::Protections;
    use crate::control::list_file::file::{MAX_FILE, SNIFF};
    use crate::control::sources::lists::provenance;
    use crate::policy::rule::Kind;

    fn list(path: &Path) -> List {
        let text = format!("[[list]]\nname = \"l\"\npath = {path:?}\nkind = \"block\"\n");
        let config = Config::parse(&text, Path::new("/c.toml")).expect("a configuration");
        config.lists.into_iter().next().expect("its list")
    }

    fn guard_policy() -> GuardPolicy {
        GuardPolicy::read(&Config::built_in())
    }

    fn loaded(content: &[u8], before: Option<usize>, released: Guards) -> Result<usize, Refusal> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("list");
        fs::write(&path, content).expect("written");
        let before = before.map(|rules| InForce {
            rules,
            signature: None,
            released: Guards::NONE,
            ended: false,
            format: None,
        });
        let read = load(&list(&path), &guard_policy(), before.as_slice(), released)?;
        assert_eq!(read.loaded.released, released);
        Ok(read.loaded.rules)
    }

    #[test]
    fn a_good_file_is_loaded_and_a_file_of_comments_is_an_empty_list() {
        let taken = loaded(b"a.test\nb.test\n", Some(3), Guards::NONE);
        assert_eq!(taken.expect("taken"), 2);
        let taken = loaded(b"# lifted\n", Some(11), Guards::NONE);
        assert_eq!(taken.expect("taken"), 0);
    }

    #[test]
    fn a_file_that_looks_like_an_accident_is_held_until_its_guard_is_released() {
        for (content, before, guard) in [
            (&b""[..], None, Guard::Empty),
            (b"\n\n", None, Guard::Empty),
            (b"a.test\n/\n/\n", None, Guard::Bad),
            (b"a.test\n", Some(3), Guard::Shrunk),
        ] {
            let refusal = loaded(content, before, Guards::NONE).expect_err("held");
            assert_eq!(refusal.guards(), guard.into());
            let remedy = format!("tapis reload --accept l:{guard}");
            assert!(refusal.to_string().ends_with(&remedy), "{refusal}");
            let others = Guard::ALL.into_iter().filter(|other| *other != guard);
            loaded(content, before, others.collect()).expect_err("held all the same");
            loaded(content, before, guard.into()).expect("released");
        }
        loaded(b"a.test\n/\n", None, Guards::NONE).expect("half bad is not over half");
        loaded(b"a.test\n", Some(2), Guards::NONE).expect("half as many is not under half");
    }

    #[test]
    fn rules_that_cover_protected_names_are_suppressed_but_are_not_bad_lines() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("list");
        fs::write(&path, ".co.id\na.test\n1.2.3.4.5\n.com\n").expect("written");
        let mut list = list(&path);
        let read = load(&list, &guard_policy(), &[], Guards::NONE).expect("taken");
        let Loaded {
            rules,
            tally,
            protected_names,
            ..
        } = read.loaded;
        assert_eq!(
            (rules, tally.rules, tally.lines, tally.bad_total()),
            (1, 1, 4, 0)
        );
        let left: Vec<_> = tally
            .guarded
            .first
            .iter()
            .map(|left| (left.line, &*left.rule))
            .collect();
        assert_eq!(left, [(1, ".co.id"), (3, "1.2.3.4.5"), (4, ".com")]);
        assert_eq!(protected_names, guard_policy().protected_names().digest());
        list.source.kind = Kind::Allow;
        let read = load(&list, &guard_policy(), &[], Guards::NONE).expect("taken");
        assert_eq!(
            (read.loaded.rules, read.loaded.tally.guarded.warned),
            (4, 2),
            "it blocks nothing, and frees .co.id and .com"
        );
        assert_eq!(
            read.loaded.protected_names,
            guard_policy().protected_names().allow_digest()
        );
    }

    #[test]
    fn a_reported_rule_in_a_last_line_without_an_end_is_suppressed_in_any_list() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("list");
        let mut list = list(&path);
        for (kind, warn) in [
            (Kind::Block, Protections::ALL),
            (Kind::Block, Protections::NONE),
            (Kind::Allow, Protections::NONE),
        ] {
            (list.source.kind, list.warn) = (kind, warn);
            for last in [".com", ".co.uk", "*.github.io"] {
                for (content, rules) in [
                    (format!("a.test\n{last}"), 1),
                    (format!("a.test\n{last}\nb.test"), 3),
                ] {
                    fs::write(&path, &content).expect("written");
                    let read = load(&list, &guard_policy(), &[], Guards::NONE).expect("taken");
                    let (loaded, counts) =
                        (read.loaded, kind == Kind::Allow || warn == Protections::ALL);
                    let rules = rules - usize::from(rules == 3 && !counts && last != "*.github.io");
                    assert_eq!(loaded.rules, rules, "{kind:?} {content:?}");
                    assert!(!loaded.tally.ended);
                    if let (1, [left]) = (rules, &*loaded.tally.guarded.first) {
                        assert!(
                            left.why.ends_with("within its line: cut off?"),
                            "{}",
                            left.why
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_file_that_can_not_be_a_list_is_refused_whatever_is_released() {
        let binary = loaded(b"\x1f\x8b\x08\x00\x00", None, Guards::ALL).expect_err("refused");
        assert!(binary.to_string().contains("binary"), "{binary}");
        for start in ["\u{feff}", ""] {
            let text = format!("{start}# a list\na.test\nb.test\n");
            let units = || text.encode_utf16();
            let little: Vec<u8> = units().flat_map(u16::to_le_bytes).collect();
            let big: Vec<u8> = units().flat_map(u16::to_be_bytes).collect();
            for content in [little, big] {
                let refusal = loaded(&content, None, Guards::ALL).expect_err("refused");
                assert!(refusal.to_string().contains("UTF-16 text"), "{refusal}");
            }
        }
        let dir = tempfile::tempdir().expect("a directory");
        let folder =
            load(&list(dir.path()), &guard_policy(), &[], Guards::ALL).expect_err("refused");
        assert!(matches!(folder, Refusal::File(FileError::NotAFile(_))));
        let sparse = dir.path().join("sparse");
        let file = File::create(&sparse).expect("made");
        file.set_len(MAX_FILE + 1).expect("without taking room");
        let gigantic =
            load(&list(&sparse), &guard_policy(), &[], Guards::ALL).expect_err("refused");
        assert!(matches!(gigantic, Refusal::File(FileError::Gigantic(_))));
        file.set_len(MAX_FILE).expect("without taking room");
        let binary = load(&list(&sparse), &guard_policy(), &[], Guards::ALL).expect_err("refused");
        assert!(matches!(binary, Refusal::File(FileError::Binary(_))));
        let late = [vec![b'#'; SNIFF], b"\na.test\n\0\n".to_vec()].concat();
        assert_eq!(loaded(&late, None, Guards::ALL).expect("one bad line"), 1);
        let missing = dir.path().join("missing");
        let missing =
            load(&list(&missing), &guard_policy(), &[], Guards::ALL).expect_err("refused");
        assert!(missing.to_string().contains("/missing: "), "{missing}");
    }

    #[test]
    fn a_list_that_is_not_read_in_time_is_not_called_a_fault_of_the_file_system() {
        let late = Refusal::Unanswered("/lists/ads".into());
        let expected = "/lists/ads: reading it takes longer than 10 s; unless it has many patterns, check the disk or \
                        the network mount";
        assert_eq!(
            late.to_string(),
            format!("{expected}; it is read in the background")
        );
        assert_eq!(late.without_server(), expected);
    }

    #[test]
    fn refusals_are_of_one_kind_if_only_their_numbers_and_files_differ() {
        let not_compiled = |text: &str| Refusal::NotCompiled {
            path: "feed".into(),
            text: text.to_owned(),
            passes: true,
            is_transferred: true,
        };
        let full = not_compiled("/state/base.tmp-a1: can't be written: no space left");
        let again = not_compiled("/state/base.tmp-Zy: can't be written: no space left");
        let denied = not_compiled("/state/base.tmp-a1: can't be written: permission denied");
        let killed = [9, 11].map(|signal| not_compiled(&format!("ended by signal {signal}")));
        assert_eq!(full.kind(), again.kind());
        assert_eq!(killed[0].kind(), killed[1].kind());
        assert!(full.kind() != denied.kind() && full.kind() != killed[0].kind());
        let held = |content| {
            loaded(content, Some(90), Guards::NONE)
                .expect_err("held")
                .kind()
        };
        assert_eq!(held(b"a.test\n"), held(b"a.test\nb.test\n"));
        assert!(held(b"a.test\n") != held(b""));
    }

    #[test]
    fn a_policy_zone_keeps_rules_that_others_cover_because_a_transfer_may_remove_the_others() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("list");
        let text = "$ORIGIN rpz.\n@ SOA . . 1 60 60 600 60\na.test CNAME .\n*.a.test CNAME .\n\
                    x.a.test CNAME .\n";
        fs::write(&path, text).expect("written");
        let config = format!("[[list]]\nname = \"l\"\npath = {path:?}\nformat = \"rpz\"\n");
        let config = Config::parse(&config, Path::new("/c.toml")).expect("a configuration");
        let read = load(&config.lists[0], &guard_policy(), &[], Guards::NONE).expect("taken");
        let source = provenance::source(&config.lists[0], &read.loaded);
        assert!(source.amendable && read.image.provenance().sources[0].amendable);
        // The pair on a.test is one rule.
        assert_eq!((read.loaded.rules, read.image.facts().rules), (3, 2));
    }
}
