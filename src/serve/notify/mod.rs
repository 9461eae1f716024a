//! NOTIFY (RFC 1996): a primary reports that the zone of a feed has changed. Checks who sent the message, answers it,
//! and passes it on to the control plane, which asks the primaries.
//!
//! A NOTIFY is accepted from the feed's `notify-from`, or with a valid signature by the feed's key (RFC 8945) from any
//! address. An invalid signature is rejected from any address. Accepting a message without a signature is safe, because
//! it only causes a query for the SOA record, and few of those.
//!
//! Limits come before the work that they limit: a feed has limits for messages from its networks, for signatures from
//! other addresses, and for reports of refused messages. A message over a limit gets no answer, so its primary sends it
//! again.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::client::Client;
use super::limit::Limit;
use super::step::Ending;
use crate::config::feed::Feed;
use crate::policy::clients::Clients;
use crate::stats::Count;
use crate::wire::name::Name;
use crate::wire::transfer::Serial;
use crate::wire::transfer::notify::{Notify, is_notify};
use crate::wire::transfer::tsig::{Key, Rejected, Seconds, SignedRequest};
use crate::wire::{Rcode, reply};

/// Messages of each kind that a feed accepts at once, and the mean time between two.
const BURST: u64 = 10;
const PERIOD: Duration = Duration::from_millis(100);

/// The key of each feed that has one, by the feed's name. The control plane reads the files of keys and replaces them
/// here.
pub type Keys = Arc<ArcSwap<BTreeMap<String, Key>>>;

/// A NOTIFY for the zone of a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification<'h> {
    /// The name of the feed.
    pub feed: &'h str,
    /// The sender.
    pub from: IpAddr,
    /// Whether it counts.
    pub verdict: Verdict,
    /// How many messages it stands for: itself, and those that were not accepted before it and not passed on.
    pub count: u64,
}

/// Whether a NOTIFY counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The primaries should be asked. The serial is that of the zone's newest version. Without a signature it is `None`:
    /// a forged old serial must not suppress the query.
    Accepted(Option<Serial>),
    /// The sender is not in the feed's networks, and has not signed.
    Refused,
    /// The signature is not valid.
    NotAuthentic,
}

/// Passes a NOTIFY on. Must neither wait nor block. Returns false if there is no room.
pub type Deliver = Box<dyn Fn(Notification<'_>) -> bool + Send + Sync>;

/// The zones whose primaries may send NOTIFY, and the way to the control plane.
pub struct Notifications {
    zones: ArcSwap<Vec<Zone>>,
    keys: Keys,
    deliver: Deliver,
    /// The start of the time of all limits.
    start: Instant,
}

/// The zone of a feed.
struct Zone {
    feed: String,
    name: Name,
    /// The addresses from which messages without a signature are accepted.
    networks: Clients,
    from_networks: Limit,
    signed_elsewhere: Limit,
    refusals: Limit,
    /// Messages that were not accepted, and have not been reported yet.
    unreported: AtomicU64,
}

/// No zones.
impl Default for Notifications {
    fn default() -> Self {
        Self::new(Keys::default(), Box::new(|_| false))
    }
}

impl fmt::Debug for Notifications {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Notifications({} zones)", self.zones.load().len())
    }
}

impl Notifications {
    /// Without zones, until [`follow`](Self::follow) is called.
    pub fn new(keys: Keys, deliver: Deliver) -> Self {
        Self {
            zones: ArcSwap::default(),
            keys,
            deliver,
            start: Instant::now(),
        }
    }

    /// Replaces the zones by those of the feeds.
    pub fn follow(&self, feeds: &[Feed]) {
        let zones = feeds.iter().map(|feed| Zone {
            feed: feed.name.clone(),
            name: feed.zone.clone(),
            networks: feed.notify_from.iter().collect(),
            from_networks: Limit::new(BURST, PERIOD),
            signed_elsewhere: Limit::new(BURST, PERIOD),
            refusals: Limit::new(BURST, PERIOD),
            unreported: AtomicU64::default(),
        });
        self.zones.store(Arc::new(zones.collect()));
    }

