//! The file of the query log: rotation, and what happens if it can't be written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::opening::{Opened, open};
use crate::config::shown::Show;

/// The pause before a file that can't be written is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often it is checked whether the path still leads to the open file.
const LOOK: Duration = Duration::from_secs(1);

/// A file that lines are appended to.
pub(super) struct LogFile {
    path: PathBuf,
    /// The size at which it is rotated.
    most: Option<u64>,
    keep: u32,
    open: Option<Open>,
    /// What was last written to a pipe or a device ends within a line, which can't be found out there when it is opened again.
    is_torn: bool,
    failure: Option<Failure>,
    /// A rotation failed; the file grows meanwhile.
    unrotated: Option<String>,
    errors: u64,
    looked: Option<Instant>,
}

struct Open {
    file: File,
    /// Where it is: the end of the links that may lead to it.
    path: PathBuf,
    size: u64,
    /// Identifies the file, if it is a regular one.
    identity: Option<(u64, u64)>,
    /// It ends within a line, so the next one begins with a line end.
    is_torn: bool,
}

/// Lines can't be written.
struct Failure {
    why: String,
    lost: u64,
    again: Instant,
    /// It could be opened, but not written.
    is_of_write: bool,
}

impl LogFile {
    pub(super) fn new(path: PathBuf, most: Option<u64>, keep: u32) -> Self {
        Self {
            path,
            most,
            keep,
            open: None,
            is_torn: false,
            failure: None,
            unrotated: None,
            errors: 0,
            looked: None,
        }
    }

    /// Closes it; it is opened again for the next line.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// The number of errors so far.
    pub(super) fn errors(&self) -> u64 {
        self.errors
    }

    /// The problem with it, a sentence.
    pub(super) fn problem(&self) -> Option<String> {
        let path = self.path.shown();
        let unrotated = self.unrotated.as_ref();
        let failed = self.failure.as_ref().map(|failure| {
            let Failure { why, lost, .. } = failure;
            format!(
                "query log: {path} can't be written: {why}; {lost} lines are lost so far, and queries are answered \
                 nevertheless: free space, or mend its folder, its owner and its permissions"
            )
        });
        failed.or_else(|| {
            unrotated.map(|why| format!("query log: {path} can't be rotated, so it grows: {why}"))
        })
    }

    /// Whether it should be tried although there is no line to write: it could not be written before, or not be opened
    /// yet.
    pub(super) fn wants_attempt(&self, now: Instant) -> bool {
        match &self.failure {
            Some(failure) => now >= failure.again,
            None => self.open.is_none(),
        }
    }

    /// Closes it if its path leads to another file by now, or to none: another program rotated or removed it. Notices if
    /// another program emptied it.
    pub(super) fn look(&mut self, now: Instant) {
        let is_due = self.looked.is_none_or(|before| now - before >= LOOK);
        let identity = self.open.as_ref().and_then(|open| open.identity);
        let Some(identity) = identity.filter(|_| is_due) else {
            return;
        };
        self.looked = Some(now);
        let found = fs::metadata(&self.path).ok();
        let found = found.filter(|meta| (meta.dev(), meta.ino()) == identity);
        match (found, &mut self.open) {
            (Some(meta), Some(open)) => open.size = open.size.min(meta.len()),
            _ => self.close(),
        }
    }

    /// Appends these lines. Returns false if they are lost.
    pub(super) fn write(&mut self, lines: &[u8], count: u64, now: Instant) -> bool {
        if let Some(failure) = self.failure.as_mut().filter(|failure| now < failure.again) {
            failure.lost += count;
            return false;
        }
        let mut is_of_write = false;
        match self.try_write(lines, &mut is_of_write) {
            // An attempt without lines does not show that there is room for lines.
            Ok(()) if lines.is_empty() && self.is_unwritable() => {
                self.failure
                    .iter_mut()
                    .for_each(|failure| failure.again = now + RETRY);
                false
            }
            Ok(()) => {
                if let Some(Failure { lost, .. }) = self.failure.take() {
                    let path = self.path.shown();
                    tracing::info!(%path, lost, "the query log is written again");
                }
                true
            }
            Err(error) => {
                self.fail(&error, is_of_write, count, now);
                false
            }
        }
    }

    fn is_unwritable(&self) -> bool {
        let failure = self.failure.as_ref();
        failure.is_some_and(|failure| failure.is_of_write)
    }

