//! Encrypted servers in the notations of other programs.

use std::net::IpAddr;

use super::super::named;
use super::super::upstream::UpstreamServer;

/// Why an encrypted server does not carry over of which the program's configuration does not say enough.
pub(super) const ENCRYPTED: &str = "how this encrypted server is found and verified does not carry over: write it into [upstream] \
                                    servers, as in \"tls://192.0.2.55#dns.example\"";
/// Why servers that are named do not carry over.
pub(super) const NAMED: &str = "the address of this name is not known: write it into [upstream] servers, or the name with the \
                                addresses of servers that find it in `bootstrap`";
/// Why servers of Unbound without a name do not carry over.
const UNVERIFIED: &str = "Unbound does not verify this server, because it has no name: write it into [upstream] servers with the name \
                          in its certificate, as in \"tls://192.0.2.55#dns.example\"";

/// The schemes of other programs, and of this one. Those of blocky need no slashes behind the colon.
const SCHEMES: &[(&str, &str)] = &[
    ("tcp-tls:", "tls"),
    ("tls:", "tls"),
    ("https:", "https"),
    ("h3:", "h3"),
    ("quic:", "quic"),
];

/// An encrypted server, as this server's configuration writes it; `None` if the text is something else.
///
/// # Errors
/// Why it does not carry over.
pub(super) fn encrypted(text: &str) -> Option<Result<String, String>> {
    if text.starts_with("sdns:") {
        return Some(Err(ENCRYPTED.to_owned()));
    }
    let written = written(text)?;
    if written.parse::<UpstreamServer>().is_ok() {
        return Some(Ok(written));
    }
    let reason = match named::parse(&written) {
        Some(_) => NAMED,
        None => ENCRYPTED,
    };
    Some(Err(reason.to_owned()))
}

/// The text of an encrypted server that is given by its name, as this server's configuration writes it.
pub(super) fn named_server(text: &str) -> Option<String> {
    written(text).filter(|written| named::parse(written).is_some())
}

/// The URL of an encrypted server.
fn written(text: &str) -> Option<String> {
    let (scheme, rest) = SCHEMES
        .iter()
        .find_map(|(prefix, scheme)| Some((*scheme, text.strip_prefix(prefix)?)))?;
    let rest = rest.trim_start_matches('/');
    // A name and a password do not carry over, so the server would refuse its queries.
    let is_plain = !rest.contains('@');
    is_plain.then(|| format!("{scheme}://{rest}"))
}

/// A server of Unbound that is asked over TLS: `ADDRESS[@PORT][#NAME]`.
///
/// # Errors
/// Why it does not carry over.
pub(super) fn of_unbound(text: &str) -> Result<String, String> {
    let (place, name) = text.split_once('#').ok_or(UNVERIFIED)?;
    let (host, port) = match place.split_once('@') {
        Some((host, port)) => (host, format!(":{port}")),
        None => (place, String::new()),
    };
    let host = match host.parse() {
        Ok(IpAddr::V6(_)) => format!("[{host}]"),
        _ => host.to_owned(),
    };
    let written = format!("tls://{host}{port}#{name}");
    match written.parse::<UpstreamServer>() {
        Ok(_) => Ok(written),
        Err(_) => Err(ENCRYPTED.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encrypted_servers_are_read_in_the_notations_of_all_programs() {
        for (text, expected) in [
            ("tls://1.1.1.1", "tls://1.1.1.1"),
            ("tls://1.1.1.1:8853", "tls://1.1.1.1:8853"),
            ("tcp-tls:1.1.1.1:853", "tls://1.1.1.1:853"),
            (
                "tcp-tls:1.1.1.1#one.one.one.one",
                "tls://1.1.1.1#one.one.one.one",
            ),
            (
                "https://[2620:fe::fe]/dns-query",
                "https://[2620:fe::fe]/dns-query",
            ),
            ("https:9.9.9.9/x", "https://9.9.9.9/x"),
            ("quic://94.140.14.14", "quic://94.140.14.14"),
            ("quic:94.140.14.14:784", "quic://94.140.14.14:784"),
            ("h3://94.140.14.14/dns-query", "h3://94.140.14.14/dns-query"),
        ] {
            assert_eq!(encrypted(text), Some(Ok(expected.to_owned())), "{text}");
        }
        for (text, reason) in [
            ("sdns://AQ", ENCRYPTED),
            ("tls://1.1.1.1:x", ENCRYPTED),
            ("tls://dns.example", NAMED),
            ("https:dns.example/dns-query", NAMED),
        ] {
            assert_eq!(encrypted(text), Some(Err(reason.to_owned())), "{text}");
        }
        assert_eq!(encrypted("9.9.9.9"), None);
        assert_eq!(encrypted("udp://9.9.9.9"), None);
    }

    #[test]
    fn servers_of_unbound_need_the_name_by_which_it_verifies_them() {
        for (text, expected) in [
            (
                "1.1.1.1@853#one.example",
                Ok("tls://1.1.1.1:853#one.example"),
            ),
            ("1.1.1.1#one.example", Ok("tls://1.1.1.1#one.example")),
            (
                "2620:fe::fe@853#dns.example",
                Ok("tls://[2620:fe::fe]:853#dns.example"),
            ),
            ("1.1.1.1@853", Err(UNVERIFIED)),
            ("1.1.1.1@x#dns.example", Err(ENCRYPTED)),
        ] {
            let found = of_unbound(text);
            assert_eq!(found.as_deref().map_err(|why| &**why), expected, "{text}");
        }
    }
}
