//! Owns waiting for sockets, and the bell that ends the wait.
//! Refuses to read what has come.
#![expect(
    unsafe_code,
    reason = "epoll(7) and poll(2) have no safe binding in std"
)]

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

pub use kind::WaitSet;

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

impl AsFd for Ear {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
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

/// Whole milliseconds, rounded up, as the calls take them; -1 is without end.
fn milliseconds(patience: Option<Duration>) -> libc::c_int {
    patience.map_or(-1, |patience| {
        libc::c_int::try_from(patience.as_nanos().div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX)
    })
}

/// What an interrupted wait comes to: nothing is ready.
fn ready(result: libc::c_int) -> io::Result<usize> {
    usize::try_from(result).or_else(|_| {
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::Interrupted => Ok(0),
            _ => Err(error),
        }
    })
}

#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod kind {
    use std::os::fd::{FromRawFd, OwnedFd};

    use super::*;

    /// Files to wait for, each with a token. A file that is closed is forgotten by itself.
    #[derive(Debug)]
    pub struct WaitSet {
        epoll: OwnedFd,
        events: Vec<libc::epoll_event>,
    }

    impl WaitSet {
        /// An empty set, of which one wait tells at most `most` files.
        ///
        /// # Errors
        /// When the process may open no more files.
        pub fn new(most: usize) -> io::Result<Self> {
            // SAFETY: the call takes no pointer.
            let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
            if epoll < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self {
                // SAFETY: the descriptor is new, so nobody else owns it.
                epoll: unsafe { OwnedFd::from_raw_fd(epoll) },
                events: vec![libc::epoll_event { events: 0, u64: 0 }; most.max(1)],
            })
        }

        /// Waits for `file`, too: until it can be read, or has an error.
        ///
        /// # Errors
        /// When the system has no room for it.
        pub fn add(&mut self, file: BorrowedFd<'_>, token: u64) -> io::Result<()> {
            let mut event = libc::epoll_event {
                events: libc::EPOLLIN as u32,
                u64: token,
            };
            // SAFETY: the pointer is that of `event`, which outlives the call.
            let result = unsafe {
                libc::epoll_ctl(
                    self.epoll.as_raw_fd(),
                    libc::EPOLL_CTL_ADD,
                    file.as_raw_fd(),
                    &raw mut event,
                )
            };
            ready(result).map(drop)
        }

        /// Nothing: closing the file is enough.
        pub fn remove(&mut self, _file: BorrowedFd<'_>) {}

        /// Waits until something is ready or `patience` is over; then `each` gets the tokens.
        ///
        /// # Errors
        /// What epoll_wait(2) says; an interruption by a signal is not an error.
        pub fn wait(
            &mut self,
            patience: Option<Duration>,
            mut each: impl FnMut(u64),
        ) -> io::Result<()> {
            // SAFETY: the pointer and the length are those of one vector that is borrowed
            // exclusively for the call; the kernel writes within it only.
            let result = unsafe {
                libc::epoll_wait(
                    self.epoll.as_raw_fd(),
                    self.events.as_mut_ptr(),
                    self.events.len() as libc::c_int,
                    milliseconds(patience),
                )
            };
            for event in &self.events[..ready(result)?] {
                each(event.u64);
            }
            Ok(())
        }
    }
}

#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
mod kind {
    use super::*;

    /// Files to wait for, each with a token.
    #[derive(Debug)]
    pub struct WaitSet {
        polls: Vec<libc::pollfd>,
        tokens: Vec<u64>,
    }

    impl WaitSet {
        /// An empty set.
        ///
        /// # Errors
        /// None.
        pub fn new(_most: usize) -> io::Result<Self> {
            Ok(Self {
                polls: Vec::new(),
                tokens: Vec::new(),
            })
        }

        /// Waits for `file`, too: until it can be read, or has an error.
        ///
        /// # Errors
        /// None.
        pub fn add(&mut self, file: BorrowedFd<'_>, token: u64) -> io::Result<()> {
            self.polls.push(libc::pollfd {
                fd: file.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            });
            self.tokens.push(token);
            Ok(())
        }

        /// Forgets `file`. Must be called before it is closed.
        pub fn remove(&mut self, file: BorrowedFd<'_>) {
            let fd = file.as_raw_fd();
            if let Some(at) = self.polls.iter().position(|poll| poll.fd == fd) {
                self.polls.swap_remove(at);
                self.tokens.swap_remove(at);
            }
        }

        /// Waits until something is ready or `patience` is over; then `each` gets the tokens.
        ///
        /// # Errors
        /// What poll(2) says; an interruption by a signal is not an error.
        pub fn wait(
            &mut self,
            patience: Option<Duration>,
            mut each: impl FnMut(u64),
        ) -> io::Result<()> {
            // SAFETY: the pointer and the length are those of one vector that is borrowed
            // exclusively for the call; poll writes within it only.
            let result = unsafe {
                libc::poll(
                    self.polls.as_mut_ptr(),
                    self.polls.len() as libc::nfds_t,
                    milliseconds(patience),
                )
            };
            if ready(result)? > 0 {
                let all = self.polls.iter().zip(&self.tokens);
                for (_, token) in all.filter(|(poll, _)| poll.revents != 0) {
                    each(*token);
                }
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_datagram_the_bell_and_impatience_end_the_wait() {
        let (bell, ear) = bell().expect("a pipe");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let quiet = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let mut set = WaitSet::new(8).expect("a set");
        for (file, token) in [(ear.as_fd(), 0), (quiet.as_fd(), 1), (socket.as_fd(), 2)] {
            set.add(file, token).expect("added");
        }
        let to = socket.local_addr().expect("bound");
        quiet.send_to(b"x", to).expect("sent");
        let mut heard = Vec::new();
        set.wait(None, |token| heard.push(token)).expect("waited");
        assert_eq!(heard, [2]);
        socket.recv(&mut [0; 4]).expect("received");
        let millisecond = Some(Duration::from_micros(1));
        set.wait(millisecond, |token| heard.push(token))
            .expect("waited");
        assert_eq!(heard, [2], "nothing more");
        drop(bell);
        set.wait(None, |token| heard.push(token)).expect("waited");
        assert_eq!(heard, [2, 0], "the bell rang");
    }

    #[test]
    fn a_file_that_is_removed_and_closed_is_not_waited_for() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let to = socket.local_addr().expect("bound");
        let mut set = WaitSet::new(8).expect("a set");
        set.add(socket.as_fd(), 7).expect("added");
        let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        sender.send_to(b"x", to).expect("sent");
        set.remove(socket.as_fd());
        drop(socket);
        set.wait(Some(Duration::ZERO), |_| panic!("nothing is ready"))
            .expect("waited");
    }
}