    fn fail(&mut self, error: &io::Error, is_of_write: bool, count: u64, now: Instant) {
        self.errors += 1;
        self.open = None;
        let lost = self.failure.as_ref().map_or(0, |failure| failure.lost);
        if self.failure.is_none() {
            let path = self.path.shown();
            tracing::error!(%path, %error, "the query log can't be written; tried again each second");
        }
        self.failure = Some(Failure {
            why: error.to_string(),
            lost: lost + count,
            again: now + RETRY,
            is_of_write,
        });
    }

    /// `has_opened` is set if an error is not that of opening the file.
    fn try_write(&mut self, lines: &[u8], has_opened: &mut bool) -> io::Result<()> {
        let is_full = |open: &Open, most: u64| {
            open.identity.is_some() && open.size > 0 && open.size + lines.len() as u64 > most
        };
        let mut open = match self.open.take() {
            Some(open) => open,
            None => {
                let mut open = open_file(&self.path)?;
                open.is_torn |= self.is_torn && open.identity.is_none();
                open
            }
        };
        if self.most.is_some_and(|most| is_full(&open, most)) {
            let rotated = rotate(&open.path, self.keep).and_then(|()| open_file(&self.path));
            match rotated {
                Ok(next) => (open, self.unrotated) = (next, None),
                Err(error) => {
                    self.errors += 1;
                    if self.unrotated.is_none() {
                        let path = self.path.shown();
                        tracing::error!(%path, %error, "the query log can't be rotated, so it grows");
                    }
                    self.unrotated = Some(error.to_string());
                }
            }
        }
        *has_opened = true;
        let appended = open.append(lines);
        self.is_torn = open.is_torn;
        appended?;
        self.open = Some(open);
        Ok(())
    }
}

