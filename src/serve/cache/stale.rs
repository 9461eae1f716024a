//! Finds the stale answer that may be used: the newest one for the name and type. There is none if the newest can't be
//! used, or if an NXDOMAIN that was received later denies one of its names (RFC 8767, section 4).

use std::sync::Arc;

use super::entry::{CD, DO, Denial, DenialRef, Entry, KeyRef};
use crate::wire::name::Name;

/// The maximum number of names that are looked up for one answer: each name of its chain, and each ancestor of those
/// names. Without this limit, the owner of a zone could make a lookup cost thousands of probes.
const MAX_NAMES: usize = 256;

/// Lookups that do not count as a use.
pub(super) struct Peek<A, D> {
    /// The answer with a key, from the pool that is asked for its name.
    pub(super) answer: A,
    pub(super) denial: D,
}

/// The answer to use for `entry`, which is past its TTL: `entry` itself, or newer data that replaced it. `None` if the
/// newer data can't be used, or if a newer NXDOMAIN denies a name of the answer.
///
/// Of two answers of the same second neither is known to be newer, so both may be used.
pub(super) fn find<E>(
    key: KeyRef<'_>,
    entry: Arc<Entry>,
    now: u32,
    stale_secs: u32,
    peek: &Peek<
        impl Fn(&KeyRef<'_>) -> Result<Option<Arc<Entry>>, E>,
        impl Fn(&DenialRef<'_>) -> Result<Option<Denial>, E>,
    >,
) -> Result<Option<Arc<Entry>>, E> {
    let (bits, newest) = newest(key, &entry, &peek.answer)?;
    // A newer answer with the same content confirms this one, which then counts as equally new.
    let since = newest.stored;
    let entry = if newest.answer.agrees_with(&entry.answer) {
        entry
    } else if newest.may_be_stale(now, stale_secs) && replaces(bits, &newest, key.bits, &entry) {
        newest
    } else {
        return Ok(None);
    };
    Ok((!is_denied(key, &entry, since, peek)?).then_some(entry))
}

/// The newest answer for the same name and type, whatever its DO and CD bits, together with those bits. Unvalidated
/// answers (CD=1) are considered only for queries with CD=1.
fn newest<E>(
    key: KeyRef<'_>,
    entry: &Arc<Entry>,
    peek: &impl Fn(&KeyRef<'_>) -> Result<Option<Arc<Entry>>, E>,
) -> Result<(u8, Arc<Entry>), E> {
    let mut newest = (key.bits, Arc::clone(entry));
    for other in key.variants() {
        if (other.bits & CD) & !key.bits != 0 || other.bits == key.bits {
            continue;
        }
        if let Some(found) = peek(&other)?
            && found.stored > newest.1.stored
        {
            newest = (other.bits, found);
        }
    }
    Ok(newest)
}

/// Whether an answer with other bits can replace an older answer. If its DO bit differs, the newer answer may have
/// signatures that were not requested, or lack signatures that validators need.
fn replaces(new_bits: u8, new: &Entry, old_bits: u8, old: &Entry) -> bool {
    (new_bits ^ old_bits) & DO == 0 || !(new.answer.has_dnssec() || old.answer.has_dnssec())
}

/// Whether an NXDOMAIN after `since` denies a name of the answer's chain, or an ancestor of one (RFC 8020). It only counts if
/// it is from the same pool: the servers of a forwarded zone decide which of its names exist, not those of the zones above,
/// and those of the parent zone decide about its DS record. Therefore a name of which another pool is asked is not checked.
fn is_denied<E>(
    key: KeyRef<'_>,
    entry: &Entry,
    since: u32,
    peek: &Peek<impl Sized, impl Fn(&DenialRef<'_>) -> Result<Option<Denial>, E>>,
) -> Result<bool, E> {
    if entry.is_denial() {
        return Ok(false);
    }
    let asked = std::iter::once_with(|| Name::parse(key.name, 0).ok());
    let asked = asked.flatten().map(|(name, _)| name);
    let checked: &[bool] = match key.bits & CD == 0 {
        true => &[false],
        false => &[false, true],
    };
    let mut names = 0;
    for name in asked.chain(entry.own_names()) {
        names += name.label_count();
        if names > MAX_NAMES {
            return Ok(true);
        }
        for labels in (1..=name.label_count()).rev() {
            for &is_unchecked in checked {
                let denial = DenialRef {
                    name: name.ancestor(labels),
                    is_unchecked,
                    pool: entry.pool,
                };
                if (peek.denial)(&denial)?.is_some_and(|denial| denial.stored > since) {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}
