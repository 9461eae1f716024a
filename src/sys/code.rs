//! Unmaps the code of the program that only its start needed.
#![expect(
    unsafe_code,
    reason = "dl_iterate_phdr, sysconf and madvise have no safe binding"
)]

use std::ffi::{c_int, c_void};
use std::ptr;

/// Unmaps the code and the constants of the program, which stay in the page cache. A page that is used again is mapped again,
/// which costs about a microsecond. Most code that the start runs is not used again: arguments, configuration, formats of
/// lists.
///
/// Breakpoints and probes that a debugger has set are lost.
pub fn unmap_unused() {
    // SAFETY: the callback is called with the headers of each loaded object, and keeps nothing of them.
    unsafe { libc::dl_iterate_phdr(Some(unmap), ptr::null_mut()) };
}

/// Unmaps the read-only segments of one object.
unsafe extern "C" fn unmap(
    object: *mut libc::dl_phdr_info,
    _size: usize,
    _data: *mut c_void,
) -> c_int {
    // SAFETY: the C library passes a valid structure, whose headers are those of an object that stays loaded.
    let (base, headers) = unsafe {
        let object = &*object;
        let count = usize::from(object.dlpi_phnum);
        let headers = std::slice::from_raw_parts(object.dlpi_phdr, count);
        (object.dlpi_addr as usize, headers)
    };
    // SAFETY: it only returns a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
    for header in headers {
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        let start = base + header.p_vaddr as usize;
        let end = (start + header.p_memsz as usize) & !(page - 1);
        let start = start & !(page - 1);
        // SAFETY: the range is a private mapping of the program's file, which nothing has written to: its segment is not
        // writable, and the linker permits no relocations in such segments. So the system maps the same bytes again. An
        // error changes nothing.
        unsafe {
            libc::madvise(
                ptr::without_provenance_mut(start),
                end.saturating_sub(start),
                libc::MADV_DONTNEED,
            )
        };
    }
    // The first object is the program itself. The others are libraries, which most processes have mapped.
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The resident pages of files, in KiB.
    fn mapped() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssFile:"));
        let number = line.and_then(|rest| rest.split_whitespace().next());
        number.expect("a number").parse().expect("a number")
    }

    #[test]
    fn code_that_is_not_used_is_not_resident_and_code_that_is_used_works() {
        let before = mapped();
        unmap_unused();
        let after = mapped();
        assert!(after < before, "{before} KiB, then {after} KiB");
        assert_eq!("code and constants".split(' ').count(), 3);
    }
}
