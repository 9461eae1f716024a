//! Computes the figures for monitoring from the components' states, and publishes them.

use std::sync::Arc;

use jiff::Timestamp;

use crate::config::Content;
use crate::config::order::State;
use crate::control::Control;
use crate::control::figures::{Figures, ImageFigures, PublishedFigures, SourceFigures};
use crate::control::gauges::Gauges;
use crate::control::list_file::signature::Signature;
use crate::control::sources::feeds::report::FeedReport;
use crate::control::sources::lists::state::ListState;
use crate::control::steps::status;

impl Control {
    /// Publishes the figures for monitoring there.
    #[must_use]
    pub fn with_figures(mut self, figures: PublishedFigures) -> Self {
        self.figures = figures;
        self
    }

    /// Whether metrics are served.
    pub(crate) fn is_monitored(&self) -> bool {
        !self.configuration.current.server.metrics.listen.is_empty()
    }

    /// Publishes the present figures, if metrics are served.
    pub(crate) fn publish_figures(&self) {
        let figures = self.is_monitored().then(|| Arc::new(figures(self)));
        self.figures.store(figures);
    }
}

fn figures(control: &Control) -> Figures {
    let images = control.publication.images();
    let images = [
        ("base", &images.base),
        ("delta", &images.delta),
        ("orders", &images.orders),
    ];
    let image = |(name, image): (&'static str, &Option<_>)| {
        let image: &Arc<crate::policy::image::Image> = image.as_ref()?;
        Some(ImageFigures {
            name,
            rules: image.facts().rules,
            bytes: image.size(),
        })
    };
    let feeds = control.feeds.reports();
    let restart = status::needs_restart(
        &control.configuration.boot,
        &control.configuration.current,
        control.publication.plane.restart(),
    );
    let mut figures = Figures {
        generation: (control.generation(), control.publication.published_at()),
        images: images.into_iter().filter_map(image).collect(),
        sources: control
            .lists
            .active
            .iter()
            .map(|list| source(control, list, &feeds))
            .collect(),
        alarms: status::alarms(control, &Gauges::default()).len() as u64,
        restart: restart.len() as u64,
        ..Figures::default()
    };
    count_orders(control, &mut figures);
    figures
}

fn source(control: &Control, list: &ListState, feeds: &[FeedReport]) -> SourceFigures {
    let loaded = list.loaded.as_ref();
    let own_alarm = status::list_alarm(list, &control.guard_policy).is_some();
    let mut figures = SourceFigures {
        kind: "list",
        name: list.name().to_owned(),
        is_in_force: loaded.is_some(),
        rules: loaded.map_or(0, |loaded| loaded.rules as u64),
        bad_lines: loaded.map_or(0, |loaded| loaded.tally.bad_total().into()),
        loaded: loaded.map(|loaded| loaded.at),
        load_seconds: loaded.map_or(0.0, |loaded| loaded.took.as_secs_f64()),
        current_at: loaded
            .and_then(|loaded| loaded.signature.as_ref())
            .and_then(Signature::modified),
        next_attempt: None,
        alarms: own_alarm.into(),
        faults: Vec::new(),
    };
    if let Some(report) = control.downloads.report(list.name()) {
        figures.alarms += report.alarms(list.name()).len() as u64;
        figures.current_at = report.confirmed.or(report.fetched).or(figures.current_at);
        figures.next_attempt = report.next;
        figures.faults = report.faults;
    }
    if list.config.content == Content::Transferred {
        figures.kind = "feed";
        let mut feeds = feeds.iter();
        if let Some(report) = feeds.find(|report| report.name == list.name()) {
            figures.alarms += report.alarms().len() as u64;
            figures.current_at = report.confirmed.or(figures.current_at);
            figures.faults.clone_from(&report.faults);
        }
    }
    figures
}

fn count_orders(control: &Control, figures: &mut Figures) {
    let (registry, now): (_, Timestamp) = (&control.scheduler.registry, control.scheduler.now());
    figures.next_change = registry.next(now);
    for known in registry.known() {
        let state = known.schedule.state(now);
        *figures.orders.entry(state).or_default() += 1;
        if state == State::InForce && known.order.dates.review_at.at() <= now {
            figures.overdue_reviews += 1;
        }
    }
    for exception in registry.exceptions() {
        match exception.until.is_some_and(|until| until.at() <= now) {
            true => figures.exceptions.1 += 1,
            false => figures.exceptions.0 += 1,
        }
    }
}
