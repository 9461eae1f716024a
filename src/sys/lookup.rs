//! Calls functions that look up an entry in the databases of users and groups, with a buffer that is large enough.

use std::io;

/// The size of the first buffer: nearly all entries are shorter.
const FIRST: usize = 1 << 10;
/// The largest entry that is read; a group may have thousands of members.
const ENTRY_MAX: usize = 1 << 22;

/// Looks up an entry; `None` if there is no such entry. `call` returns what it has read from the entry, whose texts are in the
/// buffer, or the number of an error.
pub(super) fn look_up<T>(
    mut call: impl FnMut(&mut [libc::c_char]) -> Result<Option<T>, libc::c_int>,
) -> io::Result<Option<T>> {
    let mut buffer = vec![0; FIRST];
    loop {
        match call(&mut buffer) {
            Ok(found) => return Ok(found),
            Err(libc::EINTR) => {}
            Err(libc::ERANGE) if buffer.len() < ENTRY_MAX => buffer.resize(buffer.len() * 4, 0),
            // The manual page lists these for a name that is not found.
            Err(libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM) => return Ok(None),
            Err(error) => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_call_is_repeated_and_the_buffer_grows_until_the_entry_fits() {
        let mut calls = 0;
        let found = look_up(|buffer| {
            calls += 1;
            match (calls, buffer.len()) {
                (1 | 4, _) => Err(libc::EINTR),
                (_, ..100_000) => Err(libc::ERANGE),
                (_, size) => Ok(Some(size)),
            }
        });
        assert!(found.expect("looked up").expect("there") >= 100_000);
    }

    #[test]
    fn an_entry_that_is_too_large_is_an_error() {
        let mut largest = 0;
        let found: io::Result<Option<()>> = look_up(|buffer| {
            largest = buffer.len();
            assert!(largest <= ENTRY_MAX);
            Err(libc::ERANGE)
        });
        let error = found.expect_err("too large");
        assert_eq!(error.raw_os_error(), Some(libc::ERANGE));
        assert_eq!(largest, ENTRY_MAX);
    }

    #[test]
    fn an_entry_that_is_not_found_is_no_error() {
        let with = |error| look_up::<()>(|_| Err(error));
        for error in [libc::ENOENT, libc::ESRCH, libc::EBADF, libc::EPERM] {
            assert_eq!(with(error).expect("looked up"), None);
        }
        let error = with(libc::EIO).expect_err("an error");
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
        assert_eq!(look_up::<()>(|_| Ok(None)).expect("looked up"), None);
    }
}
