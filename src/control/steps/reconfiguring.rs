//! A new configuration: from a reload to in force, or refused whole.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::config::Problems;
use crate::config::shown::Show;
use crate::control::Control;
use crate::control::admin::preparing::{Newest, Prepared};
use crate::control::admin::report;
use crate::control::admin::requests::Waiting;
use crate::control::admin::status::{ReloadReport, ReloadRequest};
use crate::control::guard::guarding::{is_held, released};
use crate::control::guard::release::Guards;
use crate::control::journal::entry::Cause;
use crate::control::journal::settings;
use crate::control::sources::files::Files;
use crate::control::sources::orders::registry::OrderRegistry;
use crate::control::sources::pending::{ConfiguredOrders, PendingConfig};

impl Control {
    /// Leaves a new configuration of which a list can't be taken, when all are read.
    pub(crate) fn finish_pending(&mut self) {
        let bad =
            |pending: &mut PendingConfig| pending.is_ready() && !pending.problems().is_empty();
        let Some(pending) = self.lists.pending.take_if(bad) else {
            return;
        };
        self.drop_pending(pending.problems());
    }

    /// Tells why a new configuration is not taken.
    pub(crate) fn drop_pending(&mut self, problems: Vec<String>) {
        self.compiler.base.take_if(|base| base.staged);
        tracing::error!(
            problems = problems.join("; "),
            "configuration refused, the old one stays"
        );
        for waiting in self
            .requests
            .waiting
            .iter_mut()
            .filter(|waiting| waiting.staged)
        {
            waiting.staged = false;
            waiting.report.problems.extend(problems.iter().cloned());
        }
        self.record
            .refused("configuration".to_owned(), problems.clone());
        self.configuration.problems = problems;
    }

    /// Refuses a new configuration that a reload found.
    pub(crate) fn refuse_configuration(&mut self, waiting: &mut Waiting, problems: Vec<String>) {
        tracing::error!(
            problems = problems.join("; "),
            "configuration refused, the old one stays"
        );
        waiting.report.problems.extend(problems.iter().cloned());
        self.record
            .refused("configuration".to_owned(), problems.clone());
        self.configuration.problems = problems;
    }

    /// Reads the configuration again, and all lists that changed, were refused, or are accepted.
    pub(super) fn reload(
        &mut self,
        wish: &ReloadRequest,
        cause: Cause,
        reply: Option<oneshot::Sender<ReloadReport>>,
        prepared: Prepared,
    ) {
        let mut waiting = Waiting::new(cause, reply);
        waiting.is_reload = true;
        self.reconfigure(wish, &mut waiting, prepared.newest, &prepared.files);
        let reguarded =
            self.renew_guard_policy(&mut waiting, &prepared.config, prepared.guard_policy);
        self.refresh_orders(&mut waiting);
        let same = !waiting.staged && !reguarded;
        let problems = self.invalid_releases(wish, same);
        waiting.report.problems.extend(problems);
        let now = Instant::now();
        let fresh = |name: &str| {
            let fresh = self.lists.pending.iter().flat_map(|pending| &pending.lists);
            fresh.into_iter().any(|list| list.name() == name)
        };
        for list in &mut self.lists.active {
            let mut free = released(wish, list.name());
            if fresh(list.name()) {
                // What is released of a list that comes anew is not its old file.
                free = Guards::NONE;
            }
            let under_way = list.loading.filter(|loading| {
                !reguarded && loading.of == list.looked() && loading.released.cover(free)
            });
            // What a guard holds is judged anew by the guard that a new configuration brings.
            let later = waiting.staged && is_held(list);
            let ticket = if let Some(loading) = under_way {
                loading.ticket
            } else if !free.is_empty()
                || (list.refused.is_some() && !later)
                || list.changed()
                || (!list.frozen && list.is_outdated(&self.guard_policy))
            {
                list.request(self.requests.tickets.next(), free, now)
            } else {
                continue;
            };
            waiting.tickets.insert(ticket);
        }
        self.requests.waiting.push(waiting);
    }

