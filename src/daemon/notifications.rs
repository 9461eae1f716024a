//! Connects the NOTIFY messages of the data plane with the control plane.

use crate::config::Config;
use crate::control::Control;
use crate::control::sources::feeds::notified::{Notified, NotifyRefusal};
use crate::serve::notify::{Notification, Notifications, Verdict};

/// Passes the NOTIFY messages for the configured feeds to the control plane.
pub(super) fn notifications(config: &Config, control: &Control) -> Notifications {
    let (sender, keys) = control.notified();
    let deliver = move |notification: Notification<'_>| {
        let notified = Notified {
            feed: notification.feed.to_owned(),
            from: notification.from,
            count: notification.count,
            verdict: match notification.verdict {
                Verdict::Accepted(serial) => Ok(serial),
                Verdict::Refused => Err(NotifyRefusal::NotPermitted),
                Verdict::NotAuthentic => Err(NotifyRefusal::NotAuthentic),
            },
        };
        sender.try_send(notified).is_ok()
    };
    let notifications = Notifications::new(keys, Box::new(deliver));
    notifications.follow(&config.feeds);
    notifications
}
