//! Reloads: a new configuration comes into force as a whole, or not at all.
//!
//! ```text
//!   reload --------> configuration read -----------> pending ----------> lists read ---------> orders read ----+
//!                       |           |                   |   another         |                       |          |
//!                       | same      | invalid           |   configuration   | a list is refused,    | too late |
//!                       v           v                   v   replaces it     v or too late           v          v
//!                    no change   rejected            dropped             rejected               rejected    joined,
//!                                                                                                          in force
//! ```

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::config::{Config, Problems};
use crate::control::Control;
use crate::control::admin::preparing::{Newest, Prepared};
use crate::control::admin::requests::OpenRequest;
use crate::control::admin::status::{OrdersRequest, ReloadReport, ReloadRequest};
use crate::control::guard::policy::GuardPolicy;
use crate::control::journal::entry::Cause;
use crate::control::journal::settings;
use crate::control::local_names::LocalSources;
use crate::control::rollback::record::RollbackRecord;
use crate::control::sources::files::Files;
use crate::control::sources::lists::releases::invalid_releases;
use crate::control::sources::orders::registry::OrderRegistry;
use crate::control::sources::pending::{ConfiguredOrders, PendingConfig};
use crate::control::steps::status;

impl Control {
    /// Reads an order's file at once, because the client has written the file already.
    pub(crate) fn read_order(
        &mut self,
        request: OrdersRequest,
        user: u32,
        reply: oneshot::Sender<ReloadReport>,
    ) {
        let cause = request.cause(user);
        let ticket = self.requests.tickets.next();
        self.scheduler
            .read_order(request.path, cause.clone(), ticket);
        let mut open = OpenRequest::new(cause, Some(reply));
        open.tickets.insert(ticket);
        self.requests.add(open);
    }

    /// Carries out a reload: of the configuration, and of all lists that changed, that were refused, or whose guards
    /// the request releases.
    pub(crate) fn reload(
        &mut self,
        request: &ReloadRequest,
        cause: Cause,
        reply: Option<oneshot::Sender<ReloadReport>>,
        prepared: Prepared,
    ) {
        let mut open = OpenRequest::new(cause, reply);
        open.is_reload = true;
        self.zones.read_keys();
        if let Some(plane) = self.publication.plane.plane() {
            plane.reopen_records();
        }
        self.reconfigure(request, &mut open, prepared.newest, &prepared.files);
        let is_reguarded =
            self.renew_guard_policy(&mut open, &prepared.config, prepared.guard_policy);
        self.renew_local_names(&mut open, &prepared.config, prepared.local);
        let ticket = self.requests.tickets.next();
        self.scheduler.refresh(ticket);
        open.tickets.insert(ticket);
        let lists: Vec<_> = self.lists.iter().collect();
        let is_unchanged = !open.awaits_pending && !is_reguarded;
        let problems = invalid_releases(&request.accept, &lists, &self.guard_policy, is_unchanged);
        open.report.problems.extend(problems);
        open.tickets.extend(self.lists.request_reload(
            &request.accept,
            (is_reguarded, open.awaits_pending),
            &self.guard_policy,
            &mut self.requests.tickets,
        ));
        self.requests.add(open);
    }

