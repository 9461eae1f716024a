//! Looks up groups by name and users by number in the system's databases.
#![expect(
    unsafe_code,
    reason = "getgrnam_r and getpwuid_r have no safe binding in std"
)]

use std::ffi::{CStr, CString};
use std::io;

use super::lookup::look_up;

/// The number of a group; `None` if there is no such group.
///
/// # Errors
/// If the system can't look the name up.
pub fn group_id(name: &str) -> io::Result<Option<u32>> {
    let name = CString::new(name)?;
    look_up(|buffer| {
        // SAFETY: a plain C struct, for which zeros are valid.
        let mut entry: libc::group = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: the name ends with a zero; the pointers and the size are those of values that outlive the
        // call. `entry` points into `buffer` afterwards, and only its number is read.
        let error = unsafe {
            libc::getgrnam_r(
                name.as_ptr(),
                &raw mut entry,
                buffer.as_mut_ptr(),
                buffer.len(),
                &raw mut found,
            )
        };
        match error {
            0 => Ok((!found.is_null()).then_some(entry.gr_gid)),
            error => Err(error),
        }
    })
}

/// The name of a user; `None` if the system has none for it, or can't look it up.
pub fn user_name(user: u32) -> Option<String> {
    let found = look_up(|buffer| {
        // SAFETY: a plain C struct, for which zeros are valid.
        let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: the pointers and the size are those of values that outlive the call.
        let error = unsafe {
            libc::getpwuid_r(
                user,
                &raw mut entry,
                buffer.as_mut_ptr(),
                buffer.len(),
                &raw mut found,
            )
        };
        match error {
            0 if found.is_null() => Ok(None),
            // SAFETY: the entry was found, so this is a string in `buffer` that ends with a zero.
            0 => Ok(Some(unsafe { CStr::from_ptr(entry.pw_name) }.to_owned())),
            error => Err(error),
        }
    });
    found.ok()??.into_string().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_root_has_a_name_and_a_missing_user_has_none() {
        assert_eq!(user_name(0).as_deref(), Some("root"));
        assert_eq!(user_name(424_242), None);
    }

    #[test]
    fn the_group_of_root_is_found_and_a_missing_group_is_not() {
        let root = ["root", "wheel"].map(|name| group_id(name).expect("looked up"));
        assert!(root.contains(&Some(0)), "{root:?}");
        assert_eq!(group_id("no such group").expect("looked up"), None);
        group_id("a\0b").expect_err("no name");
    }
}
