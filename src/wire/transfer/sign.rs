//! Signs the messages that a primary sends in answer to one signed query (RFC 8945, section 5.3.1).

use std::convert::Infallible;
use std::sync::Arc;

use domain::base::MessageBuilder;
use domain::base::wire::Composer;
use domain::dep::octseq::{OctetsBuilder, Truncate};
use domain::tsig::{Key, ServerSequence};

use super::tsig::{Seconds, SignedRequest, time};

/// The sequence of signatures of one answer. Each message is signed.
#[derive(Debug)]
pub struct Signer(ServerSequence<Arc<Key>>);

impl From<SignedRequest> for Signer {
    fn from(request: SignedRequest) -> Self {
        Self(request.into_transaction().into())
    }
}

impl Signer {
    /// The bytes that a signature adds to a message.
    pub fn signature_len(&self) -> usize {
        self.0.key().compose_len().into()
    }

    /// Signs the next message, which has all its records. `None` if there is no room for the signature.
    pub fn sign(&mut self, message: Vec<u8>, now: Seconds) -> Option<Vec<u8>> {
        let Ok(builder) = MessageBuilder::from_target(Written {
            message,
            is_open: false,
        });
        let mut builder = builder.additional();
        self.0.answer(&mut builder, time(now)).ok()?;
        Some(builder.finish().message)
    }
}

/// A message that is written already. [`MessageBuilder`] begins with an empty message and a new header; both of these
/// have no effect here.
struct Written {
    message: Vec<u8>,
    /// Whether the builder has begun.
    is_open: bool,
}

impl OctetsBuilder for Written {
    type AppendError = Infallible;

    fn append_slice(&mut self, slice: &[u8]) -> Result<(), Infallible> {
        if self.is_open {
            self.message.extend_from_slice(slice);
        }
        self.is_open = true;
        Ok(())
    }
}

impl Truncate for Written {
    fn truncate(&mut self, len: usize) {
        if self.is_open {
            self.message.truncate(len);
        }
    }
}

impl AsRef<[u8]> for Written {
    fn as_ref(&self) -> &[u8] {
        &self.message
    }
}

impl AsMut<[u8]> for Written {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.message
    }
}

impl Composer for Written {}

#[cfg(test)]
mod tests {
    use super::super::query::Query;
    use super::super::request::TransferQuery;
    use super::super::tsig::{Algorithm, Key, Session, TsigError};
    use super::super::write::MessageWriter;
    use super::*;
    use crate::wire::name::Name;
    use crate::wire::rtype;

    const NOW: Seconds = 1_795_000_000;

    /// Three messages that answer a signed query, and what the secondary checks them with.
    fn signed() -> (Session, Vec<Vec<u8>>) {
        let name = Name::from_text("transfer.key").expect("a name");
        let key = Key::new(&name, Algorithm::Sha256, &[7; 32]).expect("a key");
        let query = Query::Axfr.write(9, &name);
        let (session, signed) = Session::sign(&key, &query, NOW).expect("signed");
        let request = SignedRequest::check(Some(&key), &signed, NOW).expect("authentic");
        let mut signer = Signer::from(request);
        let mut zone = Name::default();
        let query = TransferQuery::parse(&signed, &mut zone).expect("a query");
        let mut writer = MessageWriter::new(&query);
        let messages = (0..3).map(|n| {
            let pushed = writer.push(b"\x01a", rtype::A, n, &[127, 0, 0, 1]);
            pushed.expect("it fits");
            signer.sign(writer.take(), NOW).expect("signed")
        });
        (session, messages.collect())
    }

    #[test]
    fn a_secondary_accepts_each_message_of_the_sequence() {
        let (mut session, messages) = signed();
        assert!(
            messages
                .iter()
                .all(|message| message.len() == messages[0].len())
        );
        for mut message in messages {
            assert_eq!(
                message[6..12],
                [0, 1, 0, 0, 0, 1],
                "a record and its signature"
            );
            session.check(&mut message, NOW).expect("authentic");
        }
        session.finish().expect("signed to its end");
    }

    #[test]
    fn a_message_that_was_changed_or_left_out_is_not_authentic() {
        let (mut session, mut messages) = signed();
        messages[0][20] ^= 0x20;
        assert_eq!(session.check(&mut messages[0], NOW), Err(TsigError::Wrong));
        let (mut session, mut messages) = signed();
        session.check(&mut messages[0], NOW).expect("authentic");
        assert_eq!(session.check(&mut messages[2], NOW), Err(TsigError::Wrong));
    }
}
