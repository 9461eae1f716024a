//! Random policies, published and read by servers of both kinds, and the changes between two of them.

mod parts;
mod secondary;
mod specs;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use proptest::prelude::*;

use self::secondary::{Reading, apply, decided, published, read, secondary, zone_of};
use self::specs::{asked, base, snapshot, specs};
use super::*;
use crate::policy::amendment::Amendment;
use crate::policy::builder::Builder;
use crate::policy::decide::Decision;
use crate::policy::effect::{Effect, EffectAction, Tier};
use crate::policy::image::Image;
use crate::policy::image::path::Path;
use crate::policy::image::provenance::ImageSource;
use crate::policy::images::Images;
use crate::policy::record::LocalRecord;
use crate::policy::rpz::settings::{ZonePolicy, ZoneSettings};
use crate::policy::rpz::{ZoneReader, ZoneRecord, ZoneTrigger, answer_records};
use crate::policy::rule::{Action, Against, Blocking, Ede, Kind, Scope, Source};
use crate::policy::snapshot::Snapshot;
use crate::wire::name::Name;
use crate::wire::{class, rtype};

const APEX: &str = "rpz.example";

fn name(text: &str) -> Name {
    Name::from_text(text).expect("a name")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_secondary_of_a_zone_decides_as_the_policy_that_it_publishes(specs in specs()) {
        let primary = snapshot(&specs, base(&specs), 0);
        let records = published(&zone_of(&primary));
        let secondary = secondary(&records);
        for asked in asked() {
            let expected = decided(&primary, &asked);
            prop_assert_eq!(&decided(&secondary, &asked), &expected, "{}: {:?}", &asked, &records);
        }
    }

    #[test]
    fn servers_with_either_reading_of_wildcards_decide_as_the_policy(specs in specs()) {
        let primary = snapshot(&specs, base(&specs), 0);
        let records = published(&zone_of(&primary));
        for asked in asked() {
            let expected = decided(&primary, &asked);
            for reading in [Reading::ClosestEncloser, Reading::AnyAncestor] {
                let found = read(&records, &asked, reading);
                prop_assert_eq!(&found, &expected, "{}, {:?}: {:?}", &asked, reading, &records);
            }
        }
    }

    #[test]
    fn changes_lead_from_one_version_to_the_other(specs in specs(), other in specs(), has_other_base: bool) {
        let old_base = base(&specs);
        let old = zone_of(&snapshot(&specs, old_base.clone(), 0));
        let mut specs = specs;
        if has_other_base {
            for (spec, other) in specs.iter_mut().zip(other) {
                spec.base = other.base;
            }
        }
        let new_base = if has_other_base { base(&specs) } else { old_base };
        let new = zone_of(&snapshot(&specs, new_base, 1));
        let (before, after) = (published(&old), published(&new));
        let expected: BTreeSet<_> = after.iter().cloned().collect();
        prop_assert_eq!(apply(&before, new.changes_from(&old)), expected);
        let expected: BTreeSet<_> = before.iter().cloned().collect();
        prop_assert_eq!(apply(&after, old.changes_from(&new)), expected);
    }
}

#[test]
fn a_cursor_can_be_sent_to_a_task() {
    fn is_owned<T: Send + 'static>() {}
    is_owned::<Records>();
    is_owned::<Changes>();
}
