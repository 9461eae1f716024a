//! Problems of this server that keep a feed from being transferred. The primaries are not at fault.

use std::collections::BTreeMap;

use super::report::LocalReport;

/// A problem of this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LocalProblem {
    /// The TSIG key can't be read from its file.
    KeyUnusable,
    /// TLS can't be set up for the primary with this index.
    TlsUnusable { primary: usize },
    /// A transfer can't be written to its file.
    NotWritten,
}

impl LocalProblem {
    /// The name in `status` and in the log.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::KeyUnusable => "key-unusable",
            Self::TlsUnusable { .. } => "tls-unusable",
            Self::NotWritten => "not-written",
        }
    }
}

/// The problems of one feed, each with a text that has the remedy.
#[derive(Debug, Default)]
pub(super) struct LocalProblems(BTreeMap<LocalProblem, String>);

impl LocalProblems {
    /// Sets a problem. Returns its text if that is new.
    pub(super) fn set(&mut self, problem: LocalProblem, text: String) -> Option<&str> {
        let known = self.0.insert(problem, text);
        let text = &self.0[&problem];
        (known.as_ref() != Some(text)).then_some(text)
    }

    /// The problem is solved, if it was there.
    pub(super) fn solve(&mut self, problem: LocalProblem) {
        self.0.remove(&problem);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, for the report of the feed. The same text about several primaries is there once.
    pub(super) fn reports(&self) -> Vec<LocalReport> {
        let reports = self.0.iter().map(|(problem, text)| LocalReport {
            problem: problem.name().to_owned(),
            text: text.clone(),
        });
        let mut reports: Vec<_> = reports.collect();
        reports.dedup();
        reports
    }
}
