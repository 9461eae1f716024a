//! Looks up the account of a user by name, with its groups, in the system's databases.
#![expect(
    unsafe_code,
    reason = "getpwnam_r and getgrouplist have no safe binding in std"
)]

use std::ffi::CString;
use std::io;

use super::lookup::look_up;

/// The most groups of a user that are read, as many as Linux permits.
const GROUPS_MAX: usize = 1 << 16;

/// A user of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// The user's number.
    pub user: u32,
    /// The number of the user's primary group.
    pub group: u32,
}

/// The account of the user with a name; `None` if there is no such user.
///
/// # Errors
/// If the system can't look the name up.
pub fn account(name: &str) -> io::Result<Option<Account>> {
    let name = CString::new(name)?;
    look_up(|buffer| {
        // SAFETY: a plain C struct, for which zeros are valid.
        let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: the name ends with a zero; the pointers and the size are those of values that outlive the call. `entry` points
        // into `buffer` afterwards, and only its numbers are read.
        let error = unsafe {
            libc::getpwnam_r(
                name.as_ptr(),
                &raw mut entry,
                buffer.as_mut_ptr(),
                buffer.len(),
                &raw mut found,
            )
        };
        match error {
            0 => Ok((!found.is_null()).then_some(Account {
                user: entry.pw_uid,
                group: entry.pw_gid,
            })),
            error => Err(error),
        }
    })
}

/// All groups of the user with a name: `group` and those that have the user as a member.
///
/// # Errors
/// If the name has a zero, or the user is in too many groups.
pub fn groups(name: &str, group: u32) -> io::Result<Vec<u32>> {
    let name = CString::new(name)?;
    let mut groups = vec![0; 64];
    loop {
        let mut count = libc::c_int::try_from(groups.len()).unwrap_or(libc::c_int::MAX);
        // SAFETY: the name ends with a zero, and `groups` has room for `count` numbers. The call writes at most as many.
        let result = unsafe {
            libc::getgrouplist(name.as_ptr(), group, groups.as_mut_ptr(), &raw mut count)
        };
        if result >= 0 {
            groups.truncate(usize::try_from(count).unwrap_or(0));
            return Ok(groups);
        }
        if groups.len() >= GROUPS_MAX {
            return Err(io::Error::other("too many groups"));
        }
        groups.resize(groups.len() * 4, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_an_account_and_its_own_group_and_a_missing_user_has_none() {
        let root = account("root").expect("looked up").expect("there");
        assert_eq!((root.user, root.group), (0, 0));
        let all = groups("root", 4242).expect("looked up");
        assert!(all.contains(&4242), "{all:?}");
        assert_eq!(account("no such user").expect("looked up"), None);
        account("a\0b").expect_err("no name");
        groups("a\0b", 0).expect_err("no name");
    }
}
