//! Reads the parts of a configuration that a verb needs, such as the control socket's path, even if other parts have
//! mistakes.
//!
//! `status`, `reload` and `rollback` need only the socket, and are most useful while the configuration has mistakes.
//! Likewise, an order can be lifted although the section of a list is invalid.

use std::path::{Path, PathBuf};

use super::error::{Problem, Problems};
use super::load::{SIZE_MAX, read};
use super::regular;
use super::types::{Config, Origin};

/// Headers of sections whose mistakes can't concern the socket.
const OTHERS: &[&str] = &[
    "[process]",
    "[log]",
    "[upstream]",
    "[cache]",
    "[special-use]",
    "[[local]]",
    "[[forward]]",
    "[block]",
    "[state]",
    "[download]",
    "[journal]",
    "[metrics]",
    "[query-log]",
    "[dnstap]",
    "[top]",
    "[guard]",
    "[orders]",
    "[exceptions]",
    "[[list]]",
    "[[feed]]",
    "[feed.tsig]",
    "[[exception]]",
    "[[publish]]",
];

/// The value of `control` in `[server]`; `None` if it is not set.
///
/// # Errors
/// The problems of the file, if it can't be read, or if mistakes in it may hide a value of `control`. A verb that used
/// the default in place of that value could reach another server.
pub fn socket(path: &Path) -> Result<Option<PathBuf>, Problems> {
    let text = read(path).or_else(|problems| {
        // A byte that is not UTF-8 does not matter, unless it is on a line with `control`.
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
    let (config, mut findings) =
        Config::parse_valid_parts(&text, path, Origin::File(path.to_owned()));
    let control = config.server.control;
    let unknown = std::mem::take(&mut findings.unknown);
    match findings.conclude(()) {
        Err(problems) if control.is_none() && is_in_doubt(&text, &problems, &unknown) => {
            Err(problems)
        }
        _ => Ok(control),
    }
}

/// Whether the text may set `control`, although no value was found. `unknown` has the lines of unknown keys, with the
/// known key that each resembles.
fn is_in_doubt(text: &str, problems: &Problems, unknown: &[(u32, Option<&str>)]) -> bool {
    let sets_control = |line: &str| {
        let key = line.split('=').next().unwrap_or_default();
        let key = key.rsplit('.').next().unwrap_or_default();
        key.trim().trim_matches(['"', '\'']) == "control"
    };
    let is_other_key = |line: u32| {
        let mut unknown = unknown.iter().filter(|(of, _)| *of == line);
        is_in_server(text, line) && unknown.all(|(_, near)| near.is_some_and(|it| it != "control"))
    };
    let elsewhere = |problem: &Problem| {
        let line = problem.line;
        line.is_some_and(|line| is_elsewhere(text, line) || is_other_key(line))
    };
    text.lines().any(sets_control) || !problems.0.iter().all(elsewhere)
}

/// Whether a line is in the section `[server]`, below its header.
fn is_in_server(text: &str, line: u32) -> bool {
    let up_to = text.lines().take(line as usize).map(str::trim);
    let last = up_to.clone().last();
    let header = up_to.filter(|line| line.starts_with('[')).last();
    let name = header.and_then(|header| header.split('#').next());
    name.map(str::trim_end) == Some("[server]") && last != header
}

/// Whether a line is in a section that can't set `control`: one of [`OTHERS`], or, if the text has a section
/// `[server]`, any section except that one.
fn is_elsewhere(text: &str, line: u32) -> bool {
    let up_to = text.lines().take(line as usize).map(str::trim);
    let header = up_to.filter(|line| line.starts_with('[')).last();
    header.is_some_and(|header| {
        let header = header.split('#').next().unwrap_or_default().trim_end();
        let is_server = |line: &str| section(line) == Some("server");
        OTHERS.contains(&header) || (!is_server(header) && text.lines().any(is_server))
    })
}

/// Reads a configuration of which a verb needs only the sections `needed` (names without brackets). Problems in other
/// sections are returned with its valid parts.
///
/// # Errors
/// The problems of the file, if it can't be read, or if they may concern the sections `needed`. If the file does not
/// have the first of these sections, any unknown section may be that one with a misspelt name.
pub fn load_needed(path: &Path, needed: &[&str]) -> Result<(Config, Option<Problems>), Problems> {
    let text = read(path)?;
    let (config, findings) = Config::parse_valid_parts(&text, path, Origin::File(path.to_owned()));
    let Err(problems) = findings.conclude(()) else {
        return Ok((config, None));
    };
    let is_there = text
        .lines()
        .filter_map(section)
        .any(|name| name == needed[0]);
    let is_other = |name: &str| {
        let is_known = OTHERS.iter().any(|header| section(header) == Some(name));
        !needed.contains(&name) && (is_there || is_known || name == "server")
    };
    let elsewhere = |problem: &Problem| {
        let up_to = text.lines().take(problem.line.unwrap_or(0) as usize);
        up_to.filter_map(section).last().is_some_and(is_other)
    };
    // A multi-line string without an end may include other sections.
    let has_long_text = text.contains("\"\"\"") || text.contains("'''");
    match !has_long_text && problems.0.iter().all(elsewhere) {
        true => Ok((config, Some(problems))),
        false => Err(problems),
    }
}

/// The first part of the name in a section's header.
fn section(line: &str) -> Option<&str> {
    let line = line.trim();
    let name = line.strip_prefix("[[").or(line.strip_prefix('['))?;
    let name = name.split([']', '.', '#']).next().unwrap_or_default();
    Some(name.trim_matches([' ', '\t', '"', '\'']))
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
        // A mistake in another key of the same section does not hide it either.
        for mistake in [
            "alow = [\"::/0\"]\n",
            "workers = \"four\"\n",
            "tcp-idle-secs = 0\n",
        ] {
            assert_eq!(of(&format!("[server]\n{mistake}")), Ok(None), "{mistake}");
        }
        for text in [
            "[gaurd]\n[server]\nworkers = 2\n",
            "[server]\n[gaurd]\nx = 1\n",
        ] {
            assert_eq!(of(text), Ok(None), "{text}");
        }
        let latin = b"[server]\ncontrol = \"s\"\n# caf\xe9\n";
        assert_eq!(of_bytes(latin), Ok(Some("s".into())));
        let latin = b"[server]\ncontrol = \"caf\xe9\"\n";
        of_bytes(latin).expect_err("the path would differ from the intended one");
        let workers = "[server]\nworkers = \"4\"\ncontrol = \"s\"\nlisten = 5\n";
        assert_eq!(of(workers), Ok(Some("s".into())));
        assert_eq!(of("server = { control = \"s\" }\n"), Ok(Some("s".into())));
    }

    #[test]
    fn every_other_section_of_the_reference_can_have_a_mistake() {
        let reference = include_str!("../../config/tapis.toml");
        let headers = reference.lines().map(|line| line.trim_matches(['#', ' ']));
        let headers =
            headers.filter(|line| line.starts_with('[') && section(line) != Some("server"));
        let mut count = 0;
        for header in headers.filter(|line| line.ends_with(']')) {
            assert_eq!(of(&format!("{header}\nwrogn = 1\n")), Ok(None), "{header}");
            count += 1;
        }
        assert!(count > 15, "{count}");
    }

    #[test]
    fn a_mistake_that_may_hide_the_socket_is_reported_and_no_other_servers_socket_is_used() {
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

    #[test]
    fn the_needed_sections_are_read_despite_mistakes_in_other_sections() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tapis.toml");
        let understood = |text: &str| {
            std::fs::write(&path, text).expect("written");
            let (config, problems) = load_needed(&path, &["orders", "state"])?;
            assert!(problems.is_some(), "{text}");
            Ok::<_, Problems>(config.orders.dir)
        };
        let orders = "[orders]\npath = \"o\"\n";
        for mistake in [
            "[guard]\ngrow-procent = 5\n",
            "[gaurd]\n",
            "[server]\nworkers = \"two\"\n",
            "[cache]\nsize-mib = [1,\n",
            "[[list]] # ours\nname = \"Ads!\"\n",
        ] {
            for text in [format!("{orders}{mistake}"), format!("{mistake}{orders}")] {
                assert_eq!(
                    understood(&text),
                    Ok(Some(folder.path().join("o"))),
                    "{text}"
                );
            }
        }
        for text in [
            "[order]\npath = \"o\"\n",
            "[orders]\npaht = \"o\"\n",
            "[orders]\npath = \"o\"\n[state]\nkeep = 0\n",
            "[orders]\npath = \"o\"\n[cache]\nsize-mib = \"\"\"\n",
            "orders.paht = \"o\"\n",
            "[orders\npath = \"o\"\n",
        ] {
            understood(text).expect_err(text);
        }
    }
}
