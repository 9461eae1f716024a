//! The lower bound of all measurements: a server that sends back each packet unparsed, by the same
//! system calls as Tapis and in batches of the same size.
//!
//! ```text
//! echo --listen 127.0.0.1:5300 [--workers 1] [--more BYTES]
//! ```
//! The echo sets QR and appends BYTES bytes, so that its answers are as long as those of the servers that it is
//! compared with.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use clap::Parser;
use tapis::serve::dispatch::BATCH;
use tapis::sys::process::pin_to_core;
use tapis::sys::udp::{Inbox, Outbox, Socket};
use tapis::sys::wait::WaitSet;

#[derive(Parser)]
struct Arguments {
    /// The address to listen on.
    #[arg(long)]
    listen: SocketAddr,
    /// The number of threads, each with a separate socket.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Bytes to append.
    #[arg(long, default_value_t = 0)]
    more: usize,
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let sockets: io::Result<Vec<_>> = (0..arguments.workers)
        .map(|_| Socket::bind(arguments.listen, true))
        .collect();
    std::thread::scope(|scope| {
        let workers = sockets?.into_iter().enumerate();
        let start = |(index, socket)| {
            let more = arguments.more;
            scope.spawn(move || {
                let _ = pin_to_core(index);
                echo(&socket, more)
            })
        };
        let threads: Vec<_> = workers.map(start).collect();
        let mut ends = threads.into_iter().map(|thread| thread.join());
        ends.try_for_each(|end| end.expect("no panic"))
    })
}

fn echo(socket: &Socket, more: usize) -> io::Result<()> {
    let mut inbox = Inbox::new(BATCH, 1280);
    let mut outbox = Outbox::new(BATCH, 4096);
    let mut waits = WaitSet::new(BATCH)?;
    waits.add(socket.as_fd(), 0)?;
    loop {
        match inbox.receive(socket) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                waits.wait(None, |_| ())?;
                continue;
            }
            Err(_) => continue,
        }
        for slot in 0..inbox.len() {
            let draft = outbox.draft();
            draft.clear();
            draft.extend_from_slice(inbox.packet(slot));
            if let Some(flags) = draft.get_mut(2) {
                *flags |= 0x80;
            }
            draft.resize(draft.len() + more, 0);
            outbox.push(Some(&inbox.route(slot)));
        }
        outbox.flush(socket);
    }
}
