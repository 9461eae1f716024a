//! The state of a downloaded list, as `status` shows it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::fault::DownloadFault;

/// The state of a downloaded list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownloadReport {
    /// Its mirrors, in the order of the configuration.
    pub mirrors: Vec<MirrorReport>,
    /// The URL that the version that is here came from, without user, password and query. A version that is rejected does
    /// not count.
    pub source: Option<String>,
    /// When the version that is here was downloaded; `None` if there is none.
    pub fetched: Option<Timestamp>,
    /// When a mirror last sent that version, or confirmed that it is the newest one.
    pub confirmed: Option<Timestamp>,
    /// When the mirrors are asked next.
    pub next: Option<Timestamp>,
    /// Whether a mirror is being asked.
    pub is_active: bool,
    /// Whether that was the newest version when the mirrors were last asked; `None` before the first time.
    pub is_current: Option<bool>,
    /// Why the version that is here is not in force yet, although it is not rejected.
    pub waits: Option<String>,
    /// How often each fault occurred; faults that did not occur are left out.
    pub faults: Vec<(String, u64)>,
    /// The number of the operator's last request whose result is known.
    pub answered: u64,
}

/// The state of one mirror.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorReport {
    /// Its URL, without user, password and query.
    pub url: String,
    /// The fault of the last attempt; `None` if it succeeded, or if there was none.
    pub fault: Option<String>,
    /// The fault as a sentence, with the remedy.
    pub text: Option<String>,
}

impl DownloadReport {
    /// The problems that the list itself does not report: it knows why a version was rejected.
    pub fn alarms(&self, list: &str) -> Vec<String> {
        let is_other = |mirror: &&MirrorReport| {
            mirror.fault.as_deref() != Some(DownloadFault::Rejected.name())
        };
        let mirrors = self.mirrors.iter().filter(is_other).cloned().collect();
        let others = Self {
            mirrors,
            ..self.clone()
        };
        others.problems(list)
    }

    /// Why the newest version is not here, a sentence for each mirror. One mirror that fails is no problem while another
    /// one works.
    pub fn problems(&self, list: &str) -> Vec<String> {
        let mirrors = self
            .mirrors
            .iter()
            .filter(|_| self.is_current == Some(false));
        let problems = mirrors.filter_map(|MirrorReport { url, fault, text }| {
            let (fault, text) = fault.as_ref().zip(text.as_ref())?;
            Some(format!("{list}: {url}: {fault}: {text}"))
        });
        problems.collect()
    }

    /// The most important fact about it, in a few words.
    pub fn state(&self) -> String {
        if self.is_active {
            return "asking the server".to_owned();
        }
        let faults = self
            .mirrors
            .iter()
            .filter_map(|mirror| mirror.fault.clone());
        let faults = faults.collect::<Vec<_>>().join(", ");
        match self.is_current {
            None => "not asked yet".to_owned(),
            Some(true) if faults.is_empty() => "up to date".to_owned(),
            Some(true) => format!("up to date, but not all mirrors work: {faults}"),
            Some(false) => faults,
        }
    }
}
