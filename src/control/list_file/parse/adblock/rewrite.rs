//! Reads the value of `$dnsrewrite`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::{FromStr, from_utf8};
use std::sync::Arc;

use crate::control::list_file::parse::bad_rule::BadRule;
use crate::control::list_file::parse::not_applicable::{NotApplicable, Unusable};
use crate::control::list_file::parse::zone::record_data;
use crate::names::typed;
use crate::policy::effect::EffectAction;
use crate::policy::record::LocalRecord;
use crate::policy::rule::Action;
use crate::wire::name::Name;
use crate::wire::rtype;

/// The longest character string of a TXT record.
const MAX_STRING: usize = 255;

/// The answer of a rewrite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rewrite {
    /// An empty answer.
    Empty(Action),
    /// An alias of another name.
    Alias(Arc<Name>),
    Record(LocalRecord),
}

impl Rewrite {
    /// Reads a value; `None` if it is empty.
    pub(super) fn read(value: &[u8]) -> Result<Option<Self>, Unusable> {
        let value = from_utf8(value).map_err(|_| BadRule::DnsRewrite)?;
        let mut parts = value.splitn(3, ';');
        match (parts.next(), parts.next(), parts.next()) {
            (None | Some(""), None, None) => Ok(None),
            (Some(short), None, None) => Self::short(short).map(Some),
            (Some(code), Some(rtype), Some(data)) => Self::full(code, rtype, data).map(Some),
            _ => Err(BadRule::DnsRewrite.into()),
        }
    }

    /// A keyword, an address or a name.
    fn short(value: &str) -> Result<Self, Unusable> {
        if value.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return empty(value);
        }
        match value.parse() {
            Ok(address) => Ok(Self::Record(LocalRecord::address(address))),
            Err(_) => Ok(alias(value)?),
        }
    }

    /// `RCODE;TYPE;VALUE`.
    fn full(code: &str, rtype: &str, value: &str) -> Result<Self, Unusable> {
        let code = code.to_ascii_uppercase();
        if code != "NOERROR" || (rtype.is_empty() && value.is_empty()) {
            return empty(&code);
        }
        let kind = rtype.to_ascii_uppercase();
        let record = match &*kind {
            "CNAME" => return Ok(alias(value)?),
            "A" => address::<Ipv4Addr>(value)?,
            "AAAA" => address::<Ipv6Addr>(value)?,
            "TXT" => record(rtype::TXT, strings(value)),
            "HTTPS" | "MX" | "PTR" | "SRV" | "SVCB" => {
                let (rtype, data) = record_data(&kind, value).ok_or(BadRule::DnsRewrite)?;
                record(rtype, data)
            }
            _ => return Err(BadRule::RewriteType.into()),
        };
        Ok(Self::Record(record))
    }

    /// The action of the rule's effect.
    pub(super) fn action(&self) -> EffectAction {
        match self {
            Self::Empty(action) => EffectAction::Block(*action),
            Self::Alias(target) => EffectAction::Cname {
                target: Arc::clone(target),
                prepend: false,
            },
            Self::Record(record) => EffectAction::Records(vec![record.clone()]),
        }
    }
}

/// An answer without records.
fn empty(code: &str) -> Result<Rewrite, Unusable> {
    match code {
        "NOERROR" => Ok(Rewrite::Empty(Action::Nodata)),
        "NXDOMAIN" => Ok(Rewrite::Empty(Action::Nxdomain)),
        "REFUSED" => Ok(Rewrite::Empty(Action::Refused)),
        "FORMERR" | "SERVFAIL" | "NOTIMP" | "YXDOMAIN" | "YXRRSET" | "NXRRSET" | "NOTAUTH"
        | "NOTZONE" => Err(NotApplicable::RewriteCode.into()),
        _ => Err(BadRule::DnsRewrite.into()),
    }
}

fn alias(value: &str) -> Result<Rewrite, BadRule> {
    match typed::one(value) {
        Ok((name, None)) if name.label_count() > 0 => Ok(Rewrite::Alias(Arc::new(name))),
        _ => Err(BadRule::DnsRewrite),
    }
}

