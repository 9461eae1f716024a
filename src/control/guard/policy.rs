//! The guard rails of one configuration: limits for lists, and protected names. Their files are read at the start and at
//! each reload only.

use std::borrow::Cow;
use std::fmt::{self, Display, Formatter};

use crate::config::guard::Limits;
use crate::config::order::{Order, Target};
use crate::config::shown::Show;
use crate::config::{Config, List};
use crate::control::guard::names;
use crate::control::guard::names::NameFile;
use crate::control::guard::protected::{
    Cover, Guarded, ProtectedList, ProtectedName, ProtectedNames, Protection,
};
use crate::policy::rule::Kind;
use crate::wire::name::Name;

/// A target of an order that covers a name which rules of lists may not cover, such as a protected name.
pub struct Finding<'f> {
    target: &'f Target,
    cover: Cover<'f>,
}

impl Display for Finding<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = &self.target.name;
        let target = self.target.scope.notation(name);
        write!(f, "target {target} {}", self.cover.described(name))
    }
}

/// The guard rails of one configuration.
#[derive(Debug)]
pub struct GuardPolicy {
    limits: Limits,
    protected_names: ProtectedNames,
    allow_digest: String,
    problems: Vec<String>,
    /// Whether the files that the configuration names were read. Some of them may have problems nevertheless.
    is_complete: bool,
}

impl GuardPolicy {
    /// Reads the files of the configuration. If a file has bad lines, its good lines are used nevertheless.
    pub fn read(config: &Config) -> Self {
        Self::read_after(None, config)
    }

    /// The policy without the files that the configuration names, as they can't be read.
    pub(crate) fn without_files(config: &Config, why: impl Display) -> Self {
        let mut bare = config.clone();
        let files = [bare.guard.protect.take(), bare.guard.popular.take()];
        let mut guard_policy = Self::read(&bare);
        guard_policy.is_complete = false;
        guard_policy.problems = files
            .into_iter()
            .flatten()
            .map(|file| {
                let file = file.shown();
                format!("[guard] {file}: {why}; then read it with: tapis reload")
            })
            .collect();
        guard_policy
    }

    /// Whether the files were read. Some of them may have problems nevertheless. Lists in force are not checked again
    /// against an incomplete policy.
    pub(crate) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Reads the files again. For a file that has problems now, the names of this policy are kept.
    pub(crate) fn read_again(&self, config: &Config) -> Self {
        Self::read_after(Some(self), config)
    }

    fn read_after(before: Option<&Self>, config: &Config) -> Self {
        let guard = &config.guard;
        let protected = guard.protect.as_deref().map(names::protected);
        let first = guard.popular_first;
        let popular = guard.popular.as_deref();
        let popular = popular.map(|path| names::popular(path, first));
        let mut problems = Vec::new();
        let mut names = names::own(config);
        for (protection, file) in [
            (Protection::Protected, protected),
            (Protection::Popular, popular),
        ] {
            let Some(NameFile {
                names: found,
                problems: new,
            }) = file
            else {
                continue;
            };
            match before.filter(|_| !new.is_empty()) {
                None => names.extend(found),
                Some(before) => names.extend(before.protected(protection).cloned()),
            }
            let kept = match (before, new.is_empty()) {
                (Some(_), false) => "; its last good names stay",
                _ => "",
            };
            let new = new.into_iter();
            problems.extend(new.map(|problem| format!("[guard] {problem}{kept}")));
        }
        let protected_names = ProtectedNames::new(ProtectedList {
            names,
            suffixes: guard.public_suffixes,
            release: guard.release.iter().map(ToString::to_string).collect(),
        });
        Self {
            limits: guard.limits,
            allow_digest: protected_names.allow_digest(),
            protected_names,
            problems,
            is_complete: true,
        }
    }

    fn protected(&self, protection: Protection) -> impl Iterator<Item = &ProtectedName> {
        let all = self.protected_names.list().names.iter();
        all.filter(move |protected| protected.protection == protection)
    }

    /// The limits for whole lists.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The names that no rule may cover.
    pub fn protected_names(&self) -> &ProtectedNames {
        &self.protected_names
    }

    /// Identifies what a list's rules are checked against.
    pub fn digest(&self, list: &List) -> Cow<'_, str> {
        digest(&self.protected_names, &self.allow_digest, list.into())
    }

    /// The problems of the files, a sentence each.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Logs the problems with the files.
    pub(crate) fn log_problems(&self) {
        for problem in &self.problems {
            tracing::error!(problem, "problem with a file of the guard");
        }
    }

    /// The targets of an order that the guard would suppress or report if they were rules of a list. The order applies
    /// in any case.
    pub fn findings<'f>(&'f self, order: &'f Order) -> impl Iterator<Item = Finding<'f>> {
        order.targets.iter().filter_map(|target| {
            let cover = self.cover(target)?;
            (!self.protected_names.releases(&target.name)).then_some(Finding { target, cover })
        })
    }

    fn cover(&self, target: &Target) -> Option<Cover<'_>> {
        let (cover, _) = self
            .protected_names
            .check(&target.name, target.scope, Kind::Order)?;
        let excepted = |name: &Name| {
            let mut except = target.except.iter();
            except.any(|except| except.scope.reaches(&except.name, name))
        };
        match cover {
            Cover::Name(protected)
                if Name::from_text(&protected.name).is_ok_and(|name| excepted(&name)) =>
            {
                None
            }
            _ => Some(cover),
        }
    }

    /// The names in `release` that have no effect: neither a rule of a list nor a target of an order needs them. `used`
    /// has the names that rules of lists need.
    pub fn vain_releases<'v>(
        &'v self,
        used: &'v [String],
        orders: impl Iterator<Item = &'v Order> + Clone + 'v,
    ) -> impl Iterator<Item = &'v str> {
        let released = self.protected_names.list().release.iter();
        let vain = released.filter(move |released| {
            let mut targets = orders.clone().flat_map(|order| &order.targets);
            let by_order = targets.any(|target| {
                target.name.to_string() == **released && self.cover(target).is_some()
            });
            !by_order && !used.contains(released)
        });
        vain.map(String::as_str)
    }
}

