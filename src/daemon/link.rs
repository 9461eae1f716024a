//! The link between two processes: messages as lines of JSON, with file descriptors.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::{set_socket_passcred, socket_peercred};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recv, recvmsg, sendmsg,
};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use super::inherited::Described;
use crate::config::shown::Show;

/// The longest line, in bytes. A connection may have received almost all of a query.
const LINE_MAX: usize = 1 << 20;
/// The bytes of a line that are read at a time.
const PART: usize = 16 << 10;
/// How often the new process sends [`Message::Alive`].
pub(super) const PULSE: Duration = Duration::from_millis(250);
/// How long it may send none before it counts as hung, because nobody reads queries then.
pub(super) const SILENCE: Duration = Duration::from_secs(2);

/// Why a take-over fails.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The running process refuses, or wants to go on itself.
    #[error("the running server does not let this process take over: {0}")]
    Refused(String),
    /// The link can't be used.
    #[error("the link to the other process failed: {0}")]
    Io(#[from] io::Error),
    /// A message can't be parsed.
    #[error("the other process sent something else than a message of a take-over")]
    Strange,
    /// The running process does not go on.
    #[error(
        "the running server does not go on with the take-over: it may hang; see its log, and restart it instead"
    )]
    Silent,
    /// The running process belongs to a user that can't be trusted.
    #[error("the server at {path} runs as user {user}, and another user may have created its socket, so its sockets are not used; run this as that user, or put the socket into a folder that only that user and root may write to, such as /run/tapis", path = .path.shown())]
    Untrusted {
        /// The control socket.
        path: PathBuf,
        /// The user of the server.
        user: u32,
    },
    /// The running process is not the one that it says it is.
    #[error("the server at {path} says that it is process {named}, but process {sender} sent that, so its sockets are not used; if it runs in a container, start this process in the same one, or restart the server", path = .path.shown())]
    Impostor {
        /// The control socket.
        path: PathBuf,
        /// The process that it says it is.
        named: u32,
        /// The process that sent this, according to the system; 0 if this process can't see it.
        sender: u32,
    },
    /// The running process ends, before it has parked.
    #[error("the running server is stopping")]
    Stopping,
    /// The new process hangs while it alone reads queries.
    #[error("the new process gave no sign of life for {} s, so it was killed", SILENCE.as_secs())]
    Hung,
    /// The new process does not answer.
    #[error("this process does not answer queries: {0}")]
    Unwell(String),
}

impl LinkError {
    /// The new process has ended.
    pub(super) fn ended() -> Self {
        io::Error::other("the new process has ended").into()
    }
}

/// A message. The documentation of `take_over` shows their order.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Message {
    /// A socket that is listened on; it comes with its descriptor.
    Socket(Described),
    /// All sockets were sent.
    Offer {
        /// The running process.
        process: u32,
        /// Its version.
        version: String,
    },
    /// The sockets were adopted.
    Prepared {
        /// The version of the new process.
        version: String,
    },
    /// Answers for the cache, in a file that comes with this.
    Cache,
    /// The running process has closed its state.
    Parked {
        /// The generation in force.
        generation: u64,
    },
    /// The running process goes on, so the new one must end; or the other way round.
    Abort {
        /// The reason.
        reason: String,
    },
    /// The new process answers queries.
    Serving {
        /// Whether it uses the control socket of the running process.
        has_control: bool,
    },
    /// An open connection of a client; it comes with its descriptor.
    Connection {
        /// The bytes of an incomplete query.
        received: Vec<u8>,
    },
    /// The running process has answered its last query, and closed its query log.
    Drained,
    /// The new process is not hung. It sends this from `Serving` until `Well`, when nobody else reads queries.
    Alive,
    /// The new process has checked that it reads all queries.
    Well,
    /// The new process is the only one.
    End,
}

/// A message as it arrived.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) message: Message,
    /// The descriptor that came with it.
    pub(super) file: Option<OwnedFd>,
    /// The process that sent it, according to the system, after [`Link::ask_for_senders`].
    pub(super) sender: Option<Pid>,
}

/// One end of the link.
#[derive(Debug)]
pub(super) struct Link(UnixStream);

