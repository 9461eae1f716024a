//! A version of a feed's zone on its way into force.

use crate::control::Control;
use crate::control::sources::feeds::delivery::{Content, Delivery, Undelivered};
use crate::control::sources::feeds::running::Waiting;
use crate::control::sources::lists::large::want;
use crate::control::sources::lists::transferred::{start_changes, start_differences, start_small};

impl Control {
    /// Starts, ends and informs the tasks of feeds, after a new generation or configuration.
    pub(crate) fn follow_feeds(&mut self) {
        self.feeds.follow(
            &self.configuration.current,
            &self.lists,
            (&self.images_in_force(), &self.guard_policy),
            self.rollback.held_as(),
        );
    }

    /// Ends loads that are not needed any more. Requests do not wait for them any longer, and feeds transfer again.
    pub(crate) fn dismiss_loads(&mut self, tickets: impl IntoIterator<Item = u64>) {
        for ticket in tickets {
            self.downloads.drop_load(ticket);
            self.feeds.drop_delivery(ticket);
            self.requests.dismiss(ticket);
        }
    }

    /// Starts to load a new version of a feed's zone. From then on it is a load of a list like any other.
    pub(crate) fn take_delivery(&mut self, delivery: Delivery) {
        let Delivery {
            feed,
            primary,
            serial,
            content,
            outcome,
        } = delivery;
        let ticket = self.requests.tickets.next();
        let images = self.images_in_force();
        let held_as = self.rollback.held_as();
        let mut lists = self.lists.active.iter_mut();
        let Some(list) = lists.find(|list| list.name() == feed) else {
            // The feed was removed meanwhile; its task is being ended.
            let _ = outcome.send(Err(Undelivered::Outdated));
            return;
        };
        if list.is_frozen() {
            let generation = held_as.unwrap_or_default();
            let _ = outcome.send(Err(Undelivered::RolledBack(generation)));
            return;
        }
        let guard_policy = &self.guard_policy;
        let done = &self.lists.done.0;
        let ticket = match content {
            Content::Small(request, messages) => {
                start_small(list, guard_policy, ticket, (request, messages), done)
            }
            Content::Changes { from, .. } if list.serial() != Some(from) => {
                let _ = outcome.send(Err(Undelivered::Outdated));
                return;
            }
            Content::Changes { soa, changes, .. } => {
                start_changes(list, guard_policy, ticket, (soa, changes), images, done)
            }
            Content::Differences(differences) => {
                let started = start_differences(list, ticket, differences, images, done);
                let Some(ticket) = started else {
                    let _ = outcome.send(Err(Undelivered::Outdated));
                    return;
                };
                ticket
            }
            Content::Large(transfer) => {
                let mut wanted = want(list, ticket, false);
                wanted.transfer = Some(transfer);
                let ticket = wanted.ticket;
                self.compiler.want(vec![wanted]);
                ticket
            }
        };
        let waiting = Waiting {
            primary,
            serial,
            outcome,
        };
        self.feeds.wait(ticket, waiting);
    }
}
