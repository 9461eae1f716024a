//! Reads upstream servers that are given by name in place of an address.

use std::net::{IpAddr, Ipv4Addr};

use super::address::{split, url};
use crate::names::typed;
use crate::wire::name::Name;

/// Stands for the address until it is known: an address of documentation (RFC 5737), so none of a server.
const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Reads the text of a server with a name in place of its address: `NAME`, `NAME:PORT`, `tls://NAME` and the like. Returns the
/// name, and the text with an address of documentation in its place. `None` if the text is something else. An encrypted
/// server must have that name in its certificate, unless another one follows behind a `#`.
pub(super) fn parse(text: &str) -> Option<(Name, String)> {
    let (start, rest) = match url(text) {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), text),
    };
    let (place, in_certificate) = match rest.split_once('#') {
        Some((place, name)) => (place, Some(name)),
        None => (rest, None),
    };
    let path_at = place.find('/').unwrap_or(place.len());
    let (place, path) = place.split_at(path_at);
    let (host, port) = split(place)?;
    let host = match typed::one(host) {
        Ok((host, None)) if is_host(&host) => host,
        _ => return None,
    };
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    let name = match in_certificate {
        Some(name) => format!("#{name}"),
        None if start.is_empty() => String::new(),
        None => format!("#{host}"),
    };
    let server = format!("{start}{UNKNOWN}{port}{path}{name}");
    Some((host, server))
}

/// Whether this is the name of a host, and neither a single label nor a mistyped address.
fn is_host(name: &Name) -> bool {
    let text = name.to_string();
    let Some((_, last)) = text.rsplit_once('.') else {
        return false;
    };
    name.is_plain() && last.contains(|c: char| c.is_ascii_alphabetic())
}
