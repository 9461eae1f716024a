//! Sources without details, for the tests of all modules.

use crate::policy::rpz::settings::{ZonePolicy, ZoneSettings};
use crate::policy::rule::{Action, Against, Blocking, Kind, Source};

/// A source with this action. If it is an exception, it is one against all sources.
pub(crate) fn source(name: &str, kind: Kind, action: Action) -> Source {
    Source {
        name: name.to_owned(),
        path: name.into(),
        kind,
        blocking: Blocking {
            action,
            ttl_secs: 60,
            ..Blocking::none()
        },
        against: Against::All,
        allows_across: false,
        zone: None,
    }
}

/// A policy zone.
pub(crate) fn zone(name: &str) -> Source {
    let settings = ZoneSettings {
        policy: ZonePolicy::Given,
        max_ttl_secs: 60,
        break_dnssec: true,
    };
    Source {
        zone: Some(Box::new(settings.into())),
        ..source(name, Kind::Block, Action::Nodata)
    }
}
