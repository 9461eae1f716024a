//! The messages of dnstap's schema (dnstap.proto), as far as they are sent.

use prost::Message as _;

/// A frame's contents.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Dnstap {
    #[prost(bytes = "vec", optional, tag = "1")]
    pub(super) identity: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub(super) version: Option<Vec<u8>>,
    /// The name of the source of the rule that applied.
    #[prost(bytes = "vec", optional, tag = "3")]
    pub(super) extra: Option<Vec<u8>>,
    #[prost(message, optional, tag = "14")]
    pub(super) message: Option<Message>,
    #[prost(int32, required, tag = "15")]
    pub(super) kind: i32,
}

impl Dnstap {
    /// The kind of a frame with a message.
    pub(super) const MESSAGE: i32 = 1;

    /// Appends its bytes.
    pub(super) fn append_to(&self, bytes: &mut Vec<u8>) {
        // Memory has room.
        let _ = self.encode(bytes);
    }
}

/// A query or an answer.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Message {
    #[prost(int32, required, tag = "1")]
    pub(super) kind: i32,
    #[prost(int32, optional, tag = "2")]
    pub(super) socket_family: Option<i32>,
    #[prost(int32, optional, tag = "3")]
    pub(super) socket_protocol: Option<i32>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub(super) query_address: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "5")]
    pub(super) response_address: Option<Vec<u8>>,
    #[prost(uint32, optional, tag = "6")]
    pub(super) query_port: Option<u32>,
    #[prost(uint64, optional, tag = "8")]
    pub(super) query_time_sec: Option<u64>,
    #[prost(fixed32, optional, tag = "9")]
    pub(super) query_time_nsec: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "10")]
    pub(super) query_message: Option<Vec<u8>>,
    #[prost(uint64, optional, tag = "12")]
    pub(super) response_time_sec: Option<u64>,
    #[prost(fixed32, optional, tag = "13")]
    pub(super) response_time_nsec: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "14")]
    pub(super) response_message: Option<Vec<u8>>,
    #[prost(message, optional, tag = "15")]
    pub(super) policy: Option<Policy>,
}

impl Message {
    pub(super) const CLIENT_QUERY: i32 = 5;
    pub(super) const CLIENT_RESPONSE: i32 = 6;
    pub(super) const INET: i32 = 1;
    pub(super) const INET6: i32 = 2;
    pub(super) const UDP: i32 = 1;
    pub(super) const TCP: i32 = 2;
}

/// The rule that applied.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Policy {
    #[prost(string, optional, tag = "1")]
    pub(super) kind: Option<String>,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub(super) rule: Option<Vec<u8>>,
    #[prost(int32, optional, tag = "3")]
    pub(super) action: Option<i32>,
    #[prost(int32, optional, tag = "4")]
    pub(super) matched: Option<i32>,
    #[prost(bytes = "vec", optional, tag = "5")]
    pub(super) value: Option<Vec<u8>>,
}

impl Policy {
    pub(super) const NXDOMAIN: i32 = 1;
    pub(super) const NODATA: i32 = 2;
    pub(super) const DROP: i32 = 4;
    pub(super) const TRUNCATE: i32 = 5;
    pub(super) const LOCAL_DATA: i32 = 6;
    pub(super) const QNAME: i32 = 1;
    pub(super) const CLIENT_IP: i32 = 2;
    pub(super) const RESPONSE_IP: i32 = 3;
}
