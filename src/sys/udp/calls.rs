//! recvmmsg(2) and sendmmsg(2), which receive and send many datagrams with one call.
#![expect(unsafe_code, reason = "neither std nor rustix has these calls")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

pub(super) type Message = libc::mmsghdr;

/// Receives datagrams that have arrived, at most one for each message. Never waits. Returns how many it received.
///
/// # Safety
/// Each message must describe live memory that nothing else uses.
pub(super) unsafe fn receive(
    socket: BorrowedFd<'_>,
    messages: &mut [Message],
) -> io::Result<usize> {
    // SAFETY: the pointer and the length are those of one slice. The caller guarantees that its elements point
    // at live memory. Without a timeout the last pointer may be null.
    let result = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            messages.as_mut_ptr(),
            messages.len() as libc::c_uint,
            libc::MSG_DONTWAIT as _,
            std::ptr::null_mut(),
        )
    };
    counted(result)
}

/// Sends the datagrams without waiting; returns how many were sent. An error means that the first datagram was not
/// sent.
///
/// # Safety
/// Each message must describe live memory.
pub(super) unsafe fn send(socket: BorrowedFd<'_>, messages: &mut [Message]) -> io::Result<usize> {
    // SAFETY: as above; the kernel writes to `msg_len` alone.
    let result = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            messages.as_mut_ptr(),
            messages.len() as libc::c_uint,
            libc::MSG_DONTWAIT as _,
        )
    };
    counted(result)
}

fn counted(result: libc::c_int) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
