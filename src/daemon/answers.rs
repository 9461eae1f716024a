//! Answers as text, for the control socket.

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;

use crate::control::admin::verdict::Answer;

/// The response code, the records, and the Extended DNS Errors of a message.
pub(super) fn answer(reply: &Message) -> Answer {
    let options = reply.edns.iter();
    let options = options.flat_map(|edns| edns.options().as_ref().iter());
    let ede = options.filter_map(|(_, option)| match option {
        EdnsOption::Unknown(15, bytes) => bytes.split_at_checked(2).map(|(code, text)| {
            let code = u16::from_be_bytes([code[0], code[1]]);
            format!("{code} {}", String::from_utf8_lossy(text))
                .trim_end()
                .to_owned()
        }),
        _ => None,
    });
    Answer {
        rcode: mnemonic(reply.metadata.response_code),
        records: reply.answers.iter().map(ToString::to_string).collect(),
        ede: ede.collect(),
    }
}

/// The mnemonic of a response code, or `RCODE` with the number.
fn mnemonic(code: ResponseCode) -> String {
    match code {
        ResponseCode::NoError => "NOERROR".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        ResponseCode::NotImp => "NOTIMP".to_owned(),
        ResponseCode::FormErr => "FORMERR".to_owned(),
        ResponseCode::YXDomain => "YXDOMAIN".to_owned(),
        other => format!("RCODE{}", u16::from(other)),
    }
}
