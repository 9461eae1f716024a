//! UDP sockets: servers that respond from the address that a query was sent to, and clients on random ports.

mod batch;
mod buffer;
mod calls;
mod control;
mod ports;
mod socket;

pub use batch::{Inbox, Outbox};
pub use control::Local;
pub use ports::Ports;
pub use socket::{Route, Socket};

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};

    use rustix::net::sockopt::{
        Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, ip_mtu_discover, ipv6_mtu_discover,
    };

    use socket2::Socket as Raw;

    use super::*;

    fn connected(server: &Socket) -> Socket {
        Socket::connect(server.local_addr().expect("bound"), || 0).expect("connected")
    }

    /// Receives the next datagrams, as soon as there are any.
    fn received(socket: &Socket, inbox: &mut Inbox) -> usize {
        loop {
            match inbox.receive(socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                other => return other.expect("received"),
            }
        }
    }

    fn echo(listen: &str, target: &str) -> SocketAddr {
        let server = Socket::bind(listen.parse().expect("an address"), false).expect("bound");
        let port = server.local_addr().expect("bound").port();
        let target = SocketAddr::new(target.parse().expect("an address"), port);
        let client = UdpSocket::bind((target.ip(), 0)).or_else(|_| UdpSocket::bind("0.0.0.0:0"));
        let client = client.expect("a client");
        let (mut inbox, mut outbox) = (Inbox::new(4, 16), Outbox::new(4, 16));
        let mut from = target;
        // Twice, as buffers are used again.
        for word in [&b"ping"[..], b"again"] {
            client.send_to(word, target).expect("sent");
            assert_eq!(received(&server, &mut inbox), 1);
            let route = inbox.route(0);
            assert_eq!(route.peer, client.local_addr().expect("bound"));
            outbox.draft().clear();
            outbox.draft().extend_from_slice(inbox.packet(0));
            outbox.push(Some(&route));
            assert_eq!(outbox.flush(&server), 0);
            let mut buffer = [0; 16];
            let (len, peer) = client.recv_from(&mut buffer).expect("an answer");
            assert_eq!((&buffer[..len], peer.port()), (word, port));
            from = peer;
        }
        from
    }

    #[test]
    fn a_response_leaves_from_the_address_that_the_query_was_sent_to() {
        let from = echo("0.0.0.0:0", "127.0.0.77");
        assert_eq!(from.ip(), IpAddr::from([127, 0, 0, 77]));
        let from = echo("127.0.0.5:0", "127.0.0.5");
        assert_eq!(from.ip(), IpAddr::from([127, 0, 0, 5]));
    }

    #[test]
    fn an_ipv6_response_leaves_from_the_address_that_the_query_was_sent_to() {
        if UdpSocket::bind("[::1]:0").is_ok() {
            let from = echo("[::]:0", "::1");
            assert_eq!(from.ip(), IpAddr::from(Ipv6Addr::LOCALHOST));
        }
    }

    #[test]
    fn an_unshared_port_is_bound_only_once() {
        let first = Socket::bind("127.0.0.1:0".parse().expect("an address"), false).expect("bound");
        let address = first.local_addr().expect("bound");
        let again = Socket::bind(address, true).expect_err("in use");
        assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn batches_are_received_and_sent_and_truncated_datagrams_are_marked() {
        let server = Socket::bind("127.0.0.1:0".parse().expect("an address"), false);
        let server = server.expect("bound");
        let client = connected(&server);
        let (mut inbox, mut outbox) = (Inbox::new(4, 8), Outbox::new(6, 8));
        for len in 5..11_u8 {
            outbox.draft().clear();
            outbox.draft().extend((0..len).map(|_| len));
            outbox.push(None);
        }
        assert!(outbox.is_full());
        assert_eq!(outbox.flush(&client), 0);
        assert_eq!(received(&server, &mut inbox), 4);
        let cut = |inbox: &Inbox| -> Vec<_> {
            let all = 0..inbox.len();
            all.map(|slot| (inbox.packet(slot).to_vec(), inbox.is_cut(slot)))
                .collect()
        };
        let all = cut(&inbox);
        assert_eq!(all[0], (vec![5; 5], false));
        assert_eq!(all[3], (vec![8; 8], false));
        assert_eq!(received(&server, &mut inbox), 2);
        assert_eq!(cut(&inbox), [(vec![9; 8], true), (vec![10; 8], true)]);
    }

    #[test]
    fn datagrams_that_the_kernel_dropped_are_counted() {
        let server = Socket::bind("127.0.0.1:0".parse().expect("an address"), false);
        let server = server.expect("bound");
        Raw::from(server.0.try_clone().expect("a handle"))
            .set_recv_buffer_size(1)
            .expect("small");
        let client = connected(&server);
        let (mut inbox, mut outbox) = (Inbox::new(64, 512), Outbox::new(64, 512));
        let mut send = |count: usize| {
            for _ in 0..count {
                outbox.draft().resize(512, 7);
                outbox.push(None);
            }
            assert_eq!(outbox.flush(&client), 0);
        };
        send(64);
        let kept = received(&server, &mut inbox);
        assert!(kept < 64);
        send(1);
        assert_eq!(received(&server, &mut inbox), 1);
        assert_eq!(inbox.dropped(), Some(64 - kept as u32));
    }

    #[test]
    fn a_datagram_that_cant_be_sent_does_not_hold_back_the_others() {
        let server = Socket::bind("127.0.0.1:0".parse().expect("an address"), false);
        let server = server.expect("bound");
        let client = UdpSocket::bind("127.0.0.1:0").expect("a client");
        let mut outbox = Outbox::new(3, 8);
        let nowhere = "127.0.0.1:0".parse().expect("an address");
        for peer in [nowhere, client.local_addr().expect("bound"), nowhere] {
            outbox.draft().resize(4, 1);
            outbox.push(Some(&Route { peer, local: None }));
        }
        assert_eq!(outbox.flush(&server), 2);
        assert_eq!(client.recv(&mut [0; 8]).expect("received"), 4);
    }

    #[test]
    fn a_port_in_use_is_skipped_and_another_one_drawn() {
        let server = UdpSocket::bind("127.0.0.1:0").expect("a server");
        let taken = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        let taken = taken.local_addr().map(|address| (taken, address.port()));
        let (_held, taken) = taken.expect("bound");
        let mut drawn = vec![0, taken, taken];
        let draw = || drawn.pop().expect("no more ports are drawn");
        let socket = Socket::connect(server.local_addr().expect("bound"), draw);
        let port = socket
            .expect("connected")
            .local_addr()
            .expect("bound")
            .port();
        assert_ne!(port, taken);
        let error = Socket::connect(server.local_addr().expect("bound"), || taken);
        let error = error.expect_err("in use");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn no_socket_follows_icmp_messages_about_the_path_mtu() {
        let server = Socket::bind("127.0.0.1:0".parse().expect("an address"), false);
        let server = server.expect("bound");
        let client = connected(&server);
        for socket in [&server, &client] {
            let found = ip_mtu_discover(socket).expect("an option");
            assert_eq!(found, Ipv4PathMtuDiscovery::OMIT);
        }
        if let Ok(server) = Socket::bind("[::1]:0".parse().expect("an address"), false) {
            let found = ipv6_mtu_discover(&server).expect("an option");
            assert_eq!(found, Ipv6PathMtuDiscovery::OMIT);
        }
    }
}
