//! Compares the answers of two servers, or of a model and a server.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use tempfile::TempDir;

use super::truth::{Answer, Question};
use super::{import, printed};
use crate::support::client::{Port, query};
use crate::support::server::Server;
use crate::support::upstream::Upstream;

/// So many queries are on their way at a time.
const WINDOW: usize = 32;
/// At least so many answers are compared.
const QUESTIONS_MIN: usize = 10_000;

/// The answers to all queries.
fn answers(server: SocketAddr, questions: &[Question]) -> Vec<Answer> {
    let port = Port::open(server);
    let mut waiting = HashMap::new();
    let mut answers = vec![None; questions.len()];
    let mut next = questions.iter().enumerate();
    loop {
        while waiting.len() < WINDOW
            && let Some((at, question)) = next.next()
        {
            let mut message = query(&question.name, question.rtype);
            message.metadata.id = u16::try_from(at).expect("few enough for the ID");
            port.send(&message);
            waiting.insert(message.metadata.id, at);
        }
        if waiting.is_empty() {
            break;
        }
        let message = port.receive();
        let at = waiting
            .remove(&message.metadata.id)
            .expect("an answer to a query");
        answers[at] = Some(Answer::from_message(&message));
    }
    answers
        .into_iter()
        .map(|answer| answer.expect("answered"))
        .collect()
}

/// Starts Tapis with the configuration that is imported from a directory, on a separate port.
pub(super) fn start_imported(folder: &Path, tool: &str, file: &str) -> Server {
    start_imported_with(folder, tool, file, "")
}

/// The same with more sections.
pub(super) fn start_imported_with(folder: &Path, tool: &str, file: &str, more: &str) -> Server {
    let output = import(&[tool, file, "--output", "imported"], folder);
    let new = folder.join("imported");
    let config = fs::read_to_string(new.join("tapis.toml"));
    let config = config.unwrap_or_else(|_| panic!("{}", printed(&output.stderr)));
    let mut listens = config.lines().filter(|line| line.starts_with("listen = "));
    let listen = listens.next().expect("an address");
    let own = "listen = [\"127.0.0.1:0\"]\ncontrol = \"control.sock\"";
    let config = config.replacen(listen, own, 1) + more;
    let mut files = Vec::new();
    for entry in fs::read_dir(&new).expect("a directory") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != "tapis.toml" {
            files.push((name, fs::read_to_string(entry.path()).expect("a list")));
        }
    }
    let files = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()));
    Server::start(&config, &files.collect::<Vec<_>>())
}

/// A directory with the files of another program. `DIR`, `FIRST` and `SECOND` stand for its path, and for the ports of two
/// servers.
pub(super) fn foreign_folder(files: &[(&str, &str)], servers: [&Upstream; 2]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().display().to_string();
    let ports = servers.map(|server| server.address.port().to_string());
    for (name, text) in files {
        let text = text.replace("DIR", &path);
        let text = text
            .replace("FIRST", &ports[0])
            .replace("SECOND", &ports[1]);
        fs::write(folder.path().join(name), text).expect("written");
    }
    folder
}

/// Why an answer may differ after the import; `None` if it must not.
pub(super) type Reason = Option<&'static str>;

/// Compares the answers of a program with those of the server that is imported from it. Each difference needs a reason, and
/// each of the expected reasons must occur.
pub(super) fn compare(
    before: SocketAddr,
    server: &Server,
    questions: &[Question],
    reasons: &[&'static str],
    reason: impl Fn(&Question, &Answer, &Answer) -> Reason,
) {
    let before = answers(before, questions);
    compare_all(&before, server, questions, reasons, reason);
}

/// The same with a model of the program.
pub(super) fn compare_with_model(
    model: impl Fn(&Question) -> Answer,
    server: &Server,
    questions: &[Question],
    reasons: &[&'static str],
    reason: impl Fn(&Question, &Answer, &Answer) -> Reason,
) {
    let before: Vec<_> = questions.iter().map(model).collect();
    compare_all(&before, server, questions, reasons, reason);
}

fn compare_all(
    before: &[Answer],
    server: &Server,
    questions: &[Question],
    reasons: &[&'static str],
    reason: impl Fn(&Question, &Answer, &Answer) -> Reason,
) {
    assert!(
        questions.len() >= QUESTIONS_MIN,
        "{} queries",
        questions.len()
    );
    let after = answers(server.address, questions);
    let (mut wrong, mut known) = (Vec::new(), BTreeMap::new());
    for ((question, before), after) in questions.iter().zip(before).zip(&after) {
        if before == after {
            continue;
        }
        match reason(question, before, after) {
            Some(reason) => *known.entry(reason).or_insert(0) += 1,
            None => wrong.push(format!(
                "{} {}: {before:?} became {after:?}",
                question.name, question.rtype
            )),
        }
    }
    let count = wrong.len();
    wrong.truncate(30);
    assert!(
        wrong.is_empty(),
        "{count} of {} answers differ:\n{}\nwith a reason: {known:?}",
        questions.len(),
        wrong.join("\n")
    );
    let found: Vec<_> = known.keys().copied().collect();
    let mut expected = reasons.to_vec();
    expected.sort_unstable();
    assert_eq!(found, expected, "the reasons that occurred: {known:?}");
    server.assert_well();
}
