//! Pauses of lists and feeds: requested, ended by the clock, and answered once they are in force and stored.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::config::pause::Pause;
use crate::control::Control;
use crate::control::admin::pausing::{
    PauseProblem, PauseReport, PauseRequest, ResumeRequest, WaitingPause,
};
use crate::control::journal::entry::Cause;
use crate::control::sources::lists::state::ListState;
use crate::policy::rule::Source;

/// How long a request waits for the disk. The change is in force by then.
const PATIENCE: Duration = Duration::from_secs(10);

impl Control {
    /// Pauses a list, or all. Neither a rollback nor a new configuration that is pending delays this.
    pub(crate) fn pause(
        &mut self,
        request: &PauseRequest,
        user: u32,
        reply: oneshot::Sender<PauseReport>,
    ) {
        let paused = self.try_pause(request, user);
        self.finish_pause_request(paused, request.cause(user), reply);
    }

    /// Ends the pause of a list, or all pauses.
    pub(crate) fn resume(
        &mut self,
        request: &ResumeRequest,
        user: u32,
        reply: oneshot::Sender<PauseReport>,
    ) {
        let resumed = self.try_resume(request);
        self.finish_pause_request(resumed, request.cause(user), reply);
    }

    fn try_pause(
        &mut self,
        request: &PauseRequest,
        user: u32,
    ) -> Result<PauseReport, PauseProblem> {
        let now = self.scheduler.now();
        let pause = Pause::new(now, request.length(), &request.reason, user)?;
        let sources = match &request.list {
            Some(name) => vec![self.source_named(name)?],
            None => self.lists.active.iter().map(ListState::label).collect(),
        };
        match (&request.list, &*sources) {
            (None, []) => return Err(PauseProblem::NoLists),
            (Some(_), [source]) => self.lists.pauses.pause(source, pause),
            _ => self.lists.pauses.pause_all(&sources, &pause),
        }
        let in_force = self.lists.pauses.in_force();
        Ok(PauseReport {
            pauses: sources
                .iter()
                .map(|source| in_force[source].clone())
                .collect(),
            sources,
            until_restart: !self.lists.pauses.has_file(),
            ..PauseReport::default()
        })
    }

    fn try_resume(&mut self, request: &ResumeRequest) -> Result<PauseReport, PauseProblem> {
        let named = match &request.list {
            Some(name) => vec![self.source_named(name)?],
            None => self.lists.pauses.in_force().keys().cloned().collect(),
        };
        let sources = self.lists.pauses.resume(&named);
        match (&*sources, named.first()) {
            ([], Some(source)) => Err(PauseProblem::NotPaused(source.clone())),
            ([], None) => Err(PauseProblem::NothingPaused),
            _ => Ok(PauseReport {
                sources,
                ..PauseReport::default()
            }),
        }
    }

    /// The label of the list or feed with this name.
    fn source_named(&self, name: &str) -> Result<String, PauseProblem> {
        let mut lists = self.lists.active.iter();
        if let Some(list) = lists.find(|list| list.name() == name) {
            return Ok(list.label());
        }
        let id = name.strip_prefix(Source::ORDER).unwrap_or(name);
        let mut orders = self.scheduler.registry.orders();
        if orders.any(|order| order.id == id) {
            return Err(PauseProblem::Order(id.to_owned()));
        }
        let known = self.lists.active.iter().map(ListState::name);
        Err(PauseProblem::unknown(name, known))
    }

    fn finish_pause_request(
        &mut self,
        done: Result<PauseReport, PauseProblem>,
        cause: Cause,
        reply: oneshot::Sender<PauseReport>,
    ) {
        let report = match done {
            Ok(report) => {
                self.publication.change(cause);
                report
            }
            Err(problem) => PauseReport {
                refused: Some(problem.to_string()),
                ..PauseReport::default()
            },
        };
        self.requests.pauses.push(WaitingPause {
            version: self.lists.pauses.version(),
            report,
            reply,
        });
    }

    /// Ends the pauses that are over by the clock.
    pub(crate) fn end_pauses(&mut self) {
        let sources = self.lists.pauses.end_by_clock(self.scheduler.now());
        if !sources.is_empty() {
            self.publication.change(Cause::PauseEnd { sources });
        }
    }

    /// Answers the requests whose changes are in force, and are stored or can't be.
    pub(crate) fn answer_pauses(&mut self) {
        let (pauses, generation) = (&self.lists.pauses, self.generation());
        let is_late = pauses.tasks.age(&()).is_some_and(|age| age >= PATIENCE);
        let is_settled = |waiting: &mut WaitingPause| {
            let is_stored = pauses.stored(waiting.version).is_some();
            is_late || is_stored || waiting.report.refused.is_some()
        };
        let settled = self.requests.pauses.extract_if(.., is_settled);
        for mut waiting in settled {
            waiting.report.generation = generation;
            let is_refused = waiting.report.refused.is_some();
            waiting.report.unstored = match pauses.stored(waiting.version) {
                _ if is_refused => None,
                Some(stored) => stored.err().map(str::to_owned),
                None => Some("the disk does not answer".to_owned()),
            };
            // The client may have left.
            let _ = waiting.reply.send(waiting.report);
        }
    }
}
