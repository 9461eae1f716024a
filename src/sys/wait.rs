//! Waits for sockets to become readable, with epoll(7), until a shutdown signal ends the wait.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::time::Timespec;

/// Ends the waits of all its [`ShutdownListener`]s when it is dropped.
#[derive(Debug)]
pub struct ShutdownSignal(
    #[expect(dead_code, reason = "its end of the pipe closes when it is dropped")] PipeWriter,
);

/// Becomes readable, and stays so, once its [`ShutdownSignal`] is dropped.
#[derive(Debug)]
pub struct ShutdownListener(PipeReader);

impl ShutdownListener {
    /// Another listener of the same signal, for another thread.
    ///
    /// # Errors
    /// When the process may open no more files.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }
}

impl AsFd for ShutdownListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A shutdown signal and its first listener.
///
/// # Errors
/// When the process may open no more files.
pub fn shutdown_signal() -> io::Result<(ShutdownSignal, ShutdownListener)> {
    let (reader, writer) = io::pipe()?;
    Ok((ShutdownSignal(writer), ShutdownListener(reader)))
}

/// Files to wait for, each with a token.
pub struct WaitSet {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl WaitSet {
    /// An empty set. One wait reports at most `most` of its files.
    ///
    /// # Errors
    /// When the process may open no more files.
    pub fn new(most: usize) -> io::Result<Self> {
        let none = Event {
            flags: EventFlags::empty(),
            data: EventData::new_u64(0),
        };
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            events: vec![none; most.max(1)],
        })
    }

    /// Adds `file`: waits end when it can be read or has an error. Closing the file removes it.
    ///
    /// # Errors
    /// When the system has no room for it.
    pub fn add(&mut self, file: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        let token = EventData::new_u64(token);
        Ok(epoll::add(&self.epoll, file, token, EventFlags::IN)?)
    }

    /// Does nothing: closing the file removes it.
    pub fn remove(&mut self, _file: BorrowedFd<'_>) {}

    /// Waits until a file is ready or `timeout`, rounded up to whole milliseconds, has passed; then calls
    /// `each` with the token of each ready file. Without a timeout, waits for as long as it takes.
    ///
    /// # Errors
    /// As epoll_wait(2). An interruption by a signal is not an error.
    pub fn wait(&mut self, timeout: Option<Duration>, mut each: impl FnMut(u64)) -> io::Result<()> {
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let ready = match epoll::wait(&self.epoll, &mut self.events[..], timeout.as_ref()) {
            Err(Errno::INTR) => 0,
            ready => ready?,
        };
        for event in &self.events[..ready] {
            each(event.data.u64());
        }
        Ok(())
    }
}

/// Whether a file has something to read now. If the system can't say, it has not.
pub fn is_readable(file: impl AsFd) -> bool {
    let mut polled = [PollFd::new(&file, PollFlags::IN)];
    poll(&mut polled, Some(&Timespec::default())).is_ok()
        && polled[0].revents().contains(PollFlags::IN)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_datagram_the_signal_and_the_timeout_end_the_wait() {
        let (signal, listener) = shutdown_signal().expect("a pipe");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let quiet = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let mut set = WaitSet::new(8).expect("a set");
        for (file, token) in [
            (listener.as_fd(), 0),
            (quiet.as_fd(), 1),
            (socket.as_fd(), 2),
        ] {
            set.add(file, token).expect("added");
        }
        let to = socket.local_addr().expect("bound");
        quiet.send_to(b"x", to).expect("sent");
        let mut ready = Vec::new();
        set.wait(None, |token| ready.push(token)).expect("waited");
        assert_eq!(ready, [2]);
        socket.recv(&mut [0; 4]).expect("received");
        let short = Some(Duration::from_micros(1));
        set.wait(short, |token| ready.push(token)).expect("waited");
        assert_eq!(ready, [2], "nothing more");
        drop(signal);
        set.wait(None, |token| ready.push(token)).expect("waited");
        assert_eq!(ready, [2, 0], "the signal came");
    }

    #[test]
    fn a_file_that_is_closed_is_not_waited_for() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let to = socket.local_addr().expect("bound");
        let mut set = WaitSet::new(8).expect("a set");
        set.add(socket.as_fd(), 7).expect("added");
        let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        sender.send_to(b"x", to).expect("sent");
        drop(socket);
        set.wait(Some(Duration::ZERO), |_| panic!("nothing is ready"))
            .expect("waited");
    }
}
