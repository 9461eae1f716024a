//! Reads the protected names: from the operator's file, a popularity file, and the names of this machine. Bad lines are
//! reported, and the good ones are used.

use std::fs;
use std::iter::once;
use std::path::Path;

use crate::config::Config;
use crate::config::regular::{self, Unread};
use crate::config::shown::{Counted, Show, counted};
use crate::control::guard::protected::{ProtectedName, Protection};
use crate::control::guard::reading::read_list;
use crate::control::list_file::file::FileError;
use crate::control::list_file::parse::{Notation, ParsedRule, ParsedTrigger};
use crate::names::typed;
use crate::policy::rule::Scope;
use crate::wire::name::Name;

/// The most names that a file may protect.
const MAX_NAMES: usize = 100_000;
/// The most bytes of a popularity file that are read: enough for the largest number of names that can be configured.
const MAX_BYTES: u64 = 32 << 20;
/// The most bad lines of a file that are reported.
const MAX_REPORTED: usize = 10;
/// The file with this machine's name, on Linux.
const HOSTNAME: &str = "/proc/sys/kernel/hostname";
/// The file with other names of this machine.
const HOSTS: &str = "/etc/hosts";
/// The largest hosts file that is read, in bytes. A larger one is ignored.
const HOSTS_MAX: u64 = 32 << 20;

/// The names of a file, and its problems.
#[derive(Debug, Default)]
pub(super) struct NameFile {
    pub(super) names: Vec<ProtectedName>,
    pub(super) problems: Vec<String>,
}

impl NameFile {
    fn add(&mut self, protection: Protection, scope: Scope, name: &Name) {
        self.names.push(ProtectedName {
            protection,
            scope,
            name: name.to_string(),
        });
    }
}

fn more_bad(lines: usize) -> Counted {
    counted(lines, "more line is bad", "more lines are bad")
}

/// The names that an operator protects, from a file in the format of lists.
pub(super) fn protected(path: &Path) -> NameFile {
    let mut file = NameFile::default();
    let add = |rule: ParsedRule<'_>| {
        if let ParsedTrigger::Name(name, scope) = rule.trigger
            && file.names.len() < MAX_NAMES
        {
            file.add(Protection::Protected, scope, name);
        }
    };
    let notation = (Notation::default(), None);
    let read = read_list(path, None, notation, None, add, |_, _| {});
    match read {
        Err(refusal) => file.problems.push(refusal.to_string()),
        Ok(reading) => {
            let shown = path.shown();
            for bad in &reading.tally.first {
                let (line, text, problem) = (bad.line, &bad.text, bad.problem);
                file.problems
                    .push(format!("{shown}:{line}: {text}: {problem}"));
            }
            let more = reading.tally.bad_total() as usize - reading.tally.first.len();
            if more > 0 {
                file.problems.push(format!("{shown}: {}", more_bad(more)));
            }
            if reading.tally.rules as usize > MAX_NAMES {
                let problem =
                    format!("{shown}: protects more than {MAX_NAMES} names; the first ones count");
                file.problems.push(problem);
            }
        }
    }
    file
}

/// The first names of a popularity file. Each line has a name alone, or a rank, a comma and a name.
pub(super) fn popular(path: &Path, first: usize) -> NameFile {
    let mut file = NameFile::default();
    let bytes = match head(path) {
        Ok(bytes) => bytes,
        Err(refusal) => {
            file.problems.push(refusal.to_string());
            return file;
        }
    };
    let mut bad = 0_usize;
    let text = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes);
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    for (number, line) in (1..).zip(lines) {
        if file.names.len() == first {
            break;
        }
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        match ranked(line) {
            Ok(name) => file.add(Protection::Popular, Scope::Exact, &name),
            // The header of the columns.
            Err(_) if number == 1 && is_head(line) => {}
            Err(_) if bad >= MAX_REPORTED => bad += 1,
            Err(why) => {
                bad += 1;
                let (shown, text) = (path.shown(), line.escape_ascii());
                let text: String = text.to_string().chars().take(80).collect();
                file.problems
                    .push(format!("{shown}:{number}: {text}: {why}"));
            }
        }
    }
    if let Some(more) = bad.checked_sub(MAX_REPORTED).filter(|more| *more > 0) {
        let path = path.shown();
        let problem = format!("{path}: {}", more_bad(more));
        file.problems.push(problem);
    }
    file
}