    /// Whether a feed accepts messages of this sender without a signature.
    pub(super) fn knows(&self, sender: IpAddr) -> bool {
        let zones = self.zones.load();
        zones.iter().any(|zone| zone.networks.contains(sender))
    }

    /// Answers a NOTIFY. Returns `None`, and leaves `out` as it is, for other messages, and if there are no feeds.
    /// `is_client`: the sender may query. The answer is not longer than the message. Never waits for a lock.
    pub(super) fn answer(
        &self,
        client: &Client,
        packet: &[u8],
        is_client: bool,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Option<Ending> {
        if !is_notify(packet) {
            return None;
        }
        let zones = self.zones.load();
        if zones.is_empty() {
            return None;
        }
        let mut name = Name::default();
        let notify = match Notify::parse(packet, &mut name) {
            Ok(notify) => notify,
            Err(_) if !is_client && !self.knows(client.address) => {
                return Some(Ending::Drop(Count::DeniedMalformed.into()));
            }
            Err(rcode) => {
                reply::header_only(packet, rcode, out);
                return Some(Ending::Reply(Count::NotifyMalformed.into()));
            }
        };
        let Some(zone) = zones.iter().find(|zone| zone.name == name) else {
            notify.respond(Rcode::NotAuth, out);
            return Some(Ending::Reply(Count::NotifyRefused.into()));
        };
        let checking = Checking {
            notifications: self,
            zone,
            from: client.address,
            packet,
            notify,
            now,
        };
        let answered = match notify.is_signed {
            true => checking.signed(out),
            false => checking.unsigned(out),
        };
        let limited = Ending::Drop(Count::NotifyLimited.into());
        Some(answered.map_or(limited, |count| Ending::Reply(count.into())))
    }
}

/// A NOTIFY for a zone that exists.
struct Checking<'c> {
    notifications: &'c Notifications,
    zone: &'c Zone,
    from: IpAddr,
    packet: &'c [u8],
    notify: Notify<'c>,
    now: Instant,
}

/// Each of these returns how an answered message is counted, or `None` for a message over a limit.
impl Checking<'_> {
    fn unsigned(&self, out: &mut Vec<u8>) -> Option<Count> {
        if !self.zone.networks.contains(self.from) {
            self.report(Verdict::Refused);
            self.notify.respond(Rcode::Refused, out);
            return Some(Count::NotifyRefused);
        }
        self.permit(&self.zone.from_networks)?;
        self.deliver(Verdict::Accepted(None), 1)?;
        self.notify.respond(Rcode::NoError, out);
        Some(Count::NotifyAccepted)
    }

    fn signed(&self, out: &mut Vec<u8>) -> Option<Count> {
        // Senders elsewhere can't use up what the primaries may send, unless they forge their addresses.
        self.permit(match self.zone.networks.contains(self.from) {
            true => &self.zone.from_networks,
            false => &self.zone.signed_elsewhere,
        })?;
        let keys = self.notifications.keys.load();
        let key = keys.get(&self.zone.feed);
        let clock = unix_time();
        let request = match SignedRequest::check(key, self.packet, clock) {
            Ok(request) => request,
            Err(rejected) => {
                self.report(Verdict::NotAuthentic);
                self.reject(rejected, clock, out);
                return Some(Count::NotifyNotAuthentic);
            }
        };
        self.deliver(Verdict::Accepted(self.notify.serial), 1)?;
        self.notify.respond(Rcode::NoError, out);
        replace(out, request.sign(out, clock));
        Some(Count::NotifyAccepted)
    }

    /// Answers a message whose signature is not valid. A sender that compresses the name of its key gets no TSIG record,
    /// which would make the answer longer than the message.
    fn reject(&self, rejected: Rejected, clock: Seconds, out: &mut Vec<u8>) {
        self.notify.respond(Rcode::NotAuth, out);
        let report = rejected.report(self.packet, out, clock);
        replace(
            out,
            report.filter(|report| report.len() <= self.packet.len()),
        );
    }

    fn permit(&self, limit: &Limit) -> Option<()> {
        let since = self.now.saturating_duration_since(self.notifications.start);
        limit.take(since).then_some(())
    }

    /// Passes on that a message was not accepted. Under a flood, most are only counted, and a later report has their
    /// number.
    fn report(&self, verdict: Verdict) {
        let unreported = &self.zone.unreported;
        unreported.fetch_add(1, Ordering::Relaxed);
        if self.permit(&self.zone.refusals).is_none() {
            return;
        }
        let count = unreported.swap(0, Ordering::Relaxed);
        if self.deliver(verdict, count).is_none() {
            unreported.fetch_add(count, Ordering::Relaxed);
        }
    }

    fn deliver(&self, verdict: Verdict, count: u64) -> Option<()> {
        let notification = Notification {
            feed: &self.zone.feed,
            from: self.from.to_canonical(),
            verdict,
            count,
        };
        (self.notifications.deliver)(notification).then_some(())
    }
}

