//! What the operator and the control loop demand of a feed. It may be transferring for an hour meanwhile: demands add up,
//! and none of them is lost.

/// All demands on a feed so far. Its task compares them with those that it has taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Demands {
    /// The number of the operator's last request.
    pub(crate) request: u64,
    /// The number of the operator's last request for the whole zone, whatever its serial.
    pub(crate) whole: u64,
    /// How often a version that is held was to be asked for again, because it may be accepted now.
    pub(crate) retries: u64,
    /// How often the whole zone was to be checked, because guards were released or other names are protected.
    pub(crate) checks: u64,
    /// Whether the rules in force are not checked against the protected names.
    pub(crate) is_unchecked: bool,
}

/// The demands that are new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct NewDemands {
    /// The operator wants the primaries to be asked.
    pub(super) is_requested: bool,
    /// The operator wants the whole zone, whatever its serial.
    pub(super) wants_whole: bool,
    /// A version that is held may be accepted now.
    pub(super) retries: bool,
    /// The whole zone is needed, because all of its rules must be checked again.
    pub(super) checks: bool,
}

impl NewDemands {
    /// Whether the primaries are to be asked.
    pub(super) fn any(self) -> bool {
        self.is_requested || self.wants_whole || self.retries || self.checks
    }
}

impl Demands {
    /// Those of a feed that has answered the operator's requests up to this number.
    pub(super) fn answered(request: u64) -> Self {
        Self {
            request,
            whole: request,
            ..Self::default()
        }
    }

    /// Those that came after `before`.
    pub(super) fn since(&self, before: &Self) -> NewDemands {
        let retries = self.retries > before.retries;
        NewDemands {
            is_requested: self.request > before.request,
            wants_whole: self.whole > before.whole,
            retries,
            // The version that is tried again may be the one that the rules were to be checked with.
            checks: self.checks > before.checks || retries && self.is_unchecked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demands_add_up_until_they_are_taken() {
        let answered = Demands::answered(7);
        let mut demands = answered;
        assert!(!demands.since(&answered).any());
        demands.request = 8;
        demands.whole = 8;
        demands.request = 9;
        demands.checks = 2;
        let expected = NewDemands {
            is_requested: true,
            wants_whole: true,
            retries: false,
            checks: true,
        };
        assert_eq!(demands.since(&answered), expected);
        assert!(!demands.since(&demands).any());
    }

    #[test]
    fn rules_that_are_not_checked_yet_are_checked_with_the_version_that_is_tried_again() {
        let of = |is_unchecked, retries| Demands {
            is_unchecked,
            retries,
            ..Demands::default()
        };
        let checks = |now: Demands, before| now.since(&before).checks;
        assert!(!checks(of(true, 0), of(true, 0)));
        assert!(checks(of(true, 1), of(true, 0)));
        assert!(!checks(of(false, 1), of(true, 0)));
    }
}
