//! The connection to a dnstap receiver. Nothing here waits, except for the end of the stream.
//!
//! ```text
//!   +--> waiting --> connecting --> READY sent --> streaming --+
//!   |       ^            |              |             |        |
//!   |       +------------+--------------+-------------+        | finish
//!   |         error, with a longer pause each time             v
//!   +---------------------------------------------------- STOP, FINISH
//! ```

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use super::frames::{Control, control, take_control};
use crate::config::dnstap::Receiver;
use crate::recorder::overflow::{Overflow, Turn};

/// The bytes that wait for the receiver. What does not fit is lost.
const QUEUE: usize = 4 << 20;
/// The pause after the first failure; it is doubled after each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long the receiver may take to connect and to accept the stream.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// A problem is over once a stream has lasted for this long: some receivers accept each stream, and end it at once.
const STEADY: Duration = Duration::from_secs(2);
/// How long the receiver may take to read the rest and to confirm the end.
const FINISH: Duration = Duration::from_millis(500);

/// The counts since they were last taken.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) sent: u64,
    pub(super) lost: u64,
    pub(super) errors: u64,
}

/// The connection.
pub(super) struct Connection {
    receiver: Receiver,
    state: State,
    pause: Duration,
    /// Bytes to send, and the sizes of the records among them.
    queue: VecDeque<u8>,
    records: VecDeque<usize>,
    /// The bytes of the first record that are sent already.
    sent: usize,
    progress: Progress,
    problem: Option<String>,
    /// Queries lost since the problem began.
    lost: u64,
    /// Those lost because the receiver reads too slowly.
    overflow: Overflow,
}

enum State {
    Waiting {
        until: Option<Instant>,
    },
    Handshake {
        socket: Socket,
        since: Instant,
        is_ready_sent: bool,
        received: Vec<u8>,
    },
    Streaming {
        socket: Socket,
        since: Instant,
    },
}

impl Connection {
    pub(super) fn new(receiver: Receiver) -> Self {
        Self {
            receiver,
            state: State::Waiting { until: None },
            pause: FIRST_PAUSE,
            queue: VecDeque::new(),
            records: VecDeque::new(),
            sent: 0,
            progress: Progress::default(),
            problem: None,
            lost: 0,
            overflow: Overflow::default(),
        }
    }

    /// Queues the frames of a record. Returns false if there is no room for them.
    pub(super) fn queue(&mut self, frames: &[u8]) -> bool {
        let is_down = self.problem.is_some() && matches!(self.state, State::Waiting { .. });
        if is_down {
            self.lost += 1;
            return false;
        }
        if self.queue.len() + frames.len() > QUEUE {
            self.overflow.add(1);
            return false;
        }
        self.queue.extend(frames);
        self.records.push_back(frames.len());
        true
    }

    /// The problem with it, a sentence.
    pub(super) fn problem(&self) -> Option<String> {
        let receiver = &self.receiver;
        let absent = self.problem.as_ref().map(|why| {
            let lost = self.lost;
            format!(
                "dnstap: no stream to {receiver}: {why}; {lost} queries are lost so far, and queries are answered \
                 nevertheless: start the receiver, or change [dnstap]"
            )
        });
        let slow = self.overflow.lost().map(|lost| {
            format!(
                "dnstap: {receiver} reads too slowly; {lost} queries are lost so far, and queries are answered \
                 nevertheless: see what the receiver waits for, or send less with `sample` or `messages`"
            )
        });
        absent.or(slow)
    }

    pub(super) fn take_progress(&mut self) -> Progress {
        std::mem::take(&mut self.progress)
    }

    /// Connects, greets and sends as far as that is possible at once.
    pub(super) fn advance(&mut self, now: Instant) {
        if let Err(error) = self.try_advance(now) {
            self.fail(&error, now);
        }
        let receiver = &self.receiver;
        match self.overflow.look(now) {
            Some(Turn::Began) => tracing::error!(%receiver, "the dnstap receiver reads too slowly"),
            Some(Turn::Ended(lost)) => {
                tracing::info!(%receiver, lost, "the dnstap receiver reads fast enough again");
            }
            None => {}
        }
    }

