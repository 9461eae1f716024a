//! Answers decoded by another implementation.

use std::sync::Arc;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::Record;
use hickory_proto::rr::rdata::opt::EdnsOption;
use tapis::serve::cache::{Entry, Key};
use tapis::serve::step::Step;
use tapis::stats::Count;

/// How a packet was handled.
#[derive(Debug)]
pub(super) enum Outcome {
    Dropped(Count),
    Replied(Decoded),
    Resolve(Key, Option<Arc<Entry>>),
    /// Answered from the cache; upstream is to be asked for a newer answer.
    Refreshed(Key),
}

impl Outcome {
    pub(super) fn new(step: Step, bytes: Vec<u8>) -> Self {
        match step {
            Step::Drop(tally) => Self::Dropped(tally.count),
            Step::Reply(tally) => Self::Replied(Decoded {
                count: tally.count,
                message: Message::from_vec(&bytes).expect("another implementation reads it"),
                bytes,
            }),
            Step::Resolve(key, stale) => Self::Resolve(key, stale),
            Step::Refresh(key, _) => Self::Refreshed(key),
        }
    }

    #[track_caller]
    pub(super) fn reply(self) -> Decoded {
        match self {
            Self::Replied(decoded) => decoded,
            other => panic!("no reply: {other:?}"),
        }
    }

    #[track_caller]
    pub(super) fn refreshed(self) -> Key {
        match self {
            Self::Refreshed(key) => key,
            other => panic!("not refreshed: {other:?}"),
        }
    }

    #[track_caller]
    pub(super) fn dropped(self) -> Count {
        match self {
            Self::Dropped(count) => count,
            other => panic!("not dropped: {other:?}"),
        }
    }

    /// The key to ask upstream for, and the stale answer if there is one.
    #[track_caller]
    pub(super) fn resolve(self) -> (Key, Option<Arc<Entry>>) {
        match self {
            Self::Resolve(key, stale) => (key, stale),
            other => panic!("not for upstream: {other:?}"),
        }
    }
}

/// A decoded answer.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) count: Count,
    pub(super) bytes: Vec<u8>,
    pub(super) message: Message,
}

impl Decoded {
    /// The response code, extended bits included.
    pub(super) fn rcode(&self) -> ResponseCode {
        self.message.metadata.response_code
    }

    /// The flags in the second word of the header.
    pub(super) fn flags(&self) -> u16 {
        u16::from_be_bytes([self.bytes[2], self.bytes[3]])
    }

    pub(super) fn has(&self, flag: u16) -> bool {
        self.flags() & flag != 0
    }

    pub(super) fn answers(&self) -> Vec<String> {
        text(&self.message.answers)
    }

    pub(super) fn authorities(&self) -> Vec<String> {
        text(&self.message.authorities)
    }

    pub(super) fn additionals(&self) -> Vec<String> {
        text(&self.message.additionals)
    }

    /// Whether there is no record in any section.
    pub(super) fn is_bare(&self) -> bool {
        self.message.all_sections().next().is_none()
    }

    /// The Extended DNS Errors, code and text.
    pub(super) fn errors(&self) -> Vec<(u16, String)> {
        let Some(edns) = &self.message.edns else {
            return Vec::new();
        };
        let options = edns.options().as_ref().iter();
        options
            .map(|(code, option)| match option {
                EdnsOption::Unknown(15, data) => {
                    let text = String::from_utf8(data[2..].to_vec()).expect("text is UTF-8");
                    (u16::from_be_bytes([data[0], data[1]]), text)
                }
                other => panic!("option {code:?} is not expected: {other:?}"),
            })
            .collect()
    }

    /// The codes of the Extended DNS Errors.
    pub(super) fn codes(&self) -> Vec<u16> {
        self.errors().into_iter().map(|(code, _)| code).collect()
    }
}

fn text(records: &[Record]) -> Vec<String> {
    records.iter().map(Record::to_string).collect()
}
