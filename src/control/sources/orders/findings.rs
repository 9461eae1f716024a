//! The findings of the guard rails in orders, computed once for each order and guard policy.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::order::Order;
use crate::config::shown::{first, more_warnings};
use crate::control::guard::policy::GuardPolicy;

/// The most findings of one order that are reported. An order of 100,000 targets would otherwise add megabytes to each
/// `status` and to the journal.
const ORDER_MAX: usize = 100;

/// The text of an order that was checked, and its findings, a sentence each.
type Checked = (Arc<str>, Arc<[String]>);

/// The findings in all orders. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    /// The guard policy and the version of the registry of the last check; `None` before the first check.
    of: Option<(Arc<GuardPolicy>, u64)>,
    /// By the orders' ids.
    found: Arc<HashMap<String, Checked>>,
}

impl Findings {
    /// Checks the orders of this version of the registry. Orders whose text and guard policy did not change keep their
    /// findings.
    pub(super) fn renew<'o>(
        &mut self,
        guard_policy: &Arc<GuardPolicy>,
        version: u64,
        orders: impl Iterator<Item = (&'o Order, &'o Arc<str>)>,
    ) {
        let known = self.of.as_ref();
        let same = known.is_some_and(|(known, _)| Arc::ptr_eq(known, guard_policy));
        if same && known.is_some_and(|(_, known)| *known == version) {
            return;
        }
        let found = orders.map(|(order, text)| {
            let known = self.found.get(&order.id);
            let known = known.filter(|(known, _)| same && Arc::ptr_eq(known, text));
            let found = known.cloned();
            let found = found.unwrap_or_else(|| {
                let (mut found, more) = first(ORDER_MAX, guard_policy.findings(order));
                found.extend(more.map(more_warnings));
                (Arc::clone(text), found.into())
            });
            (order.id.clone(), found)
        });
        self.found = Arc::new(found.collect());
        self.of = Some((Arc::clone(guard_policy), version));
    }

    /// The findings in an order, a sentence each.
    pub(super) fn of(&self, order: &Order) -> &[String] {
        let found = self.found.get(&order.id);
        found.map_or(&[], |(_, found)| found)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn order(id: &str) -> (Order, Arc<str>) {
        let text = format!(
            "id = \"{id}\"\nlegal-basis = [\"law\"]\nissued-at = 2026-01-01T00:00:00Z\n\
             review-at = 2027-01-01T00:00:00Z\n[authority]\nname = \"A\"\n[reason]\nen = \"r\"\n\
             [redress]\nhow = \"write\"\n[[targets]]\nname = \"co.id\"\nscope = \"subtree\"\n"
        );
        let order = Order::parse(&text, Path::new("x.toml"));
        let order = order.unwrap_or_else(|problems| panic!("{problems}"));
        (order, text.into())
    }

    fn renew(
        findings: &mut Findings,
        guard_policy: &Arc<GuardPolicy>,
        version: u64,
        all: &[(Order, Arc<str>)],
    ) {
        findings.renew(
            guard_policy,
            version,
            all.iter().map(|(order, text)| (order, text)),
        );
    }

    #[test]
    fn an_order_is_checked_again_when_its_text_or_the_guard_policy_changes() {
        let guard_policy = Arc::new(GuardPolicy::read(&Config::built_in()));
        let mut orders = [order("a"), order("b")];
        let mut findings = Findings::default();
        assert!(findings.of(&orders[0].0).is_empty(), "not checked yet");
        renew(&mut findings, &guard_policy, 1, &orders);
        let expected = ["target .co.id covers the public suffix co.id"];
        assert_eq!(findings.of(&orders[0].0), expected);
        let places = |findings: &Findings| {
            let place = |id: &str| findings.found[id].1.as_ptr();
            [place("a"), place("b")]
        };
        let first = findings.clone();
        orders[1] = order("b");
        renew(&mut findings, &guard_policy, 2, &orders);
        let (before, now) = (places(&first), places(&findings));
        assert_eq!((before[0] == now[0], before[1] == now[1]), (true, false));
        let second = findings.clone();
        let reread = Arc::new(GuardPolicy::read(&Config::built_in()));
        renew(&mut findings, &reread, 2, &orders);
        let (before, now) = (places(&second), places(&findings));
        assert_eq!((before[0] == now[0], before[1] == now[1]), (false, false));
        renew(&mut findings, &reread, 3, &orders[1..]);
        assert!(findings.of(&orders[0].0).is_empty(), "it is gone");
    }

    #[test]
    fn the_first_findings_of_an_order_are_kept_and_the_others_counted() {
        let guard_policy = Arc::new(GuardPolicy::read(&Config::built_in()));
        for (targets, more) in [(100, None), (101, Some(1)), (20_000, Some(19_900))] {
            let (_, text) = order("a");
            let target = "[[targets]]\nname = \"co.id\"\nscope = \"subtree\"\n";
            let text = text.to_string() + &target.repeat(targets - 1);
            let order = Order::parse(&text, Path::new("x.toml"));
            let order = order.unwrap_or_else(|problems| panic!("{problems}"));
            let orders = [(order, Arc::from(text))];
            let mut findings = Findings::default();
            renew(&mut findings, &guard_policy, 1, &orders);
            let found = findings.of(&orders[0].0);
            let (reported, rest) = found.split_at(found.len().min(100));
            assert!(
                reported.len() == 100 && reported.iter().all(|reported| reported.contains("co.id"))
            );
            let expected = more.map(|more| match more {
                1 => "1 more warning".to_owned(),
                more => format!("{more} more warnings"),
            });
            assert_eq!(rest, expected.as_slice());
        }
    }
}
