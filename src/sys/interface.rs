//! The indices of network interfaces, which link-local addresses need.
#![expect(unsafe_code, reason = "std has no access to the interfaces")]

use std::ffi::CString;

/// The index of the interface with this name, or the number itself if no interface is called so.
/// `None` if it is neither.
///
/// It asks the kernel rather than /sys, which may show another network namespace.
pub fn index_of(zone: &str) -> Option<u32> {
    let name = CString::new(zone).ok()?;
    // SAFETY: the pointer is that of a live string that ends with NUL; it is only read.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    match index {
        0 => zone.parse().ok().filter(|&index| index != 0),
        index => Some(index),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_found_by_name_and_numbers_are_taken_as_they_are() {
        let loopback = index_of("lo").expect("an interface of every Linux machine");
        assert_eq!(index_of(&loopback.to_string()), Some(loopback));
        assert_eq!(index_of("4000000"), Some(4_000_000));
        for none in ["no-such-one", "", "0", "-1", "lo\0"] {
            assert_eq!(index_of(none), None, "{none:?}");
        }
    }
}