impl Link {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self(stream)
    }

    /// Limits how long [`receive`](Self::receive) and [`send`](Self::send) wait.
    pub(super) fn set_patience(&self, patience: Duration) -> io::Result<()> {
        self.0.set_read_timeout(Some(patience))?;
        self.0.set_write_timeout(Some(patience))
    }

    /// Closes the link at both ends.
    pub(super) fn close(&self) {
        // An error means that the other process has closed it.
        let _ = self.0.shutdown(Shutdown::Both);
    }

    /// The process at the other end.
    ///
    /// If the other process listened for the connection, this is the one that began to listen on its socket, and may have
    /// ended long ago: a service manager, or a server before it.
    pub(super) fn peer(&self) -> io::Result<Pid> {
        Ok(socket_peercred(&self.0)?.pid)
    }

    /// Makes the system add its sender to each message that is sent from now on to this end of the stream of a link.
    pub(super) fn ask_for_senders(stream: &UnixStream) -> io::Result<()> {
        Ok(set_socket_passcred(stream, true)?)
    }

    /// Whether the other process has closed the link, even if messages of it are unread.
    pub(super) fn has_ended(&self) -> bool {
        let mut polled = [PollFd::new(&self.0, PollFlags::RDHUP)];
        let at_once = Timespec::default();
        // An error of the call says nothing about the link, whose end is then found by reading.
        poll(&mut polled, Some(&at_once)).is_ok_and(|ready| ready > 0)
    }

    /// Waits until a message, or the end of the link, can be received. False if the time is over before.
    pub(super) fn is_ready(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            let mut polled = [PollFd::new(&self.0, PollFlags::IN | PollFlags::RDHUP)];
            let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now()));
            match poll(&mut polled, left.ok().as_ref()) {
                // A signal.
                Err(rustix::io::Errno::INTR) => {}
                ready => return ready.is_ok_and(|ready| ready > 0),
            }
        }
    }

    /// Sends a message, with a descriptor.
    pub(super) fn send(&self, message: &Message, file: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        let mut rest = &line[..];
        if let Some(file) = file {
            let files = [file];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(&files));
            rest = &rest[self.send_part(rest, &mut control)?..];
        }
        while !rest.is_empty() {
            rest = &rest[self.send_part(rest, &mut SendAncillaryBuffer::default())?..];
        }
        Ok(())
    }

    /// Sends the first bytes of a line; returns how many.
    fn send_part(
        &self,
        part: &[u8],
        control: &mut SendAncillaryBuffer<'_, '_, '_>,
    ) -> io::Result<usize> {
        loop {
            let part = [IoSlice::new(part)];
            match sendmsg(&self.0, &part, control, SendFlags::NOSIGNAL) {
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    return Err(io::Error::other("the other process does not read it"));
                }
                sent => return Ok(sent?),
            }
        }
    }

    /// The next message, with its descriptor; `None` if the other process has closed the link, which includes its death.
    pub(super) fn receive(&self) -> Result<Option<(Message, Option<OwnedFd>)>, LinkError> {
        let received = self.receive_all()?;
        Ok(received.map(|received| (received.message, received.file)))
    }

    /// The same with the sender.
    pub(super) fn receive_all(&self) -> Result<Option<Received>, LinkError> {
        let (mut line, mut file, mut sender) = (Vec::new(), None, None);
        let mut part = [0; PART];
        loop {
            // Nothing behind the end of the line is taken, so that the descriptor of the next message stays in the socket.
            let peeked = match recv(&self.0, &mut part[..], RecvFlags::PEEK) {
                Err(rustix::io::Errno::INTR) => continue,
                // The other process died with unread messages.
                Err(rustix::io::Errno::CONNRESET) => return Ok(None),
                peeked => peeked.map_err(io::Error::from)?.0,
            };
            let end = part[..peeked].iter().position(|byte| *byte == b'\n');
            let wanted = end.map_or(peeked, |end| end + 1);
            let mut space =
                [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1), ScmCredentials(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let received = recvmsg(
                &self.0,
                &mut [IoSliceMut::new(&mut part[..wanted])],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            );
            let received = match received {
                Err(rustix::io::Errno::INTR) => continue,
                // The other process died with unread messages.
                Err(rustix::io::Errno::CONNRESET) => return Ok(None),
                received => received.map_err(io::Error::from)?,
            };
            for message in control.drain() {
                match message {
                    RecvAncillaryMessage::ScmRights(files) => file = files.last().or(file),
                    RecvAncillaryMessage::ScmCredentials(credentials) => {
                        sender = Some(credentials.pid);
                    }
                    _ => {}
                }
            }
            // Less than was asked for, if it was sent in parts.
            line.extend_from_slice(&part[..received.bytes]);
            match line.last() {
                _ if received.bytes == 0 => return Ok(None),
                _ if line.len() > LINE_MAX => return Err(LinkError::Strange),
                Some(b'\n') => break,
                _ => {}
            }
        }
        let message = serde_json::from_slice(&line).map_err(|_| LinkError::Strange)?;
        Ok(Some(Received {
            message,
            file,
            sender,
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn each_message_arrives_with_its_own_descriptor() {
        let (one, other) = UnixStream::pair().expect("a pair");
        let (one, other) = (Link::new(one), Link::new(other));
        let listeners: Vec<_> = (0..3)
            .map(|_| TcpListener::bind("127.0.0.1:0").expect("bound"))
            .collect();
        for listener in &listeners {
            let address = listener.local_addr().expect("bound");
            let socket = Message::Socket(Described::Tcp(address));
            one.send(&socket, Some(listener.as_fd())).expect("sent");
            one.send(&Message::Well, None).expect("sent");
        }
        drop(one);
        for listener in &listeners {
            let address = listener.local_addr().expect("bound");
            let (message, file) = other.receive().expect("no error").expect("a message");
            let Message::Socket(Described::Tcp(told)) = message else {
                panic!("{message:?}");
            };
            let passed = TcpListener::from(file.expect("a descriptor"));
            assert_eq!(passed.local_addr().expect("bound"), address);
            assert_eq!(told, address);
            let (message, file) = other.receive().expect("no error").expect("a message");
            assert!(matches!(message, Message::Well) && file.is_none());
        }
        assert!(other.receive().expect("no error").is_none(), "the end");
    }

    #[test]
    fn long_messages_arrive_whole_and_with_their_own_descriptors_between_short_ones() {
        let (one, other) = UnixStream::pair().expect("a pair");
        Link::ask_for_senders(&other).expect("set");
        let (one, other) = (Link::new(one), Link::new(other));
        let listeners: Vec<_> = (0..3)
            .map(|_| TcpListener::bind("127.0.0.1:0").expect("bound"))
            .collect();
        one.set_patience(Duration::from_secs(60)).expect("set");
        // As much as a client can have sent of a query. The line is longer than a part, and than the socket's buffer.
        let bytes: Vec<u8> = (0..65_000_u32).map(|number| number as u8).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for listener in &listeners {
                    let received = bytes.clone();
                    one.send(&Message::Alive, None).expect("sent");
                    let connection = Message::Connection { received };
                    let sent = one.send(&connection, Some(listener.as_fd()));
                    sent.expect("sent");
                }
            });
            for listener in &listeners {
                let (message, file) = other.receive().expect("no error").expect("a message");
                assert!(matches!(message, Message::Alive) && file.is_none());
                let (message, file) = other.receive().expect("no error").expect("a message");
                assert!(matches!(message, Message::Connection { received } if received == bytes));
                let passed = TcpListener::from(file.expect("a descriptor"));
                assert_eq!(
                    passed.local_addr().expect("bound"),
                    listener.local_addr().expect("bound")
                );
            }
        });
        assert!(!other.is_ready(Duration::ZERO), "nothing is left");
        one.send(&Message::Alive, None).expect("sent");
        assert!(other.is_ready(Duration::from_secs(60)));
    }

    #[test]
    fn a_message_comes_with_its_sender_and_the_end_is_noticed_before_it_is_read() {
        let (one, other) = UnixStream::pair().expect("a pair");
        Link::ask_for_senders(&other).expect("set");
        let (one, other) = (Link::new(one), Link::new(other));
        one.send(&Message::Well, None).expect("sent");
        assert!(!other.has_ended());
        drop(one);
        assert!(other.has_ended());
        let received = other.receive_all().expect("no error").expect("a message");
        assert!(matches!(received.message, Message::Well));
        assert_eq!(received.sender, Some(rustix::process::getpid()));
    }

    #[test]
    fn a_process_that_does_not_read_does_not_block_the_other_one() {
        let (one, _other) = UnixStream::pair().expect("a pair");
        let one = Link::new(one);
        let patience = Duration::from_millis(20);
        one.set_patience(patience).expect("set");
        let mut sent = std::iter::repeat_with(|| one.send(&Message::Well, None));
        let error = sent.find_map(Result::err).expect("it is full");
        assert!(error.to_string().contains("does not read"), "{error}");
    }

    #[test]
    fn a_line_that_is_no_message_or_has_no_end_is_an_error() {
        for bytes in [b"GET / HTTP/1.1\n".to_vec(), vec![b'x'; LINE_MAX + 1]] {
            let (mut one, other) = UnixStream::pair().expect("a pair");
            let writer = std::thread::spawn(move || one.write_all(&bytes));
            let error = Link::new(other).receive().expect_err("no message");
            assert!(matches!(error, LinkError::Strange), "{error}");
            // The rest may not have been read.
            let _ = writer.join().expect("no panic");
        }
    }
}
