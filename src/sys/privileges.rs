//! Gives up the privileges of root.

use std::io;

use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, configure_capability_in_ambient_set,
    set_capabilities, set_keep_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use super::process::has_other_threads;

/// The only capability that is kept: ports below 1024.
const KEPT: CapabilitySet = CapabilitySet::NET_BIND_SERVICE;

/// Makes this process one of an ordinary user, without a way back. It keeps the capability to bind ports below 1024, if it has
/// it, and so do the programs that it starts; none of them can get others.
///
/// # Errors
/// If the system refuses a step: the process must end then, as some steps may have been taken. If the process has several
/// threads, as each has privileges of its own.
pub fn become_user(user: u32, group: u32, groups: &[u32]) -> io::Result<()> {
    if has_other_threads() {
        return Err(io::Error::other(
            "other threads would keep their privileges",
        ));
    }
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(group));
    let groups: Vec<_> = groups.iter().map(|group| Gid::from_raw(*group)).collect();
    let kept = capabilities(None)?.permitted & KEPT;
    set_keep_capabilities(true)?;
    set_thread_groups(&groups)?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: kept,
    };
    set_capabilities(None, sets)?;
    set_keep_capabilities(false)?;
    if !kept.is_empty() {
        configure_capability_in_ambient_set(KEPT, true)?;
    }
    Ok(set_no_new_privs(true)?)
}
