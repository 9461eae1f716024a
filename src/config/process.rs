//! The section `[process]`: the user that the server runs as, and the files that it can change.

use super::findings::Findings;
use super::log::{self, Log, RawLog};
use super::reader::{At, Reader};
use super::values::text;

/// The maximum size of the name of a user or group on Linux, in bytes.
pub(super) const NAME_MAX: usize = 32;

/// How the process runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// The user that a server runs as if root has started it; `None` means that it stays root.
    pub user: Option<String>,
    /// The primary group in place of that of the user.
    pub group: Option<String>,
    /// Whether Landlock restricts which files the server can change.
    pub landlock: bool,
    /// How it logs.
    pub log: Log,
}

/// The section before validation.
#[derive(Default)]
pub(super) struct RawProcess {
    user: Option<At<String>>,
    group: Option<At<String>>,
    landlock: Option<At<bool>>,
}

impl RawProcess {
    pub(super) fn read(table: &mut Reader<'_, '_>) -> Self {
        Self {
            user: table.string("user"),
            group: table.string("group"),
            landlock: table.boolean("landlock"),
        }
    }
}

/// Validates the sections `[process]` and `[log]`.
pub(super) fn validate((raw, log): (RawProcess, RawLog), findings: &mut Findings) -> Process {
    let line = raw.group.as_ref().map(|given| given.line);
    let user = text(raw.user, 1..=NAME_MAX, findings);
    let group = text(raw.group, 1..=NAME_MAX, findings);
    if let (Some(line), None) = (line, &user) {
        let message = "group is set without user: name the user, too, or remove the group";
        findings.report(line, message.to_owned());
    }
    Process {
        user,
        group,
        landlock: raw.landlock.is_none_or(|given| given.value),
        log: log::validate(log, findings),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{problems, valid};

    #[test]
    fn the_server_stays_the_user_that_has_started_it_unless_another_is_named() {
        let default = valid("").server.process;
        assert!(default.user.is_none() && default.landlock);
        assert!(
            !valid("[process]\nlandlock = false\n")
                .server
                .process
                .landlock
        );
        let process = valid("[process]\nuser = \"tapis\"\ngroup = \"dns\"\n")
            .server
            .process;
        let names = (process.user.as_deref(), process.group.as_deref());
        assert_eq!(names, (Some("tapis"), Some("dns")));
    }

    #[test]
    fn all_mistakes_are_reported() {
        let found = problems("[process]\nuser = \"\"\nusr = 1\n").join("\n");
        for part in ["user", "usr"] {
            assert!(found.contains(part), "{found}");
        }
        let found = problems("[process]\ngroup = \"dns\"\n");
        assert!(
            found[0].starts_with("2: group is set without user"),
            "{found:?}"
        );
    }
}
