//! dnsmasq's options for records.

use std::net::IpAddr;

use super::draft::{Draft, SourceLine};

/// Adds the record of an option. `false` if the option is another one.
pub(super) fn option(
    (option, value): (&str, &str),
    ttl_secs: Option<u32>,
    line: &SourceLine,
    draft: &mut Draft,
) -> bool {
    let parts: Vec<_> = value.split(',').map(str::trim).collect();
    let is_known = match option {
        "host-record" => host(&parts, ttl_secs, line, draft),
        "cname" => cname(&parts, ttl_secs, line, draft),
        "ptr-record" => pointer(&parts, ttl_secs, line, draft),
        "txt-record" => text(&parts, ttl_secs, line, draft),
        "mx-host" => exchange(&parts, ttl_secs, line, draft),
        "srv-host" => service(&parts, ttl_secs, line, draft),
        _ => return false,
    };
    if is_known.is_none() {
        draft.leave(
            line,
            format!("{option}={value}"),
            "is not complete, or has a form without a counterpart",
        );
    }
    true
}

/// `name[,name...],[IPv4],[IPv6][,TTL]`
fn host(parts: &[&str], ttl_secs: Option<u32>, line: &SourceLine, draft: &mut Draft) -> Option<()> {
    let is_name = |part: &&&str| part.parse::<IpAddr>().is_err() && part.parse::<u32>().is_err();
    let names: Vec<_> = parts.iter().filter(is_name).collect();
    let addresses: Vec<IpAddr> = parts.iter().filter_map(|part| part.parse().ok()).collect();
    let ttl_secs = parts.last()?.parse().ok().or(ttl_secs);
    let first = names.first()?;
    if addresses.is_empty() {
        return None;
    }
    for address in addresses {
        draft.pointer(address, first, ttl_secs, line);
        for name in &names {
            draft.address(name, address, ttl_secs, line);
        }
    }
    Some(())
}

/// `alias[,alias...],target[,TTL]`
fn cname(
    parts: &[&str],
    ttl_secs: Option<u32>,
    line: &SourceLine,
    draft: &mut Draft,
) -> Option<()> {
    let (last, before) = parts.split_last()?;
    let (names, ttl_secs) = match last.parse::<u32>() {
        Ok(secs) => (before, Some(secs)),
        Err(_) => (parts, ttl_secs),
    };
    let (target, aliases) = names
        .split_last()
        .filter(|(_, aliases)| !aliases.is_empty())?;
    for alias in aliases {
        draft.record(alias, "cname", *target, ttl_secs, line);
    }
    Some(())
}

/// `name,target`
fn pointer(
    parts: &[&str],
    ttl_secs: Option<u32>,
    line: &SourceLine,
    draft: &mut Draft,
) -> Option<()> {
    let [name, target] = parts else {
        return None;
    };
    draft.record(name, "ptr", *target, ttl_secs, line);
    Some(())
}

/// `name,text`. Several strings of one record have no counterpart.
fn text(parts: &[&str], ttl_secs: Option<u32>, line: &SourceLine, draft: &mut Draft) -> Option<()> {
    let [name, text] = parts else {
        return None;
    };
    draft.record(name, "txt", text.trim_matches('"'), ttl_secs, line);
    Some(())
}

/// `name,host[,preference]`
fn exchange(
    parts: &[&str],
    ttl_secs: Option<u32>,
    line: &SourceLine,
    draft: &mut Draft,
) -> Option<()> {
    let (name, host, preference) = match parts {
        [name, host] => (name, host, 1),
        [name, host, preference] => (name, host, preference.parse::<u16>().ok()?),
        _ => return None,
    };
    draft.record(name, "mx", format!("{preference} {host}."), ttl_secs, line);
    Some(())
}

/// `_service._protocol[.domain],target,port[,priority[,weight]]`
fn service(
    parts: &[&str],
    ttl_secs: Option<u32>,
    line: &SourceLine,
    draft: &mut Draft,
) -> Option<()> {
    let number = |at: usize| {
        parts
            .get(at)
            .map_or(Some(0), |part| part.parse::<u16>().ok())
    };
    let [name, target, ..] = parts else {
        return None;
    };
    let port = if parts.len() > 2 { number(2)? } else { 1 };
    let (priority, weight) = (number(3)?, number(4)?);
    let value = format!("{priority} {weight} {port} {target}.");
    draft.record(name, "srv", value, ttl_secs, line);
    Some(())
}
