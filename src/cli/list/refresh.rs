//! `tapis list refresh`: asks the servers of downloaded lists, and waits for the results.

use std::io::Write;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use crate::cli::failure::Failure;
use crate::cli::progress::Progress;
use crate::cli::server;
use crate::cli::zones;
use crate::config::shown::counted;
use crate::control::admin::status::{DownloadRequest, ListStatus};

/// The time between two looks at downloads under way.
const PAUSE: Duration = Duration::from_millis(200);

/// Asks the servers, waits for the results, and prints them in the order of the lists.
pub(super) fn refresh(
    sockets: &[PathBuf],
    request: &DownloadRequest,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let before = zones::status(sockets)?;
    let asked: Vec<(String, u64)> = server::post(sockets, "/download", request)??;
    if asked.is_empty() {
        return Err(nothing(request.list.as_deref()));
    }
    let progress = Progress::text();
    let after = loop {
        let now = zones::status(sockets)?;
        // The numbers of downloads start again with the server.
        if now.started_at != before.started_at {
            let text = "the server was restarted, so the results are not known; try again";
            return Err(Failure::Other(text.into()));
        }
        let lists = now.lists;
        let waiting = asked.iter().filter(|(name, number)| {
            // A list that was removed meanwhile is not waited for.
            let download = find(&lists, name).and_then(|list| list.download.as_ref());
            download.is_some_and(|download| download.answered < *number)
        });
        match waiting.count() {
            0 => break lists,
            left => progress.show("lists", &format!("{left} of {} to go", asked.len())),
        }
        sleep(PAUSE);
    };
    drop(progress);
    let mut is_good = true;
    for list in after
        .iter()
        .filter(|list| asked.iter().any(|(name, _)| *name == list.name))
    {
        is_good &= print(list, find(&before.lists, &list.name), out)?;
    }
    match is_good {
        true => Ok(()),
        false => Err(Failure::Reported),
    }
}

/// Prints the result for a list. Returns whether its newest version is in force.
fn print(
    list: &ListStatus,
    before: Option<&ListStatus>,
    out: &mut impl Write,
) -> Result<bool, Failure> {
    let name = &list.name;
    let download = list.download.as_ref();
    let problems = download.map_or_else(Vec::new, |download| download.problems(name));
    for problem in &problems {
        writeln!(out, "{problem}")?;
    }
    // Without a copy, that it is missing says nothing more.
    if let Some(alarm) = list.alarm.as_ref().filter(|_| problems.is_empty()) {
        writeln!(out, "{name}: {alarm}")?;
        return Ok(false);
    }
    if !problems.is_empty() {
        return Ok(false);
    }
    if let Some(waits) = download.and_then(|download| download.waits.as_ref()) {
        writeln!(out, "{name}: {waits}")?;
        return Ok(false);
    }
    let rules = counted(list.rules, "rule", "rules");
    match before.and_then(|before| before.loaded_at) == list.loaded_at {
        true => writeln!(out, "{name}: {rules} in force, and the newest version")?,
        false => writeln!(out, "{name}: {rules} in force now")?,
    }
    Ok(true)
}

fn find<'l>(lists: &'l [ListStatus], name: &str) -> Option<&'l ListStatus> {
    lists.iter().find(|list| list.name == name)
}

fn nothing(list: Option<&str>) -> Failure {
    let text = match list {
        Some(list) => format!("{list}: the server has no such list with a url; see: tapis status"),
        None => "no list has a url: add a [[list]] with url = \"https://...\"".to_owned(),
    };
    Failure::Other(text.into())
}
