//! Computes the state of an order at an instant, and the next change of that state, from the order's dates.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use crate::config::order::{Dates, Order, State, Suspension};

/// The dates of one order.
#[derive(Clone, Copy, Debug)]
pub struct Schedule<'o> {
    dates: &'o Dates,
    /// When another order supersedes it.
    superseded: Option<Timestamp>,
}

impl<'o> Schedule<'o> {
    /// The schedule of an order. `superseded` is the instant at which another order supersedes it, if one does.
    pub fn new(order: &'o Order, superseded: Option<Timestamp>) -> Self {
        Self {
            dates: &order.dates,
            superseded,
        }
    }

    /// The state at an instant. A state begins exactly at its date: an order expires at `expires-at`, not after it.
    pub fn state(self, at: Timestamp) -> State {
        let end = self.end().filter(|(end, _)| *end <= at);
        if let Some((_, state)) = end {
            return state;
        }
        if at < self.dates.effective_from.at() {
            return State::Scheduled;
        }
        match self.pause(at) {
            Some(_) => State::Suspended,
            None => State::InForce,
        }
    }

    /// The suspension at an instant.
    pub fn pause(self, at: Timestamp) -> Option<&'o Suspension> {
        let covers = |pause: &&Suspension| {
            pause.from.at() <= at && pause.until.is_none_or(|until| at < until.at())
        };
        self.dates.suspended.iter().find(covers)
    }

    /// The end, and the state that then begins. Of several ends, the earliest counts.
    pub fn end(self) -> Option<(Timestamp, State)> {
        let expired = self.dates.expires_at.map(|at| (at.at(), State::Expired));
        let lifted = self.dates.lifted_at.map(|at| (at.at(), State::Lifted));
        let superseded = self.superseded.map(|at| (at, State::Superseded));
        let ends = [lifted, superseded, expired].into_iter().flatten();
        ends.min_by_key(|(at, _)| *at)
    }

    /// The next instant at which the state may change.
    pub fn next(self, after: Timestamp) -> Option<Timestamp> {
        let pauses = self.dates.suspended.iter();
        let pauses = pauses
            .flat_map(|pause| [Some(pause.from), pause.until])
            .flatten();
        let instants = pauses
            .chain([self.dates.effective_from])
            .map(|moment| moment.at())
            .chain(self.end().map(|(at, _)| at));
        instants.filter(|at| *at > after).min()
    }

    /// Whether the order ends before or when it begins, so that it never comes into force.
    pub fn is_withdrawn(self) -> bool {
        self.end()
            .is_some_and(|(end, _)| end <= self.dates.effective_from.at())
    }
}

/// When each of these orders is superseded, by id; and for each `supersedes` that has no effect, the id of its order and
/// a sentence.
pub fn supersessions<'o>(
    orders: impl Iterator<Item = &'o Order> + Clone,
) -> (HashMap<&'o str, Timestamp>, Vec<(&'o str, String)>) {
    let known: HashMap<&str, &Order> = orders.clone().map(|order| (&*order.id, order)).collect();
    let circles = circles(&known);
    let mut ends: HashMap<&str, Timestamp> = HashMap::new();
    let mut ineffective = Vec::new();
    for order in orders {
        if order.supersedes.is_empty() || Schedule::new(order, None).is_withdrawn() {
            continue;
        }
        let start = order.dates.effective_from;
        for id in &order.supersedes {
            let Some((id, other)) = known.get_key_value(&**id) else {
                let problem = format!(
                    "order {}: it supersedes `{id}`, which does not exist",
                    order.id
                );
                ineffective.push((&*order.id, problem));
                continue;
            };
            let first = other.dates.effective_from;
            let circular =
                first == start && circles.contains(&*order.id) && circles.contains(&*other.id);
            if first > start || circular {
                let problem = format!(
                    "order {}: it supersedes `{id}`, which does not begin earlier, so this has no effect",
                    order.id
                );
                ineffective.push((&*order.id, problem));
                continue;
            }
            let end = ends.entry(id).or_insert(start.at());
            *end = (*end).min(start.at());
        }
    }
    (ends, ineffective)
}

