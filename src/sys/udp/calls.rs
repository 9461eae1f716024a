//! Owns the two system calls that take and give many datagrams, and the plain ones in their place.
//! Refuses to know what is in them.
#![expect(unsafe_code, reason = "std has neither of the calls")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

pub(super) use kind::{Message, give, take};

/// A result of a call: how many there were.
fn counted(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// recvmmsg(2) and sendmmsg(2).
#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod kind {
    use super::*;

    pub(in super::super) type Message = libc::mmsghdr;

    /// Takes datagrams into `messages`, as many as there are and fit; never waits.
    ///
    /// # Safety
    /// Each message must describe live memory that nobody else uses.
    pub(in super::super) unsafe fn take(
        socket: BorrowedFd<'_>,
        messages: &mut [Message],
    ) -> io::Result<usize> {
        // SAFETY: the pointer and the length are those of one slice; what its elements point at is
        // the caller's promise. Without a timeout the last pointer may be null.
        let result = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                messages.len() as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        counted(result as libc::ssize_t)
    }

    /// Gives the datagrams away; returns how many. An error is the first one's.
    ///
    /// # Safety
    /// Each message must describe live memory.
    pub(in super::super) unsafe fn give(
        socket: BorrowedFd<'_>,
        messages: &mut [Message],
    ) -> io::Result<usize> {
        // SAFETY: as above; the kernel writes to `msg_len` alone.
        let result = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                messages.len() as libc::c_uint,
                libc::MSG_DONTWAIT as _,
            )
        };
        counted(result as libc::ssize_t)
    }
}

/// recvmsg(2) and sendmsg(2), one datagram a call.
#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
mod kind {
    use super::*;

    #[repr(C)]
    pub(in super::super) struct Message {
        pub(in super::super) msg_hdr: libc::msghdr,
        pub(in super::super) msg_len: libc::c_uint,
    }

    /// Takes datagrams into `messages`, as many as there are and fit; never waits.
    ///
    /// # Safety
    /// Each message must describe live memory that nobody else uses.
    pub(in super::super) unsafe fn take(
        socket: BorrowedFd<'_>,
        messages: &mut [Message],
    ) -> io::Result<usize> {
        each(messages, |message| {
            // SAFETY: the caller promises what the message points at.
            unsafe {
                libc::recvmsg(
                    socket.as_raw_fd(),
                    &raw mut message.msg_hdr,
                    libc::MSG_DONTWAIT,
                )
            }
        })
    }

    /// Gives the datagrams away; returns how many. An error is the first one's.
    ///
    /// # Safety
    /// Each message must describe live memory.
    pub(in super::super) unsafe fn give(
        socket: BorrowedFd<'_>,
        messages: &mut [Message],
    ) -> io::Result<usize> {
        each(messages, |message| {
            // SAFETY: the caller promises what the message points at.
            unsafe {
                libc::sendmsg(
                    socket.as_raw_fd(),
                    &raw const message.msg_hdr,
                    libc::MSG_DONTWAIT,
                )
            }
        })
    }

    /// Calls for each message until one fails; the error counts only if it is the first one's.
    fn each(
        messages: &mut [Message],
        mut call: impl FnMut(&mut Message) -> libc::ssize_t,
    ) -> io::Result<usize> {
        let mut done = 0;
        for message in messages {
            match counted(call(message)) {
                Ok(len) => message.msg_len = len as libc::c_uint,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
            done += 1;
        }
        Ok(done)
    }
}
