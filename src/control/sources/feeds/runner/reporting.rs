//! Reports the state of a feed.

use super::Runner;
use crate::control::sources::feeds::report::{Activity, FeedReport, NotifyReport, PrimaryReport};

impl Runner {
    /// Reports the state.
    pub(super) fn report(&self, activity: Activity) {
        let (transfer, compiling) = match activity {
            Activity::None => (None, None),
            Activity::Transferring(transfer) => (Some(transfer), None),
            Activity::Compiling(serial) => (None, Some(serial.0)),
        };
        let primaries = self
            .feed
            .primaries
            .iter()
            .zip(&self.primaries)
            .zip(&self.faults);
        let primaries = primaries.map(|((config, state), text)| PrimaryReport {
            address: config.address.current(|_| None),
            fault: state.fault().map(|fault| fault.name().to_owned()),
            text: text.clone(),
            failures: state.failures(),
            certificate_end: state.certificate_end(),
            latency_ms: state.latency().map(|latency| latency.as_millis() as u64),
        });
        let primaries = primaries.collect();
        let faults = self.counts.iter().filter(|(_, count)| *count > 0);
        let faults = faults.map(|(fault, count)| (fault.name().to_owned(), count));
        let faults = faults.collect();
        self.links.reports.send_replace(FeedReport {
            name: self.feed.name.clone(),
            zone: self.feed.zone.to_string(),
            serial: self.in_force.serial.map(|serial| serial.0),
            confirmed: self
                .confirmed
                .last()
                .filter(|_| self.in_force.serial.is_some()),
            is_expired: self.refresh.is_expired(),
            transfer,
            compiling,
            is_current: self.refresh.has_succeeded(),
            local: self.problems.local.reports(),
            held: self.held.clone(),
            primaries,
            faults,
            announced: self.announced.missing().map(|serial| serial.0),
            notify: NotifyReport::default(),
            answered: self.taken.answered,
        });
    }
}
