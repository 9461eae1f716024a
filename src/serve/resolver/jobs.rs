//! Runs the jobs that workers hand over: one task for all first attempts over connections, a task for each other job.

use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::{Job, Resolver};
use crate::serve::observe::Observer;
use crate::serve::upstream::attempts::{AttemptEvent, Attempts, Ending};

/// The maximum number of jobs that are taken from the queue at a time.
const MOST_JOBS: usize = 256;

impl<O: Observer> Resolver<O> {
    /// Runs the workers' jobs until the workers have ended. The jobs are tracked by `tracker`.
    pub async fn run_jobs(self: Arc<Self>, mut jobs: mpsc::Receiver<Job>, tracker: TaskTracker) {
        let counters = Arc::clone(&self.responder.counters);
        let mut attempts = Attempts::new(Arc::clone(&self.pools), counters);
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                count = jobs.recv_many(&mut batch, MOST_JOBS) => match count {
                    0 => break,
                    _ => batch.drain(..).for_each(|job| self.run_job(job, &mut attempts, &tracker)),
                },
                event = attempts.next() => self.end_attempt(event, &tracker),
            }
        }
        for query_id in attempts.drain() {
            drop(tracker.spawn(self.start(query_id).run(None)));
        }
    }

    fn run_job(self: &Arc<Self>, job: Job, attempts: &mut Attempts, tracker: &TaskTracker) {
        match job {
            Job::Resolve(query_id, None) if attempts.ask(&query_id) => {}
            Job::Resolve(query_id, prior) => {
                drop(tracker.spawn(self.start(query_id).run(prior)));
            }
            Job::Respond(datagram) => drop(tracker.spawn(Arc::clone(self).respond(datagram))),
        }
    }

    /// Ends a query by its first attempt, or has the pool asked.
    fn end_attempt(self: &Arc<Self>, event: AttemptEvent, tracker: &TaskTracker) {
        let AttemptEvent {
            query_id,
            pool,
            result,
        } = event;
        let query = self.start(query_id);
        match result {
            Ending::Answered(answer) => {
                let mut end = Box::pin(async move { query.end(&pool, Ok(answer)).await });
                // Only an outcome with many waiters is delivered in several steps.
                if (&mut end).now_or_never().is_none() {
                    drop(tracker.spawn(end));
                }
            }
            Ending::Unfinished(prior) => drop(tracker.spawn(query.run(Some(prior)))),
            Ending::Lost => drop(tracker.spawn(query.run(None))),
        }
    }
}
