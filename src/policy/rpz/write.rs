//! The records of a policy zone that stand for a rule: the reverse of what the reader of zones does.

use super::action::{self, DROP, PASSTHRU, TCP_ONLY, WILDCARD};
use super::owner::{RESERVED, name_of};
use super::records::is_local_data;
use crate::policy::effect::{Effect, EffectAction};
use crate::policy::record::LocalRecord;
use crate::policy::rule::{Action, Blocking, EffectAnswer, Scope};
use crate::wire::name::{MAX_NAME, Name};
use crate::wire::rtype;

/// The record that exempts a name or a network from the rules of later zones.
pub fn passthru(ttl_secs: u32) -> LocalRecord {
    cname(&name_of(&[PASSTHRU]), ttl_secs)
}

/// The records that stand for an answer that blocks, each with a TTL. `nxdomain` is whether the action NXDOMAIN is sent as
/// such; otherwise it is NODATA. Also returns whether they say all of the answer: NODATA takes the place of what a policy
/// zone can't express, such as REFUSED.
pub fn answer_records(answer: &Blocking, nxdomain: bool) -> (Vec<LocalRecord>, bool) {
    let action = match (&answer.effect_answer, answer.action) {
        (Some(EffectAnswer::Records(records)), _) => return local_data(records, answer.ttl_secs),
        (
            Some(EffectAnswer::Cname {
                target,
                prepend,
                ttl_secs,
            }),
            _,
        ) => {
            let action = EffectAction::Cname {
                target: target.clone(),
                prepend: *prepend,
            };
            return of_action(&action, *ttl_secs);
        }
        (Some(EffectAnswer::TcpOnly), _) => EffectAction::TcpOnly,
        (None, Action::Sinkhole) => return sinkhole(answer),
        (None, Action::Nxdomain) if !nxdomain => EffectAction::Block(Action::Nodata),
        (None, action) => EffectAction::Block(action),
    };
    of_action(&action, answer.ttl_secs)
}

/// A rule as the lines of a zone file without TTLs, with these owners relative to the zone. Empty if a policy zone can't
/// have such a rule.
pub fn rule_lines(owners: &[Name], effect: &Effect) -> Vec<String> {
    const TTL_SECS: u32 = 0;
    let (records, is_whole) = match &effect.action {
        EffectAction::Records(records) => local_data(records, TTL_SECS),
        action => of_action(action, TTL_SECS),
    };
    let lines = owners.iter().flat_map(|owner| {
        let texts = records.iter().map(LocalRecord::to_string);
        texts.filter_map(move |text| {
            let (_ttl, text) = text.split_once(' ')?;
            Some(format!("{owner} {text}"))
        })
    });
    lines
        .filter(|_| is_whole && effect.condition.is_none())
        .collect()
}

/// Sets `owner` to the wildcard on a name. Returns false if that has more than 255 bytes.
#[inline]
pub fn wildcard_owner(name: &Name, owner: &mut Name) -> bool {
    let mut wire = [0; MAX_NAME + 2];
    let (start, end) = (1 + WILDCARD.len(), name.wire().len());
    wire[0] = WILDCARD.len() as u8;
    wire[1..start].copy_from_slice(WILDCARD);
    wire[start..start + end].copy_from_slice(name.wire());
    owner.parse_wire(&wire[..start + end], 0).is_ok()
}

/// The owners of the rules on a name, without the labels of the apex; those of more than 255 bytes are left out. A rule on
/// the name and all below stands for two.
pub fn rule_owners(name: &Name, scope: Scope) -> Vec<Name> {
    let exact = (scope != Scope::Below).then(|| name.clone());
    let mut wildcard = Name::ROOT;
    let has_wildcard = scope != Scope::Exact && wildcard_owner(name, &mut wildcard);
    let below = has_wildcard.then_some(wildcard);
    exact.into_iter().chain(below).collect()
}

/// Whether a policy zone reads the owner of an exact rule on a name as another trigger: a wildcard, or one that is no name.
/// The apex, for the root, is no trigger.
pub fn is_reserved(name: &Name) -> bool {
    match name.label_count() {
        0 => true,
        labels => name.label_from_root(labels - 1) == WILDCARD || is_no_name(name),
    }
}

/// Whether a policy zone reads the owner of any rule on a name as a trigger that is no name.
pub fn is_no_name(name: &Name) -> bool {
    name.label_count() > 0 && name.label_from_root(0).starts_with(RESERVED)
}

