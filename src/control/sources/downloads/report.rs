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
    /// Whether that has to wait until a transfer of another list ends.
    pub is_queued: bool,
    /// Whether that was the newest version when the mirrors were last asked; `None` before the first time.
    pub is_current: Option<bool>,
    /// Whether a copy was damaged, and has not been downloaded again.
    pub is_damaged: bool,
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

impl MirrorReport {
    fn problem(&self, list: &str) -> Option<String> {
        let Self { url, fault, text } = self;
        let (fault, text) = fault.as_ref().zip(text.as_ref())?;
        Some(format!("{list}: {url}: {fault}: {text}"))
    }
}

impl DownloadReport {
    /// The problems that the list itself does not report. It knows why the newest version is rejected, unless a version of
    /// another mirror has replaced that one.
    pub fn alarms(&self, list: &str) -> Vec<String> {
        let is_replaced = self.is_current == Some(true);
        let mirrors = self.mirrors.iter().filter(|mirror| {
            let is_rejected = mirror.fault.as_deref() == Some(DownloadFault::Rejected.name());
            is_rejected == is_replaced
        });
        let mirrors = mirrors.filter(|_| self.is_current.is_some());
        let damaged = self.is_damaged.then(|| {
            let fault = DownloadFault::Damaged;
            format!("{list}: {fault}: {}; {}", fault.meaning(), fault.remedy())
        });
        let mirrors = mirrors.filter_map(|mirror| mirror.problem(list));
        damaged.into_iter().chain(mirrors).collect()
    }

    /// Why the newest version is not here, a sentence for each mirror. One mirror that fails is no problem while another
    /// one works.
    pub fn problems(&self, list: &str) -> Vec<String> {
        let mirrors = self
            .mirrors
            .iter()
            .filter(|_| self.is_current == Some(false));
        mirrors.filter_map(|mirror| mirror.problem(list)).collect()
    }

    /// The most important fact about it, in a few words.
    pub fn state(&self) -> String {
        if self.is_queued {
            return "waiting until another download ends".to_owned();
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn report(is_current: Option<bool>, faults: [Option<DownloadFault>; 2]) -> DownloadReport {
        let mirror = |fault: Option<DownloadFault>| MirrorReport {
            url: "https://lists.example/".to_owned(),
            fault: fault.map(|it| it.name().to_owned()),
            text: fault.map(|it| it.meaning().to_owned()),
        };
        DownloadReport {
            mirrors: faults.map(mirror).to_vec(),
            is_current,
            ..DownloadReport::default()
        }
    }

    #[test]
    fn a_rejected_version_is_an_alarm_of_the_download_only_if_another_mirror_has_replaced_it() {
        let (rejected, timeout) = (Some(DownloadFault::Rejected), Some(DownloadFault::Timeout));
        let alarms = |is_current, faults| report(is_current, faults).alarms("ads").len();
        assert_eq!(alarms(Some(true), [rejected, None]), 1);
        assert_eq!(
            alarms(Some(true), [timeout, None]),
            0,
            "the other one works"
        );
        assert_eq!(alarms(Some(false), [rejected, timeout]), 1, "the timeout");
        assert_eq!(alarms(None, [rejected, timeout]), 0);
        let damaged = DownloadReport {
            is_damaged: true,
            ..report(None, [None, None])
        };
        let expected = "ads: damaged: a stored copy of the list could not be read, or had other bytes than were \
                        downloaded, so it is downloaded again; check the disk of the state directory";
        assert_eq!(damaged.alarms("ads"), [expected]);
    }

    #[test]
    fn a_download_that_waits_for_another_one_is_reported() {
        let waiting = DownloadReport {
            is_active: true,
            is_queued: true,
            ..report(None, [None, None])
        };
        assert_eq!(waiting.state(), "waiting until another download ends");
    }
}