/// Identifies what the rules of a list are checked against. For an allow list it does not depend on the protected names,
/// which suppress none of its rules.
pub(crate) fn digest<'w>(
    protected_names: &'w ProtectedNames,
    allow: &'w str,
    list: Guarded,
) -> Cow<'w, str> {
    match list.kind {
        Kind::Allow => allow.into(),
        _ if list.warn.is_empty() => protected_names.digest().into(),
        _ => {
            let warn: Vec<_> = list
                .warn
                .iter()
                .map(|protection| protection.word())
                .collect();
            format!("{}, warn {}", protected_names.digest(), warn.join(" ")).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn config(folder: &Path, text: &str) -> Config {
        let config = Config::parse(text, &folder.join("tapis.toml"));
        config.unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn order(targets: &str) -> Order {
        let text = format!(
            "id = \"x-1\"\nlegal-basis = [\"law\"]\nissued-at = 2026-01-01T00:00:00Z\n\
             review-at = 2027-01-01T00:00:00Z\n[authority]\nname = \"A\"\n[reason]\nen = \"r\"\n\
             [redress]\nhow = \"write\"\n{targets}"
        );
        let found = Order::parse(&text, Path::new("x.toml"));
        found.unwrap_or_else(|problems| panic!("{problems}"))
    }

    #[test]
    fn the_last_good_names_of_a_file_stay_and_its_problems_are_reported() {
        let folder = tempfile::tempdir().expect("a folder");
        let protect = folder.path().join("protect");
        let config = config(
            folder.path(),
            "[guard]\nprotect = \"protect\"\npopular = \"top\"\n",
        );
        fs::write(&protect, "a.example\n/\n").expect("written");
        fs::write(folder.path().join("top"), "1,top.example\n").expect("written");
        let found = |guard_policy: &GuardPolicy, protection| {
            let names = guard_policy
                .protected(protection)
                .map(|protected| protected.name.clone());
            names.collect::<Vec<_>>()
        };
        let first = GuardPolicy::read(&config);
        assert_eq!(
            found(&first, Protection::Protected),
            ["a.example"],
            "better than nothing"
        );
        assert_eq!(found(&first, Protection::Popular), ["top.example"]);
        assert_eq!(first.problems().len(), 1);
        fs::write(&protect, "b.example\nc.example\n").expect("written");
        let second = first.read_again(&config);
        assert_eq!(
            found(&second, Protection::Protected),
            ["b.example", "c.example"]
        );
        assert!(second.problems().is_empty());
        fs::remove_file(&protect).expect("removed");
        fs::remove_file(folder.path().join("top")).expect("removed");
        let third = second.read_again(&config);
        assert_eq!(
            found(&third, Protection::Protected),
            ["b.example", "c.example"]
        );
        assert_eq!(found(&third, Protection::Popular), ["top.example"]);
        assert_eq!(
            third.protected_names().digest(),
            second.protected_names().digest()
        );
        let [one, other] = third.problems() else {
            panic!("{:?}", third.problems())
        };
        assert!(
            one.starts_with("[guard] ") && one.contains("protect: "),
            "{one}"
        );
        assert!(one.ends_with("; its last good names stay"), "{one}");
        assert!(other.contains("top: "), "{other}");
    }

    #[test]
    fn an_order_that_covers_a_protected_name_is_reported_unless_it_is_excepted_or_released() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(
            folder.path().join("protect"),
            "www.bank.example\nwww.shop.example\n",
        )
        .expect("written");
        let text = "[guard]\nprotect = \"protect\"\nrelease = [\"or.id\", \"no.example\"]\n";
        let guard_policy = GuardPolicy::read(&config(folder.path(), text));
        let order = order(
            "[[targets]]\nname = \"co.id\"\nscope = \"subtree\"\n\
             [[targets]]\nname = \"web.app\"\nscope = \"subtree\"\n\
             [[targets]]\nname = \"or.id\"\nscope = \"subtree\"\n\
             [[targets]]\nname = \"bank.example\"\nscope = \"below\"\n\
             [[targets]]\nname = \"shop.example\"\nscope = \"subtree\"\n\
             except = [\"www.shop.example\"]\n",
        );
        assert_eq!(
            guard_policy
                .findings(&order)
                .map(|finding| finding.to_string())
                .collect::<Vec<_>>(),
            [
                "target .co.id covers the public suffix co.id",
                "target .web.app covers the public suffix web.app",
                "target *.bank.example covers www.bank.example, which is protected",
            ]
        );
        let vain: Vec<_> = guard_policy
            .vain_releases(&[], [&order].into_iter())
            .collect();
        assert_eq!(vain, ["no.example"]);
        let used = ["no.example".to_owned()];
        assert_eq!(
            guard_policy
                .vain_releases(&used, [&order].into_iter())
                .count(),
            0
        );
    }
}
