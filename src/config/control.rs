//! Where a configuration puts the control socket, even if other parts of it have mistakes.
//!
//! `status`, `reload` and `rollback` need no more of a configuration than that, and are needed most when
//! somebody has just broken it.

use std::path::{Path, PathBuf};

use super::error::{Problem, Problems};
use super::{Config, Origin, SIZE_MAX, read, regular};

/// Headers of sections with mistakes that can't concern the socket.
const OTHERS: &[&str] = &[
    "[upstream]",
    "[cache]",
    "[local]",
    "[block]",
    "[state]",
    "[journal]",
    "[guard]",
    "[orders]",
    "[exceptions]",
    "[[list]]",
    "[[exception]]",
];

/// The `control` key of `[server]`, if it is set.
///
/// # Errors
/// The problems of the file, if it can't be read, or if there is no telling whether it sets `control`:
/// a verb would reach another server than the one that is meant.
pub fn socket(path: &Path) -> Result<Option<PathBuf>, Problems> {
    let text = read(path).or_else(|problems| {
        // One byte in a comment that is no text hides no socket either.
        let bytes = regular::read(path, SIZE_MAX).map_err(|_| problems.clone())?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let sets_control = |line: &str| line.contains("control");
        let is_broken = |line: &str| line.contains(char::REPLACEMENT_CHARACTER);
        match text
            .lines()
            .any(|line| sets_control(line) && is_broken(line))
        {
            true => Err(problems),
            false => Ok(text),
        }
    })?;
    let (config, findings) = Config::understand(&text, path, Origin::File(path.to_owned()));
    let control = config.server.control;
    match findings.conclude(()) {
        Err(problems) if control.is_none() && is_in_doubt(&text, &problems) => Err(problems),
        _ => Ok(control),
    }
}

/// Whether a text in which no `control` was understood may set it.
fn is_in_doubt(text: &str, problems: &Problems) -> bool {
    let sets_control = |line: &str| {
        let key = line.split('=').next().unwrap_or_default();
        let key = key.rsplit('.').next().unwrap_or_default();
        key.trim().trim_matches(['"', '\'']) == "control"
    };
    let elsewhere = |problem: &Problem| problem.line.is_some_and(|line| is_elsewhere(text, line));
    text.lines().any(sets_control) || !problems.0.iter().all(elsewhere)
}

/// Whether a line belongs to one of the [`OTHERS`].
fn is_elsewhere(text: &str, line: u32) -> bool {
    let up_to = text.lines().take(line as usize).map(str::trim);
    let header = up_to.filter(|line| line.starts_with('[')).last();
    header.is_some_and(|header| {
        let header = header.split('#').next().unwrap_or_default().trim_end();
        OTHERS.contains(&header)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Option<PathBuf>, Problems> {
        of_bytes(text.as_bytes())
    }

    fn of_bytes(text: &[u8]) -> Result<Option<PathBuf>, Problems> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tapis.toml");
        std::fs::write(&path, text).expect("written");
        let found = socket(&path)?;
        Ok(found.map(|socket| {
            let below = socket.strip_prefix(folder.path());
            below.expect("beside the configuration").to_owned()
        }))
    }

    #[test]
    fn mistakes_elsewhere_hide_no_socket() {
        for mistake in [
            "[cache]\nsize-mib = 0\n",
            "[upstream] # theirs\nservrs = []\n",
            "[block]\nttl-secs = \n",
            "[[list]]\nname = \"Ads!\"\n",
            "[cache]\nsize-mib = [1,\n",
        ] {
            let server = "[server]\ncontrol = \"s\"\n";
            for text in [format!("{server}{mistake}"), format!("{mistake}{server}")] {
                assert_eq!(of(&text), Ok(Some("s".into())), "{text}");
            }
            assert_eq!(of(&format!("[server]\nworkers = 2\n{mistake}")), Ok(None));
        }
        let latin = b"[server]\ncontrol = \"s\"\n# caf\xe9\n";
        assert_eq!(of_bytes(latin), Ok(Some("s".into())));
        let latin = b"[server]\ncontrol = \"caf\xe9\"\n";
        of_bytes(latin).expect_err("another path than the one meant");
        let workers = "[server]\nworkers = \"4\"\ncontrol = \"s\"\nlisten = 5\n";
        assert_eq!(of(workers), Ok(Some("s".into())));
        assert_eq!(of("server = { control = \"s\" }\n"), Ok(Some("s".into())));
    }

    #[test]
    fn a_mistake_that_may_hide_the_socket_is_reported_instead_of_another_servers() {
        for text in [
            "[server]\ncontrol = /run/s\n",
            "[server]\ncontrl = \"s\"\n",
            "[sever]\ncontrol = \"s\"\n",
            "[server]\ncontrol = 5\n",
            "[server\ncontrol = \"s\"\n",
            "server.contrl = \"s\"\n",
            "[cache]\nsize-mib = \"\"\"\n[server]\ncontrol = \"s\"\n",
        ] {
            of(text).expect_err(text);
        }
    }
}