    fn try_advance(&mut self, now: Instant) -> io::Result<()> {
        if let State::Waiting { until } = &self.state {
            if until.is_some_and(|until| now < until) {
                return Ok(());
            }
            self.state = State::Handshake {
                socket: connect(&self.receiver)?,
                since: now,
                is_ready_sent: false,
                received: Vec::new(),
            };
        }
        if let State::Handshake {
            socket,
            since,
            is_ready_sent,
            received,
        } = &mut self.state
        {
            if now.saturating_duration_since(*since) >= HANDSHAKE {
                return Err(io::Error::new(
                    ErrorKind::TimedOut,
                    "it does not accept the stream",
                ));
            }
            if let Some(error) = socket.take_error()? {
                return Err(error);
            }
            if socket.peer_addr().is_err() {
                // It is still connecting.
                return Ok(());
            }
            if !*is_ready_sent {
                // The buffer of a new socket has room.
                socket.write_all(&control(Control::Ready))?;
                *is_ready_sent = true;
            }
            read_available(socket, received)?;
            match take_control(received).map_err(io::Error::other)? {
                None => return Ok(()),
                Some(Control::Accept) => socket.write_all(&control(Control::Start))?,
                Some(_) => return Err(io::Error::other("the receiver does not accept the stream")),
            }
            self.start_streaming(now);
        }
        self.send()?;
        if let State::Streaming { since, .. } = self.state
            && now.saturating_duration_since(since) >= STEADY
        {
            self.recovered();
        }
        Ok(())
    }

    fn start_streaming(&mut self, since: Instant) {
        let state = std::mem::replace(&mut self.state, State::Waiting { until: None });
        if let State::Handshake { socket, .. } = state {
            self.state = State::Streaming { socket, since };
        }
    }

    /// Ends the problem, if there is one.
    fn recovered(&mut self) {
        self.pause = FIRST_PAUSE;
        if self.problem.take().is_some() {
            let (receiver, lost) = (&self.receiver, std::mem::take(&mut self.lost));
            tracing::info!(%receiver, lost, "the dnstap receiver is back");
        }
    }

    fn send(&mut self) -> io::Result<()> {
        let State::Streaming { socket, .. } = &mut self.state else {
            return Ok(());
        };
        let mut unexpected = Vec::new();
        read_available(socket, &mut unexpected)?;
        if !unexpected.is_empty() {
            return Err(io::Error::other("the receiver ended the stream"));
        }
        while !self.queue.is_empty() {
            let (bytes, _) = self.queue.as_slices();
            let written = match socket.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.queue.drain(..written);
            self.sent += written;
            count_sent(&mut self.records, &mut self.sent, &mut self.progress);
        }
        Ok(())
    }

