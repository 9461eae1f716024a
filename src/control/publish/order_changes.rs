//! Logs the changes in the states of orders when a generation comes into force.

use std::collections::HashMap;

use crate::config::order::State;
use crate::control::journal::entry::StateChange;
use crate::control::journal::state_changes;

/// The most lines that are logged for a generation: a configuration may have 10,000 orders.
const MOST_LOGGED: usize = 20;

/// The states of orders in the last generation; `None` before the first.
#[derive(Debug, Default)]
pub(crate) struct OrderStates(Option<HashMap<String, State>>);

impl OrderStates {
    /// Logs each order whose state in the new generation differs from that in the last one. After a start, logs the
    /// orders that have not ended.
    pub(crate) fn log(&mut self, generation: u64, now: Vec<(String, State)>) {
        for line in self.lines(now) {
            tracing::info!(generation, "{line}");
        }
    }

    fn lines(&mut self, now: Vec<(String, State)>) -> Vec<String> {
        let is_start = self.0.is_none();
        let was = self.0.take().unwrap_or_default();
        let mut changes = state_changes(&was, &now);
        changes.retain(|change| !is_start || change.now.is_some_and(|state| !has_ended(state)));
        self.0 = Some(now.into_iter().collect());
        let lines = changes.iter().take(MOST_LOGGED).map(line);
        let mut lines: Vec<_> = lines.collect();
        if let Some(more) = changes
            .len()
            .checked_sub(MOST_LOGGED)
            .filter(|more| *more > 0)
        {
            lines.push(format!(
                "orders: {more} more changed; `tapis order list` has their states"
            ));
        }
        lines
    }
}

fn has_ended(state: State) -> bool {
    matches!(state, State::Expired | State::Lifted | State::Superseded)
}

fn line(change: &StateChange) -> String {
    let StateChange { order, was, now } = change;
    let was = was.map_or_else(String::new, |was| format!("; it was {was} before"));
    match now {
        Some(now) => format!("order {order}: {now}{was}"),
        None => format!("order {order}: gone{was}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(states: &mut OrderStates, now: &[(&str, State)]) -> Vec<String> {
        let now = now.iter().map(|(id, state)| ((*id).to_owned(), *state));
        states.lines(now.collect())
    }

    #[test]
    fn each_changed_order_is_logged_with_its_new_and_its_old_state() {
        let mut states = OrderStates::default();
        let first = [
            ("a", State::InForce),
            ("b", State::Scheduled),
            ("c", State::Lifted),
        ];
        let said = lines(&mut states, &first);
        assert_eq!(said, ["order a: in force", "order b: scheduled"]);
        assert_eq!(lines(&mut states, &first), [""; 0]);
        let next = [
            ("a", State::Suspended),
            ("b", State::InForce),
            ("d", State::Expired),
        ];
        let expected = [
            "order a: suspended; it was in force before",
            "order b: in force; it was scheduled before",
            "order c: gone; it was lifted before",
            "order d: expired",
        ];
        assert_eq!(lines(&mut states, &next), expected);
    }

    #[test]
    fn of_ten_thousand_orders_a_few_are_named_and_the_others_counted() {
        let mut states = OrderStates::default();
        for (state, named) in [(State::InForce, 20), (State::Expired, 20)] {
            let now = (0..10_000).map(|number| (format!("x-{number:05}"), state));
            let said = states.lines(now.collect());
            assert_eq!(said.len(), named + 1);
            assert!(said[0].starts_with("order x-00000: "), "{}", said[0]);
            assert!(
                said[named].starts_with("orders: 9980 more changed"),
                "{}",
                said[named]
            );
        }
        // If the changes fit into the lines, no count is logged.
        let now = (0..10_000).map(|number| {
            let state = if number < 20 {
                State::Lifted
            } else {
                State::Expired
            };
            (format!("x-{number:05}"), state)
        });
        assert_eq!(states.lines(now.collect()).len(), 20);
    }
}
