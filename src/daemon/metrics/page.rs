//! Writes the page of metrics, in the text format of Prometheus or in that of OpenMetrics.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::registry::Registry;

use super::families::{self, Writer};
use super::source::Source;
use super::{policy, process, recorder, upstream};
use crate::stats::UsedSlots;

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Version 0.0.4 of Prometheus.
    Prometheus,
    /// Version 1.0.0 of OpenMetrics.
    OpenMetrics,
}

impl Format {
    /// The format that the header `Accept` prefers. Prometheus' own is the default, as every client can read that.
    pub(super) fn accepted(accept: Option<&str>) -> Self {
        let (mut open_metrics, mut prometheus) = (0.0, 0.0);
        for range in accept.unwrap_or("*/*").split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let weight = parts.find_map(|part| part.strip_prefix("q="));
            let weight: f64 = weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0));
            match &*media.to_ascii_lowercase() {
                "application/openmetrics-text" => open_metrics = weight.max(open_metrics),
                "text/plain" | "text/*" | "*/*" => prometheus = weight.max(prometheus),
                _ => {}
            }
        }
        match open_metrics > 0.0 && open_metrics >= prometheus {
            true => Self::OpenMetrics,
            false => Self::Prometheus,
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The page.
///
/// # Errors
/// A family can't be written, which is a bug.
pub(super) fn page(source: &Arc<Source>, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    let page = Page(Arc::clone(source));
    registry.register_collector(Box::new(Process(Arc::clone(source))));
    let own = registry.sub_registry_with_prefix("tapis");
    own.register_collector(Box::new(page));
    let mut text = String::new();
    match format {
        Format::Prometheus => prometheus_text::encode(&mut text, &registry)?,
        Format::OpenMetrics => text::encode(&mut text, &registry)?,
    }
    Ok(text)
}

/// The families with the names that all programs use.
struct Process(Arc<Source>);

impl Collector for Process {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        process::write(self.0.started, &mut Writer(encoder))
    }
}

/// The families of this program. To add families, write them in a function of another file, and call it here.
struct Page(Arc<Source>);

impl Collector for Page {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let writer = &mut Writer(encoder);
        let figures = self.0.figures();
        let hits = figures.iter().flat_map(|figures| figures.hits.iter());
        let used = UsedSlots::up_to(hits.flat_map(|hits| hits.slots.iter().copied()));
        let plane = self.0.plane().map(|plane| plane.state(used));
        process::write_build(writer)?;
        process::write_take_overs(&self.0.take_overs, writer)?;
        writer.gauge(
            "ready",
            "Whether /readyz answers that queries should be sent to this server.",
            f64::from(u8::from(self.0.unready().is_none())),
        )?;
        self.0.connections.write(writer)?;
        if let Some(plane) = &plane {
            families::write_queries(plane, writer)?;
            families::write_cache(plane, writer)?;
            upstream::write(plane, writer)?;
            recorder::write(&plane.recording, writer)?;
        }
        if let Some(figures) = &figures {
            let others = plane.as_ref().map_or(0, |plane| plane.alarms);
            policy::write(figures, others, writer)?;
            if let Some(plane) = &plane {
                policy::write_hits(figures, &plane.hits, writer)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Process")
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Page")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_that_the_client_prefers_is_sent() {
        let prometheus_2 = "application/openmetrics-text;version=1.0.0;q=0.5,\
             application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, format) in [
            (None, Format::Prometheus),
            (Some("*/*"), Format::Prometheus),
            (Some("text/html, text/plain"), Format::Prometheus),
            (Some(prometheus_2), Format::OpenMetrics),
            (Some("application/openmetrics-text"), Format::OpenMetrics),
            (
                Some("application/openmetrics-text;q=0.1, text/plain;q=0.9"),
                Format::Prometheus,
            ),
            (Some("application/openmetrics-text;q=x"), Format::Prometheus),
            (Some(""), Format::Prometheus),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept:?}");
        }
    }
}
