//! Owns waiting for sockets, and the bell that ends the wait.
//! Refuses to read what has come.
#![expect(unsafe_code, reason = "poll(2) has no safe binding in std")]

use std::io::{self, PipeReader, PipeWriter};
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Rings once, when it is dropped: whoever waits with its [`Ear`] is told to stop.
#[derive(Debug)]
pub struct Bell(
    #[expect(dead_code, reason = "its end of the pipe closes when it is dropped")] PipeWriter,
);

/// Hears a [`Bell`].
#[derive(Debug)]
pub struct Ear(PipeReader);

impl Ear {
    /// The same ear for another thread.
    ///
    /// # Errors
    /// When the process may open no more files.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }
}

/// A bell and its ear.
///
/// # Errors
/// When the process may open no more files.
pub fn bell() -> io::Result<(Bell, Ear)> {
    let (reader, writer) = io::pipe()?;
    Ok((Bell(writer), Ear(reader)))
}

/// A set of sockets to wait for. It borrows them, so they stay open for as long as it is used.
#[derive(Debug)]
pub struct WaitSet<'f> {
    polls: Vec<libc::pollfd>,
    borrowed: PhantomData<BorrowedFd<'f>>,
}

impl<'f> WaitSet<'f> {
    /// Waits for these sockets, and for the ear's bell.
    pub fn new(ear: &'f Ear, sockets: impl IntoIterator<Item = BorrowedFd<'f>>) -> Self {
        let poll = |fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        let sockets = sockets.into_iter().map(|fd| fd.as_raw_fd());
        let all = std::iter::once(ear.0.as_raw_fd()).chain(sockets);
        Self {
            polls: all.map(poll).collect(),
            borrowed: PhantomData,
        }
    }

    /// Blocks until a socket can be read or the bell rings. Returns whether to go on.
    ///
    /// # Errors
    /// What poll(2) says; an interruption by a signal is not an error.
    pub fn wait(&mut self) -> io::Result<bool> {
        loop {
            let count = self.polls.len() as libc::nfds_t;
            // SAFETY: the pointer and the count are those of one vector that is borrowed
            // exclusively for the call; poll writes within it only. The descriptors are borrowed
            // for 'f, so none of them is another file's by now.
            let ready = unsafe { libc::poll(self.polls.as_mut_ptr(), count, -1) };
            if ready >= 0 {
                return Ok(self.polls[0].revents == 0);
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    /// Whether the socket with this index had something to read at the last wait.
    pub fn is_ready(&self, index: usize) -> bool {
        self.polls[index + 1].revents != 0
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_datagram_and_the_bell_end_the_wait() {
        let (bell, ear) = bell().expect("a pipe");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let quiet = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let mut set = WaitSet::new(&ear, [quiet.as_fd(), socket.as_fd()]);
        let to = socket.local_addr().expect("bound");
        quiet.send_to(b"x", to).expect("sent");
        assert!(set.wait().expect("polled"));
        assert!(!set.is_ready(0) && set.is_ready(1));
        drop(bell);
        assert!(!set.wait().expect("polled"), "the bell rang");
    }
}