/// Replaces the answer by one with a TSIG record. Keeps the buffer, which has room for other answers.
fn replace(out: &mut Vec<u8>, with_tsig: Option<Vec<u8>>) {
    if let Some(with_tsig) = with_tsig {
        out.clear();
        out.extend_from_slice(&with_tsig);
    }
}

/// Seconds since 1970, by the clock of this system.
fn unix_time() -> Seconds {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Mutex;

    use super::*;
    use crate::config::Config;
    use crate::serve::client::Transport;

    type Deliveries = Arc<Mutex<Vec<(IpAddr, Verdict, u64)>>>;

    /// A server with the feed `rpz.test`, and what it passes on. `notify_from` is a value of the configuration.
    fn notifications(notify_from: &str) -> (Notifications, Deliveries) {
        let text = format!(
            "[[feed]]\nname = \"feed\"\nzone = \"rpz.test\"\nprimaries = [\"192.0.2.1\"]\nnotify-from = {notify_from}"
        );
        let config = Config::parse(&text, Path::new("tapis.toml")).expect("valid");
        let deliveries = Deliveries::default();
        let taken = Arc::clone(&deliveries);
        let deliver = move |notification: Notification<'_>| {
            assert_eq!(notification.feed, "feed");
            let notification = (notification.from, notification.verdict, notification.count);
            taken.lock().expect("not poisoned").push(notification);
            true
        };
        let notifications = Notifications::new(Keys::default(), Box::new(deliver));
        notifications.follow(&config.feeds);
        (notifications, deliveries)
    }

    fn notify(zone: &str) -> Vec<u8> {
        let zone = Name::from_text(zone).expect("a name");
        let question = [zone.wire(), &[0, 6, 0, 1]].concat();
        [
            &b"\x12\x34\x24\x00\x00\x01\x00\x00\x00\x00\x00\x00"[..],
            &question,
        ]
        .concat()
    }

    /// The ending, and the response code of the answer.
    fn send(to: &Notifications, from: &str, packet: &[u8], now: Instant) -> (Ending, Option<u8>) {
        let from: IpAddr = from.parse().expect("an address");
        let client = Client::new((from, 53).into(), Transport::Udp);
        let mut out = Vec::new();
        let ending = to.answer(&client, packet, false, now, &mut out);
        assert!(out.len() <= packet.len(), "it does not amplify");
        (
            ending.expect("a NOTIFY"),
            out.get(3).map(|flags| flags & 0x0F),
        )
    }

    fn reply(count: Count) -> Ending {
        Ending::Reply(count.into())
    }

    #[test]
    fn the_sender_must_be_in_the_networks_of_the_feed() {
        let networks = "[\"192.0.2.0/24\", \"2001:db8::/32\"]";
        let (notifications, deliveries) = notifications(networks);
        let now = Instant::now();
        let accepted = (reply(Count::NotifyAccepted), Some(0));
        for from in ["192.0.2.7", "::ffff:192.0.2.7", "2001:db8::1"] {
            assert_eq!(
                send(&notifications, from, &notify("rpz.test"), now),
                accepted
            );
        }
        let refused = (reply(Count::NotifyRefused), Some(5));
        for from in ["192.0.3.7", "::ffff:192.0.3.7", "2001:db9::1"] {
            assert_eq!(
                send(&notifications, from, &notify("rpz.test"), now),
                refused
            );
        }
        let other = send(&notifications, "192.0.2.7", &notify("other.test"), now);
        assert_eq!(other, (reply(Count::NotifyRefused), Some(9)));
        let deliveries = deliveries.lock().expect("not poisoned");
        let verdicts: Vec<_> = deliveries.iter().map(|(_, verdict, _)| *verdict).collect();
        let (accepted, refused) = (Verdict::Accepted(None), Verdict::Refused);
        assert_eq!(verdicts, [[accepted; 3], [refused; 3]].concat());
        assert_eq!(deliveries[1].0, IpAddr::from([192, 0, 2, 7]));
    }

    #[test]
    fn a_flood_is_dropped_and_one_from_elsewhere_takes_nothing_from_the_primaries() {
        let (notifications, deliveries) = notifications("[\"192.0.2.1\"]");
        let now = Instant::now();
        let flood = |from| {
            let packet = notify("rpz.test");
            let ends = (0..1000).map(|_| send(&notifications, from, &packet, now).0);
            let ends: Vec<_> = ends.collect();
            let taken = deliveries.lock().expect("not poisoned").len();
            (ends, taken)
        };
        let (ends, taken) = flood("192.0.2.9");
        assert_eq!(ends, [reply(Count::NotifyRefused); 1000]);
        assert_eq!(taken, 10, "most refusals are not reported");
        let (ends, taken) = flood("192.0.2.1");
        assert_eq!(ends[..10], [reply(Count::NotifyAccepted); 10]);
        assert_eq!(ends[10..], [Ending::Drop(Count::NotifyLimited.into()); 990]);
        assert_eq!(taken, 20);
        let later = now + Duration::from_secs(1);
        let again = send(&notifications, "192.0.2.1", &notify("rpz.test"), later);
        assert_eq!(again.0, reply(Count::NotifyAccepted));
        let refused = send(&notifications, "192.0.2.9", &notify("rpz.test"), later);
        assert_eq!(refused.0, reply(Count::NotifyRefused));
        let deliveries = deliveries.lock().expect("not poisoned");
        let refused = deliveries.iter();
        let refused = refused.filter(|(_, verdict, _)| *verdict == Verdict::Refused);
        let counted: u64 = refused.map(|(_, _, count)| count).sum();
        assert_eq!(counted, 1001, "also those that were not reported");
    }

    #[test]
    fn a_malformed_message_is_answered_only_if_its_sender_is_known() {
        let (notifications, _) = notifications("[\"192.0.2.1\"]");
        let mut packet = notify("rpz.test");
        packet.push(0);
        let now = Instant::now();
        let known = send(&notifications, "192.0.2.1", &packet, now);
        assert_eq!(known, (reply(Count::NotifyMalformed), Some(1)));
        let unknown = send(&notifications, "192.0.2.9", &packet, now);
        assert_eq!(unknown, (Ending::Drop(Count::DeniedMalformed.into()), None));
    }

    #[test]
    fn without_feeds_or_for_another_opcode_there_is_no_answer() {
        let (notifications, _) = notifications("[]");
        let client = Client::new(([192, 0, 2, 1], 53).into(), Transport::Udp);
        let answer = |to: &Notifications, packet: &[u8]| {
            to.answer(&client, packet, true, Instant::now(), &mut Vec::new())
        };
        let mut query = notify("rpz.test");
        query[2] = 0;
        assert_eq!(answer(&notifications, &query), None);
        assert_eq!(answer(&Notifications::default(), &notify("rpz.test")), None);
        assert!(answer(&notifications, &notify("rpz.test")).is_some());
    }
}
