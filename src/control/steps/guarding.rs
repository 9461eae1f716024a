//! The guard rails while serving: read again at each reload, and lists read again where those differ.

use std::sync::Arc;

use tokio::time::Instant;

use crate::config::Config;
use crate::control::Control;
use crate::control::admin::requests::Waiting;
use crate::control::admin::status::ReloadRequest;
use crate::control::guard::guarding::{holding, is_held};
use crate::control::guard::policy::GuardPolicy;
use crate::control::guard::release;
use crate::control::guard::release::{Guards, NoRelease};
use crate::control::sources::lists::state::ListState;

impl Control {
    /// Takes the guard's files that were read again for a configuration, unless a new configuration brings a guard of its own. Returns
    /// whether rules are held against other names now.
    pub(crate) fn renew_guard_policy(
        &mut self,
        waiting: &mut Waiting,
        of: &Config,
        guard_policy: GuardPolicy,
    ) -> bool {
        // A new configuration may have come into force since the files were read.
        if waiting.staged || *of != self.configuration.current {
            return false;
        }
        waiting
            .report
            .problems
            .extend_from_slice(guard_policy.problems());
        let other =
            guard_policy.protected_names().digest() != self.guard_policy.protected_names().digest();
        self.guard_policy = Arc::new(guard_policy);
        self.log_guard_problems();
        other
    }

    /// Takes the guard of a new configuration. Whoever waits for that waits for the lists that are to
    /// be read again, too.
    pub(crate) fn adopt_guard_policy(&mut self, guard_policy: Arc<GuardPolicy>) {
        self.guard_policy = guard_policy;
        self.log_guard_problems();
        let now = Instant::now();
        for list in self
            .lists
            .active
            .iter_mut()
            .filter(|list| !list.is_frozen())
        {
            if is_held(list) || list.is_outdated(&self.guard_policy) {
                let ticket = list.request(self.requests.tickets.next(), Guards::NONE, now);
                for waiting in self
                    .requests
                    .waiting
                    .iter_mut()
                    .filter(|waiting| waiting.staged)
                {
                    waiting.tickets.insert(ticket);
                }
            }
        }
        let staged = self
            .requests
            .waiting
            .iter_mut()
            .filter(|waiting| waiting.staged);
        for waiting in staged {
            let problems = self.guard_policy.problems();
            waiting.report.problems.extend_from_slice(problems);
        }
    }

    /// Logs what is wrong with the guard's files.
    pub(crate) fn log_guard_problems(&self) {
        for problem in self.guard_policy.problems() {
            tracing::error!(problem, "a file of the guard is not as it should be");
        }
    }

    /// What of a reload's releases can't be meant, a sentence each.
    /// `in_vain`: a release is for what guards hold, as the configuration and their files are the same.
    pub(crate) fn invalid_releases(&mut self, wish: &ReloadRequest, in_vain: bool) -> Vec<String> {
        let (mut problems, guard_policy) = (Vec::new(), Arc::clone(&self.guard_policy));
        for text in &wish.accept {
            let read = release::read(text);
            let name = match &read {
                Ok((list, _)) => list,
                Err(NoRelease::Unknown { list, .. } | NoRelease::Unnamed(list)) => list.as_str(),
            };
            // One of a new configuration comes last.
            let list = self.lists.all().filter(|list| list.name() == name).last();
            let is_vain = |list: &ListState| in_vain && list.is_free_of_guards(&guard_policy);
            problems.extend(match (list, &read) {
                (None, _) => Some(format!("there is no list `{name}`")),
                (Some(list), Ok((_, guard))) => is_vain(list).then(|| {
                    format!("no guard holds {name} for `{guard}`, so there is nothing to accept")
                }),
                (Some(list), Err(why)) => Some(format!("{why}{}", holding(list))),
            });
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::{mpsc, oneshot};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::control::admin::requests::Request;
    use crate::control::admin::status::{Gauges, ReloadReport};
    use crate::control::sources::wall_clock::Still;

    /// What a reload of the built-in configuration returns, after this server's own name changed or not.
    async fn reload(renamed: bool, accept: Vec<String>) -> ReloadReport {
        let config = Config::built_in();
        let control = tokio::task::block_in_place(|| Control::start(config, Arc::new(Still)));
        let mut control = control.expect("a first generation");
        if renamed {
            control.configuration.current.server.id = Some("r1.resolver.example".to_owned());
        }
        let (requests, queued) = mpsc::channel(1);
        let (_hang_up, hangups) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let probe = Arc::new(Gauges::default);
        let task = tokio::spawn(control.run(queued, hangups, probe, stop.clone()));
        let (reply, answer) = oneshot::channel();
        let wish = ReloadRequest { accept };
        let sent = requests.send(Request::Reload(wish, 1000, reply)).await;
        sent.expect("it runs");
        // Only a failing test waits so long.
        let answer = tokio::time::timeout(Duration::from_secs(60), answer).await;
        stop.cancel();
        task.await.expect("it ended well");
        answer.expect("it answers").expect("it answers")
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn built_in_lists_are_read_again_when_this_server_has_another_name() {
        let report = reload(true, Vec::new()).await;
        let all: Vec<_> = Config::built_in().lists;
        assert_eq!(report.loaded.len(), all.len(), "{report:?}");
        assert_eq!(report.problems, [""; 0]);
        assert_eq!(reload(false, Vec::new()).await.loaded, [""; 0]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_reload_that_accepts_a_built_in_list_is_answered() {
        let list = Config::built_in().lists[0].source.name.clone();
        for renamed in [false, true] {
            let report = reload(renamed, vec![format!("{list}:bad")]).await;
            assert!(report.loaded.contains(&list), "{report:?}");
        }
    }
}
