//! Computes the figures for monitoring from the components' states, and publishes them.

use std::sync::Arc;

use jiff::Timestamp;

use crate::config::Content;
use crate::config::order::State;
use crate::control::Control;
use crate::control::figures::{Figures, HitFigures, ImageFigures, PublishedFigures, SourceFigures};
use crate::control::gauges::Gauges;
use crate::control::list_file::signature::Signature;
use crate::control::sources::feeds::report::FeedReport;
use crate::control::sources::lists::state::ListState;
use crate::control::steps::status;
use crate::policy::image::Image;
use crate::policy::rule::Source;

impl Control {
    /// Publishes the figures for monitoring there.
    #[must_use]
    pub fn with_figures(mut self, figures: PublishedFigures) -> Self {
        self.figures.published = figures;
        self
    }

    /// Whether metrics are served.
    pub(crate) fn is_monitored(&self) -> bool {
        !self.configuration.current.server.metrics.listen.is_empty()
    }

    /// Publishes the present figures, if metrics are served.
    pub(crate) fn publish_figures(&mut self) {
        if !self.is_monitored() {
            return self.figures.published.store(None);
        }
        if self.figures.hits.0 != self.generation() {
            self.figures.hits = (self.generation(), Arc::new(self.hit_figures()));
        }
        self.figures.published.store(Some(Arc::new(figures(self))));
    }

    /// Where the hits of each source are counted. Looks every order up, so it is done only once for a generation.
    fn hit_figures(&mut self) -> Vec<HitFigures> {
        let slots = &self.publication.slots;
        let mut all = Vec::new();
        for list in &self.lists.active {
            let source = &list.source;
            let kind = match list.config.content {
                Content::Transferred => "feed",
                _ => "list",
            };
            let paused = Source {
                paused: true,
                ..Source::clone(source)
            };
            let unpaused = Source {
                paused: false,
                ..Source::clone(source)
            };
            let names = [
                (unpaused.hits_name(), source.is_disabled()),
                (paused.hits_name(), true),
            ];
            let known = names
                .into_iter()
                .filter_map(|(name, is_logged_only)| Some((slots.known(&name)?, is_logged_only)));
            for (slot, is_logged_only) in known {
                all.push(HitFigures {
                    kind,
                    name: source.name.clone(),
                    is_logged_only,
                    action: source.blocking.action,
                    slots: vec![slot],
                });
            }
        }
        for known in self.scheduler.registry.known() {
            let order = known.order;
            if let Some(slot) = slots.known(&format!("{}{}", Source::ORDER, order.id)) {
                let name = order.authority.name.clone();
                let of_authority = self.figures.authorities.entry(name).or_default();
                of_authority.insert(slot);
            }
        }
        let action = self.configuration.current.orders.blocking.action;
        let authorities = self.figures.authorities.iter();
        all.extend(authorities.map(|(name, slots)| HitFigures {
            kind: "authority",
            name: name.clone(),
            is_logged_only: false,
            action,
            slots: slots.iter().copied().collect(),
        }));
        all
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
        let image: &Arc<Image> = image.as_ref()?;
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
        compile: control.compiler.work,
        publish: control.publication.work,
        reloads: control.requests.reloads,
        hits: Arc::clone(&control.figures.hits.1),
        at: Timestamp::now(),
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
        certificate_ends: Vec::new(),
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
            let primaries = report.primaries.iter();
            let ends = primaries.filter_map(|it| Some((it.address, it.certificate_end?)));
            figures.certificate_ends = ends.collect();
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
