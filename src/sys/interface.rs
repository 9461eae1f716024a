//! The indices of network interfaces, which link-local addresses need.

use std::os::unix::net::UnixDatagram;

use rustix::net::netdevice::name_to_index;

/// The index of the interface with this name. If no interface has it, the name itself is read as an index. `None` if it
/// is not a positive number.
///
/// Asks the kernel rather than /sys, which may show another network namespace.
pub fn index_of(zone: &str) -> Option<u32> {
    // Any socket will do for the call.
    let socket = UnixDatagram::unbound().ok()?;
    match name_to_index(socket, zone) {
        Ok(index) => Some(index),
        Err(_) => zone.parse().ok().filter(|&index| index != 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_found_by_name_and_numbers_are_accepted_unchanged() {
        let loopback = index_of("lo").expect("an interface of every Linux machine");
        assert_eq!(index_of(&loopback.to_string()), Some(loopback));
        assert_eq!(index_of("4000000"), Some(4_000_000));
        for none in ["no-such-one", "", "0", "-1", "lo\0"] {
            assert_eq!(index_of(none), None, "{none:?}");
        }
    }
}