    /// Makes a new configuration pending, or rejects it. A pending one comes into force once its lists and orders are
    /// read.
    pub(super) fn reconfigure(
        &mut self,
        request: &ReloadRequest,
        open: &mut OpenRequest,
        newest: Option<Result<Newest, Problems>>,
        files: &Files,
    ) {
        let Newest {
            config,
            problems,
            guard_policy,
            local,
            change,
            files: plane_files,
        } = match newest {
            None => return,
            Some(Ok(newest)) => newest,
            Some(Err(problems)) => {
                let problems: Vec<_> = problems.0.iter().map(ToString::to_string).collect();
                open.report.problems.extend(problems.iter().cloned());
                return self.reject_configuration(problems);
            }
        };
        match plane_files {
            Ok(changed) => open.report.changed.extend(changed),
            Err(problems) => open.report.problems.extend(problems),
        }
        let is_other = config != self.configuration.current;
        if !problems.is_empty() && is_other {
            open.report.problems.extend(problems.iter().cloned());
            return self.reject_configuration(problems);
        }
        let change = change.filter(|_| is_other);
        let next = change.as_ref().map(|change| change.restart.as_slice());
        let plane = next.unwrap_or(self.publication.plane.restart());
        open.report.restart = status::needs_restart(&self.configuration.boot, &config, plane);
        let (config, problem) = match &self.rollback.record {
            Some(record) => self.without_held(config, record),
            None => (config, None),
        };
        open.report.problems.extend(problem.clone());
        self.report_held_back(problem);
        if config == self.configuration.current && self.lists.pending.is_none() {
            return;
        }
        open.awaits_pending = true;
        let is_other = |pending: &PendingConfig| pending.config != config;
        if self.lists.pending.as_ref().is_none_or(is_other) {
            // It replaces an outdated pending configuration. Requests that waited for that one wait for this one.
            let guard_policy = guard_policy.map_or_else(|| self.guard_policy.clone(), Arc::new);
            let local = local.unwrap_or_else(|| self.configuration.local.clone());
            self.lists.pending = Some(PendingConfig::new(
                config,
                (guard_policy, local),
                change,
                &self.lists.active,
                files,
            ));
            self.compiler.drop_pending_base();
            self.files.refresh();
        }
        self.lists
            .request_pending(&request.accept, &mut self.requests.tickets);
    }

    /// Replaces the lists of a new configuration by those of the configuration in force, which a rollback holds. Also
    /// returns the problem to report, if the new configuration had other lists.
    pub(super) fn without_held(
        &self,
        config: Config,
        record: &RollbackRecord,
    ) -> (Config, Option<String>) {
        let lists = &self.configuration.current.lists;
        let is_same = config.lists == *lists;
        let problem =
            (!is_same).then(|| format!("lists of the configuration rejected: {}", record.alarm()));
        let lists = lists.clone();
        (Config { lists, ..config }, problem)
    }

    /// Reports that the lists of a new configuration wait for the release of a rollback; `None` clears the report.
    pub(super) fn report_held_back(&mut self, problem: Option<String>) {
        let problems: Vec<_> = problem.into_iter().collect();
        if !problems.is_empty() && problems != self.configuration.problems {
            tracing::error!(
                problems = problems.join("; "),
                "lists of a new configuration rejected"
            );
            self.record
                .refused("configuration".to_owned(), problems.clone());
        }
        self.configuration.problems = problems;
    }

    /// Logs and records why a new configuration is rejected.
    fn reject_configuration(&mut self, problems: Vec<String>) {
        tracing::error!(
            problems = problems.join("; "),
            "configuration rejected, the old one stays"
        );
        self.record
            .refused("configuration".to_owned(), problems.clone());
        self.configuration.problems = problems;
    }

    /// Rejects a pending configuration when all of its lists are read and some are refused.
    pub(crate) fn finish_pending(&mut self) {
        let is_bad =
            |pending: &mut PendingConfig| pending.is_ready() && !pending.problems().is_empty();
        if let Some(pending) = self.lists.pending.take_if(is_bad) {
            self.drop_pending(pending.problems());
        }
    }

    /// Rejects the pending configuration.
    pub(super) fn drop_pending(&mut self, problems: Vec<String>) {
        self.compiler.drop_pending_base();
        self.requests.fail_pending(&problems);
        self.reject_configuration(problems);
    }

    /// Starts to read the orders and exceptions of a pending configuration whose lists are read. This precedes the join
    /// of its lists: no request is carried out during a join, and a file system that does not answer would prolong it.
    pub(crate) fn start_reading_new_orders(&mut self) {
        if let Some(pending) = &mut self.lists.pending
            && !self.rollback.is_running()
        {
            self.configuration
                .start_reading_orders(pending, &self.scheduler.registry);
        }
    }

