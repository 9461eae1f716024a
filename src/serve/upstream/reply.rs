//! Evaluates the response to a query: use its answer, or ask the same server in another way.

use std::sync::Arc;

use tokio::time::Instant;

use super::bounds::{Bounds, is_usable};
use super::exchange::{How, Transport};
use super::failures::Failure;
use super::server::Server;
use crate::serve::cache::Key;
use crate::stats::{Count, Counters};
use crate::wire::answer::{Answer, AnswerError, UpstreamBlock};
use crate::wire::ask::{EdnsSupport, Fit, edns_support, has_broken_opt};
use crate::wire::class;
use crate::wire::name::Name;

/// How to ask a server again after its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// By TCP, because the answer was truncated.
    Tcp,
    /// By TCP, because the answer has another letter case; if TCP fails, without random letter case.
    OtherCase,
    /// Without EDNS, which it refuses.
    WithoutEdns {
        /// Whether the refusal is certain. It is likely but not certain in each of these cases: the response is
        /// doubtful or can't be read; it did not match the query in full; it came while EDNS is proven.
        is_certain: bool,
    },
}

/// A message with the ID of a query.
pub(super) struct Received<'m> {
    pub(super) bytes: &'m [u8],
    pub(super) fit: Fit,
    /// It has TC set, or it is a datagram that is longer than the size that the query announced.
    pub(super) is_cut: bool,
    pub(super) at: Instant,
}

/// The evaluation of a response.
#[derive(Debug)]
pub(super) enum Evaluation {
    /// An answer, with any response code.
    Answer(Answer),
    /// No usable answer yet.
    Again(Again),
    /// Bytes that can't be read, or a referral.
    Garbage,
}

/// The response code in a message's header.
fn rcode(message: &[u8]) -> u16 {
    message.get(3).map_or(0, |byte| u16::from(byte & 0x0F))
}

/// A query to a server, and by what its response is evaluated.
pub(super) struct Sent<'q> {
    pub(super) server: &'q Server,
    pub(super) how: How,
    pub(super) key: &'q Key,
    pub(super) intake: &'q Bounds,
    pub(super) counters: &'q Counters,
}

impl Sent<'_> {
    /// Evaluates the response. Records what it shows about the server's extensions, and whether the server blocks the name.
    pub(super) fn evaluate(&self, received: Received<'_>) -> Evaluation {
        let at = received.at;
        let mut evaluation = self.evaluate_response(received);
        if let Evaluation::Answer(answer) = &mut evaluation {
            answer.set_server(self.server.number());
            if let Some(sign) = answer.block_sign(|address| self.intake.is_landing(address)) {
                self.counters.bump(Count::UpstreamBlocks);
                self.server.blocks(at);
                let server = Arc::clone(self.server.shown());
                answer.mark_blocked(UpstreamBlock { server, sign });
            }
        }
        evaluation
    }

    fn evaluate_response(&self, received: Received<'_>) -> Evaluation {
        let Self {
            server,
            how,
            key,
            intake,
            counters,
        } = *self;
        let Received { bytes, fit, at, .. } = received;
        let is_random = how.over == Transport::Udp && how.dialect.random_case;
        match fit {
            Fit::BareError => {
                counters.bump(Count::UpstreamBare);
                server.failed(Failure::Rcode(rcode(bytes)));
                server.doubt_edns(key.name(), at);
                return Evaluation::Again(Again::WithoutEdns { is_certain: false });
            }
            Fit::OtherCase => {
                counters.bump(Count::UpstreamCase);
                if is_random {
                    server.doubt_case();
                    return Evaluation::Again(Again::OtherCase);
                }
            }
            Fit::Answer if is_random => server.case_works(),
            Fit::Answer | Fit::Foreign => {}
        }
        // This check comes before the records are read, because a truncated answer may end in the middle of a record.
        if how.over == Transport::Udp && received.is_cut {
            return Evaluation::Again(Again::Tcp);
        }
        let answer = match read(bytes, key, intake) {
            Ok(answer) => answer,
            Err(AnswerError::Referral) => {
                counters.bump(Count::UpstreamReferral);
                server.refers();
                return Evaluation::Garbage;
            }
            Err(_) => {
                counters.bump(Count::UpstreamGarbage);
                server.failed(Failure::Unreadable);
                let is_doubted =
                    how.dialect.edns && has_broken_opt(bytes) && server.doubt_edns(key.name(), at);
                return match is_doubted {
                    true => Evaluation::Again(Again::WithoutEdns { is_certain: false }),
                    false => Evaluation::Garbage,
                };
            }
        };
        if is_usable(&answer) {
            server.succeeded();
        } else {
            server.failed(Failure::Rcode(answer.rcode()));
        }
        if how.dialect.edns {
            let is_certain = match edns_support(bytes, answer.rcode()) {
                EdnsSupport::Fine => {
                    server.edns_works(at);
                    return Evaluation::Answer(answer);
                }
                // While EDNS is proven, the refusal may come from a server behind this one, so it is not certain.
                EdnsSupport::Refused => !server.is_edns_proven(at),
                EdnsSupport::Doubtful if server.doubt_edns(key.name(), at) => false,
                EdnsSupport::Doubtful => return Evaluation::Answer(answer),
            };
            return Evaluation::Again(Again::WithoutEdns { is_certain });
        }
        Evaluation::Answer(answer)
    }
}

/// Reads an answer. One that is truncated even by TCP is incomplete and must not be kept.
fn read(bytes: &[u8], key: &Key, intake: &Bounds) -> Result<Answer, AnswerError> {
    let malformed = AnswerError::Malformed;
    let (name, _) = Name::parse(key.name(), 0).map_err(|_| malformed)?;
    let answer = Answer::parse(bytes, &name, key.rtype(), class::IN, intake.get())?;
    if answer.truncated() {
        return Err(malformed);
    }
    match intake.is_dead_end(&answer) {
        true => Err(AnswerError::Referral),
        false => Ok(answer),
    }
}
