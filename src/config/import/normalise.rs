//! Changes what other programs accept and this one does not, where the meaning is clear, and reports each change.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use toml_edit::Array;

use super::draft::Draft;

/// Why a file is not named in the result.
const NO_FILE: &str =
    "the file does not exist here, so it is not in the result: copy it, and import again";

/// Changes a draft that is complete.
pub(super) fn normalise(draft: &mut Draft) {
    order_ttls(draft);
    write_listen(draft);
    drop_missing_files(draft);
    drop_what_zones_cover(draft);
    let mut known = HashSet::new();
    draft.left.retain(|left| known.insert(left.clone()));
}

/// Lowers the shortest TTL of cached answers to the longest ones. Other programs have a shortest one for negative answers of
/// their own, or let one of the two count.
fn order_ttls(draft: &mut Draft) {
    let number = |draft: &Draft, key: &str| {
        let setting = draft.setting("cache", key)?;
        Some((setting.value.as_integer()?, setting.line.clone()))
    };
    for key in ["max-ttl-secs", "max-negative-ttl-secs"] {
        let Some((min, line)) = number(draft, "min-ttl-secs") else {
            return;
        };
        let max = number(draft, key).map(|(max, _)| max);
        if let Some(max) = max.filter(|max| *max < min) {
            let reason = format!("must be at most {key}, which is {max}: {max} is used");
            draft.leave(&line, format!("cache.min-ttl-secs = {min}"), reason);
            draft.set("cache", "min-ttl-secs", max, &line);
        }
    }
}

/// Writes the addresses to listen on, each once, without those that others include.
fn write_listen(draft: &mut Draft) {
    let all = std::mem::take(&mut draft.listen);
    let unspecified = all.iter().map(|(socket, _)| *socket);
    let unspecified: HashSet<_> = unspecified
        .filter(|socket| socket.ip().is_unspecified())
        .collect();
    let (mut kept, mut first, mut known) = (Array::new(), None, HashSet::new());
    for (socket, line) in &all {
        let any: IpAddr = match socket.ip() {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let any = SocketAddr::new(any, socket.port());
        if any != *socket && unspecified.contains(&any) {
            let reason = format!("{any} is listened on, which includes it");
            draft.leave(line, format!("listening on {socket}"), reason);
        } else if known.insert(*socket) {
            first.get_or_insert(line);
            kept.push(socket.to_string());
        }
    }
    if let Some(line) = first {
        draft.set("server", "listen", kept, line);
    }
}

/// Leaves out lists and zones whose files do not exist, with which the server would not start.
fn drop_missing_files(draft: &mut Draft) {
    let is_missing = |path: &str| !Path::new(path).is_absolute() || !Path::new(path).exists();
    let mut missing = Vec::new();
    draft.lists.retain(|list| {
        let path = list.keys.iter().find(|(key, _)| *key == "path");
        let path = path.and_then(|(_, value)| value.as_str());
        let own = |path: &str| draft.files.iter().any(|(name, _)| name == path);
        let path = path.filter(|path| !own(path) && is_missing(path));
        missing.extend(path.map(|path| (list.line.clone(), format!("list {path}"))));
        path.is_none()
    });
    draft.zones.retain(|(zone, path, line)| {
        let is_missing = is_missing(path);
        if is_missing {
            missing.push((line.clone(), format!("zone {zone} from {path}")));
        }
        !is_missing
    });
    for (line, setting) in missing {
        draft.leave(&line, setting, NO_FILE);
    }
}

/// Leaves out the zones, records and forwarded zones whose names a zone with a file answers: only its file counts.
fn drop_what_zones_cover(draft: &mut Draft) {
    let zones: HashSet<Vec<u8>> = draft
        .zones
        .iter()
        .map(|(zone, _, _)| zone.wire().to_vec())
        .collect();
    if zones.is_empty() {
        return;
    }
    let mut covered = Vec::new();
    let mut known = HashSet::new();
    draft.zones.retain(|(zone, _, line)| {
        let is_inner = (1..zone.label_count()).any(|labels| zones.contains(zone.ancestor(labels)));
        let is_kept = !is_inner && known.insert(zone.wire().to_vec());
        if !is_kept {
            covered.push((line.clone(), format!("zone {zone}")));
        }
        is_kept
    });
    draft.locals.retain(|local| {
        let labels = 1..=local.name.label_count();
        let is_inner = labels
            .into_iter()
            .any(|labels| zones.contains(local.name.ancestor(labels)));
        if is_inner {
            covered.push((local.line.clone(), format!("records of {}", local.name)));
        }
        !is_inner
    });
    draft.forwards.retain(|forward| {
        let is_same = zones.contains(forward.zone.wire());
        if is_same {
            covered.push((
                forward.line.clone(),
                format!("forwarding of {}", forward.zone),
            ));
        }
        !is_same
    });
    for (line, setting) in covered {
        let reason = "a zone that contains it is answered from its file, and only that counts: write it into the file";
        draft.leave(&line, setting, reason);
    }
}
