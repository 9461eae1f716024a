//! The user at the other end of a connection to the control socket.

/// The ID of this user.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller(pub(super) u32);
