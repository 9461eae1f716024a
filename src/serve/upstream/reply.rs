//! What to do about the reply to a query: take its answer, or ask the same server in another way.

use tokio::time::Instant;

use super::Pool;
use super::connect::{How, Transport};
use super::failures::Failure;
use super::server::Server;
use crate::serve::cache::Key;
use crate::stats::{Count, Counters};
use crate::wire::answer::{Answer, AnswerError};
use crate::wire::ask::{EdnsSupport, Fit, edns_support, has_broken_opt};
use crate::wire::name::Name;
use crate::wire::{Rcode, class};

/// How to ask a server again after its reply to one query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// By TCP, as the answer was cut.
    Tcp,
    /// By TCP, as the answer came in other letters; if TCP fails, without random letters.
    OtherCase,
    /// Without EDNS, which it refuses.
    WithoutEdns {
        /// The refusal matched the query in full; else it is only likely.
        is_certain: bool,
    },
}

/// A message with the ID of a query.
pub(in crate::serve) struct Received<'m> {
    pub(in crate::serve) bytes: &'m [u8],
    pub(in crate::serve) fit: Fit,
    /// It has TC set, or came by UDP and was longer than the query announced.
    pub(in crate::serve) is_cut: bool,
    pub(in crate::serve) at: Instant,
}

/// What a reply comes to.
#[derive(Debug)]
pub(in crate::serve) enum Verdict {
    /// An answer, with whatever response code.
    Answer(Answer),
    /// Nothing to use yet.
    Again(Again),
    /// No answer: bytes that can't be read, or a referral.
    Garbage,
}

/// The response code in a message's header.
fn rcode(message: &[u8]) -> u16 {
    message.get(3).map_or(0, |byte| u16::from(byte & 0x0F))
}

/// Whether an answer's response code is one to give at once.
pub(in crate::serve) fn is_usable(answer: &Answer) -> bool {
    const NOERROR: u16 = Rcode::NoError as u16;
    const NXDOMAIN: u16 = Rcode::NxDomain as u16;
    matches!(answer.rcode(), NOERROR | NXDOMAIN)
}

impl Pool {
    /// Judges the reply to a query. Notes what it shows of `server`'s extensions.
    pub(in crate::serve) fn judge_reply(
        &self,
        server: &Server,
        how: How,
        received: Received<'_>,
        question: &Key,
        counters: &Counters,
    ) -> Verdict {
        let Received { bytes, fit, at, .. } = received;
        let is_random = how.over == Transport::Udp && how.dialect.random_case;
        match fit {
            Fit::BareError => {
                counters.bump(Count::UpstreamBare);
                server.failed(Failure::Rcode(rcode(bytes)));
                server.doubt_edns(question.name(), at);
                return Verdict::Again(Again::WithoutEdns { is_certain: false });
            }
            Fit::OtherCase => {
                counters.bump(Count::UpstreamCase);
                if is_random {
                    server.doubt_case();
                    return Verdict::Again(Again::OtherCase);
                }
            }
            Fit::Answer if is_random => server.case_works(),
            Fit::Answer | Fit::Foreign => {}
        }
        // Before its records are read: a cut answer may end in the middle of one.
        if how.over == Transport::Udp && received.is_cut {
            return Verdict::Again(Again::Tcp);
        }
        let answer = match self.read(bytes, question) {
            Ok(answer) => answer,
            Err(AnswerError::Referral) => {
                counters.bump(Count::UpstreamReferral);
                server.refers();
                return Verdict::Garbage;
            }
            Err(_) => {
                counters.bump(Count::UpstreamGarbage);
                server.failed(Failure::Unreadable);
                let is_doubted = how.dialect.edns
                    && has_broken_opt(bytes)
                    && server.doubt_edns(question.name(), at);
                return match is_doubted {
                    true => Verdict::Again(Again::WithoutEdns { is_certain: false }),
                    false => Verdict::Garbage,
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
                    return Verdict::Answer(answer);
                }
                // Within that time it may be the word of another server, passed on.
                EdnsSupport::Refused => !server.is_edns_proven(at),
                EdnsSupport::Doubtful if server.doubt_edns(question.name(), at) => false,
                EdnsSupport::Doubtful => return Verdict::Answer(answer),
            };
            return Verdict::Again(Again::WithoutEdns { is_certain });
        }
        Verdict::Answer(answer)
    }

    /// The answer in the bytes. By TCP nothing need be cut: such an answer is not whole, and not to
    /// be kept.
    fn read(&self, bytes: &[u8], question: &Key) -> Result<Answer, AnswerError> {
        let malformed = AnswerError::Malformed;
        let (name, _) = Name::parse(question.name(), 0).map_err(|_| malformed)?;
        let answer = Answer::parse(bytes, &name, question.rtype(), class::IN, self.intake.get())?;
        if answer.truncated() {
            return Err(malformed);
        }
        Ok(answer)
    }
}