    /// Takes in the configuration's reloadable parts, once the lists that they bring are read.
    pub(super) fn reconfigure(
        &mut self,
        wish: &ReloadRequest,
        waiting: &mut Waiting,
        newest: Option<Result<Newest, Problems>>,
        files: &Files,
    ) {
        let Some(newest) = newest else {
            return;
        };
        let Newest {
            config,
            problems,
            guard_policy,
            change,
        } = match newest {
            Ok(newest) => newest,
            Err(problems) => {
                self.configuration.problems = problems.0.iter().map(ToString::to_string).collect();
                self.record.refused(
                    "configuration".to_owned(),
                    self.configuration.problems.clone(),
                );
                let refused = &mut waiting.report.problems;
                refused.extend(self.configuration.problems.iter().cloned());
                tracing::error!(%problems, "configuration refused, the old one stays");
                return;
            }
        };
        if !problems.is_empty() && config != self.configuration.current {
            return self.refuse_configuration(waiting, problems);
        }
        let change = change.filter(|_| config != self.configuration.current);
        let next = change.as_ref().map(|change| change.restart.as_slice());
        let plane = next.unwrap_or(self.publication.plane.restart());
        waiting.report.restart = report::needs_restart(&self.configuration.boot, &config, plane);
        let (config, problem) = match &self.rollback.record {
            Some(hold) => self.without_held(config, hold),
            None => (config, None),
        };
        waiting.report.problems.extend(problem.clone());
        self.report_held_back(problem);
        if config == self.configuration.current && self.lists.pending.is_none() {
            return;
        }
        waiting.staged = true;
        let is_other = |pending: &PendingConfig| pending.config != config;
        if self.lists.pending.as_ref().is_none_or(is_other) {
            // One that waited is outdated; who waited for it waits for this one.
            let guard_policy =
                guard_policy.map_or_else(|| Arc::clone(&self.guard_policy), Arc::new);
            self.lists.pending = Some(PendingConfig::new(
                config,
                guard_policy,
                change,
                &self.lists.active,
                files,
            ));
            self.compiler.base.take_if(|base| base.staged);
            self.files.refresh();
        }
        let now = Instant::now();
        for list in self
            .lists
            .pending
            .iter_mut()
            .flat_map(|pending| &mut pending.lists)
        {
            let free = released(wish, list.name());
            if list.loading.is_none() && (!free.is_empty() || list.loaded.is_none()) {
                list.request_unwatched(self.requests.tickets.next(), free, now);
            }
        }
    }

    /// Starts to read the orders and exceptions of a new configuration whose lists are read. That happens
    /// before it is joined, as nothing else is heard then and a file system may not answer.
    pub(crate) fn start_reading_new_orders(&mut self) {
        let version = self.scheduler.registry.version();
        let ready = |pending: &&mut PendingConfig| pending.is_ready() && !pending.is_whole(version);
        let Some(pending) = self.lists.pending.as_mut().filter(ready) else {
            return;
        };
        if self.rollback.running.is_some()
            || pending
                .registry
                .as_ref()
                .is_some_and(|(of, _)| *of == version)
        {
            return;
        }
        // What was read of files meanwhile is missing in it.
        pending.registry = None;
        pending.book_since.get_or_insert_with(Instant::now);
        let folders = pending.folders();
        let places: Vec<_> = folders.iter().map(|dir| dir.shown().to_string()).collect();
        if self.configuration.orders.is_running(&folders) {
            return;
        }
        let (config, guard_policy) = (pending.config.clone(), Arc::clone(&pending.guard_policy));
        let known = Arc::clone(&self.scheduler.registry);
        let work = move || {
            let mut registry = OrderRegistry::clone(&known);
            registry.configure(&config);
            registry.check(&guard_policy);
            let of = version;
            Box::new(ConfiguredOrders {
                config,
                of,
                registry,
            })
        };
        let places = places.join(", ");
        self.configuration.orders.start(folders, places, work);
    }

    /// Takes the orders and exceptions of a new configuration; `None` if reading them broke off.
    pub(crate) fn finish_configuring(&mut self, configured: Option<ConfiguredOrders>) {
        let Some(configured) = configured else {
            if self
                .lists
                .pending
                .take_if(|pending| pending.book_since.is_some())
                .is_some()
            {
                self.drop_pending(vec!["configuration not taken: reading its orders broke off inside tapis, which is a bug; please report it".to_owned()]);
            }
            return;
        };
        let ConfiguredOrders {
            config,
            of,
            registry,
        } = configured;
        // It may have been given up, or another one may wait.
        if let Some(pending) = self
            .lists
            .pending
            .as_mut()
            .filter(|pending| pending.config == config)
        {
            pending.registry = Some((of, registry));
        }
    }

    /// Takes a new configuration with its lists.
    pub(crate) fn adopt_pending(&mut self, mut pending: PendingConfig, registry: OrderRegistry) {
        if let Some(change) = pending.change.take() {
            self.publication.plane.take(change);
        }
        let guard_policy = Arc::clone(&pending.guard_policy);
        let (config, lists, gone) = pending.merge(std::mem::take(&mut self.lists.active));
        let changed = settings::changed(&self.configuration.current, &config);
        (self.configuration.current, self.lists.active) = (config, lists);
        self.adopt_guard_policy(guard_policy);
        self.scheduler.configure(registry);
        self.record
            .order_problems(self.scheduler.registry.problems());
        let queued = self
            .requests
            .waiting
            .iter()
            .filter(|waiting| waiting.staged);
        let causes: Vec<_> = queued.map(|waiting| waiting.cause.clone()).collect();
        causes
            .into_iter()
            .for_each(|cause| self.publication.change(cause));
        let problems = self.scheduler.registry.problems();
        for ticket in gone.iter().filter_map(|list| list.promised) {
            self.requests.dismiss(ticket);
        }
        for waiting in self
            .requests
            .waiting
            .iter_mut()
            .filter(|waiting| waiting.staged)
        {
            waiting.staged = false;
            waiting.report.problems.extend(problems.iter().cloned());
            waiting.report.changed.clone_from(&changed);
        }
    }
}
