//! Queries over real sockets, on the loopback interface.

use tokio::io::AsyncReadExt;

use super::super::connect::Network;
use super::*;

/// A network with one UDP socket, and a server.
fn network(address: SocketAddr) -> (Network, Arc<Server>) {
    let network = Network::new(1, Arc::default(), Arc::default());
    (network, Arc::new(Server::new(address, Dialect::FULL)))
}

fn by(over: Transport) -> How {
    How {
        over,
        client: None,
        dialect: Dialect::FULL,
    }
}

/// A server for one query: sends the datagrams that `answers` returns for it.
fn serve(
    answers: impl FnOnce(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
) -> (SocketAddr, std::thread::JoinHandle<()>) {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = socket.local_addr().expect("bound");
    let thread = std::thread::spawn(move || {
        let mut buffer = [0; 512];
        let (len, peer) = socket.recv_from(&mut buffer).expect("a query");
        for answer in answers(&buffer[..len]) {
            socket.send_to(&answer, peer).expect("sent");
        }
    });
    (address, thread)
}

/// An answer to the query: one HTTPS record, whose `alpn` is not text.
fn odd(asked: &[u8]) -> Vec<u8> {
    let end = 12 + query_key().name().len() + 4;
    let mut wire = asked[..2].to_vec();
    wire.extend_from_slice(b"\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00");
    wire.extend_from_slice(&asked[12..end]);
    wire.extend_from_slice(b"\xC0\x0C\x00\x41\x00\x01\x00\x00\x00\x3C\x00\x0A");
    wire.extend_from_slice(b"\x00\x01\x00\x00\x01\x00\x03\x02\xFF\xFE");
    wire
}

#[tokio::test]
async fn records_that_a_strict_reader_refuses_are_passed_on_by_udp() {
    let (address, thread) = serve(|asked| vec![odd(asked)]);
    let (network, server) = network(address);
    let patience = Duration::from_secs(5);
    let answer = network.exchange(&server, by(Transport::Udp), &query_key(), patience);
    let answer = answer.await.expect("an answer").bytes;
    assert_eq!(answer, odd(&answer));
    thread.join().expect("served");
}

#[tokio::test]
async fn datagrams_that_do_not_match_the_question_are_no_answer() {
    let (address, thread) = serve(|asked| {
        let change = |at: usize, with: u8| {
            let mut forged = odd(asked);
            forged[at] ^= with;
            forged
        };
        let end = 12 + query_key().name().len();
        let mut shouted = odd(asked);
        shouted[13] ^= 0x20;
        let forged = [(0, 1), (2, 0x80), (13, 3), (end + 1, 1), (end + 3, 1)];
        let mut all: Vec<_> = forged.map(|(at, with)| change(at, with)).into();
        all.extend([asked[..12].to_vec(), Vec::new(), shouted]);
        all
    });
    let (network, server) = network(address);
    let patience = Duration::from_secs(5);
    let answer = network.exchange(&server, by(Transport::Udp), &query_key(), patience);
    let answer = answer.await.expect("an answer");
    assert_eq!(answer.fit, Fit::OtherCase);
    thread.join().expect("served");
}

#[tokio::test]
async fn an_answer_longer_than_announced_counts_as_truncated() {
    for (len, is_cut) in [(1232, false), (1233, true), (1300, true), (9000, true)] {
        let (address, thread) = serve(move |asked| {
            let mut long = odd(asked);
            long.resize(len, 0);
            vec![long]
        });
        let (network, server) = network(address);
        let patience = Duration::from_secs(5);
        let answer = network.exchange(&server, by(Transport::Udp), &query_key(), patience);
        let bytes = answer.await.expect("an answer").bytes;
        assert_eq!(crate::wire::answer::is_cut(&bytes), is_cut, "{len}");
        thread.join().expect("served");
    }
}

#[tokio::test]
async fn an_answer_longer_than_512_bytes_to_a_query_without_edns_counts_as_truncated() {
    for (len, is_cut) in [(512, false), (513, true), (1232, true)] {
        let (address, thread) = serve(move |asked| {
            let mut long = odd(asked);
            long.resize(len, 0);
            vec![long]
        });
        let (network, server) = network(address);
        let mut how = by(Transport::Udp);
        how.dialect.edns = false;
        let answer = network.exchange(&server, how, &query_key(), Duration::from_secs(5));
        let bytes = answer.await.expect("an answer").bytes;
        assert_eq!(crate::wire::answer::is_cut(&bytes), is_cut, "{len}");
        thread.join().expect("served");
    }
}

#[tokio::test]
async fn a_closed_port_is_reported_at_once() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = socket.local_addr().expect("bound");
    drop(socket);
    let (network, server) = network(address);
    let patience = Duration::from_secs(5);
    let answer = network.exchange(&server, by(Transport::Udp), &query_key(), patience);
    assert_eq!(answer.await, Err(ExchangeError::Unreachable));
}