impl Open {
    /// Appends lines. After an error, no part of them is in the file, if it is a regular one: nobody can parse a part of a line.
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let end: &[u8] = if self.is_torn { b"\n" } else { b"" };
        let mut written = 0;
        let result = self
            .write(end, &mut written)
            .and_then(|()| self.write(lines, &mut written));
        if result.is_err() && written > 0 {
            self.is_torn = true;
            if self.identity.is_some() {
                // Its size may have changed meanwhile: another program may have emptied it. If this fails, the file is found
                // to be torn when it is opened again.
                let size = self.file.metadata().map(|meta| meta.len());
                let _ = size.and_then(|size| self.file.set_len(size.saturating_sub(written)));
            }
        }
        result?;
        self.is_torn = false;
        self.size += written;
        Ok(())
    }

    /// Appends bytes, and counts those that are written before an error.
    fn write(&mut self, mut bytes: &[u8], written: &mut u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    *written += count as u64;
                    bytes = &bytes[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn open_file(path: &Path) -> io::Result<Open> {
    let Opened { file, meta, path } = open(path)?;
    let is_regular = meta.is_file();
    Ok(Open {
        file,
        size: meta.len(),
        identity: is_regular.then(|| (meta.dev(), meta.ino())),
        is_torn: is_regular && meta.len() > 0 && is_torn(&path, meta.len() - 1),
        path,
    })
}

/// Whether a file, whose last byte is at `last`, ends within a line: a process that wrote it may have been killed, or the system
/// may have stopped. False if it can't be read.
fn is_torn(path: &Path, last: u64) -> bool {
    let mut byte = [0];
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path);
    let read = file.and_then(|file| file.read_exact_at(&mut byte, last));
    read.is_ok() && byte != *b"\n"
}

/// Moves a file to its first rotated name, and those to the next ones. Files that are more than `keep` are removed.
fn rotate(path: &Path, keep: u32) -> io::Result<()> {
    let numbered = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    // A configuration before this one may have kept more.
    let mut old = keep.saturating_add(1);
    while numbered(old).exists() {
        fs::remove_file(numbered(old))?;
        old += 1;
    }
    if keep == 0 {
        return fs::remove_file(path);
    }
    // Up to the first gap.
    let mut last = 1;
    while last < keep && numbered(last).exists() {
        last += 1;
    }
    for number in (1..last).rev() {
        fs::rename(numbered(number), numbered(number + 1))?;
    }
    fs::rename(path, numbered(1))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    struct Scene {
        folder: tempfile::TempDir,
        file: LogFile,
        now: Instant,
    }

    impl Scene {
        fn new(most: Option<u64>, keep: u32) -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let file = LogFile::new(folder.path().join("log"), most, keep);
            let now = Instant::now();
            Self { folder, file, now }
        }

        fn write(&mut self, lines: &str) -> bool {
            self.file.write(lines.as_bytes(), 1, self.now)
        }

        fn text(&self, name: &str) -> Option<String> {
            fs::read_to_string(self.folder.path().join(name)).ok()
        }
    }

    #[test]
    fn a_large_file_is_rotated_and_only_so_many_are_kept() {
        let mut scene = Scene::new(Some(8), 2);
        for line in [
            "one\n",
            "two\n",
            "three\n",
            "four\n",
            "five\n",
            "longer than all\n",
        ] {
            assert!(scene.write(line));
        }
        assert_eq!(scene.text("log").as_deref(), Some("longer than all\n"));
        assert_eq!(scene.text("log.1").as_deref(), Some("five\n"));
        assert_eq!(scene.text("log.2").as_deref(), Some("four\n"));
        assert_eq!(scene.text("log.3"), None);
        scene.file = LogFile::new(scene.folder.path().join("log"), Some(8), 1);
        assert!(scene.write("six\n"));
        assert_eq!(scene.text("log.1").as_deref(), Some("longer than all\n"));
        assert_eq!(scene.text("log.2"), None, "a configuration kept more");
        let mut scene = Scene::new(Some(8), 0);
        assert!(scene.write("seven..\n") && scene.write("new\n"));
        assert_eq!(scene.text("log").as_deref(), Some("new\n"));
        assert_eq!(scene.text("log.1"), None);
    }

    #[test]
    fn the_file_that_a_link_leads_to_is_rotated_and_the_link_stays() {
        let mut scene = Scene::new(Some(4), 1);
        let link = scene.folder.path().join("log");
        std::os::unix::fs::symlink("file", &link).expect("made");
        assert!(scene.write("one\n") && scene.write("two\n"));
        assert!(link.is_symlink());
        assert_eq!(scene.text("file").as_deref(), Some("two\n"));
        assert_eq!(scene.text("file.1").as_deref(), Some("one\n"));
        assert_eq!(scene.text("log.1"), None);
    }

    #[test]
    fn a_file_that_becomes_a_link_of_another_user_costs_lines_and_the_problem_says_why() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let mut scene = Scene::new(Some(4), 1);
        assert!(scene.write("one\n"));
        let [log, victim] = ["log", "victim"].map(|name| scene.folder.path().join(name));
        fs::write(&victim, "").expect("written");
        fs::remove_file(&log).expect("removed");
        std::os::unix::fs::symlink(&victim, &log).expect("made");
        std::os::unix::fs::lchown(&log, Some(60_001), None).expect("permitted to root");
        scene.now += LOOK;
        scene.file.look(scene.now);
        assert!(!scene.write("two\n"));
        let problem = scene.file.problem().expect("a problem");
        assert!(
            problem.contains("is a symbolic link of user 60001") && problem.contains("1 lines"),
            "{problem}"
        );
        assert_eq!(scene.text("victim").as_deref(), Some(""));
    }

    #[test]
    fn a_rotation_that_fails_is_a_problem_and_no_line_is_lost() {
        let mut scene = Scene::new(Some(4), 1);
        fs::create_dir_all(scene.folder.path().join("log.1/full")).expect("made");
        assert!(scene.write("one\n") && scene.write("two\n"));
        assert_eq!(scene.text("log").as_deref(), Some("one\ntwo\n"));
        let problem = scene.file.problem().expect("a problem");
        assert!(problem.contains("can't be rotated"), "{problem}");
        fs::remove_dir_all(scene.folder.path().join("log.1")).expect("removed");
        assert!(scene.write("three\n"));
        assert_eq!(scene.file.problem(), None);
        assert_eq!(scene.text("log").as_deref(), Some("three\n"));
    }

    #[test]
    fn a_full_disk_is_over_only_once_a_line_is_written() {
        let mut scene = Scene::new(None, 0);
        scene.file = LogFile::new("/dev/full".into(), None, 0);
        assert!(!scene.write("one\n"));
        for _ in 0..2 {
            scene.now += RETRY;
            assert!(scene.file.wants_attempt(scene.now));
            assert!(!scene.file.write(b"", 0, scene.now));
            assert!(!scene.file.wants_attempt(scene.now));
            let problem = scene.file.problem().expect("a problem");
            assert!(problem.contains("1 lines are lost"), "{problem}");
        }
        scene.file.path = scene.folder.path().join("log");
        scene.file.close();
        scene.now += RETRY;
        assert!(scene.write("two\n"));
        assert_eq!(scene.file.problem(), None);
    }

    #[test]
    fn a_file_that_another_program_moved_or_removed_is_opened_anew() {
        let mut scene = Scene::new(None, 0);
        assert!(scene.write("one\n"));
        scene.file.look(scene.now);
        let path = scene.folder.path().join("log");
        fs::rename(&path, scene.folder.path().join("moved")).expect("moved");
        assert!(scene.write("two\n"));
        scene.now += LOOK;
        scene.file.look(scene.now);
        assert!(scene.write("three\n"));
        assert_eq!(scene.text("moved").as_deref(), Some("one\ntwo\n"));
        assert_eq!(scene.text("log").as_deref(), Some("three\n"));
    }

    #[test]
    fn a_removed_folder_costs_lines_and_a_new_one_ends_the_problem() {
        let mut scene = Scene::new(None, 0);
        let path = scene.folder.path().join("logs/log");
        scene.file = LogFile::new(path, None, 0);
        assert!(!scene.write("one\n"));
        assert!(!scene.write("two\n"), "not tried before the pause");
        assert_eq!(scene.file.errors(), 1);
        let problem = scene.file.problem().expect("a problem");
        assert!(
            problem.contains("No such file") && problem.contains("2 lines"),
            "{problem}"
        );
        fs::create_dir(scene.folder.path().join("logs")).expect("made");
        scene.now += RETRY;
        assert!(scene.write("three\n"));
        assert_eq!(scene.file.problem(), None);
        assert_eq!(scene.text("logs/log").as_deref(), Some("three\n"));
    }

    #[test]
    fn a_file_that_ends_within_a_line_gets_a_line_end_first() {
        let mut scene = Scene::new(None, 0);
        let path = scene.folder.path().join("log");
        fs::write(&path, "one\ntw").expect("written");
        assert!(scene.write("three\n") && scene.write("four\n"));
        assert_eq!(scene.text("log").as_deref(), Some("one\ntw\nthree\nfour\n"));
        scene.file.close();
        assert!(scene.write("five\n"));
        let text = scene.text("log");
        assert_eq!(text.as_deref(), Some("one\ntw\nthree\nfour\nfive\n"));
    }

    #[test]
    fn a_file_that_another_program_emptied_is_rotated_when_it_is_large_again() {
        let mut scene = Scene::new(Some(8), 1);
        let path = scene.folder.path().join("log");
        assert!(scene.write("seven..\n"));
        let file = File::options().write(true).open(&path);
        file.and_then(|file| file.set_len(0)).expect("emptied");
        scene.file.look(scene.now);
        assert!(scene.write("one\n") && scene.write("two\n"));
        assert_eq!(scene.text("log").as_deref(), Some("one\ntwo\n"));
        assert_eq!(scene.text("log.1"), None);
    }

    #[test]
    fn a_line_of_which_a_pipe_took_only_a_part_is_ended_before_the_next_one() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let mut scene = Scene::new(None, 0);
        let path = scene.folder.path().join("log");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("made");
        let mut reader = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&path)
            .expect("opened");
        let long = "l".repeat(4 << 20) + "\n";
        assert!(!scene.write(&long));
        let mut read = Vec::new();
        // The writer has closed it.
        reader.read_to_end(&mut read).expect("read to the end");
        assert!(!read.is_empty() && read.len() < long.len());
        scene.now += RETRY;
        assert!(scene.write("next\n") && scene.write("last\n"));
        read.clear();
        let error = reader.read_to_end(&mut read).expect_err("it is open");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(read, b"\nnext\nlast\n");
    }

    #[test]
    fn a_full_disk_costs_whole_lines() {
        let mut scene = Scene::new(Some(1), 3);
        scene.file = LogFile::new("/dev/full".into(), Some(1), 3);
        assert!(!scene.write("one\n"));
        let problem = scene.file.problem().expect("a problem");
        assert!(problem.contains("No space left"), "{problem}");
    }
}
