//! The effect of a rule of a policy zone under the settings of the zone.

use std::borrow::Cow;
use std::sync::Arc;

use super::settings::{ZonePolicy, ZoneSettings};
use crate::policy::effect::{Effect, EffectAction};
use crate::policy::record::LocalRecord;
use crate::policy::rule::Action;
use crate::wire::name::Name;

impl ZoneSettings {
    /// The effect of a rule whose record has the effect `of`.
    pub fn applied<'e>(&self, of: &'e Effect) -> Cow<'e, Effect> {
        let action = action(&self.policy);
        let is_capped = of.ttl_secs.is_none_or(|secs| secs <= self.max_ttl_secs)
            && !matches!(of.action, EffectAction::Records(_));
        if action.is_none() && is_capped {
            return Cow::Borrowed(of);
        }
        let mut effect = of.clone();
        if let Some(action) = action {
            effect.as_written = action == EffectAction::Block(Action::Nxdomain);
            effect.action = action;
        }
        let capped = |secs: Option<u32>| secs.map(|secs| secs.min(self.max_ttl_secs));
        effect.ttl_secs = capped(effect.ttl_secs);
        if let EffectAction::Records(records) = &mut effect.action {
            for LocalRecord { ttl_secs, .. } in records {
                *ttl_secs = capped(*ttl_secs);
            }
        }
        Cow::Owned(effect)
    }
}

/// The action that overrides those of the records, if any.
fn action(policy: &ZonePolicy) -> Option<EffectAction> {
    Some(match policy {
        ZonePolicy::Given | ZonePolicy::Disabled => return None,
        ZonePolicy::Nxdomain => EffectAction::Block(Action::Nxdomain),
        ZonePolicy::Nodata => EffectAction::Block(Action::Nodata),
        ZonePolicy::Passthru => EffectAction::Allow,
        ZonePolicy::Drop => EffectAction::Block(Action::Drop),
        ZonePolicy::TcpOnly => EffectAction::TcpOnly,
        ZonePolicy::Cname(target) => redirect(target),
    })
}

/// The action of a CNAME record to a name that is not special.
pub(super) fn redirect(target: &Name) -> EffectAction {
    let labels = target.label_count();
    let is_wildcard = labels > 1 && target.label_from_root(labels - 1) == b"*";
    let suffix = || Name::parse(target.ancestor(labels - 1), 0).ok();
    match is_wildcard.then(suffix).flatten() {
        Some((suffix, _)) => EffectAction::Cname {
            target: Arc::new(suffix),
            prepend: true,
        },
        None => EffectAction::Cname {
            target: Arc::new(target.clone()),
            prepend: false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(policy: ZonePolicy) -> ZoneSettings {
        ZoneSettings {
            policy,
            max_ttl_secs: 60,
            break_dnssec: true,
        }
    }

    fn name(text: &str) -> Name {
        Name::from_text(text).expect("a name")
    }

    #[test]
    fn a_policy_overrides_every_action() {
        let redirect = |target: &str, prepend| EffectAction::Cname {
            target: Arc::new(name(target)),
            prepend,
        };
        let nxdomain = EffectAction::Block(Action::Nxdomain);
        for (policy, expected) in [
            (ZonePolicy::Given, EffectAction::Allow),
            (ZonePolicy::Disabled, EffectAction::Allow),
            (ZonePolicy::Nxdomain, nxdomain.clone()),
            (ZonePolicy::Nodata, EffectAction::Block(Action::Nodata)),
            (ZonePolicy::Passthru, EffectAction::Allow),
            (ZonePolicy::Drop, EffectAction::Block(Action::Drop)),
            (ZonePolicy::TcpOnly, EffectAction::TcpOnly),
            (
                ZonePolicy::Cname(Box::new(name("x.test"))),
                redirect("x.test", false),
            ),
            (
                ZonePolicy::Cname(Box::new(name("*.x.test"))),
                redirect("x.test", true),
            ),
        ] {
            let of = Effect {
                action: EffectAction::Allow,
                ..Effect::default()
            };
            let zone = settings(policy);
            let applied = zone.applied(&of);
            assert_eq!(applied.action, expected);
            assert_eq!(applied.as_written, expected == nxdomain);
        }
    }

    #[test]
    fn longer_ttls_are_lowered() {
        let ttl_of = |secs, action| {
            let of = Effect {
                ttl_secs: Some(secs),
                action,
                ..Effect::default()
            };
            settings(ZonePolicy::Given).applied(&of).into_owned()
        };
        let nodata = EffectAction::Block(Action::Nodata);
        assert_eq!(ttl_of(61, nodata.clone()).ttl_secs, Some(60));
        assert_eq!(ttl_of(59, nodata).ttl_secs, Some(59));
        let record = LocalRecord {
            rtype: 1,
            ttl_secs: Some(300),
            data: [192, 0, 2, 1].into(),
        };
        let effect = ttl_of(10, EffectAction::Records(vec![record.clone()]));
        let capped = LocalRecord {
            ttl_secs: Some(60),
            ..record
        };
        assert_eq!(effect.action, EffectAction::Records(vec![capped]));
    }
}
