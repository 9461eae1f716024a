//! Answers as text, for the control socket.

use crate::control::admin::verdict::Answer;
use crate::wire::presentation::MessageText;

/// The response code, the records of the answer section, and the Extended DNS Errors of a message.
pub(super) fn answer(reply: &MessageText) -> Answer {
    let ede = reply.errors.iter();
    let ede = ede.map(|(code, text)| format!("{code} {text}").trim_end().to_owned());
    Answer {
        rcode: mnemonic(reply.rcode),
        records: reply.sections[0].clone(),
        ede: ede.collect(),
    }
}

/// The mnemonic of a response code, or `RCODE` with the number.
fn mnemonic(code: u16) -> String {
    let mnemonics = [
        "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN",
    ];
    match mnemonics.get(usize::from(code)) {
        Some(mnemonic) => (*mnemonic).to_owned(),
        None => format!("RCODE{code}"),
    }
}