/// The record of an address of this family.
fn address<A: FromStr + Into<IpAddr>>(value: &str) -> Result<LocalRecord, BadRule> {
    let address: A = value.parse().map_err(|_| BadRule::DnsRewrite)?;
    Ok(LocalRecord::address(address.into()))
}

fn record(rtype: u16, data: Vec<u8>) -> LocalRecord {
    LocalRecord {
        rtype,
        ttl_secs: None,
        data: data.into(),
    }
}

/// The text as one character string, or as several if it is too long.
fn strings(value: &str) -> Vec<u8> {
    let mut data = Vec::with_capacity(value.len() + 1);
    for string in value.as_bytes().chunks(MAX_STRING) {
        data.push(string.len() as u8);
        data.extend(string);
    }
    if data.is_empty() {
        data.push(0);
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::list_file::parse::bad::Bad;

    fn shown(value: &str) -> String {
        match Rewrite::read(value.as_bytes()) {
            Ok(None) => "any".to_owned(),
            Ok(Some(Rewrite::Empty(action))) => format!("{action:?}"),
            Ok(Some(Rewrite::Alias(name))) => format!("alias {name}"),
            Ok(Some(Rewrite::Record(record))) => record.to_string(),
            Err(Unusable::Ignored(reason)) => format!("{reason:?}"),
            Err(Unusable::Bad(Bad::Rule(problem))) => format!("{problem:?}"),
            Err(Unusable::Bad(other)) => panic!("{other}"),
        }
    }

    #[test]
    fn all_documented_forms_are_read() {
        for (value, expected) in [
            ("", "any"),
            ("1.2.3.4", "0 A 1.2.3.4"),
            ("abcd::1234", "0 AAAA abcd::1234"),
            ("example.net", "alias example.net"),
            ("REFUSED", "Refused"),
            ("NOERROR", "Nodata"),
            ("NXDOMAIN", "Nxdomain"),
            ("NOERROR;A;1.2.3.4", "0 A 1.2.3.4"),
            ("NOERROR;aaaa;abcd::1234", "0 AAAA abcd::1234"),
            ("NOERROR;CNAME;example.net", "alias example.net"),
            ("REFUSED;;", "Refused"),
            ("NOERROR;;", "Nodata"),
            ("NXDOMAIN;;", "Nxdomain"),
            ("NXDOMAIN;A;1.2.3.4", "Nxdomain"),
            ("NOERROR;PTR;example.net.", "0 PTR example.net."),
            ("NOERROR;PTR;example.net", "0 PTR example.net."),
            ("NOERROR;MX;32 example.mail", "0 MX 32 example.mail."),
            ("NOERROR;TXT;hello_world", "0 TXT \"hello_world\""),
            ("NOERROR;TXT;hello; world", "0 TXT \"hello; world\""),
            (
                "NOERROR;SRV;10 60 8080 example.com",
                "0 SRV 10 60 8080 example.com.",
            ),
            (
                "NOERROR;HTTPS;32 example.com alpn=h3",
                "0 HTTPS 32 example.com. alpn=h3",
            ),
            (
                "NOERROR;SVCB;32 example.com alpn=h3",
                "0 SVCB 32 example.com. alpn=h3",
            ),
        ] {
            assert_eq!(shown(value), expected, "{value}");
        }
    }

    #[test]
    fn other_forms_are_refused() {
        for (value, expected) in [
            ("SERVFAIL", "RewriteCode"),
            ("SERVFAIL;;", "RewriteCode"),
            ("UNKNOWN", "DnsRewrite"),
            ("UNKNOWN;;", "DnsRewrite"),
            ("NOERROR;A", "DnsRewrite"),
            ("NOERROR;A;x", "DnsRewrite"),
            ("NOERROR;A;::1", "DnsRewrite"),
            ("NOERROR;AAAA;1.2.3.4", "DnsRewrite"),
            ("NOERROR;MX;example.mail", "DnsRewrite"),
            ("NOERROR;SRV;1 2 3", "DnsRewrite"),
            ("NOERROR;NS;example.com", "RewriteType"),
            ("NOERROR;;1.2.3.4", "RewriteType"),
            ("two words", "DnsRewrite"),
            ("*.example.com", "DnsRewrite"),
        ] {
            assert_eq!(shown(value), expected, "{value}");
        }
    }
}