/// The first bytes of a regular file.
fn head(path: &Path) -> Result<Vec<u8>, FileError> {
    let unreadable = |source| FileError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let start = regular::read_start(path, MAX_BYTES).map_err(|why| match why {
        Unread::NotRegular => FileError::NotAFile(path.to_owned()),
        other => unreadable(other.into()),
    });
    start.map(|(bytes, _)| bytes)
}

fn ranked(line: &[u8]) -> Result<Name, String> {
    let mut fields = line.splitn(2, |byte| *byte == b',');
    let (rank, name) = match (fields.next(), fields.next()) {
        (Some(rank), Some(name)) => (Some(rank), name),
        _ => (None, line),
    };
    if rank.is_some_and(|rank| rank.is_empty() || !rank.iter().all(u8::is_ascii_digit)) {
        return Err("no number before the comma; write RANK,NAME or a name alone".to_owned());
    }
    let mut owner = Name::ROOT;
    match typed::scoped(name.trim_ascii(), &mut owner) {
        Ok(None) if owner.label_count() > 0 => Ok(owner),
        Ok(_) => Err("write the name alone".to_owned()),
        Err(why) => Err(why.to_string()),
    }
}

fn is_head(line: &[u8]) -> bool {
    line.contains(&b',') && !line.first().is_some_and(u8::is_ascii_digit)
}

/// The names of this server: those of the machine, and `id` if that is a name.
pub(super) fn own(config: &Config) -> Vec<ProtectedName> {
    let hostname = fs::read_to_string(HOSTNAME).unwrap_or_default();
    // A byte that is not UTF-8 spoils one word, and not the others.
    let hosts = regular::read(Path::new(HOSTS), HOSTS_MAX).unwrap_or_default();
    let hosts = String::from_utf8_lossy(&hosts);
    let id = config.server.id.as_deref().unwrap_or_default();
    let mut file = NameFile::default();
    for name in own_names(hostname.trim(), &hosts, id) {
        file.add(Protection::Own, Scope::Exact, &name);
    }
    file.names
}

