//! What keeps a server from starting is told in one sentence, with what to do.

use std::net::UdpSocket;

use crate::support::server::{Server, list, preamble, refused};
use crate::support::upstream::Upstream;

#[test]
fn a_port_in_use_also_by_a_second_tapis() {
    let upstream = Upstream::plain();
    let server = Server::start(&preamble(upstream.address), &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let listen = server.address.to_string();
    let told = refused(
        folder.path(),
        &preamble(upstream.address),
        &["--listen", &listen],
    );
    assert!(
        told.contains(&format!("{listen} is in use")) && told.contains("--listen"),
        "{told}"
    );

    let other = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let listen = other.local_addr().expect("bound").to_string();
    let told = refused(
        folder.path(),
        &preamble(upstream.address),
        &["--listen", &listen],
    );
    assert!(told.contains("is in use"), "{told}");
}

#[test]
fn an_address_that_is_not_here() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = preamble(Upstream::plain().address);
    let told = refused(folder.path(), &config, &["--listen", "192.0.2.1:5335"]);
    assert!(told.contains("not an address of this machine"), "{told}");
}

#[test]
fn an_upstream_that_is_ourselves() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = preamble(Upstream::plain().address);
    let itself = ["--listen", "127.0.0.1:5399", "--upstream", "127.0.0.1:5399"];
    let mapped = [
        "--listen",
        "127.0.0.1:5399",
        "--upstream",
        "[::ffff:127.0.0.1]:5399",
    ];
    for arguments in [itself, mapped] {
        let told = refused(folder.path(), &config, &arguments);
        assert!(told.contains("is this server itself"), "{told}");
    }
}

#[test]
fn a_control_socket_that_another_server_holds() {
    let upstream = Upstream::plain();
    let server = Server::start(&preamble(upstream.address), &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let socket = server.path("control.sock").display().to_string();
    let told = refused(
        folder.path(),
        &preamble(upstream.address),
        &["--control", &socket],
    );
    assert!(told.contains("another tapis is running"), "{told}");
}

#[test]
fn a_required_list_that_is_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = preamble(Upstream::plain().address) + &list("must", "required = true");
    let told = refused(folder.path(), &config, &[]);
    assert!(
        told.contains("list `must` is required") && told.contains("/must"),
        "{told}"
    );
}

#[test]
fn a_configuration_with_mistakes() {
    let folder = tempfile::tempdir().expect("a folder");
    let told = refused(folder.path(), "[server]\nlisten = []\n[upstrem]\n", &[]);
    assert!(
        told.contains("tapis.toml:2: ") && told.contains("tapis.toml:3: "),
        "{told}"
    );
}