    /// Takes the orders and exceptions of a pending configuration; `None` if reading them panicked.
    pub(crate) fn finish_reading_new_orders(&mut self, configured: Option<ConfiguredOrders>) {
        let Some(configured) = configured else {
            let was_read = |pending: &mut PendingConfig| pending.has_begun_orders();
            if self.lists.pending.take_if(was_read).is_some() {
                self.drop_pending(vec![
                    "configuration rejected: reading its orders failed inside tapis, which is a bug; please report it".to_owned(),
                ]);
            }
            return;
        };
        // The pending configuration may have been rejected or replaced meanwhile.
        let is_same = |pending: &&mut PendingConfig| pending.config == configured.config;
        if let Some(pending) = self.lists.pending.as_mut().filter(is_same) {
            pending.finish_orders(configured.of, configured.registry);
        }
    }

    /// Puts a configuration in force, with its lists and orders.
    pub(super) fn adopt_pending(&mut self, mut pending: PendingConfig, registry: OrderRegistry) {
        if let Some(change) = pending.change.take() {
            self.publication.plane.take(change);
        }
        let guard_policy = Arc::clone(&pending.guard_policy);
        let local = pending.local.clone();
        let (config, lists, gone) = pending.merge(std::mem::take(&mut self.lists.active));
        let changed = settings::changed(&self.configuration.current, &config);
        (self.configuration.current, self.lists.active) = (config, lists);
        let labels = self.lists.labels();
        self.lists.pauses.retain(&labels);
        self.adopt_guard_policy(guard_policy);
        self.configuration.local = local;
        self.configuration.local.log_problems();
        self.scheduler.configure(registry);
        let problems = self.scheduler.registry.problems();
        self.record.order_problems(problems.clone());
        for open in self.requests.awaiting_pending() {
            self.publication.change(open.cause.clone());
        }
        let gone = gone.iter().filter_map(|list| list.next.ticket);
        self.dismiss_loads(gone);
        self.requests.finish_pending(&problems, &changed);
    }

    /// Adopts the guard's files that a reload has read again, unless a new configuration brings its own. Returns
    /// whether the protected names have changed.
    fn renew_guard_policy(
        &mut self,
        open: &mut OpenRequest,
        of: &Config,
        guard_policy: GuardPolicy,
    ) -> bool {
        // A new configuration may have come into force since the files were read.
        if open.awaits_pending || *of != self.configuration.current {
            return false;
        }
        let problems = guard_policy.problems();
        open.report.problems.extend_from_slice(problems);
        let before = self.guard_policy.protected_names().digest();
        let is_other = guard_policy.protected_names().digest() != before;
        self.guard_policy = Arc::new(guard_policy);
        self.guard_policy.log_problems();
        is_other
    }

    /// Adopts the local zones whose files a reload has read again, unless a new configuration brings its own.
    fn renew_local_names(&mut self, open: &mut OpenRequest, of: &Config, local: LocalSources) {
        // A new configuration may have come into force since the files were read.
        if open.awaits_pending || *of != self.configuration.current {
            return;
        }
        open.report.problems.extend(local.problems().cloned());
        let is_same = local.has_records_of(&self.configuration.local);
        self.configuration.local = local;
        self.configuration.local.log_problems();
        if !is_same {
            self.publication.change(open.cause.clone());
        }
    }

    /// Adopts the guard policy of a new configuration. Requests that wait for the configuration also wait for the lists
    /// that are read again because of it.
    fn adopt_guard_policy(&mut self, guard_policy: Arc<GuardPolicy>) {
        self.guard_policy = guard_policy;
        self.guard_policy.log_problems();
        let tickets = &mut self.requests.tickets;
        let requested = self.lists.request_reguarded(&self.guard_policy, tickets);
        for open in self.requests.awaiting_pending() {
            open.tickets.extend(requested.iter().copied());
            let problems = self.guard_policy.problems();
            open.report.problems.extend_from_slice(problems);
        }
    }
}
