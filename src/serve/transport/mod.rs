//! How clients reach the server: by UDP and by TCP.

pub mod stream;
pub mod udp;