/// The names of this server: the host name, the names that the hosts file has for the host, and `id`, as far as they
/// have at least two labels. A single label is only a local nickname of a machine or container.
fn own_names(hostname: &str, hosts: &str, id: &str) -> Vec<Name> {
    let start = format!("{hostname}.");
    let full = hosts.lines().flat_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        line.split_whitespace().skip(1)
    });
    let full = full.filter(|name| !hostname.is_empty() && name.starts_with(&start));
    let mut names: Vec<Name> = Vec::new();
    for text in once(hostname).chain(full).chain(once(id)) {
        if let Ok((name, None)) = typed::one(text)
            && name.label_count() > 1
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(content: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("names");
        fs::write(&path, content).expect("written");
        (folder, path)
    }

    fn names(file: &NameFile) -> Vec<String> {
        let shown = |protected: &ProtectedName| protected.scope.notation(&protected.name);
        file.names.iter().map(shown).collect()
    }

    #[test]
    fn popular_names_are_read_with_and_without_ranks_up_to_the_number() {
        let text = "\u{FEFF}rank,domain\r\n1,Google.com\r\n2,b\u{fc}cher.example\r\n\r\n# note\r\n\
                    c.example\r\n4,never.example\r\nbroken line that is not read";
        let (_folder, path) = written(text.as_bytes());
        let file = popular(&path, 3);
        assert_eq!(
            names(&file),
            ["google.com", "xn--bcher-kva.example", "c.example"]
        );
        assert_eq!(file.problems, [""; 0]);
    }

    #[test]
    fn a_bad_line_of_popular_names_is_reported_with_its_number() {
        let (_folder, path) = written(
            b"a,b\n1,a.example\nrank,domain\n2,.b.example\n\xFF\xFE\n3,1.2.3.4\n,x.example\n4,\n",
        );
        let file = popular(&path, 100);
        assert_eq!(names(&file), ["a.example"]);
        let lines: Vec<_> = file
            .problems
            .iter()
            .map(|problem| {
                let rest = problem.strip_prefix(&format!("{}:", path.display()));
                rest.expect("the path")
                    .split(": ")
                    .next()
                    .expect("a line")
                    .to_owned()
            })
            .collect();
        assert_eq!(lines, ["3", "4", "5", "6", "7", "8"], "{:?}", file.problems);
        let (_folder, path) = written(&b"x y\n".repeat(25));
        let problems = popular(&path, 100).problems;
        assert_eq!(problems.len(), 11);
        assert!(
            problems[10].ends_with(": 15 more lines are bad"),
            "{problems:?}"
        );
    }

    #[test]
    fn protected_names_keep_their_scopes_and_the_root_can_not_be_one() {
        let (_folder, path) = written(b"bank.example\n.gov.example # all\n*.pay.example\n");
        let file = protected(&path);
        assert_eq!(
            names(&file),
            ["bank.example", ".gov.example", "*.pay.example"]
        );
        assert_eq!(file.problems, [""; 0]);
        let (_folder, path) = written(b"a.example\n.\nhttps://x/\n");
        let file = protected(&path);
        assert_eq!(names(&file), ["a.example"]);
        let [root, url] = &file.problems[..] else {
            panic!("{:?}", file.problems)
        };
        assert!(root.contains("names:2: .: a rule on the root"), "{root}");
        assert!(url.contains("names:3: https://x/: a URL"), "{url}");
    }

    #[test]
    fn a_directory_a_pipe_and_a_missing_file_are_reported() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.expect("mkfifo ran").success());
        for (path, why) in [
            (folder.path().to_owned(), "not a regular file"),
            (pipe, "not a regular file"),
            (folder.path().join("missing"), "must exist"),
        ] {
            for file in [protected(&path), popular(&path, 10)] {
                assert!(file.names.is_empty());
                let [problem] = &file.problems[..] else {
                    panic!("{:?}", file.problems)
                };
                assert!(problem.contains(why), "{problem}");
            }
        }
    }

    #[test]
    fn names_of_this_server_are_those_of_the_machine_and_its_id() {
        let hosts = "127.0.0.1 localhost\n127.0.1.1 ns1.isp.example ns1 # ns1.no.example\n::1 ns10.isp.example";
        let found = |hostname: &str, id: &str| {
            let names = own_names(hostname, hosts, id);
            names.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            found("ns1", "r1.isp.example"),
            ["ns1.isp.example", "r1.isp.example"]
        );
        assert_eq!(found("ns2.isp.example", "r1"), ["ns2.isp.example"]);
        assert_eq!(found("", ""), [""; 0]);
        assert_eq!(found("(none)", "Resolver in Jakarta"), [""; 0]);
    }

    #[test]
    fn the_first_bad_lines_are_reported_and_the_others_counted() {
        for (bad, reported) in [
            (0, 0),
            (MAX_REPORTED, MAX_REPORTED),
            (MAX_REPORTED + 1, MAX_REPORTED + 1),
            (70_000, MAX_REPORTED + 1),
        ] {
            let (_folder, path) = written("one two\n".repeat(bad).as_bytes());
            let file = popular(&path, 3);
            assert_eq!(file.problems.len(), reported);
            assert!(
                file.problems.capacity() <= 2 * (MAX_REPORTED + 1),
                "the others are not kept"
            );
            if let Some(more) = bad.checked_sub(MAX_REPORTED).filter(|more| *more > 0) {
                let last = file.problems.last().expect("there are some");
                let said = match more {
                    1 => ": 1 more line is bad".to_owned(),
                    _ => format!(": {more} more lines are bad"),
                };
                assert!(last.ends_with(&said), "{last}");
            }
        }
    }
}