/// Orders that begin at the same instant and supersede each other in a circle, and those between two circles. If every
/// one of them ended the orders that it supersedes, none of them would be in force.
fn circles<'o>(known: &HashMap<&'o str, &'o Order>) -> HashSet<&'o str> {
    let mut targets: HashMap<&str, Vec<&str>> = HashMap::new();
    let mut origins: HashMap<&str, Vec<&str>> = HashMap::new();
    let all = known.iter().map(|(id, order)| (*id, *order));
    let counting = all.filter(|(_, order)| !Schedule::new(order, None).is_withdrawn());
    for (id, order) in counting {
        let start = order.dates.effective_from;
        for other in &order.supersedes {
            let Some((&other, superseded)) = known.get_key_value(&**other) else {
                continue;
            };
            if superseded.dates.effective_from == start {
                targets.entry(id).or_default().push(other);
                origins.entry(other).or_default().push(id);
            }
        }
    }
    let mut left: HashSet<&str> = targets.keys().copied().collect();
    left.retain(|id| origins.contains_key(id));
    // Orders that supersede none of the others, or that are superseded by none, are not in a circle: remove them until
    // there are no more.
    for (ahead, behind) in [(&targets, &origins), (&origins, &targets)] {
        let among = |left: &HashSet<&str>, id: &str| {
            let edges = ahead.get(id).into_iter().flatten();
            edges.filter(|other| left.contains(**other)).count()
        };
        let mut degrees: HashMap<&str, usize> =
            left.iter().map(|id| (*id, among(&left, id))).collect();
        let mut ends: Vec<&str> = left.iter().copied().filter(|id| degrees[id] == 0).collect();
        while let Some(end) = ends.pop() {
            left.remove(end);
            for id in behind.get(end).into_iter().flatten() {
                if let Some(degree) = degrees.get_mut(id).filter(|degree| **degree > 0) {
                    *degree -= 1;
                    if *degree == 0 {
                        ends.push(id);
                    }
                }
            }
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn order(id: &str, dates: &str) -> Order {
        let text = format!(
            "id = \"{id}\"\nlegal-basis = [\"x\"]\nreason = {{ en = \"x\" }}\n\
             review-at = 2030-01-01T00:00:00Z\nauthority = {{ name = \"x\" }}\n\
             redress = {{ how = \"x\" }}\ntargets = [{{ name = \"x.example\", scope = \"exact\" }}]\n\
             {dates}"
        );
        Order::parse(&text, Path::new(id)).expect("an order")
    }

    fn at(day: &str) -> Timestamp {
        format!("{day}T00:00:00Z").parse().expect("a time")
    }

    fn days(order: &Order, superseded: Option<Timestamp>) -> Vec<String> {
        let schedule = Schedule::new(order, superseded);
        let mut days = vec![schedule.state(at("2001-01-01")).to_string()];
        let mut now = at("2001-01-01");
        while let Some(next) = schedule.next(now) {
            let before = Timestamp::from_nanosecond(next.as_nanosecond() - 1).expect("a time");
            assert_eq!(
                schedule.state(before),
                schedule.state(now),
                "nothing changes in between"
            );
            days.push(format!(
                "{} {}",
                &next.to_string()[..10],
                schedule.state(next)
            ));
            now = next;
        }
        days
    }

    #[test]
    fn an_order_goes_through_its_states_at_its_dates() {
        let order = order(
            "a",
            "effective-from = 2026-01-01T00:00:00Z\nexpires-at = 2026-06-01T00:00:00Z\n\
             suspended = [{ from = 2026-02-01T00:00:00Z, until = 2026-03-01T00:00:00Z }]",
        );
        let full = [
            "scheduled",
            "2026-01-01 in force",
            "2026-02-01 suspended",
            "2026-03-01 in force",
            "2026-06-01 expired",
        ];
        assert_eq!(days(&order, None), full);
        let superseded = days(&order, Some(at("2026-02-10")));
        let cut = ["2026-02-10 superseded"];
        assert_eq!(superseded[..3], full[..3]);
        assert!(superseded.contains(&cut[0].to_owned()));
        let after = Schedule::new(&order, Some(at("2026-02-10")));
        assert_eq!(after.state(at("2026-04-01")), State::Superseded);
    }

    #[test]
    fn the_first_of_several_ends_is_the_end() {
        let order = order(
            "a",
            "effective-from = 2026-01-01T00:00:00Z\nexpires-at = 2026-06-01T00:00:00Z\n\
             lifted-at = 2026-07-01T00:00:00Z",
        );
        let schedule = Schedule::new(&order, None);
        assert_eq!(schedule.state(at("2026-08-01")), State::Expired);
    }

    #[test]
    fn an_order_that_is_lifted_before_it_begins_is_never_in_force() {
        let order = order(
            "a",
            "effective-from = 2026-03-01T00:00:00Z\nlifted-at = 2026-02-01T00:00:00Z",
        );
        assert!(Schedule::new(&order, None).is_withdrawn());
        assert_eq!(
            days(&order, None),
            ["scheduled", "2026-02-01 lifted", "2026-03-01 lifted"]
        );
    }

    #[test]
    fn an_open_suspension_lasts() {
        let order = order(
            "a",
            "effective-from = 2026-01-01T00:00:00Z\nsuspended = [{ from = 2026-02-01T00:00:00Z }]",
        );
        let schedule = Schedule::new(&order, None);
        assert_eq!(schedule.state(at("2029-01-01")), State::Suspended);
    }

    #[test]
    fn an_order_ends_where_the_one_that_supersedes_it_begins() {
        let old = order("old", "effective-from = 2026-01-01T00:00:00Z");
        let new = order(
            "new",
            "effective-from = 2026-03-01T00:00:00Z\nsupersedes = [\"old\", \"gone\"]",
        );
        let withdrawn = order(
            "withdrawn",
            "effective-from = 2026-02-01T00:00:00Z\nlifted-at = 2026-01-15T00:00:00Z\n\
             supersedes = [\"old\"]",
        );
        let early = order(
            "early",
            "effective-from = 2025-01-01T00:00:00Z\nsupersedes = [\"old\"]",
        );
        let all = [old, new, withdrawn, early];
        let (ends, ineffective) = supersessions(all.iter());
        assert_eq!(ends, HashMap::from([("old", at("2026-03-01"))]));
        let texts: Vec<_> = ineffective.into_iter().map(|(_, text)| text).collect();
        assert_eq!(
            texts,
            [
                "order new: it supersedes `gone`, which does not exist",
                "order early: it supersedes `old`, which does not begin earlier, so this has no effect",
            ]
        );
    }

    #[test]
    fn orders_that_begin_together_cannot_end_each_other() {
        let one = order(
            "one",
            "effective-from = 2026-01-01T00:00:00Z\nsupersedes = [\"two\"]",
        );
        let two = order(
            "two",
            "effective-from = 2026-01-01T00:00:00Z\nsupersedes = [\"one\"]",
        );
        let (ends, ineffective) = supersessions([&one, &two].into_iter());
        assert!(ends.is_empty());
        assert_eq!(ineffective.len(), 2);
    }

    #[test]
    fn orders_that_begin_together_cannot_end_each_other_in_a_circle_either() {
        let start = "effective-from = 2026-01-01T00:00:00Z\nsupersedes = ";
        let all = [
            ("a", "b"),
            ("b", "c"),
            ("c", "a"),
            ("before", "a"),
            ("d", "e"),
        ];
        let all = all.map(|(id, other)| order(id, &format!("{start}[\"{other}\"]")));
        let last = order("e", "effective-from = 2026-01-01T00:00:00Z");
        let (ends, ineffective) = supersessions(all.iter().chain([&last]));
        // An order outside of the circle still supersedes one in it.
        let expected = [("a", at("2026-01-01")), ("e", at("2026-01-01"))];
        assert_eq!(ends, HashMap::from(expected));
        assert_eq!(ineffective.len(), 3, "{ineffective:?}");
    }

    #[test]
    fn an_order_that_begins_with_the_one_that_it_supersedes_replaces_it_from_the_beginning() {
        let old = order("old", "effective-from = 2026-01-01T00:00:00Z");
        let new = order(
            "new",
            "effective-from = 2026-01-01T00:00:00Z\nsupersedes = [\"old\"]",
        );
        for both in [[&old, &new], [&new, &old]] {
            let (ends, ineffective) = supersessions(both.into_iter());
            assert_eq!(ends, HashMap::from([("old", at("2026-01-01"))]));
            assert_eq!(ineffective, []);
        }
        let schedule = Schedule::new(&old, Some(at("2026-01-01")));
        assert!(schedule.is_withdrawn(), "it never comes into force");
        assert_eq!(schedule.state(at("2026-01-01")), State::Superseded);
        assert_eq!(schedule.state(at("2025-12-31")), State::Scheduled);
        let schedule = Schedule::new(&new, None);
        assert!(!schedule.is_withdrawn());
        assert_eq!(schedule.state(at("2026-01-01")), State::InForce);
    }

    #[test]
    fn the_later_of_two_orders_that_supersede_each_other_replaces_the_earlier() {
        let early = order(
            "early",
            "effective-from = 2026-01-01T00:00:00Z\nsupersedes = [\"late\"]",
        );
        let late = order(
            "late",
            "effective-from = 2026-02-01T00:00:00Z\nsupersedes = [\"early\"]",
        );
        let (ends, ineffective) = supersessions([&early, &late].into_iter());
        assert_eq!(ends, HashMap::from([("early", at("2026-02-01"))]));
        let expected = "order early: it supersedes `late`, which does not begin earlier, so this has no effect";
        assert_eq!(ineffective[0].1, expected);
        assert_eq!(ineffective.len(), 1);
    }

    #[test]
    fn the_earliest_of_several_superseding_orders_ends_an_order() {
        let old = order("old", "effective-from = 2026-01-01T00:00:00Z");
        let superseding = |id, month| {
            let dates = format!("effective-from = 2026-0{month}-01T00:00:00Z");
            order(id, &format!("{dates}\nsupersedes = [\"old\"]"))
        };
        let (early, late) = (superseding("early", 3), superseding("late", 5));
        for all in [[&old, &early, &late], [&late, &early, &old]] {
            let (ends, _) = supersessions(all.into_iter());
            assert_eq!(ends, HashMap::from([("old", at("2026-03-01"))]));
        }
    }

    #[test]
    fn a_state_begins_exactly_at_its_date() {
        let order = order(
            "a",
            "effective-from = 2026-01-01T00:00:00Z\nexpires-at = 2026-06-01T00:00:00Z\n\
             suspended = [{ from = 2026-02-01T00:00:00Z, until = 2026-03-01T00:00:00Z }]",
        );
        let schedule = Schedule::new(&order, Some(at("2026-05-01")));
        for (day, before, then) in [
            ("2026-01-01", State::Scheduled, State::InForce),
            ("2026-02-01", State::InForce, State::Suspended),
            ("2026-03-01", State::Suspended, State::InForce),
            ("2026-05-01", State::InForce, State::Superseded),
        ] {
            let instant = at(day);
            let earlier = Timestamp::from_nanosecond(instant.as_nanosecond() - 1);
            assert_eq!(
                schedule.state(earlier.expect("a time")),
                before,
                "before {day}"
            );
            assert_eq!(schedule.state(instant), then, "at {day}");
        }
        let schedule = Schedule::new(&order, None);
        assert_eq!(schedule.state(at("2026-06-01")), State::Expired);
        assert_eq!(
            schedule.next(at("2026-06-01")),
            None,
            "nothing comes after its end"
        );
    }
}