#[tokio::test]
async fn without_a_free_socket_a_query_waits_and_does_not_count_against_the_server() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = silent.local_addr().expect("bound");
    let (network, server) = network(address);
    let ask = |millis| {
        let patience = Duration::from_millis(millis);
        network.exchange(&server, by(Transport::Udp), &query_key(), patience)
    };
    let (first, second) = tokio::join!(ask(300), ask(50));
    assert_eq!(first, Err(ExchangeError::Timeout));
    assert_eq!(second, Err(ExchangeError::Busy));
    assert!(!network.crowded(), "the permit is free again");
}

#[tokio::test]
async fn truncated_answers_share_one_connection() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a listener");
    let address = listener.local_addr().expect("bound");
    let (network, server) = network(address);
    let ask = || {
        network.exchange(
            &server,
            by(Transport::Tcp),
            &query_key(),
            Duration::from_millis(300),
        )
    };
    let mut taken = Vec::new();
    let accept = async {
        while let Ok((stream, _)) = listener.accept().await {
            taken.push(stream);
        }
    };
    // The server is silent, so that no query ends before all have been sent. In the second half of the timeout, one
    // more connection replaces the one that seems dead.
    tokio::select! {
        () = accept => {}
        _ = async { tokio::join!(ask(), ask(), ask(), ask()) } => {}
    }
    assert!((1..=2).contains(&taken.len()), "{}", taken.len());
}

/// The next query of a connection; `None` at its end.
async fn next_query(stream: &mut tokio::net::TcpStream) -> Option<Vec<u8>> {
    let len = stream.read_u16().await.ok()?;
    let mut query = vec![0; usize::from(len)];
    stream.read_exact(&mut query).await.ok()?;
    Some(query)
}

/// Closes three connections in a row with two queries on each: from then on each query has its own connection.
async fn close_three(listener: &tokio::net::TcpListener) {
    for _ in 0..3 {
        let (mut shared, _) = listener.accept().await.expect("a connection");
        for _ in 0..2 {
            next_query(&mut shared).await.expect("a query");
        }
    }
}

#[tokio::test]
async fn connections_for_one_query_take_permits_of_sockets() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a listener");
    let (network, server) = network(listener.local_addr().expect("bound"));
    let upstream = async {
        close_three(&listener).await;
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    };
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let other = silent.local_addr().expect("bound");
    let other = Arc::new(Server::new(other, Dialect::FULL));
    let ask = |server, over, millis| {
        network.exchange(
            server,
            by(over),
            &query_key(),
            Duration::from_millis(millis),
        )
    };
    let asked = async {
        tokio::join!(
            ask(&other, Transport::Udp, 2000),
            ask(&server, Transport::Tcp, 800),
            ask(&server, Transport::Tcp, 800),
        )
    };
    let (by_udp, one, two) = tokio::select! {
        () = upstream => panic!("the listener stays"),
        all = asked => all,
    };
    // There is one permit, and the query by UDP holds it.
    let all = [by_udp, one, two].map(|none| none.expect_err("silent"));
    let expected = [
        ExchangeError::Timeout,
        ExchangeError::Busy,
        ExchangeError::Busy,
    ];
    assert_eq!(all, expected);
}

#[tokio::test]
async fn connections_for_one_query_that_are_closed_at_once_are_opened_after_pauses() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a listener");
    let (network, server) = network(listener.local_addr().expect("bound"));
    let upstream = async {
        close_three(&listener).await;
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
        }
    };
    let ask = || {
        let patience = Duration::from_millis(600);
        network.exchange(&server, by(Transport::Tcp), &query_key(), patience)
    };
    let both = tokio::select! {
        () = upstream => panic!("the listener stays"),
        (one, two) = async { tokio::join!(ask(), ask()) } => [one, two],
    };
    // Without pauses, all tries were over at once.
    for end in both {
        assert_eq!(end.expect_err("not answered"), ExchangeError::Timeout);
    }
}