fn of_action(of: &EffectAction, ttl_secs: u32) -> (Vec<LocalRecord>, bool) {
    // A target may mean another action: a CNAME to `rpz-drop`, for example.
    let target = target(of).filter(|target| action::of_cname(target).as_ref() == Ok(of));
    match target {
        Some(target) => (vec![cname(&target, ttl_secs)], true),
        None => (vec![nodata(ttl_secs)], false),
    }
}

/// The target of the CNAME record that stands for an action. `None` if there is none, or if it is too long.
fn target(action: &EffectAction) -> Option<Name> {
    let special = |label: &[u8]| Some(name_of(&[label]));
    match action {
        EffectAction::Block(Action::Nxdomain) => Some(Name::ROOT),
        EffectAction::Block(Action::Nodata) => special(WILDCARD),
        EffectAction::Block(Action::Drop) => special(DROP),
        EffectAction::TcpOnly => special(TCP_ONLY),
        EffectAction::Allow => special(PASSTHRU),
        EffectAction::Cname {
            target,
            prepend: false,
        } => Some((**target).clone()),
        EffectAction::Cname {
            target,
            prepend: true,
        } => {
            let mut owner = Name::ROOT;
            wildcard_owner(target, &mut owner).then_some(owner)
        }
        EffectAction::Source
        | EffectAction::Block(Action::Sinkhole | Action::Refused)
        | EffectAction::Addresses(..)
        | EffectAction::Records(_)
        | EffectAction::Void => None,
    }
}

fn local_data(records: &[LocalRecord], ttl_secs: u32) -> (Vec<LocalRecord>, bool) {
    let usable = records.iter().filter(|record| is_local_data(record.rtype));
    let usable: Vec<_> = usable
        .map(|record| LocalRecord {
            ttl_secs: Some(record.ttl_secs.unwrap_or(ttl_secs)),
            ..record.clone()
        })
        .collect();
    let is_whole = usable.len() == records.len();
    match usable.is_empty() {
        true => (vec![nodata(ttl_secs)], is_whole),
        false => (usable, is_whole),
    }
}

fn sinkhole(answer: &Blocking) -> (Vec<LocalRecord>, bool) {
    let record = |rtype, data: &[u8]| LocalRecord {
        rtype,
        ttl_secs: Some(answer.ttl_secs),
        data: data.into(),
    };
    let v4 = answer.sinkhole_v4.iter();
    let v4 = v4.map(|address| record(rtype::A, &address.octets()));
    let v6 = answer.sinkhole_v6.iter();
    let v6 = v6.map(|address| record(rtype::AAAA, &address.octets()));
    let records: Vec<_> = v4.chain(v6).collect();
    match records.is_empty() {
        true => (vec![nodata(answer.ttl_secs)], true),
        false => (records, true),
    }
}

fn nodata(ttl_secs: u32) -> LocalRecord {
    cname(&name_of(&[WILDCARD]), ttl_secs)
}