    fn fail(&mut self, error: &io::Error, now: Instant) {
        let receiver = &self.receiver;
        if self.problem.is_none() {
            tracing::error!(%receiver, %error, "no dnstap stream; tried again");
        }
        self.problem = Some(error.to_string());
        self.progress.errors += 1;
        self.drop_queue();
        self.state = State::Waiting {
            until: Some(now + self.pause),
        };
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// Drops what was not sent. A new stream must not begin in the middle of a frame.
    fn drop_queue(&mut self) {
        let lost = self.records.len() as u64;
        self.progress.lost += lost;
        self.lost += lost;
        self.queue.clear();
        self.records.clear();
        self.sent = 0;
    }

    /// Sends the rest, and ends the stream. Blocks for a moment at most.
    pub(super) fn finish(&mut self) {
        // A receiver that is gone has nothing to confirm.
        let _ = self.try_finish();
        self.drop_queue();
        self.state = State::Waiting { until: None };
    }

    fn try_finish(&mut self) -> io::Result<()> {
        let State::Streaming { socket, .. } = &self.state else {
            return Ok(());
        };
        let deadline = Instant::now() + FINISH;
        socket.set_nonblocking(false)?;
        let mut stream: &Socket = socket;
        let stop = control(Control::Stop);
        self.queue.extend(&stop);
        while !self.queue.is_empty() {
            socket.set_write_timeout(Some(time_left(deadline)?))?;
            let (bytes, _) = self.queue.as_slices();
            let written = stream.write(bytes)?;
            self.queue.drain(..written);
            self.sent += written;
            count_sent(&mut self.records, &mut self.sent, &mut self.progress);
        }
        let mut received = Vec::new();
        while take_control(&mut received)
            .map_err(io::Error::other)?
            .is_none()
        {
            socket.set_read_timeout(Some(time_left(deadline)?))?;
            let mut part = [0; 64];
            match stream.read(&mut part)? {
                0 => break,
                length => received.extend(&part[..length]),
            }
        }
        Ok(())
    }
}

/// Counts the records that are sent completely, and removes their sizes.
fn count_sent(records: &mut VecDeque<usize>, sent: &mut usize, progress: &mut Progress) {
    while let Some(first) = records.front().filter(|size| *sent >= **size) {
        *sent -= first;
        records.pop_front();
        progress.sent += 1;
    }
}

/// The time until `deadline`.
///
/// # Errors
/// If there is none.
fn time_left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    match left.is_zero() {
        true => Err(ErrorKind::TimedOut.into()),
        false => Ok(left),
    }
}

/// Begins to connect.
fn connect(receiver: &Receiver) -> io::Result<Socket> {
    let (domain, address) = match receiver {
        Receiver::Unix(path) => (Domain::UNIX, SockAddr::unix(path)?),
        Receiver::Tcp(address) => (Domain::for_address(*address), (*address).into()),
    };
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&address) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        Ok(()) | Err(_) => Ok(socket),
    }
}

/// Appends the bytes that are there.
fn read_available(socket: &mut Socket, received: &mut Vec<u8>) -> io::Result<()> {
    let mut part = [0; 512];
    match socket.read(&mut part) {
        Ok(0) => Err(io::Error::other("the receiver closed the connection")),
        Ok(length) => {
            received.extend(&part[..length]);
            Ok(())
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Ok(())
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Accepts a stream of `connection`.
    fn accept(connection: &mut Connection, listener: &UnixListener, now: Instant) -> Socket {
        connection.advance(now);
        let mut socket = Socket::from(listener.accept().expect("a connection").0);
        let accept = control(Control::Accept);
        socket.write_all(&accept).expect("sent");
        connection.advance(now);
        assert!(matches!(connection.state, State::Streaming { .. }));
        socket
    }

    #[test]
    fn streams_that_end_at_once_stay_one_problem_and_all_their_losses_are_in_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).expect("bound");
        let mut connection = Connection::new(Receiver::Unix(path));
        let mut now = Instant::now();
        for lost in 1..=4 {
            let socket = accept(&mut connection, &listener, now);
            assert_eq!(connection.problem().is_some(), lost > 1);
            assert!(connection.queue(b"a record"));
            drop(socket);
            connection.advance(now);
            let problem = connection.problem().expect("a problem");
            let losses = format!("; {lost} queries are lost");
            assert!(problem.contains(&losses), "{problem}");
            assert_eq!(connection.pause, FIRST_PAUSE * 2_u32.pow(lost));
            now += LONGEST_PAUSE;
        }
        let _socket = accept(&mut connection, &listener, now);
        connection.advance(now + STEADY / 2);
        assert!(connection.problem().is_some());
        connection.advance(now + STEADY);
        assert_eq!(connection.problem(), None);
        assert_eq!(connection.pause, FIRST_PAUSE);
    }
}