fn cname(target: &Name, ttl_secs: u32) -> LocalRecord {
    LocalRecord {
        rtype: rtype::CNAME,
        ttl_secs: Some(ttl_secs),
        data: target.wire().into(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;
    use std::sync::Arc;

    use super::super::records::ZoneReader;
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_text(text).expect("a name")
    }

    fn blocking(action: Action) -> Blocking {
        Blocking {
            action,
            ttl_secs: 30,
            ..Blocking::none()
        }
    }

    fn with_answer(answer: EffectAnswer) -> Blocking {
        Blocking {
            effect_answer: Some(answer),
            ..blocking(Action::Nodata)
        }
    }

    fn to(target: &str, prepend: bool) -> Blocking {
        with_answer(EffectAnswer::Cname {
            target: Arc::new(name(target)),
            prepend,
            ttl_secs: 7,
        })
    }

    fn record(rtype: u16, ttl_secs: u32, data: &[u8]) -> LocalRecord {
        LocalRecord {
            rtype,
            ttl_secs: Some(ttl_secs),
            data: data.into(),
        }
    }

    /// The action and the TTL that a reader of policy zones understands.
    fn read(records: &[LocalRecord]) -> (EffectAction, Option<u32>) {
        let mut reader = ZoneReader::new(name("rpz.example"));
        let owner = name("x.test.rpz.example");
        let effect = reader.effect_of(&owner, records, &mut |problem| panic!("{problem}"));
        let effect = effect.expect("a rule");
        (effect.action, effect.ttl_secs)
    }

    #[test]
    fn each_action_is_read_as_it_was_written() {
        let target = |text: &str, prepend| EffectAction::Cname {
            target: Arc::new(name(text)),
            prepend,
        };
        let txt = record(rtype::TXT, 9, b"\x01x");
        let sinkhole = Blocking {
            sinkhole_v4: vec![[192, 0, 2, 1].into()],
            sinkhole_v6: vec![Ipv6Addr::LOCALHOST],
            ..blocking(Action::Sinkhole)
        };
        let addresses = vec![
            record(rtype::A, 30, &[192, 0, 2, 1]),
            record(rtype::AAAA, 30, &Ipv6Addr::LOCALHOST.octets()),
        ];
        let block = EffectAction::Block;
        for (answer, action, ttl_secs) in [
            (
                blocking(Action::Nxdomain),
                block(Action::Nxdomain),
                Some(30),
            ),
            (blocking(Action::Nodata), block(Action::Nodata), Some(30)),
            (blocking(Action::Drop), block(Action::Drop), None),
            (
                with_answer(EffectAnswer::TcpOnly),
                EffectAction::TcpOnly,
                None,
            ),
            (
                to("garden.test", false),
                target("garden.test", false),
                Some(7),
            ),
            (
                to("garden.test", true),
                target("garden.test", true),
                Some(7),
            ),
            (sinkhole, EffectAction::Records(addresses), Some(30)),
            (blocking(Action::Sinkhole), block(Action::Nodata), Some(30)),
            (
                with_answer(EffectAnswer::Records([txt.clone()].into())),
                EffectAction::Records(vec![txt]),
                Some(9),
            ),
        ] {
            let (records, is_whole) = answer_records(&answer, true);
            assert!(is_whole, "{action:?}");
            assert_eq!(read(&records), (action, ttl_secs));
        }
        let (records, _) = answer_records(&blocking(Action::Nxdomain), false);
        assert_eq!(
            read(&records).0,
            block(Action::Nodata),
            "NXDOMAIN is not sent"
        );
        assert_eq!(read(&[passthru(5)]).0, EffectAction::Allow);
    }

    #[test]
    fn nodata_takes_the_place_of_what_a_policy_zone_cant_express() {
        let long = ["a"; 125].join(".");
        for answer in [
            blocking(Action::Refused),
            to("rpz-drop", false),
            to("x.rpz-other", false),
            to("*.garden.test", false),
            to(".", false),
            to("*", false),
            to(&format!("aa.{long}"), true),
            with_answer(EffectAnswer::Records(
                [record(rtype::NS, 9, b"\x01x\x00")].into(),
            )),
        ] {
            let (records, is_whole) = answer_records(&answer, true);
            assert!(!is_whole, "{answer:?}");
            assert_eq!(read(&records).0, EffectAction::Block(Action::Nodata));
        }
        let mixed = [
            record(rtype::TXT, 9, b"\x01x"),
            record(rtype::DS, 9, &[0; 8]),
        ];
        let (records, is_whole) = answer_records(
            &with_answer(EffectAnswer::Records(mixed.clone().into())),
            true,
        );
        assert!(!is_whole);
        assert_eq!(records, mixed[..1]);
    }

    #[test]
    fn owners_of_names_that_mean_something_else_are_reserved() {
        for (text, of_exact, of_any) in [
            (".", true, false),
            ("x.test", false, false),
            ("*.test", true, false),
            ("a.*.test", false, false),
            ("x.rpz-ip", true, true),
            ("rpz-x", true, true),
            ("rpz-ip.test", false, false),
        ] {
            let name = name(text);
            assert_eq!(
                (is_reserved(&name), is_no_name(&name)),
                (of_exact, of_any),
                "{text}"
            );
        }
    }

    #[test]
    fn a_wildcard_may_be_too_long() {
        let mut owner = Name::ROOT;
        assert!(wildcard_owner(&name("x.test"), &mut owner));
        assert_eq!(owner, name("*.x.test"));
        assert!(wildcard_owner(&name(&["a"; 126].join(".")), &mut owner));
        assert!(!wildcard_owner(&name(&["a"; 127].join(".")), &mut owner));
    }
}
